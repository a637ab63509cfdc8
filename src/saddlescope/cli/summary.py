"""Results told to a person and to a machine: lines of text, and one JSON document."""

from pathlib import Path as FilePath
from typing import Any

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
            "advice": path.ending.advice,
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
            "events": [vars(event) for event in path.events],
            "evaluations": path.evaluations,
            "seconds": path.seconds,
        }
    )


def path_lines(path: Path) -> list[str]:
    """Return the summary of a path, the verdict first."""
    l, m = path.pair
    point = path.permutation_point
    asked = path.kinds == "asked"
    missed = int((asked & ~path.converged).sum())
    lines = [f"ending: {path.ending}. {path.ending.advice}"]
    lines += [f"  because {reason}" for reason in path.reasons]
    scale = ", scale fixed (unit incoming vectors)" if path.gauge != "none" else ""
    lines.append(
        f"layer {path.layer}, neurons {l} and {m}; {path.settings.distance} distance{scale}; solver {path.solver}"
    )
    if point is not None:
        lines.append(f"loss at the permutation point {point.loss:.8g}, gradient norm there {point.gradient_norm:.2e}")
    lines.append(f"barrier (highest loss on the path) {path.barrier:.8g}; start {path.losses[0]:.3g}")
    if path.accuracies is not None:
        lines.append(
            f"accuracy {path.accuracies[0]:.4f} at the start, lowest {path.accuracies.min():.4f}, "
            f"last {path.accuracies[-1]:.4f}"
        )
    worst = float(path.gradient_norms[asked].max())
    lines.append(
        f"{int(asked.sum())} distances from {path.distances[0]:.4g} to {path.distances[asked].min():.3g}: "
        f"largest tangential gradient norm {worst:.2e}, tolerance {path.tolerance:.2e}, missed at {missed}"
    )
    lines.append(
        f"continuous: {'yes' if path.continuous else 'no'} "
        f"(loss between nodes exceeds them by {path.largest_deviation:.1e} of the barrier)"
    )
    lines += [
        f"{event.kind} at distance {event.distance:.4g}, loss {event.loss:.4g}: {event.detail}" for event in path.events
    ]
    lines.append(f"{path.evaluations.get('iterations', 0)} iterations, {path.seconds:.1f} s")
    return lines


def certificate_json(
    certificate: Certificate | None, path: Path | None, along: Along | None, proof: Proof | None
) -> dict[str, Any]:
    """Return the JSON document of ``saddlescope certify --json``; null is what is not known."""
    if certificate is None:
        assert path is not None
        result: dict[str, Any] = dict.fromkeys(
            ("loss", "gradient_norm", "index", "nullity", "symmetry_nullity", "method", "split")
        )
        result |= {"verdict": "no-point", "ending": path.ending, "reasons": [path.ending.advice, *path.reasons]}
    else:
        result = {name: value for name, value in vars(certificate).items() if name not in ("groups", "flat", "parts")}
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
    """Return a certificate for people, the verdict first and what is not shown last."""
    lines = []
    if certificate is None:
        assert path is not None
        lines.append(f"no permutation point: {path.ending}. {path.ending.advice}")
        lines += [f"  because {reason}" for reason in path.reasons]
    else:
        known = certificate.methods != {}
        counts = f": index {_count(certificate.index_range)}, nullity {_count(certificate.nullity_range)}"
        lines.append(f"verdict: {certificate.verdict}{counts if known else ''}")
        lines += [f"  because {reason}" for reason in certificate.reasons]
        lines.append(
            f"loss {certificate.loss:.8g}, gradient norm {certificate.gradient_norm:.2e}; signs taken at distance "
            f"{certificate.distance:.1e} from here, gradient norm {certificate.refined_gradient_norm:.2e}"
        )
        for group in certificate.groups:
            shares = ", ".join(f"{share:.6g}" for share in group.shares)
            units = ", ".join(str(unit) for unit in group.units)
            lines.append(f"copies in layer {group.layer}: neurons {units} share their outgoing sum {shares}")
        for flat in certificate.flat:
            lines.append(f"{flat.count} flat: {flat.kind} (|Hv|/|v| {flat.residual:.1e}); {flat.why}")
        for name, (index, nullity) in certificate.methods.items():
            lines.append(f"by {name}: index {_count(index)}, nullity {_count(nullity)}")
        lines.append(f"bound: {certificate.tolerance}")
        lines += [f"not shown: {text}" for text in certificate.not_shown]
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
