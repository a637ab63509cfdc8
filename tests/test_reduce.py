"""Reduction undoes expansion, uses the activation's own symmetries where they are exact, and says what is left."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import erf, expit

from saddlescope.data.data import Data
from saddlescope.errors import NeuronsError, NonFiniteError, SettingsError, ShapeError
from saddlescope.models.mlp import MLP
from saddlescope.problem.problem import Problem
from saddlescope.resize.expand import ZeroGroup, expand, expand_layer
from saddlescope.resize.one_layer import reduce_layer
from saddlescope.resize.reduce import reduce
from saddlescope.units.actions import permute
from saddlescope.units.neurons import Neurons, Slice

FUNCTIONS = {
    "relu": lambda z: np.maximum(z, 0.0),
    "leaky_relu": lambda z: np.where(z > 0.0, z, 0.01 * z),
    "tanh": np.tanh,
    "sigmoid": expit,
    "softplus": lambda z: np.logaddexp(0.0, z),
    "gelu": lambda z: z * 0.5 * (1.0 + erf(z / np.sqrt(2.0))),
    "silu": lambda z: z * expit(z),
    "erf": lambda z: erf(z / np.sqrt(2.0)),
    "sine": np.sin,
    "exp": np.exp,
    "identity": lambda z: z,
    "sigmoid_softplus": lambda z: expit(4.0 * z) + np.logaddexp(0.0, z),
}
ODD = ("tanh", "erf", "sine")
EVEN = ("softplus", "gelu", "silu", "relu", "leaky_relu")


def forward(network, parameters, x):
    """The network written down plainly in NumPy."""
    for k in range(network.depth):
        x = x @ parameters[f"{2 * k}.weight"].T
        x = x + parameters[f"{2 * k}.bias"] if network.bias else x
        x = FUNCTIONS[network.activation](x) if k < network.depth - 1 else x
    return x


def random_parameters(network, seed):
    generator = np.random.default_rng(seed)
    scale = 0.3 if network.activation == "exp" else 1.0
    return {name: scale * generator.normal(size=value.shape) for name, value in network.initial(0).items()}


def same(left, right, *, rounding=1e-13):
    gap, size = np.abs(left - right).max(), max(1.0, np.abs(right).max())
    assert gap <= rounding * size, f"differ by {gap:.3e} of {size:.3e}"


def layer_of(activation, incoming, outgoing, *, bias=True):
    """A network of one hidden layer with these vectors (the last incoming entry is the bias), output bias 0.5."""
    incoming, outgoing = np.array(incoming, dtype=float), np.atleast_2d(np.array(outgoing, dtype=float))
    inputs = incoming.shape[1] - bias
    network = MLP((inputs, len(incoming), len(outgoing)), activation, bias=bias)
    parameters = {"0.weight": incoming[:, :inputs]}
    if bias:
        parameters["0.bias"] = incoming[:, inputs]
    parameters["2.weight"] = outgoing
    if bias:
        parameters["2.bias"] = np.full(len(outgoing), 0.5)
    return network, parameters


def reduced(network, parameters, **options):
    """The reduction, after checking by the plain network that the function is kept, and that the record adds up."""
    found = reduce(network, parameters, **options)
    x = 2.0 * np.random.default_rng(5).normal(size=(200, network.widths[0]))
    found.network.check(found.parameters)
    same(forward(found.network, found.parameters, x), forward(network, parameters, x), rounding=1e-12)
    assert found.network.widths == found.widths
    for layer, kept in found.kept.items():
        gone = [removal.neuron for removal in found.removed if removal.layer == layer]
        assert sorted([*kept, *gone]) == list(range(network.widths[layer]))
        assert len(kept) == found.widths[layer]
    return found


def reasons(found):
    return [(removal.neuron, removal.why, removal.into, removal.into_bias) for removal in found.removed]


SHAPES = [(2, 3, 1), (4, 4, 2), (4, 3, 4, 3), (4, 3, 3, 2, 4)]


def irreducible(shape, activation, bias, seed):
    """Random parameters; ReLU layers behind others get no neuron that is never active, which would be redundant."""
    network = MLP(shape, activation, bias=bias)
    parameters = random_parameters(network, seed)
    for k in range(1, network.depth - 1):
        weight = parameters[f"{2 * k}.weight"]
        weight[:, 0] = np.where(weight.max(axis=1) < 0.0, -weight[:, 0], weight[:, 0])
    return network, parameters


@settings(max_examples=20)
@given(
    st.sampled_from(SHAPES),
    st.sampled_from(sorted(set(FUNCTIONS) - {"identity"})),
    st.booleans(),
    st.integers(0, 1000),
    st.sampled_from([(), (1,), (2, 1)]),
)
def test_reduction_undoes_any_expansion(shape, activation, bias, seed, groups):
    assume(activation != "exp" or len(shape) < 4)  # exponentials of exponentials of random neurons overflow
    network, parameters = irreducible(shape, activation, bias, seed)
    layers = range(1, network.depth)
    wide = expand(
        network,
        parameters,
        widths={layer: shape[layer] + 4 for layer in layers},
        zero_type={layer: groups for layer in layers},
        shares="random",
        seed=seed,
    )
    order = np.random.default_rng(seed).permutation(shape[1] + 4).tolist()
    shuffled = permute(wide.parameters, network.neurons(1), order)
    found = reduced(wide.network, shuffled)
    assert found.widths == shape
    assert not found.undecided
    assert not found.left
    # The very neurons come back: in layer 1 in the shuffled order, behind it as they were.
    first = [order[place] for place in found.kept[1]]
    source = [next(o.source for o in wide.origins if o.layer == 1 and o.neuron == place) for place in first]
    again = permute(found.parameters, network.neurons(1), [source.index(i) for i in range(shape[1])])
    for name, value in parameters.items():
        same(again[name], value, rounding=1e-11)


@settings(max_examples=15)
@given(st.sampled_from(SHAPES), st.sampled_from(sorted(FUNCTIONS)), st.booleans(), st.integers(0, 1000))
def test_an_irreducible_network_stays_as_it_is(shape, activation, bias, seed):
    network, parameters = irreducible(shape, activation, bias, seed)
    found = reduce(network, parameters)
    if activation != "identity" or max(shape[1:-1]) <= shape[0]:
        assert found.widths == shape
        assert (found.removed, found.max_output_deviation) == ((), 0.0)
        assert all(np.array_equal(found.parameters[name], parameters[name]) for name in parameters)


MOVES = ("copy", "zero-type", "constant", "twin", "multiple")


@settings(max_examples=40)
@given(
    st.sampled_from(["tanh", "sine", "sigmoid", "relu", "leaky_relu", "softplus"]),
    st.integers(1, 4),
    st.integers(1, 4),
    st.lists(st.sampled_from(MOVES), min_size=1, max_size=5),
    st.integers(0, 1000),
)
def test_any_sequence_of_moves_at_equal_function_is_undone(activation, small, outputs, moves, seed):
    """Copies, zero-type pairs, constants, sign twins and multiples are mixed into a random layer, then shuffled."""
    generator = np.random.default_rng(seed)
    first, first_out = generator.normal(size=(small, 4)), generator.normal(size=(small, outputs))
    incoming, outgoing, bias = list(first), list(first_out), np.full(outputs, 0.5)
    for move in moves:
        j, a, share = int(generator.integers(len(incoming))), generator.normal(size=outputs), float(generator.normal())
        if move == "copy":
            incoming.append(incoming[j])
            outgoing.append(share * outgoing[j])
            outgoing[j] = (1.0 - share) * outgoing[j]
        elif move == "zero-type":
            incoming += [generator.normal(size=4)] * 2
            outgoing += [a, -a]
        elif move == "constant":
            incoming.append(np.array([0.0, 0.0, 0.0, share]))
            outgoing.append(a)
            bias = bias - a * FUNCTIONS[activation](share)
        elif move == "twin" and activation in (*ODD, "sigmoid"):
            incoming.append(-incoming[j])
            outgoing.append(a)
            outgoing[j] = outgoing[j] + a
            bias = bias - a if activation == "sigmoid" else bias
        elif move == "multiple" and activation in ("relu", "leaky_relu"):
            incoming.append(np.exp(share) * incoming[j])
            outgoing.append(a)
            outgoing[j] = outgoing[j] - np.exp(share) * a
    order = generator.permutation(len(incoming))
    network, parameters = layer_of(activation, np.array(incoming)[order], np.array(outgoing)[order].T)
    found = reduced(network, {**parameters, "2.bias": bias})
    assert found.widths == (3, small, outputs)
    original, vectors = layer_of(activation, first, first_out.T)
    x = generator.normal(size=(50, 3))
    same(forward(found.network, found.parameters, x), forward(original, vectors, x), rounding=1e-12)


W = np.random.default_rng(1).normal(size=(3, 3))
A = np.random.default_rng(2).normal(size=(2, 6))


@pytest.mark.parametrize("activation", sorted(FUNCTIONS))
def test_copies_silent_neurons_and_constants_go(activation):
    incoming = np.vstack([W[:2], W[0], W[2], [0.0, 0.0, 0.7]])
    outgoing = A[:, :5] * [1, 1, 1, 0, 1]
    found = reduced(*layer_of(activation, incoming, outgoing))
    assert found.widths == (2, 2, 2)
    assert reasons(found)[:2] == [(3, "zero outgoing weights", None, False), (4, "constant", None, True)]
    assert reasons(found)[2] == (2, "copy", 0, False)
    assert all(removal.gap == 0.0 for removal in found.removed)


@pytest.mark.parametrize("activation", ODD)
@pytest.mark.parametrize("bias", [True, False])
def test_sign_twins_of_odd_activations_merge(activation, bias):
    found = reduced(*layer_of(activation, np.vstack([W, -W[1]]), A[:, :4], bias=bias))
    assert found.widths[1] == 3
    assert reasons(found) == [(3, "sign twin", 1, False)]
    same(found.parameters["2.weight"][:, 1], A[:, 1] - A[:, 3])


def test_sign_twins_of_odd_activations_with_equal_outgoing_weights_cancel():
    found = reduced(*layer_of("tanh", np.vstack([W, -W[1]]), A[:, [0, 1, 2, 1]]))
    assert {why for _, why, _, _ in reasons(found)} == {"sign twins that cancel"}
    assert found.kept[1] == (0, 2)


def test_sign_twins_of_sigmoid_leave_their_constant_in_the_next_bias():
    found = reduced(*layer_of("sigmoid", np.vstack([W, -W]), A))
    assert reasons(found) == [(3 + i, "sign twin", i, True) for i in range(3)]
    same(found.parameters["2.bias"], 0.5 + A[:, 3:].sum(axis=1))


def test_one_pair_of_sigmoid_twins_without_a_bias_stays_and_is_named():
    found = reduced(*layer_of("sigmoid", np.vstack([W, -W[1]]), A[:, :4], bias=False))
    assert found.widths[1] == 4
    assert found.left == ("layer 1: neurons 1, 3 are sign twins, and there is no bias to take their constant",)


def test_several_pairs_of_sigmoid_twins_without_a_bias_share_one_constant_neuron():
    found = reduced(*layer_of("sigmoid", np.vstack([W, -W]), A, bias=False))
    assert found.widths[1] == 4
    assert found.left == ("layer 1: neuron 3 is a constant, and there is no bias to take it",)
    assert not found.parameters["0.weight"][3].any()


def test_a_constant_neuron_takes_the_constant_of_sigmoid_twins():
    found = reduced(*layer_of("sigmoid", np.vstack([W, -W[0], 0.0 * W[0]]), A[:, :5], bias=False))
    assert reasons(found) == [(3, "sign twin", 0, False)]
    same(found.parameters["2.weight"][:, 3], A[:, 4] + 2.0 * A[:, 3])


@pytest.mark.parametrize(
    "outgoing", [[1.0, 2.0, 0.5, -0.5], [1.0, -2.0, 2.0, 0.3]], ids=["as they are", "turned round"]
)
def test_sigmoid_twins_whose_constants_cancel_go_without_a_bias(outgoing):
    found = reduced(*layer_of("sigmoid", np.vstack([W[:2], -W[:2]]), outgoing, bias=False))
    assert found.widths[1] == 2


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", EVEN)
def test_twins_of_activations_that_are_even_up_to_a_linear_part(activation, bias):
    """One pair carries a linear part and stays; three pairs in two or three dimensions need only so many."""
    lone = reduced(*layer_of(activation, np.vstack([W, -W[0]]), A[:, :4], bias=bias))
    assert lone.widths[1] == 4
    assert lone.left == ("layer 1: the sign twins of 0 stay: they carry a linear part that nothing else can",)
    vectors = np.random.default_rng(4).normal(size=(4, 3))
    outgoing = np.random.default_rng(5).normal(size=(2, 8))
    many = reduced(*layer_of(activation, np.vstack([vectors, -vectors]), outgoing, bias=bias))
    # A map to two outputs has rank two, but its rows need all directions of the inputs, unless they are few.
    assert many.widths[1] == 4 + (2 if bias else 3)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_negative_multiples_are_twins_for_homogeneous_activations(activation):
    vectors = np.random.default_rng(4).normal(size=(4, 3))
    outgoing = np.random.default_rng(5).normal(size=(2, 8))
    many = reduced(*layer_of(activation, np.vstack([vectors, -2.5 * vectors]), outgoing))
    assert many.widths[1] == 4 + 2


@pytest.mark.parametrize("activation", EVEN)
def test_twins_whose_linear_parts_cancel_all_go(activation):
    incoming = np.array([[1.0, 2.0, 0.3], [1.0, 2.0, -1.0], [-1.0, -2.0, -0.3], [-1.0, -2.0, 1.0]])
    found = reduced(*layer_of(activation, incoming, [[0.7, 0.2, 0.4, -0.4], [1.0, 1.0, -2.0, 2.0]]))
    assert reasons(found) == [(2, "sign twin", 0, True), (3, "sign twin", 1, True)]
    assert not found.left


@pytest.mark.parametrize("activation", EVEN)
def test_linear_parts_may_cancel_only_after_other_neurons_change_their_sign(activation):
    """a g(z) - a g(-z) is linear, and b g(z') with z' = z + 1 turned round takes it: the outgoing weights decide."""
    incoming = np.array([[1.0, 2.0, 0.3], [-1.0, -2.0, -0.3], [1.0, 2.0, 1.0]])
    found = reduced(*layer_of(activation, incoming, [[0.7, 0.6, -0.7]]))
    assert found.widths[1] == 2
    assert not found.left


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_positive_multiples_merge_for_homogeneous_activations_only(activation):
    incoming = np.vstack([W[:2], 2.5 * W[0]])
    found = reduced(*layer_of(activation, incoming, A[:, :3]))
    assert reasons(found) == [(2, "positive multiple", 0, False)]
    same(found.parameters["2.weight"][:, 0], A[:, 0] + 2.5 * A[:, 2])
    assert reduced(*layer_of("tanh", incoming, A[:, :3])).removed == ()


def test_exponentials_that_differ_in_the_bias_merge():
    incoming = 0.3 * np.vstack([W[:2], W[0] + [0.0, 0.0, 4.0]])
    found = reduced(*layer_of("exp", incoming, A[:, :3]))
    assert reasons(found) == [(2, "copy with another bias", 0, False)]


def test_a_linear_network_keeps_as_many_neurons_as_its_map_needs():
    wide = np.random.default_rng(3).normal(size=(6, 3))
    found = reduced(*layer_of("identity", wide, A))
    assert found.widths[1] == 2
    assert {why for _, why, _, _ in reasons(found)} == {"linear combination"}


def test_rectified_neurons_that_no_input_can_activate_go():
    """Behind a ReLU all inputs are >= 0, so negative weights and bias are never active; in the first layer they are."""
    network = MLP((2, 3, 3, 1), "relu")
    parameters = random_parameters(network, 0)
    parameters["2.weight"][1], parameters["2.bias"][1] = -np.abs(parameters["2.weight"][1]), -0.1
    parameters["0.weight"][1], parameters["0.bias"][1] = -np.abs(parameters["0.weight"][1]), -0.1
    parameters["2.weight"][[0, 2]] = np.abs(parameters["2.weight"][[0, 2]])
    found = reduced(network, parameters)
    assert [(removal.layer, removal.neuron, removal.why) for removal in found.removed] == [
        (2, 1, "dead for every input")
    ]
    assert not found.removed[0].data_dependent
    leaky = MLP((2, 3, 3, 1), "leaky_relu")
    assert reduced(leaky, parameters).removed == ()


def test_neurons_dead_on_the_data_go_only_on_request_and_are_marked():
    network, parameters = layer_of("relu", [[1.0, 1.0, 0.0], [1.0, -1.0, -20.0], [-1.0, 0.5, -30.0]], [[1.0, 2.0, 3.0]])
    x = np.random.default_rng(0).normal(size=(100, 2))
    assert reduce(network, parameters, x).removed == ()
    found = reduce(network, parameters, x, drop_dead=True)
    assert [(r.neuron, r.why, r.data_dependent) for r in found.removed] == [
        (1, "dead on the given inputs", True),
        (2, "dead on the given inputs", True),
    ]
    assert found.max_output_deviation == 0.0
    far = np.array([[100.0, 0.0]])
    assert np.abs(forward(found.network, found.parameters, far) - forward(network, parameters, far)).max() > 1.0
    with pytest.raises(SettingsError, match="dead depends on the inputs"):
        reduce(network, parameters, drop_dead=True)


def test_a_constant_beside_a_dead_neuron_is_added_to_the_bias_once():
    network, parameters = layer_of("relu", [[1.0, 1.0, 0.0], [1.0, -1.0, -20.0], [0.0, 0.0, 0.7]], [[1.0, 2.0, 3.0]])
    found = reduce(network, parameters, np.random.default_rng(0).normal(size=(100, 2)), drop_dead=True)
    assert found.widths[1] == 1
    assert found.max_output_deviation <= 1e-14


def test_copies_behind_copies_are_found_layer_by_layer():
    """Two neurons of layer 2 that read copies with different shares coincide only once layer 1 is reduced."""
    network = MLP((2, 3, 3, 2), "tanh")
    parameters = random_parameters(network, 0)
    parameters["0.weight"][2], parameters["0.bias"][2] = parameters["0.weight"][0], parameters["0.bias"][0]
    parameters["2.weight"][1] = parameters["2.weight"][0] + [0.8, 0.0, -0.8]
    parameters["2.bias"][1] = parameters["2.bias"][0]
    found = reduced(network, parameters)
    assert found.widths == (2, 2, 2, 2)
    assert [(removal.layer, removal.neuron, removal.into) for removal in found.removed] == [(1, 2, 0), (2, 1, 0)]


@pytest.mark.parametrize("bias", [True, False])
def test_the_last_neuron_stays_and_is_said_to_send_out_nothing(bias):
    found = reduced(*layer_of("tanh", W, np.zeros((2, 3)), bias=bias))
    assert found.widths[1] == 1
    assert found.left == ("layer 1: its last neuron sends out nothing, and a layer needs one",)


@pytest.mark.parametrize(
    "incoming", [np.vstack([W[0], W[0]]), [[0.0, 0.0, 0.3], [0.0, 0.0, -2.0]]], ids=["zero", "constant"]
)
def test_a_layer_of_redundant_neurons_only_keeps_one_that_sends_out_nothing(incoming):
    """A zero-type group that is the whole layer, and a layer of constants."""
    found = reduced(*layer_of("tanh", incoming, [[0.7, -0.7]]))
    assert found.widths[1] == 1
    assert not found.parameters["2.weight"].any()
    assert found.left == ("layer 1: its last neuron sends out nothing, and a layer needs one",)


def test_a_network_without_hidden_layers_is_returned_as_it_is():
    network = MLP((3, 2), "tanh")
    parameters = random_parameters(network, 0)
    found = reduce(network, parameters)
    assert (found.widths, found.removed, found.undecided) == ((3, 2), (), False)


def nearly_twice(gap):
    incoming = np.vstack([W, W[0]])
    incoming[3, 0] += gap * np.linalg.norm(W[0])
    return layer_of("tanh", incoming, A[:, :4])


def test_the_tolerance_decides_and_what_is_close_to_it_is_undecided():
    network, parameters = nearly_twice(1e-6)
    strict = reduce(network, parameters)
    assert (strict.widths[1], strict.undecided) == (4, False)
    assert strict.nearest[1] == pytest.approx(1e-6, rel=1e-4, abs=0.0)
    open_question = reduce(network, parameters, tolerance=3e-7)
    assert (open_question.widths[1], open_question.undecided) == (4, True)
    loose = reduce(network, parameters, tolerance=1e-5)
    assert (loose.widths[1], loose.undecided) == (3, False)
    assert loose.removed[0].gap == pytest.approx(1e-6, rel=1e-4, abs=0.0)
    assert 1e-9 < loose.max_output_deviation < 1e-5


def test_a_neuron_with_tiny_outgoing_weights_stays_when_the_outputs_need_it():
    """f = 1e10 tanh(1e-10 x) + tanh x: an outgoing weight is 1e-10 of the other, and matters as much."""
    network, parameters = layer_of("tanh", [[1e-10], [1.0]], [[1e10, 1.0]], bias=False)
    x = np.linspace(-2.0, 2.0, 41)[:, None]
    found = reduce(network, parameters, x)
    assert (found.widths, found.removed, found.undecided) == ((1, 2, 1), (), False)
    assert [(refusal.neuron, refusal.why) for refusal in found.refused] == [
        (1, "zero outgoing weights"),
        (0, "constant"),  # its incoming weight is 1e-10 of the other's
    ]
    share = np.tanh(2.0) / (2.0 + np.tanh(2.0))
    assert found.refused[0].loss == pytest.approx(share, rel=1e-6, abs=0.0)
    assert "layer 1: neuron 1 stays: taken out as 'zero outgoing weights'" in found.left[0]


@pytest.mark.parametrize(("big", "goes"), [(0.5, True), (1e2, True), (1e6, False)])
def test_near_copies_go_only_where_their_outgoing_weights_do_not_make_much_of_the_difference(big, goes):
    network, parameters = nearly_twice(1e-12)
    outgoing = parameters["2.weight"][:, 0].copy()
    parameters["2.weight"][:, 0], parameters["2.weight"][:, 3] = (1.0 - big) * outgoing, big * outgoing
    found = reduce(network, parameters)
    assert (found.widths[1] == 3) == goes
    assert bool(found.refused) == (not goes)
    assert found.output_loss <= 1e-9


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_the_tolerance_is_of_the_outputs_on_either_side(share):
    """A neuron whose removal loses just less than the tolerance goes; just more, it stays: undecided, being so near."""
    rows = W * np.array([[1.0], [1.0], [100.0]])  # so that its outgoing weights are far below the tolerance
    network, parameters = layer_of("softplus", rows, A[:, :3] * [1.0, 1.0, 1e-10])
    x = np.random.default_rng(7).normal(size=(50, 2))
    without = forward(network, {**parameters, "2.weight": parameters["2.weight"] * [1.0, 1.0, 0.0]}, x)
    wanted = forward(network, parameters, x)
    lost = float(np.max(np.abs(wanted - without).max(axis=0) / np.abs(wanted).max(axis=0)))
    parameters["2.weight"][:, 2] *= share * 1e-7 / lost
    found = reduce(network, parameters, x, tolerance=1e-7)
    assert found.widths[1] == (2 if share < 1 else 3)
    assert found.undecided == (share > 1)
    assert [refusal.loss for refusal in found.refused] == (
        [] if share < 1 else [pytest.approx(2e-7, rel=1e-4, abs=0.0)]
    )


def test_many_small_losses_count_together():
    """Each of forty near copies costs a tenth of the tolerance: about ten of them may go, not all."""
    generator = np.random.default_rng(3)
    outgoing = 1e3 * generator.normal(size=20)
    rows = generator.normal(size=(20, 3))
    nudged = rows + 1e-9 * np.abs(generator.normal(size=rows.shape)) * np.sign(outgoing)[:, None]
    network, parameters = layer_of("softplus", np.vstack([rows, nudged]), np.concatenate([-outgoing, outgoing + 1.0]))
    x = np.abs(generator.normal(size=(60, 2)))
    wanted = forward(network, parameters, x)
    found = reduce(network, parameters, x, tolerance=1e-7)
    change = np.abs(forward(found.network, found.parameters, x) - wanted).max() / np.abs(wanted).max()
    assert change <= 1e-7
    assert found.output_loss == pytest.approx(change, rel=1e-3, abs=0.0)
    assert 0 < len(found.removed) < 20
    assert len(found.refused) + len(found.removed) >= 20


def test_each_output_is_judged_by_its_own_size():
    """The second output is a millionth of the first: what it needs stays, though the first would not miss it."""
    network, parameters = layer_of("tanh", W, [[1.0, 1.0, 0.0], [0.0, 1e-9, 1e-9]], bias=False)
    found = reduce(network, parameters, np.random.default_rng(7).normal(size=(50, 3)))
    assert found.widths[1] == 3
    assert [refusal.neuron for refusal in found.refused] == [2]


@pytest.mark.parametrize("layer", [1, 2])
def test_what_a_deep_network_makes_of_a_small_difference_decides(layer):
    """The same near copy in either hidden layer; a later layer that multiplies by 1e6 makes it count."""
    network = MLP((2, 3, 3, 1), "tanh")
    for gain, goes in ((1.0, True), (1e6, False)):
        wide = expand(
            network, random_parameters(network, 0), copies={(layer, 0): 2}, shares={(layer, 0): (1 - gain, gain)}
        )
        parameters = wide.parameters
        parameters[f"{2 * layer - 2}.weight"][3, 0] += 1e-12
        found = reduce(wide.network, parameters)
        assert (found.widths == (2, 3, 3, 1)) == goes
        assert found.output_loss <= 1e-9


def test_what_rounding_hides_is_not_called_equal():
    """Outgoing weights of 1e12 that cancel: the outputs are known to 1e-4 only, and nothing near can be measured."""
    network, parameters = nearly_twice(3e-16)
    parameters["2.weight"][:, 1] += 1e12
    parameters["0.weight"][2], parameters["0.bias"][2] = parameters["0.weight"][1], parameters["0.bias"][1]
    parameters["2.weight"][:, 2] -= 1e12
    found = reduce(network, parameters)
    assert [(removal.neuron, removal.why, removal.gap) for removal in found.removed] in (
        [],
        [(2, "copy", 0.0)],
    )


def test_a_layer_of_any_model_gives_up_only_what_is_exact_unless_its_outputs_are_measured():
    network, parameters = nearly_twice(1e-12)
    x = np.random.default_rng(7).normal(size=(50, 2))
    neurons = network.neurons(1)
    assert reduce_layer(parameters, neurons)[1] == ()
    found, removed = reduce_layer(parameters, neurons, outputs=lambda p: forward(network, p, x))
    assert [removal.neuron for removal in removed] == [3]
    assert found["0.weight"].shape == (3, 2)
    parameters["2.weight"][:, 0] -= 1e6 * A[:, 3]
    parameters["2.weight"][:, 3] *= 1e6
    assert reduce_layer(parameters, neurons, outputs=lambda p: forward(network, p, x))[1] == ()


def test_the_deviation_is_measured_on_the_inputs():
    network, parameters = nearly_twice(1e-4)
    x = np.random.default_rng(7).normal(size=(30, 2))
    found = reduce(network, parameters, x, tolerance=1e-3)
    wanted = forward(network, parameters, x)
    measured = np.abs(forward(found.network, found.parameters, x) - wanted).max()
    assert found.max_output_deviation == pytest.approx(measured, rel=1e-9, abs=0.0)
    assert found.output_scale == pytest.approx(np.abs(wanted).max(), rel=1e-12, abs=0.0)
    problem = Problem(network, Data(x, wanted))
    assert reduce(problem, parameters, tolerance=1e-3).max_output_deviation == found.max_output_deviation


def test_the_copy_that_sends_out_most_says_where_the_merged_neuron_lies():
    network, parameters = nearly_twice(1e-4)
    parameters["2.weight"][:, 0] *= 1e-2
    found = reduce(network, parameters, tolerance=1e-3)
    same(found.parameters["0.weight"][0], parameters["0.weight"][3], rounding=0.0)
    assert found.max_output_deviation < 2e-6


def test_reduction_does_not_depend_on_the_order_of_the_neurons():
    network, parameters = irreducible((3, 3, 2), "tanh", True, 3)
    wide = expand(network, parameters, widths={1: 9}, zero_type={1: (2,)}, shares="random")
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(9).tolist()
        found = reduced(wide.network, permute(wide.parameters, network.neurons(1), order))
        rows = found.parameters["0.weight"]
        same(rows[np.argsort(rows[:, 0])], parameters["0.weight"][np.argsort(parameters["0.weight"][:, 0])])


def test_nothing_is_changed_in_place():
    network, parameters = layer_of("relu", np.vstack([W, 2 * W, -W[:1]]), np.hstack([A, A[:, :1]]))
    before = {name: value.copy() for name, value in parameters.items()}
    reduce(network, parameters)
    assert all(np.array_equal(parameters[name], before[name]) for name in before)


def test_channels_of_a_convolution_are_reduced_by_the_same_rules():
    """Unknown activation, batch norm and blocks of outgoing columns: copies and zero-type groups all the same."""
    neurons = Neurons(
        tuple(Slice(name, 0) for name in ("conv", "mean", "var", "scale", "shift")), (Slice("fc", 1, block=4),)
    )
    generator = np.random.default_rng(0)
    shapes = {"conv": (3, 2, 3, 3), "mean": (3,), "var": (3,), "scale": (3,), "shift": (3,), "fc": (3, 12)}
    small = {name: np.abs(generator.normal(size=shape)) for name, shape in shapes.items()}
    x = torch.from_numpy(generator.normal(size=(4, 2, 4, 4)))

    def function(parameters):
        p = {name: torch.from_numpy(value) for name, value in parameters.items()}
        h = torch.nn.functional.conv2d(x, p["conv"])
        h = torch.nn.functional.batch_norm(h, p["mean"], p["var"], p["scale"], p["shift"])
        return (torch.relu(h).flatten(1) @ p["fc"].T).numpy()

    free = np.abs(generator.normal(size=22))
    wide, _ = expand_layer(small, neurons, copies=(2, 1, 3), zero_type=(ZeroGroup(2, free),))
    found, removed = reduce_layer(wide, neurons, layer=5)
    same(function(wide), function(small))
    assert [(removal.layer, removal.neuron, removal.why) for removal in removed] == [
        (5, 3, "copy"),
        (5, 4, "copy"),
        (5, 5, "copy"),
        (5, 6, "zero-type group"),
        (5, 7, "zero-type group"),
    ]
    for name, value in small.items():
        same(found[name], value)


MISTAKES = {
    "tolerance": ({"tolerance": 1.0}, SettingsError, "tolerance=1.0; expected between 0 and 1"),
    "inputs of another width": ({"inputs": np.ones((4, 3))}, ShapeError, "inputs per sample=3; expected 2"),
    "inputs not finite": ({"inputs": np.full((4, 2), np.inf)}, NonFiniteError, "not finite"),
}


@pytest.mark.parametrize(("options", "kind", "text"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_with_its_value(options, kind, text):
    network = MLP((2, 3, 1), "tanh")
    with pytest.raises(kind, match=text):
        reduce(network, random_parameters(network, 0), **options)


def test_units_of_a_fused_array_are_refused():
    fused = Neurons((Slice("qkv", 0),), (Slice("out", 1),), units=2)
    with pytest.raises(NeuronsError, match="fused array cannot be added or removed"):
        reduce_layer({"qkv": np.ones((6, 3)), "out": np.ones((3, 2))}, fused)
