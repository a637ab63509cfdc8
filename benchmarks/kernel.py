"""How near the kernels come to the bare matrix products that they need: gradient, Hessian and Gauss-Newton products.

    python benchmarks/kernel.py > benchmarks/results/kernel.txt

The bare products are timed by the same library (XLA) in the same chunks, in the same run, and by NumPy's BLAS on all
samples at once, which does not fit the cache; XLA's repeats are interleaved and the smallest time of each is kept.
"share" is bare time / kernel time; a gradient of L layers needs 3 L - 1 products (the inputs' gradient is not wanted).
"Hv/g", "Gv/g": time of a Hessian or Gauss-Newton product / time of a gradient.
"""

import argparse
import itertools
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from machine import head

from saddlescope.data.data import Data
from saddlescope.models.mlp import MLP
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem


def forward_and_back(weights: list, x, d):
    """Return the products of a gradient: each layer's forward, the gradient by its weights, that by its inputs."""
    out = []
    here, rows = [x], x
    for w in weights:
        rows = rows @ w.T
        here.append(rows)
    for k in reversed(range(len(weights))):
        out.append(d.T @ here[k])
        if k:
            d = d @ weights[k]
    return out


def best(functions: dict, repeats: int) -> dict[str, float]:
    """Return the smallest time of each function, their repeats interleaved."""
    for function in functions.values():
        jax.block_until_ready(function())
    times = {name: float("inf") for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            began = time.perf_counter()
            jax.block_until_ready(function())
            times[name] = min(times[name], time.perf_counter() - began)
    return times


def row(widths: tuple[int, ...], samples: int, activation: str, repeats: int) -> str:
    """Measure one network and return its line."""
    generator = np.random.default_rng(0)
    network = MLP(widths, activation)
    data = Data(generator.uniform(size=(samples, widths[0])), generator.normal(size=(samples, widths[-1])))
    problem = Problem(network, data)
    with float64():
        theta = network.layout.flatten(network.initial(0))
        v = jnp.asarray(generator.normal(size=theta.shape))
        numpy_weights = [np.asarray(network.initial(0)[f"{2 * k}.weight"]) for k in range(network.depth)]
        weights = [jnp.asarray(w) for w in numpy_weights]
        x, d = np.asarray(data.inputs), np.asarray(data.targets)
        chunks = problem.inputs
        ends = jnp.asarray(generator.normal(size=(*chunks.shape[:2], widths[-1])))
        bare = jax.jit(
            lambda w: jax.lax.scan(
                lambda total, c: (jax.tree.map(jnp.add, total, forward_and_back(w, c[0], c[1])), None),
                [jnp.zeros_like(one) for one in w[::-1]],
                (chunks, ends),
            )[0]
        )
        gradient = eqx.filter_jit(lambda p, at: p.value_and_gradient(at))
        hessian = eqx.filter_jit(lambda p, at, along: p.hessian_product(at, along))
        gauss = eqx.filter_jit(lambda p, at, along: p.gauss_newton_product(at, along))
        t = best(
            {
                "bare": lambda: bare(weights),
                "gradient": lambda: gradient(problem, theta),
                "hessian": lambda: hessian(problem, theta, v),
                "gauss": lambda: gauss(problem, theta, v),
            },
            repeats,
        )
        # Apart from the others: NumPy's threads spin for a while after a product, and slow what comes next.
        t |= best({"blas": lambda: forward_and_back(numpy_weights, x, d)}, repeats)
    flops = 2 * samples * (3 * sum(a * b for a, b in itertools.pairwise(widths)) - widths[0] * widths[1])
    return (
        f"{'-'.join(map(str, widths)):16} {activation:9} {samples:6d} {chunks.shape[0]:3d} "
        f"{1e3 * t['bare']:8.2f} {1e3 * t['blas']:8.2f} {1e3 * t['gradient']:8.2f} "
        f"{t['bare'] / t['gradient']:6.2f} {t['blas'] / t['gradient']:6.2f} {1e-9 * flops / t['gradient']:7.1f} "
        f"{t['hessian'] / t['gradient']:6.2f} {t['gauss'] / t['gradient']:6.2f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=60000)
    parser.add_argument("--widths", default="10,25,50,100,200")
    parser.add_argument("--activations", default="tanh,relu,softplus")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    head("jax", "numpy")
    print(
        "network          activation samples chunks  bare/ms  BLAS/ms  gradient/ms  share share(BLAS) GFlop/s Hv/g Gv/g"
    )
    for activation in options.activations.split(","):
        for width in map(int, options.widths.split(",")):
            print(row((784, width, width, 10), options.samples, activation, options.repeats), flush=True)


if __name__ == "__main__":
    main()
