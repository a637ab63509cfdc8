"""Shrinking: estimates against brute force, settled networks against torch and SciPy, and the problem's symmetries."""

import itertools
import json
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from saddlescope.arrays import Layout
from saddlescope.cli import main
from saddlescope.cli.shrink import shrink as shrink_command
from saddlescope.data.data import Data, teacher_data
from saddlescope.data.weights import load_weights, save_weights
from saddlescope.errors import NeuronsError, NonFiniteError, SettingsError, ShapeError
from saddlescope.models.mlp import MLP
from saddlescope.outcomes import Outcome
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem
from saddlescope.resize.merge_cost import RIDGE
from saddlescope.resize.merges import MIXES, apply_merge, estimate_merges, pack
from saddlescope.units.actions import merge, permute, split
from saddlescope.units.neurons import Neurons, Slice
from saddlescope.workflows import shrink as module
from saddlescope.workflows.shrink import ShrinkSettings, shrink

TORCH = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid}


def teacher(widths, act="tanh", seed=0, samples=200, **options):
    """A random network, and the problem whose exact minimum it is."""
    network = MLP(widths, act, bias=options.pop("bias", True))
    generator = np.random.default_rng(seed)
    layout = network.layout
    parameters = {n: generator.normal(size=s) for n, s in zip(layout.names, layout.shapes, strict=True)}
    return Problem(network, teacher_data(network, parameters, generator.normal(size=(samples, widths[0])))), parameters


def torch_loss(parameters, x, y, act):
    """Mean squared error of a perceptron as a function of torch tensors."""
    here, depth = torch.as_tensor(np.array(x)), sum(name.endswith("weight") for name in parameters)
    for k in range(depth):
        here = here @ parameters[f"{2 * k}.weight"].T
        here = here + parameters[f"{2 * k}.bias"] if f"{2 * k}.bias" in parameters else here
        here = TORCH[act](here) if k < depth - 1 else here
    return ((here - torch.as_tensor(np.array(y))) ** 2).mean()


def rows(problem):
    return np.asarray(problem.inputs)[0], np.asarray(problem.targets)[0]


def last_layer_loss(problem, parameters, act, merge):
    """The loss with the pair merged as told, least over all weights of the last layer."""
    x, y = rows(problem)
    weight, bias = parameters["0.weight"], parameters.get("0.bias")
    incoming = weight if bias is None else np.concatenate([weight, bias[:, None]], axis=1)
    x = x if bias is None else np.concatenate([x, np.ones((len(x), 1))], axis=1)
    first, second = incoming[list(merge.pair)]
    if act == "relu":
        first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    new = (1 - merge.mix) * first + merge.mix * merge.sign * second
    kept = np.concatenate([np.delete(incoming, merge.pair, axis=0), new[None]])
    h = TORCH[act](torch.as_tensor(x @ kept.T)).numpy()
    h = h if bias is None else np.concatenate([h, np.ones((len(h), 1))], axis=1)
    return np.mean((h @ np.linalg.lstsq(h, y, rcond=None)[0] - y) ** 2)


KINDS = [("tanh", True, 2), ("tanh", False, 1), ("relu", True, 3), ("sigmoid", True, 1)]


@pytest.mark.parametrize(("act", "bias", "outputs"), KINDS)
def test_the_estimate_is_the_least_squares_loss_over_the_last_layer(act, bias, outputs):
    problem, parameters = teacher((3, 5, outputs), act, bias=bias)
    merges = estimate_merges(problem, parameters, layer=1)
    assert sorted(found.pair for found in merges) == list(itertools.combinations(range(5), 2))
    assert [found.estimate for found in merges] == sorted(found.estimate for found in merges)
    for found in merges:
        wanted = last_layer_loss(problem, parameters, act, found)
        assert found.estimate == pytest.approx(wanted, rel=1e-5, abs=1e-9), found
        others = [last_layer_loss(problem, parameters, act, replace(found, mix=mix)) for mix in MIXES[1:-1]]
        assert found.estimate <= min(others) * (1 + 1e-5)


