"""Counts against brute force for all r <= m <= 8, the time of T(1000, 2000), and the regimes up to r* = 1000.

python benchmarks/counts.py > benchmarks/results/counts.txt
"""

import time

from saddlescope.counting.closed_form import critical_subspaces, minimum_subspaces
from saddlescope.counting.enumerate import minimum_assignments
from saddlescope.counting.regimes import regimes


def main() -> None:
    """Print the tables."""
    print("r m G T listed_critical listed_minimum agree")
    for m in range(1, 9):
        for r in range(1, m + 1):
            critical = minimum = 0
            for roles in minimum_assignments(r, m):
                minimum += 1
                critical += max(roles) < r
            formula = (critical_subspaces(r, m), minimum_subspaces(r, m))
            print(r, m, *formula, critical, minimum, "yes" if formula == (critical, minimum) else "NO")
    began = time.perf_counter()
    bits = minimum_subspaces(1000, 2000).bit_length()
    print(f"T(1000, 2000): {bits} bits, {time.perf_counter() - began:.2f} s")
    began = time.perf_counter()
    found = regimes(range(1, 1001), 2000)
    print(f"regimes for r* = 1 ... 1000, m <= 2000: {time.perf_counter() - began:.1f} s; r*, first m with more minima:")
    print(*(f"{one.minimal}:{one.crossing}" for one in found if one.minimal <= 20 or one.minimal % 50 == 0))


if __name__ == "__main__":
    main()
