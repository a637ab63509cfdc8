"""Weights in and out as safetensors with PyTorch's names; metadata say the activation and the widths.

Inside, a perceptron's arrays are ``0.weight``, ``0.bias``, ``2.weight``, ...; `names` reads the user's own, and
`save_weights(..., like=FILE)` writes them back, so that ``load_state_dict(strict=True)`` takes what was computed.
"""

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from saddlescope.arrays import Parameters, require_finite, to_numpy
from saddlescope.data.agreement import require_agreement
from saddlescope.data.data import Data
from saddlescope.data.foreign import conversion, exists, foreign_kind
from saddlescope.data.names import LAYERS, layer_names, refuse_other_layers, require_plain
from saddlescope.errors import RecordExistsError, WeightsError
from saddlescope.files import write_file
from saddlescope.models.activations import spelled
from saddlescope.models.mlp import MLP
from saddlescope.models.sizes import require_traceable


def save_weights(
    path: str | Path,
    network: Any,
    parameters: Parameters,
    *,
    overwrite: bool = False,
    notes: Mapping[str, str] | None = None,
    like: str | Path | None = None,
) -> None:
    """Write a network's parameters, its activation and widths to a safetensors file.

    Args:
        path: the file.
        network: what the parameters belong to.
        parameters: its weights and biases.
        overwrite: replace the file if it exists.
        notes: further words for the file's metadata, such as ``seed`` and ``command``; activation and widths stay.
        like: a file of `load_weights` whose names the arrays are to have, layer by layer; the values stay float64,
            which ``load_state_dict`` casts. Plain names where it has another number of layers.

    Raises:
        RecordExistsError: the file exists and ``overwrite`` is False.
        ShapeError: parameters that do not fit the network.
        NonFiniteError: NaN or infinity among the parameters.
        StorageError: the disk refuses.
        WeightsError: the file ``like`` cannot be read.
        SettingsError: another model than a perceptron; see `to_torch`.
    """
    path = Path(path)
    require_traceable(network, "save_weights")
    network.check(parameters)
    require_finite(parameters, "the network")
    own = _names_like(Path(like), network) if like is not None else None
    if os.path.lexists(path) and not overwrite:
        raise RecordExistsError("the output exists", name="file", value=path, advice="Use another name, or --overwrite")
    metadata = {
        # A file's header is UTF-8: of names on disk that are not, such as in a command, the odd bytes become escapes.
        **{key: value.encode("utf-8", "backslashreplace").decode("utf-8") for key, value in (notes or {}).items()},
        **({LAYERS: ",".join(own)} if own else {}),
        "activation": network.activation,
        "widths": ",".join(str(width) for width in network.widths),
        "format": "pt",
    }
    # to_numpy makes every array contiguous: safetensors stores the bytes of a transposed array in the wrong order.
    arrays = to_numpy(parameters)
    if own:
        arrays = {f"{own[int(name.split('.')[0]) // 2]}.{name.split('.')[1]}": v for name, v in arrays.items()}
    write_file(path, _same_bytes(save(arrays, metadata)), "the file of weights")


def save_arrays(
    path: str | Path, arrays: Parameters, *, overwrite: bool = False, notes: Mapping[str, str] | None = None
) -> None:
    """Write arrays of any model to a safetensors file under their names; the values stay as they are.

    Raises:
        RecordExistsError: the file exists and ``overwrite`` is False.
        StorageError: the disk refuses.
    """
    path = Path(path)
    if os.path.lexists(path) and not overwrite:
        raise RecordExistsError("the output exists", name="file", value=path, advice="Use another name, or --overwrite")
    words = {key: value.encode("utf-8", "backslashreplace").decode("utf-8") for key, value in (notes or {}).items()}
    own = {name: np.array(value, order="C") for name, value in arrays.items()}  # contiguous; a scalar stays one
    write_file(path, _same_bytes(save(own, {**words, "format": "pt"})), "the file of weights")


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


def stated_accuracy(notes: Mapping[str, str]) -> float | None:
    """Return the accuracy in training that a file's metadata state, as `saddlescope train` writes it; None without."""
    try:
        value = float(notes.get("accuracy", ""))
    except ValueError:
        return None
    return value if 0.0 <= value <= 1.0 else None


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


