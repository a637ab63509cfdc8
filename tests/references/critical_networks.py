"""Critical points with known Hessians, naive and slow: dual numbers in extended precision, nothing of JAX.

Parameters are dicts by PyTorch's names, in the network's order. The Hessian is that of the mean loss over samples,
forward over reverse by hand, in `numpy.longdouble` (64 bits of mantissa on x86).
"""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import erf

from saddlescope.data.data import Data
from saddlescope.models.mlp import MLP
from saddlescope.problem.problem import Problem

Long = np.longdouble


def _sigmoid(z):
    return np.where(z > 0, 1 / (1 + np.exp(-np.abs(z))), np.exp(-np.abs(z)) / (1 + np.exp(-np.abs(z))))


def _bell(z):
    return np.exp(-z * z / 2) * np.sqrt(Long(2) / np.pi)


# g, g', g''
ACTIVATIONS = {
    "tanh": (np.tanh, lambda z: np.cosh(z) ** -2, lambda z: -2 * np.tanh(z) * np.cosh(z) ** -2),
    "sigmoid": (
        _sigmoid,
        lambda z: _sigmoid(z) * _sigmoid(-z),
        lambda z: _sigmoid(z) * _sigmoid(-z) * (_sigmoid(-z) - _sigmoid(z)),
    ),
    "softplus": (
        lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))),
        _sigmoid,
        lambda z: _sigmoid(z) * _sigmoid(-z),
    ),
    "sine": (np.sin, np.cos, lambda z: -np.sin(z)),
    "erf": (lambda z: erf((z / np.sqrt(Long(2))).astype(float)).astype(Long), _bell, lambda z: -z * _bell(z)),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(Long), np.zeros_like),
    "leaky_relu": (
        lambda z: np.where(z > 0, z, z * Long(0.01)),
        lambda z: np.where(z > 0, Long(1), Long(0.01)),
        np.zeros_like,
    ),
}


@dataclass(frozen=True)
class Critical:
    """A perceptron at a critical point of its mean squared error over the data (or of another loss, as stated)."""

    widths: tuple[int, ...]
    activation: str
    parameters: dict[str, np.ndarray]
    inputs: np.ndarray
    targets: np.ndarray  # (samples, outputs), or integer labels
    bias: bool = True
    loss: str = "mse"
    weight_decay: float = 0.0
    copies: tuple[tuple[int, int, tuple[float, ...]], ...] = field(default=())
    units: dict[str, float] = field(default_factory=dict)  # natural size of an array's entries, 1 unless said otherwise

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(value.size for value in self.parameters.values())


def problem_of(point: Critical) -> Problem:
    """Return the point's problem, as the library poses it."""
    labels = point.loss == "cross_entropy"
    data = Data(point.inputs, None, point.targets) if labels else Data(point.inputs, point.targets)
    network = MLP(point.widths, point.activation, bias=point.bias)
    return Problem(network, data, loss=point.loss, weight_decay=point.weight_decay)


def names(widths: tuple[int, ...], *, bias: bool = True) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter."""
    shapes: dict[str, tuple[int, ...]] = {}
    for k in range(len(widths) - 1):
        shapes[f"{2 * k}.weight"] = (widths[k + 1], widths[k])
        if bias:
            shapes[f"{2 * k}.bias"] = (widths[k + 1],)
    return shapes


def forward(point: Critical) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the inputs of every layer and its preactivations; the last preactivation is the output."""
    g = ACTIVATIONS[point.activation][0]
    here, seen, sums = point.inputs.astype(Long), [], []
    depth = len(point.widths) - 1
    for k in range(depth):
        seen.append(here)
        z = here @ point.parameters[f"{2 * k}.weight"].astype(Long).T
        if point.bias:
            z = z + point.parameters[f"{2 * k}.bias"].astype(Long)
        sums.append(z)
        here = g(z) if k < depth - 1 else z
    return seen, sums


