"""Stored results as one self-contained page."""
