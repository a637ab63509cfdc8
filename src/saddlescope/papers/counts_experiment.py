"""The numbers and regimes of both papers: closed forms against enumeration, limits, who outnumbers whom."""

import math
from collections.abc import Mapping
from fractions import Fraction

from saddlescope.counting.closed_form import (
    critical_subspaces,
    minimum_subspaces,
    permutation_point_ratio,
    ratio_limit,
    ratio_lower_bound,
)
from saddlescope.counting.enumerate import minimum_assignments
from saddlescope.counting.regimes import regimes
from saddlescope.papers.experiment import Agreement, Claim, Experiment, Judgement, Result, Settings, Size

CLAIMS = (
    Claim(
        "subspaces",
        "[S21] propositions 4.2 and 4.3",
        "G(r, m) subspaces of critical points and T(r, m) of minima, in closed form",
    ),
    Claim(
        "regimes",
        "[S21] section 4.4",
        "with few extra neurons the saddles' subspaces outnumber those of the minima, with many the reverse",
    ),
    Claim("bound", "[B19] section 4.3", "at least C(n - K, K)/2^K permutation points of order K per minimum"),
    Claim("limit", "[B19] Lemma 1", "as n grows, C(n - K, K)/2^K tends to n^K e^(-K)/(2^K K!)"),
)
ORDERS = (1, 2, 3)


def tasks(size: Size) -> dict[str, Settings]:
    """Return enumeration, regimes, ratios."""
    quick = size == "quick"
    return {
        "enumeration": {"what": "enumeration", "widest": 6 if quick else 8},
        "ratios": {"what": "ratios", "widths": [8, 16, 32, 64, 128, 256] + ([] if quick else [1024, 4096])},
        "regimes": {"what": "regimes", "largest": 60 if quick else 1000},
    }


def measure(settings: Settings) -> Result:
    """Count what the settings ask for."""
    if settings["what"] == "enumeration":
        return {"rows": [_row(r, m) for m in range(1, settings["widest"] + 1) for r in range(1, m + 1)]}
    if settings["what"] == "regimes":
        found = regimes(range(1, settings["largest"] + 1), 2 * settings["largest"])
        return {"widest": 2 * settings["largest"], "crossings": [[one.minimal, one.crossing] for one in found]}
    return {"rows": [_ratio(order, n) for order in ORDERS for n in settings["widths"]]}


def _row(r: int, m: int) -> list[int]:
    """Return r, m, G, T and both as listed one by one."""
    roles = [max(one) < r for one in minimum_assignments(r, m)]
    return [r, m, critical_subspaces(r, m), minimum_subspaces(r, m), sum(roles), len(roles)]


def _ratio(order: int, n: int) -> list[int | float]:
    """Return order, n, and relative to n^K/(2^K K!): T(K, n), its lower bound, and Lemma 1's limit as printed."""
    limit = ratio_limit(order, n)
    exact, bound = permutation_point_ratio(order, n), ratio_lower_bound(order, n)
    return [order, n, float(Fraction(exact) / limit), float(bound / limit), math.exp(-order)]


def judge(results: Mapping[str, Result]) -> tuple[Judgement, ...]:
    """Compare closed forms and enumeration, both sides of the regimes, bound and limit."""
    found = []
    if "enumeration" in results:
        rows = results["enumeration"]["rows"]
        wrong = sum(row[2:4] != row[4:6] for row in rows)
        text = f"{len(rows) - wrong} of {len(rows)} pairs r <= m <= {rows[-1][1]} equal to the subspaces listed singly"
        found.append(Judgement("subspaces", text, "no" if wrong else "yes"))
    if "regimes" in results:
        found.append(_judge_regimes(results["regimes"]["crossings"]))
    if "ratios" in results:
        rows = results["ratios"]["rows"]
        held = sum(row[3] <= row[2] for row in rows)
        found.append(Judgement("bound", f"held for {held} of {len(rows)} pairs K, n", _all(held, len(rows))))
        widest = max(row[1] for row in rows)
        last = [row for row in rows if row[1] == widest]
        near = [abs(math.log(row[3])) < abs(math.log(row[3] / row[4])) for row in last]
        numbers = ", ".join(f"K = {row[0]:.0f}: {row[3]:.4f}" for row in last)
        text = (
            f"at n = {widest:.0f} the ratio to n^K/(2^K K!), without e^(-K), is {numbers}; "
            f"the printed limit would need {', '.join(f'{row[4]:.3f}' for row in last)}"
        )
        found.append(Judgement("limit", text, "no" if all(near) else ("partly" if any(near) else "yes")))
    return tuple(found)


def _judge_regimes(crossings: list[list[int | None]]) -> Judgement:
    """The papers' two regimes exist for r* where saddles outnumber first and a crossing is found."""
    inner = [(r, m) for r, m in crossings if r is not None and r > 2]
    both = [(r, m) for r, m in inner if m is not None and m > r]
    known = [(r, m) for r, m in crossings if r is not None and m is not None]
    text = f"both regimes for {len(both)} of {len(inner)} minimal widths r* > 2"
    if known:
        r, m = known[-1]
        text += f"; at r* = {r} minima outnumber from m = {m} on"
    return Judgement("regimes", text, _all(len(both), len(inner)))


def _all(held: int, total: int) -> Agreement:
    return "yes" if held == total else ("no" if held == 0 else "partly")


EXPERIMENT = Experiment(
    name="counts",
    title="How many minima, permutation points and induced saddles",
    source="[B19] section 4.3, [S21] section 4",
    claims=CLAIMS,
    tasks=tasks,
    measure=measure,
    judge=judge,
    remarks=("Numbers of subspaces, not of volume; for activations without symmetries of their own.",),
)
