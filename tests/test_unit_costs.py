"""Costs of dropping and merging units against least squares by NumPy, one unit at a time."""

import numpy as np
import pytest

import saddlescope as ss

SAMPLES, HALF = 61, 30


def problem_of(widths=(3, 6, 2), *, activation="tanh", seed=0, samples=SAMPLES, chunk=None, bias=True):
    g = np.random.default_rng(seed)
    net = ss.MLP(widths, activation, bias=bias)
    params = {n: 2.0 * v for n, v in net.initial(seed).items()}
    data = ss.Data(g.normal(size=(samples, widths[0])), targets=g.normal(size=(samples, widths[-1])))
    return ss.Problem(net, data, chunk=chunk), params


def activations(problem, params, *, biased=True):
    z = problem.unpadded_inputs() @ params["0.weight"].T
    return np.tanh(z + params["0.bias"] if biased else z)


def refitted(columns, sent, bias=True):
    """Costs on both halves when ``sent`` is fitted by these columns on the first half."""
    columns = np.concatenate([columns, np.ones((len(columns), 1))], axis=1) if bias else columns
    weights = np.linalg.lstsq(columns[:HALF], sent[:HALF], rcond=None)[0]
    return [
        np.sum((sent[part] - columns[part] @ weights) ** 2) / np.sum((sent[part] - sent[part].mean(0)) ** 2)
        for part in (slice(None, HALF), slice(HALF, None))
    ]


@pytest.mark.parametrize("chunk", [None, 7])
def test_dropping_costs_what_least_squares_leaves(chunk):
    problem, params = problem_of(chunk=chunk)
    costs = ss.exchange(problem, params, layer=1)[1].costs
    h = activations(problem, params)
    sent = h @ params["2.weight"].T
    assert (costs.bias, costs.rows) == ("2.bias", (HALF, SAMPLES - HALF))
    for unit in range(6):
        fit, held = refitted(np.delete(h, unit, 1), sent)
        assert costs.drop[unit] == pytest.approx(fit, rel=1e-8)
        assert costs.drop_held_out[unit] == pytest.approx(held, rel=1e-8)


def test_without_a_bias_no_constant_is_fitted():
    problem, params = problem_of(bias=False)
    costs = ss.exchange(problem, params, layer=1)[1].costs
    h = activations(problem, params, biased=False)
    assert costs.bias is None
    for unit in range(6):
        fit, held = refitted(np.delete(h, unit, 1), h @ params["2.weight"].T, bias=False)
        assert [costs.drop[unit], costs.drop_held_out[unit]] == pytest.approx([fit, held], rel=1e-8)


def test_merging_costs_what_least_squares_leaves_with_the_merged_unit():
    """Of the three most similar partners and three mixes, the best on the first half."""
    problem, params = problem_of()
    costs = ss.exchange(problem, params, layer=1)[1].costs
    h = activations(problem, params)
    sent = h @ params["2.weight"].T
    x = np.concatenate([problem.unpadded_inputs(), np.ones((SAMPLES, 1))], axis=1)
    theta = np.concatenate([params["0.weight"], params["0.bias"][:, None]], axis=1)
    like = np.corrcoef(h[:HALF].T) - 2.0 * np.eye(6)
    for unit in range(6):
        tried = {}
        for partner in np.argsort(-like[unit])[:3]:
            for mix in (0.25, 0.5, 0.75):
                new = np.tanh(x @ (mix * theta[unit] + (1.0 - mix) * theta[partner]))
                rest = np.delete(h, [unit, partner], 1)
                tried[int(partner), mix] = refitted(np.concatenate([rest, new[:, None]], axis=1), sent)
        best = min(tried, key=lambda key: tried[key][0])
        assert (costs.partner[unit], costs.mix[unit]) == best
        assert [costs.merge[unit], costs.merge_held_out[unit]] == pytest.approx(tried[best], rel=1e-7)


def test_a_copy_and_a_dead_unit_cost_nothing_and_the_others_do():
    problem, params = problem_of()
    first, bias, second = (params[name].copy() for name in ("0.weight", "0.bias", "2.weight"))
    first[5], bias[5] = first[2], bias[2]
    second[:, 4] = 0.0
    found = ss.exchange(problem, {**params, "0.weight": first, "0.bias": bias, "2.weight": second}, layer=1)
    costs = found[1].costs
    assert all(costs.verdict[unit] in ("drop", "merge") for unit in (2, 4, 5))
    assert max(costs.drop_held_out[[2, 4, 5]]) < 1e-9
    assert max(costs.merge[[2, 4, 5]]) < 1e-9
    assert min(costs.drop_held_out[[0, 1, 3]]) > 1e-3


def test_the_verdict_follows_the_held_out_cost():
    problem, params = problem_of()
    for most in (0.0, 0.05, 1e9):
        settings = ss.ExchangeSettings(most=most)
        costs = ss.exchange(problem, params, layer=1, settings=settings)[1].costs
        for drop, merge, verdict in zip(costs.drop_held_out, costs.merge_held_out, costs.verdict, strict=True):
            assert verdict == ("keep" if min(drop, merge) > most else "merge" if merge < drop else "drop")


def test_too_few_rows_and_other_layers_are_a_note():
    problem, params = problem_of(samples=14)
    found = ss.exchange(problem, params, layer=1)[1]
    assert found.costs is None
    assert "too few rows to refit" in found.notes[0]
    assert "rows=7; expected more than 7" in found.notes[0]
    quiet = ss.exchange(problem, params, layer=1, settings=ss.ExchangeSettings(costs=False))[1]
    assert (quiet.costs, quiet.notes) == (None, ())


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch warns of itself when it exports
def test_a_layer_behind_a_flattening_has_no_costs_and_a_transformers_has():
    torch = pytest.importorskip("torch")
    from references.doubled_networks import FAMILIES, architecture, drawn

    found = {}
    for name in ("convolution", "transformer, norm first"):
        module = architecture(name)
        case = drawn(name, module, 0, samples=40)
        model, _ = ss.from_torch(module, torch.tensor(case.inputs))
        problem = ss.Problem(model, ss.Data(case.inputs, labels=case.targets), loss=FAMILIES[name].loss)
        found[name] = case, ss.exchange(problem, case.parameters)
    _, conv = found["convolution"]
    for one in conv.layers.values():
        assert one.costs is None
        assert "not dense in them alone" in one.notes[0]
    case, encoder = found["transformer, norm first"]
    costs = encoder["block.linear1"].costs
    assert costs.rows == (60, 60)  # three tokens each
    seen = []
    case.module.load_state_dict({n: torch.tensor(v) for n, v in case.parameters.items()}, strict=False)
    case.module.block.linear2.register_forward_hook(lambda _, given, out: seen.append((given[0], out)))
    case.module(torch.tensor(case.inputs))
    h, sent = (part.detach().numpy().reshape(120, -1) for part in seen[0])
    sent = sent - case.parameters["block.linear2.bias"]
    for unit in range(5):
        columns = np.concatenate([np.delete(h, unit, 1), np.ones((120, 1))], axis=1)
        weights = np.linalg.lstsq(columns[:60], sent[:60], rcond=None)[0]
        for cost, part in ((costs.drop, slice(60)), (costs.drop_held_out, slice(60, None))):
            left = np.sum((sent[part] - columns[part] @ weights) ** 2)
            assert cost[unit] == pytest.approx(left / np.sum((sent[part] - sent[part].mean(0)) ** 2), rel=1e-8)
