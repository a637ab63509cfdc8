"""The lowest pass of a layer: of all pairs' permutation points the one of lowest loss, which joins all n! copies.

From one permutation point every permutation of the layer's neurons is reached at constant loss ([B19] section 4.2),
so that the cheapest one bounds the height that separates any two copies. Small layers are ranked exactly, by following
every path. Of large ones the best pairs by `estimate_merges` are settled without a path, and the lowest of these
followed.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saddlescope.arrays import Parameters, require_finite, to_numpy
from saddlescope.errors import NeuronsError, SettingsError
from saddlescope.html_repr import card
from saddlescope.models.sizes import is_resizable, unit_counts
from saddlescope.outcomes import Outcome
from saddlescope.paths.find import check_settings, find_path
from saddlescope.paths.result import Path, PathSettings
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem
from saddlescope.resize.merges import Merge, Progress, estimate_merges, narrow
from saddlescope.training.train import train
from saddlescope.units.actions import merge
from saddlescope.units.gauge import distance, fix_scale

# A layer of up to so many pairs (ten neurons) is ranked exactly; of a larger one so many pairs are followed.
ALL_PAIRS, FOLLOWED = 45, 8

# For each pair to be followed so many are settled, in up to so many second-order steps.
SETTLED, STEPS = 4, 60


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """One pair of the table: its estimate, and what its path ended in; None where the path was not followed.

    ``settled`` is the loss to which plain merging settles without any path, where that was needed for the ranking.

    ``ending`` other than "permutation-point" means that this pair's path has none; ``reasons`` says why.
    """

    pair: tuple[int, int]
    estimate: float
    settled: float | None = None
    ending: Outcome | None = None
    reasons: tuple[str, ...] = ()
    loss_at_point: float | None = None
    gradient_norm: float | None = None
    barrier: float | None = None
    continuous: bool | None = None
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LowestPass:
    """The table of a layer's pairs, and the permutation point of lowest loss among those that were followed.

    ``exact``: every pair was followed. ``copies`` is n!, the number of permuted copies that the pass joins. ``path`` is
    None when no followed pair has a permutation point, or when two neurons coincide from the start.
    """

    layer: int
    rows: tuple[PairRow, ...]  # in the order of the estimates, cheapest first
    pair: tuple[int, int] | None
    loss: float | None
    path: Path | None
    exact: bool
    copies: int
    ending: Outcome
    settings: PathSettings
    seconds: float
    fingerprints: dict[str, str]

    def _repr_html_(self) -> str:
        """Return the summary that notebooks show."""
        followed = [row for row in self.rows if row.ending is not None]
        facts = {
            "layer": self.layer,
            "pair": self.pair,
            "loss": self.loss,
            "pairs followed": f"{len(followed)} of {len(self.rows)}" + (", so exact" if self.exact else ""),
            "seconds": self.seconds,
        }
        curve = None if self.path is None else self.path.losses.tolist()
        return card(f"{self.ending}. {self.ending.advice}", facts, curve=curve, name="loss along the lowest path")


def _settled_losses(problem: Problem, start: Parameters, merges: Sequence[Merge]) -> dict[tuple[int, int], float]:
    """Return by pair the loss to which the network without one neuron settles from plain merging, infinite if none."""
    network, layer = problem.network, merges[0].layer
    neurons = network.neurons(layer)
    small = narrow(problem, {layer: unit_counts(network)[layer] - 1})
    losses = {}
    for pair in (found.pair for found in merges):
        try:
            scaled = fix_scale(start, neurons, pair) if network.homogeneous(layer) else start
            loss = train(small, initial=merge(scaled, neurons, *pair), adam_steps=0, max_newton=STEPS).loss
        except NeuronsError:  # an incoming vector of zero: no scale, and no path either
            loss = math.nan
        losses[pair] = loss if math.isfinite(loss) else math.inf
    return losses


def _follow(
    problem: Problem, start: Parameters, found: Merge, settled: float | None, settings: PathSettings
) -> tuple[PairRow, Path | None]:
    """Return one pair's row, and its path."""
    network, pair = problem.network, found.pair
    neurons, known = network.neurons(found.layer), {"pair": pair, "estimate": found.estimate, "settled": settled}
    try:
        if distance(start, neurons, *pair, homogeneous=network.homogeneous(found.layer)) == 0.0:
            gradient = problem.gradient_of(start).values()
            norm, loss = math.sqrt(sum(float(np.sum(np.square(g))) for g in gradient)), problem.loss_of(start)
            why = ("the two neurons coincide already",)
            row = PairRow(
                **known,
                ending=Outcome.PERMUTATION_POINT,
                reasons=why,
                loss_at_point=loss,
                gradient_norm=norm,
                barrier=loss,
                continuous=True,
            )
            return row, None
        path = find_path(problem, start, layer=found.layer, pair=pair, settings=settings)
    except NeuronsError as error:  # a neuron whose incoming vector is zero has no scale, hence no distance
        return PairRow(**known, ending=Outcome.UNDECIDED, reasons=(str(error),)), None
    point = path.permutation_point
    row = PairRow(
        **known,
        ending=path.ending,
        reasons=path.reasons,
        loss_at_point=path.loss_at_point,
        gradient_norm=None if point is None else point.gradient_norm,
        barrier=path.barrier,
        continuous=path.continuous,
        seconds=path.seconds,
    )
    return row, path


