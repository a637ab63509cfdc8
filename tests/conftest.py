"""Settings for all tests: no deadline for hypothesis (compilation is slow), the data folder, small shared networks."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # programs serve all files and both processes, which inherit this
    _PROGRAMS = tempfile.mkdtemp(prefix="saddlescope-programs-")
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": _PROGRAMS,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    atexit.register(shutil.rmtree, _PROGRAMS, ignore_errors=True)

import jax
import jaxtyping
import numpy as np
import pytest

hypothesis.settings.register_profile("house", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.load_profile("house")

_DATA = Path(os.environ.get("SADDLESCOPE_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="module", autouse=True)
def forget_programs() -> Iterator[None]:
    """Let go of a file's compiled programs: each maps memory, and a process may hold only so many maps (65 530)."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The folder of the original MNIST files; tests that need it are skipped without it."""
    folder = _DATA / "mnist"
    if not (folder / "train-images-idx3-ubyte.gz").is_file():
        pytest.skip(f"MNIST's original files are not in {folder}; set SADDLESCOPE_DATA")
    return folder


@pytest.fixture
def generator() -> np.random.Generator:
    """Random numbers, the same every time."""
    return np.random.default_rng(0)


@pytest.fixture
def stand_ins() -> Iterator[None]:
    """Let a test of one rule hand over stand-ins of other types than the rule's own."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
