"""The preconditioner's factors against sums over samples by loops, with derivatives by differences."""

import jax.numpy as jnp
import numpy as np
import pytest

from saddlescope.data.data import Data
from saddlescope.models.mlp import MLP
from saddlescope.precision import float64
from saddlescope.problem.kronecker import factors
from saddlescope.problem.problem import Problem

FUNCTIONS = {
    "tanh": np.tanh,
    "softplus": lambda z: np.logaddexp(0.0, z),
    "sigmoid": lambda z: 1.0 / (1.0 + np.exp(-z)),
}


def tail(parameters: dict, first: int, z: np.ndarray, g) -> np.ndarray:
    """The outputs as a function of the preactivations of one layer."""
    last = len(parameters) // 2 - 1
    for k in range(first, last):
        z = parameters[f"{2 * (k + 1)}.weight"] @ g(z) + parameters[f"{2 * (k + 1)}.bias"]
    return z


def slopes(function, z: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Central differences, a column per entry of z."""
    return np.stack([(function(z + e) - function(z - e)) / (2 * step) for e in step * np.eye(len(z))], axis=1)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_factors_are_the_sums_that_they_stand_for(name):
    generator = np.random.default_rng(5)
    network, g = MLP((3, 4, 3, 2), name), FUNCTIONS[name]
    parameters = {n: generator.normal(size=s) for n, s in zip(network.layout.names, network.layout.shapes, strict=True)}
    inputs, targets = generator.normal(size=(7, 3)), generator.normal(size=(7, 2))
    with float64():
        problem = Problem(network, Data(inputs, targets), chunk=3)
        found = factors(problem, jnp.asarray(network.layout.flatten(parameters)))
    # mse: the mean over samples and outputs of (out - target)^2 has second derivative 2 / (samples outputs).
    bend = 2.0 / (7 * 2)
    for k, layer in enumerate(found):
        first, second = np.zeros((layer.input_values.shape[0],) * 2), np.zeros((layer.output_values.shape[0],) * 2)
        for x in inputs:
            h = x
            for j in range(k):
                h = g(parameters[f"{2 * j}.weight"] @ h + parameters[f"{2 * j}.bias"])
            z = parameters[f"{2 * k}.weight"] @ h + parameters[f"{2 * k}.bias"]
            first += np.outer(np.append(h, 1.0), np.append(h, 1.0)) / 7
            along = slopes(lambda at, k=k: tail(parameters, k, at, g), z)
            second += bend * along.T @ along
        for vectors, values, wanted in (
            (layer.input_vectors, layer.input_values, first),
            (layer.output_vectors, layer.output_values, second),
        ):
            made = np.asarray(vectors) @ np.diag(values) @ np.asarray(vectors).T
            assert np.abs(made - wanted).max() <= 1e-8 * np.abs(wanted).max()
