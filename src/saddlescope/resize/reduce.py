"""Take out of a network what its function does not need, layer by layer, until nothing more can be taken out exactly.

Source: [S21] section 3 (reducible networks); Farrugia-Roberts 2023 for odd activations.
"""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from saddlescope.arrays import Layout, Parameters, fingerprint, require_finite, to_numpy
from saddlescope.errors import SettingsError
from saddlescope.precision import float64, in_float64
from saddlescope.problem.activations import activation as find_activation
from saddlescope.problem.networks import Perceptron
from saddlescope.problem.problem import Problem
from saddlescope.resize.absorb import (
    Facts,
    Units,
    canonical,
    drop_constant,
    drop_silent,
    merge_combinations,
    merge_copies,
    merge_twins,
    relative_gaps,
    relative_lengths,
)
from saddlescope.resize.expand import measuring_inputs, outputs_of
from saddlescope.resize.result import Reduction, Removal
from saddlescope.symmetry.actions import remove
from saddlescope.symmetry.neurons import Neurons

# A distance beyond the tolerance, but within so many times it, leaves the answer open.
BAND = 10.0


@in_float64
def reduce(
    network: Any,
    parameters: Parameters,
    inputs: np.ndarray | None = None,
    *,
    tolerance: float = 1e-9,
    drop_dead: bool = False,
) -> Reduction:
    """Return the network without the neurons that its function does not need: f_small = f, exact where they are.

    Found are neurons that send out nothing, constants, copies, zero-type groups; for odd activations, sigmoid and
    activations that are even up to a linear part (softplus, gelu, silu, ReLU) sign twins; for ReLU and leaky ReLU
    positive multiples; for exp with biases copies up to the bias; rectified neurons that no input can activate; for the
    identity linear combinations. **Not looked for**: phases of sine, and dependencies that only the range of the layers
    before brings about. Sign twins whose linear part or constant has no place to go stay, and ``left`` says so; to make
    linear parts cancel, neurons may be written with opposite sign.

    Args:
        network: a `Perceptron`, or a `Problem` of one.
        parameters: its parameters.
        inputs: where the deviation is measured; by default the problem's, or 256 standard-normal ones.
        tolerance: relative distance up to which vectors count as equal, or as zero. Beyond rounding the function
            changes, by what ``max_output_deviation`` says.
        drop_dead: also take out ReLU neurons that are inactive on all given inputs. **This keeps the function on these
            inputs only**; such removals are marked ``data_dependent``.

    Returns:
        The small network, its parameters, and a record of each removal.

    Raises:
        SettingsError: a tolerance outside 0 to 1 (exclusive), or ``drop_dead`` without inputs.
        ShapeError: parameters or inputs that do not fit.
        NonFiniteError: a parameter or an output that is not finite.

    Source: [S21] section 3; Farrugia-Roberts 2023.
    """
    _check_tolerance(tolerance)
    if drop_dead and inputs is None and not isinstance(network, Problem):
        raise SettingsError("which neurons are dead depends on the inputs", name="inputs", value=None, expected="data")
    inputs = measuring_inputs(network, inputs, 0)
    network = network.network if isinstance(network, Problem) else network
    network.check(parameters)
    require_finite(parameters, "the network")
    given, here, now = to_numpy(parameters), to_numpy(parameters), network
    wanted = outputs_of(network, given, inputs)
    layers = range(network.depth - 1, 0, -1)
    kept = {layer: tuple(range(network.widths[layer])) for layer in sorted(layers)}
    removed: list[Removal] = []
    while True:
        left: dict[int, tuple[str, ...]] = {}
        nearest: dict[int, float] = {}
        before = now.widths
        for layer in layers:
            here, units = _reduce_perceptron_layer(now, here, layer, kept[layer], tolerance)
            if drop_dead:
                here, units = _drop_dead(now, here, units, inputs)
            now = replace(now, widths=(*now.widths[:layer], len(units.numbers), *now.widths[layer + 1 :]))
            kept[layer], left[layer] = units.numbers, units.left
            nearest[layer] = _nearest_reduction(units, _facts(now, layer), tolerance)
            removed += units.removed
        if now.widths == before:
            break
    return Reduction(
        network=now,
        parameters=here,
        widths=now.widths,
        removed=tuple(removed),
        kept=kept,
        left=tuple(text for layer in sorted(left) for text in (*left[layer], *_idle(now, here, layer))),
        nearest={layer: nearest[layer] for layer in sorted(nearest)},
        undecided=any(value <= BAND * tolerance for value in nearest.values()),
        max_output_deviation=float(np.abs(outputs_of(now, here, inputs) - wanted).max()),
        output_scale=float(np.abs(wanted).max()),
        tolerance=tolerance,
        fingerprints={"parameters": fingerprint(given), "inputs": fingerprint({"inputs": inputs})},
    )


def reduce_layer(
    parameters: Parameters,
    neurons: Neurons,
    *,
    layer: int = 1,
    tolerance: float = 1e-9,
) -> tuple[dict[str, np.ndarray], tuple[Removal, ...]]:
    """Take copies, zero-type groups and units that send out nothing out of one layer of any model.

    Nothing is asked of what the units compute, so that no symmetry of an activation is used.

    Args:
        parameters: the model's.
        neurons: the layer's units.
        layer: the number that the records should say.
        tolerance: relative distance up to which vectors count as equal, or as zero.

    Raises:
        NeuronsError: units in a fused array are to be taken out.
        SettingsError: a tolerance outside 0 to 1 (exclusive).
    """
    _check_tolerance(tolerance)
    own = to_numpy(parameters)
    units = _apply_rules(_units(own, neurons, layer, tuple(range(neurons.count(own)))), Facts(), tolerance)
    return _written(own, neurons, tuple(range(neurons.count(own))), units), units.removed


