"""Whether to believe a stitch."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from stitching import targets
from stitching._checks import without_masked
from stitching._moments import moments
from stitching.layers._nnx import FromNNX, NNXStitchingLayer
from stitching.report._controls import Controls, Split, controls
from stitching.report._distribution import (
    OutOfDistribution,
    energy,
    mahalanobis,
    out_of_distribution,
    per_image,
)
from stitching.report._measures import (
    Labels,
    Measures,
    RegressionMeasures,
    Values,
    checked_weights,
    measures,
    r_squared,
    regression_measures,
)
from stitching.training._batches import count, front_in_batches, in_batches
from stitching.training._stitched import Stitched, check_stitched, stitch
from stitching.training._train import train as train_layer

Map = Callable[[Any], Any]
Pair = tuple[Any, Any]  # of the samples that are seen, and of those held out


class TaskLoss(NamedTuple):
    """Task-loss matching as a method that `audit` carries out.

    Attributes:
        optimizer: of optax.
        steps: number of minibatches.
        batch_size: samples per minibatch.
        target: of the training samples; by default `targets.hard` of the labels, or
            `targets.squared_error` of the values, with the weights.
    """

    optimizer: optax.GradientTransformation
    steps: int
    batch_size: int
    target: targets.Target | None = None


class Audit(NamedTuple):
    """What `audit` finds; printed, a table that explains each number.

    Attributes:
        measures: of the stitched network against network 2, held out.
        chance: relative accuracy of the best constant answer; 0 for regression, where
            all is R² in place of accuracy.
        r_squared: share of the variance of network 2's own activation that the mapped
            activation of network 1 explains, held out; negative where the mean would be
            closer.
        distance: the stitched activations' Mahalanobis distances from network 2's own,
            one per image, compared with held-out own ones.
        energy: the stitched network's energies compared with network 2's; None for
            regression.
        controls: measures of the self-stitch, of shuffled activations, of noise, and of
            an untrained network 1.
    """

    measures: Measures | RegressionMeasures
    chance: Float[Array, ""]
    r_squared: Float[Array, ""]
    distance: OutOfDistribution
    energy: OutOfDistribution | None
    controls: Controls

    def __str__(self) -> str:
        found = self.measures
        if isinstance(found, RegressionMeasures):
            table, relative, number = _OF_VALUES, "relative_r_squared", found.samples
        else:
            table, relative, number = _OF_CLASSES, "relative_accuracy", found.hits.sum()
        rows = []
        for row in (table + _OF_BOTH).split("\n"):
            label, path, text = row.split(" | ")
            value: Any = self
            for name in path.strip().format(relative=relative).split("."):
                value = None if value is None else getattr(value, name)
            if value is not None:
                rows.append(f"{label} {float(value):8.3f}  {text}")
        text = "\n".join(rows).format(**self._asdict())
        return f"a stitch on {float(number):g} held-out samples\n{text}"


# Rows of the printed table: a label, where in the audit the number is, what it means.
_OF_CLASSES = """\
relative accuracy     | measures.relative_accuracy       | of network 2's {measures.reference_accuracy:.3f}; a constant answer has {chance:.3f}
agreement             | measures.agreement               | of the samples are assigned the class that network 2 predicts
cross-entropy         | measures.cross_entropy           | nats against network 2's soft outputs; {measures.reference_entropy:.3f} is the least possible
"""  # noqa: E501
_OF_VALUES = """\
relative R²           | measures.relative_r_squared      | of network 2's {measures.reference_r_squared:.3f}; a constant answer has 0
agreement             | measures.agreement               | R² against network 2's own outputs
squared error         | measures.squared_error           | per output and channel; network 2 has {measures.reference_squared_error:.3f}
"""  # noqa: E501
_OF_BOTH = """\
R² at the cut         | r_squared                        | of the variance of network 2's own is explained; below 0, its mean is closer
distance              | distance.mean                    | from network 2's own activations (Mahalanobis); these have {distance.own_mean:.3f}
  beyond 99 %         | distance.beyond_99               | are further out than 99 % of the own; in distribution 0.010 are
  AUROC               | distance.auroc                   | 0.5: as far out as the own; 1: all are further
