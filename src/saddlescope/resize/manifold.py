"""The expansion manifold Theta_{r -> m} of one layer: its affine subspaces, their bases, which of them meet.

Every wide network with the function of an irreducible small one lies on one of T(r, m) subspaces (for activations
without algebraic symmetries of their own); G(r, m) of them hold copies only. Source: [S21] sections 3 and 4.
"""

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from saddlescope.arrays import Layout, Parameters, to_numpy
from saddlescope.counting.closed_form import minimum_subspaces
from saddlescope.counting.enumerate import surjections
from saddlescope.errors import NeuronsError, SettingsError, ShapeError
from saddlescope.resize.expand import assemble, root_mean_square, zero_sum
from saddlescope.resize.result import Answer, ManifoldGraph, Membership, Subspace
from saddlescope.units.neurons import Neurons

# A residual up to so many times the tolerance leaves the answer open.
BAND = 10.0

# Classes of coinciding neurons up to this size are split in every way, to list all subspaces that hold a point.
REFINED = 6

# Most subspaces that a search goes through (wider layers than the second always have more), and most bytes of a basis.
SEARCH_LIMIT = 5000
SEARCHED = 12
BASIS_BYTES = 2**31

Sorting = tuple[tuple[int, ...], ...]


def subspaces(small: int, wide: int, *, zero_type: bool = True) -> Iterator[Subspace]:
    """Yield every subspace of Theta_{r -> m}: T(r, m) of them, or G(r, m) with copies only.

    Args:
        small: r, the neurons of the small layer.
        wide: m >= r, those of the wide one.
        zero_type: whether subspaces with zero-type groups are wanted.

    Raises:
        NeuronsError: not 1 <= r <= m.

    Source: [S21] section 4.
    """
    _check_sizes(small, wide)
    return _subspaces(small, wide, zero_type=zero_type)


def _subspaces(small: int, wide: int, *, zero_type: bool) -> Iterator[Subspace]:
    for zeros in range(wide - small + 1 if zero_type else 1):
        for idle in itertools.combinations(range(wide), zeros):
            busy = [place for place in range(wide) if place not in idle]
            for labels in surjections(small, len(busy)):
                copies = tuple(
                    tuple(p for p, label in zip(busy, labels, strict=True) if label == i) for i in range(small)
                )
                for groups in _partitions(idle):
                    yield Subspace(copies, groups)


def _partitions(places: Sequence[int]) -> Iterator[Sorting]:
    """Yield every way to sort places into non-empty groups: Bell(n) of them, one for no places."""
    if not places:
        yield ()
        return
    first, *rest = places
    for number in range(len(rest) + 1):
        for others in itertools.combinations(rest, number):
            left = [place for place in rest if place not in others]
            for groups in _partitions(left):
                yield ((first, *others), *groups)


def _check_sizes(small: int, wide: int) -> None:
    if not 1 <= small <= wide:
        raise NeuronsError(
            "no such expansion", name="small, wide", value=(small, wide), expected="1 <= small <= wide neurons"
        )


def basis(
    parameters: Parameters, neurons: Neurons, subspace: Subspace, *, critical: bool = False
) -> Float[np.ndarray, "dimension size"]:
    """Return an orthonormal basis of a subspace's directions, as rows over the flattened wide parameters.

    Along every combination of rows the function stays, from any point of the subspace. For copies: outgoing vectors
    against each other; for zero-type groups also the common incoming vector.

    Args:
        parameters: a point of the subspace (only its shapes count, unless ``critical``).
        neurons: the layer's units.
        subspace: where the units stand.
        critical: only the m - r directions in which copies share one outgoing vector differently; the points reached
            from a symmetry-induced critical point are then critical.

    Raises:
        NeuronsError: the subspace has another number of neurons.
        SettingsError: ``critical`` with zero-type groups or with copies that send out nothing; a basis too large.

    Source: [S21] sections 3 and 4.
    """
    layout = Layout.of(parameters)
    incoming, outgoing = neurons.incoming_positions(layout), neurons.outgoing_positions(layout)
    _check_fit(subspace, subspace.small, len(incoming))
    count = subspace.critical_dimension if critical else subspace.dimension(incoming.shape[1], outgoing.shape[1])
    if 8 * count * layout.size > BASIS_BYTES:
        raise SettingsError(
            "this basis is too large to be written out",
            name="bytes",
            value=8 * count * layout.size,
            expected=f"at most {BASIS_BYTES}",
            advice="Use `sample`, which needs no basis",
        )
    rows = np.zeros((count, layout.size))
    vectors = neurons.outgoing_vectors(parameters)
    next_row = 0
    for block in (*subspace.copies, *subspace.zero_groups):
        directions = _unit_sum(vectors[list(block)]) if critical else np.eye(outgoing.shape[1])
        for weights in _contrasts(len(block)):
            for direction in directions:
                rows[next_row, outgoing[list(block)]] = np.outer(weights, direction)
                next_row += 1
    for block in subspace.zero_groups:
        for place in range(incoming.shape[1]):
            rows[next_row, incoming[list(block), place]] = 1.0 / math.sqrt(len(block))
            next_row += 1
    return rows