@in_float64
def lowest_point(
    problem: Problem,
    parameters: Any,
    *,
    layer: int,
    follow: int | None = None,
    settings: PathSettings | None = None,
    progress: Progress | None = None,
) -> LowestPass:
    """Find the permutation point of lowest loss over the pairs of a layer: the pass that joins all n! copies.

    Each pair's path is followed with `find_path`; pairs without a permutation point are listed with their ending. Of a
    large layer the pairs with the best `estimate_merges`, `SETTLED` for each to be followed, are merged plainly and
    settled in the network without one neuron, and the lowest of these are followed: **the lowest of all pairs may then
    be missed**, see ``exact``. Measured on 13 teachers with 6 pairs: 4 misses with one pair followed, 1 with two, none
    with three (benchmarks/lowest_pass.py).

    Args:
        problem: network, data and loss.
        parameters: a minimum of the problem's loss, or what `train` returned.
        layer: hidden layer, counted from 1.
        follow: how many pairs to follow; None: all of up to `ALL_PAIRS`, of more the best `FOLLOWED`.
        settings: of the paths, see `PathSettings`.
        progress: called with (done, total, message) after each pair.

    Returns:
        The table of all pairs (of layers beyond `TRIED` pairs: those tried), and the lowest point's path.

    Raises:
        NeuronsError: no such layer, or one with a single neuron.
        ShapeError: parameters that do not fit the network.
        NonFiniteError: NaN or infinity among the parameters.
        SettingsError: a path setting outside its range, or ``follow`` below 1.

    Source: [B19] section 4.2.
    """
    began = time.perf_counter()
    settings = settings or PathSettings()
    check_settings(settings)
    if follow is not None and follow < 1:
        raise SettingsError("not a number of pairs", name="follow", value=follow, expected="a whole number from 1 up")
    parameters = getattr(parameters, "parameters", parameters)
    problem.network.check(parameters)
    require_finite(parameters, "the starting point")
    start = to_numpy(parameters)
    count = problem.network.neurons(layer).count(start)
    if count < 2:
        raise NeuronsError("a pair needs two neurons", name="count", value=count, expected="at least 2")
    merges = estimate_merges(problem, start, layer=layer)
    pairs = math.comb(count, 2)
    number = min(len(merges), follow or (pairs if pairs <= ALL_PAIRS else FOLLOWED))
    settles = number < len(merges) and is_resizable(problem.network)
    settled = _settled_losses(problem, start, merges[: SETTLED * number]) if settles else {}
    # Pairs that settle in the same point, to six digits, stay in the order of their estimates.
    order = sorted(settled, key=lambda pair: float(f"{settled[pair]:.6g}"))
    chosen = order[:number] if settled else [found.pair for found in merges[:number]]
    rows: list[PairRow] = []
    best: tuple[PairRow, Path | None] | None = None
    for found in merges:
        loss = settled.get(found.pair)
        if found.pair not in chosen:
            rows.append(PairRow(pair=found.pair, estimate=found.estimate, settled=loss))
            continue
        row, path = _follow(problem, start, found, loss, settings)
        rows.append(row)
        if row.loss_at_point is not None and (best is None or row.loss_at_point < (best[0].loss_at_point or 0.0)):
            best = row, path
        if progress is not None:
            progress(sum(row.ending is not None for row in rows), number, f"pair {found.pair}: {row.ending}")
    return LowestPass(
        layer=layer,
        rows=tuple(rows),
        pair=None if best is None else best[0].pair,
        loss=None if best is None else best[0].loss_at_point,
        path=None if best is None else best[1],
        exact=number == pairs,
        copies=math.factorial(count),
        ending=Outcome.UNDECIDED if best is None else Outcome.PERMUTATION_POINT,
        settings=settings,
        seconds=time.perf_counter() - began,
        fingerprints=problem.fingerprint(start),
    )
