"""Results told to a person and to a machine: lines of text, and one JSON document."""

from pathlib import Path as FilePath
from typing import Any

from saddlescope.cli.console import Summary
from saddlescope.critical.along import Along
from saddlescope.critical.proof import Proof
from saddlescope.critical.result import Certificate
from saddlescope.paths.result import Path
from saddlescope.records.schema import plain
from saddlescope.training.train import Training


def training_json(training: Training, accuracy: float | None, out: FilePath) -> dict[str, Any]:
    """Return the JSON document of ``saddlescope train --json``; NaN is null."""
    return plain(
        {
            "outcome": training.outcome,
            "loss": training.loss,
            "gradient_norm": training.gradient_norm,
            "accuracy": accuracy,
            "iterations": training.iterations,
            "seconds": training.seconds,
            "out": str(out),
        }
    )


def path_json(path: Path) -> dict[str, Any]:
    """Return the JSON document of ``saddlescope path --json``; NaN is null."""
    accuracies = path.accuracies
    return plain(
        {
            "ending": path.ending,
            "advice": path.advice,
            "reasons": path.reasons,
            "layer": path.layer,
            "pair": path.pair,
            "distance_kind": path.settings.distance,
            "gauge": path.gauge,
            "solver": path.solver,
            "loss_at_point": path.loss_at_point,
            "gradient_norm_at_point": None if path.permutation_point is None else path.permutation_point.gradient_norm,
            "barrier": path.barrier,
            "continuous": path.continuous,
            "largest_deviation": path.largest_deviation,
            "tolerance": path.tolerance,
            "distances": path.distances,
            "losses": path.losses,
            "gradient_norms": path.gradient_norms,
            "converged": path.converged,
            "kinds": path.kinds,
            "accuracy": accuracies,
            "residual": path.residual,
            "start": None if path.start is None else vars(path.start),
            "growth": None if path.growth is None else vars(path.growth),
            "warnings": path.warnings,
            "units": path.units,
            "loss_unit": path.loss_unit,
            "events": [vars(event) for event in path.events],
            "evaluations": path.evaluations,
            "seconds": path.seconds,
            "doubt": path.problem.get("doubt"),
        }
    )


def training_told(training: Training, accuracy: float | None, out: FilePath, *, seed: int) -> Summary:
    """Return a training for people, the outcome first."""
    steps = ", ".join(f"{count} steps of {name}" for name, count in training.iterations.items())
    rows = [
        ("loss", f"{training.loss:.8g}, gradient norm {training.gradient_norm:.2e}"),
        *([] if accuracy is None else [("accuracy", f"{accuracy:.4f}")]),
        ("work", f"seed {seed}, {steps}, {training.seconds:.1f} s"),
        ("written to", str(out)),
    ]
    done = training.outcome.value == "converged"
    return Summary(f"{training.outcome}: loss {training.loss:.8g}. {training.outcome.advice}", done, rows=rows)


def path_lines(path: Path) -> list[str]:
    """Return the summary of a path, the verdict first, a line each."""
    return path_told(path).lines()


def path_told(path: Path) -> Summary:
    """Return a path for people; the details are settings, problem and fingerprints."""
    verdict = f"ending: {path.ending}. {path.advice}"
    details = [(f"setting {name}", str(value)) for name, value in vars(path.settings).items()]
    details += [(f"problem {name}", str(value)) for name, value in path.problem.items()]
    details += [(f"fingerprint of {name}", value) for name, value in path.fingerprints.items()]
    return Summary(verdict, path.permutation_point is not None, path.reasons, _path_rows(path), details)


