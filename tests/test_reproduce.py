"""Reproductions: resumable to the same bytes, figures that say their size, texts that say no more than the data."""

import json
from pathlib import Path
from typing import Any

import pytest

from saddlescope.cli.main import run
from saddlescope.errors import RecordExistsError, SettingsError
from saddlescope.papers import counts_experiment, curves
from saddlescope.papers import reproduce as module
from saddlescope.papers.catalogue import CATALOGUE, find
from saddlescope.papers.experiment import Experiment, judgements
from saddlescope.papers.reproduce import describe, reproduce
from saddlescope.papers.text import markdown


def _results(name: str, size: Any = "quick") -> dict[str, Any]:
    experiment, _ = find(name)
    return {task: experiment.measure(settings) for task, settings in experiment.tasks(size).items()}


def _agrees(experiment: Experiment, results: dict[str, Any]) -> dict[str, str]:
    return {one.claim: one.agrees for one in judgements(experiment, results)}


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_experiment_is_whole_data(name: str) -> None:
    experiment, _ = find(name)
    assert experiment.name == name
    for size in ("quick", "full"):
        tasks = experiment.tasks(size)
        assert tasks
        assert json.loads(json.dumps(tasks)) == tasks
    assert len({claim.name for claim in experiment.claims}) == len(experiment.claims)


@pytest.mark.parametrize("name", CATALOGUE)
def test_without_results_nothing_is_claimed_and_a_figure_still_stands(name: str) -> None:
    experiment, draw = find(name)
    assert {one.agrees for one in judgements(experiment, {})} == {"undecided"}
    assert draw({}).axes is not None


def test_interrupted_and_resumed_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reproduce("counts", tmp_path / "whole", size="quick")
    measure, done = counts_experiment.measure, []

    def stop_at_second(settings: dict[str, Any]) -> dict[str, Any]:
        if done:
            raise KeyboardInterrupt
        done.append(settings)
        return measure(settings)

    experiment, draw = find("counts")
    stopping = Experiment(**{**vars(experiment), "measure": stop_at_second})
    with monkeypatch.context() as patch:
        patch.setattr(module, "find", lambda name: (stopping, draw))
        with pytest.raises(KeyboardInterrupt):
            reproduce("counts", tmp_path / "parts", size="quick")
    assert "unfinished: 1 of 3 tasks done" in (tmp_path / "parts" / "counts.md").read_text()
    assert "unfinished: 1 of 3" in (tmp_path / "parts" / "counts.svg").read_text()
    found = reproduce("counts", tmp_path / "parts", size="quick")
    assert (found.done, found.total) == (3, 3)
    for suffix in (".svg", ".pdf", ".md", ".png"):
        one, other = (tmp_path / folder / f"counts{suffix}" for folder in ("whole", "parts"))
        assert one.read_bytes() == other.read_bytes(), suffix
    one, other = (json.loads((tmp_path / folder / "counts.json").read_text()) for folder in ("whole", "parts"))
    assert one["results"] == other["results"]


def test_a_finished_reproduction_is_kept_and_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    reproduce("counts", tmp_path / "out", size="quick")
    with pytest.raises(RecordExistsError, match="finished"):
        reproduce("counts", tmp_path / "out", size="quick")
    assert reproduce("counts", tmp_path / "out", size="quick", overwrite=True).done == 3
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(RecordExistsError, match="no folder of a reproduction"):
        reproduce("counts", tmp_path / "mine", size="quick", overwrite=True)
    with pytest.raises(SettingsError, match="no such experiment"):
        reproduce("count", tmp_path / "none")