energy, AUROC         | energy.auroc                     | 0.5: as confident as network 2; 0: always more, 1: always less
control: self-stitch  | controls.self_stitch.{relative}  | network 2 to itself; a shortfall from 1 is the method's own error
control: shuffled     | controls.shuffled.{relative}     | of other inputs; above a constant answer, something leaks
control: noise        | controls.noise.{relative}        | above a constant answer, map and back do the task alone
control: untrained    | controls.untrained.{relative}    | random features; only what exceeds them was learned"""  # noqa: E501


def audit(
    stitched: Stitched,
    method: Callable[..., Map] | TaskLoss,
    variables_1: PyTree,
    variables_2: PyTree,
    train: tuple[Any, ...],
    test: tuple[Any, ...],
    *,
    key: PRNGKeyArray,
    untrained: PyTree | None = None,
    pick: Callable[[Any], Any] | None = None,
    batch_size: int = 512,
) -> Audit:
    """Fit a stitch on training data, and find out on test data whether to believe it.

    A high accuracy alone does not show that two networks have the same representation:
    a map trained through the frozen back may drive it with activations that network 2
    never has. So the audit asks as well: Does the map hit the target activation
    (`r_squared`)? Is its output like network 2's own (`distance`, at the cut; `energy`
    is seen through the back, on which training acts directly)? Does the method find
    what is certainly there (self-stitch), and nothing where nothing is (shuffled,
    noise)? How far do random features get (untrained)?

    The method runs once, and once for each control, always on the training data alone.
    Activations are held in memory whole; a few thousand samples are enough for these
    numbers to a percent.

    Args:
        stitched: the pair, from `stitch`. Of its layer a direct method uses `convert`
            only; `TaskLoss` trains it.
        method: method(x, y) fits a map to network 1's activations x and network 2's y
            of the training samples, and returns it: `lambda x, y:
            stitching.least_squares(stitching.moments(x, y))`. Where the training data
            have weights, it is called with `weights=` too. Or a `TaskLoss`.
        variables_1, variables_2: of network 1 and of network 2.
        train: (x, labels) of the samples for the fit, or (x, labels, weights); labels
            as for `targets.hard`, or values as for `targets.squared_error`.
        test: the same of other samples.
        key: for training and controls.
        untrained: network 1's fresh variables; by default there is no such control.
        pick: takes logits or values from the outputs, where there are several.
        batch_size: samples per batch of the networks.

    Returns:
        An `Audit`.

    Raises:
        TypeError: if the network is not from `stitch`, data are not tuples, or arrays
            are not numeric.
        ValueError: if a test sample is in the training data, shapes or labels do not
            fit, or `TaskLoss` cannot train the layer to stitch network 2 to itself: an
            NNX module of your own between activations of different shapes.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp, optax, stitching
        >>> from stitching import report
        >>> model = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(3)])
        >>> x = jax.random.normal(jax.random.key(0), (200, 4))
        >>> a, b = (model.init(jax.random.key(seed), x) for seed in (1, 2))
        >>> cut = stitching.cut(model, "layers_0", x)
        >>> stitched = stitching.stitch(cut, stitching.layers.Affine(8), cut)
        >>> labels = model.apply(b, x).argmax(-1)
        >>> found = report.audit(
        ...     stitched, report.TaskLoss(optax.adam(0.03), steps=100, batch_size=50),
        ...     a, b, (x[:100], labels[:100]), (x[100:], labels[100:]),
        ...     key=jax.random.key(1),
        ... )
        >>> bool(found.measures.relative_accuracy > 0.7)
        True

    References:
        Balogh and Jelasity, 2024, arXiv 2412.11299 (task-loss matching leaves the
        distribution). The choice of scores and controls: ours.
    """
    check_stitched(stitched)
    data = _checked_data("train", train), _checked_data("test", test)
    x, labels, weights = zip(*data, strict=True)
    shared = set.intersection(*map(_samples, x, weights))
    if shared:
        raise ValueError(
            f"test: expected samples that are not in train, got {len(shared)} that "
            "are; leave them out, as nothing is scored on what it was fitted on"
        )

    def front(cut, variables):
        return tuple(front_in_batches(cut, variables, each, batch_size) for each in x)

    back_of = _Back(stitched, pick)

    def back(activation):
        pair = activation, x[1]
        return in_batches(back_of, variables_2, pair, batch_size=batch_size)

    training_key, key = jax.random.split(key)
    layer: Any = _linen(stitched.layer)
    if isinstance(method, TaskLoss):
        _check_takes(layer, jax.eval_shape(stitched.cut_2.front, variables_2, x[0]))
    fit = functools.partial(
        _fitted,
        method,
        stitched,
        (variables_1, variables_2),
        (x[0], labels[0], weights[0]),
        pick,
        training_key,
    )
    return audit_activations(
        fit,
        front(stitched.cut_1, variables_1),
        front(stitched.cut_2, variables_2),
        back,
        labels[1],
        key=key,
        untrained=None if untrained is None else front(stitched.cut_1, untrained),
        weights=weights,
    )


def _fitted(
    method: Callable[..., Map] | TaskLoss,
    stitched: Stitched,
    variables: tuple[PyTree, PyTree],
    train: tuple[Any, Any, Any],
    pick: Callable[[Any], Any] | None,
    key: PRNGKeyArray,
    activation: Any,
    own: Any,
    **options: Any,
) -> Map:
    """The map of a method from a network's activation to network 2's own."""
    # Network 2 is stitched to itself by the same layer, with nothing to convert.
    layer: Any = _linen(stitched.layer)
    convert = getattr(layer, "convert", None)
    to_itself, pair = activation is own, stitched
    if to_itself:
        if convert is not None:
            layer, convert = layer.clone(convert=None), None
        pair = stitch(stitched.cut_2, layer, stitched.cut_2)
    if isinstance(method, TaskLoss):
        x, labels, weights = train
        kind = targets.hard if _are_classes(labels) else targets.squared_error
        trained = train_layer(
            pair,
            variables[1] if to_itself else variables[0],
            variables[1],
            x,
            method.target or kind(labels, weights=weights, pick=pick),
            method.optimizer,
            key=key,
            steps=method.steps,
            batch_size=method.batch_size,
            activation=activation,
        )
        return functools.partial(pair.layer.apply, trained.variables)
    if convert is None:
        return method(activation, own, **options)
    found = method(convert(activation), own, **options)
    return lambda activation: found(convert(activation))


def _linen(layer: Any) -> Any:
    """The Linen layer that an NNX stitching layer is made of; others as they are."""
    module = layer.module if isinstance(layer, FromNNX) else None
    return module.layer if isinstance(module, NNXStitchingLayer) else layer


def _check_takes(layer: Any, own: PyTree) -> None:
    """Raise a ValueError unless a layer maps network 2's activation to one like it."""
    if not isinstance(layer, FromNNX):
        return  # whose variables are made for each activation
    shape = jax.tree.map(jnp.shape, own)
    try:
        mapped = jax.eval_shape(layer.apply, layer.variables, own)
        fits = jax.tree.map(jnp.shape, mapped) == shape
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            f"stitched: expected a layer that maps network 2's own activation, shape "
            f"{shape}, to one like it, for the self-stitch, got the NNX module "
            f"{type(layer.module).__name__} with variables for other shapes; Linen "
            "modules and stitching layers get variables that fit"
        )


