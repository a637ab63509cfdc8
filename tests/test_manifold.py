"""The expansion manifold: how many subspaces, their dimension and basis, membership, and which of them meet."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from scipy.special import stirling2

from saddlescope.arrays import Layout
from saddlescope.data.data import Data
from saddlescope.errors import NeuronsError, SettingsError, ShapeError
from saddlescope.models.mlp import MLP
from saddlescope.problem.problem import Problem
from saddlescope.resize.expand import expand
from saddlescope.resize.manifold import (
    basis,
    distance_to,
    locate,
    manifold_graph,
    neighbours,
    sample,
    subspaces,
)
from saddlescope.resize.result import Subspace
from saddlescope.units.actions import permute
from saddlescope.units.neurons import Neurons, Slice

NETWORK = MLP((2, 2, 3), "tanh")
NEURONS = NETWORK.neurons(1)


def random_parameters(network=NETWORK, seed=0):
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=value.shape) for name, value in network.initial(0).items()}


def flat(parameters):
    return np.concatenate([np.ravel(value) for value in parameters.values()])


def outputs(parameters, x=None):
    """A network with one hidden layer of tanh, written down plainly."""
    x = np.random.default_rng(1).normal(size=(40, parameters["0.weight"].shape[1])) if x is None else x
    h = np.tanh(x @ parameters["0.weight"].T + parameters["0.bias"])
    return h @ parameters["2.weight"].T + parameters["2.bias"]


def same(left, right, *, rounding=1e-13):
    gap, size = np.abs(left - right).max(), max(1.0, np.abs(right).max())
    assert gap <= rounding * size, f"differ by {gap:.3e} of {size:.3e}"


def count_copies(r, m):
    return math.factorial(r) * int(stirling2(m, r, exact=True))


def count_all(r, m):
    bell = [sum(int(stirling2(u, j, exact=True)) for j in range(u + 1)) for u in range(m + 1)]
    return sum(math.comb(m, u) * count_copies(r, m - u) * bell[u] for u in range(m - r + 1))


@pytest.mark.parametrize(("r", "m"), [(r, m) for r in (1, 2, 3) for m in range(r, 7)])
def test_there_are_as_many_subspaces_as_the_paper_counts(r, m):
    everything, copies = list(subspaces(r, m)), list(subspaces(r, m, zero_type=False))
    assert len(set(everything)) == len(everything) == count_all(r, m)
    assert len(copies) == count_copies(r, m)
    assert {place for place in everything if not place.zero_groups} == set(copies)
    assert all((place.small, place.wide) == (r, m) for place in everything)


def constraints(small, subspace, layout):
    """The linear equations of a subspace, row by row, as the paper says them: coefficients and right-hand sides."""
    size, rows, sides = layout.size, [], []
    into, out = NEURONS.incoming_positions(layout), NEURONS.outgoing_positions(layout)
    small_in, small_out = NEURONS.incoming_vectors(small), NEURONS.outgoing_vectors(small)

    def equation(terms, side):
        row = np.zeros(size)
        for place, factor in terms:
            row[place] += factor
        rows.append(row)
        sides.append(side)

    for i, block in enumerate(subspace.copies):
        for j, d in itertools.product(block, range(into.shape[1])):
            equation([(into[j, d], 1.0)], small_in[i, d])
        for d in range(out.shape[1]):
            equation([(out[j, d], 1.0) for j in block], small_out[i, d])
    for block in subspace.zero_groups:
        for j, d in itertools.product(block[1:], range(into.shape[1])):
            equation([(into[j, d], 1.0), (into[block[0], d], -1.0)], 0.0)
        for d in range(out.shape[1]):
            equation([(out[j, d], 1.0) for j in block], 0.0)
    for name in ("2.bias",):
        for place, value in zip(range(size - 3, size), small[name], strict=True):
            equation([(place, 1.0)], value)
    return np.array(rows), np.array(sides)


def test_dimension_and_basis_are_those_of_the_defining_equations():
    small = random_parameters()
    for subspace in subspaces(2, 4):
        wide = sample(small, NEURONS, subspace, seed=1)
        rows, sides = constraints(small, subspace, Layout.of(wide))
        same(rows @ flat(wide), sides)
        directions = basis(wide, NEURONS, subspace)
        assert len(directions) == subspace.dimension(3, 3) == rows.shape[1] - np.linalg.matrix_rank(rows)
        same(directions @ directions.T, np.eye(len(directions)))
        assert np.abs(rows @ directions.T).max() <= 1e-15


def test_the_dimension_is_the_formula():
    place = Subspace(((0, 1, 2), (3,)), ((4, 5), (6,)))
    assert place.dimension(incoming=5, outgoing=7) == (2 + 0 + 1 + 0) * 7 + 2 * 5
    copies = Subspace(((0, 1, 2), (3, 4)))
    assert copies.critical_dimension == 3
    with pytest.raises(SettingsError, match="not critical in general"):
        _ = place.critical_dimension


def test_the_function_stays_along_the_basis_and_changes_across_it():
    small = random_parameters()
    generator = np.random.default_rng(2)
    wanted = outputs(small)
    for subspace in itertools.islice(subspaces(2, 5), 0, None, 17):
        wide = sample(small, NEURONS, subspace, seed=3)
        same(outputs(wide), wanted)
        directions, layout = basis(wide, NEURONS, subspace), Layout.of(wide)
        moved = flat(wide) + 3.0 * generator.normal(size=len(directions)) @ directions
        same(outputs(layout.unflatten_numpy(moved)), wanted)
        across = generator.normal(size=layout.size)
        across -= directions.T @ (directions @ across)
        changed = outputs(layout.unflatten_numpy(flat(wide) + 1e-3 * across))
        assert np.abs(changed - wanted).max() > 1e-5


def test_along_the_critical_basis_points_stay_critical_and_elsewhere_not():
    network = MLP((2, 2, 2), "tanh")
    neurons, generator = network.neurons(1), np.random.default_rng(4)
    x = generator.normal(size=(50, 2))
    start = random_parameters(network, 6)
    y = outputs(start, x) + 0.1 * generator.normal(size=(50, 2))
    layout = Layout.of(start)
    fitted = least_squares(
        lambda at: (outputs(layout.unflatten_numpy(at), x) - y).ravel(),
        flat(start),
        method="lm",
        xtol=1e-15,
        ftol=1e-15,
    )
    problem, trained = Problem(network, Data(x, y)), layout.unflatten_numpy(fitted.x)
    found = expand(problem, trained, copies={(1, 0): 3, (1, 1): 2}, shares="random")
    wide, layout = problem.with_network(found.network), Layout.of(found.parameters)
    subspace = found.subspace(1)

    def gradient(at):
        return np.linalg.norm(flat(wide.gradient_of(layout.unflatten_numpy(at))))

    critical = basis(found.parameters, neurons, subspace, critical=True)
    assert len(critical) == subspace.critical_dimension == 3
    same(critical @ critical.T, np.eye(3))
    step = generator.normal(size=3) @ critical
    assert problem.loss_of(trained) > 1e-3
    assert gradient(flat(found.parameters)) <= 1e-8
    assert gradient(flat(found.parameters) + step) <= 1e-8
    equal = basis(found.parameters, neurons, subspace)
    same(critical, critical @ equal.T @ equal)  # the critical directions lie in the equal-loss ones
    across = generator.normal(size=len(equal)) @ equal
    across -= critical.T @ (critical @ across)
    assert gradient(flat(found.parameters) + across) > 1e-4


def test_every_sample_is_located_on_its_subspace():
    small = random_parameters()
    for seed, subspace in enumerate(subspaces(2, 4)):
        wide = sample(small, NEURONS, subspace, seed=seed)
        found = locate(small, wide, NEURONS)
        assert found.answer == "yes"
        assert found.subspaces == (subspace,) == (found.subspace,)
        assert found.residual <= 1e-15


def test_the_residual_is_the_distance_to_the_nearest_subspace():
    """The nearest of all subspaces, each projected on by least squares; near the manifold it is found exactly."""
    small = random_parameters()
    generator = np.random.default_rng(3)
    for subspace in itertools.islice(subspaces(2, 4), 0, None, 9):
        wide = sample(small, NEURONS, subspace, seed=7)
        layout = Layout.of(wide)
        at = flat(wide) + 1e-6 * generator.normal(size=layout.size)
        near = layout.unflatten_numpy(at)
        distances = []
        for other in subspaces(2, 4):
            rows, sides = constraints(small, other, layout)
            distances.append(np.linalg.norm(np.linalg.lstsq(rows, sides - rows @ at)[0]))
            assert distance_to(small, near, NEURONS, other) == pytest.approx(distances[-1], rel=1e-6, abs=0.0)
        found = locate(small, near, NEURONS, tolerance=1e-5)
        assert found.residual * np.linalg.norm(at) == pytest.approx(min(distances), rel=1e-6, abs=0.0)
        assert found.subspace == subspace


@pytest.mark.parametrize(("size", "answer"), [(0.5, "yes"), (3.0, "undecided"), (30.0, "no")])
def test_the_answer_follows_the_residual(size, answer):
    small, tolerance = random_parameters(), 1e-8
    wide = sample(small, NEURONS, Subspace(((0, 2), (1,)), ((3, 4),)), seed=1)
    wide["2.bias"] = wide["2.bias"] + np.array([size * tolerance * np.linalg.norm(flat(wide)), 0.0, 0.0])
    found = locate(small, wide, NEURONS, tolerance=tolerance)
    assert found.answer == answer
    assert found.residual == pytest.approx(size * tolerance, rel=1e-6, abs=0.0)


def test_random_parameters_are_not_on_the_manifold():
    small = random_parameters()
    for seed in range(5):
        found = locate(small, random_parameters(MLP((2, 5, 3), "tanh"), seed + 1), NEURONS)
        assert (found.answer, found.subspaces) == ("no", ())
        assert found.residual > 0.1


def test_a_point_where_subspaces_meet_is_located_on_all_of_them():
    small = random_parameters()
    wide = sample(small, NEURONS, Subspace(((0, 2), (1,))), seed=0)
    wide["0.weight"][2], wide["0.bias"][2], wide["2.weight"][:, 2] = small["0.weight"][0], small["0.bias"][0], 0.0
    wide["2.weight"][:, 0] = small["2.weight"][:, 0]
    found = locate(small, wide, NEURONS)
    assert set(found.subspaces) == {Subspace(((0, 2), (1,))), Subspace(((0,), (1,)), ((2,),))}
    assert found.subspace == Subspace(((0, 2), (1,)))


def test_a_silent_neuron_near_a_copy_is_no_doubt_about_the_function():
    """Within the band of being a copy, and yet exactly on another subspace: a zero-type group of one."""
    small, tolerance = random_parameters(), 1e-8
    subspace = Subspace(((0,), (1,)), ((2,),))
    wide = sample(small, NEURONS, subspace, seed=0)
    gap = 3.0 * tolerance * np.linalg.norm(flat(wide))
    wide["0.weight"][2], wide["0.bias"][2] = small["0.weight"][0] + np.array([gap, 0.0]), small["0.bias"][0]
    found = locate(small, wide, NEURONS, tolerance=tolerance)
    assert (found.answer, found.subspace) == ("yes", subspace)
    assert found.residual <= 1e-15


def test_an_expansion_is_located_where_its_record_says_and_permuting_moves_it_along():
    network = MLP((3, 3, 2), "tanh")
    small = random_parameters(network)
    found = expand(network, small, widths={1: 8}, zero_type={1: (2, 1)}, shares="random", seed=5)
    neurons = network.neurons(1)
    assert locate(small, found.parameters, neurons).subspace == found.subspace(1)
    order = [3, 1, 7, 0, 2, 6, 5, 4]
    moved = locate(small, permute(found.parameters, neurons, order), neurons)
    place = {old: new for new, old in enumerate(order)}
    expected = Subspace(
        tuple(tuple(place[j] for j in block) for block in found.subspace(1).copies),
        tuple(tuple(place[j] for j in block) for block in found.subspace(1).zero_groups),
    )
    assert moved.subspace == expected


def test_blocks_of_entries_are_treated_as_one_unit():
    """A channel's columns behind a flattening: the outgoing slice has blocks of four."""
    neurons = Neurons((Slice("conv", 0),), (Slice("fc", 1, block=4),))
    generator = np.random.default_rng(0)
    small = {"conv": generator.normal(size=(2, 1, 3, 3)), "fc": generator.normal(size=(3, 8))}
    x = torch.from_numpy(generator.normal(size=(5, 1, 4, 4)))

    def function(p):
        hidden = torch.tanh(torch.nn.functional.conv2d(x, torch.from_numpy(p["conv"])))
        return (hidden.flatten(1) @ torch.from_numpy(p["fc"]).T).numpy()

    subspace = Subspace(((1, 3), (0,)), ((2, 4),))
    wide = sample(small, neurons, subspace, seed=1)
    same(function(wide), function(small))
    directions = basis(wide, neurons, subspace)
    assert len(directions) == subspace.dimension(incoming=9, outgoing=12)
    moved = flat(wide) + generator.normal(size=len(directions)) @ directions
    same(function(Layout.of(wide).unflatten_numpy(moved)), function(small))
    assert locate(small, wide, neurons).subspace == subspace


