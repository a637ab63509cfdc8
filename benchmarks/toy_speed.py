"""One toy path by ten methods at one accuracy: 2-5-1 tanh, 1000 samples, 200 distances, tangential gradient <= 1e-10.

    python benchmarks/toy_speed.py > benchmarks/results/toy_speed.txt

Every method minimises the same loss under the same constraints (pair 3,4 at a given incoming distance, the difference
of the outgoing weights tied to it), warm-started from the distance before; all call one compiled loss and gradient,
but for PyTorch, which has its own. Residuals are judged by `judge`, in NumPy alone: the network's gradient written
out, made tangential to the constraints by least squares. Slow methods do a part of the distances (every n-th, started
from our own minimiser one distance before), and "per distance" is what compares. A Hessian counts as its number of
products, and a Hessian product as two gradients.
"""

import argparse
import itertools
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy
from scipy import optimize

from saddlescope.numerics.continuation import Limits, settle
from saddlescope.paths.constraint import PairObjective, PairSurface
from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem
from saddlescope.problem.sources import toy, toy_teacher
from saddlescope.symmetry.coordinates import PairCoordinates

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


def by_torch(setting: Setting, theta: np.ndarray, d: float) -> tuple[np.ndarray, int]:
    """PyTorch's L-BFGS with its strong Wolfe search, in the eliminated coordinates."""
    import torch

    x, target = torch.from_numpy(setting.x), torch.from_numpy(setting.y[:, 0])
    pick = [2 * L, 2 * L + 1, 10 + L], [2 * M, 2 * M + 1, 10 + M]
    y = torch.tensor(theta, requires_grad=True)

    def lift(y):
        total, gap = y[pick[0]] + y[pick[1]], y[pick[0]] - y[pick[1]]
        gap = gap * d / gap.norm()
        out = y.clone()
        out[pick[0]], out[pick[1]] = (total + gap) / 2, (total - gap) / 2
        both, tied = y[15 + L] + y[15 + M], setting.outgoing * d / setting.distances[0]
        out[15 + L], out[15 + M] = (both + tied) / 2, (both - tied) / 2
        return out

    search = torch.optim.LBFGS(
        [y], max_iter=3000, max_eval=6000, tolerance_grad=1e-12, tolerance_change=0.0, history_size=30,
        line_search_fn="strong_wolfe",
    )  # fmt: skip
    count = 0

    def closure():
        nonlocal count
        count += 1
        search.zero_grad()
        t = lift(y)
        loss = ((torch.tanh(x @ t[:10].reshape(5, 2).T + t[10:15]) @ t[15:20] + t[20] - target) ** 2).mean()
        loss.backward()
        return loss

    search.step(closure)
    return lift(y).detach().numpy(), count


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
            limits = Limits(jnp.asarray(TOLERANCE), jnp.asarray(0.05 * size), jnp.asarray(limit))
            found = settle(objective, surface, coordinates.rotate(jnp.asarray(theta)), jnp.asarray(d), limits, solver)
            return np.asarray(coordinates.unrotate(found.x)), int(found.iterations)

    return run


def report(name: str, setting: Setting, solve: Callable, every: int, unit: str) -> None:
    """Run one method along the path, or at every n-th distance, and print its line."""
    chosen = range(1, len(setting.distances), every)
    solve(setting, setting.start, float(setting.distances[1]))  # compiles
    began, evaluations, judged = time.perf_counter(), 0, []
    theta = setting.start
    for k in chosen:
        d = float(setting.distances[k])
        theta, count = solve(setting, setting.ours[k - 1] if every > 1 else theta, d)
        evaluations += count
        judged.append(judge(setting, theta, d))
    each = 1e3 * (time.perf_counter() - began) / len(judged)
    row(name, each, evaluations / len(judged), unit, judged)


