"""[S21], toy: students of growing width, 50 seeds each; who reaches zero loss, and what their neurons became."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from saddlescope.papers.experiment import Agreement, Claim, Experiment, Judgement, Result, Settings, Size
from saddlescope.papers.overparameterised import TWINS, endings, reached, sort_neurons, together, toy_problem, zeros
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem
from saddlescope.training.students import train_students

CLAIMS = (
    Claim(
        "stuck",
        "[S21] toy experiments",
        "students hardly wider than their teacher end, from some seeds, at a nonzero loss",
    ),
    Claim("reach", "[S21] toy experiments", "students much wider than their teacher reach zero loss"),
    Claim(
        "manifold",
        "[S21] section 4",
        "for activations without symmetries of their own, every zero-loss student lies on the expansion manifold: "
        "copies of all teacher neurons, zero-type groups and nothing else",
    ),
    Claim("zero-type", "[S21] toy experiments", "wide students have groups of neurons whose outgoing weights cancel"),
)
TARGET = 1e-20
ACTIVATIONS = ("sigmoid", "sigmoid_softplus", "exp")
NARROW, WIDE = 5, 20

# A second, wider tolerance: at a loss of 1e-20 several copies whose differences cancel may still be this far apart.
LOOSE = 1e-2
BLOCK = 10

# A lowest eigenvalue above minus this share of the largest is not called negative.
FLAT = 1e-9


def tasks(size: Size) -> dict[str, Settings]:
    """Return blocks of seeds for each width and activation; width 4, the teacher's own, last."""
    quick = size == "quick"
    blocks = {4: 1, 5: 1, 20: 1} if quick else {5: 5, 10: 5, 20: 5, 4: 5}
    return {
        f"{activation}, width {width}, seeds {first} to {first + BLOCK - 1}": {
            "activation": activation,
            "width": width,
            "seeds": [first, first + BLOCK],
            "adam_steps": 2000,
            "limit": 400 if quick else 10000,
        }
        for width, count in blocks.items()
        for activation in (ACTIVATIONS[:2] if quick else ACTIVATIONS)
        for first in range(0, BLOCK * count, BLOCK)
    }


def measure(settings: Settings) -> Result:
    """Train a block of students and sort their neurons."""
    problem = toy_problem(settings["width"], settings["activation"])
    chosen = {"adam_steps": settings["adam_steps"], "limit": settings["limit"], "target": TARGET}
    students = train_students(problem, range(*settings["seeds"]), **chosen)
    neurons, twins = problem.network.neurons(1), settings["activation"] in TWINS
    rows = []
    for i in range(len(students.seeds)):
        sorting = sort_neurons(students.parameters[i], neurons, twins=twins)
        loosely = sort_neurons(students.parameters[i], neurons, twins=twins, tolerance=LOOSE)
        rows.append(
            {
                **students.row(i),
                "lowest": _lowest(problem, students.parameters[i]) if students.endings[i] == "critical point" else None,
                "copies": list(sorting.copies),
                "zero_groups": list(sorting.zero_groups),
                "silent": sorting.silent,
                "other": sorting.other,
                "whole": sorting.whole,
                "loosely_whole": loosely.whole,
            }
        )
    return {"activation": settings["activation"], "width": settings["width"], "students": rows}


@in_float64
def _lowest(problem: Problem, parameters: dict[str, np.ndarray]) -> float:
    """Return the Hessian's lowest eigenvalue, as a share of its largest."""
    values = np.linalg.eigvalsh(np.asarray(problem.hessian(problem.network.layout.flatten(parameters))))
    return float(f"{values[0] / values[-1]:.3g}")


def cells(results: Mapping[str, Result]) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Return all students by activation and width, both in order."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for one in sorted(results.values(), key=lambda one: (ACTIVATIONS.index(one["activation"]), one["width"])):
        found.setdefault((one["activation"], one["width"]), []).extend(one["students"])
    return found


