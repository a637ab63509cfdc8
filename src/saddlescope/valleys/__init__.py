"""Equal-loss valleys: walks between the permutations of a layer with a spare neuron, and joins of permuted copies."""
