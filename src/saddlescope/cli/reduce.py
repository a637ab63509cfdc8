"""saddlescope reduce: the network without the neurons that its function does not need."""

from collections import Counter
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from saddlescope.cli.console import show_versions
from saddlescope.cli.models import open_model, shapes_lines, write_resized
from saddlescope.cli.options import free_file, print_json, say

if TYPE_CHECKING:
    from saddlescope.resize.result import Reduction


def reduce(
    net: Path,
    *,
    data: str,
    out: Path,
    weights: Path | None = None,
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
        A safetensors file: 0.weight, 0.bias, 2.weight, ... or fc1.weight, ...; or your own code, FILE.py:function or
        package.module:function, as for saddlescope symmetries.
    data
        digits, toy, mnist, mnist-test, a .npz or .csv file, x.npy,y.npy, or a folder of IDX files.
    out
        The safetensors file to write: of your own code under its own names, for a model built with the shapes that the
        command tells.
    weights
        A file of weights for your own code: safetensors, the index of several, or a state dict of torch.save.
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
    from saddlescope.resize.reduce import reduce as run

    rows = load_data(data)
    opened = open_model(str(net), weights=weights, activation=activation, data=rows, statistics="folded")
    found = run(opened.model, opened.parameters, rows.inputs, tolerance=tolerance, drop_dead=drop_dead)
    shapes = write_resized(out, net, opened, found, command="reduce", overwrite=overwrite)
    if json:
        print_json(
            {
                "widths": list(found.widths),
                "shapes": shapes,
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
    for line in (*_lines(found, len(rows.inputs)), *shapes_lines(shapes, opened), f"written to {out}"):
        say(line, quiet=quiet or json)
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
