"""Permutation paths of small networks: what must hold at their ends, along them, and when there is no end."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from saddlescope.data.data import Data, teacher_data
from saddlescope.data.sources import normal_inputs, toy, toy_teacher
from saddlescope.errors import NeuronsError, NonFiniteError, SettingsError, ShapeError
from saddlescope.models.mlp import MLP
from saddlescope.outcomes import Outcome
from saddlescope.paths.batch import all_pairs, find_paths
from saddlescope.paths.find import find_path
from saddlescope.paths.growth import growth_exponent
from saddlescope.paths.mirror import position
from saddlescope.paths.result import PathSettings
from saddlescope.problem.problem import Problem
from saddlescope.units.actions import remove, swap
from saddlescope.units.gauge import distance

STEPS = 40


@pytest.fixture(scope="module")
def small():
    """The toy teacher, its problem, and a path that is known to end well."""
    network, teacher = toy_teacher("tanh", 0)
    problem = Problem(network, toy("tanh", 0))
    path = find_path(problem, teacher, layer=1, pair=(2, 3), settings=PathSettings(steps=STEPS))
    return network, teacher, problem, path


def _torch_gradient_norm(problem, network, parameters, data):
    """The full gradient's norm by torch: a second opinion on what is called critical."""
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in parameters.items()}
    hidden = torch.tanh(torch.from_numpy(data.inputs.copy()) @ tensors["0.weight"].T + tensors["0.bias"])
    out = hidden @ tensors["2.weight"].T + tensors["2.bias"]
    ((out - torch.from_numpy(data.targets.copy())) ** 2).mean().backward()
    return float(torch.sqrt(sum((t.grad**2).sum() for t in tensors.values())))


def test_the_permutation_point_is_critical_by_torch_s_gradient_too(small):
    network, _, problem, path = small
    assert path.ending is Outcome.PERMUTATION_POINT
    point = path.permutation_point
    assert _torch_gradient_norm(problem, network, point.parameters, toy("tanh", 0)) < 1e-10
    assert point.gradient_norm < 1e-10


def test_the_two_neurons_coincide_at_the_point_and_the_reduced_network_computes_the_same(small):
    _, _, problem, path = small
    point = path.permutation_point
    assert distance(point.parameters, path.neurons, *path.pair, kind="joint") == 0.0
    narrow = Problem(MLP((2, 4, 1), "tanh"), toy("tanh", 0))
    np.testing.assert_allclose(
        narrow.outputs_of(point.reduced), problem.outputs_of(point.parameters), rtol=1e-12, atol=1e-12
    )


def test_the_path_starts_at_the_minimum_and_ends_at_its_mirror_image(small):
    _, teacher, _, path = small
    for name, value in position(path, 0.0).items():
        np.testing.assert_allclose(value, teacher[name], atol=1e-9)
    for name, value in position(path, 1.0).items():
        np.testing.assert_allclose(value, swap(teacher, path.neurons, *path.pair)[name], atol=1e-9)


def test_the_loss_along_gamma_is_mirrored_and_never_exceeds_the_barrier(small):
    _, _, problem, path = small
    for t in np.linspace(0.0, 0.5, 60):
        here, there = (problem.loss_of(position(path, s)) for s in (t, 1.0 - t))
        assert here == pytest.approx(there, rel=1e-9, abs=1e-18)
        assert here <= path.barrier * (1 + 0.02)


def test_the_transfer_of_outgoing_weight_keeps_the_loss(small):
    _, _, problem, path = small
    losses = [problem.loss_of(position(path, t)) for t in np.linspace(0.25, 0.75, 11)]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-11)


def test_stored_losses_and_residuals_are_those_of_the_stored_parameters(small):
    _, _, problem, path = small
    for k in range(0, len(path.losses), 7):
        row = {name: array[k] for name, array in path.parameters.items()}
        assert problem.loss_of(row) == pytest.approx(path.losses[k], rel=1e-11, abs=1e-25)
    asked = path.kinds == "asked"
    assert path.converged[asked].all()
    assert path.gradient_norms[asked].max() <= path.tolerance


def test_the_asked_distances_are_log_spaced_and_measured(small):
    _, _, _, path = small
    asked = np.flatnonzero(path.kinds == "asked")
    np.testing.assert_allclose(path.distances[asked], path.distances[0] * np.logspace(0, -4, STEPS), rtol=1e-12)
    for k in asked[::6]:
        row = {name: array[k] for name, array in path.parameters.items()}
        assert distance(row, path.neurons, *path.pair) == pytest.approx(path.distances[k], rel=1e-9, abs=0.0)


