"""The word MODEL of every command: a plain network's file, or the user's own function that returns a model.

The one place where it is read. What the function may return: a PyTorch module; (module, example); a model of
saddlescope with its parameters, as `from_function` and its like return them; or that and an example.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from saddlescope.errors import SettingsError, WeightsError
from saddlescope.models.own_code import is_code, run_own

RETURNS = "a torch module, (module, example), or a model with its parameters"
_SAMPLES = 8


@dataclass(frozen=True)
class Opened:
    """A model that a command was given.

    Attributes:
        model: a `MLP` or a `Function`.
        parameters: its trained arrays.
        inputs: a few samples: the example, the data's first rows, or drawn at random.
        names: the user's own names of arrays, where the parameters' are others.
        notes: words of the file that the weights come from.
        words: what a record keeps of where the model comes from.
        searched: whether the model's own symmetries were found at these parameters.
        module: the PyTorch module of the user's own, where there is one.
    """

    model: Any
    parameters: dict[str, np.ndarray]
    inputs: Any
    names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    notes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    words: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    searched: bool = False
    module: Any = None


def open_model(
    word: str,
    *,
    weights: Path | None = None,
    example: Any = None,
    activation: str | None = None,
    data: Any = None,
    statistics: str = "kept",
) -> Opened:
    """Return the model that a word names.

    Args:
        word: a safetensors file of a plain network, or ``FILE.py:function``, or ``package.module:function``.
        weights: a file of weights for a model of the user's own code.
        example: a small batch of inputs, instead of the function's own; one is needed for a PyTorch module.
        activation: of a plain network, when its file does not say it.
        data: rows that serve as an example where there is no other; with ``outputs``, the model is compared with them.
        statistics: of batch norm, "kept" or "folded"; see `from_torch`.

    Raises:
        SaddlescopeError: a word that names no model, code that fails, or weights that do not fit.
    """
    if not is_code(word):
        if word.endswith(".py") or ".py:" in word:
            raise SettingsError("no function is named", name="model", value=word, expected="FILE.py:function")
        if weights is not None:
            raise SettingsError(
                "weights are for a model of your own code", name="weights", value=weights, expected="FILE.py:function"
            )
        return _plain(Path(word), activation, data, example)
    if activation is not None:
        raise SettingsError(
            "your own code has its own activations", name="activation", value=activation, expected="a file of weights"
        )
    opened = _opened(word, run_own(word), weights, example, data, statistics)
    if data is not None:
        from saddlescope.data.agreement import require_agreement

        require_agreement(opened.model, opened.parameters, data)
    return opened


def _opened(word: str, made: Any, weights: Path | None, example: Any, data: Any, statistics: str) -> Opened:
    """Return the model that the user's own code made."""
    words = {"network": word, **({} if weights is None else {"weights": str(weights)})}
    parts = tuple(made) if isinstance(made, tuple | list) else (made,)
    if 1 <= len(parts) <= 2 and _is_module(parts[0]):
        given = example if example is not None else parts[1] if len(parts) == 2 else None
        if given is None and data is not None:
            given = data.inputs[:_SAMPLES]
        return _torch(word, parts[0], given, weights, words, statistics)
    if len(parts) in (2, 3) and hasattr(parts[0], "layout") and hasattr(parts[0], "apply"):
        return _own(word, parts, example, weights, words, data)
    shown = ", ".join(type(part).__name__ for part in parts)
    shown = f"({shown})" if isinstance(made, tuple | list) else shown
    raise SettingsError("this function returns no model", name=word, value=shown, expected=RETURNS)


def _is_module(value: Any) -> bool:
    """Whether a value is a PyTorch module; PyTorch is not imported to find out."""
    return any(kind.__module__ == "torch.nn.modules.module" and kind.__name__ == "Module" for kind in type(value).mro())


