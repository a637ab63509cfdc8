"""shrink against pruning by magnitude and averaging the closest pair, at equal widths and equal fine-tuning.

    python benchmarks/shrink.py [--data digits|mnist] [--target data|network] [--activation tanh] [--seeds 0:3]
    python benchmarks/shrink.py --how

Teachers are trained on labels (cross entropy, weight decay 1e-4, Adam). "data" shrinks on that loss, "network" on the
squared error to the teacher's own outputs. Rows: ours; `prune`: the neurons of smallest |incoming| |outgoing| removed,
all at once; `average`: the closest pair merged (incoming averaged, outgoing added), again and again. Each before and
after the same fine-tuning: --steps full-batch Adam steps, learning rate --rate falling to 0. Ours spends gradients
between the merges, the others do not: column `extra` counts them (gradient evaluations + 2 a Hessian product, losses
not counted), and the rows with `=budget` give the two baselines Adam steps for all of them on top of the fine-tuning.

--how compares, for the best pairs by estimate, the ways to settle a merge: fitted start, plain start, a tied path.
"""

import argparse
import sys
import time

import numpy as np

from saddlescope.data.data import Data, teacher_data
from saddlescope.data.sources import digits, mnist
from saddlescope.models.mlp import MLP
from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem
from saddlescope.resize.merges import apply_merge, estimate_merges, pack
from saddlescope.training.train import train
from saddlescope.units.actions import merge, remove
from saddlescope.units.gauge import most_similar_pair
from saddlescope.workflows.shrink import ShrinkSettings, _Solver, shrink

DECAY = 1e-4


def split(name: str, seed: int, rows: int) -> tuple[Data, Data]:
    """Return training and test data."""
    if name == "mnist":
        test = mnist("test")
        whole = mnist("train")
        order = np.random.default_rng(seed).permutation(len(whole.inputs))[:rows]
        return Data(whole.inputs[order], labels=whole.labels[order]), test
    whole = digits()
    order = np.random.default_rng(seed).permutation(len(whole.inputs))
    first, rest = order[:1200], order[1200:]
    return Data(whole.inputs[first], labels=whole.labels[first]), Data(whole.inputs[rest], labels=whole.labels[rest])


class Task:
    """A trained teacher, and the problem on which networks of any width are judged."""

    def __init__(self, options: argparse.Namespace, seed: int) -> None:
        self.options = options
        train_data, test_data = split(options.data, seed, options.rows)
        widths = (train_data.inputs.shape[1], options.width, 10)
        self.network = MLP(widths, options.activation)
        labels = Problem(self.network, train_data, loss="cross_entropy", weight_decay=DECAY)
        self.teacher = train(labels, seed=seed, adam_steps=options.train_steps, max_newton=0).parameters
        self.loss, self.decay = "cross_entropy", DECAY
        self.train, self.test = train_data, test_data
        if options.target == "network":
            self.loss, self.decay = "normalised", 0.0
            self.train, self.test = (
                teacher_data(self.network, self.teacher, data.inputs, labels=data.labels)
                for data in (train_data, test_data)
            )

    def problem(self, width: int, data: Data) -> Problem:
        widths = (self.network.widths[0], width, 10)
        return Problem(MLP(widths, self.network.activation), data, loss=self.loss, weight_decay=self.decay)

    def tuned(self, parameters: dict, steps: int) -> dict:
        width = len(parameters["0.weight"])
        problem = self.problem(width, self.train)
        rate = self.options.rate
        return train(problem, initial=parameters, adam_steps=steps, learning_rate=rate, max_newton=0).parameters

    def line(self, parameters: dict) -> str:
        """Return loss and accuracy on training and test data."""
        width = len(parameters["0.weight"])
        both = [self.problem(width, data) for data in (self.train, self.test)]
        return " ".join(f"{p.loss_of(parameters):9.5f} {p.accuracy(parameters):.4f}" for p in both)


def prune(network: MLP, parameters: dict, width: int) -> dict:
    """Remove the neurons of smallest |incoming| |outgoing|."""
    neurons = network.neurons(1)
    while neurons.count(parameters) > width:
        norms = [
            np.linalg.norm(v, axis=1)
            for v in (neurons.incoming_vectors(parameters), neurons.outgoing_vectors(parameters))
        ]
        parameters = remove(parameters, neurons, int(np.argmin(norms[0] * norms[1])))
    return parameters


