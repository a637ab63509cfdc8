"""The most similar pair of a layer against SciPy's distances of all pairs."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from saddlescope.arrays import Layout
from saddlescope.models.mlp import MLP
from saddlescope.units import gauge


def nearest(incoming: np.ndarray) -> tuple[int, int]:
    network = MLP((incoming.shape[1], len(incoming), 1), "tanh", bias=False)
    shapes = dict(zip(network.layout.names, network.layout.shapes, strict=True))
    parameters = {"0.weight": incoming, "2.weight": np.ones(shapes["2.weight"])}
    assert Layout.of(parameters) == network.layout
    return gauge.most_similar_pair(parameters, network.neurons(1))


@pytest.mark.parametrize("count", [2, 3, 17, 40, 100])
@pytest.mark.parametrize("rows", [1, 7, 16, 512])
def test_the_pair_is_the_nearest_in_whatever_blocks(count, rows, monkeypatch):
    monkeypatch.setattr(gauge, "ROWS", rows)
    generator = np.random.default_rng([count, rows])
    for far in (0.0, 1e6):  # squares of numbers around 1e6 round by more than the gaps' squares
        incoming = far + generator.normal(size=(count, 3))
        incoming[-1] = incoming[0] + 1e-5
        if count > 3:
            incoming[2] = incoming[1] + 1e-3
        gaps = squareform(pdist(incoming))
        gaps[np.tril_indices(count)] = np.inf
        l, m = nearest(incoming)
        assert l < m
        assert gaps[l, m] == pytest.approx(gaps.min(), rel=1e-12, abs=0.0)
        assert (l, m) == (0, count - 1)
