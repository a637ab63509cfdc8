"""MNIST, 784-H-H-10, 60 000 images: full-data passes per distance, ours against warm-started L-BFGS, at one accuracy.

    SADDLESCOPE_DATA=FOLDER python benchmarks/mnist_speed.py --width 25 > benchmarks/results/mnist_speed.txt

The first distances of 100 log-spaced ones (to 1e-4 of the first), each method warm-started from its own last point,
down to the same tangential gradient norm: 1e-4 of the gradient that the first change of distance brings about. A
gradient is one pass; a Hessian product is charged with the time that it takes, in gradients, measured in the same
run, and as two passes at the end of ours. L-BFGS works in the eliminated coordinates: the surface's retraction is put
before the loss.
"""

import argparse
import contextlib
import resource
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from saddlescope.numerics.continuation import Limits, embark, march, settle
from saddlescope.numerics.tangent import tangent
from saddlescope.paths.constraint import PairObjective, PairSurface
from saddlescope.paths.follow import distances_between
from saddlescope.precision import float64
from saddlescope.problem.data import teacher_data
from saddlescope.problem.kronecker import factors
from saddlescope.problem.networks import Perceptron
from saddlescope.problem.problem import Problem
from saddlescope.problem.sources import mnist
from saddlescope.symmetry.coordinates import PairCoordinates
from saddlescope.symmetry.gauge import most_similar_pair
from saddlescope.training.train import train


def timed(function, *arguments) -> float:
    """Return the smallest of three times of a compiled function."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(3):
        began = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=25)
    parser.add_argument("--activation", default="tanh")
    parser.add_argument("--distances", type=int, default=8)
    parser.add_argument("--relative", type=float, default=1e-4)
    parser.add_argument("--methods", default="ours,lbfgs,descent")
    parser.add_argument("--descent-limit", type=int, default=3000)
    options = parser.parse_args()
    data = mnist("train")
    network = Perceptron((784, options.width, options.width, 10), options.activation)
    teacher = train(Problem(network, data, loss="cross_entropy"), adam_steps=300, max_newton=0)
    problem = Problem(network, teacher_data(network, teacher.parameters, data.inputs), loss="normalised")
    neurons = network.neurons(2)
    pair = most_similar_pair(teacher.parameters, neurons, homogeneous=network.homogeneous(2))
    with float64():
        coordinates = PairCoordinates.of(neurons, network.layout, pair)
        theta = network.layout.flatten(teacher.parameters)
        objective = PairObjective(problem, coordinates, factors(problem, theta), problem.in_single())
        start = coordinates.rotate(theta)
        surface = PairSurface.of(coordinates, start, "tied", unit_incoming=False)
        distances = distances_between(float(surface.start), 1e-4, 100)
        radius = jnp.asarray(0.05 * float(jnp.linalg.norm(start)))
        none = Limits(jnp.asarray(0.0), radius, jnp.asarray(0))
        first = settle(objective, surface, start, jnp.asarray(distances[1]), none, "krylov")
        tolerance = options.relative * float(first.residual)
        gradient = timed(eqx.filter_jit(lambda o, x: o.value_and_gradient(x)), objective, start)
        product = timed(eqx.filter_jit(lambda o, x: o.model_product(x, x)), objective, start) / gradient
        print(f"784-{options.width}-{options.width}-10 {options.activation}, pair {pair}, tolerance {tolerance:.3e}")
        print(
            f"one gradient {gradient:.3f} s; one Hessian product, in single precision, {product:.2f} gradients",
            flush=True,
        )
        print("method    distance         loss  residual  gradients  products  passes  seconds", flush=True)
        limits = Limits(jnp.asarray(tolerance), radius, jnp.asarray(200))

        @eqx.filter_jit
        def eliminated(objective, surface, y, d):
            x, back = jax.vjp(lambda z: surface.retract(z, d), y)
            value, slope = objective.value_and_gradient(x)
            return value, back(slope)[0], jnp.linalg.norm(tangent(surface, x, slope).project(slope))

        def ours() -> None:
            track = embark(
                objective, surface, start, surface.start, jnp.asarray(np.log(distances[0] / distances[1])), "krylov"
            )
            total, plain = 0.0, 0
            for d in distances[1 : options.distances + 1]:
                began = time.perf_counter()
                full = jnp.asarray(np.log(distances[0] / distances[1]))
                track, leg = march(objective, surface, track, jnp.asarray(d), full, limits, "krylov")
                passes = int(leg.iterations) + 1 + product * int(leg.products)
                total += passes
                plain += int(leg.iterations) + 1 + 2 * int(leg.products)
                say("ours", d, leg.iterate, int(leg.iterations) + 1, int(leg.products), passes, began)
            print(
                f"ours: {total / options.distances:.1f} passes a distance by time; "
                f"{plain / options.distances:.1f} with two for each product",
                flush=True,
            )

        def lbfgs() -> None:
            y, total = start, 0
            for d in distances[1 : options.distances + 1]:
                began, count = time.perf_counter(), 0

                def counted(z, d=d):
                    nonlocal count, y
                    count += 1
                    value, slope, residual = eliminated(objective, surface, jnp.asarray(z), jnp.asarray(d))
                    y = jnp.asarray(z)
                    if float(residual) <= tolerance:
                        raise StopIteration  # as soon as our own condition holds, not theirs
                    return float(value), np.asarray(slope)

                options_there = {"gtol": 0, "ftol": 0, "maxcor": 30}
                with contextlib.suppress(StopIteration):
                    optimize.minimize(counted, np.asarray(y), jac=True, method="L-BFGS-B", options=options_there)
                y = surface.retract(y, jnp.asarray(d))
                total += count
                here = settle(
                    objective, surface, y, jnp.asarray(d), limits._replace(iterations=jnp.asarray(0)), "krylov"
                )
                say("L-BFGS", d, here, count, 0, float(count), began)
            print(f"L-BFGS: {total / options.distances:.1f} passes a distance", flush=True)

        def descent() -> None:
            began, d = time.perf_counter(), distances[1]
            short = limits._replace(iterations=jnp.asarray(options.descent_limit // 1000))
            found = settle(objective, surface, start, jnp.asarray(d), short, "descent")
            say("descent", d, found, int(found.iterations), 0, float(found.iterations), began)

        for name in options.methods.split(","):
            {"ours": ours, "lbfgs": lbfgs, "descent": descent}[name]()
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1048576:.2f} GiB")


def say(name: str, d: float, found, gradients: int, products: int, passes: float, began: float) -> None:
    """Print one distance's line."""
    print(
        f"{name:8} {d:9.3e} {float(found.value):12.6e} {float(found.residual):9.2e} {gradients:9d} {products:9d} "
        f"{passes:8.1f} {time.perf_counter() - began:8.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