def _contrasts(size: int) -> Float[np.ndarray, "rows size"]:
    """Return size - 1 orthonormal rows that sum to zero (Helmert's)."""
    rows = np.zeros((size - 1, size))
    for k in range(1, size):
        rows[k - 1, :k] = 1.0
        rows[k - 1, k] = -k
        rows[k - 1] /= math.sqrt(k * (k + 1))
    return rows


def _unit_sum(outgoing: Float[np.ndarray, "copies outputs"]) -> Float[np.ndarray, "1 outputs"]:
    total = outgoing.sum(axis=0, keepdims=True)
    length = float(np.linalg.norm(total))
    if length == 0.0:
        raise SettingsError("copies of a neuron that sends out nothing", name="sum of outgoing weights", value=0.0)
    return total / length


def sample(
    parameters: Parameters, neurons: Neurons, subspace: Subspace, *, seed: int = 0, spread: float = 1.0
) -> dict[str, np.ndarray]:
    """Return a random point of a subspace: wide parameters with the small ones' function.

    Args:
        parameters: the small model's.
        neurons: the layer's units.
        subspace: where they are to stand.
        seed: of the normal draws.
        spread: size of what is free, relative to the root mean square of the layer's incoming and outgoing entries.

    Raises:
        NeuronsError: the subspace is of another number of small neurons.
        SettingsError: a negative seed, or a spread that is negative or infinite.
    """
    if seed < 0:
        raise SettingsError("not a seed", name="seed", value=seed, expected="0 or more")
    if not 0.0 <= spread < math.inf:
        raise SettingsError("not a size", name="spread", value=spread, expected="a finite number, 0 or more")
    small = to_numpy(parameters)
    incoming, outgoing = neurons.incoming_vectors(small), neurons.outgoing_vectors(small)
    _check_fit(subspace, len(incoming), subspace.wide)
    generator = np.random.default_rng(seed)
    into, out = np.zeros((subspace.wide, incoming.shape[1])), np.zeros((subspace.wide, outgoing.shape[1]))
    scales = spread * root_mean_square(incoming), spread * root_mean_square(outgoing)
    for i, block in enumerate(subspace.copies):
        places = list(block)
        into[places] = incoming[i]
        out[places] = outgoing[i] / len(block) + zero_sum(generator, len(block), scales[1], outgoing.shape[1])
    for block in subspace.zero_groups:
        places = list(block)
        into[places] = scales[0] * generator.normal(size=incoming.shape[1])
        out[places] = zero_sum(generator, len(block), scales[1], outgoing.shape[1])
    return assemble(small, neurons, into, out)


def _check_fit(subspace: Subspace, small: int, wide: int) -> None:
    if (subspace.small, subspace.wide) != (small, wide):
        raise NeuronsError(
            "this subspace is of another layer",
            name="small, wide",
            value=(subspace.small, subspace.wide),
            expected=f"{small}, {wide}",
        )


def distance_to(small: Parameters, wide: Parameters, neurons: Neurons, subspace: Subspace) -> float:
    """Return the Euclidean distance from wide parameters to a subspace of Theta_{r -> m} of the small ones.

    Raises:
        NeuronsError: the subspace is of other numbers of neurons.
        ShapeError: the parameter sets differ in more than the width of this layer.
    """
    vectors = _Vectors(small, wide, neurons)
    _check_fit(subspace, len(vectors.incoming), len(vectors.wide_incoming))
    blocks = (*enumerate(subspace.copies), *((None, block) for block in subspace.zero_groups))
    return math.sqrt(vectors.elsewhere + sum(vectors.cost(i, block) for i, block in blocks))


