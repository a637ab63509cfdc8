"""The parts of a layer's activations that its other neurons cannot express: what a merged pair leaves behind."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

# Activations are regarded as linearly dependent below this share of their mean square.
RIDGE = 1e-10

# A pair is regressed on the others anew where the share of a neuron's mean square that is its own is below this: the
# precision of all columns then holds numbers up to its inverse, whose rounding would not cancel.
OWN = 1e-3


class Unexpressed(NamedTuple):
    """What the parts e of the activations that the others cannot express say about each pair (l, m).

    ``variances`` is V = E[e e^T] of (e_l, e_m), ``sizes`` S the outgoing vectors' products in the metric of the loss:
    dropping both neurons costs tr(V S)/2.
    """

    pairs: Int[np.ndarray, "pairs 2"]
    gram: Float[np.ndarray, "columns columns"]
    precision: Float[np.ndarray, "columns columns"]
    variances: Float[np.ndarray, "pairs 2 2"]
    sizes: Float[np.ndarray, "pairs 2 2"]

    @staticmethod
    def of(h: np.ndarray, sizes: np.ndarray, *, room: int) -> "Unexpressed":
        """Return the ``room`` pairs of lowest bound, some of them twice when there are fewer.

        No single neuron can save more than the larger eigenvalue of V S / 2; the bound is what then remains.

        Args:
            h: activations, (samples, columns), the pairs' neurons first.
            sizes: products of the neurons' outgoing vectors, (neurons, neurons).
            room: how many pairs to return.
        """
        gram = h.T @ h / len(h)
        precision = np.linalg.inv(gram + _ridge(gram) * np.eye(len(gram)))
        pairs = np.stack(np.triu_indices(len(sizes), 1), axis=1)
        across = pairs[:, :, None], pairs[:, None, :]
        variances, inner = np.linalg.inv(precision[across]), sizes[across]
        product = variances @ inner
        half, determinant = 0.5 * np.trace(product, axis1=1, axis2=2), np.linalg.det(product)
        top = half + np.sqrt(np.maximum(half**2 - determinant, 0.0))
        bounds = 0.5 * np.maximum(determinant, 0.0) / np.where(top > 0, top, 1.0)
        best = np.resize(np.argsort(bounds, kind="stable")[:room], room)  # one shape, however many neurons live
        return Unexpressed(pairs[best], gram, precision, variances[best], inner[best])

    def costs(self, moments: np.ndarray, squares: np.ndarray) -> Float[np.ndarray, "pairs mixes"]:
        """Return tr(W S)/2, W = V - c c^T/v: what is left when a neuron with the given moments takes over.

        v is the variance of the new neuron's own e, c its products with (e_l, e_m).

        Args:
            moments: mean products of each new neuron with all columns, (pairs, mixes, columns).
            squares: mean squares of the new neurons, (pairs, mixes).
        """
        variances = self.variances.copy()
        solved = moments @ self.precision
        two = np.take_along_axis(solved, self.pairs[:, None, :], axis=2)
        joint = np.einsum("pij,ptj->pti", variances, two)
        own = squares - np.sum(moments * solved, axis=2) + np.einsum("pti,pti->pt", joint, two)
        for k in self._dependent():
            variances[k], joint[k], own[k] = self._regressed(self.pairs[k], moments[k], squares[k])
        own = np.where(own > RIDGE * squares, own, np.inf)
        left = variances[:, None] - joint[..., :, None] * joint[..., None, :] / own[..., None, None]
        return 0.5 * np.sum(left * self.sizes[:, None], axis=(2, 3))

    def _dependent(self) -> Int[np.ndarray, " few"]:
        """Return the pairs of which a neuron is nearly a combination of all others, its partner among them."""
        shares = 1.0 / (np.diag(self.precision) * np.maximum(np.diag(self.gram), 1e-300))
        return np.flatnonzero((shares[self.pairs] < OWN).any(axis=1))

    def _regressed(
        self, pair: np.ndarray, moments: np.ndarray, squares: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return V, c and v of one pair by regression on the columns without the pair."""
        rest = np.setdiff1d(np.arange(len(self.gram)), pair)
        known = np.concatenate([self.gram[pair], moments])[:, rest]
        inner = self.gram[np.ix_(rest, rest)] + _ridge(self.gram) * np.eye(len(rest))
        products = known @ np.linalg.solve(inner, known.T)
        variances = self.gram[np.ix_(pair, pair)] - products[:2, :2]
        return variances, moments[:, pair] - products[2:, :2], squares - np.diag(products)[2:]


def _ridge(gram: np.ndarray) -> float:
    return RIDGE * float(np.mean(np.diag(gram)))
