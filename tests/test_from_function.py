"""Functions, Flax and Equinox modules as models: the same outputs, the user's names, one line for what is no model."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saddlescope.data.data import Data
from saddlescope.errors import NeuronsError, NonFiniteError, SettingsError, ShapeError
from saddlescope.models.from_function import FunctionError, from_equinox, from_flax, from_function
from saddlescope.models.units import Model
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem
from saddlescope.units.actions import swap


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


PARAMETERS = {"in": {"w": normal(3, 5), "b": normal(5)}, "out": [normal(5, 2)]}


def network(p: Any, x: Any) -> Any:
    return jnp.tanh(x @ p["in"]["w"] + p["in"]["b"]) @ p["out"][0]


def test_a_function_keeps_its_outputs_and_names_its_arrays_by_their_paths() -> None:
    model, parameters = from_function(network, PARAMETERS, normal(6, 3))
    assert set(parameters) == {"in.w", "in.b", "out.0"}
    assert isinstance(model, Model)
    assert {k: units.count(parameters) for k, units in model.layers.items()} == {1: 5}
    with float64():
        np.testing.assert_allclose(model.apply(parameters, normal(6, 3)), network(PARAMETERS, normal(6, 3)), rtol=1e-14)


def test_a_model_has_the_loss_that_its_function_has_and_exchanges_leave_it() -> None:
    model, parameters = from_function(network, PARAMETERS, normal(6, 3))
    data = Data(normal(20, 3), np.sin(normal(20, 2)))
    problem = Problem(model, data)
    with float64():
        wanted = float(np.mean((np.asarray(network(PARAMETERS, data.inputs)) - data.targets) ** 2))
    assert problem.loss_of(parameters) == pytest.approx(wanted, rel=1e-13, abs=0.0)
    assert problem.loss_of(swap(parameters, model.neurons("in"), 1, 3)) == pytest.approx(wanted, rel=1e-13, abs=0.0)


def test_a_single_precision_checkpoint_becomes_double() -> None:
    half = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), PARAMETERS)
    _, parameters = from_function(network, half, normal(6, 3).astype(np.float32))
    assert {value.dtype for value in parameters.values()} == {np.dtype(np.float64)}


def test_fixed_arrays_move_along_and_are_not_trained() -> None:
    def normalised(p: Any, fixed: Any, x: Any) -> Any:
        return jnp.tanh((x @ p["in"]["w"] - fixed["mean"]) * p["in"]["b"]) @ p["out"][0]

    model, parameters = from_function(normalised, PARAMETERS, normal(6, 3), fixed={"mean": np.zeros(5)})
    (group,) = model.symmetries
    assert [piece.name for piece in group.moves_along] == ["mean"]
    assert "mean" not in parameters
    assert model.neurons(1).count(parameters) == 5  # equal statistics: units can be exchanged


def test_several_inputs_come_as_a_tuple_or_as_one_matrix() -> None:
    def both(p: Any, x: Any, y: Any) -> Any:
        return network(p, x) + y.sum(1)

    x, y = normal(6, 3), normal(6, 2, 2)
    model, parameters = from_function(both, PARAMETERS, (x, y))
    with float64():
        one = model.apply(parameters, (x, y))
        flat = model.apply(parameters, np.concatenate([x, y.reshape(6, -1)], axis=1))
        np.testing.assert_allclose(one, flat, rtol=1e-14)


def test_flax_linen_with_batch_norm() -> None:
    linen = pytest.importorskip("flax.linen")

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            x = linen.tanh(linen.BatchNorm(use_running_average=True)(linen.Conv(4, (3, 3))(x)))
            x = linen.avg_pool(x, (2, 2), (2, 2))
            return linen.Dense(2)(x.reshape(len(x), -1))

    x = normal(4, 6, 6, 1)
    variables = Net().init(jax.random.key(0), jnp.asarray(x))
    model, parameters = from_flax(Net(), variables, x)
    assert "Conv_0.kernel" in parameters
    (group,) = model.symmetries
    assert (group.kind, group.units, len(group.outgoing)) == ("channels", 4, 9)
    with float64():
        wide = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables)
        np.testing.assert_allclose(model.apply(parameters, x), Net().apply(wide, jnp.asarray(x)), rtol=1e-12)


def test_flax_nnx() -> None:
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.first, self.drop = nnx.Linear(3, 5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
            self.second = nnx.Linear(5, 2, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.second(self.drop(nnx.gelu(self.first(x))))

    net = Net(nnx.Rngs(0))
    model, parameters = from_flax(net, None, normal(6, 3))
    assert [(group.name, group.units) for group in model.symmetries] == [("first", 5)]
    assert not net.drop.deterministic  # the caller's own module is as it was
    assert set(parameters) == {"first.kernel", "first.bias", "second.kernel", "second.bias"}


def test_equinox() -> None:
    import equinox as eqx

    net = eqx.nn.MLP(3, 2, 6, 2, key=jax.random.key(0))
    model, parameters = from_equinox(net, normal(8, 3))
    assert [(group.name, group.units) for group in model.symmetries] == [("layers.0", 6), ("layers.1", 6)]
    with float64():
        found = np.asarray(model.apply(parameters, normal(8, 3)))
    np.testing.assert_allclose(found, jax.vmap(net)(jnp.asarray(normal(8, 3), jnp.float32)), rtol=1e-4, atol=1e-5)


def noisy(p: Any, x: Any) -> Any:
    return network(p, x) + np.random.default_rng().standard_normal()


@pytest.mark.parametrize(
    ("function", "parameters", "x", "error", "text"),
    [
        (network, PARAMETERS, normal(6, 4), FunctionError, "does not run on these inputs.*shapes="),
        (noisy, PARAMETERS, normal(6, 3), FunctionError, "different outputs for the same input"),
        (lambda p, x: (network(p, x), x), PARAMETERS, normal(6, 3), FunctionError, "one array: output=tuple"),
        (lambda p, x: network(p, x).astype(jnp.float32), PARAMETERS, normal(6, 3), FunctionError, "double precision"),
        (lambda p, x: network(p, x) - network(p, x).mean(0), PARAMETERS, normal(6, 3), FunctionError, "each other"),
        (lambda p, x: network(p, x) / 0.0, PARAMETERS, normal(6, 3), FunctionError, "not finite"),
        (network, {**PARAMETERS, "n": np.arange(3)}, normal(6, 3), ShapeError, "not real: n=int64"),
        (network, {}, normal(6, 3), ShapeError, "nothing to train"),
        (network, {**PARAMETERS, "in": {"w": np.full((3, 5), np.nan)}}, normal(6, 3), NonFiniteError, "in.w"),
        (network, PARAMETERS, np.float64(3.0), FunctionError, "not a batch"),
        (network, PARAMETERS, "abc", FunctionError, "not a batch"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(function: Any, parameters: Any, x: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        from_function(function, parameters, x)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 400


def test_layers_and_parameters_that_are_not_there_are_refused() -> None:
    model, parameters = from_function(network, PARAMETERS, normal(6, 3))
    with pytest.raises(NeuronsError, match=r"layer=2; expected 1 \(in\)"):
        model.neurons(2)
    with pytest.raises(ShapeError, match=r"out.0=\(5, 3\); expected \(5, 2\)"):
        model.check({**parameters, "out.0": np.zeros((5, 3))})
    with pytest.raises(SettingsError, match="no starts of its own"):
        model.initial(0)
