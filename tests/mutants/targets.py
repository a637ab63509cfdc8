"""Which tests belong to which module that decides or bounds something, and what is known of its survivors."""

from typing import NamedTuple


class Target(NamedTuple):
    """A module, the tests that must notice its mutants, functions left alone, and the only ones taken (all if none)."""

    path: str
    tests: tuple[str, ...]
    skip: tuple[str, ...] = ()
    only: tuple[str, ...] = ()


DECIDING, CERTIFY = "tests/test_deciding.py", "tests/test_deciding_certify.py"
SIGNS, NUMERICS = "tests/test_deciding_signs.py", "tests/test_deciding_numerics.py"
RESIZE = "tests/test_resize_bounds.py"

# Tests of seconds: without those that follow whole paths, or try many random networks.
ENDINGS = (
    DECIDING,
    "tests/test_endings.py",
    "-k",
    "not path_ends and not unavoidable and not bridges_too and not polished and not comes_back and not caller_s_units",
)
REDUCE = (
    RESIZE,
    "tests/test_reduce.py",
    "-k",
    "not expansion and not sequence and not convolution and not any_model and not locate and not searches "
    "and not many_small and not depend_on_the_order and not among_so_many",
)
REFINED = tuple(
    f"tests/test_refined.py::test_{name}"
    for name in (
        "a_point_beside_a_lifted_point_has_the_signs_of_the_critical_point_it_names",
        "where_no_critical_point_is_reached_there_is_no_index",
        "linear_networks_have_the_index_of_baldi_and_hornik",
        "turning_a_unit_twice_is_the_identity_and_leaves_the_outputs_alone",
        "natural_scale_undoes_any_diagonal_and_does_not_enlarge_rounding",
    )
)

TARGETS = (
    Target("paths/decide.py", ENDINGS),
    Target("paths/growth.py", ENDINGS, skip=("growth_text",)),
    Target("paths/units.py", ENDINGS),
    Target("paths/events.py", (DECIDING,)),
    Target("paths/maxima.py", (DECIDING,), only=("maximum_events",)),
    Target("paths/polish.py", (DECIDING, NUMERICS), only=("takes", "is_critical", "_shift", "decrease", "descent")),
    Target(
        "critical/words.py", ("tests/test_certify.py", "-k", "words or exclude"), skip=("tolerance_words", "_range")
    ),
    Target("critical/groups.py", (CERTIFY, "tests/test_groups.py")),
    Target("critical/exchange.py", (CERTIFY, "tests/test_exchange.py")),
    Target("critical/flat.py", (CERTIFY,)),
    Target("critical/zero.py", (CERTIFY,)),
    Target("critical/result.py", (SIGNS,), skip=("_repr_html_",)),
    Target("critical/twins.py", (SIGNS, *REFINED)),
    Target("critical/symmetric.py", (SIGNS, *REFINED), only=("dense_inertia",)),
    Target("critical/scene.py", (SIGNS, *REFINED), only=("_have_signs", "_largest_terms", "with_null", "drifting")),
    Target("critical/signs.py", (SIGNS, *REFINED), only=("_meet", "_dense", "_by_count", "_by_kind", "_claims")),
    Target(
        "critical/refine.py",
        (SIGNS, *REFINED),
        only=("drift", "_newton", "_is_rounding", "_gradient_rounding", "refine_dense", "_way"),
    ),
    Target("critical/certify.py", (SIGNS, *REFINED), only=("_nearest", "merged", "_is_critical", "_judge")),
    Target(
        "critical/proof.py",
        (SIGNS,),
        only=("_share_signs", "_block", "_larger"),
    ),
    Target("numerics/spectrum.py", (NUMERICS, "tests/test_spectrum.py")),
    Target("numerics/balls.py", ("tests/test_balls.py",)),
    Target("numerics/levenberg.py", (NUMERICS,), only=("_begin", "_advance")),
    Target("numerics/newton.py", (NUMERICS,), only=("begin", "takes", "advance", "_better", "correct")),
    Target("resize/keep.py", (RESIZE,)),
    Target("resize/absorb.py", REDUCE),
    Target("resize/twins.py", REDUCE),
    Target("resize/one_layer.py", REDUCE),
    Target("resize/reduce.py", REDUCE, skip=("_named",)),
    Target("valleys/result.py", (DECIDING,), only=("critical", "level")),
    Target("records/recheck.py", (DECIDING,)),
    Target("records/recognise.py", (DECIDING,)),
)

# Deliberate faults: path, passage, what stands there instead, tests.
FAULTS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("paths/decide.py", "TREND = 10.0", "TREND = 1e7", ENDINGS),
    ("paths/decide.py", "RIPPLE = 0.01", "RIPPLE = 1.0", ENDINGS),
    ("paths/polish.py", "return math.isfinite(norm) and norm <= FALL * before", "return math.isfinite(norm)", ENDINGS),
    ("paths/growth.py", "CHANNEL_EXPONENT = -1.5, -0.5", "CHANNEL_EXPONENT = -15.0, -5.0", ENDINGS),
    ("critical/exchange.py", "int(np.sum(beta > 0)) - 1", "int(np.sum(beta > 0))", ("tests/test_exchange.py",)),
    ("critical/exchange.py", "sigma * coupling.b[", "coupling.b[", ("tests/test_exchange.py",)),
)

QUICK = FAULTS

# Survivors that no test can tell from the source, and why.
EQUIVALENT: dict[str, str] = {}
