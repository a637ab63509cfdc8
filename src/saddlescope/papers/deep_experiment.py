"""[S21], three hidden layers: students of a 2-4-4-4-1 tanh teacher, and what their first layer's neurons became."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from saddlescope.data.data import teacher_data
from saddlescope.data.sources import deep_teacher, grid_inputs
from saddlescope.papers.experiment import Agreement, Claim, Experiment, Judgement, Result, Settings, Size
from saddlescope.papers.overparameterised import endings, reached, zeros
from saddlescope.problem.problem import Problem
from saddlescope.training.students import train_students

CLAIMS = (
    Claim(
        "narrow",
        "[S21] experiments with three hidden layers",
        "students hardly wider than their teacher in every layer do not reach zero loss from every seed",
    ),
    Claim(
        "wide",
        "[S21] experiments with three hidden layers",
        "students much wider than their teacher in every layer reach zero loss",
    ),
    Claim(
        "copies",
        "[S21] experiments with three hidden layers",
        "in a zero-loss student every neuron of the teacher's first layer is found again, up to its sign",
    ),
)
TARGET = 1e-20
NARROW, WIDE = 5, 20

# Distance, as a share of the teacher neuron's incoming vector, up to which a student's neuron counts as its copy.
TOLERANCE = 1e-3

# Width: seeds in all, seeds a task, largest number of Levenberg-Marquardt steps.
FULL = {5: (20, 10, 2000), 20: (4, 1, 2000), 10: (10, 5, 2000)}
QUICK = {5: (4, 4, 400), 20: (1, 1, 100)}


def tasks(size: Size) -> dict[str, Settings]:
    """Return blocks of seeds for each width, narrow and wide first."""
    return {
        f"width {width}, seeds {first} to {first + block - 1}": {
            "width": width,
            "seeds": [first, first + block],
            "adam_steps": 2000,
            "limit": limit,
        }
        for width, (seeds, block, limit) in (QUICK if size == "quick" else FULL).items()
        for first in range(0, seeds, block)
    }


def measure(settings: Settings) -> Result:
    """Train a block of students; look for the teacher's first layer in each."""
    network, teacher = deep_teacher()
    width = settings["width"]
    student = network.with_units({layer: width for layer in network.layers})
    problem = Problem(student, teacher_data(network, teacher, grid_inputs(), name="deep"))
    chosen = {"adam_steps": settings["adam_steps"], "limit": settings["limit"], "target": TARGET}
    students = train_students(problem, range(*settings["seeds"]), **chosen)
    wanted = network.neurons(1).incoming_vectors(teacher)
    rows = []
    for i in range(len(students.seeds)):
        distances = nearest(wanted, student.neurons(1).incoming_vectors(students.parameters[i]))
        rows.append(
            {
                **students.row(i),
                "distances": [float(f"{d:.3g}") for d in distances],
            }
        )
    return {"width": width, "students": rows}


def nearest(wanted: np.ndarray, incoming: np.ndarray) -> np.ndarray:
    """Return each wanted vector's distance to the nearest of +- the others, as a share of its length."""
    gaps = wanted[:, None, None, :] - np.stack([incoming, -incoming])[None]
    return np.linalg.norm(gaps, axis=-1).min(axis=(1, 2)) / np.linalg.norm(wanted, axis=1)


def cells(results: Mapping[str, Result]) -> dict[int, list[dict[str, Any]]]:
    """Return all students by width, in order."""
    found: dict[int, list[dict[str, Any]]] = {}
    for one in sorted(results.values(), key=lambda one: one["width"]):
        found.setdefault(one["width"], []).extend(one["students"])
    return found


def copied(student: Mapping[str, Any]) -> int:
    """Return how many neurons of the teacher's first layer are found again."""
    return sum(distance <= TOLERANCE for distance in student["distances"])


def judge(results: Mapping[str, Result]) -> tuple[Judgement, ...]:
    """Judge by seeds of known end; a student that was cut by its step limit decides nothing."""
    every = cells(results)
    found = []
    if NARROW in every:
        row = every[NARROW]
        known = any(one["ending"] == "critical point" for one in row)
        agrees: Agreement = "yes" if known else ("no" if len(zeros(row)) == len(row) else "undecided")
        losses = [one["loss"] for one in row]
        text = f"width {NARROW}: {endings(row)}; losses {min(losses):.2g} to {max(losses):.2g}"
        found.append(Judgement("narrow", text, agrees))
    wide = {width: row for width, row in every.items() if width >= WIDE}
    if wide:
        row = wide[max(wide)]
        losses = [one["loss"] for one in row]
        text = f"width {max(wide)}: {endings(row)}; losses {min(losses):.2g} to {max(losses):.2g}"
        found.append(Judgement("wide", text, reached(row)))
    ends = [one for row in every.values() for one in zeros(row)]
    if ends:
        whole = sum(copied(one) == len(one["distances"]) for one in ends)
        text = f"all of the teacher's first layer within {TOLERANCE:g} in {whole} of {len(ends)} zero-loss students"
        found.append(Judgement("copies", text, "yes" if whole == len(ends) else ("partly" if whole else "no")))
    return tuple(found)


EXPERIMENT = Experiment(
    name="deep-overparameterised",
    version=2,
    title="Students wider than their teacher in three hidden layers",
    source="[S21] experiments with three hidden layers",
    claims=CLAIMS,
    tasks=tasks,
    measure=measure,
    judge=judge,
    remarks=(
        "Teacher 2-4-4-4-1, tanh, with the weights published with the paper's scripts; inputs are the grid "
        "-5:0.25:5 squared. Students have one width in all three hidden layers.",
        "Adam for 2000 steps at a falling rate of 0.01, then at most 2000 steps of Levenberg-Marquardt (quick: fewer); "
        "zero loss: a mean squared error of 1e-20 or less. The paper trains with Adam and SLSQP.",
        "Full size has 20 seeds of width 5, 10 of width 10 and 4 of width 20, which cost most (quick: 4 of 5 and 1 of "
        "20).",
        "Of students that did not converge it is said how much their largest weight grew; whether it would go on "
        "growing without bound, and whether two neurons approach meanwhile (a channel to infinity), was not measured.",
    ),
)
