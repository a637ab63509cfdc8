"""A torch module becomes a JAX function that is the same to rounding, or is refused in one line."""

import copy
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from saddlescope.errors import NeuronsError, SaddlescopeError, ShapeError
from saddlescope.models import aten_graph
from saddlescope.models.from_torch import from_torch
from saddlescope.models.to_torch import to_torch
from saddlescope.models.torch_export import ConversionError
from saddlescope.precision import float64

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's own, which differ from version to version


class Written(nn.Module):
    """A module whose forward is a function of its parts and inputs."""

    def __init__(self, forward: Callable[..., Any], *parts: Any) -> None:
        super().__init__()
        self.parts, self.function = nn.ModuleList(parts), forward

    def forward(self, *inputs: Any) -> Any:
        return self.function(self.parts, *inputs)


def normal(*shape: int) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def attention(m: Any, x: Any, padding: Any) -> Any:
    q, k, v = (part(x)[:, None] for part in m[:3])
    masked = F.scaled_dot_product_attention(q, k, v, attn_mask=padding[:, None, None, :])
    return (masked + F.scaled_dot_product_attention(q, k, v, is_causal=True))[:, 0]


def activations() -> Any:
    kinds = [nn.ELU(), nn.Hardshrink(0.1), nn.Hardsigmoid(), nn.Hardtanh(), nn.Hardswish(), nn.LeakyReLU(0.2)]
    kinds += [nn.LogSigmoid(), nn.PReLU(), nn.ReLU(), nn.ReLU6(), nn.RReLU(), nn.SELU(), nn.CELU(0.7), nn.GELU()]
    kinds += [nn.GELU("tanh"), nn.Sigmoid(), nn.SiLU(), nn.Mish(), nn.Softplus(2.0), nn.Softshrink(0.1)]
    kinds += [nn.Softsign(), nn.Tanh(), nn.Tanhshrink(), nn.Threshold(0.1, -1.0), nn.Softmin(-1), nn.LogSoftmax(-1)]
    return Written(lambda m, x: torch.stack([kind(m[0](x)) for kind in m[1:]], 1), nn.Linear(4, 6), *kinds)


def embedded() -> Any:
    return nn.Sequential(nn.Embedding(10, 4, padding_idx=0), nn.LayerNorm(4), nn.RMSNorm(4), nn.Linear(4, 2))


def batch_norm() -> Any:
    torch.manual_seed(1)
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(27, 2)]
    module = nn.Sequential(*layers)
    module.train()(torch.randn(30, 1, 8, 8))
    return module.eval()


def pools() -> Any:
    kinds = [nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.MaxPool2d(2, 1, 0, 2), nn.AdaptiveMaxPool2d((3, 2))]
    kinds += [nn.AvgPool2d(3, 2, 1, ceil_mode=True), nn.AvgPool2d(3, 2, 1, True, False), nn.AvgPool2d(2)]
    kinds += [nn.AdaptiveAvgPool2d((3, 2)), nn.AvgPool2d(2, divisor_override=3), nn.LPPool2d(2, 2)]
    return Written(lambda m, x: torch.cat([kind(m[0](x)).flatten(1) for kind in m[1:]], 1), nn.Conv2d(2, 3, 1), *kinds)


def convolutions() -> Any:
    parts = [nn.Conv2d(4, 6, 3, 2, 1, 2, groups=2), nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, dilation=2)]
    parts += [nn.Conv2d(4, 4, 3, groups=4, padding="same"), nn.Conv2d(4, 2, 3, padding=1, padding_mode="circular")]
    parts += [nn.Sequential(nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True), nn.PixelShuffle(2))]
    parts += [nn.Upsample(scale_factor=2, mode="bilinear"), nn.Upsample(size=(7, 5)), nn.ReflectionPad2d(1)]
    return Written(lambda m, x: torch.cat([part(x).flatten(1) for part in m], 1), *parts)


def lines() -> Any:
    parts = [nn.Conv1d(3, 4, 3, 2, 1, 2), nn.ConvTranspose1d(3, 4, 3, 2, 1, 1)]
    parts += [
        nn.MaxPool1d(2),
        nn.AvgPool1d(3, 2, 1),
        nn.AdaptiveAvgPool1d(4),
        nn.Upsample(scale_factor=2, mode="linear"),
    ]
    return Written(lambda m, x: torch.cat([part(x).flatten(1) for part in m], 1), *parts)


def volumes() -> Any:
    return nn.Sequential(
        nn.Conv3d(1, 2, 2, padding=1), nn.BatchNorm3d(2), nn.MaxPool3d(2), nn.ConvTranspose3d(2, 2, 2, 2)
    )


def squeeze() -> Any:
    def forward(m: Any, x: Any) -> Any:
        y = m[0](x)
        gate = torch.sigmoid(m[2](F.relu(m[1](y.mean((2, 3))))))[:, :, None, None]
        a, b = (y * gate).chunk(2, 1)
        return F.normalize(torch.cat([a, F.pad(b, (0, 0, 0, 0, 1, 1))], 1).flatten(1))

    return Written(forward, nn.Conv2d(2, 6, 3), nn.Linear(6, 3), nn.Linear(3, 6))