class _Back(NamedTuple):
    """Network 2's outputs from pairs of activation and x; equal ones are the same."""

    stitched: Stitched
    pick: Any

    def __call__(self, variables_2: PyTree, pair: tuple[Any, Any]) -> Any:
        outputs = self.stitched.back(variables_2, *pair)
        return outputs if self.pick is None else self.pick(outputs)


def audit_activations(
    method: Callable[..., Map],
    source: Split,
    own: Split,
    back: Map,
    labels: Labels | Values,
    *,
    key: PRNGKeyArray,
    untrained: Split | None = None,
    weights: Split | None = None,
) -> Audit:
    """Audit a stitch as `audit` does, from activations that are computed before.

    Args:
        method: as for `audit`, a function, called with `weights=` too where samples
            that are seen have weights. One that trains on labels has them, in the order
            of the samples, from its closure.
        source: network 1's activations at its cut, (seen, held_out): of samples for
            the fit, and of others. Shape (images, ..., channels).
        own: network 2's at its cut, of the same samples.
        back: back(activation) returns network 2's outputs; where the cut is not
            a bottleneck, `lambda activation: cut.back(variables, activation, x_test)`.
        labels: the right classes (integers) of the held-out samples, or values.
        key: for the controls.
        untrained: as `source`, of network 1 with fresh variables.
        weights: of the samples (seen, held_out), either may be None: at least 0, over
            the leading axes or the first of them. Those of weight 0 do not count,
            whatever they hold; distance and energy count every other image once.

    Returns:
        An `Audit`.

    Raises:
        TypeError: if a split is not a pair, or arrays are not numeric.
        ValueError: if held-out samples were seen, or shapes or labels do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, stitching
        >>> from stitching import report
        >>> x = jax.random.normal(jax.random.key(0), (200, 4))
        >>> one, two = x @ jnp.tri(4), jnp.tanh(x)  # activations of two networks
        >>> found = report.audit_activations(
        ...     lambda x, y: stitching.least_squares(stitching.moments(x, y)),
        ...     source=(one[:100], one[100:]), own=(two[:100], two[100:]),
        ...     back=lambda activation: 5 * activation, labels=x[100:].argmax(-1),
        ...     key=jax.random.key(1),
        ... )
        >>> bool(found.measures.relative_accuracy > 0.8), bool(found.r_squared > 0.8)
        (True, True)
    """
    source, own = _split("source", source), _split("own", own)
    untrained = None if untrained is None else _split("untrained", untrained)
    for name, split in (("source", source), ("untrained", untrained)):
        if split is not None and list(map(len, split)) != list(map(len, own)):
            raise ValueError(
                f"{name} and own: expected the same samples, got "
                f"{tuple(map(len, split))} and {tuple(map(len, own))} (seen, held out)"
            )
    seen, held = (None, None) if weights is None else _pair("weights", weights)
    seen, held = (None if w is None else jnp.asarray(w) for w in (seen, held))
    options = {} if seen is None else {"weights": seen}
    images: Any = slice(None)
    if held is not None:
        images = np.asarray(held > 0).reshape(len(held), -1).any(axis=1)

    def masked(split: Pair) -> Any:
        each = zip(split, (seen, held), strict=True)
        full = [(x, checked_weights(w, x.shape[:-1])) for x, w in each]
        return tuple(without_masked(x, w) for x, w in full)

    source, own = masked(source), masked(own)
    untrained = None if untrained is None else masked(untrained)
    known = moments(own[0], weights=None if seen is None else seen > 0)
    reference, labels = jnp.asarray(back(own[1])), jnp.asarray(labels)
    classes = _are_classes(labels)
    measure = measures if classes else regression_measures

    def measured(activation: Any, held_out: Any) -> Any:
        outputs = back(method(activation, own[0], **options)(held_out))
        return measure(outputs, reference, labels, weights=held)

    def compared(score: Any, found: Any, own: Any) -> OutOfDistribution:
        scores = (per_image(score(each), weights=held) for each in (found, own))
        return out_of_distribution(*(each[images] for each in scores))

    mapped = jnp.asarray(method(source[0], own[0], **options)(source[1]))
    if mapped.shape != own[1].shape:
        raise ValueError(
            f"method: expected a map to activations like network 2's, of shape "
            f"{own[1].shape}, got {mapped.shape}"
        )
    outputs = back(mapped)
    found: Any = measure(outputs, reference, labels, weights=held)
    distance = functools.partial(mahalanobis, own=known)
    return Audit(
        measures=found,
        chance=_chance(found, labels, reference, held) if classes else jnp.zeros(()),
        r_squared=r_squared(mapped, own[1], weights=held),
        distance=compared(distance, mapped, own[1]),
        energy=compared(energy, outputs, reference) if classes else None,
        controls=controls(
            measured,
            source,
            own,
            key=key,
            untrained=untrained,
            weights=(seen, held),
        ),
    )


