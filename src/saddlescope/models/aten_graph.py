"""A graph of core aten operations without PyTorch: steps over named values, run in JAX."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from saddlescope.models import (
    aten_conv,
    aten_elementwise,
    aten_index,
    aten_linear,
    aten_norm,
    aten_pool,
    aten_shape,
)

TABLES = (aten_elementwise, aten_conv, aten_pool, aten_norm, aten_linear, aten_shape, aten_index)
OPERATIONS: dict[str, Callable[..., Any]] = {name: f for table in TABLES for name, f in table.OPERATIONS.items()}
SYMBOLIC = aten_elementwise.SYMBOLIC
RANDOM = frozenset(
    [
        "native_dropout",
        "bernoulli",
        "rand",
        "randn",
        "rand_like",
        "randn_like",
        "randint",
        "randint_like",
        "randperm",
        "normal",
        "uniform",
        "exponential",
        "multinomial",
        "_fused_dropout",
        "native_dropout_backward",
        "alpha_dropout",
        "feature_dropout",
    ]
)
"""Operations whose result is random: a dropout that is active, or noise that is added."""


@dataclass(frozen=True)
class Value:
    """A reference to the result of an earlier step, or to an input of the graph."""

    name: str


@dataclass(frozen=True)
class Step:
    """One operation: its result's name, what it is called, the function, and its arguments with `Value`s in them."""

    name: str
    operation: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Graph:
    """Steps in order; ``arrays``: the graph's name of each array -> the user's; ``inputs``: the data's names."""

    steps: tuple[Step, ...]
    arrays: Mapping[str, str]
    inputs: tuple[str, ...]
    result: Any
    constants: Mapping[str, Any]

    def values(self, arrays: Mapping[str, Any], inputs: Sequence[Array]) -> dict[str, Any]:
        """Return the result of every step by name."""
        known: dict[str, Any] = {name: jnp.asarray(value) for name, value in self.constants.items()}
        known.update({inner: jnp.asarray(arrays[outer]) for inner, outer in self.arrays.items()})
        known.update(zip(self.inputs, inputs, strict=True))
        for step in self.steps:
            arguments = [_filled(argument, known) for argument in step.arguments]
            options = {name: _filled(value, known) for name, value in step.options.items()}
            known[step.name] = step.function(*arguments, **options)
        return known

    def run(self, arrays: Mapping[str, Any], inputs: Sequence[Array]) -> Any:
        """Return the graph's output, whatever the host program has set about promotion."""
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return _filled(self.result, self.values(arrays, inputs))


def _filled(argument: Any, known: Mapping[str, Any]) -> Any:
    """Put the values in place of their names."""
    if isinstance(argument, Value):
        return known[argument.name]
    if isinstance(argument, tuple):
        return tuple(_filled(part, known) for part in argument)
    if isinstance(argument, list):
        return [_filled(part, known) for part in argument]
    return argument
