"""Models of any origin, and the interchangeable units that are found in them and proved by trying."""
