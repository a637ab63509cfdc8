"""saddlescope exchange: of every unit of a network, whether its copy is unstable, and what dropping it costs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlescope.cli.console import Summary, coloured, show
from saddlescope.cli.models import layer_number
from saddlescope.cli.options import one_of, print_json
from saddlescope.cli.progress import progress_bar
from saddlescope.cli.train import LOSSES
from saddlescope.printable import printable

if TYPE_CHECKING:
    from saddlescope.exchanges.result import Exchange, LayerExchange

SHOWN = 20
"""So many units of a layer stand in the table, the most unstable first; --json has all."""

WIDE = 160
"""Columns of the table where nobody looks at a terminal."""

COSTS = ("drop", "drop_held_out", "partner", "mix", "merge", "merge_held_out", "verdict")
"""Keys of a unit's costs in the document, as in `UnitCosts`."""

SIGNS = {True: "yes", False: "no", None: "undecided"}


def exchange(
    model: str,
    *,
    data: str,
    layer: str = "all",
    weights: Path | None = None,
    loss: str | None = None,
    target: str | None = None,
    activation: str | None = None,
    weight_decay: float = 0.0,
    norm_barrier: float = 0.0,
    json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Say of every unit whether a copy of it, with half of its outgoing weights each, is unstable.

    For each unit the smallest eigenvalue of the Hessian of the network in which it is copied, over the directions in
    which the copies part: negative means that the loss falls when they do. Exact at any parameters, trained or not.
    Where one dense layer reads the units, also what dropping a unit or merging it with another costs, outgoing weights
    refitted: mean squared change of what the layer sends, as a share of its variance, on the half of the samples that
    the weights were fitted to and on the other, held-out half. Exit code 1: no unit is unstable, or none for certain.

    Example: saddlescope exchange net.safetensors --data toy --layer 1

    Parameters
    ----------
    model
        A safetensors file: 0.weight, 0.bias, 2.weight, ... or fc1.weight, ...; or your own code, FILE.py:function or
        package.module:function, as for saddlescope symmetries.
    data
        digits, toy, mnist, mnist-test, a .npz or .csv file, x.npy,y.npy, or a folder of IDX files.
    layer
        Hidden layer, counted from 1; of a model of your own also by name, as saddlescope symmetries lists them; or all.
    weights
        A file of weights for your own code: safetensors, the index of several, or a state dict of torch.save.
    loss
        mse, normalised, cross-entropy or binary-cross-entropy; by default as in saddlescope path.
    target
        data, or network: regress on the network's own outputs; by default as in saddlescope path.
    activation
        The activation, when the file does not say it.
    weight_decay
        Factor of |theta|^2/2, added to the loss.
    norm_barrier
        Factor of a penalty on very large norms.
    json
        Print one JSON document.
    quiet
        Print nothing but errors.
    verbose
        Print also what the answer rests on: settings, versions, every step.
    """
    if loss is not None:
        one_of(loss, "loss", tuple(LOSSES))
    if target is not None:
        one_of(target, "target", ("data", "network"))

    from saddlescope.cli.path import problem_of
    from saddlescope.exchanges.find import exchange as find_exchange

    problem, parameters, own = problem_of(
        Path(model),
        data,
        loss=loss,
        target=target,
        activation=activation,
        weight_decay=weight_decay,
        norm_barrier=norm_barrier,
        weights=weights,
    )
    number = layer if layer == "all" else layer_number(problem.network, layer)
    with progress_bar(quiet=quiet or json, verbose=verbose) as progress:
        found = find_exchange(problem, parameters, layer=number, progress=progress)
    if json:
        print_json(exchange_json(model, found))
    if not (quiet or json):
        _show(found, own.get("doubt"), verbose=verbose)
    return 0 if any(sign for one in found.layers.values() for sign in one.unstable) else 1


def exchange_json(model: str, found: "Exchange") -> dict[str, Any]:
    """Return the JSON document of ``saddlescope exchange --json``; null is what is not known."""
    from saddlescope.records.schema import plain

    layers = [
        {
            "layer": one.layer,
            "name": one.name,
            "method": one.method,
            "way": one.way,
            "steps": one.steps,
            "kinked": one.kinked,
            "notes": one.notes,
            "units": [_unit(one, unit) for unit in range(one.units)],
        }
        for one in found.layers.values()
    ]
    return plain(
        {
            "model": model,
            "loss": found.loss,
            "gradient_norm": found.gradient_norm,
            "layers": layers,
            "skipped": dict(found.skipped),
            "settings": vars(found.settings),
            "fingerprints": dict(found.fingerprints),
            "seconds": found.seconds,
        }
    )


def _unit(one: "LayerExchange", unit: int) -> dict[str, Any]:
    return {
        "unit": unit,
        "lowest": float(one.lowest[unit]),
        "residual": float(one.residual[unit]),
        "scale": float(one.scale[unit]),
        "unstable": one.unstable[unit],
        **_unit_costs(one, unit),
    }


def _unit_costs(one: "LayerExchange", unit: int) -> dict[str, Any]:
    """Return the costs of a unit; null where there are none."""
    told = one.costs
    if told is None:
        return dict.fromkeys(COSTS)
    partner = int(told.partner[unit])
    numbers = {name: float(getattr(told, name)[unit]) for name in COSTS if name not in ("partner", "verdict")}
    return {**numbers, "partner": partner if partner >= 0 else None, "verdict": told.verdict[unit]}


def _show(found: "Exchange", doubt: object, *, verbose: bool) -> None:
    """Print the verdict, a table of units, and what limits the answer, on standard error."""
    signs = [sign for one in found.layers.values() for sign in one.unstable]
    unclear = f", {signs.count(None)} undecided" if None in signs else ""
    verdict = f"{signs.count(True)} of {len(signs)} units are unstable when copied{unclear}"
    rows = [] if doubt is None else [("warning", str(doubt))]
    rows += [("loss", f"{found.loss:.8g}, gradient norm {found.gradient_norm:.2e}")]
    for one in found.layers.values():
        rows += [(one.name, note) for note in one.notes]
    rows += [("left out", f"layer {number}: {reason}") for number, reason in found.skipped.items()]
    details = [(f"setting {name}", str(value)) for name, value in vars(found.settings).items()]
    details += [(one.name, f"{one.method}, {one.way}, {one.steps} steps") for one in found.layers.values()]
    details += [(f"fingerprint of {name}", value) for name, value in found.fingerprints.items()]
    rows.append(("work", f"{found.seconds:.1f} s"))
    show(Summary(verdict, True if True in signs else None, rows=rows, details=details), verbose=verbose)
    _table(found)


def _table(found: "Exchange") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("layer", overflow="fold")
    for head in ("unit", "lowest eigenvalue", "known to", "size of block"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("unstable")
    for head in ("drop", "held out", "partner", "merge", "held out"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("verdict")
    for one in found.layers.values():
        for unit in one.order[:SHOWN]:
            numbers = f"{one.lowest[unit]:.6g}", f"{one.residual[unit]:.0e}", f"{one.scale[unit]:.3g}"
            cells = (printable(one.name), str(unit), *numbers, SIGNS[one.unstable[unit]], *_cost_cells(one, unit))
            table.add_row(*(Text(cell) for cell in cells))
        if one.units > SHOWN:
            table.add_row(Text(printable(one.name)), Text(f"and {one.units - SHOWN} more"))
    width = None if sys.stderr.isatty() else WIDE
    Console(file=sys.stderr, width=width, no_color=not coloured(), highlight=False).print(table)


def _cost_cells(one: "LayerExchange", unit: int) -> tuple[str, ...]:
    told = _unit_costs(one, unit)
    shares = {
        name: "-" if told[name] is None else f"{told[name]:.2%}" for name in COSTS if "drop" in name or "merge" in name
    }
    partner = "-" if told["partner"] is None else str(told["partner"])
    return (
        shares["drop"],
        shares["drop_held_out"],
        partner,
        shares["merge"],
        shares["merge_held_out"],
        told["verdict"] or "-",
    )
