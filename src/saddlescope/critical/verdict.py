"""The verdict of a certificate from the signs, and the words that go with it."""

from collections.abc import Sequence

from saddlescope.critical.result import Inertia, Kind

NOT_SHOWN = (
    "that an exact critical point exists here: the refined gradient is rounding, not proved to vanish nearby",
    "anything beyond second order: along flat directions without a constant-loss reason the loss may rise or fall",
)
KINKED = (
    "anything across kinks: the Hessian is that of the region of one activation pattern, and the loss may fall beyond"
)
MAYBE_KINKED = (
    "anything across kinks, if the model has any: there the Hessian is that of one activation pattern, and none exists "
    "where a sample lies on a kink"
)
ROUNDED = "rigorous rounding bounds: the rounding of the Hessian is measured against float32, not enclosed"
PROBABLE = "definiteness for certain: that no nonpositive eigenvalue went unseen has a probability, stated above"
UNREFINED = (
    "Newton corrections from here do not converge to a gradient of rounding: no critical point was found beside this "
    "point, so that it has no index"
)


def tolerance_words(rounding: float, drift: float) -> str:
    """Return how the error bound of the eigenvalues comes about."""
    return (
        f"after scaling rows and columns to natural size an eigenvalue has a sign if it is farther from 0 than its "
        f"bound: rounding in the Hessian {rounding:.2e} (the same program in float32, scaled by 2^-29, times 16), "
        f"change of the Hessian on the way to the exact critical point {drift:.2e} (the last Newton step, and what the "
        "rounding of the gradient leaves open in the flattest direction, times the measured change per length, times "
        "4), and the eigendecomposition's own residual"
    )


def verdict(inertia: Inertia, *, global_minimum: bool, loose: Sequence[str] = ()) -> tuple[Kind, list[str]]:
    """Return the kind of critical point and the reasons for it.

    Args:
        inertia: signs of the whole Hessian at the refined point.
        global_minimum: the loss is zero to rounding and cannot be negative.
        loose: kinds of flat directions along which the loss is constant to second order only, or one at a time only.
    """
    low, high = inertia.index
    if global_minimum:
        if low > 0:
            return Kind.UNDECIDED, ["the loss is zero, yet a negative eigenvalue seems beyond its bound"]
        zero = "the loss is zero to rounding and cannot be negative: a global minimum"
        if inertia.unresolved and not inertia.zero:
            return Kind.UNDECIDED, [f"{zero}; whether it is strict, the eigenvalues within the bound around 0 hide"]
        return Kind.MINIMUM if inertia.zero else Kind.STRICT_MINIMUM, [zero]
    if low > 0:
        words = f"{low} negative eigenvalue{'s' if low > 1 else ''} beyond the bound"
        return Kind.SADDLE, [words if low == high else f"at least {words}, at most {high}"]
    if inertia.unresolved:
        word = "s lie" if inertia.unresolved > 1 else " lies"
        return Kind.UNDECIDED, [f"{inertia.unresolved} eigenvalue{word} within the bound around 0: no sign"]
    if loose:
        return Kind.UNDECIDED, [
            f"index 0, but along the flat directions ({', '.join(loose)}) together the loss is known to be constant to "
            "second order only: it may fall there"
        ]
    if inertia.zero:
        return Kind.MINIMUM, [
            "all eigenvalues but those of the flat directions are positive beyond the bound, and along these, all "
            "together, the loss is constant"
        ]
    return Kind.STRICT_MINIMUM, ["all eigenvalues are positive beyond the bound"]


def disagreement(methods: dict[str, tuple[tuple[int, int], tuple[int, int]]]) -> str | None:
    """Return a reason if two methods exclude each other's index or nullity, or None."""
    names = list(methods)
    for k, first in enumerate(names):
        for second in names[k + 1 :]:
            for what, one, two in zip(("index", "nullity"), methods[first], methods[second], strict=True):
                if one[0] > two[1] or two[0] > one[1]:
                    return f"{first} and {second} disagree on the {what}: {_range(one)} and {_range(two)}"
    return None


def _range(pair: Sequence[int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]} to {pair[1]}"
