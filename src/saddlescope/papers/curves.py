"""What the experiments keep of a path: its curve, thinned for a figure, and its end."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from saddlescope.paths.result import Path

# Nodes kept of a curve: more cannot be told apart in a figure of column width.
SHOWN = 60

# The loss may fall by this share of the highest loss, and still counts as rising.
ROUNDING = 1e-6


def rounded(values: Any, digits: int = 6) -> list[float | None]:
    """Return numbers to some significant digits, for data behind a figure; None for what is not finite."""
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in np.asarray(values).tolist()]


def keep_path(path: Path) -> dict[str, Any]:
    """Return a path's end, its highest loss, the largest fall of loss on the way, and its thinned curve.

    ``fall`` is the largest amount by which the loss lies below an earlier one, before the permutation point.
    """
    losses = path.losses[np.isfinite(path.losses)]
    point = path.permutation_point
    course = losses if point is None else np.append(losses, point.loss)
    last = len(path.losses) - 1
    kept = np.unique([*np.linspace(0, last, SHOWN).round().astype(int), int(np.nanargmax(path.losses))])
    asked = path.kinds == "asked"
    return {
        "pair": list(path.pair),
        "ending": path.ending.value,
        "loss_at_point": path.loss_at_point,
        "barrier": float(path.barrier),
        "fall": float(np.max(np.maximum.accumulate(course) - course)),
        "continuous": bool(path.continuous),
        "missed": int((asked & ~path.converged).sum()),
        "folds": sum(event.kind.value == "fold" for event in path.events),
        "distances": rounded(path.distances[kept]),
        "losses": rounded(path.losses[kept]),
        "outgoing": [rounded(column) for column in path.outgoing_norms[kept].T],
        "accuracies": None if path.accuracies is None else rounded(path.accuracies[kept]),
    }


def jumps(one: Mapping[str, Any]) -> bool:
    """Return whether a kept path reaches a permutation point only by a jump of the loss.

    Of a path that ends otherwise, in a channel say, there is no end to be continuous to.
    """
    return one["ending"] == "permutation-point" and not one["continuous"]


def broken(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which of the kept paths are discontinuous, by the names of their tasks."""
    ended = sum(one["ending"] == "permutation-point" for one in results.values())
    names = [name for name, one in results.items() if jumps(one)]
    if not names:
        return f"none of the {ended} paths to a permutation point is discontinuous"
    return f"{len(names)} of the {ended} paths to a permutation point are discontinuous: {', '.join(names)}"


def path_type(result: dict[str, Any]) -> str:
    """Return "maximum-at-point", "maximum-before", "channel" or "not-converged" of a kept path.

    [B19], supplementary figure "Loss on the permutation path"; a channel to infinity is [M25]'s.
    """
    if result["ending"] != "permutation-point":
        return result["ending"]
    high = result["barrier"] - result["loss_at_point"]
    return "maximum-at-point" if high <= ROUNDING * result["barrier"] else "maximum-before"
