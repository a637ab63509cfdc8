"""Any model keeps one contract: a convolution, a residual network and a transformer block go through every verb.

Truth comes from PyTorch (outputs, Hessians) and from exchanging units by hand.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import saddlescope as ss
from saddlescope import Neurons, Slice, UnitFacts, Units
from saddlescope.arrays import Layout
from saddlescope.errors import NeuronsError, SettingsError, ShapeError
from saddlescope.models.contract import adapted, as_taken, sample_bytes
from saddlescope.precision import float64
from saddlescope.report.sections import path_section
from saddlescope.units.actions import permute

pytestmark = pytest.mark.filterwarnings("ignore:.*treespec.*:FutureWarning")

SHAPES = {"conv/kernel": (3, 1, 3, 3), "conv/shift": (3,), "out": (2, 12), "end": (2,)}


@dataclass(frozen=True)
class Pictures:
    """Convolution, tanh, mean over 2 x 2 pixels, dense: only what the contract asks, names with a stroke."""

    named: tuple[str, ...] = ("conv/kernel", "conv/shift")
    told: str = "pictures"

    @property
    def layout(self) -> Layout:
        return Layout(tuple(SHAPES), tuple(SHAPES.values()))

    @property
    def layers(self) -> dict[int, Units]:
        into = tuple(Slice(name, 0) for name in self.named)
        return {1: Units(into, (Slice("out", 1, block=4),), None, UnitFacts(name="conv", parity="odd", kinked=False))}

    def apply(self, parameters: Any, inputs: Any) -> Any:
        z = jax.lax.conv_general_dilated(inputs, jnp.asarray(parameters["conv/kernel"]), (1, 1), "VALID")
        h = jnp.tanh(z + jnp.asarray(parameters["conv/shift"])[None, :, None, None])
        h = h.reshape(len(inputs), 3, 2, 2, 2, 2).mean((3, 5)).reshape(len(inputs), 12)
        return h @ jnp.asarray(parameters["out"]).T + jnp.asarray(parameters["end"])[None, :]

    def describe(self) -> dict[str, object]:
        return {"model": self.told}


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def pictures() -> tuple[Any, dict[str, np.ndarray], ss.Data]:
    parameters = {name: normal(*shape) / np.sqrt(np.prod(shape[1:]) or 1) for name, shape in SHAPES.items()}
    return Pictures(), parameters, images()


def images() -> ss.Data:
    x = normal(30, 1, 6, 6)
    return ss.Data(x, np.stack([np.tanh(x[:, 0, :3].sum((1, 2)) / 3), np.sin(x[:, 0, :, 3:].sum((1, 2)))], axis=1))


def convolution() -> tuple[Any, dict[str, np.ndarray], ss.Data]:
    torch.manual_seed(0)
    layers = (torch.nn.Conv2d(1, 3, 3), torch.nn.Tanh(), torch.nn.AvgPool2d(2), torch.nn.Flatten())
    module = torch.nn.Sequential(*layers, torch.nn.Linear(12, 2)).double().eval()
    return *ss.from_torch(module, torch.tensor(images().inputs[:4])), images()


def residual() -> tuple[Any, dict[str, np.ndarray], ss.Data]:
    def apply(p: Any, x: Any) -> Any:
        return x + jnp.tanh(x @ p["up"].T + p["shift"][None, :]) @ p["down"].T

    x = normal(40, 2)
    parameters = {"up": normal(4, 2), "shift": normal(4), "down": normal(2, 4)}
    return *ss.from_function(apply, parameters, x[:5]), ss.Data(
        x, np.stack([np.sin(2 * x[:, 0]), x[:, 1] ** 2], axis=1)
    )


def transformer() -> tuple[Any, dict[str, np.ndarray], ss.Data]:
    """Tokens of 5 kinds, one head of attention, then a block of 3 gelu units; the answer is read off their mean."""

    def apply(p: Any, tokens: Any) -> Any:
        h = p["table"][tokens]
        q, k, v = (jnp.einsum("stw,wu->stu", h, p[name]) for name in ("query", "key", "value"))
        h = h + jnp.einsum("sab,sbw->saw", jax.nn.softmax(jnp.einsum("saw,sbw->sab", q, k)), v)
        h = h + jax.nn.gelu(h @ p["up"] + p["shift"][None, None, :], approximate=False) @ p["down"]
        return h.mean(1) @ p["out"]

    shapes = {"table": (5, 4), "query": (4, 2), "key": (4, 2), "value": (4, 4), "up": (4, 3), "shift": (3,)}
    shapes |= {"down": (3, 4), "out": (4, 2)}
    tokens = np.random.default_rng(0).integers(0, 5, (40, 3))
    parameters = {name: normal(*shape) / 2 for name, shape in shapes.items()}
    targets = np.stack([np.sin(tokens.sum(1)), (tokens[:, 0] == tokens[:, 2]) - 0.3], axis=1)
    return *ss.from_function(apply, parameters, tokens[:6]), ss.Data(tokens, targets)


# How each is made, and the layer's name. With a penalty the transformer block's stream can still be rotated.
MODELS: dict[str, tuple[Callable[[], Any], str]] = {
    "convolution of torch": (convolution, "0"),
    "convolution by hand": (pictures, "conv"),
    "residual network": (residual, "up"),
    "transformer block": (transformer, "up"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_goes_through_every_verb(name: str, tmp_path: Path) -> None:
    make, layer = MODELS[name]
    model, parameters, data = make()
    problem = ss.Problem(model, data, weight_decay=1e-2)
    minimum = ss.train(problem, initial=parameters)
    assert minimum.gradient_norm < 1e-9
    number = next(k for k, units in problem.network.layers.items() if units.facts.name == layer)
    settings = ss.PathSettings(steps=4, reach=0.1, distance="tied")
    path = ss.find_path(problem, minimum, layer=layer, settings=settings)
    assert (path.layer, path.ending) == (number, ss.Outcome.PERMUTATION_POINT)
    assert path.problem.items() >= problem.network.describe().items()
    point = path.permutation_point
    assert point is not None
    neurons = problem.network.neurons(number)
    swapped = list(range(neurons.count(point.parameters)))
    swapped[path.pair[0]], swapped[path.pair[1]] = path.pair[::-1]
    end = permute(minimum.parameters, neurons, swapped)
    assert problem.loss_of(end) == pytest.approx(path.losses[0], rel=1e-9, abs=0.0)
    assert point.reduced is not None

    verdict = ss.certify(problem, point)
    index, nullity = signs(problem, verdict.point)
    assert (verdict.index, verdict.nullity) == (index, nullity)

    plain = ss.Problem(model, data)
    walk = ss.walk(plain, point, [*swapped[1:], swapped[0]])
    assert walk.segments > 0
    assert walk.max_loss_deviation < 1e-13 * walk.loss
    assert walk.scan.max_output_deviation < 1e-12 * walk.scan.largest_output

    ss.save_path(path, tmp_path / "path.saddle")
    again = ss.load_path(tmp_path / "path.saddle")
    assert again.problem == path.problem
    assert again.neurons == path.neurons
    for key, value in path.parameters.items():
        np.testing.assert_array_equal(again.parameters[key], value)
    assert ss.recheck_path(problem, again).same_data
    assert ss.recheck_path(problem, again).loss_deviation < 1e-12
    section = path_section("a", again, ["line"], certificate=verdict)
    json.dumps(section, allow_nan=False)
    assert section["neurons"]["kind"] == "projection"


def signs(problem: ss.Problem, parameters: dict[str, np.ndarray]) -> tuple[int, int]:
    """Return index and nullity from a Hessian by central differences of the gradient."""
    layout = problem.network.layout
    with float64():
        theta = np.asarray(layout.flatten(parameters))
        slope = jax.jit(lambda at: problem.gradient(at))
        h = 1e-5
        rows = [np.asarray(slope(theta + h * e) - slope(theta - h * e)) / (2 * h) for e in np.eye(len(theta))]
    values = np.linalg.eigvalsh(0.5 * (np.array(rows) + np.array(rows).T))
    return int((values < -1e-6).sum()), int((np.abs(values) <= 1e-6).sum())


@pytest.mark.parametrize(
    ("verb", "word"),
    [
        (
            lambda problem, p: ss.reduce(problem, p, drop_dead=True),
            "reduce with drop_dead knows chains of dense layers",
        ),
        (lambda problem, p: ss.join(problem, p, p), "join knows chains of dense layers only"),
        (lambda problem, p: ss.prove(problem.network, np.ones((3, 2)), np.ones((3, 2)), p), "prove knows"),
        (lambda problem, p: ss.merge_recursively(problem, p, [(1, None)]), "merge_recursively knows"),
        (lambda problem, p: ss.lifted_signs(problem, p, {(1, 0): (0.5, 0.5)}), "the closed form knows"),
        (lambda problem, p: ss.save_weights("never.safetensors", problem.network, p), "save_weights knows"),
        (lambda problem, p: ss.train(problem, seed=0), "initial="),
    ],
)
@pytest.mark.parametrize("make", [pictures, residual])
def test_what_needs_a_perceptron_refuses_other_models_in_one_line(make: Any, verb: Any, word: str) -> None:
    model, parameters, data = make()
    with pytest.raises(SettingsError) as refusal:
        verb(ss.Problem(model, data), parameters)
    assert word in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) <= 400


@pytest.mark.parametrize(
    ("verb", "word"),
    [
        (lambda problem, p: ss.expand(problem, p, widths={1: 5}), "expand needs a network that can be built"),
        (lambda problem, p: ss.reduce(problem, p), "reduce needs a network that can be built"),
        (lambda problem, p: ss.shrink(problem, p, widths={1: 2}), "shrink needs a network that can be built"),
    ],
)
def test_a_class_that_cannot_change_its_units_is_refused(verb: Any, word: str) -> None:
    model, parameters, data = pictures()
    with pytest.raises(SettingsError, match=word):
        verb(ss.Problem(model, data), parameters)


# At the door.


def test_a_forgotten_slice_is_refused_with_its_name() -> None:
    with pytest.raises(NeuronsError, match=r"layer 1 changes the outputs .*\(conv/shift axis 0\)"):
        ss.Problem(Pictures(named=("conv/kernel",)), images())


def test_a_slice_that_does_not_belong_to_the_units_is_refused_with_its_name() -> None:
    @dataclass(frozen=True)
    class Spare:
        layout = Layout(("up", "down", "end"), ((2, 2), (2, 2), (2,)))
        layers = {1: Neurons((Slice("up", 0), Slice("end", 0)), (Slice("down", 1),))}  # noqa: RUF012

        def apply(self, p: Any, x: Any) -> Any:
            return jnp.tanh(x @ p["up"].T) @ p["down"].T + p["end"].sum()

    with pytest.raises(NeuronsError, match=r"does not belong to its units.*slice=end axis 0"):
        ss.Problem(Spare(), ss.Data(normal(9, 2), normal(9, 2)))


def test_units_whose_outgoing_slice_lies_along_the_wrong_axis_are_refused() -> None:
    wrong = Old(outgoing=0)
    with pytest.raises(NeuronsError, match=r"changes the outputs .*down axis 0, down axis 1"):
        ss.Problem(wrong, ss.Data(normal(9, 3), normal(9, 3)))


@dataclass(frozen=True)
class Old:
    """What a class had to have before: units by ``neurons``, and no word about how many layers there are."""

    outgoing: int = 1
    seed: int | None = None

    @property
    def layout(self) -> Layout:
        return Layout(("up", "down"), ((3, 3), (3, 3)))

    def apply(self, parameters: Any, inputs: Any) -> Any:
        out = jnp.tanh(inputs @ parameters["up"].T) @ parameters["down"].T
        noise = 0.0 if self.seed is None else np.random.default_rng().standard_normal()
        return out + noise

    def neurons(self, layer: int) -> Neurons:
        if layer != 1:
            raise NeuronsError("no such layer", name="layer", value=layer, expected="1")
        return Neurons((Slice("up", 0),), (Slice("down", self.outgoing),))

    def homogeneous(self, layer: int) -> bool:
        return layer < 0

    def check(self, parameters: Any) -> None:
        assert Layout.of(parameters) == self.layout


def test_a_class_of_the_old_contract_is_asked_for_its_layers_one_by_one() -> None:
    network = ss.Problem(Old(), ss.Data(normal(9, 3), normal(9, 3))).network
    assert list(network.layers) == [1]
    assert network.layers[1].incoming == (Slice("up", 0),)
    assert network == Old()
    assert hash(network) == hash(Old())
    assert network.describe()["model"] == "Old"


def test_a_random_model_is_refused() -> None:
    with pytest.raises(SettingsError, match="different outputs for the same inputs"):
        ss.Problem(Old(seed=0), ss.Data(normal(9, 3), normal(9, 3)))


@dataclass(frozen=True)
class Free:
    """A model whose apply is given."""

    function: Callable[..., Any]
    layout: Layout = field(default_factory=lambda: Layout(("w",), ((3, 2),)))

    def apply(self, parameters: Any, inputs: Any) -> Any:
        return self.function(parameters["w"], inputs)


@pytest.mark.parametrize(
    ("function", "error", "word"),
    [
        (lambda w, x: (x - x.mean(0)) @ w, SettingsError, "samples of a batch change each other's"),
        (lambda w, x: (x @ w).astype("float32"), ShapeError, "outputs for 2 samples=float32"),
        (lambda w, x: x[1:] @ w, ShapeError, r"outputs for 2 samples=float64 \(1, 2\)"),
        (lambda w, x: (x @ w, x), ShapeError, "outputs for 2 samples=tuple"),
        (lambda w, x: torch.as_tensor(x) @ w, ShapeError, "does not run on them"),
        (lambda w, x: x @ w.T, ShapeError, "does not run on them"),
    ],
)
def test_what_is_no_function_of_each_sample_in_double_precision_is_refused(
    function: Any, error: type[Exception], word: str
) -> None:
    with pytest.raises(error, match=word) as refusal:
        ss.Problem(Free(function), ss.Data(normal(9, 3), normal(9, 2)))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("thing", [3, object(), Pictures, None])
def test_what_is_no_model_is_refused(thing: Any) -> None:
    with pytest.raises(SettingsError, match="this is not a model"):
        ss.Problem(thing, images())


def test_a_description_that_no_record_can_hold_is_refused_before_any_path() -> None:
    with pytest.raises(SettingsError, match="cannot be kept in a record"):
        ss.Problem(Pictures(told=object()), images())  # type: ignore[arg-type]


def test_a_layer_that_is_not_there_is_refused_with_those_that_are() -> None:
    model, parameters, data = pictures()
    with pytest.raises(NeuronsError, match=r"layer=dense; expected 1 \(conv\)"):
        ss.find_path(ss.Problem(model, data), parameters, layer="dense")


def test_units_of_a_fused_array_keep_their_point_without_a_reduced_network() -> None:
    """Two layers of units in one array of incoming weights: neither can lose a row."""

    @dataclass(frozen=True)
    class Fused:
        layout = Layout(("both", "first", "second"), ((6, 2), (1, 3), (1, 3)))

        @property
        def layers(self) -> dict[int, Neurons]:
            return {
                1: Neurons((Slice("both", 0),), (Slice("first", 1),), units=3),
                2: Neurons((Slice("both", 0, start=3),), (Slice("second", 1),), units=3),
            }

        def apply(self, p: Any, x: Any) -> Any:
            h = jnp.tanh(x @ p["both"].T)
            return h[:, :3] @ p["first"].T + h[:, 3:] ** 2 @ p["second"].T

    x = normal(40, 2)
    problem = ss.Problem(Fused(), ss.Data(x, np.sin(2 * x[:, :1]) + x[:, 1:] ** 2), weight_decay=1e-2)
    start = {name: normal(*shape) for name, shape in zip(Fused.layout.names, Fused.layout.shapes, strict=True)}
    settings = ss.PathSettings(steps=4, reach=0.1, distance="tied")
    path = ss.find_path(problem, ss.train(problem, initial=start), layer=1, settings=settings)
    assert path.permutation_point is not None
    assert path.permutation_point.reduced is None


# Shapes, kinds of numbers, memory.


def test_integer_inputs_stay_integers_for_a_model_that_needs_them_and_become_floats_for_others() -> None:
    tokens = np.random.default_rng(0).integers(0, 3, (7, 4))
    lookup = Free(lambda w, t: w[t].sum(1))
    problem = ss.Problem(lookup, ss.Data(tokens, normal(7, 2)))
    assert problem.inputs.dtype == np.int64
    w = normal(3, 2)
    np.testing.assert_allclose(problem.outputs_of({"w": w}), w[tokens].sum(1))
    dense = ss.Problem(Free(lambda w, x: x[:, :3] @ w), ss.Data(tokens, normal(7, 2)))
    assert dense.inputs.dtype == np.float64
    np.testing.assert_array_equal(ss.Data(tokens).inputs, tokens)
    assert ss.Data(tokens).inputs.dtype == np.int64
    with float64():
        assert as_taken(ss.MLP((4, 2, 1)), tokens).dtype == np.float64


def test_outputs_of_several_axes_go_with_a_loss_of_the_users_own_only() -> None:
    x, model = normal(11, 4, 3), Free(lambda w, x: x @ w)
    targets = normal(11, 4, 2)

    def squares(outputs: Any, targets: Any) -> Any:
        return ((outputs - targets) ** 2).mean((1, 2))

    problem, w = ss.Problem(model, ss.Data(x, targets), loss=squares, chunk=4), normal(3, 2)
    assert problem.loss_of({"w": w}) == pytest.approx(np.mean((x @ w - targets) ** 2), rel=1e-13, abs=0.0)
    np.testing.assert_allclose(problem.outputs_of({"w": w}), x @ w)
    slope = 2 * np.einsum("sti,sto->io", x, x @ w - targets) / targets.size
    np.testing.assert_allclose(problem.gradient_of({"w": w})["w"], slope, rtol=1e-12)
    assert (
        ss.Problem(model, ss.Data(x, labels=np.zeros(11)), loss=lambda o, _: o.sum((1, 2))).accuracy({"w": w}) is None
    )
    with pytest.raises(ShapeError, match="mse is taken of one row of outputs"):
        ss.Problem(model, ss.Data(x, targets))


def test_the_memory_of_a_sample_grows_with_what_the_model_makes_of_it() -> None:
    """A chain of n products of width w makes at least n w numbers from a sample; chunks are cut by that."""

    def chain(times: int) -> Free:
        step = jax.jit(lambda w, x: jnp.tanh(x @ w))

        def run(w: Any, x: Any) -> Any:
            for _ in range(times):
                x = step(w, x)
            return x

        return Free(run, Layout(("w",), ((50, 50),)))

    with float64():
        sizes = [sample_bytes(adapted(chain(n)), (50,), np.float64) for n in (1, 11)]
    assert sizes[1] - sizes[0] == 10 * 2 * 50 * 16
    wide = ss.Problem(chain(200), ss.Data(normal(3000, 50), normal(3000, 50)))
    assert wide.inputs.shape[1] * wide.sample_bytes <= 64 * 2**20
    assert wide.inputs.shape[0] > 1
