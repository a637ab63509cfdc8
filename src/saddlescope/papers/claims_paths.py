"""Statements about ways: permutation paths, walks at equal loss, joins with a spare neuron, the expansion manifold."""

from functools import lru_cache

import numpy as np

from saddlescope.critical.along import Along, certify_along
from saddlescope.outcomes import Outcome
from saddlescope.papers.samples import POINTS as HALVES
from saddlescope.papers.samples import Case, critical_case, labels, permutation_case
from saddlescope.papers.statements import Finding, Statement
from saddlescope.paths.find import find_path
from saddlescope.paths.result import Path, PathSettings
from saddlescope.resize.manifold import sample, subspaces
from saddlescope.units.actions import permute
from saddlescope.valleys.join import join
from saddlescope.valleys.result import Walk
from saddlescope.valleys.walk import walk

# Angles up to this count as parallel, from the second on as not; degrees.
PARALLEL, CROOKED = 0.1, 1.0

# A loss may deviate by this share of the mean squared target: rounding.
ROUNDING = 1e-13


@lru_cache(maxsize=512)
def path_case(seed: int) -> Case:
    """Return a random teacher at zero loss, with a pair of its neurons and a distance for the path."""
    case = critical_case(seed, (2, 4, 1), "tanh", residual=0.0, samples=200)
    pair = np.random.default_rng([seed, 4]).choice(4, 2, replace=False)
    facts = {**case.facts, "pair": sorted(int(unit) for unit in pair), "distance": ("incoming", "tied")[seed % 2]}
    return Case(seed, facts, case.widths, case.activation, case.bias, case.parameters, case.inputs, case.targets)


def _path(case: Case) -> Path:
    l, m = case.facts["pair"]
    settings = PathSettings(distance=case.facts["distance"], steps=24)
    return case.remember(
        "path", lambda: find_path(case.problem, case.parameters, layer=1, pair=(l, m), settings=settings)
    )


def _along(case: Case) -> Along:
    return case.remember("along", lambda: certify_along(case.problem, _path(case), count=8))


def _labels(case: Case) -> dict[str, str]:
    return {**case.labels, "distance": case.facts["distance"]}


def _arrives(case: Case) -> Finding:
    path = _path(case)
    if path.ending is Outcome.NOT_CONVERGED:
        return Finding(None, {"ending": path.ending.value}, _labels(case))
    holds = path.ending is Outcome.PERMUTATION_POINT
    return Finding(holds, {"ending": path.ending.value, "last distance": float(path.distances[-1])}, _labels(case))


def _monotone(case: Case) -> Finding | None:
    path = _path(case)
    if path.ending is not Outcome.PERMUTATION_POINT:
        return None
    losses = path.losses[path.kinds == "asked"]
    fall = float(np.max(np.maximum.accumulate(losses) - losses))
    return Finding(bool(fall <= 1e-6 * path.barrier), {"largest fall": fall, "barrier": path.barrier}, _labels(case))


def _clear(case: Case) -> np.ndarray:
    """Return at which nodes the tolerance was met and the gradient stands out of it."""
    path, along = _path(case), _along(case)
    return (along.gradient_norms > 1e4 * path.tolerance) & path.converged[along.nodes]


def _angles(case: Case, angles: np.ndarray, name: str) -> Finding | None:
    """Judge whether all gradients that stand out of the residuals are parallel to something."""
    clear = _clear(case)
    if not clear.any():
        return None
    worst = float(np.max(angles[clear]))
    holds = True if worst <= PARALLEL else False if worst >= CROOKED else None
    return Finding(holds, {f"largest angle to {name}, degrees": worst}, _labels(case))


def _tangent(case: Case) -> Finding | None:
    return _angles(case, _along(case).tangent_angles, "the tangent")


def _distance_gradient(case: Case) -> Finding | None:
    return _angles(case, _along(case).distance_angles, "the distance's gradient")


def _index_along(case: Case) -> Finding | None:
    along, clear = _along(case), _clear(case)
    if not clear.any():
        return None
    low, high = int(along.index[clear, 0].max()), int(along.index[clear, 1].max())
    return Finding(False if low > 1 else True if high <= 1 else None, {"largest index": [low, high]}, _labels(case))


@lru_cache(maxsize=512)
def walk_case(seed: int) -> Case:
    """Return a permutation point with a permutation of the layer that holds the copies."""
    case = permutation_case(seed)
    order = np.random.default_rng([seed, 5]).permutation(case.widths[case.facts["layer"]])
    facts = {**case.facts, "permutation": [int(unit) for unit in order]}
    return Case(seed, facts, case.widths, case.activation, case.bias, case.parameters, case.inputs, case.targets)


def _walk(case: Case) -> Walk:
    facts = case.facts
    l, m = facts["units"]
    return case.remember(
        "walk",
        lambda: walk(case.problem, case.parameters, facts["permutation"], layer=facts["layer"], pair=(l, m)),
    )


def _walk_loss(case: Case) -> Finding:
    deviation, size = _walk(case).max_loss_deviation, float(np.mean(case.targets**2))
    numbers = {"largest loss deviation": deviation, "mean squared target": size}
    return Finding(bool(deviation <= ROUNDING * size), numbers, labels(case))


