"""Statements about numbers of minima, permutation points and subspaces, in exact arithmetic."""

import math
from fractions import Fraction

from saddlescope.counting.closed_form import (
    critical_subspaces,
    minimum_subspaces,
    permutation_point_ratio,
    saddle_share_limit,
)
from saddlescope.counting.enumerate import critical_assignments, minimum_assignments
from saddlescope.papers.samples import Case
from saddlescope.papers.statements import Finding, Statement
from saddlescope.resize.manifold import manifold_graph

# (r, m) with 1 <= r <= m <= 7, and (K, n) with 1 <= K < n <= 7; samples beyond are repeats, and not counted.
PAIRS = [(r, m) for m in range(1, 8) for r in range(1, m + 1)]
ORDERS = [(k, n) for n in range(2, 8) for k in range(1, n)]


def _pair(seed: int) -> Case:
    r, m = PAIRS[seed % len(PAIRS)]
    return Case(seed, {"small": r, "wide": m})


def _order(seed: int) -> Case:
    k, n = ORDERS[seed % len(ORDERS)]
    return Case(seed, {"order": k, "width": n})


def _few(seed: int) -> Case:
    return Case(seed, {"order": 1 + seed % 6})


def _graph(seed: int) -> Case:
    r, m = [(2, 2), (2, 3), (3, 3), (2, 4), (3, 4)][seed % 5]
    return Case(seed, {"small": r, "wide": m})


def _formulas(case: Case) -> Finding:
    r, m = case.facts["small"], case.facts["wide"]
    found = (sum(1 for _ in critical_assignments(r, m)), sum(1 for _ in minimum_assignments(r, m)))
    said = (critical_subspaces(r, m), minimum_subspaces(r, m))
    numbers = {"G, T by the formulas": [str(n) for n in said], "G, T by enumeration": [str(n) for n in found]}
    return Finding(found == said, numbers, {})


def _ratio(case: Case) -> Finding:
    k, n = case.facts["order"], case.facts["width"]
    found = Fraction(sum(1 for _ in critical_assignments(n - k, n)), math.factorial(n))
    said = permutation_point_ratio(k, n)
    label = {"K": "at most n/2" if 2 * k <= n else "more than n/2"}
    return Finding(found == said, {"T(K, n)": str(said), "by enumeration": str(found)}, label)


def _limit(case: Case, constant: float) -> Finding:
    """Judge the limit of C(n-K, K)/2^K over constant n^K: the ratio to 1 within 1/n, or far from it."""
    k, n = case.facts["order"], 10**9
    share = float(Fraction(math.comb(n - k, k) * math.factorial(k), n**k)) / constant
    gap = abs(share - 1.0)
    holds = True if gap < 1e-6 else False if gap > 1e-2 else None
    return Finding(holds, {"K": k, "n": n, "bound over its limit": share}, {})


def _printed_limit(case: Case) -> Finding:
    return _limit(case, math.exp(-case.facts["order"]))


def _right_limit(case: Case) -> Finding:
    return _limit(case, 1.0)


def _share(case: Case) -> Finding:
    """Judge G(r-k, r+h)/T(r, r+h) ~ r^k h!/(2^k (h+k)!): the error must halve when r doubles."""
    h, k = case.facts["order"], 1 + case.facts["order"] % 2
    gaps = []
    for r in (80, 160):
        share = Fraction(critical_subspaces(r - k, r + h), minimum_subspaces(r, r + h))
        gaps.append(abs(float(share / saddle_share_limit(k, h, r)) - 1.0))
    numbers = {"h": h, "k": k, "relative errors at r = 80, 160": gaps}
    return Finding(bool(gaps[1] < 0.65 * gaps[0] and gaps[1] < 0.5), numbers, {})


def _connected(case: Case) -> Finding:
    r, m = case.facts["small"], case.facts["wide"]
    graph = manifold_graph(r, m)
    numbers = {"small": r, "wide": m, "subspaces": len(graph.subspaces), "connected": graph.connected}
    return Finding(graph.connected == (m > r), numbers, {})


COUNTS = (
    Statement(
        "subspaces-counted",
        "[S21] section 4",
        "G(r, m) and T(r, m) count the subspaces of copies, and those with zero-type groups",
        _pair,
        _formulas,
        "all 28 pairs 1 <= r <= m <= 7",
    ),
    Statement(
        "permutation-points-counted",
        "[B19] section 4.3",
        "T(K, n) = (n-K)! S(n, n-K)/n! counts the permutation points of order K per minimum",
        _order,
        _ratio,
        "all 21 pairs 1 <= K < n <= 7",
        by=("K",),
    ),
    Statement(
        "limit-as-printed",
        "[B19] Lemma 1",
        "C(n-K, K)/2^K tends to e^-K n^K/(2^K K!)",
        _few,
        _printed_limit,
        "K = 1 to 6 at n = 10^9",
        cost=10,
    ),
    Statement(
        "limit-without-exponential",
        "science notes, section 3",
        "C(n-K, K)/2^K tends to n^K/(2^K K!)",
        _few,
        _right_limit,
        "K = 1 to 6 at n = 10^9",
        cost=10,
    ),
    Statement(
        "share-of-saddles",
        "[S21] section 4",
        "G(r-k, r+h)/T(r, r+h) tends to r^k h!/(2^k (h+k)!)",
        _few,
        _share,
        "six pairs (h, k), h = 1 to 6 and k = 1 or 2, at r = 80 and 160",
        cost=10,
    ),
    Statement(
        "manifold-connected",
        "[S21] Theorem 4.2",
        "the expansion manifold is connected exactly when there are neurons to spare",
        _graph,
        _connected,
        "(r, m) = (2, 2), (2, 3), (3, 3), (2, 4), (3, 4)",
        cost=12,
    ),
)
