"""Take out of a network what its function does not need, layer by layer, until nothing more can be taken out exactly.

Source: [S21] section 3 (reducible networks); Farrugia-Roberts 2023 for odd activations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from saddlescope.arrays import Parameters, fingerprint, require_finite, to_numpy
from saddlescope.errors import NonFiniteError, SettingsError
from saddlescope.models.chain import Traceable, is_traceable
from saddlescope.models.contract import adapted
from saddlescope.models.sizes import layer_sizes, require_resizable, require_traceable, unit_counts, with_units
from saddlescope.precision import float64, in_float64
from saddlescope.problem.problem import Problem
from saddlescope.resize.expand import measuring_inputs, outputs_of
from saddlescope.resize.keep import Yardstick, kept
from saddlescope.resize.one_layer import apply_rules, check_tolerance, steps_of, units_of, written
from saddlescope.resize.reduce_model import reduce_model
from saddlescope.resize.reduction_rules import LayerFacts, Units, canonical, relative_gaps, relative_lengths
from saddlescope.resize.result import Reduction, Refusal, Removal
from saddlescope.units.actions import remove

# A distance or a loss beyond the tolerance, but within so many times it, leaves the answer open.
BAND = 10.0

# Shares of the tolerance that the outputs may lose while units are taken out. The next one is tried when rounding in
# the small network's own sums carries it beyond the tolerance; -1 takes nothing out.
SHARES = (1.0, 0.1, 0.0, -1.0)

# Units of rounding by which an activation's values may be off (XLA's own are off by a few).
ACTIVATION_ULPS = 8.0

# So many neurons are named in a line.
NAMED = 8


@in_float64
def reduce(
    network: Any,
    parameters: Parameters,
    inputs: np.ndarray | None = None,
    *,
    tolerance: float = 1e-9,
    drop_dead: bool = False,
) -> Reduction:
    """Return the network without the neurons that its outputs do not need: f_small = f on the data, to the tolerance.

    Found are neurons that send out nothing, constants, copies, zero-type groups; for odd activations, sigmoid and
    activations that are even up to a linear part (softplus, gelu, silu, ReLU) sign twins; for ReLU and leaky ReLU
    positive multiples; for exp with biases copies up to the bias; rectified neurons that no input can activate; for the
    identity linear combinations. What is equal or zero only up to the tolerance goes if every output, all removals
    together, changes by at most ``tolerance`` times its largest value on the inputs; else the neuron stays and is named
    (``refused``, ``left``). Exact removals keep the function everywhere. **Not looked for**: phases of sine, and
    dependencies that only the range of the layers before brings about. Sign twins whose linear part or constant has no
    place to go stay, and ``left`` says so; to make linear parts cancel, neurons may be written with opposite sign.

    Args:
        network: a `MLP` (or another chain of dense layers), or a `Problem` of one.
        parameters: its parameters.
        inputs: where the outputs are measured; by default the problem's, or 256 standard-normal ones.
        tolerance: the most that an output may change, relative to its largest value on the inputs; and the relative
            distance up to which vectors are tried as equal, or as zero.
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
    check_tolerance(tolerance)
    if drop_dead and inputs is None and not isinstance(network, Problem):
        raise SettingsError("which neurons are dead depends on the inputs", name="inputs", value=None, expected="data")
    model = adapted(network.network if isinstance(network, Problem) else network)
    if not is_traceable(model):
        if drop_dead:
            require_traceable(model, "reduce with drop_dead")
        require_resizable(model, "reduce")
        return reduce_model(model, parameters, measuring_inputs(network, inputs, 0), tolerance=tolerance)
    inputs = measuring_inputs(network, inputs, 0)
    network = network.network if isinstance(network, Problem) else network
    network.check(parameters)
    require_finite(parameters, "the network")
    given = to_numpy(parameters)
    wanted = outputs_of(network, given, inputs)
    yardstick = Yardstick.of(wanted, _rounding(network, given, inputs))
    found, now, here, outputs = _within(_Task(network, inputs, yardstick, tolerance, drop_dead), given)
    near = any(value <= BAND * tolerance for value in found.nearest.values())
    return Reduction(
        network=now,
        parameters=here,
        widths=layer_sizes(now),
        removed=found.removed,
        kept=found.kept,
        left=tuple(
            text
            for layer, units in sorted(found.units.items())
            for text in (*units.left, *_idle(now, here, layer), *_named(units.refused))
        ),
        nearest=found.nearest,
        refused=tuple(refusal for _, units in sorted(found.units.items()) for refusal in units.refused),
        undecided=near or any(r.loss <= BAND * tolerance for units in found.units.values() for r in units.refused),
        output_loss=yardstick.loss(outputs),
        max_output_deviation=float(np.abs(outputs - wanted).max()),
        output_scale=float(np.abs(wanted).max()),
        tolerance=tolerance,
        fingerprints={"parameters": fingerprint(given), "inputs": fingerprint({"inputs": inputs})},
    )


