"""What an equal-loss walk is, as frozen records: a start, moves as data, and what was measured along them.

A route holds one parameter set, however many segments it has; positions on it are replayed from its moves. Every
segment takes the same share of the time [0, 1].
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from saddlescope.html_repr import card
from saddlescope.models.sizes import layer_sizes
from saddlescope.units.neurons import Neurons


class MoveKind(StrEnum):
    """What one straight segment does.

    ``walk``: the incoming vector of a neuron that sends nothing goes to that of another. ``transfer``: a neuron gives
    all that it sends to its twin. ``share``: two twins divide their sum as the end of the route has it.
    """

    WALK = "walk"
    TRANSFER = "transfer"
    SHARE = "share"


@dataclass(frozen=True)
class Move:
    """One segment: neuron ``neuron`` walks to, gives to, or shares with neuron ``to`` (counted from 0)."""

    kind: MoveKind
    neuron: int
    to: int


@dataclass(frozen=True, kw_only=True)
class Route:
    """A piecewise linear path from ``start`` to ``permute(start, neurons, permutation)``; see `valleys.moves`.

    ``pair``: the two neurons whose incoming vectors are equal at the start. ``permutation``: neuron i of the end is
    neuron permutation[i] of the start.
    """

    start: dict[str, np.ndarray]
    neurons: Neurons
    pair: tuple[int, int]
    permutation: tuple[int, ...]
    moves: tuple[Move, ...]

    @property
    def segments(self) -> int:
        """Number of straight segments."""
        return len(self.moves)


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """What was measured along a path: row s belongs to segment s, its columns to equally spaced points, the end last.

    ``output_deviations`` are the largest |f - f at the start| over samples and outputs. A segment is ``critical`` if
    no gradient norm measured on it, both ends included, exceeds ``tolerance``.
    """

    loss: float
    gradient_norm: float
    largest_output: float
    losses: np.ndarray
    gradient_norms: np.ndarray
    output_deviations: np.ndarray
    tolerance: float

    @property
    def loss_deviations(self) -> np.ndarray:
        """|L - L at the start| at every point measured."""
        return np.abs(self.losses - self.loss)

    @property
    def max_loss_deviation(self) -> float:
        """Largest |L - L at the start|; NaN if a loss is not finite."""
        return float(np.max(self.loss_deviations, initial=0.0))

    @property
    def max_output_deviation(self) -> float:
        """Largest change of an output of the network."""
        return float(np.max(self.output_deviations, initial=0.0))

    @property
    def max_gradient_norm(self) -> float:
        """Largest norm of the loss's gradient, the start included."""
        return float(np.max(self.gradient_norms, initial=self.gradient_norm))

    @property
    def critical(self) -> np.ndarray:
        """Whether the gradient vanishes, to the tolerance, at all points measured of each segment."""
        ends = np.concatenate([[self.gradient_norm], self.gradient_norms[:, -1]])[:-1]
        return np.maximum(self.gradient_norms.max(axis=1, initial=0.0), ends) <= self.tolerance

    @property
    def critical_stretches(self) -> tuple[tuple[int, int], ...]:
        """First and last segment of every longest run of critical segments."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], self.critical, [False]]).astype(int)))
        return tuple((int(first), int(after) - 1) for first, after in edges.reshape(-1, 2))


@dataclass(frozen=True, kw_only=True)
class Walk:
    """A route through one layer (hidden layers count from 1; None: the neurons were given) and its measurement."""

    layer: int | None
    route: Route
    scan: Measurements
    seconds: float

    @property
    def segments(self) -> int:
        """Number of straight segments."""
        return self.route.segments

    @property
    def loss(self) -> float:
        """Loss at the start, and along the walk to within `max_loss_deviation`."""
        return self.scan.loss

    @property
    def max_loss_deviation(self) -> float:
        """Largest |L - L at the start| measured."""
        return self.scan.max_loss_deviation

    @property
    def max_gradient_norm(self) -> float:
        """Largest gradient norm measured."""
        return self.scan.max_gradient_norm

    def _repr_html_(self) -> str:
        """Return the summary that notebooks show."""
        facts = {
            "segments": self.segments,
            "critical segments": int(self.scan.critical.sum()),
            "loss": self.loss,
            "largest loss deviation": self.max_loss_deviation,
            "largest gradient norm": self.max_gradient_norm,
        }
        norms = self.scan.gradient_norms.max(axis=1, initial=0.0).tolist()
        verdict = f"{self.segments} segments at equal loss, to within {self.max_loss_deviation:.1e}"
        return card(verdict, facts, curve=norms, name="gradient norm, segment by segment")


@dataclass(frozen=True, kw_only=True)
class Join:
    """A path of constant loss between two permuted copies of a network, each with one spare neuron a hidden layer.

    ``network`` is the widened one. ``permutations[k]``: neuron i of hidden layer k + 1 of the second is neuron
    ``permutations[k][i]`` of the first. Route k permutes layer k + 1. ``second`` is where the path ends; if the copies
    agree only up to ``gap``, a last straight segment closes it (``settles``).
    """

    network: Any
    permutations: tuple[tuple[int, ...], ...]
    routes: tuple[Route, ...]
    second: dict[str, np.ndarray]
    gap: float
    scan: Measurements
    seconds: float

    @property
    def first(self) -> dict[str, np.ndarray]:
        """Where the path begins."""
        return self.routes[0].start

    @property
    def settles(self) -> bool:
        """Whether a last segment leads from the permuted first network to the second."""
        return self.gap > 0.0

    @property
    def segments(self) -> int:
        """Number of straight segments, through all layers."""
        return sum(route.segments for route in self.routes) + int(self.settles)

    def _repr_html_(self) -> str:
        """Return the summary that notebooks show."""
        facts = {
            "widths": layer_sizes(self.network),
            "segments": self.segments,
            "loss": self.scan.loss,
            "largest loss deviation": self.scan.max_loss_deviation,
            "gap closed by the last segment": self.gap if self.settles else None,
        }
        norms = self.scan.gradient_norms.max(axis=1, initial=0.0).tolist()
        verdict = f"joined by {self.segments} segments at equal loss, to within {self.scan.max_loss_deviation:.1e}"
        return card(verdict, facts, curve=norms, name="gradient norm, segment by segment")
