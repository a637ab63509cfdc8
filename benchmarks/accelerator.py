"""Paths on an accelerator: MNIST 784-H-H-10 as in [B19] Fig. 3, first and second call; a toy on each device.

    SADDLESCOPE_DATA=FOLDER python benchmarks/accelerator.py > benchmarks/results/accelerator.txt

Each row: what, seconds of the first and the second call in one process, iterations, Hessian products, how it ended;
`product` is the time of one Hessian product alone, in single precision as matrix-free solves take them, and its share
of the second call (NaN where dense Hessians are taken). Without an
accelerator the same rows are measured on the processor.
"""

import argparse
import time
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from machine import head
from mnist_path import task

import saddlescope as ss
from saddlescope.precision import float64


def timed(call):
    """Return what a call returns and its seconds."""
    began = time.perf_counter()
    found = call()
    return found, time.perf_counter() - began


def product_seconds(problem: ss.Problem, parameters: dict, repeats: int = 30) -> float:
    """Return the seconds of one Hessian product in single precision, compiled, one after the other."""
    single = problem.in_single()
    with float64():
        theta = jnp.asarray(problem.network.layout.flatten(parameters), jnp.float32)
        product = eqx.filter_jit(lambda one, x, v: one.hessian_product(x, v / jnp.linalg.norm(v)))
        v = jax.block_until_ready(product(single, theta, theta))
        began = time.perf_counter()
        for _ in range(repeats):
            v = product(single, theta, v)
        jax.block_until_ready(v)
    return (time.perf_counter() - began) / repeats


def row(name: str, problem: ss.Problem, parameters: dict, *, layer: int, steps: int, calls: int = 2) -> None:
    """Follow one path as often as asked and print a line."""
    follow = partial(ss.find_path, problem, parameters, layer=layer, settings=ss.PathSettings(steps=steps))
    seconds = []
    for _ in range(calls):
        path, took = timed(follow)
        seconds.append(f"{took:.1f}")
    each = product_seconds(problem, parameters) if path.solver == "krylov" else float("nan")
    spent = each * path.evaluations["hessian_products"]
    print(
        f"{name:34s} {problem.inputs.devices()!s:22s} chunks {len(problem.inputs):3d}  s {' '.join(seconds):>12s}  "
        f"iterations {path.evaluations['iterations']:4d} products {path.evaluations['hessian_products']:6d} "
        f"product {1e3 * each:.2f} ms, {spent / float(seconds[-1]):.2f} of the call  {path.ending} "
        f"residual {path.residual:.1e} tolerance {path.tolerance:.1e} barrier {path.barrier:.5g}",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--widths", default="25,200")
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    head("jax", "numpy")
    print(f"devices {jax.devices()}", flush=True)
    network, minimum = ss.data.toy_teacher("tanh", 0)
    for device in (None, *sorted({"cpu", jax.default_backend()})):
        problem = ss.Problem(network, ss.data.toy("tanh", 0), device=device)
        row(f"toy 2-5-1, device {device}", problem, minimum, layer=1, steps=50)
    for width in map(int, filter(None, options.widths.split(","))):
        (problem, teacher), took = timed(partial(task, width, "tanh"))
        print(f"784-{width}-{width}-10: teacher and data {took:.1f} s", flush=True)
        row(f"784-{width}-{width}-10", problem, teacher, layer=2, steps=options.steps, calls=1 if width > 100 else 2)


if __name__ == "__main__":
    main()
