"""How times grow with samples, width, depth, parameters and distances, and where dense correctors give way.

    python benchmarks/growth.py > benchmarks/results/growth.txt

tanh networks with random teachers and standard-normal inputs, mean squared error, the most similar pair of the first
hidden layer, tied distance. A correction starts at the teacher, at the first of 100 log-spaced distances to 1e-4, and
ends at a share of the tangential gradient norm that it starts with; "newton" has dense Hessians and their eigenvalues,
"krylov" conjugate gradients with products in single precision, Kronecker factors and a memory. "second" is the next
distance with what was remembered of the first. A step is one iteration of a correction, with the gradient before and
after it. Times are processor times, since other jobs may share the machine (run it with one thread), the least of up to
five calls within a second, after compilation. Whole paths, dense against matrix-free: processor time of the second
call, of the first where that took over 40 s ('c'); both with products in double precision, as `find_path` takes them
for so few parameters. Whole toy paths: elapsed time. Dense cells are left out where they are foreseen to take too long
(`STEP`, `WHOLE`), any cell when its table's time is up. Exponents are log-log least squares. "apart" is the distance of
both corrections' ends as a share of the parameters' norm: where it is not small they found different minima, and their
times do not compare.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from machine import head

from saddlescope.data.data import teacher_data
from saddlescope.data.sources import normal_inputs, toy, toy_teacher
from saddlescope.models.mlp import MLP
from saddlescope.numerics.continuation import Tolerances, settle
from saddlescope.numerics.lbfgs_history import empty
from saddlescope.numerics.newton import CONVERGED, DENSE_LIMIT
from saddlescope.paths.constraint import PairObjective, PairSurface
from saddlescope.paths.find import find_path
from saddlescope.paths.follow import distances_between
from saddlescope.paths.result import PathSettings
from saddlescope.precision import float64
from saddlescope.problem.kronecker import factors
from saddlescope.problem.problem import Problem
from saddlescope.units.coordinates import PairCoordinates
from saddlescope.units.gauge import most_similar_pair

# Seconds that a dense step, a whole dense correction and a whole dense path may be foreseen to take.
STEP, WHOLE, PATH = 4.0, 20.0, 90.0
COMPILATION = 10.0  # seconds, about: a path four times as long is not run twice
LIMIT = 60  # iterations of one correction at most


@dataclass
class Case:
    """A network at its teacher, both objectives on it, and two distances to go to."""

    size: int
    objectives: dict[str, PairObjective]
    surface: PairSurface
    start: jax.Array
    distances: np.ndarray
    radius: jax.Array
    problem: Problem
    teacher: dict[str, np.ndarray]
    pair: tuple[int, int]
    slope: float = math.nan  # the tangential gradient norm with which a correction starts

    def settle(self, solver: str, share: float, limit: int = LIMIT, k: int = 1, x=None, memory=None):
        """Correct once, from the teacher unless a point is given."""
        limits = Tolerances(jnp.asarray(share * self.slope), self.radius, jnp.asarray(limit))
        if solver == "krylov" and memory is None:
            memory = empty(self.size)
        x = self.start if x is None else x
        d = jnp.asarray(self.distances[k])
        return jax.block_until_ready(settle(self.objectives[solver], self.surface, x, d, limits, solver, memory))


def build(widths: tuple[int, ...], samples: int, seed: int = 0) -> Case:
    """Return the case of these widths with as many samples."""
    network = MLP(widths, "tanh")
    generator = np.random.default_rng(seed)
    shapes = zip(network.layout.names, network.layout.shapes, strict=True)
    fan_in = {name: math.sqrt(shape[1]) if len(shape) > 1 else 1.0 for name, shape in shapes}
    shapes = zip(network.layout.names, network.layout.shapes, strict=True)
    teacher = {name: generator.normal(size=shape) / fan_in[name] for name, shape in shapes}
    problem = Problem(network, teacher_data(network, teacher, normal_inputs(samples, widths[0], seed)))
    neurons = network.neurons(1)
    pair = most_similar_pair(teacher, neurons, homogeneous=False)
    coordinates = PairCoordinates.of(neurons, network.layout, pair)
    theta = network.layout.flatten(teacher)
    start = coordinates.rotate(theta)
    surface = PairSurface.of(coordinates, start, "tied", unit_incoming=False)
    objectives = {
        "newton": PairObjective(problem, coordinates),
        "krylov": PairObjective(problem, coordinates, factors(problem, theta), problem.in_single()),
    }
    distances = distances_between(float(surface.start), 1e-4, 100)
    case = Case(
        len(start), objectives, surface, start, distances, 0.05 * jnp.linalg.norm(start), problem, teacher, pair
    )
    case.slope = 0.0
    case.slope = float(case.settle("krylov", 0.0, 0).residual)  # compiles, too
    return case


def least(function: Callable) -> tuple[float, Any]:
    """Return the least processor time, in seconds, of up to five calls within a second, and what the last one gave."""
    times: list[float] = []
    given = None
    while len(times) < 5 and sum(times) < 1.0:
        began = time.process_time()
        given = jax.block_until_ready(function())
        times.append(time.process_time() - began)
    return min(times), given


def compiled(function: Callable, *arguments) -> float:
    """Return the least time of a function, after a call that compiles it."""
    jitted = eqx.filter_jit(function)
    jax.block_until_ready(jitted(*arguments))
    return least(lambda: jitted(*arguments))[0]


@jax.jit
def _eigenvalues(matrix):
    return jnp.linalg.eigh(matrix)


def foreseen(case: Case, product: float) -> float:
    """Return a guess of one dense step's seconds: the Hessian, measured where it can be, and its eigenvalues."""
    side = max(8, min(400, case.size // 4))
    matrix = np.random.default_rng(0).normal(size=(side, side))
    hessian = case.size * product  # where it is written out it takes less
    if hessian < 4 * STEP:
        hessian = compiled(lambda o, x: o.hessian(x), case.objectives["newton"], case.start)
    return hessian + (case.size / side) ** 3 * compiled(_eigenvalues, jnp.asarray(matrix + matrix.T))


def told(seconds: float, found=None) -> str:
    """Return a cell: ms, and iterations/products where a correction is meant; marked where it did not converge."""
    if math.isnan(seconds):
        return "-"
    cell = f"{1e3 * seconds:.3g}"
    if found is not None:
        mark = "" if int(found.status) == CONVERGED else "!"
        cell += f" ({int(found.iterations)}/{int(found.products)}){mark}"
    return cell


def times_of(case: Case, *, crossing: bool) -> tuple[dict[str, float], dict[str, str]]:
    """Measure one cell: numbers for the exponents, and the printed text."""
    numbers: dict[str, float] = {}
    shown: dict[str, str] = {}

    def keep(name: str, seconds: float, found=None) -> None:
        numbers[name] = seconds if found is None or int(found.status) == CONVERGED else math.nan
        shown[name] = told(seconds, found)

    plain = case.objectives["newton"]
    product = compiled(lambda o, x: o.hessian_product(x, x), plain, case.start)
    if not crossing:
        keep("gradient", compiled(lambda o, x: o.value_and_gradient(x), plain, case.start))
        keep("product", product)
    step = foreseen(case, product)
    if step < STEP:
        case.settle("newton", 0.0, 0)  # compiles
    for share, name, steps in ((1e-4, "1e-4", 15), (1e-8, "1e-8", 30))[: 2 if crossing else 1]:
        dense = steps * step < WHOLE
        keep(f"newton {name}", *(least(lambda s=share: case.settle("newton", s)) if dense else (math.nan,)))
        keep(f"krylov {name}", *least(lambda s=share: case.settle("krylov", s)))
        if crossing and dense:
            apart = jnp.linalg.norm(case.settle("newton", share).x - case.settle("krylov", share).x)
            shown[f"apart {name}"] = f"{float(apart / jnp.linalg.norm(case.start)):.0e}"
        elif crossing:
            shown[f"apart {name}"] = "-"
    if crossing:
        first = case.settle("krylov", 1e-4)
        keep("krylov second", *least(lambda: case.settle("krylov", 1e-4, k=2, x=first.x, memory=first.memory)))
    else:
        keep("newton step", least(lambda: case.settle("newton", 0.0, 1))[0] if step < STEP else math.nan)
        keep("krylov step", least(lambda: case.settle("krylov", 0.0, 1))[0])
    return numbers, shown


def fits(name: str, sizes: list[int], rows: list[dict[str, float]]) -> None:
    """Print each column's exponent over the sizes at which it was measured."""
    told_all = []
    for column in rows[0]:
        pairs = [(size, row[column]) for size, row in zip(sizes, rows, strict=True) if not math.isnan(row[column])]
        if len(pairs) >= 3:
            x, y = np.log(np.array(pairs)).T
            told_all.append(f"{column} {np.polyfit(x, y, 1)[0]:.2f} ({pairs[0][0]}..{pairs[-1][0]})")
    print(f"# exponents in {name}: {'; '.join(told_all)}\n", flush=True)


def table(title: str, name: str, cases: list[tuple[int, tuple[int, ...], int]], seconds: float, crossing=False) -> None:
    """Print one table, its cells left out as soon as its time is up, and its exponents."""
    print(f"## {title}")
    began, sizes, rows, parameters = time.perf_counter(), [], [], []
    for size, widths, samples in cases:
        if time.perf_counter() - began > seconds:
            print(f"{size:6d} left out: the table's {seconds:.0f} s were up")
            continue
        case = build(widths, samples)
        numbers, shown = times_of(case, crossing=crossing)
        if not rows:
            print(f"{name:>10} parameters " + " ".join(f"{column:>17}" for column in shown))
        print(f"{size:10d} {case.size:10d} " + " ".join(f"{cell:>17}" for cell in shown.values()), flush=True)
        sizes.append(size)
        parameters.append(case.size)
        rows.append(numbers)
    fits(name, sizes, rows)
    if crossing:
        cross(parameters, rows)


def cross(parameters: list[int], rows: list[dict[str, float]]) -> None:
    """Print at which of the sizes measured the matrix-free corrector is the faster one."""
    pairs = (("newton 1e-4", "krylov 1e-4"), ("newton 1e-4", "krylov second"), ("newton 1e-8", "krylov 1e-8"))
    for dense, free in pairs:
        faster = [p for p, row in zip(parameters, rows, strict=True) if row[free] < row[dense]]
        slower = [p for p, row in zip(parameters, rows, strict=True) if row[free] >= row[dense]]  # NaN: neither
        print(f"# {free} against {dense}: faster at {faster or 'none'}, slower at {slower or 'none'} parameters")
    print(f"# dense Hessians are taken up to DENSE_LIMIT = {DENSE_LIMIT} parameters\n", flush=True)


def whole_path(case: Case, solver: str, tolerance: float | None) -> tuple[float, Any]:
    """Return the processor time of a whole path of 30 distances, and the path; compiled before unless it is long."""
    settings = PathSettings(steps=30, solver=solver, tolerance=tolerance, polish=False)
    seconds = 0.0
    for repeated in (False, True):
        if repeated and seconds > 4 * COMPILATION:
            break
        began = time.process_time()
        path = find_path(case.problem, case.teacher, layer=1, pair=case.pair, settings=settings)
        seconds = time.process_time() - began
    return seconds, path


def _cells(seconds: float, path: Any) -> list[str]:
    mark = "c" if seconds > 4 * COMPILATION else ""
    count = path.evaluations["iterations"]
    return [
        f"{seconds:.3g}{mark} ({count}, {1e3 * seconds / count:.2f} ms)",
        f"{path.losses[-1]:.4e}",
        str(path.ending),
    ]


def whole(title: str, cases: list[tuple[int, ...]], tolerance: float | None) -> None:
    """Print whole paths by dense and by matrix-free correctors, to one tolerance, and where each is the faster."""
    print(f"## crossing, whole paths: {title}, 1000 samples, 30 distances")
    print("    widths parameters       newton s (iterations)       krylov s (iterations)  losses at the end, endings")
    faster, slower, last = [], [], (0.0, 1)
    for widths in cases:
        case = build(widths, 1000)
        free, found = whole_path(case, "krylov", tolerance)
        aim = found.tolerance
        cells = _cells(free, found)
        if last[0] * (case.size / last[1]) ** 2.5 > PATH:
            dense_cells = ["-", "-", "-"]
        else:
            dense, other = whole_path(case, "newton", aim)
            last = (dense, case.size)
            (faster if free < dense else slower).append(case.size)
            dense_cells = _cells(dense, other)
        print(
            f"{'-'.join(map(str, widths)):>10} {case.size:10d} {dense_cells[0]:>27} {cells[0]:>27}  "
            f"{dense_cells[1]} {cells[1]} {dense_cells[2]}, {cells[2]}",
            flush=True,
        )
    print(f"# matrix-free faster at {faster or 'none'}, slower at {slower or 'none'} parameters")
    print(f"# dense Hessians are taken up to DENSE_LIMIT = {DENSE_LIMIT} parameters\n", flush=True)


def paths() -> None:
    """Print whole toy paths against the number of distances."""
    print("## whole toy paths (2-5-1 tanh, 1000 samples, pair 3,4), with folds, events and merged point")
    _, teacher = toy_teacher("tanh", 0)
    problem = Problem(toy_teacher("tanh", 0)[0], toy("tanh", 0))
    numbers = []
    asked = [25, 50, 100, 200, 400]
    find_path(problem, teacher, layer=1, pair=(3, 4), settings=PathSettings(steps=25))  # compiles
    print(" distances elapsed ms iterations")
    for steps in asked:
        found = [
            find_path(problem, teacher, layer=1, pair=(3, 4), settings=PathSettings(steps=steps)) for _ in range(2)
        ]
        numbers.append({"path": min(path.seconds for path in found)})
        print(f"{steps:10d} {1e3 * numbers[-1]['path']:10.0f} {found[0].evaluations['iterations']:10d}", flush=True)
    fits("distances", asked, numbers)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=1.0, help="of the time that each table has")
    parser.add_argument("--only", default="crossing,whole,paths,samples,width,depth")
    parser.add_argument("--sizes", default="", help="of the tables of samples, width and depth, these rows alone")
    options = parser.parse_args()
    sizes = {int(size) for size in options.sizes.split(",") if size}
    head("jax", "numpy")
    print(
        "# processor times in ms; (iterations/products) of a correction, a dense Hessian counting as all its products;"
    )
    print("# '-': left out, foreseen to take too long; '!': not converged, and not in the exponents\n", flush=True)
    chosen = options.only.split(",")
    with float64():
        widths = (5, 10, 21, 42, 83, 167)  # 61, 121, 253, 505, 997 and 2005 parameters
        for samples in (1000, 10000) if "crossing" in chosen else ():
            cases = [(12 * w + 1, (10, w, 1), samples) for w in widths]
            title = f"crossing, {samples} samples: 10-w-1, whole corrections to 1e-4 and 1e-8 of the first gradient"
            table(title, "size", cases, 90 * options.share, crossing=True)
        if "whole" in chosen:
            shallow = [(10, w, 1) for w in (2, 5, 10, 21)]
            deep = [(10, w, w, 1) for w in (3, 5)]
            for tolerance in (None, 1e-10):
                aim = "1e-4 of the first gradient" if tolerance is None else f"tolerance {tolerance:.0e}"
                whole(f"10-w-1, {aim}", shallow, tolerance)
                whole(f"10-w-w-1, {aim}", deep, tolerance)
        if "paths" in chosen:
            paths()
        if "samples" in chosen:
            cases = [(n, (20, 25, 25, 10), n) for n in (1000, 3000, 10000, 30000, 60000) if n in sizes or not sizes]
            table("samples, 20-25-25-10", "samples", cases, 70 * options.share)
        if "width" in chosen:
            cases = [(w, (20, w, w, 10), 1000) for w in (5, 10, 25, 50, 100, 200, 400) if w in sizes or not sizes]
            table("width, 20-w-w-10, 1000 samples", "width", cases, 80 * options.share)
        if "depth" in chosen:
            cases = [(k, (20, *(20,) * k, 10), 1000) for k in range(1, 7) if k in sizes or not sizes]
            table("depth, hidden layers of 20, 20-...-10, 1000 samples", "depth", cases, 50 * options.share)


if __name__ == "__main__":
    main()
