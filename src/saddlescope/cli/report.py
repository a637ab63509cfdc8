"""saddlescope report: stored runs as one HTML page that needs no network."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlescope.cli.console import show_versions
from saddlescope.cli.options import command_line, free_file, print_json, say
from saddlescope.cli.train import LOSSES
from saddlescope.errors import SaddlescopeError, SettingsError
from saddlescope.files import claim

if TYPE_CHECKING:
    from saddlescope.critical.result import Certificate
    from saddlescope.paths.result import Path as PermutationPath


def report(
    *runs: Path,
    out: Path | None = None,
    net: Path | None = None,
    data: str | None = None,
    overwrite: bool = False,
    json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Write stored runs into one HTML page: it opens from disk, moves the neurons along the path, needs no network.

    The permutation point is certified on the way if the run's network and data are at hand; if not, the page says why.

    Example: saddlescope report RUN.saddle walk.json certificate.json --out report.html

    Parameters
    ----------
    runs
        Result folders of paths, and the JSON files that saddlescope walk --out and certify --out write.
    out
        The page; by default the first run's name with .html.
    net
        The network's file, where the run does not name it or it has moved; for a single run.
    data
        The data, likewise.
    overwrite
        Replace an earlier output of this command; nothing else is ever replaced.
    json
        Print one JSON document.
    quiet
        Print nothing but errors.
    verbose
        Print also what the answer rests on: settings, versions, every step.
    """
    if len(runs) == 0:
        raise SettingsError("nothing to report", name="runs", value="none", expected="one result folder or more")
    if len(runs) > 1 and (net is not None or data is not None):
        raise SettingsError("--net and --data belong to a single run", name="runs", value=len(runs), expected="1")
    page = out or runs[0].with_suffix(".html")
    with claim(page):
        free_file(page, overwrite=overwrite, by="report")
        return _report(runs, page, net=net, data=data, json=json, quiet=quiet, verbose=verbose)


def _report(
    runs: tuple[Path, ...], page: Path, *, net: Path | None, data: str | None, json: bool, quiet: bool, verbose: bool
) -> int:
    import shlex

    from saddlescope.report.page import render, save_page

    sections = [section_of(run, net, data) for run in runs]
    command = shlex.join(["saddlescope", "report", *map(str, runs), "--out", str(page)])
    text = render(sections, command=command, version=version_words())
    save_page(text, page)
    told = {"out": str(page), "bytes": page.stat().st_size, "runs": [section["verdict"] for section in sections]}
    if json:
        print_json(told)
    what = "1 section" if len(sections) == 1 else f"{len(sections)} sections"
    say(f"{page}: {told['bytes'] / 1e3:.0f} kB, {what}", quiet=quiet or json)
    show_versions(quiet=quiet or json, verbose=verbose)
    return 0


def version_words() -> str:
    """Return the installed version, in words where there is none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("saddlescope")
    except PackageNotFoundError:
        return "not installed"


def section_of(run: Path, net: Path | None, data: str | None) -> dict[str, Any]:
    """Return what the page shows of one stored run; its point is certified if network and data are at hand."""
    if run.is_file():
        from saddlescope.report.documents import document_section, read_document

        return document_section(run.name, read_document(run))
    from saddlescope.cli.summary import certificate_lines, path_lines
    from saddlescope.records.store import load_path
    from saddlescope.report.sections import path_section

    path = load_path(run)
    found, drawn, without = _around_point(run, path, net, data)
    lines = [] if found is None else certificate_lines(found, path, None, None)
    return path_section(
        run.name,
        path,
        path_lines(path),
        certificate=found,
        **drawn,
        certificate_lines=lines,
        without=without,
        commands=commands_of(run, path),
    )


def commands_of(run: Path, path: "PermutationPath") -> list[str]:
    """Return the commands that train the network, where its file says how, and follow the path anew."""
    words, settings = path.problem, path.settings
    if not {"network", "data", "loss"} <= set(words) or str(words["loss"]).replace("_", "-") not in LOSSES:
        return []  # followed in Python: its record does not know the program
    trained = [str(words["trained by"])] if "trained by" in words else []
    pair = ",".join(map(str, path.pair))
    found = command_line(
        "path",
        str(words["network"]),
        data=words["data"],
        layer=path.layer,
        pair=pair,
        **{name: getattr(settings, name) for name in ("distance", "steps", "reach", "solver", "tolerance")},
        max_iterations=settings.max_iterations,
        loss=str(words["loss"]).replace("_", "-"),
        **{name: words.get(name) for name in ("target", "activation", "weight_decay", "norm_barrier")},
        out=run.name,
    )
    return [*trained, found]


def _around_point(
    run: Path, path: Any, net: Path | None, data: str | None
) -> "tuple[Certificate | None, dict[str, Any], str]":
    """Return the permutation point's certificate, what is drawn around it, or why there is none."""
    if path.permutation_point is None:
        return None, {}, "the path has no permutation point"
    import contextlib

    import numpy as np

    from saddlescope.cli.runs import problem_of_run
    from saddlescope.critical.certify import certify
    from saddlescope.workflows.exchange_spectrum import parity
    from saddlescope.workflows.merge_surface import merge_surface

    try:
        problem, _ = problem_of_run(run, path, net=net, data=data)
    except SaddlescopeError as error:
        return None, {}, f"network or data are not at hand ({error})"
    found = certify(problem, path.permutation_point)
    drawn: dict[str, Any] = {"surface": merge_surface(problem, path)}
    if [part.name for part in found.parts] == ["all"] and len(found.parts[0].inertia.bounds):
        error = float(np.max(found.parts[0].inertia.bounds))
        with contextlib.suppress(SettingsError):  # too large for a dense Hessian: the certificate's own part is shown
            drawn["parity"] = parity(problem, path, error=error)
    return found, drawn, ""
