"""Certificates of random critical points with known answers; and what they cost as networks grow.

    python benchmarks/certificates.py [--cases 70] [--disturbed 32] [--growth] > benchmarks/results/certificates.txt

Each case is a critical point made in extended precision (tests/references/critical_networks.py): a small network whose
targets are its outputs minus a residual orthogonal to the Jacobian's columns, some units copied with random shares. The
known answer is the count of signs of the dense Hessian, computed by hand-written dual numbers in long double without
JAX; where its eigenvalues leave no clear gap around zero, the truth is unclear and the case only counts as such. A
case is wrong if the certificate names another index or nullity, or another verdict than they allow.

--disturbed: each point is first moved by 1e-3 to 1e-9 of its parameters' natural size. A certificate then belongs to
the critical point that it names; the truth is the count of signs there, and the gradient must be rounding.

--growth: seconds and peak memory of what one pair of copies adds, by closed form and by the exchange's Hessian
products, and of the whole dense Hessian's eigenvalues; each with its float32 run where it has one, each in its own
process, with compilation and again without. The largest network is 784-25-10 on MNIST (needs SADDLESCOPE_DATA).
"""

import argparse
import collections
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "references"))
from critical_networks import Critical, copied, critical, gradient_and_hessian, moved, problem_of, signs

from saddlescope.arrays import Layout
from saddlescope.critical.certify import certify
from saddlescope.critical.decomposition import coupling_of, scene_of
from saddlescope.critical.groups import CLOSE, Embedding
from saddlescope.critical.reduced import Reduced, reduced_hessian
from saddlescope.critical.result import Certificate, Group
from saddlescope.data.data import Data
from saddlescope.models.mlp import MLP
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem
from saddlescope.units.actions import split

# Small network, activation, bias, units added to each hidden layer. One compilation a row.
ROWS = [
    ((2, 3, 1), "tanh", True, {1: 2}),
    ((3, 2, 1), "relu", True, {1: 2}),
    ((2, 3, 1), "sine", False, {1: 3}),
    ((2, 2, 3, 1), "softplus", True, {1: 1, 2: 1}),
    ((2, 3, 2), "sigmoid", True, {1: 2}),
    ((3, 3, 2), "tanh", False, {1: 3}),
    ((2, 3, 2, 2), "leaky_relu", True, {1: 1, 2: 2}),
    ((2, 2, 2, 2, 2), "softplus", True, {1: 1, 2: 1, 3: 1}),
    ((2, 3, 3, 3), "tanh", True, {1: 2, 2: 1}),
    ((3, 3, 3), "relu", True, {1: 2}),
    ((2, 2, 3, 3), "sine", True, {2: 2}),
    ((2, 3, 2, 3), "sigmoid", False, {1: 1, 2: 1}),
    ((3, 3, 4), "softplus", True, {1: 3}),
    ((2, 4, 4), "leaky_relu", True, {1: 2}),
    ((2, 2, 2, 2, 4), "tanh", True, {1: 1, 3: 2}),
    ((3, 3, 2, 4), "relu", True, {1: 1, 2: 1}),
]


def shares_of(generator: np.random.Generator, copies: int) -> tuple[float, ...]:
    """Return random shares that sum to 1: inside [0, 1], beyond it, with an exact 0, or of very different sizes."""
    kind = generator.integers(4)
    if kind == 0:
        first = generator.dirichlet(np.ones(copies))[:-1]
    elif kind == 1:
        first = generator.normal(size=copies - 1) * 2
    elif kind == 2:
        first = np.where(generator.random(copies - 1) < 0.5, 0.0, generator.normal(size=copies - 1))
    else:
        first = generator.choice([-1, 1], copies - 1) * 10.0 ** generator.uniform(-4, 1.5, copies - 1)
    return (*(float(share) for share in first), float(1 - np.sum(first)))


