"""What shrinking is asked for and what it keeps: the settings, every merge, the small network."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from saddlescope.outcomes import Outcome


@dataclass(frozen=True, kw_only=True)
class ShrinkSettings:
    """How much work each merge may take. ``candidates``: pairs that are settled, the best by estimate."""

    candidates: int | None = None  # None: all pairs of small networks, else `shrink.CANDIDATES`
    screen: int = 2  # iterations on each candidate of a large network, before the best is settled further
    max_iterations: int = 5  # iterations on the best of a large network
    finish: int = 50  # iterations after the last merge, and of each candidate in small networks
    tolerance: float | None = None  # gradient norm; None: 1e-10 dense, relative 1e-3 matrix-free


@dataclass(frozen=True, kw_only=True)
class ShrinkStep:
    """One merge. Neurons are counted from 0 in the network before this step; the merged one stands at min(pair).

    ``loss_merged`` is the loss right after merging, ``loss_after`` that of the settled network with one neuron less,
    ``gradient_norm`` its residual and ``outcome`` whether that met ``tolerance``. ``start`` is "fitted" (outgoing
    weights by least squares) or "plain" (incoming averaged, outgoing summed).
    """

    layer: int
    pair: tuple[int, int]
    members: tuple[tuple[int, ...], tuple[int, ...]]
    start: str
    mix: float
    estimate: float
    loss_before: float
    loss_merged: float
    loss_after: float
    gradient_norm: float
    tolerance: float
    outcome: Outcome
    accuracy: float | None
    widths: tuple[int, ...]
    candidates: int
    evaluations: dict[str, int]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Shrunk:
    """The small network, its parameters, and every merge on the way.

    ``members[layer]`` says for each neuron of a narrowed layer which of the original ones it stands for. ``reached``:
    the widths asked for were reached. ``ending`` is the outcome of the last settling, to the last step's tolerance;
    ``gradient_norm`` and ``loss`` are measured in the small network by itself. ``reasons``: why merging ended early.
    """

    network: Any
    parameters: dict[str, np.ndarray]
    steps: tuple[ShrinkStep, ...]
    members: dict[int, tuple[tuple[int, ...], ...]]
    loss_start: float
    gradient_norm_start: float
    accuracy_start: float | None
    loss: float
    gradient_norm: float
    accuracy: float | None
    reached: bool
    ending: Outcome
    reasons: tuple[str, ...]
    settings: ShrinkSettings
    evaluations: dict[str, int]
    seconds: float
    fingerprints: dict[str, str]
