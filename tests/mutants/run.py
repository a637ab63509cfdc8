"""Run tests against mutants: `python tests/mutants/run.py [part of a path ...]`, or `--quick` for the few that CI runs.

A process that holds the libraries but nothing of ours is forked for every mutant; the fork imports the changed source
in place of the file, and runs the tests that belong to it. So nothing compiled, cached or imported can hide a change.
"""

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "saddlescope"
sys.path.insert(0, str(Path(__file__).parent))

from equivalent import EQUIVALENT  # noqa: E402
from mutate import Mutant, fault, mutants, sample  # noqa: E402
from targets import QUICK, TARGETS, Target  # noqa: E402

LIBRARIES = ("jax", "equinox", "optax", "diffrax", "xarray", "scipy.optimize", "scipy.sparse.linalg", "hypothesis")
ABOUT = (
    "One change at a time to code that decides or bounds something: all constants, of other code a sample (seed 0).",
    "`share`: caught, of those that mean anything else than the source. `python tests/mutants/run.py --table FILE`",
    "",
)
QUIET = ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")


class Ran(NamedTuple):
    """What the tests said: all passed, or the name of the first that did not ("time" beyond the limit)."""

    passed: bool
    by: str
    seconds: float


class _Changed(importlib.abc.MetaPathFinder):
    """Finds one module, and gives it another source than its file's."""

    def __init__(self, mutant: Mutant) -> None:
        self.name = "saddlescope." + mutant.path.removesuffix(".py").replace("/", ".")
        self.mutant = mutant

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != self.name:
            return None
        source = self.mutant.source

        class Loader(importlib.machinery.SourceFileLoader):
            def get_data(self, path: str) -> bytes:
                return source.encode()

            def path_stats(self, path: str) -> Any:
                raise OSError  # no stored bytecode is read or written

        where = str(PACKAGE / self.mutant.path)
        return importlib.util.spec_from_file_location(fullname, where, loader=Loader(fullname, where))


class _First:
    """A plugin that remembers the first test that failed."""

    name = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.name:
            self.name = report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and not self.name:
            self.name = f"import of {report.nodeid}"


