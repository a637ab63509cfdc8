"""shrink: merge the pair whose permutation point costs least, again and again, to a wanted width or loss.

A permutation point is a critical point of the network with one neuron less, so a pair costs the loss to which that
network settles from the merge. No path is followed: settling directly came to the loss of a tied path of 3 distances
about 50 times sooner (benchmarks/results/shrink.txt).
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from saddlescope.arrays import Parameters, require_finite, to_numpy
from saddlescope.errors import SettingsError
from saddlescope.models.chain import is_traceable
from saddlescope.models.contract import exchangeable_layers, layer_number, unwrapped
from saddlescope.models.sizes import require_resizable, require_resizable_layer, with_units
from saddlescope.numerics.continuation import Tolerances, settle
from saddlescope.numerics.newton import DENSE_LIMIT, NON_FINITE, OUTCOMES, Iterate
from saddlescope.numerics.tangent import Unconstrained
from saddlescope.outcomes import Outcome
from saddlescope.paths.constraint import PairObjective
from saddlescope.precision import in_float64
from saddlescope.problem.kronecker import factors
from saddlescope.problem.problem import Problem
from saddlescope.resize.merges import MaskedNetwork, Merge, Progress, Start, apply_merge, estimate_merges, pack, unpack
from saddlescope.units.actions import remove
from saddlescope.units.coordinates import PairCoordinates
from saddlescope.workflows.shrunk import ShrinkSettings, ShrinkStep, Shrunk

# Small networks settle every pair, up to so many; others so many of the pairs with the best estimate.
ALL_PAIRS, CANDIDATES = 66, 4

# Gradient norm to reach with dense Hessians; matrix-free: this share of the gradient norm right after the merge.
DENSE_TOLERANCE = 1e-10
KRYLOV_TOLERANCE = 1e-3

# Weights this many times larger than right after the merge: the loss has no minimum near by.
RUNAWAY = 30.0

# Settled losses that differ by less than this share are the same.
SAME = 1e-8

# Longest step, as a share of the norm of the parameters.
RADIUS = 0.1

# What is counted: full-batch gradients, Hessian products, and losses without gradient.
COUNTED = ("gradients", "hessian_products", "losses")

# The packed network is cut to its living neurons when fewer than this share of its parameters live.
PACKED = 0.7


@dataclass(frozen=True)
class _Solver:
    """How starts are settled after one merge, and what that has cost so far."""

    packed: MaskedNetwork
    objective: PairObjective
    dead: np.ndarray
    dense: bool
    counts: dict[str, int]

    @staticmethod
    def of(packed: MaskedNetwork) -> "_Solver":
        dense = packed.layout.size <= DENSE_LIMIT
        factored = not dense and is_traceable(packed.problem.network)
        theta = packed.layout.flatten(packed.parameters)
        nowhere = jnp.zeros((0,), int)  # no pair: the coordinates are the parameters themselves
        plain = PairCoordinates(nowhere, nowhere, nowhere, nowhere)
        objective = PairObjective(packed.problem, plain, factors(packed.problem, theta) if factored else None)
        return _Solver(packed, objective, packed.dead(), dense, dict.fromkeys(COUNTED, 0))

    def settle(self, x: Any, tolerance: float, iterations: int, merge: Merge | None = None) -> Iterate:
        """Minimise from x over the neurons that live, after a merge those that it leaves."""
        gone = self.dead.copy()
        if merge is not None:
            neurons = self.packed.neurons(merge.layer)
            for positions in (neurons.incoming_positions, neurons.outgoing_positions):
                gone[positions(self.packed.layout)[merge.pair[1]]] = True
        radius = RADIUS * float(jnp.linalg.norm(jnp.asarray(x)))
        limits = Tolerances(jnp.asarray(tolerance), jnp.asarray(radius), jnp.asarray(iterations))
        plane = Unconstrained(jnp.asarray(np.where(gone, 0.0, 1.0)))
        solver = "newton" if self.dense else "krylov"
        found = settle(self.objective, plane, jnp.asarray(x), jnp.asarray(0.0), limits, solver)
        self.counts["gradients"] += int(found.iterations) + 1
        self.counts["hessian_products"] += int(found.products)
        return found


def _runs_away(start: Start, found: Iterate) -> bool:
    return float(jnp.linalg.norm(found.x)) > RUNAWAY * float(np.linalg.norm(start.x))


def _settle_best(
    solver: _Solver, starts: list[Start], settings: ShrinkSettings
) -> tuple[Start, Iterate, float, Outcome] | None:
    """Settle every start and return the one of lowest loss: start, iterate, tolerance, outcome."""
    rough = settings.finish if solver.dense else settings.screen
    first = settings.tolerance or DENSE_TOLERANCE
    settled = [(start, solver.settle(start.x, first, rough, start.merge)) for start in starts]
    settled = [(start, found) for start, found in settled if int(found.status) != NON_FINITE]
    if not settled:
        return None
    sane = [both for both in settled if not _runs_away(*both)] or settled
    least = min(float(found.value) for _, found in sane)
    # Several pairs may settle in the same point: the one with the lowest estimate stands first.
    start, found = next(both for both in sane if float(both[1].value) <= least + SAME * abs(least))
    tolerance = first
    if not solver.dense:
        if settings.tolerance is None:
            merged = solver.settle(start.x, first, 0, start.merge)
            tolerance = max(KRYLOV_TOLERANCE * float(merged.residual), DENSE_TOLERANCE)
        found = solver.settle(found.x, tolerance, settings.max_iterations, start.merge)
    outcome = Outcome.DIVERGED if _runs_away(start, found) else OUTCOMES[int(found.status)]
    return start, found, tolerance, outcome


def _absorbed(packed: MaskedNetwork, merge: Merge, x: Float[Array, " size"], value: float) -> MaskedNetwork:
    """Return the state after a merge that settled at x: the pair's first neuron stands for both."""
    l, m = merge.pair
    living = dict(packed.members[merge.layer])
    gone = living.pop(m)
    living[l] = tuple(sorted((*living[l], *gone)))
    members = {**packed.members, merge.layer: living}
    return MaskedNetwork(packed.problem, packed.layout.unflatten_numpy(np.array(x)), members, value)


