"""The toy of [B19] Fig. 1: ten pairs, three activations, three distances; continuation against gradient flow.

    python benchmarks/toy_paths.py > benchmarks/results/toy_paths.txt
    python benchmarks/toy_paths.py --flow --steps 40 --distances tied --activations tanh --pairs 01,13,23,34 > ...

Prints one line a path: end state, largest tangential gradient norm at the asked distances, whether the path is
continuous, loss at the permutation point, events, seconds. With --flow also the end of the gradient flow and the
relative difference of the two losses.
"""

import argparse
import itertools
import sys

import numpy as np

from saddlescope.data.sources import toy, toy_teacher
from saddlescope.paths.find import find_path
from saddlescope.paths.result import Path, PathSettings
from saddlescope.problem.problem import Problem


def line(path: Path) -> str:
    """Return what the table says of one path."""
    asked = path.kinds == "asked"
    kinds = [event.kind.value for event in path.events]
    counts = ",".join(f"{kind}:{kinds.count(kind)}" for kind in sorted(set(kinds))) or "-"
    loss = "-" if path.loss_at_point is None else f"{path.loss_at_point:.10e}"
    return (
        f"{path.ending.value:18} {loss:>17} barrier {path.barrier:.3e} "
        f"residual {np.max(path.gradient_norms[asked]):.1e} "
        f"missed {int((asked & ~path.converged).sum()):3d} continuous {'yes' if path.continuous else 'no ':3} "
        f"{path.seconds:5.1f} s {counts}"
    )


def main() -> None:
    """Run the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--flow", action="store_true")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--activations", default="tanh,softplus,relu")
    parser.add_argument("--distances", default="tied,joint,incoming")
    parser.add_argument("--pairs", default="01,02,03,04,12,13,14,23,24,34")
    parser.add_argument("--flow-tolerance", type=float, default=1e-8)
    options = parser.parse_args()
    for activation, distance in itertools.product(options.activations.split(","), options.distances.split(",")):
        network, teacher = toy_teacher(activation, 0)
        problem = Problem(network, toy(activation, 0))
        for pair in ((int(word[0]), int(word[1])) for word in options.pairs.split(",")):
            settings = PathSettings(distance=distance, steps=options.steps)
            path = find_path(problem, teacher, layer=1, pair=pair, settings=settings)
            print(activation, distance, pair, line(path))
            if options.flow:
                settings = PathSettings(
                    distance=distance, steps=options.steps, solver="flow", tolerance=options.flow_tolerance
                )
                flow = find_path(problem, teacher, layer=1, pair=pair, settings=settings)
                both = path.loss_at_point is not None and flow.loss_at_point is not None
                gap = "-" if not both else f"{abs(path.loss_at_point - flow.loss_at_point) / flow.loss_at_point:.1e}"
                print(activation, distance, pair, "flow", line(flow), "relative difference", gap)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
