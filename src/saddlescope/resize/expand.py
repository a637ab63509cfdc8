"""Grow hidden layers at equal function: copies whose outgoing shares sum to 1, and zero-type neurons.

The layer's units are two matrices, incoming and outgoing vectors, read and written through `Neurons`; nothing here asks
what kind of layer they are in. Source: [S21] sections 3 and 4.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from saddlescope.arrays import Layout, Parameters, fingerprint, require_finite, to_numpy
from saddlescope.data.data import teacher_data
from saddlescope.errors import NeuronsError, SettingsError, ShapeError
from saddlescope.models.chain import is_traceable
from saddlescope.models.contract import adapted, unwrapped
from saddlescope.models.sizes import layer_sizes, require_resizable, require_resizable_layer, with_units
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem
from saddlescope.resize.result import Expansion, Origin
from saddlescope.units.actions import split
from saddlescope.units.neurons import Neurons

Shares = str | Mapping[tuple[int, int], Sequence[float]]

# Random inputs on which the deviation is measured when none are given.
SAMPLES = 256


@dataclass(frozen=True, eq=False)
class ZeroGroup:
    """A zero-type group: ``size`` neurons with one incoming vector, whose outgoing vectors sum to zero.

    ``incoming`` and ``outgoing`` (size, n_out) are drawn at random, at the layer's own scale, when not given.
    """

    size: int
    incoming: np.ndarray | None = None
    outgoing: np.ndarray | None = None


def assemble(
    parameters: Parameters,
    neurons: Neurons,
    incoming: Float[np.ndarray, "units entries"],
    outgoing: Float[np.ndarray, "units outputs"],
) -> dict[str, np.ndarray]:
    """Return the parameters with the layer's units replaced by at least as many, with the given vectors.

    Raises:
        NeuronsError: fewer units than before, or units in a fused array.
    """
    own = to_numpy(parameters)
    count = neurons.count(own)
    if len(incoming) < count:
        raise NeuronsError(
            "an expansion takes no neuron away", name="units", value=len(incoming), expected=f">= {count}"
        )
    wide = split(own, neurons, 0, (1.0, *(0.0,) * (len(incoming) - count)))
    layout = Layout.of(wide)
    flat = np.concatenate([np.ravel(value) for value in wide.values()])
    flat[neurons.incoming_positions(layout)] = incoming
    flat[neurons.outgoing_positions(layout)] = outgoing
    return to_numpy(layout.unflatten_numpy(flat))


def zero_sum(
    generator: np.random.Generator, size: int, scale: float, outputs: int
) -> Float[np.ndarray, "size outputs"]:
    """Return normal vectors of the given scale that sum to zero; a single one is zero."""
    draw = scale * generator.normal(size=(size, outputs))
    return draw - draw.mean(axis=0)


def root_mean_square(entries: Float[np.ndarray, "units entries"]) -> float:
    """Return the root of the mean square of all entries; 1 when all are zero."""
    return float(np.sqrt(np.mean(np.square(entries)))) or 1.0


def expand_layer(
    parameters: Parameters,
    neurons: Neurons,
    *,
    copies: Sequence[int],
    zero_type: Sequence[int | ZeroGroup] = (),
    shares: Mapping[int, Sequence[float]] | None = None,
    layer: int = 1,
    generator: np.random.Generator | None = None,
) -> tuple[dict[str, np.ndarray], tuple[Origin, ...]]:
    """Grow one layer of any model: unit i stands ``copies[i]`` times, and zero-type groups are added.

    The old units keep their places; further copies follow, unit after unit, then the groups. A model whose incoming
    entries are confined, such as a batch norm's variance, needs ``ZeroGroup.incoming`` given.

    Args:
        parameters: the small model's.
        neurons: the layer's units.
        copies: for each unit how often it is to stand, 1 or more.
        zero_type: for each group its size, or a `ZeroGroup`.
        shares: for a unit the outgoing shares of its copies, which sum to 1; by default equal.
        layer: the number that the records should say.
        generator: random numbers for what is drawn; seed 0 by default.

    Returns:
        The wide parameters and the origin of each unit, in order.

    Raises:
        NeuronsError: not one number per unit, or units in a fused array.
        SettingsError: a number below 1, or shares that do not sum to 1.
        ShapeError: vectors of a group that do not fit.

    Source: [S21] sections 3 and 4.
    """
    generator = np.random.default_rng(0) if generator is None else generator
    incoming, outgoing = neurons.incoming_vectors(parameters), neurons.outgoing_vectors(parameters)
    incoming, outgoing = incoming.astype(np.float64), outgoing.astype(np.float64)
    count = len(incoming)
    if len(copies) != count:
        raise NeuronsError("not one number of copies a neuron", name="copies", value=tuple(copies), expected=f"{count}")
    chosen = [_shares_of(i, copies[i], (shares or {}).get(i)) for i in range(count)]
    sources = [*range(count), *(i for i in range(count) for _ in range(copies[i] - 1))]
    factors = [chosen[i][0] for i in range(count)] + [share for i in range(count) for share in chosen[i][1:]]
    origins = [
        Origin(layer=layer, neuron=place, kind="kept" if place < count else "copy", source=source, share=share)
        for place, (source, share) in enumerate(zip(sources, factors, strict=True))
    ]
    rows_in, rows_out = [incoming[sources]], [outgoing[sources] * np.asarray(factors)[:, None]]
    for number, group in enumerate(zero_type):
        into, out = _zero_vectors(group, incoming, outgoing, generator)
        first = len(origins)
        origins += [Origin(layer=layer, neuron=first + j, kind="zero-type", group=number) for j in range(len(into))]
        rows_in.append(into)
        rows_out.append(out)
    return assemble(parameters, neurons, np.concatenate(rows_in), np.concatenate(rows_out)), tuple(origins)


@in_float64
def expand(
    network: Any,
    parameters: Parameters,
    *,
    widths: Mapping[int, int] | None = None,
    copies: Mapping[tuple[int, int], int] | None = None,
    zero_type: Mapping[int, Sequence[int | ZeroGroup]] | None = None,
    shares: Shares = "equal",
    inputs: np.ndarray | None = None,
    seed: int = 0,
) -> Expansion:
    """Return a wider network with the same function: f_wide = f_small, by copies and zero-type neurons.

    With copies only, a critical point stays critical, for any shares (a symmetry-induced critical point), **as long as
    the loss has no penalty on the parameters**; with zero-type neurons only the function stays.

    Args:
        network: a `MLP`, a model of `from_torch`, `from_function`, ..., or a `Problem` of one. Of a PyTorch
            module the result goes into a module built with the new shapes, by `to_torch`.
        parameters: the small network's.
        widths: by hidden layer, from 1: the width to reach. Neurons that neither ``copies`` nor ``zero_type`` account
            for are copies of neurons drawn at random among those that ``copies`` does not name.
        copies: by (layer, neuron): how often the neuron is to stand, 1 or more.
        zero_type: by layer: the size of each zero-type group, or a `ZeroGroup`.
        shares: "equal", "random" (normal around equal, of either sign, sum 1), or by (layer, neuron) the outgoing
            shares of its copies, sum 1, equal for neurons not named.
        inputs: where the deviation is measured; by default the problem's, or 256 standard-normal ones.
        seed: of everything drawn.

    Returns:
        The wide network and parameters, the origin of each neuron in layers that were named, and the deviation.

    Raises:
        NeuronsError: no such layer or neuron.
        SettingsError: a width below what is asked for or below the layer's own, a width that named copies do not leave
            room to reach, a number of copies below 1, or shares that do not sum to 1.
        ShapeError: parameters, inputs or vectors that do not fit.
        NonFiniteError: a parameter or an output that is not finite.

    Source: [S21] sections 3 and 4, [FA00].
    """
    model = adapted(network.network if isinstance(network, Problem) else network)
    require_resizable(model, "expand")
    inputs = measuring_inputs(network, inputs, seed)
    network = model
    network.check(parameters)
    require_finite(parameters, "the network")
    small = wide = to_numpy(parameters)
    wanted = outputs_of(network, small, inputs)
    widths, copies, zero_type = dict(widths or {}), dict(copies or {}), dict(zero_type or {})
    named = shares if not isinstance(shares, str) else {}
    for layer in (*widths, *zero_type, *(layer for layer, _ in (*copies, *named))):
        require_resizable_layer(network, layer)
    if isinstance(shares, str) and shares not in ("equal", "random"):
        raise SettingsError("unknown shares", name="shares", value=shares, expected="equal, random, or by neuron")
    for layer, neuron in (*copies, *named):
        count = network.neurons(layer).count(small)
        if not 0 <= neuron < count:
            raise NeuronsError(
                "no such neuron in this layer", name="neuron", value=neuron, expected=f"0 to {count - 1}"
            )
    generator = np.random.default_rng(seed)
    origins: list[Origin] = []
    grown: dict[int, int] = {}
    for layer in sorted({*widths, *zero_type, *(layer for layer, _ in copies), *(layer for layer, _ in named)}):
        neurons = network.neurons(layer)
        groups = tuple(zero_type.get(layer, ()))
        asked = {neuron: number for (where, neuron), number in copies.items() if where == layer}
        given = {neuron: tuple(values) for (where, neuron), values in named.items() if where == layer}
        asked = {**{neuron: len(values) for neuron, values in given.items()}, **asked}
        times = _times(neurons.count(small), layer, widths.get(layer), asked, groups, generator)
        if shares == "random":
            given = {i: _random_shares(number, generator) for i, number in enumerate(times)}
        wide, new = expand_layer(
            wide, neurons, copies=times, zero_type=groups, shares=given, layer=layer, generator=generator
        )
        origins += new
        grown[layer] = len(new)
    wider = with_units(network, grown)
    return Expansion(
        network=unwrapped(wider),
        parameters=wide,
        widths=layer_sizes(wider),
        origins=tuple(origins),
        max_output_deviation=float(np.abs(outputs_of(wider, wide, inputs) - wanted).max()),
        output_scale=float(np.abs(wanted).max()),
        seed=seed,
        fingerprints={"parameters": fingerprint(small), "inputs": fingerprint({"inputs": inputs})},
    )


def outputs_of(network: Any, parameters: Parameters, inputs: np.ndarray) -> np.ndarray:
    """Return the network's outputs, (samples, outputs).

    Raises:
        ShapeError: inputs or parameters that do not fit.
        NonFiniteError: an output is not finite.
    """
    return np.asarray(teacher_data(network, parameters, inputs).targets)


def measuring_inputs(network: Any, inputs: np.ndarray | None, seed: int) -> np.ndarray:
    """Return the inputs on which deviations are measured: the given ones, the problem's, or standard-normal ones.

    Raises:
        SettingsError: a negative seed.
    """
    if seed < 0:
        raise SettingsError("not a seed", name="seed", value=seed, expected="0 or more")
    if inputs is not None:
        return np.asarray(inputs)
    if isinstance(network, Problem):
        return network.unpadded_inputs()
    return drawn_inputs(network, seed)


def drawn_inputs(network: Any, seed: int) -> np.ndarray:
    """Return standard-normal inputs for a model that takes rows of real numbers.

    Raises:
        SettingsError: a model that takes whole numbers, or does not say what it takes.
    """
    kinds = getattr(network, "inputs", None)
    if is_traceable(network):
        size = network.chain[0].inputs
    elif kinds and all(one.kind == "f" for one in kinds):
        size = sum(one.size for one in kinds)
    else:
        raise SettingsError("inputs are needed, on which the outputs are compared", name="inputs", value=None)
    return np.random.default_rng([seed, 1]).normal(size=(SAMPLES, size))


def _shares_of(unit: int, number: int, given: Sequence[float] | None) -> tuple[float, ...]:
    """Return the outgoing shares of a unit's copies, checked."""
    if not isinstance(number, int | np.integer) or number < 1:
        raise SettingsError(
            f"neuron {unit} cannot stand so often", name="copies", value=number, expected="an integer, 1 or more"
        )
    shares = (1.0 / number,) * number if given is None else tuple(float(share) for share in given)
    if len(shares) != number:
        raise SettingsError(
            f"neuron {unit} needs one share a copy", name="shares", value=shares, expected=f"{number} numbers"
        )
    total = math.fsum(shares)
    if not abs(total - 1.0) <= 1e-12 * max(1.0, *(abs(share) for share in shares)):
        raise SettingsError("the shares must sum to 1", name="shares", value=shares, expected=f"sum 1, not {total}")
    return shares


