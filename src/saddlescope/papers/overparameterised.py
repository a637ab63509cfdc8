"""Students wider than their teacher: the toy problem of [S21], and what the neurons of a trained student became."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from saddlescope.data.data import Data
from saddlescope.data.sources import grid_inputs
from saddlescope.models.mlp import MLP
from saddlescope.papers.experiment import Agreement
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem
from saddlescope.units.neurons import Neurons

TEACHER = np.array([[0.6, 0.5], [-0.5, 0.5], [-0.2, -0.6], [0.1, -0.6]])
"""Incoming vectors of the teacher of [S21]; no biases, outgoing weights all 1."""

TOLERANCE = 1e-3
"""Distance up to which incoming vectors count as equal; share of the largest outgoing weight that counts as zero."""

TWINS = ("sigmoid",)
"""Activations for which g(x) + g(-x) is constant: a neuron may stand for the opposite one of the opposite sign."""


@dataclass(frozen=True, kw_only=True)
class Sorting:
    """Neurons of one student: copies of each teacher neuron, sizes of zero-type groups, silent ones, and the rest.

    ``copies`` are 0 for a teacher neuron whose copies do not add up to its outgoing weight: they count as ``other``.
    """

    copies: tuple[int, ...]
    zero_groups: tuple[int, ...]
    silent: int
    other: int

    @property
    def whole(self) -> bool:
        """Whether every teacher neuron has its copies and nothing is left over: a point of the expansion manifold."""
        return self.other == 0 and min(self.copies) > 0


@in_float64
def toy_problem(width: int, activation: str) -> Problem:
    """Return the problem of a student of this width on the grid -5:0.25:5 squared."""
    inputs = grid_inputs()
    teacher = MLP((2, len(TEACHER), 1), activation, bias=False)
    arrays = (TEACHER, np.ones((1, len(TEACHER))))
    targets = np.asarray(teacher.apply(dict(zip(teacher.layout.names, arrays, strict=True)), inputs))
    return Problem(MLP((2, width, 1), activation, bias=False), Data(inputs, targets))


def sort_neurons(
    parameters: dict[str, np.ndarray], neurons: Neurons, *, twins: bool = False, tolerance: float = TOLERANCE
) -> Sorting:
    """Sort a student's neurons by their incoming vectors: copies, zero-type groups, silent, other.

    Args:
        parameters: of the student.
        neurons: its hidden layer.
        twins: whether the opposite incoming vector counts as the same one, with the opposite outgoing weight a. Since
            a g(-x) = a - a g(x) for sigmoid, each such neuron leaves a constant a, and a neuron without incoming weight
            is the constant a/2: these neurons are a zero-type group where all constants cancel.
        tolerance: see `TOLERANCE`.
    """
    incoming, outgoing = neurons.incoming_vectors(parameters), neurons.outgoing_vectors(parameters)
    scale = np.abs(outgoing).max()
    loud = np.linalg.norm(outgoing, axis=1) > tolerance * scale
    left = [int(i) for i in np.flatnonzero(loud)]
    copies, groups, other = [], [], 0
    still = [i for i in left if twins and np.linalg.norm(incoming[i]) <= tolerance]
    left = [i for i in left if i not in still]
    constant = 0.5 * outgoing[still].sum()
    for vector in TEACHER:
        near, signs = _near(incoming, left, vector, tolerance, twins=twins)
        left = [i for i in left if i not in near]
        constant += outgoing[near][signs < 0].sum()
        found = bool(near) and abs((signs @ outgoing[near]).item() - 1.0) <= tolerance * max(1.0, scale)
        copies.append(len(near) if found else 0)
        other += 0 if found else len(near)
    while left:
        near, signs = _near(incoming, left, incoming[left[0]], tolerance, twins=twins)
        left = [i for i in left if i not in near]
        constant += outgoing[near][signs < 0].sum()
        if np.linalg.norm(signs @ outgoing[near]) <= tolerance * scale:
            groups.append(len(near))
        else:
            other += len(near)
    if still and abs(constant) <= tolerance * scale:
        groups.append(len(still))
    else:
        other += len(still)
    return Sorting(copies=tuple(copies), zero_groups=tuple(sorted(groups)), silent=int((~loud).sum()), other=other)


def _near(
    incoming: np.ndarray, among: list[int], vector: np.ndarray, tolerance: float, *, twins: bool
) -> tuple[list[int], np.ndarray]:
    """Return the neurons with this incoming vector, and 1 or, for its opposite, -1."""
    same = [(i, 1.0) for i in among if np.linalg.norm(incoming[i] - vector) <= tolerance]
    if twins:
        known = {i for i, _ in same}
        same += [(i, -1.0) for i in among if i not in known and np.linalg.norm(incoming[i] + vector) <= tolerance]
    return [i for i, _ in same], np.array([sign for _, sign in same])


def interval(count: int, total: int) -> tuple[float, float]:
    """Return the 95% Clopper-Pearson interval of a share."""
    found = binomtest(count, total).proportion_ci()
    return float(found.low), float(found.high)


def zeros(students: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return those that reached zero loss."""
    return [one for one in students if one["ending"] == "zero loss"]


def endings(students: list[dict[str, Any]]) -> str:
    """Return the numbers of seeds by outcome in words, zero loss with its 95% interval."""
    reached, total = len(zeros(students)), len(students)
    low, high = interval(reached, total)
    stuck = sum(one["ending"] == "critical point" for one in students)
    cut = [one for one in students if one["ending"] == "not converged"]
    rest = f", {stuck} critical point" if stuck else ""
    if cut:
        loss, growth = (max(one[key] for one in cut) for key in ("loss", "growth"))
        rest += (
            f", {len(cut)} not converged (loss up to {loss:.1e}, largest weight up to {growth:.2g} times its start's)"
        )
    return f"zero loss {reached} of {total} (95%: {low:.0%} to {high:.0%}){rest}"


def reached(students: list[dict[str, Any]]) -> Agreement:
    """Return whether all reached zero loss; a student that is neither there nor at a critical point decides nothing."""
    if any(one["ending"] == "critical point" for one in students):
        return "partly" if zeros(students) else "no"
    return "yes" if len(zeros(students)) == len(students) else "undecided"


def together(answers: Sequence[Agreement]) -> Agreement:
    """Return what all say, "partly" where they differ and are decided, "undecided" where one is not."""
    if "undecided" in answers:
        return "undecided"
    return answers[0] if len(set(answers)) == 1 else "partly"
