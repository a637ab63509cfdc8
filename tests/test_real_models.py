"""Real weights from packages (benchmarks/real_models.py says which): the groups of units are found, all, and proved.

Skipped where the packages are absent; $SADDLESCOPE_REAL_WEIGHTS names a folder that they were installed to.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's own, which differ from version to version

_SPEC = importlib.util.spec_from_file_location(
    "real_models", Path(__file__).parent.parent / "benchmarks" / "real_models.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
real_models = importlib.util.module_from_spec(_SPEC)
sys.modules["real_models"] = real_models  # its dataclass looks its module up
_SPEC.loader.exec_module(real_models)


def need(name):
    real = real_models.REAL[name]
    if real.path is None:
        pytest.skip(f"{real.package} is not installed; see benchmarks/real_models.py")
    return real


def permuted(parameters, group, order):
    """The parameters with a group's units in another order, by its slices alone."""
    moved = dict(parameters)
    for piece in (*group.incoming, *group.outgoing):
        array = np.array(moved[piece.name])
        at = piece.start + (order[:, None] * piece.block + np.arange(piece.block)).ravel()
        here = piece.start + np.arange(at.size)
        index = [slice(None)] * array.ndim
        index[piece.axis] = here
        array[tuple(index)] = np.take(moved[piece.name], at, axis=piece.axis)
        moved[piece.name] = array
    return moved


@pytest.mark.parametrize("name", ["o-net", "CREPE-tiny", "MiniLM, 6 layers"])
def test_every_group_is_found_and_torch_agrees(name):
    """Each group is as counted by hand, verified, and torch itself gives the same outputs after a permutation."""
    from saddlescope.models.to_torch import to_torch

    real = need(name)
    model, parameters = real_models.converted(real)
    found = real_models.units(model)
    assert {kind: found.get(kind) for kind in real.expected} == real.expected
    assert all(group.verified and group.deviation < 1e-12 < group.omission for group in model.symmetries)
    module, x = real_models.loaded(real), real.example()
    x = x.float() if x.is_floating_point() else x
    with torch.no_grad():
        before = module(x)
        for group in model.symmetries:
            if group.layer is None or group.kind == "residual stream":
                continue
            order = np.random.default_rng(0).permutation(group.units)
            state = to_torch(permuted(parameters, group, order), module, statistics=real.statistics)
            other = real.module().eval()
            other.load_state_dict(state, strict=True)
            assert torch.allclose(other(x), before, atol=1e-4 * float(before.abs().max())), group.name


def test_the_plain_module_of_minilm_is_minilm():
    """Sentences of one meaning are near each other, others are not: the weights stand where they belong."""
    real = need("MiniLM, 6 layers")
    same, other = real_models.sentences(real_models.loaded(real), real.path.parent)
    assert same > 0.6
    assert other < 0.2