def judge(results: Mapping[str, Result]) -> tuple[Judgement, ...]:
    """Judge by seeds of known end; a student cut by its step limit decides nothing."""
    every = cells(results)
    widest = {name: max(width for other, width in every if other == name) for name, _ in every}
    narrow = {name: row for (name, width), row in every.items() if width == NARROW}
    wide = {name: every[name, width] for name, width in widest.items() if width >= WIDE}
    found = []
    if narrow:
        answers: list[Agreement] = [_stuck(row) for row in narrow.values()]
        text = "; ".join(f"{name}, width {NARROW}: {endings(row)}" for name, row in narrow.items())
        lows = [one["lowest"] for row in every.values() for one in row if one["lowest"] is not None]
        if lows:
            minima = sum(low > -FLAT for low in lows)
            text += f"; of {len(lows)} critical points of all widths {minima} have no negative eigenvalue"
        found.append(Judgement("stuck", text, together(answers)))
    if wide:
        answers = [reached(row) for row in wide.values()]
        text = "; ".join(f"{name}, width {widest[name]}: {endings(row)}" for name, row in wide.items())
        found.append(Judgement("reach", text, together(answers)))
    plain = [one for (name, _), row in every.items() if name not in TWINS for one in zeros(row)]
    if plain:
        names = sorted({name for name, _ in every} - set(TWINS))
        others = [one for (name, _), row in every.items() if name in TWINS for one in zeros(row)]
        text = f"sorted without rest at a distance of 1e-3: {_whole(plain)} ({', '.join(names)})"
        if others:
            text += f"; up to twins and constants {_whole(others)} ({', '.join(TWINS)})"
        found.append(Judgement("manifold", text, _share(sum(one["whole"] for one in plain), len(plain))))
    ends = {key: zeros(row) for key, row in every.items() if key[1] >= WIDE and zeros(row)}
    if ends:
        counts = {key: sum(max(one["zero_groups"], default=0) > 1 for one in row) for key, row in ends.items()}
        text = "; ".join(f"{key[0]}, width {key[1]}: {counts[key]} of {len(row)}" for key, row in ends.items())
        words = f"zero-loss students with a group of two or more whose outgoing weights cancel: {text}"
        found.append(Judgement("zero-type", words, "yes" if any(counts.values()) else "no"))
    return tuple(found)


def _whole(students: list[dict[str, Any]]) -> str:
    whole, loosely = (sum(one[kind] for one in students) for kind in ("whole", "loosely_whole"))
    return f"{whole} of {len(students)} zero-loss students, {loosely} at {LOOSE:g}"


def _stuck(students: list[dict[str, Any]]) -> Agreement:
    """Some seed at a critical point of nonzero loss: yes; all at zero: no; else not known."""
    if any(one["ending"] == "critical point" for one in students):
        return "yes"
    return "no" if len(zeros(students)) == len(students) else "undecided"


def _share(held: int, total: int) -> Agreement:
    return "yes" if held == total else ("no" if held == 0 else "partly")


EXPERIMENT = Experiment(
    name="overparameterised-training",
    version=2,
    title="Students wider than their teacher",
    source="[S21] toy experiments",
    claims=CLAIMS,
    tasks=tasks,
    measure=measure,
    judge=judge,
    remarks=(
        "sigmoid_softplus is g(x) = sigmoid(4x) + softplus(x). Zero loss: a mean squared error of 1e-20 or less.",
        "The paper trains with Adam and SLSQP. Here Adam takes 2000 steps at a falling rate of 0.01 from weights "
        "uniform in +-1/sqrt(inputs), then Levenberg-Marquardt goes on; shares of seeds depend on start and optimiser.",
        "Critical point: gradient norm of 1e-12 or less, and of a millionth of the root of the loss; how many have no "
        "negative eigenvalue of the Hessian, to 1e-9 of the largest, is said. A student cut by the step limit (10000; "
        "quick: 400) is not converged, whatever its loss.",
        "The paper's width 45 is left out for its cost; width 4, the teacher's own, is added. Each has 50 seeds "
        "(quick: 10).",
        "sigmoid has sign twins and constants, g(x) + g(-x) = 1 and g(0) = 1/2: its neurons are sorted up to these; "
        "they do not decide the claim on the manifold.",
    ),
)
