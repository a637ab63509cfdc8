"""The public verb `expand`: wider at equal function, or unit by unit along lines that lower the loss."""

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, overload

import numpy as np

from saddlescope.arrays import Parameters, require_finite, to_numpy
from saddlescope.errors import SettingsError, ShapeError
from saddlescope.models.contract import adapted, layer_number, unwrapped
from saddlescope.models.sizes import layer_sizes, require_resizable, require_resizable_layer, unit_counts
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem
from saddlescope.resize.expand import Shares, ZeroGroup, assemble
from saddlescope.resize.expand import expand as expand_alike
from saddlescope.resize.result import Expansion
from saddlescope.units.neurons import Neurons
from saddlescope.workflows.escape import grow_unit
from saddlescope.workflows.escaped import Escape, GrownUnit

Progress = Callable[[int, int, str], None]


@overload
def expand(
    network: Any,
    parameters: Parameters,
    widths: Mapping[int | str, int] | None = None,
    *,
    copies: Mapping[tuple[int, int], int] | None = None,
    zero_type: Mapping[int, Sequence[int | ZeroGroup]] | None = None,
    shares: Shares = "equal",
    inputs: np.ndarray | None = None,
    seed: int = 0,
    escape: Literal[False] = False,
    progress: Progress | None = None,
) -> Expansion: ...


@overload
def expand(
    network: Problem,
    parameters: Parameters,
    widths: Mapping[int | str, int],
    *,
    seed: int = 0,
    escape: Literal[True],
    progress: Progress | None = None,
) -> Escape: ...


def expand(
    network: Any,
    parameters: Parameters,
    widths: Mapping[int | str, int] | None = None,
    *,
    copies: Mapping[tuple[int, int], int] | None = None,
    zero_type: Mapping[int, Sequence[int | ZeroGroup]] | None = None,
    shares: Shares = "equal",
    inputs: np.ndarray | None = None,
    seed: int = 0,
    escape: bool = False,
    progress: Progress | None = None,
) -> Expansion | Escape:
    """Return a wider network: with the same function, f_wide = f_small, or with ``escape`` one of lower loss.

    **With ``escape`` nothing is gained where all residuals vanish**, or more generally where every unit's block has no
    negative eigenvalue and no new unit has a gradient: then growing is refused. Else units are added one after another,
    layer by layer, each the better of two after line searches on the full loss: a *split* (the unit whose block is most
    unstable is copied with equal shares, and the copies part along its lowest direction) and a *birth* (a unit that
    sends nothing yet, fed so that its gradient is largest, begins to send). What both promise is computed beforehand;
    the loss of each grown network is measured, and below the one before it.

    Without ``escape``, copies and zero-type neurons leave the function. With copies only, a critical point stays
    critical, for any shares (a symmetry-induced critical point), **as long as the loss has no penalty on the
    parameters**; with zero-type neurons only the function stays.

    Args:
        network: a `MLP`, a model of `from_torch`, `from_function`, ..., or a `Problem` of one; with ``escape`` a
            `Problem`, since there a loss is needed. Of a PyTorch module the result goes into a module built with the
            new shapes, by `to_torch`.
        parameters: the small network's.
        widths: by hidden layer, number from 1 or name: the width to reach. Neurons that neither ``copies`` nor
            ``zero_type`` account for are copies of neurons drawn at random among those that ``copies`` does not name.
        copies: by (layer, neuron): how often the neuron is to stand, 1 or more; not with ``escape``, as all up to
            ``inputs``.
        zero_type: by layer: the size of each zero-type group, or a `ZeroGroup`.
        shares: "equal", "random" (normal around equal, of either sign, sum 1), or by (layer, neuron) the outgoing
            shares of its copies, sum 1, equal for neurons not named.
        inputs: where the deviation is measured; by default the problem's, or 256 standard-normal ones.
        seed: of everything drawn.
        escape: whether to grow along lines that lower the loss.
        progress: with ``escape``, called with units added, units to add, and a word.

    Returns:
        The wide network and parameters, with the origin of each neuron in layers that were named and the deviation; or
        with ``escape`` every unit's promises and measured losses, and why a layer stopped early.

    Raises:
        NeuronsError: no such layer or neuron, or with ``escape`` units that cannot be copied with shares.
        SettingsError: a width below what is asked for or below the layer's own, a width that named copies do not leave
            room to reach, a number of copies below 1, shares that do not sum to 1, a layer that is named twice; with
            ``escape`` no problem, no widths, or choices that are of expanding at equal function.
        ShapeError: parameters, inputs or vectors that do not fit.
        NonFiniteError: a parameter or an output is not finite; with ``escape`` the loss or a derivative of it.

    Source: [S21] sections 3 and 4, [FA00]; with ``escape`` science notes 9.2.
    """
    model = adapted(network.network if isinstance(network, Problem) else network)
    numbered = _numbered(model, widths or {})
    if not escape:
        return expand_alike(
            network,
            parameters,
            widths=numbered,
            copies=copies,
            zero_type=zero_type,
            shares=shares,
            inputs=inputs,
            seed=seed,
        )
    for name, value in (("copies", copies), ("zero_type", zero_type), ("inputs", inputs)):
        if value is not None:
            raise SettingsError("this does not go with escape", name=name, value=value, expected="nothing")
    if shares != "equal":
        raise SettingsError("this does not go with escape", name="shares", value=shares, expected="equal")
    if not isinstance(network, Problem):
        raise SettingsError(
            "growing along the loss needs a loss",
            name="network",
            value=f"a {type(network).__qualname__}",
            expected="a Problem: model, data and loss",
        )
    return _escape(network, parameters, numbered, seed, progress)


