"""One enumeration of outcomes for the whole package; each member carries its text of advice."""

from enum import StrEnum


class Outcome(StrEnum):
    """How a computation ended. ``advice`` says what it means and what to try next."""

    CONVERGED = "converged"
    PERMUTATION_POINT = "permutation-point"
    CHANNEL = "channel"
    RUNAWAY = "runaway"
    NOT_CONVERGED = "not-converged"
    MAX_STEPS = "max-steps"
    STAGNATED = "stagnated"
    DIVERGED = "diverged"
    JUMP = "jump"
    FOLD = "fold"
    INTERIOR_MAXIMUM = "interior-maximum"
    NOT_CRITICAL = "not-critical"
    NON_FINITE = "non-finite"
    INTERRUPTED = "interrupted"
    UNDECIDED = "undecided"

    @property
    def advice(self) -> str:
        """One sentence: what this outcome means and what can be done about it."""
        return _ADVICE[self]


_ADVICE: dict[Outcome, str] = {
    Outcome.CONVERGED: "The stated gradient norm was reached.",
    Outcome.PERMUTATION_POINT: "The path ends in a critical point of the network with one neuron less, lifted.",
    Outcome.CHANNEL: "The outgoing weights grow like 1/distance: this branch has no permutation point at its end.",
    Outcome.RUNAWAY: "Weights grow without an end in sight, and not as in a channel: the path was left before its end.",
    Outcome.NOT_CONVERGED: "The gradient norm is above the tolerance. Allow more iterations or more distances.",
    Outcome.MAX_STEPS: "The iteration limit came before the tolerance. Raise the limit, or accept the residual.",
    Outcome.STAGNATED: "No step lowers the loss beyond rounding. The tolerance may be beyond float64 here.",
    Outcome.DIVERGED: "The iterates grow without bound. A penalty on large weights holds them.",
    Outcome.JUMP: "Two neighbouring points of the path are not joined by a continuous descent. Use more distances.",
    Outcome.FOLD: "The tracked minimiser ceased to exist; the path goes on by descent at a fixed distance.",
    Outcome.INTERIOR_MAXIMUM: "The loss has a maximum before the point: unless tied, a saddle of the full loss.",
    Outcome.NOT_CRITICAL: "The gradient is not zero here. Train further, or refine the point first.",
    Outcome.NON_FINITE: "NaN or infinity appeared. Look at the data, the scale of the weights, or the activation.",
    Outcome.INTERRUPTED: "Stopped on request; what was finished is kept.",
    Outcome.UNDECIDED: "The numbers cannot separate the possible answers.",
}
