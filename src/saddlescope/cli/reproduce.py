"""saddlescope reproduce: an experiment of the papers, with figure, data, and whether they agree."""

from pathlib import Path

from saddlescope.cli.console import BAD, DOUBT, GOOD, paint, show_versions
from saddlescope.cli.options import print_json, say
from saddlescope.cli.progress import progress_bar
from saddlescope.errors import SettingsError

COLOURS = {"yes": GOOD, "no": BAD}


def reproduce(
    name: str,
    *,
    quick: bool = False,
    out: Path | None = None,
    workers: int = 1,
    overwrite: bool = False,
    json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Run an experiment of the papers: a figure, the data behind it, what they say, what was measured.

    Interrupt it whenever you like: what is finished is kept, and the same command goes on. Exit code 1: done, but
    paper and measurement do not agree everywhere.

    Example: saddlescope reproduce toy-paths --quick --out toy

    Parameters
    ----------
    name
        The experiment, or list for their names.
    quick
        Smaller, a minute or so; the figure says so.
    out
        The folder to write into, or to go on in; by default reproduce-NAME.
    workers
        Number of processes.
    overwrite
        Compute a finished reproduction anew; it stays until the new one is whole.
    json
        Print one JSON document.
    quiet
        Print nothing but errors.
    verbose
        Print also what the answer rests on: settings, versions, every step.
    """
    if name == "list":
        return _list(json=json, quiet=quiet)
    if workers < 1:
        raise SettingsError("not a number of processes", name="workers", value=workers, expected="1 or more")
    from saddlescope.papers.reproduce import reproduce as run

    folder = out or Path(f"reproduce-{name}")
    command = f"saddlescope reproduce {name}{' --quick' if quick else ''}"
    with progress_bar(quiet=quiet or json, verbose=verbose) as progress:
        found = run(
            name,
            folder,
            size="quick" if quick else "full",
            workers=workers,
            overwrite=overwrite,
            command=command,
            progress=progress,
        )
    rows = [{"claim": one.claim, "measured": one.measured, "agrees": one.agrees} for one in found.judgements]
    if json:
        files = [str(file) for file in found.files]
        print_json({"name": name, "size": found.size, "done": found.done, "judgements": rows, "files": files})
    for row in rows:
        word = paint(row["agrees"].upper().ljust(9), COLOURS.get(row["agrees"], DOUBT))
        say(f"{word} {row['claim']}: {row['measured']}", quiet=quiet or json)
    say(f"written to {folder}", quiet=quiet or json)
    show_versions(quiet=quiet or json, verbose=verbose)
    return 0 if all(row["agrees"] == "yes" for row in rows) else 1


def _list(*, json: bool, quiet: bool) -> int:
    from saddlescope.papers.catalogue import CATALOGUE, find

    rows = [{"name": name, "title": find(name)[0].title, "source": find(name)[0].source} for name in CATALOGUE]
    if json:
        print_json({"experiments": rows})
    for row in rows:
        say(f"{row['name']:28} {row['title']} ({row['source']})", quiet=quiet or json)
    return 0