def random_case(row: tuple, seed: int) -> Critical:
    """Return a random critical point of one row of the table."""
    small, activation, bias, more = row
    generator = np.random.default_rng(seed)
    point = critical(
        small,
        activation,
        seed=seed,
        samples=80,
        bias=bias,
        residual=0.0 if generator.random() < 0.08 else 10.0 ** generator.uniform(-3, 0.7),
        input_scale=10.0 ** generator.uniform(-2, 2) if generator.random() < 0.4 else 1.0,
        output_scale=10.0 ** generator.uniform(-4, 3) if generator.random() < 0.4 else 1.0,
    )
    if generator.random() < 0.12:
        return point
    for layer, added in more.items():
        if added > 1 and generator.random() < 0.4 and small[layer] > 1:
            first, second = generator.choice(small[layer], 2, replace=False)
            point = copied(point, layer, int(first), shares_of(generator, added))
            point = copied(point, layer, int(second), shares_of(generator, 2))
        else:
            point = copied(point, layer, int(generator.integers(small[layer])), shares_of(generator, added + 1))
    return point


def disturbed(point: Critical, seed: int) -> tuple[Critical, int]:
    """Return the point moved by 10^-k of its parameters' natural size, and k from 3 to 9."""
    generator = np.random.default_rng(seed)
    exponent = int(generator.integers(3, 10))
    size = np.concatenate([np.full(value.size, point.units.get(name, 1.0)) for name, value in point.parameters.items()])
    return moved(point, 10.0**-exponent * size * generator.normal(size=len(size))), exponent


def outcome_beside(point: Critical, found: Certificate) -> str:
    """Return the outcome of a certificate that names a critical point of its own."""
    if found.verdict.value == "not-critical":
        return "wrong" if found.index is not None or found.nullity is not None else "not critical"
    there = replace(point, parameters=found.point)
    if found.index is not None or found.nullity is not None:
        gradient, hessian = (part.astype(float) for part in gradient_and_hessian(there))
        theta = np.concatenate([np.abs(value).ravel() for value in found.point.values()])
        size = np.concatenate([np.full(v.size, point.units.get(name, 1.0)) for name, v in found.point.items()])
        rounding = 4 * np.finfo(float).eps * np.linalg.norm(size * (np.abs(hessian) @ theta))  # of the parameters
        if np.linalg.norm(size * gradient) > rounding:
            return "wrong"
    return outcome(found, signs(there, level=True))


def outcome(found: Certificate, truth: tuple[int, int] | None) -> str:
    """Return "right", "undecided", "unclear" or "wrong"."""
    if truth is None:
        return "unclear"
    kind = found.verdict.value
    fits = {
        "saddle": truth[0] > 0,
        "strict-minimum": truth == (0, 0),
        "minimum-with-flat-directions": truth[0] == 0 and truth[1] > 0,
        "undecided": True,
    }
    ranges = ((found.index_range, truth[0]), (found.nullity_range, truth[1]))
    if not fits.get(kind, False) or not all(low <= value <= high for (low, high), value in ranges):
        return "wrong"
    return "undecided" if found.index is None or found.nullity is None or kind == "undecided" else "right"


WORDS = ("right", "undecided", "wrong", "unclear", "not critical")


