"""Experiments put together from training, paths and what follows."""