def locate(small: Parameters, wide: Parameters, neurons: Neurons, *, tolerance: float = 1e-9) -> Membership:
    """Decide whether wide parameters lie on the expansion manifold of small ones, and on which subspaces.

    The residual is the distance to one subspace, relative to the norm of the wide parameters: neurons are assigned to
    the nearest incoming vectors, each small one to at least one. On the manifold this finds the nearest subspace; far
    from it, it is an upper bound of the distance. **The small network must be irreducible**; for activations with
    symmetries of their own, points that only those make equal are answered with "no".

    Args:
        small: the small model's parameters.
        wide: those of the model whose layer is at least as wide, all else of equal shape.
        neurons: the layer's units.
        tolerance: relative distance up to which the answer is "yes"; up to `BAND` times it "undecided".

    Raises:
        NeuronsError: the wide layer is narrower.
        ShapeError: the parameter sets differ in more than the width of this layer.
        SettingsError: a tolerance that is not positive.
    """
    if not 0.0 < tolerance < 1.0:
        raise SettingsError("not a tolerance", name="tolerance", value=tolerance, expected="between 0 and 1")
    vectors = _Vectors(small, wide, neurons)
    _check_sizes(len(vectors.incoming), len(vectors.wide_incoming))
    reach = BAND * tolerance * vectors.norm
    choices = [_choices(vectors, label, members) for label, members in _classes(vectors, reach)]
    best = [options[0] for options in choices]  # the coarsest holds all that lies on a finer one, up to the tolerance
    if vectors.distance(best) > tolerance * vectors.norm:
        best = [min(options, key=lambda option: option[0]) for options in choices]
    residual = vectors.distance(best) / vectors.norm
    answer: Answer = "yes" if residual <= tolerance else "undecided" if residual <= BAND * tolerance else "no"
    found: list[Subspace] = [_join(best)]
    if answer != "no":
        near = [[option for option in options if option[0] <= reach**2] or options[:1] for options in choices]
        if math.prod(len(options) for options in near) <= SEARCH_LIMIT:
            found = list(dict.fromkeys([found[0], *(_join(combination) for combination in itertools.product(*near))]))
            found = [found[0], *(place for place in found[1:] if distance_to(small, wide, neurons, place) <= reach)]
    return Membership(
        answer=answer,
        residual=residual,
        tolerance=tolerance,
        band=BAND,
        subspace=found[0],
        subspaces=tuple(found) if answer != "no" else (),
    )


_Option = tuple[float, tuple[int | None, tuple[int, ...]], Sorting]


class _Vectors:
    """The vectors of a small and a wide layer, what lies elsewhere, and the squared distance to a block."""

    def __init__(self, small: Parameters, wide: Parameters, neurons: Neurons) -> None:
        small, wide = to_numpy(small), to_numpy(wide)
        self.incoming, self.outgoing = neurons.incoming_vectors(small), neurons.outgoing_vectors(small)
        self.wide_incoming, self.wide_outgoing = neurons.incoming_vectors(wide), neurons.outgoing_vectors(wide)
        ours, theirs = _elsewhere(small, neurons), _elsewhere(wide, neurons)
        shapes = [
            (*a.shape[1:], *b.shape[1:], len(c))
            for a, b, c in ((self.incoming, self.outgoing, ours), (self.wide_incoming, self.wide_outgoing, theirs))
        ]
        if list(small) != list(wide) or shapes[0] != shapes[1]:
            raise ShapeError(
                "the parameter sets differ in more than the width of this layer",
                name="entries of incoming, outgoing, elsewhere",
                value=shapes[1],
                expected=str(shapes[0]),
            )
        self.elsewhere = float(np.sum(np.square(ours - theirs)))
        self.norm = math.sqrt(sum(float(np.sum(np.square(value))) for value in wide.values())) or 1.0

    def cost(self, label: int | None, block: Sequence[int]) -> float:
        """Squared distance of the block's neurons from copies of small neuron ``label``, or from a zero-type group."""
        if not block:
            return 0.0
        into, out = self.wide_incoming[list(block)], self.wide_outgoing[list(block)]
        centre, total = (into.mean(axis=0), 0.0) if label is None else (self.incoming[label], self.outgoing[label])
        return float(np.sum(np.square(into - centre)) + np.sum(np.square(out.sum(axis=0) - total)) / len(block))

    def distance(self, options: Sequence[_Option]) -> float:
        """Distance from the subspace that one option a class makes."""
        return math.sqrt(self.elsewhere + sum(cost for cost, _, _ in options))


def _elsewhere(parameters: Parameters, neurons: Neurons) -> np.ndarray:
    layout = Layout.of(parameters)
    flat = np.concatenate([np.ravel(value) for value in parameters.values()])
    return np.delete(
        flat, np.concatenate([neurons.incoming_positions(layout).ravel(), neurons.outgoing_positions(layout).ravel()])
    )