def _merge_once(
    packed: MaskedNetwork, layers: tuple[int, ...], settings: ShrinkSettings
) -> tuple[MaskedNetwork, ShrinkStep] | None:
    """Carry out the cheapest merge found in the layers given; None when no merge has a finite loss."""
    began = time.perf_counter()
    solver = _Solver.of(packed)
    merges = [
        merge
        for layer in layers
        for merge in estimate_merges(packed.problem, packed.parameters, layer=layer, live=tuple(packed.members[layer]))
    ]
    merges.sort(key=lambda merge: merge.estimate)
    every = settings.candidates is None and solver.dense and len(merges) <= ALL_PAIRS
    chosen = merges if every else merges[: settings.candidates or CANDIDATES]
    starts = [start for merge in chosen for start in apply_merge(packed, merge, both=every)]
    solver.counts["losses"] += 2 * len(chosen) + len(layers)
    best = _settle_best(solver, starts, settings)
    if best is None:
        return None
    start, found, tolerance, outcome = best
    after = _absorbed(packed, start.merge, found.x, float(found.value))
    l, m = start.merge.pair
    before = packed.members[start.merge.layer]
    order = list(before)
    step = ShrinkStep(
        layer=start.merge.layer,
        pair=(order.index(l), order.index(m)),
        members=(before[l], before[m]),
        start=start.kind,
        mix=start.merge.mix if start.kind == "fitted" else 0.5,
        estimate=start.merge.estimate,
        loss_before=packed.value,
        loss_merged=start.value,
        loss_after=after.value,
        gradient_norm=float(found.residual),
        tolerance=tolerance,
        outcome=outcome,
        accuracy=packed.problem.accuracy(after.parameters),
        widths=after.widths,
        candidates=len(chosen),
        evaluations=solver.counts,
        seconds=time.perf_counter() - began,
    )
    return after, step


