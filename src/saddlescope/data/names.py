"""The names of a weights file: which arrays are a layer, in which order the layers come, and what is no perceptron."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from saddlescope.errors import WeightsError

LAYERS = "layers"
"""Where the metadata say the layers' names in the order of computation, parted by commas."""

MOST_STEPS = 20_000
"""Layers tried in search of an order by shapes."""

_NUMBERED = re.compile(r"(?P<stem>.*?)(?P<number>[0-9]{1,9})")
_DIMENSIONS = {"weight": 2, "bias": 1}

# What other layers leave in a state dict, most telling first: (rule for the name, dimensions or None, what it is).
_MARKS: tuple[tuple[str, int | None, str], ...] = (
    (r".*running_(mean|var)", None, "a batch normalisation"),
    (r".*parametrizations\..*", None, "a parametrisation; remove it first, as torch's remove_parametrizations does"),
    (r".*weight_[gv]", None, "a weight normalisation; remove it first, as torch's remove_weight_norm does"),
    (r".*lora_[AB].*", None, "a LoRA adapter; merge it into the weights first"),
    (r".*in_proj_(weight|bias)", None, "an attention layer"),
    (r".*weight_[ih]h_l\d+", None, "a recurrent layer"),
    (r".*kernel", None, "a layer of Flax or Keras: store kernels transposed, (out, in), as weight"),
    (r".*weight", 3, "a convolution"),
    (r".*weight", 4, "a convolution"),
    (r".*weight", 5, "a convolution"),
    (r".*weight", 1, "a normalisation or an activation with parameters"),
)


def require_plain(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str], path: Path) -> None:
    """Refuse arrays that are not ``NAME.weight`` (out, in) and ``NAME.bias`` (out,), saying what they look like.

    Raises:
        WeightsError: an array of another name or dimension, or one that stands for two.
    """
    shared = sorted(name for name, other in metadata.items() if other in arrays and name.endswith("weight"))
    if shared:
        raise WeightsError(
            f"{path} is not a plain perceptron: weights are tied",
            name="array",
            value=f"{shared[0]} is {metadata[shared[0]]}",
            expected="an array for each layer",
        )
    refuse_other_layers({name: array.shape for name, array in arrays.items()}, path)
    odd = [name for name, array in arrays.items() if _DIMENSIONS.get(name.rpartition(".")[2]) != array.ndim]
    odd += [name for name in arrays if "." not in name and name not in odd]
    if odd:
        raise _not_plain(path, "", odd[0], arrays[odd[0]].shape)
    stems = {name.rpartition(".")[0] for name in arrays}
    if not stems or any(f"{stem}.weight" not in arrays for stem in stems):
        raise WeightsError(
            "there are no weights, or a bias without them", name="file", value=path, expected="N.weight and N.bias"
        )


def refuse_other_layers(shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Refuse a file that has what other layers leave in a state dict, saying which layer that is.

    Raises:
        WeightsError: an array that is known to belong to another layer.
    """
    for rule, dimensions, what in _MARKS:
        for name, shape in shapes.items():
            if re.fullmatch(rule, name) and dimensions in (None, len(shape)):
                raise _not_plain(path, f": it has {what}", name, shape)


def _not_plain(path: Path, what: str, name: str, shape: tuple[int, ...]) -> WeightsError:
    return WeightsError(
        f"{path.name} is not a plain perceptron{what}",
        name="array",
        value=f"{name} {tuple(shape)}",
        expected="N.weight (out, in) and N.bias (out,)",
        advice="Other models: name the code that builds it, FILE.py:function, and this file with --weights"
        if what
        else None,
    )


def layer_names(
    arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str], path: Path, given: Sequence[str] | None
) -> list[str]:
    """Return the layers' names in the order of computation: as given, as the metadata say, by number, or by shape.

    Names that are no prefix and a number have an order where only one lets each layer read what the one before sends.

    Raises:
        WeightsError: names that have no one order, or other ones than given.
    """
    present = sorted({name.rpartition(".")[0] for name in arrays})
    stated = metadata[LAYERS].split(",") if metadata.get(LAYERS) else None
    if given is not None and stated is not None and list(given) != stated:
        raise WeightsError("the file says another order", name="layers", value=list(given), expected=str(stated))
    told = list(given) if given is not None else stated
    if told is not None:
        if sorted(told) != present:
            raise WeightsError("these are not the layers of the file", name="layers", value=told, expected=str(present))
        return told
    matches = {name: _NUMBERED.fullmatch(name) for name in present}
    stems = {match["stem"] if match else None for match in matches.values()}
    if None in stems or len(stems) > 1:
        fitting = _orders({name: np.shape(arrays[f"{name}.weight"]) for name in present if f"{name}.weight" in arrays})
        if len(fitting) == 1 and len(fitting[0]) == len(present) > 1:
            return fitting[0]
        raise WeightsError(
            f"the layers of {path.name} have names of more than one kind and shapes of "
            f"{'no' if not fitting else 'more than one'} order, so their order is open",
            name="names",
            value=", ".join(present),
            expected="one prefix and numbers",
            advice="Say the order: load_weights(..., layers=(...)), or layers, by commas, in the file's metadata",
        )
    numbers = {name: int(match["number"]) for name, match in matches.items() if match}
    order = sorted(present, key=numbers.__getitem__)
    if len(set(numbers.values())) < len(numbers):
        raise WeightsError("two arrays for one place", name="names", value=order, expected="each number once")
    return order


def _orders(shapes: Mapping[str, tuple[int, ...]]) -> list[list[str]]:
    """Return the orders of dense layers (out, in) in which each reads as many as the one before sends; two at most.

    A search that takes too long is taken for one that found two.
    """
    found: list[list[str]] = []
    steps = 0

    def follow(order: list[str]) -> None:
        nonlocal steps
        steps += 1
        if len(found) > 1 or steps > MOST_STEPS:
            return
        if len(order) == len(shapes):
            found.append(order)
        for name, shape in shapes.items():
            if name not in order and (not order or shape[1] == shapes[order[-1]][0]):
                follow([*order, name])

    if all(len(shape) == 2 for shape in shapes.values()):
        follow([])
    return found if steps <= MOST_STEPS else [[], []]
