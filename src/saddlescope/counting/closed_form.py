"""How many symmetry-induced critical points and minima there are, as exact integers ([B19] 4.3, [S21] 4).

r is the width of the small (irreducible) network, m the width of the large one. All numbers are of subspaces or
points, **never of volumes**: their ratio is no probability.
"""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import comb, factorial, prod

from saddlescope.errors import SettingsError

LARGEST = 20_000
"""Widths beyond this are refused: the numbers would have more digits than anyone reads."""

WORK = 4 * 10**11
"""Most steps of one question (additions, times the bits of the numbers): some ten seconds; more is refused at once."""

DIGITS = 500_000
"""Most digits of a result, which is to be written out: that takes time with their square."""


def check_work(**steps: float) -> None:
    """Refuse a question that would take minutes or more; ``steps`` by what asks for them.

    Raises:
        SettingsError: more than `WORK` altogether.
    """
    total = sum(steps.values())
    if total > WORK:
        raise SettingsError(
            "this count would take too long",
            name="steps",
            value=f"{total:.1e}",
            expected=f"at most {WORK:.0e}",
            advice=f"Use smaller widths ({', '.join(steps)})",
        )


def _check_digits(widths: Sequence[int]) -> None:
    """Refuse widths whose counts together have more digits than can be written out.

    Raises:
        SettingsError: one that is no width, or more than `DIGITS` digits.
    """
    for width in widths:
        _check(width=width)
    digits = sum(width * math.log10(width + 1) for width in widths)
    if digits > DIGITS:
        raise SettingsError(
            "this count has too many digits",
            name="digits",
            value=f"{digits:.1e}",
            expected=f"at most {DIGITS}",
            advice="Use fewer or narrower layers",
        )


def row_work(wide: int) -> float:
    """Return the steps of all rows of Stirling numbers up to S(m, .): m^2/2 additions of up to m log2 m bits."""
    return 0.5 * wide**2 * wide * math.log2(wide + 2)


def column_work(small: int, wide: int) -> float:
    """Return the steps of S(m, r) alone: r (m - r) additions of up to m log2 m bits."""
    return float(small * (wide - small)) * wide * math.log2(wide + 2)


def shown(value: object) -> object:
    """Return a value for a message: a whole number of many digits by its size alone."""
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"about {'-' if value < 0 else ''}10^{int(abs(value).bit_length() * math.log10(2))}"
    return value


