"""The two papers: statements, claims, experiments each with its figure, and what runs them."""
