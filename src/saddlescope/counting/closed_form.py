"""How many symmetry-induced critical points and minima there are, as exact integers ([B19] 4.3, [S21] 4).

r is the width of the small (irreducible) network, m the width of the large one. All numbers are of subspaces or
points, **never of volumes**: their ratio is no probability.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import comb, factorial, prod

from saddlescope.errors import SettingsError

LARGEST = 20_000
"""Widths beyond this are refused: the numbers would have more digits than anyone reads."""


def _check(**values: int) -> None:
    """Refuse what is no width or order."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST:
            raise SettingsError(
                "not a number of neurons", name=name, value=value, expected=f"a whole number from 0 to {LARGEST}"
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
    row = [1]
    yield row
    for m in range(1, order + 1):
        row = [0, *(k * row[k] + row[k - 1] for k in range(1, m)), 1]
        yield row


def stirling(m: int, r: int) -> int:
    """Return S(m, r): the ways to part m things into r groups, by the recurrence along r (O(r (m - r)) additions).

    Raises:
        SettingsError: a negative number, or one beyond `LARGEST`.
    """
    _check(m=m, r=r)
    if r > m:
        return 0
    if r == 0:
        return int(m == 0)
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
        SettingsError: a negative number, or one beyond `LARGEST`.
    """
    _check(order=order)
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
        SettingsError: not 1 <= small <= wide <= `LARGEST`.
    """
    _check_widths(small, wide)
    return factorial(small) * stirling(wide, small)


def minimum_subspaces(small: int, wide: int) -> int:
    """Return T(r, m) = sum_k S(m, k) k!/(k - r)!, k = r ... m: subspaces of the expansion manifold at width m.

    Equal to sum_u C(m, u) G(r, m - u) Bell(u): u neurons form zero-type groups, the others copies.

    Source: [S21] section 4.2, theorem 4.3; the sum over k is [S21]'s, grouped by the number k of distinct neurons.

    Raises:
        SettingsError: not 1 <= small <= wide <= `LARGEST`.
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
    """Return prod_k n_k!: the copies of a minimum whose incoming vectors differ, over the hidden layers' widths."""
    for width in widths:
        _check(width=width)
    return prod(factorial(width) for width in widths)


def layers_critical(small: Sequence[int], wide: Sequence[int]) -> int:
    """Return the product of G over hidden layers ([S21] section 4.3).

    Raises:
        SettingsError: different numbers of layers, or widths that do not fit.
    """
    return prod(critical_subspaces(r, m) for r, m in _layers(small, wide))


def layers_minimum(small: Sequence[int], wide: Sequence[int]) -> int:
    """Return the product of T over hidden layers ([S21] section 4.3).

    Raises:
        SettingsError: different numbers of layers, or widths that do not fit.
    """
    return prod(minimum_subspaces(r, m) for r, m in _layers(small, wide))


def layers_ratio(order: int, widths: Sequence[int]) -> Fraction:
    """Return sum_k T(K, n_k) over the hidden layers that have points of order K ([B19] section 4.3).

    Raises:
        SettingsError: no layer is wider than the order.
    """
    fitting = [width for width in widths if width > order]
    if not fitting:
        raise SettingsError("no layer is wide enough", name="order", value=order, expected=f"below {max(widths)}")
    return sum((permutation_point_ratio(order, width) for width in fitting), Fraction(0))


def _layers(small: Sequence[int], wide: Sequence[int]) -> list[tuple[int, int]]:
    if len(small) != len(wide) or not small:
        raise SettingsError(
            "as many small as wide layers are needed", name="small, wide", value=(tuple(small), tuple(wide))
        )
    return list(zip(small, wide, strict=True))
