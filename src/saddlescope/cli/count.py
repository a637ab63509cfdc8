"""saddlescope count: exact numbers of minima, critical subspaces and permutation points."""

from pathlib import Path
from typing import Any

from saddlescope.cli.console import show_versions
from saddlescope.cli.options import free_file, numbers, one_of, print_json, say
from saddlescope.errors import SettingsError

REMARK = (
    "numbers of subspaces, not of volume; for activations without symmetries of their own (such as sigmoid(4x) + "
    "softplus(x))"
)
ODDS = {
    "odd": "is odd: neurons have sign twins, so the true sets are larger",
    "odd+constant": "is odd plus a constant: neurons have sign twins up to a bias, so the true sets are larger",
    "even+linear": "is even plus linear: sign twins differ by a linear part, so the true sets are larger",
}
OWN = {
    "exp": "has exp(z + c) = e^c exp(z): with biases every neuron lies on a line of equal ones (bias + c, outgoing "
    "weights times e^-c) and neurons that differ in the bias alone are copies, so the true sets are larger; without "
    "biases the numbers hold",
    "sine": "has sin(z + pi) = -sin z: with biases neurons have twins whose bias differs by a multiple of pi, so the "
    "true sets are larger",
    "identity": "is linear: only the product of the layers' weights matters, so the true sets are larger",
}


def count(
    *,
    small: str | None = None,
    wide: str | None = None,
    order: int | None = None,
    width: str | None = None,
    regimes: int | None = None,
    widest: int | None = None,
    figure: Path | None = None,
    activation: str | None = None,
    overwrite: bool = False,
    json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Count, exactly: what a small network's minima and critical points become in a wide one, or permutation points.

    --small and --wide: critical subspaces G and subspaces of minima T ([S21]). --order and --width: permutation points
    of that order per minimum ([B19]). --regimes: the width from which minima outnumber saddles, for minimal widths up
    to this. Widths of several hidden layers are separated by commas.

    Example: saddlescope count --small 4 --wide 10 --json

    Parameters
    ----------
    small
        Widths of the small network's hidden layers.
    wide
        Widths of the wide network's hidden layers.
    order
        Number of neurons merged away.
    width
        Widths of the hidden layers.
    regimes
        Largest minimal width.
    widest
        Largest width looked at; by default twice the largest minimal width.
    figure
        A figure of the regimes to write: .png, .pdf or .svg.
    activation
        Say for this activation whether the numbers hold.
    overwrite
        Replace the figure if it exists.
    json
        Print one JSON document; exact numbers are strings.
    quiet
        Print nothing but errors.
    verbose
        Print also what the answer rests on: settings, versions, every step.
    """
    asked = [(small, wide), (order, width), (regimes, regimes)]
    whole = [pair for pair in asked if pair[0] is not None or pair[1] is not None]
    if len(whole) != 1 or None in whole[0]:
        raise SettingsError(
            "not a question",
            name="options",
            value="these",
            expected="--small and --wide, --order and --width, or --regimes",
        )
    facts = _facts(activation)
    if figure is not None:
        if regimes is None:
            raise SettingsError("only the regimes have a figure", name="figure", value=figure, expected="--regimes")
        one_of(figure.suffix, "suffix of the figure", (".png", ".pdf", ".svg"))
        free_file(figure, overwrite=overwrite, by="count", drawn=True)
    if small is not None and wide is not None:
        result = _subspaces(numbers(small, "small", "4,5"), numbers(wide, "wide", "10,8"))
    elif order is not None and width is not None:
        result = _points(order, numbers(width, "width", "10,20"))
    else:
        assert regimes is not None
        if regimes < 1:
            raise SettingsError("not a minimal width", name="regimes", value=regimes, expected="1 or more")
        result = _regimes(regimes, 2 * regimes if widest is None else widest, figure)
    result["remarks"] = [REMARK, *facts]
    if json:
        print_json(result)
    for line in _lines(result):
        say(line, quiet=quiet or json)
    show_versions(quiet=quiet or json, verbose=verbose)
    return 0


def _text(value: int) -> str:
    """Return all digits; Python refuses very long ones unless asked."""
    import sys

    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return str(value)
    finally:
        sys.set_int_max_str_digits(limit)


def _subspaces(small: tuple[int, ...], wide: tuple[int, ...]) -> dict[str, Any]:
    from saddlescope.counting import closed_form

    return {
        "small": list(small),
        "wide": list(wide),
        "critical_subspaces": _text(closed_form.layers_critical(small, wide)),
        "minimum_subspaces": _text(closed_form.layers_minimum(small, wide)),
        "equivalent_minima_small": _text(closed_form.equivalent_minima(small)),
    }


def _points(order: int, widths: tuple[int, ...]) -> dict[str, Any]:
    from fractions import Fraction

    from saddlescope.counting import closed_form

    ratio = closed_form.layers_ratio(order, widths)
    bound = sum((closed_form.ratio_lower_bound(order, width) for width in widths if width > order), Fraction(0))
    limit = sum((closed_form.ratio_limit(order, width) for width in widths), Fraction(0))
    return {
        "order": order,
        "width": list(widths),
        "ratio": _fraction(ratio),
        "lower_bound": _fraction(bound),
        "asymptotic": _fraction(limit),
        "equivalent_minima": _text(closed_form.equivalent_minima(widths)),
    }


def _fraction(value: Any) -> str:
    over = "" if value.denominator == 1 else f"/{_text(value.denominator)}"
    return f"{_text(value.numerator)}{over}"


def _regimes(largest: int, widest: int, figure: Path | None) -> dict[str, Any]:
    from saddlescope.counting.regimes import regimes

    found = regimes(range(1, largest + 1), widest)
    if figure is not None:
        from saddlescope.plots.path import save_figure
        from saddlescope.plots.regimes import regimes_figure

        save_figure(regimes_figure(found, widest), figure, by="saddlescope count")
    return {"widest": widest, "crossings": [[one.minimal, one.crossing] for one in found]}


def _facts(activation: str | None) -> list[str]:
    """Return what an activation's own symmetries do to the numbers."""
    if activation is None:
        return []
    import jax.numpy as jnp

    from saddlescope.models.activations import activation as find

    facts = find(activation)
    said = [f"{activation} {ODDS[facts.parity]}"] if facts.parity in ODDS else []
    if activation in OWN:
        said.append(f"{activation} {OWN[activation]}")
    if facts.homogeneous:
        said.append(f"{activation} is homogeneous: neurons have scale twins, so the true sets are larger")
    if float(facts.function(jnp.zeros(()))) == 0.0:
        said.append(
            f"{activation} is 0 at 0: a neuron whose incoming weights and bias are 0 may send out anything, so the "
            "true sets are larger"
        )
    return said or [f"{activation} has none of the symmetries that are known to enlarge the sets"]


def _lines(result: dict[str, Any]) -> list[str]:
    words = [
        f"{name.replace('_', ' ')}: {value}" for name, value in result.items() if name not in ("remarks", "crossings")
    ]
    if "crossings" in result:
        words += [f"minimal width {r}: minima outnumber saddles from width {m}" for r, m in result["crossings"]]
    return [*words, *result["remarks"]]
