"""The loss over weight difference and outgoing weight around a real permutation point, with the path on it ([B19])."""

from collections.abc import Mapping

import numpy as np

from saddlescope.data.sources import toy, toy_teacher
from saddlescope.papers.curves import rounded
from saddlescope.papers.experiment import Claim, Experiment, Judgement, Result, Settings, Size
from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.problem.problem import Problem
from saddlescope.workflows.merge_surface import merge_surface

CLAIMS = (
    Claim(
        "constant",
        "[B19] section 4.1",
        "at distance zero, outgoing weight moves between the two neurons at constant loss",
    ),
    Claim("mirror", "[B19] section 4.1", "the second half of the path is the mirror image of the first"),
    Claim("saddle", "[B19] section 5", "the permutation point is a saddle: the loss falls in some directions"),
)

# The loss counts as lower where it is so by this share of the loss at the permutation point.
ROUNDING = 1e-9


def tasks(size: Size) -> dict[str, Settings]:
    """Return the surface of one toy path."""
    quick = size == "quick"
    grid, steps = (21, 40) if quick else (81, 200)
    return {"surface": {"activation": "tanh", "seed": 0, "pair": [2, 3], "steps": steps, "grid": grid}}


def measure(settings: Settings) -> Result:
    """Follow the path, and evaluate the loss on the grid."""
    network, teacher = toy_teacher(settings["activation"], settings["seed"])
    problem = Problem(network, toy(settings["activation"], settings["seed"]))
    l, m = settings["pair"]
    path = find_path(problem, teacher, layer=1, pair=(l, m), settings=PathSettings(steps=settings["steps"]))
    if path.permutation_point is None:
        return {"ending": path.ending.value}
    found = merge_surface(problem, path, steps=settings["grid"])
    middle = found.losses[len(found.differences) // 2]
    mirrored = found.losses[::-1, ::-1]
    shown = found.trace[:: max(1, len(found.trace) // 60)]
    return {
        "ending": path.ending.value,
        "continuous": bool(path.continuous),
        "loss_at_point": path.loss_at_point,
        "lowest": float(found.losses.min()),
        "spread": float(np.ptp(middle)),
        "asymmetry": float(np.max(np.abs(found.losses - mirrored)) / found.losses.max()),
        "differences": rounded(found.differences),
        "shares": rounded(found.shares),
        "losses": [rounded(row, 4) for row in found.losses],
        "trace": [rounded(row) for row in [*shown, found.trace[-1]]],
    }


def judge(results: Mapping[str, Result]) -> tuple[Judgement, ...]:
    """Compare losses at zero difference, mirrored ones, and the lowest with that at the permutation point."""
    found = results.get("surface")
    if found is None:
        return ()
    if found["ending"] != "permutation-point":
        return (Judgement("constant", f"the path ended otherwise: {found['ending']}", "undecided"),)
    loss = found["loss_at_point"]
    flat, even = found["spread"] <= ROUNDING * loss, found["asymmetry"] <= ROUNDING
    lower = found["lowest"] < (1.0 - ROUNDING) * loss
    return (
        Judgement(
            "constant", f"largest difference of loss {found['spread']:.1e}, loss {loss:.4e}", "yes" if flat else "no"
        ),
        Judgement(
            "mirror",
            f"largest difference of mirrored losses {found['asymmetry']:.1e} of the largest; the path is "
            f"{'continuous' if found['continuous'] else 'discontinuous'}",
            "yes" if even else "no",
        ),
        Judgement(
            "saddle",
            f"lowest loss on the surface {found['lowest']:.4e}, at the point {loss:.4e}",
            "yes" if lower else "undecided",
        ),
    )


EXPERIMENT = Experiment(
    name="merge-landscape",
    title="The loss around a permutation point",
    source="[B19] section 4.1",
    claims=CLAIMS,
    tasks=tasks,
    measure=measure,
    judge=judge,
    version=2,
    remarks=(
        "All other parameters stay as at the permutation point; the path moves them too, so that it lies beside the "
        "surface, and lower, where it is far from the middle.",
        "No lower loss on this one surface would not show that there is none elsewhere: then undecided.",
    ),
)
