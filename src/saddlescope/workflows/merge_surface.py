"""The merge surface: the loss over the pair's difference and the share of its outgoing weights, all else held.

Around the permutation point the two incoming vectors are mean -+ x u / 2, the outgoing ones b a and (1 - b) a, with u
the direction in which the pair parted last and a the outgoing sum; everything else stays as at the permutation point.
The path itself moves everything else too, so its points lie beside the surface, below it where it is far out.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from saddlescope.arrays import Layout
from saddlescope.errors import SettingsError
from saddlescope.paths.result import Path
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem


@dataclass(frozen=True)
class Surface:
    """``losses[i, j]`` at signed difference ``differences[i]`` and share ``shares[j]``; the path's nodes as rows.

    A row of ``trace``: the pair's difference along u, the share of the first neuron, the path's own loss.
    """

    differences: Float[np.ndarray, " steps"]
    shares: Float[np.ndarray, " steps"]
    losses: Float[np.ndarray, "steps steps"]
    trace: Float[np.ndarray, "nodes 3"]


@eqx.filter_jit
def _losses(problem: Problem, thetas: Float[Array, "points size"]) -> Float[Array, " points"]:
    return jax.lax.map(problem.value, thetas)


@in_float64
def merge_surface(problem: Problem, path: Path, *, steps: int = 31, reach: float = 1.2) -> Surface:
    """Return the loss around a path's permutation point, over difference and outgoing share.

    Args:
        problem: the path's problem.
        path: a path with a permutation point.
        steps: points along each axis, an odd number, so that zero difference and equal shares are among them.
        reach: largest difference, as a multiple of the path's first.

    Raises:
        SettingsError: a path without a permutation point, steps that are even or below 3, or a reach that is not
            positive.
    """
    point = path.permutation_point
    if point is None:
        raise SettingsError("this path has no permutation point", name="ending", value=path.ending.value)
    if steps < 3 or steps % 2 == 0 or reach <= 0:
        raise SettingsError(
            "not a grid",
            name="steps, reach",
            value=(steps, reach),
            expected="an odd number from 3 up, and a positive one",
        )
    layout, neurons, (l, m) = Layout.of(point.parameters), path.neurons, path.pair
    theta = np.concatenate([np.ravel(value) for value in point.parameters.values()])
    incoming, outgoing = neurons.incoming_positions(layout), neurons.outgoing_positions(layout)
    nodes = np.concatenate([rows.reshape(len(path.losses), -1) for rows in path.parameters.values()], axis=1)
    gaps = nodes[:, incoming[m]] - nodes[:, incoming[l]]
    last = np.flatnonzero(np.linalg.norm(gaps, axis=1) > 0)[-1]
    direction = gaps[last] / np.linalg.norm(gaps[last])
    mean, total = theta[incoming[l]], theta[outgoing[l]] + theta[outgoing[m]]
    widest = reach * float(np.linalg.norm(gaps[0]))
    differences, shares = np.linspace(-widest, widest, steps), np.linspace(-0.25, 1.25, steps)
    thetas = np.broadcast_to(theta, (steps, steps, theta.size)).copy()
    half = 0.5 * differences[:, None, None] * direction
    thetas[:, :, incoming[l]], thetas[:, :, incoming[m]] = mean - half, mean + half
    split = shares[None, :, None] * total
    thetas[:, :, outgoing[l]], thetas[:, :, outgoing[m]] = split, total - split
    losses = np.asarray(_losses(problem, jnp.asarray(thetas.reshape(steps * steps, -1)))).reshape(steps, steps)
    sums = nodes[:, outgoing[l]] + nodes[:, outgoing[m]]
    share = np.sum(nodes[:, outgoing[l]] * sums, axis=1) / np.maximum(np.sum(sums**2, axis=1), 1e-300)
    return Surface(differences, shares, losses, np.stack([gaps @ direction, share, path.losses], axis=1))
