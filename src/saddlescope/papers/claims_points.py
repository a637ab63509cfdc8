"""Statements about critical points with copied neurons: what is critical, and which signs the Hessian has."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from saddlescope.critical.exchange import closed_coupling, share_signs
from saddlescope.critical.groups import Embedding
from saddlescope.critical.reduced import Reduced, reduced_hessian
from saddlescope.papers.samples import (
    LIFTS,
    MINIMA,
    PLATEAU,
    Case,
    labels,
    lifted_case,
    minimum_case,
    permutation_case,
    plateau_case,
    small_of,
    with_incoming,
)
from saddlescope.papers.samples import POINTS as HALVES
from saddlescope.papers.statements import Finding, Statement
from saddlescope.precision import in_float64
from saddlescope.resize.manifold import locate

# Eigenvalues below the first share of the largest count as zero, above the second as not; between them nobody knows.
ZERO, CLEAR = 1e-12, 1e-8

# Gradients below the first share of their terms' size count as zero, above the second as not; where the terms vanish
# themselves, shares of what they would be without a fit.
VANISHES, STANDS = 1e-11, 1e-6
ROUNDING, SEEN = 1e-14, 1e-11


def spectrum(case: Case) -> np.ndarray:
    """Return the eigenvalues of the dense Hessian."""
    return case.remember("spectrum", lambda: _spectrum(case))


@in_float64
def _spectrum(case: Case) -> np.ndarray:
    layout = case.network.layout
    whole = Reduced.of(case.problem, Embedding(np.arange(layout.size), np.ones(layout.size)))
    return np.linalg.eigvalsh(reduced_hessian(whole, np.asarray(layout.flatten(case.parameters))))


def signs(values: np.ndarray, *, top: float | None = None) -> tuple[int, int] | None:
    """Return how many eigenvalues are negative and how many zero; None where there is no clear gap around zero."""
    top = np.abs(values).max(initial=0.0) if top is None else top
    if top == 0.0:
        return 0, len(values)
    shares = np.abs(values) / top
    if np.any((shares > ZERO) & (shares < CLEAR)):
        return None
    return int(np.sum(values[shares >= CLEAR] < 0)), int(np.sum(shares <= ZERO))


def reduced(case: Case) -> Case:
    """Return the small network's case."""
    return case.remember("small", lambda: small_of(case))


