"""saddlescope study: a whole study from one TOML file, pair after pair; what is finished is not computed again."""

import contextlib
import hashlib
import itertools
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlescope.cli.console import show_versions
from saddlescope.cli.options import print_json, say, write_json
from saddlescope.cli.progress import progress_bar
from saddlescope.errors import NeuronsError, RecordError, SettingsError, WeightsError
from saddlescope.files import claim, remove

if TYPE_CHECKING:
    from saddlescope.data.data import Data
    from saddlescope.paths.result import Path as PermutationPath
    from saddlescope.paths.result import PathSettings
    from saddlescope.problem.problem import Problem
    from saddlescope.workflows.configuration import Study

# Verdicts with which a study is not done.
OPEN = ("undecided", "not-critical")

# What runs already computed depend on, with the contents of data and network: a study that differs in one of these
# is another study.
CACHE_KEYS = (
    "data",
    "network",
    "loss",
    "target",
    "activation",
    "weight_decay",
    "norm_barrier",
    "train",
    "path",
)


def study(
    file: Path,
    *,
    out: Path | None = None,
    overwrite: bool = False,
    json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Run a whole study from a TOML file: train or load, every pair's path, certificates, walks, one page.

    Every key is checked before anything is computed. Run again with the same file, it goes on where it was
    interrupted. Exit code 1: a path has no permutation point, or a verdict is
    undecided or not-critical.

    Example: saddlescope study study.toml --out results

    Parameters
    ----------
    file
        The study; file names in it are taken from the working folder.
    out
        The folder for all results; by default the file's name without .toml.
    overwrite
        Put this study in the place of another, or of itself, which stays until the new one is whole.
    json
        Print one JSON document.
    quiet
        Print nothing but errors.
    verbose
        Print also what the answer rests on: settings, versions, every step.
    """
    from saddlescope.workflows.configuration import load_study

    asked = load_study(file)
    with claim(file.with_suffix("") if out is None else out):
        return _study(file, asked, out, overwrite=overwrite, json=json, quiet=quiet or json, verbose=verbose)


def _study(
    file: Path, asked: "Study", out: Path | None, *, overwrite: bool, json: bool, quiet: bool, verbose: bool
) -> int:
    from saddlescope.records.studies import RESULT_FILE, close_study, open_study

    folder = file.with_suffix("") if out is None else out
    place = open_study(folder, _checked(asked), overwrite=overwrite)
    own = _network(place, asked, quiet=quiet, verbose=verbose)
    net = own if asked.train is None else folder / own.name
    rows = [] if asked.path is None else _runs(place, folder, own, asked, quiet=quiet, verbose=verbose)
    told: dict[str, Any] = {"kind": "study", "file": str(file), "network": str(net), "runs": rows}
    if asked.report is not None:
        told["report"] = str(folder / asked.report.name)
        command = shlex.join(["saddlescope", "study", str(file), "--out", str(folder)])
        _page(place, asked, own, [Path(row["run"]).name for row in rows], command)
    write_json(place / RESULT_FILE, told)
    close_study(place, folder)
    if json:
        print_json(told)
    for line in _lines(told, folder):
        say(line, quiet=quiet)
    show_versions(quiet=quiet, verbose=verbose)
    return 0 if all(map(_is_done, rows)) else 1


def _is_done(row: dict[str, Any]) -> bool:
    """Return whether a path ends in a permutation point and its verdict, if it was asked for, is one."""
    return row["ending"] == "permutation-point" and row.get("verdict") not in OPEN


def _checked(asked: "Study") -> dict[str, Any]:
    """Return what the results depend on, after trying all that can be tried before anything is written or computed.

    Raises:
        SaddlescopeError: network, data, layer, pairs or walk do not fit together, or the extra for proofs is missing.
    """
    from saddlescope.cli.path import problem_on
    from saddlescope.data.sources import load_data
    from saddlescope.data.weights import load_weights

    rows = load_data(asked.data)
    if asked.train is not None:
        network = _to_train(asked, rows).network
        parameters = network.initial(asked.train.seed)
    else:
        network, parameters = load_weights(str(asked.network), activation=asked.activation, data=rows)
    if asked.path is not None:
        settings = {name: getattr(asked, name) for name in ("loss", "target", "weight_decay", "norm_barrier")}
        problem, _ = problem_on(network, parameters, rows, **settings)
        _pairs(asked, problem.network.neurons(asked.path.layer).count(parameters))
        _check_tables(asked, problem)
    own = None if asked.network is None else hashlib.sha256(Path(asked.network).read_bytes()).hexdigest()
    grounds = {name: value for name, value in asdict(asked).items() if name in CACHE_KEYS}
    return {**grounds, "network_sha256": own, "data_sha256": rows.fingerprint}


def _check_tables(asked: "Study", problem: "Problem") -> None:
    """Ask of each table what its command would refuse, but only after hours of training or paths.

    Raises:
        SaddlescopeError: a setting that does not fit the problem.
    """
    from saddlescope.critical import along, proof
    from saddlescope.numerics.balls import flint
    from saddlescope.paths.find import check_settings, choose_solver
    from saddlescope.valleys import walk

    settings, size = _path_settings(asked), problem.network.layout.size
    check_settings(settings)
    choose_solver(settings, problem, size)
    if asked.walk is not None:
        walk.check_settings(problem, asked.walk.points, asked.walk.tolerance)
    if asked.certify is not None and asked.certify.along and size > along.DENSE_LIMIT:
        limit = f"0: a network of at most {along.DENSE_LIMIT} parameters"
        raise SettingsError("too many parameters for this", name="certify.along", value=size, expected=limit)
    if asked.certify is not None and asked.certify.prove:
        flint()
        proof.check_settings(problem.network, str(problem.loss), float(problem.weight_decay))


def _path_settings(asked: "Study") -> "PathSettings":
    from saddlescope.paths.result import PathSettings

    assert asked.path is not None
    words = {name: value for name, value in asdict(asked.path).items() if name not in ("layer", "pairs")}
    return PathSettings(**words)


def _to_train(asked: "Study", rows: "Data") -> "Problem":
    """Return the problem on which the study's network is trained."""
    from saddlescope.cli.train import LOSSES
    from saddlescope.models.mlp import MLP
    from saddlescope.problem.problem import Problem

    assert asked.train is not None
    loss = LOSSES[asked.loss] if asked.loss else ("cross_entropy" if rows.targets is None else "mse")
    network = MLP(asked.train.widths, asked.train.activation)
    return Problem(network, rows, loss=loss, weight_decay=asked.weight_decay)


def _network(place: Path, asked: "Study", *, quiet: bool, verbose: bool) -> Path:
    """Return the network's file, trained first where the study says so and it is not there yet, or damaged."""
    from saddlescope.records.studies import NETWORK

    if asked.train is None:
        return Path(str(asked.network))
    from saddlescope.data.sources import load_data
    from saddlescope.data.weights import load_weights, save_weights
    from saddlescope.training.train import train

    file, words = place / NETWORK, asked.train
    with contextlib.suppress(WeightsError):
        load_weights(file)
        return file
    problem = _to_train(asked, load_data(asked.data))
    with progress_bar(quiet=quiet, verbose=verbose) as progress:
        found = train(
            problem,
            seed=words.seed,
            adam_steps=words.adam_steps,
            learning_rate=words.learning_rate,
            max_newton=words.newton_steps,
            tolerance=words.tolerance,
            progress=progress,
        )
    notes = {"seed": str(words.seed), "written by": "saddlescope study"}
    save_weights(file, problem.network, found.parameters, overwrite=True, notes=notes)
    say(f"trained: {found.outcome}, loss {found.loss:.6g}, gradient norm {found.gradient_norm:.1e}", quiet=quiet)
    return file


def _pairs(asked: "Study", units: int) -> list[tuple[int, int] | None]:
    """Return the pairs that a layer of so many neurons is asked for; None is the closest one.

    Raises:
        NeuronsError: a pair, or the walk's permutation, names neurons that the layer does not have.
    """
    assert asked.path is not None
    if asked.walk is not None and len(asked.walk.to) != units:
        raise NeuronsError("not a permutation of the layer", name="walk.to", value=asked.walk.to, expected=f"{units}")
    if asked.path.pairs == "closest":
        return [None]
    if asked.path.pairs == "all":
        return list(itertools.combinations(range(units), 2))
    pairs = [(min(pair), max(pair)) for pair in asked.path.pairs]
    for pair in pairs:
        if pair[1] >= units:
            raise NeuronsError("no such neuron", name="path.pairs", value=pair, expected=f"0 to {units - 1}")
    return list(pairs)


def _runs(place: Path, folder: Path, net: Path, asked: "Study", *, quiet: bool, verbose: bool) -> list[dict[str, Any]]:
    """Return a row per pair, computing what is not there yet; ``place`` will have the name ``folder`` at the end."""
    from saddlescope.cli.path import problem_of

    assert asked.path is not None
    problem, parameters, own = problem_of(
        net,
        asked.data,
        loss=asked.loss,
        target=asked.target,
        activation=asked.activation,
        weight_decay=asked.weight_decay,
        norm_barrier=asked.norm_barrier,
    )
    if asked.train is not None:
        own = {**own, "network": str(folder / net.name)}
    pairs = _pairs(asked, problem.network.neurons(asked.path.layer).count(parameters))
    rows = []
    for pair in pairs:
        name = "closest" if pair is None else f"pair-{pair[0]}-{pair[1]}"
        run = folder / f"{name}.saddle"
        path, kept = _path(place / run.name, problem, parameters, pair, own, asked, quiet=quiet, verbose=verbose)
        row = _row(run, path, kept=kept)
        if path.permutation_point is not None:
            row |= _certified(place / f"{name}.certificate.json", problem, path, asked)
            row |= _walked(place / f"{name}.walk.json", run, problem, path, asked)
        rows.append(row)
    return rows


def _path(
    run: Path, problem: "Problem", parameters: Any, pair: Any, own: Any, asked: "Study", *, quiet: bool, verbose: bool
) -> "tuple[PermutationPath, bool]":
    """Return a pair's path and whether it was there already; a damaged one is computed anew.

    Raises:
        RecordError: what is there belongs to other data.
    """
    from saddlescope.paths.find import find_path
    from saddlescope.records.store import load_path, save_path

    assert asked.path is not None
    path = None
    try:
        path = load_path(run)
    except RecordError as error:
        if error.name == "format":  # whole, but of another version
            raise
    if path is not None:
        if path.fingerprints["data"] != problem.fingerprint(parameters)["data"]:
            raise RecordError(
                "the data have changed since this run",
                name="run",
                value=run,
                advice="Use --out, or --overwrite",
            )
        return path, True
    with progress_bar(quiet=quiet, verbose=verbose) as progress:
        path = find_path(
            problem,
            parameters,
            layer=asked.path.layer,
            pair=pair,
            settings=_path_settings(asked),
            progress=progress,
        )
    remove(run)  # what is there is damaged, in a folder that is this study's
    return save_path(replace(path, problem={**path.problem, **own}), run), False


def _row(run: Path, path: "PermutationPath", *, kept: bool) -> dict[str, Any]:
    asked = path.kinds == "asked"
    return {
        "run": str(run),
        "pair": list(path.pair),
        "ending": path.ending.value,
        "loss_at_point": path.loss_at_point,
        "barrier": path.barrier,
        "largest_gradient_norm": float(path.gradient_norms[asked].max()),
        "tolerance": path.tolerance,
        "continuous": bool(path.continuous),
        "kept": kept,
    }


def _certified(file: Path, problem: "Problem", path: "PermutationPath", asked: "Study") -> dict[str, Any]:
    """Write a permutation point's certificate, and return what a row says of it."""
    if asked.certify is None:
        return {}
    from saddlescope.cli.certify import prove_point
    from saddlescope.cli.summary import certificate_json, certificate_lines
    from saddlescope.critical.along import certify_along
    from saddlescope.critical.certify import certify

    options = asked.certify
    found = certify(problem, path.permutation_point, gradient_tolerance=options.gradient_tolerance, steps=options.steps)
    along = certify_along(problem, path, count=options.along) if options.along else None
    proof = prove_point(problem, path.permutation_point) if options.prove else None
    words = certificate_lines(found, path, along, proof)
    content = {"kind": "certificate", **certificate_json(found, path, along, proof)}
    write_json(file, {**content, "words": words, "fingerprints": dict(path.fingerprints)})
    row = {"verdict": found.verdict.value, "index": found.index, "nullity": found.nullity}
    return row if proof is None else {**row, "proof": proof.verdict}


def _walked(file: Path, run: Path, problem: "Problem", path: "PermutationPath", asked: "Study") -> dict[str, Any]:
    """Write a walk, and return what a row says of it."""
    if asked.walk is None:
        return {}
    from saddlescope.cli.walk import walk_document
    from saddlescope.valleys.walk import walk

    words = asked.walk
    found = walk(
        problem,
        path.permutation_point,
        words.to,
        neurons=path.neurons,
        points=words.points,
        tolerance=words.tolerance,
    )
    write_json(file, walk_document(run, path, found))
    return {"walk_segments": found.segments, "walk_loss_deviation": found.max_loss_deviation}


def _page(place: Path, asked: "Study", net: Path, names: list[str], command: str) -> None:
    """Write one page on all runs, and their walks if the study asks for walks."""
    from saddlescope.cli.report import section_of, version_words
    from saddlescope.report.page import render, save_page

    assert asked.report is not None
    sections = []
    for run in (place / name for name in names):
        sections.append(section_of(run, net, None))
        walked = run.with_suffix(".walk.json")
        if asked.walk is not None and walked.exists():
            sections.append(section_of(walked, None, None))
    save_page(render(sections, command=command, version=version_words()), place / asked.report.name)


def _lines(told: dict[str, Any], folder: Path) -> list[str]:
    """Return the study for people: how many paths found what, then a line per pair."""
    rows = told["runs"]
    found = [row for row in rows if row["ending"] == "permutation-point"]
    kept = sum(row["kept"] for row in rows)
    lines = [f"{len(found)} of {len(rows)} paths end in a permutation point" + (f"; {kept} kept" if kept else "")]
    if rows:
        lines.append(f"{'pair':8} {'ending':18} {'loss there':>14} {'barrier':>11} {'residual':>9}  verdict")
    for row in rows:
        loss = "-" if row["loss_at_point"] is None else f"{row['loss_at_point']:.8g}"
        index = "" if row.get("index") is None else f", index {row['index']}, nullity {row['nullity']}"
        walked = f"; walk {row['walk_segments']} segments" if "walk_segments" in row else ""
        lines.append(
            f"{row['pair'][0]},{row['pair'][1]:<6} {row['ending']:18} {loss:>14} {row['barrier']:11.4g} "
            f"{row['largest_gradient_norm']:9.1e}  {row.get('verdict', '-')}{index}{walked}"
        )
    return [*lines, f"everything is in {folder}"]