def _targets(
    network: Any, widths: Mapping[int, int] | Mapping[str, int] | None, max_loss: float | None
) -> dict[int, int]:
    """Return the width wanted of every layer that may be narrowed, by the layer's number.

    Raises:
        NeuronsError: no such layer, or one whose units differ in what is not trained.
        SettingsError: a width that merging cannot reach, a loss that is no bound, or neither given.
    """
    if max_loss is not None and not 0.0 <= max_loss < np.inf:
        raise SettingsError("not a loss", name="max_loss", value=max_loss, expected="a finite number, 0 or more")
    if not widths and max_loss is None:
        raise SettingsError(
            "nothing says how far to shrink", name="widths", value=widths, expected="widths by layer, or max_loss"
        )
    if not widths:
        free = [k for k, units in exchangeable_layers(network).items() if units.facts.resizable]
        if not free:
            raise SettingsError(
                "no layer of this model can be shrunk",
                name="layers",
                value=list(network.layers),
                expected="one or more",
            )
        return dict.fromkeys(free, 1)
    found: dict[int, int] = {}
    for layer, width in widths.items():
        number = layer_number(network, layer) if isinstance(layer, str) else int(layer)
        now = network.neurons(number).count_in(network.layout)
        if number in found or not isinstance(width, int | np.integer) or not 1 <= width <= now:
            twice = ": it is named twice" if number in found else ""
            raise SettingsError(
                f"layer {layer} cannot be merged to this width{twice}",
                name="width",
                value=width,
                expected=f"1 to {now}",
            )
        found[number] = int(width)
    return found


def _check(settings: ShrinkSettings) -> None:
    wrong = "this setting cannot be used"
    for name, low in (("candidates", 1), ("screen", 0), ("max_iterations", 1), ("finish", 1)):
        value = getattr(settings, name)
        if value is not None and value < low:
            raise SettingsError(wrong, name=name, value=value, expected=f"a whole number from {low} up")
    if settings.tolerance is not None and not 0.0 < settings.tolerance < np.inf:
        raise SettingsError(wrong, name="tolerance", value=settings.tolerance, expected="a positive number")