def normed() -> Any:
    part = nn.utils.parametrizations
    return nn.Sequential(part.weight_norm(nn.Linear(4, 4)), nn.Tanh(), part.spectral_norm(nn.Linear(4, 3))).eval()


PADDING = torch.arange(5)[None] < torch.tensor([5, 4, 3])[:, None]
ZOO: dict[str, tuple[Callable[[], Any], Any]] = {
    "activations": (activations, normal(5, 4)),
    "glu": (lambda: nn.Sequential(nn.Linear(4, 6), nn.GLU(), nn.Linear(3, 2)), normal(5, 4)),
    "pools": (pools, normal(3, 2, 7, 5)),
    "convolutions": (convolutions, normal(2, 4, 5, 5)),
    "one dimension": (lines, normal(3, 3, 8)),
    "three dimensions": (volumes, normal(2, 1, 3, 3, 3)),
    "batch norm": (batch_norm, normal(4, 1, 8, 8)),
    "embedding and norms": (embedded, torch.arange(15).reshape(3, 5) % 10),
    "attention": (lambda: Written(attention, *(nn.Linear(8, 8) for _ in range(3))), (normal(3, 5, 8), PADDING)),
    "multihead": (
        lambda: Written(lambda m, x: m[0](x, x, x)[0], nn.MultiheadAttention(8, 2, batch_first=True)),
        normal(3, 5, 8),
    ),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True), normal(3, 5, 8)),
    "squeeze and excitation": (squeeze, normal(3, 2, 5, 5)),
    "folded norms": (normed, normal(4, 4)),
    "lstm": (
        lambda: Written(lambda m, x: m[0](x)[0], nn.LSTM(3, 4, 2, True, True, bidirectional=True)),
        normal(2, 4, 3),
    ),
    "gru": (lambda: Written(lambda m, x: m[0](x)[0], nn.GRU(3, 4, batch_first=True)), normal(2, 4, 3)),
    "bilinear": (lambda: nn.Bilinear(3, 4, 2), (normal(3, 3), normal(3, 4))),
    "bfloat16": (lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)).bfloat16(), normal(3, 4)),
    "one output": (lambda: Written(lambda m, x: m[0](x).sum(-1), nn.Linear(4, 3)), normal(3, 4)),
}


