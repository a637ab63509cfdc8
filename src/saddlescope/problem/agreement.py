"""Is this my network? What the user's own program computed is compared with what the network computes here.

A wrong activation, order of layers or transposition gives another function without any error. Where the data hold
`outputs`, the difference shows it; the known slips are tried, and the one that reproduces the outputs is named.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from saddlescope.arrays import Parameters, to_numpy
from saddlescope.errors import ShapeError, WeightsError
from saddlescope.precision import float64
from saddlescope.problem.activations import ACTIVATIONS
from saddlescope.problem.data import Data, network_outputs
from saddlescope.problem.networks import Perceptron

# Another order of summation, or another library's tanh, may round so many times as coarsely as JAX does.
ROUNDINGS = 8.0
# What is tried to explain a difference is computed for so many samples only, and for so many layers in other orders.
SAMPLES, LAYERS = 256, 4
# An accuracy that far below training's is no matter of other samples.
ACCURACY = 0.1

_AFTER: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "softmax": lambda z: np.asarray(jax.nn.softmax(z, axis=1)),
    "log-softmax": lambda z: np.asarray(jax.nn.log_softmax(z, axis=1)),
    "sigmoid": lambda z: np.asarray(jax.nn.sigmoid(z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0.0),
}


def require_agreement(network: Perceptron, parameters: Parameters, data: Data) -> float | None:
    """Compare a network with the outputs that its data hold.

    The difference may be as large as rounding makes it, which is measured: in float32, or in the coarser type that
    every stored output fits into.

    Args:
        network: what is to be the user's network.
        parameters: its parameters.
        data: inputs and, perhaps, outputs.

    Returns:
        The largest difference; None where the data hold no outputs.

    Raises:
        ShapeError: other numbers of inputs or outputs.
        WeightsError: the network gives other outputs; the text says what would give these, if that is known.
    """
    if data.outputs is None:
        return None
    network.check(parameters)
    given = (data.inputs.shape[1], data.outputs.shape[1])
    ends = (network.chain[0].inputs, network.chain[-1].outputs)
    if given != ends:
        raise ShapeError("data and network do not fit", name="inputs, outputs", value=given, expected=str(ends))
    parameters = to_numpy(parameters)
    here = network_outputs(network, parameters, data.inputs)
    gap = np.abs(here - data.outputs)
    with float64():
        largest, allowed = float(gap.max()), _allowed(network, parameters, data, here)
    if largest <= allowed:
        return largest
    row, column = (int(i) for i in np.unravel_index(int(gap.argmax()), gap.shape))
    cause = _explanation(network, parameters, data, allowed)
    raise WeightsError(
        f"this network does not give the data's own outputs: they differ by up to {largest:.3g}, rounding allows "
        f"{allowed:.1e}",
        name=f"output [{row}, {column}]",
        value=f"{here[row, column]:.6g}",
        expected=f"{data.outputs[row, column]:.6g}",
        advice=cause
        or "No known activation, order of layers or transposition gives them; were they computed in "
        "reduced precision, or in training mode?",
    )


def _allowed(network: Perceptron, parameters: Parameters, data: Data, here: np.ndarray) -> float:
    """Return how far rounding alone may move an output: measured in the type that the outputs were computed in."""
    kind = _kind(np.asarray(data.outputs))
    coarse = {name: jnp.asarray(value, kind) for name, value in parameters.items()}
    there = np.asarray(network.apply(coarse, jnp.asarray(data.inputs[:SAMPLES], kind)), np.float64)
    unit = float(jnp.finfo(kind).eps) * float(np.abs(here).max())
    return ROUNDINGS * max(float(np.abs(there - here[:SAMPLES]).max()), unit)


def _kind(outputs: np.ndarray) -> Any:
    """Return the coarsest type that holds every output, at finest float32: what they were computed in."""
    values = outputs.astype(np.float32)
    if values.size > 8:  # a few round numbers fit into any type
        for kind in (jnp.bfloat16, jnp.float16):
            with np.errstate(over="ignore"):
                if np.array_equal(values.astype(kind).astype(np.float32), values):
                    return kind
    return jnp.float32


def _explanation(network: Perceptron, parameters: Parameters, data: Data, allowed: float) -> str | None:
    """Return the slip that reproduces the data's outputs, in words."""
    inputs, outputs = data.inputs[:SAMPLES], np.asarray(data.outputs)[:SAMPLES]
    with float64():
        for words, other, values in _slips(network, parameters):
            there = network_outputs(other, values, inputs)
            if np.abs(there - outputs).max() <= allowed:
                return words
        there = network_outputs(network, parameters, inputs)
        for name, function in _AFTER.items():
            if np.abs(function(there) - outputs).max() <= allowed:
                return f"They are this network's outputs after {name}: store what comes before it"
    return None


