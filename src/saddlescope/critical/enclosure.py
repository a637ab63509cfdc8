"""The mean squared error of a dense chain in ball arithmetic: value, gradient, Hessian, G and B over boxes.

A vector of parameters holds, layer by layer, the rows of the weights, each with its bias last. One sweep forward and
back gives all first derivatives; the Hessian is the sum over neurons z of T^T diag(curvature) T, with T = dz/dtheta,
and of what the products W h add.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from saddlescope.data.data import Data
from saddlescope.models.chain import Traceable
from saddlescope.numerics import balls
from saddlescope.numerics.balls import Ball, Balls, flint

# Balls kept at once for one chunk's tangents; about 100 bytes each.
CHUNK_BALLS = 200_000


def to_vector(network: Traceable, parameters: dict[str, np.ndarray]) -> np.ndarray:
    """Join a parameter set in this file's order."""
    return np.concatenate([layer.matrix(parameters).ravel() for layer in network.chain])


def to_parameters(network: Traceable, vector: np.ndarray) -> dict[str, np.ndarray]:
    """Undo `to_vector`."""
    parameters, start = {}, 0
    for layer in network.chain:
        size = layer.positions(network.layout).size
        rows = vector[start : start + size].reshape(layer.outputs, -1)
        parameters |= {name: np.array(value) for name, value in layer.arrays(rows).items()}
        start += size
    return parameters


@dataclass(frozen=True)
class _Sweep:
    """One chunk, forward and back: by layer the inputs and dL/dz, by hidden layer g', g'' and dL/dh.

    The last three are lists over samples and, within each, neurons.
    """

    inputs: list[Balls]
    slopes: list[list[Ball]]
    bends: list[list[Ball]]
    reads: list[list[Ball]]
    adjoints: list[Balls]
    value: Ball


