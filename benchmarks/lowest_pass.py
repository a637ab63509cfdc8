"""How often a cheap ranking of pairs misses the lowest permutation point of a layer, where the exact one is known.

    python benchmarks/lowest_pass.py [--widths 2,5,1] [--activation tanh] [--seeds 0:6] [--steps 60]

Every pair's path is followed. A ranking misses with k pairs followed when none of its first k pairs has a permutation
point as low as the lowest of all (within a share of 1e-6). Rankings: `lowest_point`'s own (the best 4 k by estimate,
settled, the lowest k of these); by `estimate_merges` alone; by the settled loss alone; by the distance of the incoming
vectors; by the loss right after plain merging. Teachers: standard-normal weights and inputs, 1000 samples, mean squared
error: zero loss.
"""

import argparse
import sys
import time

import numpy as np

from saddlescope.data.data import teacher_data
from saddlescope.models.mlp import MLP
from saddlescope.paths.result import PathSettings
from saddlescope.problem.problem import Problem
from saddlescope.resize.merges import estimate_merges
from saddlescope.units.actions import merge
from saddlescope.units.gauge import distance
from saddlescope.workflows.lowest import SETTLED, LowestPass, _settled_losses, lowest_point

FOLLOWED = (1, 2, 3, 5)


def teacher(widths: tuple[int, ...], activation: str, seed: int) -> tuple[MLP, dict, Problem, Problem]:
    """Return network, weights, its problem, and the problem of the network with one neuron less in layer 1."""
    network = MLP(widths, activation)
    generator = np.random.default_rng(seed)
    layout = network.layout
    parameters = {n: generator.normal(size=s) for n, s in zip(layout.names, layout.shapes, strict=True)}
    data = teacher_data(network, parameters, generator.normal(size=(1000, widths[0])))
    small = MLP((widths[0], widths[1] - 1, *widths[2:]), activation)
    return network, parameters, Problem(network, data), Problem(small, data)


def rankings(found: LowestPass, network: MLP, parameters: dict, problem: Problem, small: Problem) -> dict:
    """Return, by ranking, the first k pairs as a function of k."""
    neurons, homogeneous = network.neurons(1), network.homogeneous(1)
    pairs = [row.pair for row in found.rows]
    began = time.perf_counter()
    settled = _settled_losses(problem, parameters, estimate_merges(problem, parameters, layer=1))
    seconds = time.perf_counter() - began
    print(f"  settling every pair: {seconds:.1f} s, following every path: {found.seconds:.1f} s (compilation included)")

    def low(pair: tuple[int, int]) -> float:
        return float(f"{settled[pair]:.6g}")

    def distant(pair: tuple[int, int]) -> float:
        return distance(parameters, neurons, *pair, homogeneous=homogeneous)

    def merged(pair: tuple[int, int]) -> float:
        return small.loss_of(merge(parameters, neurons, *pair))

    return {
        "lowest_point": lambda k: sorted(pairs[: SETTLED * k], key=low)[:k],
        "estimate": lambda k: pairs[:k],
        "settled": lambda k: sorted(pairs, key=low)[:k],
        "distance": lambda k: sorted(pairs, key=distant)[:k],
        "merged": lambda k: sorted(pairs, key=merged)[:k],
    }


def main() -> None:
    """Run the table and count the misses."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--widths", default="2,5,1")
    parser.add_argument("--activation", default="tanh")
    parser.add_argument("--seeds", default="0:6")
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    widths = tuple(int(width) for width in options.widths.split(","))
    first, last = (int(seed) for seed in options.seeds.split(":"))
    misses: dict[str, np.ndarray] = {}
    counted = 0
    for seed in range(first, last):
        network, parameters, problem, small = teacher(widths, options.activation, seed)
        found = lowest_point(problem, parameters, layer=1, follow=10**6, settings=PathSettings(steps=options.steps))
        assert found.exact
        endings = [row.ending.value for row in found.rows if row.ending is not None]
        ends = ", ".join(f"{endings.count(kind)} {kind}" for kind in sorted(set(endings)))
        lowest = "none" if found.loss is None else f"{found.loss:.6e} of pair {found.pair}"
        print(f"{options.widths} {options.activation} seed {seed}: lowest {lowest}; {ends}")
        if found.loss is None:
            continue
        counted += 1
        points = {row.pair: np.inf if row.loss_at_point is None else row.loss_at_point for row in found.rows}
        for name, first_pairs in rankings(found, network, parameters, problem, small).items():
            low = [min(points[pair] for pair in first_pairs(k)) > found.loss * (1 + 1e-6) for k in FOLLOWED]
            misses[name] = misses.get(name, np.zeros(len(FOLLOWED), int)) + np.array(low)
        sys.stdout.flush()
    for name, count in misses.items():
        table = ", ".join(f"{k} followed: {missed}/{counted}" for k, missed in zip(FOLLOWED, count, strict=True))
        print(f"{options.widths} {options.activation} misses by {name:12} {table}")


if __name__ == "__main__":
    main()
