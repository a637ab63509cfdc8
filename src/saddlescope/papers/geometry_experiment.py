"""The geometry of permutation paths ([B19] section 4.1, Fig. 2): time profile, gradient against tangent, index."""

from collections.abc import Mapping

import numpy as np

from saddlescope.critical.along import certify_along
from saddlescope.data.sources import toy, toy_teacher
from saddlescope.papers.curves import broken, keep_path, rounded
from saddlescope.papers.experiment import Claim, Experiment, Judgement, Result, Settings, Size
from saddlescope.paths.find import find_path
from saddlescope.paths.mirror import position
from saddlescope.paths.result import PathSettings
from saddlescope.problem.problem import Problem

CLAIMS = (
    Claim(
        "profile",
        "[B19] section 4.1",
        "the pair's distance falls to 0 for t in [0, ¼], outgoing weight moves at constant loss for t in [¼, ½]",
    ),
    Claim("tangent", "[B19] section 4.1", "on the path the gradient is parallel to the path's tangent"),
    Claim("index", "[B19] section 4.1", "on the path the Hessian has at most one negative eigenvalue"),
)

# Angles up to this count as parallel, from the second on as not; degrees. A loss may deviate by this share.
PARALLEL, CROOKED, ROUNDING = 0.1, 1.0, 1e-4


def tasks(size: Size) -> dict[str, Settings]:
    """Return paths of the toy that end in a permutation point, by the paper's distance and by the tied one."""
    quick = size == "quick"
    chosen = [("incoming", 1, 2), ("tied", 2, 3), ("tied", 3, 4), ("tied", 1, 3)][: 2 if quick else 4]
    steps, looks = (40, 12) if quick else (200, 40)
    return {
        f"{distance} {l}{m}": {"distance": distance, "pair": [l, m], "steps": steps, "looks": looks}
        for distance, l, m in chosen
    }


def measure(settings: Settings) -> Result:
    """Follow one path; keep its profile in time, and angles and index at some of its distances."""
    network, teacher = toy_teacher("tanh", 0)
    problem = Problem(network, toy("tanh", 0))
    l, m = settings["pair"]
    chosen = PathSettings(distance=settings["distance"], steps=settings["steps"])
    path = find_path(problem, teacher, layer=1, pair=(l, m), settings=chosen)
    along = certify_along(problem, path, count=settings["looks"])
    clear = (along.gradient_norms > 1e4 * path.tolerance) & path.converged[along.nodes]
    times = np.linspace(0.0, 1.0 if path.permutation_point else 0.25, 101)
    places = [position(path, float(t)) for t in times]
    neurons = problem.network.neurons(1)
    gaps = [rows[m] - rows[l] for rows in map(neurons.incoming_vectors, places)]
    shares = [float(rows[m, 0] - rows[l, 0]) for rows in map(neurons.outgoing_vectors, places)]
    return {
        **settings,
        **keep_path(path),
        "times": rounded(times),
        "profile": rounded(np.linalg.norm(gaps, axis=1)),
        "outgoing_gap": rounded(shares),
        "loss_in_time": rounded([problem.loss_of(p) for p in places], 9),
        "looked": rounded(along.distances),
        "clear": clear.tolist(),
        "tangent_angles": rounded(along.tangent_angles),
        "distance_angles": rounded(along.distance_angles),
        "index": along.index.tolist(),
    }


def judge(results: Mapping[str, Result]) -> tuple[Judgement, ...]:
    """Judge where the gradient stands out of the residuals, and all nodes for the profile."""
    every = list(results.values())
    ended = [one for one in every if one["ending"] == "permutation-point"]
    deviations = [_deviation(one) for one in ended]
    text = f"{len(ended)} of {len(every)} paths reach distance 0 ({broken(results)}); "
    text += f"loss for t in [¼, ½] constant to {max(deviations, default=0.0):.1e} of it"
    flat = bool(ended) and max(deviations) <= ROUNDING
    found = [Judgement("profile", text, "yes" if flat and len(ended) == len(every) else "partly" if flat else "no")]
    angles = [a for one in every for a, seen in zip(one["tangent_angles"], one["clear"], strict=True) if seen and a]
    if angles:
        agrees = "yes" if max(angles) <= PARALLEL else "no" if max(angles) >= CROOKED else "undecided"
        text = f"angles from {min(angles):.2g} to {max(angles):.3g} degrees at {len(angles)} places"
        found.append(Judgement("tangent", text, agrees))
    index = [pair for one in every for pair, seen in zip(one["index"], one["clear"], strict=True) if seen]
    if index:
        low, high = max(pair[0] for pair in index), max(pair[1] for pair in index)
        agrees = "no" if low > 1 else "yes" if high <= 1 else "undecided"
        found.append(Judgement("index", f"largest index {_span(low, high)} at {len(index)} places", agrees))
    return tuple(found)


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _deviation(one: Result) -> float:
    """Return by which share of it the loss deviates over t in [1/4, 1/2] from its value at the permutation point."""
    middle = [loss for t, loss in zip(one["times"], one["loss_in_time"], strict=True) if 0.25 <= t <= 0.5]
    return max(abs(loss - one["loss_at_point"]) for loss in middle) / one["loss_at_point"]


EXPERIMENT = Experiment(
    name="path-geometry",
    title="Geometry of permutation paths",
    source="[B19] section 4.1, Fig. 2",
    claims=CLAIMS,
    tasks=tasks,
    measure=measure,
    judge=judge,
    remarks=(
        "2-5-1 tanh teacher, seed 0. Angles and index only where the gradient is at least 10 000 times the tolerance.",
        "With the incoming distance the gradient is parallel to the gradient of that distance, not to the tangent.",
        "Index: the numbers of negative eigenvalues that the rounding bounds allow.",
    ),
)
