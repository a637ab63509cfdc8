"""How a result shows itself in a notebook: a small table, the verdict first, and one curve; nothing is drawn by others.

Colours are those of the page around it (currentColor), so that it reads in dark and in light.
"""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from saddlescope.printable import printable

# Size of the curve in pixels, and its most points.
WIDTH, HEIGHT, POINTS = 360, 90, 400


def card(verdict: str, rows: Mapping[str, Any], *, curve: Sequence[float] | None = None, name: str = "") -> str:
    """Return HTML: the verdict, a row for each fact, and where there are two or more finite numbers their curve.

    Args:
        verdict: what is to be read first, in words.
        rows: facts by name; numbers are shown with 8 digits.
        curve: heights from left to right, at equal steps.
        name: what the curve shows, in words.
    """
    body = "".join(
        f"<tr><th style='text-align:left'>{_text(key)}</th><td style='text-align:left'>{_text(_said(value))}</td></tr>"
        for key, value in rows.items()
    )
    drawn = "" if curve is None else _curve([float(value) for value in curve], name)
    return f"<div><p><strong>{_text(verdict)}</strong></p><table><tbody>{body}</tbody></table>{drawn}</div>"


def _text(value: Any) -> str:
    return html.escape(printable(value), quote=True)


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.8g}"
    if isinstance(value, tuple | list):
        return ", ".join(_said(part) for part in value)
    return "none" if value is None else str(value)


def _curve(values: list[float], name: str) -> str:
    """Return a line through the finite values, as SVG; numbers that are not finite are left out."""
    step = max(1, -(-len(values) // POINTS))
    picked = [(k, values[k]) for k in range(0, len(values), step) if math.isfinite(values[k])]
    if len(picked) < 2:
        return ""
    low, high = min(value for _, value in picked), max(value for _, value in picked)
    across, up = (WIDTH - 8) / max(1, picked[-1][0] - picked[0][0]), (HEIGHT - 8) / ((high - low) or 1.0)
    points = " ".join(
        f"{4 + (k - picked[0][0]) * across:.1f},{HEIGHT - 4 - (value - low) * up:.1f}" for k, value in picked
    )
    told = f"{name}, from {low:.3g} to {high:.3g}"
    return (
        f"<figure style='margin:0'><svg viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}' role='img' "
        f"aria-label='{_text(told)}'><polyline points='{points}' fill='none' stroke='currentColor' "
        f"stroke-width='1.5'/></svg><figcaption>{_text(told)}</figcaption></figure>"
    )
