"""Is this my network? What the user's own program computed is compared with what the model computes here.

Other weights, a wrong activation, order of layers or transposition give another function without any error. Where the
data hold `outputs`, the difference shows it; the known slips are tried, and the one that reproduces the outputs is
named. Any model is asked for its outputs only (`apply`); activations and orders are tried for chains of dense layers.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from saddlescope.arrays import Parameters, to_numpy
from saddlescope.data.data import Data, network_outputs
from saddlescope.errors import ShapeError, WeightsError
from saddlescope.models.activations import ACTIVATIONS
from saddlescope.models.chain import is_traceable
from saddlescope.models.contract import adapted, as_taken
from saddlescope.precision import float64

# Another order of summation, or another library's tanh, may round so many times as coarsely as JAX does.
ROUNDINGS = 8.0
# What is tried to explain a difference is computed for so many samples only, and for so many layers in other orders.
SAMPLES, LAYERS = 256, 4
# An accuracy that far below training's is no matter of other samples.
ACCURACY = 0.1

_AFTER: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "softmax": lambda z: np.asarray(jax.nn.softmax(z, axis=-1)),
    "log-softmax": lambda z: np.asarray(jax.nn.log_softmax(z, axis=-1)),
    "sigmoid": lambda z: np.asarray(jax.nn.sigmoid(z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0.0),
}


def require_agreement(network: Any, parameters: Parameters, data: Data) -> float | None:
    """Compare a model with the outputs that its data hold.

    The difference may be as large as rounding makes it, which is measured: in float32, or in the coarser type that
    every stored output fits into.

    Args:
        network: what is to be the user's model, with `layout` and `apply`.
        parameters: its parameters.
        data: inputs and, perhaps, outputs.

    Returns:
        The largest difference; None where the data hold no outputs.

    Raises:
        SettingsError: no model.
        ShapeError: inputs that it does not run on, or other numbers of outputs.
        WeightsError: the model gives other outputs; the text says what would give these, if that is known.
    """
    if data.outputs is None:
        return None
    network = adapted(network)
    network.check(parameters)
    parameters = to_numpy(parameters)
    here = network_outputs(network, parameters, data.inputs)
    if here[0].size != data.outputs[0].size:
        raise ShapeError(
            "data and network do not fit",
            name="outputs per sample",
            value=data.outputs.shape[1:],
            expected=str(here.shape[1:]),
        )
    outputs = data.outputs.reshape(here.shape)
    gap = np.abs(here - outputs)
    with float64():
        largest, allowed = float(gap.max()), _allowed(network, parameters, data, here)
    if largest <= allowed:
        return largest
    place = tuple(int(i) for i in np.unravel_index(int(gap.argmax()), gap.shape))
    cause = _explanation(network, parameters, data.inputs[:SAMPLES], outputs[:SAMPLES], allowed)
    raise WeightsError(
        f"this network does not give the data's own outputs: they differ by up to {largest:.3g}, rounding allows "
        f"{allowed:.1e}",
        name=f"output {list(place)}",
        value=f"{here[place]:.6g}",
        expected=f"{outputs[place]:.6g}",
        advice=cause or _unknown(network),
    )


def _unknown(network: Any) -> str:
    """Return what to look at where no slip is known to give the data's outputs."""
    if is_traceable(network):
        return (
            "No known activation, order of layers or transposition gives them; were they computed in reduced "
            "precision, or in training mode?"
        )
    return "Are these its weights, and were the outputs computed by it, in eval mode, for these inputs?"


def _allowed(network: Any, parameters: Parameters, data: Data, here: np.ndarray) -> float:
    """Return how far rounding alone may move an output: measured in the type that the outputs were computed in."""
    kind = _kind(np.asarray(data.outputs))
    rows = as_taken(network, data.inputs[:SAMPLES])
    there = _computed_in(kind, network, parameters, rows)
    moved = _perturbed(kind, network, parameters, rows) if there is None else there
    unit = float(jnp.finfo(kind).eps) * float(np.abs(here).max())
    return ROUNDINGS * max(float(np.abs(moved - here[:SAMPLES]).max()), unit)


def _computed_in(kind: Any, network: Any, parameters: Parameters, rows: np.ndarray) -> np.ndarray | None:
    """Return the outputs computed in a coarse type; None for a model that holds on to a finer one."""
    coarse = {name: jnp.asarray(value, kind) for name, value in parameters.items()}
    given = jnp.asarray(rows, kind if rows.dtype.kind == "f" else None)
    try:
        form = jax.eval_shape(network.apply, coarse, given)
    except Exception:  # own code that mixes the types of its constants and of its arguments
        return None
    return np.asarray(network.apply(coarse, given), np.float64) if form.dtype == kind else None


