"""MNIST's paths: no agreement that the data lack, and the tasks that are worth most come first."""

from typing import Any

import pytest

from saddlescope.papers.catalogue import find
from saddlescope.papers.experiment import judgements
from saddlescope.papers.mnist_experiment import LITTLE, SLACK, tasks
from saddlescope.papers.mnist_figure import draw


def path(width: int, barrier: float, **changes: Any) -> dict[str, Any]:
    one = {
        "width": width,
        "ending": "permutation-point",
        "barrier": barrier,
        "fall": 0.0,
        "continuous": True,
        "missed": 0,
        "largest_residual": 1e-5,
        "largest_gradient": 1e-3,
        "teacher_accuracy": 0.93,
        "lowest_accuracy": 0.92,
        "distances": [1.0, 1e-2, 0.0],
        "losses": [0.0, barrier, barrier],
        "accuracies": [0.93, 0.92, 0.92],
    }
    return {**one, **changes}


def agrees(*paths: dict[str, Any]) -> dict[str, str]:
    return {one.claim: one.agrees for one in judgements(find("mnist-paths")[0], dict(zip("abcd", paths, strict=False)))}


def test_rising_losses_a_falling_barrier_and_a_steady_accuracy_agree():
    assert agrees(path(10, 3e-3), path(25, 1e-3)) == dict.fromkeys(("rise", "width", "accuracy"), "yes")


@pytest.mark.parametrize("change", [{"fall": 2 * SLACK * 3e-3}, {"ending": "channel"}])
def test_a_path_that_falls_or_does_not_arrive_does_not_count_as_rising(change):
    assert agrees(path(10, 3e-3, **change), path(25, 1e-3))["rise"] == "no"


def test_one_width_alone_leaves_its_claim_undecided_and_a_rising_barrier_refutes_it():
    assert agrees(path(10, 3e-3))["width"] == "undecided"
    assert agrees(path(10, 1e-3), path(25, 3e-3))["width"] == "no"
    assert agrees(path(10, 3e-3), path(15, 4e-3), path(25, 1e-3))["width"] == "partly"


def test_a_lost_accuracy_refutes():
    assert agrees(path(10, 3e-3, lowest_accuracy=0.93 - 2 * LITTLE))["accuracy"] == "no"


def test_full_size_begins_with_the_narrowest_and_the_widest_networks_of_all_seeds():
    full = list(tasks("full").values())
    assert len(full) == 24
    assert {(one["width"], one["seed"]) for one in full[:12]} == {(width, s) for width in (10, 25) for s in range(6)}
    assert {one["images"] for one in full} == {60000}


def test_the_least_exact_path_is_told():
    found = judgements(find("mnist-paths")[0], {"a": path(10, 3e-3), "b": path(25, 1e-3, largest_gradient=1e-4)})
    assert "residual of 10.0%" in found[0].measured


def test_the_figure_draws_a_path_without_accuracy():
    assert len(draw({"a": path(10, 3e-3, accuracies=None, lowest_accuracy=None)}).axes) == 3
