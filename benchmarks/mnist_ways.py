"""What each part of the large-network solver brings: 784-H-H-10, 60 000 MNIST images, the first distances of 100.

    SADDLESCOPE_DATA=FOLDER python benchmarks/mnist_ways.py > benchmarks/results/mnist_ways.txt

Each row changes one thing and goes to the same tangential gradient norm, 1e-4 of the gradient that the first change of
distance brings about: no Kronecker factors; no memory of directions, but for the last; no prediction (each distance
starts from the last point); products in double precision; curvature from a part of the images, drawn once, with full
gradients; every second distance only (and every fourth), the others interpolated through the four nearest, or as many
as there are, and corrected. With curvature from a part of the images the first distance alone is tried, with more
iterations. A way stops after `SECONDS`, at the end of a distance; "met" says how many it came to, and at how many it
met the norm. Iterations are full gradients, products are Hessian products over the images that they look at; passes
count a product with its time in gradients, measured in the same run; the gradients at predictions are left out. Every
residual is evaluated anew, over all images.
"""

import argparse
import time
from dataclasses import dataclass, replace

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from machine import head
from mnist_speed import Case, case, timed

from saddlescope.data.data import teacher_data
from saddlescope.data.sources import mnist
from saddlescope.numerics.continuation import ContinuationState, Tolerances, advance_to, evaluate, init_tracking, settle
from saddlescope.numerics.lbfgs_history import LBFGSHistory
from saddlescope.paths.constraint import PairObjective
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem

PATIENCE, MOST = 12, 100  # iterations of one correction at most, on a path and alone: ours takes three
SECONDS = 75.0  # after which a way goes to no further distance


@dataclass(frozen=True)
class Way:
    """One way to follow the path; the defaults are ours."""

    objective: PairObjective
    remembers: bool = True
    predicts: bool = True
    every: int = 1
    marches: bool = True


@dataclass
class Spent:
    """Full gradients and Hessian products so far, and every point reached."""

    gradients: int
    products: int
    points: dict[int, Array]


def forget(track: ContinuationState) -> ContinuationState:
    """Return the track with room for a single direction."""
    size = track.x.shape[0]
    none = jnp.zeros((1, size), jnp.float32)
    return track._replace(memory=LBFGSHistory(none, none, none[:, 0], jnp.asarray(0)))


def follow(way: Way, this: Case, last: int, limits: Tolerances) -> Spent:
    """March to every distance, or every n-th, and fill the others in."""
    surface, start, distances = this.surface, this.start, this.distances
    full = jnp.asarray(way.every * np.log(distances[0] / distances[1]))
    track = init_tracking(way.objective, surface, start, surface.start, full, "krylov")
    track = track if way.remembers else forget(track)
    spent = Spent(0, 0, {0: start})
    began = time.perf_counter()
    for k in range(way.every, last + 1, way.every):
        if time.perf_counter() - began > SECONDS:
            break
        track = track if way.predicts else track._replace(fresh=jnp.asarray(True))
        track, leg = advance_to(way.objective, surface, track, jnp.asarray(distances[k]), full, limits, "krylov")
        spent.gradients += int(leg.iterations)
        spent.products += int(leg.products)
        spent.points[k] = leg.iterate.x
    marched, places, memory = sorted(spent.points), np.log(distances), track.memory
    for k in range(1, marched[-1]):
        if k in marched:
            continue
        near = sorted(marched, key=lambda j, k=k: abs(j - k))[:4]
        shares = [np.prod([(places[k] - places[j]) / (places[i] - places[j]) for j in near if j != i]) for i in near]
        guess = sum(share * spent.points[i] for share, i in zip(shares, near, strict=True))
        found = settle(way.objective, surface, guess, jnp.asarray(distances[k]), limits, "krylov", memory)
        memory = found.memory
        spent.gradients += int(found.iterations)
        spent.products += int(found.products)
        spent.points[k] = found.x
    return spent


def once(way: Way, this: Case, last: int, limits: Tolerances) -> Spent:
    """Correct at the first distance only, without strides."""
    del last
    found = settle(way.objective, this.surface, this.start, jnp.asarray(this.distances[1]), limits, "krylov")
    return Spent(int(found.iterations), int(found.products), {0: this.start, 1: found.x})


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=10)
    parser.add_argument("--distances", type=int, default=8)
    parser.add_argument("--only", default="", help="ways whose names hold these words")
    options = parser.parse_args()
    head("jax", "numpy")

    def part(share: float) -> Problem:
        """Return the problem on a part of the images, in single precision; the teacher is where the path starts."""
        network = ours.problem.network
        teacher = network.layout.unflatten_numpy(np.asarray(ours.coordinates.unrotate(this.start)))
        images = mnist("train").inputs
        rows = np.sort(np.random.default_rng(0).permutation(len(images))[: int(share * len(images))])
        return Problem(network, teacher_data(network, teacher, images[rows]), loss="normalised").in_single()

    with float64():
        this = case(options.width, "tanh", 1e-4)
        ours, limits = this.objective, this.limits._replace(iterations=jnp.asarray(PATIENCE))
        gradient = timed(eqx.filter_jit(lambda o, x: o.value_and_gradient(x)), ours, this.start)
        print(
            "way                               iterations products  product/gradient  passes  met       worst  seconds"
        )
        plain = replace(ours, factors=None)
        ways = {
            "ours": Way(ours),
            "products in double precision": Way(replace(ours, single=None)),
            "every 2nd distance, rest filled in": Way(ours, every=2),
            "every 4th distance, rest filled in": Way(ours, every=4),
            "no prediction": Way(ours, predicts=False),
            "no memory of directions": Way(ours, remembers=False),
            "no Kronecker factors": Way(plain),
            "first distance: ours": Way(ours, marches=False),
            "first distance: half the images": Way(replace(ours, single=part(0.5)), marches=False),
            "first distance: a tenth of them": Way(replace(ours, single=part(0.1)), marches=False),
        }
        for name, way in ways.items():
            if options.only not in name:
                continue
            product = timed(eqx.filter_jit(lambda o, x: o.model_product(x, x)), way.objective, this.start) / gradient
            run, most = (follow, limits) if way.marches else (once, limits._replace(iterations=jnp.asarray(MOST)))
            run(way, this, way.every, limits._replace(iterations=jnp.asarray(0)))  # compiles
            began = time.perf_counter()
            spent = run(way, this, options.distances, most)
            seconds = time.perf_counter() - began
            residuals = [
                float(
                    evaluate(ours, this.surface, x, jnp.asarray(this.distances[k]), limits.tolerance, "krylov").residual
                )
                for k, x in sorted(spent.points.items())[1:]
            ]
            met = sum(residual <= float(limits.tolerance) for residual in residuals)
            print(
                f"{name:34} {spent.gradients:9d} {spent.products:8d} {product:17.2f} "
                f"{spent.gradients + product * spent.products:7.0f} {met:4d}/{len(residuals):<3d} "
                f"{max(residuals):9.2e} {seconds:8.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
