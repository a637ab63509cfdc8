"""The units of a layer: which slices belong to each, and what permutations do to them."""
