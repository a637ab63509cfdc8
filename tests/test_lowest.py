"""The lowest pass: the table against paths followed one by one, its order, its limits, and what it refuses."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from saddlescope.data.data import Data, teacher_data
from saddlescope.errors import NeuronsError, NonFiniteError, SettingsError
from saddlescope.models.mlp import MLP
from saddlescope.outcomes import Outcome
from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.problem.problem import Problem
from saddlescope.resize.merges import estimate_merges
from saddlescope.units.actions import merge, permute, split
from saddlescope.workflows import lowest as module
from saddlescope.workflows.lowest import lowest_point

SETTINGS = PathSettings(steps=30)


def teacher(widths, act="tanh", seed=0):
    """A random network, and the problem whose exact minimum it is."""
    network = MLP(widths, act)
    generator = np.random.default_rng(seed)
    layout = network.layout
    parameters = {n: generator.normal(size=s) for n, s in zip(layout.names, layout.shapes, strict=True)}
    return Problem(network, teacher_data(network, parameters, generator.normal(size=(200, widths[0])))), parameters


@pytest.fixture(scope="module")
def toy():
    """A 2-3-1 teacher and its whole table: two pairs with points of different loss, and one without."""
    problem, parameters = teacher((2, 3, 1), seed=7)
    return problem, parameters, lowest_point(problem, parameters, layer=1, settings=SETTINGS)


def test_the_table_holds_every_pair_with_its_estimate_and_the_lowest_point_found(toy):
    problem, parameters, found = toy
    assert sorted(row.pair for row in found.rows) == list(itertools.combinations(range(3), 2))
    merges = estimate_merges(problem, parameters, layer=1)
    assert [(row.pair, row.estimate) for row in found.rows] == [(merge.pair, merge.estimate) for merge in merges]
    points = {row.pair: row.loss_at_point for row in found.rows if row.loss_at_point is not None}
    assert len(set(points.values())) == 2
    assert found.loss == min(points.values()) == points[found.pair]
    assert found.exact
    assert found.copies == math.factorial(3)
    assert found.ending is Outcome.PERMUTATION_POINT


def test_a_row_is_what_its_path_says_and_pairs_without_a_point_are_listed_as_such(toy):
    problem, parameters, found = toy
    for row in found.rows:
        assert (row.ending is Outcome.PERMUTATION_POINT) == (row.loss_at_point is not None)
        assert (row.ending is Outcome.PERMUTATION_POINT) or row.reasons
    assert [row.ending for row in found.rows].count(Outcome.RUNAWAY) == 1
    row = next(row for row in found.rows if row.pair == found.pair)
    path = find_path(problem, parameters, layer=1, pair=row.pair, settings=SETTINGS)
    assert (row.ending, row.loss_at_point, row.barrier) == (path.ending, path.loss_at_point, path.barrier)
    assert found.path is not None
    assert found.path.permutation_point.gradient_norm == row.gradient_norm <= 1e-8


def test_the_order_of_the_neurons_does_not_matter(toy):
    problem, parameters, found = toy
    order = [2, 0, 1]
    moved = permute(parameters, problem.network.neurons(1), order)
    other = lowest_point(problem, moved, layer=1, settings=SETTINGS, follow=1)
    assert not other.exact
    assert {order[i] for i in other.rows[0].pair} == set(found.rows[0].pair)
    assert other.rows[0].loss_at_point == pytest.approx(found.rows[0].loss_at_point, rel=1e-6, abs=0.0)


def endings(path, losses):
    """A stand-in for `find_path`: the same path with other endings, so that the table's rules are tested alone."""

    def follow(problem, parameters, *, layer, pair, settings):
        loss = losses.get(pair)
        if loss is None:
            return replace(path, pair=pair, ending=Outcome.CHANNEL, reasons=("it grows",), permutation_point=None)
        point = replace(path.permutation_point, pair=pair, loss=loss)
        return replace(path, pair=pair, ending=Outcome.PERMUTATION_POINT, permutation_point=point)

    return follow


def test_the_lowest_point_is_taken_wherever_it_stands_in_the_table(toy, monkeypatch):
    _, _, found = toy
    problem, parameters = teacher((2, 4, 1))
    losses = {(0, 2): 3e-3, (1, 3): 1e-3, (2, 3): 2e-3}
    monkeypatch.setattr(module, "find_path", endings(found.path, losses))
    other = lowest_point(problem, parameters, layer=1)
    assert (other.pair, other.loss) == ((1, 3), 1e-3)
    assert other.path.pair == (1, 3)
    assert {row.pair for row in other.rows if row.ending is Outcome.CHANNEL} == {(0, 1), (0, 3), (1, 2)}
    assert all(row.loss_at_point is None and row.reasons for row in other.rows if row.ending is Outcome.CHANNEL)


