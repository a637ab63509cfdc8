"""MNIST, 784-H-H-10, 60 000 images, 100 distances: full-data passes a distance, ours against L-BFGS and descent.

    SADDLESCOPE_DATA=FOLDER python benchmarks/mnist_speed.py > benchmarks/results/mnist_speed.txt

All to the same tangential gradient norm: 1e-4 of the gradient that the first change of distance brings about. Ours
follows the whole path; the others are warm-started at some of its distances from our point at the distance before.
L-BFGS works in the eliminated coordinates (the surface's retraction is put before the loss). Each ends as soon as the
norm is reached, or at its limit, and its count is then a lower bound; every residual is evaluated anew at the end.
A gradient is one pass over the data. A Hessian product is charged in three ways: with the time that it takes, in
gradients, measured in the same run; as one pass; as two.
"""

import argparse
import contextlib
import resource
import time
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from machine import head
from scipy import optimize

from saddlescope.data.data import teacher_data
from saddlescope.data.sources import mnist
from saddlescope.models.mlp import MLP
from saddlescope.numerics.continuation import Tolerances, advance_to, evaluate, init_tracking, settle
from saddlescope.numerics.tangent import tangent
from saddlescope.paths.constraint import PairObjective, PairSurface
from saddlescope.paths.follow import distances_between
from saddlescope.precision import float64
from saddlescope.problem.kronecker import factors
from saddlescope.problem.problem import Problem
from saddlescope.training.train import train
from saddlescope.units.coordinates import PairCoordinates
from saddlescope.units.gauge import most_similar_pair


@dataclass(frozen=True)
class Case:
    """One path: objective, surface, start, distances, limits, and what a Hessian product costs in gradients."""

    objective: PairObjective
    surface: PairSurface
    start: Array
    distances: np.ndarray
    limits: Tolerances
    product: float


