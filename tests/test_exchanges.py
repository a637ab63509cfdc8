"""The exchange analysis: every unit's block against the dense Hessian of the network in which it is really doubled."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import saddlescope as ss
from saddlescope.arrays import Layout
from saddlescope.errors import NeuronsError, NonFiniteError, SettingsError, ShapeError

torch = pytest.importorskip("torch")
from references.doubled_networks import FAMILIES, architecture, drawn  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch warns of itself when it exports

SEEDS = 5
WALKED = ("tanh, two layers", "relu", "squeeze and excite", "fused geglu")  # by iterations, too: all would take minutes
ITERATIVE = ss.ExchangeSettings(dense=0)


def opened(name):
    """A family's module, its model, and the problem at a draw."""
    module = architecture(name)
    model, _ = ss.from_torch(module, torch.tensor(drawn(name, module, 99, samples=4).inputs))

    def at(seed):
        case = drawn(name, module, seed)
        rows = {"targets" if FAMILIES[name].loss == "mse" else "labels": case.targets}
        return case, ss.Problem(model, ss.Data(case.inputs, **rows), loss=FAMILIES[name].loss)

    return at


def alike(block, found, unit):
    """The share by which an eigenvalue differs from the doubled network's, and whether its sign is wrong."""
    truth = np.linalg.eigvalsh(block)
    size = np.abs(truth).max() or 1.0  # a dead unit's block is 0
    v = np.concatenate(found.direction(unit))
    gap, along = abs(found.lowest[unit] - truth[0]) / size, abs(v @ block @ v - truth[0]) / size
    sign = found.unstable[unit]
    return max(gap, along), sign is not None and sign != (truth[0] < 0), np.linalg.norm(v)


def test_the_families_hold_three_hundred_blocks():
    assert SEEDS * sum(layer.units for family in FAMILIES.values() for layer in family.layers.values()) >= 300


@pytest.mark.parametrize("name", FAMILIES)
def test_every_block_is_that_of_the_really_doubled_network(name):
    """Value, direction and sign, by blocks that are formed and by iterations; at parameters that are no minimum."""
    at = opened(name)
    for seed in range(SEEDS):
        case, problem = at(seed)
        formed = ss.exchange(problem, case.parameters)
        walked = ss.exchange(problem, case.parameters, settings=ITERATIVE) if seed == 0 and name in WALKED else None
        assert {found.name for found in formed.layers.values()} >= set(case.family.layers), formed.skipped
        for layer, places in case.family.layers.items():
            assert (formed[layer].units, formed[layer].way) == (places.units, "cut")
            for unit in range(places.units):
                block = case.block(layer, unit)
                gap, wrong, length = alike(block, formed[layer], unit)
                assert gap < 1e-11
                assert not wrong
                assert length == pytest.approx(1.0, abs=1e-12)
                if walked is not None:
                    gap, wrong, _ = alike(block, walked[layer], unit)
                    assert gap < 1e-8
                    assert not wrong


def perceptron(activation="tanh", widths=(3, 4, 3, 2), *, seed=0, samples=40, **options):
    """A random network with random data; the way of each call is free."""
    g = np.random.default_rng(seed)
    net = ss.MLP(widths, activation)
    data = ss.Data(g.normal(size=(samples, widths[0])), targets=g.normal(size=(samples, widths[-1])))
    return ss.Problem(net, data, **options), {n: 2.0 * v for n, v in net.initial(seed).items()}


def stacked(gate, up, down, *, seed=0, units=4):
    """A residual gated block over two stacked layers, in a loop; its code reads sizes from its arrays."""
    g = np.random.default_rng(seed)

    def apply(params, x):
        def block(here, layer):
            return here + (jax.nn.silu(here @ layer[gate]) * (here @ layer[up])) @ layer[down], None

        return jax.lax.scan(block, x, params["layers"])[0] @ params["head"]

    layers = {name: 0.7 * g.normal(size=(2, 3, units)) for name in (gate, up)}
    params = {"layers": {**layers, down: 0.7 * g.normal(size=(2, units, 3))}, "head": g.normal(size=(3, 2))}
    x = g.normal(size=(20, 3))
    model, params = ss.from_function(apply, params, x[:5])
    return ss.Problem(model, ss.Data(x, targets=g.normal(size=(20, 2)))), params


