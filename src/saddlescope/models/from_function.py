"""Models from JAX: a function of parameters and inputs, a Flax module, an Equinox module. One door for all."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from saddlescope.arrays import Layout, require_finite
from saddlescope.errors import MissingExtraError, SaddlescopeError, ShapeError
from saddlescope.models.finding import find_symmetries
from saddlescope.models.function import Function, Input
from saddlescope.precision import in_float64


class FunctionError(SaddlescopeError):
    """A function that is no model: it fails, is random, returns no array, or mixes the samples of a batch."""


def named(tree: Any) -> tuple[dict[str, Any], Callable[[Mapping[str, Any]], Any]]:
    """Return the leaves of a pytree by dotted names, and the way back.

    Raises:
        FunctionError: two leaves with one name.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    names = [".".join(_part(key) for key in path) or "value" for path, _ in leaves]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise FunctionError("two arrays have one name", name="name", value=sorted(twice)[0], expected="one for each")

    def back(arrays: Mapping[str, Any]) -> Any:
        return jax.tree_util.tree_unflatten(structure, [arrays[name] for name in names])

    return dict(zip(names, (leaf for _, leaf in leaves), strict=True)), back


def _part(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


@in_float64
def from_function(
    apply: Callable[..., Any], params: Any, x: Any, *, fixed: Any = None, origin: str = "function"
) -> tuple[Function, dict[str, np.ndarray]]:
    """Turn any JAX function into a model and its parameters; its units are found and tried.

    Args:
        apply: pure function (params, x) -> outputs, a row for each sample; with ``fixed``, (params, fixed, x).
            Several inputs are given one after the other.
        params: the trained arrays, any pytree; names are its paths, joined by dots.
        x: a small batch of inputs, batch first; a tuple of arrays if there are several inputs.
        fixed: arrays that are not trained, such as running statistics, any pytree.
        origin: a word for records.

    Returns:
        The model, with its layers, and the parameters as float64 arrays by name.

    Raises:
        FunctionError: the function fails on x, is random, mixes samples, or returns no single real array.
        NonFiniteError: a parameter that is not finite.
        ShapeError: parameters that are no real arrays, or none.
    """
    trained, back = named(params)
    rest, back_rest = named(fixed)
    parameters = _real(trained)
    still = {f"fixed.{name}" if name in parameters else name: np.asarray(value) for name, value in rest.items()}
    own = dict(zip(still, rest, strict=True))
    still = {
        n: v.astype(np.float64) if v.dtype.kind == "f" or "bfloat" in str(v.dtype) else v for n, v in still.items()
    }
    require_finite(parameters, "the parameters")
    inputs = tuple(_sample(value) for value in (x if isinstance(x, tuple | list) else (x,)))

    def function(arrays: Mapping[str, Any], *data: Any) -> Any:
        tree = back({name: arrays[name] for name in trained})
        others = () if fixed is None else (back_rest({own[name]: arrays[name] for name in still}),)
        return apply(tree, *others, *data)

    return _model(function, parameters, still, inputs, origin), parameters


def _model(
    function: Callable[..., Any],
    parameters: dict[str, np.ndarray],
    still: dict[str, np.ndarray],
    inputs: tuple[np.ndarray, ...],
    origin: str,
) -> Function:
    outputs = _checked(function, {**parameters, **still}, inputs)
    symmetries, count = find_symmetries(function, {**parameters, **still}, set(still), inputs)
    kinds = tuple(Input(value.shape[1:], value.dtype.kind) for value in inputs)
    return Function(function, Layout.of(parameters), still, kinds, tuple(outputs.shape[1:]), symmetries, origin, count)


def _real(trained: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays in double precision, from any floating type."""
    result = {}
    for name, value in trained.items():
        kind = jnp.result_type(value) if hasattr(value, "dtype") else np.asarray(value).dtype
        if not jnp.issubdtype(kind, jnp.floating):
            raise ShapeError(
                "a parameter is not real",
                name=name,
                value=kind,
                expected="arrays of floats",
                advice="Give what is not trained as fixed=",
            )
        result[name] = np.array(value, dtype=np.float64)
    if not result:
        raise ShapeError("there is nothing to train", name="parameters", value=0, expected="at least one array")
    return result


def _sample(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or array.ndim == 0 or array.shape[0] == 0:
        raise FunctionError(
            "the inputs are not a batch of numbers",
            name="x",
            value=f"{array.dtype} {array.shape}",
            expected="an array, batch first",
        )
    kind = {"f": np.float64, "i": np.int64, "u": np.int64, "b": np.bool_}[array.dtype.kind]
    return array.astype(kind)


def _checked(function: Callable[..., Any], arrays: Mapping[str, Any], inputs: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the outputs; refuse what is no function of each sample in double precision.

    Raises:
        FunctionError: see above.
    """

    def run(data: tuple[Any, ...]) -> Any:
        return function({n: jnp.asarray(v) for n, v in arrays.items()}, *(jnp.asarray(v) for v in data))

    try:
        first, again = run(inputs), run(inputs)
    except SaddlescopeError:
        raise
    except Exception as error:
        line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise FunctionError(
            f"the function does not run on these inputs ({line[:160].rstrip('.')})",
            name="shapes",
            value=[value.shape for value in inputs],
        ) from error
    if not isinstance(first, jax.Array | np.ndarray):
        raise FunctionError("the function does not return one array", name="output", value=type(first).__name__)
    if first.dtype != jnp.float64 or first.ndim == 0 or first.shape[0] != inputs[0].shape[0]:
        raise FunctionError(
            "the outputs are not double precision for each sample",
            name="outputs",
            value=f"{first.dtype} {first.shape}",
            expected=f"float64, {inputs[0].shape[0]} rows",
            advice="Let the function keep its arguments' types",
        )
    outputs = np.asarray(first)
    if not np.isfinite(outputs).all():
        raise FunctionError("the outputs are not finite")
    if not np.array_equal(outputs, np.asarray(again)):
        raise FunctionError("the function gives different outputs for the same input", advice="Switch dropout off")
    _separate(run, inputs, outputs)
    return outputs


def _separate(run: Callable[..., Any], inputs: tuple[np.ndarray, ...], outputs: np.ndarray) -> None:
    """Refuse a function in which one sample changes another's output: each one is tried alone, in a full batch."""
    if len(outputs) == 1:
        return
    other = tuple(np.concatenate([value[:1], value[-1:].repeat(len(value) - 1, 0)]) for value in inputs)
    alone = np.asarray(run(other))
    if np.abs(alone[0] - outputs[0]).max(initial=0.0) > 1e-9 * np.abs(outputs).max(initial=0.0):
        raise FunctionError(
            "the samples of a batch change each other's outputs (batch statistics, or inputs that are not batch first)",
            name="samples",
            value=len(outputs),
            expected="outputs of each sample for itself",
        )


def from_equinox(module: Any, x: Any, *, batched: bool = False) -> tuple[Function, dict[str, np.ndarray]]:
    """Turn an Equinox module into a model; float arrays are the parameters, under the module's own field names.

    Args:
        module: an `equinox.Module` that maps one sample, as Equinox's own layers do; in inference mode.
        x: a small batch of inputs, batch first.
        batched: whether the module takes a whole batch by itself.

    Returns:
        The model and its parameters.

    Raises:
        FunctionError: as for `from_function`.
    """
    import equinox as eqx

    if not callable(module):
        raise FunctionError("the module cannot be called", name="module", value=type(module).__name__)
    module = eqx.nn.inference_mode(module)
    params, static = eqx.partition(module, eqx.is_inexact_array)

    def apply(given: Any, *data: Any) -> Any:
        whole = eqx.combine(given, static)
        return whole(*data) if batched else jax.vmap(whole)(*data)

    return from_function(apply, params, x, origin=f"equinox:{type(module).__name__}")


def from_flax(module: Any, variables: Any = None, x: Any = None) -> tuple[Function, dict[str, np.ndarray]]:
    """Turn a Flax module into a model: linen with its variables, or an nnx module, which holds its own.

    Args:
        module: a `flax.linen.Module` or a `flax.nnx.Module`, with dropout and running averages switched to evaluation.
        variables: for linen, the dict with "params" and other collections; None for nnx.
        x: a small batch of inputs, batch first.

    Returns:
        The model and its parameters; all collections but "params" (running statistics) are fixed.

    Raises:
        FunctionError: as for `from_function`.
        MissingExtraError: Flax is not installed.
    """
    try:
        from flax import linen, nnx  # pyright: ignore[reportMissingImports] — no part of what the tests install
    except ImportError as error:
        raise MissingExtraError("Flax is not installed", advice="Install flax to read its modules") from error
    origin = f"flax:{type(module).__name__}"
    if isinstance(module, nnx.Module):
        module = nnx.clone(module)  # the caller's own keeps its mode
        module.eval()
        graph, params, random, fixed = nnx.split(module, nnx.Param, nnx.RngState, ...)
        plain, rest = nnx.to_pure_dict(params), nnx.to_pure_dict(fixed)

        def call(given: Any, still: Any, *data: Any) -> Any:
            nnx.replace_by_pure_dict(trained := jax.tree.map(lambda v: v, params), given)
            nnx.replace_by_pure_dict(others := jax.tree.map(lambda v: v, fixed), still)
            return nnx.merge(graph, trained, random, others)(*data)

        return from_function(call, plain, x, fixed=rest, origin=origin)
    if not isinstance(module, linen.Module) or not isinstance(variables, Mapping) or "params" not in variables:
        raise FunctionError(
            "not a Flax module with its variables",
            name="variables",
            value=sorted(variables) if isinstance(variables, Mapping) else type(variables).__name__,
            expected="a linen module and a dict with params, or an nnx module",
        )
    rest = {name: value for name, value in variables.items() if name != "params"}

    def apply(given: Any, still: Any, *data: Any) -> Any:
        return module.apply({"params": given, **still}, *data)

    return from_function(apply, variables["params"], x, fixed=rest, origin=origin)
