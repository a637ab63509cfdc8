"""Make the pictures of the science pages from results computed here: ``python docs/make_pictures.py``.

Everything is drawn by the package's own plots. Takes some minutes; the numbers printed are those that the pages quote.
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

import saddlescope as ss
from saddlescope.data.data import Data
from saddlescope.plots.canvas import BLUE, GREY, ORANGE
from saddlescope.plots.neurons import plot_neurons
from saddlescope.plots.path import STYLE, plot_distance, plot_loss, plot_outgoing, save_figure
from saddlescope.plots.spectrum import plot_spectrum
from saddlescope.plots.surface import plot_surface
from saddlescope.plots.walk import plot_walk
from saddlescope.workflows.merge_surface import merge_surface

HERE = Path(__file__).parent / "images" / "science"
PAIR, CHANNEL = (0, 1), (2, 3)


def say(text: str) -> None:
    """Print a number that a page quotes."""
    sys.stdout.write(f"{text}\n")


def side_by_side(width: float = 7.0, height: float = 2.8, columns: int = 2) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes in one row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, np.atleast_1d(figure.subplots(1, columns))


def picture_of_a_path(path: ss.Path) -> None:
    """Loss along gamma(t), and the layer's neurons."""
    figure, (left, right) = side_by_side()
    plot_loss(path, left)
    plot_neurons(path, right)
    save_figure(figure, HERE / "path.svg")


def picture_of_a_channel() -> None:
    """The same pair under the incoming and the tied distance, three outputs: outgoing weights against distance."""
    network = ss.MLP((2, 4, 3), "tanh")
    minimum = network.initial(0)
    problem = ss.Problem(network, ss.data.teacher_data(network, minimum, ss.data.normal_inputs(60, 2, 0)))
    incoming, tied = (
        ss.find_path(problem, minimum, layer=1, pair=CHANNEL, settings=ss.PathSettings(distance=kind, steps=30))
        for kind in ("incoming", "tied")
    )
    say(f"incoming: {incoming.ending}; largest outgoing norm {incoming.outgoing_norms.max():.4g}")
    say(f"tied: {tied.ending}; largest outgoing norm {tied.outgoing_norms.max():.4g}")
    figure, (left, right) = side_by_side()
    for path, axes, name in ((incoming, left, "incoming"), (tied, right, "tied")):
        plot_outgoing(path, axes)
        axes.set_title(f"{name}: {path.ending}", loc="left", fontsize=8, y=1.12)
    save_figure(figure, HERE / "channel.svg")


def picture_of_the_split(places: list[tuple[ss.Problem, dict, tuple[int, int]]]) -> None:
    """The spectrum at a permutation point with one output and with three."""
    figure, axes = side_by_side(height=3.2)
    for (problem, parameters, _), axis in zip(places, axes, strict=True):
        certificate = ss.certify(problem, parameters)
        name = outputs_of(problem)
        say(f"{name}: {certificate.verdict}, index {certificate.index}, nullity {certificate.nullity}")
        plot_spectrum(certificate, axis)
        axis.set_title(name, loc="left", fontsize=8, y=1.24)
    save_figure(figure, HERE / "split.svg")


def outputs_of(problem: ss.Problem) -> str:
    """Return the number of outputs in words."""
    count = problem.network.widths[-1]
    return f"{count} output{'s' if count > 1 else ''}"


def picture_of_the_plane(places: list[tuple[ss.Problem, dict, tuple[int, int]]]) -> None:
    """|gradient| on the equal-loss plane: along the multiples of a, and along a direction across."""
    figure, axes = side_by_side()
    shares = np.linspace(-0.5, 1.5, 41)
    for (problem, parameters, (l, m)), axis in zip(places, axes, strict=True):
        total = parameters["2.weight"][:, l] + parameters["2.weight"][:, m]
        across = np.eye(len(total))[0] - total * total[0] / (total @ total)
        size = float(np.linalg.norm(across))
        lines = [("multiples of a", BLUE, total)]
        if len(total) > 1:
            lines.append(("across a", ORANGE, across * float(np.linalg.norm(total)) / size))
        for name, colour, direction in lines:
            norms, losses = [], []
            for share in shares:
                moved = {key: value.copy() for key, value in parameters.items()}
                moved["2.weight"][:, l] = 0.5 * total + (share - 0.5) * direction
                moved["2.weight"][:, m] = total - moved["2.weight"][:, l]
                gradient = problem.gradient_of(moved)
                norms.append(float(np.sqrt(sum(np.sum(np.square(part)) for part in gradient.values()))))
                losses.append(problem.loss_of(moved))
            span = f"gradient {min(norms):.1e} to {max(norms):.1e}"
            say(f"{outputs_of(problem)}, {name}: loss spread {np.ptp(losses):.1e}, {span}")
            axis.plot(shares, norms, color=colour, lw=1.2, label=name)
        axis.set(yscale="log", ylim=(1e-18, 1.0), ylabel="gradient norm")
        axis.axvline(0.5, color=GREY, lw=0.6)
        axis.set_xlabel("place on a line through the permutation point (at ½)")
        axis.set_title(outputs_of(problem), loc="left", fontsize=8)
        axis.legend()
    save_figure(figure, HERE / "plane.svg")


