"""Conversion, gradient and Hessian product of converted modules against PyTorch eager, in one process.

    python benchmarks/any_model_speed.py > benchmarks/results/any_model_speed.txt

Squared error on random data, double precision on both sides. PyTorch's product is a gradient of the gradient's product
with v (autograd twice), ours forward over reverse, compiled. "apart" is their difference, as a share of the norm.
The shortest of at least five runs; ours and PyTorch's take turns, PyTorch with one thread and with all.
"""

import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch
from machine import head
from torch import nn

import saddlescope as ss
from saddlescope.precision import float64

THREADS = torch.get_num_threads()


class Block(nn.Module):
    """A residual block with batch norm between a stem and a head."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return self.head(torch.relu(x + y).mean((2, 3)))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))


def lenet() -> nn.Module:
    parts = nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2)
    return nn.Sequential(
        *parts, nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)
    )


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Flatten(), nn.Linear(320, 10))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "MLP 64-64-64-10, 256 samples": (mlp, (256, 64)),
    "LeNet 28 x 28, 64 samples": (lenet, (64, 1, 28, 28)),
    "residual block 16 x 16, 32 samples": (Block, (32, 1, 16, 16)),
    "encoder of 2 layers, 32 samples": (encoder, (32, 10, 32)),
}


def torch_side(module: nn.Module, x: torch.Tensor, y: torch.Tensor, v: dict[str, np.ndarray]) -> tuple[Any, Any]:
    """PyTorch's gradient and Hessian product as functions without arguments."""
    names, values = zip(*module.named_parameters(), strict=True)
    along = [torch.from_numpy(v[name]) for name in names]

    def gradient(create: bool = False) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(((module(x) - y) ** 2).mean(), values, create_graph=create)

    def product() -> tuple[torch.Tensor, ...]:
        dot = sum((g * a).sum() for g, a in zip(gradient(create=True), along, strict=True))
        return torch.autograd.grad(dot, values)

    return gradient, product


def shortest(*calls: Callable[[], Any]) -> list[float]:
    """Milliseconds of each call, in turns; the shortest, since other jobs can only make one longer."""
    times: list[list[float]] = [[] for _ in calls]
    began = time.perf_counter()
    while len(times[0]) < 5 or time.perf_counter() - began < 2.0 * len(calls):
        for call, each in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            each.append(1e3 * (time.perf_counter() - start))
    return [min(each) for each in times]


def with_threads(count: int, call: Callable[[], Any]) -> Callable[[], Any]:
    """The call with so many of PyTorch's threads."""

    def run() -> Any:
        torch.set_num_threads(count)
        return call()

    return run


@float64()
def measure(name: str, make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    module, x, y = make().double().eval(), torch.randn(shape).double(), torch.randn(shape[0], 10).double()
    began = time.perf_counter()
    model, params = ss.from_torch(module, x)
    conversion = time.perf_counter() - began
    problem = ss.Problem(model, ss.Data(x.flatten(1), targets=y))
    generator = np.random.default_rng(0)
    v = {name: generator.normal(size=value.shape) for name, value in params.items()}
    theta, along = (model.layout.flatten({n: jnp.asarray(a) for n, a in part.items()}) for part in (params, v))
    gradient, product = torch_side(module, x, y, v)
    ours = eqx.filter_jit(lambda p, t: p.gradient(t)), eqx.filter_jit(lambda p, t, w: p.hessian_product(t, w))
    began = time.perf_counter()
    here = np.asarray(ours[1](problem, theta, along))
    compiled = time.perf_counter() - began
    ours[0](problem, theta).block_until_ready()
    order = dict(zip([n for n, _ in module.named_parameters()], product(), strict=True))
    there = np.concatenate([order[n].numpy().ravel() for n in model.layout.names])
    apart = float(np.linalg.norm(here - there) / np.linalg.norm(there))
    g, h, *others = shortest(
        lambda: ours[0](problem, theta).block_until_ready(),
        lambda: ours[1](problem, theta, along).block_until_ready(),
        *(with_threads(count, call) for call in (gradient, product) for count in (1, THREADS)),
    )
    tg, th = min(others[:2]), min(others[2:])
    print(
        f"{name:36} {theta.size:7} {conversion:6.1f} {compiled:6.1f} {g:8.2f} {tg:8.2f} {h:8.2f} {th:8.2f} "
        f"{th / h:6.1f} {apart:8.0e}",
        flush=True,
    )


def main() -> None:
    jax.config.update("jax_enable_compilation_cache", False)  # first times are those of a new program
    head("saddlescope", "jax", "torch")
    print(f"# threads: torch 1 or {THREADS}, the faster, jax its own; devices {jax.devices()}")
    print("# conversion (with comparison, search and proofs) and first product with its compilation in s; others in ms")
    print(
        f"{'model':36} {'params':>7} {'conv.':>6} {'first':>6} {'grad':>8} {'torch':>8} {'HVP':>8} {'torch':>8} "
        f"{'ratio':>6} {'apart':>8}"
    )
    torch.backends.mha.set_fastpath_enabled(False)  # neither it nor fused attention has a second derivative
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for name, (make, shape) in MODELS.items():
            measure(name, make, shape)


if __name__ == "__main__":
    main()