def _check_tolerance(tolerance: float) -> None:
    if not 0.0 < tolerance < 1.0:
        raise SettingsError("not a tolerance", name="tolerance", value=tolerance, expected="between 0 and 1")


def _apply_rules(units: Units, facts: Facts, tolerance: float) -> Units:
    """Return the layer after all rules, again and again until none takes anything out."""
    while True:
        before = len(units.numbers)
        units = replace(units, left=())
        for rule in (drop_silent, drop_constant, _drop_never_active, merge_copies, merge_twins, merge_combinations):
            if len(units.numbers) > 1:
                units = rule(units, facts, tolerance)
        if len(units.numbers) == before:
            return units


def _drop_never_active(units: Units, facts: Facts, tolerance: float) -> Units:
    """Take out rectified units that can never be active: no positive weight or bias, and inputs that are >= 0."""
    del tolerance
    if not (facts.rectifier and facts.nonnegative and facts.weights is not None):
        return units
    dead = np.flatnonzero((units.incoming <= 0.0).all(axis=1))
    return units.without({int(j): units.removal(int(j), "dead for every input") for j in dead})


def _nearest_reduction(units: Units, facts: Facts, tolerance: float) -> float:
    """Return the smallest relative distance beyond the tolerance at which a rule would have taken a unit out."""
    vectors, _ = canonical(units, facts)
    pairs = np.triu_indices(len(vectors), 1)
    close = [relative_lengths(units.outgoing), relative_gaps(vectors, vectors)[pairs]]
    if facts.parity != "none":
        close.append(relative_gaps(vectors, -vectors)[pairs])
    if facts.weights is not None:
        close.append(relative_lengths(units.incoming[:, : facts.weights]))
    values = np.concatenate(close)
    return float(values[values > tolerance].min(initial=np.inf)) if len(units.numbers) > 1 else float("inf")


def _reduce_perceptron_layer(
    network: Perceptron, parameters: dict[str, np.ndarray], layer: int, numbers: tuple[int, ...], tolerance: float
) -> tuple[dict[str, np.ndarray], Units]:
    """Return the parameters after all rules on one layer, and the layer's state."""
    neurons = network.neurons(layer)
    units = _apply_rules(_units(parameters, neurons, layer, numbers), _facts(network, layer), tolerance)
    return _written(parameters, neurons, numbers, units, next_bias=f"{2 * layer}.bias"), units


def _facts(network: Perceptron, layer: int) -> Facts:
    """Return what the rules may use of a dense layer."""
    entry = find_activation(network.activation)

    def values(z: np.ndarray) -> np.ndarray:
        with float64():
            return np.asarray(entry.function(jnp.asarray(z, jnp.float64)))

    facts = Facts(
        function=values,
        parity=entry.parity,
        homogeneous=entry.homogeneous,
        exponential=entry.name == "exp",
        weights=network.widths[layer - 1],
        next_bias=network.bias,
    )
    return replace(facts, nonnegative=layer > 1 and facts.rectifier)


def _units(parameters: dict[str, np.ndarray], neurons: Neurons, layer: int, numbers: tuple[int, ...]) -> Units:
    incoming, outgoing = neurons.incoming_vectors(parameters), neurons.outgoing_vectors(parameters)
    return Units(layer, incoming, outgoing, numbers, np.zeros(outgoing.shape[1]))


def _written(
    parameters: dict[str, np.ndarray],
    neurons: Neurons,
    numbers: tuple[int, ...],
    units: Units,
    *,
    next_bias: str | None = None,
) -> dict[str, np.ndarray]:
    """Return the parameters with the layer's units as the state says."""
    for place in reversed(range(len(numbers))):
        if numbers[place] not in units.numbers:
            parameters = remove(parameters, neurons, place)
    layout = Layout.of(parameters)
    flat = np.concatenate([np.ravel(value) for value in parameters.values()])
    flat[neurons.incoming_positions(layout)] = units.incoming
    flat[neurons.outgoing_positions(layout)] = units.outgoing
    result = layout.unflatten_numpy(flat)
    if next_bias is not None and units.constant.any():
        result[next_bias] = result[next_bias] + units.constant
    return to_numpy(result)


def _drop_dead(
    network: Perceptron, parameters: dict[str, np.ndarray], units: Units, inputs: np.ndarray
) -> tuple[dict[str, np.ndarray], Units]:
    """Take out rectified neurons whose preactivation is positive for none of the inputs."""
    layer = units.layer
    if not _facts(network, layer).rectifier:
        return parameters, units
    below = replace(network, widths=(*network.widths[:layer], len(units.numbers)))
    rows = outputs_of(below, {name: parameters[name] for name in below.layout.names}, inputs)
    dead = [int(j) for j in np.flatnonzero((rows <= 0.0).all(axis=0))]
    if not dead or len(units.numbers) == 1:
        return parameters, units
    fewer = units.without({j: units.removal(j, "dead on the given inputs", data_dependent=True) for j in dead})
    return _written(parameters, network.neurons(layer), units.numbers, fewer), fewer


def _idle(network: Perceptron, parameters: dict[str, np.ndarray], layer: int) -> tuple[str, ...]:
    """Say so when a layer's last neuron sends out nothing: a layer of width 0 does not exist."""
    if network.widths[layer] > 1 or network.neurons(layer).outgoing_vectors(parameters).any():
        return ()
    return (f"layer {layer}: its last neuron sends out nothing, and a layer needs one",)
