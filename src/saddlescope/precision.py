"""float64 by context: every public verb enters it, and importing the package changes no global setting of JAX.

Outside the context JAX silently turns float64 arrays into float32 as soon as it computes with them; therefore
everything that the public verbs return is a NumPy array or a Python number.
"""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


def float64() -> AbstractContextManager[None]:
    """Return a context manager in which JAX computes in float64; the caller's setting comes back on leaving."""
    return jax.enable_x64(True)


def in_float64(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a public verb so that it runs in float64 whatever the caller's JAX setting."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with float64():
            return function(*args, **kwargs)

    return wrapped
