"""An MNIST path as in [B19] Fig. 3: 784-10-10-10, 60 000 images, layer 2, 100 distances, all measured along it.

    SADDLESCOPE_DATA=FOLDER python benchmarks/mnist_path.py [--activation tanh] > benchmarks/results/mnist_path.txt

The teacher is trained by 300 full-batch Adam steps on labels; the student regresses on its outputs before the softmax.
"""

import argparse
import resource
import sys
import time

from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.problem.data import teacher_data
from saddlescope.problem.networks import Perceptron
from saddlescope.problem.problem import Problem
from saddlescope.problem.sources import mnist
from saddlescope.training.train import train


def main() -> None:
    """Run one path and print its table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--activation", default="tanh")
    parser.add_argument("--width", type=int, default=10)
    parser.add_argument("--distance", default="tied")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--tolerance", type=float, default=None)
    options = parser.parse_args()
    data = mnist("train")
    network = Perceptron((784, options.width, options.width, 10), options.activation)
    teacher = train(Problem(network, data, loss="cross_entropy"), adam_steps=300, max_newton=0)
    rows = teacher_data(network, teacher.parameters, data.inputs, labels=data.labels)
    student = Problem(network, rows, loss="normalised")
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
    print(
        f"{time.perf_counter() - began:.1f} s, peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB"
    )
    print("distance loss accuracy tangential_gradient full_gradient converged")
    assert path.accuracies is not None
    for k in range(len(path.losses)):
        print(
            f"{path.distances[k]:.6e} {path.losses[k]:.8e} {path.accuracies[k]:.6f} {path.gradient_norms[k]:.3e} "
            f"{path.full_gradient_norms[k]:.3e} {bool(path.converged[k])}"
        )


if __name__ == "__main__":
    main()