def test_the_pair_s_order_does_not_matter(small):
    _, teacher, problem, path = small
    other = find_path(problem, teacher, layer=1, pair=(3, 2), settings=PathSettings(steps=STEPS))
    assert other.pair == path.pair
    assert other.permutation_point.loss == path.permutation_point.loss


def test_relabelling_the_neurons_relabels_the_path(small):
    """Translate the labels, the answer translates: swap neurons 0 and 4, which take no part."""
    _, teacher, problem, path = small
    moved = find_path(
        problem, swap(teacher, path.neurons, 0, 4), layer=1, pair=(2, 3), settings=PathSettings(steps=STEPS)
    )
    assert moved.permutation_point.loss == pytest.approx(path.permutation_point.loss, rel=1e-9, abs=0.0)


def test_the_stiff_gradient_flow_ends_at_the_same_loss(small):
    _, teacher, problem, path = small
    flow = find_path(
        problem, teacher, layer=1, pair=(2, 3), settings=PathSettings(steps=12, solver="flow", tolerance=1e-8)
    )
    assert flow.ending is Outcome.PERMUTATION_POINT
    assert flow.permutation_point.loss == pytest.approx(path.permutation_point.loss, rel=1e-6, abs=0.0)


def test_matrix_free_and_dense_corrections_agree(small):
    _, teacher, problem, path = small
    free = find_path(
        problem, teacher, layer=1, pair=(2, 3), settings=PathSettings(steps=STEPS, solver="krylov", tolerance=1e-9)
    )
    assert free.permutation_point.loss == pytest.approx(path.permutation_point.loss, rel=1e-6, abs=0.0)


def test_gradient_descent_that_is_cut_short_says_so(small):
    _, teacher, problem, _ = small
    settings = PathSettings(steps=6, solver="descent", tolerance=1e-9, max_iterations=1)
    path = find_path(problem, teacher, layer=1, pair=(2, 3), settings=settings)
    missed = (path.kinds == "asked") & ~path.converged
    assert missed.any()
    assert path.gradient_norms[missed].min() > 1e-9
    assert any(event.kind is Outcome.NOT_CONVERGED for event in path.events)
    assert path.ending is not Outcome.PERMUTATION_POINT


@pytest.mark.parametrize("kind", ["incoming", "joint", "tied"])
def test_relu_keeps_unit_incoming_vectors_along_the_whole_path(kind):
    network, teacher = toy_teacher("relu", 0)
    problem = Problem(network, toy("relu", 0))
    settings = PathSettings(distance=kind, steps=12, tolerance=1e-7)
    path = find_path(problem, teacher, layer=1, pair=(0, 1), settings=settings)
    assert path.gauge == "unit-incoming"
    # Not where they are merged: that network is settled without the pair's constraints, its scale is free.
    for k in np.flatnonzero(path.distances > 0):
        row = {name: array[k] for name, array in path.parameters.items()}
        lengths = np.linalg.norm(path.neurons.incoming_vectors(row)[list(path.pair)], axis=1)
        np.testing.assert_allclose(lengths, 1.0, rtol=1e-9)


def test_an_ending_without_a_point_gives_reasons_and_no_second_half():
    """Weights of a tied path run away, though its pair's outgoing weights stay small: that is no channel."""
    network, teacher = toy_teacher("tanh", 0)
    problem = Problem(network, toy("tanh", 0))
    path = find_path(problem, teacher, layer=1, pair=(1, 2), settings=PathSettings(steps=60, distance="tied"))
    assert path.ending is Outcome.RUNAWAY
    assert path.permutation_point is None
    assert "weights have grown" in path.reasons[0]
    assert np.linalg.norm([np.linalg.norm(v[-1]) for v in path.parameters.values()]) > 30
    assert "tied" not in path.advice
    assert "weight decay" not in path.advice
    grown = path.growth
    assert grown.difference_exponent == pytest.approx(1.0, abs=1e-6)  # tied: it shrinks with the distance
    assert grown.share == pytest.approx(path.distances[-1] / path.distances[0])
    neurons = path.neurons.incoming if grown.role == "incoming" else path.neurons.outgoing
    (piece,) = [piece for piece in neurons if piece.name == grown.array]
    rows = np.take(path.parameters[grown.array], grown.unit, axis=piece.axis + 1)
    assert grown.last == pytest.approx(np.linalg.norm(rows[-1]), rel=1e-12, abs=0.0)
    assert grown.first == pytest.approx(np.linalg.norm(rows[0]), rel=1e-12, abs=0.0)
    with pytest.raises(SettingsError, match="gamma ends at t = 1/4"):
        position(path, 0.4)