@pytest.mark.parametrize("act", ["tanh", "relu"])
def test_a_merge_carried_out_by_least_squares_has_the_loss_that_was_estimated(act):
    problem, parameters = teacher((3, 5, 2), act)
    with float64():
        packed = pack(problem, parameters, (1,))
        for found in estimate_merges(problem, parameters, layer=1):
            values = {start.kind: start.value for start in apply_merge(packed, found, both=True)}
            assert values["fitted"] == pytest.approx(found.estimate, rel=1e-5, abs=1e-9)
            assert values["plain"] >= values["fitted"]


def test_the_estimates_of_neurons_that_live_are_those_of_the_network_without_the_others():
    problem, parameters = teacher((3, 5, 2))
    gone = {**parameters, "2.weight": parameters["2.weight"] * np.array([1.0, 1.0, 0.0, 1.0, 1.0])}
    small = teacher((3, 4, 2))[0]
    kept = [0, 1, 3, 4]
    less = {"0.weight": parameters["0.weight"][kept], "0.bias": parameters["0.bias"][kept]}
    less |= {"2.weight": parameters["2.weight"][:, kept], "2.bias": parameters["2.bias"]}
    x, _ = rows(problem)
    data = teacher_data(small.network, less, x)
    ours = estimate_merges(Problem(problem.network, data), gone, layer=1, live=kept)
    theirs = estimate_merges(Problem(small.network, data), less, layer=1)
    assert [tuple(kept.index(i) for i in merge.pair) for merge in ours] == [merge.pair for merge in theirs]
    np.testing.assert_allclose([m.estimate for m in ours], [m.estimate for m in theirs], rtol=1e-6, atol=1e-12)


@pytest.fixture(scope="module")
def toy():
    """A 2-4-1 teacher, and what shrinking it to two neurons gives."""
    problem, parameters = teacher((2, 4, 1), seed=3)
    return problem, parameters, shrink(problem, parameters, widths={1: 2})


def test_every_step_says_what_it_did_and_the_small_network_is_a_critical_point(toy):
    problem, parameters, found = toy
    assert [step.widths for step in found.steps] == [(2, 3, 1), found.network.widths] == [(2, 3, 1), (2, 2, 1)]
    assert found.reached
    assert found.steps[0].loss_before == problem.loss_of(parameters) == found.loss_start
    assert found.steps[1].loss_before == found.steps[0].loss_after
    assert found.loss <= found.steps[-1].loss_after * (1 + 1e-10)
    assert all(step.loss_after <= step.loss_merged for step in found.steps)
    assert sorted(i for group in found.members[1] for i in group) == [0, 1, 2, 3]
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in found.parameters.items()}
    loss = torch_loss(tensors, *rows(problem), "tanh")
    loss.backward()
    norm = float(torch.sqrt(sum((tensor.grad**2).sum() for tensor in tensors.values())))
    assert loss.item() == pytest.approx(found.loss, rel=1e-9, abs=0.0)
    assert norm == pytest.approx(found.gradient_norm, rel=1e-3, abs=1e-13)
    assert (found.ending is Outcome.CONVERGED) == (norm <= 1e-10)


def test_the_first_merge_costs_no_more_than_any_pair_minimised_by_scipy(toy):
    problem, parameters, found = toy
    neurons, layout = problem.network.neurons(1), MLP((2, 3, 1), "tanh").layout
    x, y = rows(problem)

    def value(flat):
        tensors = {n: torch.tensor(v, requires_grad=True) for n, v in layout.unflatten_numpy(flat).items()}
        loss = torch_loss(tensors, x, y, "tanh")
        loss.backward()
        return loss.item(), np.concatenate([tensor.grad.numpy().ravel() for tensor in tensors.values()])

    best = np.inf
    for pair in itertools.combinations(range(4), 2):
        reduced = merge(parameters, neurons, *pair)
        start = np.concatenate([np.ravel(reduced[name]) for name in layout.names])
        best = min(best, minimize(value, start, jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 400}).fun)
    first = found.steps[0]
    assert first.loss_after <= best * (1 + 1e-4) or first.outcome is not Outcome.CONVERGED
    assert first.loss_after <= 3 * best


