"""The published reproductions: each text and each line of the summary follow from the data beside them."""

import json
from pathlib import Path

import pytest

from saddlescope.papers.catalogue import CATALOGUE, find
from saddlescope.papers.experiment import judgements
from saddlescope.papers.text import markdown

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
PUBLISHED = [name for name in CATALOGUE if (FIGURES / f"{name}.json").is_file()]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_text_is_what_its_data_say_today(name: str) -> None:
    experiment, _ = find(name)
    data = json.loads((FIGURES / f"{name}.json").read_text("utf-8"))
    said = markdown(experiment, judgements(experiment, data["results"]), data["note"])
    assert (FIGURES / f"{name}.md").read_text("utf-8") == said


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_summary_repeats_every_judgement(name: str) -> None:
    data = json.loads((FIGURES / f"{name}.json").read_text("utf-8"))
    words = [
        ", ".join(one["claim"] for one in data["judgements"] if one["agrees"] == kind)
        for kind in ("yes", "partly", "no", "undecided")
    ]
    row = f"| [{name}]({name}.md) | {data['note']} | {data['made']['seconds']:.0f} | " + " | ".join(words) + " |"
    assert row in (FIGURES / "README.md").read_text("utf-8").splitlines()


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_are_small_and_whole(name: str) -> None:
    for suffix in (".pdf", ".svg", ".png", ".json", ".md"):
        assert 0 < (FIGURES / f"{name}{suffix}").stat().st_size < 1_000_000
    pdf = (FIGURES / f"{name}.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