def _chance(found: Measures, labels: Any, logits: Array, weights: Any) -> Array:
    """The relative accuracy of always answering the commonest class."""
    given = jnp.ones(labels.shape) if weights is None else weights
    known: Any = checked_weights(given, labels.shape)
    hits = (labels[..., None] == jnp.arange(logits.shape[-1])) * known[..., None]
    share = hits.reshape(-1, logits.shape[-1]).sum(axis=0).max() / known.sum()
    return share / found.reference_accuracy


def _are_classes(labels: Any) -> bool:
    return jnp.issubdtype(jnp.asarray(labels).dtype, jnp.integer)


def _pair(name: str, pair: Any) -> Pair:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(
            f"{name}: expected a pair (seen, held_out), got {type(pair).__name__}"
        )
    return pair[0], pair[1]


def _split(name: str, split: Any) -> tuple[Array, Array]:
    """Activations that were seen, and others of the same features."""
    seen, held_out = map(jnp.asarray, _pair(name, split))
    if seen.ndim < 2 or seen.shape[1:] != held_out.shape[1:]:
        raise ValueError(
            f"{name}: expected activations (images, ..., channels) of one layer, got "
            f"shapes {seen.shape} and {held_out.shape}"
        )
    if not any(isinstance(each, Tracer) for each in (seen, held_out)):
        others = _samples(held_out)
        if len(others) > 1 and others <= _samples(seen):
            raise ValueError(
                f"{name}: expected held-out activations of other samples than those of "
                f"the fit, got {len(held_out)} that are all among them"
            )
    return seen, held_out


def _checked_data(name: str, data: Any) -> tuple[Any, Any, Any]:
    """Samples, labels, and weights or None, all of one length."""
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise TypeError(
            f"{name}: expected (x, labels) or (x, labels, weights), got "
            f"{type(data).__name__}"
        )
    x, labels, weights = (*data, None)[:3]
    samples = count(name, x)
    for part, value in (("labels", labels), ("weights", weights)):
        if value is not None and np.shape(value)[:1] != (samples,):
            raise ValueError(
                f"{name}: expected {part} of {samples} samples as x has, got shape "
                f"{np.shape(value)}"
            )
    return x, jnp.asarray(labels), weights


def _samples(x: PyTree, weights: Any = None) -> set[int]:
    """Hashes of the samples that have any weight."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(x)]
    counts = np.ones(len(leaves[0]), bool)
    if weights is not None:
        counts = np.asarray(weights).reshape(counts.size, -1).any(axis=1)
    rows = np.flatnonzero(counts)
    return {hash(tuple(leaf[row].tobytes() for leaf in leaves)) for row in rows}
