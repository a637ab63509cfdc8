"""Results told to a person and to a machine: lines of text, and one JSON document."""

from pathlib import Path as FilePath
from typing import Any

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
