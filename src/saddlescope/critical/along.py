"""Along a path: the index of the constrained minimiser, and the gradient against tangent and distance ([B19] 4.1)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from saddlescope.arrays import Layout
from saddlescope.critical.certify import DENSE_LIMIT
from saddlescope.critical.groups import Embedding
from saddlescope.critical.reduced import Reduced, in_32, reduced_gradient, reduced_hessian
from saddlescope.critical.symmetric import dense_inertia
from saddlescope.errors import SettingsError
from saddlescope.numerics.spectrum import entry_rounding
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem


@dataclass(frozen=True, kw_only=True)
class Along:
    """One row a chosen node; angles in degrees, NaN where a vector vanishes.

    ``index`` has two columns, the smallest and largest number of negative eigenvalues of the full Hessian that the
    bounds allow. ``tangent_angles``: gradient against the path's tangent (central difference of neighbours).
    ``distance_angles``: gradient against the gradient of the incoming distance of the pair.
    """

    nodes: np.ndarray
    distances: np.ndarray
    index: np.ndarray
    tangent_angles: np.ndarray
    distance_angles: np.ndarray
    gradient_norms: np.ndarray


def _angle(one: np.ndarray, other: np.ndarray) -> float:
    """Return the angle between two lines, 0 to 90 degrees."""
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.degrees(np.arccos(min(1.0, abs(float(one @ other)) / lengths)))) if lengths > 0 else float("nan")


def _incoming_gap(layout: Layout, path: Any, theta: np.ndarray) -> np.ndarray:
    """Return the gradient of |theta_m - theta_l| for the path's pair, up to its length."""
    places = path.neurons.incoming_positions(layout)
    first, second = (places[unit] for unit in path.pair)
    normal = np.zeros(layout.size)
    normal[second], normal[first] = theta[second] - theta[first], theta[first] - theta[second]
    return normal


@in_float64
def certify_along(problem: Problem, path: Any, *, count: int = 10) -> Along:
    """Return index and angles at ``count`` of the distances asked for, evenly spread over the path.

    [B19] section 4.1 says that the gradient is parallel to the tangent and that the Hessian has at most one negative
    eigenvalue; this measures both. With a distance that prescribes outgoing weights too (joint, tied), or a fixed
    scale, the gradient need not be parallel to the gradient of the incoming distance.

    Args:
        problem: the path's problem.
        path: a path.
        count: how many distances, at most.

    Raises:
        SettingsError: too many parameters for dense Hessians, or a count below 1.
    """
    layout = problem.network.layout
    if count < 1 or layout.size > DENSE_LIMIT:
        raise SettingsError(
            "the Hessians along a path are dense",
            name="count, parameters",
            value=(count, layout.size),
            expected=f"1 or more, up to {DENSE_LIMIT}",
        )
    asked = np.flatnonzero(path.kinds == "asked")
    chosen = np.unique(np.linspace(0, len(asked) - 1, min(count, len(asked))).round().astype(int))
    thetas = np.concatenate([path.parameters[name].reshape(len(path.kinds), -1) for name in layout.names], axis=1)
    reduced = Reduced.of(problem, Embedding(np.arange(layout.size), np.ones(layout.size)))
    rows = []
    for k in chosen:
        theta = thetas[asked[k]]
        gradient = reduced_gradient(reduced, theta)
        before, after = thetas[asked[max(k - 1, 0)]], thetas[asked[min(k + 1, len(asked) - 1)]]
        hessian = reduced_hessian(reduced, theta)
        rounding = entry_rounding(hessian, reduced_hessian(*in_32(reduced, theta)))
        index = dense_inertia(hessian, np.zeros((0, len(theta))), rounding, np.zeros_like(hessian)).inertia.index
        angles = (_angle(gradient, after - before), _angle(gradient, _incoming_gap(layout, path, theta)))
        rows.append((*index, *angles, float(np.linalg.norm(gradient))))
    table = np.array(rows)
    return Along(
        nodes=asked[chosen],
        distances=path.distances[asked[chosen]],
        index=table[:, :2].astype(int),
        tangent_angles=table[:, 2],
        distance_angles=table[:, 3],
        gradient_norms=table[:, 4],
    )
