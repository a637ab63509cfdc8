"""The papers' statements, each tried on many random cases: holds, holds when ..., fails; with counterexamples.

Verdicts are counts of distinct cases of a stated population: a statement holds if it failed in no case that was
decided; it holds when a label has some value if it failed only in cases of other values. That it holds in all cases
tried proves nothing, and nothing is known of cases outside the population; one counterexample refutes.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from saddlescope.errors import SettingsError
from saddlescope.papers.claims_counts import COUNTS
from saddlescope.papers.claims_paths import WAYS
from saddlescope.papers.claims_points import POINTS
from saddlescope.papers.samples import Case
from saddlescope.papers.statements import Finding, Statement

STATEMENTS: tuple[Statement, ...] = (*POINTS, *WAYS, *COUNTS)

# "Holds when" needs at least so many decided cases with that label.
ENOUGH = 10

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Verdict:
    """What came out for one statement: counts of distinct cases, where it did not fail, the first counterexample.

    ``repeats``: cases drawn that had been tried before (a finite population may be smaller than the sample).
    """

    statement: Statement
    verdict: str  # "holds" | "holds when" | "fails" | "undecided"
    held: int
    failed: int
    undecided: int
    silent: int  # cases of which the statement says nothing
    repeats: int
    conditions: tuple[tuple[str, str, int], ...]  # label, value, cases in which it held; none failed
    counterexample: Case | None
    numbers: dict[str, Any]

    @property
    def distinct(self) -> int:
        """Number of distinct cases tried."""
        return self.held + self.failed + self.undecided + self.silent


def find_statement(name: str) -> Statement:
    """Return the statement of that name.

    Raises:
        SettingsError: there is none.
    """
    for statement in STATEMENTS:
        if statement.name == name:
            return statement
    raise SettingsError(
        "no such statement", name="name", value=name, expected=", ".join(statement.name for statement in STATEMENTS)
    )


def judge(statement: Statement, cases: Iterable[Case]) -> Verdict:
    """Try a statement on cases, each once, and count."""
    counts: Counter = Counter()
    by_label: dict[tuple[str, str], Counter] = defaultdict(Counter)
    first: tuple[Case, Finding] | None = None
    seen_before: set[str] = set()
    for case in cases:
        if case.identity in seen_before:
            counts["repeats"] += 1
            continue
        seen_before.add(case.identity)
        found = statement.judge(case)
        if found is None:
            counts["silent"] += 1
            continue
        counts[found.holds] += 1
        if found.holds is False and first is None:
            first = case, found
        for label in statement.by:
            by_label[label, found.labels.get(label, "not known")][found.holds] += 1
    conditions = tuple(
        (label, value, seen[True])
        for (label, value), seen in sorted(by_label.items())
        if seen[True] >= ENOUGH and not seen[False]
    )
    held, failed = counts[True], counts[False]
    word = "fails" if failed else "holds" if held else "undecided"
    if failed and conditions:
        word = "holds when"
    return Verdict(
        statement,
        word,
        held,
        failed,
        counts[None],
        counts["silent"],
        counts["repeats"],
        conditions if failed else (),
        first[0] if first else None,
        first[1].numbers if first else {},
    )


def run_claims(
    *, samples: int = 120, seed: int = 0, only: tuple[str, ...] = (), progress: Progress | None = None
) -> tuple[Verdict, ...]:
    """Try the statements on random cases.

    Args:
        samples: cases per statement; expensive ones get a fixed fraction.
        seed: other seeds give other cases.
        only: names of statements; none means all.
        progress: called with (done, total, name) before each statement.

    Raises:
        SettingsError: fewer than one sample, a negative seed, or no statement of a name.
    """
    if samples < 1 or seed < 0:
        raise SettingsError(
            "not a number of samples, or not a seed",
            name="samples, seed",
            value=(samples, seed),
            expected="1 or more, 0 or more",
        )
    chosen = [find_statement(name) for name in only] if only else list(STATEMENTS)
    verdicts = []
    for number, statement in enumerate(chosen):
        if progress is not None:
            progress(number, len(chosen), statement.name)
        count = -(-samples // statement.cost)
        verdicts.append(judge(statement, (statement.draw(1_000_003 * seed + k) for k in range(count))))
    if progress is not None:
        progress(len(chosen), len(chosen), "done")
    return tuple(verdicts)
