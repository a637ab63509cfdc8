"""Students wider than their teacher: which seeds reach zero loss, and what their neurons became ([S21], toy task)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from saddlescope.precision import in_float64
from saddlescope.problem.data import Data
from saddlescope.problem.networks import Perceptron
from saddlescope.problem.problem import Problem
from saddlescope.symmetry.neurons import Neurons
from saddlescope.training.students import Progress, train_students

TEACHER = np.array([[0.6, 0.5], [-0.5, 0.5], [-0.2, -0.6], [0.1, -0.6]])
"""Incoming vectors of the teacher of [S21]; no biases, outgoing weights all 1."""

# Relative distance up to which neurons count as equal, and sums as zero.
TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Sorting:
    """Neurons of one student: copies of each teacher neuron, sizes of zero-type groups, silent ones, and the rest."""

    copies: tuple[int, ...]
    zero_groups: tuple[int, ...]
    silent: int
    other: int


@in_float64
def toy_problem(width: int, activation: str) -> Problem:
    """Return the problem of a student of this width on the grid -5:0.25:5 squared."""
    axis = np.linspace(-5.0, 5.0, 41)
    inputs = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    teacher = Perceptron((2, len(TEACHER), 1), activation, bias=False)
    targets = np.asarray(teacher.apply({"0.weight": TEACHER, "2.weight": np.ones((1, len(TEACHER)))}, inputs))
    return Problem(Perceptron((2, width, 1), activation, bias=False), Data(inputs, targets))


def sort_neurons(parameters: dict[str, np.ndarray], neurons: Neurons, *, tolerance: float = TOLERANCE) -> Sorting:
    """Sort a student's neurons by their incoming vectors: copies, zero-type groups, silent, other.

    Sign twins of activations such as sigmoid are not sought: they count as "other".
    """
    incoming, outgoing = neurons.incoming_vectors(parameters), neurons.outgoing_vectors(parameters)
    scale = np.abs(outgoing).max()
    loud = np.linalg.norm(outgoing, axis=1) > tolerance * scale
    left = [int(i) for i in np.flatnonzero(loud)]
    copies = [0] * len(TEACHER)
    groups: list[int] = []
    other = 0
    while left:
        near = [j for j in left if np.linalg.norm(incoming[j] - incoming[left[0]]) <= tolerance]
        left = [j for j in left if j not in near]
        total = outgoing[near].sum(axis=0)
        distances = np.linalg.norm(TEACHER - incoming[near].mean(axis=0), axis=1)
        if distances.min() <= tolerance and np.abs(total - 1.0).max() <= tolerance * max(1.0, scale):
            copies[int(distances.argmin())] += len(near)
        elif len(near) > 1 and np.linalg.norm(total) <= tolerance * scale:
            groups.append(len(near))
        else:
            other += len(near)
    return Sorting(copies=tuple(copies), zero_groups=tuple(sorted(groups)), silent=int((~loud).sum()), other=other)


def measure(width: int, activation: str, seeds: int = 50, progress: Progress | None = None, **settings: Any) -> Any:
    """Return the record of one width and activation, ready for JSON."""
    problem = toy_problem(width, activation)
    students = train_students(problem, range(seeds), progress=progress, **settings)
    rows = []
    for i, seed in enumerate(students.seeds):
        sorting = sort_neurons(students.parameters[i], problem.network.neurons(1))
        rows.append(
            {
                "seed": seed,
                "loss": float(f"{students.losses[i]:.6g}"),
                "gradient_norm": float(f"{students.gradient_norms[i]:.3g}"),
                "growth": float(f"{students.growth[i]:.3g}"),
                "ending": students.endings[i],
                "outcome": str(students.outcomes[i]),
                "steps": int(students.iterations[i]),
                "copies": sorting.copies,
                "zero_groups": sorting.zero_groups,
                "silent": sorting.silent,
                "other": sorting.other,
            }
        )
    return {"width": width, "activation": activation, "students": rows}
