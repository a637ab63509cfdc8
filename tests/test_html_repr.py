"""What notebooks show of a result: the verdict first, its own numbers, nothing that could be taken for markup."""

from html.parser import HTMLParser

import numpy as np
import pytest

import saddlescope as ss
from saddlescope.data.sources import toy, toy_teacher
from saddlescope.html_repr import card
from saddlescope.paths.result import PathSettings


class Cells(HTMLParser):
    """Collects the text of each element and checks that all are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.attributes: dict[str, dict] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes[tag] = dict(attrs)
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes[tag] = dict(attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    @property
    def facts(self) -> dict[str, str]:
        names = [text for tag, text in self.texts if tag == "th"]
        return dict(zip(names, [text for tag, text in self.texts if tag == "td"], strict=True))


@pytest.fixture(scope="module")
def found():
    network, teacher = toy_teacher("tanh", 0)
    problem = ss.Problem(network, toy("tanh", 0))
    path = ss.find_path(problem, teacher, layer=1, pair=(3, 4), settings=PathSettings(steps=12))
    return problem, teacher, path


def test_markup_in_words_is_shown_as_words():
    hostile = "<script>alert('x')</script>"
    cells = Cells(card(hostile, {hostile: hostile}, curve=[0.0, 1.0], name=hostile))
    assert "script" not in cells.attributes
    assert cells.texts[0] == ("strong", hostile)
    assert cells.facts == {hostile: hostile}


@pytest.mark.parametrize("curve", [[], [1.0], [float("nan")] * 5, None])
def test_no_curve_where_there_is_nothing_to_draw(curve):
    assert "svg" not in card("verdict", {}, curve=curve)


def test_a_curve_goes_through_its_numbers():
    points = Cells(card("verdict", {}, curve=[0.0, float("nan"), 2.0, 1.0])).attributes["polyline"]["points"].split()
    x, y = np.array([[float(part) for part in point.split(",")] for point in points]).T
    assert np.allclose((x - x[0]) / (x[-1] - x[0]), [0, 2 / 3, 1], atol=1e-3)
    assert np.allclose((y[0] - y) / (y[0] - y.min()), [0, 1, 0.5], atol=2e-3)


def test_a_path_shows_its_ending_first_and_its_own_numbers(found):
    _, _, path = found
    cells = Cells(path._repr_html_())
    assert cells.texts[0] == ("strong", f"{path.ending}. {path.ending.advice}")
    assert float(cells.facts["barrier"]) == pytest.approx(path.barrier, rel=1e-7, abs=0.0)
    worst = path.gradient_norms[path.kinds == "asked"].max()
    assert float(cells.facts["largest tangential gradient norm"]) == pytest.approx(worst, rel=1e-7, abs=0.0)
    assert "polyline" in cells.attributes


def test_point_certificate_and_walk_show_themselves(found):
    problem, _, path = found
    point = path.permutation_point
    assert float(Cells(point._repr_html_()).facts["loss"]) == pytest.approx(point.loss, rel=1e-7, abs=0.0)
    certificate = ss.certify(problem, point)
    cells = Cells(certificate._repr_html_())
    assert cells.texts[0] == ("strong", str(certificate.verdict))
    assert cells.facts["index"] == str(certificate.index)
    assert certificate.not_shown[0] in cells.facts["not shown"]
    walk = ss.walk(problem, point, [1, 0, 2, 3, 4], neurons=path.neurons, points=2)
    facts = Cells(walk._repr_html_()).facts
    assert facts["segments"] == str(walk.segments)
    assert float(facts["largest loss deviation"]) == pytest.approx(walk.max_loss_deviation, rel=1e-6, abs=0.0)


def test_resized_and_trained_networks_show_themselves(found):
    problem, teacher, _ = found
    trained = ss.train(problem, initial=teacher, adam_steps=3, max_newton=1)
    cells = Cells(trained._repr_html_())
    assert cells.texts[0] == ("strong", str(trained.outcome))
    inputs = np.asarray(toy("tanh", 0).inputs)
    wide = ss.expand(problem.network, teacher, widths={1: 7}, inputs=inputs, seed=0)
    assert Cells(wide._repr_html_()).facts["widths"] == "2, 7, 1"
    small = ss.reduce(wide.network, wide.parameters, inputs=inputs)
    facts = Cells(small._repr_html_()).facts
    assert facts["removed"] == str(len(small.removed))


def test_a_join_shows_itself(found):
    problem, teacher, _ = found
    order = [1, 0, 2, 4, 3]
    copy = {
        "0.weight": teacher["0.weight"][order],
        "0.bias": teacher["0.bias"][order],
        "2.weight": teacher["2.weight"][:, order],
        "2.bias": teacher["2.bias"],
    }
    joined = ss.join(problem, teacher, copy, points=2)
    facts = Cells(joined._repr_html_()).facts
    assert facts["widths"] == "2, 6, 1"
    assert facts["segments"] == str(joined.segments)
    assert float(facts["largest loss deviation"]) == pytest.approx(joined.scan.max_loss_deviation, rel=1e-6, abs=0.0)


def test_a_proof_and_a_lowest_pass_show_themselves():
    proof = ss.Proof(verdict="not-proved", index=2, reasons=("the box is <too> large",))
    cells = Cells(proof._repr_html_())
    assert cells.texts[0] == ("strong", "not-proved")
    assert cells.facts["index"] == "2"
    assert cells.facts["reasons"] == "the box is <too> large"
    words = {"layer": 2, "rows": (), "pair": None, "loss": None, "path": None, "exact": True, "copies": 6}
    passed = ss.LowestPass(**words, ending=ss.Outcome.CHANNEL, settings=PathSettings(), seconds=1.0, fingerprints={})
    cells = Cells(passed._repr_html_())
    assert cells.texts[0][1].startswith("channel")
    assert cells.facts["pairs followed"] == "0 of 0, so exact"
