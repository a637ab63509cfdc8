"""Random networks at exact critical points, and what a statement about them needs to be judged again from files."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from saddlescope.arrays import Parameters, fingerprint
from saddlescope.data.data import Data
from saddlescope.models.mlp import MLP
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem
from saddlescope.units.actions import split


@dataclass(frozen=True, eq=False)
class Case:
    """A network, parameters, data and plain facts: all that judging a statement needs.

    ``facts`` holds what JSON can hold. Statements about numbers alone have a case of facts only.
    """

    seed: int
    facts: dict[str, Any]
    widths: tuple[int, ...] = ()
    activation: str = "identity"
    bias: bool = True
    parameters: dict[str, np.ndarray] = field(default_factory=dict)
    inputs: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    targets: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    @cached_property
    def network(self) -> MLP:
        """The network."""
        return MLP(self.widths, self.activation, bias=self.bias)

    @cached_property
    def problem(self) -> Problem:
        """Network, data and mean squared error."""
        return Problem(self.network, Data(self.inputs, self.targets))

    @cached_property
    def _remembered(self) -> dict[str, Any]:
        return {}

    def remember(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what ``make`` gives, computed once: several statements ask the same of a case."""
        if name not in self._remembered:
            self._remembered[name] = make()
        return self._remembered[name]

    @property
    def identity(self) -> str:
        """What makes the case a case of its own: its facts, network and data, not the seed they were drawn from."""
        arrays = {**self.parameters, "inputs": self.inputs, "targets": self.targets}
        return json.dumps([self.facts, self.widths, self.activation, self.bias, fingerprint(arrays)], sort_keys=True)

    @property
    def labels(self) -> dict[str, str]:
        """What a statement may depend on, in words."""
        if not self.widths:
            return {}
        return {
            "outputs": "1" if self.widths[-1] == 1 else "several",
            "hidden layers": str(len(self.widths) - 2),
            "activation": self.activation,
            "biases": "yes" if self.bias else "no",
        }


@eqx.filter_jit
def _jacobian(problem: Problem, theta: Array) -> Float[Array, "samples outputs size"]:
    return jax.jacrev(problem.outputs)(theta)


# Activations that are nearly linear near 0 get larger weights, so that their curvature shows.
GAINS = {"softplus": 2.5, "sigmoid": 4.0, "sigmoid_softplus": 2.5}


@in_float64
def critical_case(
    seed: int, widths: tuple[int, ...], activation: str, *, bias: bool = True, residual: float = 0.1, samples: int = 80
) -> Case:
    """Return random parameters, and data for which they are a critical point of the mean squared error.

    The targets are the outputs minus a residual orthogonal to every column of the outputs' Jacobian, which makes the
    gradient J^T r zero to rounding. A small residual (relative to the outputs) gives a minimum, a large one mostly a
    saddle, none a minimum at zero loss. ``facts["scale"]`` is |J| |r| 2/(samples outputs), the size that the gradient's
    terms have before they cancel; ``facts["natural"]`` the same with the outputs in place of the residual r.

    Args:
        seed: of parameters and data.
        widths: of the network.
        activation: of the network.
        bias: whether layers have biases.
        residual: root mean square of the residual, relative to that of the outputs.
        samples: number of inputs, standard normal.
    """
    generator = np.random.default_rng(seed)
    network = MLP(widths, activation, bias=bias)
    gain = GAINS.get(activation, 1.5)
    parameters = {
        name: generator.normal(size=shape) * (gain / np.sqrt(shape[-1]) if len(shape) == 2 else 0.5)
        for name, shape in zip(network.layout.names, network.layout.shapes, strict=True)
    }
    inputs = generator.normal(size=(samples, widths[0]))
    blank = Problem(network, Data(inputs, np.zeros((samples, widths[-1]))))
    outputs = blank.outputs_of(parameters)
    columns = np.asarray(_jacobian(blank, network.layout.flatten(parameters))).reshape(outputs.size, -1)
    basis, _ = np.linalg.qr(columns)
    rest = generator.normal(size=outputs.size)
    for _ in range(3):
        rest = rest - basis @ (basis.T @ rest)
    rest = rest * (residual * np.sqrt(np.mean(outputs**2)) / np.sqrt(np.mean(rest**2)))
    scale = float(np.linalg.norm(columns) * np.linalg.norm(rest) * 2.0 / outputs.size)
    targets = outputs - rest.reshape(outputs.shape)
    natural = float(np.linalg.norm(columns) * np.linalg.norm(outputs) * 2.0 / outputs.size)
    facts = {"residual": residual, "scale": scale, "natural": natural}
    return Case(seed, facts, widths, activation, bias, parameters, inputs, targets)


