"""Growing along lines that lower the loss, against losses and scans written here in NumPy and PyTorch."""

import math

import numpy as np
import pytest

import saddlescope as ss
from saddlescope.arrays import to_numpy
from saddlescope.errors import NeuronsError, NonFiniteError, SettingsError, ShapeError
from saddlescope.models.contract import adapted
from saddlescope.models.sizes import with_units
from saddlescope.workflows.escaped import NO_GAIN

torch = pytest.importorskip("torch")
nn = torch.nn
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's own, which differ from version to version

ACTS = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0.0),
    "gelu": lambda z: 0.5 * z * (1.0 + np.vectorize(math.erf)(z / math.sqrt(2.0))),
}


def task(activation="tanh", widths=(3, 2, 3, 2), loss="mse", seed=0, samples=40):
    """A network at random parameters, and data that it does not fit."""
    rng = np.random.default_rng(seed)
    model = ss.MLP(widths, activation)
    params = {name: rng.normal(size=value.shape) for name, value in model.initial(0).items()}
    x = rng.normal(size=(samples, widths[0]))
    y = np.sin(2.0 * x @ rng.normal(size=(widths[0], widths[-1])))
    data = ss.Data(x, y) if loss == "mse" else ss.Data(x, labels=y.argmax(axis=1))
    return ss.Problem(model, data, loss=loss), params, x, y


def plain_loss(params, x, y, activation, loss="mse"):
    """The loss of a chain, layer by layer, in NumPy."""
    h, depth = x, len(params) // 2
    for k in range(depth):
        h = h @ params[f"{2 * k}.weight"].T + params[f"{2 * k}.bias"]
        h = ACTS[activation](h) if k < depth - 1 else h
    if loss == "mse":
        return np.mean((h - y) ** 2)
    top = h.max(axis=1)
    return np.mean(top + np.log(np.exp(h - top[:, None]).sum(axis=1)) - h[np.arange(len(h)), y.argmax(axis=1)])


def along(params, layer, offer, t):
    """The grown parameters at a step along an offer's line, put together by hand."""
    w, b, a = f"{2 * layer - 2}.weight", f"{2 * layer - 2}.bias", f"{2 * layer}.weight"
    weight, bias, out = params[w], params[b], params[a].copy()
    inputs = weight.shape[1]
    step_in, step_out = offer.incoming, offer.outgoing * t
    if offer.family == "split":
        j, s = offer.source, t / math.sqrt(2.0)
        row = weight[j] - s * step_in[:inputs]
        shift = bias[j] - s * step_in[inputs]
        weight, bias = weight.copy(), bias.copy()
        weight[j] += s * step_in[:inputs]
        bias[j] += s * step_in[inputs]
        half = out[:, j] / 2.0
        column, out[:, j] = half - s * offer.outgoing, half + s * offer.outgoing
    else:
        row, shift, column = step_in[:inputs], step_in[inputs], step_out
    grown = {w: np.vstack([weight, row]), b: np.append(bias, shift), a: np.column_stack([out, column])}
    return {**params, **grown}


CASES = [("tanh", "mse", 1), ("tanh", "mse", 2), ("gelu", "cross_entropy", 1), ("relu", "mse", 1)]


@pytest.mark.parametrize(("activation", "loss", "layer"), CASES)
def test_promises_and_losses_are_those_of_a_plain_loss(activation, loss, layer):
    """Derivatives along both lines by finite differences, promises from these, the losses by the loss itself."""
    problem, params, x, y = task(activation, loss=loss, seed=1 if activation == "relu" else 0)
    found = ss.expand(problem, params, {layer: problem.network.widths[layer] + 1}, escape=True)
    (unit,) = found.grown

    def at(offer, t):
        return plain_loss(along(params, layer, offer, t), x, y, activation, loss)

    start = plain_loss(params, x, y, activation, loss)
    assert unit.loss_before == pytest.approx(start, rel=1e-12)
    for offer in (unit.split, unit.birth):
        assert at(offer, 0.0) == pytest.approx(start, rel=1e-13)
        assert at(offer, offer.step) == pytest.approx(offer.loss, rel=1e-12)
        assert offer.loss < start
        h = 1e-3
        first = (at(offer, h) - at(offer, -h)) / (2 * h)
        second = (at(offer, h) + at(offer, -h) - 2 * start) / h**2
        assert offer.slope == pytest.approx(first, abs=1e-6)
        assert offer.curvature == pytest.approx(second, rel=1e-4, abs=1e-6)
    split, birth = unit.split, unit.birth
    h = 1e-3 if activation == "relu" else 0.02  # between kinks
    fourth = (at(split, 2 * h) + at(split, -2 * h) - 4 * at(split, h) - 4 * at(split, -h) + 6 * start) / h**4
    assert split.quartic == pytest.approx(fourth, rel=0.02, abs=1e-3 * abs(split.curvature))
    for offer, model in ((split, split.quartic), (birth, birth.curvature)):
        if model <= 0.0:
            assert offer.promise is None
    if split.quartic > 0.0:
        t = np.linspace(0.0, 3.0 * math.sqrt(-6.0 * split.curvature / split.quartic), 200001)
        model = split.curvature * t**2 / 2 + split.quartic * t**4 / 24
        assert split.promise == pytest.approx(-model.min(), rel=1e-8)
    if birth.curvature > 0.0:
        t = np.linspace(0.0, -3.0 * birth.slope / birth.curvature, 200001)
        assert birth.promise == pytest.approx(-(birth.slope * t + birth.curvature * t**2 / 2).min(), rel=1e-8)
    best = min((unit.split, unit.birth), key=lambda offer: offer.loss)
    assert unit.taken == best.family
    assert unit.loss_after == pytest.approx(best.loss, rel=1e-13)
    assert plain_loss(found.parameters, x, y, activation, loss) == pytest.approx(unit.loss_after, rel=1e-12)
    by_hand = along(params, layer, best, best.step)
    for name, value in found.parameters.items():
        np.testing.assert_allclose(value, by_hand[name], rtol=0, atol=1e-13)


