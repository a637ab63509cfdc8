"""find_paths: the paths of many pairs, each as `find_path` finds it, side by side on the processor's cores.

Threads, not lanes of one program: pairs differ up to 20-fold in how many iterations they need, and in lockstep every
one of them would wait for the worst (benchmarks/results/pairs.txt). Compiled programs run without Python's lock.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import Any

from saddlescope.errors import SettingsError
from saddlescope.paths.find import find_path
from saddlescope.paths.follow import Progress
from saddlescope.paths.result import Path, PathSettings
from saddlescope.problem.problem import Problem
from saddlescope.units.neurons import Neurons


def all_pairs(neurons: Neurons, parameters: Any) -> list[tuple[int, int]]:
    """Return every pair of a layer's neurons."""
    return list(combinations(range(len(neurons.incoming_vectors(parameters))), 2))


def find_paths(
    problem: Problem,
    parameters: Any,
    *,
    layer: int | str,
    pairs: Sequence[tuple[int, int]] | None = None,
    settings: PathSettings | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Follow the permutation paths of many pairs of one layer; each is the path that `find_path` returns.

    The first pair is followed alone, so that its programs are compiled once; the others share them.

    Args:
        problem: network, data and loss.
        parameters: a minimum, as `find_path` takes it.
        layer: hidden layer, counted from 1, or its name.
        pairs: pairs of its neurons, counted from 0; None takes all of them.
        settings: as for `find_path`, for all pairs.
        workers: threads; None takes as many as there are cores.
        progress: called with (done, total, message) after each pair.

    Returns:
        The paths in the order of the pairs.

    Raises:
        SettingsError: fewer than one worker.
        NeuronsError: see `find_path`.
        ShapeError: see `find_path`.
        NonFiniteError: see `find_path`.
    """
    if workers is not None and workers < 1:
        raise SettingsError("nobody to work", name="workers", value=workers, expected="1 or more")
    parameters = getattr(parameters, "parameters", parameters)
    problem.network.check(parameters)
    neurons = problem.network.neurons(layer)
    wanted = all_pairs(neurons, parameters) if pairs is None else list(pairs)
    for pair in wanted:
        neurons.check_pair(parameters, *pair)
    found: list[Path] = []

    def follow(pair: tuple[int, int]) -> Path:
        return find_path(problem, parameters, layer=layer, pair=pair, settings=settings)

    def keep(path: Path) -> None:
        found.append(path)
        if progress is not None:
            progress(len(found), len(wanted), f"pair {path.pair[0]},{path.pair[1]}: {path.ending}")

    for pair in wanted[:1]:
        keep(follow(pair))
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for path in pool.map(follow, wanted[1:]):
            keep(path)
    return tuple(found)