def test_figures_embed_their_fonts_and_say_quick(tmp_path: Path) -> None:
    reproduce("counts", tmp_path, size="quick")
    pdf = (tmp_path / "counts.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert "quick" in (tmp_path / "counts.svg").read_text()
    assert "quick" not in describe("full", 3, 3)
    assert describe("full", 2, 3) == "full size, unfinished: 2 of 3 tasks done"


def test_contrary_data_are_not_called_agreement() -> None:
    experiment, _ = find("counts")
    results = _results("counts")
    assert _agrees(experiment, results) == {"subspaces": "yes", "regimes": "yes", "bound": "yes", "limit": "no"}
    results["enumeration"]["rows"][3][5] += 1
    results["ratios"]["rows"] = [[k, n, 0.5 * e, b, p * 0 + b] for k, n, e, b, p in results["ratios"]["rows"]]
    results["regimes"]["crossings"] = [[r, r] for r, _ in results["regimes"]["crossings"]]
    agrees = _agrees(experiment, results)
    assert agrees["subspaces"] == "no"
    assert agrees["bound"] in ("no", "partly")
    assert agrees["regimes"] == "no"
    text = markdown(experiment, judgements(experiment, results), "note")
    assert text.count("| no |") >= 2


def _toy(pair: list[int], **changes: Any) -> dict[str, Any]:
    one = {
        "activation": "tanh",
        "distance": "tied",
        "pair": pair,
        "ending": "permutation-point",
        "loss_at_point": 1.0,
        "barrier": 1.0,
        "continuous": True,
        "outputs": [0.0, 1.0],
        "scale": 1.0,
    }
    return {**one, **changes}


def test_toy_pairs_meet_only_where_the_functions_are_the_same() -> None:
    experiment, _ = find("toy-paths")
    same = {"a": _toy([0, 1]), "b": _toy([0, 2]), "c": _toy([0, 3], outputs=[0.0, 2.0], loss_at_point=2.0, barrier=2.0)}
    assert _agrees(experiment, same) == dict.fromkeys(("arrive", "meet", "part", "rise"), "yes")
    apart = {"a": _toy([0, 1]), "b": _toy([0, 2], ending="channel", loss_at_point=None)}
    assert _agrees(experiment, apart) == {
        "arrive": "partly",
        "meet": "undecided",
        "part": "undecided",
        "rise": "yes",
    }
    higher = {"a": _toy([0, 1], barrier=1.5)}
    assert _agrees(experiment, higher)["rise"] == "no"


def test_the_type_of_a_path_follows_from_its_end_and_its_highest_loss() -> None:
    assert curves.path_type(_toy([0, 1])) == "maximum-at-point"
    assert curves.path_type(_toy([0, 1], barrier=1.01)) == "maximum-before"
    assert curves.path_type(_toy([0, 1], ending="channel", loss_at_point=None)) == "channel"


def test_a_surface_without_a_lower_loss_decides_nothing() -> None:
    experiment, _ = find("merge-landscape")
    flat = {
        "ending": "permutation-point",
        "continuous": True,
        "loss_at_point": 1.0,
        "lowest": 1.0,
        "spread": 0.1,
        "asymmetry": 0.1,
    }
    assert _agrees(experiment, {"surface": flat}) == {"constant": "no", "mirror": "no", "saddle": "undecided"}
    assert set(_agrees(experiment, {"surface": {"ending": "channel"}}).values()) == {"undecided"}


def test_geometry_and_lines_refute_when_the_numbers_do() -> None:
    experiment, _ = find("path-geometry")
    one = {
        "ending": "permutation-point",
        "continuous": True,
        "loss_at_point": 1.0,
        "times": [0.0, 0.3, 0.5],
        "loss_in_time": [0.0, 1.0, 1.0],
        "clear": [True],
        "tangent_angles": [0.01],
        "index": [[1, 1]],
    }
    assert set(_agrees(experiment, {"a": one}).values()) == {"yes"}
    other = {**one, "loss_in_time": [0.0, 1.2, 1.0], "tangent_angles": [40.0], "index": [[2, 2]]}
    assert set(_agrees(experiment, {"a": other}).values()) == {"no"}
    unclear = {**other, "clear": [False]}
    assert _agrees(experiment, {"a": unclear}) == {"profile": "no", "tangent": "undecided", "index": "undecided"}


def test_the_command_lists_runs_and_answers_in_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reproduce", "list", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["experiments"]] == list(CATALOGUE)
    out = str(tmp_path / "out")
    assert run(["reproduce", "counts", "--quick", "--out", out, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert {row["claim"]: row["agrees"] for row in answer["judgements"]}["limit"] == "no"
    assert all(Path(file).is_file() for file in answer["files"])
    assert run(["reproduce", "counts", "--quick", "--out", out]) == 2
    assert "finished" in capsys.readouterr().err
    assert run(["reproduce", "counts", "--workers", "0", "--out", out]) == 2
