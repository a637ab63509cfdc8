"""Equal-loss walks: 200 random ones, one that sorts a layer of 2000 neurons, and a join through three hidden layers.

    python benchmarks/walks.py > benchmarks/results/walks.txt

Random walks: networks of one to three hidden layers, one to four outputs, with and without biases, twins with a random
split, normal weights / sqrt(inputs), random targets; every segment is measured at five points. The repeated exchange
is [B19] section 4.2: six segments for each transposition, between an opening and a closing of three.
"""

import argparse
import resource
import time
from collections import defaultdict

import numpy as np

from saddlescope.data.data import Data, teacher_data
from saddlescope.models.mlp import MLP
from saddlescope.problem.problem import Problem
from saddlescope.units.actions import permute
from saddlescope.valleys.join import join
from saddlescope.valleys.moves import route_end
from saddlescope.valleys.walk import walk

# Layer of the walk, widths, activation, bias.
NETWORKS = (
    (1, (2, 5, 1), "tanh", True),
    (1, (3, 8, 4), "relu", False),
    (1, (10, 40, 3), "sigmoid", True),
    (1, (20, 100, 2), "gelu", True),
    (1, (2, 6, 5, 1), "softplus", True),
    (2, (3, 7, 9, 2), "erf", False),
    (2, (5, 20, 30, 4), "leaky_relu", True),
    (1, (2, 4, 6, 5, 3), "sine", True),
    (2, (4, 8, 12, 6, 1), "silu", True),
    (3, (2, 10, 10, 15, 2), "sigmoid_softplus", False),
)
EPSILON = np.finfo(float).eps


