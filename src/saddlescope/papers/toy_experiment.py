"""[B19] Fig. 1: a 2-5-1 teacher, the student equal to it at the start; all ten pairs merged, for three activations."""

from collections.abc import Mapping

import numpy as np

from saddlescope.data.sources import toy, toy_teacher
from saddlescope.papers.curves import broken, keep_path, path_type, rounded
from saddlescope.papers.experiment import Agreement, Claim, Experiment, Judgement, Result, Settings, Size
from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.problem.problem import Problem

CLAIMS = (
    Claim(
        "arrive",
        "[B19] section 4.1",
        "as the distance of two neurons goes to zero, the constrained minimum goes to a permutation point",
    ),
    Claim("meet", "[B19] Fig. 1 A, B", "two pairs of neurons lead to the same permutation point"),
    Claim("part", "[B19] Fig. 1 C", "another pair leads to a different one, of another loss"),
    Claim("rise", "[B19] Fig. 1", "the loss rises along the path up to the permutation point"),
)
# All ten, in the order of their cost, so that an unfinished figure shows something of each activation.
PAIRS = ((2, 3), (3, 4), (1, 3), (1, 2), (0, 3), (2, 4), (1, 4), (0, 2), (0, 4), (0, 1))
QUICK = PAIRS[:4]

# Two points have one function when their outputs agree to this share of the teacher's.
SAME = 1e-3


def tasks(size: Size) -> dict[str, Settings]:
    """Return a task a pair, distance and activation: the most worthwhile first."""
    pairs, steps = (QUICK, 40) if size == "quick" else (PAIRS, 200)
    turns = [("tanh", "tied"), ("tanh", "incoming"), ("relu", "tied"), ("softplus", "tied"), ("relu", "incoming")]
    turns.append(("softplus", "incoming"))
    if size == "quick":
        turns = [("tanh", "tied"), ("softplus", "tied"), ("tanh", "incoming")]
    return {
        f"{activation} {distance} {l}{m}": {
            "activation": activation,
            "distance": distance,
            "pair": [l, m],
            "steps": steps,
        }
        for l, m in pairs
        for activation, distance in turns
    }


def measure(settings: Settings) -> Result:
    """Follow one path; keep its curve, the incoming vectors before and after, and outputs at the point."""
    network, teacher = toy_teacher(settings["activation"], 0)
    problem = Problem(network, toy(settings["activation"], 0))
    l, m = settings["pair"]
    chosen = PathSettings(distance=settings["distance"], steps=settings["steps"])
    path = find_path(problem, teacher, layer=1, pair=(l, m), settings=chosen)
    point = path.permutation_point
    after = {name: rows[-1] for name, rows in path.parameters.items()} if point is None else point.parameters
    probe = problem.outputs_of(after)[:40, 0]
    return {
        **settings,
        **keep_path(path),
        "before": [rounded(row) for row in network.neurons(1).incoming_vectors(teacher)],
        "after": [rounded(row) for row in network.neurons(1).incoming_vectors(after)],
        "outputs": rounded(probe),
        "scale": float(np.sqrt(np.mean(problem.outputs_of(teacher) ** 2))),
    }


def points(results: Mapping[str, Result], activation: str, distance: str | None = None) -> list[list[Result]]:
    """Return the paths that end in a permutation point, those with the same function there together, largest first."""
    groups: list[list[Result]] = []
    for result in results.values():
        if result["activation"] != activation or distance not in (None, result["distance"]):
            continue
        if result["ending"] == "permutation-point":
            home = next((group for group in groups if _same(group[0], result)), None)
            if home is None:
                groups.append([result])
            else:
                home.append(result)
    return sorted((sorted(group, key=lambda one: one["barrier"]) for group in groups), key=len, reverse=True)


def _same(one: Result, other: Result) -> bool:
    gap = np.max(np.abs(np.subtract(one["outputs"], other["outputs"])))
    return bool(gap <= SAME * one["scale"])


def judge(results: Mapping[str, Result]) -> tuple[Judgement, ...]:
    """Count endings, common and different points, and rising losses, by activation and distance."""
    turns = sorted({(one["activation"], one["distance"]) for one in results.values()}, reverse=True)
    arrived, met, parted, rising = [], [], [], []
    for turn in turns:
        mine = [one for one in results.values() if (one["activation"], one["distance"]) == turn]
        groups = points(results, *turn)
        ended = [one for group in groups for one in group]
        name = f"{turn[0]} {turn[1]}"
        arrived.append((name, len(ended), len(mine)))
        ended = [one for one in ended if one["continuous"]]
        up = sum(path_type(one) == "maximum-at-point" for one in ended)
        rising.append((name, up, len(ended)))
    for activation in sorted({one["activation"] for one in results.values()}):
        groups = points(results, activation)
        met.append((activation, len({tuple(one["pair"]) for one in groups[0]}) if groups else 0))
        parted.append((activation, [group[0]["loss_at_point"] for group in groups]))
    total, possible = sum(one[1] for one in arrived), sum(one[2] for one in arrived)
    up, ends = sum(one[1] for one in rising), sum(one[2] for one in rising)
    text = "; ".join(f"{name}: {k} of {n}" for name, k, n in arrived)
    words = f"permutation points: {text}. {broken(results)}" if results else "nothing measured"
    found = [Judgement("arrive", words, _share(total, possible))]
    text = "; ".join(f"{name}: {k} pairs at one point" for name, k in met if k > 1) or "no two pairs met"
    found.append(Judgement("meet", text, "yes" if any(k > 1 for _, k in met) else "undecided"))
    text = "; ".join(f"{name}: losses {', '.join(f'{x:.4g}' for x in each)}" for name, each in parted if len(each) > 1)
    found.append(Judgement("part", text or "no second point found", "yes" if text else "undecided"))
    text = "; ".join(f"{name}: {k} of {n}" for name, k, n in rising if n)
    words = f"continuous paths with the highest loss at the permutation point: {text}"
    words = words if ends else "no permutation point reached without a jump"
    found.append(Judgement("rise", words, _share(up, ends)))
    return tuple(found)


def _share(held: int, total: int) -> Agreement:
    if total == 0:
        return "undecided"
    return "yes" if held == total else ("no" if held == 0 else "partly")


EXPERIMENT = Experiment(
    name="toy-paths",
    title="Permutation paths of a 2-5-1 teacher",
    source="[B19] Fig. 1",
    claims=CLAIMS,
    tasks=tasks,
    measure=measure,
    judge=judge,
    remarks=(
        "The paper does not print its teacher: this one is of its kind, seed 0; losses cannot be compared.",
        "Two points are the same when the outputs there differ by less than a thousandth of the teacher's.",
        "For relu the distance is measured between unit incoming vectors: its scale is free.",
    ),
)