def attention(seed=0):
    """Attention over three tokens, heads along an axis of their own, a residual and a head."""
    g = np.random.default_rng(seed)

    def apply(params, x):
        q, k, v = (jnp.einsum("std,hed->shte", x, params[name]) for name in ("q", "r", "s"))
        seen = jax.nn.softmax(jnp.einsum("shte,shue->shtu", q, k), axis=-1)
        mixed = x + jnp.einsum("shtu,shue,hed->std", seen, v, params["t"])
        return jnp.tanh(mixed).mean(1) @ params["u"]

    params = {name: g.normal(size=(3, 2, 4)) for name in "qrst"} | {"u": g.normal(size=(4, 2))}
    x = g.normal(size=(20, 3, 4))
    model, params = ss.from_function(apply, params, x[:5])
    return ss.Problem(model, ss.Data(x, targets=g.normal(size=(20, 2)))), params


def test_the_cut_and_the_grown_network_give_the_same_blocks():
    """Two ways that share no formula: products in the network's own shapes, and in the one of twice the units."""
    for problem, params in (perceptron(), perceptron("relu", loss="normalised"), stacked("a", "b", "c"), attention()):
        one, other = (ss.exchange(problem, params, settings=ss.ExchangeSettings(way=way)) for way in ("cut", "grown"))
        assert {found.way for found in one.layers.values()} == {"cut"}
        assert {found.way for found in other.layers.values()} == {"grown"}
        for number, found in one.layers.items():
            np.testing.assert_allclose(found.lowest, other[number].lowest, rtol=1e-11)
            along = np.sum(found.incoming * other[number].incoming, 1) + np.sum(
                found.outgoing * other[number].outgoing, 1
            )
            np.testing.assert_allclose(along, 1.0, rtol=1e-9)


def test_what_cannot_be_cut_is_grown():
    """Of two factors the later one shares; here that is none that is read last, and the sum has no place of its own."""
    problem, params = stacked("b", "c", "a")
    with pytest.raises(NeuronsError, match="another way than their outgoing weights"):
        ss.exchange(problem, params, layer=1, settings=ss.ExchangeSettings(way="cut"))
    found = ss.exchange(problem, params, layer=1)[1]
    assert found.way == "grown"
    (plain,) = ss.exchange(*stacked("a", "b", "c"), layer=1).layers.values()
    assert found.unstable == plain.unstable  # another share of the same unit: congruent blocks


def test_the_loss_falls_along_the_direction_as_the_eigenvalue_says():
    """Finite differences of the really grown network's loss, at parameters with a large gradient."""
    problem, params = perceptron(loss="mse")
    found = ss.exchange(problem, params, layer=1)
    assert found.gradient_norm > 0.1
    wider = problem.with_network(ss.MLP((3, 5, 3, 2), "tanh"))
    for unit in range(4):
        into, out = (part / np.sqrt(2.0) for part in found[1].direction(unit))

        def loss(t, unit=unit, into=into, out=out):
            copy = {n: np.asarray(v) for n, v in params.items()}
            first, bias, second = copy["0.weight"], copy["0.bias"], copy["2.weight"]
            sent = second[:, unit : unit + 1] / 2
            rows = [np.concatenate([first, first[unit : unit + 1]]), np.append(bias, bias[unit])]
            rows[0][[unit, -1]] += t * np.array([into[:3], -into[:3]])
            rows[1][[unit, -1]] += t * np.array([into[3], -into[3]])
            wide = np.concatenate([second, sent - t * out[:, None]], axis=1)
            wide[:, unit : unit + 1] = sent + t * out[:, None]
            return wider.loss_of({**copy, "0.weight": rows[0], "0.bias": rows[1], "2.weight": wide})

        step = 1e-3
        slope = (loss(step) - loss(-step)) / (2 * step)
        bend = (loss(step) - 2.0 * loss(0.0) + loss(-step)) / step**2
        assert loss(0.0) == pytest.approx(problem.loss_of(params), rel=1e-13)
        assert abs(slope) < 1e-10
        assert bend == pytest.approx(found[1].lowest[unit], rel=1e-5)
        assert loss(0.1) < loss(0.0)