def _torch(
    word: str, module: Any, example: Any, weights: Path | None, words: Mapping[str, object], statistics: str
) -> Opened:
    from saddlescope.models.checkpoint import load_state
    from saddlescope.models.from_torch import from_torch

    if example is None:
        raise SettingsError(
            "an example is missing: a small batch of inputs",
            name="model",
            value=word,
            expected="(module, example) from the function; or --example or --data, where the command has it",
        )
    if weights is not None:
        load_state(module, weights)
    model, parameters = from_torch(module, example, statistics=statistics)  # type: ignore[arg-type]
    if statistics == "folded" and any(name.endswith("running_var") for name in module.state_dict()):
        words = {**words, "statistics": statistics}
    return Opened(model, parameters, _arrays(example), words=words, searched=True, module=module)


def _arrays(example: Any) -> tuple[np.ndarray, ...]:
    given = example if isinstance(example, tuple | list) else (example,)
    return tuple(np.asarray(value.detach().cpu() if hasattr(value, "detach") else value) for value in given)


def _own(
    word: str, parts: tuple[Any, ...], example: Any, weights: Path | None, words: Mapping[str, object], data: Any
) -> Opened:
    """Return a model of saddlescope, or of a class of the user's own, with its parameters or with a file's."""
    from saddlescope.arrays import require_finite
    from saddlescope.models.contract import adapted

    model, parameters = adapted(parts[0]), getattr(parts[1], "parameters", parts[1])
    if not isinstance(parameters, Mapping):
        raise SettingsError("these are no parameters", name=word, value=type(parameters).__name__, expected=RETURNS)
    if weights is not None:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            stored = load_file(weights)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise WeightsError("this is not a whole safetensors file", name="weights", value=weights) from error
        parameters = {name: stored[name] for name in {**parameters, **stored} if name in stored}
    values = {name: np.asarray(value, dtype=np.float64) for name, value in parameters.items()}
    model.check(values)
    require_finite(values, "the model")
    inputs = example if example is not None else parts[2] if len(parts) == 3 else None
    if inputs is None:
        inputs = data.inputs[:_SAMPLES] if data is not None else _drawn(model)
    return Opened(model, values, inputs, words=words, searched=hasattr(model, "symmetries") and weights is None)


def _plain(path: Path, activation: str | None, data: Any, example: Any) -> Opened:
    """Return a plain network from its file, with the file's names."""
    from saddlescope.data.names import layer_names
    from saddlescope.data.weights import load_weights, weights_notes

    network, parameters = load_weights(path, activation=activation, data=data)
    notes = weights_notes(path)
    layers = layer_names(_stored(path), notes, path, None)
    names = {name: f"{layers[int(name.split('.')[0]) // 2]}.{name.split('.')[1]}" for name in parameters}
    inputs = example if example is not None else data.inputs[:_SAMPLES] if data is not None else _drawn(network)
    return Opened(network, parameters, inputs, names, notes, {"network": str(path)})


