"""What a page shows of a path: plain numbers and words, ready to be written as JSON.

A section is a dict with ``title``, ``verdict``, ``lines``, and what the figures draw: ``curve``, ``residuals``,
``neurons``, ``spectrum``. A figure that cannot be drawn is None.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from saddlescope.critical.result import Certificate
from saddlescope.paths.mirror import position
from saddlescope.paths.result import Path
from saddlescope.workflows.exchange_spectrum import Parity
from saddlescope.workflows.merge_surface import Surface

# Positions of the slider, and neurons drawn at most: the pair first.
FRAMES, DRAWN = 121, 40


def _number(value: Any) -> float | None:
    """Return a float that JSON can hold; None for NaN and infinity."""
    number = float(value)
    return number if math.isfinite(number) else None


def _row(values: Any) -> list[float | None]:
    return [_number(value) for value in np.asarray(values, dtype=float)]


def curve(path: Path) -> dict[str, Any]:
    """Return the loss along gamma(t): nodes of the first half, the transfer, and the mirrored half."""
    times, losses = list(path.times), list(path.losses)
    accuracies = None if path.accuracies is None else list(path.accuracies)
    point = path.permutation_point
    if point is not None:
        times = [*times, 0.5, *(1.0 - time for time in reversed(path.times))]
        losses = [*losses, point.loss, *reversed(path.losses)]
        if accuracies is not None:
            middle = accuracies[-1] if point.accuracy is None else point.accuracy
            accuracies = [*accuracies, middle, *reversed(accuracies)]
    events = [
        {
            "t": float(path.times[event.node]),
            "loss": _number(event.loss),
            "kind": event.kind.value,
            "detail": event.detail,
        }
        for event in path.events
    ]
    return {
        "t": _row(times),
        "loss": _row(losses),
        "accuracy": None if accuracies is None else _row(accuracies),
        "events": events,
        "point": None if point is None else {"t": 0.5, "loss": float(point.loss)},
        "barrier": _number(path.barrier),
    }


def residuals(path: Path) -> dict[str, Any]:
    """Return the tangential gradient norms at the distances asked for."""
    asked = path.kinds == "asked"
    return {
        "distance": _row(path.distances[asked]),
        "residual": _row(path.gradient_norms[asked]),
        "converged": [bool(value) for value in path.converged[asked]],
        "tolerance": float(path.tolerance),
    }


def neurons(path: Path) -> dict[str, Any]:
    """Return the layer's neurons at every position of the slider: directions and lines, or a projection, named as one.

    With two inputs (layer 1 of a network with biases or without) these are the incoming weights and the lines
    w.x + b = 0; else the two principal components of all incoming vectors met on the path.
    """
    last = 1.0 if path.permutation_point is not None else 0.25
    times = np.linspace(0.0, last, FRAMES)
    frames = np.stack([path.neurons.incoming_vectors(position(path, float(t))) for t in times])
    count = frames.shape[1]
    others = [unit for unit in range(count) if unit not in path.pair]
    shown = [*path.pair, *others][:DRAWN]
    frames = frames[:, shown]
    widths = path.problem.get("widths")
    inputs = int(widths[0]) if isinstance(widths, list | tuple) else 0
    plane = path.layer == 1 and inputs == 2 and frames.shape[2] in (2, 3)
    share = None
    if plane:
        points = frames[:, :, :2]
        offsets = frames[:, :, 2] if frames.shape[2] > 2 else np.zeros(frames.shape[:2])
    else:
        flat = frames.reshape(-1, frames.shape[2])
        centred = flat - flat.mean(axis=0)
        _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
        total = float(np.sum(lengths**2))
        share = float(np.sum(lengths[:2] ** 2)) / total if total > 0 else 1.0
        two = directions[:2] if len(directions) > 1 else np.concatenate([directions, np.zeros_like(directions)])
        points, offsets = (centred @ two.T).reshape(*frames.shape[:2], 2), None
    return {
        "t": _row(times),
        "kind": "plane" if plane else "projection",
        "share": share,
        "units": [int(unit) for unit in shown],
        "all": int(count),
        "pair": [int(unit) for unit in path.pair],
        "points": np.round(points, 6).tolist(),
        "offsets": None if offsets is None else np.round(offsets, 6).tolist(),
    }


def spectrum(certificate: Certificate, parity: Parity | None = None) -> dict[str, Any]:
    """Return the eigenvalues that the certificate rests on, block by block, with their bounds.

    With a ``parity`` a certificate of one block (a penalised loss) is shown in the two parts of the same matrix.
    """
    if parity is not None and [part.name for part in certificate.parts] == ["all"]:
        method = "dense, split by the exchange"
        halves = {"symmetric": parity.symmetric, "antisymmetric": parity.antisymmetric}
        rows = [
            {
                "name": name,
                "method": method,
                "times": 1,
                "zero": 0,
                "values": _row(half.values),
                "bounds": _row(half.bounds),
            }
            for name, half in halves.items()
        ]
        return {"parts": rows, "flat": [], "index": certificate.index_range, "nullity": certificate.nullity_range}
    rows = [
        {
            "name": part.name,
            "method": part.method,
            "times": part.times,
            "zero": part.inertia.zero,
            "values": _row(part.inertia.values),
            "bounds": _row(part.inertia.bounds),
        }
        for part in certificate.parts
    ]
    flat = [{"kind": flat.kind, "count": flat.count, "why": flat.why} for flat in certificate.flat]
    return {"parts": rows, "flat": flat, "index": certificate.index_range, "nullity": certificate.nullity_range}


def merge_surface_numbers(found: Surface) -> dict[str, Any]:
    """Return the merge surface's heights and the pieces of the path that lie above its frame.

    ``outside``: how many of the path's nodes do not; ``point``: the loss at the permutation point.
    """
    box = np.array([[found.differences[0], found.shares[0]], [found.differences[-1], found.shares[-1]]])
    inside = np.all((found.trace[:, :2] >= box[0]) & (found.trace[:, :2] <= box[1]), axis=1)
    return {
        "x": _row(found.differences),
        "y": _row(found.shares),
        "losses": [_row(row) for row in found.losses],
        "trace": [[_row(row) for row in piece] for piece in clipped(found.trace, box)],
        "point": _number(found.trace[-1, 2]),
        "nodes": len(found.trace),
        "outside": int(np.sum(~inside)),
    }


def clipped(rows: np.ndarray, box: np.ndarray) -> list[np.ndarray]:
    """Return the pieces of a polyline whose first two coordinates lie in a box (low, high), cut at its edges."""
    pieces: list[list[np.ndarray]] = []
    for one, other in itertools.pairwise(rows):
        start, end = _within(one[:2], other[:2], box)
        if start > end:
            continue
        first, last = one + start * (other - one), one + end * (other - one)
        if pieces and start == 0.0 and np.array_equal(pieces[-1][-1], first):
            pieces[-1].append(last)
        else:
            pieces.append([first, last])
    return [np.array(piece) for piece in pieces]


def _within(one: np.ndarray, other: np.ndarray, box: np.ndarray) -> tuple[float, float]:
    """Return between which shares of the way from one to the other a segment is inside; the first larger if nowhere."""
    start, end = 0.0, 1.0
    for at, step, low, high in zip(one, other - one, box[0], box[1], strict=True):
        if step == 0.0:
            if not low <= at <= high:
                return 1.0, 0.0
            continue
        near, far = sorted(((low - at) / step, (high - at) / step))
        start, end = max(start, near), min(end, far)
    return float(start), float(end)


def path_section(
    name: str,
    path: Path,
    lines: Sequence[str],
    *,
    certificate: Certificate | None = None,
    surface: Surface | None = None,
    parity: Parity | None = None,
    certificate_lines: Sequence[str] = (),
    without: str = "",
    commands: Sequence[str] = (),
) -> dict[str, Any]:
    """Return all that a page shows of one stored path.

    Args:
        name: the run's name.
        path: the path.
        lines: its summary, the verdict first.
        certificate: of its permutation point.
        surface: the merge surface around it.
        parity: the Hessian there, split by the exchange.
        certificate_lines: the certificate in words.
        without: why there is no certificate, in words.
        commands: what makes the path again.
    """
    settings = {key: getattr(path.settings, key) for key in path.settings.__dataclass_fields__}
    return {
        "kind": "path",
        "title": name,
        "verdict": str(path.ending.value),
        "good": path.permutation_point is not None,
        "lines": list(lines),
        "curve": curve(path),
        "residuals": residuals(path),
        "neurons": neurons(path),
        "spectrum": None if certificate is None else spectrum(certificate, parity),
        "surface": None if surface is None else merge_surface_numbers(surface),
        "certificate": list(certificate_lines),
        "without": without,
        "commands": list(commands),
        "facts": {
            "settings": settings,
            "problem": dict(path.problem),
            "fingerprints": dict(path.fingerprints),
            "versions": dict(path.versions),
            "seconds": path.seconds,
        },
    }
