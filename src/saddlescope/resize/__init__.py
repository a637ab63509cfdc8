"""Small networks into large ones and back at equal function: expansion, its manifold, exact reduction."""
