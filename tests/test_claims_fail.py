"""Each statement of `claims` can fail: a deliberate wrong input is judged False where the right one is judged True."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from saddlescope.critical.along import Along
from saddlescope.outcomes import Outcome
from saddlescope.papers import claims_counts, claims_paths, claims_points
from saddlescope.papers.claims import STATEMENTS, find_statement, judge, run_claims
from saddlescope.papers.samples import Case, critical_case, lifted_case, minimum_case, with_copies
from saddlescope.paths.result import Path
from saddlescope.resize.manifold import sample
from saddlescope.valleys.result import Walk

SEEDS = range(60)


def changed(case: Case, parameters: dict[str, np.ndarray] | None = None, **facts: Any) -> Case:
    """The case with other parameters or facts, and nothing remembered."""
    own = case.parameters if parameters is None else parameters
    return Case(
        case.seed, {**case.facts, **facts}, case.widths, case.activation, case.bias, own, case.inputs, case.targets
    )


def moved(case: Case) -> Case:
    """Everywhere else: no critical point."""
    return changed(case, {name: value + 0.1 for name, value in case.parameters.items()})


def parted(case: Case) -> Case:
    """The copies no longer share their incoming vector."""
    name, unit = f"{2 * case.facts['layer'] - 2}.weight", case.facts["units"][1]
    weight = case.parameters[name].copy()
    weight[unit] += 0.3 * (1.0 + np.arange(weight.shape[1]))
    return changed(case, {**case.parameters, name: weight})


def other_shares(case: Case) -> Case:
    """The shares said to lie outside (0, 1) lie inside, and the reverse."""
    share = 0.5 if not 0.0 < case.facts["shares"][0] < 1.0 else 1.7
    return changed(case, shares=[share, 1.0 - share])


def other_targets(case: Case) -> Case:
    return Case(
        case.seed, case.facts, case.widths, case.activation, case.bias, case.parameters, case.inputs, case.targets + 0.3
    )


SPOILT: dict[str, Callable[[Case], Case]] = {
    "copies-are-critical": moved,
    "plane-of-equal-loss": parted,
    "plane-is-critical": moved,
    "plane-gradient": parted,
    "zero-eigenvalues": parted,
    "exchange-split": parted,
    "zero-loss-flat": parted,
    "fukumizu-amari-3": other_shares,
    "a-spare-neuron-joins": other_targets,
    "limit-without-exponential": lambda case: changed(case, order=4000),  # K^2/n is no longer small
    "manifold-connected": lambda case: changed(case, small=2, wide=2),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_wrong_case_is_judged_false(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    statement = find_statement(name)
    if name == "manifold-connected":  # said of a graph that has no edges
        right = claims_counts.manifold_graph
        monkeypatch.setattr(claims_counts, "manifold_graph", lambda r, m: replace(right(r, m), connected=r == m))
    for seed in SEEDS:
        case = statement.draw(seed)
        found = statement.judge(case) if name != "manifold-connected" else SimpleNamespace(holds=True)
        if found is not None and found.holds:
            wrong = statement.judge(SPOILT[name](case))
            if wrong is not None and wrong.holds is False:
                return
    raise AssertionError("no wrong case was judged false")


PATHS = {
    "paths-arrive": ({"ending": Outcome.PERMUTATION_POINT}, {"ending": Outcome.CHANNEL}),
    "loss-rises-along-paths": ({"losses": [0.0, 1.0, 2.0]}, {"losses": [0.0, 2.0, 1.0]}),
    "gradient-along-tangent": ({"tangent_angles": [0.0, 0.05]}, {"tangent_angles": [0.0, 5.0]}),
    "gradient-along-distance": ({"distance_angles": [0.0, 0.05]}, {"distance_angles": [0.0, 5.0]}),
    "index-along-paths": ({"index": [[0, 0], [1, 1]]}, {"index": [[0, 0], [2, 2]]}),
    "walks-keep-the-loss": ({"max_loss_deviation": 0.0}, {"max_loss_deviation": 1e-6}),
    "walks-are-critical": ({"max_gradient_norm": 0.0}, {"max_gradient_norm": 1e-3}),
}


def with_fields(kind: type, values: dict[str, Any]) -> Any:
    """A record of which only these fields and properties are there."""
    return object.__new__(type(kind.__name__, (kind,), dict(values)))


@pytest.mark.parametrize("name", PATHS)
def test_a_path_or_walk_that_is_otherwise_is_judged_otherwise(name: str) -> None:
    statement, answers = find_statement(name), []
    for change in PATHS[name]:
        case = changed(statement.draw(1))
        plain: dict[str, Any] = {
            "ending": Outcome.PERMUTATION_POINT,
            "distances": np.array([1.0, 0.5, 0.0]),
            "losses": [0.0, 1.0, 2.0],
            "kinds": np.array(["asked"] * 3),
            "barrier": 2.0,
            "tolerance": 1e-10,
            "converged": np.array([True] * 3),
            "nodes": np.array([0, 1]),
            "gradient_norms": np.array([1.0, 1.0]),
            "tangent_angles": [0.0, 0.0],
            "distance_angles": [0.0, 0.0],
            "index": [[0, 0], [0, 0]],
            "segments": 2,
            "max_loss_deviation": 0.0,
            "max_gradient_norm": 0.0,
        }
        values = {
            key: np.array(value) if isinstance(value, list) else value for key, value in {**plain, **change}.items()
        }
        for key, kind in (("path", Path), ("along", Along), ("walk", Walk)):
            case.remember(key, lambda kind=kind, values=values: with_fields(kind, values))
        found = statement.judge(case)
        assert found is not None
        answers.append(found.holds)
    assert answers == [True, False]


def one_more(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given: function(*given) + 1


WRONG_FORMULAS = {
    "subspaces-counted": (claims_counts, "minimum_subspaces", one_more(claims_counts.minimum_subspaces)),
    "permutation-points-counted": (
        claims_counts,
        "permutation_point_ratio",
        one_more(claims_counts.permutation_point_ratio),
    ),
    "share-of-saddles": (
        claims_counts,
        "saddle_share_limit",
        lambda *given: 2 * claims_counts.Fraction(1, 1) * RIGHT_SHARE(*given),
    ),
    "expansion-keeps-the-function": (
        claims_paths,
        "sample",
        lambda *given, **options: {name: 1.001 * value for name, value in sample(*given, **options).items()},
    ),
}
RIGHT_SHARE = claims_counts.saddle_share_limit


@pytest.mark.parametrize("name", WRONG_FORMULAS)
def test_a_wrong_formula_is_judged_false(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    statement = find_statement(name)
    case = statement.draw(1)
    found = statement.judge(case)
    assert found is not None
    assert found.holds is True
    monkeypatch.setattr(*WRONG_FORMULAS[name])
    again = statement.judge(statement.draw(1))
    assert again is not None
    assert again.holds is False


def relu_minimum(seed: int) -> Case:
    """A strict minimum of a 3-3-3 ReLU network with one neuron in halves (the scalings aside)."""
    return with_copies(critical_case(seed, (3, 3, 3), "relu", residual=0.02), 1, 0, (0.5, 0.5))


def test_relu_with_three_outputs_has_two_negative_eigenvalues() -> None:
    """G has rank 2 generically, and every unit of rank gives one negative eigenvalue: the statement fails for ReLU."""
    statement = find_statement("one-negative-eigenvalue")
    found = [statement.judge(relu_minimum(seed)) for seed in range(8)]
    decided = [one for one in found if one is not None and one.holds is not None]
    assert len(decided) >= 4
    assert all(one.holds is False and one.numbers["index"] == 2 for one in decided)


def test_softplus_networks_of_equal_function_may_lie_off_the_manifold() -> None:
    """a sp(z) = a sp(-z) + (a/2) (sp(2z) - sp(-2z)), written out here once more in NumPy."""
    z = np.linspace(-4.0, 4.0, 101)
    softplus = lambda x: np.logaddexp(0.0, x)
    np.testing.assert_allclose(softplus(z), softplus(-z) + 0.5 * (softplus(2 * z) - softplus(-2 * z)), atol=1e-14)
    statement = find_statement("only-copies-and-zero-groups")
    found = statement.judge(lifted_case(2))
    assert found is not None
    assert lifted_case(2).activation == "softplus"
    assert found.holds is False
    assert found.numbers["four twins: output deviation"] < 1e-13
    assert found.numbers["four twins: on the manifold"] == "no"


def test_the_conditions_do_not_name_what_is_refuted() -> None:
    one, two = run_claims(samples=104, only=("one-negative-eigenvalue", "only-copies-and-zero-groups"))
    named = {value for verdict in (one, two) for _, value, _ in verdict.conditions}
    assert not named & {"relu", "softplus", "tanh", "sigmoid", "sine"}


def test_every_statement_has_a_wrong_input_here() -> None:
    refuted = {
        "one-negative-eigenvalue",
        "only-copies-and-zero-groups",
        "merged-minima-are-saddles",
        "limit-as-printed",
    }
    assert {*SPOILT, *PATHS, *WRONG_FORMULAS, *refuted} == {statement.name for statement in STATEMENTS}


@pytest.mark.parametrize("name", ["merged-minima-are-saddles", "limit-as-printed"])
def test_what_is_refuted_has_its_counterexample(name: str) -> None:
    verdict = run_claims(samples=40, only=(name,))[0]
    assert verdict.failed > 0
    assert verdict.counterexample is not None


def test_a_case_counts_once_however_often_it_is_drawn() -> None:
    [verdict] = run_claims(samples=100, only=("permutation-points-counted",))
    assert (verdict.held, verdict.distinct, verdict.repeats) == (21, 21, 79)
    statement = find_statement("copies-are-critical")
    twice = judge(statement, [lifted_case(0), changed(lifted_case(0)), lifted_case(1)])
    assert (twice.held, twice.distinct, twice.repeats) == (2, 2, 1)


def test_statements_at_permutation_points_are_tried_there() -> None:
    """Halves: the pair's outgoing vectors are equal, and so are the incoming ones."""
    for statement in STATEMENTS:
        if "permutation point" in statement.words and statement.draw.__module__.endswith("samples"):
            case = statement.draw(5)
            layer, (l, m) = case.facts["layer"], case.facts["units"]
            outgoing = case.parameters[f"{2 * layer}.weight"]
            np.testing.assert_allclose(outgoing[:, l], outgoing[:, m], rtol=1e-15)
            assert "permutation points" in statement.population
    assert claims_points.labels(minimum_case(0))
