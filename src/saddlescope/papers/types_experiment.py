"""The kinds of permutation path, with real examples found by search ([B19], supplementary figure; [M25])."""

import itertools
from collections.abc import Mapping

from saddlescope.data.data import teacher_data
from saddlescope.data.sources import normal_inputs
from saddlescope.models.mlp import MLP
from saddlescope.papers.curves import jumps, keep_path, path_type
from saddlescope.papers.experiment import Claim, Experiment, Judgement, Result, Settings, Size
from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.problem.problem import Problem

CLAIMS = (
    Claim("maximum-at-point", "[B19] supplement, A", "paths whose loss is highest at the permutation point exist"),
    Claim("maximum-before", "[B19] supplement, B and C", "paths with a higher loss before the permutation point exist"),
    Claim("channel", "[M25]", "pairs whose outgoing weights grow without bound as they approach exist"),
)
KINDS = tuple(claim.name for claim in CLAIMS)
PAIRS = tuple(itertools.combinations(range(4), 2))


def tasks(size: Size) -> dict[str, Settings]:
    """Return all pairs of several random teachers, merged with the tied and with the incoming distance."""
    seeds, steps = (range(2), 30) if size == "quick" else (range(5), 80)
    return {
        f"teacher {seed}, {distance}, {l}{m}": {"seed": seed, "distance": distance, "pair": [l, m], "steps": steps}
        for seed in seeds
        for distance in ("tied", "incoming")
        for l, m in (PAIRS[::3] if size == "quick" else PAIRS)
    }


def measure(settings: Settings) -> Result:
    """Follow one path of a random 2-4-1 tanh teacher at zero loss."""
    network = MLP((2, 4, 1), "tanh")
    teacher = network.initial(settings["seed"])
    problem = Problem(network, teacher_data(network, teacher, normal_inputs(200, 2, settings["seed"])))
    l, m = settings["pair"]
    chosen = PathSettings(distance=settings["distance"], steps=settings["steps"])
    path = find_path(problem, teacher, layer=1, pair=(l, m), settings=chosen)
    return {**settings, **keep_path(path)}


def of_kind(results: Mapping[str, Result], kind: str) -> list[Result]:
    """Return the paths of a kind, the most dependable first: all distances met, continuous, few folds."""
    mine = [one for one in results.values() if path_type(one) == kind]
    return sorted(mine, key=lambda one: (one["missed"], jumps(one), one["folds"]))


def judge(results: Mapping[str, Result]) -> tuple[Judgement, ...]:
    """Count the paths of each kind; a continuous example that met its tolerance everywhere decides."""
    found = []
    for kind in KINDS:
        mine = of_kind(results, kind)
        clean = [one for one in mine if one["missed"] == 0 and not jumps(one)]
        leaps = sum(jumps(one) for one in mine)
        text = f"{len(mine)} of {len(results)} paths, {leaps} of them discontinuous; {len(clean)} of the others "
        text += "converged at every distance"
        found.append(Judgement(kind, text, "yes" if clean else "undecided"))
    return tuple(found)


EXPERIMENT = Experiment(
    name="path-types",
    title="Kinds of permutation path",
    source="[B19] supplementary figure on the loss along the path, [M25]",
    claims=CLAIMS,
    tasks=tasks,
    measure=measure,
    judge=judge,
    remarks=("2-4-1 tanh teachers at zero loss, 200 standard-normal inputs; how often a kind occurs depends on them.",),
)