def timed(function, *arguments) -> float:
    """Return the smallest of three times of a compiled function."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(3):
        began = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - began)
    return min(times)


def case(width: int, activation: str, relative: float) -> Case:
    """Return the path of the most similar pair of layer 2 of a network trained by 300 steps of Adam."""
    data = mnist("train")
    network = MLP((784, width, width, 10), activation)
    teacher = train(Problem(network, data, loss="cross_entropy"), adam_steps=300, max_newton=0)
    problem = Problem(network, teacher_data(network, teacher.parameters, data.inputs), loss="normalised")
    neurons = network.neurons(2)
    pair = most_similar_pair(teacher.parameters, neurons, homogeneous=network.homogeneous(2))
    coordinates = PairCoordinates.of(neurons, network.layout, pair)
    theta = network.layout.flatten(teacher.parameters)
    objective = PairObjective(problem, coordinates, factors(problem, theta), problem.in_single())
    start = coordinates.rotate(theta)
    surface = PairSurface.of(coordinates, start, "tied", unit_incoming=False)
    distances = distances_between(float(surface.start), 1e-4, 100)
    radius = jnp.asarray(0.05 * float(jnp.linalg.norm(start)))
    first = evaluate(objective, surface, start, jnp.asarray(distances[1]), jnp.asarray(0.0), "krylov")
    tolerance = relative * float(first.residual)
    gradient = timed(eqx.filter_jit(lambda o, x: o.value_and_gradient(x)), objective, start)
    product = timed(eqx.filter_jit(lambda o, x: o.model_product(x, x)), objective, start) / gradient
    print(f"784-{width}-{width}-10 {activation}, pair {pair}, tolerance {tolerance:.3e}")
    print(f"one gradient {gradient:.3f} s; one Hessian product, in single precision, {product:.2f} gradients")
    return Case(
        objective, surface, start, distances, Tolerances(jnp.asarray(tolerance), radius, jnp.asarray(200)), product
    )


def ours(this: Case, told: list[int]) -> list[Array]:
    """Follow the path; print the told distances and the mean over all; return the points at all distances."""
    full = jnp.asarray(np.log(this.distances[0] / this.distances[1]))
    track = init_tracking(this.objective, this.surface, this.start, this.surface.start, full, "krylov")
    points, counts, met, started = [this.start], [], 0, time.perf_counter()
    for k, d in enumerate(this.distances[1:], start=1):
        began = time.perf_counter()
        track, leg = advance_to(this.objective, this.surface, track, jnp.asarray(d), full, this.limits, "krylov")
        points.append(leg.iterate.x)
        # A gradient at the leg's beginning, and two a stride, at two predictions: at most.
        counts.append((int(leg.iterations) + 1 + 2 * int(leg.strides), int(leg.products)))
        here = evaluate(this.objective, this.surface, leg.iterate.x, jnp.asarray(d), this.limits.tolerance, "krylov")
        met += float(here.residual) <= float(this.limits.tolerance)
        if k in told:
            say("ours", k, d, here, *counts[-1], time.perf_counter() - began)
    gradients, products = np.mean(counts, axis=0)
    ways = ((this.product, "with products by time"), (1, "with one for each product"), (2, "with two"))
    print(
        f"ours: {time.perf_counter() - started:.0f} s, met at {met} of {len(counts)}; passes a distance: "
        + ", ".join(f"{gradients + cost * products:.1f} {name}" for cost, name in ways)
    )
    there = np.array([counts[k - 1] for k in told])
    print(
        "ours at the distances told: "
        + ", ".join(f"{(there[:, 0] + cost * there[:, 1]).mean():.1f} {name}" for cost, name in ways),
        flush=True,
    )
    return points


@eqx.filter_jit
def eliminated(objective: PairObjective, surface: PairSurface, y: Array, d: Array) -> tuple[Array, Array, Array]:
    """Return loss and gradient as functions of the point before the retraction, and the tangential gradient norm."""
    x, back = jax.vjp(lambda z: surface.retract(z, d), y)
    value, slope = objective.value_and_gradient(x)
    return value, back(slope)[0], jnp.linalg.norm(tangent(surface, x, slope).project(slope))


def lbfgs(this: Case, x: Array, d: Array, limit: int) -> tuple[Array, int]:
    """Return where L-BFGS ends from x, and how many gradients it took."""
    last, count = x, 0

    def counted(z: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal count, last
        count += 1
        last = jnp.asarray(z)
        value, slope, residual = eliminated(this.objective, this.surface, last, d)
        if float(residual) <= float(this.limits.tolerance) or count >= limit:
            raise StopIteration  # as soon as our own condition holds, not theirs
        return float(value), np.asarray(slope)

    never = {"gtol": 0, "ftol": 0, "maxcor": 30, "maxfun": 10**6, "maxiter": 10**6}
    with contextlib.suppress(StopIteration):
        optimize.minimize(counted, np.asarray(x), jac=True, method="L-BFGS-B", options=never)
    return last, count


def descent(this: Case, x: Array, d: Array, limit: int) -> tuple[Array, int]:
    """Return where gradient descent with growing and halved steps ends from x, and how many gradients it took."""
    short = this.limits._replace(iterations=jnp.asarray(limit // 1000))
    found = settle(this.objective, this.surface, x, d, short, "descent")
    return found.x, int(found.iterations)


def other(name: str, this: Case, points: list[Array], told: list[int], limit: int) -> None:
    """Run one of the others at the told distances, and print what it took."""
    method = {"L-BFGS": lbfgs, "descent": descent}[name]
    counts, met = [], 0
    for k in told:
        began, d = time.perf_counter(), jnp.asarray(this.distances[k])
        x, count = method(this, points[k - 1], d, limit)
        here = evaluate(this.objective, this.surface, x, d, this.limits.tolerance, "krylov")
        met += float(here.residual) <= float(this.limits.tolerance)
        counts.append(count)
        say(name, k, float(d), here, count, 0, time.perf_counter() - began)
    bound = "" if met == len(told) else "more than "
    print(f"{name}: {bound}{np.mean(counts):.1f} passes a distance; met at {met} of {len(told)}", flush=True)


def say(name: str, k: int, d: float, found, gradients: int, products: int, seconds: float) -> None:
    """Print one distance's line."""
    print(
        f"{name:8} {k:4d} {d:9.3e} {float(found.value):12.6e} {float(found.residual):9.2e} {gradients:9d} "
        f"{products:9d} {seconds:8.1f}",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=25)
    parser.add_argument("--activation", default="tanh")
    parser.add_argument("--relative", type=float, default=1e-4)
    parser.add_argument("--at", default="1,4,16,48", help="distances for L-BFGS")
    parser.add_argument("--lbfgs-limit", type=int, default=4000, help="gradients a distance at most")
    parser.add_argument("--descent-at", default="1,16", help="distances for gradient descent")
    parser.add_argument("--descent-limit", type=int, default=8000, help="gradients a distance at most")
    options = parser.parse_args()
    head("jax", "numpy", "scipy")
    with float64():
        this = case(options.width, options.activation, options.relative)
        print("method      k  distance         loss  residual gradients  products  seconds")
        told = [int(k) for k in options.at.split(",")]
        points = ours(this, told)
        other("L-BFGS", this, points, told, options.lbfgs_limit)
        slow = [int(k) for k in options.descent_at.split(",")]
        other("descent", this, points, slow, options.descent_limit)
    print(f"peak memory of the run {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1048576:.2f} GiB")


if __name__ == "__main__":
    main()
