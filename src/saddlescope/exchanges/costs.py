"""What it costs to drop a unit or to merge it with another, the outgoing weights of all that stay being refitted.

With A the columns that are read (activations, and 1 where there is a bias), fit and held-out mean products A^T A are
all that is needed. The residual of column i given the others is A r, r = P e_i / P_ii, P the inverse of the fit
products.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from saddlescope.errors import DataError
from saddlescope.exchanges.blocks import Places
from saddlescope.exchanges.reading import (
    Mixed,
    Products,
    halves,
    mixed,
    products,
    require_dense_reading,
    shifting_array,
)
from saddlescope.exchanges.result import UnitCosts
from saddlescope.problem.problem import Problem

RIDGE, DEPENDENT = 1e-12, 1e-10
"""The first is added to the diagonal of products of columns of length 1 where their least eigenvalue is below the
second: columns that depend on each other share their weight."""

MIXES, PARTNERS = (0.25, 0.5, 0.75), 3
"""A merged unit has this share of the unit's own incoming entries, the rest of its partner's; so many are tried."""


class Merge(NamedTuple):
    """The best merge of each unit that was tried."""

    partner: np.ndarray
    mix: np.ndarray
    fit: np.ndarray
    held: np.ndarray


def unit_costs(problem: Problem, places: Places, theta: Array, *, most: float) -> UnitCosts:
    """Return what dropping and merging each unit costs, as shares of the variance of what the layer sends.

    The first half of the samples fits, the second is held out.

    Args:
        problem: the problem.
        places: a layer's units.
        theta: the parameters.
        most: largest held-out cost at which a unit is called one to drop or to merge.

    Raises:
        NoCutError: the units are not read by one dense layer.
        DataError: fewer rows in a half than weights to fit, or nothing is sent.
    """
    require_dense_reading(problem, places, theta)
    bias = shifting_array(problem, places, theta)
    fitted, kept = halves(problem)
    constant = bias is not None
    fit, held = (products(part, places, theta, constant=constant) for part in (fitted, kept))
    if min(fit.rows, held.rows) <= len(fit.gram):
        raise DataError(
            "too few rows to refit the outgoing weights on one half of the data and try them on the other",
            name="rows",
            value=int(min(fit.rows, held.rows)),
            expected=f"more than {len(fit.gram)}",
        )
    scales = [part.square - float(part.mean @ part.mean) for part in (fit, held)]
    if not min(scales) > 0.0:
        raise DataError("what the layer sends does not vary", name="variance", value=min(scales), expected="above 0")
    weights = np.asarray(theta[places.entries])[:, places.feeds :]
    inverse = _inverse(fit.gram)
    drop = [cost / scale for cost, scale in zip(_drops(fit, held, inverse, weights), scales, strict=True)]
    merge = _merges(problem, places, theta, (fit, held), inverse, weights, constant=constant)
    merge = merge._replace(fit=merge.fit / scales[0], held=merge.held / scales[1])
    return UnitCosts(
        drop=drop[0],
        drop_held_out=drop[1],
        partner=merge.partner,
        mix=merge.mix,
        merge=merge.fit,
        merge_held_out=merge.held,
        verdict=tuple(_verdict(d, m, most) for d, m in zip(drop[1], merge.held, strict=True)),
        bias=bias,
        rows=(int(fit.rows), int(held.rows)),
    )


def _inverse(gram: np.ndarray) -> np.ndarray:
    """Return the inverse of the products of columns, that of columns of length 1 regularised where it must be."""
    length = np.sqrt(np.diag(gram))
    scale = 1.0 / np.where(length > 0.0, length, 1.0)
    alike = scale[:, None] * gram * scale
    if np.linalg.eigvalsh(alike)[0] < DEPENDENT:
        alike = alike + RIDGE * np.eye(len(gram))
    return scale[:, None] * np.linalg.inv(alike) * scale


def _verdict(drop: float, merge: float, most: float) -> str:
    """Return the cheaper change, where it costs no more than is allowed; not a number allows nothing."""
    if min(drop, np.inf if np.isnan(merge) else merge) > most or np.isnan(drop):
        return "keep"
    return "merge" if merge < drop else "drop"


def _drops(fit: Products, held: Products, inverse: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    """Return |a_i|^2 times the mean square of the unit's residual given the others, on both halves."""
    units = len(weights)
    residuals = (inverse / np.diag(inverse))[:, :units]
    sizes = np.sum(weights**2, axis=1)
    return [sizes * np.einsum("ki,ki->i", residuals, part.gram @ residuals) for part in (fit, held)]