def test_no_direction_of_a_scan_is_better():
    """1-2-1: all directions of every split, all incoming vectors of a birth of the same length, on fine grids."""
    problem, params, x, y = task(widths=(1, 2, 1), samples=15, seed=3)
    (unit,) = ss.expand(problem, params, {1: 3}, escape=True).grown
    start, h = plain_loss(params, x, y, "tanh"), 3e-3

    def trial(family, source, incoming, outgoing, t):
        offer = type(unit.split)(**{**vars(unit.split), "family": family, "source": source})
        for name, value in (("incoming", incoming), ("outgoing", outgoing)):
            object.__setattr__(offer, name, value)
        return plain_loss(along(params, 1, offer, t), x, y, "tanh")

    lowest = np.inf
    for source in (0, 1):
        for polar in np.linspace(0.0, np.pi, 41):
            for turn in np.linspace(0.0, np.pi, 41):
                into = np.sin(polar) * np.array([np.cos(turn), np.sin(turn)])
                both = trial("split", source, into, np.array([np.cos(polar)]), h)
                lowest = min(lowest, 2.0 * (both - start) / h**2)
    assert unit.split.curvature <= lowest + 1e-4 * abs(lowest)
    assert unit.split.curvature == pytest.approx(lowest, rel=0.02)

    length = math.sqrt(np.mean(params["0.weight"] ** 2 + params["0.bias"][:, None] ** 2) * 1.0)
    assert np.linalg.norm(unit.birth.incoming) == pytest.approx(length, rel=1e-12)
    slopes = []
    for turn in np.linspace(0.0, 2.0 * np.pi, 2001):
        into = length * np.array([np.cos(turn), np.sin(turn)])
        ends = [trial("birth", None, into, np.array([1.0]), t) for t in (1e-4, -1e-4)]
        slopes.append(abs(ends[0] - ends[1]) / 2e-4)
    assert -unit.birth.slope >= max(slopes) * (1.0 - 1e-7)
    assert -unit.birth.slope == pytest.approx(max(slopes), rel=1e-4)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_unit_after_unit_the_loss_falls(activation):
    problem, params, x, y = task(activation, loss="cross_entropy", seed=1)
    before = {name: value.copy() for name, value in params.items()}
    found = ss.expand(problem, params, {2: 5, 1: 4}, escape=True)
    assert found.widths == (3, 4, 5, 2)
    assert found.reached
    assert [(unit.layer, unit.neuron) for unit in found.grown] == [(1, 2), (1, 3), (2, 3), (2, 4)]
    losses = [found.loss_before, *(unit.loss_after for unit in found.grown)]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 5
    assert [unit.loss_before for unit in found.grown] == losses[:-1]
    end = plain_loss(found.parameters, x, y, activation, "cross_entropy")
    assert end == pytest.approx(found.loss_after, rel=1e-12)
    for name, value in params.items():
        np.testing.assert_array_equal(value, before[name])


