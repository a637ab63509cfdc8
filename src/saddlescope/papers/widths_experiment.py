"""[S21], MNIST: one hidden softplus layer of growing width, every student given the same number of gradients."""

from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise

import numpy as np

from saddlescope.data.data import Data, teacher_data
from saddlescope.data.sources import mnist
from saddlescope.models.mlp import MLP
from saddlescope.papers.experiment import Agreement, Claim, Experiment, Judgement, Result, Settings, Size
from saddlescope.papers.overparameterised import interval
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem
from saddlescope.training.train import train

CLAIMS = (
    Claim("falls", "[S21] MNIST experiment", "the wider the student, the lower the loss at which its training ends"),
    Claim(
        "seeds", "[S21] MNIST experiment", "narrow students end at losses that depend on the seed, wide ones less so"
    ),
    Claim("reach", "[S21] MNIST experiment", "wide students reach a low loss from every seed, narrow ones do not"),
)
HIDDEN = 10  # the teacher's width

# Loss, as a share of the mean squared target, that counts as low: a thousandth.
LOW = 1e-3
KEPT = 60  # points kept of a loss curve


def tasks(size: Size) -> dict[str, Settings]:
    """Return a task a width and seed; the widest, which cost most, last."""
    if size == "quick":
        plan, images, steps = {10: 2, 30: 2, 100: 2}, 500, 150
    else:
        plan, images, steps = {10: 4, 20: 4, 50: 4, 100: 4, 200: 3, 500: 1, 1000: 1}, 1000, 500
    return {
        f"width {width}, seed {seed}": {"width": width, "seed": seed, "images": images, "steps": steps}
        for width, seeds in plan.items()
        for seed in range(seeds)
    }


@lru_cache(maxsize=1)
@in_float64
def regression(images: int, steps: int) -> Data:
    """Return images, 14 x 14, and the outputs, before the softmax, of a teacher trained on their labels."""
    whole = mnist("train")
    pixels = whole.inputs[:images].reshape(images, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(images, 196)
    assert whole.labels is not None
    network = MLP((196, HIDDEN, 10), "softplus")
    labelled = Problem(network, Data(pixels, labels=whole.labels[:images]), loss="cross_entropy")
    teacher = train(labelled, seed=1000, adam_steps=steps, max_newton=0)
    return teacher_data(network, teacher.parameters, pixels, name="mnist 14x14")


def measure(settings: Settings) -> Result:
    """Train one student on the teacher's outputs by Adam, with the same number of gradients whatever its width."""
    data = regression(settings["images"], settings["steps"])
    network = MLP((196, settings["width"], 10), "softplus")
    problem = Problem(network, data, loss="normalised")
    end = train(problem, seed=settings["seed"], adam_steps=settings["steps"], max_newton=0)
    rows = np.unique(np.geomspace(1, settings["steps"], KEPT).astype(int))
    return {
        **settings,
        "loss": float(f"{end.loss:.6g}"),
        "gradient_norm": float(f"{end.gradient_norm:.3g}"),
        "gradients": [int(row) for row in rows],
        "losses": [float(f"{end.losses[row - 1]:.5g}") for row in rows],
    }


def cells(results: Mapping[str, Result]) -> dict[int, list[Result]]:
    """Return the students by width, in order."""
    found: dict[int, list[Result]] = {}
    for one in sorted(results.values(), key=lambda one: (one["width"], one["seed"])):
        found.setdefault(one["width"], []).append(one)
    return found


def judge(results: Mapping[str, Result]) -> tuple[Judgement, ...]:
    """Compare the medians of consecutive widths, the spread over seeds, and the shares that get low."""
    losses = {width: [one["loss"] for one in row] for width, row in cells(results).items()}
    if len(losses) < 2:
        return ()
    medians = {width: float(np.median(row)) for width, row in losses.items()}
    middle = list(medians.values())
    falls = sum(b < a for a, b in pairwise(middle))
    text = "median loss / mean squared target: " + ", ".join(f"{m}: {x:.2g}" for m, x in medians.items())
    agrees: Agreement = "yes" if falls == len(middle) - 1 else ("partly" if middle[-1] < middle[0] else "no")
    found = [Judgement("falls", text, agrees)]
    spreads = {width: max(row) / min(row) for width, row in losses.items() if len(row) >= 3}
    if len(spreads) >= 2:
        order = list(spreads.values())
        steady = all(b < a for a, b in pairwise(order))
        less: Agreement = "yes" if steady else ("partly" if order[-1] < order[0] else "no")
        text = "largest / smallest loss over seeds: " + ", ".join(f"{m}: {x:.3g}" for m, x in spreads.items())
        found.append(Judgement("seeds", text, less))
    found.append(_judge_reach(losses))
    return tuple(found)


def _judge_reach(losses: Mapping[int, list[float]]) -> Judgement:
    """Yes where the narrowest does not always get low and the widest does, by intervals that do not meet."""
    low = {width: (sum(x <= LOW for x in row), len(row)) for width, row in losses.items()}
    text = f"loss up to {LOW:g} of the mean squared target: " + ", ".join(
        f"{m}: {k} of {n}" for m, (k, n) in low.items()
    )
    narrow, wide = low[min(low)], low[max(low)]
    if wide[0] < wide[1]:  # cut by the number of gradients, not stuck
        return Judgement("reach", text, "undecided")
    if narrow[0] == narrow[1]:
        return Judgement("reach", text, "partly")
    every = [(k, n) for k, n in low.values() if k == n]
    always, total = sum(k for k, _ in every), sum(n for _, n in every)
    sure = interval(narrow[0], narrow[1])[1] < interval(always, total)[0]
    return Judgement("reach", text, "yes" if sure else "undecided")


EXPERIMENT = Experiment(
    name="mnist-widths",
    title="One hidden layer of growing width on MNIST",
    source="[S21] MNIST experiment",
    claims=CLAIMS,
    tasks=tasks,
    measure=measure,
    judge=judge,
    remarks=(
        "A smaller task than the paper's, whose training set and optimiser this does not copy: the first 1000 "
        "training images (quick: 500), each averaged over 2 x 2 pixels to 14 x 14.",
        "The teacher, 196-10-10 softplus, is trained on the labels; students regress on its outputs before "
        "the softmax.",
        "Every student gets 500 full-batch gradients (quick: 150), by Adam at a rate that falls from 0.01. None has "
        "converged then: a loss tells how far a student got with them, not where it would end.",
        "The number of seeds falls from 4 to 1 with the width (quick: 2 each of widths 10, 30 and 100).",
    ),
)
