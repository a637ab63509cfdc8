"""saddlescope reduce: the network without the neurons that its function does not need."""

from collections import Counter
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from saddlescope.cli.console import show_versions
from saddlescope.cli.options import free_file, print_json, say

if TYPE_CHECKING:
    from saddlescope.resize.result import Reduction


def reduce(
    net: Path,
    *,
    data: str,
    out: Path,
    tolerance: float = 1e-9,
    drop_dead: bool = False,
    activation: str | None = None,
    overwrite: bool = False,
    json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Take out neurons that the network's function does not need, and write the small network.

    Copies, zero-type groups, constants, neurons that send out nothing, and what the activation's own symmetries make
    equal. On the data every output stays as it is, up to the tolerance times its largest value; a neuron without which
    it would not stays, and is named. Exit code 1: written, but a layer is so close to another reduction that the
    tolerance decides.

    Example: saddlescope reduce big.safetensors --data toy --out small.safetensors --json

    Parameters
    ----------
    net
        A safetensors file: 0.weight, 0.bias, 2.weight, ... or fc1.weight, ...
    data
        digits, toy, mnist, mnist-test, a .npz or .csv file, x.npy,y.npy, or a folder of IDX files.
    out
        The safetensors file to write.
    tolerance
        Most that an output may change, relative to its largest value on the data; up to the same relative distance
        vectors are tried as equal, or as zero.
    drop_dead
        Also take out ReLU neurons that are inactive on all these data: the function is then kept on the data only.
    activation
        The activation, when the file does not say it; one for each hidden layer: relu,tanh.
    overwrite
        Replace the output if it exists.
    json
        Print one JSON document.
    quiet
        Print nothing but errors.
    verbose
        Print also what the answer rests on: settings, versions, every step.
    """
    free_file(out, overwrite=overwrite, by="reduce")

    from saddlescope.data.sources import load_data
    from saddlescope.data.weights import load_weights, save_weights
    from saddlescope.resize.reduce import reduce as run

    rows = load_data(data)
    inputs = rows.inputs
    network, parameters = load_weights(net, activation=activation, data=rows)
    found = run(network, parameters, inputs, tolerance=tolerance, drop_dead=drop_dead)
    notes = {"written by": "saddlescope reduce"}
    save_weights(out, found.network, found.parameters, overwrite=overwrite, like=net, notes=notes)
    if json:
        print_json(
            {
                "widths": list(found.widths),
                "max_output_deviation": found.max_output_deviation,
                "output_scale": found.output_scale,
                "output_loss": found.output_loss,
                "removed": [asdict(removal) for removal in found.removed],
                "left": list(found.left),
                "nearest": {str(layer): value if isfinite(value) else None for layer, value in found.nearest.items()},
                "refused": [{**asdict(one), "loss": one.loss if isfinite(one.loss) else None} for one in found.refused],
                "undecided": found.undecided,
                "tolerance": found.tolerance,
                "out": str(out),
            }
        )
    for line in _lines(found, len(inputs)):
        say(line, quiet=quiet or json)
    say(f"written to {out}", quiet=quiet or json)
    show_versions(quiet=quiet or json, verbose=verbose)
    return 1 if found.undecided else 0


def _lines(found: "Reduction", samples: int) -> list[str]:
    """Return what people read: the widths first, then why neurons went, and what is left."""
    reasons = Counter((removal.layer, removal.why) for removal in found.removed)
    return [
        f"widths {','.join(map(str, found.widths))}: outputs differ by at most {found.max_output_deviation:.1e} of "
        f"{found.output_scale:.3g} on {samples} samples",
        *(f"layer {layer}: {number} removed, {why}" for (layer, why), number in sorted(reasons.items())),
        *(f"left: {text}" for text in found.left),
        *(["undecided: neurons remain that are almost redundant; try another tolerance"] if found.undecided else []),
    ]
