"""saddlescope demo: the whole way on embedded data, in one command."""

import time
from pathlib import Path

from saddlescope.cli.options import print_json, say
from saddlescope.cli.progress import progress_bar
from saddlescope.errors import RecordExistsError, StorageError


def demo(*, out: Path = Path("saddlescope-demo"), seed: int = 0, overwrite: bool = False, json: bool = False) -> int:
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
        Write into an existing folder, replacing a former demo.
    json
        Print one JSON document.
    """
    began = time.perf_counter()
    if out.exists() and not overwrite:
        raise RecordExistsError("the output exists", name="out", value=out, advice="Use another --out, or --overwrite")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError("the folder for the output cannot be made", name="out", value=out, expected=f"a writable place ({error.strerror})") from error

    from saddlescope.cli.summary import path_json, path_lines
    from saddlescope.plots.path import path_figure, save_figure
    from saddlescope.problem.weights import save_weights
    from saddlescope.records.store import check_free, save_path
    from saddlescope.study.demo import WIDTHS, demonstrate

    check_free(out / "path.saddle", overwrite=overwrite)
    say("training a network on 1797 digits, then merging two of its neurons ...", quiet=json)
    with progress_bar(quiet=json) as progress:
        shown = demonstrate(seed=seed, progress=progress)
    save_weights(out / "teacher.safetensors", shown.network, shown.teacher.parameters, overwrite=overwrite)
    found = save_path(shown.path, out / "path.saddle", overwrite=overwrite)
    save_figure(path_figure(found), out / "demo.png")
    if json:
        print_json({**path_json(found), "teacher_accuracy": shown.accuracy, "out": str(out)})
    widths = "-".join(str(width) for width in WIDTHS)
    say(f"teacher {widths} tanh, trained on labels: accuracy {shown.accuracy:.4f}", quiet=json)
    for line in path_lines(found):
        say(line, quiet=json)
    say(f"figure, path and weights are in {out} ({time.perf_counter() - began:.1f} s in all)", quiet=json)
    return 0 if found.permutation_point is not None else 1