def _loss_slope(point: Critical, out: np.ndarray, more: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return d loss/d outputs (samples, outputs), and its change for changes of the outputs (directions first)."""
    samples = len(out)
    if point.loss == "cross_entropy":
        share = np.exp(out - out.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        slope = share.copy()
        slope[np.arange(samples), point.targets] -= 1
        change = share * (more - np.sum(share * more, axis=-1, keepdims=True))
        return slope / samples, change / samples
    factor = Long(2) / out.size
    if point.loss == "normalised":
        factor /= np.mean(point.targets.astype(Long) ** 2)
    return factor * (out - point.targets), factor * more


def value(point: Critical) -> float:
    """Return the loss."""
    out = forward(point)[1][-1]
    if point.loss == "cross_entropy":
        top = out.max(axis=1)
        total = np.log(np.exp(out - top[:, None]).sum(axis=1)) + top
        found = np.mean(total - out[np.arange(len(out)), point.targets])
    else:
        found = np.mean((out - point.targets) ** 2)
        if point.loss == "normalised":
            found /= np.mean(point.targets.astype(Long) ** 2)
    return float(found + point.weight_decay / 2 * sum(np.sum(v.astype(Long) ** 2) for v in point.parameters.values()))


def gradient_and_hessian(point: Critical) -> tuple[np.ndarray, np.ndarray]:
    """Return both in extended precision: one direction for every parameter goes forward and back."""
    _, slope, bend = ACTIVATIONS[point.activation]
    size, depth = point.size, len(point.widths) - 1
    directions, at = {}, 0
    for name, entry in point.parameters.items():
        unit = np.zeros((size, entry.size), Long)
        unit[at : at + entry.size] = np.eye(entry.size, dtype=Long)
        directions[name], at = unit.reshape(size, *entry.shape), at + entry.size
    seen, sums = forward(point)
    moves = [np.zeros((size, *seen[0].shape), Long)]
    rises = []
    for k in range(depth):
        weight, turn = point.parameters[f"{2 * k}.weight"].astype(Long), directions[f"{2 * k}.weight"]
        rise = moves[k] @ weight.T + seen[k] @ turn.transpose(0, 2, 1)
        if point.bias:
            rise = rise + directions[f"{2 * k}.bias"][:, None, :]
        rises.append(rise)
        moves.append(slope(sums[k]) * rise)
    back, change = _loss_slope(point, sums[-1], rises[-1])
    gradient: dict[str, np.ndarray] = {}
    second: dict[str, np.ndarray] = {}
    for k in reversed(range(depth)):
        weight, turn = point.parameters[f"{2 * k}.weight"].astype(Long), directions[f"{2 * k}.weight"]
        gradient[f"{2 * k}.weight"] = back.T @ seen[k]
        second[f"{2 * k}.weight"] = change.transpose(0, 2, 1) @ seen[k] + back.T @ moves[k]
        if point.bias:
            gradient[f"{2 * k}.bias"], second[f"{2 * k}.bias"] = back.sum(axis=0), change.sum(axis=1)
        if k:
            below, z, rise = back @ weight, sums[k - 1], rises[k - 1]
            change = (change @ weight + back @ turn) * slope(z) + below * bend(z) * rise
            back = below * slope(z)
    decay = Long(point.weight_decay)
    flat = np.concatenate([value.ravel() for value in point.parameters.values()]).astype(Long)
    whole = np.concatenate([second[name].reshape(size, -1) for name in point.parameters], axis=1)
    return (
        np.concatenate([gradient[name].ravel() for name in point.parameters]) + decay * flat,
        (whole + whole.T) / 2 + decay * np.eye(size, dtype=Long),
    )


def coupling(point: Critical, layer: int, unit: int) -> tuple[np.ndarray, np.ndarray]:
    """Return G = E[r (x) g'(z) h] and B = E[(a.r) g''(z) h h^T] of a unit of hidden layer ``layer``, sample by sample.

    r is the loss's derivative by the next layer's preactivations; h ends with 1 where there are biases.
    """
    _, slope, bend = ACTIVATIONS[point.activation]
    seen, sums = forward(point)
    back = _loss_slope(point, sums[-1], np.zeros_like(sums[-1]))[0]
    for k in range(len(point.widths) - 2, layer, -1):
        back = (back @ point.parameters[f"{2 * k}.weight"].astype(Long)) * slope(sums[k - 1])
    outgoing = point.parameters[f"{2 * layer}.weight"][:, unit].astype(Long)
    g = b = Long(0)
    for r, h, z in zip(back, seen[layer - 1], sums[layer - 1][:, unit], strict=True):
        h = np.append(h, Long(1)) if point.bias else h
        g = g + np.outer(r, slope(z) * h)
        b = b + (outgoing @ r) * bend(z) * np.outer(h, h)
    return g, b


def signs(point: Critical, *, level: bool = False) -> tuple[int, int] | None:
    """Return (index, nullity) of the Hessian; None if its eigenvalues leave no clear gap around 0.

    ``level``: every row is first brought to the size of the others, by a congruence. A copy of a tiny share has tiny
    rows, which are known to as many digits as any.
    """
    hessian = gradient_and_hessian(point)[1]
    # The parameters' own units are taken out by a congruence, so that a gap can be seen.
    size = np.concatenate([np.full(value.size, point.units.get(name, 1.0)) for name, value in point.parameters.items()])
    hessian = hessian * size * size[:, None]
    for _ in range(20 if level else 0):
        rows = np.abs(hessian).max(axis=1)
        factor = 1 / np.sqrt(np.where(rows > 0, rows, Long(1)))
        hessian = hessian * factor * factor[:, None]
    values = np.linalg.eigvalsh(hessian.astype(float))
    shares = np.abs(values) / np.abs(values).max()
    zero = shares < 1e-13
    if np.any(~zero & (shares < 3e-10)):
        return None
    return int(np.sum(values[~zero] < 0)), int(zero.sum())


def jacobian(point: Critical) -> np.ndarray:
    """Return the outputs' derivative by the parameters, (samples * outputs, parameters), one output at a time."""
    slope, depth = ACTIVATIONS[point.activation][1], len(point.widths) - 1
    seen, sums = forward(point)
    rows = np.zeros((len(point.inputs), point.widths[-1], point.size), Long)
    for output in range(point.widths[-1]):
        back = np.zeros_like(sums[-1])
        back[:, output] = 1
        pieces: dict[str, np.ndarray] = {}
        for k in reversed(range(depth)):
            pieces[f"{2 * k}.weight"] = (back[:, :, None] * seen[k][:, None, :]).reshape(len(back), -1)
            if point.bias:
                pieces[f"{2 * k}.bias"] = back
            if k:
                back = (back @ point.parameters[f"{2 * k}.weight"].astype(Long)) * slope(sums[k - 1])
        rows[:, output] = np.concatenate([pieces[name] for name in point.parameters], axis=1)
    return rows.reshape(-1, point.size)


def critical(
    widths: tuple[int, ...],
    activation: str = "tanh",
    *,
    seed: int = 0,
    samples: int = 80,
    bias: bool = True,
    residual: float = 1.0,
    input_scale: float = 1.0,
    output_scale: float = 1.0,
    weight_decay: float = 0.0,
    loss: str = "mse",
) -> Critical:
    """Return random parameters and data for which they are critical.

    The targets are outputs minus a residual orthogonal to all columns of the Jacobian, plus, with weight decay, the
    residual in their span that holds the parameters where they are. ``residual`` is relative to the outputs; a small
    one gives a minimum, a large one a saddle. Scaling inputs (down) and first weights (up) leaves the outputs alone.
    """
    generator = np.random.default_rng(seed)
    shapes = names(widths, bias=bias)
    gain = {"softplus": 2.5, "sigmoid": 4.0}.get(activation, 1.5)  # these two are nearly linear near 0
    parameters = {
        name: generator.normal(size=shape) * (gain / np.sqrt(shape[-1]) if len(shape) == 2 else 0.5)
        for name, shape in shapes.items()
    }
    last = 2 * (len(widths) - 2)
    units = {"0.weight": 1 / input_scale, f"{last}.weight": output_scale, f"{last}.bias": output_scale}
    parameters = {name: value * units.get(name, 1.0) for name, value in parameters.items()}
    inputs = generator.normal(size=(samples, widths[0])) * input_scale
    none = np.zeros((samples, widths[-1]))
    point = Critical(widths, activation, parameters, inputs, none, bias, loss, weight_decay, units=units)
    return with_residual(point, generator.normal(size=none.shape), residual)


def with_residual(point: Critical, wanted: np.ndarray, share: float) -> Critical:
    """Return the point with targets whose residual is what is left of ``wanted`` where the parameters are critical."""
    outputs, columns = forward(point)[1][-1], jacobian(point)
    used = np.abs(columns).max(axis=0) > 0
    columns_used = columns[:, used] / np.abs(columns[:, used]).max(axis=0)
    basis, _ = np.linalg.qr(columns_used.astype(float))
    inverse = np.linalg.pinv(columns_used.astype(float), rcond=1e-11)
    rest = wanted.ravel().astype(Long)
    for _ in range(3):
        rest = rest - basis.astype(Long) @ (basis.T.astype(Long) @ rest)
    for _ in range(3):  # what is left on the columns themselves, in extended precision, while it falls
        force = columns_used.T @ rest
        ahead = rest - columns_used @ (inverse @ (inverse.T @ force.astype(float))).astype(Long)
        if np.abs(columns_used.T @ ahead).max() >= np.abs(force).max():
            break
        rest = ahead
    scale = np.sqrt(np.mean(outputs**2)) / np.sqrt(np.mean(rest**2)) * Long(share)
    rest = 0 * rest if share == 0 else rest * scale
    if point.weight_decay:
        flat = np.concatenate([value.ravel() for value in point.parameters.values()]).astype(Long)
        force = -Long(point.weight_decay) * flat * outputs.size / 2
        pull = np.zeros_like(rest)
        for _ in range(4):
            missing = ((force - columns.T @ pull)[used] / np.abs(columns[:, used]).max(axis=0)).astype(float)
            pull = pull + columns_used @ (inverse @ (inverse.T @ missing)).astype(Long)
        rest = rest + pull
    return replace(point, targets=(outputs - rest.reshape(outputs.shape)).astype(float))


def copied(point: Critical, layer: int, unit: int, shares: tuple[float, ...]) -> Critical:
    """Return the point with a unit of hidden layer ``layer`` (from 1) copied; copies after the first go to the end."""
    parameters = dict(point.parameters)
    more = len(shares) - 1
    for name in (f"{2 * layer - 2}.weight", f"{2 * layer - 2}.bias"):
        if name in parameters:
            rows = parameters[name]
            parameters[name] = np.concatenate([rows, np.repeat(rows[unit : unit + 1], more, axis=0)])
    column = parameters[f"{2 * layer}.weight"][:, unit]
    wide = np.concatenate([parameters[f"{2 * layer}.weight"], np.outer(column, shares[1:])], axis=1)
    wide[:, unit] = column * shares[0]
    parameters[f"{2 * layer}.weight"] = wide
    widths = list(point.widths)
    widths[layer] += more
    copies = (*point.copies, (layer, unit, tuple(shares)))
    return replace(point, widths=tuple(widths), parameters=parameters, copies=copies)


def moved(point: Critical, step: np.ndarray) -> Critical:
    """Return the point with a step added to its parameters, in their order."""
    pieces, at = {}, 0
    for name, entry in point.parameters.items():
        pieces[name] = entry + np.asarray(step[at : at + entry.size], dtype=float).reshape(entry.shape)
        at += entry.size
    return replace(point, parameters=pieces)


def newton(point: Critical, *, steps: int = 40) -> Critical:
    """Return the critical point that damped Newton steps on the gradient lead to, for losses without a recipe."""
    for _ in range(steps):
        gradient, hessian = gradient_and_hessian(point)
        step = -np.linalg.lstsq(hessian.astype(float), gradient.astype(float), rcond=1e-13)[0]
        here = float(np.linalg.norm(gradient))
        for length in 0.5 ** np.arange(12.0):
            ahead = moved(point, length * step)
            if float(np.linalg.norm(gradient_and_hessian(ahead)[0])) < here:
                point = ahead
                break
        else:
            break
    return point
