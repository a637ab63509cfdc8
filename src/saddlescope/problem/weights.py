"""Weights in and out as safetensors with PyTorch's names; metadata say the activation and the widths."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from saddlescope.arrays import Parameters, require_finite, to_numpy
from saddlescope.errors import RecordExistsError, WeightsError
from saddlescope.files import write_file
from saddlescope.problem.networks import Perceptron

_NAME = re.compile(r"(?P<stem>.*?)(?P<number>\d+)\.(?P<kind>weight|bias)")


def save_weights(
    path: str | Path,
    network: Perceptron,
    parameters: Parameters,
    *,
    overwrite: bool = False,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write a network's parameters, its activation and widths to a safetensors file.

    Args:
        path: the file.
        network: what the parameters belong to.
        parameters: its weights and biases.
        overwrite: replace the file if it exists.
        notes: further words for the file's metadata, such as ``seed`` and ``command``; activation and widths stay.

    Raises:
        RecordExistsError: the file exists and ``overwrite`` is False.
        ShapeError: parameters that do not fit the network.
        NonFiniteError: NaN or infinity among the parameters.
        StorageError: the disk refuses.
    """
    path = Path(path)
    network.check(parameters)
    require_finite(parameters, "the network")
    if os.path.lexists(path) and not overwrite:
        raise RecordExistsError("the output exists", name="file", value=path, advice="Use another name, or --overwrite")
    metadata = {
        **(notes or {}),
        "activation": network.activation,
        "widths": ",".join(str(width) for width in network.widths),
        "format": "pt",
    }
    # to_numpy makes every array contiguous: safetensors stores the bytes of a transposed array in the wrong order.
    content = _same_bytes(save(to_numpy(parameters), metadata))
    write_file(path, content, "the file of weights")


def weights_notes(path: str | Path) -> dict[str, str]:
    """Return the words of a safetensors file's metadata; none where the file has none.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        with safe_open(str(path), framework="numpy") as content:
            return dict(content.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise WeightsError("this is not a readable safetensors file", name="file", value=path) from error


def _same_bytes(content: bytes) -> bytes:
    """Return a safetensors file with its header's entries in order: the library writes metadata in a random one."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header = {
        key: header[key] if key != "__metadata__" else dict(sorted(header[key].items())) for key in sorted(header)
    }
    words = json.dumps(header, separators=(",", ":")).encode()
    words += b" " * (-len(words) % 8)
    return len(words).to_bytes(8, "little") + words + content[8 + length :]


def load_weights(path: str | Path, *, activation: str | None = None) -> tuple[Perceptron, dict[str, np.ndarray]]:
    """Read a perceptron: ``0.weight``, ``0.bias``, ``2.weight``, ... or ``fc1.weight``, ... in order of their numbers.

    Args:
        path: a safetensors file of 2-D weights (out, in) and 1-D biases, of any floating type.
        activation: needed when the metadata do not say it; must agree when they do. Never guessed.

    Returns:
        The network and its parameters in float64, under the names ``0.weight``, ``0.bias``, ``2.weight``, ...

    Raises:
        WeightsError: missing, damaged or foreign file, no activation or a contradiction, arrays that are no perceptron.
        SettingsError: an unknown activation.
        NonFiniteError: NaN or infinity among the parameters.
    """
    path = Path(path)
    arrays, metadata = _read(path)
    stated = metadata.get("activation")
    if activation is None and stated is None:
        raise WeightsError(
            "the file does not say the activation",
            name="file",
            value=path,
            advice="Say it with --activation; it is never guessed",
        )
    if activation is not None and stated is not None and activation != stated:
        raise WeightsError("the file says another activation", name="activation", value=activation, expected=stated)
    layers = _layers(arrays, path)
    parameters: dict[str, np.ndarray] = {}
    widths = [layers[0][0].shape[1]]
    for k, (weight, bias) in enumerate(layers):
        if bias is not None and bias.shape != weight.shape[:1]:
            raise WeightsError(
                f"the bias of layer {k + 1} of {path} does not fit",
                name="shape",
                value=bias.shape,
                expected=f"({weight.shape[0]},)",
            )
        if weight.shape[1] != widths[-1]:
            raise WeightsError(
                f"layer {k + 1} of {path} does not follow",
                name="inputs",
                value=weight.shape[1],
                expected=str(widths[-1]),
            )
        widths.append(weight.shape[0])
        parameters[f"{2 * k}.weight"] = weight
        if bias is not None:
            parameters[f"{2 * k}.bias"] = bias
    told = metadata.get("widths")
    if told is not None and told != ",".join(str(width) for width in widths):
        raise WeightsError(
            "the arrays are not as wide as the file says", name="widths", value=tuple(widths), expected=told
        )
    biased = {bias is not None for _, bias in layers}
    if len(biased) != 1:
        raise WeightsError(
            "some layers have a bias and some have none", name="file", value=path, expected="all or none"
        )
    network = Perceptron(tuple(widths), activation or str(stated), bias=biased.pop())
    network.check(parameters)
    require_finite(parameters, str(path))
    return network, parameters


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    if not path.is_file():
        raise WeightsError("no such file", name="file", value=path, expected="a safetensors file")
    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
            names = list(file.keys())
            kinds = {name: file.get_slice(name).get_dtype() for name in names}
            bad = {name: kind for name, kind in kinds.items() if kind not in ("F16", "F32", "F64", "BF16")}
            if bad:
                raise WeightsError(
                    "arrays of a type that is not used for weights", name="types", value=bad, expected="floating point"
                )
            return {name: np.asarray(file.get_tensor(name), dtype=np.float64) for name in names}, metadata
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise WeightsError(
            "this is not a whole safetensors file", name="file", value=path, expected=f"safetensors ({error})"
        ) from error


def _layers(arrays: dict[str, np.ndarray], path: Path) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Return (weight, bias or None) layer by layer, in the numeric order of the names."""
    found: dict[tuple[str, int], dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        match = _NAME.fullmatch(name)
        wanted = {"weight": 2, "bias": 1}
        if match is None or array.ndim != wanted[match["kind"]]:
            raise WeightsError(
                f"{path} is not a plain perceptron",
                name="array",
                value=f"{name} {array.shape}",
                expected="N.weight (out, in) and N.bias (out,)",
            )
        layer = found.setdefault((match["stem"], int(match["number"])), {})
        if match["kind"] in layer:
            raise WeightsError("two arrays for one place", name="array", value=name, expected="each number once")
        layer[match["kind"]] = array
    if not found or any("weight" not in layer for layer in found.values()):
        raise WeightsError(
            "there are no weights, or a bias without them", name="file", value=path, expected="N.weight and N.bias"
        )
    if len({stem for stem, _ in found}) != 1:
        raise WeightsError(
            "names of more than one kind", name="names", value=sorted(arrays), expected="one prefix and a number"
        )
    layers = [found[key] for key in sorted(found, key=lambda key: key[1])]
    return [(np.ascontiguousarray(layer["weight"]), layer.get("bias")) for layer in layers]
