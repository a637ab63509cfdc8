"""From a PyTorch module to a `Graph`: exported, decomposed into core aten operations, and read step by step.

PyTorch is imported only here and in `torch_check`, when a module is given; its global settings are put back.
"""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from saddlescope.errors import MissingExtraError, SaddlescopeError, WeightsError
from saddlescope.models.aten_graph import OPERATIONS, RANDOM, SYMBOLIC, Graph, Step, Value

_PLACES = {"device", "layout", "pin_memory", "memory_format", "non_blocking", "generator"}


class ConversionError(SaddlescopeError):
    """A module that cannot be turned into a JAX function, or whose function came out different."""


def torch_library() -> Any:
    """Return PyTorch.

    Raises:
        MissingExtraError: PyTorch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("PyTorch is not installed", advice="Install torch to read its modules") from error
    return torch


def first_line(error: BaseException, most: int = 160) -> str:
    """Return the first line of an error's text, not longer than a part of one line of ours may be."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0].rstrip(".") if lines else type(error).__name__
    return text if len(text) <= most else text[: most - 3] + "..."


@contextlib.contextmanager
def plain_torch() -> Iterator[None]:
    """Leave fused attention out while PyTorch runs, and put every setting and random state back."""
    torch = torch_library()
    quiet = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # PyTorch logs whole graphs before it raises
    fast, state, kind = torch.backends.mha.get_fastpath_enabled(), torch.get_rng_state(), torch.get_default_dtype()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PyTorch's own, of what it does inside
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.set_rng_state(state)
        torch.set_default_dtype(kind)
        logging.disable(quiet)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep what PyTorch prints before it refuses a module (whole graphs) off the user's terminal."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def unwrapped(module: Any) -> Any:
    """Return the module inside `torch.compile` and data-parallel wrappers."""
    while True:
        inside = getattr(module, "_orig_mod", None)
        if inside is None and type(module).__name__ in ("DataParallel", "DistributedDataParallel"):
            inside = module.module
        if inside is None:
            return module
        module = inside


def checked_module(module: Any) -> Any:
    """Return a copy in double precision on the CPU, with weight and spectral norms folded into their weights.

    Raises:
        ConversionError: no module, one in train mode, or one without parameters.
    """
    torch = torch_library()
    if not isinstance(module, torch.nn.Module):
        raise ConversionError("not a PyTorch module", name="module", value=type(module).__name__, expected="nn.Module")
    module = unwrapped(module)
    training = [name or "the module itself" for name, part in module.named_modules() if part.training]
    if training:
        raise ConversionError(
            "the module is in train mode", name="training", value=training[0], advice="Call module.eval() first"
        )
    try:
        own = copy.deepcopy(module, _derived(module))
    except Exception as error:
        raise ConversionError(f"the module cannot be copied ({first_line(error)})") from error
    lazy = [
        name for name, value in own.named_parameters() if isinstance(value, torch.nn.parameter.UninitializedParameter)
    ]
    if lazy:
        raise ConversionError(
            "a lazy module has no shapes yet", name="parameter", value=lazy[0], advice="Run the module once first"
        )
    own = own.to(device="cpu", dtype=torch.float64)
    for part in own.modules():
        if isinstance(part, torch.nn.Embedding | torch.nn.EmbeddingBag):
            part.padding_idx = None  # outputs do depend on that row: its derivative is not left out
    fold_norms(own)
    kinds = {name: value.dtype for name, value in own.named_parameters() if value.dtype != torch.float64}
    if kinds or not list(own.parameters()):
        raise ConversionError(
            "the module has no real parameters to move", name="parameters", value=kinds or 0, expected="real arrays"
        )
    for name, value in own.named_parameters():
        if not bool(torch.isfinite(value).all()):
            raise WeightsError("the module holds numbers that are not finite", name="parameter", value=name)
    return own


def _derived(module: Any) -> dict[int, Any]:
    """Return copies of tensors that a module keeps and that were computed, which PyTorch does not copy by itself."""
    torch = torch_library()
    held = [value for part in module.modules() for value in vars(part).values() if isinstance(value, torch.Tensor)]
    return {id(value): value.detach().clone() for value in held if not value.is_leaf}


def fold_norms(module: Any) -> None:
    """Replace parametrised weights (weight norm, spectral norm, ...) by their values, in place."""
    torch = torch_library()
    parametrize = torch.nn.utils.parametrize
    for part in list(module.modules()):
        if parametrize.is_parametrized(part):
            _fold_parametrizations(part)
        for hook in list(part._forward_pre_hooks.values()):
            kind = type(hook).__name__
            if kind == "WeightNorm":
                torch.nn.utils.remove_weight_norm(part, hook.name)
            elif kind == "SpectralNorm":
                torch.nn.utils.remove_spectral_norm(part, hook.name)


