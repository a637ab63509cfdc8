"""All ten pairs of the toy, three ways: one after another, in threads, in lockstep as lanes of one program.

    python benchmarks/pairs.py > benchmarks/results/pairs.txt

2-5-1 tanh, 1000 samples, 200 distances, tangential gradient <= 1e-10, everything compiled before. The wish: ten pairs
no slower than three alone. The lockstep way marches from distance to distance only (`march` under vmap): it has neither
the bridges at folds nor the merged points that the other two have, so that its time is a lower bound.
"""

import argparse
import itertools
import os
import platform
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from saddlescope.numerics.continuation import Limits, embark, march
from saddlescope.paths.constraint import PairObjective, PairSurface
from saddlescope.paths.find import find_path
from saddlescope.paths.follow import distances_between
from saddlescope.paths.result import PathSettings
from saddlescope.paths.together import find_paths
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem
from saddlescope.problem.sources import toy, toy_teacher
from saddlescope.symmetry.coordinates import PairCoordinates

PAIRS = list(itertools.combinations(range(5), 2))
NETWORK, TEACHER = toy_teacher("tanh", 0)
PROBLEM = Problem(NETWORK, toy("tanh", 0))


def _lane(problem, coordinates, surface, track, target, full, limits):
    return march(PairObjective(problem, coordinates), surface, track, target, full, limits, "newton")


def _stack(parts: list):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)


@in_float64
def lockstep(steps: int, seconds: float) -> tuple[int, float, np.ndarray, int]:
    """Return legs done, their time, the lanes' own iterations, and the iterations that lockstep makes of them."""
    theta = NETWORK.layout.flatten(TEACHER)
    turns = [PairCoordinates.of(NETWORK.neurons(1), NETWORK.layout, pair) for pair in PAIRS]
    xs = [turn.rotate(theta) for turn in turns]
    surfaces = [PairSurface.of(t, x, "tied", unit_incoming=False) for t, x in zip(turns, xs, strict=True)]
    distances = np.stack([distances_between(float(surface.start), 1e-4, steps) for surface in surfaces])
    full = jnp.asarray(np.log(distances[0, 0] / distances[0, 1]))
    radius = jnp.asarray(0.05 * float(jnp.linalg.norm(theta)))
    limits = _stack([Limits(jnp.asarray(1e-10), radius, jnp.asarray(PathSettings().max_iterations)) for _ in PAIRS])
    tracks = _stack(
        [
            embark(PairObjective(PROBLEM, turn), surface, x, surface.start, full, "newton")
            for turn, surface, x in zip(turns, surfaces, xs, strict=True)
        ]
    )
    coordinates, stacked = _stack(turns), _stack(surfaces)
    marches = eqx.filter_jit(eqx.filter_vmap(_lane, in_axes=(None, 0, 0, 0, 0, None, 0)))
    jax.block_until_ready(marches(PROBLEM, coordinates, stacked, tracks, jnp.asarray(distances[:, 1]), full, limits))
    own, together, began = np.zeros(len(PAIRS), int), 0, time.perf_counter()
    for k in range(1, steps):
        tracks, legs = marches(PROBLEM, coordinates, stacked, tracks, jnp.asarray(distances[:, k]), full, limits)
        spent = np.asarray(legs.iterations)
        own, together = own + spent, together + int(spent.max())
        if time.perf_counter() - began > seconds:
            break
    return k, time.perf_counter() - began, own, together


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120.0)
    options = parser.parse_args()
    settings = PathSettings(steps=options.steps)
    began = time.perf_counter()
    find_path(PROBLEM, TEACHER, layer=1, pair=(3, 4), settings=settings)
    print(f"# {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, jax {jax.__version__}")
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
    legs, took, own, together = lockstep(options.steps, options.seconds)
    print(f"lockstep: {legs} of {options.steps - 1} legs in {took:.1f} s; {together} iterations of all lanes at once")
    print(f"   the lanes' own iterations: {own.tolist()}, mean {own.mean():.0f}")


if __name__ == "__main__":
    main()
