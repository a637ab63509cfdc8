"""The house stands on its floors: imports go down, files and functions stay small (CONTRIBUTING.md has the map)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "saddlescope"
LONGEST_FILE, LONGEST_BODY = 400, 60

# A row per floor, lowest first; packages on one floor are blind to each other. "" is saddlescope itself. Inside a
# package the files stand in import order: each may import those before it. A name not listed yet fails the test.
FLOORS: list[dict[str, str]] = [
    {"": "printable errors outcomes precision arrays html_repr files"},
    {
        "counting": "closed_form enumerate regimes",
        "units": "neurons actions coordinates gauge",
    },
    {
        "numerics": "tangent lbfgs_history linear newton levenberg piecewise_smooth descent flow continuation balls "
        "spectrum simultaneous",
        "models": "units chain contract sizes axes axes_rules tracing laws finding door function activations mlp "
        "aten_elementwise aten_conv aten_pool aten_norm aten_linear aten_shape aten_index aten_graph torch_export "
        "torch_check from_torch to_torch from_function symmetries checkpoint own_code",
    },
    {"data": "foreign data agreement idx tables download sources names weights"},
    {"problem": "shallow losses checks placement problem kronecker kinks kink_surfaces sharding"},
    {
        "paths": "advice result units constraint follow events growth decide maxima mirror polish start ending find "
        "batch",
        "critical": "result groups exchange reduced refine flat patterns twins fibre mixing decomposition claimed "
        "symmetric verdict inertia zero certify lifted along enclosure proof",
        "exchanges": "result cut grown blocks births reading costs find",
        "valleys": "result moves route walk join",
        "resize": "result expand manifold reduction_rules twins keep one_layer reduce_model reduce merge_cost merges",
        "training": "train students",
    },
    {
        "workflows": "demo higher_order lowest shrunk shrink merge_surface exchange_spectrum escaped escape widen "
        "configuration"
    },
    {"records": "schema provenance store recheck recognise studies"},
    {
        "sweeps": "plan executors resume run",
        "plots": "canvas path regimes neurons spectrum walk surface",
    },
    {
        "report": "sections documents page",
        "papers": "samples statements claims_points claims_paths claims_counts claims counterexamples experiment "
        "curves overparameterised stamp strips counts_experiment counts_figure toy_experiment toy_figure "
        "landscape_experiment landscape_figure types_experiment types_figure geometry_experiment geometry_figure "
        "minima_experiment minima_figure students_experiment students_figure deep_experiment deep_figure "
        "widths_experiment widths_figure mnist_experiment mnist_figure catalogue text folder reproduce",
    },
    {
        "cli": "options console progress summary train models path symmetries runs exchange demo count expand reduce "
        "walk shrink certify claims report study reproduce completion programs main"
    },
    {"": "__init__ __main__"},
]
PLACES = {
    (package, name): (floor, order)
    for floor, packages in enumerate(FLOORS)
    for package, names in packages.items()
    for order, name in enumerate(["__init__", *names.split()] if package else names.split())
}
FILES = sorted(SOURCE.rglob("*.py"))
each_file = pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(SOURCE)) for file in FILES])


def _key(parts: list[str]) -> tuple[str, str]:
    """Package and file of a dotted name below saddlescope: a name inside a file counts as that file."""
    package, rest = (parts[0], parts[1:]) if (parts[0], "__init__") in PLACES else ("", parts)
    return (package, rest[0]) if rest and (package, rest[0]) in PLACES else (package, "__init__")


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that a file imports, at its top or deeper inside."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{'.' * node.level}{node.module or ''}.{alias.name}") for alias in node.names)


def _drawing(here: tuple[str, str], root: str) -> str | None:
    """Why a file may not import another library, or None."""
    draws = here[0] in ("plots", "papers")
    return "is matplotlib, which only plots and papers may draw with" if root == "matplotlib" and not draws else None


def _objection(here: tuple[str, str], dotted: str) -> str | None:
    """Why a file may not import this name, or None."""
    if dotted.startswith("."):
        return "is relative: write the full name"
    root, *parts = dotted.split(".")
    if root != "saddlescope":
        return _drawing(here, root)
    there = _key(parts or ["__init__"])
    if there == ("", "__init__"):
        return "is the package's own top"
    if here[1] == "__init__":
        return None if here[0] in ("", there[0]) else "does not belong into a re-export of the package's own names"
    if here[0] == there[0] and there[1] == "__init__":
        return "is the package's own __init__, or a file that FLOORS does not list"
    (floor, order), (its_floor, its_order) = PLACES[here], PLACES[there]
    if its_floor < floor or (here[0] == there[0] and its_floor == floor and its_order < order):
        return None
    return f"goes up, or sideways: from floor {floor} to {'.'.join(filter(None, there))} on floor {its_floor}"


@each_file
def test_imports_go_down(file: Path) -> None:
    here = (file.parent.name if file.parent != SOURCE else "", file.stem)
    assert here in PLACES, f"{'/'.join(here)} is new: list it in FLOORS, after the files that it imports"
    found = [(line, name, _objection(here, name)) for line, name in _imports(ast.parse(file.read_text("utf-8")))]
    wrong = [f"{file}:{line}: import of {name} {objection}" for line, name, objection in found if objection]
    assert not wrong, "\n".join(wrong)


@each_file
def test_files_and_functions_are_short(file: Path) -> None:
    text = file.read_text("utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE, f"{file} is longer than {LONGEST_FILE} lines: split it by idea"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= LONGEST_BODY, f"{file}:{node.lineno}: {node.name} has {lines} lines, at most {LONGEST_BODY}"


@pytest.mark.parametrize(
    ("here", "dotted", "word"),
    [
        (("units", "neurons"), "saddlescope.paths.result.Path", "goes up"),
        (("paths", "result"), "saddlescope.critical.result.Certificate", "sideways"),
        (("paths", "result"), "saddlescope.paths.find.find_path", "goes up"),
        (("paths", "find"), "saddlescope.paths.Path", "own __init__"),
        (("paths", "find"), "saddlescope.MLP", "own top"),
        (("paths", "find"), ".result.Path", "relative"),
        (("paths", "find"), "matplotlib.pyplot", "only plots"),
        (("paths", "find"), "saddlescope.paths.result.Path", None),
        (("paths", "find"), "saddlescope.units.neurons.Neurons", None),
        (("", "arrays"), "saddlescope.errors.ShapeError", None),
    ],
)
def test_the_rules_object_to_what_they_should(here: tuple[str, str], dotted: str, word: str | None) -> None:
    objection = _objection(here, dotted)
    assert (objection is None) == (word is None)
    assert (word or "") in (objection or "")
