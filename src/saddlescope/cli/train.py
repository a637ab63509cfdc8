"""saddlescope train: from data to a network in a safetensors file."""

from pathlib import Path

from saddlescope.cli.options import command_line, free_file, numbers, one_of, print_json, seed_of
from saddlescope.cli.progress import progress_bar

LOSSES = {
    "mse": "mse",
    "normalised": "normalised",
    "cross-entropy": "cross_entropy",
    "binary-cross-entropy": "binary_cross_entropy",
}


def train(
    *,
    widths: str,
    activation: str,
    data: str,
    out: Path,
    seed: int = 0,
    loss: str | None = None,
    adam_steps: int = 2000,
    learning_rate: float = 1e-2,
    newton_steps: int = 200,
    tolerance: float = 1e-10,
    weight_decay: float = 0.0,
    overwrite: bool = False,
    json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Train a multilayer perceptron on the full batch and write it to a safetensors file.

    Adam comes first, then second-order steps until the gradient norm is within the tolerance. Exit code 1: trained and
    written, but the tolerance was not reached.

    Example: saddlescope train --widths 2,5,1 --activation tanh --data toy --seed 0 --out net.safetensors

    Parameters
    ----------
    widths
        Widths from inputs to outputs, such as 784,10,10,10.
    activation
        relu, leaky_relu, tanh, sigmoid, softplus, gelu, silu, erf, exp, identity, sine, sigmoid_softplus, gelu_tanh,
        mish, elu, selu, relu6 or hardswish; with a parameter: leaky_relu:0.2, elu:0.5. One for each hidden layer:
        relu,tanh.
    data
        digits, toy, mnist, mnist-test, a .npz or .csv file, x.npy,y.npy, or a folder of IDX files.
    out
        The safetensors file to write.
    seed
        Seed of the initial weights.
    loss
        mse, normalised, cross-entropy or binary-cross-entropy; by default mse for targets and cross-entropy for
        labels.
    adam_steps
        Number of Adam steps.
    learning_rate
        First learning rate of Adam; it falls to 0.
    newton_steps
        Largest number of second-order steps.
    tolerance
        Gradient norm to reach.
    weight_decay
        Factor of |theta|^2/2, added to the loss.
    overwrite
        Replace the output if it exists.
    json
        Print one JSON document.
    quiet
        Print nothing but errors.
    verbose
        Print also what the answer rests on: settings, versions, every step.
    """
    shape = numbers(widths, "widths", "2,5,1")
    seed_of(seed)
    if loss is not None:
        one_of(loss, "loss", tuple(LOSSES))
    free_file(out, overwrite=overwrite, by="train")

    from saddlescope.cli.console import show
    from saddlescope.cli.summary import training_json, training_told
    from saddlescope.data.sources import load_data
    from saddlescope.data.weights import save_weights
    from saddlescope.models.mlp import MLP
    from saddlescope.problem.problem import Problem
    from saddlescope.training.train import train as run

    network = MLP(shape, activation)
    rows = load_data(data)
    options = {"loss": loss, "adam-steps": adam_steps, "learning-rate": learning_rate, "newton-steps": newton_steps}
    options |= {"tolerance": tolerance, "weight-decay": weight_decay}
    command = command_line("train", widths=widths, activation=activation, data=data, seed=seed, **options, out=out.name)
    chosen = LOSSES[loss] if loss else ("cross_entropy" if rows.targets is None else "mse")
    problem = Problem(network, rows, loss=chosen, weight_decay=weight_decay)
    with progress_bar(quiet=quiet or json, verbose=verbose) as progress:
        result = run(
            problem,
            seed=seed,
            adam_steps=adam_steps,
            learning_rate=learning_rate,
            max_newton=newton_steps,
            tolerance=tolerance,
            progress=progress,
        )
    accuracy = problem.accuracy(result.parameters)
    notes = {"seed": str(seed), "command": command, "written by": "saddlescope train"}
    if accuracy is not None:
        notes["accuracy"] = repr(accuracy)
    save_weights(out, network, result.parameters, overwrite=overwrite, notes=notes)
    if json:
        print_json(training_json(result, accuracy, out))
    show(training_told(result, accuracy, out, seed=seed), quiet=quiet or json, verbose=verbose)
    return 0 if result.outcome.value == "converged" else 1
