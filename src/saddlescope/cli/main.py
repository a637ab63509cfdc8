"""The program ``saddlescope``: commands, exit codes, one line for a mistake.

Exit codes: 0 done; 1 done, but the answer is "no" or "undecided"; 2 the input or the environment is at fault;
130 interrupted.
"""

import os
import signal
import sys
from collections.abc import MutableMapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cyclopts import App, CycloptsError

from saddlescope.cli.certify import certify
from saddlescope.cli.claims import claims
from saddlescope.cli.completion import add_completion
from saddlescope.cli.count import count
from saddlescope.cli.demo import demo
from saddlescope.cli.expand import expand
from saddlescope.cli.options import holding
from saddlescope.cli.path import path
from saddlescope.cli.reduce import reduce
from saddlescope.cli.report import report
from saddlescope.cli.reproduce import reproduce
from saddlescope.cli.shrink import shrink
from saddlescope.cli.study import study
from saddlescope.cli.train import train
from saddlescope.cli.walk import walk
from saddlescope.errors import SaddlescopeError


def _version() -> str:
    try:
        return version("saddlescope")
    except PackageNotFoundError:
        return "unknown"


def build() -> App:
    """Return the application with its commands."""
    app = App(
        name="saddlescope",
        help="An instrument for the weight-space symmetry of neural networks: permutation paths between equal minima.",
        version=_version,
        help_epilogue="Exit codes: 0 done; 1 done, but the answer is no or undecided; 2 a mistake in the input or the "
        "environment, told in one line (--debug shows where it arose); 130 interrupted.",
        help_on_error=False,
        suppress_keyboard_interrupt=False,
    )
    science = (demo, train, path, certify, walk, count, expand, reduce, shrink)
    for command in (*science, claims, reproduce, report, study):
        app.command(holding(command))
    add_completion(app)
    return app


def _one_line(text: str) -> str:
    return " ".join(str(text).split())


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; a mistake is one line on standard error."""
    words = [word for word in arguments if word != "--debug"]
    debug = len(words) < len(arguments)
    try:
        code = build()(words, exit_on_error=False, print_error=False, result_action="return_value")
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except (SaddlescopeError, CycloptsError) as error:
        if debug:
            raise
        sys.stderr.write(f"error: {_one_line(str(error))}\n")
        return 2
    except Exception as error:
        if debug:
            raise
        whose = "" if isinstance(error, OSError | MemoryError) else " (a fault of saddlescope; --debug shows where)"
        sys.stderr.write(f"error: {type(error).__name__}: {_one_line(str(error))}{whose}\n")
        return 2


def keep_programs(environment: MutableMapping[str, str]) -> None:
    """Let JAX keep compiled programs between runs of this program, unless the user has decided otherwise.

    They lie in ``$XDG_CACHE_HOME/saddlescope`` (by default ``~/.cache/saddlescope``), 1 GB of them at most; a folder
    named in JAX_COMPILATION_CACHE_DIR is taken instead, and an empty name keeps nothing. Only the command line does
    this: ``import saddlescope`` changes no setting. Words are set before JAX is imported, which reads them then.
    """
    folder = Path(environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "saddlescope"
    if "JAX_COMPILATION_CACHE_DIR" in environment or not folder.is_absolute():
        return
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        return  # JAX would complain of every program that it cannot write
    environment["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    environment.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(10**9))


def main() -> None:
    """Run the command line and leave with its exit code; SIGTERM interrupts it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    keep_programs(os.environ)
    sys.exit(run(sys.argv[1:]))