def test_a_layer_without_any_permutation_point_says_so(toy, monkeypatch):
    problem, parameters, found = toy
    monkeypatch.setattr(module, "find_path", endings(found.path, {}))
    none = lowest_point(problem, parameters, layer=1)
    assert (none.pair, none.loss, none.path, none.ending) == (None, None, None, Outcome.UNDECIDED)
    assert none.exact


def test_of_a_large_layer_the_best_by_estimate_are_settled_and_the_lowest_of_these_followed(toy, monkeypatch):
    _, _, found = toy
    problem, parameters = teacher((2, 11, 1), seed=1)
    followed = {pair: 1.0 for pair in itertools.combinations(range(11), 2)}
    monkeypatch.setattr(module, "find_path", endings(found.path, followed))
    large = lowest_point(problem, parameters, layer=1, follow=2)
    assert not large.exact
    assert len(large.rows) == 55
    assert [row.estimate for row in large.rows] == sorted(row.estimate for row in large.rows)
    settled = [row.settled for row in large.rows]
    assert None not in settled[:8]
    assert settled[8:] == [None] * 47
    best = sorted(range(8), key=lambda k: float(f"{settled[k]:.6g}"))[:2]
    assert [k for k, row in enumerate(large.rows) if row.ending is not None] == sorted(best)
    assert lowest_point(problem, parameters, layer=1, follow=55).exact
    assert lowest_point(problem, parameters, layer=1, follow=999).exact
    assert large.copies == math.factorial(11)


def test_the_settled_loss_is_no_higher_than_where_torch_brings_the_network_without_one_neuron(toy):
    problem, parameters, _ = toy
    merges = estimate_merges(problem, parameters, layer=1)
    losses = module._settled_losses(problem, parameters, merges)
    x, y = (torch.tensor(np.asarray(array)[0]) for array in (problem.inputs, problem.targets))
    for pair, loss in losses.items():
        assert loss <= settled_by_torch(merge(parameters, problem.network.neurons(1), *pair), x, y) * 1.01, pair


def settled_by_torch(start, x, y):
    """The loss to which torch's L-BFGS brings a network with one hidden tanh layer."""
    p = {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}
    search = torch.optim.LBFGS(p.values(), max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def value():
        search.zero_grad()
        h = torch.tanh(x @ p["0.weight"].T + p["0.bias"])
        total = ((h @ p["2.weight"].T + p["2.bias"] - y) ** 2).mean()
        total.backward()
        return total

    search.step(value)
    return value().item()


def test_neurons_that_coincide_are_a_pass_at_no_height(toy, monkeypatch):
    problem, parameters, found = toy
    wide = split(parameters, problem.network.neurons(1), 1, (0.25, 0.75))
    network = MLP((2, 4, 1), "tanh")
    x, y = np.asarray(problem.inputs)[0], np.asarray(problem.targets)[0]
    monkeypatch.setattr(module, "find_path", endings(found.path, {}))
    same = lowest_point(Problem(network, Data(x, y)), wide, layer=1)
    assert same.pair == (1, 3)
    assert same.loss < 1e-25
    assert same.path is None
    assert "coincide already" in next(row.reasons[0] for row in same.rows if row.pair == (1, 3))


def test_a_relu_neuron_without_direction_is_listed_and_not_followed(toy, monkeypatch):
    problem, parameters = teacher((2, 3, 1), "relu")
    parameters["0.weight"][1] = parameters["0.bias"][1] = 0.0
    monkeypatch.setattr(module, "find_path", endings(toy[2].path, {(0, 2): 1.0}))
    found = lowest_point(problem, parameters, layer=1)
    undecided = [row for row in found.rows if row.ending is Outcome.UNDECIDED]
    assert sorted(row.pair for row in undecided) == [(0, 1), (1, 2)]
    assert all("incoming vector of this neuron is zero" in row.reasons[0] for row in undecided)
    assert found.pair == (0, 2)


def test_mistakes_are_refused(toy):
    problem, parameters, _ = toy
    with pytest.raises(NeuronsError, match="layer=2; expected 1 to 1"):
        lowest_point(problem, parameters, layer=2)
    with pytest.raises(SettingsError, match="follow=0; expected a whole number from 1 up"):
        lowest_point(problem, parameters, layer=1, follow=0)
    with pytest.raises(SettingsError, match="steps=1"):
        lowest_point(problem, parameters, layer=1, settings=PathSettings(steps=1))
    with pytest.raises(NonFiniteError, match="starting point"):
        lowest_point(problem, {**parameters, "0.bias": np.full(3, np.inf)}, layer=1)
    single, alone = teacher((2, 1, 1))
    with pytest.raises(NeuronsError, match="a pair needs two neurons"):
        lowest_point(single, alone, layer=1)