def _child(mutant: Mutant | None, tests: Sequence[str], pipe: int) -> None:
    """Run the tests in this process, and never return."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    first, code = _First(), 99
    try:
        if mutant is not None:
            sys.meta_path.insert(0, _Changed(mutant))
        import pytest

        options = "-q -x --no-header -p no:cacheprovider -p no:xdist -o addopts= --import-mode=importlib"
        code = int(pytest.main([*options.split(), *QUIET, *tests], plugins=[first]))
    except BaseException as error:  # must not go on in the parent's code
        first.name = first.name or repr(error)
    finally:
        os.write(pipe, (first.name or f"pytest ended with {code}")[:500].encode())
        os._exit(code if 0 <= code < 100 else 99)


def run(mutant: Mutant | None, tests: Sequence[str], limit: float) -> Ran:
    """Run tests against a mutant (None: the source as it is) in a fork of this process."""
    began = time.perf_counter()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pid = os.fork()
    if pid == 0:
        os.close(reading)
        os.setpgid(0, 0)
        _child(mutant, tests, writing)
    os.close(writing)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        seconds = time.perf_counter() - began
        if done:
            break
        if seconds > limit:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(reading)
            return Ran(False, "time", seconds)
        time.sleep(0.02)
    said = os.read(reading, 1000).decode()
    os.close(reading)
    return Ran(os.waitstatus_to_exitcode(status) == 0, said, seconds)


def load() -> None:
    """Import the libraries once; nothing is computed, so that no thread runs when the process is forked."""
    for name in LIBRARIES:
        importlib.import_module(name)


def read(path: str) -> str:
    """Return the source of a module of the package."""
    return (PACKAGE / path).read_text(encoding="utf-8")


def row(mutant: Mutant, ran: Ran) -> str:
    """Return one line on a mutant."""
    told = "SURVIVED" if ran.passed else f"caught by {ran.by.split('::', 1)[-1]}"
    place = f"{mutant.path}:{mutant.line} {mutant.where}"
    return f"{place}: `{mutant.old}` -> `{mutant.new}`: {told} ({ran.seconds:.1f} s)"


class Count(NamedTuple):
    """The figures of one module."""

    path: str
    tried: int
    caught: int
    equivalent: int
    seconds: float


def measure(target: Target, most: int) -> tuple[Count, list[str]]:
    """Try the mutants of one module; return the figures, and a line for each that survived."""
    source = read(target.path)
    began = time.perf_counter()
    plain = run(None, target.tests, 600.0)
    if not plain.passed:
        raise SystemExit(f"the tests of {target.path} fail without any change: {plain.by}")
    found = mutants(target.path, source, frozenset(target.skip))
    if target.only:
        found = [one for one in found if one.where.split(".")[-1] in target.only]
    chosen = sample(found, most)
    equivalent, survived = 0, []
    for mutant in chosen:
        ran = run(mutant, target.tests, 10.0 + 4.0 * plain.seconds)
        line = row(mutant, ran)
        if ran.passed:
            why = EQUIVALENT.get(mutant.key)
            equivalent += why is not None
            line += f": {why}" if why else ""
            survived.append(line)
        print(line, flush=True)
    caught = len(chosen) - len(survived)
    return Count(target.path, len(chosen), caught, equivalent, time.perf_counter() - began), survived


def quick() -> list[str]:
    """Try the few deliberate faults that CI runs; return a line for each."""
    lines = []
    for path, old, new, test in QUICK:
        mutant = fault(path, read(path), old, new)
        lines.append(row(mutant, run(mutant, (test,), 60.0)))
        print(lines[-1], flush=True)
    return lines


def main() -> int:
    """Run what the command line asks for; 1 if a deliberate fault survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="parts of paths of modules; all modules without")
    parser.add_argument("--quick", action="store_true", help="only the deliberate faults that CI tries")
    parser.add_argument("--most", type=int, default=25, help="most mutants of a module; its constants always")
    parser.add_argument("--table", type=Path, help="a file for the table and the survivors")
    given = parser.parse_args()
    os.chdir(ROOT)
    load()
    if given.quick or not given.parts:
        escaped = [line for line in quick() if "SURVIVED" in line]
        if given.quick or escaped:
            return int(bool(escaped))
    known = stored(given.table) if given.table and given.table.is_file() else {}
    for target in TARGETS:
        if not given.parts or any(part in target.path for part in given.parts):
            known[target.path] = measure(target, given.most)
            if given.table:
                given.table.write_text(table(known), encoding="utf-8")
    print(table(known))
    return 0


def table(known: dict[str, tuple[Count, list[str]]]) -> str:
    """Return the figures of all modules, then the mutants that survived."""
    head = f"{'module':28}{'mutants':>9}{'caught':>8}{'equivalent':>12}{'open':>6}{'share':>8}{'seconds':>9}"
    found = [known[target.path] for target in TARGETS if target.path in known]
    counts = [count for count, _ in found]
    total = Count("all", *(sum(one[k] for one in counts) for k in range(1, 5)))  # type: ignore[arg-type]
    rows = []
    for one in (*counts, total):
        left, judged = one.tried - one.caught - one.equivalent, one.tried - one.equivalent
        share = 100.0 * one.caught / judged if judged else 100.0
        figures = f"{one.tried:9}{one.caught:8}{one.equivalent:12}{left:6}{share:7.1f}%{one.seconds:9.0f}"
        rows.append(f"{one.path:28}{figures}")
    survived = [line for _, lines in found for line in lines]
    return "\n".join([*ABOUT, head, *rows, "", "Survived:", *(survived or ["none"]), ""])


def stored(file: Path) -> dict[str, tuple[Count, list[str]]]:
    """Return the modules of an earlier table."""
    lines = file.read_text(encoding="utf-8").splitlines()
    known: dict[str, tuple[Count, list[str]]] = {}
    for line in lines:
        part = line.split()
        if len(part) == 7 and part[0].endswith(".py") and part[1].isdigit():
            mine = [one for one in lines if one.startswith(f"{part[0]}:")]
            tried, caught, equivalent = map(int, part[1:4])
            known[part[0]] = Count(part[0], tried, caught, equivalent, float(part[6])), mine
    return known


if __name__ == "__main__":
    sys.exit(main())