@settings(max_examples=6)
@given(unit=st.integers(0, 2), share=st.floats(-2, 2), order=st.permutations(range(4)))
def test_a_copied_neuron_is_merged_back_at_no_cost_wherever_it_stands(unit, share, order):
    problem, parameters = teacher((2, 3, 1), seed=1)
    neurons = problem.network.neurons(1)
    wide = permute(split(parameters, neurons, unit, (share, 1 - share)), neurons, order)
    x, y = rows(problem)
    found = shrink(Problem(MLP((2, 4, 1), "tanh"), Data(x, y)), wide, widths={1: 3})
    assert found.loss < 1e-20
    assert {order.index(unit), order.index(3)} in [set(group) for group in found.members[1]] or abs(share) * abs(
        1 - share
    ) < 1e-6


@pytest.mark.parametrize("act", ["tanh", "sigmoid"])
def test_sign_twins_of_odd_activations_cost_nothing(act):
    problem, parameters = teacher((2, 3, 1), act, seed=1)
    twin = {
        "0.weight": np.concatenate([parameters["0.weight"], -parameters["0.weight"][:1]]),
        "0.bias": np.concatenate([parameters["0.bias"], -parameters["0.bias"][:1]]),
        "2.weight": np.concatenate([parameters["2.weight"], [[0.7]]], axis=1),
        "2.bias": parameters["2.bias"],
    }
    network = MLP((2, 4, 1), act)
    x, _ = rows(problem)
    first = estimate_merges(Problem(network, teacher_data(network, twin, x)), twin, layer=1)[0]
    assert first.pair == (0, 3)
    assert first.sign == -1.0
    assert abs(first.estimate) < RIDGE  # a regression on all columns at once leaves rounding of 1e-8, of either sign


def test_the_order_of_the_neurons_does_not_matter(toy):
    problem, parameters, found = toy
    order = [2, 0, 3, 1]
    other = shrink(problem, permute(parameters, problem.network.neurons(1), order), widths={1: 2})
    ours = [step.loss_after for step in found.steps]
    np.testing.assert_allclose([step.loss_after for step in other.steps], ours, rtol=1e-5)


def test_the_scale_of_a_relu_neuron_does_not_matter():
    problem, parameters = teacher((2, 4, 1), "relu", seed=2)
    scaled = {name: value.copy() for name, value in parameters.items()}
    scaled["0.weight"][1] *= 8.0
    scaled["0.bias"][1] *= 8.0
    scaled["2.weight"][:, 1] /= 8.0
    ours, theirs = (estimate_merges(problem, at, layer=1) for at in (parameters, scaled))
    assert [merge.pair for merge in ours] == [merge.pair for merge in theirs]
    np.testing.assert_allclose([m.estimate for m in ours], [m.estimate for m in theirs], rtol=1e-6)
    found = shrink(problem, scaled, widths={1: 3})
    assert found.network.widths == (2, 3, 1)
    assert found.loss <= ours[0].estimate * (1 + 1e-9)


@pytest.mark.parametrize("packed", [0.0, 1.0], ids=["never cut", "cut after every merge"])
def test_neurons_held_at_zero_are_as_good_as_gone(toy, monkeypatch, packed):
    problem, parameters, found = toy
    monkeypatch.setattr(module, "PACKED", packed)
    other = shrink(problem, parameters, widths={1: 2})
    assert other.network == found.network
    assert other.members == found.members
    np.testing.assert_allclose(
        [step.loss_after for step in other.steps], [step.loss_after for step in found.steps], rtol=1e-6
    )


def test_several_layers_are_narrowed_by_the_cheapest_merge_of_all_until_each_is_narrow_enough(monkeypatch):
    monkeypatch.setattr(module, "PACKED", 0.0)
    problem, parameters = teacher((2, 4, 5, 2), seed=5)
    before = {name: value.copy() for name, value in parameters.items()}
    found = shrink(problem, parameters, widths={1: 3, 2: 3}, settings=ShrinkSettings(candidates=3))
    assert found.network.widths == (2, 3, 3, 2)
    assert sorted(step.layer for step in found.steps) == [1, 2, 2]
    assert all(step.candidates == 3 for step in found.steps)
    assert {layer: len(groups) for layer, groups in found.members.items()} == {1: 3, 2: 3}
    assert all(np.array_equal(parameters[name], before[name]) for name in before)
    assert all(value.dtype == np.float64 for value in found.parameters.values())
    assert jnp.zeros(1).dtype == jnp.float32, "the caller's JAX stays in float32"


