"""Share of students that reach zero loss, by width and activation."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from scipy.stats import binomtest


def draw_shares(runs: Sequence[Mapping[str, Any]], *, zero: float = 1e-10) -> Figure:
    """Draw the share of seeds that end at zero loss against the width, with 95% Clopper-Pearson intervals.

    Args:
        runs: records of `study.overparameterised.measure`.
        zero: largest loss that counts as zero.
    """
    figure = Figure(figsize=(5.0, 3.4), layout="constrained")
    axes = figure.add_subplot()
    widths = sorted({run["width"] for run in runs})
    names = sorted({run["activation"] for run in runs})
    for k, (name, marker) in enumerate(zip(names, "osD^v"[: len(names)], strict=True)):
        own = sorted((run for run in runs if run["activation"] == name), key=lambda run: run["width"])
        zeros = [sum(student["loss"] <= zero for student in run["students"]) for run in own]
        totals = [len(run["students"]) for run in own]
        shares = [zero / total for zero, total in zip(zeros, totals, strict=True)]
        bounds = [binomtest(zero, total).proportion_ci() for zero, total in zip(zeros, totals, strict=True)]
        low = [share - bound.low for share, bound in zip(shares, bounds, strict=True)]
        high = [bound.high - share for share, bound in zip(shares, bounds, strict=True)]
        places = [widths.index(run["width"]) + 0.1 * (k - (len(names) - 1) / 2) for run in own]
        axes.errorbar(places, shares, yerr=[low, high], fmt=marker, capsize=3, label=name)
    axes.set_xticks(range(len(widths)), [str(width) for width in widths])
    axes.set_xlabel("width of the student (teacher: 4)")
    axes.set_ylabel(f"share of seeds with loss up to {zero:g}")
    axes.set_ylim(0.0, 1.05)
    axes.legend(loc="lower right", title="activation")
    return figure
