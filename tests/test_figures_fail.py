"""Each claim of each reproduced figure can fail: the stored results, spoilt on purpose, get another judgement.

The figures' own data (docs/figures) are the ground: as stored they are judged as their text says; with one deliberate
wrong input the claim is no longer said to agree (or, where the paper is refuted, no longer said to be refuted).
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saddlescope.data.data import Data
from saddlescope.models.mlp import MLP
from saddlescope.papers.catalogue import CATALOGUE, find
from saddlescope.papers.experiment import judgements
from saddlescope.papers.minima_experiment import candidates, critical_points
from saddlescope.problem.problem import Problem

FIGURES = Path(__file__).parent.parent / "docs" / "figures"
Results = dict[str, Any]


def stored(name: str) -> dict[str, Any]:
    return json.loads((FIGURES / f"{name}.json").read_text("utf-8"))


def judged(name: str, results: Results) -> dict[str, str]:
    return {one.claim: one.agrees for one in judgements(find(name)[0], results)}


def every(change: Callable[[dict[str, Any]], None]) -> Callable[[Results], None]:
    def spoil(results: Results) -> None:
        for one in results.values():
            change(one)

    return spoil


def walks(change: Callable[[dict[str, Any]], None]) -> Callable[[Results], None]:
    return every(lambda one: change(one["walks"]) if one["walks"] else None)


def only_gradient(one: dict[str, Any]) -> None:
    for row in one["candidates"]:
        row["gradient"] = 1e-3


def shifted(key: str, index: int, by: float) -> Callable[[Results], None]:
    """Change one entry of the rows of a task of the counts."""

    def spoil(results: Results) -> None:
        for row in results[key]["rows"]:
            row[index] = row[index] + by

    return spoil


def no_crossing(results: Results) -> None:
    results["regimes"]["crossings"] = [[r, r] for r, _ in results["regimes"]["crossings"]]


def limit_as_printed(results: Results) -> None:
    for row in results["ratios"]["rows"]:
        row[3] = row[4]


def apart(results: Results) -> None:
    """No two points have one function."""
    for number, one in enumerate(results.values()):
        one["outputs"] = [float(number)] * len(one["outputs"])


def together(results: Results) -> None:
    first = next(iter(results.values()))
    for one in results.values():
        one["outputs"], one["loss_at_point"] = first["outputs"], 1.0


def students(change: Callable[[dict[str, Any]], None]) -> Callable[[Results], None]:
    def spoil(results: Results) -> None:
        for one in results.values():
            for student in one["students"]:
                change(student)

    return spoil


WRONG: dict[tuple[str, str], Callable[[Results], None]] = {
    ("counts", "subspaces"): shifted("enumeration", 4, 1),
    ("counts", "regimes"): no_crossing,
    ("counts", "bound"): shifted("ratios", 2, -1e9),
    ("counts", "limit"): limit_as_printed,
    ("toy-paths", "arrive"): every(lambda one: one.update(ending="channel")),
    ("toy-paths", "meet"): apart,
    ("toy-paths", "part"): together,
    ("toy-paths", "rise"): every(lambda one: one.update(barrier=one["loss_at_point"], continuous=True)),
    ("merge-landscape", "constant"): every(lambda one: one.update(spread=1.0)),
    ("merge-landscape", "mirror"): every(lambda one: one.update(asymmetry=1e-3)),
    ("merge-landscape", "saddle"): every(lambda one: one.update(lowest=one["loss_at_point"])),
    ("minima-and-points", "points"): walks(only_gradient),
    ("minima-and-points", "lines"): walks(lambda one: one.update(deviation=one["loss"])),
    ("minima-and-points", "critical"): walks(lambda one: one.update(gradient=one["gradient_at_point"])),
    ("path-geometry", "profile"): every(lambda one: one.update(loss_in_time=[2.0 * x for x in one["times"]])),
    ("path-geometry", "tangent"): every(lambda one: one.update(tangent_angles=[0.01] * len(one["clear"]))),
    ("path-geometry", "index"): every(lambda one: one.update(index=[[1, 1]] * len(one["clear"]))),
    ("mnist-paths", "rise"): every(lambda one: one.update(fall=one["barrier"])),
    ("mnist-paths", "width"): every(lambda one: one.update(barrier=float(one["width"]))),
    ("mnist-paths", "accuracy"): every(lambda one: one.update(lowest_accuracy=0.1)),
    ("path-types", "maximum-at-point"): every(lambda one: one.update(continuous=True, missed=0)),
    ("path-types", "maximum-before"): every(lambda one: one.update(continuous=False)),
    ("path-types", "channel"): every(lambda one: one.update(missed=1)),
    ("overparameterised-training", "stuck"): students(lambda one: one.update(ending="zero loss")),
    ("overparameterised-training", "reach"): students(lambda one: one.update(ending="critical point")),
    ("overparameterised-training", "manifold"): students(lambda one: one.update(whole=False)),
    ("overparameterised-training", "zero-type"): students(lambda one: one.update(zero_groups=[1])),
    ("deep-overparameterised", "narrow"): students(lambda one: one.update(ending="zero loss")),
    ("deep-overparameterised", "wide"): students(lambda one: one.update(ending="critical point")),
    ("deep-overparameterised", "copies"): students(lambda one: one.update(ending="zero loss", distances=[1.0])),
    ("mnist-widths", "falls"): every(lambda one: one.update(loss=float(one["width"]))),
    ("mnist-widths", "seeds"): every(lambda one: one.update(loss=1.0 + one["width"] * one["seed"])),
    ("mnist-widths", "reach"): every(lambda one: one.update(loss=1e-9)),
}


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_stored_text_is_what_the_stored_numbers_say(name: str) -> None:
    data = stored(name)
    assert judged(name, data["results"]) == {one["claim"]: one["agrees"] for one in data["judgements"]}


@pytest.mark.parametrize(("name", "claim"), WRONG, ids=["-".join(key) for key in WRONG])
def test_a_wrong_input_changes_the_judgement(name: str, claim: str) -> None:
    results = stored(name)["results"]
    before = judged(name, results)[claim]
    spoilt = copy.deepcopy(results)
    WRONG[name, claim](spoilt)
    after = judged(name, spoilt)[claim]
    assert after != before
    assert after != "yes" or before != "partly"


def test_no_claim_is_without_its_wrong_input() -> None:
    assert set(WRONG) == {(name, claim.name) for name in CATALOGUE for claim in find(name)[0].claims}


def three(parameters: dict[str, np.ndarray], seed: int = 0) -> list[Any]:
    """The critical points that are counted for a 2-3-1 network whose neurons 0 and 1 are said to be merged."""
    x = np.random.default_rng(seed).normal(size=(40, 2))
    network = MLP((2, 3, 1), "tanh")
    problem = Problem(network, Data(x, np.sin(x[:, :1])))
    gradient = problem.gradient_of(parameters)
    size = float(np.sqrt(sum(np.sum(np.square(value)) for value in gradient.values())))
    rows = candidates(problem, parameters, (0, 2))
    return critical_points({"candidates": rows, "loss": problem.loss_of(parameters), "gradient_at_point": 1e-13 * size})


def test_a_random_network_has_no_critical_points_to_count() -> None:
    network = MLP((2, 3, 1), "tanh")
    for seed in range(3):
        assert three(network.initial(seed), seed) == []


def test_a_wrong_merged_pair_or_two_equal_roles_are_not_six_points() -> None:
    walks_ = next(one["walks"] for one in stored("minima-and-points")["results"].values() if one["walks"])
    assert len(critical_points(walks_)) == 6
    same = copy.deepcopy(walks_)
    for row in same["candidates"]:
        row["place"] = same["candidates"][1]["place"]
    assert len(critical_points(same)) == 1
    higher = copy.deepcopy(walks_)
    higher["candidates"][1]["loss"] *= 1.001
    assert len(critical_points(higher)) == 5
