"""Sections as one HTML file that needs no network: styles, program and numbers are inside it."""

import html
import json
from importlib.resources import files
from pathlib import Path as FilePath
from typing import Any

from saddlescope.files import write_file
from saddlescope.printable import printable

# Moves of a walk that are listed one by one.
MOVES = 2000

# A longer beginning of a line, before its colon, is no name.
NAME = 26

SPECTRUM = (
    "Eigenvalues on a scale that is linear near 0 and logarithmic beyond, each with its bound. Symmetric (blue): of "
    "the merged network. Antisymmetric (orange): added by the copy. Green rings (12 at most): zero for a reason that "
    "the certificate names. Purple: not split."
)

ARRIVED = (
    "0 to ¼: the two neurons approach; ¼ to ½: their outgoing weights become equal; then the mirrored way back. "
    "Circles: events. The large dot: the permutation point."
)
ENDED = "0 to ¼: the two neurons approach, as far as the path goes. Circles: events. There is no permutation point."

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def _text(value: Any) -> str:
    return html.escape(printable(value), quote=True)


def _embedded(value: Any) -> str:
    """Return JSON that cannot end the script element that holds it."""
    words = json.dumps(_seen(value), allow_nan=False, separators=(",", ":"))
    return words.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _seen(value: Any) -> Any:
    """Return numbers and words for the page's program, the words without characters that are not seen."""
    if isinstance(value, dict):
        return {printable(key): _seen(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_seen(item) for item in value]
    return printable(value) if isinstance(value, str) else value


def _facts(facts: dict[str, Any]) -> str:
    rows = []
    for group, values in facts.items():
        items = values.items() if isinstance(values, dict) else [("", values)]
        for key, value in items:
            label = f"{group}: {key}" if key else group
            rows.append(f"<tr><th scope='row'>{_text(label)}</th><td>{_text(value)}</td></tr>")
    return f"<table class='facts'><tbody>{''.join(rows)}</tbody></table>"


def _figure(kind: str, number: int, title: str, caption: str) -> str:
    return (
        f"<figure><h3>{_text(title)}</h3><div class='plot' data-figure='{kind}' data-section='{number}'></div>"
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _neuron_caption(found: dict[str, Any]) -> str:
    left = found["all"] - len(found["units"])
    rest = f" {left} of the {found['all']} neurons are not drawn." if left else ""
    if found["kind"] == "plane":
        return (
            "Each neuron's incoming weights as an arrow, and as a dashed line the inputs where w.x + b = 0 (it may lie "
            "outside); the pair in colour." + rest
        )
    return (
        "A projection: the two principal components of the layer's incoming vectors over the whole path, "
        f"{100 * found['share']:.0f} % of their variance. What looks close here need not be close." + rest
    )


def _head(section: dict[str, Any], number: int) -> str:
    """Return a section's beginning: its name, the verdict, the figures in words."""
    first, *others = section["lines"]
    return (
        f"<section id='run{number}' aria-labelledby='title{number}'>"
        f"<h2 id='title{number}'>{_text(section['title'])}</h2>"
        f"<p class='verdict {'good' if section['good'] else 'bad'}'>{_text(first)}</p>"
        f"{_listed(others)}"
    )


def _listed(lines: list[str]) -> str:
    """Return lines "name: value" as the rows of a table, a name that repeats written once; others stand alone."""
    rows, before, columns = [], None, "<colgroup><col class='name'><col></colgroup>"
    for line in lines:
        name, colon, value = line.strip().partition(": ")
        if not colon or len(name) > NAME:
            rows.append(f"<tr><td colspan='2'>{_text(line.strip())}</td></tr>")
            before = None
            continue
        rows.append(f"<tr><th scope='row'>{_text(name) if name != before else ''}</th><td>{_text(value)}</td></tr>")
        before = name
    return f"<table class='facts said'>{columns}<tbody>{''.join(rows)}</tbody></table>" if rows else ""


def _controls(number: int, last: int, symbol: str, what: str) -> str:
    return (
        f"<div class='controls'><button type='button' data-play='{number}'>Play</button>"
        f"<label>{symbol} <input type='range' min='0' max='{last}' value='0' step='1' data-slider='{number}' "
        f"aria-label='{_text(what)}'></label><output data-output='{number}'></output></div>"
    )


def _tail(section: dict[str, Any]) -> str:
    again = "".join(f"<li><code>{_text(command)}</code></li>" for command in section.get("commands", ()))
    how = f"<h3>Run it again</h3><ol class='again'>{again}</ol>" if again else ""
    facts = _facts(section["facts"])
    return f"{how}<details><summary>Settings, data, seed, versions</summary>{facts}</details></section>"


def _walk(section: dict[str, Any], number: int) -> str:
    """Return a walk's section."""
    found = section["walk"]
    left = f" {found['left']} further places are not drawn." if found["left"] else ""
    rows = "".join(f"<li>{_text(words)}</li>" for words in found["words"][:MOVES])
    more = len(found["words"]) - MOVES
    return "".join(
        [
            _head(section, number),
            _controls(number, len(found["frames"]) - 1, "segment", f"segment of the walk {section['title']}"),
            "<div class='grid'>",
            _figure(
                "walk",
                number,
                "What changes on each segment",
                "Largest change of the loss (dots) and largest gradient norm (line) on each segment; the dashed "
                "line is the tolerance below which a segment counts as critical. Zeros are drawn at the lower edge.",
            ),
            _figure(
                "places",
                number,
                "Which neuron is where",
                "Each place with the number of the neuron whose incoming vector it holds; an open place sends "
                "nothing. The two places of the move are ringed." + left,
            ),
            f"</div><details><summary>All moves</summary><ol>{rows}</ol>",
            f"<p>{more} further moves are in the file.</p>" if more > 0 else "",
            "</details>",
            _tail(section),
        ]
    )


def _certificate(section: dict[str, Any], number: int) -> str:
    """Return a certificate's section."""
    figure = _figure("spectrum", number, "Signs of the Hessian", SPECTRUM)
    return f"{_head(section, number)}<div class='grid'>{figure}</div>{_tail(section)}"


def _section(section: dict[str, Any], number: int) -> str:
    if section["kind"] != "path":
        return _walk(section, number) if section["kind"] == "walk" else _certificate(section, number)
    last = len(section["neurons"]["t"]) - 1
    parts = [
        _head(section, number),
        _controls(number, last, "t", f"position t on the path {section['title']}"),
        "<div class='grid'>",
        _figure(
            "loss",
            number,
            "Loss along the path",
            ARRIVED if section["curve"]["point"] else ENDED,
        ),
        _figure("neurons", number, "The layer's neurons", _neuron_caption(section["neurons"])),
        _figure(
            "residuals",
            number,
            "How well each point is settled",
            "Tangential gradient norm at each distance; the dashed line is the tolerance. Open circles missed it.",
        ),
    ]
    if section["curve"]["accuracy"] is not None:
        parts.append(_figure("accuracy", number, "Accuracy along the path", "Share of samples with the right label."))
    if section["spectrum"] is not None:
        parts.append(
            _figure(
                "spectrum",
                number,
                "Signs of the Hessian at the permutation point",
                SPECTRUM,
            )
        )
    if section["surface"] is not None:
        parts.append(
            _figure(
                "surface",
                number,
                "The merge surface",
                "Loss over the pair's difference and the share of its outgoing weights, all else as at the permutation "
                "point (large dot); heights are square roots of the loss above its lowest, the rim's numbers are "
                "losses. The path also moves all else, so it lies beside the surface; it is cut where it leaves "
                "the frame. Turn it by dragging, or with the "
                "arrow keys.",
            )
        )
    parts.append("</div><h3>Certificate</h3>")
    if section["certificate"]:
        head, *rest = section["certificate"]
        parts.append(f"<p class='verdict'>{_text(head)}</p>")
        parts.append(_listed(rest))
    else:
        parts.append(f"<p>None: {_text(section['without'])}</p>")
    parts.append(_tail(section))
    return "".join(parts)


def render(sections: list[dict[str, Any]], *, command: str, version: str) -> str:
    """Return the page.

    Args:
        sections: what `path_section` and `document_section` returned.
        command: how to make the page again.
        version: of this package.
    """
    here = files("saddlescope.report")
    style, program = (here.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    contents = ""
    if len(sections) > 1:
        links = "".join(
            f"<li><a href='#run{k}'>{_text(s['title'])}</a>: {_text(s['verdict'])}</li>" for k, s in enumerate(sections)
        )
        contents = f"<nav aria-label='contents'><ol>{links}</ol></nav>"
    title = _text(", ".join(str(section["title"]) for section in sections))
    body = "".join(_section(section, number) for number, section in enumerate(sections))
    keys = ("kind", "curve", "residuals", "neurons", "spectrum", "surface", "walk")
    drawn = [{key: section[key] for key in keys if key in section} for section in sections]
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{title}: saddlescope</title><style>{style}</style></head><body><main>"
        f"<h1>Weight-space symmetry</h1>{contents}{body}"
        f"<footer><p>saddlescope {_text(version)}. Made again by: <code>{_text(command)}</code></p></footer></main>"
        f"<script type='application/json' id='numbers'>{_embedded(drawn)}</script><script>{program}</script>"
        "</body></html>\n"
    )


def save_page(text: str, file: str | FilePath) -> None:
    """Write the page, whole or not at all.

    Raises:
        StorageError: the disk refused.
    """
    write_file(FilePath(file), text, "the page")