def _random_shares(number: int, generator: np.random.Generator) -> tuple[float, ...]:
    """Return normal shares around 1/number that sum to 1."""
    return tuple(float(share) for share in 1.0 / number + zero_sum(generator, number, 1.0, 1)[:, 0])


def _zero_vectors(
    group: int | ZeroGroup, incoming: np.ndarray, outgoing: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the incoming and outgoing vectors of a zero-type group, drawn where they are not given."""
    group = group if isinstance(group, ZeroGroup) else ZeroGroup(group)
    if not isinstance(group.size, int | np.integer) or group.size < 1:
        raise SettingsError("a zero-type group needs neurons", name="size", value=group.size, expected="1 or more")
    into, out = group.incoming, group.outgoing
    if into is None:
        into = root_mean_square(incoming) * generator.normal(size=incoming.shape[1])
    if out is None:
        out = zero_sum(generator, group.size, root_mean_square(outgoing), outgoing.shape[1])
    into, out = np.asarray(into, dtype=np.float64), np.asarray(out, dtype=np.float64)
    wanted = ((incoming.shape[1],), (group.size, outgoing.shape[1]))
    if (into.shape, out.shape) != wanted:
        raise ShapeError(
            "the vectors of a zero-type group do not fit",
            name="shapes",
            value=(into.shape, out.shape),
            expected=str(wanted),
        )
    if not np.abs(out.sum(axis=0)).max() <= 1e-12 * max(1.0, float(np.abs(out).max())):
        raise SettingsError(
            "the outgoing weights of a zero-type group must sum to zero",
            name="sum",
            value=out.sum(axis=0).tolist(),
            expected="0",
        )
    return np.tile(into, (group.size, 1)), out


def _times(
    count: int,
    layer: int,
    width: int | None,
    asked: Mapping[int, int],
    groups: Sequence[int | ZeroGroup],
    generator: np.random.Generator,
) -> list[int]:
    """Return how often each neuron is to stand, so that the layer has the width."""
    times = [int(asked.get(i, 1)) for i in range(count)]
    zeros = sum(group.size if isinstance(group, ZeroGroup) else group for group in groups)
    if width is None:
        return times
    missing = width - sum(times) - zeros
    free = [i for i in range(count) if i not in asked]
    if missing < 0 or (missing > 0 and not free):
        expected = f"at least {sum(times) + zeros}" if missing < 0 else f"{sum(times) + zeros}: every neuron is named"
        raise SettingsError(
            f"layer {layer} of {count} neurons cannot have this width", name="width", value=width, expected=expected
        )
    for i in generator.choice(free, size=missing) if missing else ():
        times[int(i)] += 1
    return times
