"""saddlescope expand: a wider network with the same function, by copies and zero-type neurons."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlescope.cli.console import show_versions
from saddlescope.cli.models import by_number, open_model, shapes_lines, write_resized
from saddlescope.cli.options import array_size, free_file, one_of, print_json, say, seed_of
from saddlescope.cli.progress import progress_bar
from saddlescope.cli.train import LOSSES
from saddlescope.errors import SettingsError

if TYPE_CHECKING:
    from saddlescope.workflows.escaped import Escape, GrownUnit, Offer

SAME = 1e-6
"""Difference of the outputs, relative to the largest, that is rounding."""


def expand(
    net: Path,
    *,
    data: str,
    out: Path,
    weights: Path | None = None,
    widths: str | None = None,
    copies: str | None = None,
    zero_type: str | None = None,
    shares: str = "equal",
    seed: int = 0,
    escape: bool = False,
    loss: str | None = None,
    target: str | None = None,
    activation: str | None = None,
    weight_decay: float = 0.0,
    norm_barrier: float = 0.0,
    overwrite: bool = False,
    json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Grow hidden layers without changing the network's function, and write the wide network.

    Copies share a neuron's outgoing weights, so that critical points stay critical; zero-type neurons send out weights
    that sum to zero. The deviation of the outputs is measured on the data.

    With --escape the function changes: each unit is added so that the loss falls at once, which is the better of two, a
    copy that parts from its twin and a new unit that begins to send, after line searches. Nothing is gained where the
    loss is zero. Exit code 1: a layer did not reach its width, since growing gains nothing there; what was grown until
    then is written, and nothing where that is no unit.

    Example: saddlescope expand net.safetensors --widths 1:30,2:28 --copies 1:0=3 --data toy --out big.safetensors

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
    widths
        Layer:width pairs such as 1:30,2:28; layers count hidden layers from 1, and of your own code also have names.
        What is missing is filled with copies.
    copies
        Layer:neuron=number such as 1:0=3: neuron 0 of layer 1 is to stand 3 times. Neurons count from 0.
    zero_type
        Layer:size of each zero-type group, such as 1:2,1:1: in layer 1 a group of two neurons and one of one.
    shares
        How copies share the outgoing weights: equal or random.
    seed
        Seed of what is drawn.
    escape
        Grow along lines that lower the loss; with --widths alone.
    loss
        With --escape: mse, normalised or cross-entropy; by default as in saddlescope path.
    target
        With --escape: data, or network, whose own outputs are fitted already; by default as in saddlescope path.
    activation
        The activation, when the file does not say it; one for each hidden layer: relu,tanh.
    weight_decay
        With --escape: factor of |theta|^2/2, added to the loss.
    norm_barrier
        With --escape: factor of a penalty on very large norms.
    overwrite
        Replace an earlier output of this command; nothing else is ever replaced.
    json
        Print one JSON document.
    quiet
        Print nothing but errors.
    verbose
        Print also what the answer rests on: settings, versions, every step.
    """
    wanted = _pairs(widths, "widths", "1:30,2:28")
    wide = dict(wanted)
    if len(wide) < len(wanted):
        raise SettingsError("a layer has two widths", name="widths", value=widths, expected="each layer once")
    groups = _groups(zero_type)
    times = _copies(copies)
    if not (wide or groups or times):
        raise SettingsError(
            "nothing to expand", name="widths", value=None, expected="--widths, --copies or --zero-type"
        )
    _require_sizes(wide.values(), *groups.values(), *(each.values() for each in times.values()))
    one_of(shares, "shares", ("equal", "random"))
    seed_of(seed)
    free_file(out, overwrite=overwrite, by="expand")
    of_loss = {
        "loss": loss,
        "target": target,
        "weight-decay": weight_decay or None,
        "norm-barrier": norm_barrier or None,
    }
    if escape:
        others = {"copies": copies, "zero-type": zero_type, "shares": None if shares == "equal" else shares}
        _refuse({"weights": weights, **others}, "with")
        words: dict[str, Any] = {"loss": loss, "target": target, "activation": activation}
        words |= {"weight_decay": weight_decay, "norm_barrier": norm_barrier}
        found = _escape(net, data, words, wide, seed, quiet=quiet or json, verbose=verbose)
        return _hand_out(found, net, out, overwrite=overwrite, json=json, quiet=quiet, verbose=verbose)
    _refuse(of_loss, "without")

    return _alike(
        net,
        data,
        out,
        {"widths": wide, "copies": times, "zero_type": groups, "shares": shares, "seed": seed},
        weights=weights,
        activation=activation,
        overwrite=overwrite,
        json=json,
        quiet=quiet,
        verbose=verbose,
    )


