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
ENDING, PLACES = "tests/test_deciding_ending.py", "tests/test_deciding_places.py"

# Tests of seconds: without those that follow whole paths, or try many random networks.
ENDINGS = (
    DECIDING,
    "tests/test_endings.py",
    "-k",
    "not path_ends and not unavoidable and not bridges_too and not polished and not comes_back and not caller_s_units",
)
REDUCE = (
    "tests/test_deciding_resize.py",
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

EXCHANGE, PATHS = "tests/test_exchange.py::test_", "tests/test_endings.py::test_"

# Words in the names of the solvers' tests: those of Levenberg and Marquardt, then those of Newton.
SOLVERS = (
    "nielsen",
    "damping",
    "lane",
    "values_are_level",
    "loss_is_level",
    "steps_grow",
    "a_step_conv",
    "a_refused",
    "begins",
    "guesses",
    "correction",
)

# Left alone are functions that only write text, and constants of effort: they say how long is searched and what is
# computed in which way, not what is said of it.
TARGETS = (
    Target("paths/decide.py", ENDINGS),
    Target("paths/ending.py", (ENDING,), skip=("ROWS", "ROW_NUMBERS", "_padded", "_uncritical", "describe")),
    Target("paths/growth.py", ENDINGS, skip=("growth_text",)),
    Target("paths/units.py", ENDINGS),
    Target("paths/events.py", (DECIDING,)),
    Target("paths/maxima.py", (DECIDING,), only=("maximum_events",)),
    Target(
        "paths/polish.py",
        (NUMERICS, "tests/test_endings.py", "-k", "to_win or step_down or shift_ or bound_itself or polishes"),
        only=("FALL", "CRITICAL", "takes", "is_critical", "_shift", "decrease", "descent"),
    ),
    Target(
        "critical/verdict.py",
        (SIGNS, "tests/test_certify.py", "-k", "words or exclude or disagree or lies_and"),
        skip=("tolerance_words", "_range"),
    ),
    Target("critical/groups.py", (CERTIFY, "tests/test_groups.py")),
    Target("critical/exchange.py", (CERTIFY, "tests/test_exchange.py")),
    Target("critical/flat.py", (CERTIFY,)),
    Target("critical/zero.py", (CERTIFY,)),
    Target("critical/result.py", (SIGNS,), skip=("_repr_html_",)),
    Target("critical/twins.py", (SIGNS, *REFINED)),
    Target("critical/symmetric.py", (SIGNS,), skip=("_unhalf", "_orthonormal")),
    Target(
        "critical/decomposition.py", (SIGNS,), only=("TINY", "_have_signs", "_largest_terms", "with_null", "drifting")
    ),
    Target(
        "critical/inertia.py",
        (SIGNS, *REFINED),
        only=("CLAIM", "NEAR_ZERO", "_meet", "_dense", "_by_count", "_near_zero", "index"),
    ),
    Target(
        "critical/refine.py",
        (SIGNS, *REFINED),
        only=("ROUNDING", "PROBE", "drift", "_newton", "_is_rounding", "_way"),
    ),
    Target("critical/certify.py", (SIGNS,), only=("CRITICAL", "ABOUT", "_nearest", "merged", "_is_critical", "_judge")),
    Target("critical/proof.py", (SIGNS,), only=("_share_signs", "_block", "_larger")),
    Target(
        "critical/enclosure.py", ("tests/test_proof.py", "-k", "enclosures or straight or sine"), skip=("CHUNK_BALLS",)
    ),
    Target("numerics/spectrum.py", (NUMERICS, "tests/test_spectrum.py", "-k", f"not {' and not '.join(SOLVERS)}")),
    Target("numerics/balls.py", (NUMERICS, "tests/test_balls.py", "-k", f"not {' and not '.join(SOLVERS)}")),
    Target(
        "numerics/levenberg.py",
        (NUMERICS, "-k", " or ".join(SOLVERS[:4])),
        only=("FIRST_DAMPING", "LEVEL", "SHORTEST", "_begin", "_advance"),
    ),
    Target(
        "numerics/newton.py",
        (NUMERICS, "-k", " or ".join(SOLVERS[4:])),
        only=("CAUTION", "ROUNDING", "begin", "takes", "advance", "_better", "correct"),
    ),
    Target("resize/keep.py", (RESIZE,)),
    Target("resize/reduction_rules.py", REDUCE),
    Target("resize/twins.py", REDUCE),
    Target("resize/one_layer.py", REDUCE),
    Target("resize/reduce.py", REDUCE, skip=("_named", "NAMED", "SHARES")),
    Target("valleys/result.py", (DECIDING,), only=("critical", "max_gradient_norm", "max_loss_deviation")),
    Target("valleys/walk.py", (PLACES, "tests/test_walk.py"), skip=("LEAST_BLOCK", "LARGEST_BLOCK")),
    Target("records/recheck.py", (DECIDING,)),
    Target("records/recognise.py", (DECIDING,)),
    Target(
        "data/agreement.py",
        (PLACES, "tests/test_weights.py", "-k", "places or outputs or activation or named or doubted"),
        skip=("SAMPLES",),
    ),
    Target("problem/placement.py", (PLACES,)),
    Target("files.py", (PLACES, "tests/test_files.py", "-k", "not foreign_names and not whenever and not killed")),
)

# Deliberate faults that CI tries: path, passage, what stands there instead, test. Most of them once passed all tests.
QUICK = (
    (
        "paths/decide.py",
        "TREND = 10.0",
        "TREND = 1e7",
        f"{PATHS}a_gap_just_beyond_the_trend_is_refused_and_one_within_is_not",
    ),
    (
        "paths/decide.py",
        "RIPPLE = 0.01",
        "RIPPLE = 1.0",
        f"{PATHS}a_path_is_continuous_within_a_hundredth_of_its_barrier",
    ),
    (
        "paths/growth.py",
        "CHANNEL_EXPONENT = -1.5, -0.5",
        "CHANNEL_EXPONENT = -15.0, -5.0",
        f"{PATHS}a_channel_is_what_grows_like_one_over_the_distance_with_a_finite_sum",
    ),
    (
        "paths/polish.py",
        "return math.isfinite(norm) and norm <= FALL * before",
        "return math.isfinite(norm)",
        f"{PATHS}a_step_that_polishes_is_finite_and_halves_the_gradient",
    ),
    (
        "numerics/newton.py",
        "return finite & (falls | level)",
        "return finite",
        f"{PATHS}a_step_of_a_correction_is_finite_and_goes_down",
    ),
    (
        "critical/exchange.py",
        "int(np.sum(beta > 0)) - 1",
        "int(np.sum(beta > 0))",
        f"{EXCHANGE}signs_of_a_pair_are_the_sign_of_beta_times_one_minus_beta",
    ),
    (
        "critical/exchange.py",
        "sigma * coupling.b[",
        "coupling.b[",
        f"{EXCHANGE}a_block_never_contradicts_the_eigenvalues_of_its_matrix",
    ),
    (
        "critical/certify.py",
        "CRITICAL = 1e-4",
        "CRITICAL = 1e-3",
        f"{SIGNS}::test_a_point_is_critical_if_next_to_nothing_of_the_loss_is_left",
    ),
    (
        "resize/keep.py",
        "if lost <= allowed:",
        "if lost <= 10.0 * allowed:",
        f"{RESIZE}::test_what_is_lost_may_be_all_that_is_allowed",
    ),
    (
        "valleys/result.py",
        "np.maximum(self.gradient_norms.max(axis=1, initial=0.0), ends)",
        "self.gradient_norms.max(axis=1, initial=0.0)",
        f"{DECIDING}::test_a_segment_is_critical_if_no_norm_on_it_is_above_the_tolerance",
    ),
)
