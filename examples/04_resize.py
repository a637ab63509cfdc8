"""Grow a network without changing its outputs, take the copies out again, and walk between two of its copies.

Run it: python examples/04_resize.py
"""

import numpy as np

import saddlescope as ss

# 1. A network at a minimum: the toy teacher on its own outputs.
network, minimum = ss.data.toy_teacher("tanh", 0)
problem = ss.Problem(network, ss.data.toy("tanh", 0))
print(f"layer 1: {network.widths[1]} units, loss {problem.loss_of(minimum):.1e}")

# 2. Three more units: copies that share outgoing weights. The outputs stay.
wide = ss.expand(problem, minimum, widths={1: 8})
print(f"{wide.widths}, outputs within {wide.max_output_deviation:.1e}")
large = ss.Problem(wide.network, ss.data.toy("tanh", 0))
print(f"loss {large.loss_of(wide.parameters):.1e}")

# 3. And back: what the outputs do not need goes.
small = ss.reduce(large, wide.parameters)
print(f"{small.widths}, an output loses {small.output_loss:.1e} at most")

# 4. A copy of the network with two units exchanged has the same loss: one spare unit joins both at constant loss.
swapped = {name: np.array(value) for name, value in minimum.items()}
for name, axis in (("0.weight", 0), ("0.bias", 0), ("2.weight", 1)):
    order = np.array([1, 0, 2, 3, 4])
    swapped[name] = np.take(swapped[name], order, axis=axis)
joined = ss.join(problem, minimum, swapped)
print(f"{len(joined.routes)} routes, the loss stays within {joined.scan.max_loss_deviation:.1e}")
