"""How a path ended, decided from numbers alone: each rule is a pure function whose constants a test tries on each side.

Distances, losses and gradients are measured elsewhere (`ending`); nothing here knows of networks.
"""

import math
from typing import NamedTuple

from saddlescope.outcomes import Outcome
from saddlescope.paths.growth import is_channel
from saddlescope.paths.result import Growth

# Between two nodes the loss may exceed both by this share of the path's barrier and still count as continuous.
RIPPLE = 0.01

# From the last distance to zero the loss may move this many times as far as the path's own trend says.
TREND = 10.0

# And by this share of itself, for rounding.
ROUNDING = 1e-8

# The trend where two distances coincide: as if they fell by this factor.
STILL = 0.9


class End(NamedTuple):
    """What is known at a path's end.

    ``stopped``: following ended early; ``ran_away``: because weights passed the bound. ``gap`` is the loss of the
    settled merged network minus the path's last, and ``allowed`` how large it may be; ``critical``: that network's
    gradient is zero, to what float64 allows. NaN and False where the path stopped.
    """

    stopped: bool
    ran_away: bool
    critical: bool
    gap: float
    allowed: float
    growth: Growth


def decide(end: End) -> Outcome:
    """Return how the path ended.

    A permutation point is a critical point of the merged network to which the loss goes on continuously. A channel is
    one by its exponents, however large the weights; where these ran away, only if they are the pair's own.
    """
    channel = is_channel(end.growth.difference_exponent, end.growth.sum_exponent)
    if end.stopped:
        if not end.ran_away:
            return Outcome.NOT_CONVERGED
        return Outcome.CHANNEL if channel and end.growth.of_pair else Outcome.RUNAWAY
    if not end.critical:
        return Outcome.NOT_CONVERGED
    if goes_on(end.gap, end.allowed):
        return Outcome.PERMUTATION_POINT
    return Outcome.CHANNEL if channel else Outcome.JUMP


def goes_on(gap: float, allowed: float) -> bool:
    """Return whether the loss at the merged network continues the path's; NaN does not."""
    return abs(gap) <= allowed


def allowed_gap(losses: tuple[float, float], distances: tuple[float, float], unresolved: float) -> float:
    """Return how far the loss may still move from the last distance to zero: `TREND` times the linear extrapolation.

    With distances falling by the factor r per leg and a loss linear in the distance, what is left after the last leg
    is its change times r/(1 - r). Added are `ROUNDING` of the loss, and what the residual leaves open.

    Args:
        losses: at the last distance but one, and at the last.
        distances: these two.
        unresolved: the tolerance times the way that settling moved the point.
    """
    ratio = distances[1] / distances[0] if distances[0] > distances[1] else STILL
    change = abs(losses[1] - losses[0])
    return TREND * change * ratio / (1.0 - ratio) + ROUNDING * abs(losses[1]) + unresolved


def is_continuous(excess: float, barrier: float, unresolved: float) -> bool:
    """Return whether the loss between nodes stays by these: its excess over both within `RIPPLE` of the barrier.

    ``unresolved`` is what the residuals leave open on the longest chord.
    """
    return math.isfinite(excess) and excess <= max(RIPPLE * barrier, unresolved)
