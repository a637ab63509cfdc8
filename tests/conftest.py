"""Settings for all tests: no deadline for hypothesis (compilation is slow), the data folder, small shared networks."""

import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile("house", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.load_profile("house")

_DATA = Path(os.environ.get("SADDLESCOPE_DATA", Path(__file__).parents[2] / "shared" / "data"))


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