def test_neither_the_order_of_units_nor_that_of_samples_matters():
    problem, params, x, y = task()
    turned = ss.Problem(problem.network, ss.Data(x[::-1], y[::-1]))
    swapped = {"0.weight": params["0.weight"][::-1], "0.bias": params["0.bias"][::-1]}
    swapped = {**params, **swapped, "2.weight": params["2.weight"][:, ::-1]}
    one = ss.expand(problem, params, {1: 3}, escape=True).grown[0]
    for other in (ss.expand(turned, params, {1: 3}, escape=True), ss.expand(problem, swapped, {1: 3}, escape=True)):
        unit = other.grown[0]
        assert unit.split.promise == pytest.approx(one.split.promise, rel=1e-8)
        assert unit.birth.promise == pytest.approx(one.birth.promise, rel=1e-4)  # a maximum that is approached
        assert unit.loss_after == pytest.approx(one.loss_after, rel=1e-5)


def test_at_zero_loss_growing_gains_nothing_and_nothing_is_changed():
    problem, params, x, _ = task()
    fitted = ss.Problem(problem.network, ss.Data(x, problem.outputs_of(params)))
    found = ss.expand(fitted, params, {1: 4}, escape=True)
    assert found.grown == ()
    assert not found.reached
    assert NO_GAIN in found.refused[1]
    assert found.refused[1].startswith("stopped at 2 of 4 units")
    assert found.widths == (3, 2, 3, 2)
    for name, value in found.parameters.items():
        np.testing.assert_array_equal(value, params[name])


def test_linear_units_gain_nothing_where_the_residuals_are_orthogonal_to_the_inputs():
    """Least squares: the loss is not zero, but no linear unit, new or copied, sees what is left."""
    problem, params, x, y = task("identity", widths=(2, 3, 2))
    columns = np.column_stack([x, np.ones(len(x))])
    best = np.linalg.lstsq(columns, y, rcond=None)[0]
    params["0.weight"][:2], params["0.bias"][:2] = np.eye(2), 0.0
    params["2.weight"] = np.column_stack([best[:2].T, np.zeros(2)])
    params["2.bias"] = best[2]
    found = ss.expand(problem, params, {1: 4}, escape=True)
    assert found.loss_before > 0.1
    assert found.grown == ()
    assert NO_GAIN in found.refused[1]


def test_a_penalty_counts():
    """A copy doubles the penalty of what comes in: the decrease is measured with it."""
    problem, params, x, y = task()
    decay = 0.01
    heavy = ss.Problem(problem.network, ss.Data(x, y), weight_decay=decay)
    found = ss.expand(heavy, params, {1: 3}, escape=True)

    def whole(p):
        return plain_loss(p, x, y, "tanh") + 0.5 * decay * sum(np.sum(value**2) for value in p.values())

    (unit,) = found.grown
    assert whole(found.parameters) == pytest.approx(unit.loss_after, rel=1e-12)
    assert whole(found.parameters) < whole(params)
    split = unit.split
    assert split.offset == pytest.approx(whole(along(params, 1, split, 0.0)) - whole(params), rel=1e-9)
    curve = 2.0 * (whole(along(params, 1, split, 1e-3)) - whole(along(params, 1, split, 0.0))) / 1e-6
    assert split.curvature == pytest.approx(curve, rel=1e-4)

    crushing = ss.Problem(problem.network, ss.Data(x, y), weight_decay=1e3)
    assert ss.expand(crushing, params, {1: 3}, escape=True).grown == ()


# Any model.


def encoder(units=5):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, units, dropout=0.0, batch_first=True, activation="gelu")
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(12, 2)).double().eval()


class Gated(nn.Module):
    """Units of which the first part also weighs what all of them send: they feel each other."""

    def __init__(self, channels=3):
        super().__init__()
        self.up, self.squeeze = nn.Conv1d(2, channels, 2), nn.Linear(channels, 2)
        self.excite, self.down = nn.Linear(2, channels), nn.Linear(channels, 2)

    def forward(self, x):
        h = torch.tanh(self.up(x))
        gate = torch.sigmoid(self.excite(torch.tanh(self.squeeze(h.mean(-1)))))
        return self.down((h * gate[..., None]).mean(-1))


def torch_loss(module, x, labels):
    with torch.no_grad():
        return float(nn.functional.cross_entropy(module(x), labels))


@pytest.mark.parametrize(
    ("make", "shape", "layer", "width"),
    [(encoder, (30, 3, 4), "0.linear1", 5), (Gated, (30, 2, 5), "up", 3)],
)
def test_a_torch_module_grows_and_its_loss_falls_in_torch(make, shape, layer, width):
    torch.manual_seed(1)
    module = make().double().eval()
    x, labels = torch.randn(shape).double(), torch.randint(0, 2, shape[:1])
    model, params = ss.from_torch(module, x[:4])
    problem = ss.Problem(model, ss.Data(x.numpy(), labels=labels.numpy()), loss="cross_entropy")
    found = ss.expand(problem, params, {layer: width + 1}, escape=True)
    assert len(found.grown) == 1
    assert found.grown[0].split is not None
    assert found.grown[0].birth is not None
    assert found.loss_before == pytest.approx(torch_loss(module, x, labels), rel=1e-10)
    grown = make(width + 1).double().eval()
    grown.load_state_dict(ss.to_torch(found, grown), strict=True)
    assert torch_loss(grown, x, labels) == pytest.approx(found.loss_after, rel=1e-10)
    assert found.loss_after < found.loss_before