def _alike(
    net: Path,
    data: str,
    out: Path,
    choices: dict[str, Any],
    *,
    weights: Path | None,
    activation: str | None,
    overwrite: bool,
    json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Expand at equal function, write the wide network and say how far its outputs are; return the exit code."""
    from saddlescope.data.sources import load_data
    from saddlescope.resize.expand import expand as run

    rows = load_data(data)
    opened = open_model(str(net), weights=weights, activation=activation, data=rows, statistics="folded")
    copied = by_number(opened.model, choices["copies"])
    numbered = {name: by_number(opened.model, choices[name]) for name in ("widths", "zero_type")}
    times = {(layer, neuron): number for layer, each in copied.items() for neuron, number in each.items()}
    found = run(opened.model, opened.parameters, inputs=rows.inputs, **{**choices, **numbered, "copies": times})
    _require_same(found.max_output_deviation, found.output_scale)
    shapes = write_resized(out, net, opened, found, command="expand", overwrite=overwrite)
    if json:
        print_json(
            {
                "widths": list(found.widths),
                "max_output_deviation": found.max_output_deviation,
                "output_scale": found.output_scale,
                "shapes": shapes,
                "neurons": [asdict(origin) for origin in found.origins],
                "out": str(out),
            }
        )
    say(
        f"widths {','.join(map(str, found.widths))}: outputs differ by at most {found.max_output_deviation:.1e} of "
        f"{found.output_scale:.3g} on {len(rows.inputs)} samples",
        quiet=quiet or json,
    )
    if choices["shares"] == "equal" and any(origin.kind == "copy" for origin in found.origins):
        say(
            "copies        share equally, so that they have equal gradients: training leaves them equal; "
            "--shares random parts them",
            quiet=quiet or json,
        )
    for line in (*shapes_lines(shapes, opened), f"written to {out}"):
        say(line, quiet=quiet or json)
    show_versions(quiet=quiet or json, verbose=verbose)
    return 0


def _require_sizes(*numbers: Iterable[int]) -> None:
    for number in chain.from_iterable(numbers):
        array_size(number, "neurons")


def _require_same(deviation: float, scale: float) -> None:
    """Refuse to write a network that computes something else: units found at an example that says nothing of them.

    Raises:
        SettingsError: see above.
    """
    if not deviation <= SAME * scale:
        raise SettingsError(
            "the wide model computes something else than the model, so that nothing is written",
            name="difference of outputs",
            value=f"{deviation:.1e} of {scale:.3g}",
            expected="rounding",
            advice="Give an example of real or random inputs: units are found and tried at it, and zeros say nothing",
        )


def _refuse(words: Mapping[str, object], how: str) -> None:
    """Refuse words that have no meaning with or without --escape.

    Raises:
        SettingsError: one of them is given.
    """
    for name, value in words.items():
        if value is not None:
            raise SettingsError(f"this does not go {how} --escape", name=name, value=value, expected="nothing")


def _escape(
    net: Path, data: str, words: dict[str, Any], widths: dict[str, int], seed: int, *, quiet: bool, verbose: bool
) -> "Escape":
    if words["loss"] is not None:
        one_of(words["loss"], "loss", tuple(LOSSES))
    if words["target"] is not None:
        one_of(words["target"], "target", ("data", "network"))

    from saddlescope.cli.path import problem_of
    from saddlescope.models.own_code import is_code
    from saddlescope.workflows.widen import expand as grow

    if is_code(str(net)):
        raise SettingsError("expand grows networks in files", name="net", value=net, expected="a safetensors file")
    problem, parameters, _ = problem_of(net, data, **words)
    with progress_bar(quiet=quiet, verbose=verbose) as progress:
        return grow(
            problem, parameters, {**by_number(problem.network, widths)}, escape=True, seed=seed, progress=progress
        )


def _hand_out(found: "Escape", net: Path, out: Path, *, overwrite: bool, json: bool, quiet: bool, verbose: bool) -> int:
    """Write what was grown, and print every unit's promises and losses; return the exit code."""
    from saddlescope.data.weights import save_weights

    if written := bool(found.grown) or found.reached:
        notes = {"written by": "saddlescope expand"}
        save_weights(out, found.network, found.parameters, overwrite=overwrite, like=net, notes=notes)
    if json:
        print_json(
            {
                "widths": list(found.widths),
                "loss_before": found.loss_before,
                "loss_after": found.loss_after,
                "units": [_unit_json(unit) for unit in found.grown],
                "refused": {str(layer): why for layer, why in found.refused.items()},
                "seed": found.seed,
                "fingerprints": dict(found.fingerprints),
                "seconds": found.seconds,
                "out": str(out) if written else None,
            }
        )
    silent = quiet or json
    say(
        f"widths {','.join(map(str, found.widths))}: loss {found.loss_before:.6g} -> {found.loss_after:.6g}",
        quiet=silent,
    )
    for unit in found.grown:
        offers = "; ".join(_told(unit, offer) for offer in (unit.split, unit.birth) if offer is not None)
        place = f"layer {unit.layer}, unit {unit.neuron}"
        say(f"{place}  {unit.taken}, loss {unit.loss_after:.6g} ({offers})", quiet=silent)
    for layer, why in found.refused.items():
        say(f"layer {layer}       {why}", quiet=silent)
    say(f"written to {out}" if written else "nothing is written", quiet=silent)
    show_versions(quiet=silent, verbose=verbose)
    return 0 if found.reached else 1


def _told(unit: "GrownUnit", offer: "Offer") -> str:
    promised = "no number" if offer.promise is None else f"{offer.promise:.3g}"
    source = "" if offer.source is None else f" of unit {offer.source}"
    return f"{offer.family}{source} promises {promised}, gives {unit.loss_before - offer.loss:.3g}"


def _unit_json(unit: "GrownUnit") -> dict[str, Any]:
    return {
        "layer": unit.layer,
        "name": unit.name,
        "neuron": unit.neuron,
        "taken": unit.taken,
        "loss_before": unit.loss_before,
        "loss_after": unit.loss_after,
        **{offer: _offer_json(getattr(unit, offer)) for offer in ("split", "birth")},
    }


def _offer_json(offer: "Offer | None") -> dict[str, Any] | None:
    """Return an offer's numbers; null where there is none, or no finite one."""
    if offer is None:
        return None
    numbers = ("offset", "slope", "curvature", "quartic", "promise", "step", "loss")
    told = {name: getattr(offer, name) for name in numbers}
    finite = {name: value if value is not None and math.isfinite(value) else None for name, value in told.items()}
    return {"source": offer.source, **finite}


def _pairs(word: str | None, what: str, example: str) -> list[tuple[str, int]]:
    """Return the pairs of a layer and a whole number of a word such as ``1:30,conv2:28``.

    Raises:
        SettingsError: a part is no such pair.
    """
    try:
        parts = [] if word is None else [part.rpartition(":") for part in word.split(",")]
        if not all(layer and ":" not in layer for layer, _, _ in parts):
            raise ValueError
        return [(layer, int(number)) for layer, _, number in parts]
    except ValueError as error:
        raise SettingsError(
            f"not a list of layer:number for {what}", name=what, value=word, expected=f"such as {example}"
        ) from error


def _groups(zero_type: str | None) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for layer, size in _pairs(zero_type, "zero-type", "1:2,1:1"):
        groups.setdefault(layer, []).append(size)
    return groups


def _copies(word: str | None) -> dict[str, dict[int, int]]:
    """Return by layer how often neurons are to stand, of a word such as ``1:0=3,2:4=2``.

    Raises:
        SettingsError: a part is not of this form, or a neuron is named twice.
    """
    form = {"name": "copies", "value": word, "expected": "layer:neuron=number, such as 1:0=3"}
    found: dict[str, dict[int, int]] = {}
    for part in [] if word is None else word.split(","):
        place, equals, number = part.partition("=")
        layer, colon, neuron = place.rpartition(":")
        try:
            unit, times = int(neuron), int(number)
        except ValueError as error:
            raise SettingsError("not a list of copies", **form) from error
        if not (layer and colon and equals):
            raise SettingsError("not a list of copies", **form)
        if unit in found.setdefault(layer, {}):
            raise SettingsError("a neuron is named twice", **form)
        found[layer][unit] = times
    return found