def three_outputs() -> tuple[ss.Problem, dict, tuple[int, int]]:
    """A network of three outputs at a minimum, one of its neurons split in two: a permutation point."""
    generator = np.random.default_rng(1)
    teacher = ss.MLP((2, 5, 3), "tanh")
    weights = {name: generator.normal(size=value.shape) for name, value in teacher.initial(0).items()}
    inputs = generator.normal(size=(400, 2))
    hidden = np.tanh(inputs @ weights["0.weight"].T + weights["0.bias"])
    data = Data(inputs, hidden @ weights["2.weight"].T + weights["2.bias"])
    small = ss.MLP((2, 3, 3), "tanh")
    found = ss.train(ss.Problem(small, data), seed=0)
    say(f"three outputs, merged network: {found.outcome}, loss {found.loss:.4g}, gradient {found.gradient_norm:.1e}")
    wide = ss.expand(small, found.parameters, widths={1: 4}, copies={(1, 0): 2}, inputs=inputs)
    vectors = wide.parameters["0.weight"]
    twin = next(k for k in range(1, 4) if np.array_equal(vectors[k], vectors[0]))
    return ss.Problem(wide.network, data), wide.parameters, (0, twin)


def picture_of_a_walk(problem: ss.Problem, path: ss.Path) -> None:
    """The loss stays; the gradient does not."""
    found = ss.walk(problem, path.permutation_point, [1, 2, 3, 0], points=20)
    scan = found.scan
    say(
        f"walk: {found.segments} segments, {scan.critical.sum()} critical, deviation {found.max_loss_deviation:.1e}, "
        f"gradient {found.max_gradient_norm:.1e}"
    )
    figure, (left, right) = side_by_side()
    plot_walk(found, left)
    times = (np.arange(scan.gradient_norms.size) + 1.0) / scan.gradient_norms.size
    right.plot(times, scan.gradient_norms.ravel(), color=ORANGE, lw=1.0)
    right.axhline(scan.tolerance, color=GREY, ls=":", lw=0.8, label="critical below")
    right.set(yscale="log", xlabel="time on the walk", ylabel="gradient norm")
    right.legend()
    save_figure(figure, HERE / "walk.svg")


def main() -> None:
    """Compute and draw all."""
    HERE.mkdir(parents=True, exist_ok=True)
    data = ss.data.toy("tanh", 0)
    problem = ss.Problem(ss.MLP((2, 4, 1), "tanh"), data)  # one neuron less than the teacher
    student = ss.train(problem, seed=1, adam_steps=500)
    say(f"student: {student.outcome}, loss {student.loss:.4g}, gradient {student.gradient_norm:.1e}")
    path = ss.find_path(problem, student, layer=1, pair=PAIR, settings=ss.PathSettings(steps=60))
    say(f"path: {path.ending}, loss at the point {path.loss_at_point:.6g}")
    places = [(problem, path.permutation_point.parameters, PAIR), three_outputs()]
    with mpl.rc_context(STYLE):
        picture_of_a_path(path)
        picture_of_a_channel()
        picture_of_the_split(places)
        picture_of_the_plane(places)
        picture_of_a_walk(problem, path)
        figure, (left, right) = side_by_side(height=3.0)
        plot_distance(path, left)
        plot_surface(merge_surface(problem, path, steps=61), right)
        save_figure(figure, HERE / "surface.png")


if __name__ == "__main__":
    main()