def random_set(network: MLP, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Return normal weights / sqrt(inputs)."""
    return {
        name: generator.normal(size=value.shape) / np.sqrt(value.shape[-1])
        for name, value in network.initial(0).items()
    }


def transpositions(order: np.ndarray) -> int:
    """Return the fewest transpositions that make a permutation: neurons less cycles."""
    seen, cycles = np.zeros(len(order), bool), 0
    for first in range(len(order)):
        cycles += not seen[first]
        while not seen[first]:
            seen[first] = True
            first = order[first]
    return len(order) - cycles


def exact(found) -> bool:
    """Return whether the walk ends in the permuted parameters, to the last bit."""
    end, route = route_end(found.route), found.route
    wanted = permute(route.start, route.neurons, route.permutation)
    return all(np.array_equal(end[name], wanted[name]) for name in end)


def random_walks(count: int) -> None:
    """Print one line a network, and the largest deviations of all walks."""
    print(f"{count} random walks, 5 points a segment")
    print("layer widths activation bias | walks, exact ends, mean segments, repeated exchange, largest deviation of")
    print("loss/loss and output/largest output in units of 2^-52")
    worst: dict[str, float] = defaultdict(float)
    for layer, widths, activation, bias in NETWORKS:
        network = MLP(widths, activation, bias=bias)
        rows = []
        for seed in range(count // len(NETWORKS)):
            generator = np.random.default_rng(seed)
            start = random_set(network, generator)
            l, m = (int(unit) for unit in generator.permutation(widths[layer])[:2])
            for piece in network.neurons(layer).incoming:
                start[piece.name][m] = start[piece.name][l]
            data = Data(generator.normal(size=(64, widths[0])), generator.normal(size=(64, widths[-1])))
            order = generator.permutation(widths[layer])
            found = walk(Problem(network, data), start, order.tolist(), layer=layer, pair=(l, m))
            loss = found.max_loss_deviation / found.loss / EPSILON
            output = found.scan.max_output_deviation / found.scan.largest_output / EPSILON
            rows.append((exact(found), found.segments, 6 * transpositions(order) + 3, loss, output))
        table = np.array(rows, float)
        print(
            f"{layer} {'-'.join(map(str, widths))} {activation} {'bias' if bias else 'no bias'} | {len(table)} "
            f"{int(table[:, 0].sum())} {table[:, 1].mean():.1f} {table[:, 2].mean():.1f} "
            f"{table[:, 3].max():.1f} {table[:, 4].max():.1f}"
        )
        worst["loss"] = max(worst["loss"], table[:, 3].max())
        worst["output"] = max(worst["output"], table[:, 4].max())
    print(f"largest of all: loss {worst['loss'] * EPSILON:.2e} of the loss, outputs {worst['output'] * EPSILON:.2e}")


def sort_neurons(inputs: int, units: int, sorted_units: int, samples: int) -> None:
    """Print what a walk takes that sorts the first neurons of a layer by the length of their incoming vectors."""
    network = MLP((inputs, units, 10), "tanh")
    generator = np.random.default_rng(0)
    start = random_set(network, generator)
    start["0.weight"][1], start["0.bias"][1] = start["0.weight"][0], start["0.bias"][0]
    lengths = np.linalg.norm(network.neurons(1).incoming_vectors(start), axis=1)
    order = np.arange(units)
    order[:sorted_units] = np.argsort(lengths[:sorted_units], kind="stable")
    data = Data(generator.normal(size=(samples, inputs)), generator.normal(size=(samples, 10)))
    problem = Problem(network, data)
    walk(problem, start, [0, 1, 3, 2, *range(4, units)], layer=1, pair=(0, 1), points=2)  # compiles
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    found = walk(problem, start, order.tolist(), layer=1, pair=(0, 1), points=2)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = sum(value.nbytes for value in start.values())
    print(
        f"sorting {sorted_units} neurons of {inputs}-{units}-10, {samples} samples, 2 points a segment, after a short"
    )
    print(f"walk that compiles: {found.segments} segments, end exact: {exact(found)}; repeated exchange ", end="")
    print(f"{6 * transpositions(order) + 3} segments")
    print(
        f"{seconds:.1f} s; parameters {size / 1e6:.2f} MB; peak of the process {after / 1e3:.0f} MB, "
        f"{before / 1e3:.0f} MB before"
    )
    print(
        f"loss {found.loss:.6g}, deviation {found.max_loss_deviation:.2e}; largest output "
        f"{found.scan.largest_output:.3g}, deviation {found.scan.max_output_deviation:.2e}\n"
    )


def join_copies(widths: tuple[int, ...]) -> None:
    """Print a join of two permuted copies at zero loss."""
    network = MLP(widths, "tanh")
    generator = np.random.default_rng(0)
    first = random_set(network, generator)
    second = first
    for layer in range(1, network.depth):
        second = permute(second, network.neurons(layer), generator.permutation(widths[layer]).tolist())
    problem = Problem(network, teacher_data(network, first, generator.normal(size=(200, widths[0]))))
    found = join(problem, first, second, points=3)
    print(f"\njoin of two copies of {'-'.join(map(str, widths))} at zero loss, one spare a hidden layer")
    print(
        f"segments {[route.segments for route in found.routes]}, gap {found.gap}, loss {found.scan.loss:.1e}, largest "
        f"deviation {found.scan.max_loss_deviation:.1e}, of outputs {found.scan.max_output_deviation:.1e} (largest "
        f"output {found.scan.largest_output:.3g}), gradient norm at most {found.scan.max_gradient_norm:.1e}, "
        f"critical {int(found.scan.critical.sum())} of {found.segments}, {found.seconds:.1f} s"
    )


def main() -> None:
    """Run all three."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--walks", type=int, default=200)
    parser.add_argument("--units", type=int, default=2000)
    options = parser.parse_args()
    sort_neurons(64, options.units, options.units, 64)  # first: the peak memory is the process's
    sort_neurons(784, options.units, 50, 16)
    random_walks(options.walks)
    join_copies((2, 4, 4, 4, 1))
    join_copies((20, 50, 60, 40, 3))


if __name__ == "__main__":
    main()
