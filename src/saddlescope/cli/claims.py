"""saddlescope claims: the papers' statements, tried on random networks, with counterexamples."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlescope.cli.console import BAD, DOUBT, GOOD, paint, show_versions
from saddlescope.cli.options import print_json, say
from saddlescope.cli.progress import progress_bar
from saddlescope.errors import SettingsError

if TYPE_CHECKING:
    from saddlescope.papers.claims import Verdict

COLOURS = {"holds": GOOD, "holds when": DOUBT, "fails": BAD, "undecided": DOUBT}


def claims(
    *,
    only: str | None = None,
    samples: int = 120,
    seed: int = 0,
    out: Path | None = None,
    recheck: Path | None = None,
    overwrite: bool = False,
    json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Try the papers' statements on many random networks: holds, holds when, fails; with counterexamples.

    That a statement holds in all cases tried proves nothing of others; each says what it was tried on, and on how many
    distinct cases. One counterexample refutes it. With --out, a
    counterexample to each statement that failed is written as weights, data and a JSON file; --recheck judges one again
    from its files alone (exit code 1 if it refutes the statement no longer).

    Example: saddlescope claims --only zero-eigenvalues,plane-is-critical --out counterexamples

    Parameters
    ----------
    only
        Names of statements, separated by commas; by default all.
    samples
        Random cases per statement, each counted once; those that need whole paths get a tenth.
    seed
        Another seed gives other cases.
    out
        Folder for the counterexamples.
    recheck
        A counterexample's folder, to be judged again.
    overwrite
        Replace an earlier folder of counterexamples; nothing else is ever replaced.
    json
        Print one JSON document.
    quiet
        Print nothing but errors.
    verbose
        Print also what the answer rests on: settings, versions, every step.
    """
    if recheck is not None:
        if out is not None or only is not None:
            raise SettingsError(
                "--recheck judges what lies in files",
                name="options",
                value="--out or --only",
                expected="--recheck alone",
            )
        return _recheck(recheck, json=json, quiet=quiet)
    from saddlescope.papers.claims import run_claims
    from saddlescope.papers.counterexamples import check_free, save_counterexamples

    if out is not None:
        check_free(out, overwrite=overwrite)
    names = tuple(only.split(",")) if only else ()
    with progress_bar(quiet=quiet or json, verbose=verbose) as progress:
        verdicts = run_claims(samples=samples, seed=seed, only=names, progress=progress)
    places = [] if out is None else save_counterexamples(out, verdicts, overwrite=overwrite)
    if json:
        print_json({"samples": samples, "seed": seed, "statements": [_row(verdict) for verdict in verdicts]})
    for verdict in verdicts:
        for line in _lines(verdict):
            say(line, quiet=quiet or json)
    for place in places:
        say(f"counterexample: {place}", quiet=quiet or json)
    show_versions(quiet=quiet or json, verbose=verbose)
    return 0


def _row(verdict: "Verdict") -> dict[str, Any]:
    statement = verdict.statement
    return {
        "name": statement.name,
        "source": statement.source,
        "statement": statement.words,
        "verdict": verdict.verdict,
        "held": verdict.held,
        "failed": verdict.failed,
        "undecided": verdict.undecided,
        "not_applicable": verdict.silent,
        "distinct_cases": verdict.distinct,
        "repeats": verdict.repeats,
        "population": statement.population,
        "holds_when": [{"label": label, "value": value, "cases": cases} for label, value, cases in verdict.conditions],
        "counterexample": verdict.numbers or None,
        "counterexample_seed": None if verdict.counterexample is None else verdict.counterexample.seed,
    }


def _lines(verdict: "Verdict") -> list[str]:
    statement = verdict.statement
    counts = f"held {verdict.held}, failed {verdict.failed}, undecided {verdict.undecided}; {verdict.distinct} distinct"
    lines = [
        f"{paint(verdict.verdict.upper().ljust(11), COLOURS[verdict.verdict])} {statement.name}  ({counts})",
        f"{'':11} {statement.source}: {statement.words}",
        f"{'':11} tried on: {statement.population}",
    ]
    if verdict.conditions:
        conditions = "; ".join(f"{label} = {value} ({cases} cases)" for label, value, cases in verdict.conditions)
        lines.append(f"{'':11} no counterexample among these when {conditions}")
    if verdict.counterexample is not None:
        case = verdict.counterexample
        network = f"{'-'.join(map(str, case.widths))} {case.activation}: " if case.widths else ""
        numbers = ", ".join(f"{name} {_short(value)}" for name, value in verdict.numbers.items())
        lines.append(f"{'':11} counterexample, seed {case.seed}: {network}{numbers}")
    return lines


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _recheck(folder: Path, *, json: bool, quiet: bool) -> int:
    from saddlescope.papers.counterexamples import recheck

    record, found = recheck(folder)
    refutes = found is not None and found.holds is False
    numbers = {} if found is None else found.numbers
    if json:
        print_json(
            {"statement": record["statement"], "refutes": refutes, "numbers": numbers, "stored": record["numbers"]}
        )
    word = "still refuted" if refutes else "NOT refuted by these files"
    say(f"{record['statement']}: {word}", quiet=quiet or json)
    say(f"  {record['source']}: {record['words']}", quiet=quiet or json)
    say("  " + ", ".join(f"{name} {_short(value)}" for name, value in numbers.items()), quiet=quiet or json)
    return 0 if refutes else 1
