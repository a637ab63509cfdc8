"""saddlescope certify: what the permutation point of a run, or a network, is as a critical point."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from saddlescope.cli.options import free_file, one_of, print_json, say, write_json
from saddlescope.cli.train import LOSSES
from saddlescope.errors import SettingsError

if TYPE_CHECKING:
    from saddlescope.problem.problem import Problem


def certify(
    run: Path | None = None,
    *,
    net: Path | None = None,
    weights: Path | None = None,
    data: str | None = None,
    loss: str | None = None,
    target: str | None = None,
    activation: str | None = None,
    weight_decay: float = 0.0,
    norm_barrier: float = 0.0,
    gradient_tolerance: float | None = None,
    steps: int = 400,
    along: int = 0,
    prove: bool = False,
    out: Path | None = None,
    overwrite: bool = False,
    json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Say what a point is: gradient, index, nullity, flat directions, verdict, and what is not shown.

    The point is the permutation point of a run, or with --net the network itself. Exit code 1: undecided, not critical,
    or the run has no permutation point.

    Example: saddlescope certify RUN.saddle --json

    Parameters
    ----------
    run
        A result folder of saddlescope path or demo.
    net
        A safetensors file to certify, or your own code as for saddlescope path; with RUN, what stands in the place of
        the one that the run names: a run's own code is never run unless you name it here.
    weights
        A file of weights for your own code.
    data
        digits, toy, mnist, mnist-test, a .npz or .csv file, x.npy,y.npy, or a folder of IDX files.
    loss
        mse, normalised, cross-entropy or binary-cross-entropy, for --net alone; by default as in saddlescope path.
    target
        data, or network, for --net alone; by default as in saddlescope path.
    activation
        The activation, when the file does not say it; one for each hidden layer: relu,tanh.
    weight_decay
        Factor of |theta|^2/2, added to the loss.
    norm_barrier
        Factor of a penalty on very large norms.
    gradient_tolerance
        Gradient norm up to which the point counts as critical; by default by what a quadratic model sees left to win.
    steps
        Most Lanczos steps, where the Hessian is too large to be formed.
    along
        Also certify so many points along the run's path: index, and the gradient's angles.
    prove
        Also prove it in ball arithmetic: smooth activations, squared error, up to about 60 parameters (extra: proof).
    out
        A JSON file to write: what --json prints, the same in words, and the fingerprints of network and data.
    overwrite
        Replace an earlier output of this command; nothing else is ever replaced.
    json
        Print one JSON document.
    quiet
        Print nothing but errors.
    verbose
        Print also what the answer rests on: settings, versions, every step.
    """
    if loss is not None:
        one_of(loss, "loss", tuple(LOSSES))
    if target is not None:
        one_of(target, "target", ("data", "network"))
    if along < 0 or (along and run is None):
        raise SettingsError("--along belongs to a run", name="along", value=along, expected="a run, and 1 or more")
    if out is not None:
        free_file(out, overwrite=overwrite, by="certify")

    from saddlescope.cli.console import show
    from saddlescope.cli.summary import beside_lines, certificate_json, certificate_lines, certificate_told
    from saddlescope.critical.certify import certify as certify_point

    words = {
        "loss": loss,
        "target": target,
        "activation": activation,
        "weight_decay": weight_decay,
        "norm_barrier": norm_barrier,
    }
    problem, point, path = _point(run, (net, weights), data, words, quiet=quiet or json)
    found = None
    if point is not None:
        found = certify_point(problem, point, gradient_tolerance=gradient_tolerance, steps=steps)
    rows = _along(problem, path, along) if along else None
    proof = prove_point(problem, point) if prove and point is not None else None
    content = certificate_json(found, path, rows, proof)
    if out is not None and point is not None:
        marks = problem.fingerprint(point) if path is None else path.fingerprints
        words = certificate_lines(found, path, rows, proof)
        write_json(out, {"kind": "certificate", **content, "words": words, "fingerprints": dict(marks)})
    if json:
        print_json(content)
    show(certificate_told(found, path), quiet=quiet or json, verbose=verbose)
    for line in beside_lines(rows, proof):
        say(line, quiet=quiet or json)
    return 0 if found is not None and found.verdict.value not in ("undecided", "not-critical") else 1


def _point(
    run: Path | None,
    model: tuple[Path | None, Path | None],
    data: str | None,
    words: dict[str, Any],
    *,
    quiet: bool,
) -> "tuple[Problem, Any, Any]":
    """Return the problem, the point (None: the run has none) and the path (None without a run)."""
    net, weights = model
    if run is None:
        if net is None or data is None:
            raise SettingsError("nothing to certify", name="run", value=run, expected="RUN, or --net and --data")
        from saddlescope.cli.path import problem_of

        problem, parameters, own = problem_of(net, data, weights=weights, **words)
        if "doubt" in own:
            say(f"warning: {own['doubt']}", quiet=quiet)
        return problem, parameters, None
    if run.is_file():
        raise SettingsError("a run is a folder", name="run", value=run, advice="A network's file is given with --net")
    given = sorted(name for name, value in words.items() if value)
    if given:
        raise SettingsError("a run brings its own settings", name="options", value=given, expected="only with --net")
    from saddlescope.cli.runs import problem_of_run
    from saddlescope.records.store import load_path

    path = load_path(run)
    problem, _ = problem_of_run(run, path, net=net, weights=weights, data=data)
    return problem, path.permutation_point, path


def _along(problem: "Problem", path: Any, count: int) -> Any:
    from saddlescope.critical.along import certify_along

    return certify_along(problem, path, count=count)


def prove_point(problem: "Problem", point: Any) -> Any:
    """Return the proof for a network's parameters, or for a permutation point's reduced network and its lift."""
    import numpy as np

    from saddlescope.critical.proof import prove
    from saddlescope.models.sizes import unit_counts, with_units

    inputs, targets = (
        np.asarray(rows).reshape(-1, *rows.shape[2:])[: problem.samples] for rows in (problem.inputs, problem.targets)
    )
    network, parameters, lift = problem.network, point, {}
    if hasattr(point, "reduced"):
        count = unit_counts(network)[point.layer]
        network, parameters = with_units(network, {point.layer: count - 1}), point.reduced
        lift = {"layer": point.layer, "neuron": min(point.pair), "shares": point.shares}
    words = {"loss": problem.loss, "weight_decay": float(problem.weight_decay)}
    first = prove(network, inputs, targets, parameters, **lift, **words)
    # Near a point that is only nearly critical the box must be large; from the refined point it is tiny.
    if first.proved or first.parameters is None:
        return first
    return prove(network, inputs, targets, first.parameters, **lift, **words)
