"""Interchangeable units: where they lie, what can be done to them, how far apart they are."""
