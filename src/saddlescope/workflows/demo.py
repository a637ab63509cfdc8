"""The demonstration: a network trained on the embedded digits, and the path on which two of its neurons merge.

As in [B19] Fig. 3 the teacher is trained on labels, and the student, equal to it at the start, regresses on the
teacher's outputs before the softmax: so the path begins at an exact minimum of loss zero.
"""

from dataclasses import dataclass

from saddlescope.data.data import teacher_data
from saddlescope.data.sources import digits_used
from saddlescope.models.mlp import MLP
from saddlescope.paths.find import find_path
from saddlescope.paths.result import Path, PathSettings
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem
from saddlescope.training.train import Progress, Training, train

WIDTHS = (50, 16, 16, 10)
LAYER = 2
ADAM_STEPS = 600


@dataclass(frozen=True)
class Demonstration:
    """The teacher, how well it reads digits, and the path."""

    network: MLP
    teacher: Training
    accuracy: float
    path: Path


@in_float64
def demonstrate(*, seed: int = 0, steps: int = 100, progress: Progress | None = None) -> Demonstration:
    """Train on the digits' used pixels, take the most similar pair of hidden layer 2, and follow its path."""
    data = digits_used()
    network = MLP(WIDTHS, "tanh")
    learning = Problem(network, data, loss="cross_entropy")
    teacher = train(learning, seed=seed, adam_steps=ADAM_STEPS, max_newton=0, progress=progress)
    accuracy = learning.accuracy(teacher.parameters)
    assert accuracy is not None
    student = Problem(
        network,
        teacher_data(
            network, teacher.parameters, data.inputs, labels=data.labels, name=f"{data.name}, teacher's outputs"
        ),
        loss="normalised",
    )
    path = find_path(student, teacher.parameters, layer=LAYER, settings=PathSettings(steps=steps), progress=progress)
    return Demonstration(network, teacher, accuracy, path)
