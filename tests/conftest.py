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


# Further cases of claims whose other cases always run: half a minute each on two cores. They run by `pytest -m slow`.
SLOW = (
    "test_exchanges.py::test_the_cut_and_the_grown_network_give_the_same_blocks",
    "doubled_network[tanh, two layers]",
    "doubled_network[softplus, two layers]",
    "doubled_network[gelu, three layers]",
    "doubled_network[squeeze and excite]",
    "doubled_network[fused geglu]",
    "doubled_network[transformer, norm last]",
    "test_escape.py::test_a_torch_module_grows_and_its_loss_falls_in_torch[encoder",
    "test_escape.py::test_unit_after_unit_the_loss_falls[relu]",
    "test_unit_costs.py::test_a_layer_behind_a_flattening_has_no_costs_and_a_transformers_has",
    "test_paths.py::test_relu_keeps_unit_incoming_vectors_along_the_whole_path[incoming]",
    "test_paths.py::test_relu_keeps_unit_incoming_vectors_along_the_whole_path[joint]",
    "test_from_torch.py::test_a_module_and_its_conversion_have_equal_outputs[lstm]",
    "test_contract.py::test_a_model_goes_through_every_verb[convolution by hand]",
    "test_flat_any_model.py::test_channels_of_a_lenet_with_softmax_outputs",
    "test_flat_any_model.py::test_weights_before_a_batch_norm_with_kept_statistics",
    "test_resize_any_model.py::test_a_copied_channel_is_the_pair_that_shrinking_merges_and_costs_nothing",
    "whole_hessian[1-mish,relu6]",
    "whole_hessian[1-elu,selu]",
    "whole_hessian[1-hardswish,gelu_tanh]",
    "whole_hessian[2-relu,tanh]",
    "test_lbfgs_history.py::test_what_a_matrix_free_path_reports_is_in_double_precision",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow ones."""
    for item in items:
        if any(name in item.nodeid for name in SLOW):
            item.add_marker(pytest.mark.slow)
