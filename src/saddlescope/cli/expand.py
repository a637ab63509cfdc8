"""saddlescope expand: a wider network with the same function, by copies and zero-type neurons."""

from dataclasses import asdict
from pathlib import Path

from saddlescope.cli.console import show_versions
from saddlescope.cli.options import array_size, free_file, one_of, print_json, say, seed_of
from saddlescope.errors import SettingsError


def expand(
    net: Path,
    *,
    data: str,
    out: Path,
    widths: str | None = None,
    copies: str | None = None,
    zero_type: str | None = None,
    shares: str = "equal",
    seed: int = 0,
    activation: str | None = None,
    overwrite: bool = False,
    json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Grow hidden layers without changing the network's function, and write the wide network.

    Copies share a neuron's outgoing weights, so that critical points stay critical; zero-type neurons send out weights
    that sum to zero. The deviation of the outputs is measured on the data.

    Example: saddlescope expand net.safetensors --widths 1:30,2:28 --copies 1:0=3 --data toy --out big.safetensors

    Parameters
    ----------
    net
        A safetensors file: 0.weight, 0.bias, 2.weight, ... or fc1.weight, ...
    data
        digits, toy, mnist, mnist-test, a .npz or .csv file, x.npy,y.npy, or a folder of IDX files.
    out
        The safetensors file to write.
    widths
        Layer:width pairs such as 1:30,2:28; layers count hidden layers from 1. What is missing is filled with copies.
    copies
        Layer:neuron=number such as 1:0=3: neuron 0 of layer 1 is to stand 3 times. Neurons count from 0.
    zero_type
        Layer:size of each zero-type group, such as 1:2,1:1: in layer 1 a group of two neurons and one of one.
    shares
        How copies share the outgoing weights: equal or random.
    seed
        Seed of what is drawn.
    activation
        The activation, when the file does not say it; one for each hidden layer: relu,tanh.
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
    for number in (*wide.values(), *(size for sizes in groups.values() for size in sizes), *times.values()):
        array_size(number, "neurons")
    one_of(shares, "shares", ("equal", "random"))
    seed_of(seed)
    free_file(out, overwrite=overwrite, by="expand")

    from saddlescope.data.sources import load_data
    from saddlescope.data.weights import load_weights, save_weights
    from saddlescope.resize.expand import expand as run

    rows = load_data(data)
    inputs = rows.inputs
    network, parameters = load_weights(net, activation=activation, data=rows)
    found = run(
        network,
        parameters,
        widths=wide,
        copies=times,
        zero_type=groups,
        shares=shares,
        inputs=inputs,
        seed=seed,
    )
    notes = {"written by": "saddlescope expand"}
    save_weights(out, found.network, found.parameters, overwrite=overwrite, like=net, notes=notes)
    if json:
        print_json(
            {
                "widths": list(found.widths),
                "max_output_deviation": found.max_output_deviation,
                "output_scale": found.output_scale,
                "neurons": [asdict(origin) for origin in found.origins],
                "out": str(out),
            }
        )
    say(
        f"widths {','.join(map(str, found.widths))}: outputs differ by at most {found.max_output_deviation:.1e} of "
        f"{found.output_scale:.3g} on {len(inputs)} samples",
        quiet=quiet or json,
    )
    if shares == "equal" and any(origin.kind == "copy" for origin in found.origins):
        say(
            "copies        share equally, so that they have equal gradients: training leaves them equal; "
            "--shares random parts them",
            quiet=quiet or json,
        )
    say(f"written to {out}", quiet=quiet or json)
    show_versions(quiet=quiet or json, verbose=verbose)
    return 0


def _pairs(word: str | None, what: str, example: str) -> list[tuple[int, int]]:
    """Return the pairs of whole numbers of a word such as ``1:30,2:28``.

    Raises:
        SettingsError: a part is no such pair.
    """
    try:
        parts = [] if word is None else [part.split(":") for part in word.split(",")]
        return [(int(first), int(second)) for first, second in parts]
    except ValueError as error:
        raise SettingsError(
            f"not a list of layer:number for {what}", name=what, value=word, expected=f"such as {example}"
        ) from error


def _groups(zero_type: str | None) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for layer, size in _pairs(zero_type, "zero-type", "1:2,1:1"):
        groups.setdefault(layer, []).append(size)
    return groups


def _copies(word: str | None) -> dict[tuple[int, int], int]:
    """Return how often neurons are to stand, of a word such as ``1:0=3,2:4=2``.

    Raises:
        SettingsError: a part is not of this form, or a neuron is named twice.
    """
    form = {"name": "copies", "value": word, "expected": "layer:neuron=number, such as 1:0=3"}
    found: dict[tuple[int, int], int] = {}
    for part in [] if word is None else word.split(","):
        place, equals, number = part.partition("=")
        layer, colon, neuron = place.partition(":")
        try:
            key, value = (int(layer), int(neuron)), int(number)
        except ValueError as error:
            raise SettingsError("not a list of copies", **form) from error
        if not (equals and colon) or key in found:
            raise SettingsError("a neuron is named twice", **form)
        found[key] = value
    return found
