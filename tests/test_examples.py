"""The numbered example scripts run, each as its head says."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import saddlescope

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.glob("[0-9]*.py"))


def test_scripts_are_numbered_from_one():
    assert [script.name[:2] for script in SCRIPTS] == [f"{k + 1:02d}" for k in range(len(SCRIPTS))]
    assert SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_runs(script, tmp_path):
    text = script.read_text("utf-8")
    assert f"Run it: python examples/{script.name}" in text
    absent = [name for name in re.findall(r"^import (\w+)", text, re.M) if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"needs {', '.join(absent)}")
    source = Path(saddlescope.__file__).parent.parent  # the code under test, not another
    seen = {**os.environ, "PYTHONPATH": str(source)}
    ran = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=seen, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "layer 1: " in ran.stdout
    assert list(tmp_path.iterdir()) == []
