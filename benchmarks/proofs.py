"""Proofs in ball arithmetic: saddles of merged teachers, up to about 60 parameters and three outputs, 1000 samples.

    python benchmarks/proofs.py > benchmarks/results/proofs.txt

A teacher with standard-normal weights makes the targets; two of its neurons are merged, the smaller network is trained
on to a gradient of 1e-13, and every neuron of the layer is copied in turn. Prints what is proved of the merged network,
once, and of each lift, beside the signs of the wider network's dense Hessian in float64. Where the trained point is
too far off for a unique box, it is proved again from the point that the first proof returns; "tries" tells.
"""

import platform
import sys

import numpy as np

from saddlescope.critical.proof import Proof, prove
from saddlescope.data.data import Data, teacher_data
from saddlescope.data.sources import normal_inputs, toy, toy_teacher
from saddlescope.models.mlp import MLP
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem
from saddlescope.training.train import train
from saddlescope.units.actions import merge, split

# Widths of the merged network, activation, layer of the merged pair, pair, shares of the copies.
CASES = [
    ((2, 4, 1), "tanh", 1, (1, 2), (0.5, 0.5)),
    ((2, 5, 3), "tanh", 1, (0, 1), (0.25, 0.75)),
    ((3, 5, 5, 2), "tanh", 2, (0, 1), (2.0, -0.5, -0.5)),
    ((4, 8, 2), "tanh", 1, (0, 1), (0.5, 0.5)),
    ((4, 6, 4), "sigmoid", 1, (0, 1), (0.5, 0.5)),
    ((3, 5, 5, 2), "softplus", 1, (0, 1), (0.5, 0.5)),
]


def task(network: MLP) -> tuple[Data, dict[str, np.ndarray]]:
    """Return 1000 samples of a teacher, and the teacher; the toy where the network is its."""
    if network.widths == (2, 5, 1):
        return toy(network.activation), toy_teacher(network.activation)[1]
    generator = np.random.default_rng(0)
    shapes = zip(network.layout.names, network.layout.shapes, strict=True)
    teacher = {name: generator.normal(size=shape) for name, shape in shapes}
    return teacher_data(network, teacher, normal_inputs(1000, network.widths[0], 0), name="teacher"), teacher


def dense(network: MLP, data: Data, parameters: dict[str, np.ndarray]) -> str:
    """Return the signs of the dense Hessian in float64."""
    with float64():
        hessian = Problem(network, data).hessian(network.layout.flatten(parameters))
    values = np.linalg.eigvalsh(np.asarray(hessian))
    noise = 1e-12 * np.abs(values).max()
    return f"dense: {int((values < -noise).sum())} negative, {int((np.abs(values) <= noise).sum())} within 1e-12"


def line(proof: Proof) -> str:
    """Return what was proved."""
    if proof.loss is None or proof.radius is None:
        return f"{proof.verdict}: {proof.reasons[0]}"
    lift = proof.lift
    return (
        f"{proof.verdict}; away {proof.distance:.1e} radius {proof.radius:.1e} error {proof.uncertainty:.1e} "
        f"loss {proof.loss[0]:.15e} + {proof.loss[1] - proof.loss[0]:.0e} |eigenvalue| >= {proof.curvature:.1e} "
        f"index {proof.index}; "
        + (f"lift: index {lift.index} nullity {lift.nullity}" if lift is not None else "")
        + f"; {proof.seconds:.1f} s"
    )


def main() -> None:
    """Run the table."""
    print(f"{platform.python_version()} {platform.machine()}; 1000 samples, 128 bits, mean squared error")
    for widths, activation, layer, pair, shares in CASES:
        teacher_widths, wide_widths = list(widths), list(widths)
        teacher_widths[layer] += 1
        wide_widths[layer] += len(shares) - 1
        large, small = MLP(tuple(teacher_widths), activation), MLP(widths, activation)
        wide = MLP(tuple(wide_widths), activation)
        data, teacher = task(large)
        assert data.targets is not None
        start = merge(teacher, large.neurons(layer), *pair)
        point = train(Problem(small, data), initial=start, adam_steps=0, tolerance=1e-13, max_newton=2000)
        print(
            f"\n{widths} {activation}, {small.layout.size} parameters, neurons {pair} of layer {layer} merged, shares "
            f"{shares}; training {point.outcome.value}, gradient {point.gradient_norm:.1e}"
        )
        parameters, tries = point.parameters, 1
        for neuron in range(widths[layer]):
            copy = {"layer": layer, "neuron": neuron, "shares": shares}
            proof = prove(small, data.inputs, data.targets, parameters, **copy)
            if proof.radius is None and proof.parameters is not None:
                print(f"  first try {line(proof)}")
                parameters, tries = proof.parameters, tries + 1
                proof = prove(small, data.inputs, data.targets, parameters, **copy)
            print(f"  neuron {neuron}, tries {tries}: {line(proof)}")
            if proof.parameters is None:
                break
            print(f"    {dense(wide, data, split(proof.parameters, small.neurons(layer), neuron, shares))}")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
