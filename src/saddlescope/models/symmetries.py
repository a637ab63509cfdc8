"""Every group of interchangeable units of a model, each proved by trying: the public verb."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from saddlescope.arrays import Parameters, require_finite
from saddlescope.models.contract import adapted, as_taken
from saddlescope.models.finding import find_symmetries
from saddlescope.models.units import Symmetry
from saddlescope.precision import in_float64


@in_float64
def symmetries(model: Any, params: Parameters, x: Any) -> tuple[Symmetry, ...]:
    """Return the groups of interchangeable units of a model, in order of computation.

    Each was found by following axes through the computation and then tried: random permutations leave the outputs as
    they are, leaving out the slices of any one array does not, and laws that hold decide what feeds a unit, what reads
    it, and whether units can be merged, added or removed. **A group that fails a try is not returned.**

    Args:
        model: a model from `from_torch`, `from_function`, `from_flax` or `from_equinox`, or a `MLP`.
        params: its parameters; the tries are made here and at random arrays of the same shapes.
        x: a few samples, batch first.

    Returns:
        One `Symmetry` for each group.

    Raises:
        ShapeError: parameters that do not fit the model.
        NonFiniteError: a parameter that is not finite.
    """
    model = adapted(model)
    model.check(params)
    require_finite(params, "the parameters")
    fixed: Mapping[str, np.ndarray] = getattr(model, "fixed", {})
    trained = {name: np.asarray(params[name], dtype=np.float64) for name in model.layout.names}
    if hasattr(model, "inputs"):
        inputs = tuple(np.asarray(value) for value in model.split(x))
        return find_symmetries(model.function, {**trained, **fixed}, set(fixed), inputs)[0]
    return find_symmetries(model.apply, trained, set(), (as_taken(model, np.asarray(x)),))[0]
