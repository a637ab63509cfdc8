"""Surfaces that stand for a parameter of the function minimised on them."""

import equinox as eqx
import jax.numpy as jnp


class FirstEntry(eqx.Module):
    """x[0] = d: a parameter of the function, held during the minimisation."""

    def free(self, x):
        return jnp.ones_like(x).at[0].set(0.0)

    def normals(self, x):
        return jnp.zeros((0, x.shape[0]))

    def curvature_product(self, x, multipliers, v):
        del x, multipliers
        return jnp.zeros_like(v)

    def retract(self, x, d):
        return x.at[0].set(d)
