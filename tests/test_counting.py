"""Counts against brute force, identities and printed values; none of them is computed twice by the same formula."""

import itertools
import json
import math
import time
from fractions import Fraction
from math import comb, factorial, prod
from pathlib import Path

import numpy as np
import pytest

import saddlescope as ss
from saddlescope.cli.main import run
from saddlescope.counting import closed_form
from saddlescope.counting.enumerate import critical_assignments, minimum_assignments, surjections
from saddlescope.counting.regimes import comparison, regimes
from saddlescope.errors import SettingsError

SIZES = [(r, m) for m in range(1, 9) for r in range(1, m + 1)]


def _surjections(r: int, m: int) -> int:
    """Ways to give m neurons roles among r so that every role is taken: by inclusion and exclusion."""
    return sum((-1) ** (r - i) * comb(r, i) * i**m for i in range(r + 1))


def _partitions(m: int) -> int:
    """Bell numbers by their own recurrence."""
    return 1 if m == 0 else sum(comb(m - 1, k) * _partitions(k) for k in range(m))


@pytest.mark.parametrize(("r", "m"), SIZES)
def test_enumeration_inclusion_exclusion_and_closed_form_agree(r: int, m: int) -> None:
    copies = list(critical_assignments(r, m))
    assert len(copies) == len(set(copies)) == _surjections(r, m) == closed_form.critical_subspaces(r, m)
    assert all(set(roles) == set(range(r)) for roles in copies)
    minima = _surjections_with_groups(r, m)
    assert closed_form.minimum_subspaces(r, m) == minima
    if minima <= 40_000:  # the rest, up to 8, is listed by benchmarks/counts.py
        listed = list(minimum_assignments(r, m))
        assert len(listed) == len(set(listed)) == minima


def _surjections_with_groups(r: int, m: int) -> int:
    """[S21] theorem 4.3 as printed: u neurons in zero-type groups, the others copies."""
    return sum(comb(m, u) * _surjections(r, m - u) * _partitions(u) for u in range(m - r + 1))


@pytest.mark.parametrize(("r", "m"), [(1, 4), (2, 4), (3, 5), (2, 6)])
def test_the_list_is_that_of_a_naive_search(r: int, m: int) -> None:
    naive = set()
    for roles in itertools.product(range(m + r), repeat=m):
        if not set(range(r)) <= set(roles):
            continue
        names: dict[int, int] = {}
        naive.add(tuple(role if role < r else names.setdefault(role, r + len(names)) for role in roles))
    assert set(minimum_assignments(r, m)) == naive


@pytest.mark.parametrize(
    ("r", "m", "critical", "minima"),
    [(1, 2, 1, 3), (2, 3, 6, 12), (3, 4, 36, 60), (4, 5, 240, 360), (4, 10, 818520, 20479560)],
)
def test_printed_values(r: int, m: int, critical: int, minima: int) -> None:
    assert closed_form.critical_subspaces(r, m) == critical
    assert closed_form.minimum_subspaces(r, m) == minima


@pytest.mark.parametrize("r", [1, 2, 3, 7, 40, 200])
def test_one_extra_neuron_has_a_product_formula(r: int) -> None:
    assert closed_form.minimum_subspaces(r, r + 1) == Fraction(factorial(r + 1)) * (1 + Fraction(r, 2))


@pytest.mark.parametrize(("order", "width"), [(k, n) for n in range(1, 8) for k in range(n)])
def test_the_ratio_counts_points_of_an_order_by_brute_force(order: int, width: int) -> None:
    """A point of order K parts n labelled neurons into n - K groups, each standing for one of n - K small neurons."""
    points = sum(
        1 for roles in itertools.product(range(width - order), repeat=width) if len(set(roles)) == width - order
    )
    ratio = closed_form.permutation_point_ratio(order, width)
    assert ratio == Fraction(points, factorial(width))
    assert closed_form.ratio_lower_bound(order, width) <= ratio


