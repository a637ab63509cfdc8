"""Points of higher order from the small network alone: index and nullity of a large network's critical point.

A critical point of a small network, some of its neurons copied, at one or several layers, is a critical point of the
large one ([FA00]; [S21] section 3). Its signs are those of the small Hessian plus, for each further copy, one block
K (`exchange`): no matrix of the large network's size is formed.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from saddlescope.arrays import require_finite, to_numpy
from saddlescope.critical.decomposition import TINY, drifting, scene_of, with_null
from saddlescope.critical.exchange import Coupling, block, closed_coupling, share_signs
from saddlescope.critical.groups import CLOSE
from saddlescope.critical.inertia import symmetric_signs
from saddlescope.critical.patterns import layer_patterns
from saddlescope.critical.refine import refine_dense
from saddlescope.critical.result import Inertia
from saddlescope.errors import NeuronsError, SettingsError
from saddlescope.models.sizes import layer_sizes, require_traceable, unit_counts
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem


@dataclass(frozen=True, kw_only=True)
class Lifted:
    """Signs at a lifted point. ``order`` is the number of neurons that the small network has fewer."""

    widths: tuple[int, ...]
    order: int
    loss: float
    gradient_norm: float
    index_range: tuple[int, int]
    nullity_range: tuple[int, int]
    inertia: Inertia
    error_bound: float
    seconds: float

    @property
    def index(self) -> int | None:
        """The index, or None if some sign was not separated."""
        return self.index_range[0] if self.index_range[0] == self.index_range[1] else None

    @property
    def nullity(self) -> int | None:
        """The nullity, or None if some sign was not separated."""
        return self.nullity_range[0] if self.nullity_range[0] == self.nullity_range[1] else None


@in_float64
def lifted_signs(
    problem: Problem, parameters: Any, copies: Mapping[tuple[int, int], tuple[float, ...]], *, close: float = CLOSE
) -> Lifted:
    """Return index and nullity of the point at which neurons of a small network's critical point are copied.

    **The small point is taken to be critical**: look at ``gradient_norm``, that at the corrected point.

    Args:
        problem: the small network's problem, a perceptron without penalties.
        parameters: its critical point, all incoming vectors of a layer distinct.
        copies: for (layer from 1, neuron from 0) the shares of the outgoing vector, which sum to 1; as many copies.
        close: incoming vectors closer than this share of the layer's largest are copies already.

    Returns:
        The signs at the lifted point; None where they could not be separated.

    Raises:
        NeuronsError: a layer or neuron that the network does not have, or a network that holds copies already.
        SettingsError: shares that do not sum to 1, or are too small to have a sign; a penalised problem; no perceptron.
        NonFiniteError: NaN or infinity among the parameters.

    Source: science notes, section 3.
    """
    began = time.perf_counter()
    given = getattr(parameters, "parameters", parameters)
    problem.network.check(given)
    require_finite(given, "the point")
    require_traceable(problem.network, "the closed form")
    if problem.penalised:
        raise SettingsError(
            "the closed form is for perceptrons without penalties", name="network", value=problem.network
        )
    scene = scene_of(problem, to_numpy(given), close)
    if scene.groups:
        raise NeuronsError(
            "the small network holds copies already", name="units", value=scene.groups[0].units, expected="none"
        )
    widths = list(layer_sizes(problem.network))
    for (layer, unit), shares in copies.items():
        _check_copy(problem.network, layer, unit, shares)
        widths[layer] += len(shares) - 1
    point = refine_dense(scene.reduced, scene.x)
    symmetric = symmetric_signs(scene, point, steps=1, seed=0)
    total, patterns = symmetric.inertia, layer_patterns(problem, point.x)
    for (layer, unit), shares in copies.items():
        extra = sum(len(other) - 1 for (after, _), other in copies.items() if after == layer + 1)

        def again(x: np.ndarray, layer: int = layer, unit: int = unit) -> Coupling:
            return closed_coupling(problem, x, layer, unit)

        facts = {"relations": scene.relations, "patterns": patterns}
        coupling = with_null(drifting(again(point.x), point, again), problem, point.x, layer, unit, **facts)
        homogeneous = problem.network.homogeneous(layer)
        for sigma, times in zip((-1, 0, 1), share_signs(shares), strict=True):
            if times:
                one = block(coupling, sigma, homogeneous=homogeneous, extra=extra)
                total = total.plus(one.inertia, times)
    index, nullity = total.index, total.nullity
    if not point.converged:  # there is no critical point whose signs these would be
        index = nullity = (0, total.size)
    return Lifted(
        widths=tuple(widths),
        order=sum(len(shares) - 1 for shares in copies.values()),
        loss=point.loss,
        gradient_norm=point.gradient_norm,
        index_range=index,
        nullity_range=nullity,
        inertia=total,
        error_bound=symmetric.rounding + symmetric.drift,
        seconds=time.perf_counter() - began,
    )


def _check_copy(network: Any, layer: int, unit: int, shares: tuple[float, ...]) -> None:
    """Refuse a copy that is none."""
    network.neurons(layer)  # refuses a layer that is not there
    count = unit_counts(network)[layer]
    if not 0 <= unit < count:
        raise NeuronsError("no such neuron in this layer", name="neuron", value=unit, expected=f"0 to {count - 1}")
    values = np.asarray(shares, dtype=float)
    if len(values) == 0 or not np.isfinite(values).all() or abs(values.sum() - 1.0) > 1e-12 * max(1.0, *abs(values)):
        raise SettingsError("the shares must sum to 1", name="shares", value=shares, expected="finite, sum 1")
    if any(0.0 < abs(value) <= TINY for value in values):
        raise SettingsError("a share is too small to have a sign", name="shares", value=shares, expected=f"0 or {TINY}")
