"""Solvers of vectors and functions: tangent steps, continuation, flow; nothing here knows of neurons."""
