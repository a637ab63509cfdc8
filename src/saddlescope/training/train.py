"""Training good enough to make teachers: Adam, then a second-order finish to a stated gradient norm.

Small networks end with dense pseudo-transient Newton steps, large ones with matrix-free ones; both in float64.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Scalar

from saddlescope.arrays import Layout, Parameters, require_finite, to_numpy
from saddlescope.errors import SettingsError
from saddlescope.html_repr import card
from saddlescope.numerics.newton import (
    DENSE_LIMIT,
    MAX_STEPS,
    OUTCOMES,
    RUNNING,
    Iterate,
    advance,
    begin,
)
from saddlescope.numerics.tangent import ROUNDING_DOUBLE, Unconstrained
from saddlescope.outcomes import Outcome
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem

Progress = Callable[[int, int, str], None]

# Steps between two reports of progress.
BLOCK = 100

# Longest second-order step, as a share of the norm of the parameters.
RADIUS = 0.1


@dataclass(frozen=True, kw_only=True)
class Training:
    """Where training ended: parameters, loss, gradient norm, and the losses of the Adam steps."""

    parameters: dict[str, np.ndarray]
    loss: float
    gradient_norm: float
    outcome: Outcome
    losses: np.ndarray
    seconds: float
    iterations: dict[str, int]

    def _repr_html_(self) -> str:
        """Return the summary that notebooks show."""
        facts = {
            "loss": self.loss,
            "gradient norm": self.gradient_norm,
            "iterations": ", ".join(f"{count} {kind}" for kind, count in self.iterations.items()),
            "seconds": self.seconds,
        }
        return card(f"{self.outcome}", facts, curve=self.losses.tolist(), name="loss of the Adam steps")


class _Objective(eqx.Module):
    """A problem as the solvers see it, in its own coordinates, with no preconditioner."""

    problem: Problem

    def value_and_gradient(self, x: Array) -> tuple[Scalar, Array]:
        return self.problem.value_and_gradient(x)

    def hessian_product(self, x: Array, v: Array) -> Array:
        return self.problem.hessian_product(x, v)

    def model_product(self, x: Array, v: Array) -> Array:
        return self.problem.hessian_product(x, v)

    @property
    def rounding(self) -> float:
        return ROUNDING_DOUBLE

    def hessian(self, x: Array) -> Array:
        return self.problem.hessian(x)

    def precondition(self, x: Array, shift: Scalar, v: Array) -> Array:
        del x, shift
        return v


@eqx.filter_jit
def _adam_block(
    problem: Problem, theta: Array, state: optax.OptState, rates: Array
) -> tuple[Array, optax.OptState, Array]:
    """Take one Adam step per learning rate; return parameters, optimiser state and the losses before each step."""
    optimiser = optax.scale_by_adam()

    def step(carry: tuple[Array, optax.OptState], rate: Scalar) -> tuple[tuple[Array, optax.OptState], Scalar]:
        theta, state = carry
        value, gradient = problem.value_and_gradient(theta)
        updates, state = optimiser.update(gradient, state)
        return (theta - rate * jnp.asarray(updates), state), value

    (theta, state), losses = jax.lax.scan(step, (theta, state), rates)
    return theta, state, losses


_begin = eqx.filter_jit(begin)


@eqx.filter_jit
def _newton_block(objective: _Objective, iterate: Iterate, tolerance: Scalar, radius: Scalar, steps: Array) -> Iterate:
    """Take up to ``steps`` second-order steps."""
    plane = Unconstrained(jnp.ones_like(iterate.x))
    linear = "dense" if iterate.x.shape[0] <= DENSE_LIMIT else "krylov"
    until = iterate.iterations + steps
    return jax.lax.while_loop(
        lambda s: (s.status == RUNNING) & (s.iterations < until),
        lambda s: advance(objective, plane, s, jnp.zeros_like(s.value), tolerance, radius, linear),
        iterate,
    )


def _adam(
    problem: Problem, theta: Array, steps: int, rate: float, progress: Progress | None
) -> tuple[Array, np.ndarray]:
    """Run Adam with a cosine-falling learning rate."""
    rates = np.asarray(rate * 0.5 * (1.0 + np.cos(np.pi * np.arange(steps) / max(steps, 1))))
    state = optax.scale_by_adam().init(theta)
    losses: list[np.ndarray] = []
    for first in range(0, steps, BLOCK):
        theta, state, block = _adam_block(problem, theta, state, jnp.asarray(rates[first : first + BLOCK]))
        losses.append(np.asarray(block))
        if progress is not None:
            progress(min(first + BLOCK, steps), steps, f"Adam, loss {losses[-1][-1]:.4e}")
    return theta, np.concatenate(losses) if losses else np.zeros(0)


@in_float64
def train(
    problem: Problem,
    *,
    seed: int = 0,
    initial: Parameters | None = None,
    adam_steps: int = 2000,
    learning_rate: float = 1e-2,
    tolerance: float = 1e-10,
    max_newton: int = 200,
    progress: Progress | None = None,
) -> Training:
    """Train a network on the full batch: Adam, then second-order steps until |grad L| <= tolerance.

    Args:
        problem: network, data and loss.
        seed: seed of the network's initial parameters; unused when ``initial`` is given.
        initial: parameters to start from.
        adam_steps: number of Adam steps, with a learning rate that falls to 0 along a cosine.
        learning_rate: Adam's first learning rate.
        tolerance: gradient norm to reach.
        max_newton: largest number of second-order steps; 0 leaves them out.
        progress: called with (done, total, message).

    Returns:
        Parameters and how training ended; **the outcome may be "max-steps" or "stagnated"**: look at it.

    Raises:
        SettingsError: a negative number of steps, or a rate or tolerance that is not positive.
        NonFiniteError: NaN or infinity in ``initial``.
    """
    began = time.perf_counter()
    for name, value, good in (
        ("adam_steps", adam_steps, adam_steps >= 0),
        ("max_newton", max_newton, max_newton >= 0),
        ("learning_rate", learning_rate, learning_rate > 0),
        ("tolerance", tolerance, tolerance > 0),
    ):
        if not good:
            raise SettingsError("this setting cannot be used", name=name, value=value, expected="a positive number")
    start = problem.network.initial(seed) if initial is None else initial
    problem.network.check(start)
    require_finite(start, "the starting point")
    layout = Layout.of(start)
    theta, losses = _adam(problem, layout.flatten(to_numpy(start)), adam_steps, learning_rate, progress)
    objective = _Objective(problem)
    limit = jnp.asarray(tolerance)
    iterate = _begin(objective, Unconstrained(jnp.ones_like(theta)), theta, jnp.asarray(0.0), limit)
    radius = jnp.asarray(RADIUS * float(jnp.linalg.norm(theta)))
    block = 10
    while int(iterate.status) == RUNNING and int(iterate.iterations) < max_newton:
        iterate = _newton_block(objective, iterate, limit, radius, jnp.asarray(min(block, max_newton)))
        if progress is not None:
            done = int(iterate.iterations)
            progress(
                done, max_newton, f"Newton, loss {float(iterate.value):.4e}, gradient {float(iterate.residual):.2e}"
            )
    status = MAX_STEPS if int(iterate.status) == RUNNING else int(iterate.status)
    return Training(
        parameters=layout.unflatten_numpy(np.asarray(iterate.x)),
        loss=float(iterate.value),
        gradient_norm=float(iterate.residual),
        outcome=OUTCOMES[status],
        losses=losses,
        seconds=time.perf_counter() - began,
        iterations={"adam": adam_steps, "newton": int(iterate.iterations)},
    )
