"""saddlescope path: from a network and data to the permutation path of two of its neurons."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlescope.cli.models import Opened, layer_number, open_model
from saddlescope.cli.options import free_file, one_of, pair_of, print_json, say, short_name
from saddlescope.cli.progress import progress_bar
from saddlescope.cli.train import LOSSES
from saddlescope.errors import SettingsError

if TYPE_CHECKING:
    from saddlescope.data.data import Data
    from saddlescope.problem.problem import Problem


def path(
    net: Path,
    *,
    data: str,
    layer: str,
    out: Path,
    weights: Path | None = None,
    pair: str = "closest",
    distance: str = "tied",
    steps: int = 200,
    reach: float = 1e-4,
    solver: str = "auto",
    tolerance: float | None = None,
    max_iterations: int = 200,
    loss: str | None = None,
    target: str | None = None,
    activation: str | None = None,
    weight_decay: float = 0.0,
    norm_barrier: float = 0.0,
    figure: Path | None = None,
    overwrite: bool = False,
    json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Find the path on which two neurons merge and change places, and write it to a result folder.

    The network should be a minimum of the loss on these data; it is polished first. Exit code 1: done, but the path
    does not end in a permutation point.

    Example: saddlescope path net.safetensors --data toy --layer 1 --pair 0,3 --out RUN.saddle --figure run.pdf

    Parameters
    ----------
    net
        A safetensors file: 0.weight, 0.bias, 2.weight, ... or fc1.weight, ...; or your own code, FILE.py:function or
        package.module:function, as for saddlescope symmetries.
    data
        digits, toy, mnist, mnist-test, a .npz or .csv file, x.npy,y.npy, or a folder of IDX files.
    layer
        Hidden layer, counted from 1; of a model of your own also by name, as saddlescope symmetries lists them.
    out
        The result folder to write.
    weights
        A file of weights for your own code: safetensors, the index of several, or a state dict of torch.save.
    pair
        Two neurons counted from 0, such as 0,3; or closest.
    distance
        incoming (the paper's), joint, or tied.
    steps
        Number of log-spaced distances.
    reach
        Last distance as a share of the first.
    solver
        auto, newton (dense), creased (dense, along the creases of relu), krylov (matrix-free), flow (stiff gradient
        flow) or descent (gradient descent).
    tolerance
        Tangential gradient norm to reach; by default 1e-10, for large networks relative to the first gradient met.
    max_iterations
        Most iterations of one correction.
    loss
        mse, normalised, cross-entropy or binary-cross-entropy (on logits, targets 0 to 1); by default mse, and
        normalised for target network.
    target
        data, or network: regress on the network's own outputs, so that the start is an exact minimum ([B19] Fig. 3).
        By default data when the data hold targets, network when they hold labels only.
    activation
        The activation, when the file does not say it; one for each hidden layer: relu,tanh.
    weight_decay
        Factor of |theta|^2/2, added to the loss.
    norm_barrier
        Factor of a penalty on very large norms, against channels to infinity.
    figure
        A figure to write: .png, .pdf or .svg.
    overwrite
        Replace outputs that exist.
    json
        Print one JSON document.
    quiet
        Print nothing but errors.
    verbose
        Print also what the answer rests on: settings, versions, every step.
    """
    neurons = pair_of(pair)
    one_of(distance, "distance", ("incoming", "joint", "tied"))
    one_of(solver, "solver", ("auto", "newton", "creased", "krylov", "flow", "descent"))
    if loss is not None:
        one_of(loss, "loss", tuple(LOSSES))
    if target is not None:
        one_of(target, "target", ("data", "network"))
    if figure is not None:
        one_of(figure.suffix, "suffix of the figure", (".png", ".pdf", ".svg"))
        free_file(figure, overwrite=overwrite, by="path", drawn=True)

    from saddlescope.records.store import check_free, save_path

    check_free(short_name(out), overwrite=overwrite)

    from saddlescope.paths.find import find_path
    from saddlescope.paths.result import PathSettings

    problem, parameters, own = problem_of(
        net,
        data,
        loss=loss,
        target=target,
        activation=activation,
        weight_decay=weight_decay,
        norm_barrier=norm_barrier,
        weights=weights,
    )
    number = layer_number(problem.network, layer)
    if own.get("statistics") == "folded":
        say(
            "batch norm: its weight and bias are now a and c of a x + c, with the running statistics in them; "
            "to_torch(..., statistics='folded') turns them back",
            quiet=quiet or json,
        )
    settings = PathSettings(
        distance=distance, steps=steps, reach=reach, solver=solver, tolerance=tolerance, max_iterations=max_iterations
    )
    with progress_bar(quiet=quiet or json, verbose=verbose) as progress:
        found = find_path(problem, parameters, layer=number, pair=neurons, settings=settings, progress=progress)
    found = save_path(replace(found, problem={**found.problem, **own}), out, overwrite=overwrite)
    if figure is not None:
        from saddlescope.plots.path import path_figure, save_figure

        save_figure(path_figure(found), figure, by="saddlescope path")

    from saddlescope.cli.console import show
    from saddlescope.cli.summary import path_json, path_told

    if json:
        print_json(path_json(found))
    show(path_told(found), quiet=quiet or json, verbose=verbose)
    say(f"written to {out}", quiet=quiet or json)
    return 0 if found.permutation_point is not None else 1


