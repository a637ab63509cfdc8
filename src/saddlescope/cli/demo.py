"""saddlescope demo: the whole way on embedded data, in one command."""

import time
from dataclasses import replace
from pathlib import Path

from saddlescope.cli.options import print_json, say, seed_of
from saddlescope.cli.progress import progress_bar
from saddlescope.files import foreign_entry, require_free, writing

FILES = ("teacher.safetensors", "path.saddle", "demo.png")


def demo(
    *,
    out: Path = Path("saddlescope-demo"),
    seed: int = 0,
    overwrite: bool = False,
    json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Train on hand-written digits and follow the path on which the two most similar neurons merge.

    Writes teacher.safetensors, path.saddle and demo.png into a folder, and prints what was found.

    Example: saddlescope demo --out demo

    Parameters
    ----------
    out
        The folder to write into; it must not exist unless --overwrite is given.
    seed
        Seed of the network's initial weights.
    overwrite
        Replace a former demo.
    json
        Print one JSON document.
    quiet
        Print nothing but errors.
    verbose
        Print also what the answer rests on: settings, versions, every step.
    """
    began = time.perf_counter()
    seed_of(seed)
    require_free(out, overwrite=overwrite, objection=_objection, kind="an earlier demo")
    return _demo(out, seed, began, json=json, quiet=quiet or json, verbose=verbose)


def _objection(folder: Path) -> str | None:
    """Return why a folder is not a whole demo, or None if it is."""
    from saddlescope.records.recognise import figure
    from saddlescope.records.store import path_objection

    if not folder.is_dir():
        return "not a folder"
    missing = next((name for name in FILES if not (folder / name).exists()), None)
    if missing is not None:
        return f"there is no {missing} in it"
    return (
        foreign_entry(folder, FILES.__contains__)
        or path_objection(folder / "path.saddle")
        or figure(folder / "demo.png", "saddlescope demo")
    )


def _demo(out: Path, seed: int, began: float, *, json: bool, quiet: bool, verbose: bool) -> int:
    from saddlescope.cli.console import show
    from saddlescope.cli.summary import path_json, path_told
    from saddlescope.data.weights import save_weights
    from saddlescope.plots.path import path_figure, save_figure
    from saddlescope.records.store import save_path
    from saddlescope.workflows.demo import WIDTHS, demonstrate

    say("training a network on 1797 digits, then merging two of its neurons ...", quiet=quiet)
    with progress_bar(quiet=quiet, verbose=verbose) as progress:
        shown = demonstrate(seed=seed, progress=progress)
    words = {"network": "teacher.safetensors", "data": "digits-used", "target": "network", "seed": seed}
    found = replace(shown.path, problem={**shown.path.problem, **words})
    with writing(out, "the result") as draft:
        draft.mkdir()
        save_weights(draft / "teacher.safetensors", shown.network, shown.teacher.parameters)
        found = save_path(found, draft / "path.saddle")
        save_figure(path_figure(found), draft / "demo.png", by="saddlescope demo")
    if json:
        print_json({**path_json(found), "teacher_accuracy": shown.accuracy, "out": str(out)})
    widths = "-".join(str(width) for width in WIDTHS)
    say(f"teacher {widths} tanh, trained on labels: accuracy {shown.accuracy:.4f}", quiet=quiet)
    show(path_told(found), quiet=quiet, verbose=verbose)
    say(f"figure, path and weights are in {out} ({time.perf_counter() - began:.1f} s in all)", quiet=quiet)
    return 0 if found.permutation_point is not None else 1