def with_copies(case: Case, layer: int, unit: int, shares: tuple[float, ...]) -> Case:
    """Return the case of the wider network in which a neuron has copies with these shares of its outgoing weights."""
    neurons = case.network.neurons(layer)
    wide = list(case.widths)
    count = wide[layer]
    wide[layer] += len(shares) - 1
    copies = [unit, *range(count, wide[layer])]
    facts = {**case.facts, "layer": layer, "units": copies, "shares": list(shares), "small_widths": list(case.widths)}
    parameters: Parameters = split(case.parameters, neurons, unit, shares)
    return Case(case.seed, facts, tuple(wide), case.activation, case.bias, parameters, case.inputs, case.targets)


def small_of(case: Case) -> Case:
    """Return the small network's case from that with copies: the copies merged, their outgoing weights added."""
    layer, (unit, *others) = case.facts["layer"], case.facts["units"]
    here, after = case.network.chain[layer - 1 : layer + 1]
    parameters = dict(case.parameters)
    outgoing = parameters[after.weight].copy()
    outgoing[:, unit] += outgoing[:, others].sum(axis=1)
    parameters[after.weight] = np.delete(outgoing, others, axis=1)
    for name in here.names:
        parameters[name] = np.delete(parameters[name], others, axis=0)
    widths = tuple(case.facts["small_widths"])
    return Case(case.seed, case.facts, widths, case.activation, case.bias, parameters, case.inputs, case.targets)


def with_incoming(case: Case, layer: int, unit: int, copies: tuple[tuple[float, float], ...]) -> Case:
    """Return the wider case in which a neuron stands once for each (factor of its incoming vector, outgoing share)."""
    wide = with_copies(case, layer, unit, (1.0,) + (0.0,) * (len(copies) - 1))
    (here, after), places = wide.network.chain[layer - 1 : layer + 1], wide.facts["units"]
    parameters = {name: value.copy() for name, value in wide.parameters.items()}
    sent = parameters[after.weight][:, unit].copy()
    for name in here.names:
        own = parameters[name][unit].copy()
        for place, (factor, _) in zip(places, copies, strict=True):
            parameters[name][place] = factor * own
    for place, (_, share) in zip(places, copies, strict=True):
        parameters[after.weight][:, place] = share * sent
    return Case(case.seed, wide.facts, wide.widths, case.activation, case.bias, parameters, case.inputs, case.targets)


# Small network, activation, biases, the hidden layer in which a neuron is copied. Few shapes: each is compiled.
ROWS = [
    ((2, 3, 1), "tanh", True, 1),
    ((3, 3, 3), "tanh", True, 1),
    ((2, 3, 2), "softplus", True, 1),
    ((1, 3, 1), "tanh", False, 1),
    ((2, 2, 3, 1), "softplus", True, 1),
    ((2, 3, 2, 1), "sigmoid", True, 2),
    ((3, 3, 1), "relu", True, 1),
    ((2, 2, 2, 3), "tanh", True, 2),
    ((2, 2, 2, 2, 1), "sine", True, 3),
    ((1, 2, 1), "softplus", False, 1),
    ((3, 3, 2), "relu", True, 1),
    ((2, 3, 1), "sigmoid_softplus", True, 1),
    ((3, 3, 3), "relu", True, 1),
]
NETWORKS = (
    "random networks (tanh, softplus, sigmoid, relu, sine, sigmoid + softplus) of 1 to 3 hidden layers of 2 or 3 "
    "neurons and 1 to 3 outputs, made critical by their targets"
)
LIFTS = f"{NETWORKS}, one neuron copied with random outgoing shares"
POINTS = f"{NETWORKS}, one neuron copied in halves: permutation points, found without a path"
MINIMA = f"{POINTS}; a small residual, so that most small networks are at a minimum"


