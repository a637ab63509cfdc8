"""A PyTorch module as a model: exported, turned into JAX, compared with PyTorch, its units found."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from saddlescope.arrays import Layout
from saddlescope.errors import SettingsError
from saddlescope.models.aten_graph import Graph
from saddlescope.models.finding import find_symmetries
from saddlescope.models.function import Function, Input
from saddlescope.models.torch_check import (
    check_outputs,
    check_product,
    first_difference,
    jax_product,
)
from saddlescope.models.torch_export import (
    ConversionError,
    as_tensors,
    checked_module,
    exported,
    first_line,
    graph_of,
    plain_torch,
    reference,
    torch_library,
)
from saddlescope.precision import in_float64

SAMPLES = 8
"""So many samples of the example are enough to compare and to try symmetries with."""


@in_float64
def from_torch(
    module: Any, example: Any, *, statistics: Literal["kept", "folded"] = "kept"
) -> tuple[Function, dict[str, np.ndarray]]:
    """Turn a PyTorch module into a model and its parameters, in double precision, under the module's own names.

    The module is exported and computed by JAX; outputs and one Hessian product are always compared with PyTorch in
    double precision, to 1e-10 of their size, and **a module that differs, or holds an operation without a form in JAX,
    is refused**. Weight norm, spectral norm and other parametrisations are folded into their weights. Parameters with
    ``requires_grad=False`` and buffers stay fixed. PyTorch's global settings are left as they were.

    Args:
        module: any ``nn.Module`` in eval mode, of any floating type; wrappers of ``torch.compile`` and data-parallel
            training are taken off.
        example: a batch of inputs, a tensor or a tuple of them, batch first.
        statistics: what is done with batch norm's running statistics. "kept": its weight and bias are the
            parameters as they stand, and the statistics belong to each channel; units that differ in them cannot be
            exchanged along a path. "folded": the parameters under these names are a and c of the channel's
            a x + c (a = weight / sqrt(variance + eps), c = bias - mean a), which has the same critical points,
            index and nullity without penalties, and every channel can be exchanged; see `to_torch` for the way back.

    Returns:
        The model, with its layers, and the parameters as float64 arrays in the module's order.

    Raises:
        ConversionError: no module in eval mode, an example that does not fit, control flow that depends on the data,
            an operation without a form in JAX, outputs that are random, mix samples or are no array, or a
            conversion that differs from PyTorch.
        WeightsError: parameters that are not finite.
        MissingExtraError: PyTorch is not installed.
        SettingsError: another word for the statistics.
    """
    if statistics not in ("kept", "folded"):
        raise SettingsError("not known", name="statistics", value=statistics, expected="kept or folded")
    own, tensors = checked_module(module), as_tensors(example)
    tensors = tuple(tensor[:SAMPLES] for tensor in tensors)
    outputs = reference(own, tensors)
    if statistics == "folded":
        fold_statistics(own)
    tensors = _two(tensors)
    expected = _separate(own, tensors)
    if outputs.shape[0] != 1:
        check_outputs(expected, outputs.numpy(), lambda: "folding changed the module")
    names = [name for name, value in own.named_parameters() if value.requires_grad]
    if not names:
        raise ConversionError(
            "every parameter is frozen", name="requires_grad", value=False, advice="Let some be trained"
        )
    function, arrays, graph = _converted(own, tensors, expected.numpy())
    operations = [step.operation for step in graph.steps]
    inputs = tuple(jnp.asarray(tensor.numpy()) for tensor in tensors)
    check_product(jax_product(function, arrays, names, inputs), own, tensors, operations)
    fixed = {name: value for name, value in arrays.items() if name not in names}
    parameters = {name: np.ascontiguousarray(arrays[name], dtype=np.float64) for name in names}
    symmetries, count = find_symmetries(function, {**parameters, **fixed}, set(fixed), inputs)
    kinds = tuple(Input(tuple(t.shape[1:]), np.asarray(t.numpy()).dtype.kind.replace("u", "i")) for t in tensors)
    origin = f"torch:{type(own).__name__}"
    shape = tuple(expected.shape[1:])
    model = Function(function, Layout.of(parameters), fixed, kinds, shape, symmetries, origin, count)
    return replace(model, rebuild=_rebuilder(own, tensors)), parameters


def _rebuilder(module: Any, tensors: Sequence[Any]) -> Callable[[Mapping[str, np.ndarray]], Callable[..., Array]]:
    """Return what exports the module anew with arrays of other shapes: an exported program holds shapes of its own.

    PyTorch's layers read shapes from their arrays; a module whose own code does not is refused by PyTorch itself.
    """

    def rebuild(arrays: Mapping[str, np.ndarray]) -> Callable[..., Array]:
        other = with_shapes(module, arrays)
        return _converted(other, tensors, reference(other, tensors).numpy())[0]

    return rebuild


def with_shapes(module: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return a copy of a module that holds arrays of other shapes: those given take the place of its own."""
    torch, other = torch_library(), copy.deepcopy(module)
    for name, value in (*other.named_parameters(), *other.named_buffers()):
        if name in arrays and tuple(value.shape) != arrays[name].shape:
            path, _, last = name.rpartition(".")
            tensor = torch.as_tensor(arrays[name]).to(value.dtype)
            trained = torch.nn.Parameter(tensor, value.requires_grad)
            setattr(other.get_submodule(path), last, trained if isinstance(value, torch.nn.Parameter) else tensor)
    return other


