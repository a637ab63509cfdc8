"""saddlescope walk: from the permutation point of a run to any permutation of the layer's neurons, at equal loss."""

from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from saddlescope.cli.options import free_file, numbers, print_json, write_json
from saddlescope.cli.progress import progress_bar

LINES = 60
"""More segments are not told one by one to a person."""

if TYPE_CHECKING:
    from saddlescope.cli.console import Summary
    from saddlescope.paths.result import Path
    from saddlescope.valleys.result import Walk


def walk(
    run: FilePath,
    *,
    to: str,
    net: FilePath | None = None,
    data: str | None = None,
    points: int = 5,
    tolerance: float = 1e-8,
    out: FilePath | None = None,
    overwrite: bool = False,
    json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Walk from a run's permutation point to a permutation of its layer, at equal loss, by the fewest segments.

    Measures loss, outputs and gradient on the way, and says which segments are critical. Exit code 1: the run has no
    permutation point.

    Example: saddlescope walk RUN.saddle --to 3,1,2,0,4 --json

    Parameters
    ----------
    run
        A result folder of saddlescope path or demo.
    to
        The permutation: which neuron of the permutation point each place gets, counted from 0.
    net
        The network's file, if it is no longer where the run says.
    data
        The data, if the run does not name them: digits, toy, mnist, a .npz or .csv file, x.npy,y.npy, ...
    points
        Points measured on each segment.
    tolerance
        Gradient norm up to which a point counts as critical.
    out
        A JSON file to write: the moves, and what was measured on each segment.
    overwrite
        Replace an earlier output of this command; nothing else is ever replaced.
    json
        Print one JSON document, the same as --out writes.
    quiet
        Print nothing but errors.
    verbose
        Print also what the answer rests on: settings, versions, every step.
    """
    order = numbers(to, "to", "3,1,2,0,4")
    if out is not None:
        free_file(out, overwrite=overwrite, by="walk")

    from saddlescope.cli.console import show
    from saddlescope.records.store import load_path

    path = load_path(run)
    found, point = None, path.permutation_point
    if point is not None:
        from saddlescope.cli.runs import problem_of_run
        from saddlescope.valleys.route import find_route
        from saddlescope.valleys.walk import walk as walk_to

        find_route(point.parameters, path.neurons, path.pair, order)  # a wrong permutation is told before data are read
        problem, _ = problem_of_run(run, path, net=net, data=data)
        with progress_bar(quiet=quiet or json, verbose=verbose) as progress:
            found = walk_to(
                problem,
                point,
                order,
                neurons=path.neurons,
                points=points,
                tolerance=tolerance,
                progress=progress,
            )
    content = walk_document(run, path, found)
    if out is not None and found is not None:
        write_json(out, content)
    if json:
        print_json(content)
    show(_told(path, found, verbose=verbose), quiet=quiet or json, verbose=verbose)
    return 0 if found is not None else 1


def walk_document(run: FilePath, path: "Path", found: "Walk | None") -> dict[str, Any]:
    """Return the JSON document; null is what there is not."""
    from saddlescope.records.schema import plain

    keys = ("segments", "loss", "max_loss_deviation", "max_output_deviation", "max_gradient_norm", "moves")
    content: dict[str, Any] = {"kind": "walk", "run": str(run), "layer": path.layer, "pair": path.pair}
    if found is None:
        reasons = [path.advice, *path.reasons]
        return plain({**content, **dict.fromkeys(keys), "ending": path.ending, "reasons": reasons})
    scan = found.scan
    return plain(
        {
            **content,
            "permutation": found.route.permutation,
            "segments": found.segments,
            "loss": found.loss,
            "max_loss_deviation": found.max_loss_deviation,
            "max_output_deviation": scan.max_output_deviation,
            "largest_output": scan.largest_output,
            "max_gradient_norm": found.max_gradient_norm,
            "gradient_norm_at_start": scan.gradient_norm,
            "tolerance": scan.tolerance,
            "critical": scan.critical,
            "moves": [[move.kind.value, move.neuron, move.to] for move in found.route.moves],
            "loss_deviations": scan.loss_deviations.max(axis=1, initial=0.0),
            "gradient_norms": scan.gradient_norms.max(axis=1, initial=0.0),
            "points": scan.losses.shape[1],
            "fingerprints": path.fingerprints,
            "seconds": found.seconds,
        }
    )


def _told(path: "Path", found: "Walk | None", *, verbose: bool) -> "Summary":
    """Return the walk for people, the answer first."""
    from saddlescope.cli.console import Summary

    if found is None:
        verdict = f"no permutation point to walk from: {path.ending}. {path.advice}"
        return Summary(verdict, good=False, reasons=path.reasons)
    scan, route = found.scan, found.route
    order = ",".join(str(unit) for unit in route.permutation)
    listed = verbose or found.segments <= LINES
    rows = [
        ("loss", f"{found.loss:.8g} all along: largest deviation {found.max_loss_deviation:.1e}"),
        ("outputs", f"up to {scan.largest_output:.3g}, change by at most {scan.max_output_deviation:.1e}"),
        ("gradient norm", f"{scan.gradient_norm:.1e} at the start, at most {found.max_gradient_norm:.1e}"),
        ("critical", f"{int(scan.critical.sum())} of {found.segments} segments (at most {scan.tolerance:.1e})"),
        *([] if listed else [("moves", f"{found.segments} of them; --out, --json or --verbose list them")]),
        *([("move", words) for words in _moves(found)] if listed else []),
    ]
    verdict = (
        f"{found.segments} segments to the permutation {order if len(order) <= 200 else 'asked for'} of layer "
        f"{path.layer}, twins {path.pair[0]} and {path.pair[1]}"
    )
    return Summary(verdict, good=True, rows=rows)


def _moves(found: "Walk") -> list[str]:
    """Return a line a segment."""
    norms = found.scan.gradient_norms.max(axis=1, initial=0.0)
    return [
        f"{move.kind.value} {move.neuron} to {move.to}{', critical' if flat else ''}: gradient norm {norm:.1e}"
        for move, flat, norm in zip(found.route.moves, found.scan.critical, norms, strict=True)
    ]
