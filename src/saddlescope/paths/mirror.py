"""gamma(t), t in [0, 1]: the falling distance, the outgoing-weight transfer, and the mirrored half.

t in [0, 1/4]: the stored nodes, joined linearly; [1/4, 1/2]: outgoing weight moves until both neurons have the same,
their sum kept, at constant loss; [1/2, 1]: gamma(t) = swap(gamma(1 - t)) ([B19] section 4.1).
"""

import numpy as np

from saddlescope.errors import SettingsError
from saddlescope.paths.result import Path
from saddlescope.units.actions import swap


def _at_node(path: Path, t: float) -> dict[str, np.ndarray]:
    """Return the nodes' linear interpolation at t in [0, 1/4]."""
    after = int(np.clip(np.searchsorted(path.times, t), 1, len(path.times) - 1))
    before = after - 1
    share = (t - path.times[before]) / (path.times[after] - path.times[before])
    return {name: (1.0 - share) * rows[before] + share * rows[after] for name, rows in path.parameters.items()}


def position(path: Path, t: float) -> dict[str, np.ndarray]:
    """Return the parameters gamma(t) of the permutation path.

    Args:
        path: a path that ends in a permutation point.
        t: time in [0, 1]; 0 is the minimum, 1/2 the permutation point, 1 the swapped minimum.

    Returns:
        A full parameter set.

    Raises:
        SettingsError: t lies outside [0, 1], or beyond 1/4 on a path without a permutation point.

    Source: [B19] section 4.1.
    """
    if not 0.0 <= t <= 1.0:
        raise SettingsError("time outside the path", name="t", value=t, expected="0 <= t <= 1")
    point = path.permutation_point
    if t > 0.5:
        return {k: np.asarray(v) for k, v in swap(position(path, 1.0 - t), path.neurons, *path.pair).items()}
    if t <= 0.25:
        return _at_node(path, t)
    if point is None:
        raise SettingsError(
            "this path has no permutation point, so gamma ends at t = 1/4",
            name="ending",
            value=path.ending,
            advice=path.advice,
        )
    share = 4.0 * (t - 0.25)
    start = _at_node(path, 0.25)
    return {name: (1.0 - share) * start[name] + share * point.parameters[name] for name in start}
