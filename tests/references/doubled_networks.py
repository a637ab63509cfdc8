"""Networks in which one unit is really doubled, in PyTorch: the dense Hessian of what moves a copy and its twin apart.

Nothing of JAX and nothing of saddlescope: a module is called with larger arrays, which hold the unit twice with half of
its outgoing entries each, and autograd differentiates its loss twice.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

Place = tuple[str, int, int, int]
"""Array, axis, where the units start in it, entries of each unit."""


@dataclass(frozen=True)
class Layer:
    """The places of a layer's units, by hand."""

    units: int
    incoming: tuple[Place, ...]
    outgoing: tuple[Place, ...]
    moving: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Family:
    """An architecture, the shape of a sample, its loss ("mse" or "cross_entropy"), and its layers by name."""

    make: Callable[[], nn.Module]
    sample: tuple[int, ...]
    loss: str
    layers: dict[str, Layer]


class Residual(nn.Module):
    """x + block(norm(x)), and a head."""

    def __init__(self, block: nn.Module, width: int, outputs: int, norm: nn.Module) -> None:
        super().__init__()
        self.norm, self.block, self.head = norm, block, nn.Linear(width, outputs)

    def forward(self, x):
        return self.head(torch.tanh(x + self.block(self.norm(x))))


class SwiGLU(nn.Module):
    """A gated unit as language models have it."""

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, units, bias=False), nn.Linear(width, units, bias=False)
        self.down = nn.Linear(units, width, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Fused(nn.Module):
    """The same with gate and up in one array."""

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.both, self.down = nn.Linear(width, 2 * units), nn.Linear(units, width)

    def forward(self, x):
        gate, up = self.both(x).chunk(2, dim=-1)
        return self.down(F.gelu(gate) * up)


class Squeeze(nn.Module):
    """Convolution whose channels are gated by what all channels together say, and are read again behind the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.down, self.up = nn.Conv2d(1, 4, 2), nn.Linear(4, 3), nn.Linear(3, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        h = torch.tanh(self.conv(x))
        gate = torch.sigmoid(self.up(F.softplus(self.down(h.mean((2, 3))))))
        return self.head((h * gate[:, :, None, None]).amax((2, 3)))


class Encoder(nn.Module):
    """A transformer block over three tokens, and a head on their mean."""

    def __init__(self, *, norm_first: bool) -> None:
        super().__init__()
        options = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": norm_first}
        self.block, self.head = nn.TransformerEncoderLayer(4, 2, 5, **options), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.block(x).mean(1))


def dense(widths: tuple[int, ...], act: Callable[[], nn.Module], loss: str, *, bias: bool = True) -> Family:
    """A chain of dense layers under PyTorch's names."""

    def make() -> nn.Module:
        parts: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            parts += [nn.Linear(inputs, outputs, bias=bias), act()]
        return nn.Sequential(*parts[:-1])

    layers = {}
    for k in range(1, len(widths) - 1):
        first = (f"{2 * k - 2}.weight", 0, 0, 1)
        into = (first, (f"{2 * k - 2}.bias", 0, 0, 1)) if bias else (first,)
        layers[f"{2 * k - 2}"] = Layer(widths[k], into, ((f"{2 * k}.weight", 1, 0, 1),))
    return Family(make, (widths[0],), loss, layers)


def convolution() -> nn.Module:
    """Two convolutions, a batch norm between, and what is behind a flattening."""
    net = nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Tanh(), nn.Conv2d(3, 4, 2), nn.GELU(), nn.Flatten(), nn.Linear(16, 2)
    )
    net[1].running_mean.copy_(torch.tensor([0.1, -0.2, 0.3]))
    net[1].running_var.copy_(torch.tensor([0.5, 1.5, 1.0]))
    return net


_CONVOLUTION = {
    "0": Layer(
        3,
        (("0.weight", 0, 0, 1), ("0.bias", 0, 0, 1), ("1.weight", 0, 0, 1), ("1.bias", 0, 0, 1)),
        (("3.weight", 1, 0, 1),),
        (("1.running_mean", 0, 0, 1), ("1.running_var", 0, 0, 1)),
    ),
    "3": Layer(4, (("3.weight", 0, 0, 1), ("3.bias", 0, 0, 1)), (("6.weight", 1, 0, 4),)),
}
_SWIGLU = {
    "block.gate": Layer(
        5, (("block.gate.weight", 0, 0, 1), ("block.up.weight", 0, 0, 1)), (("block.down.weight", 1, 0, 1),)
    )
}
_FUSED = {
    "block.both": Layer(
        4,
        tuple((f"block.both.{name}", 0, start, 1) for name in ("weight", "bias") for start in (0, 4)),
        (("block.down.weight", 1, 0, 1),),
    )
}
_ENCODER = {
    "block.linear1": Layer(
        5, (("block.linear1.weight", 0, 0, 1), ("block.linear1.bias", 0, 0, 1)), (("block.linear2.weight", 1, 0, 1),)
    )
}
_SQUEEZE = {
    "conv": Layer(
        4,
        (("conv.weight", 0, 0, 1), ("conv.bias", 0, 0, 1), ("up.weight", 0, 0, 1), ("up.bias", 0, 0, 1)),
        (("down.weight", 1, 0, 1), ("head.weight", 1, 0, 1)),
    )
}