def test_merging_ends_before_the_loss_exceeds_its_bound(toy):
    problem, parameters, found = toy
    bound = 0.5 * (found.steps[0].loss_after + found.steps[1].loss_after)
    with_widths = shrink(problem, parameters, widths={1: 2}, max_loss=bound)
    without = shrink(problem, parameters, max_loss=bound)
    for other in (with_widths, without):
        assert other.network.widths == (2, 3, 1)
        assert other.loss <= bound
        assert f"above {bound:.6g}" in other.reasons[0]
    assert not with_widths.reached
    assert without.reached
    assert with_widths.evaluations["gradients"] > with_widths.steps[0].evaluations["gradients"]


def test_a_network_of_the_width_wanted_comes_back_as_it_was(toy):
    problem, parameters, _ = toy
    found = shrink(problem, parameters, widths={1: 4})
    assert (found.steps, found.reached) == ((), True)
    assert all(np.array_equal(found.parameters[name], parameters[name]) for name in parameters)


def test_labels_and_decay_work_and_one_neuron_can_remain(monkeypatch):
    monkeypatch.setattr(module, "PACKED", 0.0)  # one shape: compiled once
    generator = np.random.default_rng(0)
    x = generator.normal(size=(150, 2))
    network = MLP((2, 4, 3), "tanh")
    labels = (x[:, 0] > 0.3).astype(int) + (x[:, 1] > 0)
    problem = Problem(network, Data(x, labels=labels), loss="cross_entropy", weight_decay=1e-3)
    found = shrink(problem, network.initial(0), widths={1: 1})
    assert found.network.widths == (2, 1, 3)
    assert found.ending is Outcome.CONVERGED
    assert found.accuracy is not None
    assert found.steps[-1].accuracy == pytest.approx(found.accuracy)
    assert found.loss <= found.steps[-1].loss_after * (1 + 1e-12)


def test_large_networks_are_settled_without_hessians():
    problem, parameters = teacher((12, 16, 4), seed=0, samples=400)
    assert Layout.of(parameters).size > 256
    found = shrink(problem, parameters, widths={1: 14})
    assert found.network.widths == (12, 14, 4)
    assert [step.candidates for step in found.steps] == [4, 4]
    assert all(step.loss_after < step.loss_merged for step in found.steps)
    assert all((step.gradient_norm <= step.tolerance) == (step.outcome is Outcome.CONVERGED) for step in found.steps)
    assert found.ending is Outcome.CONVERGED
    assert found.gradient_norm <= found.steps[-1].tolerance * 1.001


@dataclass(frozen=True)
class Residual:
    """x -> W2 tanh(W1 x) + x: not a perceptron; its units are known by their slices alone."""

    widths: tuple[int, ...]
    fused: bool = False

    @property
    def layout(self):
        return Layout(("up", "down"), ((self.widths[1], 2), (2, self.widths[1])))

    def apply(self, parameters, inputs):
        return jnp.tanh(inputs @ jnp.asarray(parameters["up"]).T) @ jnp.asarray(parameters["down"]).T + inputs

    def neurons(self, layer):
        return Neurons((Slice("up", 0),), (Slice("down", 1),), units=self.widths[1] if self.fused else None)

    def homogeneous(self, layer):
        return False

    def check(self, parameters):
        assert Layout.of(parameters) == self.layout


