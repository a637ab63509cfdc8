"""Losses per sample, as functions of outputs and targets; the mean over samples is taken by `Problem`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Loss = Callable[[Float[Array, "samples outputs"], Array], Float[Array, " samples"]]


def squared_error(outputs: Float[Array, "samples outputs"], targets: Float[Array, "samples outputs"]) -> Array:
    """Return the squared error of each sample, mean over outputs (PyTorch's MSELoss before its mean over samples)."""
    return jnp.mean((outputs - targets) ** 2, axis=1)


def cross_entropy(logits: Float[Array, "samples outputs"], labels: Array) -> Array:
    """Return the negative log-likelihood of each sample's label."""
    chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return jax.scipy.special.logsumexp(logits, axis=1) - chosen


def binary_cross_entropy(logits: Float[Array, "samples outputs"], targets: Float[Array, "samples outputs"]) -> Array:
    """Return the negative log-likelihood of independent yes or no answers, mean over outputs, on logits.

    ``log(1 + e^z) - y z``: PyTorch's BCEWithLogitsLoss before its mean over samples. Targets lie in [0, 1].
    """
    return jnp.mean(jax.nn.softplus(logits) - targets * logits, axis=1)


BY_NAME: dict[str, Loss] = {
    "mse": squared_error,
    "normalised": squared_error,
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
}
"""The normalised loss is the squared error too; `Problem` divides it by the mean squared target."""