def row(name: str, milliseconds: float, evaluations: float, unit: str, judged: list[tuple[float, float]]) -> None:
    """Print a line: per distance time and evaluations, and what the judge found."""
    found, broken = (np.array(column) for column in zip(*judged, strict=True))
    print(
        f"{name:28} {len(judged):4d} {milliseconds:10.2f} {evaluations:12.1f} {unit:9} "
        f"{int((found <= TOLERANCE).sum()):4d}/{len(judged):<4d} {np.median(found):8.1e} {found.max():8.1e} "
        f"{broken.max():8.1e}",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--only", default="slsqp,trust,lbfgs,torch,optimistix,flow,descent")
    options = parser.parse_args()
    network, teacher = toy_teacher("tanh", 0)
    data = toy("tanh", 0)
    problem = Problem(network, data)
    settings = PathSettings(steps=options.steps)
    began = time.perf_counter()
    find_path(problem, teacher, layer=1, pair=(L, M), settings=settings)
    cold = time.perf_counter() - began
    began = time.perf_counter()
    path = find_path(problem, teacher, layer=1, pair=(L, M), settings=settings)
    warm = time.perf_counter() - began
    asked = path.kinds == "asked"
    ours = np.stack([
        np.concatenate([path.parameters[name][k].ravel() for name in network.layout.names])
        for k in np.flatnonzero(asked)
    ])  # fmt: skip
    outgoing = float(ours[0][15 + L] - ours[0][15 + M])
    setting = Setting(
        problem,
        network.layout,
        ours[0],
        path.distances[asked],
        outgoing,
        np.asarray(data.inputs),
        np.asarray(data.targets),
        ours,
    )
    plain = eqx.filter_jit(lambda p, t: p.value_and_gradient(t))

    def value_and_gradient(theta: np.ndarray) -> tuple[float, np.ndarray]:
        with float64():
            value, gradient = plain(problem, theta)
            return float(value), np.asarray(gradient)

    setting.value_and_gradient = value_and_gradient
    residuals = [judge(setting, t, float(d)) for t, d in zip(ours, setting.distances, strict=True)]
    print(f"# {platform.python_version()}, jax {jax.__version__}, scipy {scipy.__version__}; {path.ending}")
    print(f"# ours, with folds, events and merged point: cold {cold:.1f} s, warm {warm:.2f} s; {path.evaluations}")
    print("method                       dist  ms/distance  evaluations unit      met     median   worst    constraint")
    gradients = (path.evaluations["iterations"] + 2 * path.evaluations["hessian_products"]) / len(ours)
    row("ours (dense continuation)", 1e3 * warm / len(ours), gradients, "gradients", residuals)
    with float64():
        lift, function = eliminated(setting)

    def eliminated_lbfgs(_: Setting, theta: np.ndarray, d: float) -> tuple[np.ndarray, int]:
        with float64():
            return by_lbfgs(theta, d, lift, function)

    pairs = list(itertools.combinations(range(5), 2))
    began = time.perf_counter()
    each = []
    for pair in pairs:
        each.append(find_path(problem, teacher, layer=1, pair=pair, settings=settings).seconds)
    alone = ", ".join(f"{pair[0]}{pair[1]} {seconds:.1f}" for pair, seconds in zip(pairs, each, strict=True))
    print(f"# all ten pairs, one after the other: {time.perf_counter() - began:.1f} s ({alone})", flush=True)
    methods = {
        "slsqp": ("SciPy SLSQP", by_slsqp, 40, "gradients"),
        "trust": ("SciPy trust-constr", by_trust, 70, "gradients"),
        "lbfgs": ("SciPy L-BFGS, eliminated", eliminated_lbfgs, 20, "gradients"),
        "torch": ("PyTorch L-BFGS, eliminated", by_torch, 99, "gradients"),
        "optimistix": ("Optimistix BFGS, eliminated", by_optimistix(lift, problem), 20, "gradients"),
        "flow": ("gradient flow (Kvaerno5)", by_ours(setting, "flow", 1), 40, "steps"),
        "descent": ("gradient descent ([B19])", by_ours(setting, "descent", 300), 70, "gradients"),
    }
    for key in options.only.split(","):
        name, solve, every, unit = methods[key]
        report(name, setting, solve, every, unit)
    print(f"# peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
