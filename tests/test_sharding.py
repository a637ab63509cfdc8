"""Many devices: the same numbers as on one, to rounding, on four virtual ones."""

import json
import subprocess
import sys

import pytest

from saddlescope.data.sources import toy
from saddlescope.errors import SettingsError
from saddlescope.models.mlp import MLP
from saddlescope.problem.problem import Problem
from saddlescope.problem.sharding import shard

# Devices are counted once per process, so that another process has to have four.
PROGRAM = """
import json
import jax
jax.config.update("jax_num_cpu_devices", 4)
import equinox as eqx, numpy as np
from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem
from saddlescope.problem.sharding import shard
from saddlescope.data.sources import toy, toy_teacher

network, teacher = toy_teacher("tanh", 0)
one = Problem(network, toy("tanh", 0), chunk=301)  # 1000 samples: neither chunks nor devices divide them
four = shard(one)
rows = sorted({shard.data.shape[1] for shard in four.inputs.addressable_shards})
found = {"devices": len(four.inputs.sharding.device_set), "rows": rows}
with float64():
    theta = network.layout.flatten(network.initial(3))
    v = network.layout.flatten(network.initial(4))
    value = eqx.filter_jit(lambda p: p.value_and_gradient(theta))
    curve = eqx.filter_jit(lambda p: (p.hessian_product(theta, v), p.gauss_newton_product(theta, v), p.outputs(theta)))
    pairs = zip((*value(one), *curve(one)), (*value(four), *curve(four)))
    both = [(np.asarray(a), np.asarray(b)) for a, b in pairs]
    found["gaps"] = [float(np.max(np.abs(a - b)) / np.max(np.abs(a))) for a, b in both]
settings = PathSettings(steps=5, reach=0.5, solver="krylov", tolerance=1e-11, polish=False)
paths = [find_path(p, teacher, layer=1, pair=(3, 4), settings=settings) for p in (one, four)]
found["losses"] = [path.losses[path.kinds == "asked"].tolist() for path in paths]
found["residuals"] = [float(path.gradient_norms[path.kinds == "asked"].max()) for path in paths]
print(json.dumps(found))
"""


def test_four_devices_agree_with_one_to_rounding():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == 4
    assert found["rows"] == [76]  # 301 rows a chunk, filled up to 304
    assert max(found["gaps"]) < 1e-13
    one, four = found["losses"]
    assert max(found["residuals"]) <= 1e-11
    assert four == pytest.approx(one, rel=1e-6)


def test_more_devices_than_samples_are_refused():
    problem = Problem(MLP((2, 3, 1), "tanh"), toy("tanh", 0))
    with pytest.raises(SettingsError, match="cannot be divided: devices=0"):
        shard(problem, [])
