"""A converted module against PyTorch in double precision: outputs, and one Hessian product."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from saddlescope.models.aten_graph import Graph
from saddlescope.models.torch_export import ConversionError, exported, first_line, plain_torch, torch_library

TOLERANCE = 1e-10


def _weights(shape: Sequence[int]) -> np.ndarray:
    """Return the fixed weights of the scalar loss sum(w * out + out^2 / 4), without any symmetry."""
    count = int(np.prod(shape))
    return np.cos(1.0 + 0.7 * np.arange(count)).reshape(shape)


def _directions(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {name: generator.standard_normal(value.shape) for name, value in arrays.items()}


def _worst(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    """Return the largest difference relative to the largest entry of all."""
    largest = max((float(np.abs(np.asarray(value)).max(initial=0.0)) for value in theirs.values()), default=0.0)
    gaps = [float(np.abs(np.asarray(ours[n]) - np.asarray(v)).max(initial=0.0)) for n, v in theirs.items()]
    worst = max(gaps, default=0.0)
    return worst / largest if largest > 0 else worst


def torch_products(module: Any, tensors: Sequence[Any], names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    """Yield PyTorch's Hessian of the fixed loss times the fixed directions, in the ways that PyTorch has.

    Of the module as it stands, forward over reverse, or the gradient differentiated in reverse; then of the module
    decomposed into core operations: some fused operations have no second derivative (hardsigmoid), or one that
    PyTorch computes with single-precision constants (CELU).
    """
    torch = torch_library()
    at = {name: value.detach().clone() for name, value in module.named_parameters() if name in names}
    rest = {name: value.detach() for name, value in module.named_parameters() if name not in names}
    along = {n: torch.as_tensor(v) for n, v in _directions({n: v.numpy() for n, v in at.items()}).items()}

    def loss_of(target: Any) -> Callable[..., Any]:
        def loss(parameters: Mapping[str, Any]) -> Any:
            out = torch.func.functional_call(target, {**rest, **parameters}, tuple(tensors))
            return (torch.as_tensor(_weights(tuple(out.shape))) * out + out * out / 4).sum()

        return loss

    def decomposed() -> Any:
        return exported(module, tensors, any_batch=False).module()

    for target in (lambda: module, decomposed):
        for way in (_forward_over_reverse, _twice_reverse):
            try:
                with plain_torch():
                    product = way(torch, loss_of(target()), at, along)
            except (RuntimeError, NotImplementedError, KeyError, ConversionError):
                continue
            yield {name: value.detach().numpy() for name, value in product.items()}
            break


def _forward_over_reverse(torch: Any, loss: Callable[..., Any], at: Mapping[str, Any], along: Mapping[str, Any]) -> Any:
    return torch.func.jvp(torch.func.grad(loss), (dict(at),), (dict(along),))[1]


def _twice_reverse(torch: Any, loss: Callable[..., Any], at: Mapping[str, Any], along: Mapping[str, Any]) -> Any:
    with torch.enable_grad():
        leaves = {name: value.clone().requires_grad_(True) for name, value in at.items()}
        gradient = torch.autograd.grad(loss(leaves), list(leaves.values()), create_graph=True, allow_unused=True)
        pairs = [(g, along[n]) for g, n in zip(gradient, leaves, strict=True) if g is not None and g.requires_grad]
        inner = sum((g * v).sum() for g, v in pairs)
        second = torch.autograd.grad(inner, list(leaves.values()), allow_unused=True) if pairs else [None] * len(leaves)
    return {
        name: torch.zeros_like(value) if part is None else part
        for (name, value), part in zip(leaves.items(), second, strict=True)
    }


def jax_product(
    function: Callable[..., Any], arrays: Mapping[str, np.ndarray], names: Sequence[str], inputs: tuple[Any, ...]
) -> dict[str, np.ndarray]:
    """Return the same product from the converted function."""
    at = {name: jnp.asarray(arrays[name]) for name in names}
    rest = {name: jnp.asarray(value) for name, value in arrays.items() if name not in at}
    along = {name: jnp.asarray(value) for name, value in _directions(at).items()}

    def loss(parameters: Mapping[str, Any], others: Mapping[str, Any], data: tuple[Any, ...]) -> Any:
        out = function({**others, **parameters}, *data)
        return jnp.sum(_weights(out.shape) * out + out * out / 4)

    @jax.jit
    def product(at: Any, along: Any, others: Any, data: Any) -> Any:
        return jax.jvp(lambda p: jax.grad(loss)(p, others, data), (at,), (along,))[1]

    return {name: np.asarray(value) for name, value in product(at, along, rest, inputs).items()}


def check_outputs(ours: Any, theirs: np.ndarray, explain: Callable[[], str]) -> None:
    """Refuse a function whose outputs are not the module's.

    Raises:
        ConversionError: another shape, or a difference beyond `TOLERANCE` of the largest output.
    """
    if tuple(ours.shape) != theirs.shape:
        raise ConversionError(
            f"the conversion gives another shape ({explain()})",
            name="shape",
            value=tuple(ours.shape),
            expected=str(theirs.shape),
        )
    gap = _worst({"out": ours}, {"out": theirs})
    if not gap <= TOLERANCE:
        raise ConversionError(
            f"the conversion gives other outputs than PyTorch ({explain()})",
            name="relative difference",
            value=f"{gap:.1e}",
            expected=f"at most {TOLERANCE:.0e}",
        )


def check_product(
    ours: Mapping[str, np.ndarray], module: Any, tensors: Sequence[Any], operations: Sequence[str]
) -> None:
    """Refuse a function whose second derivative is not the module's.

    Raises:
        ConversionError: a difference beyond `TOLERANCE` of the largest entry, or nothing to compare with.
    """
    used, gap, far = ", ".join(sorted(set(operations))[:8]), np.inf, ""
    for theirs in torch_products(module, tensors, list(ours)):
        gap = _worst(ours, theirs)
        if gap <= TOLERANCE:
            return
        far = max(theirs, key=lambda name: float(np.abs(ours[name] - theirs[name]).max(initial=0.0)))
    if not far:
        raise ConversionError(
            "PyTorch has no second derivative of the module to compare with", name="operations", value=used
        )
    raise ConversionError(
        f"the conversion has another second derivative than PyTorch, most in {far} (operations {used})",
        name="relative difference",
        value=f"{gap:.1e}",
        expected=f"at most {TOLERANCE:.0e}",
    )


def first_difference(graph: Graph, program: Any, arrays: Mapping[str, np.ndarray], tensors: Sequence[Any]) -> str:
    """Return the first operation whose result differs from PyTorch's, for the message of a refusal."""
    torch = torch_library()
    ours = graph.values({n: jnp.asarray(v) for n, v in arrays.items()}, [jnp.asarray(t.numpy()) for t in tensors])
    found: list[str] = []

    class Comparing(torch.fx.Interpreter):
        def run_node(self, n: Any) -> Any:
            result = super().run_node(n)
            mine = ours.get(n.name)
            if isinstance(result, torch.Tensor) and mine is not None and n.op == "call_function" and not found:
                theirs = result.detach().numpy()
                same = np.shape(mine) == theirs.shape and np.allclose(mine, theirs, 1e-10, 1e-10, equal_nan=True)
                if not same:
                    found.append(f"first in operation {n.target}")
            return result

    state = {**program.state_dict, **program.constants}
    inner = {**program.graph_signature.inputs_to_parameters, **program.graph_signature.inputs_to_buffers}
    inner |= program.graph_signature.inputs_to_lifted_tensor_constants
    rest = iter(tensors)
    values = [
        state[inner[node.name]] if node.name in inner else next(rest)
        for node in program.graph.nodes
        if node.op == "placeholder"
    ]
    try:
        with torch.no_grad(), plain_torch():
            Comparing(program.graph_module).run(*values)
    except Exception as error:  # a message only: the refusal stands without it
        return f"operations {', '.join(sorted({step.operation for step in graph.steps})[:8])}; {first_line(error, 40)}"
    return found[0] if found else f"operations {', '.join(sorted({step.operation for step in graph.steps})[:8])}"
