"""Blocks of the exchange analysis against networks in which each unit is really doubled, in PyTorch.

    python benchmarks/exchange.py [--draws 8] [--iterate] > benchmarks/results/exchange.txt

For each architecture of tests/references/doubled_networks.py, random parameters (no minima) and random data: the lowest
eigenvalue of every unit's block against the dense Hessian that autograd gives of the doubled module's loss. "error" is
the largest difference, "direction" that of the form along the eigenvector, both as shares of the block's largest
|eigenvalue|; "missed" counts values that lie farther off than their stated residual, and 1e-14 of the block, allow. A
sign is wrong where it is stated and the dense one, beyond 1e-12 of the block, is the other. --iterate: by iterations
instead of blocks that are formed.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from machine import head

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "references"))
from doubled_networks import FAMILIES, architecture, drawn

import saddlescope as ss


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--iterate", action="store_true")
    given = parser.parse_args()
    head("jax", "numpy", "torch")
    settings = ss.ExchangeSettings(dense=0 if given.iterate else 128)
    columns = ("blocks", "wrong", "undecided", "error", "direction", "missed", "seconds")
    print(f"{'architecture':<26}" + "".join(f"{name:>11}" for name in columns), flush=True)
    total, whole = np.zeros(6), 0.0
    for name in FAMILIES:
        row, seconds = measure(name, given.draws, settings)
        total = np.array([*(total[:3] + row[:3]), *np.maximum(total[3:5], row[3:5]), total[5] + row[5]])
        whole += seconds
        show(name, row, seconds)
    show("all", total, whole)


def show(name: str, row: np.ndarray, seconds: float) -> None:
    """Print one row."""
    blocks, wrong, undecided, error, along, missed = row
    numbers = f"{blocks:>11.0f}{wrong:>11.0f}{undecided:>11.0f}{error:>11.1e}{along:>11.1e}{missed:>11.0f}"
    print(f"{name:<26}{numbers}{seconds:>11.1f}", flush=True)


def measure(name: str, draws: int, settings: ss.ExchangeSettings) -> tuple[np.ndarray, float]:
    """Return counts and largest differences of one architecture, and the seconds that the analyses took."""
    module = architecture(name)
    example = torch.tensor(drawn(name, module, 99, samples=4).inputs)
    model, _ = ss.from_torch(module, example)
    row, seconds = np.zeros(6), 0.0
    for seed in range(100, 100 + draws):
        case = drawn(name, module, seed)
        rows = {"targets" if case.family.loss == "mse" else "labels": case.targets}
        problem = ss.Problem(model, ss.Data(case.inputs, **rows), loss=case.family.loss)
        begin = time.perf_counter()
        found = ss.exchange(problem, case.parameters, settings=settings)
        seconds += time.perf_counter() - begin
        for layer, places in case.family.layers.items():
            for unit in range(places.units):
                row += one(case.block(layer, unit), found[layer], unit)
                row[3:5] = np.maximum(row[3:5], differences(case.block(layer, unit), found[layer], unit))
    return row, seconds


def differences(block: np.ndarray, found: ss.LayerExchange, unit: int) -> tuple[float, float]:
    """Return how far value and direction are off, as shares of the block."""
    truth, v = np.linalg.eigvalsh(block), np.concatenate(found.direction(unit))
    size = np.abs(truth).max() or 1.0
    return abs(found.lowest[unit] - truth[0]) / size, abs(v @ block @ v - truth[0]) / size


def one(block: np.ndarray, found: ss.LayerExchange, unit: int) -> np.ndarray:
    """Return the counts of one block."""
    truth, sign = np.linalg.eigvalsh(block), found.unstable[unit]
    size = np.abs(truth).max()
    wrong = (sign is True and truth[0] > 1e-12 * size) or (sign is False and truth[0] < -1e-12 * size)
    missed = abs(found.lowest[unit] - truth[0]) > found.residual[unit] + 1e-14 * size
    return np.array([1, wrong, sign is None, 0.0, 0.0, missed])


if __name__ == "__main__":
    main()
