"""Every unit of a layer: how it would split, and what it costs to drop or merge it.

Run it: python examples/03_units.py
"""

import saddlescope as ss

# 1. A small network that reads digits, its training not finished.
data = ss.data.digits_used()
network = ss.MLP((50, 12, 10), "gelu")
problem = ss.Problem(network, data, loss="cross_entropy")
trained = ss.train(problem, seed=0, adam_steps=100, max_newton=0)
print(f"layer 1: 12 units, accuracy {problem.accuracy(trained.parameters):.3f}")

# 2. Of each unit, the lowest eigenvalue of the block that copying it would open: below 0, the copies would part.
found = ss.exchange(problem, trained.parameters, layer=1)[1]
for unit in found.order[:3]:
    print(f"unit {unit}: {found.lowest[unit]:.3e} (within {found.residual[unit]:.0e}), unstable {found.unstable[unit]}")

# 3. What each would cost, the outgoing weights refitted: on the samples that were fitted, and on the others.
costs = found.costs
for unit in sorted(range(found.units), key=lambda unit: costs.drop_held_out[unit])[:3]:
    print(
        f"unit {unit}: drop {costs.drop[unit]:.2%}, held out {costs.drop_held_out[unit]:.2%}; "
        f"merge with {costs.partner[unit]} {costs.merge_held_out[unit]:.2%}: {costs.verdict[unit]}"
    )