def test_units_that_are_known_by_their_slices_alone_can_be_merged():
    generator = np.random.default_rng(1)
    network, parameters = (
        Residual((2, 4, 2)),
        {"up": generator.normal(size=(4, 2)), "down": generator.normal(size=(2, 4))},
    )
    parameters["up"][3] = parameters["up"][1]
    x = generator.normal(size=(100, 2))
    problem = Problem(network, Data(x, np.tanh(x @ parameters["up"].T) @ parameters["down"].T + x))
    found = shrink(problem, parameters, widths={1: 2})
    assert found.steps[0].pair == (1, 3)
    assert found.steps[0].loss_after < 1e-20
    assert found.network == Residual((2, 2, 2))
    fused = Problem(replace(network, fused=True), Data(x, x))
    with pytest.raises(NeuronsError, match="fused array cannot be added or removed"):
        shrink(fused, parameters, widths={1: 2})


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"widths": {1: 5}}, SettingsError, "cannot be merged to this width: width=5; expected 1 to 4"),
        ({"widths": {1: 0}}, SettingsError, "width=0; expected 1 to 4"),
        ({"widths": {2: 1}}, NeuronsError, "layer=2; expected 1 to 1"),
        ({}, SettingsError, "nothing says how far to shrink"),
        ({"widths": {}}, SettingsError, "nothing says how far to shrink"),
        ({"max_loss": -1.0}, SettingsError, "max_loss=-1.0"),
        ({"max_loss": float("nan")}, SettingsError, "max_loss=nan"),
        ({"widths": {1: 2}, "settings": ShrinkSettings(candidates=0)}, SettingsError, "candidates=0"),
        ({"widths": {1: 2}, "settings": ShrinkSettings(tolerance=0.0)}, SettingsError, "tolerance=0.0"),
    ],
)
def test_impossible_wishes_are_refused(toy, options, error, text):
    problem, parameters, _ = toy
    with pytest.raises(error, match=text):
        shrink(problem, parameters, **options)


def test_parameters_that_do_not_fit_are_refused(toy):
    problem, parameters, _ = toy
    with pytest.raises(ShapeError, match="do not fit the network"):
        shrink(problem, {**parameters, "0.bias": np.zeros(3)}, widths={1: 2})
    with pytest.raises(NonFiniteError, match="starting point"):
        shrink(problem, {**parameters, "0.bias": np.full(4, np.nan)}, widths={1: 2})


# The command line.


@pytest.fixture
def here(tmp_path, monkeypatch, toy):
    """A working folder with the toy's teacher and data, and the program with its shrink command."""
    monkeypatch.chdir(tmp_path)
    problem, parameters, _ = toy
    save_weights("net.safetensors", problem.network, parameters)
    x, y = rows(problem)
    np.savez("data.npz", inputs=x, targets=y)
    app = main.build()
    if "shrink" not in app:
        app.command(shrink_command)
    monkeypatch.setattr(main, "build", lambda: app)
    return tmp_path


SHRINK = ("shrink", "net.safetensors", "--data", "data.npz", "--out", "small.safetensors")


def test_shrink_writes_a_small_network_and_one_json_document(here, capfd, toy):
    assert main.run([*SHRINK, "--widths", "1:2", "--json"]) == 0
    captured = capfd.readouterr()
    answer = json.loads(captured.out, parse_constant=pytest.fail)
    assert captured.err == ""
    network, parameters = load_weights("small.safetensors")
    assert list(network.widths) == answer["widths"] == [2, 2, 1]
    assert all(np.array_equal(parameters[name], toy[2].parameters[name]) for name in parameters)
    assert answer["loss"] == toy[2].loss
    assert [step["widths"] for step in answer["steps"]] == [[2, 3, 1], [2, 2, 1]]
    assert answer["reached"] is True


def test_a_bound_that_ends_the_merging_exits_with_one_and_is_told(here, capfd):
    assert main.run([*SHRINK, "--widths", "1:1", "--max-loss", "1e-30"]) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("widths 2-4-1 (the widths asked for were not reached)")
    assert "above 1e-30" in captured.err
    assert load_weights("small.safetensors")[0].widths == (2, 4, 1)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--widths", "12"), "not widths by layer: widths=12; expected such as 1:12"),
        (("--widths", "1:2,1:3"), "widths=1:2,1:3"),
        (("--widths", "1:9"), "width=9; expected 1 to 4"),
        (("--widths", "2:1"), "layer=2; expected 1 to 1"),
        ((), "nothing says how far to shrink"),
        (("--widths", "1:2", "--loss", "l1"), "loss=l1"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(here, capfd, words, text):
    assert main.run([*SHRINK, *words]) == 2
    captured = capfd.readouterr()
    assert captured.err.count("\n") == 1
    assert text in captured.err
    assert not (here / "small.safetensors").exists()


def test_an_output_that_exists_is_refused_before_computing(here, capfd, monkeypatch):
    monkeypatch.setattr(module, "shrink", pytest.fail)
    (here / "small.safetensors").write_bytes(b"precious")
    assert main.run([*SHRINK, "--widths", "1:2"]) == 2
    assert "exists" in capfd.readouterr().err
    assert (here / "small.safetensors").read_bytes() == b"precious"