def run_cases(cases: int, *, beside: bool = False) -> None:
    """Print the table of outcomes, and every case that is wrong; ``beside``: of disturbed points."""
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    kinds: collections.Counter = collections.Counter()
    began = time.perf_counter()
    for number, row in enumerate(ROWS):
        for k in range(cases):
            point = random_case(row, 1000 * number + k)
            names = groups_of(point)
            if beside:
                point, exponent = disturbed(point, 7 * k + number)
                names = ["all", f"moved by 1e-{exponent}", f"outputs {point.widths[-1]}", *names[2:4]]
            found = certify(problem_of(point), point.parameters)
            word = outcome_beside(point, found) if beside else outcome(found, signs(point))
            if word == "wrong":
                print(
                    "WRONG", row, 1000 * number + k, point.copies, signs(point), found.index_range, found.nullity_range
                )
                print("     ", found.verdict, found.reasons, found.methods)
            if not beside:
                names.append("loss zero" if found.loss < 1e-25 else "loss nonzero")
            for name in names:
                counts[name][word] += 1
            kinds[found.verdict.value] += 1
        print(f"row {number + 1} of {len(ROWS)}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    print(f"{'':24}{'cases':>7}" + "".join(f"{word:>14}" for word in WORDS))
    for name in sorted(counts):
        total = sum(counts[name].values())
        print(f"{name:24}{total:7d}" + "".join(f"{counts[name][word]:14d}" for word in WORDS))
    print("verdicts:", ", ".join(f"{name} {count}" for name, count in sorted(kinds.items())))
    print(f"{time.perf_counter() - began:.0f} s in one process, compilation included")


def groups_of(point: Critical) -> list[str]:
    """Return the rows of the table that a case counts in."""
    most = max((len(shares) for _, _, shares in point.copies), default=1)
    return [
        "all",
        f"outputs {point.widths[-1]}",
        f"hidden layers {len(point.widths) - 2}",
        f"activation {point.activation}",
        f"copies at most {most}",
        f"bias {'yes' if point.bias else 'no'}",
        f"groups {len(point.copies)} in {len({layer for layer, _, _ in point.copies})} layers",
        "a share of 0" if any(0.0 in shares for _, _, shares in point.copies) else "no share of 0",
    ]


# What it costs. Each measurement runs in its own process: peak memory is the process's own.

SIZES = [(5, 4, 2), (10, 10, 5), (20, 20, 10), (50, 40, 10), (100, 50, 10)]
DENSE_UP_TO = 5000


def large(widths: tuple[int, ...], *, digits: bool) -> tuple[Problem, dict[str, np.ndarray]]:
    """Return a network whose first hidden unit is copied, and random data or MNIST's; not critical, for timing only."""
    if digits:
        from saddlescope.data.sources import mnist

        rows = mnist("train")
        inputs, samples = rows.inputs, len(rows.inputs)
    else:
        samples = 2000
        inputs = np.random.default_rng(0).normal(size=(samples, widths[0]))
    small = MLP((widths[0], widths[1] - 1, widths[2]), "tanh")
    wide = MLP(widths, "tanh")
    parameters = split(small.initial(0), small.neurons(1), 0, (0.4, 0.6))
    targets = np.random.default_rng(1).normal(size=(samples, widths[-1]))
    return Problem(wide, Data(inputs, targets)), parameters


def measure(widths: tuple[int, ...], method: str) -> None:
    """Print one line: parameters, seconds without compilation (the second run), peak memory."""
    problem, parameters = large(widths, digits=widths[0] == 784)
    size = sum(value.size for value in parameters.values())

    def work() -> None:
        if method == "dense":
            whole = Reduced.of(problem, Embedding(np.arange(size), np.ones(size)))
            np.linalg.eigvalsh(reduced_hessian(whole, np.asarray(Layout.of(parameters).flatten(parameters))))
            return
        scene = scene_of(problem, parameters, CLOSE)
        group: Group = scene.groups[0]
        coupling_of(scene, scene.x, group, method)

    with float64():
        began = time.perf_counter()
        work()
        first = time.perf_counter() - began
        began = time.perf_counter()
        work()
        second = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    name = "-".join(map(str, widths))
    print(f"{name:14}{size:8d}  {method:12}{first:10.2f}{second:10.3f}{peak:9.2f}", flush=True)


def run_growth(*, largest: bool) -> None:
    """Measure all sizes and methods."""
    print(f"{'widths':14}{'size':>8}  {'method':12}{'first s':>10}{'again s':>10}{'peak GB':>9}", flush=True)
    for widths in [*SIZES, *([(784, 25, 10)] if largest else [])]:
        size = (widths[0] + 1) * widths[1] + (widths[1] + 1) * widths[2]
        for method in ("closed-form", "exchange", "dense"):
            if method == "dense" and size > DENSE_UP_TO:
                print(f"{'-'.join(map(str, widths)):14}{size:8d}  dense: not run above {DENSE_UP_TO} parameters")
                continue
            words = [sys.executable, __file__, "--measure", method, "--widths", ",".join(map(str, widths))]
            subprocess.run(words, check=True)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=70, help="random cases for each of the rows")
    parser.add_argument(
        "--disturbed", type=int, default=0, help="random cases of each row, moved off the critical point"
    )
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--without-mnist", action="store_true", help="leave out the largest network of --growth")
    parser.add_argument("--measure", choices=["closed-form", "exchange", "dense"])
    parser.add_argument("--widths")
    options = parser.parse_args()
    if options.measure:
        measure(tuple(int(width) for width in options.widths.split(",")), options.measure)
    elif options.growth:
        run_growth(largest=not options.without_mnist)
    elif options.disturbed:
        run_cases(options.disturbed, beside=True)
    else:
        run_cases(options.cases)


if __name__ == "__main__":
    main()
