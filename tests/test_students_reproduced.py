"""The students' experiments: resumable to the same bytes, sorted truly, and no agreement that the data lack."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saddlescope.data.sources import deep_teacher, grid_inputs
from saddlescope.papers import deep_experiment, students_experiment
from saddlescope.papers import reproduce as module
from saddlescope.papers.catalogue import find
from saddlescope.papers.experiment import Experiment, judgements
from saddlescope.papers.overparameterised import TEACHER, interval, sort_neurons, toy_problem
from saddlescope.papers.reproduce import reproduce


def _agrees(name: str, results: dict[str, Any]) -> dict[str, str]:
    return {one.claim: one.agrees for one in judgements(find(name)[0], results)}


def _student(ending: str = "zero loss", **changes: Any) -> dict[str, Any]:
    one = {
        "seed": 0,
        "loss": 1e-21 if ending == "zero loss" else 1e-6,
        "ending": ending,
        "growth": 2.0,
        "lowest": 1e-4 if ending == "critical point" else None,
        "copies": [2, 1, 1, 1],
        "zero_groups": [2],
        "silent": 1,
        "other": 0,
        "whole": True,
        "loosely_whole": True,
        "distances": [1e-6] * 4,
    }
    return {**one, **changes}


def _cell(width: int, students: list[dict[str, Any]], activation: str = "exp") -> dict[str, Any]:
    return {"activation": activation, "width": width, "students": students}


def test_students_agree_where_narrow_ones_are_stuck_and_wide_ones_arrive() -> None:
    narrow = _cell(5, [_student(), _student("critical point")])
    agrees = _agrees("overparameterised-training", {"a": narrow, "b": _cell(20, [_student()] * 3)})
    assert agrees == dict.fromkeys(("stuck", "reach", "manifold", "zero-type"), "yes")


def test_students_refute_and_a_cut_student_decides_nothing() -> None:
    name, rest = "overparameterised-training", {"other": 2, "whole": False, "zero_groups": []}
    contrary = {"a": _cell(5, [_student(**rest)] * 2), "b": _cell(20, [_student("critical point"), _student(**rest)])}
    assert _agrees(name, contrary) == {"stuck": "no", "reach": "partly", "manifold": "no", "zero-type": "no"}
    lost = {"b": _cell(20, [_student("critical point")])}
    assert _agrees(name, lost)["reach"] == "no"
    cut = {
        "a": _cell(5, [_student(), _student("not converged")]),
        "b": _cell(20, [_student(), _student("not converged")]),
    }
    assert _agrees(name, cut)["stuck"] == "undecided"
    assert _agrees(name, cut)["reach"] == "undecided"


def test_activations_that_differ_agree_in_part() -> None:
    results = {
        "a": _cell(5, [_student("critical point")], "sigmoid"),
        "b": _cell(5, [_student()], "exp"),
        "c": _cell(20, [_student(other=1, whole=False)], "sigmoid"),
    }
    agrees = _agrees("overparameterised-training", results)
    assert agrees["stuck"] == "partly"
    assert agrees["manifold"] == "yes"  # sigmoid, which has sign twins, does not count


def test_a_low_loss_of_a_student_that_was_cut_is_not_zero_loss() -> None:
    row = [_student("not converged", loss=2e-20)] * 3
    found = {one.claim: one for one in judgements(find("overparameterised-training")[0], {"a": _cell(20, row)})}
    assert "zero loss 0 of 3" in found["reach"].measured
    assert "3 not converged (loss up to 2.0e-20, largest weight up to 2 times its start's)" in found["reach"].measured


def test_deep_students_say_no_and_undecided() -> None:
    name = "deep-overparameterised"
    good = {"a": _cell(5, [_student("critical point")]), "b": _cell(20, [_student()])}
    assert _agrees(name, good) == dict.fromkeys(("narrow", "wide", "copies"), "yes")
    contrary = {"a": _cell(5, [_student(distances=[0.1] * 4)]), "b": _cell(20, [_student("critical point")])}
    assert _agrees(name, contrary) == dict.fromkeys(("narrow", "wide", "copies"), "no")
    cut = {"a": _cell(5, [_student("not converged", growth=300.0)]), "b": _cell(20, [_student("not converged")])}
    assert _agrees(name, cut) == dict.fromkeys(("narrow", "wide", "copies"), "undecided")


def _wide(width: int, seed: int, loss: float) -> dict[str, Any]:
    return {"width": width, "seed": seed, "loss": loss}


def test_widths_agree_refute_and_leave_open() -> None:
    name = "mnist-widths"
    good = {f"{s}": _wide(10, s, 0.01 * (s + 1)) for s in range(6)} | {f"w{s}": _wide(99, s, 1e-4) for s in range(6)}
    assert _agrees(name, good) == dict.fromkeys(("falls", "seeds", "reach"), "yes")
    contrary = {f"{s}": _wide(10, s, 1e-4) for s in range(6)} | {f"w{s}": _wide(99, s, 0.1 + s) for s in range(6)}
    assert _agrees(name, contrary) == {"falls": "no", "seeds": "no", "reach": "undecided"}
    few = {"a": _wide(10, 0, 0.1), "b": _wide(99, 0, 1e-4)}
    assert _agrees(name, few) == {"falls": "yes", "seeds": "undecided", "reach": "undecided"}
    assert set(_agrees(name, {"a": _wide(10, 0, 0.1)}).values()) == {"undecided"}


def test_sign_twins_are_copies_for_sigmoid_only() -> None:
    weights = {
        "0.weight": np.vstack([-TEACHER[:1], TEACHER[1:], [[2.0, 1.0], [-2.0, -1.0]]]),
        "2.weight": np.array([[-1.0, 1.0, 1.0, 1.0, 0.5, 0.5]]),
    }
    neurons = toy_problem(6, "sigmoid").network.neurons(1)
    twins, plain = sort_neurons(weights, neurons, twins=True), sort_neurons(weights, neurons)
    assert (twins.copies, twins.zero_groups, twins.whole) == ((1, 1, 1, 1), (2,), True)
    assert (plain.copies, plain.zero_groups, plain.other, plain.whole) == ((0, 1, 1, 1), (), 3, False)


@pytest.mark.parametrize(("weight", "whole"), [(0.2, True), (0.3, False)])
def test_a_constant_neuron_counts_as_zero_type_where_it_cancels_the_twins_constants(weight: float, whole: bool) -> None:
    weights = {
        "0.weight": np.vstack([TEACHER, -TEACHER[:1], [[0.0, 0.0]]]),
        "2.weight": np.array([[0.9, 1.0, 1.0, 1.0, -0.1, weight]]),
    }
    problem = toy_problem(6, "sigmoid")
    sorting = sort_neurons(weights, problem.network.neurons(1), twins=True)
    assert (problem.loss_of(weights) < 1e-25) == whole
    assert (sorting.whole, sorting.zero_groups) == (whole, (1,) if whole else ())


def test_copies_that_do_not_add_up_are_no_copies() -> None:
    weights = {"0.weight": TEACHER, "2.weight": np.array([[1.0, 1.0, 1.0, 0.9]])}
    sorting = sort_neurons(weights, toy_problem(4, "exp").network.neurons(1))
    assert (sorting.copies, sorting.other, sorting.whole) == ((1, 1, 1, 0), 1, False)


def test_the_interval_holds_the_share_and_reaches_the_ends() -> None:
    low, high = interval(46, 50)
    assert low < 0.92 < high
    assert interval(0, 10)[0] == 0.0
    assert interval(50, 50)[1] == 1.0
    assert interval(50, 50)[0] == pytest.approx(0.025 ** (1 / 50))


def test_a_first_layer_is_found_up_to_sign_and_order() -> None:
    network, teacher = deep_teacher()
    wanted = network.neurons(1).incoming_vectors(teacher)
    assert deep_experiment.nearest(wanted, -wanted[::-1]).max() == 0.0
    assert deep_experiment.nearest(wanted, np.delete(wanted, 2, axis=0))[2] > 0.01


def test_the_deep_teacher_is_a_fit_of_its_stated_function() -> None:
    network, teacher = deep_teacher()
    network.check(teacher)
    assert network.widths == (2, 4, 4, 4, 1)
    inputs = grid_inputs()
    x, y = inputs.T
    target = np.sin(2 * x) + x + np.cos(3 * y) - 0.4 * (y - 1) ** 2
    here = inputs
    for k in range(4):
        here = here @ teacher[f"{2 * k}.weight"].T + teacher[f"{2 * k}.bias"]
        here = np.tanh(here) if k < 3 else here
    assert np.mean((here[:, 0] - target) ** 2) < 0.02 * np.var(target)


def test_interrupted_students_resume_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, draw = find("overparameterised-training")
    base = {"activation": "sigmoid", "width": 4, "adam_steps": 20, "limit": 30}
    few = {f"{first}": {**base, "seeds": [first, first + 2]} for first in (0, 2)}
    done: list[Any] = []
    measured: dict[str, dict[str, Any]] = {}

    def once(settings: dict[str, Any]) -> dict[str, Any]:  # threads' rounding differs: resumption is tested, not this
        key = json.dumps(settings, sort_keys=True)
        return measured.setdefault(key, measured.get(key) or students_experiment.measure(settings))

    def stop_at_second(settings: dict[str, Any]) -> dict[str, Any]:
        if done:
            raise KeyboardInterrupt
        done.append(settings)
        return once(settings)

    def small(measure: Any) -> Experiment:
        return Experiment(**{**vars(experiment), "tasks": lambda _: few, "measure": measure})

    monkeypatch.setattr(module, "find", lambda _: (small(once), draw))
    reproduce("overparameterised-training", tmp_path / "whole", size="quick")
    with monkeypatch.context() as patch:
        patch.setattr(module, "find", lambda _: (small(stop_at_second), draw))
        with pytest.raises(KeyboardInterrupt):
            reproduce("overparameterised-training", tmp_path / "parts", size="quick")
    assert "unfinished: 1 of 2" in (tmp_path / "parts" / "overparameterised-training.md").read_text()
    reproduce("overparameterised-training", tmp_path / "parts", size="quick")
    for suffix in (".svg", ".pdf", ".md", ".png"):
        one, other = (tmp_path / folder / f"overparameterised-training{suffix}" for folder in ("whole", "parts"))
        assert one.read_bytes() == other.read_bytes(), suffix
    files = (tmp_path / folder / "overparameterised-training.json" for folder in ("whole", "parts"))
    one, other = (json.loads(file.read_text())["results"] for file in files)
    assert one == other


def _measured_twice_and_drawn(name: str, settings: dict[str, Any]) -> None:
    experiment, draw = find(name)
    result = experiment.measure(settings)
    assert json.loads(json.dumps(result)) == result
    assert draw({"a": result}).axes[0].lines
    assert experiment.measure(settings) == result


def test_a_deep_task_measures_the_same_again_and_is_drawn() -> None:
    settings = {"width": 5, "seeds": [0, 2], "adam_steps": 10, "limit": 5}
    _measured_twice_and_drawn("deep-overparameterised", settings)


def test_a_task_of_the_widths_measures_the_same_again_and_is_drawn(
    mnist_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SADDLESCOPE_DATA", str(mnist_folder.parent))
    _measured_twice_and_drawn("mnist-widths", {"width": 12, "seed": 0, "images": 50, "steps": 20})