def _stored(path: Path) -> dict[str, np.ndarray]:
    """Return the names in a file, with shapes; the arrays are not looked at."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return {name: np.broadcast_to(0.0, file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def _drawn(model: Any) -> np.ndarray:
    """Return inputs drawn at random for a model that takes rows of real numbers."""
    from saddlescope.models.sizes import layer_sizes

    kinds = getattr(model, "inputs", None)
    known = bool(getattr(model, "widths", ())) if kinds is None else all(one.kind == "f" for one in kinds)
    if not known:
        why = "does not say its inputs" if kinds is None else "takes whole numbers"
        raise SettingsError(
            f"an example is missing: this model {why}",
            name="model",
            value=getattr(model, "origin", "own"),
            expected="(model, parameters, example) from the function, or --data",
        )
    size = layer_sizes(model)[0] if kinds is None else sum(math.prod(one.shape) for one in kinds)
    return np.random.default_rng(0).normal(size=(_SAMPLES, size))


def example_of(word: str) -> Any:
    """Return the example of a word: shapes of one sample, as ``3,32,32`` or ``16:100;16:2``, or a .npy or .npz file.

    ``16:100`` is 16 whole numbers below 100; inputs are separated by semicolons. A file's arrays are batch first: an
    .npz file holds ``inputs``, or one array for each input in order.

    Raises:
        SettingsError: neither.
    """
    if word.endswith((".npy", ".npz")):
        return _read(Path(word))
    generator, found = np.random.default_rng(0), []
    for part in word.split(";"):
        shape, _, below = part.partition(":")
        try:
            sizes, most = tuple(int(size) for size in shape.split(",")), int(below) if below else None
            if min(sizes) < 1 or (most is not None and most < 1):
                raise ValueError
        except ValueError as error:
            raise SettingsError(
                "not the shape of a sample",
                name="example",
                value=word,
                expected="such as 3,32,32, or 16:100 (16 whole numbers below 100), or a .npy or .npz file",
            ) from error
        shaped = (_SAMPLES, *sizes)
        found.append(generator.normal(size=shaped) if most is None else generator.integers(0, most, size=shaped))
    return found[0] if len(found) == 1 else tuple(found)


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return content[:_SAMPLES]
            names = ["inputs"] if "inputs" in content.files else list(content.files)
            arrays = tuple(content[name][:_SAMPLES] for name in names)
    except Exception as error:  # NumPy raises many kinds for a damaged file
        raise SettingsError(
            "this example cannot be read", name="example", value=path, expected=".npy or .npz"
        ) from error
    if not arrays:
        raise SettingsError("this example holds no array", name="example", value=path)
    return arrays[0] if len(arrays) == 1 else arrays


def layer_number(model: Any, word: str) -> int:
    """Return the number of a layer that is given by its number or by its name.

    Raises:
        NeuronsError: the model has no such layer.
        SettingsError: a name, for a network whose layers have only numbers.
    """
    names = [getattr(units.facts, "name", "") for units in model.layers.values()]
    if word.lstrip("-").isdigit() and (int(word) in model.layers or word not in names):
        return int(word)  # the layers of nn.Sequential are named by numbers: 0 can only be a name
    if not hasattr(model, "symmetry"):
        raise SettingsError("not a hidden layer's number", name="layer", value=word, expected="a whole number from 1")
    return int(model.symmetry(word).layer)


def by_number(model: Any, values: Mapping[str, Any]) -> dict[int, Any]:
    """Return values by layer's number, of values by number or name.

    Raises:
        NeuronsError: the model has no such layer.
        SettingsError: a layer that is named twice, or a name for a network whose layers have only numbers.
    """
    found: dict[int, Any] = {}
    for word, value in values.items():
        number = layer_number(model, word)
        if number in found:
            raise SettingsError("a layer is named twice", name="layer", value=word, expected="each layer once")
        found[number] = value
    return found


def write_resized(out: Path, net: Path, opened: Opened, found: Any, *, command: str, overwrite: bool) -> dict[str, Any]:
    """Write a resized model's weights under the user's names, and return the new shapes of arrays that changed.

    Of a PyTorch module the file holds all that a module built with the new shapes loads, in double precision.

    Args:
        out: the safetensors file.
        net: the word that named the model.
        opened: the model that was resized.
        found: the result: ``network`` and ``parameters``.
        command: the command that writes.
        overwrite: replace the file if it exists.
    """
    from saddlescope.data.weights import save_arrays, save_weights

    given = opened.parameters
    shapes = {opened.names.get(n, n): v.shape for n, v in found.parameters.items() if v.shape != given[n].shape}
    notes = {"written by": f"saddlescope {command}"}
    if opened.names:
        save_weights(out, found.network, found.parameters, overwrite=overwrite, like=net, notes=notes)
        return shapes
    arrays = found.parameters
    if opened.module is not None:
        from saddlescope.models.to_torch import resized_state

        opened.module.double()  # rounding to the module's own type is left to whoever loads the file
        statistics = opened.words.get("statistics", "kept")
        state = resized_state(found.parameters, found.network.fixed, opened.module, statistics=statistics)  # type: ignore[arg-type]
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
    save_arrays(out, arrays, overwrite=overwrite, notes={**notes, "weights of": str(net)})
    return shapes


def shapes_lines(shapes: Mapping[str, tuple[int, ...]], opened: Opened) -> list[str]:
    """Return what people are told of arrays that changed: the shapes that the user's own code is to be built with."""
    if opened.names or not shapes:
        return []
    lines = [f"build your model with {', '.join(f'{name} {shape}' for name, shape in shapes.items())}"]
    if opened.words.get("statistics") == "folded":
        lines.append(
            "batch norm: channels that were resized have running statistics 0 and 1, in weight and bias instead"
        )
    return lines
