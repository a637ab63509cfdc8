"""Exact numbers of equivalent minima, critical subspaces and permutation points: Python integers, nothing heavy."""
