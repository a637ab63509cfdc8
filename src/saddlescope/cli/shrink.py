"""saddlescope shrink: a smaller network by merging the pair of neurons that costs least, again and again."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from saddlescope.cli.models import by_number, shapes_lines, write_resized
from saddlescope.cli.options import free_file, one_of, print_json, say
from saddlescope.cli.path import opened_problem
from saddlescope.cli.progress import progress_bar
from saddlescope.cli.train import LOSSES
from saddlescope.errors import SettingsError

if TYPE_CHECKING:
    from saddlescope.cli.console import Summary
    from saddlescope.workflows.shrunk import ShrinkStep, Shrunk


def shrink(
    net: Path,
    *,
    data: str,
    out: Path,
    weights: Path | None = None,
    widths: str | None = None,
    max_loss: float | None = None,
    candidates: int | None = None,
    screen: int = 2,
    max_iterations: int = 5,
    finish: int = 50,
    tolerance: float | None = None,
    loss: str | None = None,
    target: str | None = None,
    activation: str | None = None,
    weight_decay: float = 0.0,
    norm_barrier: float = 0.0,
    overwrite: bool = False,
    json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Shrink a network to given widths, or as far as a loss allows, and write it to a safetensors file.

    Each merge costs the loss to which the network with one neuron less settles: a permutation point. Exit code 1: done
    and written, but --max-loss or a loss that is not finite ended the merging before the widths were reached.

    Example: saddlescope shrink net.safetensors --data digits --widths 1:12 --out small.safetensors

    Parameters
    ----------
    net
        A safetensors file: 0.weight, 0.bias, 2.weight, ... or fc1.weight, ...; or your own code, FILE.py:function or
        package.module:function, as for saddlescope symmetries.
    data
        digits, toy, mnist, mnist-test, a .npz or .csv file, x.npy,y.npy, or a folder of IDX files.
    out
        The safetensors file to write: of your own code under its own names, for a model built with the shapes that the
        command tells.
    weights
        A file of weights for your own code: safetensors, the index of several, or a state dict of torch.save.
    widths
        Wanted width by hidden layer, such as 1:12 or 1:12,2:8; layers counted from 1, of your own code also by name.
    max_loss
        Merge only as long as the settled loss stays within this; without --widths, in every layer.
    candidates
        Pairs settled at each merge, the best by estimate; by default all of a small network, else 4.
    screen
        Iterations on each candidate of a large network, before the best one is settled further.
    max_iterations
        Most iterations on the merge that is chosen, in a large network.
    finish
        Most iterations after the last merge, and on each merge of a small network.
    tolerance
        Gradient norm to reach; by default 1e-10, for large networks relative to the gradient right after merging.
    loss
        mse, normalised, cross-entropy or binary-cross-entropy (on logits, targets 0 to 1); by default mse, and
        normalised for target network.
    target
        data, or network: regress on the network's own outputs. By default data when the data hold targets, network
        when they hold labels only.
    activation
        The activation, when the file does not say it; one for each hidden layer: relu,tanh.
    weight_decay
        Factor of |theta|^2/2, added to the loss.
    norm_barrier
        Factor of a penalty on very large norms, against channels to infinity.
    overwrite
        Replace the output if it exists.
    json
        Print one JSON document.
    quiet
        Print nothing but errors.
    verbose
        Print also what the answer rests on: settings, versions, every step.
    """
    named = None if widths is None else widths_of(widths)
    if loss is not None:
        one_of(loss, "loss", tuple(LOSSES))
    if target is not None:
        one_of(target, "target", ("data", "network"))
    free_file(out, overwrite=overwrite, by="shrink")

    from saddlescope.cli.console import show
    from saddlescope.models.sizes import layer_sizes
    from saddlescope.records.schema import plain
    from saddlescope.workflows.shrink import shrink as run
    from saddlescope.workflows.shrunk import ShrinkSettings

    settings = ShrinkSettings(
        candidates=candidates, screen=screen, max_iterations=max_iterations, finish=finish, tolerance=tolerance
    )
    words = {"loss": loss, "target": target, "weight_decay": weight_decay, "norm_barrier": norm_barrier}
    problem, opened, own = opened_problem(net, data, activation=activation, weights=weights, **words)
    wanted = None if named is None else by_number(problem.network, named)
    with progress_bar(quiet=quiet or json, verbose=verbose) as progress:
        found = run(problem, opened.parameters, widths=wanted, max_loss=max_loss, settings=settings, progress=progress)
    shapes = write_resized(out, net, opened, found, command="shrink", overwrite=overwrite)

    if json:
        kept = ("loss_start", "gradient_norm_start", "accuracy_start", "loss", "gradient_norm", "accuracy", "reached")
        document = {name: getattr(found, name) for name in kept}
        document |= {"ending": found.ending, "advice": found.ending.advice, "reasons": found.reasons}
        document |= {
            "widths": layer_sizes(found.network),
            "shapes": shapes,
            "members": found.members,
            "steps": [asdict(s) for s in found.steps],
        }
        print_json(
            plain({**document, "evaluations": found.evaluations, "seconds": found.seconds, **own, "out": str(out)})
        )
    if "doubt" in own:
        say(f"warning: {own['doubt']}", quiet=quiet or json)
    for line in shapes_lines(shapes, opened):
        say(line, quiet=quiet or json)
    show(_told(found, out), quiet=quiet or json, verbose=verbose)
    return 0 if found.reached else 1


def _told(found: "Shrunk", out: Path) -> "Summary":
    """Return the smaller network for people: widths and loss first, then what was merged."""
    from saddlescope.cli.console import Summary
    from saddlescope.models.sizes import layer_sizes

    rows = [("gradient norm", f"{found.gradient_norm:.2e}: {found.ending}. {found.ending.advice}")]
    if found.accuracy is not None and found.accuracy_start is not None:
        rows.append(("accuracy", f"{found.accuracy_start:.4f} -> {found.accuracy:.4f}"))
    rows += [("merged", _line(step)) for step in found.steps]
    counts = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in found.evaluations.items())
    rows += [("work", f"{counts}, {found.seconds:.1f} s"), ("written to", str(out))]
    reached = "" if found.reached else " (the widths asked for were not reached)"
    shape = "-".join(str(width) for width in layer_sizes(found.network))
    verdict = f"widths {shape}{reached}; loss {found.loss_start:.6g} -> {found.loss:.6g}"
    return Summary(verdict, found.reached, found.reasons, rows)


def _line(step: "ShrinkStep") -> str:
    (first, second), (l, m) = step.members, step.pair
    names = f"layer {step.layer}, neurons {l} and {m} (originally {_words(first)} and {_words(second)})"
    return (
        f"{names}: loss {step.loss_before:.6g} -> {step.loss_merged:.6g} merged -> {step.loss_after:.6g} settled; "
        f"estimate {step.estimate:.4g}, gradient norm {step.gradient_norm:.1e}, {step.outcome}"
    )


def widths_of(word: str) -> dict[str, int]:
    """Return the widths of a word such as ``1:12,conv2:8``, by layer.

    Raises:
        SettingsError: a part that is not layer:width, or a layer named twice.
    """
    found: dict[str, int] = {}
    for part in word.split(","):
        layer, _, width = part.rpartition(":")
        if not layer or layer in found or layer.startswith("-") or not width.lstrip("-").isdecimal():
            raise SettingsError("not widths by layer", name="widths", value=word, expected="such as 1:12, or 1:12,2:8")
        found[layer] = int(width)
    return found


def _words(members: tuple[int, ...]) -> str:
    return "+".join(str(member) for member in members)
