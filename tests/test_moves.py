"""Routes and moves: exact ends, equal outputs (written down in NumPy), the fewest segments (by search)."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlescope.errors import NeuronsError, NonFiniteError, SettingsError
from saddlescope.models.mlp import MLP
from saddlescope.units.actions import permute
from saddlescope.units.neurons import Neurons, Slice
from saddlescope.valleys.moves import RouteGeometry, changes, route_end, route_position
from saddlescope.valleys.result import Move, MoveKind
from saddlescope.valleys.route import find_route

FUNCTIONS = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0.0),
    "softplus": lambda z: np.logaddexp(0.0, z),
    "sine": np.sin,
    "identity": lambda z: z,
}


def outputs(network, parameters, inputs):
    """A plain forward pass."""
    here = inputs
    for k in range(network.depth):
        here = here @ parameters[f"{2 * k}.weight"].T + (parameters[f"{2 * k}.bias"] if network.bias else 0.0)
        here = FUNCTIONS[network.activation](here) if k < network.depth - 1 else here
    return here


def convolution(parameters, inputs):
    """Channels over windows of three inputs, flattened, so that a channel sends a block of columns; then dense."""
    windows = np.lib.stride_tricks.sliding_window_view(inputs, 3, axis=1)
    maps = np.tanh(np.einsum("sow,cw->sco", windows, parameters["conv.weight"]) + parameters["conv.bias"][:, None])
    return maps.reshape(len(inputs), -1) @ parameters["fc.weight"].T


CHANNELS = Neurons((Slice("conv.weight", 0), Slice("conv.bias", 0)), (Slice("fc.weight", 1, block=4),))


def random_set(shapes, seed):
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=shape) for name, shape in shapes.items()}


def with_twins(parameters, neurons, l, m):
    """Give neuron m the incoming vector of l."""
    result = {name: value.copy() for name, value in parameters.items()}
    for piece in neurons.incoming:
        rows = np.moveaxis(result[piece.name], piece.axis, 0)
        rows[m] = rows[l]
    return result


def layer_of(units, pair, seed=0, outgoing=2):
    """A dense layer of so many neurons, twins at the pair."""
    network = MLP((2, units, outgoing), "tanh")
    shapes = dict(zip(network.layout.names, network.layout.shapes, strict=True))
    return with_twins(random_set(shapes, seed), network.neurons(1), *pair), network.neurons(1)


def same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@st.composite
def layers(draw):
    """Widths, activation and bias of a network, one of its layers, twins in it, a permutation and a seed."""
    depth = draw(st.integers(1, 3))
    inner = draw(st.lists(st.integers(2, 6), min_size=depth, max_size=depth))
    widths = (draw(st.integers(1, 3)), *inner, draw(st.integers(1, 4)))
    layer = draw(st.integers(1, depth))
    order, (l, m, *_) = (draw(st.permutations(range(widths[layer]))) for _ in range(2))
    activation = draw(st.sampled_from(sorted(FUNCTIONS)))
    return widths, activation, draw(st.booleans()), layer, (l, m), order, draw(st.integers(0, 1000))


def prepared(case):
    """The network of a case, the layer's neurons, parameters with twins, and the route."""
    widths, activation, bias, layer, pair, order, seed = case
    network = MLP(widths, activation, bias=bias)
    neurons = network.neurons(layer)
    shapes = dict(zip(network.layout.names, network.layout.shapes, strict=True))
    start = with_twins(random_set(shapes, seed), neurons, *pair)
    return network, neurons, start, find_route(start, neurons, pair, order)


@given(case=layers(), t=st.floats(0.0, 1.0))
@settings(max_examples=200)
def test_a_walk_ends_exactly_in_the_permuted_parameters_and_leaves_the_outputs_alone(case, t):
    network, neurons, start, route = prepared(case)
    same(route_position(route, 0.0), start)
    same(route_end(route), permute(start, neurons, route.permutation))
    inputs = np.random.default_rng(1).normal(size=(6, network.widths[0]))
    before = outputs(network, start, inputs)
    for time in (t, 0.25, 0.5, 0.8):
        after = outputs(network, route_position(route, time), inputs)
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-12 * (np.abs(before).max() + 1.0))


@given(order=st.permutations(range(5)), pair=st.permutations(range(5)), seed=st.integers(0, 50), t=st.floats(0, 1))
def test_channels_that_send_blocks_of_columns_walk_too(order, pair, seed, t):
    shapes = {"conv.weight": (5, 3), "conv.bias": (5,), "fc.weight": (3, 20)}
    start = with_twins(random_set(shapes, seed), CHANNELS, *pair[:2])
    route = find_route(start, CHANNELS, tuple(pair[:2]), order)
    same(route_end(route), permute(start, CHANNELS, order))
    inputs = np.random.default_rng(1).normal(size=(5, 6))
    np.testing.assert_allclose(
        convolution(route_position(route, t), inputs), convolution(start, inputs), rtol=1e-12, atol=1e-12
    )


