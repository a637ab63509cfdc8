"""All ten pairs of the toy, three ways: one after another, in threads, and as lanes of one program.

    python benchmarks/pairs.py > benchmarks/results/pairs.txt

2-5-1 tanh, 1000 samples, 200 distances, tangential gradient <= 1e-10, everything compiled before. The wish: ten pairs
no slower than three alone. In lockstep pairs also wait for each other (they need 400 to 8000 iterations): here every
lane runs all the time, so that what is printed is the best that one program could do.
"""

import argparse
import itertools
import os
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from machine import head

from saddlescope.data.sources import toy, toy_teacher
from saddlescope.numerics.continuation import Tolerances, solve
from saddlescope.paths.batch import find_paths
from saddlescope.paths.constraint import PairObjective, PairSurface
from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem
from saddlescope.units.coordinates import PairCoordinates

PAIRS = list(itertools.combinations(range(5), 2))
NETWORK, TEACHER = toy_teacher("tanh", 0)
PROBLEM = Problem(NETWORK, toy("tanh", 0))


def _lane(problem, coordinates, surface, x, limits):
    found = solve(PairObjective(problem, coordinates), surface, x, 0.8 * surface.start, limits, "newton")
    return found.x, found.iterations


def _stack(parts: list):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)


def _least(function, *arguments) -> tuple[float, int]:
    """Return the least seconds of seven calls after one that compiles, and the iterations of the last."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(7):
        began = time.perf_counter()
        _, iterations = jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - began)
    return min(times), int(jnp.max(iterations))


@in_float64
def lanes(iterations: int = 30) -> None:
    """Print what an iteration costs alone and as one lane of several, all running all the time."""
    theta = NETWORK.layout.flatten(TEACHER)
    turns = [PairCoordinates.of(NETWORK.neurons(1), NETWORK.layout, pair) for pair in PAIRS]
    xs = [turn.rotate(theta) for turn in turns]
    surfaces = [PairSurface.of(t, x, "tied", unit_incoming=False) for t, x in zip(turns, xs, strict=True)]
    radius = jnp.asarray(0.05 * float(jnp.linalg.norm(theta)))
    limits = Tolerances(jnp.asarray(-1.0), radius, jnp.asarray(iterations))  # a tolerance that is never met
    single = eqx.filter_jit(_lane)
    alone = [_least(single, PROBLEM, *one, limits) for one in zip(turns, surfaces, xs, strict=True)]
    each = sum(seconds for seconds, _ in alone) / sum(count for _, count in alone)
    print(f"lockstep, every lane running all the time: alone {1e3 * each:.3f} ms an iteration")
    several = eqx.filter_jit(eqx.filter_vmap(_lane, in_axes=(None, 0, 0, 0, None)))
    for count in (2, 5, 10):
        seconds, spent = _least(
            several, PROBLEM, _stack(turns[:count]), _stack(surfaces[:count]), _stack(xs[:count]), limits
        )
        lane = seconds / spent / count
        print(f"   {count:2d} lanes: {1e3 * lane:.3f} ms an iteration and lane, {each / lane:.2f} of the speed alone")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    settings = PathSettings(steps=options.steps)
    head("jax", "numpy")
    began = time.perf_counter()
    find_path(PROBLEM, TEACHER, layer=1, pair=(3, 4), settings=settings)
    print(f"# the first path, compilation and all: {time.perf_counter() - began:.1f} s")
    alone = [find_path(PROBLEM, TEACHER, layer=1, pair=pair, settings=settings) for pair in PAIRS]
    seconds = np.array([path.seconds for path in alone])
    for path in alone:
        print(f"{path.pair} {path.seconds:6.2f} s {path.evaluations['iterations']:6d} iterations {path.ending}")
    triples = [float(seconds[list(three)].sum()) for three in itertools.combinations(range(len(PAIRS)), 3)]
    print(f"one after another: {seconds.sum():.1f} s")
    print(
        f"three alone: {np.median(triples):.1f} s in the median of 120 choices, "
        f"{min(triples):.1f} to {max(triples):.1f}"
    )
    began = time.perf_counter()
    beside = find_paths(PROBLEM, TEACHER, layer=1, settings=settings)
    took = time.perf_counter() - began
    same = sum(np.array_equal(one.losses, other.losses) for one, other in zip(alone, beside, strict=True))
    ratio = took / np.median(triples)
    print(f"threads (find_paths): {took:.1f} s, {ratio:.2f} of three alone; {same} of {len(PAIRS)} the same to the bit")
    ideal = seconds.sum() / (os.cpu_count() or 1) / np.median(triples)
    print(f"   perfect threads on {os.cpu_count()} cores would need {ideal:.2f} of three alone")
    lanes()


if __name__ == "__main__":
    main()
