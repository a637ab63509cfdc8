"""A path made by hand: losses and gradients by NumPy loops over the chain rule, everything else invented.

It passes near nothing real, but every field is filled, so that records, plots and the command line can be tested fast.
"""

import numpy as np

from saddlescope.data.data import Data
from saddlescope.outcomes import Outcome
from saddlescope.paths.result import Event, Path, PathSettings, PermutationPoint
from saddlescope.units.neurons import Neurons, Slice

WIDTHS = (2, 3, 1)
NODES = 9


def synthetic_data(seed: int = 0) -> Data:
    generator = np.random.default_rng(seed)
    return Data(generator.normal(size=(11, 2)), generator.normal(size=(11, 1)), generator.integers(0, 1, 11), "made up")


def loss_and_gradient_norm(parameters: dict[str, np.ndarray], data: Data) -> tuple[float, float]:
    """Mean squared error of a tanh network with one hidden layer, and its gradient's norm, sample by sample."""
    assert data.targets is not None
    w, b, a, c = (parameters[name] for name in ("0.weight", "0.bias", "2.weight", "2.bias"))
    loss, gradient = 0.0, {name: np.zeros_like(value) for name, value in parameters.items()}
    for x, y in zip(data.inputs, data.targets, strict=True):
        hidden = np.tanh(w @ x + b)
        error = a @ hidden + c - y
        loss += float(error @ error)
        inner = (2.0 * error @ a) * (1.0 - hidden**2)
        gradient["0.weight"] += np.outer(inner, x)
        gradient["0.bias"] += inner
        gradient["2.weight"] += 2.0 * np.outer(error, hidden)
        gradient["2.bias"] += 2.0 * error
    samples = len(data.inputs)
    norm = float(np.sqrt(sum(np.sum(part**2) for part in gradient.values())))
    return loss / samples, norm / samples


def _random_parameters(
    generator: np.random.Generator, hidden: int, lead: tuple[int, ...] = ()
) -> dict[str, np.ndarray]:
    shapes = {"0.weight": (hidden, 2), "0.bias": (hidden,), "2.weight": (1, hidden), "2.bias": (1,)}
    return {name: generator.normal(size=(*lead, *shape)) for name, shape in shapes.items()}


def _point(parameters: dict[str, np.ndarray], reduced: dict[str, np.ndarray], data: Data) -> PermutationPoint:
    loss, norm = loss_and_gradient_norm(parameters, data)
    return PermutationPoint(
        layer=1,
        pair=(0, 2),
        parameters=parameters,
        reduced=reduced,
        loss=loss,
        gradient_norm=norm,
        reduced_gradient_norm=norm / 2,
        shares=(0.5, 0.5),
        loss_gap=-1e-13,
        accuracy=0.75,
    )


def synthetic_path(*, ending: Outcome = Outcome.PERMUTATION_POINT, labels: bool = True, seed: int = 0) -> Path:
    """A path of 9 nodes, with a permutation point if it ends in one, and one event of each kind."""
    generator, data = np.random.default_rng(seed), synthetic_data()
    parameters = _random_parameters(generator, WIDTHS[1], (NODES,))
    rows = [{name: array[k] for name, array in parameters.items()} for k in range(NODES)]
    losses, norms = np.array([loss_and_gradient_norm(row, data) for row in rows]).T
    ends = ending is Outcome.PERMUTATION_POINT
    distances = np.append(np.logspace(0, -4, NODES - 1), 0.0 if ends else 10**-4.5)
    kinds = np.array(["asked", "between"] * (NODES // 2) + ["merged" if ends else "asked"])
    events = [
        Event(k, float(distances[i]), float(losses[i]), i, f"because {i}") for i, k in enumerate(EVENT_KINDS, start=2)
    ]
    point = _point(_random_parameters(generator, 3), _random_parameters(generator, 2), data)
    return Path(
        layer=1,
        pair=(0, 2),
        neurons=Neurons((Slice("0.weight", 0), Slice("0.bias", 0)), (Slice("2.weight", 1),)),
        settings=PathSettings(steps=NODES, tolerance=1e-9),
        solver="newton",
        gauge="none",
        times=np.linspace(0.0, 0.25, NODES),
        distances=distances,
        losses=losses,
        gradient_norms=10.0 ** generator.uniform(-14, -9, NODES),
        full_gradient_norms=np.where(kinds == "between", np.nan, norms),
        slopes=generator.normal(size=NODES),
        curvatures=np.full(NODES, np.nan),
        iterations=generator.integers(0, 50, NODES),
        converged=generator.random(NODES) < 0.7,
        kinds=kinds,
        outgoing_norms=generator.random((NODES, 2)),
        accuracies=generator.random(NODES) if labels else None,
        parameters=parameters,
        events=tuple(events),
        ending=ending,
        reasons=() if ends else ("|a_m - a_l| grows",),
        permutation_point=point if ends else None,
        barrier=float(losses.max()),
        continuous=ends,
        largest_deviation=0.0,
        tolerance=1e-9,
        evaluations={"iterations": 17, "hessian_products": 4},
        seconds=0.25,
        fingerprints={"data": "not known", "parameters": "not known"},
        problem={"widths": list(WIDTHS), "activation": "tanh", "bias": True, "loss": "mse"},
    )


EVENT_KINDS = (Outcome.FOLD, Outcome.INTERIOR_MAXIMUM, Outcome.NOT_CONVERGED, Outcome.CHANNEL, Outcome.JUMP)
