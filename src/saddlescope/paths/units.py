"""The units in which a path measures parameters and loss, so that it does not depend on those of the data.

With inputs in millimetres instead of metres the first layer's weights are a thousand times smaller, with targets a
million times smaller the last layer's; distances, step lengths and tolerances would then see nothing of them. Where
the data's sizes are far from one, a path measures these layers, and the loss, in the data's own units: powers of ten,
so that data in other decimal units give the same path. Elsewhere all units are one.
"""

import math
from dataclasses import dataclass

import numpy as np

from saddlescope.models.chain import is_traceable
from saddlescope.problem.problem import Problem

# Data whose root mean square lies within this factor of one, either way, are taken in their own units.
ORDINARY = 30.0


@dataclass(frozen=True)
class Units:
    """One unit for each array of the parameters, by its name, and one for the loss."""

    arrays: dict[str, float]
    loss: float

    @property
    def ordinary(self) -> bool:
        """Whether all of them are one."""
        return self.loss == 1.0 and all(unit == 1.0 for unit in self.arrays.values())

    def vector(self, shapes: dict[str, tuple[int, ...]]) -> np.ndarray:
        """Return the units of a flattened parameter set's entries."""
        return np.concatenate([np.full(math.prod(shape), self.arrays[name]) for name, shape in shapes.items()])

    def scaled(self, parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the parameters, measured in these units."""
        return {name: value / self.arrays[name] for name, value in parameters.items()}


def decimal_unit(size: float) -> float:
    """Return the power of ten nearest to a size; 1 for an ordinary one, and for zero or what is not finite."""
    if not math.isfinite(size) or size <= 0.0 or 1.0 / ORDINARY <= size <= ORDINARY:
        return 1.0
    return 10.0 ** round(math.log10(size))


def units_of(problem: Problem, names: tuple[str, ...]) -> Units:
    """Return the units for a problem's parameters; all one but for chains of dense layers."""
    network, units = problem.network, dict.fromkeys(names, 1.0)
    targets = decimal_unit(_size(problem.targets)) if problem.loss in ("mse", "normalised") else 1.0
    loss = targets**2 if problem.loss == "mse" else 1.0
    if not is_traceable(network):
        return Units(units, loss)
    first, last = network.chain[0], network.chain[-1]
    units[first.weight] /= decimal_unit(_size(problem.inputs))
    for name in last.names:
        units[name] *= targets
    return Units(units, loss)


def _size(rows: object) -> float:
    """Return the root mean square, without overflow."""
    array = np.abs(np.asarray(rows, dtype=np.float64))
    top = float(array.max(initial=0.0))
    return top * math.sqrt(float(np.mean(np.square(array / top)))) if top > 0.0 else 0.0