def load_weights(
    path: str | Path,
    *,
    activation: str | None = None,
    layers: Sequence[str] | None = None,
    data: Data | None = None,
) -> tuple[MLP, dict[str, np.ndarray]]:
    """Read a perceptron: ``0.weight``, ``0.bias``, ``2.weight``, ... or ``fc1.weight``, ... in order of their numbers.

    Args:
        path: a safetensors file of 2-D weights (out, in) and 1-D biases, of any floating type.
        activation: needed when the metadata do not say it, and there is a hidden layer; must agree when they do. One
            name for all hidden layers, or one for each, parted by commas: ``relu,tanh``. Never guessed.
        layers: the layers' names in the order of computation, such as ``("fc1", "fc2", "out")``, where they are no
            prefix and a number and their shapes allow more than one order; the metadata may say them under ``layers``,
            parted by commas. Never guessed.
        data: where these hold ``outputs``, the network is compared with them.

    Returns:
        The network and its parameters in float64, under the names ``0.weight``, ``0.bias``, ``2.weight``, ...

    Raises:
        WeightsError: missing, damaged or foreign file, no activation or a contradiction, arrays that are no perceptron,
            or outputs other than those of the data.
        SettingsError: an unknown activation.
        ShapeError: outputs or inputs of the data that do not fit.
        NonFiniteError: NaN or infinity among the parameters.
    """
    path = Path(path)
    arrays, metadata = _read(path)
    require_plain(arrays, metadata, path)
    order = layer_names(arrays, metadata, path, layers)
    parameters, widths = _chain(arrays, order, path)
    _require_widths(metadata.get("widths"), widths)
    chosen = _activation(activation, metadata.get("activation"), path, len(order) - 1)
    network = MLP(widths, chosen, bias="0.bias" in parameters)
    network.check(parameters)
    require_finite(parameters, path.name)
    if data is not None:
        require_agreement(network, parameters, data)
    return network, parameters


def _activation(given: str | None, stated: str | None, path: Path, hidden: int) -> str:
    """Return the activations that the user or the file says; without a hidden layer there is none to say."""
    if given is not None and stated is not None and spelled(given, hidden) != spelled(stated, hidden):
        raise WeightsError("the file says another activation", name="activation", value=given, expected=stated)
    if given is None and stated is None and hidden:
        raise WeightsError(
            "the file does not say the activation",
            name="file",
            value=path,
            advice="Say it with --activation; it is never guessed",
        )
    return given or stated or "identity"


def _require_widths(told: str | None, widths: tuple[int, ...]) -> None:
    if told is not None and told != ",".join(str(width) for width in widths):
        raise WeightsError("the arrays are not as wide as the file says", name="widths", value=widths, expected=told)


def _chain(
    arrays: dict[str, np.ndarray], order: Sequence[str], path: Path
) -> tuple[dict[str, np.ndarray], tuple[int, ...]]:
    """Return the parameters under plain names, and the widths."""
    parameters: dict[str, np.ndarray] = {}
    widths = [arrays[f"{order[0]}.weight"].shape[1]]
    for k, name in enumerate(order):
        weight, bias = arrays[f"{name}.weight"], arrays.get(f"{name}.bias")
        if bias is not None and bias.shape != weight.shape[:1]:
            raise WeightsError(
                f"the bias of {name} in {path} does not fit",
                name="shape",
                value=bias.shape,
                expected=f"({weight.shape[0]},)",
            )
        if weight.shape[1] != widths[-1]:
            shapes = [arrays[f"{each}.weight"].shape for each in order]
            turned = all(before[1] == after[0] for before, after in itertools.pairwise(shapes))
            raise WeightsError(
                f"layer {k + 1} of {path}, {name}, does not follow the one before",
                name="inputs",
                value=weight.shape[1],
                expected=str(widths[-1]),
                advice="Weights are (out, in); these look like (in, out): transpose them" if turned else None,
            )
        widths.append(weight.shape[0])
        parameters[f"{2 * k}.weight"] = np.ascontiguousarray(weight)
        if bias is not None:
            parameters[f"{2 * k}.bias"] = bias
    biased = [name for name in order if f"{name}.bias" in arrays]
    if biased and len(biased) < len(order):
        raise WeightsError(
            "some layers have a bias and some have none",
            name="layers without",
            value=[name for name in order if name not in biased],
            expected="all or none",
            advice="Give these a bias of zeros",
        )
    return parameters, tuple(widths)


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    if not exists(path):
        raise WeightsError("no such file", name="file", value=path, expected="a safetensors file")
    if not path.is_file():
        raise WeightsError("this is no file", name="file", value=path, expected="a safetensors file")
    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
            names = list(file.keys())
            kinds = {name: file.get_slice(name).get_dtype() for name in names}
            refuse_other_layers({name: tuple(file.get_slice(name).get_shape()) for name in names}, path)
            bad = {name: kind for name, kind in kinds.items() if kind not in ("F16", "F32", "F64", "BF16")}
            if bad:
                raise WeightsError(
                    "arrays of a type that is not used for weights", name="types", value=bad, expected="floating point"
                )
            return {name: np.asarray(file.get_tensor(name), dtype=np.float64) for name in names}, metadata
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        kind = foreign_kind(path)
        if kind is not None:
            line = conversion(path, kind)
            advice = f"Convert it: python -c '{line}'" if line else None
            raise WeightsError(
                f"this is {kind}", name="file", value=path.name, expected="safetensors", advice=advice
            ) from error
        raise WeightsError(
            "this is not a whole safetensors file", name="file", value=path, expected=f"safetensors ({error})"
        ) from error


def _names_like(path: Path, network: MLP) -> list[str] | None:
    """Return the layers' names in a file, if it has as many layers as the network."""
    arrays, metadata = _read(path)
    order = layer_names(arrays, metadata, path, None)
    return order if len(order) == network.depth else None
