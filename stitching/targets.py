"""What a stitched network is trained towards: losses that add and scale.

`hard(labels) + 0.5 * soft(logits)` is a target like its terms. Against the mean of two
networks' probabilities the cross-entropy is the mean of the two: `0.5 * soft(logits_1)
+ 0.5 * soft(logits_2)`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PyTree

from stitching import similarity
from stitching._checks import (
    eager,
    finite,
    positive,
    real,
    sample_weights,
    with_axes,
    without_masked,
)

__all__ = ["Target", "cka", "hard", "soft", "squared_error"]

Pick = Callable[[Any], Any]
Weights = Float[ArrayLike, "*leading"]
View = Callable[[Float[ArrayLike, "*n p"]], Float[Array, "n p"]]


class Target:
    """What a stitched network is compared with: a loss of a minibatch.

    A tree of arrays whose leading axis is that of the samples, so that minibatches can
    be taken from it; everything else it holds is static. Targets add (`+`) and are
    scaled by numbers (`*`). Your own class derives from this one and is registered with
    `jax.tree_util.register_dataclass`.
    """

    def loss(self, outputs: PyTree, activation: PyTree) -> Float[Array, ""]:
        """Return the mean loss of a minibatch; this target holds the same samples.

        Args:
            outputs: of the stitched network.
            activation: the output of the stitching layer.
        """
        raise NotImplementedError

    def check(self, outputs: PyTree, activation: PyTree) -> None:
        """Raise a ValueError unless it fits what all samples give, by its shape."""

    def __add__(self, other: "Target") -> "Target":
        """The sum of two losses."""
        if not isinstance(other, Target):
            return NotImplemented
        return _Sum((1.0, 1.0), (self, other))

    def __mul__(self, factor: float) -> "Target":
        """The loss, scaled.

        Raises:
            ValueError: if the factor is negative or not finite.
        """
        if not isinstance(factor, int | float):
            return NotImplemented
        if not (math.isfinite(factor) and factor >= 0):
            raise ValueError(
                f"factor: expected a finite number, at least 0, got {factor}"
            )
        return _Sum((float(factor),), (self,))

    __rmul__ = __mul__


def hard(
    labels: Int[ArrayLike, "*n"],
    *,
    weights: Weights | None = None,
    pick: Pick | None = None,
) -> Target:
    r"""Cross-entropy against labels.

    .. math::

        -\frac{1}{\sum_i w_i} \sum_i w_i \log \operatorname{softmax}(z_i)_{y_i}

    Args:
        labels: one per output: (samples,), or (samples, tokens) for a network with
            logits (samples, tokens, classes).
        weights: at least 0, over the leading axes of the labels or the first of them;
            all 1 by default. Samples of weight 0 (padding) do not count, whatever their
            labels and logits are; a minibatch of nothing else has loss 0.
        pick: takes the logits from the network's outputs, for instance `lambda outputs:
            outputs["logits"]`; by default they are its only output. Made once:
            functions are compared by identity, and another one compiles anew.

    Returns:
        The `Target`.

    Raises:
        TypeError: if the labels are not integers.
        ValueError: if one is negative or weights do not fit; when trained on, if one
            is not a class, or the shape is not that of the outputs.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import targets
        >>> target = targets.hard(jnp.array([0, 1]))
        >>> round(float(target.loss(jnp.zeros((2, 4)), None)), 4)  # log 4
        1.3863
    """
    with eager(labels):
        labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: expected integers, got dtype {labels.dtype}")
    if labels.size == 0:
        raise ValueError(f"labels: expected at least 1, got shape {labels.shape}")
    labels, weights = _weighted(labels, weights, labels.ndim)
    if not isinstance(labels, Tracer) and (least := np.asarray(labels).min()) < 0:
        raise ValueError(f"labels: expected at least 0, got {least}")
    return _Hard(labels, weights, pick)


def soft(
    logits: Float[ArrayLike, "*n k"],
    temperature: float = 1.0,
    *,
    weights: Weights | None = None,
    pick: Pick | None = None,
) -> Target:
    r"""Cross-entropy against the class probabilities of another network.

    .. math::

        -\frac{T^2}{\sum_i w_i} \sum_i w_i \operatorname{softmax}(\hat z_i / T) \cdot
        \log \operatorname{softmax}(z_i / T)

    The factor keeps gradients of one size as the temperature grows. The loss is lowest
    where the outputs agree, but not 0 there: it is the entropy of the target.

    Args:
        logits: of the other network for the samples, (samples, ..., classes); for
            instance `stitching.in_batches(model.apply, variables, x)`.
        temperature: T > 0; both outputs are divided by it.
        weights, pick: as for `hard`.

    Returns:
        The `Target`.

    Raises:
        TypeError: if the logits are not real.
        ValueError: if they have no class axis or are not finite, the temperature is not
            positive, weights do not fit, or, when trained on, the shape is not that
            of the outputs.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import targets
        >>> target = targets.soft(jnp.array([[100.0, 0.0]]), temperature=2.0)
        >>> round(float(target.loss(jnp.zeros((1, 2)), None)), 4)  # 4 log 2
        2.7726

    References:
        Hinton, Vinyals and Dean, 2015, arXiv 1503.02531.
    """
    logits = _checked("logits", logits, 2, "(samples, ..., classes)")
    logits, weights = _weighted(logits, weights, logits.ndim - 1)
    _check_finite("logits", logits)
    positive("temperature", temperature)
    probabilities = jax.nn.softmax(logits / temperature)
    return _Soft(probabilities, weights, pick, float(temperature))


def squared_error(
    values: Float[ArrayLike, "n ..."],
    *,
    weights: Weights | None = None,
    pick: Pick | None = None,
) -> Target:
    r"""Mean squared error against values, for regression.

    .. math::

        \frac{1}{q \sum_i w_i} \sum_i w_i \, \|z_i - y_i\|^2

    with the number q of entries per sample.

    Args:
        values: what the outputs should be, (samples, ...), of their shape; the right
            values of the task, or the outputs of another network.
        weights, pick: as for `hard`.

    Returns:
        The `Target`.

    Raises:
        TypeError: if the values are not real.
        ValueError: if they are not finite, weights do not fit, or, when trained on, the
            shape is not that of the outputs.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import targets
        >>> target = targets.squared_error(jnp.array([[1.0, 2.0]]))
        >>> float(target.loss(jnp.zeros((1, 2)), None))
        2.5
    """
    values = _checked("values", values, 1, "(samples, ...)")
    values, weights = _weighted(values, weights, values.ndim)
    _check_finite("values", values)
    return _SquaredError(values, weights, pick)


def cka(
    activation: Float[ArrayLike, "*n q"],
    view: View = similarity.positions,
    *,
    weights: Weights | None = None,
) -> Target:
    r"""Dissimilarity of the mapped activation and network 2's own, as a target.

    .. math::

        1 - \mathrm{CKA}(f(x_1), x_2)

    with the linear index of `similarity.cka`, in each minibatch by itself: it needs
    batches of more samples than channels to say much. A term to add to others; alone it
    leaves the mean, the scale and a rotation of the map open.

    Args:
        activation: network 2's own, for instance `stitching.in_batches(cut_2.front,
            variables_2, x)`.
        view: makes samples × features of an activation: `similarity.positions` or
            `similarity.flattened`.
        weights: as for `hard`; for views other than `positions` one per sample, shape
            (samples,). A minibatch with fewer than two samples of weight above 0 has
            loss 0.

    Returns:
        The `Target`.

    Raises:
        TypeError: if the activation is not real.
        ValueError: if it has fewer than two axes, weights do not fit, or, when trained
            on, its shape is not that of the stitching layer's output.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import targets
        >>> own = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> abs(round(float(targets.cka(own).loss(None, 5 - 2 * own)), 5))
        0.0

    References:
        Csiszárik et al., 2021, arXiv 2110.14633 (CKA). As a term of the loss: ours.
    """
    activation = _checked("activation", activation, 2, "(samples, ..., channels)")
    axes = activation.ndim - 1 if view is similarity.positions else 1
    return _CKA(*_weighted(activation, weights, axes), view)


def _checked(name: str, values: Any, axes: int, shape: str) -> Array:
    values = real(name, values)
    if values.ndim < axes or values.size == 0:
        raise ValueError(f"{name}: expected shape {shape}, got {values.shape}")
    return values


def _weighted(values: Array, weights: Any, axes: int) -> tuple[Array, Array | None]:
    """Values that are 0 where they have no weight, and the weights, over these axes."""
    if weights is None:
        return values, None
    weights = sample_weights(weights, values.shape[:axes])
    with eager(values, weights):
        return without_masked(values, weights), weights


def _check_finite(name: str, array: Array) -> None:
    if not all(finite(array)):
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Sum(Target):
    """A weighted sum of targets."""

    factors: tuple[float, ...] = dataclasses.field(metadata={"static": True})
    terms: tuple[Any, ...]

    def loss(self, outputs, activation):
        terms = zip(self.factors, self.terms, strict=True)
        losses = [factor * term.loss(outputs, activation) for factor, term in terms]
        return sum(losses[1:], losses[0])

    def check(self, outputs, activation):
        for term in self.terms:
            term.check(outputs, activation)


@dataclasses.dataclass(frozen=True)
class _OfOutputs(Target):
    """A loss of every output, averaged."""

    values: Array
    weights: Float[Array, "*leading"] | None
    pick: Pick | None = dataclasses.field(metadata={"static": True})

    def loss(self, outputs, activation):
        del activation
        outputs = self.picked(outputs)
        outputs = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
        if self.weights is None:
            return self.losses(outputs).mean()
        losses = self.losses(without_masked(outputs, self.weights))
        weights = jnp.broadcast_to(with_axes(self.weights, losses.ndim), losses.shape)
        total = weights.sum()
        return (weights * losses).sum() / jnp.where(total > 0, total, 1)

    def losses(self, outputs: Array) -> Array:
        """The loss of each output."""
        raise NotImplementedError

    def picked(self, outputs: PyTree) -> Any:
        """The output that counts."""
        return outputs if self.pick is None else self.pick(outputs)

    def check(self, outputs, activation):
        """Raise a ValueError unless values are of the shape of the output."""
        del activation
        output = jax.eval_shape(self.picked, outputs)
        if not hasattr(output, "shape"):
            raise ValueError(
                f"target: expected one array as the network's output, got "
                f"{type(output).__name__}; give the target a function `pick` that "
                "takes it from the outputs"
            )
        self.check_shape(output.shape)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise a ValueError unless values fit outputs of this shape."""
        if self.values.shape != shape:
            raise ValueError(
                f"target: expected values of shape {shape}, as network 2's outputs "
                f"have, got {self.values.shape}"
            )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Hard(_OfOutputs):
    """Cross-entropy against labels."""

    def losses(self, outputs):
        labels = jnp.expand_dims(self.values, -1)
        logs = jax.nn.log_softmax(outputs)
        return -jnp.take_along_axis(logs, labels, axis=-1).squeeze(-1)

    def check_shape(self, shape):
        if not shape or self.values.shape != shape[:-1]:
            raise ValueError(
                f"target: expected labels of shape {shape[:-1]}, one per output of "
                f"shape {shape}, got {self.values.shape}"
            )
        if isinstance(self.values, Tracer):
            return
        if (most := np.asarray(self.values).max()) >= shape[-1]:
            raise ValueError(
                f"target: expected labels below {shape[-1]}, the classes of network 2, "
                f"got {most}"
            )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Soft(_OfOutputs):
    """Cross-entropy against probabilities, at a temperature."""

    temperature: float = dataclasses.field(metadata={"static": True})

    def losses(self, outputs):
        logs = jax.nn.log_softmax(outputs / self.temperature)
        return -(self.temperature**2) * (self.values * logs).sum(axis=-1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _SquaredError(_OfOutputs):
    """Squared error of every entry."""

    def losses(self, outputs):
        return (outputs - self.values) ** 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _CKA(Target):
    """1 − CKA of the mapped activation and network 2's own."""

    activation: Float[Array, "*n q"]
    weights: Float[Array, "*leading"] | None
    view: View = dataclasses.field(metadata={"static": True})

    def loss(self, outputs, activation):
        del outputs
        activation = without_masked(activation, self.weights)
        views = self.view(activation), self.view(self.activation)
        if self.weights is None:
            return 1 - jnp.asarray(similarity.cka(*views))
        # Anything that varies takes the place of samples of which there are too few,
        # as the gradient of what is not chosen must be finite as well.
        weights = self.weights.ravel()
        enough = (weights > 0).sum() > 1
        other = jnp.arange(len(weights), dtype=weights.dtype)
        views = (jnp.where(enough, each, with_axes(other, 2)) for each in views)
        weights = jnp.where(enough, weights, 1)
        index = jnp.asarray(similarity.cka(*views, weights=weights))
        return jnp.where(enough, 1 - index, 0)

    def check(self, outputs, activation):
        del outputs
        shape = getattr(activation, "shape", None)
        if self.activation.shape != shape:
            raise ValueError(
                f"target: expected an activation of shape {shape}, as the stitching "
                f"layer gives, got {self.activation.shape}"
            )
