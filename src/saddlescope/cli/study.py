"""saddlescope study: a whole study from one TOML file, pair after pair; what is finished is not computed again."""

import hashlib
import itertools
import json as json_text
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlescope.cli.options import print_json, say, write_json
from saddlescope.cli.progress import progress_bar
from saddlescope.cli.telling import show_versions
from saddlescope.errors import NeuronsError, RecordError, RecordExistsError, StorageError

if TYPE_CHECKING:
    from saddlescope.paths.result import Path as PermutationPath
    from saddlescope.problem.problem import Problem
    from saddlescope.study.configuration import Study

# Verdicts with which a study is not done.
OPEN = ("undecided", "not-critical")

ASKED, TOLD, NETWORK = "asked.json", "study.json", "net.safetensors"

# What runs already computed depend on: a study that differs in one of these is another study.
GROUNDS = (
    "data",
    "network",
    "network_sha256",
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
        Compute anew what another study left in the folder.
    json
        Print one JSON document.
    quiet
        Print nothing but errors.
    verbose
        Print also what the answer rests on: settings, versions, every step.
    """
    from saddlescope.study.configuration import load_study

    asked = load_study(file)
    folder = file.with_suffix("") if out is None else out
    hushed = quiet or json
    _claim(folder, asked, overwrite=overwrite)
    net = _network(folder, asked, quiet=hushed, verbose=verbose)
    rows = [] if asked.path is None else _runs(folder, net, asked, quiet=hushed, verbose=verbose)
    told: dict[str, Any] = {"kind": "study", "file": str(file), "network": str(net), "runs": rows}
    if asked.report is not None:
        told["report"] = _page(folder, asked.report.name, rows, f"saddlescope study {file} --out {folder}")
    write_json(folder / TOLD, told)
    if json:
        print_json(told)
    for line in _lines(told, folder):
        say(line, quiet=hushed)
    show_versions(quiet=hushed, verbose=verbose)
    return 0 if all(map(_is_done, rows)) else 1


def _is_done(row: dict[str, Any]) -> bool:
    """Return whether a path ends in a permutation point and its verdict, if it was asked for, is one."""
    return row["ending"] == "permutation-point" and row.get("verdict") not in OPEN


def _claim(folder: Path, asked: "Study", *, overwrite: bool) -> None:
    """Make the folder, or take it with the results in it if they are this study's; another's go with --overwrite.

    Raises:
        RecordExistsError: the folder holds something else, and may not be overwritten.
        StorageError: it cannot be made.
    """
    grounds = {name: value for name, value in asdict(asked).items() if name in GROUNDS}
    given = Path(asked.network) if asked.network is not None else None
    there = given is not None and given.is_file()
    grounds["network_sha256"] = hashlib.sha256(given.read_bytes()).hexdigest() if given and there else None
    grounds = json_text.loads(json_text.dumps(grounds))
    note = folder / ASKED
    if not note.is_file() and folder.exists():
        raise RecordExistsError(
            "the output exists and is no study's", name="out", value=folder, advice="Use another name"
        )
    if note.is_file():
        before = json_text.loads(note.read_text(encoding="utf-8"))
        changed = [name for name in GROUNDS if before.get(name) != grounds[name]]
        if not changed and not overwrite:
            return
        if not overwrite:
            raise RecordExistsError(
                "the output holds another study",
                name="changed",
                value=", ".join(changed),
                advice="Use another --out, or --overwrite",
            )
        for run in [*folder.glob("pair-*.saddle"), *folder.glob("closest.saddle")]:
            shutil.rmtree(run)
        (folder / NETWORK).unlink(missing_ok=True)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        what = f"the output's folder cannot be made ({error.strerror})"
        raise StorageError(what, name="out", value=folder) from error
    write_json(note, grounds)


def _network(folder: Path, asked: "Study", *, quiet: bool, verbose: bool) -> Path:
    """Return the network's file, trained first where the study says so and it is not there yet."""
    if asked.train is None:
        assert asked.network is not None
        return Path(asked.network)
    file = folder / NETWORK
    if file.is_file():
        return file
    from saddlescope.cli.train import LOSSES
    from saddlescope.problem.networks import Perceptron
    from saddlescope.problem.problem import Problem
    from saddlescope.problem.sources import load_data
    from saddlescope.problem.weights import save_weights
    from saddlescope.training.train import train

    words = asked.train
    network, rows = Perceptron(words.widths, words.activation), load_data(asked.data)
    loss = LOSSES[asked.loss] if asked.loss else ("cross_entropy" if rows.targets is None else "mse")
    with progress_bar(quiet=quiet, verbose=verbose) as progress:
        found = train(
            Problem(network, rows, loss=loss, weight_decay=asked.weight_decay),
            seed=words.seed,
            adam_steps=words.adam_steps,
            learning_rate=words.learning_rate,
            max_newton=words.newton_steps,
            tolerance=words.tolerance,
            progress=progress,
        )
    save_weights(file, network, found.parameters, overwrite=True, notes={"seed": str(words.seed)})
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


def _runs(folder: Path, net: Path, asked: "Study", *, quiet: bool, verbose: bool) -> list[dict[str, Any]]:
    """Return a row a pair, computing what is not there yet."""
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
    pairs = _pairs(asked, problem.network.neurons(asked.path.layer).count(parameters))
    rows = []
    for pair in pairs:
        name = "closest" if pair is None else f"pair-{pair[0]}-{pair[1]}"
        run = folder / f"{name}.saddle"
        path, kept = _path(run, problem, parameters, pair, own, asked, quiet=quiet, verbose=verbose)
        row = _row(run, path, kept=kept)
        if path.permutation_point is not None:
            row |= _certified(folder / f"{name}.certificate.json", problem, path, asked)
            row |= _walked(folder / f"{name}.walk.json", run, problem, path, asked)
        rows.append(row)
    return rows


def _path(
    run: Path, problem: "Problem", parameters: Any, pair: Any, own: Any, asked: "Study", *, quiet: bool, verbose: bool
) -> "tuple[PermutationPath, bool]":
    """Return a pair's path and whether it was there already.

    Raises:
        RecordError: what is there belongs to other data.
    """
    from saddlescope.paths.find import find_path
    from saddlescope.paths.result import PathSettings
    from saddlescope.records.store import load_path, save_path

    assert asked.path is not None
    if run.is_dir():
        path = load_path(run)
        if path.fingerprints["data"] != problem.fingerprint(parameters)["data"]:
            raise RecordError(
                "the data have changed since this run",
                name="run",
                value=run,
                advice="Use --out, or --overwrite",
            )
        return path, True
    words = {name: value for name, value in asdict(asked.path).items() if name not in ("layer", "pairs")}
    with progress_bar(quiet=quiet, verbose=verbose) as progress:
        path = find_path(
            problem,
            parameters,
            layer=asked.path.layer,
            pair=pair,
            settings=PathSettings(**words),
            progress=progress,
        )
    return save_path(replace(path, problem={**path.problem, **own}), run, overwrite=True), False


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


def _page(folder: Path, name: str, rows: list[dict[str, Any]], command: str) -> str:
    """Write one page on all runs and return its name."""
    from saddlescope.cli.report import section_of, version_words
    from saddlescope.report.page import render, save_page

    shown = [(Path(row["run"]), Path(row["run"]).with_suffix(".walk.json")) for row in rows]
    sections = [section_of(place, None, None) for pair in shown for place in pair if place.exists()]
    save_page(render(sections, command=command, version=version_words()), folder / name)
    return str(folder / name)


def _lines(told: dict[str, Any], folder: Path) -> list[str]:
    """Return the study for people: how many paths found what, then a line a pair."""
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
