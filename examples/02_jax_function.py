"""A function of JAX: a residual network of one's own, from its symmetries to a certified permutation point.

Run it: python examples/02_jax_function.py
"""

import jax.numpy as jnp
import numpy as np

import saddlescope as ss

generator = np.random.default_rng(1)
params = {"up": generator.normal(size=(2, 3)), "shift": generator.normal(size=3), "down": generator.normal(size=(3, 1))}
inputs = generator.normal(size=(40, 2))


def apply(p, x):
    return x[:, :1] + jnp.tanh(x @ p["up"] + p["shift"]) @ p["down"]


# 1. One group: the three units between up and down. The skip connection carries the input itself: nothing to exchange.
model, start = ss.from_function(apply, params, inputs)
for group in model.symmetries:
    print(f"layer {group.layer}: {group.units} {group.kind} of {group.name}, deviation {group.deviation:.0e}")

# 2. With its own outputs as targets the start is an exact minimum: follow the path on which two units merge.
targets = inputs[:, :1] + np.tanh(inputs @ params["up"] + params["shift"]) @ params["down"]
problem = ss.Problem(model, ss.Data(inputs, targets))
path = ss.find_path(problem, start, layer=1, pair=(0, 1), settings=ss.PathSettings(steps=6))
print(path.ending, *path.reasons)

# 3. What is the point at its end?
if path.permutation_point is not None:
    certificate = ss.certify(problem, path.permutation_point)
    print(certificate.verdict, certificate.index, certificate.nullity)
