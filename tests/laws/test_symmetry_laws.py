"""Laws of interchangeable units, for every kind of unit: what is done to them leaves the network's function alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saddlescope.arrays import Layout
from saddlescope.errors import NeuronsError, SettingsError
from saddlescope.precision import float64
from saddlescope.units.actions import lift, merge, permute, remove, split, swap
from saddlescope.units.coordinates import PairCoordinates
from saddlescope.units.gauge import distance, fix_scale
from saddlescope.units.neurons import Neurons, Slice

UNITS = 4


class Model:
    """A network written down plainly in torch, its parameters, and the units of one layer."""

    def __init__(self, shapes, neurons, forward, inputs):
        self.shapes, self.neurons, self.forward, self.inputs = shapes, neurons, forward, inputs

    def random(self, seed):
        generator = np.random.default_rng(seed)
        return {name: generator.normal(size=shape) for name, shape in self.shapes.items()}

    def __call__(self, parameters):
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in parameters.items()}
        return self.forward(tensors, torch.from_numpy(np.random.default_rng(1).normal(size=self.inputs))).numpy()


def _dense(p, x):
    h = torch.tanh(x @ p["a.weight"].T + p["a.bias"])
    h = torch.relu(h @ p["b.weight"].T + p["b.bias"])
    return h @ p["c.weight"].T


def _convolution(p, x):
    h = torch.nn.functional.conv2d(x, p["conv.weight"])
    h = torch.nn.functional.batch_norm(h, p["mean"], p["var"].abs() + 1, p["scale"], p["shift"])
    return torch.relu(h).flatten(1) @ p["fc.weight"].T


def _feed_forward(p, x):
    return x + torch.nn.functional.gelu(x @ p["up.weight"].T + p["up.bias"]) @ p["down.weight"].T


def _attention(p, x):
    width = 2
    qkv = x @ p["qkv.weight"].T
    q, k, v = (qkv[..., i * UNITS * width : (i + 1) * UNITS * width] for i in range(3))
    heads = [t.unflatten(-1, (_heads(p), width)).transpose(1, 2) for t in (q, k, v)]
    mixed = torch.softmax(heads[0] @ heads[1].transpose(-1, -2), -1) @ heads[2]
    return mixed.transpose(1, 2).flatten(2) @ p["out.weight"].T


def _heads(p):
    return p["out.weight"].shape[1] // 2


MODELS = {
    "dense layer 1": Model(
        {"a.weight": (UNITS, 3), "a.bias": (UNITS,), "b.weight": (5, UNITS), "b.bias": (5,), "c.weight": (2, 5)},
        Neurons((Slice("a.weight", 0), Slice("a.bias", 0)), (Slice("b.weight", 1),)),
        _dense,
        (7, 3),
    ),
    "dense layer 2": Model(
        {"a.weight": (5, 3), "a.bias": (5,), "b.weight": (UNITS, 5), "b.bias": (UNITS,), "c.weight": (2, UNITS)},
        Neurons((Slice("b.weight", 0), Slice("b.bias", 0)), (Slice("c.weight", 1),)),
        _dense,
        (7, 3),
    ),
    "convolution with batch norm": Model(
        {
            "conv.weight": (UNITS, 2, 3, 3),
            "mean": (UNITS,),
            "var": (UNITS,),
            "scale": (UNITS,),
            "shift": (UNITS,),
            "fc.weight": (3, UNITS * 4),
        },
        Neurons(
            tuple(Slice(name, 0) for name in ("conv.weight", "mean", "var", "scale", "shift")),
            (Slice("fc.weight", 1, block=4),),
        ),
        _convolution,
        (3, 2, 4, 4),
    ),
    "feed-forward block": Model(
        {"up.weight": (UNITS, 3), "up.bias": (UNITS,), "down.weight": (3, UNITS)},
        Neurons((Slice("up.weight", 0), Slice("up.bias", 0)), (Slice("down.weight", 1),)),
        _feed_forward,
        (2, 5, 3),
    ),
}
HEADS = Model(
    {"qkv.weight": (3 * UNITS * 2, 3), "out.weight": (3, UNITS * 2)},
    Neurons(
        tuple(Slice("qkv.weight", 0, block=2, start=i * UNITS * 2) for i in range(3)),
        (Slice("out.weight", 1, block=2),),
        units=UNITS,
    ),
    _attention,
    (2, 5, 3),
)

every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
every_model_and_heads = pytest.mark.parametrize(
    "model", [*MODELS.values(), HEADS], ids=[*MODELS.keys(), "fused attention heads"]
)
pairs = st.permutations(range(UNITS)).map(lambda order: (order[0], order[1]))
orders = st.permutations(range(UNITS))
seeds = st.integers(0, 10)


def same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@every_model_and_heads
@given(seed=seeds, pair=pairs)
def test_swap_twice_is_the_identity(model, seed, pair):
    start = model.random(seed)
    same(swap(swap(start, model.neurons, *pair), model.neurons, *pair), start)


@every_model_and_heads
@given(seed=seeds, order=orders)
def test_any_permutation_leaves_the_output_alone(model, seed, order):
    start = model.random(seed)
    np.testing.assert_allclose(model(permute(start, model.neurons, order)), model(start), rtol=1e-12, atol=1e-12)


@every_model_and_heads
@given(first=orders, second=orders)
def test_permutations_compose(model, first, second):
    start = model.random(0)
    twice = permute(permute(start, model.neurons, first), model.neurons, second)
    same(twice, permute(start, model.neurons, [first[i] for i in second]))


@every_model
@given(seed=seeds, unit=st.integers(0, UNITS - 1), share=st.floats(-3, 3))
def test_a_split_leaves_the_output_alone_inside_and_outside_the_unit_interval(model, seed, unit, share):
    start = model.random(seed)
    wide = split(start, model.neurons, unit, (share, 1 - share))
    assert model.neurons.count(wide) == UNITS + 1
    np.testing.assert_allclose(model(wide), model(start), rtol=1e-10, atol=1e-11)


@every_model
@given(seed=seeds, unit=st.integers(0, UNITS - 1), share=st.floats(-3, 3))
def test_split_then_merge_returns(model, seed, unit, share):
    start = model.random(seed)
    back = merge(split(start, model.neurons, unit, (share, 1 - share)), model.neurons, unit, UNITS)
    for name in start:
        np.testing.assert_allclose(back[name], start[name], rtol=1e-13, atol=1e-13)


@every_model
@given(seed=seeds, pair=pairs, share=st.floats(-2, 2))
def test_lift_undoes_merge_where_units_coincide(model, seed, pair, share):
    reduced = remove(model.random(seed), model.neurons, 0)
    l, m = min(pair), max(pair)
    if l < UNITS - 1:
        wide = lift(reduced, model.neurons, l, m, (share, 1 - share))
        back = merge(wide, model.neurons, l, m)
        for name in reduced:
            np.testing.assert_allclose(back[name], reduced[name], rtol=1e-13, atol=1e-13)
        assert distance(wide, model.neurons, l, m) == 0.0


@every_model
@given(seed=seeds, unit=st.integers(0, UNITS - 1))
def test_a_unit_that_sends_nothing_can_be_removed(model, seed, unit):
    start = model.random(seed)
    wide = split(start, model.neurons, unit, (1.0, 0.0))
    np.testing.assert_allclose(model(remove(wide, model.neurons, UNITS)), model(start), rtol=1e-12, atol=1e-12)


@every_model
@given(seed=seeds, pair=pairs)
def test_distances_are_symmetric_ordered_and_left_alone_by_the_swap(model, seed, pair):
    start, neurons = model.random(seed), model.neurons
    l, m = pair
    incoming, joint = (distance(start, neurons, l, m, kind=kind) for kind in ("incoming", "joint"))
    assert 0 < incoming <= joint
    assert distance(start, neurons, m, l) == incoming
    assert distance(swap(start, neurons, l, m), neurons, l, m, kind="joint") == pytest.approx(joint, rel=1e-14, abs=0.0)


@given(seed=seeds, scale=st.floats(0.01, 100))
def test_fixing_the_scale_leaves_a_relu_layer_alone_and_forgets_the_scale(seed, scale):
    model = MODELS["dense layer 2"]
    start = model.random(seed)
    fixed = fix_scale(start, model.neurons)
    np.testing.assert_allclose(model(fixed), model(start), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(np.linalg.norm(model.neurons.incoming_vectors(fixed), axis=1), 1.0, rtol=1e-14)
    scaled = dict(start)
    scaled["b.weight"], scaled["b.bias"] = start["b.weight"].copy(), start["b.bias"].copy()
    scaled["b.weight"][1] *= scale
    scaled["b.bias"][1] *= scale
    before, after = (distance(x, model.neurons, 1, 2, homogeneous=True) for x in (start, scaled))
    assert after == pytest.approx(before, rel=1e-12, abs=0.0)


def test_a_zero_incoming_vector_has_no_scale():
    model = MODELS["dense layer 2"]
    start = model.random(0)
    start["b.weight"][2] = 0
    start["b.bias"][2] = 0
    with pytest.raises(NeuronsError, match=r"incoming vector of this neuron is zero.*neuron=2"):
        fix_scale(start, model.neurons)


@every_model
@given(seed=seeds, pair=pairs)
def test_pair_coordinates_are_orthogonal_and_the_swap_flips_the_differences(model, seed, pair):
    start = model.random(seed)
    layout = Layout.of(start)
    with float64():
        turn = PairCoordinates.of(model.neurons, layout, pair)
        theta = layout.flatten(start)
        x = turn.rotate(theta)
        np.testing.assert_allclose(turn.unrotate(x), theta, rtol=1e-14, atol=1e-15)
        assert np.linalg.norm(x) == pytest.approx(float(np.linalg.norm(theta)), rel=1e-14, abs=0.0)
        y = np.asarray(turn.rotate(layout.flatten(swap(start, model.neurons, *pair))))
        places = np.concatenate([turn.incoming_difference, turn.outgoing_difference])
        expected = np.array(x)
        expected[places] *= -1
        np.testing.assert_allclose(y, expected, rtol=1e-14, atol=1e-15)
        gap = np.sqrt(2) * np.linalg.norm(np.asarray(x)[np.asarray(turn.incoming_difference)])
    assert gap == pytest.approx(distance(start, model.neurons, *pair), rel=1e-13, abs=0.0)


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (lambda p, n: swap(p, n, 0, 9), NeuronsError, "no such neuron in this layer: neuron=9; expected 0 to 3"),
        (lambda p, n: swap(p, n, -1, 2), NeuronsError, "neuron=-1"),
        (lambda p, n: swap(p, n, 2, 2), NeuronsError, "two different neurons: pair=.2, 2."),
        (lambda p, n: permute(p, n, [0, 0, 1, 2]), NeuronsError, "not a permutation"),
        (lambda p, n: split(p, n, 0, (0.5, 0.6)), SettingsError, "shares must sum to 1"),
        (lambda p, n: remove(p, n, 4), NeuronsError, "cannot be removed"),
    ],
)
def test_mistakes_are_named_with_their_value(act, error, text):
    model = MODELS["dense layer 1"]
    with pytest.raises(error, match=text):
        act(model.random(0), model.neurons)


def test_slices_that_disagree_are_refused():
    wrong = Neurons((Slice("a.weight", 0),), (Slice("b.weight", 0),))
    with pytest.raises(NeuronsError, match="disagree on the number of units"):
        wrong.count(MODELS["dense layer 1"].random(0))


def test_heads_of_a_fused_array_cannot_be_added_or_removed_silently_wrong():
    start = HEADS.random(0)
    for act in (lambda: split(start, HEADS.neurons, 0), lambda: remove(start, HEADS.neurons, 0)):
        with pytest.raises(NeuronsError, match="fused array cannot be added or removed"):
            act()