def _fold_parametrizations(part: Any) -> None:
    """Give a copied module its plain class again.

    PyTorch's own way back takes the property off the class, which the copy shares with the user's module.
    """
    torch = torch_library()
    held = dict(part.parametrizations.items())
    values = {name: getattr(part, name).detach().clone() for name in held}
    trained = {name: any(value.requires_grad for value in entry.parameters()) for name, entry in held.items()}
    plain = torch.nn.utils.parametrize.type_before_parametrizations(part)
    del part.parametrizations
    part.__class__ = plain
    for name, value in values.items():
        part.register_parameter(name, torch.nn.Parameter(value, requires_grad=trained[name]))


def as_tensors(example: Any) -> tuple[Any, ...]:
    """Return the example's tensors on the CPU, real ones in double precision.

    Raises:
        ConversionError: something else than arrays, or arrays without samples.
    """
    torch = torch_library()
    given = tuple(example) if isinstance(example, tuple | list) else (example,)
    tensors = []
    for value in given:
        if not isinstance(value, torch.Tensor | np.ndarray) and not hasattr(value, "__array__"):
            raise ConversionError(
                "the example is no array", name="example", value=type(value).__name__, expected="tensors, batch first"
            )
        tensor = torch.as_tensor(value if isinstance(value, torch.Tensor) else np.array(value)).detach().cpu()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ConversionError(
                "the example holds numbers that are not finite", name="example", value=tuple(tensor.shape)
            )
        tensors.append(tensor.double() if tensor.is_floating_point() else tensor.clone())
    if not tensors or any(tensor.ndim == 0 or tensor.shape[0] == 0 for tensor in tensors):
        shapes = [tuple(tensor.shape) for tensor in tensors]
        raise ConversionError(
            "the example has no samples", name="shapes", value=shapes, expected="a batch of at least one, batch first"
        )
    return tuple(tensors)


def reference(module: Any, tensors: Sequence[Any]) -> Any:
    """Return the module's output on the example, run twice.

    Raises:
        ConversionError: the module fails, returns no single real array, or something random.
    """
    torch = torch_library()
    with torch.no_grad(), plain_torch():
        try:
            first, again = module(*tensors), module(*tensors)
        except Exception as error:
            shapes = [tuple(tensor.shape) for tensor in tensors]
            raise ConversionError(
                f"the module does not run on this example ({first_line(error)})", name="shapes", value=shapes
            ) from error
    if not isinstance(first, torch.Tensor):
        raise ConversionError(
            "the module does not return one array",
            name="output",
            value=type(first).__name__,
            advice="Wrap it in a module whose forward returns the one that matters",
        )
    if not first.is_floating_point() or first.ndim == 0 or first.shape[0] != tensors[0].shape[0]:
        raise ConversionError(
            "the output is not real numbers for each sample",
            name="output",
            value=f"{tuple(first.shape)} {first.dtype}",
            expected=f"{tensors[0].shape[0]} rows",
        )
    if not torch.equal(first, again):
        raise ConversionError(
            "the module gives different outputs for the same input", advice="Switch dropout and noise off"
        )
    if not bool(torch.isfinite(first).all()):
        raise ConversionError("the module's output on the example is not finite")
    return first


def exported(module: Any, tensors: Sequence[Any], *, any_batch: bool) -> Any:
    """Return PyTorch's exported program in core aten operations.

    Raises:
        ConversionError: PyTorch cannot export it, such as when its control flow depends on the data.
    """
    torch = torch_library()
    shapes = tuple({0: torch.export.Dim("batch", min=1)} for _ in tensors) if any_batch else None
    try:
        with torch.no_grad(), plain_torch(), _silence():
            program = torch.export.export(module, tuple(tensors), dynamic_shapes=shapes, strict=False)
            return program.run_decompositions()
    except Exception as error:
        text = str(error)
        data = any(
            word in text for word in ("data-dependent", "GuardOnDataDependent", "Dynamic control flow", "unbacked")
        )
        what = "the module's control flow depends on the data" if data else "PyTorch cannot export the module"
        raise ConversionError(
            f"{what} ({first_line(error)})", advice="Write the choice with torch.where" if data else None
        ) from error


