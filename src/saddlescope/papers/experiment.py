"""What an experiment of the papers is, as data: what they say, which tasks measure it, how the numbers are judged.

`reproduction` runs the tasks (any number of processes, resumable), `plots` draws their results.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Size = Literal["quick", "full"]
Agreement = Literal["yes", "no", "partly", "undecided"]
Settings = dict[str, Any]
Result = dict[str, Any]
"""What one task measured; JSON can hold it (lists, not arrays; None for what is not finite)."""


@dataclass(frozen=True)
class Claim:
    """A statement of a paper: a short name, where it stands, its words."""

    name: str
    source: str
    words: str


@dataclass(frozen=True)
class Judgement:
    """What was measured of a claim, in words with numbers, and whether paper and measurement agree."""

    claim: str
    measured: str
    agrees: Agreement


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment, as data.

    ``tasks(size)`` gives each task's settings by its name, in the order of their worth: JSON-able, and all that
    ``measure`` is told. ``measure`` is a function at the top of a module, so that other processes find it; the same
    settings give the same result. ``judge`` gets the results that exist by task name, perhaps only some of the tasks,
    and must not claim what these do not show. A new ``version`` makes former results void.
    """

    name: str
    title: str
    source: str
    claims: tuple[Claim, ...]
    tasks: Callable[[Size], dict[str, Settings]]
    measure: Callable[[Settings], Result]
    judge: Callable[[Mapping[str, Result]], tuple[Judgement, ...]]
    version: int = 1
    remarks: tuple[str, ...] = ()


def judgements(experiment: Experiment, results: Mapping[str, Result]) -> tuple[Judgement, ...]:
    """Return one judgement a claim, in the claims' order; what was not measured is undecided.

    Raises:
        ValueError: the experiment judges a claim that it does not make.
    """
    found = {one.claim: one for one in experiment.judge(results)} if results else {}
    unknown = set(found) - {claim.name for claim in experiment.claims}
    if unknown:
        raise ValueError(f"{experiment.name} judges what it does not claim: {sorted(unknown)}")
    return tuple(
        found.get(claim.name, Judgement(claim.name, "not measured", "undecided")) for claim in experiment.claims
    )
