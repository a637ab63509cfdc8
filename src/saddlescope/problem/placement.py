"""How a problem's data lie: on which device, and in chunks of how many samples."""

import math
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from saddlescope.errors import SettingsError

CHUNK_BYTES = 16 * 2**20
"""Bound on one chunk's inputs and the activations kept for its gradient (four copies of every layer's width).

A chunk that fits into a processor's cache is as fast as one pass over everything, and bounds the memory; chunks of
hundreds of megabytes were half as fast (784-10-10-10: 87 ms a gradient in 3 chunks, 44 ms in 30).
"""

CHUNK_SAMPLES, MOST_BYTES = 2048, 64 * 2**20
"""Wide networks take so many samples per chunk all the same, up to a second bound: every chunk multiplies the weights.

784-200-200-10: a Hessian product takes 1107 ms in chunks of 858 samples, 766 ms in chunks of 2000; a gradient 390 ms
in both.
"""

ACCELERATOR_BYTES = 2 * 2**30
"""The bound on one chunk away from the processor, whose caches the others are made for: few, large kernels.

One H200, 784-25-25-10 with 60 000 images: a Hessian product takes 2.4 ms in 30 chunks, 0.83 ms in one.
"""

SMALL = 10**8
"""Samples times parameters below which an accelerator would wait for its own launches, so that the processor is taken.

1797 digits on 1482 parameters are 2.7e6, MNIST on 784-10-10-10 is 4.8e8.
"""


def device_for(work: int, wanted: str | None) -> Any:
    """Return the device for so many samples times parameters: the wanted platform's, or the one that suits the size.

    None stands for JAX's own choice: arrays that are bound to a device, even to that one, would have every function
    compiled a second time.

    Raises:
        SettingsError: JAX has no device of the wanted platform.
    """
    if wanted is None:
        chosen = getattr(jax.config, "jax_default_device", None) is not None
        small = not chosen and jax.default_backend() != "cpu" and work < SMALL
        return jax.devices("cpu")[0] if small else None
    try:
        device = jax.devices(wanted)[0]
    except RuntimeError as error:
        there = ", ".join(sorted({"cpu", jax.default_backend()}))
        raise SettingsError("no such device", name="device", value=wanted, expected=there) from error
    return None if device == jax.devices()[0] else device


def chunk_samples(each: int, device: Any) -> int:
    """Return how many samples of so many bytes a chunk takes unless told."""
    if (jax.default_backend() if device is None else device.platform) != "cpu":
        return max(1, ACCELERATOR_BYTES // each)
    return max(1, CHUNK_BYTES // each, min(CHUNK_SAMPLES, MOST_BYTES // each))


def chunked(rows: np.ndarray, size: int, device: Any) -> Array:
    """Return rows as (chunks, size, ...) on a device, the last chunk padded with copies of the first row.

    The rows are copied once, into memory of our own at an address that JAX takes over as it is: it copies twice
    from any other, and would share the caller's.
    """
    shape = (-(-len(rows) // size), size, *rows.shape[1:])
    if rows.dtype.kind == "b":
        return chunked(rows.astype(np.int64), size, device).astype(bool)
    kind = np.float64 if rows.dtype.kind == "f" else np.int64
    room = np.empty(math.prod(shape) + 8, kind)  # 8 bytes an entry: one of the first 8 is at a multiple of 64
    start = -room.ctypes.data % 64 // 8
    own = room[start : start + math.prod(shape)].reshape(-1, *shape[2:])
    own[: len(rows)] = rows
    own[len(rows) :] = rows[0]
    return jax.device_put(own.reshape(shape), device)


def marks(samples: int, size: int) -> np.ndarray:
    """Return 1 for each sample and 0 for padding, (chunks, size)."""
    padded = samples + (-samples % size)
    return (np.arange(padded) < samples).astype(np.float64).reshape(-1, size)
