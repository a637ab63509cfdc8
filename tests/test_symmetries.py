"""Every group of units of small models of all kinds: as many as there are, none invented, each with its roles."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saddlescope.models.from_function import from_function
from saddlescope.models.laws import derangement
from saddlescope.models.mlp import MLP
from saddlescope.models.symmetries import symmetries
from saddlescope.precision import float64
from saddlescope.units.actions import merge, permute, split

Tree = Mapping[str, Any]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def arrays(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: normal(*shape, seed=k) / 2 for k, (name, shape) in enumerate(shapes.items())}


def residual(p: Tree, x: Any) -> Any:
    h = jnp.tanh(x @ p["read"])
    return (h + jax.nn.relu(h @ p["up"] + p["bias"]) @ p["down"]) @ p["write"]


def attention(p: Tree, x: Any) -> Any:
    q, k, v = (jnp.einsum("bsd,dhk->bhsk", x, p[name]) for name in ("query", "key", "value"))
    weights = jax.nn.softmax(jnp.einsum("bhsk,bhtk->bhst", q, k), -1)
    return jnp.einsum("bhst,bhtk,hkd->bsd", weights, v, p["out"]).sum(1)


def gated(p: Tree, x: Any) -> Any:
    a, b = jnp.split(x @ p["both"], 2, axis=-1)
    return (jax.nn.silu(a) * b) @ p["down"]


def normed(p: Tree, x: Any) -> Any:
    h = x @ p["first"]
    h = (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-5) * p["scale"]
    return jnp.tanh(h) @ p["last"]


def recurrent(p: Tree, x: Any) -> Any:
    def step(h: Any, row: Any) -> tuple[Any, None]:
        return jnp.tanh(row @ p["inward"] + h @ p["again"]), None

    start = jnp.zeros((x.shape[0], p["again"].shape[0]), x.dtype)
    return jax.lax.scan(step, start, jnp.swapaxes(x, 0, 1))[0] @ p["outward"]


def convolution(p: Tree, x: Any) -> Any:
    numbers = ("NHWC", "HWIO", "NHWC")
    h = jax.nn.softplus(jax.lax.conv_general_dilated(x, p["kernel"], (1, 1), "SAME", dimension_numbers=numbers))
    h = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return h.reshape(h.shape[0], -1) @ p["dense"]


def autoencoder(p: Tree, x: Any) -> Any:
    return jnp.tanh(x @ p["tied"] + p["bias"]) @ p["tied"].T


def maxout(p: Tree, x: Any) -> Any:
    return (x @ p["first"]).reshape(-1, 5, 2).max(2) @ p["last"]


def positional(p: Tree, x: Any) -> Any:
    return jnp.tanh(x @ p["first"] + jnp.arange(5.0)) @ p["last"]


def sorting(p: Tree, x: Any) -> Any:
    return jnp.sort(x @ p["first"], axis=1) @ p["last"]


def cumulated(p: Tree, x: Any) -> Any:
    return jnp.tanh(jnp.cumsum(x @ p["first"], axis=1)) @ p["last"]


def unused(p: Tree, x: Any) -> Any:
    return jnp.tanh(x @ p["first"]) @ p["last"] + 0.0 * p["idle"].sum()


def linear(p: Tree, x: Any) -> Any:
    return (x @ p["first"]) @ p["last"]


Expected = list[tuple[int, str, bool, bool]]  # units, kind, mergeable, resizable
ZOO: dict[str, tuple[Callable[..., Any], dict[str, np.ndarray], tuple[int, ...], Expected]] = {
    "residual": (
        residual,
        arrays(read=(3, 4), up=(4, 6), bias=(6,), down=(6, 4), write=(4, 2)),
        (16, 3),
        [(4, "residual stream", True, True), (6, "hidden units", True, True)],
    ),
    "attention": (
        attention,
        arrays(query=(6, 2, 3), key=(6, 2, 3), value=(6, 2, 3), out=(2, 3, 6)),
        (3, 4, 6),
        [
            (2, "heads", True, True),
            (3, "units within a head", False, False),
            (3, "units within a head", False, False),
        ],
    ),
    "gated": (gated, arrays(both=(3, 10), down=(5, 2)), (8, 3), [(5, "hidden units", True, False)]),
    "normed": (normed, arrays(first=(3, 5), scale=(5,), last=(5, 2)), (8, 3), [(5, "hidden units", True, False)]),
    "recurrent": (
        recurrent,
        arrays(inward=(3, 4), again=(4, 4), outward=(4, 2)),
        (4, 3, 3),
        [(4, "hidden units", False, False)],
    ),
    "convolution": (
        convolution,
        arrays(kernel=(3, 3, 2, 5), dense=(20, 2)),
        (3, 4, 4, 2),
        [(5, "channels", True, False)],
    ),
    "tied": (autoencoder, arrays(tied=(4, 3), bias=(3,)), (8, 4), [(3, "hidden units", False, False)]),
    "linear": (linear, arrays(first=(3, 5), last=(5, 2)), (8, 3), [(5, "hidden units", True, True)]),
    "maxout": (
        maxout,
        arrays(first=(3, 10), last=(5, 2)),
        (16, 3),
        [(2, "hidden units", False, False), (5, "hidden units", True, True)],
    ),
    "positions matter": (positional, arrays(first=(3, 5), last=(5, 2)), (8, 3), []),
    "sorted": (sorting, arrays(first=(3, 5), last=(5, 2)), (8, 3), []),
    "cumulated": (cumulated, arrays(first=(3, 5), last=(5, 2)), (8, 3), []),
    "unused": (unused, arrays(first=(3, 5), last=(5, 2), idle=(7,)), (8, 3), [(5, "hidden units", True, True)]),
}


@pytest.mark.parametrize("name", ZOO)
def test_as_many_groups_are_found_as_there_are_and_none_is_invented(name: str) -> None:
    function, parameters, shape, expected = ZOO[name]
    model, parameters = from_function(function, parameters, normal(*shape))
    found = [(g.units, g.kind, g.mergeable, g.resizable) for g in model.symmetries]
    assert sorted(found) == sorted(expected)
    assert all(g.verified and g.deviation < 1e-12 and g.omission > 1e-4 for g in model.symmetries)


@pytest.mark.parametrize("name", [name for name, entry in ZOO.items() if entry[3]])
def test_a_permutation_by_the_slices_leaves_the_outputs(name: str) -> None:
    function, parameters, shape, _ = ZOO[name]
    model, parameters = from_function(function, parameters, normal(*shape))
    generator = np.random.default_rng(1)
    with float64():
        before = np.asarray(model.apply(parameters, normal(*shape, seed=9)))
        for group in model.symmetries:
            order = derangement(group.units, generator)
            after = model.apply(permute(parameters, group.neurons, order.tolist()), normal(*shape, seed=9))
            np.testing.assert_allclose(after, before, rtol=1e-10, atol=1e-12)


def test_resizable_units_can_be_split_and_merged() -> None:
    model, parameters = from_function(residual, ZOO["residual"][1], normal(16, 3))
    for group in model.symmetries:
        wide = split(parameters, group.neurons, 1, (0.3, 0.7))
        with float64():
            before, after = (np.asarray(residual(p, normal(16, 3))) for p in (parameters, wide))
            back = np.asarray(residual(merge(wide, group.neurons, 1, group.units), normal(16, 3)))
        np.testing.assert_allclose(after, before, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(back, before, rtol=1e-12, atol=1e-13)


def test_a_bias_of_ones_and_zeros_does_not_hide_that_it_belongs_to_the_units() -> None:
    parameters = {**ZOO["normed"][1], "scale": np.ones(5)}  # as freshly made: leaving it out would change nothing
    model, _ = from_function(normed, parameters, normal(8, 3))
    assert {piece.name for piece in model.symmetries[0].incoming} == {"first", "scale"}


@pytest.mark.parametrize(
    ("activation", "homogeneous", "odd"),
    [("relu", True, False), ("tanh", False, True), ("gelu", False, False), ("identity", True, True)],
)
def test_laws_of_a_perceptron_are_those_of_its_activation(activation: str, homogeneous: bool, odd: bool) -> None:
    network = MLP((3, 6, 5, 2), activation)
    found = symmetries(network, network.initial(0), normal(16, 3))
    assert [(g.units, g.homogeneous, g.odd) for g in found] == [(6, homogeneous, odd), (5, homogeneous, odd)]
    for layer, group in enumerate(found, start=1):
        own = network.neurons(layer)
        assert set(group.incoming) == set(own.incoming)
        assert set(group.outgoing) == set(own.outgoing)


def test_a_forgotten_slice_is_measured() -> None:
    from saddlescope.models.laws import Trial, exchange, scattered
    from saddlescope.models.tracing import Place

    network, inputs = MLP((3, 6, 2), "tanh"), (normal(16, 3),)
    with float64():
        trial = Trial.of(network.apply, inputs, network.initial(0))
        other = trial.at(scattered(network.initial(0)))
        places = [Place("0.weight", 0, 0, 1, 1), Place("0.bias", 0, 0, 1, 1), Place("2.weight", 1, 0, 1, 1)]
        assert exchange((trial, other), 6, places).verified
        for place in places:
            assert not exchange((trial, other), 6, [p for p in places if p != place]).verified
        swapped = Place("2.weight", 0, 0, 1, 1)
        assert not exchange((trial, other), 2, [swapped]).verified


torch = pytest.importorskip("torch")
nn = torch.nn


def torch_models() -> dict[str, tuple[Any, Any, list[tuple[int, str]]]]:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(6, 2, 5, batch_first=True, activation="gelu")
    encoder = nn.Sequential(nn.Linear(3, 6), layer, nn.Flatten(), nn.Linear(18, 2))
    images = nn.Sequential(
        *(nn.Conv2d(2, 6, 3), nn.GroupNorm(3, 6), nn.SiLU(), nn.Conv2d(6, 8, 3, groups=2), nn.PixelShuffle(2)),
        *(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)),
    )
    return {
        "encoder": (
            encoder,
            torch.randn(4, 3, 3),
            # torch reads query, key and value off one axis, so that units within a head are found together
            [(6, "residual stream"), (2, "heads"), (3, "units within a head"), (5, "hidden units")],
        ),
        "images": (images, torch.randn(4, 2, 6, 6), [(4, "channels"), (5, "hidden units")]),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["encoder", "images"])
def test_groups_of_torch_modules(name: str) -> None:
    from saddlescope.models.from_torch import from_torch

    module, example, expected = torch_models()[name]
    model, parameters = from_torch(module.eval(), example)
    found = [(g.units, str(g.kind)) for g in symmetries(model, parameters, example.double().numpy())]
    for entry in expected:
        assert found.count(entry) >= expected.count(entry), found
    assert all(g.verified and g.deviation < 1e-12 for g in model.symmetries)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_example_of_one_number_hides_no_weight(value):
    """Zeros are what an example often is; weights that multiply them would seem to be read, not fed."""
    generator = np.random.default_rng(3)
    params = {"in": generator.normal(size=(2, 3)), "bias": generator.normal(size=3)}
    params["out"] = generator.normal(size=(3, 1))

    def apply(p, x):
        return jnp.tanh(x @ p["in"] + p["bias"]) @ p["out"]

    model, _ = from_function(apply, params, np.full((4, 2), value))
    (group,) = model.symmetries
    assert sorted(place.name for place in group.incoming) == ["bias", "in"]
    assert [place.name for place in group.outgoing] == ["out"]