@given(case=layers())
def test_a_segment_is_straight_moves_at_most_two_neurons_and_joins_the_next(case):
    _, neurons, _, route = prepared(case)
    for k, move in enumerate(route.moves):
        first, third, last = (route_position(route, min(1.0, (k + s) / route.segments)) for s in (0.0, 1 / 3, 1.0))
        for side in ("incoming_vectors", "outgoing_vectors"):
            a, b, c = (getattr(neurons, side)(at) for at in (first, third, last))
            np.testing.assert_allclose(b, 2 / 3 * a + 1 / 3 * c, atol=1e-12)
            moved = set(np.flatnonzero(np.any(np.abs(c - a) > 1e-9, axis=1)).tolist())
            walks = move.kind is MoveKind.WALK
            assert moved <= ({move.neuron} if walks else {move.neuron, move.to})
            assert not moved or walks == (side == "incoming_vectors")


def _neighbours(labels, sent):
    """All that one straight segment of equal function can reach; the twins' token is 0, with the parts P and Q."""
    places = range(len(labels))
    for x, y in itertools.combinations(places, 2):
        if labels[x] == labels[y] and labels[x] != "free":
            whole = f"all {labels[x]}"
            ways = [(whole, ""), ("", whole), *([("P", "Q"), ("Q", "P")] if labels[x] == 0 else [])]
            for one, other in ways:
                after = list(sent)
                after[x], after[y] = one, other
                yield labels, tuple(after)
    for x in places:
        if sent[x] == "":
            for goal in {*labels, "free"}:
                yield (*labels[:x], goal, *labels[x + 1 :]), sent


def _distances(labels, sent):
    """Fewest segments from a start to every state, by breadth-first search."""
    found, front = {(labels, sent): 0}, [(labels, sent)]
    while front:
        following = []
        for state in front:
            for after in _neighbours(*state):
                if after not in found:
                    found[after] = found[state] + 1
                    following.append(after)
        front = following
    return found


@pytest.mark.parametrize("silent", [False, True], ids=["both send", "one sends nothing"])
@pytest.mark.parametrize(("units", "pair"), [(2, (0, 1)), (3, (0, 2)), (3, (2, 1)), (4, (1, 2)), (5, (0, 3))])
def test_no_sequence_of_segments_is_shorter(units, pair, silent):
    l, m = pair
    start, neurons = layer_of(units, pair)
    if silent:
        start["2.weight"][:, m] = 0.0
    tokens = iter(range(1, units))
    labels = tuple(0 if place in pair else next(tokens) for place in range(units))
    sent = tuple("P" if place == l else "Q" if place == m else f"all {labels[place]}" for place in range(units))
    if silent:
        sent = tuple({"P": "all 0", "Q": ""}.get(word, word) for word in sent)
    fewest = _distances(labels, sent)
    for order in itertools.permutations(range(units)):
        route = find_route(start, neurons, pair, order)
        goal = tuple(labels[i] for i in order), tuple(sent[i] for i in order)
        assert route.segments == fewest[goal], order
        same(route_end(route), permute(start, neurons, order))


def _cycles_of(order):
    seen, cycles = set(), []
    for first in range(len(order)):
        cycle, here = [], first
        while here not in seen:
            seen.add(here)
            cycle.append(here)
            here = order[here]
        if len(cycle) > 1:
            cycles.append(cycle)
    return cycles


def _formula(order, l, m):
    """The docstring's count."""
    cycles = _cycles_of(order)
    p, c = sum(len(cycle) for cycle in cycles), len(cycles)
    mine, theirs = ([cycle for cycle in cycles if unit in cycle] for unit in (l, m))
    if not mine and not theirs:
        return (2 * (p + c) + 3) if p else 0
    if p == 2 and mine and mine == theirs:
        return 1
    neighbours = order[l] == m or order[m] == l
    together = mine and theirs and (mine != theirs or neighbours)
    return 2 * (p + c - (3 if together else 2)) + 3