def problem_of(
    net: Path,
    data: str,
    *,
    loss: str | None,
    target: str | None,
    activation: str | None,
    weight_decay: float,
    norm_barrier: float,
    weights: Path | None = None,
) -> "tuple[Problem, dict[str, Any], dict[str, object]]":
    """Return the problem that the words describe, the network's parameters, and the words that a record should keep.

    Raises:
        SaddlescopeError: a file that cannot be used, or words that do not fit together.
    """
    words = {"loss": loss, "target": target, "weight_decay": weight_decay, "norm_barrier": norm_barrier}
    problem, opened, own = opened_problem(net, data, activation=activation, weights=weights, **words)  # type: ignore[arg-type]
    return problem, opened.parameters, own


def opened_problem(
    net: Path,
    data: str,
    *,
    loss: str | None,
    target: str | None,
    activation: str | None,
    weight_decay: float,
    norm_barrier: float,
    weights: Path | None = None,
) -> "tuple[Problem, Opened, dict[str, object]]":
    """Return the problem that the words describe, the model as it was opened, and the words for a record.

    Raises:
        SaddlescopeError: a file that cannot be used, or words that do not fit together.
    """
    from saddlescope.data.sources import load_data
    from saddlescope.data.weights import stated_accuracy

    rows = load_data(data)
    # Folded, every channel of a batch norm can be exchanged; a penalty counts its weight and bias as they stand.
    statistics = "kept" if weight_decay > 0 or norm_barrier > 0 else "folded"
    opened = open_model(str(net), weights=weights, activation=activation, data=rows, statistics=statistics)
    parameters, notes = opened.parameters, opened.notes
    problem, words = problem_on(
        opened.model,
        parameters,
        rows,
        loss=loss,
        target=target,
        weight_decay=weight_decay,
        norm_barrier=norm_barrier,
        accuracy=stated_accuracy(notes),
    )
    told = {name: notes[key] for name, key in (("seed", "seed"), ("trained by", "command")) if key in notes}
    return problem, opened, {**opened.words, "data": data, **words, **told}


def problem_on(
    network: Any,
    parameters: Any,
    rows: "Data",
    *,
    loss: str | None,
    target: str | None,
    weight_decay: float,
    norm_barrier: float,
    accuracy: float | None = None,
) -> "tuple[Problem, dict[str, object]]":
    """Return the problem of a network on data, whose targets they are, and a doubt whether it is the user's own.

    Raises:
        SaddlescopeError: words, network or data that do not fit together.
    """
    from saddlescope.data.agreement import doubt
    from saddlescope.data.data import teacher_data
    from saddlescope.problem.problem import Problem

    likely = loss in ("cross-entropy", "binary-cross-entropy")
    own = target == "network" or (target is None and rows.targets is None and not likely)
    if own and likely:
        raise SettingsError(f"{loss} needs the data's labels", name="target", value=target, expected="data")
    given = rows
    if own:
        rows = teacher_data(network, parameters, rows.inputs, labels=rows.labels, name=f"{rows.name}, own outputs")
    chosen = LOSSES[loss] if loss else ("normalised" if own else "mse")
    problem = Problem(network, rows, loss=chosen, weight_decay=weight_decay, norm_barrier=norm_barrier)
    squares = not own and not likely  # only such a loss compares outputs with targets as they are
    why = doubt(network, parameters, given, accuracy=accuracy, weight_decay=weight_decay, targets=squares)
    return problem, {"target": "network" if own else "data", **({} if why is None else {"doubt": why})}
