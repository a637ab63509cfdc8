"""The dense Hessian of a perceptron with one hidden layer, written out: one pass instead of one product a parameter.

With u = W x + b, h = g(u), out = A h + c and the loss of a sample a function of its outputs (slope s, Hessian D), the
Hessian is the sum over samples of J^T D J, J = d out / d theta, and of what the network itself bends:
(A^T s)_i g''(u_i) between the incoming weights of neuron i, s_o g'(u_i) between those and the outgoing weight A_oi.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from saddlescope.models.activations import activation
from saddlescope.models.mlp import MLP, is_dense

# J is laid out for all samples of a chunk at once, up to so many numbers (32 MB), and so are its parts.
NUMBERS = 2**22


def is_shallow(network: object, samples: int) -> bool:
    """Return whether the network has one hidden layer, and J for so many samples is small enough."""
    if not is_dense(network) or network.depth != 2:
        return False
    return samples * network.widths[-1] * network.layout.size <= NUMBERS


def shallow_hessian(
    network: MLP,
    theta: Float[Array, " size"],
    inputs: Float[Array, "samples inputs"],
    loss: Callable[[Float[Array, "samples outputs"]], Scalar],
) -> Float[Array, "size size"]:
    """Return the Hessian of ``loss(outputs)``, a sum of one term a sample, by all parameters."""
    parameters = network.layout.unflatten(theta)
    w, a = parameters["0.weight"], parameters["2.weight"]
    ones = jnp.ones_like(inputs[:, :1])
    x = jnp.concatenate([inputs, ones], axis=1) if network.bias else inputs
    u = inputs @ w.T + parameters["0.bias"][None, :] if network.bias else inputs @ w.T
    g = activation(network.activation).function
    rise, curve = _derivatives(g, u)
    h = jnp.concatenate([g(u), ones], axis=1) if network.bias else g(u)
    out = h[:, : u.shape[1]] @ a.T
    out = out + parameters["2.bias"][None, :] if network.bias else out
    s, d = jax.grad(loss)(out), _output_hessians(loss, out)
    jacobian = _jacobian(a, rise, x, h)
    size = theta.shape[0]
    bent = jnp.einsum("nop,npk->nok", d, jacobian)
    whole = bent.reshape(-1, size).T @ jacobian.reshape(-1, size)
    incoming, outgoing = _places(network)
    own = jnp.einsum("ni,na,nb->iab", (s @ a) * curve, x, x)
    across = jnp.einsum("no,ni,na->ioa", s, rise, x)
    outgoing = outgoing[:, : u.shape[1]].T  # (neurons, outputs)
    whole = whole.at[incoming[:, :, None], incoming[:, None, :]].add(own)
    whole = whole.at[outgoing[:, :, None], incoming[:, None, :]].add(across)
    return whole.at[incoming[:, None, :], outgoing[:, :, None]].add(across)


def _derivatives(g: Callable[[Array], Array], u: Array) -> tuple[Array, Array]:
    """Return g'(u) and g''(u), entry by entry."""
    one = jnp.ones_like(u)

    def rise(at: Array) -> Array:
        return jax.jvp(g, (at,), (one,))[1]

    return jax.jvp(rise, (u,), (one,))


def _output_hessians(loss: Callable[[Array], Scalar], out: Array) -> Float[Array, "samples outputs outputs"]:
    """Return each sample's Hessian of the loss by its outputs."""
    units = jnp.eye(out.shape[1], dtype=out.dtype)
    along = jax.vmap(lambda unit: jax.jvp(jax.grad(loss), (out,), (jnp.broadcast_to(unit, out.shape),))[1])(units)
    return jnp.moveaxis(along, 0, 2)


def _jacobian(a: Array, rise: Array, x: Array, h: Array) -> Float[Array, "samples outputs size"]:
    """Return d out / d theta in the layout's order: weights, then biases, of one layer after the other."""
    samples, outputs, inputs, neurons = len(x), len(a), x.shape[1], rise.shape[1]
    through = a[None] * rise[:, None, :]
    into = through[..., None] * x[:, None, None, :]
    units = jnp.eye(outputs, dtype=x.dtype)
    after = units[None, :, :, None] * h[:, None, None, :]
    parts = [into, after]
    if h.shape[1] > neurons:  # the last column, of ones, belongs to the biases, which follow the weights
        parts = [into[..., : inputs - 1], into[..., inputs - 1], after[..., :neurons], after[..., neurons]]
    return jnp.concatenate([part.reshape(samples, outputs, -1) for part in parts], axis=2)


def _places(network: MLP) -> tuple[np.ndarray, np.ndarray]:
    """Return where the incoming (neurons, inputs and 1) and outgoing (outputs, neurons and 1) weights lie in theta."""
    places, start = [], 0
    for inputs, outputs in zip(network.widths[:-1], network.widths[1:], strict=True):
        here = start + np.arange(outputs * inputs).reshape(outputs, inputs)
        start += outputs * inputs
        if network.bias:
            here = np.concatenate([here, start + np.arange(outputs)[:, None]], axis=1)
            start += outputs
        places.append(here)
    return places[0], places[1]
