"""Whether the loss is zero to the rounding of its own computation."""

import jax
import jax.numpy as jnp
import numpy as np

from saddlescope.arrays import Parameters
from saddlescope.numerics.spectrum import SCALE_32
from saddlescope.problem.problem import Problem

# Residuals count as zero up to this many times the usual rounding of the output.
ROUNDING = 4.0


def is_zero(problem: Problem, parameters: Parameters) -> bool:
    """Return whether every residual is what rounding makes of an output that meets its target, for squared errors.

    How an output is rounded is measured: the same program in float32, scaled by 2^-29, root mean square over the
    samples, for each output by itself, so that one large output cannot hide what is left of the others. Half a unit
    in the last place of the largest output is added, for the targets' own rounding.
    """
    if problem.loss not in ("mse", "normalised") or problem.penalised:
        return False
    targets = np.asarray(problem.targets).reshape(-1, problem.targets.shape[-1])[: problem.samples]
    outputs = problem.outputs_of(parameters)
    coarse = jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if leaf.dtype == jnp.float64 else leaf, problem)
    theta = jnp.asarray(problem.network.layout.flatten(parameters), jnp.float32)
    rough = np.asarray(coarse.outputs(theta), np.float64)
    if not np.isfinite(rough).all():
        return False
    usual = SCALE_32 * np.sqrt(np.mean(np.square(rough - outputs), axis=0))
    usual = usual + 0.5 * np.finfo(float).eps * np.abs(targets).max(axis=0)
    return bool(np.all(np.abs(outputs - targets).max(axis=0) <= ROUNDING * usual))
