"""What can be done about a path's ending, knowing the settings in use: nothing is advised that is done already."""

from saddlescope.outcomes import Outcome


def advice(ending: Outcome, *, distance: str, weight_decay: float, norm_barrier: float) -> str:
    """Return what an ending means and what can be done about it under these settings."""
    if ending not in (Outcome.CHANNEL, Outcome.RUNAWAY):
        return ending.advice
    ways = []
    if ending is Outcome.CHANNEL and distance != "tied":
        ways.append("the tied distance" if distance == "joint" else "the tied or joint distance")
    if weight_decay > 0.0:
        ways.append(f"a weight decay above {weight_decay:.3g}, in training too")
    ways.append("a norm barrier" if norm_barrier == 0.0 else f"a norm barrier above {norm_barrier:.3g}")
    return f"{ending.advice} Try {' or '.join(ways)}."