@dataclass(frozen=True, eq=False)
class _Task:
    """What a reduction is given: network, data, the outputs to keep, and how much of them may go."""

    network: Any
    inputs: np.ndarray
    yardstick: Yardstick
    tolerance: float
    drop_dead: bool
    allowed: float = -1.0

    def loss(self, parameters: dict[str, np.ndarray]) -> float:
        """Return what the outputs lose with these parameters, infinity if one is not finite."""
        try:
            return self.yardstick.loss(outputs_of(self.network, parameters, self.inputs))
        except NonFiniteError:
            return float("inf")


@dataclass(frozen=True, eq=False)
class _Found:
    """Parameters of the given shapes, zero where units are gone, and the layers' last states."""

    parameters: dict[str, np.ndarray]
    kept: dict[int, tuple[int, ...]]
    units: dict[int, Units]
    nearest: dict[int, float]
    removed: tuple[Removal, ...]


def _within(task: _Task, given: dict[str, np.ndarray]) -> tuple[_Found, Any, dict[str, np.ndarray], np.ndarray]:
    """Return what stays, the small network and its outputs, within the tolerance as the small network sums them up."""
    for share in SHARES[:-1]:
        found = _all_layers(replace(task, allowed=share * task.tolerance), given)
        now, here = _cut(task.network, found)
        outputs = outputs_of(now, here, task.inputs)
        if task.yardstick.loss(outputs) <= task.tolerance:
            return found, now, here, outputs
    found = _all_layers(replace(task, allowed=SHARES[-1]), given)
    return found, task.network, given, task.yardstick.wanted


def _all_layers(task: _Task, parameters: dict[str, np.ndarray]) -> _Found:
    """Return the network after all rules on all layers, from the last to the first, until nothing goes any more."""
    network = task.network
    kept_ = {layer: tuple(range(count)) for layer, count in unit_counts(network).items()}
    layers = sorted(kept_, reverse=True)
    removed: list[Removal] = []
    while True:
        states: dict[int, Units] = {}
        nearest: dict[int, float] = {}
        before = dict(kept_)
        for layer in layers:
            units = _reduced_layer(task, parameters, layer, kept_[layer])
            parameters = written(parameters, network.neurons(layer), units, next_bias=network.chain[layer].bias)
            nearest[layer] = _nearest_reduction(units, _facts(network, layer), task.tolerance)
            kept_[layer], states[layer] = units.numbers, units
            removed += units.removed
        if kept_ == before:
            return _Found(parameters, kept_, states, {k: nearest[k] for k in sorted(nearest)}, tuple(removed))


def _reduced_layer(task: _Task, parameters: dict[str, np.ndarray], layer: int, numbers: tuple[int, ...]) -> Units:
    """Return the layer after all rules, as far as the outputs stay."""
    neurons, facts = task.network.neurons(layer), _facts(task.network, layer)

    def placed(units: Units) -> dict[str, np.ndarray]:
        return written(parameters, neurons, units, next_bias=task.network.chain[layer].bias)

    def loss(units: Units) -> float:
        return task.loss(placed(units))

    def dead(units: Units, facts: LayerFacts, tolerance: float) -> Units:
        del facts, tolerance
        return _drop_dead(task, placed(units), units)

    steps = steps_of(task.tolerance, task.yardstick, loss)
    units = apply_rules(units_of(parameters, neurons, layer, numbers), facts, steps, task.allowed)
    if task.drop_dead and facts.rectifier and len(units.numbers) > 1:
        units = kept(dead, replace(units, barred=frozenset()), facts, task.tolerance, loss, task.allowed)
    return units