def _path_rows(path: Path) -> list[tuple[str, str]]:
    (l, m), point, asked = path.pair, path.permutation_point, path.kinds == "asked"
    scale = ", scale fixed (unit incoming vectors)" if path.gauge != "none" else ""
    how = f"{path.settings.distance} distance{scale}; solver {path.solver}"
    rows = [("warning", str(path.problem["doubt"]))] if "doubt" in path.problem else []
    rows.append(("path", f"layer {path.layer}, neurons {l} and {m}; {how}"))
    rows += [("warning", warning) for warning in path.warnings]
    rows += _start_rows(path)
    if point is not None:
        rows.append(("permutation point", f"loss {point.loss:.8g}, gradient norm {point.gradient_norm:.2e}"))
    rows.append(("barrier", f"{path.barrier:.8g}, the highest loss on the path; {path.losses[0]:.3g} at the start"))
    if path.accuracies is not None:
        shown = path.accuracies[0], path.accuracies.min(), path.accuracies[-1]
        rows.append(("accuracy", "{:.4f} at the start, lowest {:.4f}, last {:.4f}".format(*shown)))
    span = f"{int(asked.sum())} distances from {path.distances[0]:.4g} to {path.distances[asked].min():.3g}"
    rows.append(
        (
            "residuals",
            f"{span}: largest tangential gradient norm {path.residual:.2e}, tolerance "
            f"{path.tolerance:.2e}, missed at {int((asked & ~path.converged).sum())}",
        )
    )
    word, share = "yes" if path.continuous else "no", path.largest_deviation
    rows.append(("continuous", f"{word}: loss between nodes exceeds them by {share:.1e} of the barrier"))
    for event in path.events:
        where = f"{event.kind} at distance {event.distance:.4g}, loss {event.loss:.4g}"
        rows.append(("event", f"{where}: {event.detail}"))
    rows.append(("work", f"{path.evaluations.get('iterations', 0)} iterations, {path.seconds:.1f} s"))
    return rows


def _start_rows(path: Path) -> list[tuple[str, str]]:
    """Return what polishing the start changed, and the units where they are not one."""
    rows, start = [], path.start
    if start is not None:
        moved = f"moved by {start.distance:.2e}, {100.0 * start.relative_distance:.3g}% of the parameters' norm"
        polished = f"polished: loss {start.loss_given:.6g} to {start.loss:.6g}, {moved}"
        rows.append(("start", polished if start.polished else f"as given: loss {start.loss:.6g}"))
    scaled = {name: unit for name, unit in path.units.items() if unit != 1.0}
    if scaled or path.loss_unit != 1.0:
        said = ", ".join(f"{name} in {unit:.0e}" for name, unit in {**scaled, "loss": path.loss_unit}.items())
        rows.append(("units", f"{said}, after the data's size: distances and residuals are in these"))
    return rows


# Fields of a certificate that its document holds in another form, or not at all: the refined point's arrays.
BESIDE = ("groups", "flat", "parts", "point")


def certificate_json(
    certificate: Certificate | None, path: Path | None, along: Along | None, proof: Proof | None
) -> dict[str, Any]:
    """Return the JSON document of ``saddlescope certify --json``; null is what is not known."""
    if certificate is None:
        assert path is not None
        result: dict[str, Any] = dict.fromkeys(
            ("loss", "gradient_norm", "index", "nullity", "symmetry_nullity", "method", "split")
        )
        result |= {"verdict": "no-point", "ending": path.ending, "reasons": [path.advice, *path.reasons]}
    else:
        result = {name: value for name, value in vars(certificate).items() if name not in BESIDE}
        result["methods"] = {
            name: {"index": index, "nullity": nullity} for name, (index, nullity) in certificate.methods.items()
        }
        result["split"] = [vars(group) for group in certificate.groups]
        result["flat"] = [vars(flat) for flat in certificate.flat]
        result["parts"] = [{**vars(part), "inertia": vars(part.inertia)} for part in certificate.parts]
    if along is not None:
        result["along"] = vars(along)
    if proof is not None:
        lift = None if proof.lift is None else vars(proof.lift)
        result["proof"] = {**{k: v for k, v in vars(proof).items() if k != "parameters"}, "lift": lift}
    return plain(result)


def _count(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]} to {pair[1]}"