@dataclass(frozen=True)
class BallLoss:
    """A dense chain's loss on a data set: weight * sum of squared errors + decay/2 |theta|^2.

    ``rows`` and ``columns`` are each layer's, the bias's column among them. A chunk is inputs, with a 1 for the bias,
    and targets.
    """

    inputs: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    jets: tuple[balls.Jet, ...]
    chunks: tuple[tuple[Balls, Balls], ...]
    weight: Ball
    decay: Ball

    @staticmethod
    def of(network: Traceable, data: Data, loss: str, weight_decay: float) -> "BallLoss":
        """Take over the data as they are stored."""
        arb, chain = flint().arb, network.chain
        assert data.targets is not None
        inputs, targets = chain[0].padded(data.inputs), data.targets
        shapes = [layer.positions(network.layout).shape for layer in chain]
        outputs, columns = (tuple(shape[side] for shape in shapes) for side in (0, 1))
        rows = max(1, CHUNK_BALLS // (sum(a * b for a, b in shapes) * max(outputs)))
        chunks = [
            (balls.exact(inputs[first : first + rows]), balls.exact(targets[first : first + rows]))
            for first in range(0, len(inputs), rows)
        ]
        total = arb(targets.size)
        if loss == "normalised":
            total = balls.add(value * value for _, part in chunks for value in part.entries())
        jets = tuple(balls.JETS[layer.activation.name] for layer in chain if layer.activation is not None)
        return BallLoss(chain[0].inputs, outputs, columns, jets, tuple(chunks), 1 / total, arb(weight_decay))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of parameters of each layer."""
        return tuple(outputs * columns for outputs, columns in zip(self.rows, self.columns, strict=True))

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(self.sizes)

    def _weights(self, theta: Balls) -> list[Balls]:
        """Return each layer's weights with the bias as last column."""
        entries, start, weights = theta.entries(), 0, []
        for outputs, size in zip(self.rows, self.sizes, strict=True):
            weights.append(flint().arb_mat(outputs, size // outputs, entries[start : start + size]))
            start += size
        return weights

    def _inner(self, weights: list[Balls], k: int) -> Balls:
        """Return the weights of a layer behind another without the bias."""
        return flint().arb_mat([row[: self.rows[k - 1]] for row in weights[k].tolist()])

    def _sweeps(self, weights: list[Balls]) -> Iterator[_Sweep]:
        return (self._sweep(weights, inputs, targets) for inputs, targets in self.chunks)

    def _sweep(self, weights: list[Balls], inputs: Balls, targets: Balls) -> _Sweep:
        """Go through one chunk forward and back."""
        matrix, one = flint().arb_mat, flint().arb(1)
        rows, last = inputs.nrows(), len(weights) - 1
        entered, slopes, bends = [inputs], [], []
        for k, (width, jet_of) in enumerate(zip(self.rows, self.jets, strict=False)):
            jets = [jet_of(z) for z in (entered[k] * weights[k].transpose()).entries()]
            slopes.append([jet[1] for jet in jets])
            bends.append([jet[2] for jet in jets])
            after = matrix(rows, width, [jet[0] for jet in jets]).tolist()
            entered.append(matrix([[*row, one] for row in after] if self.columns[k + 1] > width else after))
        errors = entered[last] * weights[last].transpose() - targets
        value = self.weight * balls.add(error * error for error in errors.entries())
        adjoints, reads = [2 * self.weight * errors], []
        for k in range(last, 0, -1):
            reads.insert(0, (adjoints[0] * self._inner(weights, k)).entries())
            product = [read * slope for read, slope in zip(reads[0], slopes[k - 1], strict=True)]
            adjoints.insert(0, matrix(rows, self.rows[k - 1], product))
        return _Sweep(entered, slopes, bends, reads, adjoints, value)

    def value(self, theta: Balls) -> Ball:
        """Return the loss."""
        square = balls.add(value * value for value in theta.entries())
        return self.decay / 2 * square + balls.add(sweep.value for sweep in self._sweeps(self._weights(theta)))

    def gradient(self, theta: Balls) -> Balls:
        """Return the gradient, a column."""
        total = self.decay * theta
        for sweep in self._sweeps(self._weights(theta)):
            pairs = zip(sweep.adjoints, sweep.inputs, strict=True)
            parts = [value for adjoint, inputs in pairs for value in (adjoint.transpose() * inputs).entries()]
            total += flint().arb_mat(self.size, 1, parts)
        return total

    def coupling(self, theta: Balls, layer: int, neuron: int) -> tuple[Balls, Balls, Balls]:
        """Return a, G = E[r g' h^T] and B = E[(a r) g'' h h^T] of one neuron (science notes, section 3)."""
        matrix, width, weights = flint().arb_mat, self.rows[layer - 1], self._weights(theta)
        columns = weights[layer - 1].ncols()
        coupling, curvature = matrix(self.rows[layer], columns), matrix(columns, columns)
        for sweep in self._sweeps(weights):
            inputs = sweep.inputs[layer - 1]
            slopes, bends, reads = (
                lists[layer - 1][neuron::width] for lists in (sweep.slopes, sweep.bends, sweep.reads)
            )
            coupling += sweep.adjoints[layer].transpose() * _scale(inputs, slopes)
            factors = [read * bend for read, bend in zip(reads, bends, strict=True)]
            curvature += inputs.transpose() * _scale(inputs, factors)
        return matrix([[row[neuron]] for row in weights[layer].tolist()]), coupling, curvature

    def hessian(self, theta: Balls) -> Balls:
        """Return the Hessian: sum over neurons of T^T diag(curvature) T with T = dz/dtheta, and what W h adds."""
        total = [[flint().arb(0)] * self.size for _ in range(self.size)]
        for i in range(self.size):
            total[i][i] = self.decay
        weights = self._weights(theta)
        for sweep in self._sweeps(weights):
            self._add(total, weights, sweep)
        return flint().arb_mat(total)

    def _add(self, total: list[list[Ball]], weights: list[Balls], sweep: _Sweep) -> None:
        """Add one chunk's part of the Hessian."""
        matrix, zero = flint().arb_mat, flint().arb(0)
        rows, last, before = sweep.inputs[0].nrows(), len(weights) - 1, 0
        upstream: Balls = None  # dh/dtheta of the layer's inputs: a row a neuron, samples times earlier parameters
        for k, layer_weights in enumerate(weights):
            outputs, columns = layer_weights.nrows(), layer_weights.ncols()
            size, own = outputs * columns, sweep.inputs[k].tolist()
            through = (self._inner(weights, k) * upstream).tolist() if k else [[]] * outputs
            for j, row in enumerate(upstream.tolist() if k else []):  # d2(W h)/dW dh
                block = sweep.adjoints[k].transpose() * matrix(rows, before, row)
                for i, line in enumerate(block.tolist()):
                    _add_line(total, before + i * columns + j, line)
            ahead = []
            for i in range(outputs):
                tangent = [[*through[i][n * before : (n + 1) * before], *own[n]] for n in range(rows)]
                start = before + i * columns
                if k == last:
                    factors = [2 * self.weight] * rows
                else:
                    reads, bends = sweep.reads[k][i::outputs], sweep.bends[k][i::outputs]
                    factors = [read * bend for read, bend in zip(reads, bends, strict=True)]
                    slopes = sweep.slopes[k][i::outputs]
                    left, right = [zero] * (i * columns), [zero] * (size - (i + 1) * columns)
                    for slope, line in zip(slopes, tangent, strict=True):
                        scaled = [slope * value for value in line]
                        ahead += [*scaled[:before], *left, *scaled[before:], *right]
                wide = matrix(tangent)
                block = wide.transpose() * _scale(wide, factors)
                _add_block(total, [*range(before), *range(start, start + columns)], block)
            before += size
            upstream = matrix(outputs, rows * before, ahead) if k < last else None


def _scale(matrix: Balls, factors: list[Ball]) -> Balls:
    """Return the matrix with each row multiplied by its factor."""
    return flint().arb_mat([[factor * v for v in row] for factor, row in zip(factors, matrix.tolist(), strict=True)])


def _add_block(total: list[list[Ball]], places: list[int], block: Balls) -> None:
    for place, row in zip(places, block.tolist(), strict=True):
        line = total[place]
        for other, value in zip(places, row, strict=True):
            line[other] = line[other] + value


def _add_line(total: list[list[Ball]], place: int, line: list[Ball]) -> None:
    """Add a row of what is symmetric and off the diagonal."""
    for other, value in enumerate(line):
        total[place][other] = total[place][other] + value
        total[other][place] = total[other][place] + value
