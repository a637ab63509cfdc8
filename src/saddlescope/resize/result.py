"""What resizing finds: frozen records of an expansion, a subspace of equal networks, and a reduction.

Layers count hidden layers from 1, neurons from 0.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from saddlescope.errors import NeuronsError, SettingsError
from saddlescope.html_repr import card

Answer = Literal["yes", "no", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """How one neuron of the wide layer came to be.

    "kept" and "copy": neuron ``source`` of the small layer, sending out ``share`` of what that one sent. "zero-type": a
    member of the layer's group number ``group``, whose outgoing weights sum to zero.
    """

    layer: int
    neuron: int
    kind: Literal["kept", "copy", "zero-type"]
    source: int | None = None
    share: float | None = None
    group: int | None = None


@dataclass(frozen=True)
class Subspace:
    """One affine subspace of Theta_{r -> m}: which wide neurons copy which small one, and the zero-type groups.

    ``copies[i]`` holds the places of small neuron i's copies, which share its incoming vector and the sum of whose
    outgoing vectors is its own; each group of ``zero_groups`` shares an incoming vector that is free, and its outgoing
    vectors sum to zero. Places and groups are kept in increasing order, so that equal subspaces are equal values.

    Raises:
        NeuronsError: the places are not 0 to m - 1, each once, or a small neuron has no copy, or a group is empty.

    Source: [S21] section 4.
    """

    copies: tuple[tuple[int, ...], ...]
    zero_groups: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        """Check that every wide neuron has one place, and bring the groups into order."""
        copies = tuple(tuple(sorted(block)) for block in self.copies)
        groups = tuple(sorted(tuple(sorted(block)) for block in self.zero_groups))
        places = sorted(place for block in (*copies, *groups) for place in block)
        if not copies or not all((*copies, *groups)) or places != list(range(len(places))):
            raise NeuronsError(
                "not a sorting of the wide layer's neurons",
                name="copies, zero_groups",
                value=(copies, groups),
                expected="every neuron from 0 on in one group, and at least one in each group",
            )
        object.__setattr__(self, "copies", copies)
        object.__setattr__(self, "zero_groups", groups)

    @property
    def small(self) -> int:
        """Number of neurons r of the small layer."""
        return len(self.copies)

    @property
    def wide(self) -> int:
        """Number of neurons m of the wide layer."""
        return sum(len(block) for block in (*self.copies, *self.zero_groups))

    def dimension(self, incoming: int, outgoing: int) -> int:
        """Return sum (k_i - 1) n_out + sum (b_j - 1) n_out + (number of zero-type groups) d_in.

        Args:
            incoming: d_in, the number of entries of one neuron's incoming vector, its bias included.
            outgoing: n_out, the number of entries of one neuron's outgoing vector.
        """
        blocks = (*self.copies, *self.zero_groups)
        return sum(len(block) - 1 for block in blocks) * outgoing + len(self.zero_groups) * incoming

    @property
    def critical_dimension(self) -> int:
        """Dimension m - r of the symmetry-induced critical points: copies with outgoing vectors beta a_i, sum beta = 1.

        Raises:
            SettingsError: the subspace has zero-type groups, whose members are not critical in general.
        """
        if self.zero_groups:
            raise SettingsError(
                "zero-type neurons are not critical in general",
                name="zero_groups",
                value=self.zero_groups,
                expected="a subspace of copies only",
            )
        return self.wide - self.small

    def meets(self, other: "Subspace") -> bool:
        """Return whether the two subspaces of an irreducible network's Theta_{r -> m} share a point.

        Neurons of one block share an incoming vector, so blocks that overlap do as well. Such a cluster may hold no
        two small neurons, whose incoming vectors differ; and, since its outgoing vectors have one sum, it holds the
        same small neuron in both subspaces, or none in either. This is enough: on a connected cluster outgoing vectors
        with the wanted sums exist as soon as the totals agree.
        """
        if (self.small, self.wide) != (other.small, other.wide):
            return False
        cluster = list(range(self.wide))
        for block in (*self.copies, *self.zero_groups, *other.copies, *other.zero_groups):
            joined = {cluster[place] for place in block}
            cluster = [min(joined) if name in joined else name for name in cluster]
        ours, theirs = ([cluster[block[0]] for block in place.copies] for place in (self, other))
        return len(set(ours)) == len(ours) and ours == theirs


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """The wide network, its parameters, how each neuron of a grown layer came to be, and the function's deviation.

    ``max_output_deviation`` is max |f_wide - f_small| over the measured inputs, ``output_scale`` max |f_small|: their
    ratio is rounding. ``fingerprints``: of the small parameters and of the inputs.
    """

    network: Any
    parameters: dict[str, np.ndarray]
    widths: tuple[int, ...]
    origins: tuple[Origin, ...]
    max_output_deviation: float
    output_scale: float
    seed: int
    fingerprints: dict[str, str]

    def subspace(self, layer: int) -> Subspace:
        """Return on which subspace of the expansion manifold a layer that grew was put.

        Raises:
            NeuronsError: this layer did not grow.
        """
        mine = [origin for origin in self.origins if origin.layer == layer]
        if not mine:
            grown = sorted({origin.layer for origin in self.origins})
            raise NeuronsError("this layer did not grow", name="layer", value=layer, expected=f"one of {grown}")
        copies: dict[int, list[int]] = {}
        groups: dict[int, list[int]] = {}
        for origin in mine:
            block = copies if origin.source is not None else groups
            key = origin.source if origin.source is not None else origin.group
            block.setdefault(key or 0, []).append(origin.neuron)
        return Subspace(
            tuple(tuple(copies[i]) for i in sorted(copies)), tuple(tuple(groups[j]) for j in sorted(groups))
        )

    def _repr_html_(self) -> str:
        """Return the summary that notebooks show."""
        facts = {
            "widths": self.widths,
            "neurons added or copied": sum(origin.kind != "kept" for origin in self.origins),
            "largest change of an output": self.max_output_deviation,
            "largest output": self.output_scale,
        }
        return card(f"expanded to {'-'.join(map(str, self.widths))}", facts)


@dataclass(frozen=True, kw_only=True)
class Membership:
    """Whether a wide parameter set lies on the expansion manifold of a small one, and where.

    ``residual`` is the Euclidean distance to ``subspace``, divided by the norm of the wide parameters: "yes" up to
    ``tolerance``, "undecided" up to ``band`` times it, "no" above. ``subspaces`` are all that the point lies on within
    the same words; only the coarsest one when more than `manifold.REFINED` neurons coincide.
    """

    answer: Answer
    residual: float
    tolerance: float
    band: float
    subspace: Subspace
    subspaces: tuple[Subspace, ...]


@dataclass(frozen=True, kw_only=True)
class ManifoldGraph:
    """Which subspaces of Theta_{r -> m} meet, as numbers in ``subspaces``, found by search through all pairs.

    ``diameter`` is the longest shortest path, None when the graph is not connected.
    """

    small: int
    wide: int
    subspaces: tuple[Subspace, ...]
    edges: tuple[tuple[int, int], ...]
    connected: bool
    diameter: int | None


@dataclass(frozen=True, kw_only=True)
class Removal:
    """One neuron that was taken out; numbers are those of the network that was given.

    ``into`` is the neuron that took over what this one sent, None when none did; ``into_bias``: a constant went into
    the next layer's bias. ``gap`` is the relative distance from the exact case, 0 when the case is exact.
    ``data_dependent``: the function is only kept on the given inputs.
    """

    layer: int
    neuron: int
    why: str
    into: int | None
    into_bias: bool
    gap: float
    data_dependent: bool


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """One neuron that a rule calls redundant (``why``) and that stays, since without it the outputs would change.

    ``loss`` is by how much at most: the largest change of an output, relative to that output's largest value on the
    data, with a bound of the outputs' own rounding where the removal is not exact.
    """

    layer: int
    neuron: int
    why: str
    loss: float


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """The small network, its parameters, what was removed and what could not be.

    ``output_loss`` is the largest change of an output on the data, relative to that output's largest value there: at
    most ``tolerance``, all removals together. ``max_output_deviation`` and ``output_scale`` are the largest change and
    the largest value over all outputs. ``kept[layer]`` are the numbers, in the given network, of the neurons that
    stayed. ``nearest[layer]`` is how close the layer still is to another reduction: the smallest relative distance
    between two neurons, up to the activation's own symmetries, or of a vector from zero (infinity when there is nothing
    to compare). ``refused``: neurons that look redundant within the tolerance and that the outputs need; ``undecided``:
    a distance, or the loss of a refused neuron, is within `reduce.BAND` times the tolerance. ``left`` says in words
    what is known to be redundant and yet cannot be taken out, and what was refused.
    """

    network: Any
    parameters: dict[str, np.ndarray]
    widths: tuple[int, ...]
    removed: tuple[Removal, ...]
    kept: dict[int, tuple[int, ...]]
    left: tuple[str, ...]
    nearest: dict[int, float]
    refused: tuple[Refusal, ...]
    undecided: bool
    output_loss: float
    max_output_deviation: float
    output_scale: float
    tolerance: float
    fingerprints: dict[str, str]

    def _repr_html_(self) -> str:
        """Return the summary that notebooks show."""
        facts = {
            "widths": self.widths,
            "removed": len(self.removed),
            "left": "; ".join(self.left) or "-",
            "largest change of an output": self.max_output_deviation,
            "largest output": self.output_scale,
            "the same, relative to each output": self.output_loss,
            "another reduction is near": "undecided" if self.undecided else "no",
        }
        return card(f"reduced to {'-'.join(map(str, self.widths))}", facts)
