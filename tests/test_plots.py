"""Figures of paths: what is drawn are the stored numbers, in axes that say what they show, whole or not at all."""

import errno
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from references.synthetic_paths import EVENT_KINDS, NODES, synthetic_path
from saddlescope.critical.result import Certificate, Inertia, Kind, Part
from saddlescope.errors import StorageError
from saddlescope.outcomes import Outcome
from saddlescope.plots.canvas import BLUE, ORANGE
from saddlescope.plots.neurons import plot_neurons
from saddlescope.plots.path import (
    path_figure,
    plot_accuracy,
    plot_distance,
    plot_gradient,
    plot_loss,
    plot_outgoing,
    save_figure,
)
from saddlescope.plots.spectrum import plot_spectrum
from saddlescope.plots.surface import plot_surface
from saddlescope.plots.walk import plot_walk
from saddlescope.units.neurons import Neurons, Slice
from saddlescope.valleys.result import Measurements, Move, MoveKind, Route, Walk
from saddlescope.workflows.merge_surface import Surface

EVERY = (plot_loss, plot_distance, plot_gradient, plot_outgoing, plot_accuracy)


@pytest.fixture
def axes() -> Axes:
    return Figure().subplots()


def _lines(axes: Axes) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in axes.get_lines()]


def _legend(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("plot", EVERY)
def test_every_plot_draws_into_the_axes_it_is_given_and_returns_them(plot: Any, axes: Axes) -> None:
    assert plot(synthetic_path(), axes) is axes
    assert axes.get_xlabel()
    assert axes.get_ylabel()


def test_the_loss_curve_is_the_stored_half_and_its_mirror_image_with_the_point_in_the_middle(axes: Axes) -> None:
    path = synthetic_path()
    assert path.permutation_point is not None
    first, second, between, point = _lines(plot_loss(path, axes))[:4]
    np.testing.assert_array_equal(first, (path.times, path.losses))
    np.testing.assert_array_equal(second, (1.0 - path.times, path.losses))
    assert between[0].tolist() == [0.25, 0.5, 0.75]
    assert between[1].tolist() == [path.losses[-1], path.permutation_point.loss, path.losses[-1]]
    assert np.concatenate(point).tolist() == [0.5, path.permutation_point.loss]


def test_without_a_permutation_point_only_what_was_followed_is_drawn(axes: Axes) -> None:
    path = synthetic_path(ending=Outcome.CHANNEL)
    assert max(float(x.max()) for x, _ in _lines(plot_loss(path, axes))) <= 0.25
    assert "permutation point" not in _legend(axes)


def test_every_kind_of_event_is_marked_at_its_node_and_named_once(axes: Axes) -> None:
    path = synthetic_path()
    path = replace(path, events=(*path.events, path.events[0]))
    plot_loss(path, axes)
    marks = {(float(x[0]), float(y[0])) for x, y in _lines(axes) if len(x) == 1}
    assert {(float(path.times[event.node]), event.loss) for event in path.events} <= marks
    assert sorted(_legend(axes)) == sorted(
        ["permutation point", "fold", "interior maximum", "not converged", "channel to infinity", "jump"]
    )
    assert len(EVENT_KINDS) == 5


def test_the_highest_loss_and_the_point_lie_inside_the_axes(axes: Axes) -> None:
    path = synthetic_path()
    low, high = plot_loss(path, axes).get_ylim()
    assert low == 0.0
    assert high > path.barrier


@pytest.mark.parametrize("plot", [plot_distance, plot_gradient, plot_outgoing])
def test_distances_fall_to_the_right_on_a_logarithmic_axis_without_the_merged_node(plot: Any, axes: Axes) -> None:
    path = synthetic_path()
    plot(path, axes)
    left, right = axes.get_xlim()
    assert axes.get_xscale() == "log"
    assert left > path.distances.max()
    assert 0 < right < path.distances[path.distances > 0].min()
    assert "\\delta" in axes.get_xlabel()


def test_the_gradient_curve_has_no_gaps_where_other_nodes_lie_between(axes: Axes) -> None:
    path = synthetic_path()
    full, tangential, tolerance = _lines(plot_gradient(path, axes))
    asked = (path.kinds == "asked") & (path.times > 0)
    for (x, y), values in ((full, path.full_gradient_norms), (tangential, path.gradient_norms)):
        np.testing.assert_array_equal(x, path.distances[asked])
        np.testing.assert_array_equal(y, values[asked])
    assert set(tolerance[1]) == {path.tolerance}
    assert axes.get_yscale() == "log"


def test_the_accuracy_needs_labels(axes: Axes) -> None:
    path = synthetic_path()
    assert path.accuracies is not None
    np.testing.assert_array_equal(_lines(plot_accuracy(path, axes))[0][1], 100.0 * path.accuracies)
    with pytest.raises(ValueError, match="without labels"):
        plot_accuracy(synthetic_path(labels=False), axes)


@pytest.mark.parametrize(("labels", "last"), [(True, "accuracy (%)"), (False, "outgoing norm")])
def test_the_figure_has_four_panels_and_a_title_that_says_the_ending(labels: bool, last: str) -> None:
    figure = path_figure(synthetic_path(labels=labels, ending=Outcome.CHANNEL))
    wanted = ["loss $L(\\gamma(t))$", "loss $L$", "gradient norm", last]
    assert [axes.get_ylabel() for axes in figure.axes] == wanted
    assert figure.get_suptitle() == "layer 1, neurons 0 and 2, tied distance: channel"


@pytest.mark.parametrize("scale", [1.0, 1e-6])
@pytest.mark.parametrize("labels", [True, False])
def test_no_text_of_the_figure_overlaps_another(scale: float, labels: bool) -> None:
    path = synthetic_path(labels=labels)
    events = tuple(replace(event, loss=scale * event.loss) for event in path.events)
    point = replace(path.permutation_point, loss=scale) if path.permutation_point else None
    small = replace(path, losses=scale * path.losses, permutation_point=point, events=events)
    figure = path_figure(small)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    boxes = []
    for axes in figure.axes:
        legend = axes.get_legend()
        parts = [axes.xaxis.label, axes.yaxis.label, axes.yaxis.get_offset_text()]
        parts += [] if legend is None else [legend]
        boxes += [part.get_window_extent(renderer) for part in parts]
    for k, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[k + 1 :])