def test_where_the_loss_turns_at_a_fold_there_is_no_interior_maximum():
    """At distance 0.0913 the branch ends while the loss rises; on the one reached by descent it falls."""
    network, teacher = toy_teacher("tanh", 0)
    path = find_path(Problem(network, toy("tanh", 0)), teacher, layer=1, pair=(2, 3), settings=PathSettings(steps=25))
    at = np.flatnonzero(path.kinds == "asked")
    turns = [k for k, j in itertools.pairwise(at) if path.slopes[k] < 0 < path.slopes[j]]
    folds = [event.distance for event in path.events if event.kind is Outcome.FOLD]
    assert len(turns) == len(folds) == 1
    assert path.distances[turns[0]] > folds[0]
    assert not [event for event in path.events if event.kind is Outcome.INTERIOR_MAXIMUM]


def test_at_an_interior_maximum_of_an_incoming_path_the_full_gradient_vanishes():
    """The slope is the only multiplier; the loss there is above that of every asked distance nearby."""
    network, teacher = toy_teacher("tanh", 1)
    settings = PathSettings(steps=40, distance="incoming")
    path = find_path(Problem(network, toy("tanh", 1)), teacher, layer=1, pair=(0, 3), settings=settings)
    (event,) = [event for event in path.events if event.kind is Outcome.INTERIOR_MAXIMUM]
    near = (path.kinds == "asked") & (np.abs(np.log(path.distances / event.distance)) < 0.5)
    assert near.sum() >= 3
    assert event.loss > path.losses[near].max()
    assert float(event.detail.split()[-1]) < 1e-8


def test_neurons_that_do_the_same_merge_at_zero_loss():
    """With one neuron to spare the barrier is zero ([S21]): two copies that share one teacher neuron's work."""
    network = MLP((2, 3, 1), "tanh")
    teacher = {
        "0.weight": np.array([[1.0, 0.3], [-0.4, 1.1], [1.0, 0.3]]),
        "0.bias": np.array([0.2, -0.3, 0.2 + 1e-3]),
        "2.weight": np.array([[0.7, -0.9, 0.0]]),
        "2.bias": np.zeros(1),
    }
    problem = Problem(network, teacher_data(network, teacher, normal_inputs(200, 2, 1)))
    path = find_path(problem, teacher, layer=1, pair=(0, 2), settings=PathSettings(steps=12, distance="incoming"))
    assert path.ending is Outcome.PERMUTATION_POINT
    assert path.losses.max() < 1e-18  # the nodes; chords between them sag by less than residual times length
    assert path.barrier < 1e-12
    assert path.continuous


def test_a_layer_in_the_middle_and_several_outputs_work():
    network = MLP((3, 4, 4, 2), "softplus")
    generator = np.random.default_rng(4)
    teacher = {name: generator.normal(size=np.shape(v)) for name, v in network.initial(0).items()}
    problem = Problem(network, teacher_data(network, teacher, normal_inputs(300, 3, 1)))
    path = find_path(problem, teacher, layer=2, settings=PathSettings(steps=15))
    asked = path.kinds == "asked"
    assert path.layer == 2
    assert (path.gradient_norms[asked & path.converged] <= path.tolerance).all()
    assert path.ending is Outcome.PERMUTATION_POINT or path.reasons


def test_the_exponent_of_a_power_law_is_found():
    d = np.logspace(0, -4, 50)
    assert growth_exponent(d, 3.0 / d) == pytest.approx(-1.0)
    assert growth_exponent(d, np.ones(50)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"layer": 2}, NeuronsError, "no such hidden layer: layer=2; expected 1 to 1"),
        ({"layer": 0}, NeuronsError, "layer=0"),
        ({"pair": (0, 5)}, NeuronsError, "neuron=5; expected 0 to 4"),
        ({"pair": (1, 1)}, NeuronsError, "two different neurons"),
        ({"settings": PathSettings(distance="far")}, SettingsError, "distance=far"),
        ({"settings": PathSettings(solver="magic")}, SettingsError, "solver=magic"),
        ({"settings": PathSettings(steps=1)}, SettingsError, "steps=1"),
        ({"settings": PathSettings(reach=2.0)}, SettingsError, "reach=2.0"),
        ({"settings": PathSettings(tolerance=-1.0)}, SettingsError, "tolerance=-1.0"),
    ],
)
def test_wrong_requests_are_named(small, change, error, text):
    _, teacher, problem, _ = small
    with pytest.raises(error, match=text):
        find_path(problem, teacher, **{"layer": 1, "pair": (0, 1), **change})


