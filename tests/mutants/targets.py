"""Which tests belong to which module that decides or bounds something, and what is known of its survivors."""

from typing import NamedTuple


class Target(NamedTuple):
    """A module, the tests that must notice its mutants, functions left alone, and the only ones taken (all if none)."""

    path: str
    tests: tuple[str, ...]
    skip: tuple[str, ...] = ()
    only: tuple[str, ...] = ()


SLOW_ENDINGS = "not units_and_its_point and not unavoidable and not bridges_too"
ENDINGS = ("tests/test_endings.py", "-k", SLOW_ENDINGS)

TARGETS = (
    Target("paths/decide.py", ENDINGS),
    Target("paths/growth.py", ENDINGS, skip=("growth_text",)),
    Target("paths/units.py", ENDINGS),
    Target("paths/events.py", ("tests/test_events.py",)),
    Target("critical/words.py", ("tests/test_words.py",), skip=("tolerance_words", "_range")),
    Target("critical/groups.py", ("tests/test_groups.py",)),
    Target("critical/exchange.py", ("tests/test_exchange.py",)),
    Target("critical/flat.py", ("tests/test_flat.py", "tests/test_refined.py", "-k", "kind or claimed or unread or flat")),
    Target("critical/zero.py", ("tests/test_flat.py", "tests/test_refined.py", "-k", "zero")),
    Target("numerics/spectrum.py", ("tests/test_spectrum.py",)),
    Target("resize/keep.py", ("tests/test_resize_bounds.py",)),
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
