"""The report page: one safe file without the network, whose numbers are the stored ones, and which says what lacks."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from saddlescope.cli.main import run
from saddlescope.critical.certify import certify
from saddlescope.data.sources import digits, toy, toy_teacher
from saddlescope.data.weights import save_weights
from saddlescope.models.mlp import MLP
from saddlescope.paths.find import find_path
from saddlescope.paths.mirror import position
from saddlescope.paths.result import PathSettings
from saddlescope.problem.problem import Problem
from saddlescope.records.store import save_path
from saddlescope.report.documents import places
from saddlescope.report.page import render, save_page
from saddlescope.report.sections import DRAWN, FRAMES, clipped, merge_surface_numbers, path_section
from saddlescope.workflows.merge_surface import Surface, merge_surface


@pytest.fixture(scope="module")
def problem_and_path():
    network, teacher = toy_teacher("tanh", 0)
    problem = Problem(network, toy("tanh", 0))
    return problem, find_path(problem, teacher, layer=1, pair=(3, 4), settings=PathSettings(steps=20))


@pytest.fixture(scope="module")
def section(problem_and_path):
    problem, path = problem_and_path
    found, surface = certify(problem, path.permutation_point), merge_surface(problem, path, steps=7)
    words = ["verdict", "more"]
    return path_section("a run", path, words, certificate=found, surface=surface, certificate_lines=["saddle"])


def numbers_of(page: str) -> list:
    embedded = re.search(r"<script type='application/json' id='numbers'>(.*?)</script>", page, re.S)
    assert embedded is not None
    return json.loads(embedded.group(1))


class Tags(HTMLParser):
    """Collects tags and attributes, and whether all are closed in order."""

    VOID = ("meta", "input", "br", "link", "img", "col")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_s_numbers_are_the_path_s(problem_and_path, section):
    _, path = problem_and_path
    drawn = numbers_of(render([section], command="x", version="0"))[0]
    nodes = len(path.losses)
    np.testing.assert_array_equal(drawn["curve"]["loss"][:nodes], path.losses)
    np.testing.assert_array_equal(drawn["curve"]["loss"][nodes + 1 :], path.losses[::-1])
    assert drawn["curve"]["point"]["loss"] == path.permutation_point.loss
    asked = path.kinds == "asked"
    np.testing.assert_array_equal(drawn["residuals"]["residual"], path.gradient_norms[asked])
    assert drawn["residuals"]["tolerance"] == path.tolerance
    assert len(drawn["curve"]["events"]) == len(path.events)


def test_frames_are_the_neurons_along_gamma_and_the_pair_changes_places(problem_and_path, section):
    _, path = problem_and_path
    found = section["neurons"]
    assert found["kind"] == "plane"
    assert len(found["points"]) == FRAMES
    for step in (0, 31, 60, 120):
        vectors = path.neurons.incoming_vectors(position(path, found["t"][step]))[found["units"]]
        np.testing.assert_allclose(found["points"][step], vectors[:, :2], atol=1e-6)
        np.testing.assert_allclose(found["offsets"][step], vectors[:, 2], atol=1e-6)
    first, last = found["points"][0], found["points"][-1]
    assert first[0] == pytest.approx(last[1], abs=1e-6)
    assert first[1] == pytest.approx(last[0], abs=1e-6)


def test_more_inputs_are_shown_as_a_projection_that_says_so():
    network = MLP((64, 45, 10), "tanh")
    problem = Problem(network, digits(), loss="cross_entropy")
    settings = PathSettings(steps=3, max_iterations=1, polish=False, tolerance=1e9)
    path = find_path(problem, network.initial(0), layer=1, pair=(40, 44), settings=settings)
    found = path_section("digits", path, ["verdict"], without="not asked")
    neurons = found["neurons"]
    assert neurons["kind"] == "projection"
    assert 0.0 < neurons["share"] < 1.0
    assert neurons["units"][:2] == [40, 44]
    assert (len(neurons["units"]), neurons["all"]) == (DRAWN, 45)
    page = render([found], command="x", version="0")
    assert "A projection" in page
    assert "5 of the 45 neurons are not drawn" in page
    assert found["curve"]["accuracy"] is not None
    assert "None: not asked" in page


def test_the_spectrum_is_the_certificate_s(problem_and_path, section):
    problem, path = problem_and_path
    certificate = certify(problem, path.permutation_point)
    assert [row["name"] for row in section["spectrum"]["parts"]] == [part.name for part in certificate.parts]
    values = [value for row in section["spectrum"]["parts"] for value in row["values"] * row["times"]]
    assert sum(value < 0 for value in values) == certificate.index


def test_the_page_is_whole_small_and_needs_no_network(section):
    page = render([section, section], command="saddlescope report a b", version="0")
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    names = [name for name, _ in tags.seen]
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(names)
    assert all("src" not in attributes for _, attributes in tags.seen)
    links = [attributes["href"] for name, attributes in tags.seen if name == "a"]
    assert links == ["#run0", "#run1"]
    outside = set(re.findall(r"https?://[^\s\"']+", page))
    assert outside == {"http://www.w3.org/2000/svg"}  # a name, not an address that is asked
    assert "default-src 'none'" in page
    assert len(page.encode()) < 1e6
    identities = [attributes["id"] for _, attributes in tags.seen if "id" in attributes]
    assert len(identities) == len(set(identities))
    sliders = [attributes for name, attributes in tags.seen if name == "input"]
    assert all(attributes["type"] == "range" and attributes["aria-label"] for attributes in sliders)


def test_hostile_names_stay_words(section):
    hostile = {**section, "title": "</script><script>alert(1)</script>", "lines": ["<img src=x onerror=alert(1)>"]}
    hostile["curve"] = {**section["curve"], "events": [{"t": 0.1, "loss": 1.0, "kind": "</script>", "detail": "<b>"}]}
    page = render([hostile], command="<i>", version="<u>")
    tags = Tags()
    tags.feed(page)
    assert [name for name, _ in tags.seen].count("script") == 2
    assert not {"img", "b", "i", "u"} & {name for name, _ in tags.seen}
    assert numbers_of(page)[0]["curve"]["events"][0]["kind"] == "</script>"


def test_the_command_writes_a_page_and_refuses_what_it_should(problem_and_path, tmp_path: Path, capsys):
    _, path = problem_and_path
    folder = tmp_path / "toy.saddle"
    save_path(path, folder)
    page = tmp_path / "toy.html"
    assert run(["report", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"out": str(page), "bytes": page.stat().st_size, "runs": ["permutation-point"]}
    text = page.read_text("utf-8")
    assert "network or data are not at hand" in text  # this run names neither
    assert path.fingerprints["data"] in text
    assert run(["report", str(folder)]) == 2
    assert "the output exists" in capsys.readouterr().err
    assert run(["report", str(folder), "--overwrite", "--quiet"]) == 0
    assert run(["report"]) == 2
    assert "nothing to report" in capsys.readouterr().err
    assert run(["report", str(tmp_path), "--out", str(tmp_path / "x.html")]) == 2
    assert "not a readable result" in capsys.readouterr().err
    assert run(["report", str(folder), str(folder), "--data", "toy", "--out", str(tmp_path / "x.html")]) == 2
    assert "belong to a single run" in capsys.readouterr().err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["toy.html", "toy.saddle"]


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch):
    import os

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", broken)
    from saddlescope.errors import StorageError

    with pytest.raises(StorageError, match="No space left"):
        save_page("x", tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def documents(problem_and_path, tmp_path_factory):
    """A stored run with its walk and certificate, as the commands write them."""
    _, path = problem_and_path
    here = tmp_path_factory.mktemp("documents")
    save_path(
        replace(path, problem={**path.problem, "network": str(here / "net.safetensors"), "data": "toy"}), here / "run"
    )
    network, teacher = toy_teacher("tanh", 0)
    save_weights(here / "net.safetensors", network, teacher)
    walked = run(["walk", str(here / "run"), "--to", "4,2,0,1,3", "--out", str(here / "walk.json"), "--quiet"])
    assert walked == 0
    run(["certify", str(here / "run"), "--out", str(here / "certificate.json"), "--quiet"])
    return here


def test_a_walk_and_a_certificate_stand_beside_their_path(documents, capfd):
    words = [str(documents / name) for name in ("run", "walk.json", "certificate.json")]
    assert run(["report", *words, "--out", str(documents / "page.html"), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["runs"][0:2] == ["permutation-point", "walk"]
    page = (documents / "page.html").read_text(encoding="utf-8")
    numbers = numbers_of(page)
    walked = json.loads((documents / "walk.json").read_text())
    assert numbers[1]["walk"]["norms"] == walked["gradient_norms"]
    stored = json.loads((documents / "certificate.json").read_text())
    assert [part["values"] for part in numbers[2]["spectrum"]["parts"]] == [
        part["inertia"]["values"] for part in stored["parts"]
    ]
    assert f"{walked['segments']} segments to the permutation 4, 2, 0, 1, 3" in page
    assert "not shown" in page


def test_replayed_places_end_in_the_permutation(documents):
    walked = json.loads((documents / "walk.json").read_text())
    frames = places(5, walked["pair"], [(kind, neuron, to) for kind, neuron, to in walked["moves"]])
    labels, sends = frames[-1]
    first, second = walked["pair"]
    assert labels == [first if unit == second else unit for unit in walked["permutation"]]
    assert all(sends)
    for (before, _), (after, _) in pairwise(frames):
        assert sum(a != b for a, b in zip(before, after, strict=True)) <= 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no JSON", "not a readable result"),
        ("[1]", "not a readable result"),
        ('{"kind": "study"}', "this result has no page: kind=study; expected walk or certificate"),
        ('{"kind": "walk", "moves": []}', "incomplete or damaged"),
        ('{"kind": "certificate", "words": []}', "incomplete or damaged"),
    ],
)
def test_a_file_that_is_no_result_is_refused_in_one_line(tmp_path, capfd, text, words):
    file = tmp_path / "x.json"
    file.write_text(text)
    assert run(["report", str(file), "--out", str(tmp_path / "page.html")]) == 2
    error = capfd.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_the_caption_of_a_path_without_a_point_does_not_speak_of_one(problem_and_path):
    _, path = problem_and_path
    ended = path_section("ended", replace(path, permutation_point=None), ["verdict"], without="none")
    page = render([ended], command="x", version="0")
    assert "There is no permutation point" in page
    assert "The large dot: the permutation point" not in page


BOX = np.array([[-1.0, 0.0], [1.0, 2.0]])


@pytest.mark.parametrize(
    ("rows", "pieces"),
    [
        ([[0, 1, 5], [0.5, 1, 6]], [[[0, 1, 5], [0.5, 1, 6]]]),
        ([[0, 1, 5], [2, 1, 7]], [[[0, 1, 5], [1, 1, 6]]]),
        ([[-3, 1, 0], [3, 1, 6]], [[[-1, 1, 2], [1, 1, 4]]]),
        ([[0, 300, 5], [0, -300, 5]], [[[0, 2, 5], [0, 0, 5]]]),
        ([[3, 0, 0], [4, 2, 1]], []),
        ([[-3, 0, 0], [0, 5, 1]], []),  # passes a corner outside
        ([[0, 1, 0], [0, 3, 2], [0.5, 3, 2], [0.5, 1, 0]], [[[0, 1, 0], [0, 2, 1]], [[0.5, 2, 1], [0.5, 1, 0]]]),
        ([[0, 1, 0], [0, 1, 0], [1, 2, 1]], [[[0, 1, 0], [0, 1, 0], [1, 2, 1]]]),
    ],
)
def test_a_path_is_cut_at_the_frame_and_nothing_is_drawn_outside(rows, pieces):
    found = clipped(np.array(rows, dtype=float), BOX)
    assert len(found) == len(pieces)
    for piece, wanted in zip(found, pieces, strict=True):
        np.testing.assert_allclose(piece, wanted, atol=1e-12)
        assert np.all((piece[:, :2] >= BOX[0] - 1e-12) & (piece[:, :2] <= BOX[1] + 1e-12))


def test_the_page_says_how_much_of_the_path_lies_outside_the_frame():
    grid = np.linspace(-1.0, 1.0, 3)
    trace = np.array([[0.5, 40.0, 9.0], [0.5, 0.5, 2.0], [0.0, 0.5, 1.0]])
    numbers = merge_surface_numbers(Surface(grid, grid, np.ones((3, 3)), trace))
    assert (numbers["nodes"], numbers["outside"], numbers["point"]) == (3, 1, 1.0)
    assert max(row[1] for piece in numbers["trace"] for row in piece) == 1.0
