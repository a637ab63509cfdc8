"""float64 by context: every public verb enters it, and importing the package changes no global setting of JAX.

Outside the context JAX silently turns float64 arrays into float32 as soon as it computes with them; therefore
everything that the public verbs return is a NumPy array or a Python number.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@contextmanager
def float64() -> Iterator[None]:
    """Enter float64 and JAX's own defaults of all that decides a result; the caller's settings come back on leaving.

    A host program may have set any of them for its own code. Here infinities and NaN are ordinary values that are
    looked at (a far step of a search, a masked minimum), scalars and vectors are broadcast, integers meet floats, and
    whole solves are compiled loops.
    """
    with ExitStack() as stack:
        for setting in (
            jax.enable_x64(True),
            jax.debug_nans(False),
            jax.debug_infs(False),
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
            jax.default_matmul_precision(None),
            jax.disable_jit(False),
            jax.transfer_guard("allow"),
        ):
            stack.enter_context(setting)
        yield


def in_float64(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a public verb so that it runs in float64 whatever the caller's JAX settings."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with float64():
            return function(*args, **kwargs)

    return wrapped


@eqx.filter_jit
def single(tree: T) -> T:
    """Return the same with every array of double precision in single: to measure rounding, never to report."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if leaf.dtype == jnp.float64 else leaf, tree)
