"""Certificates of PyTorch modules against PyTorch's own dense Hessian in double precision: index and nullity.

    python benchmarks/any_model_certified.py > benchmarks/results/any_model_certified.txt

The modules (tests/references/critical_modules.py) stand at exact critical points without training: the targets are the
outputs plus what is orthogonal to all their derivatives. The first units of a layer are copies, as at a permutation
point. Eigenvalues by LAPACK; below 1e-11 of the largest they count as 0, and ``gap`` is the factor up to the next.
"""

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import saddlescope as ss
from references.critical_modules import digits, encoder, lenet, made, residual, vectors  # pyright: ignore

CASES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "LeNet, soft labels, dense units": (lenet, digits(120), {"layer": "6", "soft": True}),
    "LeNet, squared error, channels": (lenet, digits(120), {"layer": "3"}),
    "residual, batch norm kept": (residual, digits(150), {"layer": None}),
    "residual, batch norm folded, channels": (residual, digits(150), {"layer": "conv1", "statistics": "folded"}),
    "transformer block, MLP units": (encoder, vectors(120), {"layer": "0.linear1"}),
    "transformer block, soft, 3 copies": (
        encoder,
        vectors(120),
        {"layer": "0.linear1", "soft": True, "shares": (-0.5, 0.9, 0.6)},
    ),
}


def main() -> None:
    from machine import head

    head("saddlescope", "jax", "torch")
    print(f"{'case':38} {'size':>4} {'index':>9} {'nullity':>9} {'torch':>9} {'gap':>6} {'agree':>6} {'CPU s':>6}")
    for name, (build, inputs, words) in CASES.items():
        case = made(build, inputs, **words)
        began = time.process_time()
        found = ss.certify(case.problem, case.point)
        seconds = time.process_time() - began
        index, nullity, gap = case.signs(found.point)
        shown = [found.index_range if v is None else v for v in (found.index,)]
        shown += [found.nullity_range if v is None else v for v in (found.nullity,)]
        inside = found.index_range[0] <= index <= found.index_range[1]
        inside = inside and found.nullity_range[0] <= nullity <= found.nullity_range[1]
        agree = "yes" if (found.index, found.nullity) == (index, nullity) else "open" if inside else "NO"
        size = case.problem.network.layout.size
        print(
            f"{name:38} {size:4} {shown[0]!s:>9} {shown[1]!s:>9} {f'{index}, {nullity}':>9} {gap:6.0e} {agree:>6} "
            f"{seconds:6.0f}"
        )
        print("    " + ", ".join(f"{one.kind} {one.count}" for one in found.flat), flush=True)


if __name__ == "__main__":
    main()
