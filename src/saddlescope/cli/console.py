"""How a command tells its answer to people: the verdict first, in words, then a table; colours on a terminal only."""

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from saddlescope.printable import printable

GOOD, BAD, DOUBT, SOFT, PLAIN = "32", "31", "33", "2", "0"
# Narrower than this a table's right column is not wrapped.
NARROWEST = 40

Rows = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Summary:
    """An answer in words: the verdict, why, rows of (name, value), and ``details`` for those who ask for more.

    ``good`` is None where the verdict is neither yes nor no.
    """

    verdict: str
    good: bool | None
    reasons: Sequence[str] = ()
    rows: Rows = ()
    details: Rows = ()

    def lines(self) -> list[str]:
        """Return the verdict, the reasons, and a line "name: value" for each row: what records and pages keep."""
        return [
            self.verdict,
            *(f"  because {reason}" for reason in self.reasons),
            *(f"{name}: {value}" for name, value in self.rows),
        ]


def coloured() -> bool:
    """Return whether standard error is a terminal that shows colours, and nobody has asked it not to (NO_COLOR)."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, code: str) -> str:
    """Return the text in a colour of ANSI's, plain where `coloured` says so."""
    return f"\x1b[{code}m{text}\x1b[0m" if coloured() else text


def shade(good: bool | None) -> str:
    """Return the colour of a verdict."""
    return f"1;{DOUBT if good is None else GOOD if good else BAD}"


def table(rows: Rows) -> list[str]:
    """Return rows as aligned lines; a name that repeats is written once; long values wrap on a terminal."""
    rows = [(printable(name), printable(value)) for name, value in rows]
    names = [name if k == 0 or rows[k - 1][0] != name else "" for k, (name, _) in enumerate(rows)]
    wide = max((len(name) for name, _ in rows), default=0)
    lines = []
    for name, (_, value) in zip(names, rows, strict=True):
        first, *others = _wrapped(value, wide + 4)
        lines.append(f"  {paint(name.ljust(wide), SOFT)}  {first}")
        lines.extend(" " * (wide + 4) + other for other in others)
    return lines


def _wrapped(text: str, taken: int) -> list[str]:
    """Return a text in lines that leave ``taken`` columns of the terminal free; one line where there is none."""
    room = shutil.get_terminal_size().columns - taken if sys.stderr.isatty() else 0
    return textwrap.wrap(text, room, break_on_hyphens=False) or [""] if room >= NARROWEST else [text]


def show(told: Summary, *, quiet: bool = False, verbose: bool = False) -> None:
    """Print an answer on standard error; with ``verbose`` its details, and what computed it."""
    if quiet:
        return
    lines = [paint(line, shade(told.good)) for line in _wrapped(printable(told.verdict), 0)]
    for reason in told.reasons:
        first, *others = _wrapped(printable(reason), len("  because "))
        lines += [f"  because {first}", *(" " * len("  because ") + other for other in others)]
    lines += table([*told.rows, *(told.details if verbose else ())])
    _print(lines)
    if verbose:
        show_versions()


def show_versions(*, quiet: bool = False, verbose: bool = True) -> None:
    """Print the versions of all that computes, where ``verbose`` asks for them."""
    if quiet or not verbose:
        return
    from saddlescope.records.provenance import versions

    _print(table([("versions", ", ".join(f"{name} {version}" for name, version in versions().items()))]))


def _print(lines: Iterable[str]) -> None:
    sys.stderr.write("".join(f"{line}\n" for line in lines))