@pytest.mark.parametrize("name", ZOO)
def test_a_module_and_its_conversion_have_equal_outputs(name: str) -> None:
    make, example = ZOO[name]
    torch.manual_seed(0)
    module = make().eval()
    model, parameters = from_torch(module, example)
    inputs = example if isinstance(example, tuple) else (example,)
    wanted = copy.deepcopy(module).double()(*(i.double() if i.is_floating_point() else i for i in inputs))
    with float64():
        given = tuple(i.double().numpy() if i.is_floating_point() else i.numpy() for i in inputs)
        found = np.asarray(model.apply(parameters, given if len(given) > 1 else given[0]))
        flat = np.asarray(model.apply(parameters, np.concatenate([g.reshape(len(g), -1) for g in given], axis=1)))
    expected = wanted.detach().numpy().reshape(found.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(flat, expected, rtol=1e-12, atol=1e-12)
    names = [n for n, _ in module.named_parameters()] if "folded" not in name else list(parameters)
    assert list(parameters) == names
    assert all(value.dtype == np.float64 for value in parameters.values())


def raining(m: Any, x: Any) -> Any:
    return m[0](x) * 2 if x.sum() > 0 else x


LINEAR = nn.Linear(3, 3)
BAD: dict[str, tuple[Any, Any, str]] = {
    "no module": (3, normal(2, 3), "not a PyTorch module: module=int"),
    "train mode": (nn.Sequential(nn.Linear(3, 2)).train(), normal(2, 3), r"train mode.*module.eval\(\)"),
    "dropout": (Written(lambda m, x: F.dropout(m[0](x), 0.5, True), LINEAR).eval(), normal(2, 3), "different outputs"),
    "tuple": (nn.LSTM(3, 2).eval(), normal(2, 2, 3), "does not return one array: output=tuple"),
    "wrong example": (nn.Linear(3, 2).eval(), normal(2, 4), "does not run on this example.*shapes="),
    "text": (nn.Linear(3, 2).eval(), "abc", "the example is no array: example=str"),
    "nan": (nn.Linear(3, 2).eval(), torch.full((2, 3), torch.nan), "not finite"),
    "control flow": (Written(raining, LINEAR).eval(), normal(2, 3), "control flow depends on the data"),
    "operation": (Written(lambda m, x: torch.fft.rfft(m[0](x)).abs(), LINEAR).eval(), normal(2, 3), "_fft_r2c"),
    "own type": (Written(lambda m, x: m[0](x).float().double(), LINEAR).eval(), normal(2, 3), "type of its own"),
    "batch statistics": (
        nn.BatchNorm1d(4, track_running_stats=False).eval(),
        normal(8, 4),
        "one sample|change each other",
    ),
    "sequence first": (Written(lambda m, x: m[0](x)[0], nn.LSTM(3, 2)).eval(), normal(4, 2, 3), "change each other"),
    "mask": (Written(lambda m, x, k: m[0](x) * k, LINEAR).eval(), (normal(4, 3), normal(3)), "numbers of samples"),
    "no parameters": (nn.Tanh().eval(), normal(4, 3), "no real parameters"),
    "frozen": (nn.Linear(3, 2).requires_grad_(False).eval(), normal(4, 3), "every parameter is frozen"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_converted_is_refused_in_one_line(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    module, example, text = BAD[name]
    with pytest.raises(SaddlescopeError, match=text) as caught:
        from_torch(module, example)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 400
    assert capfd.readouterr().out == ""


def test_a_wrong_operation_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(aten_graph.OPERATIONS, "tanh", lambda x: x / (1 + abs(x)))
    with pytest.raises(ConversionError, match=r"other outputs.*tanh"):
        from_torch(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).eval(), normal(4, 3))


def test_a_wrong_second_derivative_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import jax

    monkeypatch.setitem(aten_graph.OPERATIONS, "tanh", lambda x: jax.lax.stop_gradient(jax.numpy.tanh(x)))
    with pytest.raises(ConversionError, match="another second derivative"):
        from_torch(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).eval(), normal(4, 3))


def test_settings_of_torch_stay_as_they_were() -> None:
    module = nn.Linear(3, 2).eval()
    torch.manual_seed(3)
    before = (torch.get_rng_state(), torch.is_grad_enabled(), torch.backends.mha.get_fastpath_enabled())
    from_torch(module, normal(4, 3))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (torch.is_grad_enabled(), torch.backends.mha.get_fastpath_enabled())
    assert logging.root.manager.disable == 0


@pytest.mark.parametrize("statistics", ["kept", "folded"])
def test_parameters_go_back_into_the_module(statistics: Any) -> None:
    module = batch_norm()
    model, parameters = from_torch(module, normal(4, 1, 8, 8), statistics=statistics)
    generator = np.random.default_rng(0)
    moved = {name: value + 0.1 * generator.standard_normal(value.shape) for name, value in parameters.items()}
    state = to_torch(moved, module, statistics=statistics)
    assert {name: value.dtype for name, value in state.items()} == {n: v.dtype for n, v in module.state_dict().items()}
    other = copy.deepcopy(module)
    other.load_state_dict(state, strict=True)
    with float64():
        wanted = np.asarray(model.apply(moved, normal(4, 1, 8, 8).double().numpy()))
    found = other(normal(4, 1, 8, 8)).detach().numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)  # single precision


def test_wrappers_and_weight_norm_keep_their_names_on_the_way_back() -> None:
    inside = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)).double()
    module = nn.DataParallel(inside).eval()
    model, parameters = from_torch(module, normal(4, 3))
    assert set(parameters) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    doubled = {name: 2 * value for name, value in parameters.items()}
    other = copy.deepcopy(module)
    other.load_state_dict(to_torch(doubled, module), strict=True)
    with float64():
        wanted = np.asarray(model.apply(doubled, normal(4, 3).double().numpy()))
    np.testing.assert_allclose(other.module(normal(4, 3).double()).detach().numpy(), wanted, rtol=1e-12, atol=1e-12)


def test_a_grown_array_is_refused_with_the_shape_to_build() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).eval()
    _, parameters = from_torch(module, normal(4, 3))
    with pytest.raises(ShapeError, match=r"0.weight=\(5, 3\).*\(4, 3\)"):
        to_torch({**parameters, "0.weight": np.zeros((5, 3))}, module)


def test_frozen_parameters_stay_fixed_and_say_so() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).eval()
    module[0].bias.requires_grad_(False)
    model, parameters = from_torch(module, normal(6, 3))
    assert "0.bias" not in parameters
    (group,) = model.symmetries
    assert [piece.name for piece in group.moves_along] == ["0.bias"]
    assert "0.bias is not trained" in group.reasons
    with pytest.raises(NeuronsError, match=r"not trained.*0.bias"):
        model.neurons(1)


def test_units_that_differ_in_statistics_are_exchanged_once_these_are_folded() -> None:
    module = batch_norm()
    kept, _ = from_torch(module, normal(4, 1, 8, 8))
    assert {piece.name for piece in kept.symmetries[0].moves_along} == {"1.running_mean", "1.running_var"}
    with pytest.raises(NeuronsError, match="statistics='folded'"):
        kept.neurons("0")
    folded, parameters = from_torch(module, normal(4, 1, 8, 8), statistics="folded")
    from saddlescope.units.actions import swap

    with float64():
        x = normal(4, 1, 8, 8).double().numpy()
        before, after = (
            np.asarray(folded.apply(p, x)) for p in (parameters, swap(parameters, folded.neurons("0"), 0, 2))
        )
    np.testing.assert_allclose(after, before, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(before, copy.deepcopy(module).double()(torch.as_tensor(x)).detach(), atol=1e-12)


def test_a_parametrised_module_of_the_user_is_left_as_it_was() -> None:
    module = normed()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    from_torch(module, normal(4, 4))
    after = module.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    module(normal(4, 4))
