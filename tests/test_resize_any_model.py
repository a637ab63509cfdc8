"""Expand and reduce for models that are no perceptron; grown arrays fit a PyTorch module built with the new shapes."""

from typing import Any

import numpy as np
import pytest

import saddlescope as ss
from saddlescope.errors import NeuronsError, SettingsError

torch = pytest.importorskip("torch")
nn = torch.nn
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's own, which differ from version to version


def lenet(channels: int = 3, width: int = 4) -> Any:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Conv2d(2, channels, 2), nn.ReLU(), nn.AvgPool2d(2)]
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * channels, width), nn.Tanh(), nn.Linear(width, 2))
    module.train()(torch.randn(30, 1, 7, 7))
    return module.double().eval()


def encoder(units: int = 5) -> Any:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, units, dropout=0.0, batch_first=True)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(12, 2)).double().eval()


IMAGES = torch.randn(20, 1, 7, 7, generator=torch.Generator().manual_seed(1)).double()
VECTORS = torch.randn(20, 3, 4, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize(
    ("make", "x", "layer", "width", "wide"),
    [
        (lenet, IMAGES, "3", 5, lambda: lenet(channels=5)),
        (encoder, VECTORS, "0.linear1", 8, lambda: encoder(units=8)),
    ],
)
def test_a_grown_torch_model_goes_into_a_module_of_the_new_shapes_and_back(
    make: Any, x: Any, layer: str, width: int, wide: Any
) -> None:
    module = make()
    model, parameters = ss.from_torch(module, x[:4])
    number = next(k for k, units in model.layers.items() if units.facts.name == layer)
    grown = ss.expand(model, parameters, widths={number: width}, shares="random", inputs=x.numpy())
    assert grown.widths[number - 1] == width
    assert grown.max_output_deviation < 1e-13 * grown.output_scale
    other = wide()
    other.load_state_dict({**other.state_dict(), **buffers(module)})
    other.load_state_dict(ss.to_torch(grown, other), strict=True)
    with torch.no_grad():
        assert float((other(x) - module(x)).abs().max()) < 1e-13

    small = ss.reduce(grown.network, grown.parameters, x.numpy())
    assert small.widths == tuple(units.count(parameters) for units in model.layers.values())
    assert small.output_loss <= small.tolerance
    assert {one.layer for one in small.removed} == {number}
    again = make()
    again.load_state_dict(ss.to_torch(small, again), strict=True)
    with torch.no_grad():
        assert float((again(x) - module(x)).abs().max()) < 1e-13


def buffers(module: Any) -> dict[str, Any]:
    return dict(module.named_buffers())


def test_a_critical_point_stays_critical_when_channels_are_copied() -> None:
    """With its own outputs as targets any point is a minimum: the grown one too, its gradient by torch."""
    module = lenet()
    model, parameters = ss.from_torch(module, IMAGES[:4])
    grown = ss.expand(model, parameters, widths={2: 6}, inputs=IMAGES.numpy())
    targets = module(IMAGES).detach().numpy()
    problem = ss.Problem(grown.network, ss.Data(IMAGES.numpy(), targets))
    assert problem.loss_of(grown.parameters) < 1e-28
    assert max(np.abs(g).max() for g in problem.gradient_of(grown.parameters).values()) < 1e-13


def test_units_that_differ_in_running_statistics_are_refused_with_the_way_forward() -> None:
    model, parameters = ss.from_torch(lenet(), IMAGES[:4])
    with pytest.raises(NeuronsError, match="statistics='folded'"):
        ss.expand(model, parameters, widths={1: 4}, inputs=IMAGES.numpy())
    folded, parameters = ss.from_torch(lenet(), IMAGES[:4], statistics="folded")
    grown = ss.expand(folded, parameters, widths={1: 4}, inputs=IMAGES.numpy())
    assert grown.max_output_deviation < 1e-13 * grown.output_scale


def test_heads_and_units_under_a_norm_are_refused_with_the_reason() -> None:
    model, parameters = ss.from_torch(encoder(), VECTORS[:4])
    heads = next(k for k, units in model.layers.items() if "heads" in units.facts.name)
    with pytest.raises(SettingsError, match=r"cannot change .*holds more than these units"):
        ss.expand(model, parameters, widths={heads: 3}, inputs=VECTORS.numpy())
    normed = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 2)).double().eval()
    x = torch.randn(9, 3).double()
    model, parameters = ss.from_torch(normed, x)
    with pytest.raises(SettingsError, match=r"cannot change .*\(a norm over them\)"):
        ss.expand(model, parameters, widths={1: 6}, inputs=x.numpy())


def test_code_with_its_shapes_built_in_is_refused_and_a_function_that_reads_them_grows() -> None:
    import jax.numpy as jnp

    def free(p: Any, x: Any) -> Any:
        return jnp.tanh(x @ p["up"]) @ p["down"]

    def bound(p: Any, x: Any) -> Any:
        return jnp.tanh(x @ p["up"]).reshape(-1, 4) @ p["down"].reshape(4, 2)

    generator = np.random.default_rng(0)
    start, x = (
        {"up": generator.normal(size=(3, 4)), "down": generator.normal(size=(4, 2))},
        generator.normal(size=(9, 3)),
    )
    model, parameters = ss.from_function(free, start, x)
    grown = ss.expand(model, parameters, copies={(1, 2): 3})
    assert grown.parameters["up"].shape == (3, 6)
    assert grown.max_output_deviation < 1e-14 * grown.output_scale
    np.testing.assert_array_equal(grown.network.layers[1].count(grown.parameters), 6)
    model, parameters = ss.from_function(bound, start, x)
    with pytest.raises(SettingsError, match="number of units built in") as refusal:
        ss.expand(model, parameters, widths={1: 6})
    assert "\n" not in str(refusal.value)