def test_a_penalty_adds_its_factor_to_every_eigenvalue():
    """Decay is |theta|^2/2 of all entries; enough of it makes every copy stable, and the sign is decided."""
    plain, params = perceptron()
    decayed, _ = perceptron(weight_decay=3.0)
    one, other = ss.exchange(plain, params, layer=1), ss.exchange(decayed, params, layer=1)
    np.testing.assert_allclose(other[1].lowest, one[1].lowest + 3.0, rtol=1e-13)
    assert one[1].unstable == (True,) * 4
    assert other[1].unstable == (False,) * 4
    walked = ss.exchange(decayed, params, layer=1, settings=ITERATIVE)
    assert walked[1].unstable == (None,) * 4  # iterations bound the lowest eigenvalue from above only


def test_the_norm_barrier_is_that_of_the_network_with_one_unit_more():
    """Its Hessian by autograd, in the grown network, along a direction at right angles to the parameters."""
    problem, params = perceptron(norm_barrier=1e-3)
    params = {n: 90.0 * v for n, v in params.items()}
    plain, _ = perceptron()
    found, bare = ss.exchange(problem, params, layer=1), ss.exchange(plain, params, layer=1)
    for unit in range(4):
        feeds = np.append(params["0.weight"][unit], params["0.bias"][unit])
        sends = params["2.weight"][:, unit]
        total = sum(np.sum(v**2) for v in params.values()) + feeds @ feeds - 0.5 * sends @ sends
        size = sum(v.size for v in params.values()) + len(feeds) + len(sends)
        beyond = 0.5 * total - 1000.0 * size
        assert beyond > 0
        expected = 1e-3 * beyond**2
        assert found[1].lowest[unit] - bare[1].lowest[unit] == pytest.approx(expected, rel=1e-9)


def test_reordered_units_and_data_and_a_scaled_loss_give_the_same_answer():
    problem, params = perceptron()
    found = ss.exchange(problem, params, layer=1)[1]
    order = np.array([2, 0, 3, 1])
    moved = {**params, "0.weight": params["0.weight"][order], "0.bias": params["0.bias"][order]}
    moved["2.weight"] = params["2.weight"][:, order]
    rows = np.random.default_rng(1).permutation(40)
    data = ss.Data(problem.unpadded_inputs()[rows], targets=np.asarray(problem.targets).reshape(-1, 2)[rows])
    other = ss.Problem(problem.network, data, loss=lambda out, y: 5.0 * jnp.mean((out - y) ** 2, axis=1), chunk=7)
    again = ss.exchange(other, moved, layer=1)[1]
    np.testing.assert_allclose(again.lowest, 5.0 * found.lowest[order], rtol=1e-12)
    np.testing.assert_allclose(np.abs(again.incoming), np.abs(found.incoming[order]), atol=1e-9)


def test_a_network_that_fits_exactly_has_blocks_of_zero():
    """No slope behind the layer: every eigenvalue is 0, and no copy is called unstable."""
    problem, params = perceptron()
    data = ss.Data(problem.unpadded_inputs(), targets=problem.outputs_of(params))
    found = ss.exchange(ss.Problem(problem.network, data), params)
    for one in found.layers.values():
        np.testing.assert_allclose(one.lowest, 0.0, atol=1e-14)
        assert True not in one.unstable


def test_a_sample_on_a_kink_leaves_every_sign_undecided():
    problem, params = perceptron("relu")
    inputs = problem.unpadded_inputs().copy()
    inputs[3] = 0.0
    params["0.bias"][:] = 0.0  # a sample of zeros lies on the kink of each unit
    data = ss.Data(inputs, targets=np.asarray(problem.targets).reshape(-1, 2))
    found = ss.exchange(ss.Problem(problem.network, data), params)
    assert found[1].unstable == (None,) * 4
    assert "kink" in found[1].notes[0]
    assert True in found[2].unstable  # the layer behind it does not move this sample's kink


