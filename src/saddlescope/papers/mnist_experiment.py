"""[B19] Fig. 3: MNIST teachers 784-H-H-10; the most similar pair of layer 2 merged; loss and accuracy on the path.

The teacher is trained on labels; the student, equal to it at the start, regresses on its outputs before the softmax,
with the mean squared error relative to the mean squared target.
"""

import itertools
from collections.abc import Mapping

import numpy as np

from saddlescope.data.data import Data, teacher_data
from saddlescope.data.sources import mnist
from saddlescope.models.mlp import MLP
from saddlescope.papers.curves import broken, keep_path
from saddlescope.papers.experiment import Agreement, Claim, Experiment, Judgement, Result, Settings, Size
from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.problem.problem import Problem
from saddlescope.training.train import train

CLAIMS = (
    Claim("rise", "[B19] Fig. 3 A", "the loss mostly rises monotonically to the permutation point"),
    Claim("width", "[B19] Fig. 3 A", "the highest loss on the path falls with the width H"),
    Claim("accuracy", "[B19] Fig. 3 B", "the training accuracy hardly moves along the path"),
)

# Tangential gradient norm at every distance; the first change of distance brings about 1e-2 (H = 10) or 2e-3 (H = 25).
TOLERANCE = 1e-5

# The accuracy "hardly moves" when no path loses more than this; the paper gives no number.
LITTLE = 0.03

# A fall of the loss by this share of the path's highest loss is what the tolerance leaves open.
SLACK = 1e-3


def tasks(size: Size) -> dict[str, Settings]:
    """Return a task a width and seed; the narrowest and the widest networks first."""
    widths, seeds = ((10,), range(2)) if size == "quick" else ((10, 25, 15, 20), range(6))
    images, steps, adam = (2000, 12, 200) if size == "quick" else (60000, 100, 300)
    return {
        f"H={width} seed {seed}": {
            "width": width,
            "seed": seed,
            "images": images,
            "steps": steps,
            "adam_steps": adam,
            "activation": "tanh",
            "tolerance": TOLERANCE,
        }
        for pair in (widths[:2], widths[2:])
        for seed in seeds
        for width in pair
    }


def measure(settings: Settings) -> Result:
    """Train a teacher and follow the path of its most similar pair in hidden layer 2."""
    every = mnist("train")
    assert every.labels is not None
    data = Data(every.inputs[: settings["images"]], labels=every.labels[: settings["images"]], name="mnist")
    width = settings["width"]
    network = MLP((data.inputs.shape[1], width, width, 10), settings["activation"])
    learning = Problem(network, data, loss="cross_entropy")
    teacher = train(learning, seed=settings["seed"], adam_steps=settings["adam_steps"], max_newton=0)
    rows = teacher_data(network, teacher.parameters, np.asarray(data.inputs), labels=data.labels, name="mnist, teacher")
    student = Problem(network, rows, loss="normalised")
    wanted = PathSettings(steps=settings["steps"], tolerance=settings["tolerance"])
    path = find_path(student, teacher, layer=2, settings=wanted)
    kept = keep_path(path)
    point = path.permutation_point
    return {
        **settings,
        **kept,
        "teacher_accuracy": learning.accuracy(teacher.parameters),
        "point_accuracy": None if point is None else point.accuracy,
        "largest_residual": float(path.gradient_norms[path.kinds == "asked"].max()),
        "largest_gradient": float(np.nanmax(path.full_gradient_norms)),
        **path.evaluations,
        "lowest_accuracy": None if path.accuracies is None else float(path.accuracies.min()),
    }


def judge(results: Mapping[str, Result]) -> tuple[Judgement, ...]:
    """Judge rising losses, the barrier over the width by its mean, and the accuracy lost."""
    every = list(results.values())
    ends = [one for one in every if one["ending"] == "permutation-point"]
    up = sum(one["fall"] <= SLACK * one["barrier"] for one in ends)
    met = sum(one["missed"] == 0 for one in every)
    residue = max(one["largest_residual"] / one["largest_gradient"] for one in every)
    text = (
        f"{up} of {len(every)} paths reach a permutation point with no fall of loss above a thousandth of the highest; "
        f"{met} met the tolerance at every distance, the least exact with a residual of {residue:.1%} of its path's "
        f"largest gradient. {broken(results)}"
    )
    agrees: Agreement = "yes" if 2 * up > len(every) else "no"
    found = [Judgement("rise", text, agrees)]
    widths = sorted({one["width"] for one in every})
    means = [float(np.mean([one["barrier"] for one in every if one["width"] == width])) for width in widths]
    if len(widths) > 1:
        falls = all(later < earlier for earlier, later in itertools.pairwise(means))
        text = ", ".join(f"H = {width}: {mean:.3g}" for width, mean in zip(widths, means, strict=True))
        text = f"mean of the highest loss {text} ({len(every)} paths)"
        other: Agreement = "yes" if falls else "partly" if means[-1] < means[0] else "no"
        found.append(Judgement("width", text, other))
    lost = [one["teacher_accuracy"] - one["lowest_accuracy"] for one in every if one["lowest_accuracy"] is not None]
    if lost:
        text = f"largest loss of accuracy on a path {100 * max(lost):.2f} percentage points"
        found.append(Judgement("accuracy", text, "yes" if max(lost) <= LITTLE else "no"))
    return tuple(found)


EXPERIMENT = Experiment(
    name="mnist-paths",
    title="Permutation paths on MNIST",
    source="[B19] Fig. 3",
    claims=CLAIMS,
    tasks=tasks,
    measure=measure,
    judge=judge,
    remarks=(
        "The paper prints neither activation nor step size, tolerance or pair rule: its numbers cannot be matched, its "
        "claims can be tested. Here: tanh, Adam, the most similar incoming vectors, the tied distance.",
        f"Tangential gradient norm at every distance: {TOLERANCE:.0e}; the data hold the largest one met.",
        f"'Hardly' is read as at most {100 * LITTLE:.0f} percentage points.",
    ),
)
