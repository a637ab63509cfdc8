"""What a permutation path is, as a frozen record of arrays. How it was found is not known here.

Times t in [0, 1/4] belong to the falling distance, [1/4, 1/2] to the transfer of outgoing weights at distance
zero, and the second half is the mirror image gamma(t) = swap(gamma(1 - t)) ([B19] section 4.1).
"""

from dataclasses import dataclass, field

import numpy as np

from saddlescope.html_repr import card
from saddlescope.outcomes import Outcome
from saddlescope.paths.advice import advice
from saddlescope.units.neurons import Neurons


@dataclass(frozen=True, kw_only=True)
class PathSettings:
    """What the caller asked for. Distances are in units of the parameters; ``reach`` is the last/first distance."""

    distance: str = "tied"  # "incoming" | "joint" | "tied"
    steps: int = 200
    reach: float = 1e-4
    solver: str = "auto"  # "auto" | "newton" | "creased" | "krylov" | "flow" | "descent"
    tolerance: float | None = None  # tangential gradient norm; None: 1e-10 dense, relative 1e-4 matrix-free
    max_iterations: int = 200
    polish: bool = True


@dataclass(frozen=True)
class Event:
    """Something that happened on the way: fold, interior-maximum, channel, runaway, not-converged, jump."""

    kind: Outcome
    distance: float
    loss: float
    node: int
    detail: str


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a path begins, beside the network that was given: `polished` to a minimum first, unless told not to.

    ``distance`` is how far that moved the parameters, ``relative_distance`` the same as a share of their norm, in the
    path's units. ``another_network``: so far, or so much lower in loss, that the path is not one of the network given.
    """

    polished: bool
    loss_given: float
    loss: float
    gradient_norm_given: float
    gradient_norm: float
    distance: float
    relative_distance: float
    another_network: bool


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Which weights grew most along a path: one neuron's ``incoming`` or ``outgoing`` weights in one array.

    ``role`` is "other", and ``layer`` and ``unit`` are None, for an array that belongs to no neuron. ``first`` and
    ``last`` are their norms, ``exponent`` is p of norm ~ distance^p over the last decade of distances, and the two
    others are those of |a_m - a_l| and |a_l + a_m| of the pair: about -1 and 0 in a channel to infinity. NaN: not
    measurable. ``share`` is the last distance as a share of the first, ``of_pair`` says whether these are outgoing
    weights of the pair itself.
    """

    array: str
    role: str  # "incoming" | "outgoing" | "other"
    layer: int | None
    unit: int | None
    first: float
    last: float
    exponent: float
    difference_exponent: float
    sum_exponent: float
    share: float
    of_pair: bool


@dataclass(frozen=True, kw_only=True)
class PermutationPoint:
    """Two neurons coincide: a critical point of the network with one neuron less, lifted by splitting.

    ``loss_gap`` is the loss here minus the loss at the end of the path, extrapolated to distance zero. The point is
    polished: ``unpolished_gradient_norm`` is the reduced one before, ``polish_distance`` how far that moved it, and
    ``gradient_rounding`` bounds the rounding of its reduced gradient (all three in the path's units; NaN where samples
    lie on kinks).
    """

    layer: int
    pair: tuple[int, int]
    parameters: dict[str, np.ndarray]
    reduced: dict[str, np.ndarray] | None
    loss: float
    gradient_norm: float
    reduced_gradient_norm: float
    shares: tuple[float, float]
    loss_gap: float
    accuracy: float | None = None
    unpolished_gradient_norm: float = float("nan")
    polish_distance: float = float("nan")
    gradient_rounding: float = float("nan")

    def _repr_html_(self) -> str:
        """Return the summary that notebooks show."""
        facts = {
            "layer": self.layer,
            "pair": self.pair,
            "loss": self.loss,
            "gradient norm": self.gradient_norm,
            "shares of the outgoing sum": self.shares,
        }
        return card("permutation point: two neurons coincide", facts)