def test_the_papers_three_cases_of_the_ratio() -> None:
    for n in range(4, 30):
        assert closed_form.permutation_point_ratio(1, n) == Fraction(n - 1, 2)
        assert closed_form.permutation_point_ratio(2, n) == Fraction((n - 2) * (3 * n - 5), 24)


def test_limits_are_approached_and_the_papers_constant_is_not() -> None:
    for order in (1, 2, 3):
        gaps = []
        for width in (100, 1000, 4000):
            exact = closed_form.ratio_lower_bound(order, width)
            gaps.append(abs(float(exact / closed_form.ratio_limit(order, width)) - 1.0))
        assert gaps[0] > gaps[1] > gaps[2]
        assert gaps[2] < 1e-2
    gaps = []
    for small in (50, 200, 400):
        exact = Fraction(
            closed_form.critical_subspaces(small - 1, small + 2), closed_form.minimum_subspaces(small, small + 2)
        )
        gaps.append(abs(float(exact / closed_form.saddle_share_limit(1, 2, small)) - 1.0))
    assert gaps[0] > gaps[1] > gaps[2]


def test_stirling_numbers_along_rows_and_columns_agree() -> None:
    rows = list(closed_form.stirling_rows(40))
    assert all(closed_form.stirling(m, r) == rows[m][r] for m in range(41) for r in range(m + 1))
    assert [sum(row) for row in rows] == closed_form.bell_numbers(40) == [_bell(m) for m in range(41)]
    assert closed_form.stirling(3, 5) == 0


def _bell(m: int) -> int:
    bells = [1]
    for n in range(m):
        bells.append(sum(comb(n, k) * bells[k] for k in range(n + 1)))
    return bells[m]


def test_regimes_are_those_of_comparing_every_width() -> None:
    found = regimes(range(1, 61), 120)
    for one in found:
        signs = [minima > saddles for _, saddles, minima in comparison(one.minimal, 120)]
        assert signs == sorted(signs), "minima outnumber saddles from one width on"
        first = one.minimal + signs.index(True)
        assert one.crossing == first
    for m, saddles, minima in comparison(4, 10):
        assert saddles == sum(_surjections(r, m) for r in range(1, 4))
        assert minima == _surjections_with_groups(4, m)
    assert regimes([50], 55) == [regimes([50], 55)[0]]
    assert regimes([50], 55)[0].crossing is None