def _check(**values: int) -> None:
    """Refuse what is no width or order."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST:
            raise SettingsError(
                "not a number of neurons", name=name, value=shown(value), expected=f"a whole number from 0 to {LARGEST}"
            )


def _check_widths(small: int, wide: int) -> None:
    _check(small=small, wide=wide)
    if small < 1 or wide < small:
        raise SettingsError(
            "the large network must be at least as wide as the small one",
            name="small, wide",
            value=(small, wide),
            expected="1 <= small <= wide",
        )


def stirling_rows(order: int) -> Iterator[list[int]]:
    """Yield the rows [S(m, 0), ..., S(m, m)] of the Stirling numbers of the second kind, m = 0 to ``order``."""
    check_work(order=row_work(order))
    row = [1]
    yield row
    for m in range(1, order + 1):
        row = [0, *(k * row[k] + row[k - 1] for k in range(1, m)), 1]
        yield row


def stirling(m: int, r: int) -> int:
    """Return S(m, r): the ways to part m things into r groups, by the recurrence along r (O(r (m - r)) additions).

    Raises:
        SettingsError: a negative number, one beyond `LARGEST`, or more than `WORK` steps.
    """
    _check(m=m, r=r)
    if r > m:
        return 0
    if r == 0:
        return int(m == 0)
    check_work(m=column_work(r, m))
    # column[k] = S(k + n, k): S(k + n, k) = S(k - 1 + n, k - 1) + k S(k + n - 1, k)
    column = [1] * (r + 1)
    for _ in range(m - r):
        total, ahead = 0, [0]
        for k in range(1, r + 1):
            total += k * column[k]
            ahead.append(total)
        column = ahead
    return column[r]


def bell_numbers(order: int) -> list[int]:
    """Return Bell(0), ..., Bell(order), by the Bell triangle.

    Raises:
        SettingsError: a negative number, one beyond `LARGEST`, or more than `WORK` steps.
    """
    _check(order=order)
    check_work(order=row_work(order))
    numbers, row = [1], [1]
    for _ in range(order):
        ahead = [row[-1]]
        for value in row:
            ahead.append(ahead[-1] + value)
        row = ahead
        numbers.append(row[0])
    return numbers


def critical_subspaces(small: int, wide: int) -> int:
    """Return G(r, m) = r! S(m, r): critical subspaces that one critical point of width r induces at width m.

    Source: [S21] section 4.1, proposition 4.2.

    Raises:
        SettingsError: not 1 <= small <= wide <= `LARGEST`, or more than `WORK` steps.
    """
    _check_widths(small, wide)
    return factorial(small) * stirling(wide, small)


def minimum_subspaces(small: int, wide: int) -> int:
    """Return T(r, m) = sum_k S(m, k) k!/(k - r)!, k = r ... m: subspaces of the expansion manifold at width m.

    Equal to sum_u C(m, u) G(r, m - u) Bell(u): u neurons form zero-type groups, the others copies.

    Source: [S21] section 4.2, theorem 4.3; the sum over k is [S21]'s, grouped by the number k of distinct neurons.

    Raises:
        SettingsError: not 1 <= small <= wide <= `LARGEST`, or more than `WORK` steps.
    """
    _check_widths(small, wide)
    row = _stirling_row(wide)
    falling, total = factorial(small), 0
    for k in range(small, wide + 1):
        total += row[k] * falling
        falling = falling * (k + 1) // (k + 1 - small)  # (k + 1)! / (k + 1 - r)!
    return total


def _stirling_row(m: int) -> list[int]:
    row: list[int] = [1]
    for row in stirling_rows(m):  # noqa: B007 - the last row is what is wanted
        pass
    return row


def permutation_point_ratio(order: int, width: int) -> Fraction:
    """Return T(K, n) = (n - K)! S(n, n - K)/n!: permutation points of order K in a layer of n, per global minimum.

    [B19] prints three cases for K <= n/2; the formula holds for every K < n (science notes, section 3).

    Raises:
        SettingsError: not 0 <= order < width <= `LARGEST`.
    """
    _check(order=order, width=width)
    if not order < width:
        raise SettingsError(
            "a layer of n neurons has points of order below n", name="order", value=order, expected=f"0 to {width - 1}"
        )
    return Fraction(critical_subspaces(width - order, width), factorial(width))


def ratio_lower_bound(order: int, width: int) -> Fraction:
    """Return C(n - K, K)/2^K <= T(K, n): the points at which K separate pairs have merged ([B19] section 4.3).

    Zero for K > n/2, where no K separate pairs exist.

    Raises:
        SettingsError: not 0 <= order < width <= `LARGEST`.
    """
    permutation_point_ratio(0, width)  # checks the width
    _check(order=order)
    if not order < width:
        raise SettingsError(
            "a layer of n neurons has points of order below n", name="order", value=order, expected=f"0 to {width - 1}"
        )
    return Fraction(comb(width - order, order), 2**order)


def ratio_limit(order: int, width: int) -> Fraction:
    """Return n^K/(2^K K!), to which both T(K, n) and its lower bound tend, relatively, for n -> infinity at fixed K.

    [B19] Lemma 1 prints a further factor e^-K, which is a mistake (science notes, section 3).
    """
    _check(order=order, width=width)
    return Fraction(width**order, 2**order * factorial(order))


def saddle_share_limit(missing: int, extra: int, small: int) -> Fraction:
    """Return r^k h!/(2^k (h + k)!), to which G(r - k, r + h)/T(r, r + h) tends, relatively, for r -> infinity."""
    _check(missing=missing, extra=extra, small=small)
    return Fraction(small**missing * factorial(extra), 2**missing * factorial(extra + missing))


def equivalent_minima(widths: Sequence[int]) -> int:
    """Return prod_k n_k!: the copies of a minimum whose incoming vectors differ, over the hidden layers' widths.

    Raises:
        SettingsError: one that is no width, or more than `DIGITS` digits.
    """
    _check_digits(widths)
    return prod(factorial(width) for width in widths)


def layers_critical(small: Sequence[int], wide: Sequence[int]) -> int:
    """Return the product of G over hidden layers ([S21] section 4.3).

    Raises:
        SettingsError: different numbers of layers, widths that do not fit, or more steps or digits than there may be.
    """
    layers = _layers(small, wide)
    check_work(wide=sum(column_work(r, m) for r, m in layers))
    return prod(critical_subspaces(r, m) for r, m in layers)


def layers_minimum(small: Sequence[int], wide: Sequence[int]) -> int:
    """Return the product of T over hidden layers ([S21] section 4.3).

    Raises:
        SettingsError: different numbers of layers, widths that do not fit, or more steps or digits than there may be.
    """
    layers = _layers(small, wide)
    check_work(wide=sum(row_work(m) for _, m in layers))
    return prod(minimum_subspaces(r, m) for r, m in layers)


def layers_ratio(order: int, widths: Sequence[int]) -> Fraction:
    """Return sum_k T(K, n_k) over the hidden layers that have points of order K ([B19] section 4.3).

    Raises:
        SettingsError: no layer is wider than the order, or more steps or digits than there may be.
    """
    _check(order=order)
    _check_digits(widths)
    fitting = [width for width in widths if width > order]
    check_work(width=sum(column_work(width - order, width) for width in fitting))
    if not fitting:
        raise SettingsError("no layer is wide enough", name="order", value=order, expected=f"below {max(widths)}")
    return sum((permutation_point_ratio(order, width) for width in fitting), Fraction(0))


def _layers(small: Sequence[int], wide: Sequence[int]) -> list[tuple[int, int]]:
    if len(small) != len(wide) or not small:
        raise SettingsError(
            "as many small as wide layers are needed", name="layers", value=(len(small), len(wide)), expected="equal"
        )
    for r, m in zip(small, wide, strict=True):
        _check_widths(r, m)
    _check_digits(wide)
    return list(zip(small, wide, strict=True))