def _classes(vectors: _Vectors, reach: float) -> list[tuple[int | None, tuple[int, ...]]]:
    """Sort the wide neurons by the small neuron that they coincide with, or (None) only with each other."""
    gaps = cdist(vectors.wide_incoming, vectors.incoming)
    label = np.where(gaps.min(axis=1) <= reach, gaps.argmin(axis=1), -1)
    if len(set(label.tolist()) - {-1}) < len(vectors.incoming):  # every small neuron needs a copy, however far away
        places, nearest = linear_sum_assignment(gaps)
        label[places] = nearest
    classes: list[tuple[int | None, tuple[int, ...]]] = [
        (i, tuple(int(p) for p in np.flatnonzero(label == i))) for i in range(len(vectors.incoming))
    ]
    free = [int(place) for place in np.flatnonzero(label == -1)]
    while free:
        gaps = np.linalg.norm(vectors.wide_incoming[free] - vectors.wide_incoming[free[0]], axis=1)
        classes.append((None, tuple(place for place, gap in zip(free, gaps, strict=True) if gap <= reach)))
        free = [place for place, gap in zip(free, gaps, strict=True) if gap > reach]
    return classes


def _choices(vectors: _Vectors, label: int | None, members: tuple[int, ...]) -> list[_Option]:
    """Every way to sort a class into copies and zero-type groups, with its squared distance; the coarsest first."""
    ways: dict[tuple[tuple[int, ...], Sorting], None] = {((), (members,)) if label is None else (members, ()): None}
    if len(members) <= REFINED:
        for number in range(1, len(members) + 1) if label is not None else (0,):
            for copies in itertools.combinations(members, number):
                rest = tuple(place for place in members if place not in copies)
                ways.update(dict.fromkeys((copies, groups) for groups in _partitions(rest)))
    return [
        (sum(vectors.cost(None, block) for block in groups) + vectors.cost(label, copies), (label, copies), groups)
        for copies, groups in ways
    ]


def _join(options: Sequence[_Option]) -> Subspace:
    """Return the subspace that one option a class makes."""
    copies = {label: block for _, (label, block), _ in options if label is not None}
    return Subspace(
        tuple(copies[i] for i in range(len(copies))), tuple(block for _, _, groups in options for block in groups)
    )


def neighbours(subspace: Subspace) -> tuple[Subspace, ...]:
    """Return all other subspaces of the same Theta_{r -> m} that meet this one.

    Raises:
        SettingsError: there are more than `SEARCH_LIMIT` subspaces to look through.
    """
    return tuple(other for other in _all(subspace.small, subspace.wide) if other != subspace and subspace.meets(other))


def manifold_graph(small: int, wide: int) -> ManifoldGraph:
    """Search which subspaces of Theta_{r -> m} meet, whether all are connected, and how far apart they are.

    This proves connectivity for these r and m, pair by pair; [S21] Theorem 4.2 says that the manifold is connected
    exactly for m > r (r > 1).

    Raises:
        NeuronsError: not 1 <= r <= m.
        SettingsError: more than `SEARCH_LIMIT` subspaces.
    """
    _check_sizes(small, wide)
    nodes = _all(small, wide)
    edges = tuple((i, j) for i, j in itertools.combinations(range(len(nodes)), 2) if nodes[i].meets(nodes[j]))
    beside: list[list[int]] = [[] for _ in nodes]
    for i, j in edges:
        beside[i].append(j)
        beside[j].append(i)
    farthest = [_farthest(beside, start) for start in range(len(nodes))]
    connected = None not in farthest
    diameter = max((far for far in farthest if far is not None), default=0) if connected else None
    return ManifoldGraph(small=small, wide=wide, subspaces=nodes, edges=edges, connected=connected, diameter=diameter)


def _farthest(beside: list[list[int]], start: int) -> int | None:
    """Return the number of steps to the farthest node, None if one cannot be reached."""
    steps = {start: 0}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for there in beside[here]:
            if there not in steps:
                steps[there] = steps[here] + 1
                queue.append(there)
    return max(steps.values()) if len(steps) == len(beside) else None


def _all(small: int, wide: int) -> tuple[Subspace, ...]:
    if wide > SEARCHED or minimum_subspaces(small, wide) > SEARCH_LIMIT:
        raise SettingsError(
            "too many subspaces to search", name="small, wide", value=(small, wide), expected=f"at most {SEARCH_LIMIT}"
        )
    return tuple(_subspaces(small, wide, zero_type=True))
