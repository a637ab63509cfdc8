"""The dense Hessian of a chain with one hidden layer, written out: one pass instead of one product a parameter.

With u = W x + b, h = g(u), out = A h + c and the loss of a sample a function of its outputs (slope s, Hessian D), the
Hessian is the sum over samples of J^T D J, J = d out / d theta, and of what the network itself bends:
(A^T s)_i g''(u_i) between the incoming weights of neuron i, s_o g'(u_i) between those and the outgoing weight A_oi.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from saddlescope.models.chain import Traceable, is_traceable

# J is laid out for all samples of a chunk at once, up to so many numbers (32 MB), and so are its parts.
NUMBERS = 2**22


def is_shallow(network: object, samples: int) -> bool:
    """Return whether the network has one hidden layer, and J for so many samples is small enough."""
    if not is_traceable(network) or len(network.chain) != 2:
        return False
    first, last = network.chain
    alike = (first.bias is None) == (last.bias is None)
    return alike and samples * last.outputs * network.layout.size <= NUMBERS


def shallow_hessian(
    network: Traceable,
    theta: Float[Array, " size"],
    inputs: Float[Array, "samples inputs"],
    loss: Callable[[Float[Array, "samples outputs"]], Scalar],
) -> Float[Array, "size size"]:
    """Return the Hessian of ``loss(outputs)``, a sum of one term a sample, by all parameters."""
    parameters = network.layout.unflatten(theta)
    first, last = network.trace(parameters, inputs)
    a, entry, u = parameters[last.layer.weight], first.layer.activation, first.preactivations
    assert entry is not None
    x, h, out = first.layer.padded(inputs), last.layer.padded(first.outputs), last.outputs
    rise, curve = entry.derivative(u), entry.derivative(u, 2)
    s, d = jax.grad(loss)(out), _output_hessians(loss, out)
    jacobian = _jacobian(a, rise, x, h)
    size = theta.shape[0]
    bent = jnp.einsum("nop,npk->nok", d, jacobian)
    whole = bent.reshape(-1, size).T @ jacobian.reshape(-1, size)
    incoming, outgoing = (layer.positions(network.layout) for layer in network.chain)
    own = jnp.einsum("ni,na,nb->iab", (s @ a) * curve, x, x)
    across = jnp.einsum("no,ni,na->ioa", s, rise, x)
    outgoing = outgoing[:, : u.shape[1]].T  # (neurons, outputs)
    whole = whole.at[incoming[:, :, None], incoming[:, None, :]].add(own)
    whole = whole.at[outgoing[:, :, None], incoming[:, None, :]].add(across)
    return whole.at[incoming[:, None, :], outgoing[:, :, None]].add(across)


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
