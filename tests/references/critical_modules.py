"""PyTorch modules at exact critical points without training, and PyTorch's own dense Hessian there.

Targets are the module's outputs plus what is orthogonal to all derivatives of the outputs: the gradient is then zero
to rounding, at whatever parameters, and a large residual makes the Hessian indefinite.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import saddlescope as ss


class Residual(nn.Module):
    """Two convolutions with batch norm around a skip connection, on 8 x 8 images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, stride=2)
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return three numbers for each image."""
        x = torch.tanh(self.stem(x))
        y = self.bn2(self.conv2(torch.tanh(self.bn1(self.conv1(x)))))
        return self.head(torch.tanh(x + y).mean((2, 3)))


class PlainNorm(nn.Module):
    """A layer norm written out.

    PyTorch 2.13's own has a second derivative that is not symmetric: d/d(weight) of d/d(input) is right, the other way
    round it is not, by 10% at a random point; central differences of its gradient agree with this one.
    """

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise over the last axis."""
        apart = x - x.mean(-1, keepdim=True)
        return self.weight * apart / torch.sqrt((apart**2).mean(-1, keepdim=True) + self.eps) + self.bias


def lenet() -> nn.Module:
    """Two convolutions and two dense layers, on 8 x 8 images."""
    layers = [nn.Conv2d(1, 3, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(3, 4, 2), nn.Tanh(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 3))


def residual() -> nn.Module:
    """A residual network whose running statistics were measured once."""
    module = Residual()
    module.train()(digits(64).float())
    return module


def encoder() -> nn.Module:
    """A transformer's encoder layer: two heads of attention, layer norms, four gelu units."""
    layer = nn.TransformerEncoderLayer(4, 2, 4, dropout=0.0, batch_first=True, activation="gelu", layer_norm_eps=0.1)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(12, 2))


def digits(count: int) -> torch.Tensor:
    """Return images of scikit-learn's digits, (count, 1, 8, 8)."""
    from sklearn.datasets import load_digits

    return torch.as_tensor(load_digits(return_X_y=True)[0][:count].reshape(-1, 1, 8, 8) / 16.0)


def vectors(count: int) -> torch.Tensor:
    """Return three random vectors a sample, (count, 3, 4)."""
    return torch.as_tensor(np.random.default_rng(0).normal(size=(count, 3, 4)))


def soft_cross_entropy(outputs: Any, targets: Any) -> Any:
    """Return logsumexp(z) - <t, z> of each sample, in JAX: blind to a shift of all z if t sums to 1."""
    import jax

    return jax.scipy.special.logsumexp(outputs, axis=1) - (outputs * targets).sum(axis=1)


@dataclass(frozen=True)
class Made:
    """A module at a critical point of a problem."""

    module: nn.Module
    problem: Any
    point: dict[str, np.ndarray]
    inputs: torch.Tensor
    targets: torch.Tensor
    soft: bool

    @property
    def plain(self) -> nn.Module:
        """The module with its layer norms written out."""
        module = copy.deepcopy(self.module)
        for name, part in list(module.named_modules()):
            if isinstance(part, nn.LayerNorm):
                path, _, last = name.rpartition(".")
                setattr(module.get_submodule(path), last, PlainNorm(part))
        return module

    def loss(self, theta: torch.Tensor) -> torch.Tensor:
        """Return the loss by PyTorch, as a function of all parameters in the module's order."""
        shapes = {name: self.point[name].shape for name, _ in self.module.named_parameters()}
        pieces = torch.split(theta, [int(np.prod(shape)) for shape in shapes.values()])
        own = {name: piece.reshape(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
        out = torch.func.functional_call(self.plain, own, (self.inputs,))
        if self.soft:
            return (torch.logsumexp(out, 1) - (out * self.targets).sum(1)).mean()
        return ((out - self.targets) ** 2).mean()

    def signs(self, parameters: dict[str, np.ndarray]) -> tuple[int, int, float]:
        """Return index, nullity and the factor between what counts as zero and what does not."""
        theta = torch.cat([torch.as_tensor(parameters[name]).reshape(-1) for name, _ in self.module.named_parameters()])
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # the others have no second derivative
            hessian = torch.func.hessian(self.loss)(theta).numpy()
        values = np.linalg.eigvalsh(0.5 * (hessian + hessian.T))
        sizes = np.sort(np.abs(values))
        zero = int((sizes <= 1e-11 * sizes[-1]).sum())
        gap = float(sizes[zero] / max(sizes[zero - 1], 1e-300)) if zero else np.inf
        return int((values < -1e-11 * sizes[-1]).sum()), zero, gap


def made(
    build: Callable[[], nn.Module],
    inputs: torch.Tensor,
    *,
    layer: str | None,
    shares: tuple[float, ...] = (0.3, 0.7),
    soft: bool = False,
    size: float = 0.3,
    statistics: Any = "kept",
) -> Made:
    """Return a module whose first units of a layer are copies with these shares, at a critical point.

    ``size``: of the residuals.
    """
    torch.manual_seed(0)
    module = build().double().eval()
    model, start = ss.from_torch(module, inputs[:4], statistics=statistics)
    if statistics == "folded":
        from saddlescope.models.from_torch import fold_statistics

        fold_statistics(module)
    point = {name: value.copy() for name, value in start.items()}
    if layer is not None:
        neurons = model.neurons(layer)
        layout = model.layout
        theta = np.concatenate([point[name].ravel() for name in layout.names])
        into, out = neurons.incoming_positions(layout), neurons.outgoing_positions(layout)
        total = theta[out[0]].copy()
        for unit, share in enumerate(shares):
            theta[into[unit]], theta[out[unit]] = theta[into[0]], share * total
        point = layout.unflatten_numpy(theta)
    own = {name: torch.as_tensor(value) for name, value in point.items()}
    jacobian = torch.func.jacrev(lambda p: torch.func.functional_call(module, p, (inputs,)))(own)
    outputs = torch.func.functional_call(module, own, (inputs,)).detach()
    columns = torch.cat([value.reshape(outputs.numel(), -1) for value in jacobian.values()], 1).detach().numpy()
    if soft:  # targets sum to 1, too
        columns = np.concatenate([columns, np.kron(np.eye(len(outputs)), np.ones((outputs.shape[1], 1)))], axis=1)
    basis, values, _ = np.linalg.svd(columns, full_matrices=False)
    basis = basis[:, values > 1e-10 * values[0]]
    wild = np.random.default_rng(1).normal(size=outputs.numel())
    left = wild - basis @ (basis.T @ wild)
    left -= basis @ (basis.T @ left)
    left = torch.as_tensor(size * left / np.sqrt(np.mean(left**2))).reshape(outputs.shape)
    targets = (torch.softmax(outputs, 1) if soft else outputs) + left
    problem = ss.Problem(model, ss.Data(inputs.numpy(), targets.numpy()), loss=soft_cross_entropy if soft else "mse")
    return Made(module, problem, point, inputs, targets, soft)