def _merges(
    problem: Problem,
    places: Places,
    theta: Array,
    parts: tuple[Products, Products],
    inverse: np.ndarray,
    weights: np.ndarray,
    *,
    constant: bool,
) -> Merge:
    """Return each unit's merge of lowest cost on the first half, among its most similar partners and the mixes."""
    units, nothing = len(weights), np.full(len(weights), np.nan)
    best = Merge(np.full(units, -1), nothing.copy(), nothing.copy(), nothing.copy())
    if units < 2:
        return best
    entries = np.asarray(theta[places.entries])
    for partner in _partners(parts[0].gram, units):
        for mix in MIXES:
            moved = mix * entries + (1.0 - mix) * entries[partner]
            tried = [mixed(part, places, theta, jnp.asarray(moved), constant=constant) for part in halves(problem)]
            costs = _merge_costs(parts, (tried[0], tried[1]), inverse, weights, partner)
            better = ~(best.fit <= costs[0])
            new = (partner, np.full(units, mix), *costs)
            best = Merge(*(np.where(better, a, b) for a, b in zip(new, best, strict=True)))
    return best


def _partners(gram: np.ndarray, units: int) -> list[np.ndarray]:
    """Return each unit's most similar ones by the cosine of what they send, the nearest first."""
    own = gram[:units, :units]
    if len(gram) > units:  # with a bias only what varies counts
        own = own - np.outer(gram[units, :units], gram[units, :units])
    size = np.sqrt(np.maximum(np.diag(own), 0.0))
    like = own / np.where(size > 0, size, 1.0)[:, None] / np.where(size > 0, size, 1.0)
    np.fill_diagonal(like, -np.inf)
    order = np.argsort(-like, axis=1, kind="stable")
    return [order[:, k] for k in range(min(PARTNERS, units - 1))]


def _merge_costs(
    parts: tuple[Products, Products],
    tried: tuple[Mixed, Mixed],
    inverse: np.ndarray,
    weights: np.ndarray,
    partner: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the costs on both halves when a new column m_i stands for the columns i and partner[i].

    A E is the residual of both given the others, m - A g that of m; what is left is A E - (m - A g) b^T.
    """
    units = np.arange(len(weights))
    pairs = np.stack([units, partner], axis=1)
    solved, (fit, _), (own, _) = inverse @ tried[0].cross, parts, tried
    inner = np.linalg.inv(inverse[pairs[:, :, None], pairs[:, None, :]])
    e = np.einsum("kij,ijl->lki", inverse[:, pairs], inner)
    g = solved - np.einsum("lki,il->ki", e, np.take_along_axis(solved, pairs.T, axis=0).T)
    apart = own.cross - fit.gram @ g
    variance = own.squares - np.sum(g * own.cross, axis=0) - np.sum(g * apart, axis=0)
    seen = variance > RIDGE * own.squares
    b = np.where(seen, np.einsum("lki,ki->li", e, apart) / np.where(seen, variance, 1.0), 0.0)
    f = e + b[:, None, :] * g
    sizes = np.einsum("iao,ibo->abi", weights[pairs], weights[pairs])
    costs = []
    for part, other in zip(parts, tried, strict=True):
        cross = np.einsum("aki,ki->ai", f, other.cross)[:, None] * b
        left = np.einsum("aki,bki->abi", f, np.einsum("km,bmi->bki", part.gram, f, optimize=True))
        left = left - cross - cross.transpose(1, 0, 2) + other.squares * b[:, None] * b
        costs.append(np.sum(left * sizes, axis=(0, 1)))
    return costs[0], costs[1]
