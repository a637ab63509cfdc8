"""Permutation paths: constraint, following, ending, and the record of what was found."""