@pytest.mark.parametrize(("r", "m"), [(1, 3), (2, 3), (2, 4), (3, 4)])
def test_subspaces_meet_exactly_where_their_equations_have_a_common_solution(r, m):
    """Both systems of equations at once, for generic small vectors: solvable or not, by least squares."""
    network = MLP((2, r, 3), "tanh")
    small = random_parameters(network, seed=r)
    places = list(subspaces(r, m))
    layout = MLP((2, m, 3), "tanh").layout
    systems = [constraints(small, place, layout) for place in places]
    picks = np.random.default_rng(0).permutation(len(places) * (len(places) - 1) // 2)[:400]
    pairs = list(itertools.combinations(range(len(places)), 2))
    met = 0
    for i, j in (pairs[k] for k in picks):
        rows = np.vstack([systems[i][0], systems[j][0]])
        sides = np.concatenate([systems[i][1], systems[j][1]])
        gap = np.linalg.norm(rows @ np.linalg.lstsq(rows, sides)[0] - sides)
        assert places[i].meets(places[j]) == (gap < 1e-10) == places[j].meets(places[i])
        met += gap < 1e-10
    assert 0 < met < len(picks)


@pytest.mark.parametrize(
    ("r", "m", "nodes", "edges", "diameter"),
    [(1, 2, 3, 2, 2), (2, 3, 12, 12, 6), (3, 4, 60, 72, 8), (4, 5, 360, 480, 12)],
)
def test_one_more_neuron_connects_the_manifold(r, m, nodes, edges, diameter):
    graph = manifold_graph(r, m)
    assert (len(graph.subspaces), len(graph.edges), graph.diameter) == (nodes, edges, diameter)
    assert graph.connected
    assert edges == 2 * count_copies(r, m)


@pytest.mark.parametrize("r", [2, 3])
def test_without_an_extra_neuron_the_subspaces_are_separate_points(r):
    graph = manifold_graph(r, r)
    assert (len(graph.subspaces), graph.edges, graph.connected, graph.diameter) == (math.factorial(r), (), False, None)


def test_more_extra_neurons_bring_the_subspaces_closer():
    assert [manifold_graph(2, m).diameter for m in (3, 4, 5)] == [6, 4, 4]


def test_neighbours_are_the_edges_of_the_graph():
    graph = manifold_graph(2, 4)
    for number in (0, 20, 61):
        beside = {j if i == number else i for i, j in graph.edges if number in (i, j)}
        assert set(neighbours(graph.subspaces[number])) == {graph.subspaces[j] for j in beside}
    assert not Subspace(((0,), (1,))).meets(Subspace(((0,), (1, 2))))


MISTAKES = {
    "narrower": (lambda: subspaces(3, 2), NeuronsError, r"small, wide=\(3, 2\)"),
    "a place twice": (lambda: Subspace(((0, 1), (1,))), NeuronsError, "not a sorting"),
    "a small neuron without copy": (lambda: Subspace(((0,), ())), NeuronsError, "not a sorting"),
    "too many to search": (
        lambda: manifold_graph(4, 10),
        SettingsError,
        r"small, wide=\(4, 10\); expected at most 5000",
    ),
    "basis of another layer": (
        lambda: basis(random_parameters(), NEURONS, Subspace(((0,), (1, 2)))),
        NeuronsError,
        "of another layer",
    ),
    "copies that send out nothing": (
        lambda: basis(
            {**random_parameters(), "2.weight": np.zeros((3, 2))}, NEURONS, Subspace(((0, 1),)), critical=True
        ),
        SettingsError,
        "sends out nothing",
    ),
    "sample of another layer": (
        lambda: sample(random_parameters(), NEURONS, Subspace(((0,), (1,), (2,)))),
        NeuronsError,
        r"small, wide=\(3, 3\); expected 2, 3",
    ),
    "negative seed": (
        lambda: sample(random_parameters(), NEURONS, Subspace(((0,), (1,))), seed=-1),
        SettingsError,
        "seed=-1",
    ),
    "spread": (
        lambda: sample(random_parameters(), NEURONS, Subspace(((0,), (1,))), spread=math.inf),
        SettingsError,
        "spread=inf",
    ),
    "tolerance": (
        lambda: locate(random_parameters(), random_parameters(), NEURONS, tolerance=0.0),
        SettingsError,
        "tolerance=0.0",
    ),
    "other outputs": (
        lambda: locate(random_parameters(), random_parameters(MLP((2, 3, 2))), NEURONS),
        ShapeError,
        "in more than the width of this layer",
    ),
    "narrower than the small one": (
        lambda: locate(random_parameters(MLP((2, 4, 3))), random_parameters(), NEURONS),
        NeuronsError,
        r"small, wide=\(4, 2\)",
    ),
}


@pytest.mark.parametrize(("call", "kind", "text"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_with_its_value(call, kind, text):
    with pytest.raises(kind, match=text):
        call()


def test_a_basis_that_would_fill_the_memory_is_refused():
    network = MLP((784, 500, 500), "tanh")
    parameters = {
        name: np.zeros(shape) for name, shape in zip(network.layout.names, network.layout.shapes, strict=True)
    }
    with pytest.raises(SettingsError, match="too large to be written out: bytes="):
        basis(parameters, network.neurons(1), Subspace((tuple(range(500)),)))