@dataclass(frozen=True, kw_only=True)
class Path:
    """The first half of a permutation path; `at` gives all of gamma: [0, 1] -> parameters.

    Node k has ``times[k]`` in [0, 1/4], rising, and ``distances[k]``, falling; the last node, if a permutation
    point was reached, has distance 0. ``gradient_norms`` are tangential (along the constraint surface), measured at
    every node: at "asked" ones they are the residuals of a minimisation, and `residual` is the largest of these; on a
    "bridge" they are the slopes of a descent that is under way, and large. ``slopes`` is dL/d(distance) along the path;
    ``curvatures`` the smallest eigenvalue of the tangential Hessian (NaN where it was not computed).
    ``outgoing_norms`` has one column per neuron of the pair.

    Distances, ``gradient_norms``, slopes and the tolerance are in the path's own units: ``units`` by array and
    ``loss_unit``, all one unless the data's sizes are far from one. Losses and ``full_gradient_norms`` are in yours.
    """

    layer: int
    pair: tuple[int, int]
    neurons: Neurons
    settings: PathSettings
    solver: str
    gauge: str  # "none" | "unit-incoming"
    times: np.ndarray
    distances: np.ndarray
    losses: np.ndarray
    gradient_norms: np.ndarray
    full_gradient_norms: np.ndarray
    slopes: np.ndarray
    curvatures: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray
    kinds: (
        np.ndarray
    )  # "asked" | "between" two asked | "bridge": on a descent that leaves a fold | "merged": distance 0
    outgoing_norms: np.ndarray
    accuracies: np.ndarray | None
    parameters: dict[str, np.ndarray]  # each (nodes, *shape)
    events: tuple[Event, ...]
    ending: Outcome
    reasons: tuple[str, ...]
    permutation_point: PermutationPoint | None
    barrier: float
    continuous: bool
    largest_deviation: float
    tolerance: float
    evaluations: dict[str, int]
    seconds: float
    fingerprints: dict[str, str]
    versions: dict[str, str] = field(default_factory=dict)
    problem: dict[str, object] = field(default_factory=dict)  # what a reader needs to rebuild the Problem
    start: Start | None = None
    growth: Growth | None = None
    warnings: tuple[str, ...] = ()
    units: dict[str, float] = field(default_factory=dict)
    loss_unit: float = 1.0

    @property
    def loss_at_point(self) -> float | None:
        """Loss at the permutation point, or None when the path has none."""
        return None if self.permutation_point is None else self.permutation_point.loss

    @property
    def advice(self) -> str:
        """What the ending means and what can be done about it, given the settings that were used."""
        return advice(
            self.ending,
            distance=self.settings.distance,
            weight_decay=_number(self.problem.get("weight_decay")),
            norm_barrier=_number(self.problem.get("norm_barrier")),
        )

    @property
    def residual(self) -> float:
        """The largest tangential gradient norm over the requested distances: at most `tolerance`, if none missed it."""
        return float(np.max(self.gradient_norms[self.kinds == "asked"]))

    def _repr_html_(self) -> str:
        """Return the summary that notebooks show."""
        asked = self.kinds == "asked"
        facts = {
            "because": "; ".join(self.reasons) or "-",
            **({"warning": "; ".join(self.warnings)} if self.warnings else {}),
            "layer": self.layer,
            "pair": self.pair,
            "loss at the permutation point": self.loss_at_point,
            "barrier": self.barrier,
            "largest tangential gradient norm": self.residual,
            "tolerance, missed at": f"{self.tolerance:.2e}, {int((asked & ~self.converged).sum())} distances",
            "continuous": "yes" if self.continuous else "no",
        }
        return card(f"{self.ending}. {self.advice}", facts, curve=self.losses.tolist(), name="loss along the path")


def _number(value: object) -> float:
    """Return a number that a record may not hold; 0 where it does not."""
    return float(value) if isinstance(value, int | float) else 0.0
