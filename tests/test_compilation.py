"""Programs are compiled once per shape: counted by JAX's own events, never by time."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import pytest

from saddlescope.cli.programs import keep_programs, mended
from saddlescope.critical.certify import certify
from saddlescope.data.data import Data
from saddlescope.data.sources import toy, toy_teacher
from saddlescope.models.mlp import MLP
from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.problem.problem import Problem
from saddlescope.training.train import train

COMPILED: list[str] = []


def _count(event: str, seconds: float, **_: object) -> None:
    del seconds
    if event.endswith("backend_compile_duration"):
        COMPILED.append(event)


jax.monitoring.register_event_duration_secs_listener(_count)


@contextmanager
def compilations() -> Iterator[list[str]]:
    COMPILED.clear()
    yield COMPILED


def follow(seed: int, pair: tuple[int, int], layer: int = 1, **settings):
    network, teacher = toy_teacher("tanh", seed)
    problem = Problem(network, toy("tanh", seed))
    options = PathSettings(**{"steps": 6, "reach": 0.1, **settings})
    return problem, find_path(problem, teacher, layer=layer, pair=pair, settings=options)


@pytest.fixture(scope="module")
def first():
    """One whole path with its certificate: all programs of this shape are compiled after it."""
    problem, path = follow(0, (3, 4), steps=20, reach=1e-4)
    assert path.permutation_point is not None
    certify(problem, path.permutation_point)
    return problem, path


def test_the_counter_sees_a_compilation():
    with compilations() as seen:
        jax.jit(lambda x: x * 3.0 + 1.25)(1.0)
    assert len(seen) >= 1


@pytest.mark.parametrize(
    ("seed", "pair", "settings"),
    [(0, (2, 3), {}), (0, (0, 1), {"steps": 11}), (1, (3, 4), {}), (0, (3, 4), {"reach": 0.3, "tolerance": 1e-9})],
    ids=["another pair", "another number of distances", "another teacher and data", "another reach and tolerance"],
)
def test_equal_shapes_compile_nothing_anew(first, seed, pair, settings):
    with compilations() as seen:
        follow(seed, pair, **settings)
    assert len(seen) == 0


def test_a_certificate_of_an_equal_shape_compiles_nothing_anew(first):
    problem, path = first
    with compilations() as seen:
        certify(problem, path.permutation_point)
    assert len(seen) == 0


def test_a_layer_of_equal_shape_compiles_nothing_anew(generator):
    network = MLP((4, 4, 4, 4), "tanh")
    x = generator.normal(size=(50, 4))
    problem = Problem(network, Data(x, generator.normal(size=(50, 4))))
    start = train(problem, adam_steps=50, max_newton=5).parameters
    settings = PathSettings(steps=4, reach=0.5, max_iterations=8, polish=False)
    find_path(problem, start, layer=1, pair=(0, 1), settings=settings)
    with compilations() as seen:
        find_path(problem, start, layer=2, pair=(0, 1), settings=settings)
    assert len(seen) == 0


def test_the_command_line_keeps_programs_unless_told_otherwise(tmp_path):
    fresh = {"XDG_CACHE_HOME": str(tmp_path)}
    keep_programs(fresh)
    assert fresh["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "saddlescope")
    told = {"JAX_COMPILATION_CACHE_DIR": "", "XDG_CACHE_HOME": str(tmp_path)}
    keep_programs(told)
    assert told == {"JAX_COMPILATION_CACHE_DIR": "", "XDG_CACHE_HOME": str(tmp_path)}


def test_a_second_run_of_the_program_reads_compiled_programs_instead_of_compiling(tmp_path):
    words = ["train", "--widths", "2,3,1", "--activation", "tanh", "--data", "toy", "--adam-steps", "3", "--quiet"]
    program = (
        "import sys, os; from saddlescope.cli.main import keep_programs, run; keep_programs(os.environ)\n"
        "import jax; seen = []\n"
        "jax.monitoring.register_event_listener(lambda name, **_: seen.append(name))\n"
        "run(sys.argv[1:]); print(seen.count('/jax/compilation_cache/cache_misses'))\n"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    misses = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()  # the file keeps its command, so that only equal commands write equal bytes
        command = [sys.executable, "-c", program, *words, "--out", "net.safetensors"]
        options = {"capture_output": True, "text": True, "timeout": 300, "env": environment, "cwd": tmp_path / name}
        done = subprocess.run(command, **options)
        assert (tmp_path / name / "net.safetensors").is_file(), done.stderr
        assert done.stderr == ""
        misses.append(int(done.stdout.splitlines()[-1]))
    assert misses[0] > 3
    assert misses[1] == 0
    assert (tmp_path / "one" / "net.safetensors").read_bytes() == (tmp_path / "two" / "net.safetensors").read_bytes()


def test_nothing_is_kept_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    environment = {"XDG_CACHE_HOME": str(tmp_path / "file")}
    keep_programs(environment)
    assert "JAX_COMPILATION_CACHE_DIR" not in environment


def _entry(folder, name, program=b"x", time=b"12345678"):
    for ending, content in (("cache", program), ("atime", time)):
        if content is not None:
            (folder / f"{name}-{ending}").write_bytes(content)


def test_half_written_entries_are_removed_and_whole_ones_stay(tmp_path):
    _entry(tmp_path, "whole")
    _entry(tmp_path, "no-time", time=None)
    _entry(tmp_path, "empty", program=b"")
    _entry(tmp_path, "no-program", program=None)
    (tmp_path / "data").write_text("not JAX's")
    with mended(tmp_path):
        assert {file.name for file in tmp_path.iterdir()} - {".lockfile"} == {"whole-cache", "whole-atime", "data"}
    with mended(tmp_path / "none"), mended(None):
        pass


def test_a_locked_folder_is_left_to_the_next_run(tmp_path, monkeypatch):
    from filelock import FileLock

    monkeypatch.setattr("saddlescope.cli.programs._PATIENCE", 0.1)
    _entry(tmp_path, "half", time=None)
    with FileLock(tmp_path / ".lockfile"), mended(tmp_path):
        assert (tmp_path / "half-cache").exists()


def _complain(folder):
    with mended(folder):
        warnings.warn("Error reading persistent compilation cache entry for 'jit_f': ...", UserWarning, stacklevel=1)
        warnings.warn("of the user", UserWarning, stacklevel=1)


def test_after_a_complaint_of_jax_the_folder_is_emptied_and_other_warnings_pass(tmp_path):
    _entry(tmp_path, "damaged")
    with pytest.warns(UserWarning, match="of the user") as seen:
        _complain(tmp_path)
    assert len(seen) == 1
    assert {file.name for file in tmp_path.iterdir()} <= {".lockfile"}


FIRST_PATH = """
import jax
seen = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: seen.append(event) if event.endswith("backend_compile_duration") else None
)
import saddlescope as ss
network, teacher = ss.data.toy_teacher("tanh", 0)
problem = ss.Problem(network, ss.data.toy("tanh", 0))
path = ss.find_path(problem, teacher, layer=1, pair=(3, 4), settings=ss.PathSettings(steps=4, solver="krylov"))
print(len(seen), path.ending.value)
"""


def test_a_first_path_compiles_few_programs():
    """Operations that run by themselves are programs too: 278 on a first path before they were joined."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "JAX_ENABLE_COMPILATION_CACHE": "false"}
    out = subprocess.run(
        [sys.executable, "-c", FIRST_PATH], env=environment, capture_output=True, text=True, check=True, timeout=600
    ).stdout
    assert 10 <= int(out.split()[0]) <= 60, out
