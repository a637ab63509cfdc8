"""saddlescope symmetries: every group of interchangeable units of a model, each proved by trying."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlescope.cli.console import coloured, show_versions
from saddlescope.cli.models import Opened, example_of, open_model
from saddlescope.cli.options import one_of, print_json, say
from saddlescope.printable import printable

if TYPE_CHECKING:
    from saddlescope.models.units import Symmetry
    from saddlescope.units.neurons import Slice

SHOWN = 4
"""So many places of a group stand in the table; --json has all."""

WIDE = 200
"""Columns of the table where nobody looks at a terminal."""


def symmetries(
    model: str,
    *,
    weights: Path | None = None,
    data: str | None = None,
    example: str | None = None,
    activation: str | None = None,
    statistics: str = "kept",
    json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """List the groups of interchangeable units of a model, each proved by trying random permutations.

    MODEL is a safetensors file of a plain network, or your own code, which is run: FILE.py:function or
    package.module:function. The function takes no arguments and returns a torch module in eval mode, or (module,
    example), or a model of saddlescope with its parameters (from_function, from_flax, from_equinox). Deviation is the
    largest relative change of the outputs under permutations; omission the smallest where one array is left out.

    Example: saddlescope symmetries net.py:make --weights net.pt --example 3,32,32

    Parameters
    ----------
    model
        A safetensors file, FILE.py:function, or package.module:function.
    weights
        Weights for your own code: safetensors, a .safetensors.index.json, or a state dict of torch.save (.pt), of which
        only tensors are read.
    data
        Data whose first inputs serve as the example: as for saddlescope path.
    example
        Shape of one sample, such as 3,32,32; 16:100 for 16 whole numbers below 100; several inputs separated by
        semicolons; or a .npy or .npz file, batch first.
    activation
        The activation, when a plain network's file does not say it; one for each hidden layer: relu,tanh.
    statistics
        Running statistics of batch norm: kept (they belong to each channel), or folded into weight and bias.
    json
        Print one JSON document.
    quiet
        Print nothing but errors.
    verbose
        Print also the versions of all that computes.
    """  # noqa: D405, D411, D416 - "example" is an option here, no section
    one_of(statistics, "statistics", ("kept", "folded"))
    given = example_of(example) if example is not None else None

    from saddlescope.data.sources import load_data

    rows = load_data(data) if data is not None else None
    opened = open_model(model, weights=weights, example=given, activation=activation, data=rows, statistics=statistics)
    found = _found(opened)
    if json:
        print_json(symmetries_json(model, opened, found))
    if not (quiet or json):
        _show(opened, found)
    show_versions(quiet=quiet or json, verbose=verbose)
    return 0


def _found(opened: Opened) -> "tuple[Symmetry, ...]":
    """Return the groups: those found when the model was read, or searched with the parameters that it now has."""
    if opened.searched:
        return opened.model.symmetries
    from saddlescope.models.symmetries import symmetries

    return symmetries(opened.model, opened.parameters, opened.inputs)


def _origin(model: Any) -> str:
    """Return where a model comes from, in a word."""
    from saddlescope.models.chain import is_traceable
    from saddlescope.models.contract import unwrapped

    return "perceptron" if is_traceable(model) else str(getattr(model, "origin", type(unwrapped(model)).__qualname__))


def symmetries_json(word: str, opened: Opened, found: "Sequence[Symmetry]") -> dict[str, Any]:
    """Return the JSON document of ``saddlescope symmetries --json``, with the user's own names."""
    groups = []
    for group in found:
        places = {
            key: [{**vars(piece), "name": opened.names.get(piece.name, piece.name)} for piece in getattr(group, key)]
            for key in ("incoming", "outgoing", "moves_along")
        }
        reasons = [_renamed(reason, opened.names) for reason in group.reasons]
        groups.append({**vars(group), **places, "name": _group_name(group, opened.names), "reasons": reasons})
    model = opened.model
    return {
        "model": word,
        "origin": _origin(model),
        "parameters": int(model.layout.size),
        "groups": groups,
    }


def _group_name(group: "Symmetry", names: Mapping[str, str]) -> str:
    """Return the group's name; a plain network's is that of its layer in the user's file."""
    first = names.get(f"{group.name}.weight")
    return first.rpartition(".")[0] if first else group.name


def _renamed(reason: str, names: Mapping[str, str]) -> str:
    return " ".join(names.get(word, word) for word in reason.split(" "))


def place(piece: "Slice", names: Mapping[str, str]) -> str:
    """Return a slice in words: the array and its axis, where the units start in it, and how many entries each has."""
    more = f" from {piece.start}" if piece.start else ""
    more += f", {piece.block} each" if piece.block > 1 else ""
    return printable(f"{names.get(piece.name, piece.name)} [axis {piece.axis}{more}]")


def _places(pieces: "Sequence[Slice]", names: Mapping[str, str]) -> str:
    lines = [place(piece, names) for piece in pieces[:SHOWN]]
    return "\n".join([*lines, *([f"and {len(pieces) - SHOWN} more"] if len(pieces) > SHOWN else [])]) or "-"


def _show(opened: Opened, found: "Sequence[Symmetry]") -> None:
    """Print the table on standard error, and the reasons below it."""
    model, proved = opened.model, sum(group.verified for group in found)
    layers = sum(group.layer is not None for group in found)
    where = _origin(model)
    say(
        f"{len(found)} groups of interchangeable units, {proved} proved by permutation; {layers} that paths can lead "
        f"through. {where}, {model.layout.size} parameters"
    )
    if not found:
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for head in ("layer", "name", "kind"):
        table.add_column(head, overflow="fold")
    table.add_column("units", justify="right")
    for head in ("incoming", "outgoing", "moves along"):
        table.add_column(head, overflow="fold")
    for head in ("deviation", "omission"):
        table.add_column(head, justify="right", no_wrap=True)
    for head in ("mergeable", "resizable"):
        table.add_column(head)
    for group in found:
        cells = [
            "-" if group.layer is None else str(group.layer),
            printable(_group_name(group, opened.names)),
            group.kind,
            str(group.units),
            *(_places(getattr(group, key), opened.names) for key in ("incoming", "outgoing", "moves_along")),
            f"{group.deviation:.0e}",
            f"{group.omission:.0e}",
            "yes" if group.mergeable else "no",
            "yes" if group.resizable else "no",
        ]
        table.add_row(*(Text(cell) for cell in cells))
    width = None if sys.stderr.isatty() else WIDE
    Console(file=sys.stderr, width=width, no_color=not coloured(), highlight=False).print(table)
    for group in found:
        for reason in group.reasons:
            say(f"  {_group_name(group, opened.names)}: {_renamed(reason, opened.names)}")
