"""Groups of interchangeable units over architectures of all kinds: 20 of torch, 10 of JAX, small and made here.

    python benchmarks/zoo.py > benchmarks/results/zoo.txt

For each: JAX operations, groups found and expected (counted by hand, from the architecture), verified, invented (found
and not proved by a permutation of fresh inputs), the largest deviation over permutations, the smallest omission, and
the seconds for conversion, comparison with torch and search.
"""

import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen
from torch import nn

from saddlescope.models.from_function import from_equinox, from_flax, from_function
from saddlescope.models.from_torch import from_torch
from saddlescope.models.function import Function
from saddlescope.models.laws import derangement
from saddlescope.precision import float64
from saddlescope.units.neurons import Slice

F = nn.functional
Entry = tuple[str, Callable[[], tuple[Function, dict[str, np.ndarray]]], np.ndarray, int]


class Written(nn.Module):
    """A module whose forward is a function of its parts and the input."""

    def __init__(self, forward: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.parts, self.function = nn.ModuleList(parts), forward

    def forward(self, x: Any) -> Any:
        return self.function(self.parts, x)


def bottleneck(m: Any, x: Any) -> Any:
    h = m[0](x)
    return m[4](h + m[3](torch.relu(m[2](torch.relu(m[1](h)))))).flatten(1).mean(1, keepdim=True)


def dense_block(m: Any, x: Any) -> Any:
    a = torch.tanh(m[0](x))
    b = torch.tanh(m[1](torch.cat([x, a], 1)))
    return m[2](torch.cat([x, a, b], 1))


def excited(m: Any, x: Any) -> Any:
    y = m[0](x)
    gate = torch.sigmoid(m[2](torch.relu(m[1](y.mean((2, 3))))))
    return m[3]((y * gate[:, :, None, None]).mean((2, 3)))


def unet(m: Any, x: Any) -> Any:
    a = torch.relu(m[0](x))
    b = torch.relu(m[1](F.max_pool2d(a, 2)))
    c = torch.relu(m[2](F.interpolate(b, scale_factor=2)))
    return m[3](torch.cat([a, c], 1)).flatten(1)


def gated(m: Any, x: Any) -> Any:
    return x + m[2](F.silu(m[0](x)) * m[1](x))


def separate_heads(m: Any, x: Any) -> Any:
    q, k, v = (part(x).view(len(x), -1, 2, 3).transpose(1, 2) for part in m[:3])
    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return m[4]((x + m[3](y)).mean(1))


def torch_entries() -> Iterator[tuple[str, nn.Module, Any, int]]:
    """Name, module, example, number of groups expected."""
    n, c, s = nn.Linear, nn.Conv2d, nn.Sequential
    images, rows, tokens = torch.randn(4, 2, 8, 8), torch.randn(8, 5), torch.randn(4, 3, 6)
    encoder = nn.TransformerEncoderLayer
    yield "mlp tanh", s(n(5, 7), nn.Tanh(), n(7, 6), nn.Tanh(), n(6, 2)), rows, 2
    yield "mlp relu, batch norm", s(n(5, 7), nn.BatchNorm1d(7), nn.ReLU(), n(7, 2)), rows, 1
    yield "mlp gelu, layer norm", s(n(5, 7), nn.LayerNorm(7), nn.GELU(), n(7, 2)), rows, 1
    yield "mlp prelu a unit", s(n(5, 7), nn.PReLU(7), n(7, 2)), rows, 1
    yield "mlp weight norm", s(nn.utils.parametrizations.weight_norm(n(5, 7)), nn.Tanh(), n(7, 2)), rows, 1
    yield "deep linear", s(n(5, 4), n(4, 3), n(3, 2)), rows, 2
    yield "glu", s(n(5, 8), nn.GLU(), n(4, 2)), rows, 1
    yield "gated residual", Written(gated, n(5, 7), n(5, 7), n(7, 5)), rows, 1
    lenet = (c(2, 4, 3), nn.Tanh(), nn.AvgPool2d(2), c(4, 6, 2), nn.Tanh(), nn.Flatten(), n(24, 5), nn.Tanh(), n(5, 2))
    yield "lenet", s(*lenet), images, 3
    yield (
        "conv, batch norm, max",
        s(c(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), n(36, 2)),
        images,
        1,
    )
    yield (
        "conv 1d, dilated",
        s(nn.Conv1d(5, 4, 3, dilation=2), nn.ELU(), nn.Flatten(), n(16, 2)),
        torch.randn(4, 5, 8),
        1,
    )
    yield (
        "depthwise separable",
        s(c(2, 6, 1), nn.ReLU6(), c(6, 6, 3, groups=6), nn.ReLU6(), c(6, 2, 1), nn.Flatten()),
        images,
        1,
    )
    yield (
        "transposed",
        s(c(2, 4, 3), nn.SiLU(), nn.ConvTranspose2d(4, 3, 2, 2), nn.Tanh(), c(3, 1, 1), nn.Flatten()),
        images,
        2,
    )
    yield (
        "residual bottleneck",
        Written(bottleneck, c(2, 5, 1), c(5, 3, 1), c(3, 4, 3, padding=1), c(4, 5, 1), c(5, 3, 1)),
        images,
        3,
    )
    yield "dense block", Written(dense_block, n(5, 4), n(9, 3), n(12, 2)), rows, 2
    yield "squeeze, excitation", Written(excited, c(2, 6, 3), n(6, 3), n(3, 6), n(6, 2)), images, 2
    yield (
        "u-net",
        Written(unet, c(2, 4, 3, padding=1), c(4, 5, 3, padding=1), c(5, 3, 3, padding=1), c(7, 1, 1)),
        images,
        3,
    )
    heads = Written(separate_heads, *(n(6, 6) for _ in range(4)), n(6, 2))
    yield "attention, own heads", heads, tokens, 3
    yield "encoder, post norm", s(encoder(6, 2, 5, batch_first=True), nn.Flatten(), n(18, 2)), tokens, 4
    stream = s(n(6, 4), encoder(4, 2, 5, batch_first=True, norm_first=True), nn.LayerNorm(4), n(4, 2))
    yield "encoder, pre norm, stream", stream, tokens, 5
    yield "gru", Written(lambda m, x: m[1](m[0](x)[0][:, -1]), nn.GRU(6, 4, batch_first=True), n(4, 2)), tokens, 1
    yield "lstm", Written(lambda m, x: m[1](m[0](x)[0][:, -1]), nn.LSTM(6, 4, batch_first=True), n(4, 2)), tokens, 1


class Conv(linen.Module):
    """Convolution, group norm in one group, pooling, dense."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        x = linen.avg_pool(linen.silu(linen.GroupNorm(num_groups=1)(linen.Conv(4, (3, 3))(x))), (2, 2), (2, 2))
        return linen.Dense(2)(x.reshape(len(x), -1))


class Block(linen.Module):
    """Attention and a dense layer with a residual stream read and written by dense layers."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        h = linen.Dense(6)(x)
        h = h + linen.MultiHeadDotProductAttention(2, deterministic=True)(h, h)
        h = h + linen.Dense(6)(linen.gelu(linen.Dense(5)(h)))
        return linen.Dense(2)(h.mean(1))


def jax_entries() -> Iterator[Entry]:
    """Name, maker, example, number of groups expected."""
    g, key = np.random.default_rng(0), jax.random.key(0)

    def p(*shape: int) -> np.ndarray:
        return g.standard_normal(shape) / 2

    rows, images, series = p(16, 4), p(4, 8, 8, 2), p(4, 5, 6)

    def own(function: Callable[..., Any], parameters: Any, x: np.ndarray) -> Callable[[], Any]:
        return lambda: from_function(function, parameters, x)

    yield "jax mlp", own(lambda w, x: jnp.tanh(x @ w[0] + w[1]) @ w[2], [p(4, 5), p(5), p(5, 2)], rows), rows, 1
    tied = own(lambda w, x: jnp.tanh(x @ w["t"]) @ w["t"].T, {"t": p(4, 3)}, rows)
    yield "jax tied autoencoder", tied, rows, 1
    maxout = own(lambda w, x: (x @ w[0]).reshape(-1, 5, 2).max(2) @ w[1], [p(4, 10), p(5, 2)], rows)
    yield "jax maxout", maxout, rows, 2
    experts = own(
        lambda w, x: jnp.einsum("be,beo->bo", jax.nn.softmax(x @ w[0]), jnp.einsum("bi,eio->beo", x, w[1])),
        [p(4, 3), p(3, 4, 2)],
        rows,
    )
    yield "jax mixture of experts", experts, rows, 1
    moved = own(lambda w, x: jnp.tanh(x @ w[0] + jnp.arange(5.0)) @ w[1], [p(4, 5), p(5, 2)], rows)
    yield "jax positions matter", moved, rows, 0

    def scanned(w: Any, x: Any) -> Any:
        step = lambda h, row: (jnp.tanh(row @ w[0] + h @ w[1]), None)
        return jax.lax.scan(step, jnp.zeros((len(x), 3), x.dtype), jnp.swapaxes(x, 0, 1))[0] @ w[2]

    yield "jax scan rnn", own(scanned, [p(6, 3), p(3, 3), p(3, 2)], series), series, 1
    yield "equinox mlp", lambda: from_equinox(eqx.nn.MLP(4, 2, 6, 2, key=key), rows), rows, 2
    net = eqx.nn.Sequential([eqx.nn.Linear(4, 6, key=key), eqx.nn.LayerNorm(6), eqx.nn.Linear(6, 2, key=key)])
    yield "equinox layer norm", lambda: from_equinox(net, rows), rows, 1
    variables = Conv().init(key, jnp.asarray(images, jnp.float32))
    yield "flax conv, group norm", lambda: from_flax(Conv(), variables, images), images, 1
    block = Block().init(key, jnp.asarray(series, jnp.float32))
    yield "flax transformer block", lambda: from_flax(Block(), block, series), series, 5


def invented(model: Function, parameters: dict[str, np.ndarray], x: np.ndarray) -> int:
    """Count the groups whose slices, permuted in all arrays, change the outputs for inputs not used before."""
    generator, wrong = np.random.default_rng(7), 0
    fresh = x + 0.3 * generator.standard_normal(x.shape)
    with float64():
        before = np.asarray(model.function({**parameters, **model.fixed}, *model.split(fresh)))
        for group in model.symmetries:
            arrays = {name: np.array(value) for name, value in {**parameters, **model.fixed}.items()}
            order = derangement(group.units, generator)
            for piece in (*group.incoming, *group.outgoing, *group.moves_along):
                _permute(arrays, piece, group.units, order)
            after = np.asarray(model.function(arrays, *model.split(fresh)))
            wrong += not np.abs(after - before).max() <= 1e-10 * np.abs(before).max()
    return wrong


def _permute(arrays: dict[str, np.ndarray], piece: Slice, units: int, order: np.ndarray) -> None:
    front = np.moveaxis(arrays[piece.name], piece.axis, 0)
    part = front[piece.start : piece.start + units * piece.block]
    part[...] = part.reshape(units, piece.block, *part.shape[1:])[order].reshape(part.shape)


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    print(f"Python {platform.python_version()} {platform.machine()}, jax {jax.__version__}, torch {torch.__version__}")
    print(f"{'architecture':28} {'ops':>4} found expected verified invented deviation omission seconds")
    entries: list[Entry] = []
    for name, module, example, count in torch_entries():
        entries.append((f"torch {name}", partial(from_torch, module.eval(), example), example.double().numpy(), count))
    totals = np.zeros(4, dtype=int)
    for name, make, x, count in [*entries, *jax_entries()]:
        began = time.perf_counter()
        model, parameters = make()
        seconds = time.perf_counter() - began
        groups = model.symmetries
        row = [len(groups), count, sum(group.verified for group in groups), invented(model, parameters, x)]
        totals += row
        deviation, omission = (
            max((g.deviation for g in groups), default=0),
            min((g.omission for g in groups), default=0),
        )
        print(
            f"{name:28} {model.operations:4d} {row[0]:5d} {row[1]:8d} {row[2]:8d} {row[3]:8d} {deviation:9.0e} "
            f"{omission:8.0e} {seconds:7.1f}",
            flush=True,
        )
    print(f"{'all':28}      {totals[0]:5d} {totals[1]:8d} {totals[2]:8d} {totals[3]:8d}")


if __name__ == "__main__":
    sys.exit(main())