@in_float64
def shrink(
    problem: Problem,
    parameters: Any,
    *,
    widths: Mapping[int, int] | Mapping[str, int] | None = None,
    max_loss: float | None = None,
    settings: ShrinkSettings | None = None,
    progress: Progress | None = None,
) -> Shrunk:
    """Merge the pair of neurons that costs least, settle, and go on, until the widths or the loss given are reached.

    A pair costs the loss to which the network with one neuron less settles from the merge: a permutation point, seen
    from below. Small networks settle every pair; large ones the few that `estimate_merges` puts first, so that
    **the cheapest pair of a large layer is not promised**. With several layers each merge is the cheapest of all that
    are still too wide. A merge may lower the loss where the start is no minimum; nothing is trained beforehand.

    Args:
        problem: network, data and loss; data of the network's own outputs (`teacher_data`), or labels. Any model whose
            layers can be built with other numbers of units: channels and the units of a transformer's block too.
        parameters: a parameter set, best a minimum of the problem's loss, or what `train` returned.
        widths: wanted width by hidden layer, layers counted from 1 or by name; None: every layer whose number of units
            can change, as far as ``max_loss`` allows.
        max_loss: merging ends before the settled loss exceeds this.
        settings: how much work a merge may take.
        progress: called with (merges done, merges wanted, message).

    Returns:
        The small network with parameters, and every step with its losses and residual; look at ``reached``.

    Raises:
        NeuronsError: no such layer, or one whose units are fused with other arrays or differ in what is not trained.
        SettingsError: an impossible width, neither widths nor max_loss, a setting outside its range, or a model whose
            numbers of units cannot change, with the reason.
        ShapeError: parameters that do not fit the network.
        NonFiniteError: NaN or infinity among the parameters.

    Source: [B19] section 4.1: the permutation point is a critical point of the network with one neuron less.
    """
    began = time.perf_counter()
    settings = settings or ShrinkSettings()
    _check(settings)
    require_resizable(problem.network, "shrink")
    targets = _targets(problem.network, widths, max_loss)
    parameters = getattr(parameters, "parameters", parameters)
    problem.network.check(parameters)
    require_finite(parameters, "the starting point")
    first = to_numpy(parameters)
    packed = pack(problem, first, tuple(targets))
    narrower = {layer: width for layer, width in targets.items() if width < packed.counts[layer]}
    wanted = sum(packed.counts[layer] - width for layer, width in narrower.items())
    for layer in narrower:
        remove(first, packed.neurons(layer), 0)  # refuses arrays that cannot lose a unit, before any work
        require_resizable_layer(problem.network, layer)
    if narrower:
        with_units(problem.network, narrower)  # refuses code that has its numbers built in
    steps: list[ShrinkStep] = []
    spent: list[dict[str, int]] = []
    reasons: tuple[str, ...] = ()
    while wide := tuple(layer for layer, width in targets.items() if packed.counts[layer] > width):
        packed = unpack(packed) if np.mean(packed.dead()) > 1.0 - PACKED else packed
        merged = _merge_once(packed, wide, settings)
        if merged is None:
            reasons = ("no merge has a finite loss",)
            break
        spent.append(merged[1].evaluations)
        if max_loss is not None and merged[1].loss_after > max_loss:
            reasons = (f"the cheapest merge found would have loss {merged[1].loss_after:.6g}, above {max_loss:.6g}",)
            break
        packed = merged[0]
        steps.append(merged[1])
        if progress is not None:
            progress(len(steps), wanted, f"widths {'-'.join(map(str, packed.widths))}, loss {packed.value:.4e}")
    packed = unpack(packed)
    ending = Outcome.CONVERGED
    if steps:
        packed, ending, counts = _settle_last(packed, steps[-1], settings)
        spent.append(counts)
    found = _record(problem, first, packed, tuple(steps), settings, ending)
    return replace(
        found,
        reached=not (widths and wide),
        reasons=reasons,
        evaluations={kind: sum(counts[kind] for counts in spent) for kind in found.evaluations},
        seconds=time.perf_counter() - began,
    )


def _settle_last(
    packed: MaskedNetwork, last: ShrinkStep, settings: ShrinkSettings
) -> tuple[MaskedNetwork, Outcome, dict[str, int]]:
    """Return the state settled once more, to the last merge's tolerance, with the outcome and what it cost."""
    solver = _Solver.of(packed)
    found = solver.settle(packed.layout.flatten(packed.parameters), last.tolerance, settings.finish)
    parameters = packed.layout.unflatten_numpy(np.array(found.x))
    outcome = last.outcome if last.outcome is Outcome.DIVERGED else OUTCOMES[int(found.status)]
    return replace(packed, parameters=parameters, value=float(found.value)), outcome, solver.counts


def _record(
    problem: Problem,
    first: Parameters,
    packed: MaskedNetwork,
    steps: tuple[ShrinkStep, ...],
    settings: ShrinkSettings,
    ending: Outcome,
) -> Shrunk:
    """Measure the small network by itself, and build the record."""
    small = packed.problem

    def residual(of: Problem, at: Parameters) -> float:
        return float(np.sqrt(sum(np.sum(np.square(value)) for value in of.gradient_of(at).values())))

    return Shrunk(
        network=unwrapped(small.network),
        parameters=to_numpy(packed.parameters),
        steps=steps,
        members={layer: tuple(living.values()) for layer, living in packed.members.items()},
        loss_start=problem.loss_of(first),
        gradient_norm_start=residual(problem, first),
        accuracy_start=problem.accuracy(first),
        loss=small.loss_of(packed.parameters),
        gradient_norm=residual(small, packed.parameters),
        accuracy=small.accuracy(packed.parameters),
        reached=True,
        ending=ending,
        reasons=(),
        settings=settings,
        evaluations=dict.fromkeys(COUNTED, 0),
        seconds=0.0,
        fingerprints=problem.fingerprint(first),
    )