def fold_statistics(module: Any) -> None:
    """Replace weight and bias of every batch norm by a and c of a x + c, and its statistics by 0 and 1, in place."""
    torch = torch_library()
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm) and part.affine and part.running_var is not None:
                a = part.weight * torch.rsqrt(part.running_var + part.eps)
                part.bias.copy_(part.bias - part.running_mean * a)
                part.weight.copy_(a)
                part.running_mean.zero_()
                part.running_var.fill_(1.0 - part.eps)


def _two(tensors: Sequence[Any]) -> tuple[Any, ...]:
    """Return at least two samples: sizes of 1 are taken as constants when a module is exported."""
    batches = {tensor.shape[0] for tensor in tensors}
    if len(batches) > 1:
        raise ConversionError(
            "the inputs have different numbers of samples",
            name="samples",
            value=sorted(batches),
            expected="one number, batch first",
            advice="What is the same for all samples (a mask) belongs into a buffer of the module",
        )
    if batches != {1}:
        return tuple(tensors)
    torch = torch_library()
    return tuple(torch.cat([t, t.flip(tuple(range(1, t.ndim)))]) for t in tensors)


def _separate(module: Any, tensors: Sequence[Any]) -> Any:
    """Return the module's outputs, and refuse one that mixes the samples of a batch."""
    torch = torch_library()
    whole = reference(module, tensors)
    ends = (slice(0, 1), slice(len(whole) - 1, None))
    with torch.no_grad(), plain_torch():
        try:
            alone = torch.cat([module(*(tensor[end] for tensor in tensors)) for end in ends])
        except Exception as error:
            raise ConversionError(
                f"the module does not run on one sample ({first_line(error)})",
                name="samples",
                value=1,
                advice="Let it take any number of samples",
            ) from error
    pair = torch.cat([whole[end] for end in ends])
    if alone.shape != pair.shape or float((alone - pair).abs().max()) > 1e-9 * float(whole.abs().max()):
        raise ConversionError(
            "the samples of a batch change each other's outputs (batch statistics, or inputs that are not batch first)",
            name="samples",
            value=len(whole),
            expected="outputs of each sample for itself",
        )
    return whole


def _converted(
    module: Any, tensors: Sequence[Any], expected: np.ndarray
) -> tuple[Callable[..., Array], dict[str, np.ndarray], Graph]:
    """Return the function of arrays and inputs, the arrays, and the graph; outputs are compared.

    A graph for any number of samples is wanted; where PyTorch can only export one for a fixed number, it is exported
    for one sample, and JAX maps it over the batch.
    """
    single = False
    try:
        program = exported(module, tensors, any_batch=True)
    except ConversionError:
        program, single = exported(module, [tensor[:1] for tensor in tensors], any_batch=False), True
    graph, arrays = graph_of(program)
    graph, arrays = _untied(module, graph, arrays)

    def whole(given: Mapping[str, Any], *inputs: Array) -> Array:
        return graph.run(given, inputs)

    def each(given: Mapping[str, Any], *inputs: Array) -> Array:
        return jax.vmap(lambda *one: graph.run(given, [value[None] for value in one])[0])(*inputs)

    function = each if single else whole
    seen = [tensor[:1] for tensor in tensors] if single else tensors
    try:
        ours = jax.jit(function)(arrays, *(jnp.asarray(tensor.numpy()) for tensor in tensors))
    except Exception as error:
        where = first_failure(graph, arrays, seen)
        raise ConversionError(f"no form in JAX of an operation as it is used here ({where})") from error
    check_outputs(ours, expected, lambda: first_difference(graph, program, arrays, seen))
    return function, arrays, graph


def first_failure(graph: Graph, arrays: Mapping[str, np.ndarray], tensors: Sequence[Any]) -> str:
    """Return the operation that cannot be computed, for the message of a refusal."""
    for count in range(1, len(graph.steps) + 1):
        part = Graph(graph.steps[:count], graph.arrays, graph.inputs, None, graph.constants)
        try:
            part.run({n: jnp.asarray(v) for n, v in arrays.items()}, [jnp.asarray(t.numpy()) for t in tensors])
        except Exception as error:
            return f"operation {graph.steps[count - 1].operation}: {first_line(error, 80)}"
    return "operations that JAX cannot compile together"


def _untied(module: Any, graph: Graph, arrays: dict[str, np.ndarray]) -> tuple[Graph, dict[str, np.ndarray]]:
    """Let every name of a shared array stand for its first one."""
    first: dict[int, str] = {}
    own = {name: first.setdefault(id(v), name) for name, v in module.named_parameters(remove_duplicate=False)}
    same = {inner: own.get(name, name) for inner, name in graph.arrays.items()}
    order = {**{name: None for name, _ in module.named_parameters()}, **dict.fromkeys(arrays)}
    kept = {name: arrays[name] for name in order if name in set(same.values())}
    return Graph(graph.steps, same, graph.inputs, graph.result, graph.constants), kept
