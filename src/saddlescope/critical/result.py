"""What a certificate is, as frozen records: counts of signs, groups of copies, flat directions, the verdict."""

from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from saddlescope.html_repr import card


class Kind(StrEnum):
    """What a point is. A "minimum" is meant up to the flat directions that the certificate names."""

    STRICT_MINIMUM = "strict-minimum"
    MINIMUM = "minimum-with-flat-directions"
    SADDLE = "saddle"
    NOT_CRITICAL = "not-critical"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Group:
    """Units of one hidden layer (from 1) with the same incoming vector; unit j sends out shares[j] of their sum."""

    layer: int
    units: tuple[int, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Inertia:
    """Signs of a symmetric matrix's eigenvalues, with the numbers that they rest on.

    ``zero`` counts directions that are flat for a stated reason; they are not among ``values``. These are eigenvalues
    in natural units (`spectrum.natural_scale`): their signs are the Hessian's, their sizes are not. One of
    ``values`` has a sign if it is farther from 0 than its entry of ``bounds``; the others are ``unresolved``.
    """

    negative: int
    zero: int
    positive: int
    unresolved: int
    values: np.ndarray = field(default_factory=lambda: np.zeros(0))
    bounds: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @staticmethod
    def of(values: np.ndarray, bounds: np.ndarray, *, zero: int = 0) -> "Inertia":
        """Count the signs of eigenvalues that are known to within the bounds; NaN has no sign."""
        bounds = np.broadcast_to(bounds, values.shape).astype(float)
        negative, positive = int(np.sum(values < -bounds)), int(np.sum(values > bounds))
        return Inertia(negative, zero, positive, len(values) - negative - positive, values, bounds)

    @property
    def size(self) -> int:
        """Number of directions, flat ones included."""
        return self.negative + self.zero + self.positive + self.unresolved

    @property
    def index(self) -> tuple[int, int]:
        """Smallest and largest number of negative eigenvalues that the bounds allow."""
        return self.negative, self.negative + self.unresolved

    @property
    def nullity(self) -> tuple[int, int]:
        """Smallest and largest number of zero eigenvalues that the bounds allow."""
        return self.zero, self.zero + self.unresolved

    def plus(self, other: "Inertia", times: int = 1) -> "Inertia":
        """Return the inertia of the block-diagonal matrix of this block and ``times`` copies of the other."""
        if times == 0:
            return self
        return Inertia(
            self.negative + times * other.negative,
            self.zero + times * other.zero,
            self.positive + times * other.positive,
            self.unresolved + times * other.unresolved,
            np.concatenate([self.values, *[other.values] * times]),
            np.concatenate([self.bounds, *[other.bounds] * times]),
        )

    def flat(self, more: int) -> "Inertia":
        """Return the inertia with ``more`` further flat directions."""
        return replace(self, zero=self.zero + more)


@dataclass(frozen=True)
class Flat:
    """``count`` flat directions of one kind, and the largest |H v| / |v| measured on them."""

    kind: str  # a key of `signs.WHY`
    count: int
    residual: float
    why: str


@dataclass(frozen=True)
class Part:
    """One block of the Hessian, the way its signs were found, and how often it occurs."""

    name: str  # "symmetric" | "antisymmetric" | "all"
    method: str  # "dense" | "matrix-free" | "exchange" | "closed-form"
    inertia: Inertia
    times: int = 1


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What a point is, and everything that the verdict rests on.

    ``index`` and ``nullity`` are None unless every sign was separated; the ranges always hold what is known.
    They belong to the refined critical point ``point``, ``distance`` away from the one given (``relative_distance``:
    in natural units, as a share of the parameters); where none was reached ``point`` is the one given, and the signs
    that the Hessian has just there stand in ``signs_here`` (negative, unclear, positive), which is no index.
    ``symmetry_nullity`` counts the flat directions that a symmetry explains.
    """

    verdict: Kind
    index: int | None
    nullity: int | None
    index_range: tuple[int, int]
    nullity_range: tuple[int, int]
    symmetry_nullity: int
    loss: float
    gradient_norm: float
    refined_gradient_norm: float
    distance: float
    relative_distance: float
    point: dict[str, np.ndarray]
    signs_here: tuple[int, int, int] | None
    groups: tuple[Group, ...]
    flat: tuple[Flat, ...]
    parts: tuple[Part, ...]
    method: str
    methods: dict[str, tuple[tuple[int, int], tuple[int, int]]]  # by method: range of the index, of the nullity
    error_bound: float
    tolerance: str  # how the error bound comes about, in words
    reasons: tuple[str, ...]
    not_shown: tuple[str, ...]
    evaluations: dict[str, int]
    seconds: float

    def _repr_html_(self) -> str:
        """Return the summary that notebooks show."""
        facts = {
            "index": self.index_range if self.index is None else self.index,
            "nullity": self.nullity_range if self.nullity is None else self.nullity,
            "explained by symmetry": self.symmetry_nullity,
            "loss": self.loss,
            "gradient norm": self.gradient_norm,
            "because": "; ".join(self.reasons) or "-",
            "not shown": "; ".join(self.not_shown) or "-",
        }
        return card(f"{self.verdict}", facts)
