"""One toy path by ten methods at one accuracy: 2-5-1 tanh, 1000 samples, 200 distances, tangential gradient <= 1e-10.

    python benchmarks/toy_speed.py > benchmarks/results/toy_speed.txt

Every method minimises the same loss under the same constraints (pair 3,4 at a given incoming distance, the difference
of the outgoing weights tied to it), warm-started from the distance before; all call one compiled loss and gradient, but
for PyTorch, which has its own. Residuals are judged by `judge`, in NumPy alone: the network's gradient written out,
made tangential to the constraints by least squares. Slow methods do a part of the distances (every n-th, started from
our own minimiser one distance before), and "per distance" is what compares. A Hessian counts as its number of products
(21 here), and a Hessian product as two gradients; below the table it is also charged with the time that it takes, in
gradients, measured in the same run. Left out of ours: a gradient for each leg and stride, 2.4 a distance. Our first row
is a whole path with its folds, events and merged point; "the corrector alone" does what the other rows do.
"""

import argparse
import resource
import time
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from machine import head
from toy_methods import (
    TOLERANCE,
    L,
    M,
    Setting,
    by_lbfgs,
    by_optimistix,
    by_ours,
    by_slsqp,
    by_torch,
    by_torch_newton,
    by_trust,
    eliminated,
    judge,
)

from saddlescope.data.sources import toy, toy_teacher
from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem

DESCENT_THOUSANDS = 1500  # gradients at most at one distance, in thousands


def row(name: str, first: float, each: float, count: float, unit: str, judged: list, ours: float) -> None:
    """Print a line: first call, time and evaluations a distance, and what the judge found."""
    found, broken = (np.array(column) for column in zip(*judged, strict=True))
    met = int((found <= TOLERANCE).sum())
    sign = ">" if met < len(judged) else " "  # where a method gave up, its time is a lower bound
    print(
        f"{name:30} {len(judged):4d} {first:8.2f} {each:12.2f} {sign}{each / ours:9.1f} {count:11.1f} {unit:9} "
        f"{met:4d}/{len(judged):<4d} {np.median(found):8.1e} {found.max():8.1e} {broken.max():10.1e}",
        flush=True,
    )


def report(
    name: str, setting: Setting, warm: Callable, solve: Callable, every: int, unit: str, ours: float
) -> tuple[float, list]:
    """Run one method along the path, or at every n-th distance, and print its line.

    ``warm`` makes the first call, which compiles. Returns evaluations a distance, and what the judge said of each.
    """
    began = time.perf_counter()
    warm(setting, setting.start, float(setting.distances[1]))
    first = time.perf_counter() - began
    began, evaluations, judged = time.perf_counter(), 0, []
    theta = setting.start
    for k in range(1, len(setting.distances), every):
        d = float(setting.distances[k])
        theta, count = solve(setting, setting.ours[k - 1] if every > 1 else theta, d)
        evaluations += count
        judged.append(judge(setting, theta, d))
    each = 1e3 * (time.perf_counter() - began) / len(judged)
    row(name, first, each, evaluations / len(judged), unit, judged, ours)
    return evaluations / len(judged), judged


def hessian_in_gradients(problem: Problem, theta: np.ndarray) -> float:
    """Return the time of one dense Hessian as a multiple of that of value and gradient, the least of 200 calls each."""

    def least(function: Callable) -> float:
        compiled = eqx.filter_jit(function)
        jax.block_until_ready(compiled(problem, point))
        times = []
        for _ in range(200):
            began = time.perf_counter()
            jax.block_until_ready(compiled(problem, point))
            times.append(time.perf_counter() - began)
        return min(times)

    with float64():
        point = jnp.asarray(theta)
        return least(lambda p, t: p.hessian(t)) / least(lambda p, t: p.value_and_gradient(t))


