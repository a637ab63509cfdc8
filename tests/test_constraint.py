"""The constraint surfaces against automatic differentiation and their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlescope.arrays import Layout
from saddlescope.models.mlp import MLP
from saddlescope.paths.constraint import PairSurface
from saddlescope.precision import float64
from saddlescope.units.coordinates import PairCoordinates
from saddlescope.units.gauge import distance, fix_scale

NETWORK = MLP((3, 4, 2), "relu")
PAIR = (1, 3)
NEURONS = NETWORK.neurons(1)
KINDS = ("incoming", "joint", "tied")
each_surface = pytest.mark.parametrize(("kind", "unit"), [(kind, unit) for kind in KINDS for unit in (False, True)])


def _surface(kind, unit, seed):
    start = NETWORK.initial(seed)
    start = fix_scale(start, NEURONS, PAIR) if unit else start
    layout = Layout.of(start)
    coordinates = PairCoordinates.of(NEURONS, layout, PAIR)
    x = coordinates.rotate(layout.flatten(start))
    return PairSurface.of(coordinates, x, kind, unit_incoming=unit), x, start, layout


def _constraints(surface, x):
    """The constraints as the science notes define them, in the network's own parameters."""
    parameters = NETWORK.layout.unflatten(surface.coordinates.unrotate(x))
    incoming = jnp.concatenate([parameters["0.weight"], parameters["0.bias"][:, None]], axis=1)
    outgoing = parameters["2.weight"].T
    l, m = PAIR
    gap = incoming[m] - incoming[l]
    both = jnp.concatenate([gap, outgoing[m] - outgoing[l]])
    rows = [jnp.linalg.norm(both if surface.kind == "joint" else gap)]
    if surface.unit_incoming:
        rows += [jnp.linalg.norm(incoming[l]), jnp.linalg.norm(incoming[m])]
    return jnp.stack(rows)


@each_surface
@given(seed=st.integers(0, 20), share=st.floats(1e-4, 1.0))
def test_the_retraction_meets_every_constraint_and_keeps_the_rest(kind, unit, seed, share):
    with float64():
        surface, x, start, layout = _surface(kind, unit, seed)
        d = surface.start * share
        moved = surface.retract(x, d)
        found = np.asarray(_constraints(surface, moved))
        parameters = layout.unflatten_numpy(np.asarray(surface.coordinates.unrotate(moved)))
    assert found[0] == pytest.approx(float(d), rel=1e-12, abs=0.0)
    np.testing.assert_allclose(found[1:], 1.0, rtol=1e-13)
    gap = parameters["2.weight"][:, PAIR[1]] - parameters["2.weight"][:, PAIR[0]]
    if kind == "tied":
        first = start["2.weight"][:, PAIR[1]] - start["2.weight"][:, PAIR[0]]
        np.testing.assert_allclose(gap, first * share, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(parameters["2.bias"], start["2.bias"])
    np.testing.assert_allclose(parameters["0.weight"][0], start["0.weight"][0])


@each_surface
def test_the_start_lies_on_its_own_surface(kind, unit):
    with float64():
        surface, x, start, _ = _surface(kind, unit, 3)
        np.testing.assert_allclose(surface.retract(x, surface.start), x, rtol=1e-13, atol=1e-14)
        measured = distance(start, NEURONS, *PAIR, kind="joint" if kind == "joint" else "incoming")
        assert float(surface.start) == pytest.approx(measured, rel=1e-13, abs=0.0)


@each_surface
@given(seed=st.integers(0, 20))
def test_the_normals_span_the_gradients_of_the_constraints(kind, unit, seed):
    with float64():
        surface, x, _, _ = _surface(kind, unit, seed)
        x = surface.retract(x, 0.3 * surface.start)
        normals = np.asarray(surface.normals(x))
        gradients = np.asarray(jax.jacfwd(lambda y: _constraints(surface, y))(x))
    together = np.vstack([normals, gradients])
    assert np.linalg.matrix_rank(together, tol=1e-10) == len(normals) == len(gradients)


@each_surface
def test_the_lagrangian_hessian_is_the_second_derivative_along_the_surface(kind, unit):
    """For f on the surface, d^2/dt^2 f(retract(x + t v)) = v H_L v for tangent v, at a point where f is stationary."""
    from saddlescope.numerics.tangent import tangent

    with float64():
        surface, x, _, _ = _surface(kind, unit, 3)
        x = surface.retract(x, 0.3 * surface.start)
        generator = np.random.default_rng(0)
        normals = surface.normals(x) * surface.free(x)
        # A function whose gradient at x lies in the normal space, so that x is stationary on the surface.
        slope = normals.T @ jnp.asarray(generator.normal(size=len(normals)))
        square = jnp.asarray(generator.normal(size=(x.size, x.size)))

        def f(y):
            return slope @ (y - x) + 0.5 * (y - x) @ (square + square.T) @ (y - x)

        space = tangent(surface, x, slope)
        v = space.project(jnp.asarray(generator.normal(size=x.size)))
        second = jax.grad(jax.grad(lambda t: f(surface.retract(x + t * v, 0.3 * surface.start))))(0.0)
        model = v @ ((square + square.T) @ v - surface.curvature_product(x, space.multipliers, v))
        assert float(second) == pytest.approx(float(model), rel=1e-9)