@lru_cache(maxsize=4096)
def lifted_case(seed: int) -> Case:
    """Return a critical point of a random small network with one neuron copied once, with random shares."""
    generator = np.random.default_rng([seed, 1])
    widths, name, bias, layer = ROWS[seed % len(ROWS)]
    residual = 0.0 if generator.random() < 0.15 else float(10.0 ** generator.uniform(-3.0, 0.3))
    small = critical_case(seed, widths, name, bias=bias, residual=residual)
    share = float(generator.uniform(0.1, 0.9) if generator.random() < 0.6 else generator.choice([-0.7, 1.6]))
    return with_copies(small, layer, int(generator.integers(widths[layer])), (share, 1.0 - share))


@lru_cache(maxsize=4096)
def permutation_case(seed: int) -> Case:
    """Return a permutation point: a critical point of a random small network with one neuron copied in halves."""
    generator = np.random.default_rng([seed, 9])
    widths, name, bias, layer = ROWS[seed % len(ROWS)]
    residual = 0.0 if generator.random() < 0.15 else float(10.0 ** generator.uniform(-3.0, 0.3))
    small = critical_case(seed, widths, name, bias=bias, residual=residual)
    return with_copies(small, layer, int(generator.integers(widths[layer])), (0.5, 0.5))


@lru_cache(maxsize=4096)
def minimum_case(seed: int) -> Case:
    """Return a lifted case whose small residual makes the small network's point a minimum, split in halves."""
    generator = np.random.default_rng([seed, 2])
    widths, name, bias, layer = ROWS[seed % len(ROWS)]
    small = critical_case(seed, widths, name, bias=bias, residual=float(10.0 ** generator.uniform(-3.0, -1.0)))
    return with_copies(small, layer, int(generator.integers(widths[layer])), (0.5, 0.5))


# For [FA00]'s theorem: one output, one hidden layer, few inputs, so that B is definite at times.
PLATEAUS = [((1, 3, 1), "tanh", False), ((1, 2, 1), "softplus", False), ((2, 2, 1), "tanh", False)]
PLATEAU = (
    "1-3-1 and 2-2-1 tanh and 1-2-1 softplus networks without biases, critical by their targets, one neuron copied "
    "with shares 0.3, 0.5, 0.8, -0.6 or 1.7"
)


@lru_cache(maxsize=4096)
def plateau_case(seed: int) -> Case:
    """Return a lifted case of one output with a small residual, and shares inside (0, 1) or outside."""
    generator = np.random.default_rng([seed, 8])
    widths, name, bias = PLATEAUS[seed % len(PLATEAUS)]
    residual = float(10.0 ** generator.uniform(-2.5, -0.5))
    small = critical_case(seed, widths, name, bias=bias, residual=residual)
    share = float(generator.choice([0.3, 0.5, 0.8, -0.6, 1.7]))
    return with_copies(small, 1, int(generator.integers(widths[1])), (share, 1.0 - share))


def labels(case: Case) -> dict[str, str]:
    """Return the case's labels, with the width of the layer after the copies and whether the loss is zero."""
    after = case.widths[case.facts["layer"] + 1]
    loss = "zero" if case.facts["residual"] == 0.0 else "positive"
    return {**case.labels, "neurons after": "1" if after == 1 else "several", "loss": loss}
