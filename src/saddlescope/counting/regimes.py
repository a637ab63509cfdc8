"""Which widths have more symmetry-induced saddles than subspaces of global minima ([S21] section 4.4).

With minimal width r*, the critical points of all smaller networks, one of each width r < r* taken, induce
sum_{r < r*} G(r, m) critical subspaces at width m; the global minima make up T(r*, m). Few extra neurons: saddles
outnumber; many: minima.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import factorial

from saddlescope.counting.closed_form import LARGEST, check_work, row_work, shown, stirling_rows
from saddlescope.errors import SettingsError

# Both sums of each comparison cost about this much more than the row of Stirling numbers that they are taken of.
COMPARING = 8


@dataclass(frozen=True)
class Regime:
    """For a minimal width the first width at which minima outnumber saddles; None: not up to the widest looked at."""

    minimal: int
    crossing: int | None


def regimes(minimal: Sequence[int], widest: int) -> list[Regime]:
    """Return, for each minimal width, the m <= ``widest`` at which T(r*, m) first exceeds sum_{1 <= r < r*} G(r, m).

    Every comparison is of exact integers, at m and at m - 1. **That the crossing rises with r*, and that there is only
    one, is used, not proved**; it held wherever all widths were compared (r* <= 60, m <= 120, in the tests).

    Raises:
        SettingsError: a minimal width below 1 or above ``widest``, ``widest`` beyond the closed forms' limit, or more
            steps than there may be.
    """
    low, high = _ends(minimal)
    if low < 1 or high > widest or widest > LARGEST:
        raise SettingsError(
            "not a range of widths",
            name="minimal, widest",
            value=f"{shown(low)} to {shown(high)}, {shown(widest)}",
            expected=f"1 <= minimal <= widest <= {LARGEST}",
        )
    check_work(widest=COMPARING * row_work(widest))
    open_ = sorted(set(minimal))
    found: dict[int, int] = {}
    before: list[int] = []
    for m, row in enumerate(stirling_rows(widest)):
        while open_ and open_[0] <= m and _crossed(row, open_[0]):
            r = open_.pop(0)
            if m > r and _crossed(before, r):
                raise ArithmeticError(f"the crossing does not rise with the minimal width, at {r}")
            found[r] = m
        before = row
    return [Regime(r, found.get(r)) for r in minimal]


def _ends(minimal: Sequence[int]) -> tuple[int, int]:
    """Return the least and the largest, of a range without going through it: it may be endless, uninterruptibly."""
    if isinstance(minimal, range):
        return (min(minimal[0], minimal[-1]), max(minimal[0], minimal[-1])) if minimal else (0, 0)
    return min(minimal, default=0), max(minimal, default=0)


def _crossed(row: Sequence[int], minimal: int) -> bool:
    return _minima(row, minimal) > saddles_of(row, minimal)


def saddles_of(row: Sequence[int], minimal: int) -> int:
    """Return sum_{1 <= r < r*} r! S(m, r) from the row of Stirling numbers of m."""
    total, power = 0, 1
    for r in range(1, minimal):
        power *= r
        total += power * row[r]
    return total


def _minima(row: Sequence[int], minimal: int) -> int:
    """Return T(r*, m) = sum_k S(m, k) k!/(k - r*)!."""
    falling, total = factorial(minimal), 0
    for k in range(minimal, len(row)):
        total += row[k] * falling
        falling = falling * (k + 1) // (k + 1 - minimal)
    return total


def comparison(minimal: int, widest: int) -> Iterator[tuple[int, int, int]]:
    """Yield (m, saddles, minima) for m from the minimal width to the widest."""
    for m, row in enumerate(stirling_rows(widest)):
        if m >= minimal:
            yield m, saddles_of(row, minimal), _minima(row, minimal)