def _at_least(pair: tuple[int, int]) -> str:
    """Return a range with what is decided first."""
    return str(pair[0]) if pair[0] == pair[1] else f"at least {pair[0]} (at most {pair[1]})"


def proof_lines(proof: Proof) -> list[str]:
    """Return a proof for people."""
    where = "no radius" if proof.radius is None else f"exactly one critical point within {proof.radius:.3g} (any entry)"
    lines = [f"{proof.verdict}: {where}; its index {proof.index}, nullity {proof.nullity}"]
    if proof.lift is not None:
        lines.append(f"  lifted: index {proof.lift.index}, nullity {proof.lift.nullity} in {proof.lift.widths}")
    if proof.loss is not None:
        lines.append(f"  loss between {proof.loss[0]!r} and {proof.loss[1]!r}")
    lines += [f"  because {reason}" for reason in proof.reasons]
    return [*lines, *(f"  not shown: {text}" for text in proof.not_shown), f"  {proof.seconds:.1f} s"]


def certificate_lines(
    certificate: Certificate | None, path: Path | None, along: Along | None, proof: Proof | None
) -> list[str]:
    """Return a certificate as lines: the verdict first, what is not shown last, then what was asked for beside it."""
    told = certificate_told(certificate, path)
    bound = [f"{name}: {value}" for name, value in told.details]
    return [*told.lines(), *bound, *beside_lines(along, proof)]


def certificate_told(certificate: Certificate | None, path: Path | None) -> Summary:
    """Return a certificate for people; the details say how the eigenvalues' bound comes about."""
    if certificate is None:
        assert path is not None
        return Summary(f"no permutation point: {path.ending}. {path.advice}", good=False, reasons=path.reasons)
    known = certificate.methods != {}
    counts = f": index {_at_least(certificate.index_range)}, nullity {_at_least(certificate.nullity_range)}"
    rows = [("loss", f"{certificate.loss:.8g}, gradient norm {certificate.gradient_norm:.2e}")]
    for group in certificate.groups:
        shares = ", ".join(f"{share:.6g}" for share in group.shares)
        units = ", ".join(str(unit) for unit in group.units)
        rows.append(("copies", f"layer {group.layer}: neurons {units} share their outgoing sum {shares}"))
    for flat in certificate.flat:
        rows.append(("flat", f"{flat.count}: {flat.kind} (|Hv|/|v| {flat.residual:.1e}); {flat.why}"))
    for name, (index, nullity) in certificate.methods.items():
        rows.append((f"by {name}", f"index {_count(index)}, nullity {_count(nullity)}"))
    if certificate.signs_here is not None:
        negative, unclear, positive = certificate.signs_here
        words = (
            f"{negative} negative, {unclear} unclear, {positive} positive eigenvalues, at a point that is not critical"
        )
        rows.append(("signs just here", words))
    if known:
        away = f"{certificate.distance:.1e} from here ({certificate.relative_distance:.1e} of its size)"
        rows.append(("signs belong to", f"{away}, gradient norm {certificate.refined_gradient_norm:.2e}"))
    rows += [("not shown", text) for text in certificate.not_shown]
    good = {"undecided": None, "not-critical": False}.get(certificate.verdict.value, True)
    verdict = f"verdict: {certificate.verdict}{counts if known else ''}"
    return Summary(verdict, good, certificate.reasons, rows, [("bound", certificate.tolerance)])


def beside_lines(along: Along | None, proof: Proof | None) -> list[str]:
    """Return what was asked for beside a certificate: points along the path, a proof."""
    lines = []
    if along is not None:
        lines.append(
            "distance, index of the full Hessian, angle of the gradient with tangent and with distance gradient"
        )
        lines += [
            f"  {along.distances[k]:.4g}  {_count(tuple(along.index[k].tolist()))}  {along.tangent_angles[k]:.2f}  "
            f"{along.distance_angles[k]:.2f}"
            for k in range(len(along.nodes))
        ]
    return lines + (proof_lines(proof) if proof is not None else [])
