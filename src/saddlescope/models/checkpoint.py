"""Weights files for a PyTorch module: safetensors, in one file or several with an index, or a state dict of torch.save.

A file of torch.save is read with ``weights_only=True``: tensors and plain containers, never a pickle's code.
"""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from saddlescope.errors import UNREADABLE, WeightsError
from saddlescope.models.torch_export import first_line, torch_library, unwrapped

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What wrappers (data-parallel training, torch.compile, Lightning) put before every name."""

_INSIDE = ("state_dict", "model_state_dict", "model", "params", "net")
_FORM = ".safetensors, .safetensors.index.json, or .pt"


def read_state(path: Path) -> dict[str, Any]:
    """Return the tensors of a weights file by name.

    Args:
        path: a safetensors file, the JSON index of several, or a file of torch.save that holds tensors only, or them
            under ``state_dict`` or the like.

    Raises:
        WeightsError: no such file, another format, a damaged file, or one that holds more than tensors.
        MissingExtraError: PyTorch is not installed.
    """
    torch = torch_library()
    if not path.is_file():
        raise WeightsError("no such file", name="weights", value=path, expected=_FORM)
    if path.name.endswith(".json"):
        return _sharded(path)
    if path.suffix == ".safetensors":
        return _one(path)
    if path.suffix not in (".pt", ".pth", ".bin", ".ckpt"):
        raise WeightsError("not a known format of weights", name="weights", value=path, expected=_FORM)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            "this file holds more than tensors, and is not unpickled",
            name="weights",
            value=path,
            expected=_FORM,
            advice="Store module.state_dict() alone",
        ) from error
    except (*UNREADABLE, RuntimeError, EOFError) as error:
        raise WeightsError(
            f"this cannot be read ({first_line(error, 80)})", name="weights", value=path, expected=_FORM
        ) from error
    return _tensors(content, path)


def _one(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, *UNREADABLE) as error:
        raise WeightsError(
            f"this is not a whole safetensors file ({first_line(error, 80)})", name="weights", value=path
        ) from error


def _sharded(path: Path) -> dict[str, Any]:
    """Return the tensors of all files that an index names, which lie beside it."""
    try:
        places = json.loads(path.read_text("utf-8"))["weight_map"]
        pairs = {str(name): str(file) for name, file in places.items()}
    except UNREADABLE as error:
        raise WeightsError(
            "this is no index of safetensors files", name="weights", value=path, expected="JSON with a weight_map"
        ) from error
    found: dict[str, dict[str, Any]] = {}
    for file in dict.fromkeys(pairs.values()):
        if Path(file).name != file:
            raise WeightsError("the index names a file elsewhere", name="file", value=file, expected="one beside it")
        if not (path.parent / file).is_file():
            raise WeightsError("a file of the index is missing", name="file", value=path.parent / file)
        found[file] = _one(path.parent / file)
    absent = [name for name, file in pairs.items() if name not in found[file]]
    if absent:
        raise WeightsError("the index names an array that is not there", name="array", value=absent[0])
    return {name: found[file][name] for name, file in pairs.items()}


def _tensors(content: Any, path: Path) -> dict[str, Any]:
    """Return the tensors by name, from under the name that training programs put them."""
    torch = torch_library()
    for key in _INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(
            "there are no tensors by name", name="weights", value=path, expected="what module.state_dict() returns"
        )
    odd = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if odd:
        raise WeightsError(
            "this is not a state dict alone",
            name="entry",
            value=odd[0],
            expected="tensors, or them under state_dict",
            advice="Store module.state_dict() alone",
        )
    return {str(name): value for name, value in content.items()}


def load_state(module: Any, path: Path) -> None:
    """Put a file's weights into a module, in place and strictly; the module becomes one of double precision.

    Args:
        module: a PyTorch module; wrappers, and their prefixes in the file's names, are taken off.
        path: as for `read_state`.

    Raises:
        WeightsError: an array that is missing, not the module's, or of another shape; as for `read_state`.
    """
    inside, state = unwrapped(module), read_state(path)
    wanted = {name: tuple(value.shape) for name, value in inside.state_dict().items()}
    state = _without_prefix(state, wanted)
    given = {name: tuple(value.shape) for name, value in state.items()}
    for what, wrong in (
        ("the weights lack an array of the module", [name for name in wanted if name not in given]),
        ("the module has no such array", [name for name in given if name not in wanted]),
    ):
        if wrong:
            others = [name for name in given if name not in wanted] or list(given)
            rest = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise WeightsError(
                what,
                name="array",
                value=f"{wrong[0]}{rest}",
                expected=f"the module's names; the file has {', '.join(others[:3])}",
            )
    for name, shape in wanted.items():
        if given[name] != shape:
            raise WeightsError(
                "an array of the weights does not fit the module", name=name, value=given[name], expected=str(shape)
            )
    inside.double()  # so that a file of float64 keeps its digits
    try:
        inside.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsError(f"the weights do not fit ({first_line(error)})", name="weights", value=path) from error


def _without_prefix(state: dict[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state without the prefixes of wrappers, where all names have one and the module's do not."""
    while state and not set(state) & set(wanted):
        prefix = next((each for each in PREFIXES if all(name.startswith(each) for name in state)), None)
        if prefix is None:
            return state
        state = {name[len(prefix) :]: value for name, value in state.items()}
    return state