def _cut(network: Any, found: _Found) -> tuple[Any, dict[str, np.ndarray]]:
    """Return the network of just the units that stayed."""
    parameters: Any = found.parameters
    for layer, numbers in found.kept.items():
        neurons = network.neurons(layer)
        for number in reversed(range(neurons.count_in(network.layout))):
            if number not in numbers:
                parameters = remove(parameters, neurons, number)
    counts = {layer: len(numbers) for layer, numbers in found.kept.items()}
    return with_units(network, counts), to_numpy(parameters)


def _rounding(network: Traceable, parameters: dict[str, np.ndarray], inputs: np.ndarray) -> np.ndarray:
    """Return, by output, a bound of the rounding error of the outputs on the data, carried from layer to layer."""
    unit = 0.5 * np.finfo(float).eps
    error = np.zeros_like(inputs, dtype=np.float64)
    with float64(), np.errstate(over="ignore", invalid="ignore"):
        for layer, rows, z, after in network.trace(parameters, np.asarray(inputs, dtype=np.float64)):
            size, here, value = np.abs(layer.matrix(parameters)), np.asarray(z), np.asarray(after)
            terms = layer.padded(np.abs(np.asarray(rows))) @ size.T
            error = error @ size[:, : layer.inputs].T + (layer.inputs + 1) * unit * terms
            if layer.activation is not None:
                function = layer.activation.function
                ends = [np.asarray(function(jnp.asarray(here + sign * error))) for sign in (1.0, -1.0)]
                moved = np.maximum(*(np.abs(end - value) for end in ends))
                error = moved + ACTIVATION_ULPS * unit * np.abs(value)
    return np.nan_to_num(error, nan=np.inf, posinf=np.inf).max(axis=0)


def _nearest_reduction(units: Units, facts: LayerFacts, tolerance: float) -> float:
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


def _facts(network: Traceable, layer: int) -> LayerFacts:
    """Return what the rules may use of a dense layer."""
    own, entry = network.chain[layer - 1], network.chain[layer - 1].activation
    assert entry is not None

    def values(z: np.ndarray) -> np.ndarray:
        with float64():
            return np.asarray(entry.function(jnp.asarray(z, jnp.float64)))

    facts = LayerFacts(
        function=values,
        parity=entry.parity,
        homogeneous=entry.homogeneous,
        exponential=entry.name == "exp",
        weights=own.inputs,
        next_bias=network.chain[layer].bias is not None,
    )
    return replace(facts, nonnegative=layer > 1 and _facts(network, layer - 1).rectifier)


def _drop_dead(task: _Task, parameters: dict[str, np.ndarray], units: Units) -> Units:
    """Take out rectified neurons whose preactivation is positive for none of the inputs."""
    with float64():
        rows = np.asarray(task.network.trace(parameters, task.inputs)[units.layer - 1].preactivations)
    idle = (rows[:, list(units.numbers)] <= 0.0).all(axis=0) & units.allowed
    gone = {
        int(j): units.removal(int(j), "dead on the given inputs", data_dependent=True) for j in np.flatnonzero(idle)
    }
    return units.without(gone)


def _named(refused: Sequence[Refusal]) -> tuple[str, ...]:
    """Say which neurons stay although a rule would take them out, and what the outputs would lose."""
    lines = []
    for why in dict.fromkeys(refusal.why for refusal in refused):
        mine = sorted({r.neuron: r for r in refused if r.why == why}.values(), key=lambda r: r.neuron)
        names = ", ".join(str(r.neuron) for r in mine[:NAMED])
        more = f" and {len(mine) - NAMED} more" if len(mine) > NAMED else ""
        low, high = min(r.loss for r in mine), max(r.loss for r in mine)
        span = f"{high:.1e}" if low == high else f"{low:.1e} to {high:.1e}"
        word = "neuron" if len(mine) == 1 else "neurons"
        lines.append(
            f"layer {mine[0].layer}: {word} {names}{more} stay{'s' if len(mine) == 1 else ''}: taken out as "
            f"'{why}', an output may change by {span} of its size"
        )
    return tuple(lines)


def _idle(network: Any, parameters: dict[str, np.ndarray], layer: int) -> tuple[str, ...]:
    """Say so when a layer's last neuron sends out nothing: a layer of width 0 does not exist."""
    if unit_counts(network)[layer] > 1 or network.neurons(layer).outgoing_vectors(parameters).any():
        return ()
    return (f"layer {layer}: its last neuron sends out nothing, and a layer needs one",)
