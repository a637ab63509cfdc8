"""The methods that toy_speed.py compares, the constraints they share, and the judge of what they find."""

from collections.abc import Callable
from dataclasses import dataclass, field

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from saddlescope.data.sources import toy_teacher
from saddlescope.numerics.continuation import Tolerances, settle
from saddlescope.paths.constraint import PairObjective, PairSurface
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem
from saddlescope.units.coordinates import PairCoordinates

L, M, TOLERANCE = 3, 4, 1e-10


@dataclass
class Setting:
    """The toy, and what all methods share."""

    problem: Problem
    layout: object
    start: np.ndarray
    distances: np.ndarray
    outgoing: float  # the outgoing difference at the first distance
    x: np.ndarray
    y: np.ndarray
    ours: np.ndarray = field(default_factory=lambda: np.zeros(0))  # our minimisers, for partial runs
    value_and_gradient: Callable = lambda theta: (0.0, theta)

    def constraints(self, theta: np.ndarray, d: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the two constraints' values and their gradients: |w_l - w_m|^2 - d^2, and the tied difference."""
        gap = np.concatenate([theta[2 * L : 2 * L + 2] - theta[2 * M : 2 * M + 2], [theta[10 + L] - theta[10 + M]]])
        rows = np.zeros((2, len(theta)))
        rows[0, 2 * L : 2 * L + 2], rows[0, 2 * M : 2 * M + 2] = 2 * gap[:2], -2 * gap[:2]
        rows[0, 10 + L], rows[0, 10 + M] = 2 * gap[2], -2 * gap[2]
        rows[1, 15 + L], rows[1, 15 + M] = 1.0, -1.0
        tied = theta[15 + L] - theta[15 + M] - self.outgoing * d / self.distances[0]
        return np.array([gap @ gap - d * d, tied]), rows


def judge(setting: Setting, theta: np.ndarray, d: float) -> tuple[float, float]:
    """Return the tangential gradient norm and the largest constraint's violation, in NumPy alone."""
    w, b, a, c = theta[:10].reshape(5, 2), theta[10:15], theta[15:20], theta[20]
    h = np.tanh(setting.x @ w.T + b)
    error = (h @ a + c - setting.y[:, 0]) * 2 / len(setting.x)
    back = error[:, None] * a * (1 - h * h)
    gradient = np.concatenate([(back.T @ setting.x).ravel(), back.sum(0), h.T @ error, [error.sum()]])
    values, rows = setting.constraints(theta, d)
    basis = np.linalg.qr(rows.T)[0]
    return float(np.linalg.norm(gradient - basis @ (basis.T @ gradient))), float(np.max(np.abs(values)))


def eliminated(setting: Setting) -> tuple[Callable, Callable]:
    """Return (to theta, gradient back) of coordinates in which both constraints hold by themselves."""

    def lift(y, d):
        theta = jnp.asarray(y)
        pick = jnp.array([2 * L, 2 * L + 1, 10 + L]), jnp.array([2 * M, 2 * M + 1, 10 + M])
        total, gap = theta[pick[0]] + theta[pick[1]], theta[pick[0]] - theta[pick[1]]
        gap = gap * d / jnp.linalg.norm(gap)
        theta = theta.at[pick[0]].set((total + gap) / 2).at[pick[1]].set((total - gap) / 2)
        both, tied = theta[15 + L] + theta[15 + M], setting.outgoing * d / setting.distances[0]
        return theta.at[15 + L].set((both + tied) / 2).at[15 + M].set((both - tied) / 2)

    problem = setting.problem
    function = eqx.filter_jit(lambda p, y, d: jax.value_and_grad(lambda z: p.value(lift(z, d)))(y))
    return jax.jit(lift), lambda y, d: function(problem, y, d)


def by_slsqp(setting: Setting, theta: np.ndarray, d: float) -> tuple[np.ndarray, int]:
    """SciPy's SLSQP with both constraints and their gradients."""
    done = optimize.minimize(
        setting.value_and_gradient,
        theta,
        jac=True,
        method="SLSQP",
        options={"ftol": 1e-22, "maxiter": 1000},
        constraints={
            "type": "eq",
            "fun": lambda t: setting.constraints(t, d)[0],
            "jac": lambda t: setting.constraints(t, d)[1],
        },
    )
    return done.x, done.nfev


def by_trust(setting: Setting, theta: np.ndarray, d: float) -> tuple[np.ndarray, int]:
    """SciPy's trust-constr, with its BFGS Hessian."""
    both = optimize.NonlinearConstraint(
        lambda t: setting.constraints(t, d)[0], 0, 0, jac=lambda t: setting.constraints(t, d)[1], hess=optimize.BFGS()
    )
    done = optimize.minimize(
        setting.value_and_gradient, theta, jac=True, hess=optimize.BFGS(), method="trust-constr", constraints=both,
        options={"gtol": TOLERANCE, "xtol": 1e-16, "maxiter": 2000},
    )  # fmt: skip
    return done.x, done.nfev


def by_lbfgs(theta: np.ndarray, d: float, lift, function) -> tuple[np.ndarray, int]:
    """SciPy's L-BFGS in the eliminated coordinates."""
    options = {"gtol": 1e-12, "ftol": 0.0, "maxiter": 20000, "maxfun": 40000, "maxcor": 30}
    done = optimize.minimize(
        lambda y: tuple(np.asarray(v) for v in function(y, d)), np.asarray(lift(theta, d)), jac=True, method="L-BFGS-B",
        options=options,
    )  # fmt: skip
    return np.asarray(lift(done.x, d)), done.nfev


def torch_lift(setting: Setting, d: float) -> Callable:
    """Return `eliminated`'s map to theta, in PyTorch and without writing in place, as torch.func wants it."""
    import torch

    left, right = [2 * L, 2 * L + 1, 10 + L], [2 * M, 2 * M + 1, 10 + M]
    identity = torch.eye(len(setting.start), dtype=torch.float64)
    keep = torch.ones(len(setting.start), dtype=torch.float64)
    keep[[*left, *right, 15 + L, 15 + M]] = 0.0
    tied = setting.outgoing * d / setting.distances[0]

    def lift(y):
        total, gap = y[left] + y[right], y[left] - y[right]
        gap = gap * d / gap.norm()
        both = y[15 + L] + y[15 + M]
        pair = identity[left].T @ (total + gap) / 2 + identity[right].T @ (total - gap) / 2
        return y * keep + pair + identity[15 + L] * (both + tied) / 2 + identity[15 + M] * (both - tied) / 2

    return lift


def torch_loss(setting: Setting, d: float) -> Callable:
    """Return the loss in the eliminated coordinates, in PyTorch."""
    import torch

    x, target, lift = torch.from_numpy(setting.x), torch.from_numpy(setting.y[:, 0]), torch_lift(setting, d)

    def loss(y):
        t = lift(y)
        return ((torch.tanh(x @ t[:10].reshape(5, 2).T + t[10:15]) @ t[15:20] + t[20] - target) ** 2).mean()

    return loss


def by_torch(setting: Setting, theta: np.ndarray, d: float) -> tuple[np.ndarray, int]:
    """PyTorch's L-BFGS with its strong Wolfe search, in the eliminated coordinates."""
    import torch

    y, loss = torch.tensor(theta, requires_grad=True), torch_loss(setting, d)
    search = torch.optim.LBFGS(
        [y], max_iter=3000, max_eval=6000, tolerance_grad=1e-12, tolerance_change=0.0, history_size=30,
        line_search_fn="strong_wolfe",
    )  # fmt: skip
    count = 0

    def closure():
        nonlocal count
        count += 1
        search.zero_grad()
        value = loss(y)
        value.backward()
        return value

    search.step(closure)
    return torch_lift(setting, d)(y).detach().numpy(), count


def by_torch_newton(setting: Setting, theta: np.ndarray, d: float) -> tuple[np.ndarray, int]:
    """Newton's method with torch.func's dense Hessian, shifted and kept in a radius as our own dense steps are."""
    import torch
    from torch.func import grad_and_value, hessian

    loss, lift = torch_loss(setting, d), torch_lift(setting, d)
    slope_and_value, bend = grad_and_value(loss), hessian(loss)
    radius, reach, count = 0.05 * float(np.linalg.norm(setting.start)), 1.0, 0
    y = lift(torch.tensor(theta))
    slope, value = slope_and_value(y)
    while float(slope.norm()) > TOLERANCE and count < 200:
        basis = torch.linalg.qr(torch.from_numpy(setting.constraints(y.numpy(), d)[1]).T)[0]
        inside = torch.eye(len(y), dtype=torch.float64) - basis @ basis.T
        matrix = inside @ bend(y) @ inside
        count += 1
        values, vectors = torch.linalg.eigh(matrix + (matrix.abs().max() + 1.0) * (basis @ basis.T))
        along = vectors.T @ slope
        floor = max(1e-13 * float(values.abs().max()), 1.5 * max(0.0, -float(values[0])))
        shift = max(float(slope.norm()) / radius, floor)
        while float((along / (values + shift)).norm()) > reach * radius:
            shift *= 1.5
        move = -(inside @ (vectors @ (along / (values + shift))))
        there = lift(y + move)
        new_slope, new_value = slope_and_value(there)
        noise = 1e-14 * float(value.abs())
        falls = float(new_value) < float(value) - noise
        level = float(new_value) <= float(value) + noise and float(new_slope.norm()) < float(slope.norm())
        length = float(move.norm()) / radius
        if falls or level:
            y, slope, value = there, new_slope, new_value
            reach = min(1.0, max(reach, 3.0 * length))
        else:
            reach = 0.25 * min(reach, length)
            if reach < 1e-15:
                break
    return y.numpy(), count


def by_optimistix(lift, problem: Problem) -> Callable:
    """Optimistix's BFGS in the eliminated coordinates, one compiled solve a distance."""
    import optimistix

    solver = optimistix.BFGS(rtol=1e-14, atol=1e-14)

    @eqx.filter_jit
    def solve(problem, y, d):
        done = optimistix.minimise(lambda z, _: problem.value(lift(z, d)), solver, y, max_steps=5000, throw=False)
        return lift(done.value, d), done.stats["num_steps"]

    def run(_: Setting, theta: np.ndarray, d: float) -> tuple[np.ndarray, int]:
        with float64():
            theta, steps = solve(problem, jnp.asarray(theta), jnp.asarray(d))
        return np.asarray(theta), 2 * int(steps)

    return run


def by_ours(setting: Setting, solver: str, limit: int) -> Callable:
    """One of our own correctors at a fixed distance: "descent" is the paper's way, "flow" the gradient flow."""
    network, _ = toy_teacher("tanh", 0)
    coordinates = PairCoordinates.of(network.neurons(1), setting.layout, (L, M))
    objective = PairObjective(setting.problem, coordinates)
    with float64():
        first = coordinates.rotate(jnp.asarray(setting.start))
        surface = PairSurface.of(coordinates, first, "tied", unit_incoming=False)
    size = float(np.linalg.norm(setting.start))

    def run(_: Setting, theta: np.ndarray, d: float) -> tuple[np.ndarray, int]:
        with float64():
            limits = Tolerances(jnp.asarray(TOLERANCE), jnp.asarray(0.05 * size), jnp.asarray(limit))
            found = settle(objective, surface, coordinates.rotate(jnp.asarray(theta)), jnp.asarray(d), limits, solver)
            return np.asarray(coordinates.unrotate(found.x)), int(found.iterations)

    return run
