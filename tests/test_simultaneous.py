"""Lowest eigenpairs of many blocks at once against LAPACK, block by block."""

import jax.numpy as jnp
import numpy as np
import pytest

from saddlescope.numerics.simultaneous import form_blocks, lowest_pairs
from saddlescope.precision import float64


def times(blocks, v):
    """All blocks times a batch of vectors; a function of its own, so that programs are shared."""
    return jnp.einsum("bij,kbj->kbi", blocks, v)


def blocks_of(count, m, seed=0):
    """Symmetric blocks of sizes from 1e-6 to 1e6."""
    g = np.random.default_rng(seed)
    raw = g.normal(size=(count, m, m))
    return (raw + raw.transpose(0, 2, 1)) * 10.0 ** np.linspace(-6, 6, count)[:, None, None]


def solved(blocks, **options):
    start = np.random.default_rng(1).normal(size=blocks.shape[:2])
    with float64():
        return lowest_pairs(times, jnp.asarray(blocks), start, **{"steps": 400, "tolerance": 1e-9, **options})


@pytest.mark.parametrize(("count", "m"), [(1, 1), (3, 2), (5, 3), (7, 40), (4, 200)])
def test_values_and_vectors_are_those_of_lapack(count, m):
    blocks = blocks_of(count, m)
    found = solved(blocks)
    truth = np.linalg.eigvalsh(blocks)
    size = np.abs(truth).max(axis=1)
    np.testing.assert_allclose(found.values / size, truth[:, 0] / size, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1.0, rtol=1e-13)
    images = np.einsum("bij,bj->bi", blocks, found.vectors) - found.values[:, None] * found.vectors
    np.testing.assert_allclose(np.linalg.norm(images, axis=1) / size, found.residuals / size, atol=1e-13)
    assert (found.residuals <= 1e-9 * size).all()
    assert (found.scales <= size * (1 + 1e-12)).all()


def test_a_block_of_zeros_and_one_with_a_double_eigenvalue():
    blocks = np.stack([np.zeros((4, 4)), np.diag([-2.0, -2.0, 1.0, 3.0]), -np.eye(4)])
    found = solved(blocks)
    np.testing.assert_allclose(found.values, [0.0, -2.0, -1.0], atol=1e-13)
    assert found.residuals.max() < 1e-12


def test_too_few_steps_leave_a_residual_that_says_so():
    """The value is never below the lowest eigenvalue, and an eigenvalue lies within the residual."""
    blocks = blocks_of(4, 60)
    found = solved(blocks, steps=3)
    truth = np.linalg.eigvalsh(blocks)
    assert found.steps == 3
    assert (found.values >= truth[:, 0]).all()
    assert (np.abs(truth - found.values[:, None]).min(axis=1) <= found.residuals).all()
    assert (found.residuals > 1e-3 * np.abs(truth).max(axis=1)).all()


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_formed_blocks_are_the_blocks(batch):
    blocks = blocks_of(3, 7)
    with float64():
        np.testing.assert_array_equal(form_blocks(times, jnp.asarray(blocks), 3, 7, batch=batch), blocks)