def test_a_layer_named_by_a_number_is_found_on_the_command_line_where_no_layer_has_that_number() -> None:
    from saddlescope.cli.models import layer_number

    model, _ = ss.from_torch(encoder(), VECTORS[:4])
    named, _ = ss.from_torch(nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).eval(), VECTORS[:4, 0])
    assert layer_number(named, "0") == 1  # a name
    assert layer_number(named, "1") == 1  # a number
    assert layer_number(named, "7") == 7  # neither: find_path refuses it with those that are there
    assert layer_number(model, "0.linear1") == len(model.layers)


# Shrinking: truth is the gradient and the loss by torch, in a module built with the new shapes.


def smooth(channels: int = 3) -> Any:
    torch.manual_seed(0)
    return (
        nn.Sequential(nn.Conv2d(1, channels, 5), nn.Tanh(), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(channels, 2))
        .double()
        .eval()
    )


class Feed(nn.Module):
    """What a transformer's block has behind its attention: a norm, a dense layer, gelu and a way around them."""

    def __init__(self, units: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.linear1, self.linear2 = nn.LayerNorm(4), nn.Linear(4, units), nn.Linear(units, 4)
        self.end = nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        x = x + self.linear2(nn.functional.gelu(self.linear1(self.norm(x))))
        return self.end(x.mean(1))


@pytest.mark.parametrize(
    ("make", "x", "layer"), [(smooth, IMAGES, "0"), (lambda units=3: Feed(units).double().eval(), VECTORS, "linear1")]
)
def test_any_model_that_can_be_resized_shrinks_to_a_critical_point_of_the_smaller_module(
    make: Any, x: Any, layer: str
) -> None:
    targets = make()(x).detach().numpy()  # any parameters are a minimum for their own outputs
    model, parameters = ss.from_torch(make(), x[:4])
    problem = ss.Problem(model, ss.Data(x.numpy(), targets))
    number = next(k for k, units in model.layers.items() if units.facts.name == layer)
    settings = ss.ShrinkSettings(candidates=1, finish=200)
    shrunk = ss.shrink(problem, parameters, widths={layer: 2}, settings=settings)
    assert shrunk.reached
    before = tuple(units.count(parameters) for units in model.layers.values())
    assert shrunk.steps[-1].widths == tuple(2 if k == number else n for k, n in enumerate(before, start=1))
    assert sorted(i for one in shrunk.members[number] for i in one) == [0, 1, 2]
    other = make(2)
    other.load_state_dict(ss.to_torch(shrunk, other), strict=True)
    loss = ((other(x) - torch.tensor(targets)) ** 2).mean()
    loss.backward()
    slope = float(torch.sqrt(sum((one.grad**2).sum() for one in other.parameters())))
    assert shrunk.loss_start < 1e-28
    assert shrunk.loss == pytest.approx(float(loss), rel=1e-10)
    assert slope == pytest.approx(shrunk.gradient_norm, rel=1e-4, abs=1e-13)
    assert slope < 1e-9
    assert float(loss) < 0.9 * shrunk.steps[0].loss_merged


def test_a_copied_channel_is_the_pair_that_shrinking_merges_and_costs_nothing() -> None:
    module = lenet()
    targets = module(IMAGES).detach().numpy()
    model, parameters = ss.from_torch(module, IMAGES[:4])
    grown = ss.expand(model, parameters, copies={(2, 1): 2}, inputs=IMAGES.numpy())
    problem = ss.Problem(grown.network, ss.Data(IMAGES.numpy(), targets))
    shrunk = ss.shrink(problem, grown.parameters, widths={2: 3}, settings=ss.ShrinkSettings(candidates=1, finish=5))
    assert (shrunk.steps[0].members, shrunk.loss < 1e-25) == (((1,), (3,)), True)


def test_what_cannot_be_shrunk_is_refused_with_the_reason() -> None:
    model, parameters = ss.from_torch(encoder(), VECTORS[:4])
    problem = ss.Problem(model, ss.Data(VECTORS.numpy(), np.zeros((20, 2))))
    heads = next(k for k, units in model.layers.items() if "heads" in units.facts.name)
    with pytest.raises(NeuronsError, match="fused array cannot be added or removed"):
        ss.shrink(problem, parameters, widths={heads: 1})
    normed = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 2)).double().eval()
    x = torch.randn(9, 3).double()
    model, parameters = ss.from_torch(normed, x)
    with pytest.raises(SettingsError, match=r"cannot change .*\(a norm over them\)"):
        ss.shrink(ss.Problem(model, ss.Data(x.numpy(), np.zeros((9, 2)))), parameters, widths={1: 3})
    model, parameters = ss.from_torch(lenet(), IMAGES[:4])
    problem = ss.Problem(model, ss.Data(IMAGES.numpy(), np.zeros((20, 2))))
    with pytest.raises(NeuronsError, match="statistics='folded'"):
        ss.shrink(problem, parameters, widths={1: 1})
    with pytest.raises(NeuronsError, match="no such layer"):
        ss.shrink(problem, parameters, widths={"conv9": 1})
    with pytest.raises(SettingsError, match="layer 3 cannot be merged"):
        ss.shrink(problem, parameters, widths={3: 0})
