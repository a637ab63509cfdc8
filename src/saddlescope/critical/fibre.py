"""What the data leave open: parameters of equal outputs, as the null space of the outputs' derivatives.

Where the rank of J = d outputs / d x is the same at x and all around it, the parameters of the same outputs form a
manifold through x whose tangent space is ker J (constant rank theorem): the loss is constant on all of it. No kind of
layer is known here. The rank is that of J with columns of length 1, judged against rounding measured in float32, at x,
near x and at parameters scattered widely; where it differs, or a singular value is neither rounding nor clearly more,
nothing is claimed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from saddlescope.critical.reduced import Reduced, in_32
from saddlescope.models.contract import output_of
from saddlescope.numerics.spectrum import SAFETY, SCALE_32
from saddlescope.problem.problem import Problem

# A singular value above this many times the rounding, and above the floor, is surely not zero.
CLEAR, FLOOR = 1e3, 1e-9

# How far the other points lie, relative to the parameters.
NEAR, FAR = (1e-6, 1e-3), (0.1, 0.3)

# The same where only one unit moves.
OWN = (1e-3, 0.1)

# Entries of one batch's Jacobian, and rows that are taken at first, as a multiple of the parameters.
ENTRIES, ROWS = 2**22, 3

# A loss that changes by this share at most, when the outputs are shifted by their own size, does not see the shift.
SHIFT = 1e-12


@dataclass(frozen=True, eq=False)
class Sight:
    """J at one point, as a triangle R with R^T R = J^T J, and the rounding of its entries, column by column."""

    triangle: np.ndarray
    noise: np.ndarray  # of each column, 2-norm

    def null(self, columns: np.ndarray | None = None) -> "np.ndarray | None":
        """Return a basis of ker J among some columns, (rows, columns); None where it is unclear."""
        return joint_null([self], columns)


def joint_null(sights: Sequence[Sight], columns: np.ndarray | None = None) -> "np.ndarray | None":
    """Return a basis, (rows, columns), of what vanishes at all points among some columns; None where it is unclear."""
    take = slice(None) if columns is None else columns
    matrix = np.asarray(np.linalg.qr(np.concatenate([sight.triangle[:, take] for sight in sights]), mode="r"))
    noise = np.sqrt(sum(np.square(sight.noise[take]) for sight in sights))
    sizes = np.linalg.norm(matrix, axis=0)
    if not (np.isfinite(sizes).all() and np.isfinite(noise).all()):
        return None
    dark = sizes <= noise
    if (~dark & (sizes <= CLEAR * noise)).any():
        return None
    scale = np.where(dark, 1.0, sizes)
    scaled = np.where(dark, 0.0, matrix / scale)
    _, values, vectors = np.linalg.svd(scaled, full_matrices=True)
    values = np.concatenate([values, np.zeros(len(vectors) - len(values))])
    bound = float(np.linalg.norm(np.where(dark, 0.0, noise / scale))) + len(values) * np.finfo(float).eps * values[0]
    if ((values > bound) & (values <= max(CLEAR * bound, FLOOR))).any():
        return None
    return vectors[values <= bound] / scale


@eqx.filter_jit
def _jacobian(reduced: Reduced, x: Array, inputs: Array, *, centred: bool) -> Array:
    """Return the derivatives of the outputs of a few samples, (samples * outputs, size)."""
    network = reduced.problem.network

    def one(row: Array) -> Array:
        def outputs(at: Array) -> Array:
            out = network.apply(network.layout.unflatten(reduced.lift(at)), row[None])[0]
            return jnp.ravel(out - jnp.mean(out, axis=-1, keepdims=True) if centred else out)

        return jax.jacrev(outputs)(x)

    return jax.vmap(one)(inputs).reshape(-1, x.shape[0])


@eqx.filter_jit
def _along(reduced: Reduced, x: Array, v: Array, *, centred: bool) -> Array:
    """Return the derivatives of all outputs along v."""

    def outputs(at: Array) -> Array:
        out = reduced.problem.outputs(reduced.lift(at))
        return out - jnp.mean(out, axis=-1, keepdims=True) if centred else out

    return jax.jvp(outputs, (x,), (v,))[1]


@dataclass(frozen=True, eq=False)
class Fibre:
    """The outputs of a problem around x, as far as the loss sees them.

    ``centred``: the loss does not see a shift of all outputs of a sample.
    """

    reduced: Reduced
    x: np.ndarray
    centred: bool

    @cached_property
    def here(self) -> "Sight | None":
        """J at x; None where it cannot be told from rounding."""
        return self._sight(self.x)

    @cached_property
    def around(self) -> "tuple[Sight, ...]":
        """J at points near x and far from it, as many as are finite."""
        usual = max(float(np.sqrt(np.mean(np.square(self.x)))), 1e-300)
        generator = np.random.default_rng(0)
        noise = [generator.normal(size=len(self.x)) for _ in (*NEAR, *FAR)]
        points = [
            self.x + size * (np.abs(self.x) + usual) * each for size, each in zip((*NEAR, *FAR), noise, strict=True)
        ]
        return tuple(sight for sight in map(self._sight, points) if sight is not None)

    @cached_property
    def tangent(self) -> "np.ndarray | None":
        """The tangent space of the parameters of equal outputs, (rows, size); None where the rank is not constant."""
        if self.here is None or len(self.around) < len((*NEAR, *FAR)):
            return None
        here, *others = (sight.null() for sight in (self.here, *self.around))
        if here is None or any(other is None or len(other) != len(here) for other in others):
            return None
        return here

    @cached_property
    def idle(self) -> np.ndarray:
        """Which entries of x no output feels by itself, here and around: the bias of an attention's keys."""
        if self.here is None:
            return np.zeros(len(self.x), dtype=bool)
        every = (self.here, *self.around)
        return np.all([np.linalg.norm(sight.triangle, axis=0) <= sight.noise for sight in every], axis=0)

    def structurally_unused(self, columns: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Return the directions among some columns along which no output changes, wherever some entries of x move."""
        generator, usual = np.random.default_rng(2), max(float(np.sqrt(np.mean(np.square(self.x)))), 1e-300)
        points = []
        for size in OWN:
            near = self.x.copy()
            near[moved] += size * (np.abs(near[moved]) + usual) * generator.normal(size=len(moved))
            points.append(self._sight(near))
        sights = [sight for sight in (self.here, *points) if sight is not None]
        found = joint_null(sights, columns) if len(sights) == len(points) + 1 else None
        return np.zeros((0, len(columns))) if found is None else found

    def _sight(self, x: np.ndarray) -> "Sight | None":
        """Return J at a point, from few samples if these see what all see; None if it is not finite."""
        problem, size = self.reduced.problem, len(x)
        rows = problem.unpadded_inputs()
        outputs = int(np.prod(output_of(problem.network, problem.inputs.shape[1:], problem.inputs.dtype).shape[1:]))
        few = max(1, len(rows) // max(1, -(-ROWS * size // outputs)))
        for step in dict.fromkeys((few, 1)):
            sight = self._from(x, rows[::step], outputs)
            if sight is None or step == 1 or self._all_see(x, sight):
                return sight
        return None

    def _from(self, x: np.ndarray, rows: np.ndarray, outputs: int) -> "Sight | None":
        size = len(x)
        triangle, squares = np.zeros((0, size)), np.zeros(size)
        coarse, x32 = in_32(self.reduced, x)
        for batch in _batches(rows, max(1, ENTRIES // (size * outputs))):
            fine = np.asarray(_jacobian(self.reduced, jnp.asarray(x), jnp.asarray(batch), centred=self.centred))
            low = batch.astype(np.float32) if batch.dtype == np.float64 else batch
            rough = np.asarray(_jacobian(coarse, x32, jnp.asarray(low), centred=self.centred), np.float64)
            if not (np.isfinite(fine).all() and np.isfinite(rough).all()):
                return None
            own = np.finfo(float).eps * np.abs(fine)
            squares += np.sum(np.square(SAFETY * (SCALE_32 * np.abs(rough - fine) + own)), axis=0)
            triangle = np.linalg.qr(np.concatenate([triangle, fine]), mode="r")
        return Sight(np.asarray(triangle), np.sqrt(squares))

    def _all_see(self, x: np.ndarray, sight: Sight) -> bool:
        """Whether what a few samples leave open all samples leave open: a random direction of it is tried."""
        null = sight.null()
        if null is None or len(null) == 0:
            return True
        coarse, x32 = in_32(self.reduced, x)
        generator = np.random.default_rng(1)
        for _ in range(2):
            v = generator.normal(size=len(null)) @ null
            fine = np.asarray(_along(self.reduced, jnp.asarray(x), jnp.asarray(v), centred=self.centred))
            rough = np.asarray(_along(coarse, x32, jnp.asarray(v, jnp.float32), centred=self.centred), np.float64)
            noise = SAFETY * SCALE_32 * float(np.linalg.norm(rough - fine))
            if not float(np.linalg.norm(fine)) <= noise:
                return False
        return True


def _batches(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield rows in batches of one size, the last filled up with the first row: it changes no null space."""
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        fill = min(size, len(rows)) - len(batch)
        yield np.concatenate([batch, np.repeat(rows[:1], fill, axis=0)]) if fill else batch


def fibres_of(reduced: Reduced, x: np.ndarray) -> tuple[Fibre, ...]:
    """Return the outputs around x as the loss sees them, and, where it does not see a common shift, without that."""
    plain = Fibre(reduced, x, centred=False)
    return (
        (plain, Fibre(reduced, x, centred=True)) if _blind(reduced.problem, reduced.lift(jnp.asarray(x))) else (plain,)
    )


def _blind(problem: Problem, theta: Array) -> bool:
    """Return whether the loss stays when all outputs of a sample are shifted alike, tried at random outputs."""
    out = problem.outputs(theta)
    if problem.loss in ("mse", "normalised") or out.ndim != 2 or out.shape[1] < 2:
        return False
    targets = problem.targets.reshape(-1, *problem.targets.shape[2:])[: problem.samples]
    generator, weights = np.random.default_rng(0), jnp.ones(len(out))
    for size in (1.0, 10.0):
        near = out + size * jnp.asarray(generator.normal(size=out.shape))
        shift = jnp.asarray(size * generator.normal(size=(len(out), 1)))
        here, there = (float(problem.weighted_loss_sum(at, targets, weights)) for at in (near, near + shift))
        if not abs(there - here) <= SHIFT * abs(here):
            return False
    return True
