"""The pages of the site: what they show runs, and the reference is complete and up to date."""

import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import saddlescope

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(page for part in (".", "howto", "science") for page in (DOCS / part).glob("*.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
IMPORT = re.compile(r"^(?:import|from) (flax)\b", re.M)  # what the tests do without


def maker():
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def absent(text):
    """The libraries that a block imports and that are not installed here."""
    return [name for name in IMPORT.findall(text) if importlib.util.find_spec(name) is None]


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch warns of itself when it exports
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_code_block_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(saddlescope.__file__).parent.parent))  # the code under test, not another
    names = {"__name__": "page"}
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        assert language in ("python", "sh", "text"), f"{page.name}: {language!r} would not be run"
        if language == "python" and absent(text):
            continue  # such a block, and what builds on it, stands under a heading of its own
        if language == "python":
            exec(compile(text, page.name, "exec"), names)
        elif language == "sh":
            here = Path(sys.executable).parent  # a block's own python is the one that runs the tests
            shell = f'set -e\nPATH="{here}:$PATH"\nsaddlescope() {{ "{sys.executable}" -m saddlescope "$@"; }}\n{text}'
            ran = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
            assert ran.returncode == 0, ran.stderr[-2000:]


def test_every_public_name_is_in_the_reference():
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    homes = {name: f"{home}.{name}" for name, home in saddlescope._HOMES.items()} | saddlescope._MODULES
    assert {*homes, "__version__"} == set(dir(saddlescope))
    missing = [name for name, home in homes.items() if f"\n::: {home}\n" not in text]
    assert not missing


def test_every_name_of_the_public_modules_is_in_the_reference_and_has_a_docstring():
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    names = {name: saddlescope.counting for name in vars(saddlescope.counting) if not name.startswith("_")}
    names = {name: home for name, home in names.items() if callable(getattr(home, name))}
    assert len(names) > 10
    for name, home in names.items():
        assert f".{name}\n" in text, name
        assert getattr(home, name).__doc__, name
    for modules in maker().FURTHER.values():
        for module in modules:
            for name in maker().defined(module):
                assert f".{name}\n" in text, f"{module}.{name}"
                assert getattr(importlib.import_module(f"saddlescope.{module}"), name).__doc__, f"{module}.{name}"


def test_every_page_and_picture_of_the_site_is_reached():
    """Pages stand in the navigation; pictures that are committed are shown somewhere."""
    navigation = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    assert not [page for page in PAGES if str(page.relative_to(DOCS)) not in navigation]
    words = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    pictures = [picture for picture in (DOCS / "images").rglob("*.*") if picture.name not in words]
    assert not pictures


@pytest.mark.parametrize("name", ["reference", "commands"])
def test_generated_pages_are_up_to_date(name):
    stored = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert getattr(maker(), name)() == stored, "run python docs/make_reference.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_internal_link_resolves(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", BLOCK.sub("", page.read_text(encoding="utf-8")))
    assert not [link for link in links if not (page.parent / link).exists()]
