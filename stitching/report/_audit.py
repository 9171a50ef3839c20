"""Whether a stitch may be believed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, PRNGKeyArray

from stitching._moments import moments
from stitching.direct._fit import Fit, r_squared
from stitching.report._controls import Controls, Split, controls
from stitching.report._energy import energy
from stitching.report._logits import Labels, checked, fitting
from stitching.report._mahalanobis import mahalanobis, per_image
from stitching.report._measures import Measures, measures
from stitching.report._out_of_distribution import (
    OutOfDistribution,
    out_of_distribution,
)

Map = Callable[[Any], Any]


class Audit(NamedTuple):
    """What `audit` finds; printed, a table that says how to read each number.

    Attributes:
        measures: of the stitched network against network 2, held out.
        chance: relative accuracy of the best constant answer.
        r_squared: share of the variance of network 2's own activation that the map of
            network 1's explains, held out; negative where the mean would do better.
        distance: the stitched activations' Mahalanobis distances from network 2's own,
            one an image, calibrated on held-out own ones.
        energy: the stitched network's energies beside network 2's.
        controls: `Measures` of the self-stitch, of shuffled activations, of noise, and
            of an untrained network 1.
    """

    measures: Measures
    chance: Float[Array, ""]
    r_squared: Float[Array, ""]
    distance: OutOfDistribution
    energy: OutOfDistribution
    controls: Controls

    def __str__(self) -> str:
        from stitching.report._table import table  # which needs this class

        return table(self)


def audit(
    method: Callable[[Any, Any], Map],
    source: Split,
    own: Split,
    back: Map,
    labels: Labels,
    *,
    key: PRNGKeyArray,
    untrained: Split | None = None,
) -> Audit:
    """Fits a stitch, measures it on other samples, and tells whether to believe it.

    A high accuracy alone does not show that two networks hold the same. A map trained
    through the frozen back may drive it with activations that network 2 never has, and
    rate distant layers, or noise, as similar. So the audit asks as well: Does the map
    hit the target activation (`r_squared`)? Does what it gives look like network 2's
    own (`distance`)? Does the method find what is surely there (self-stitch), and
    nothing where nothing is (shuffled, noise)? How far do random features get
    (untrained)?

    Which score says "out of distribution": the Mahalanobis distance at the cut, as
    there the map is held to account. The energy of the logits is told beside it but
    cannot replace it: it is seen through the back, and training on the task loss acts
    on it directly.

    The method runs once, and once for each control. The map may be any function: a
    `Fit`, a trained layer, a function that resizes maps first. Activations are held in
    memory whole; a few thousand samples tell these numbers to a percent.

    Args:
        method: method(x, y) fits a map to network 1's activations x and network 2's y
            of the same samples, and gives it; for instance
            `lambda x, y: stitching.least_squares(stitching.moments(x, y))`. One that
            trains on labels takes them, in the order of the samples, from around it.
        source: network 1's activations at its cut, (seen, held_out): of samples for
            the fit, and of others. Shape (images, ..., channels).
        own: network 2's at its cut, of the same samples.
        back: back(activation) gives network 2's logits; where it is no bottleneck,
            `lambda activation: cut.back(variables, activation, x_held_out)`.
        labels: (images,), the right classes of the held-out samples.
        key: for the controls.
        untrained: as `source`, of network 1 with fresh variables.

    Returns:
        An `Audit`.

    Raises:
        TypeError: if a split is no pair, or arrays are not numeric.
        ValueError: if samples were seen that are said to be held out, or shapes or
            labels do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, stitching
        >>> from stitching import report
        >>> x = jax.random.normal(jax.random.key(0), (200, 4))
        >>> one, two = x @ jnp.tri(4), jnp.tanh(x)  # what two networks make of it
        >>> found = report.audit(
        ...     lambda x, y: stitching.least_squares(stitching.moments(x, y)),
        ...     source=(one[:100], one[100:]),
        ...     own=(two[:100], two[100:]),
        ...     back=lambda activation: 5 * activation,
        ...     labels=x[100:].argmax(-1),
        ...     key=jax.random.key(1),
        ... )
        >>> bool(found.measures.relative_accuracy > 0.8), bool(found.r_squared > 0.8)
        (True, True)
        >>> bool(found.controls.noise.relative_accuracy < 0.5)
        True

    References:
        Balogh and Jelasity, 2024, arXiv 2412.11299 (task-loss matching leaves the
        distribution). The choice of scores and controls: ours.
    """
    source, own = _split("source", source), _split("own", own)
    _same_samples(source, own)
    if untrained is not None:
        untrained = _split("untrained", untrained)
        _same_samples(untrained, own, "untrained")
    reference = checked("back(own[1])", back(own[1]))
    labels = fitting(labels, reference)

    def stitch(seen: Any, held_out: Any) -> Measures:
        logits = back(method(seen, own[0])(held_out))
        return _measured(logits, reference, labels)

    mapped = jnp.asarray(method(source[0], own[0])(source[1]))
    if mapped.shape != own[1].shape:
        raise ValueError(
            f"method: expected a map to activations like network 2's, of shape "
            f"{own[1].shape}, got {mapped.shape}"
        )
    logits = checked("back(map(source[1]))", back(mapped))
    found = _measured(logits, reference, labels)
    return Audit(
        measures=found,
        chance=_commonest(labels, reference) / found.reference_accuracy,
        r_squared=_explained(mapped, own[1]),
        distance=_distance(mapped, *own),
        energy=_energies(logits, reference),
        controls=controls(stitch, source, own, key=key, untrained=untrained),
    )


# Compiled, for speed, and as there what is not finite raises nothing: a map that
# diverged is a finding.
_measured = jax.jit(measures)


@jax.jit
def _explained(mapped: Array, own: Array) -> Array:
    """The share of the own activation's variance that a mapped one explains."""
    channels = own.shape[-1]
    as_it_is = Fit(jnp.eye(channels), jnp.zeros(channels))
    return r_squared(as_it_is, moments(mapped, own))


