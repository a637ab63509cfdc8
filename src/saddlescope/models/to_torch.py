"""From a result back to a PyTorch module: a state dict with the user's names, types and shapes."""

import copy
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from saddlescope.errors import SettingsError, ShapeError
from saddlescope.models.from_torch import with_shapes
from saddlescope.models.torch_export import (
    ConversionError,
    fold_norms,
    torch_library,
    unwrapped,
)

FOLDED = 1e-12


def to_torch(result: Any, module: Any, *, statistics: Literal["kept", "folded"] = "kept") -> dict[str, Any]:
    """Return a state dict for ``module.load_state_dict(..., strict=True)`` from parameters or a result that has some.

    Args:
        result: parameters by the module's names, or whatever holds them as ``parameters``.
        module: the module that was given to `from_torch`; it is not changed. Wrappers keep their prefixes.
        statistics: as given to `from_torch`: "folded" turns a and c of every batch norm into its weight and bias
            again, by the module's running statistics.

    Returns:
        Tensors of the module's own types. Buffers, frozen arrays and whatever the result does not hold are the
        module's own; shared arrays stand under all their names.

    Raises:
        ShapeError: an array that the module does not have, or of another shape: the message tells the shape to build.
        ConversionError: a folded norm (weight norm, spectral norm) that cannot hold the weights.
        SettingsError: another word for the statistics.
    """
    torch = torch_library()
    if statistics not in ("kept", "folded"):
        raise SettingsError("not known", name="statistics", value=statistics, expected="kept or folded")
    given: Mapping[str, Any] = getattr(result, "parameters", result)
    given = {name: np.asarray(value) for name, value in given.items()}
    inside = copy.deepcopy(unwrapped(module)).cpu()
    plain = copy.deepcopy(inside)
    fold_norms(plain)
    own = dict(plain.named_parameters())
    for name, value in given.items():
        if name not in own:
            raise ShapeError("the module has no such parameter", name="array", value=name, expected=_near(own))
        if tuple(own[name].shape) != value.shape:
            raise ShapeError(
                "the module is built for another number of units",
                name=name,
                value=value.shape,
                expected=f"{tuple(own[name].shape)}, or a module built with the new shape",
            )
    if statistics == "folded":
        given = _unfolded(given, plain)
    with torch.no_grad():
        for name, value in given.items():
            _assign(torch, inside, name, value)
    prefix = _prefix(module, inside)
    return {f"{prefix}{name}": value.detach().clone() for name, value in inside.state_dict().items()}


def resized_state(
    parameters: Mapping[str, Any],
    fixed: Mapping[str, Any],
    module: Any,
    *,
    statistics: Literal["kept", "folded"] = "kept",
) -> dict[str, Any]:
    """Return a state dict for a module like this one that is built with the parameters' shapes.

    A batch norm whose channels are other in number has statistics 0 and 1 if they were folded, and the statistics that
    its channels have in common if they were kept; all other buffers are the module's own.

    Args:
        parameters: trained arrays by the module's names.
        fixed: arrays of the resized model that are not trained, by the same names.
        module: as given to `from_torch`; it is not changed.
        statistics: as given to `from_torch`.

    Returns:
        Tensors of the module's own types.

    Raises:
        ShapeError: an array that the module does not have.
        ConversionError: a folded norm (weight norm, spectral norm) that cannot hold the weights.
    """
    arrays = {name: np.asarray(value) for name, value in {**fixed, **parameters}.items()}
    return to_torch(parameters, with_shapes(unwrapped(module), arrays), statistics=statistics)


def _near(own: Mapping[str, Any]) -> str:
    names = list(own)
    return f"one of {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"


def _unfolded(given: Mapping[str, np.ndarray], plain: Any) -> dict[str, np.ndarray]:
    """Return the parameters with a and c of each batch norm turned into weight and bias."""
    torch, result = torch_library(), dict(given)
    for name, part in plain.named_modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm) and part.affine and part.running_var is not None:
            dot = f"{name}." if name else ""
            a, c = (np.asarray(given.get(f"{dot}{last}", np.nan)) for last in ("weight", "bias"))
            if np.isnan(a).any() or np.isnan(c).any():
                raise ShapeError("a batch norm without both of its arrays", name="module", value=name)
            mean, variance = part.running_mean.double().numpy(), part.running_var.double().numpy()
            result[f"{dot}weight"] = a * np.sqrt(variance + part.eps)
            result[f"{dot}bias"] = c + mean * a
    return result


def _assign(torch: Any, inside: Any, name: str, value: np.ndarray) -> None:
    """Write one array into the module, through its parametrisation where it has one."""
    path, _, last = name.rpartition(".")
    part = inside.get_submodule(path)
    if torch.nn.utils.parametrize.is_parametrized(part, last):
        tensor = torch.as_tensor(value)
        setattr(part, last, tensor.to(getattr(part, last).dtype))
        _require_same(name, getattr(part, last), tensor)
        return
    hooks = [hook for hook in part._forward_pre_hooks.values() if getattr(hook, "name", None) == last]
    if hooks and type(hooks[0]).__name__ == "WeightNorm":
        tensor = torch.as_tensor(value)
        magnitude, direction = getattr(part, f"{last}_g"), getattr(part, f"{last}_v")
        magnitude.copy_(torch.norm_except_dim(tensor, 2, hooks[0].dim))
        direction.copy_(tensor)
        _require_same(name, hooks[0].compute_weight(part), tensor)
        return
    if hooks:
        raise ConversionError("a folded norm cannot be written back", name="array", value=name)
    getattr(part, last).copy_(torch.as_tensor(value))


def _require_same(name: str, held: Any, wanted: Any) -> None:
    """Refuse a parametrisation that changes the weights that it is given."""
    held, wanted = held.detach().double(), wanted.double()
    precision = {2: 1e-2, 4: 1e-5}.get(held.element_size(), FOLDED) if str(held.dtype) != "torch.float64" else FOLDED
    if float((held - wanted).abs().max()) > precision * float(wanted.abs().max()):
        raise ConversionError(
            "the module's parametrisation (spectral norm, ...) cannot hold these weights",
            name="array",
            value=name,
            advice="Remove it first, with torch.nn.utils.parametrize.remove_parametrizations",
        )


def _prefix(module: Any, inside: Any) -> str:
    """Return what wrappers put before each name."""
    first, wrapped = next(iter(inside.state_dict()), ""), list(module.state_dict())
    return next((name[: len(name) - len(first)] for name in wrapped if name.endswith(first)), "")
