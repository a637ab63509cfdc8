"""What a page shows of a stored walk or certificate: the JSON documents that `walk --out` and `certify --out` write."""

import json
from pathlib import Path
from typing import Any

from saddlescope.errors import UNREADABLE, RecordError

# More segments or places than these are not stepped through one by one.
STEPS, PLACES = 600, 60


def read_document(file: str | Path) -> dict[str, Any]:
    """Return a stored walk or certificate.

    Raises:
        RecordError: the file cannot be read, or is neither.
    """
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
        kind = content.get("kind")
    except UNREADABLE as error:
        raise RecordError("this is not a readable result", name="file", value=file, expected="JSON") from error
    if kind not in ("walk", "certificate"):
        raise RecordError("this result has no page", name="kind", value=kind, expected="walk or certificate")
    return content


def document_section(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a walk or a certificate.

    Raises:
        RecordError: a field is missing or of the wrong form.
    """
    try:
        section = _walk(name, document) if document["kind"] == "walk" else _certificate(name, document)
        json.dumps(section, allow_nan=False)  # the page's program reads it as JSON, where NaN has no place
    except UNREADABLE as error:
        raise RecordError("a stored result is incomplete or damaged", name="field", value=error) from error
    return section


def _walk(name: str, found: dict[str, Any]) -> dict[str, Any]:
    moves = [(str(kind), int(neuron), int(to)) for kind, neuron, to in found["moves"]]
    critical = sum(bool(one) for one in found["critical"])
    order = ", ".join(map(str, found["permutation"][:PLACES]))
    frames = places(len(found["permutation"]), found["pair"], moves[:STEPS])
    words = [f"{kind} {neuron} to {to}" for kind, neuron, to in moves]
    return {
        "kind": "walk",
        "title": name,
        "verdict": "walk",
        "good": True,
        "lines": [
            f"{len(moves)} segments to the permutation {order}, at equal loss to within "
            f"{found['max_loss_deviation']:.1e}",
            f"loss: {found['loss']:.8g}",
            f"outputs: up to {found['largest_output']:.3g}, change by at most {found['max_output_deviation']:.1e}",
            f"critical: {critical} of {len(moves)} segments, with gradient norm at most {found['tolerance']:.1e} on "
            f"all {found['points']} points measured of each",
            f"gradient norm: at most {found['max_gradient_norm']:.1e}, at the start "
            f"{found['gradient_norm_at_start']:.1e}",
            f"at the start: layer {found['layer']}, twins {found['pair'][0]} and {found['pair'][1]}",
        ],
        "walk": {
            "deviations": [float(value) for value in found["loss_deviations"]],
            "norms": [float(value) for value in found["gradient_norms"]],
            "tolerance": float(found["tolerance"]),
            "words": words,
            "frames": [[labels[:PLACES], sends[:PLACES]] for labels, sends in frames],
            "left": max(0, len(found["permutation"]) - PLACES),
        },
        "facts": {"run": found["run"], "fingerprints": found["fingerprints"], "seconds": found["seconds"]},
    }


def places(count: int, pair: list[int], moves: list[tuple[str, int, int]]) -> list[tuple[list[int], list[bool]]]:
    """Return, before all moves and after each, whose incoming vector every place holds, and whether it sends anything.

    Neurons are named by their place at the start; of the pair, which is one vector there, the first name is used.
    """
    labels, sends = list(range(count)), [True] * count
    labels[pair[1]] = labels[pair[0]]
    frames = [(list(labels), list(sends))]
    for kind, neuron, to in moves:
        if kind == "walk":
            labels[neuron] = labels[to]
        elif kind == "transfer":
            sends[neuron], sends[to] = False, True
        else:
            sends[neuron] = sends[to] = True
        frames.append((list(labels), list(sends)))
    return frames


def _certificate(name: str, found: dict[str, Any]) -> dict[str, Any]:
    first, *others = found["words"]
    parts = [
        {
            "name": part["name"],
            "method": part["method"],
            "times": part["times"],
            "zero": part["inertia"]["zero"],
            "values": part["inertia"]["values"],
            "bounds": part["inertia"]["bounds"],
        }
        for part in found["parts"]
    ]
    return {
        "kind": "certificate",
        "title": name,
        "verdict": str(found["verdict"]),
        "good": found["verdict"] not in ("undecided", "not-critical"),
        "lines": [str(first), *map(str, others)],
        "spectrum": {"parts": parts, "index": found["index_range"], "nullity": found["nullity_range"]},
        "facts": {"fingerprints": found["fingerprints"], "evaluations": found["evaluations"]},
    }