@in_float64
def coupling(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Return G and B of the copied neuron, from the small network."""
    small = reduced(case)
    theta = np.asarray(small.network.layout.flatten(small.parameters))
    found = closed_coupling(small.problem, theta, case.facts["layer"], case.facts["units"][0])
    return found.g, found.b


def gradient_norm(case: Case) -> float:
    """Return the norm of the gradient."""
    gradient = case.problem.gradient_of(case.parameters)
    return float(np.sqrt(sum(np.sum(value**2) for value in gradient.values())))


def vanishes(size: float, case: Case) -> bool | None:
    """Return whether a gradient is zero but for rounding; None in between."""
    scale, natural = case.facts["scale"], case.facts["natural"]
    if size <= max(VANISHES * scale, ROUNDING * natural):
        return True
    return False if size >= max(STANDS * scale, SEEN * natural) else None


def _copies_critical(case: Case) -> Finding:
    size = gradient_norm(case)
    return Finding(vanishes(size, case), {"gradient norm": size, **_known(case)}, labels(case))


def _known(case: Case) -> dict[str, Any]:
    return {"size of the gradient's terms": case.facts["scale"]}


def _zeros_at_least(case: Case) -> Finding:
    found, after = signs(spectrum(case)), case.widths[case.facts["layer"] + 1]
    numbers = {"nullity": None if found is None else found[1], "neurons after": after}
    return Finding(None if found is None else found[1] >= after, numbers, labels(case))


def _rank_and_rest(g: np.ndarray, b: np.ndarray, sigma: int, natural: float) -> tuple[int, int] | None:
    """Return index and nullity of [[0, G], [G^T, sigma B]] from rank G and B on its kernel; None without a clear gap.

    Where G and B vanish but for rounding, ``natural`` says what their entries would be otherwise.
    """
    _, s, vt = np.linalg.svd(g)
    top = max(float(s.max(initial=0.0)), float(np.abs(b).max()), 1e-3 * natural)
    if np.any((s > ZERO * top) & (s < CLEAR * top)):
        return None
    rank = int(np.sum(s >= CLEAR * top))
    kernel = vt[rank:]
    inner = sigma * kernel @ b @ kernel.T
    rest = signs(np.linalg.eigvalsh(inner), top=top) if len(kernel) else (0, 0)
    return None if rest is None else (rank + rest[0], g.shape[0] - rank + rest[1])


def _exchange(case: Case) -> Finding:
    found, small = signs(spectrum(case)), signs(spectrum(reduced(case)))
    g, b = coupling(case)
    negative, _, positive = share_signs(tuple(case.facts["shares"]))
    added = _rank_and_rest(g, b, positive - negative, case.facts["natural"])
    if found is None or small is None or added is None:
        return Finding(None, {}, labels(case))
    said = (small[0] + added[0], small[1] + added[1])
    numbers = {"index, nullity of the Hessian": found, "index, nullity by the exchange": said}
    return Finding(found == said, numbers, labels(case))


def on_the_plane(case: Case) -> tuple[Case, np.ndarray, np.ndarray]:
    """Return the case moved on its equal-loss plane: (a_l, a - a_l) for a random a_l, and both outgoing vectors."""
    layer, (l, m) = case.facts["layer"], case.facts["units"]
    name = case.network.chain[layer].weight
    weight = case.parameters[name].copy()
    total = weight[:, l] + weight[:, m]
    first = np.random.default_rng([case.seed, 3]).normal(size=len(total)) * np.linalg.norm(total)
    weight[:, l], weight[:, m] = first, total - first
    parameters = {**case.parameters, name: weight}
    moved = Case(case.seed, case.facts, case.widths, case.activation, case.bias, parameters, case.inputs, case.targets)
    return moved, first, total - first


def _plane_loss(case: Case) -> Finding:
    before, after = case.problem.loss_of(case.parameters), case.problem.loss_of(on_the_plane(case)[0].parameters)
    size = float(np.mean(case.targets**2))
    numbers = {"loss": before, "loss elsewhere on the plane": after}
    return Finding(bool(abs(after - before) <= 1e-13 * size), numbers, labels(case))


def _plane_critical(case: Case) -> Finding:
    moved = on_the_plane(case)[0]
    size = gradient_norm(moved)
    return Finding(vanishes(size, case), {"gradient norm": size, **_known(case)}, labels(case))


def _plane_gradient(case: Case) -> Finding:
    moved, first, second = on_the_plane(case)
    g, _ = coupling(case)
    said = float(np.sqrt(np.sum((first @ g) ** 2) + np.sum((second @ g) ** 2)))
    size = gradient_norm(moved)
    numbers = {"gradient norm": size, "from G^T a_l and G^T a_m": said}
    allowed = 1e-9 * case.facts["scale"] + ROUNDING * case.facts["natural"]
    return Finding(bool(abs(size - said) <= allowed), numbers, labels(case))


def strict_minimum(case: Case) -> bool:
    """Return whether the small network's point is certainly a minimum without flat directions (ReLU: scaling aside)."""
    small = reduced(case)
    found = signs(spectrum(small))
    flat = sum(small.widths[1:-1]) if small.activation == "relu" else 0
    return found is not None and found == (0, flat)


def _one_negative(case: Case) -> Finding | None:
    if not strict_minimum(case):
        return None
    found = signs(spectrum(case))
    index = None if found is None else found[0]
    return Finding(None if index is None else index <= 1, {"index": index}, labels(case))


def _saddle(case: Case) -> Finding | None:
    if not strict_minimum(case):
        return None
    found = signs(spectrum(case))
    index = None if found is None else found[0]
    return Finding(None if index is None else index >= 1, {"index": index}, labels(case))


def _plateau(case: Case) -> Finding | None:
    """[FA00] Theorem 3, for one output: B definite or not, and the share inside [0, 1] or outside."""
    if not strict_minimum(case):
        return None
    _, b = coupling(case)
    bent, found = signs(np.linalg.eigvalsh(b)), signs(spectrum(case))
    if bent is None or found is None or bent[1] > 0:
        return Finding(None, {}, {**labels(case), "B": "not clear"})
    inside = 0.0 < case.facts["shares"][0] < 1.0
    kind = "positive" if bent[0] == 0 else "negative" if bent[0] == len(b) else "indefinite"
    minimum = {"positive": inside, "negative": not inside, "indefinite": False}[kind]
    numbers = {"B": kind, "share": case.facts["shares"][0], "index": found[0]}
    return Finding((found[0] == 0) == minimum, numbers, {**labels(case), "B": kind})


def _zero_loss(case: Case) -> Finding | None:
    if case.facts["residual"] != 0.0:
        return None
    found, small = signs(spectrum(case)), signs(spectrum(reduced(case)))
    if found is None or small is None:
        return Finding(None, {}, labels(case))
    layer = case.facts["layer"]
    said = case.widths[layer - 1] + int(case.bias) + case.widths[layer + 1]
    numbers = {"nullity added": found[1] - small[1], "incoming and outgoing weights of a neuron": said}
    return Finding(found[1] - small[1] == said, numbers, labels(case))


def _twin(case: Case, factor: float) -> Case:
    """Return the case with the second copy's incoming vector times a factor, outgoing weights so that twins cancel out.

    Exact where g(-z) = 2 g(0) - g(z) (factor -1), or g(2z) = 2 g(z) (factor 2).
    """
    layer, (_, m) = case.facts["layer"], case.facts["units"]
    here, after = case.network.chain[layer - 1 : layer + 1]
    parameters = {name: value.copy() for name, value in case.parameters.items()}
    for name in here.names:
        parameters[name][m] *= factor
    sent = parameters[after.weight][:, m].copy()
    parameters[after.weight][:, m] = sent / factor
    if factor < 0 and after.bias is not None and here.activation is not None:
        parameters[after.bias] += sent * 2.0 * float(here.activation.function(jnp.zeros(())))
    return Case(case.seed, case.facts, case.widths, case.activation, case.bias, parameters, case.inputs, case.targets)


def _linear_twins(case: Case) -> Case:
    """Return the small network with a g(z) = a g(-z) + (a/2) (g(2z) - g(-2z)) for its copied neuron: two neurons more.

    Exact where g is even up to a linear part: g(z) - g(-z) = c z.
    """
    small, unit = reduced(case), case.facts["units"][0]
    return with_incoming(small, case.facts["layer"], unit, ((-1.0, 1.0), (2.0, 0.5), (-2.0, -0.5)))


@in_float64
def _only_copies(case: Case) -> Finding:
    """Look for a wide network of equal function that is on no subspace of the expansion manifold."""
    small = reduced(case)
    outputs = small.problem.outputs_of(small.parameters)
    numbers: dict[str, Any] = {}
    holds = True
    twins = {"sign twin": _twin(case, -1.0), "scale twin": _twin(case, 2.0), "four twins": _linear_twins(case)}
    for name, twin in twins.items():
        gap = float(np.abs(twin.problem.outputs_of(twin.parameters) - outputs).max() / np.abs(outputs).max())
        where = locate(small.parameters, twin.parameters, small.network.neurons(case.facts["layer"]))
        numbers[f"{name}: output deviation"], numbers[f"{name}: on the manifold"] = gap, where.answer
        holds = holds and not (gap < 1e-12 and where.answer == "no")
    return Finding(holds, numbers, labels(case))


POINTS = (
    Statement(
        "copies-are-critical",
        "[FA00] Theorem 1; [S21] section 3",
        "copying a neuron of a critical point, with outgoing shares that sum to 1, gives a critical point",
        lifted_case,
        _copies_critical,
        LIFTS,
    ),
    Statement(
        "plane-of-equal-loss",
        "[B19] section 4.2",
        "at a permutation point the loss is the same for all outgoing weights (a_l, a - a_l)",
        permutation_case,
        _plane_loss,
        HALVES,
    ),
    Statement(
        "plane-is-critical",
        "[B19] section 4.2",
        "every point of that plane is critical",
        permutation_case,
        _plane_critical,
        HALVES,
        by=("neurons after", "loss", "outputs"),
    ),
    Statement(
        "plane-gradient",
        "science notes, section 3",
        "on the plane the gradient is (G^T a_l, G^T a_m), so critical points are exactly those with G^T a_l = 0",
        lifted_case,
        _plane_gradient,
        LIFTS,
    ),
    Statement(
        "zero-eigenvalues",
        "[B19] section 4.2",
        "at a permutation point the Hessian has at least as many zero eigenvalues as the next layer has neurons",
        permutation_case,
        _zeros_at_least,
        HALVES,
        by=("neurons after", "outputs", "loss"),
    ),
    Statement(
        "exchange-split",
        "science notes, section 3",
        "index and nullity are those of the small network plus those of [[0, G], [G^T, s B]], s the sign of b(1 - b)",
        lifted_case,
        _exchange,
        LIFTS,
    ),
    Statement(
        "zero-loss-flat",
        "science notes, section 3",
        "at zero loss a copy adds one flat direction for each of its incoming and outgoing weights",
        lifted_case,
        _zero_loss,
        LIFTS,
    ),
    Statement(
        "one-negative-eigenvalue",
        "[B19] section 4.2",
        "where the merged network is at a strict minimum, the Hessian has at most one negative eigenvalue",
        minimum_case,
        _one_negative,
        MINIMA,
        by=("activation", "outputs", "neurons after"),
    ),
    Statement(
        "merged-minima-are-saddles",
        "[B19] section 4.2 and Fig. 1",
        "where the merged network is at a strict minimum, the permutation point is a saddle",
        minimum_case,
        _saddle,
        MINIMA,
        by=("outputs", "neurons after"),
    ),
    Statement(
        "fukumizu-amari-3",
        "[FA00] Theorem 3",
        "one output, strict minimum: B > 0 gives minima for shares inside (0, 1) and saddles outside, B < 0 the "
        "reverse, indefinite B saddles",
        plateau_case,
        _plateau,
        PLATEAU,
        by=("B",),
    ),
    Statement(
        "only-copies-and-zero-groups",
        "[S21] Theorem 4.2",
        "a wider network of equal function lies on the expansion manifold: copies and zero-type groups",
        lifted_case,
        _only_copies,
        LIFTS,
        by=("activation",),
    ),
)
