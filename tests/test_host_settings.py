"""What a host program has set in JAX for its own code neither stops a verb nor changes its answer, and stays set."""

from contextlib import ExitStack

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from saddlescope.critical.certify import certify
from saddlescope.data.data import Data
from saddlescope.errors import DataError
from saddlescope.models.mlp import MLP
from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem
from saddlescope.training.train import train

NAMES = (
    "jax_enable_x64",
    "jax_debug_nans",
    "jax_debug_infs",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_default_matmul_precision",
    "jax_disable_jit",
    "jax_transfer_guard",
)
HOSTS = {
    "debug_nans and debug_infs": lambda: (jax.debug_nans(True), jax.debug_infs(True)),
    "strict and raise": lambda: (jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise")),
    "x64, bfloat16 products": lambda: (jax.enable_x64(True), jax.default_matmul_precision("bfloat16")),
    "no jit, no transfers": lambda: (jax.disable_jit(True), jax.transfer_guard("disallow")),
}


def _work():
    """Train, certify and follow a path; a relu network meets minus infinity and NaN on its way."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 2))
    data = Data(x, np.sin(x[:, :1]) * x[:, 1:])
    problem = Problem(MLP((2, 3, 1), "tanh"), data, weight_decay=1e-3)
    found = train(problem, seed=0, adam_steps=100)
    path = find_path(problem, found, layer=1, settings=PathSettings(steps=4, reach=0.1))
    return found.loss, certify(problem, found).verdict, path.losses


@pytest.fixture(scope="module")
def alone():
    return _work()


def _now():
    return [getattr(jax.config, name) for name in NAMES]


@pytest.mark.parametrize("settings", HOSTS.values(), ids=HOSTS)
def test_a_host_s_settings_neither_stop_nor_change_the_work(alone, settings):
    with ExitStack() as stack:
        for setting in settings():
            stack.enter_context(setting)
        before = _now()
        loss, verdict, losses = _work()
        assert _now() == before
    assert loss == alone[0]
    assert verdict == alone[1]
    np.testing.assert_array_equal(losses, alone[2])


def test_an_error_inside_gives_the_host_its_settings_back():
    before = _now()
    with pytest.raises(RuntimeError, match="inside"), float64():
        raise RuntimeError("inside")
    assert _now() == before


def test_parameters_of_every_library_give_the_same_loss():
    network = MLP((2, 3, 1), "tanh")
    problem = Problem(network, Data(np.ones((4, 2)), np.ones((4, 1))))
    narrow = {name: value.astype(np.float32) for name, value in network.initial(0).items()}
    expected = problem.loss_of({name: value.astype(float) for name, value in narrow.items()})
    module = {name: torch.nn.Parameter(torch.from_numpy(value)) for name, value in narrow.items()}
    for given in (narrow, module, {name: jnp.asarray(value) for name, value in narrow.items()}):
        assert problem.loss_of(given) == expected
    half = {name: torch.from_numpy(value).to(torch.bfloat16) for name, value in narrow.items()}
    wide = {name: value.double().numpy() for name, value in half.items()}
    assert problem.loss_of(half) == problem.loss_of(wide)
    assert certify(problem, module).verdict == certify(problem, narrow).verdict
    masked = {name: np.ma.masked_array(value, mask=np.ones(value.shape, bool)) for name, value in narrow.items()}
    with pytest.raises(DataError, match="masked"):
        problem.loss_of(masked)
