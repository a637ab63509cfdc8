"""What data, loss and outputs must be to go together."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from saddlescope.errors import SettingsError, ShapeError
from saddlescope.problem import losses


def require_fit(data: Any, loss: Any, outputs: tuple[int, ...]) -> None:
    """Refuse data that do not fit the loss, or outputs (of one sample) that it cannot be taken of."""
    if loss not in losses.BY_NAME if isinstance(loss, str) else not callable(loss):
        raise SettingsError(
            "unknown loss", name="loss", value=loss, expected=f"{', '.join(losses.BY_NAME)}, or a function"
        )
    if loss == "cross_entropy" and data.labels is None:
        raise ShapeError("cross entropy needs labels", name="labels", value=None, expected="one integer per sample")
    if isinstance(loss, str) and len(outputs) != 1:
        raise ShapeError(
            f"{loss} is taken of one row of outputs for each sample",
            name="outputs of a sample",
            value=outputs,
            expected="one axis",
            advice="Give a function (outputs, targets) -> loss of each sample",
        )
    if loss == "binary_cross_entropy":
        _require_answers(data, outputs)
        return
    if data.labels is not None and isinstance(loss, str):  # a user's own loss may take labels of any meaning
        top, low = int(data.labels.max()), int(data.labels.min())
        if low < 0 or top >= outputs[0]:
            bad = low if low < 0 else top
            raise ShapeError("a label has no output", name="label", value=bad, expected=f"0 to {outputs[0] - 1}")
    if isinstance(loss, str) and loss != "cross_entropy":
        if data.targets is None:
            raise ShapeError(
                "this loss needs targets",
                name="loss",
                value=loss,
                expected="data with targets",
                advice="Use cross_entropy for labels, or the network's own outputs as targets",
            )
        if data.targets.shape[1:] != outputs:
            single = data.targets.ndim == 2
            raise ShapeError(
                "data and network do not fit",
                name="targets per sample",
                value=data.targets.shape[1] if single else data.targets.shape[1:],
                expected=str(outputs[0]),
            )


def _require_answers(data: Any, outputs: tuple[int, ...]) -> None:
    """Refuse data that are no answers between no (0) and yes (1), one for each output."""
    name, given = ("labels", data.labels[:, None]) if data.targets is None else ("targets", data.targets)
    if given.shape[1:] != outputs:
        raise ShapeError(
            "data and network do not fit",
            name=f"{name} per sample",
            value=given.shape[1:],
            expected=str(outputs),
            advice="Labels alone are for one output; of several give targets, 0 or 1 for each",
        )
    low, high = given.min(), given.max()
    if low < 0 or high > 1:
        raise ShapeError(
            "binary cross entropy needs answers between 0 and 1",
            name=f"{'smallest' if low < 0 else 'largest'} of {name}",
            value=low if low < 0 else high,
            expected="0 (no) to 1 (yes)",
        )


def require_samples(loss: losses.Loss, targets: Array, outputs: tuple[int, ...]) -> None:
    """Refuse a loss whose result would be summed wrongly: a mean over samples, or one number an output."""
    logits = jax.ShapeDtypeStruct((targets.shape[0], *outputs), jnp.float64)
    shape = jax.eval_shape(loss, logits, targets).shape
    if shape != targets.shape[:1]:
        raise ShapeError(
            "the loss is not one number per sample",
            name="shape of loss(outputs, targets)",
            value=shape,
            expected=f"({targets.shape[0]},) for {targets.shape[0]} samples",
            advice="Take the mean over outputs only",
        )
