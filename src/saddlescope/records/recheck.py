"""Recompute what a stored path claims, from its parameters alone."""

from dataclasses import dataclass

import numpy as np

from saddlescope.paths.result import Path
from saddlescope.problem.problem import Problem


@dataclass(frozen=True)
class Recheck:
    """Largest differences between stored and recomputed numbers, relative to the largest of each kind.

    ``gradient_deviation`` compares norms of the full gradient. ``same_data``: the data's fingerprint is the stored one.
    """

    loss_deviation: float
    gradient_deviation: float
    same_data: bool


def recheck_path(problem: Problem, path: Path) -> Recheck:
    """Evaluate loss and gradient at every node again and compare.

    Raises:
        ShapeError: the problem's network is not the path's.
    """
    rows = [{name: array[k] for name, array in path.parameters.items()} for k in range(len(path.losses))]
    losses = np.array([problem.loss_of(row) for row in rows])
    norms = np.array([np.sqrt(sum(np.sum(g**2) for g in problem.gradient_of(row).values())) for row in rows])
    return Recheck(
        loss_deviation=_deviation(path.losses, losses),
        gradient_deviation=_deviation(path.full_gradient_norms, norms),
        same_data=problem.fingerprint(rows[0])["data"] == path.fingerprints["data"],
    )


def _deviation(stored: np.ndarray, again: np.ndarray) -> float:
    """Return max |stored - again| / max |again| over what was stored; infinite if that can no longer be had."""
    known = np.isfinite(stored)
    if not np.isfinite(again[known]).all():
        return float("inf")
    scale = max(float(np.max(np.abs(again[known]), initial=0.0)), 1e-300)
    return float(np.max(np.abs(stored - again)[known], initial=0.0)) / scale
