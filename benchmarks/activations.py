"""Whole paths under every activation: seconds of a second call, iterations, products, how each ended.

    python benchmarks/activations.py > benchmarks/results/activations.txt

Network: 50-16-16-10 on the used pixels of the digits, trained as in the demonstration; its most similar pair of hidden
layer 2 is merged over 40 distances (tied by default). `ratio` is the time relative to tanh's in the same run. Each row
is a process of its own, so that a limit of seconds can end it: what had been reached then is not shown.
"""

import argparse
import subprocess
import sys
import time

from machine import head

NAMES = ("tanh", "sigmoid", "erf", "softplus", "gelu", "silu", "relu", "leaky_relu")


def measure(name: str, steps: int, distance: str) -> str:
    """Follow one path twice in this process; return the row of the second."""
    import saddlescope as ss

    data = ss.data.digits_used()
    network = ss.MLP((50, 16, 16, 10), name)
    teacher = ss.train(ss.Problem(network, data, loss="cross_entropy"), adam_steps=600, max_newton=0).parameters
    rows = ss.data.teacher_data(network, teacher, data.inputs, labels=data.labels)
    problem = ss.Problem(network, rows, loss="normalised")
    for _ in range(2):
        began = time.perf_counter()
        path = ss.find_path(problem, teacher, layer=2, settings=ss.PathSettings(steps=steps, distance=distance))
        seconds = time.perf_counter() - began
    asked = path.kinds == "asked"
    return (
        f"{seconds:.1f} {path.evaluations['iterations']} {path.evaluations['hessian_products']} "
        f"{int(asked.sum())}/{steps} {int((asked & ~path.converged).sum())} {path.ending} {path.barrier:.4g}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--distance", default="tied")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds of one row, two calls and compiling")
    parser.add_argument("--names", default=",".join(NAMES))
    parser.add_argument("--only", default=None, help="measure one activation here, and print its row")
    options = parser.parse_args()
    if options.only:
        print(measure(options.only, options.steps, options.distance))
        return
    head("jax", "numpy")
    print("activation seconds ratio iterations products distances not_converged ending barrier", flush=True)
    first = None
    for name in options.names.split(","):
        command = [sys.executable, __file__, "--only", name, "--steps", str(options.steps)]
        try:
            row = subprocess.run(
                [*command, "--distance", options.distance],
                capture_output=True,
                text=True,
                check=True,
                timeout=options.limit,
            ).stdout.split()
        except subprocess.TimeoutExpired:
            print(f"{name} not done in {options.limit:.0f} s", flush=True)
            continue
        first = first or float(row[0])
        print(name, row[0], f"{float(row[0]) / first:.2f}", *row[1:], flush=True)


if __name__ == "__main__":
    main()