def test_progress_is_called_and_the_users_settings_stay():
    problem, params = perceptron()
    told = []
    before = jax.config.jax_enable_x64
    ss.exchange(problem, params, layer=2, settings=ITERATIVE, progress=lambda *words: told.append(words))
    assert told
    assert all(0 < done <= total and word.startswith("layer 2: ") for done, total, word in told)
    assert jax.config.jax_enable_x64 == before


def test_a_result_shows_itself_and_is_found_by_name_or_number():
    found = ss.exchange(*perceptron(), layer=1)
    assert found["layer 1"] is found[1]
    assert found[1].order == tuple(int(unit) for unit in np.argsort(found[1].lowest))
    assert "4 of 4 units are unstable when copied" in found._repr_html_()
    with pytest.raises(KeyError):
        found[2]


def test_units_that_feel_each_other_are_refused():
    """A norm over the units: with a copy the mean changes, so that copying is no symmetry."""
    g = np.random.default_rng(0)

    def normed(params, x):
        here = x @ params["a"]
        here = here / jnp.sqrt(0.1 + jnp.mean(here**2, axis=1, keepdims=True))
        return jnp.tanh(here) @ params["b"]

    x = g.normal(size=(20, 3))
    model, params = ss.from_function(normed, {"a": g.normal(size=(3, 4)), "b": g.normal(size=(4, 2))}, x[:5])
    problem = ss.Problem(model, ss.Data(x, targets=g.normal(size=(20, 2))))
    with pytest.raises(NeuronsError, match=r"cannot be computed \(cut: units feel each other .*grown: copying a unit"):
        ss.exchange(problem, params, layer="a")
    with pytest.raises(NeuronsError, match="no layer can be analysed"):
        ss.exchange(problem, params)


class Swapped:
    """A layer of a user's own whose incoming and outgoing arrays are named the wrong way round."""

    layout = Layout(("a", "b"), ((3, 4), (4, 2)))
    layers: ClassVar = {1: ss.Units((ss.Slice("b", 0),), (ss.Slice("a", 1),))}

    def apply(self, parameters, inputs):
        return jnp.tanh(inputs @ parameters["a"]) @ parameters["b"]


def test_outgoing_entries_that_are_not_read_linearly_are_refused():
    g = np.random.default_rng(0)
    problem = ss.Problem(Swapped(), ss.Data(g.normal(size=(20, 3)), targets=g.normal(size=(20, 2))))
    params = {"a": g.normal(size=(3, 4)), "b": g.normal(size=(4, 2))}
    with pytest.raises(NeuronsError, match=r"cut: what the units send is not linear .* grown: copying a unit changes"):
        ss.exchange(problem, params, layer=1)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"layer": 3}, NeuronsError, "no such layer: layer=3"),
        ({"layer": "fc"}, NeuronsError, "no such layer: layer=fc"),
        ({"settings": ss.ExchangeSettings(way="fast")}, SettingsError, "way=fast; expected auto, cut or grown"),
        ({"settings": ss.ExchangeSettings(steps=0)}, SettingsError, "steps=0"),
        ({"settings": ss.ExchangeSettings(tolerance=0.0)}, SettingsError, "tolerance=0.0"),
    ],
)
def test_what_cannot_be_asked_is_one_line(change, error, text):
    problem, params = perceptron()
    with pytest.raises(error, match=text):
        ss.exchange(problem, params, **change)


def test_numbers_that_are_not_finite_are_one_line():
    problem, params = perceptron("exp")
    with pytest.raises(NonFiniteError, match="the parameters holds"):
        ss.exchange(problem, {**params, "0.bias": np.full(4, np.nan)})
    with pytest.raises(NonFiniteError, match="loss or its gradient is not finite"):
        ss.exchange(problem, {**params, "0.bias": np.full(4, 1e3)})
    with pytest.raises(ShapeError):
        ss.exchange(problem, {**params, "0.bias": np.zeros(5)})
