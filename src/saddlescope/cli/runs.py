"""A stored run's problem, rebuilt from the words that it keeps, and checked against its fingerprints."""

from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from saddlescope.cli.path import problem_of
from saddlescope.cli.train import LOSSES
from saddlescope.errors import RecordError
from saddlescope.models.own_code import is_code
from saddlescope.records.schema import plain

if TYPE_CHECKING:
    from saddlescope.paths.result import Path
    from saddlescope.problem.problem import Problem


def problem_of_run(
    run: FilePath,
    path: "Path",
    *,
    net: FilePath | None = None,
    weights: FilePath | None = None,
    data: str | None = None,
) -> "tuple[Problem, dict[str, Any]]":
    """Return the problem of a stored path and its network's parameters.

    Args:
        run: the result folder; a network file is also looked for beside it.
        path: what was loaded from it.
        net: the network's file, instead of the one that the run names. Code that a run names is not run by itself.
        weights: a file of weights for a model of the user's own code.
        data: the data, instead of those that the run names.

    Raises:
        RecordError: the run does not say what is needed, the file is gone, or the data are not the run's.
        SaddlescopeError: a file that cannot be used.
    """
    words = path.problem
    named = net or _network_file(run, words.get("network"))
    told = data or words.get("data")
    if told is None:
        raise RecordError("this run does not name its data", name="run", value=run, advice="Name them with --data")
    missing = sorted({"loss", "weight_decay", "norm_barrier"} - set(words))
    if missing:
        raise RecordError("this run does not say what it is of", name="fields", value=", ".join(missing))
    loss = str(words["loss"]).replace("_", "-")
    if loss not in LOSSES:
        raise RecordError("this run used a loss of its user's own", name="loss", value=loss, expected="a named loss")
    problem, parameters, _ = problem_of(
        named,
        str(told),
        loss=loss,
        target=str(words.get("target", "data")),
        activation=None if is_code(str(named)) else str(words.get("activation")),
        weight_decay=_number(words, "weight_decay"),
        norm_barrier=_number(words, "norm_barrier"),
        weights=weights,
    )
    for name, value in plain(problem.network.describe()).items():
        if name in words and words[name] != value:
            raise RecordError("the network is not the run's", name=name, value=value, expected=str(words[name]))
    if problem.fingerprint(parameters)["data"] != path.fingerprints["data"]:
        raise RecordError(
            "the data are not those of the run",
            name="data",
            value=told,
            expected="the same inputs and targets",
            advice="With target network the targets are the network's outputs: name its own file with --net",
        )
    return problem, parameters


def _number(words: "dict[str, object]", name: str) -> float:
    try:
        return float(str(words[name]))
    except ValueError as error:
        raise RecordError("this run holds no number", name=name, value=words[name], expected="a number") from error


def _network_file(run: FilePath, word: object) -> FilePath:
    """Return the file that a run names, as it is or beside the run."""
    if word is None:
        raise RecordError("this run does not name its network", name="run", value=run, advice="Name it with --net")
    if is_code(str(word)):  # whoever wrote the run may have named anything: only the user's own word runs code
        raise RecordError(
            "the run's model is code, which is run only when you name it",
            name="network",
            value=word,
            advice="Name it with --net (and --weights), if it is yours",
        )
    file = FilePath(str(word))
    for place in (file, run.absolute().parent / file, run.absolute().parent / file.name):
        if place.is_file():
            return place
    raise RecordError(
        "the network's file is not where the run says", name="file", value=file, advice="Name it with --net"
    )
