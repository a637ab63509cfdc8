"""An MNIST path as in [B19] Fig. 3: 784-H-H-10, 60 000 images, layer 2, 100 distances, all measured along it.

    SADDLESCOPE_DATA=FOLDER python benchmarks/mnist_path.py --width 25 > benchmarks/results/mnist_path.txt

The teacher is trained by 300 full-batch Adam steps on labels; the student regresses on its outputs before the softmax.
"""

import argparse
import resource
import sys
import time

from machine import head

from saddlescope.data.data import teacher_data
from saddlescope.data.sources import mnist
from saddlescope.models.mlp import MLP
from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.problem.problem import Problem
from saddlescope.training.train import train


def task(width: int, activation: str) -> tuple[Problem, dict]:
    """Return the student's problem and the teacher's parameters; the images themselves are kept in the problem only."""
    data = mnist("train")
    network = MLP((784, width, width, 10), activation)
    teacher = train(Problem(network, data, loss="cross_entropy"), adam_steps=300, max_newton=0).parameters
    rows = teacher_data(network, teacher, data.inputs, labels=data.labels)
    return Problem(network, rows, loss="normalised"), teacher


def main() -> None:
    """Run one path and print its table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--activation", default="tanh")
    parser.add_argument("--width", type=int, default=10)
    parser.add_argument("--distance", default="tied")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--tolerance", type=float, default=None)
    options = parser.parse_args()
    head("jax", "numpy")
    student, teacher = task(options.width, options.activation)
    began = time.perf_counter()
    settings = PathSettings(distance=options.distance, steps=options.steps, tolerance=options.tolerance)
    path = find_path(
        student,
        teacher,
        layer=2,
        settings=settings,
        progress=lambda done, total, text: print(done, total, text, file=sys.stderr),
    )
    print(f"{options.activation} {path.pair} {path.ending} loss {path.loss_at_point} barrier {path.barrier}")
    print(f"continuous {path.continuous} events {[event.kind.value for event in path.events]} {path.evaluations}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1048576
    print(f"{time.perf_counter() - began:.1f} s, peak {peak:.2f} GiB with the teacher's training")
    tangential, full = (column[path.kinds == "asked"] for column in (path.gradient_norms, path.full_gradient_norms))
    print(f"tolerance {path.tolerance:.3e}; worst residual {tangential.max():.3e}, largest gradient {full.max():.3e}")
    print("distance loss accuracy tangential_gradient full_gradient converged")
    assert path.accuracies is not None
    for k in range(len(path.losses)):
        print(
            f"{path.distances[k]:.6e} {path.losses[k]:.8e} {path.accuracies[k]:.6f} {path.gradient_norms[k]:.3e} "
            f"{path.full_gradient_norms[k]:.3e} {bool(path.converged[k])}"
        )


if __name__ == "__main__":
    main()