def _perturbed(kind: Any, network: Any, parameters: Parameters, rows: np.ndarray) -> np.ndarray:
    """Return the outputs after a relative change of every parameter and input by one rounding, up or down at random.

    What is computed in a type of this precision is exact for parameters and inputs changed about as much.
    """
    generator, unit = np.random.default_rng(0), float(jnp.finfo(kind).eps)
    change = {n: v * (1.0 + unit * generator.choice([-1.0, 1.0], np.shape(v))) for n, v in parameters.items()}
    if rows.dtype.kind == "f":
        rows = rows * (1.0 + unit * generator.choice([-1.0, 1.0], rows.shape))
    return network_outputs(network, change, rows)


def _kind(outputs: np.ndarray) -> Any:
    """Return the coarsest type that holds every output, at finest float32: what they were computed in."""
    values = outputs.astype(np.float32)
    if values.size > 8:  # a few round numbers fit into any type
        for kind in (jnp.bfloat16, jnp.float16):
            with np.errstate(over="ignore"):
                if np.array_equal(values.astype(kind).astype(np.float32), values):
                    return kind
    return jnp.float32


def _explanation(
    network: Any, parameters: Parameters, inputs: np.ndarray, outputs: np.ndarray, allowed: float
) -> str | None:
    """Return the slip that reproduces the data's outputs, in words."""
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


def _slips(network: Any, parameters: Parameters) -> Iterator[tuple[str, Any, Parameters]]:
    """Yield networks that a slip would make of the right one."""
    chain = network.chain if is_traceable(network) else ()
    here = {layer.activation.name for layer in chain if layer.activation is not None}
    change = getattr(network, "with_activation", None) if here else None
    for name in ACTIVATIONS if change else ():
        if change and {name} != here:
            yield f"With activation {name} it does", change(name), parameters
    turned = _turned(parameters)
    if turned is not None:
        yield "With its weights transposed it does: they are stored (in, out)", network, turned
    if len(chain) <= LAYERS:
        for order in itertools.permutations(range(len(chain))):
            if order != tuple(range(len(chain))):
                moved = _reordered(network, parameters, order)
                if moved is not None:
                    told = ", ".join(str(k + 1) for k in order)
                    yield f"With its layers in the order {told} it does", network, moved


def _turned(parameters: Parameters) -> Parameters | None:
    """Return the parameters with every square weight transposed; None where there is none."""
    turned = {n: v.T if v.ndim == 2 and v.shape[0] == v.shape[1] else v for n, v in parameters.items()}
    return turned if any(turned[name] is not value for name, value in parameters.items()) else None


def _reordered(network: Any, parameters: Parameters, order: tuple[int, ...]) -> Parameters | None:
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
        network: what is to be the user's network, with `layout` and `apply`.
        parameters: its parameters.
        data: inputs with targets, labels or both, as they were read.
        accuracy: the accuracy in training, where it is known.
        weight_decay: with one, a network may rightly be no better than one whose parameters are all zero.
        targets: whether the loss is of the data's targets, not of the network's own outputs.
    """
    outputs, found = network_outputs(adapted(network), to_numpy(parameters), data.inputs), []
    labels, classes = data.labels, outputs.shape[1] if outputs.ndim == 2 else 0
    if labels is not None and labels.min() >= 0 and labels.max() < classes > 1:
        here = float(np.mean(outputs.argmax(axis=1) == labels))
        common = float(np.bincount(labels).max() / len(labels))
        if accuracy is not None and here < accuracy - ACCURACY:
            found.append(f"accuracy {here:.4f} on these data, {accuracy:.4f} in training")
        elif here < common:
            found.append(f"accuracy {here:.4f}, below that of naming always the commonest label, {common:.4f}")
    if targets and data.targets is not None and data.targets.shape == outputs.shape:
        with np.errstate(over="ignore"):  # infinite is told as that
            loss = float(np.mean(np.square(outputs - data.targets)))
        best = np.zeros(outputs.shape[1:]) if weight_decay > 0 else data.targets.mean(axis=0)
        constant = float(np.mean(np.square(best - data.targets)))
        if loss > constant:
            found.append(f"squared error {loss:.4g}, above that of constant outputs, {constant:.4g}")
    return f"{'; '.join(found)}: are these the network, its activation and its data?" if found else None