def _slips(network: Perceptron, parameters: Parameters) -> Iterator[tuple[str, Perceptron, Parameters]]:
    """Yield networks that a slip would make of the right one."""
    here = {layer.activation.name for layer in network.chain if layer.activation is not None}
    for name in ACTIVATIONS if here else ():
        if {name} != here:
            yield f"With activation {name} it does", network.with_activation(name), parameters
    turned = _turned(parameters)
    if turned is not None:
        yield "With its weights transposed it does: they are stored (in, out)", network, turned
    places = range(len(network.chain))
    if len(places) <= LAYERS:
        for order in itertools.permutations(places):
            if order != tuple(places):
                moved = _reordered(network, parameters, order)
                if moved is not None:
                    told = ", ".join(str(k + 1) for k in order)
                    yield f"With its layers in the order {told} it does", network, moved


def _turned(parameters: Parameters) -> Parameters | None:
    """Return the parameters with every square weight transposed; None where there is none."""
    turned = {n: v.T if v.ndim == 2 and v.shape[0] == v.shape[1] else v for n, v in parameters.items()}
    return turned if any(turned[name] is not value for name, value in parameters.items()) else None


def _reordered(network: Perceptron, parameters: Parameters, order: tuple[int, ...]) -> Parameters | None:
    """Return the parameters with the layers in another order; None where the shapes do not allow it."""
    chain = network.chain
    pairs = [(layer, chain[old]) for layer, old in zip(chain, order, strict=True)]
    moved = {to: parameters[from_] for new, old in pairs for to, from_ in zip(new.names, old.names, strict=True)}
    wanted = dict(zip(network.layout.names, network.layout.shapes, strict=True))
    return moved if all(moved[name].shape == shape for name, shape in wanted.items()) else None


def doubt(
    network: Any,
    parameters: Parameters,
    data: Data,
    *,
    accuracy: float | None = None,
    weight_decay: float = 0.0,
    targets: bool = True,
) -> str | None:
    """Return what speaks against the network being one that was trained on these data, in words; None if nothing does.

    Args:
        network: what is to be the user's network.
        parameters: its parameters.
        data: inputs with targets, labels or both, as they were read.
        accuracy: the accuracy in training, where it is known.
        weight_decay: with one, a network may rightly be no better than one whose parameters are all zero.
        targets: whether the loss is of the data's targets, not of the network's own outputs.
    """
    outputs, found = network_outputs(network, to_numpy(parameters), data.inputs), []
    if data.labels is not None and data.labels.min() >= 0 and data.labels.max() < outputs.shape[1] > 1:
        here = float(np.mean(outputs.argmax(axis=1) == data.labels))
        common = float(np.bincount(data.labels).max() / len(data.labels))
        if accuracy is not None and here < accuracy - ACCURACY:
            found.append(f"accuracy {here:.4f} on these data, {accuracy:.4f} in training")
        elif here < common:
            found.append(f"accuracy {here:.4f}, below that of naming always the commonest label, {common:.4f}")
    if targets and data.targets is not None and data.targets.shape == outputs.shape:
        loss = float(np.mean(np.square(outputs - data.targets)))
        best = np.zeros(outputs.shape[1]) if weight_decay > 0 else data.targets.mean(axis=0)
        constant = float(np.mean(np.square(best - data.targets)))
        if loss > constant:
            found.append(f"squared error {loss:.4g}, above that of constant outputs, {constant:.4g}")
    return f"{'; '.join(found)}: are these the network, its activation and its data?" if found else None
