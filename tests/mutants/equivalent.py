"""Mutants that no test can tell from the source, and why."""
# ruff: noqa: E501

EDGE = "a measured number never lies on this edge to the last bit"
NAN = "a comparison with NaN is false either way"
EQUIVALENT: dict[str, str] = {
    "paths/events.py fold_events: distances >= distance * (1 - 1e-12) -> distances > distance * (1 - 1e-12)": EDGE,
    "paths/events.py interior_maxima: np.isfinite(here.slope) and np.isfinite(after.slope) -> np.isfinite(here.slope) or np.isfinite(after.slope)": NAN,
    "paths/events.py interior_maxima: here.slope < 0 < after.slope -> here.slope <= 0 < after.slope": "a slope of 0 is not clear",
    "paths/events.py interior_maxima: here.slope < 0 < after.slope -> here.slope < 0 <= after.slope": "a slope of 0 is not clear",
    "critical/twins.py find_twins: np.linalg.norm(vector - other) <= reach -> np.linalg.norm(vector - other) < reach": EDGE,
    "critical/twins.py find_twins: np.linalg.norm(vector + other) <= reach -> np.linalg.norm(vector + other) < reach": EDGE,
    "critical/exchange.py structurally_unused: size * noise -> size / noise": "random points of the same scale",
    "critical/exchange.py structurally_unused: 2.0 -> 0.2": "more scales between the same two",
    "critical/exchange.py block: g.shape[0] > g.shape[1] -> g.shape[0] >= g.shape[1]": "the triangle of a square G has its singular values",
    "critical/exchange.py product_coupling: (b != 0).any -> (b != 0).all": "more entries are looked at; `unread` decides",
    "paths/polish.py _shift: low > 0.0 -> low < 0.0": "more halvings to the same shift",
    "critical/enclosure.py BallLoss.of: max -> min": "how many samples make a chunk: memory, no value",
    "valleys/walk.py _batches: np.arange(block) < len(chunk) -> np.arange(block) <= len(chunk)": "an unused row moves nothing, and is cut off",
    "numerics/balls.py full_rank: min -> max": "an empty matrix passes the general way too",
    "resize/reduction_rules.py merge_copies: gaps[first, block] <= ROUNDING -> gaps[first, block] < ROUNDING": EDGE,
}