@jax.jit
def _distance(mapped: Array, seen: Array, held_out: Array) -> OutOfDistribution:
    """The distances of mapped activations beside those of held-out own ones."""
    own = moments(seen)
    return out_of_distribution(
        per_image(mahalanobis(mapped, own)), per_image(mahalanobis(held_out, own))
    )


@jax.jit
def _energies(logits: Array, reference: Array) -> OutOfDistribution:
    return out_of_distribution(per_image(energy(logits)), per_image(energy(reference)))


def _commonest(labels: Array, logits: Array) -> Array:
    """The share of the commonest class."""
    classes = jnp.arange(logits.shape[-1])
    return (labels[..., None] == classes).reshape(-1, classes.size).mean(0).max()


def _split(name: str, split: Any) -> tuple[Array, Array]:
    """Activations that were seen, and others.

    Raises:
        TypeError: if it is no pair.
        ValueError: if they do not have the same features, or are the same.
    """
    if not isinstance(split, tuple | list) or len(split) != 2:
        raise TypeError(
            f"{name}: expected a pair of activations (seen, held_out), got "
            f"{type(split).__name__}"
        )
    seen, held_out = map(jnp.asarray, split)
    if seen.ndim < 2 or seen.shape[1:] != held_out.shape[1:]:
        raise ValueError(
            f"{name}: expected activations (images, ..., channels) of one layer, got "
            f"shapes {seen.shape} and {held_out.shape}"
        )
    traced = any(isinstance(each, Tracer) for each in (seen, held_out))
    if not traced and seen.shape == held_out.shape and bool((seen == held_out).all()):
        raise ValueError(
            f"{name}: expected held-out activations of other samples than those of the "
            f"fit, got the same ones twice"
        )
    return seen, held_out


def _same_samples(split: Split, own: Split, name: str = "source") -> None:
    numbers = [tuple(len(each) for each in pair) for pair in (split, own)]
    if numbers[0] != numbers[1]:
        raise ValueError(
            f"{name} and own: expected the same samples, got {numbers[0]} and "
            f"{numbers[1]} (seen, held out)"
        )
