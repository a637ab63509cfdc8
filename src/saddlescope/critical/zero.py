"""Whether the loss is zero to the rounding of its own computation."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from saddlescope.arrays import Parameters
from saddlescope.numerics.spectrum import SCALE_32
from saddlescope.precision import single
from saddlescope.problem.problem import Problem

# Residuals count as zero up to this many times the usual rounding of their own output.
ROUNDING = 4.0

# One entry may be lucky once, not in all of so many runs.
RUNS = 8


def is_zero(problem: Problem, parameters: Parameters) -> bool:
    """Return whether every residual is what rounding makes of an output that meets its target, for squared errors.

    How an output is rounded is measured: the same program in float32 at points within its rounding, scaled by 2^-29,
    root mean square over the runs, for every sample and output by itself, so that one large output cannot hide what
    is left of the others. Half a unit in the last place of the target is added, for its own rounding.
    """
    if problem.loss not in ("mse", "normalised") or problem.penalised:
        return False
    targets = np.asarray(problem.targets).reshape(-1, problem.targets.shape[-1])[: problem.samples]
    residuals = np.abs(problem.outputs_of(parameters) - targets)
    usual = output_rounding(problem, parameters) + 0.5 * np.finfo(float).eps * np.abs(targets)
    return bool(np.isfinite(usual).all() and np.all(residuals <= ROUNDING * usual))


def output_rounding(problem: Problem, parameters: Parameters) -> np.ndarray:
    """Return the usual rounding of every output, (samples, outputs), measured against float32; NaN if it overflows."""
    exact = problem.outputs_of(parameters)
    coarse = single(problem)
    theta = np.asarray(problem.network.layout.flatten(parameters), np.float64)
    generator, squares = np.random.default_rng(0), np.zeros_like(exact)
    for run in range(RUNS):
        near = theta if run == 0 else theta * (1.0 + 2.0**-24 * generator.uniform(-1.0, 1.0, len(theta)))
        with np.errstate(over="ignore", invalid="ignore"):
            rough = np.asarray(_outputs(coarse, jnp.asarray(near, jnp.float32)), np.float64)
            squares += np.square(SCALE_32 * (rough - exact))
    return np.where(np.isfinite(squares), np.sqrt(squares / RUNS), np.nan)


@eqx.filter_jit
def _outputs(problem: Problem, theta: Array) -> Array:
    return problem.outputs(theta)