def graph_of(program: Any) -> tuple[Graph, dict[str, np.ndarray]]:
    """Return the graph and the arrays that it takes, parameters and buffers, by the module's names.

    Raises:
        ConversionError: an operation without a form in JAX, a random one, or buffers that change.
    """
    torch = torch_library()
    signature = program.graph_signature
    if signature.buffers_to_mutate:
        raise ConversionError(
            "the module changes its buffers as it runs",
            name="buffers",
            value=sorted(signature.buffers_to_mutate.values())[:3],
            expected="a module in eval mode",
        )
    _refuse(program, torch)
    state: Mapping[str, Any] = {**program.state_dict, **program.constants}
    outer = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    lifted = signature.inputs_to_lifted_tensor_constants
    constants = {inner: _array(state[name]) for inner, name in lifted.items()}
    steps, inputs, result = [], [], None
    for node in program.graph.nodes:
        if node.op == "placeholder":
            if node.name not in outer and node.name not in constants:
                inputs.append(node.name)
        elif node.op == "output":
            result = _argument(node.args[0][0], torch)
        elif not _is_check(node):
            steps.append(_step(node, torch))
    arrays = {name: _array(state[name]) for name in dict.fromkeys(outer.values())}
    return Graph(tuple(steps), outer, tuple(inputs), result, constants), arrays


def _array(tensor: Any) -> np.ndarray:
    return np.array(tensor.detach().cpu().numpy())


def _name(node: Any) -> str:
    target = node.target
    return (
        target._schema.name.split("::")[1] if hasattr(target, "_schema") else str(getattr(target, "__name__", target))
    )


def _is_check(node: Any) -> bool:
    """Whether a node only asserts something, or serves only to assert."""
    if _name(node).startswith(("_assert", "sym_constrain", "_local_scalar_dense_check")):
        return True
    return node.op == "call_function" and bool(node.users) and all(_is_check(user) for user in node.users)


def _refuse(program: Any, torch: Any) -> None:
    """Refuse what has no form in JAX, all of it in one line."""
    nodes = [node for node in program.graph.nodes if node.op not in ("placeholder", "output") and not _is_check(node)]
    names = {_name(node) for node in nodes}
    if names & RANDOM:
        raise ConversionError(
            "the module draws random numbers",
            name="operations",
            value=", ".join(sorted(names & RANDOM)),
            advice="Switch dropout and noise off",
        )
    missing = sorted({_name(node) for node in nodes if node.op != "call_function" or not _known(node)})
    if missing:
        raise ConversionError("no form in JAX of these operations", name="operations", value=", ".join(missing[:8]))
    narrow = (torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128)
    real = _from_data(program)
    cast = sorted({str(node.kwargs["dtype"]) for node in nodes if node.kwargs.get("dtype") in narrow and node in real})
    if cast:
        raise ConversionError(
            "the module computes in a fixed type of its own",
            name="types",
            value=", ".join(cast),
            advice="Let it keep its inputs' type, so that it can run in double precision",
        )


def _from_data(program: Any) -> set[Any]:
    """Return the nodes that depend on arrays or data; indices may be computed in any type."""
    found: set[Any] = set()
    for node in program.graph.nodes:
        sizes = _name(node).startswith("sym_") if node.op == "call_function" else False
        if node.op == "placeholder" or (not sizes and any(source in found for source in node.all_input_nodes)):
            found.add(node)
    return found


def _known(node: Any) -> bool:
    if hasattr(node.target, "_schema"):
        return node.target._schema.name.startswith("aten::") and _name(node) in OPERATIONS
    return node.target in SYMBOLIC or _name(node) in ("sym_max", "sym_min", "sym_float")


def _step(node: Any, torch: Any) -> Step:
    name = _name(node)
    if hasattr(node.target, "_schema"):
        function = OPERATIONS[name]
    else:
        function = {"sym_max": max, "sym_min": min, "sym_float": float}.get(name) or SYMBOLIC[node.target]
    options = {key: _argument(value, torch) for key, value in node.kwargs.items() if key not in _PLACES}
    return Step(node.name, name, function, tuple(_argument(value, torch) for value in node.args), options)


def _argument(value: Any, torch: Any) -> Any:
    """Return an argument free of PyTorch: nodes as `Value`s, types as NumPy's."""
    if isinstance(value, torch.fx.Node):
        return Value(value.name)
    if isinstance(value, torch.dtype):
        return np.dtype(str(value).removeprefix("torch."))
    if isinstance(value, list | tuple):
        return [_argument(part, torch) for part in value]
    return value
