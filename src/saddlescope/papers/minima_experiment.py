"""Three neurons: the 3! minima, the six permutation points of a merged pair, the equal-loss lines between these."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saddlescope.arrays import Parameters
from saddlescope.data.data import teacher_data
from saddlescope.data.sources import normal_inputs
from saddlescope.models.mlp import MLP
from saddlescope.papers.curves import rounded
from saddlescope.papers.experiment import Claim, Experiment, Judgement, Result, Settings, Size
from saddlescope.paths.find import find_path
from saddlescope.paths.mirror import position
from saddlescope.paths.result import Path, PathSettings
from saddlescope.problem.problem import Problem
from saddlescope.units.actions import permute
from saddlescope.units.neurons import Neurons
from saddlescope.valleys.walk import walk

CLAIMS = (
    Claim("points", "[B19] section 4.3", "with three neurons, 3! minima and six permutation points of a pair"),
    Claim("lines", "[B19] section 4.2", "from a permutation point every permutation is reached at equal loss"),
    Claim("critical", "[B19] section 4.2", "these ways stay on critical points"),
)
ORDERS = tuple(itertools.permutations(range(3)))

# Losses may differ by this share: rounding.
ROUNDING = 1e-12

# Points further apart than this share of their norm are different ones; with gradients up to so many times that of the
# permutation point which the path found (rounding aside) they are as critical as that one.
APART, AS_CRITICAL = 1e-6, 10.0


def tasks(size: Size) -> dict[str, Settings]:
    """Return some 2-3-1 teachers; the figure shows the first of which most pairs end in a permutation point."""
    seeds, steps = (range(2), 40) if size == "quick" else (range(6), 200)
    return {f"teacher {seed}": {"seed": seed, "steps": steps} for seed in seeds}


def measure(settings: Settings) -> Result:
    """Follow the paths of the three pairs; from the first permutation point walk to all permutations."""
    network = MLP((2, 3, 1), "tanh")
    teacher = network.initial(settings["seed"])
    problem = Problem(network, teacher_data(network, teacher, normal_inputs(200, 2, settings["seed"])))
    chosen = PathSettings(steps=settings["steps"])
    paths = [
        find_path(problem, teacher, layer=1, pair=pair, settings=chosen) for pair in itertools.combinations(range(3), 2)
    ]
    ended = [path for path in paths if path.permutation_point is not None]
    ended.sort(key=lambda path: path.loss_at_point or 0.0)
    return {
        "minimum": rounded(network.neurons(1).incoming_vectors(teacher)[:, 0]),
        "endings": [path.ending.value for path in paths],
        "paths": [_curve(path, network.neurons(1)) for path in ended],
        "walks": None if not ended else _walks(problem, ended[0]),
    }


def _curve(path: Path, neurons: Neurons) -> dict[str, object]:
    """Return the first incoming weights of the three neurons for t in [0, 1/2], and the permutation point's loss."""
    places = [position(path, float(t)) for t in np.linspace(0.0, 0.5, 41)]
    return {
        "pair": list(path.pair),
        "loss": path.loss_at_point,
        "continuous": bool(path.continuous),
        "weights": [rounded(neurons.incoming_vectors(place)[:, 0]) for place in places],
    }


def _walks(problem: Problem, path: Path) -> dict[str, object]:
    """Return the distinct permuted copies of a permutation point, and loss and gradient on walks between them."""
    point = path.permutation_point
    assert point is not None
    neurons = problem.network.neurons(1)
    copies = [permute(point.parameters, neurons, list(order)) for order in ORDERS]
    minima = [permute({name: rows[0] for name, rows in path.parameters.items()}, neurons, list(o)) for o in ORDERS]
    two = path.pair[0], 3 - sum(path.pair)
    found = [walk(problem, point.parameters, order, layer=1, pair=path.pair) for order in ORDERS]
    return {
        "candidates": candidates(problem, point.parameters, two),
        "minima": [{"loss": problem.loss_of(one), "place": rounded(_flat(one), 12)} for one in minima],
        "losses": [problem.loss_of(copy) for copy in copies],
        "loss": point.loss,
        "deviation": max(float(one.max_loss_deviation) for one in found),
        "gradient": max(float(one.max_gradient_norm) for one in found),
        "gradient_at_point": point.gradient_norm,
    }


def _flat(parameters: Parameters) -> np.ndarray:
    return np.concatenate([np.ravel(value) for value in parameters.values()])