def test_wrong_parameters_are_named(small):
    network, teacher, problem, _ = small
    with pytest.raises(ShapeError, match="do not fit the network"):
        find_path(problem, remove(teacher, network.neurons(1), 0), layer=1)
    with pytest.raises(NonFiniteError, match=r"0.bias\[2\]=nan"):
        find_path(problem, {**teacher, "0.bias": np.array([0, 0, np.nan, 0, 0])}, layer=1)
    with pytest.raises(
        NonFiniteError, match=r"computed at the starting point holds 1 .* not finite: loss\[\]=(inf|nan)"
    ):
        find_path(problem, {**teacher, "2.weight": 1e200 * teacher["2.weight"]}, layer=1)
    twins = {**teacher, "0.weight": np.ones((5, 2)), "0.bias": np.ones(5)}
    with pytest.raises(NeuronsError, match="coincide already"):
        find_path(problem, twins, layer=1, pair=(0, 1), settings=replace(PathSettings(), polish=False))


def test_pairs_that_meet_in_one_point_have_one_loss():
    """[B19] Fig. 1: different pairs can share a permutation point; here three of ten do, to ten digits."""
    network, teacher = toy_teacher("tanh", 0)
    problem = Problem(network, toy("tanh", 0))
    points = []
    for pair in itertools.combinations((1, 2, 3, 4), 2):
        if pair in ((1, 3), (2, 3), (3, 4)):
            path = find_path(problem, teacher, layer=1, pair=pair, settings=PathSettings(steps=200))
            points.append(path.loss_at_point)
    assert points[0] == pytest.approx(points[1], rel=1e-10, abs=0.0)
    assert points[0] == pytest.approx(points[2], rel=1e-10, abs=0.0)


def test_data_with_labels_gives_accuracies_along_the_path():
    network = MLP((2, 3, 2), "tanh")
    teacher = network.initial(3)
    inputs = normal_inputs(100, 2, 1)
    rows = teacher_data(network, teacher, inputs)
    labels = rows.targets.argmax(axis=1)
    problem = Problem(network, Data(inputs, rows.targets, labels), loss="normalised")
    path = find_path(problem, teacher, layer=1, settings=PathSettings(steps=8, tolerance=1e-8))
    assert path.accuracies[0] == 1.0
    assert len(path.accuracies) == len(path.losses)


def test_a_start_that_is_no_minimum_is_reported_not_hidden(small):
    _, teacher, problem, _ = small
    bent = {**teacher, "0.bias": teacher["0.bias"] + 0.1}
    settings = PathSettings(steps=4, polish=False)
    path = find_path(problem, bent, layer=1, pair=(2, 3), settings=settings)
    assert not path.converged[0]
    assert path.gradient_norms[0] > 1e-4
    assert any(event.kind is Outcome.NOT_CONVERGED and event.node == 0 for event in path.events)
    polished = find_path(problem, bent, layer=1, pair=(2, 3), settings=replace(settings, polish=True))
    assert polished.converged[0]
    assert polished.losses[0] < path.losses[0]


def test_paths_found_side_by_side_are_the_paths_found_alone(small):
    _, teacher, problem, _ = small
    pairs, options = [(2, 3), (1, 2), (3, 4)], PathSettings(steps=12, reach=1e-2)
    told = []
    together = find_paths(
        problem, teacher, layer=1, pairs=pairs, settings=options, workers=3, progress=lambda *said: told.append(said)
    )
    assert [path.pair for path in together] == pairs
    assert [done for done, _, _ in told] == [1, 2, 3]
    for pair, path in zip(pairs, together, strict=True):
        alone = find_path(problem, teacher, layer=1, pair=pair, settings=options)
        assert path.ending is alone.ending
        np.testing.assert_array_equal(path.losses, alone.losses)
        np.testing.assert_array_equal(path.parameters["0.weight"], alone.parameters["0.weight"])


def test_all_pairs_are_taken_where_none_are_named():
    _, teacher = toy_teacher("tanh", 0)
    network = MLP((2, 5, 1), "tanh")
    assert all_pairs(network.neurons(1), teacher) == list(itertools.combinations(range(5), 2))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"pairs": [(0, 1), (2, 2)]}, NeuronsError, "pair=\\(2, 2\\)|2"),
        ({"workers": 0}, SettingsError, "workers=0"),
    ],
)
def test_a_wrong_pair_or_no_worker_is_refused_before_anything_is_followed(small, options, error, words):
    _, teacher, problem, _ = small
    told = []
    with pytest.raises(error, match=words):
        find_paths(problem, teacher, layer=1, progress=lambda *said: told.append(said), **options)
    assert told == []