def prepare(steps: int) -> tuple[Setting, float, tuple[float, float]]:
    """Follow our own path twice, print its line; return the setting, ms a distance, and gradients in two ways."""
    network, teacher = toy_teacher("tanh", 0)
    data = toy("tanh", 0)
    problem = Problem(network, data)
    times = []
    for _ in range(2):
        began = time.perf_counter()
        path = find_path(problem, teacher, layer=1, pair=(L, M), settings=PathSettings(steps=steps))
        times.append(time.perf_counter() - began)
    asked = path.kinds == "asked"
    ours = np.stack([
        np.concatenate([path.parameters[name][k].ravel() for name in network.layout.names])
        for k in np.flatnonzero(asked)
    ])  # fmt: skip
    inputs, targets = np.asarray(data.inputs), np.asarray(data.targets)
    outgoing = float(ours[0][15 + L] - ours[0][15 + M])
    setting = Setting(problem, network.layout, ours[0], path.distances[asked], outgoing, inputs, targets, ours)
    plain = eqx.filter_jit(lambda p, t: p.value_and_gradient(t))

    def value_and_gradient(theta: np.ndarray) -> tuple[float, np.ndarray]:
        with float64():
            value, gradient = plain(problem, theta)
            return float(value), np.asarray(gradient)

    setting.value_and_gradient = value_and_gradient
    residuals = [judge(setting, t, float(d)) for t, d in zip(ours, setting.distances, strict=True)]
    gradients = (path.evaluations["iterations"] + 2 * path.evaluations["hessian_products"]) / len(ours)
    print(f"# ours, with folds, events and merged point: {path.ending}; {path.evaluations}")
    print(f"# first call of ours {times[0]:.1f} s, with compilation; second {times[1]:.2f} s, with none; peak {peak()}")
    print("# first: seconds of the first call at one distance, compilation included; descent's ends at 1000 gradients")
    print("# ratio: time a distance / ours; '>' where the tolerance was not met everywhere: a lower bound")
    print(
        "method                         dist    first  ms/distance      ratio evaluations unit      met         median"
        "    worst constraint"
    )
    each = 1e3 * times[1] / len(ours)
    row("ours (dense continuation)", times[0], each, gradients, "gradients", residuals, each)
    hessians = path.evaluations["hessian_products"] / len(ours[0])
    share = hessian_in_gradients(problem, ours[0])
    by_time = (path.evaluations["iterations"] + share * hessians) / len(ours)
    print(f"# one dense Hessian takes {share:.1f} gradients of time (single calls, dispatch included):")
    print(f"# so counted ours spends {by_time:.1f} a distance")
    return setting, each, (gradients, by_time)


def peak() -> str:
    """Return the largest memory that this process has held so far."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1048576:.2f} GiB"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--only", default="newton,slsqp,trust,lbfgs,torch,torch-newton,optimistix,flow,descent")
    options = parser.parse_args()
    head("jax", "numpy", "scipy", "torch", "optimistix", "diffrax")
    setting, each, gradients = prepare(options.steps)
    with float64():
        lift, function = eliminated(setting)

    def lbfgs(_: Setting, theta: np.ndarray, d: float) -> tuple[np.ndarray, int]:
        with float64():
            return by_lbfgs(theta, d, lift, function)

    methods = {
        "newton": ("ours, the corrector alone", by_ours(setting, "newton", 200), 1, "Hessians"),
        "slsqp": ("SciPy SLSQP", by_slsqp, 40, "gradients"),
        "trust": ("SciPy trust-constr", by_trust, 70, "gradients"),
        "lbfgs": ("SciPy L-BFGS, eliminated", lbfgs, 20, "gradients"),
        "torch": ("PyTorch L-BFGS, eliminated", by_torch, 99, "gradients"),
        "torch-newton": ("PyTorch dense Hessian, Newton", by_torch_newton, 1, "Hessians"),
        "optimistix": ("Optimistix BFGS, eliminated", by_optimistix(lift, setting.problem), 20, "gradients"),
        "flow": ("gradient flow (Kvaerno5)", by_ours(setting, "flow", 1), 40, "steps"),
        "descent": ("gradient descent ([B19])", by_ours(setting, "descent", DESCENT_THOUSANDS), 70, "gradients"),
    }
    for key in options.only.split(","):
        name, solve, every, unit = methods[key]
        warm = by_ours(setting, "descent", 1) if key == "descent" else solve
        spent, judged = report(name, setting, warm, solve, every, unit, each)
        if key == "descent":
            met = sum(residual <= TOLERANCE for residual, _ in judged)
            least = "at least " if met < len(judged) else ""
            print(
                f"# descent spent {spent:.0f} gradients a distance (limit {1000 * DESCENT_THOUSANDS}), met the bound"
                f" at {met} of {len(judged)}: {least}{spent / gradients[0]:.0f} "
                f"times our {gradients[0]:.1f}, {spent / gradients[1]:.0f} times our {gradients[1]:.1f} by time"
            )
    print(f"# peak memory of the whole run, all methods in one process: {peak()}")


if __name__ == "__main__":
    main()