def average(network: MLP, parameters: dict, width: int) -> dict:
    """Merge the pair of closest incoming vectors again and again."""
    neurons = network.neurons(1)
    while neurons.count(parameters) > width:
        pair = most_similar_pair(parameters, neurons, homogeneous=network.homogeneous(1))
        parameters = merge(parameters, neurons, *pair)
    return parameters


def compare(options: argparse.Namespace, seed: int) -> None:
    """Print the table of one seed."""
    task = Task(options, seed)
    name = f"{options.data} {options.target} {options.activation} seed {seed}"
    head = (
        "width  method            extra  train: loss, accuracy  test: loss, accuracy | after the fine-tuning | seconds"
    )
    print(f"{name}; teacher {task.line(task.teacher)}\n{head}")
    settings = ShrinkSettings(
        candidates=options.candidates,
        screen=options.screen,
        max_iterations=options.iterations,
        finish=options.finish,
    )
    ours, extra, seconds = task.teacher, 0, 0.0
    for width in (int(word) for word in options.widths.split(",")):
        problem = task.problem(len(ours["0.weight"]), task.train)
        found = shrink(problem, ours, widths={1: width}, settings=settings)
        ours, seconds = found.parameters, seconds + found.seconds
        extra += found.evaluations["gradients"] + 2 * found.evaluations["hessian_products"]
        rows = [("ours", ours, 0)]
        rows += [(f"{f.__name__}", f(task.network, task.teacher, width), 0) for f in (prune, average)]
        if options.budget:
            rows += [(f"{label} =budget", start, extra) for label, start, _ in rows[1:]]
        for label, start, more in rows:
            spent = extra if label == "ours" else more
            began = time.perf_counter()
            after = task.line(task.tuned(start, options.steps + more))
            took = time.perf_counter() - began + (seconds if label == "ours" else 0.0)
            print(f"{width:5}  {label:15} {spent:7}  {task.line(start)} | {after} | {took:6.1f}")
            sys.stdout.flush()


def how(options: argparse.Namespace) -> None:
    """Settle the best pairs of a digits student in several ways."""
    options.target, options.width = "network", 16
    task = Task(options, 0)
    problem = task.problem(16, task.train)
    print("pair: way, loss, gradient norm, seconds (second call: no compilation)")
    with float64():
        packed = pack(problem, task.teacher, (1,))
        solver = _Solver.of(packed)
        for found in estimate_merges(problem, task.teacher, layer=1)[:4]:
            for start in apply_merge(packed, found, both=True):
                for iterations in (10, 50):
                    for _ in range(2):
                        began = time.perf_counter()
                        end = solver.settle(start.x, 1e-9, iterations, found)
                        took = time.perf_counter() - began
                    words = f"{start.kind} start {start.value:.6f}, {iterations} iterations"
                    print(f"{found.pair}: {words}: {float(end.value):.6f} {float(end.residual):.1e} {took:.2f} s")
            for steps in (3, 5, 10):
                for _ in range(2):
                    path = find_path(
                        problem,
                        task.teacher,
                        layer=1,
                        pair=found.pair,
                        settings=PathSettings(steps=steps, reach=1e-2, max_iterations=50),
                    )
                point = path.permutation_point
                end = path.ending.value if point is None else f"{point.loss:.6f} {point.reduced_gradient_norm:.1e}"
                print(f"{found.pair}: tied path, {steps} distances: {end} {path.seconds:.2f} s")
            sys.stdout.flush()


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="digits", choices=("digits", "mnist"))
    parser.add_argument("--target", default="data", choices=("data", "network"))
    parser.add_argument("--activation", default="tanh")
    parser.add_argument("--seeds", default="0:3")
    parser.add_argument("--width", type=int, default=30)
    parser.add_argument("--widths", default="25,20,15,10")
    parser.add_argument("--rows", type=int, default=10000)
    parser.add_argument("--train-steps", type=int, default=600)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rate", type=float, default=1e-2)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--screen", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--finish", type=int, default=50)
    parser.add_argument("--budget", action="store_true")
    parser.add_argument("--how", action="store_true")
    options = parser.parse_args()
    if options.how:
        how(options)
        return
    first, last = (int(word) for word in options.seeds.split(":"))
    for seed in range(first, last):
        compare(options, seed)


if __name__ == "__main__":
    main()
