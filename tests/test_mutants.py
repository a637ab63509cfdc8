"""The deliberate faults that tests of verdicts must notice are noticed; all others: `python tests/mutants/run.py`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "mutants" / "run.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants run in forks of one process")
def test_every_deliberate_fault_in_deciding_code_is_caught():
    done = subprocess.run([sys.executable, str(RUN), "--quick"], capture_output=True, text=True, timeout=300)
    rows = done.stdout.splitlines()
    assert len(rows) == 10, done.stderr
    assert [row for row in rows if ": caught by test_" not in row] == []
    assert done.returncode == 0