def candidates(problem: Problem, parameters: Parameters, two: tuple[int, int]) -> list[dict[str, object]]:
    """Return what is measured where three neurons take the roles of two, in all 2^3 ways: loss, gradient, place.

    Neurons of one role share its outgoing weight equally; ``two`` are the places of the roles, the first the merged
    one. Where a role is not taken, the function is another, so that loss or gradient will tell.
    """
    other = two[1]
    here, after = problem.network.chain
    outgoing = np.asarray(parameters[after.weight])
    sums = [outgoing[:, [k for k in range(3) if k != other]].sum(axis=1), outgoing[:, other]]
    rows = []
    for roles in itertools.product(range(2), repeat=3):
        places = [two[role] for role in roles]
        one = {
            **parameters,
            **{name: np.asarray(parameters[name])[places] for name in here.names},
            after.weight: np.stack([sums[role] / roles.count(role) for role in roles], axis=1),
        }
        gradient = problem.gradient_of(one)
        rows.append(
            {
                "loss": problem.loss_of(one),
                "gradient": float(np.linalg.norm(_flat(gradient))),
                "weights": rounded(one[here.weight][:, 0]),
                "place": rounded(_flat(one), 12),
            }
        )
    return rows


def distinct(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows whose places in weight space differ by more than rounding."""
    found: list[Mapping[str, Any]] = []
    for row in rows:
        place = np.array(row["place"])
        if all(np.linalg.norm(place - other["place"]) > APART * np.linalg.norm(place) for other in found):
            found.append(row)
    return found


def critical_points(walks: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the different candidates with the permutation point's loss and a gradient as small as its own."""
    loss, small = walks["loss"], AS_CRITICAL * walks["gradient_at_point"] + ROUNDING
    return distinct(
        [row for row in walks["candidates"] if abs(row["loss"] - loss) <= 1e-9 * loss and row["gradient"] <= small]
    )


def shown(results: Mapping[str, Result]) -> tuple[str, Result] | None:
    """Return the first teacher of which most pairs end in a permutation point, if any does."""
    good = [(name, one) for name, one in results.items() if one["walks"]]
    return max(good, key=lambda item: len(item[1]["paths"]), default=None)


def judge(results: Mapping[str, Result]) -> tuple[Judgement, ...]:
    """Count points and minima; compare losses and gradients on the walks of all teachers."""
    every = [one["walks"] for one in results.values() if one["walks"]]
    if not every:
        return ()
    points = [len(critical_points(one)) for one in every]
    minima = [len(distinct([row for row in one["minima"] if row["loss"] <= 1e-20])) for one in every]
    right = sum(counts == (6, 6) for counts in zip(points, minima, strict=True))
    text = f"6 minima and 6 points for {right} of {len(every)} teachers that have a permutation point (points "
    text += f"{', '.join(map(str, points))}; minima {', '.join(map(str, minima))}: different places, equal loss, "
    text += "gradient as small as the path's own point has it, of the 8 ways to give three neurons two roles)"
    found = [Judgement("points", text, "yes" if right == len(every) else "no")]
    worst = max(one["deviation"] / one["loss"] for one in every)
    found.append(
        Judgement(
            "lines",
            f"loss on the ways to all 6 permutations constant to {worst:.1e} of it",
            "yes" if worst <= ROUNDING else "no",
        )
    )
    high, low = max(one["gradient"] for one in every), max(one["gradient_at_point"] for one in every)
    least = min(one["gradient"] / max(one["gradient_at_point"], 1e-300) for one in every)
    agrees = "no" if least >= 1e3 else "undecided"
    text = f"gradient norm up to {high:.1e} on the ways, up to {low:.1e} at the permutation points"
    found.append(Judgement("critical", text, agrees))
    return tuple(found)


EXPERIMENT = Experiment(
    name="minima-and-points",
    title="The six minima and the six permutation points of three neurons",
    source="[B19] sections 4.2 and 4.3",
    claims=CLAIMS,
    tasks=tasks,
    measure=measure,
    judge=judge,
    version=2,
    remarks=(
        "2-3-1 tanh teachers at zero loss. Axes: the first incoming weights of the three neurons, along (1, 1, 1).",
        "The ways also move outgoing weights, which this view does not show.",
        "Pale: the paths of other pairs that end at the same loss.",
    ),
)