FAMILIES = {
    "tanh, one output": dense((3, 6, 1), nn.Tanh, "mse"),
    "tanh, two layers": dense((3, 5, 4, 2), nn.Tanh, "mse"),
    "relu": dense((3, 6, 3), nn.ReLU, "cross_entropy"),
    "relu, two layers": dense((3, 5, 4, 2), nn.ReLU, "mse"),
    "gelu": dense((4, 6, 3), nn.GELU, "cross_entropy"),
    "gelu, three layers": dense((2, 3, 4, 3, 2), nn.GELU, "mse"),
    "sigmoid, no bias": dense((4, 6, 3), nn.Sigmoid, "mse", bias=False),
    "softplus, two layers": dense((3, 4, 5, 4), nn.Softplus, "cross_entropy"),
    "silu, one output": dense((2, 6, 1), nn.SiLU, "mse"),
    "convolution": Family(convolution, (1, 4, 4), "cross_entropy", _CONVOLUTION),
    "squeeze and excite": Family(Squeeze, (1, 3, 3), "mse", _SQUEEZE),
    "swiglu": Family(lambda: Residual(SwiGLU(4, 5), 4, 3, nn.RMSNorm(4)), (4,), "cross_entropy", _SWIGLU),
    "fused geglu": Family(lambda: Residual(Fused(3, 4), 3, 2, nn.LayerNorm(3)), (3,), "mse", _FUSED),
    "transformer, norm first": Family(lambda: Encoder(norm_first=True), (3, 4), "cross_entropy", _ENCODER),
    "transformer, norm last": Family(lambda: Encoder(norm_first=False), (3, 4), "mse", _ENCODER),
}
"""Six to twelve units each: 20 draws of parameters and data give 100 and more blocks of an architecture."""


@dataclass(frozen=True)
class Drawn:
    """An architecture at random parameters with random data; ``targets`` are labels for cross entropy."""

    family: Family
    module: nn.Module
    parameters: dict[str, np.ndarray]
    inputs: np.ndarray
    targets: np.ndarray

    def block(self, name: str, unit: int) -> np.ndarray:
        """Return the dense Hessian of a unit and its copy, moved apart, in orthonormal coordinates.

        Its rows: incoming entries place by place, then outgoing ones.
        """
        layer = self.family.layers[name]
        arrays = {n: torch.tensor(v) for n, v in self.parameters.items()} | dict(self.module.named_buffers())
        sizes = [_own(arrays[p[0]], p, unit).numel() for p in (*layer.incoming, *layer.outgoing)]

        def loss(t: torch.Tensor) -> torch.Tensor:
            grown, pieces = dict(arrays), torch.split(t / 2.0**0.5, sizes)
            order = sorted(
                zip((*layer.incoming, *layer.outgoing, *layer.moving), (*pieces, *[None] * 9), strict=False),
                key=lambda pair: -pair[0][2],  # the last place of an array first: earlier starts stay
            )
            for place, step in order:
                share = 0.5 if place in layer.outgoing else 1.0
                grown[place[0]] = _with_copy(grown[place[0]], place, layer.units, unit, step, share)
            outputs = torch.func.functional_call(self.module, grown, (torch.tensor(self.inputs),))
            wanted = torch.tensor(self.targets)
            return F.mse_loss(outputs, wanted) if self.family.loss == "mse" else F.cross_entropy(outputs, wanted)

        zero, kept = torch.zeros(sum(sizes), dtype=torch.float64), torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return torch.autograd.functional.hessian(loss, zero, vectorize=True).numpy()
        finally:
            torch.set_num_threads(kept)


def _own(array: torch.Tensor, place: Place, unit: int) -> torch.Tensor:
    _, axis, start, block = place
    return array.narrow(axis, start + unit * block, block).movedim(axis, 0)


def _with_copy(
    array: torch.Tensor, place: Place, units: int, unit: int, step: torch.Tensor | None, share: float
) -> torch.Tensor:
    """Put the unit's copy behind all units of a place, and move the two apart."""
    _, axis, start, block = place
    rows = array.movedim(axis, 0)
    first, end = start + unit * block, start + units * block
    mine = share * rows[first : first + block]
    move = torch.zeros_like(mine) if step is None else step.reshape(mine.shape)
    parts = [rows[:first], mine + move, rows[first + block : end], mine - move, rows[end:]]
    return torch.cat(parts).movedim(0, axis)


def architecture(name: str) -> nn.Module:
    """Return the module of a family, in double precision and eval mode, with its own start."""
    torch.manual_seed(0)
    return FAMILIES[name].make().double().eval()


def drawn(name: str, module: nn.Module, seed: int, *, samples: int = 24) -> Drawn:
    """Return a family at other parameters and data: those of the module, scaled and shaken."""
    family, g = FAMILIES[name], np.random.default_rng([seed, 5])
    size = 10.0 ** g.uniform(-0.5, 0.5)
    values = {n: v.detach().numpy() for n, v in module.named_parameters()}
    parameters = {n: size * v + 0.4 * g.normal(size=v.shape) for n, v in values.items()}
    inputs = g.normal(size=(samples, *family.sample))
    with torch.no_grad():
        shape = tuple(module(torch.tensor(inputs[:1])).shape[1:])
    mse = family.loss == "mse"
    targets = g.normal(size=(samples, *shape)) if mse else g.integers(0, shape[0], size=samples)
    return Drawn(family, module, parameters, inputs, targets)