def _numbered(model: Any, widths: Mapping[int | str, int]) -> dict[int, int]:
    """Return widths by the layers' numbers."""
    found: dict[int, int] = {}
    for layer, width in widths.items():
        number = layer_number(model, layer) if isinstance(layer, str) else layer
        if number in found:
            raise SettingsError("a layer has two widths", name="widths", value=dict(widths), expected="each layer once")
        found[number] = width
    return found


def _require_widths(problem: Problem, widths: Mapping[int, int], seed: int) -> None:
    """Refuse what cannot be grown, before anything is computed."""
    require_resizable(problem.network, "expand")
    if not widths:
        raise SettingsError("nothing to grow", name="widths", value=dict(widths), expected="a width for a layer")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise SettingsError("not a seed", name="seed", value=seed, expected="an integer, 0 or more")
    counts = unit_counts(problem.network)
    for layer, width in widths.items():
        layer_number(problem.network, layer)
        require_resizable_layer(problem.network, layer)
        problem.network.neurons(layer)
        if not isinstance(width, int | np.integer) or width < counts[layer]:
            raise SettingsError(
                f"layer {layer} of {counts[layer]} neurons cannot have this width",
                name="width",
                value=width,
                expected=f"an integer, at least {counts[layer]}",
            )


@in_float64
def _escape(
    problem: Problem, parameters: Parameters, widths: Mapping[int, int], seed: int, progress: Progress | None
) -> Escape:
    begin = time.perf_counter()
    _require_widths(problem, widths, seed)
    problem.network.check(parameters)
    require_finite(parameters, "the network")
    small = params = to_numpy(parameters)
    here, counts = problem, unit_counts(problem.network)
    total = sum(width - counts[layer] for layer, width in widths.items())
    grown: list[GrownUnit] = []
    refused: dict[int, str] = {}
    for layer in sorted(widths):
        for width in range(counts[layer], widths[layer]):
            found = grow_unit(here, params, layer, seed=seed)
            if isinstance(found, str):
                refused[layer] = f"stopped at {width} of {widths[layer]} units: {found}"
                break
            here, params = found.problem, found.parameters
            grown.append(found.unit)
            if progress is not None:
                progress(len(grown), total, f"{found.unit.taken}, loss {found.unit.loss_after:.6g}")
    before = problem.loss_of(small)
    return Escape(
        network=unwrapped(here.network),
        parameters=params,
        widths=layer_sizes(here.network),
        grown=tuple(grown),
        refused=MappingProxyType(refused),
        loss_before=before,
        loss_after=grown[-1].loss_after if grown else before,
        seed=seed,
        fingerprints=problem.fingerprint(small),
        seconds=time.perf_counter() - begin,
    )


def grown_moments(moments: Parameters, escape: Escape, *, power: int = 1) -> dict[str, np.ndarray]:
    """Return an optimiser's moments in the grown shapes: what they would be had the copies always been there.

    A unit that is copied with half of its outgoing weights each has half the gradient by its incoming entries in each
    copy, and the same by its outgoing ones; so both copies get the unit's moments, incoming entries times 2^-power. A
    new unit has none: zeros. The step along the line that follows is not accounted for.

    Args:
        moments: by name, in the shapes of the network before growing: a mean of gradients, or of their powers.
        escape: what `expand` with ``escape=True`` returned.
        power: of the gradient that is averaged: 1 for a momentum or Adam's first moments, 2 for Adam's second.

    Raises:
        ShapeError: arrays that the network before growing does not have.
        SettingsError: a power below 1.
    """
    if not isinstance(power, int | np.integer) or power < 1:
        raise SettingsError("not a power of the gradient", name="power", value=power, expected="1 or 2")
    model, found = adapted(escape.network), to_numpy(moments)
    for one in escape.grown:
        units = model.layers[one.layer]
        _require_names(found, model.layout.names)
        if (count := units.count(found)) != one.neuron:
            raise ShapeError(
                "these moments are not of the network before it grew",
                name=f"units of {one.name}",
                value=count,
                expected=str(one.neuron),
            )
        found = _grown(found, units, one.offer.source, 0.5**power)
    return found


def _require_names(moments: Parameters, names: Sequence[str]) -> None:
    if set(moments) != set(names):
        raise ShapeError(
            "these moments are not of this network", name="arrays", value=sorted(moments), expected=str(sorted(names))
        )


def _grown(moments: Parameters, units: Neurons, source: int | None, share: float) -> dict[str, np.ndarray]:
    incoming, outgoing = units.incoming_vectors(moments), units.outgoing_vectors(moments)
    into, out = np.zeros_like(incoming[:1]), np.zeros_like(outgoing[:1])
    if source is not None:
        incoming[source] *= share
        into, out = incoming[[source]], outgoing[[source]]
    return assemble(moments, units, np.concatenate([incoming, into]), np.concatenate([outgoing, out]))
