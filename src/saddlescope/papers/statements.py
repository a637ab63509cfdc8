"""What a statement is, and what judging it in one case gives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from saddlescope.papers.samples import Case


@dataclass(frozen=True)
class Finding:
    """Whether a statement holds in one case (None: the numbers leave it open), the numbers, and the case's labels."""

    holds: bool | None
    numbers: dict[str, Any]
    labels: dict[str, str]


@dataclass(frozen=True)
class Statement:
    """A statement: where it is made, in which words, cases to try it on, and how to judge one.

    ``judge`` returns None where the statement says nothing of the case. ``population`` says in words what it is tried
    on: nothing is known of other cases. ``by`` names the labels on which the answer may depend; ``cost``: only every
    n-th sample is taken.
    """

    name: str
    source: str
    words: str
    draw: Callable[[int], Case]
    judge: Callable[[Case], Finding | None]
    population: str
    by: tuple[str, ...] = ()
    cost: int = 1
