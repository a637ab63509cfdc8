"""One problem on many devices: its samples are divided among them, and JAX's compiler adds up what each found."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from saddlescope.errors import SettingsError
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem


@in_float64
def shard(problem: Problem, devices: Sequence[Any] | None = None) -> Problem:
    """Return the same problem with its samples divided among devices; every function takes it as it takes the other.

    Sums over samples are then formed device by device, so that results differ from one device's by rounding only.

    Args:
        problem: network, data and loss.
        devices: from ``jax.devices()``; None takes all of them.

    Raises:
        SettingsError: no device, or more devices than samples.
    """
    chosen = list(jax.devices() if devices is None else devices)
    if not 1 <= len(chosen) <= problem.samples:
        raise SettingsError(
            "the samples cannot be divided", name="devices", value=len(chosen), expected=f"1 to {problem.samples}"
        )
    mesh = jax.sharding.Mesh(np.array(chosen), ("devices",))
    divided = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "devices"))
    size = min(problem.inputs.shape[1], problem.samples)
    size = -(-size // len(chosen)) * len(chosen)  # every device gets equally many rows of each chunk
    count = -(-problem.samples // size)

    def lay(rows: Any) -> Any:
        flat = np.asarray(rows).reshape(-1, *rows.shape[2:])[: problem.samples]
        filling = np.repeat(flat[:1], count * size - len(flat), axis=0)
        return jax.device_put(np.concatenate([flat, filling]).reshape(count, size, *flat.shape[1:]), divided)

    weights = (np.arange(count * size) < problem.samples).astype(np.float64).reshape(count, size)
    layout = {
        "inputs": lay(problem.inputs),
        "targets": lay(problem.targets),
        "weights": jax.device_put(jnp.asarray(weights), divided),
    }
    return problem.with_arrays(layout)
