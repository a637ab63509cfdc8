"""What the paper says, what was measured, whether they agree: as Markdown."""

from collections.abc import Sequence

from saddlescope.papers.experiment import Experiment, Judgement


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def markdown(experiment: Experiment, found: Sequence[Judgement], note: str) -> str:
    """Return the text of a reproduction: a row a claim, then the remarks."""
    by_name = {one.claim: one for one in found}
    lines = [
        f"# {experiment.title}",
        "",
        f"Source: {experiment.source}. {note[:1].upper()}{note[1:]}.",
        "",
        f"![{experiment.title}]({experiment.name}.png)",
        "",
        "| the paper says | measured | agrees |",
        "|---|---|---|",
    ]
    for claim in experiment.claims:
        one = by_name[claim.name]
        lines.append(f"| {_cell(claim.words)} ({_cell(claim.source)}) | {_cell(one.measured)} | {one.agrees} |")
    lines += ["", *(f"* {remark}" for remark in experiment.remarks)]
    return "\n".join(lines).rstrip() + "\n"
