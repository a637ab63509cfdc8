"""The program ``saddlescope``: commands, exit codes, one line for a mistake.

Exit codes: 0 done; 1 done, but the answer is "no" or "undecided"; 2 the input or the environment is at fault;
130 interrupted.
"""

import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from cyclopts import App, CycloptsError

from saddlescope.cli.certify import certify
from saddlescope.cli.claims import claims
from saddlescope.cli.completion import add_completion
from saddlescope.cli.count import count
from saddlescope.cli.demo import demo
from saddlescope.cli.exchange import exchange
from saddlescope.cli.expand import expand
from saddlescope.cli.options import holding
from saddlescope.cli.path import path
from saddlescope.cli.programs import keep_programs, mended
from saddlescope.cli.reduce import reduce
from saddlescope.cli.report import report
from saddlescope.cli.reproduce import reproduce
from saddlescope.cli.shrink import shrink
from saddlescope.cli.study import study
from saddlescope.cli.symmetries import symmetries
from saddlescope.cli.train import train
from saddlescope.cli.walk import walk
from saddlescope.errors import SaddlescopeError
from saddlescope.printable import LINE, clipped, one_line


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
    science = (demo, train, symmetries, path, certify, walk, exchange, count, expand, reduce, shrink)
    for command in (*science, claims, reproduce, report, study):
        app.command(holding(command))
    add_completion(app)
    return app


def _tell(text: str) -> None:
    """Print an error: one line of bounded length, nothing in it that a terminal would obey."""
    sys.stderr.write(clipped(one_line(text), LINE) + "\n")


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
        _tell(f"error: {error}")
        return 2
    except Exception as error:
        if debug:
            raise
        whose = "" if isinstance(error, OSError | MemoryError) else " (a fault of saddlescope; --debug shows where)"
        _tell(f"error: {type(error).__name__}: {clipped(one_line(error), LINE // 2)}{whose}")
        return 2


def main() -> None:
    """Run the command line and leave with its exit code; SIGTERM interrupts it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with mended(keep_programs(os.environ)):
        code = run(sys.argv[1:])
    sys.exit(code)
