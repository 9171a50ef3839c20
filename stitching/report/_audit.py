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
from stitching._moments import moments
from stitching.report import _measures as measured
from stitching.report._controls import Controls, Split, controls
from stitching.report._distribution import (
    OutOfDistribution,
    energy,
    mahalanobis,
    out_of_distribution,
    per_image,
)
from stitching.report._measures import Labels, Measures, RegressionMeasures, Values
from stitching.training import Stitched, in_batches, stitch
from stitching.training import train as train_layer
from stitching.training._batches import count

Map = Callable[[Any], Any]


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
        rows = [*_rows_of_measures(self), *_rows_of_distribution(self)]
        for name, meaning in _CONTROLS.items():
            control = getattr(self.controls, name)
            if control is not None:
                label = f"control: {name.replace('_', '-')}"
                rows.append((label, _relative(control), meaning))
        width = max(len(name) for name, *_ in rows)
        lines = [f"{name:<{width}}  {float(v):8.3f}  {text}" for name, v, text in rows]
        return "\n".join([f"a stitch on {_samples(self)} held-out samples", *lines])


_CONTROLS = {
    "self_stitch": "network 2 to itself; a shortfall from 1 is the method's own error",
    "shuffled": "of other inputs; above a constant answer, something leaks",
    "noise": "above a constant answer, map and back do the task alone",
    "untrained": "random features; only what exceeds them was learned",
}


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

    A high accuracy alone does not show that two networks have the same representation.
    A map trained through the frozen back may drive it with activations that network 2
    never has, and rate distant layers, or noise, as similar. So the audit asks as well:
    Does the map hit the target activation (`r_squared`)? Is its output like network 2's
    own (`distance`)? Does the method find what is certainly there (self-stitch), and
    nothing where nothing is (shuffled, noise)? How far do random features get
    (untrained)?

    The Mahalanobis distance at the cut says whether the stitch is out of distribution,
    as there the map itself is measured. The energy of the logits is reported alongside
    but cannot replace it: it is seen through the back, and training on the task loss
    acts on it directly.

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
        variables_1: of network 1.
        variables_2: of network 2.
        train: (x, labels) of the samples for the fit, or (x, labels, weights); labels
            as for `targets.hard`, or values as for `targets.squared_error`.
        test: the same of other samples.
        key: for training and controls.
        untrained: network 1 with fresh variables, say `module.init` of another key; by
            default there is no such control.
        pick: takes logits or values from the outputs, where there are several.
        batch_size: samples per batch of the networks.

    Returns:
        An `Audit`.

    Raises:
        TypeError: if the network is not from `stitch`, data are no tuples, or arrays
            are not numeric.
        ValueError: if a test sample is in the training data, or shapes or labels do not
            fit.

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
    if not isinstance(stitched, Stitched):
        raise TypeError(
            f"stitched: expected what stitching.stitch(cut_1, layer, cut_2) gives, got "
            f"{type(stitched).__name__}"
        )
    (seen, labels, weights), (held_out, test_labels, test_weights) = (
        _checked_data(name, data) for name, data in (("train", train), ("test", test))
    )
    shared = _rows(seen, weights) & _rows(held_out, test_weights)
    if shared:
        raise ValueError(
            f"test: expected samples that are not in train, got {len(shared)} that "
            "are; leave them out, as nothing is scored on what it was fitted on"
        )

    def front(cut, variables):
        return tuple(
            in_batches(cut.front, variables, x, batch_size=batch_size)
            for x in (seen, held_out)
        )

    own = front(stitched.cut_2, variables_2)
    back_of = _Back(stitched, pick)

    def back(activation):
        pair = activation, held_out
        return in_batches(back_of, variables_2, pair, batch_size=batch_size)

    training_key, key = jax.random.split(key)

    def fit(activation, target, **options):
        is_own = activation is own[0]
        if not isinstance(method, TaskLoss):
            convert = None if is_own else getattr(stitched.layer, "convert", None)
            if convert is None:
                return method(activation, target, **options)
            found = method(convert(activation), target, **options)
            return lambda activation: found(convert(activation))
        pair = _with_itself(stitched) if is_own else stitched
        loss = method.target
        if loss is None:
            kind = targets.hard if _are_classes(labels) else targets.squared_error
            loss = kind(labels, weights=weights, pick=pick)
        variables = variables_2 if is_own else variables_1
        given = pair, variables, variables_2, seen, loss, method.optimizer
        trained = train_layer(
            *given,
            key=training_key,
            steps=method.steps,
            batch_size=method.batch_size,
            activation=activation,
        )
        return functools.partial(pair.layer.apply, trained.variables)

    weighted: Any = None
    if weights is not None or test_weights is not None:
        pairs = ((weights, labels), (test_weights, test_labels))
        weighted = tuple(np.ones(len(y)) if w is None else w for w, y in pairs)
    return audit_activations(
        fit,
        front(stitched.cut_1, variables_1),
        own,
        back,
        test_labels,
        key=key,
        untrained=None if untrained is None else front(stitched.cut_1, untrained),
        weights=weighted,
    )


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
        method: method(x, y) fits a map to network 1's activations x and network 2's y
            of the same samples, and returns it. One that trains on labels has them, in
            the order of the samples, from its closure. Called with `weights=` too, if
            there are weights.
        source: network 1's activations at its cut, (seen, held_out): of samples for
            the fit, and of others. Shape (images, ..., channels).
        own: network 2's at its cut, of the same samples.
        back: back(activation) returns network 2's outputs; where the cut is no
            bottleneck, `lambda activation: cut.back(variables, activation, x_test)`.
        labels: the right classes (integers) of the held-out samples, or values of the
            outputs' shape for regression.
        key: for the controls.
        untrained: as `source`, of network 1 with fresh variables.
        weights: of the samples that are seen and held out, at least 0, over the leading
            axes or the first of them. Those of weight 0 do not count, whatever they
            hold; distance and energy count every other image once.

    Returns:
        An `Audit`.

    Raises:
        TypeError: if a split is no pair, or arrays are not numeric.
        ValueError: if held-out samples were seen, or shapes or labels do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, stitching
        >>> from stitching import report
        >>> x = jax.random.normal(jax.random.key(0), (200, 4))
        >>> one, two = x @ jnp.tri(4), jnp.tanh(x)  # activations of two networks
        >>> found = report.audit_activations(
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
    """
    source, own = _split("source", source), _split("own", own)
    _same_samples(source, own)
    if untrained is not None:
        untrained = _split("untrained", untrained)
        _same_samples(untrained, own, "untrained")
    seen = held = None
    if weights is not None:
        seen, held = (jnp.asarray(each) for each in _pair("weights", weights))
        splits = (source, own, untrained)
        source, own, untrained = (_masked(split, (seen, held)) for split in splits)
    options = {} if seen is None else {"weights": seen}
    reference = jnp.asarray(back(own[1]))
    labels = jnp.asarray(labels)
    classes = _are_classes(labels)
    measure = measured.measures if classes else measured.regression_measures

    def stitch(activation: Any, held_out: Any) -> Any:
        logits = back(method(activation, own[0], **options)(held_out))
        return measure(logits, reference, labels, weights=held)

    mapped = jnp.asarray(method(source[0], own[0], **options)(source[1]))
    if mapped.shape != own[1].shape:
        raise ValueError(
            f"method: expected a map to activations like network 2's, of shape "
            f"{own[1].shape}, got {mapped.shape}"
        )
    logits = back(mapped)
    found: Any = measure(logits, reference, labels, weights=held)
    images = slice(None)
    if held is not None:
        images = np.asarray(held).reshape(len(held), -1).any(axis=1)
    return Audit(
        measures=found,
        chance=_chance(found, labels, reference, held) if classes else jnp.zeros(()),
        r_squared=measured.r_squared(mapped, own[1], weights=held),
        distance=_distance(mapped, *own, seen, held, images),
        energy=_compared(energy, logits, reference, held, images) if classes else None,
        controls=controls(stitch, source, own, key=key, untrained=untrained),
    )


def _distance(mapped, seen, held_out, seen_weights, weights, images):
    """Distances of mapped activations compared with those of held-out own ones."""
    if seen_weights is not None:
        known: Any = measured.checked_weights(seen_weights, seen.shape[:-1])
        seen = seen[np.asarray(known) > 0]
    distance = functools.partial(mahalanobis, own=moments(seen))
    return _compared(distance, mapped, held_out, weights, images)


def _compared(score: Any, found: Any, own: Any, weights: Any, images: Any) -> Any:
    scores = (per_image(score(each), weights=weights) for each in (found, own))
    return out_of_distribution(*(each[images] for each in scores))


def _chance(found: Measures, labels: Any, logits: Array, weights: Any) -> Array:
    """The relative accuracy of always answering the commonest class."""
    given = jnp.ones(labels.shape) if weights is None else weights
    known: Any = measured.checked_weights(given, labels.shape)
    hits = (labels[..., None] == jnp.arange(logits.shape[-1])) * known[..., None]
    share = hits.reshape(-1, logits.shape[-1]).sum(axis=0).max() / known.sum()
    return share / found.reference_accuracy


def _are_classes(labels: Any) -> bool:
    return jnp.issubdtype(jnp.asarray(labels).dtype, jnp.integer)


def _pair(name: str, pair: Any) -> tuple[Any, Any]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(
            f"{name}: expected a pair (seen, held_out), got {type(pair).__name__}"
        )
    return pair[0], pair[1]


def _split(name: str, split: Any) -> tuple[Array, Array]:
    """Activations that were seen, and others.

    Raises:
        TypeError: if it is no pair.
        ValueError: if they do not have the same features, or the same samples.
    """
    seen, held_out = map(jnp.asarray, _pair(name, split))
    if seen.ndim < 2 or seen.shape[1:] != held_out.shape[1:]:
        raise ValueError(
            f"{name}: expected activations (images, ..., channels) of one layer, got "
            f"shapes {seen.shape} and {held_out.shape}"
        )
    traced = any(isinstance(each, Tracer) for each in (seen, held_out))
    if not traced and len(_rows(held_out)) > 1 and _rows(held_out) <= _rows(seen):
        raise ValueError(
            f"{name}: expected held-out activations of other samples than those of the "
            f"fit, got {len(held_out)} that are all among them"
        )
    return seen, held_out


def _same_samples(split: Split, own: Split, name: str = "source") -> None:
    numbers = [tuple(len(each) for each in pair) for pair in (split, own)]
    if numbers[0] != numbers[1]:
        raise ValueError(
            f"{name} and own: expected the same samples, got {numbers[0]} and "
            f"{numbers[1]} (seen, held out)"
        )


def _masked(split: Split | None, weights: Split) -> Any:
    """Activations that are 0 where they have no weight."""
    if split is None:
        return None

    def one(activation, weights):
        known: Any = measured.checked_weights(weights, activation.shape[:-1])
        return jnp.where(known[..., None] > 0, activation, 0)

    return tuple(map(one, split, weights))


def _checked_data(name: str, data: Any) -> tuple[Any, Any, Any]:
    """Samples, labels and weights, or None.

    Raises:
        TypeError, ValueError: if they are none, or not of the same length.
    """
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


def _rows(x: PyTree, weights: Any = None) -> set[int]:
    """Hashes of the samples that have any weight."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(x)]
    counts = np.ones(len(leaves[0]), bool)
    if weights is not None:
        counts = np.asarray(weights).reshape(counts.size, -1).any(axis=1)
    rows = np.flatnonzero(counts)
    return {hash(tuple(leaf[row].tobytes() for leaf in leaves)) for row in rows}


def _with_itself(stitched: Stitched) -> Stitched:
    """Network 2 to itself by the same layer, which has nothing to convert."""
    layer: Any = stitched.layer
    if getattr(layer, "convert", None) is not None:
        layer = layer.clone(convert=None)
    return stitch(stitched.cut_2, layer, stitched.cut_2)


class _Back(NamedTuple):
    """Network 2's outputs from pairs of activation and x; equal ones are the same."""

    stitched: Stitched
    pick: Any

    def __call__(self, variables_2: PyTree, pair: tuple[Any, Any]) -> Any:
        outputs = self.stitched.back(variables_2, *pair)
        return outputs if self.pick is None else self.pick(outputs)


def _relative(found: Any) -> Array:
    if isinstance(found, RegressionMeasures):
        return found.relative_r_squared
    return found.relative_accuracy


def _samples(audit: Audit) -> str:
    found = audit.measures
    number = (
        found.samples if isinstance(found, RegressionMeasures) else found.hits.sum()
    )
    return f"{float(number):g}"


def _rows_of_measures(audit: Audit) -> list[tuple[str, Any, str]]:
    found = audit.measures
    if isinstance(found, RegressionMeasures):
        return [
            (
                "relative R²",
                found.relative_r_squared,
                f"of network 2's {float(found.reference_r_squared):.3f}; a constant "
                "answer has 0",
            ),
            ("agreement", found.agreement, "R² against network 2's own outputs"),
            (
                "squared error",
                found.squared_error,
                f"per output and channel; network 2 has "
                f"{float(found.reference_squared_error):.3f}",
            ),
        ]
    return [
        (
            "relative accuracy",
            found.relative_accuracy,
            f"of network 2's {float(found.reference_accuracy):.3f}; a constant answer "
            f"has {float(audit.chance):.3f}",
        ),
        (
            "agreement",
            found.agreement,
            "of the samples are assigned the class that network 2 predicts",
        ),
        (
            "cross-entropy",
            found.cross_entropy,
            f"nats against network 2's soft outputs; "
            f"{float(found.reference_entropy):.3f} is the least possible",
        ),
    ]


def _rows_of_distribution(audit: Audit) -> list[tuple[str, Any, str]]:
    distance = audit.distance
    rows = [
        (
            "R² at the cut",
            audit.r_squared,
            "of the variance of network 2's own is explained; below 0, its mean is "
            "closer",
        ),
        (
            "distance",
            distance.mean,
            f"from network 2's own activations (Mahalanobis); these have "
            f"{float(distance.own_mean):.3f}",
        ),
        (
            "  beyond 99 %",
            distance.beyond_99,
            "are further out than 99 % of the own; in distribution 0.010 are",
        ),
        ("  AUROC", distance.auroc, "0.5: as far out as the own; 1: all are further"),
    ]
    if audit.energy is not None:
        meaning = "0.5: as confident as network 2; 0: always more, 1: always less"
        rows.append(("energy, AUROC", audit.energy.auroc, meaning))
    return rows
