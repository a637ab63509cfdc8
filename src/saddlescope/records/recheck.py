"""Recompute what a stored path claims, from its parameters alone."""

from dataclasses import dataclass

import numpy as np

from saddlescope.paths.result import Path
from saddlescope.problem.problem import Problem


@dataclass(frozen=True)
class Recheck:
    """Largest differences between stored and recomputed numbers, relative to the largest of each kind."""

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
    known = np.isfinite(path.full_gradient_norms)
    return Recheck(
        float(np.max(np.abs(losses - path.losses)) / max(np.max(np.abs(path.losses)), 1e-300)),
        float(np.max(np.abs(norms - path.full_gradient_norms)[known]) / max(np.max(norms), 1e-300)),
        problem.fingerprint(rows[0])["data"] == path.fingerprints["data"],
    )