@pytest.mark.parametrize("units", [2, 3, 4, 5, 6])
def test_the_number_of_segments_follows_from_moved_neurons_and_cycles(units):
    start, neurons = layer_of(units, (0, units - 1))
    longest = 0
    for order in itertools.permutations(range(units)):
        segments = find_route(start, neurons, (0, units - 1), order).segments
        assert segments == _formula(order, 0, units - 1), order
        longest = max(longest, segments)
    assert longest == (1 if units == 2 else 2 * (3 * (units - 2) // 2) + 3)


@given(order=st.permutations(range(12)), pair=st.permutations(range(12)))
def test_a_route_is_never_longer_than_the_papers_exchange_for_every_transposition(order, pair):
    start, neurons = layer_of(12, tuple(pair[:2]))
    cycles = _cycles_of(order)
    transpositions = sum(len(cycle) - 1 for cycle in cycles)
    assert find_route(start, neurons, tuple(pair[:2]), order).segments <= 6 * transpositions + 3


def test_one_more_pair_takes_three_hops_between_opening_and_closing():
    start, neurons = layer_of(4, (0, 1))
    route = find_route(start, neurons, (0, 1), (0, 1, 3, 2))
    kinds = [move.kind.value for move in route.moves]
    assert kinds == ["transfer", *["walk", "transfer"] * 3, "walk", "share"]
    assert route.moves[0] == Move(MoveKind.TRANSFER, 0, 1)


def test_what_stays_takes_no_segment_and_exchanged_twins_take_one():
    start, neurons = layer_of(4, (1, 3))
    assert find_route(start, neurons, (1, 3), range(4)).segments == 0
    assert find_route(start, neurons, (1, 3), (0, 3, 2, 1)).moves == (Move(MoveKind.SHARE, 1, 3),)
    start["2.weight"][:, 3] = start["2.weight"][:, 1]
    alike = find_route(start, neurons, (1, 3), (0, 3, 2, 1))
    assert alike.segments == 0
    same(route_end(alike), permute(start, neurons, (0, 3, 2, 1)))


def test_a_split_outside_the_unit_interval_and_twins_that_cancel_come_back_as_they_were():
    start, neurons = layer_of(5, (0, 2))
    for share in (-3.0, 1.7):
        start["2.weight"][:, 2] = share * start["2.weight"][:, 0]
        same(route_end(find_route(start, neurons, (0, 2), (4, 3, 2, 1, 0))), permute(start, neurons, (4, 3, 2, 1, 0)))
    start["2.weight"][:, 2] = -start["2.weight"][:, 0]
    same(route_end(find_route(start, neurons, (0, 2), (1, 2, 3, 4, 0))), permute(start, neurons, (1, 2, 3, 4, 0)))


def test_a_walk_and_the_walk_back_return_to_the_start():
    start, neurons = layer_of(6, (2, 5))
    order = [3, 5, 0, 1, 2, 4]
    there = find_route(start, neurons, (2, 5), order)
    back = [order.index(unit) for unit in range(6)]
    again = find_route(route_end(there), neurons, (back[2], back[5]), back)
    same(route_end(again), start)


def test_a_route_through_a_layer_of_two_thousand_works_in_a_few_copies_of_the_parameters():
    units = 2000
    generator = np.random.default_rng(0)
    start = {
        "0.weight": generator.normal(size=(units, 300)),
        "0.bias": generator.normal(size=units),
        "2.weight": generator.normal(size=(10, units)),
    }
    neurons = Neurons((Slice("0.weight", 0), Slice("0.bias", 0)), (Slice("2.weight", 1),))
    start = with_twins(start, neurons, 0, 1)
    size = sum(value.nbytes for value in start.values())
    tracemalloc.start()
    route = find_route(start, neurons, (0, 1), generator.permutation(units).tolist())
    kept = tracemalloc.get_traced_memory()[0]
    count = sum(1 for _ in changes(route, RouteGeometry(route.start, neurons, (0, 1))))
    end = route_end(route)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == route.segments > 2 * (units - 100)
    assert kept < 1.5 * size
    assert peak < 7 * size
    same(end, permute(start, neurons, route.permutation))


@pytest.mark.parametrize(
    ("order", "pair", "text"),
    [
        ((0, 1, 2), (0, 1), "permutation=0,1,2; expected 0 to 3, each once. Missing: 3"),
        ((0, 1, 2, 2), (0, 1), "permutation=0,1,2,2"),
        ((0, 1, 2, 4), (0, 1), "Missing: 3"),
        ((False, True, 2, 3), (0, 1), "not a permutation of the layer's neurons: permutation=False,True,2,3"),
        ((3, 2, 1, 0), (0, 4), "no such neuron in this layer: neuron=4"),
        ((3, 2, 1, 0), (1, 1), "two different neurons"),
        ((3, 2, 1, 0), (0, 2), "neurons 0 and 2 are no twins: their incoming vectors differ: largest difference="),
    ],
)
def test_mistakes_are_named_with_their_value(order, pair, text):
    start, neurons = layer_of(4, (0, 1))
    with pytest.raises(NeuronsError, match=text):
        find_route(start, neurons, pair, order)


def test_entries_that_come_in_and_go_out_are_refused():
    start = {"in": np.ones((3, 2)), "again": np.ones((3, 3))}
    recurrent = Neurons((Slice("in", 0), Slice("again", 0)), (Slice("again", 1),))
    with pytest.raises(NeuronsError, match=r"share entries.*shared entries=9"):
        find_route(start, recurrent, (0, 1), (2, 1, 0))


def test_times_outside_and_numbers_that_are_not_finite_are_refused():
    start, neurons = layer_of(3, (0, 1))
    route = find_route(start, neurons, (0, 1), (2, 1, 0))
    for t in (-0.1, 1.1, math.nan):
        with pytest.raises(SettingsError, match="time outside the path"):
            route_position(route, t)
    start["2.weight"][0, 2] = np.nan
    with pytest.raises(NonFiniteError, match="start of the walk"):
        find_route(start, neurons, (0, 1), (2, 1, 0))