def _walk_critical(case: Case) -> Finding | None:
    if _walk(case).segments == 0:
        return None
    # A network without residual has a gradient of rounding's size only.
    size, scale = _walk(case).max_gradient_norm, case.facts["natural"]
    holds = True if size <= 1e-12 * scale else False if size >= 1e-9 * scale else None
    return Finding(holds, {"largest gradient norm": size, "natural size": scale}, labels(case))


TEACHERS = "random 2-4-1 tanh teachers at zero loss on 200 normal inputs, one random pair; incoming and tied distance"
JOINED = [((2, 3, 1), "tanh"), ((2, 3, 2, 2), "softplus"), ((2, 2, 3, 2, 1), "tanh")]


SHAPES = "random 2-3-1 tanh, 2-3-2-2 softplus and 2-2-3-2-1 tanh networks on 80 normal inputs"
JOINS = f"{SHAPES}, zero loss, random permutations of all hidden layers"
EXPANSIONS = f"{SHAPES}; a random subspace with two neurons more in layer 1, and a random point on it"


def join_case(seed: int) -> Case:
    """Return a random teacher at zero loss, and permutations of all its hidden layers."""
    widths, activation = JOINED[seed % len(JOINED)]
    case = critical_case(seed, widths, activation, residual=0.0)
    generator = np.random.default_rng([seed, 6])
    orders = [[int(unit) for unit in generator.permutation(width)] for width in widths[1:-1]]
    facts = {**case.facts, "permutations": orders}
    return Case(seed, facts, case.widths, case.activation, case.bias, case.parameters, case.inputs, case.targets)


def _joined(case: Case) -> Finding:
    other = case.parameters
    for layer, order in enumerate(case.facts["permutations"], start=1):
        other = permute(other, case.network.neurons(layer), order)
    found = join(case.problem, case.parameters, other)
    highest, size = found.scan.loss + found.scan.max_loss_deviation, float(np.mean(case.targets**2))
    numbers = {"highest loss": highest, "mean squared target": size, "hidden layers": len(case.widths) - 2}
    return Finding(bool(highest <= 1e-26 * size), numbers, case.labels)


def expansion_case(seed: int) -> Case:
    """Return a random network and a subspace of the expansion manifold, by its number."""
    widths, activation = JOINED[seed % len(JOINED)]
    case = critical_case(seed, widths, activation, residual=0.1)
    count = sum(1 for _ in subspaces(widths[1], widths[1] + 2))
    number = int(np.random.default_rng([seed, 7]).integers(count))
    facts = {**case.facts, "subspace": number}
    return Case(seed, facts, case.widths, case.activation, case.bias, case.parameters, case.inputs, case.targets)


def _expansion(case: Case) -> Finding:
    chosen = list(subspaces(case.widths[1], case.widths[1] + 2))[case.facts["subspace"]]
    wide = sample(case.parameters, case.network.neurons(1), chosen, seed=case.seed)
    widths = (case.widths[0], case.widths[1] + 2, *case.widths[2:])
    other = Case(0, {}, widths, case.activation, case.bias, wide, case.inputs, case.targets)
    before, after = case.problem.outputs_of(case.parameters), other.problem.outputs_of(wide)
    gap = float(np.abs(after - before).max() / np.abs(before).max())
    return Finding(bool(gap <= 1e-12), {"output deviation": gap, "groups": len(chosen.zero_groups)}, case.labels)


WAYS = (
    Statement(
        "paths-arrive",
        "[B19] section 4.1",
        "as the distance of two neurons goes to zero, the constrained minimum goes to a permutation point",
        path_case,
        _arrives,
        TEACHERS,
        by=("distance",),
        cost=10,
    ),
    Statement(
        "loss-rises-along-paths",
        "[B19] section 5, Fig. 3",
        "the loss rises monotonically up to the permutation point",
        path_case,
        _monotone,
        TEACHERS,
        by=("distance",),
        cost=10,
    ),
    Statement(
        "gradient-along-tangent",
        "[B19] section 4.1",
        "on the path the gradient is parallel to the path's tangent",
        path_case,
        _tangent,
        TEACHERS,
        by=("distance",),
        cost=10,
    ),
    Statement(
        "gradient-along-distance",
        "science notes, section 3",
        "on the path the gradient is parallel to the gradient of the incoming distance",
        path_case,
        _distance_gradient,
        TEACHERS,
        by=("distance",),
        cost=10,
    ),
    Statement(
        "index-along-paths",
        "[B19] section 4.1",
        "on the path the Hessian has at most one negative eigenvalue",
        path_case,
        _index_along,
        TEACHERS,
        by=("distance",),
        cost=10,
    ),
    Statement(
        "walks-keep-the-loss",
        "[B19] section 4.2",
        "from a permutation point every permutation of the layer is reached at equal loss",
        walk_case,
        _walk_loss,
        HALVES,
    ),
    Statement(
        "walks-are-critical",
        "[B19] section 4.2",
        "these walks stay on critical points",
        walk_case,
        _walk_critical,
        HALVES,
        by=("loss", "neurons after", "activation"),
    ),
    Statement(
        "a-spare-neuron-joins",
        "[S21] Theorem 4.2",
        "with one neuron more in every layer, permuted copies of a zero-loss minimum are joined at zero loss",
        join_case,
        _joined,
        JOINS,
        cost=4,
    ),
    Statement(
        "expansion-keeps-the-function",
        "[S21] section 4",
        "every point of the expansion manifold has the small network's function",
        expansion_case,
        _expansion,
        EXPANSIONS,
        cost=2,
    ),
)