def test_numbers_that_are_not_finite_leave_gaps_and_no_error(tmp_path: FilePath) -> None:
    path = synthetic_path(ending=Outcome.NOT_CONVERGED)
    losses = np.where(np.arange(NODES) > 6, np.nan, path.losses)
    nothing = np.zeros(NODES)
    odd = replace(path, losses=losses, barrier=float("nan"), gradient_norms=nothing, full_gradient_norms=nothing)
    save_figure(path_figure(odd), tmp_path / "a.png")


@pytest.mark.parametrize(("suffix", "head"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_the_suffix_says_the_format(tmp_path: FilePath, suffix: str, head: bytes) -> None:
    file = tmp_path / f"a.b{suffix}"
    save_figure(path_figure(synthetic_path()), file)
    assert file.read_bytes().startswith(head)
    assert os.listdir(tmp_path) == [file.name]


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_last_bits_of_the_layout_do_not_reach_the_file(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Matplotlib's own layout differs in them from run to run: its solver orders terms by their addresses in memory."""
    lay_out, contents = ConstrainedLayoutEngine.execute, set()
    for shift in (0.0, 3e-12, -3e-12):

        def execute(engine: Any, fig: Figure, shift: float = shift) -> Any:
            lay_out(engine, fig)
            for axes in fig.axes:
                within, bounds = axes.get_in_layout(), axes.get_position(original=True).bounds
                axes.set_position([place + shift for place in bounds])
                axes.set_in_layout(within)

        monkeypatch.setattr(ConstrainedLayoutEngine, "execute", execute)
        figure = path_figure(synthetic_path())
        engine = figure.get_layout_engine()
        save_figure(figure, tmp_path / f"a{suffix}")
        assert figure.get_layout_engine() is engine
        contents.add((tmp_path / f"a{suffix}").read_bytes())
    assert len(contents) == 1


def test_fonts_are_embedded_whole_in_a_pdf_and_words_stay_words_in_an_svg(tmp_path: FilePath) -> None:
    figure = path_figure(synthetic_path())
    save_figure(figure, tmp_path / "a.pdf")
    save_figure(figure, tmp_path / "a.svg")
    content = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    texts = [item.text for item in ElementTree.parse(tmp_path / "a.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert "permutation point" in texts


def test_a_figure_that_cannot_be_written_leaves_nothing_behind(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(_: Figure, file: FilePath, **__: Any) -> None:
        file.write_bytes(b"\x89PNG")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(StorageError, match=r"No space left on device.*file=.*a\.png"):
        save_figure(path_figure(synthetic_path()), tmp_path / "a.png")
    assert os.listdir(tmp_path) == []


def test_drawing_changes_no_setting_of_matplotlib(tmp_path: FilePath) -> None:
    before = dict(mpl.rcParams)
    save_figure(path_figure(synthetic_path()), tmp_path / "a.png")
    assert dict(mpl.rcParams) == before


def test_drawing_needs_no_display_and_never_loads_pyplot() -> None:
    code = "import sys, saddlescope.plots.path; print('matplotlib.pyplot' in sys.modules)"
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.check_output([sys.executable, "-c", code], env=here, text=True).strip() == "False"


@pytest.mark.parametrize("plot", EVERY)
def test_a_plot_without_axes_draws_into_new_ones_that_the_global_state_does_not_know(plot: Any) -> None:
    axes = plot(synthetic_path())
    assert isinstance(axes, Axes)
    assert axes is not plot(synthetic_path())


def _walk(losses: np.ndarray) -> Walk:
    segments = len(losses)
    neurons = Neurons(incoming=(Slice("in", axis=0),), outgoing=(Slice("out", axis=1),))
    moves = tuple(Move(MoveKind.TRANSFER, 0, 1) for _ in range(segments))
    route = Route(start={}, neurons=neurons, pair=(0, 1), permutation=(1, 0), moves=moves)
    zeros = np.zeros_like(losses)
    scan = Measurements(
        loss=1.0,
        gradient_norm=0.0,
        largest_output=1.0,
        losses=losses,
        gradient_norms=zeros,
        output_deviations=zeros,
        tolerance=1e-8,
    )
    return Walk(layer=1, route=route, scan=scan, seconds=0.0)


def test_a_walk_shows_every_deviation_that_is_not_zero_and_counts_the_others(axes: Axes) -> None:
    losses = 1.0 + np.array([[0.0, 1e-12, -3e-12], [0.0, 2e-12, 0.0]])
    assert plot_walk(_walk(losses), axes) is axes
    x, y = _lines(axes)[0]
    deviations = np.abs(losses - 1.0).ravel()
    np.testing.assert_array_equal(y, deviations[deviations > 0])
    np.testing.assert_allclose(x, np.array([2, 3, 5]) / 6)
    assert axes.get_yscale() == "log"
    assert _legend(axes) == ["measured; 3 points exactly 0"]


def test_a_walk_that_stays_exactly_equal_has_no_logarithmic_axis(axes: Axes) -> None:
    plot_walk(_walk(np.ones((2, 3))), axes)
    assert axes.get_yscale() == "linear"
    FigureCanvasAgg(axes.figure).draw()  # type: ignore[arg-type]


def test_the_spectrum_shows_each_block_in_rising_order_and_the_zeros_that_symmetry_explains(axes: Axes) -> None:
    values = {"symmetric": np.array([3.0, 0.5]), "antisymmetric, layer 1 copies (0, 3)": np.array([2.0, -1.0])}
    parts = tuple(
        Part(
            name if name == "symmetric" else f"{name}, layer 1 copies (0, 3)", "dense", Inertia.of(v, np.full(2, 1e-9))
        )
        for name, v in values.items()
    )
    certificate = Certificate(
        verdict=Kind.SADDLE,
        index=1,
        nullity=3,
        index_range=(1, 1),
        nullity_range=(3, 3),
        symmetry_nullity=3,
        loss=1.0,
        gradient_norm=0.0,
        refined_gradient_norm=0.0,
        distance=0.0,
        relative_distance=0.0,
        point={},
        signs_here=None,
        groups=(),
        flat=(),
        parts=parts,
        method="dense",
        methods={},
        error_bound=1e-9,
        tolerance="",
        reasons=(),
        not_shown=(),
        evaluations={},
        seconds=0.0,
    )
    assert plot_spectrum(certificate, axes) is axes
    drawn = [y for _, y in _lines(axes)]
    assert [y.tolist() for y in drawn][:3] == [[0.5, 3.0], [-1.0, 2.0], [0.0, 0.0, 0.0]]
    assert [line.get_color() for line in axes.get_lines()][:2] == [BLUE, ORANGE]


def test_the_surface_is_drawn_with_the_path_above_it(axes: Axes) -> None:
    grid = np.linspace(-1, 1, 5)
    trace = np.array([[1.0, 0.3, 2.0], [0.0, 0.5, 3.0]])
    surface = Surface(grid, grid, np.add.outer(grid**2, grid**2), trace)
    assert plot_surface(surface, axes) is axes
    x, y = _lines(axes)[0]
    np.testing.assert_array_equal(np.stack([x, y], axis=1), trace[:, :2])


def test_the_neurons_tracks_are_the_stored_nodes_up_to_a_rotation_and_a_shift(axes: Axes) -> None:
    path = synthetic_path()
    assert plot_neurons(path, axes) is axes
    tracks = [np.stack(line) for line in _lines(axes) if len(line[0]) > 1]
    vectors = np.concatenate([path.parameters["0.weight"], path.parameters["0.bias"][..., None]], axis=2)
    rows = vectors.reshape(-1, 3) - vectors.reshape(-1, 3).mean(axis=0)
    drawn = np.stack(tracks, axis=0).transpose(2, 0, 1).reshape(-1, 2)
    largest = np.linalg.eigvalsh(rows.T @ rows)[:0:-1]
    np.testing.assert_allclose(drawn.T @ drawn, np.diag(largest), atol=1e-9 * largest[0])
    assert _legend(axes) == [f"neuron {unit}" for unit in sorted(path.pair)]