def test_several_layers_multiply_or_add() -> None:
    assert closed_form.layers_critical((2, 3), (3, 4)) == 6 * 36
    assert closed_form.layers_minimum((2, 3), (3, 4)) == 12 * 60
    assert closed_form.layers_ratio(1, (5, 9)) == 2 + 4
    assert closed_form.equivalent_minima((3, 4)) == prod((6, 24))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: closed_form.critical_subspaces(5, 4), r"at least as wide as the small one: small, wide=\(5, 4\)"),
        (lambda: closed_form.critical_subspaces(-1, 4), "not a number of neurons: small=-1"),
        (lambda: closed_form.minimum_subspaces(1, 10**6), "not a number of neurons: wide=1000000; expected .* 20000"),
        (lambda: closed_form.permutation_point_ratio(4, 4), "points of order below n: order=4; expected 0 to 3"),
        (lambda: closed_form.layers_critical((1,), (2, 3)), "as many small as wide layers"),
        (lambda: list(minimum_assignments(2, 12)), "too large to be listed"),
        (lambda: regimes([0], 5), "not a range of widths"),
        (lambda: regimes(range(1, 10**15), 10), "not a range of widths: minimal, widest=1 to 999999999999999, 10"),
        (lambda: closed_form.minimum_subspaces(10, 20_000), "would take too long: steps=5.7e"),
        (lambda: closed_form.critical_subspaces(10_000, 20_000), "would take too long"),
        (lambda: closed_form.layers_minimum((1, 1), (3300, 3300)), "would take too long"),
        (lambda: closed_form.layers_ratio(10_000, (20_000,)), "would take too long"),
        (lambda: regimes(range(1, 2001), 4000), "would take too long"),
        (lambda: list(closed_form.stirling_rows(10_000)), "would take too long"),
        (lambda: closed_form.equivalent_minima((20_000,) * 7), "too many digits"),
        (lambda: closed_form.critical_subspaces(10**5000, 4), r"small=about 10\^5000"),
    ],
)
def test_what_is_no_width_is_refused(call, text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        call()


def test_what_takes_seconds_is_still_counted() -> None:
    """The other side of the bounds: each number here is just within what is allowed."""
    assert closed_form.critical_subspaces(1, 20_000) == 1
    assert closed_form.critical_subspaces(20_000, 20_000) == factorial(20_000)
    closed_form.check_work(wide=closed_form.row_work(4000))
    assert closed_form.row_work(4200) > closed_form.WORK > closed_form.column_work(60, 20_000)
    assert closed_form.equivalent_minima((20_000,) * 5) == factorial(20_000) ** 5


def test_surjections_are_found_without_going_through_all_functions() -> None:
    assert list(surjections(2, 3)) == [r for r in itertools.product(range(2), repeat=3) if len(set(r)) == 2]
    assert next(surjections(60, 60)) == tuple(range(60))  # 60^60 functions, the first after 60^59 others


@pytest.mark.parametrize(
    ("activation", "text"),
    [
        ("exp", "exp(z + c) = e^c exp(z)"),
        ("sine", "multiple of pi"),
        ("identity", "only the product"),
        ("relu", "0 at 0"),
        ("tanh", "sign twins"),
        ("sigmoid_softplus", "has none of the symmetries"),
    ],
)
def test_the_command_says_what_an_activation_does_to_the_numbers(activation, text, capsys) -> None:
    assert run(["count", "--small", "1", "--wide", "2", "--activation", activation]) == 0
    said = capsys.readouterr().err
    assert text in said
    assert ("none of the symmetries" in said) == (activation == "sigmoid_softplus")


@pytest.mark.parametrize("bias", [True, False])
def test_exp_has_more_equal_neurons_exactly_with_biases(bias: bool) -> None:
    """What `count --activation exp` says, tried on the functions: exp(w x + b + c) e^-c = exp(w x + b)."""
    x, w, b, c = 0.7, 1.3, -0.4, 0.9
    assert math.exp(w * x + b + c) * math.exp(-c) == pytest.approx(math.exp(w * x + b), rel=1e-14, abs=0.0)
    network = ss.MLP((1, 2, 1), "exp", bias=bias)
    parameters = {"0.weight": np.array([[w], [w]]), "2.weight": np.array([[1.0, 2.0]])}
    if bias:
        parameters |= {"0.bias": np.array([b, b + c]), "2.bias": np.zeros(1)}
    else:
        parameters["0.weight"][1] = w + c
    assert len(ss.reduce(network, parameters).removed) == int(bias)


def test_a_hopeless_count_ends_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--regimes", str(10**12)], ["--small", "10", "--wide", "20000"], ["--regimes", "-5"]):
        began = time.monotonic()
        assert run(["count", *words]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert len(told) <= 400
        assert time.monotonic() - began < 5.0


def test_the_command_prints_exact_numbers_as_strings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["count", "--small", "4", "--wide", "10", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["critical_subspaces"], found["minimum_subspaces"]) == ("818520", "20479560")
    assert run(["count", "--order", "3", "--width", "10", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ratio"], found["lower_bound"]) == ("49/6", "35/8")
    assert run(["count", "--small", "1000", "--wide", "2000", "--json", "--activation", "tanh"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["minimum_subspaces"]) > 5000
    assert any("tanh is odd" in remark for remark in found["remarks"])


def test_the_command_draws_the_regimes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "regimes.png"
    assert run(["count", "--regimes", "20", "--figure", str(file)]) == 0
    assert file.stat().st_size > 5000
    assert "minimal width 4: minima outnumber saddles from width 5" in capsys.readouterr().err
    assert run(["count", "--regimes", "20", "--figure", str(file)]) == 2


@pytest.mark.parametrize(
    "words", [[], ["--small", "3"], ["--order", "1", "--wide", "3"], ["--small", "a", "--wide", "3"]]
)
def test_half_a_question_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["count", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
