"""Flat directions of any model are found by trying: certificates agree with PyTorch's own dense Hessian."""

from typing import Any

import numpy as np
import pytest

import saddlescope as ss
from references.critical_modules import digits, encoder, lenet, made, residual, vectors
from saddlescope.critical.mixing import laws
from saddlescope.precision import float64

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's own, which differ from version to version


def counts(certificate: Any) -> dict[str, int]:
    return {one.kind: one.count for one in certificate.flat}


def test_channels_of_a_lenet_with_softmax_outputs() -> None:
    """Copies of a unit that the last layer reads: n_h + 1 shifts of the last layer, one of them in the block."""
    case = made(lenet, digits(120), layer="6", soft=True)
    found = ss.certify(case.problem, case.point)
    index, nullity, gap = case.signs(found.point)
    assert gap > 1e5
    assert (found.index, found.nullity) == (index, nullity)
    assert counts(found)["softmax shift"] == 5 + 1
    assert counts(found)["outgoing transfer"] == 1


def test_weights_before_a_batch_norm_with_kept_statistics() -> None:
    """Each of 4 + 3 channels: scale of its kernel against the norm's weight, and its two biases."""
    case = made(residual, digits(150), layer=None)
    found = ss.certify(case.problem, case.point)
    index, nullity, gap = case.signs(found.point)
    assert gap > 1e5
    assert (found.index, found.nullity) == (index, nullity)
    assert nullity == 2 * (4 + 3)


def test_the_units_of_a_transformer_block() -> None:
    """GL(2) of query and key, and of value and output, for both heads; the key's bias; what layer norms take out."""
    case = made(encoder, vectors(120), layer="0.linear1")
    found = ss.certify(case.problem, case.point)
    index, nullity, gap = case.signs(found.point)
    assert gap > 1e4
    assert (found.index, found.nullity) == (index, nullity)
    assert counts(found)["attention"] == 2 * 2 * 2**2
    assert counts(found)["no effect"] == 4


# The laws of groups.


def found_laws(module: Any, inputs: Any) -> list[tuple[str, str, int]]:
    model, parameters = ss.from_torch(module.double().eval(), inputs[:4])
    problem = ss.Problem(model, ss.Data(inputs.numpy(), np.zeros((len(inputs), 2))))
    with float64():
        theta = np.concatenate([parameters[name].ravel() for name in model.layout.names])
        return [(law.kind, law.way, len(law.places)) for law in laws(problem, theta)]


@pytest.mark.parametrize(
    ("middle", "expected"),
    [
        ([], [("linear units", "mix", 3)]),
        ([torch.nn.ReLU()], [("scaling", "scale", 3)]),
        ([torch.nn.Tanh()], []),
    ],
)
def test_adjacent_linear_layers_mix_and_homogeneous_units_scale(middle: list[Any], expected: list[Any]) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), *middle, torch.nn.Linear(4, 2))
    assert found_laws(module, torch.randn(40, 3).double()) == expected


def test_a_law_leaves_the_outputs_alone_at_a_finite_distance() -> None:
    """exp(tA) applied to every slice: written out here, with SciPy's matrix exponential."""
    import scipy.linalg

    torch.manual_seed(0)
    x = vectors(20)
    module = torch.nn.Sequential(torch.nn.TransformerEncoderLayer(4, 2, 3, 0.0, batch_first=True), torch.nn.Flatten())
    module = module.append(torch.nn.Linear(12, 2)).double().eval()
    model, parameters = ss.from_torch(module, x[:4])
    problem = ss.Problem(model, ss.Data(x.numpy(), np.zeros((20, 2))))
    with float64():
        theta = np.concatenate([parameters[name].ravel() for name in model.layout.names])
        tried = [law for law in laws(problem, theta) if (law.kind, law.way) == ("attention", "mix")]
    assert len(tried) == 4  # two heads, query with key and value with output
    before = problem.outputs_of(parameters)
    matrix = scipy.linalg.expm(np.array([[0.3, -1.1], [0.7, 0.4]]))
    for law in tried:
        moved = theta.copy()
        for places, factor in zip(law.places, law.factors, strict=True):
            moved[places] = (matrix if factor > 0 else np.linalg.inv(matrix).T) @ theta[places]
        assert np.abs(moved - theta).max() > 0.1
        after = problem.outputs_of(model.layout.unflatten_numpy(moved))
        np.testing.assert_allclose(after, before, atol=1e-13)


def test_of_a_residual_stream_with_a_penalty_only_rotations_are_flat() -> None:
    """h + W2 relu(W1 h), read and written linearly: GL(n) of the stream, and O(n) where |theta| counts."""
    import jax.numpy as jnp

    def apply(p: Any, x: Any) -> Any:
        h = x @ p["in"]
        return (h + jnp.tanh(h @ p["up"]) @ p["down"]) @ p["out"]

    generator = np.random.default_rng(0)
    shapes = {"in": (3, 4), "up": (4, 3), "down": (3, 4), "out": (4, 2)}
    start = {name: generator.normal(size=shape) / 2 for name, shape in shapes.items()}
    x = generator.normal(size=(60, 3))
    model, parameters = ss.from_function(apply, start, x[:6])
    problem = ss.Problem(model, ss.Data(x, np.sin(x[:, :2] * 2)))
    with float64():
        theta = np.concatenate([parameters[name].ravel() for name in model.layout.names])
        (stream,) = [law for law in laws(problem, theta) if law.way == "mix"]
    assert len(stream.rows(theta, turns=False)) == 4**2
    turns = stream.rows(theta, turns=True)
    assert len(turns) == 6
    np.testing.assert_allclose(turns @ theta, 0.0, atol=1e-14)  # |theta| stays to first order
