"""A problem is a network, data and a loss: value, gradient and curvature products over the full batch.

L(theta) = mean over samples of the loss + weight_decay/2 |theta|^2 + norm_barrier/3 max(0, |theta|^2/2 - R)^3,
with R = 1000 times the number of parameters. The batch is summed in chunks of bounded memory. Data are leaves of the
pytree, so functions compiled for one data set serve all of equal shape.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from saddlescope.arrays import Parameters, fingerprint, to_numpy
from saddlescope.errors import SettingsError, ShapeError
from saddlescope.models.contract import adapted, as_taken, output_of, sample_bytes
from saddlescope.models.door import require_sound
from saddlescope.precision import float64, in_float64, single
from saddlescope.problem import losses
from saddlescope.problem.checks import require_fit, require_samples
from saddlescope.problem.placement import CHUNK_BYTES, chunk_samples, chunked, device_for, marks
from saddlescope.problem.shallow import is_shallow, shallow_hessian


class Problem(eqx.Module):
    """Network + data + loss, as a function of a flat vector of parameters or of a parameter set.

    ``loss``: "mse" (mean over samples and outputs), "normalised" (mse / mean squared target, [B19] Fig. 3),
    "cross_entropy" (logits and labels), "binary_cross_entropy" (logits and targets in [0, 1], mean over samples and
    outputs; or labels 0 and 1 of one output), or a function (outputs, targets) -> loss of each sample, which is given
    the labels when the data have no targets. The methods on flat vectors are pure, jittable and want float64; those on
    parameter sets (`loss_of`, `gradient_of`, `accuracy`) see to it themselves.
    """

    network: Any = eqx.field(static=True)
    loss: Any = eqx.field(static=True)
    samples: int = eqx.field(static=True)
    sample_bytes: int = eqx.field(static=True)
    inputs: Array
    targets: Array
    weights: Float[Array, "chunks chunk"]
    labels: Array | None
    scale: Scalar
    weight_decay: Scalar
    norm_barrier: Scalar

    def __init__(
        self,
        network: Any,
        data: Any,
        *,
        loss: Any = "mse",
        weight_decay: float = 0.0,
        norm_barrier: float = 0.0,
        chunk: int | None = None,
        device: str | None = None,
    ) -> None:
        """Check that all fits and lay the data out in chunks.

        Args:
            network: a `MLP`, a model of `from_torch`, `from_function`, ..., or an object of your own with
                ``layout``, ``apply`` and ``layers`` (`models.units.Model`), which is tried here once.
            data: inputs with targets or labels.
            loss: a name or a function, see the class.
            weight_decay: factor of |theta|^2 / 2.
            norm_barrier: factor of max(0, |theta|^2/2 - R)^3 / 3.
            chunk: samples per chunk; None keeps the memory of one chunk's gradient within `placement.MOST_BYTES`, on
                an accelerator `placement.ACCELERATOR_BYTES`.
            device: where to compute, a platform of JAX ("cpu", "gpu", ...); None: JAX's default, but the processor
                where so few samples and parameters would leave an accelerator waiting (`placement.SMALL`).

        Raises:
            ShapeError: data that does not fit the network or the loss, or a loss that is not one number per sample.
            SettingsError: an unknown loss, a penalty that is negative or infinite, a chunk below 1, a device that is
                not there, or an object that is no model, is random, or mixes samples.
            NeuronsError: a model of your own whose slices do not make units that can be exchanged.
        """
        network = adapted(network)
        for name, value in (("weight_decay", weight_decay), ("norm_barrier", norm_barrier)):
            if not 0.0 <= value < math.inf:
                raise SettingsError("not a penalty", name=name, value=value, expected="a finite number, 0 or more")
        if chunk is not None and (not isinstance(chunk, int | np.integer) or chunk < 1):
            raise SettingsError("not a number of samples", name="chunk", value=chunk, expected="an integer, 1 or more")
        with float64():
            inputs = as_taken(network, data.inputs)
            out = output_of(network, (min(2, len(inputs)), *inputs.shape[1:]), inputs.dtype).shape[1:]
            require_fit(data, loss, out)
            require_sound(network, inputs)
            self.sample_bytes = sample_bytes(network, inputs.shape[1:], inputs.dtype)
        samples = inputs.shape[0]
        place = device_for(samples * network.layout.size, device)
        size = min(samples, int(chunk or chunk_samples(self.sample_bytes, place)))
        wanted = data.labels if loss == "cross_entropy" or data.targets is None else data.targets
        if loss == "binary_cross_entropy" and data.targets is None:
            wanted = data.labels[:, None].astype(np.float64)
        self.network, self.loss, self.samples = network, loss, samples
        with float64():
            self.inputs = chunked(inputs, size, place)
            self.targets = chunked(wanted, size, place)
            self.weights = jax.device_put(marks(samples, size), place)
            self.labels = None if data.labels is None else jnp.asarray(data.labels)
            square = float(np.mean(np.square(np.asarray(data.targets)))) if loss == "normalised" else 1.0
            if square == 0.0:
                raise ShapeError(
                    "all targets are zero, so the loss cannot be normalised", name="mean squared target", value=0.0
                )
            self.scale = jnp.asarray(1.0 / (square * samples), jnp.float64)
            self.weight_decay = jnp.asarray(weight_decay, jnp.float64)
            self.norm_barrier = jnp.asarray(norm_barrier, jnp.float64)
            if not isinstance(loss, str):
                require_samples(loss, self.targets[0], out)

    def with_network(self, network: Any) -> "Problem":
        """Return this problem, data and loss as they are, with another network of the same inputs and outputs.

        Raises:
            ShapeError: other numbers of inputs or outputs.
        """
        network = adapted(network)
        with float64():
            forms = [output_of(one, self.inputs.shape[1:], self.inputs.dtype).shape for one in (network, self.network)]
        if forms[0] != forms[1]:
            raise ShapeError(
                "data and network do not fit",
                name="outputs of a sample",
                value=forms[0][1:],
                expected=str(forms[1][1:]),
            )
        with float64():
            size = sample_bytes(network, self.inputs.shape[2:], self.inputs.dtype)
        return self.with_arrays({"network": network, "sample_bytes": size})

    def with_arrays(self, fields: dict[str, Any]) -> "Problem":
        """Return this problem with the named fields replaced as they are: nothing is laid out or checked again."""
        other = object.__new__(Problem)
        for field in dataclasses.fields(self):
            object.__setattr__(other, field.name, fields.get(field.name, getattr(self, field.name)))
        return other

    def in_single(self) -> "Problem":
        """Return this problem in single precision, without labels: for products whose rounding may be 1e-6.

        Nothing that is certified or reported comes from it: see `paths.constraint.PairObjective`.
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        floats = {name: leaf for name, leaf in fields.items() if getattr(leaf, "dtype", None) == jnp.float64}
        return self.with_arrays({**single(floats), "labels": None})

    @property
    def penalised(self) -> bool:
        """Whether the loss holds a penalty on the parameters, which copies of a unit share differently."""
        return float(self.weight_decay) > 0.0 or float(self.norm_barrier) > 0.0

    # On flat vectors: pure.

    def value(self, theta: Float[Array, " size"]) -> Scalar:
        """Return the loss."""
        return self.add_chunks(lambda chunk: self._chunk_loss(theta, chunk)) + self._penalty(theta)

    def value_and_gradient(self, theta: Float[Array, " size"]) -> tuple[Scalar, Float[Array, " size"]]:
        """Return the loss and its gradient."""
        value, gradient = self.add_chunks(lambda chunk: jax.value_and_grad(self._chunk_loss)(theta, chunk))
        extra, slope = jax.value_and_grad(self._penalty)(theta)
        return value + extra, gradient + slope

    def gradient(self, theta: Float[Array, " size"]) -> Float[Array, " size"]:
        """Return the gradient of the loss."""
        return self.value_and_gradient(theta)[1]

    def hessian_product(self, theta: Float[Array, " size"], v: Float[Array, " size"]) -> Float[Array, " size"]:
        """Return the Hessian times v, forward over reverse."""

        def product(chunk: Chunk) -> Array:
            return jax.jvp(lambda at: jax.grad(self._chunk_loss)(at, chunk), (theta,), (v,))[1]

        return self.add_chunks(product) + self._penalty_product(theta, v)

    def gauss_newton_product(self, theta: Float[Array, " size"], v: Float[Array, " size"]) -> Float[Array, " size"]:
        """Return J^T (d^2 loss / d outputs^2) J v, plus the Hessian of the penalties times v."""

        def product(chunk: Chunk) -> Array:
            def outputs(at: Array) -> Array:
                return self._chunk_outputs(at, chunk)

            here, along = jax.jvp(outputs, (theta,), (v,))
            slope = jax.grad(lambda out: self.weighted_loss_sum(out, chunk.targets, chunk.weights))
            bend = jax.jvp(slope, (here,), (along,))[1]
            return jax.vjp(outputs, theta)[1](bend)[0]

        return self.add_chunks(product) + self._penalty_product(theta, v)

    def hessian(self, theta: Float[Array, " size"]) -> Float[Array, "size size"]:
        """Return the dense Hessian: written out for one hidden layer, else from Hessian products in batches."""
        if is_shallow(self.network, self.inputs.shape[1]):
            network_part = self.add_chunks(lambda chunk: self._shallow_hessian(theta, chunk))
            return network_part + jax.hessian(self._penalty)(theta)
        identity = jnp.eye(theta.shape[0], dtype=theta.dtype)
        fits = CHUNK_BYTES // (self.inputs.shape[1] * self.sample_bytes)
        return jax.lax.map(lambda v: self.hessian_product(theta, v), identity, batch_size=min(32, max(1, fits)))

    def outputs(self, theta: Float[Array, " size"]) -> Float[Array, "samples *outputs"]:
        """Return the network's outputs for every sample, in the data's order."""
        parameters = self.network.layout.unflatten(theta)
        out = jax.lax.map(lambda inputs: self.network.apply(parameters, inputs), self.inputs)
        return out.reshape(-1, *out.shape[2:])[: self.samples]

    # On parameter sets: public, in float64, NumPy out.

    @in_float64
    def loss_of(self, parameters: Parameters) -> float:
        """Return the loss of a parameter set."""
        self.network.check(parameters)
        return float(_value(self, self.network.layout.flatten(to_numpy(parameters))))

    @in_float64
    def gradient_of(self, parameters: Parameters) -> dict[str, np.ndarray]:
        """Return the gradient of the loss, array by array."""
        self.network.check(parameters)
        layout = self.network.layout
        return to_numpy(layout.unflatten(_gradient(self, layout.flatten(to_numpy(parameters)))))

    @in_float64
    def outputs_of(self, parameters: Parameters) -> np.ndarray:
        """Return the network's outputs, (samples, ...), in the data's order."""
        self.network.check(parameters)
        return np.asarray(_outputs(self, self.network.layout.flatten(to_numpy(parameters))))

    @in_float64
    def accuracy(self, parameters: Parameters) -> float | None:
        """Return the share of samples whose largest output is the label's; None without labels, or one row for each."""
        if self.labels is None:
            return None
        self.network.check(parameters)
        share = float(_accuracy(self, self.network.layout.flatten(to_numpy(parameters))))
        return None if math.isnan(share) else share

    def unpadded_inputs(self) -> np.ndarray:
        """Return the inputs in the data's order, (samples, ...)."""
        return np.asarray(self.inputs).reshape(-1, *self.inputs.shape[2:])[: self.samples]

    def fingerprint(self, parameters: Parameters) -> dict[str, str]:
        """Return SHA-256 fingerprints of the data, as laid out, and of the parameters."""
        data = {"inputs": self.inputs, "targets": self.targets}
        flat = {name: np.asarray(value).reshape(-1, *value.shape[2:])[: self.samples] for name, value in data.items()}
        return {"data": fingerprint(flat), "parameters": fingerprint(parameters)}

    # Inside.

    def _chunk_outputs(self, theta: Array, chunk: "Chunk") -> Array:
        return self.network.apply(self.network.layout.unflatten(theta), chunk.inputs)

    def weighted_loss_sum(self, outputs: Array, targets: Array, weights: Array) -> Scalar:
        """Return the weighted sum over samples of the scaled loss: these samples' part of the mean."""
        function: losses.Loss = losses.BY_NAME[self.loss] if isinstance(self.loss, str) else self.loss
        return self.scale * jnp.sum(weights * function(outputs, targets))

    def _chunk_loss(self, theta: Array, chunk: "Chunk") -> Scalar:
        return self.weighted_loss_sum(self._chunk_outputs(theta, chunk), chunk.targets, chunk.weights)

    def _shallow_hessian(self, theta: Array, chunk: "Chunk") -> Array:
        return shallow_hessian(
            self.network, theta, chunk.inputs, lambda out: self.weighted_loss_sum(out, chunk.targets, chunk.weights)
        )

    def add_chunks(self, term: Callable[["Chunk"], Any]) -> Any:
        """Add a term over all chunks; a single chunk needs no loop."""
        chunks = Chunk(self.inputs, self.targets, self.weights)
        first = jax.tree.map(lambda leaf: leaf[0], chunks)
        if self.inputs.shape[0] == 1:
            return term(first)
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(term, first))

        def add(total: Any, chunk: "Chunk") -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, term(chunk)), None

        return jax.lax.scan(add, zero, chunks)[0]

    def _penalty(self, theta: Array) -> Scalar:
        half = 0.5 * theta @ theta
        beyond = jnp.maximum(0.0, half - 1000.0 * theta.shape[0])
        return self.weight_decay * half + self.norm_barrier * beyond**3 / 3.0

    def _penalty_product(self, theta: Array, v: Array) -> Array:
        return jax.jvp(jax.grad(self._penalty), (theta,), (v,))[1]


class Chunk(NamedTuple):
    """One chunk: inputs, targets or labels, and weight 1 for each sample, 0 for padding."""

    inputs: Array
    targets: Array
    weights: Array


@eqx.filter_jit
def _value(problem: Problem, theta: Array) -> Scalar:
    return problem.value(theta)


@eqx.filter_jit
def _gradient(problem: Problem, theta: Array) -> Array:
    return problem.gradient(theta)


@eqx.filter_jit
def _outputs(problem: Problem, theta: Array) -> Array:
    return problem.outputs(theta)


@eqx.filter_jit
def _accuracy(problem: Problem, theta: Array) -> Scalar:
    outputs = problem.outputs(theta)
    if outputs.ndim != 2:  # no row of outputs for each sample
        return jnp.asarray(jnp.nan)
    single = problem.loss == "binary_cross_entropy" and outputs.shape[1] == 1
    hits = (outputs[:, 0] > 0 if single else jnp.argmax(outputs, axis=1)) == problem.labels
    return jnp.mean(hits, dtype=jnp.float64)  # of booleans it would be float32