# Moments.


def test_moments_are_those_of_gradients_in_the_grown_network():
    """Gradients there, at equal shares, of copies and of a unit that sends nothing: only by its outgoing weights."""
    problem, params, x, y = task(seed=1)
    gradient = problem.gradient_of(params)
    found = ss.expand(problem, params, {1: 3, 2: 4}, escape=True)
    assert {unit.taken for unit in found.grown} == {"split", "birth"}
    first, second = (
        ss.grown_moments(gradient, found),
        ss.grown_moments({name: value**2 for name, value in gradient.items()}, found, power=2),
    )
    copied = {name: value.copy() for name, value in params.items()}
    births = []
    for unit in found.grown:
        copied = along(copied, unit.layer, unit.offer, 0.0)
        births += [(unit.layer, unit.neuron)] if unit.taken == "birth" else []
    there = ss.Problem(found.network, ss.Data(x, y)).gradient_of(copied)
    for layer, neuron in births:
        there[f"{2 * layer}.weight"][:, neuron] = 0.0
    for name, value in there.items():
        np.testing.assert_allclose(first[name], value, rtol=0, atol=1e-13)
        np.testing.assert_allclose(second[name], value**2, rtol=0, atol=1e-13)
    with pytest.raises(ShapeError, match="before it grew"):
        ss.grown_moments(first, found)
    with pytest.raises(ShapeError, match="not of this network"):
        ss.grown_moments({"other": np.ones(2)}, found)
    with pytest.raises(SettingsError, match="power=0"):
        ss.grown_moments(gradient, found, power=0)


# What is refused.


def test_bad_input_is_refused_with_the_reason():
    problem, params, x, _ = task()
    holes = to_numpy(params)
    holes["0.weight"][0, 0] = np.nan
    with pytest.raises(NonFiniteError, match=r"0\.weight\[0, 0\]=nan"):
        ss.expand(problem, holes, {1: 3}, escape=True)
    with pytest.raises(SettingsError, match=r"needs a loss.*expected a Problem"):
        ss.expand(problem.network, params, {1: 3}, escape=True)
    for words in ({"copies": {(1, 0): 2}}, {"zero_type": {1: [1]}}, {"inputs": x}, {"shares": "random"}):
        with pytest.raises(SettingsError, match=f"does not go with escape: {next(iter(words))}="):
            ss.expand(problem, params, {1: 3}, escape=True, **words)
    for widths, text in (({}, "nothing to grow"), ({1: 1}, "width=1; expected an integer, at least 2")):
        with pytest.raises(SettingsError, match=text):
            ss.expand(problem, params, widths, escape=True)
    with pytest.raises(NeuronsError, match="no such layer: layer=3"):
        ss.expand(problem, params, {3: 5}, escape=True)
    with pytest.raises(SettingsError, match="seed=-1"):
        ss.expand(problem, params, {1: 3}, escape=True, seed=-1)
    with pytest.raises(ShapeError):
        ss.expand(problem, {"0.weight": params["0.weight"]}, {1: 3}, escape=True)
    assert ss.expand(problem, params, {1: 2}, escape=True).grown == ()


def test_units_under_a_norm_are_refused():
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 2)).double().eval()
    x = torch.randn(9, 3).double()
    model, params = ss.from_torch(module, x)
    problem = ss.Problem(model, ss.Data(x.numpy(), np.zeros((9, 2))))
    with pytest.raises(SettingsError, match="cannot change"):
        ss.expand(problem, params, {1: 6}, escape=True)


def test_without_escape_a_layer_may_be_named_and_the_function_stays():
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double().eval()
    x = torch.randn(9, 3).double()
    model, params = ss.from_torch(module, x)
    named = model.layers[1].facts.name
    found = ss.expand(model, params, {named: 6}, inputs=x.numpy())
    assert found.max_output_deviation <= 1e-14 * found.output_scale
    assert with_units(adapted(model), {1: 6}).layout == found.network.layout
    with pytest.raises(SettingsError, match="a layer has two widths"):
        ss.expand(model, params, {named: 6, 1: 6}, inputs=x.numpy())
