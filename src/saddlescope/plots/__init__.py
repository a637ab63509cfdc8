"""Stored results as matplotlib figures; the only package that imports matplotlib."""
