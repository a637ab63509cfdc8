"""Many students of one problem at once: Adam from each seed, then Levenberg-Marquardt, and how each one ended.

A seed's start is `network.initial(seed)`: uniform in +-1/sqrt(inputs). [S21] trains with Adam and SLSQP from a start
that this does not try to copy.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from saddlescope.errors import SettingsError
from saddlescope.numerics.levenberg import levenberg
from saddlescope.outcomes import Outcome
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem

Ending = Literal["zero loss", "critical point", "not converged"]
Progress = Callable[[int, int, str], None]

# Adam steps between two reports.
BLOCK = 500

# Levenberg-Marquardt steps between two reports, after which students that ended are left out.
CHUNK = 100

# Close to zero loss every gradient is small, 2 J'r <= 2 |J| |r|: at a critical point it is this much smaller than |r|.
ALIGNED = 1e-6


@dataclass(frozen=True, kw_only=True)
class Students:
    """One entry per seed. ``growth``: largest |weight| at the end over that at the start.

    "zero loss": at most the target. "critical point": gradient norm at most the tolerance and small beside the root of
    the loss (Hessian not examined: for least squares the Gauss-Newton part is never negative and says nothing).
    "not converged": neither. However much its weights grew, that is no channel to infinity: what tells one is how they
    grow as two neurons approach (`paths.growth`), and a student follows no such path.
    """

    seeds: tuple[int, ...]
    parameters: tuple[dict[str, np.ndarray], ...]
    losses: np.ndarray
    gradient_norms: np.ndarray
    growth: np.ndarray
    endings: tuple[Ending, ...]
    outcomes: tuple[Outcome, ...]
    iterations: np.ndarray

    def row(self, i: int) -> dict[str, Any]:
        """Return what an experiment keeps of the i-th student, ready for JSON."""
        return {
            "seed": self.seeds[i],
            "loss": float(f"{self.losses[i]:.6g}"),
            "gradient_norm": float(f"{self.gradient_norms[i]:.3g}"),
            "growth": float(f"{self.growth[i]:.3g}"),
            "ending": self.endings[i],
            "steps": int(self.iterations[i]),
        }


def _samples(problem: Problem) -> tuple[Array, Array]:
    """Return inputs and targets, a row a sample, without the chunks' padding."""
    inputs, targets = (
        rows.reshape(-1, rows.shape[-1])[: problem.samples] for rows in (problem.inputs, problem.targets)
    )
    return inputs, targets


class _Residual(eqx.Module):
    """r(theta) with |r|^2 = mean squared error."""

    problem: Problem

    def __call__(self, theta: Array) -> Array:
        network = self.problem.network
        inputs, targets = _samples(self.problem)
        outputs = network.apply(network.layout.unflatten(theta), inputs)
        return ((outputs - targets) / jnp.sqrt(targets.size)).ravel()


class _Linear(eqx.Module):
    """r(theta) and its Jacobian, sample by sample backwards: as dear as a few gradients, whatever the size of theta."""

    problem: Problem

    def __call__(self, theta: Array) -> tuple[Array, Array]:
        network = self.problem.network
        inputs, targets = _samples(self.problem)

        def of_sample(one: Array, target: Array) -> tuple[Array, Array]:
            def gap(theta: Array) -> Array:
                return (network.apply(network.layout.unflatten(theta), one[None])[0] - target) / jnp.sqrt(targets.size)

            return gap(theta), jax.jacrev(gap)(theta)

        gaps, rows = jax.vmap(of_sample)(inputs, targets)
        return gaps.ravel(), rows.reshape(targets.size, theta.size)


@eqx.filter_jit
def _adam(residual: _Residual, points: Array, state: optax.OptState, rates: Array) -> tuple[Array, optax.OptState]:
    """Take one Adam step per rate, in every lane."""
    optimiser = optax.scale_by_adam()
    slope = jax.vmap(jax.grad(lambda x: jnp.sum(residual(x) ** 2)))

    def step(carry: tuple[Array, optax.OptState], rate: Array) -> tuple[tuple[Array, optax.OptState], None]:
        points, state = carry
        updates, state = optimiser.update(slope(points), state)
        return (points - rate * jnp.asarray(updates), state), None

    return jax.lax.scan(step, (points, state), rates)[0]


def _ending(loss: float, gradient: float, target: float, tolerance: float) -> Ending:
    if loss <= target:
        return "zero loss"
    return "critical point" if gradient <= min(tolerance, ALIGNED * math.sqrt(loss)) else "not converged"


@in_float64
def train_students(
    problem: Problem,
    seeds: Sequence[int],
    *,
    adam_steps: int = 2000,
    learning_rate: float = 1e-2,
    target: float = 1e-20,
    tolerance: float = 1e-12,
    limit: int = 2000,
    progress: Progress | None = None,
) -> Students:
    """Train one student per seed: Adam with a rate that falls along a cosine, then Levenberg-Marquardt.

    Args:
        problem: a mean-squared-error problem without penalties.
        seeds: of the starting points.
        adam_steps: number of Adam steps.
        learning_rate: Adam's first rate.
        target: loss that counts as zero; a student ends there.
        tolerance: gradient norm that counts as critical; not a reason to stop.
        limit: largest number of Levenberg-Marquardt steps.
        progress: called with (done, total, message) after every block of steps.

    Raises:
        SettingsError: no seed, another loss, or a penalty.
    """
    if problem.loss != "mse" or float(problem.weight_decay) or float(problem.norm_barrier):
        raise SettingsError("not a plain sum of squares", name="loss", value=problem.loss, expected="mse, no penalty")
    if not seeds:
        raise SettingsError("nobody to train", name="seeds", value=list(seeds), expected="at least one")
    layout = problem.network.layout
    starts = np.stack([np.asarray(layout.flatten(problem.network.initial(seed))) for seed in seeds])
    residual = _Residual(problem)
    rates = learning_rate * 0.5 * (1.0 + np.cos(np.pi * np.arange(adam_steps) / max(adam_steps, 1)))
    points: Float[Array, "lanes size"] = jnp.asarray(starts)
    state = optax.scale_by_adam().init(points)
    for first in range(0, adam_steps, BLOCK):
        points, state = _adam(residual, points, state, jnp.asarray(rates[first : first + BLOCK]))
        if progress is not None:
            progress(min(first + BLOCK, adam_steps), adam_steps + limit, "Adam")
    settings = {"target": target, "tolerance": 0.0, "limit": limit, "chunk": CHUNK}
    end = levenberg(residual, np.asarray(points), linear=_Linear(problem), progress=progress, **settings)
    growth = np.abs(end.points).max(axis=1) / np.abs(starts).max(axis=1)
    return Students(
        seeds=tuple(int(seed) for seed in seeds),
        parameters=tuple(layout.unflatten_numpy(point) for point in end.points),
        losses=end.values,
        gradient_norms=end.gradient_norms,
        growth=growth,
        endings=tuple(
            _ending(*row, target, tolerance)
            for row in zip(end.values.tolist(), end.gradient_norms.tolist(), strict=True)
        ),
        outcomes=end.outcomes,
        iterations=end.iterations,
    )
