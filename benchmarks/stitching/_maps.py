"""Stitching maps: fitted to activations, or trained on the task."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import stitching
from benchmarks.configs.stitching import Config
from benchmarks.data import Split
from benchmarks.networks import Advance
from benchmarks.stitching._layers import BATCH, Layer, resizing
from stitching import layers, targets

DIRECT, TASK, CONTROL = "direct", "task loss", "control"
# The maps that every pair has, by which performance is judged.
LEAST_SQUARES, TASK_LOSS = "least squares", f"{TASK}: affine"
# The map that starts at random is also evaluated after so many steps.
EARLY = (0, 10, 30, 100)


class Map(NamedTuple):
    """A map of channels, and how it was found."""

    fit: stitching.Fit  # the map
    method: str  # `DIRECT`, `TASK` or `CONTROL`
    kind: str  # its class
    setting: float | None = None  # as in `Stitch`

    @property
    def name(self) -> str:
        """A name among all maps of a layer."""
        prefix = f"{self.method}: " if self.method == TASK else ""
        suffix = "" if self.setting is None else f" {self.setting:g}"
        return f"{prefix}{self.kind}{suffix}"


def main_maps(seen: stitching.Moments) -> list[Map]:
    """Return least squares, and the maps that are compared with it everywhere."""
    return [
        Map(stitching.least_squares(seen), DIRECT, LEAST_SQUARES),
        Map(stitching.orthogonal(seen), DIRECT, "Procrustes"),
        Map(stitching.permutation(seen), DIRECT, "permutation"),
    ]


def direct_maps(
    seen: stitching.Moments, layer: Layer, config: Config, everything: bool
) -> list[Map]:
    """Return every map that is fitted to the moments of training rows."""
    maps, reduced = main_maps(seen), stitching.reduced_rank(seen)
    for share in config.ranks:
        fit = reduced.rank(_rank(share, layer.channels))
        maps.append(Map(fit, DIRECT, "reduced rank", share))
    if not everything:
        return maps
    constant = stitching.Fit(jnp.zeros_like(seen.xy), seen.mean_y)
    maps += [
        Map(stitching.semi_matching(seen), DIRECT, "semi-matching"),
        Map(layer.identity, CONTROL, "identity"),
        Map(constant, CONTROL, "mean"),
    ]
    shares = sorted(config.penalties, reverse=True)
    if shares:
        penalties = stitching.largest_penalty(seen) * np.array(shares)
        path = stitching.sparse_path(seen, penalties, tolerance=1e-4, sweeps=200)
        maps += _unstacked(path, DIRECT, "sparse", shares)
    return maps


def _rank(share: float, channels: int) -> int:
    return max(1, round(share * channels))


def _unstacked(
    fits: Any, method: str, kind: str, settings: Sequence[float]
) -> list[Map]:
    return [
        Map(jax.tree.map(lambda x, i=i: x[i], fits), method, kind, setting)
        for i, setting in enumerate(settings)
    ]


class TaskLoss:
    """Trains maps through the frozen back of network b.

    Maps of one class at one layer share a compilation.
    """

    def __init__(self, config: Config, apply: Callable[..., Any], advance: Advance):
        self._config, self._apply, self._advance = config, apply, advance
        self._key = jax.random.key(config.seed)
        rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
        self._adam = optax.adam(rate)

        def sparse(penalty: jax.Array) -> optax.GradientTransformation:
            return optax.chain(optax.adam(rate), layers.proximal_l1(penalty, rate))

        self._sparse = sparse  # one object: compilations are shared by its identity

    def maps(
        self,
        layer: Layer,
        a: Any,
        b: Any,
        fit: Split,
        direct: Sequence[Map],
        everything: bool,
    ) -> list[Map]:
        """Return every map trained on the rows `fit`, from direct maps.

        "affine" starts at least squares and learns hard labels.
        """
        activation = stitching.in_batches(
            layer.cut.front, a, fit.inputs, batch_size=BATCH
        )
        kinds = {each.kind: each.fit for each in direct}
        least_squares = kinds[LEAST_SQUARES]
        affine = layers.Affine(layer.channels)

        def train(module: Any, starts: Any, target: Any = None, **more: Any) -> Any:
            target = targets.hard(fit.targets) if target is None else target
            given = layer, layer, module, a, b, fit.inputs, target, activation, starts
            return self._train(*given, progress=self._advance, **more)

        if not everything:
            return [Map(train(affine, [least_squares])[0].fit, TASK, "affine")]
        random = jax.nn.initializers.lecun_normal()(
            self._key, least_squares.weight.shape
        )
        started = {
            "affine": least_squares,
            "affine from permutation": kinds["permutation"],
            "affine from identity": kinds["identity"],
            "affine from random": least_squares._replace(
                weight=random, bias=jnp.zeros_like(least_squares.bias)
            ),
        }
        early = [step for step in EARLY if step < self._config.steps]
        found = train(affine, started.values(), record=early)
        maps = [Map(x.fit, TASK, kind) for kind, x in zip(started, found, strict=True)]
        maps += _unstacked(found[-1].recorded, TASK, "early", early)
        for kind, target in self._targets(layer, a, b, fit).items():
            (trained,) = train(affine, [least_squares], target)
            maps.append(Map(trained.fit, TASK, f"affine to {kind}"))
        (rotation,) = train(layers.Orthogonal(layer.channels), [kinds["Procrustes"]])
        maps.append(Map(rotation.fit, TASK, "orthogonal"))
        for each in direct:
            if each.kind == "reduced rank":
                rank = _rank(each.setting or 0.0, layer.channels)
                (low,) = train(layers.LowRank(layer.channels, rank=rank), [each.fit])
                maps.append(Map(low.fit, TASK, "low rank", each.setting))
        penalties = self._config.task_penalties
        if penalties:
            sparse = train(
                affine,
                [least_squares] * len(penalties),
                optimizer=self._sparse,
                hyperparameters=stitching.each(jnp.array(penalties)),
            )
            maps += [
                Map(x.fit, TASK, "sparse", penalty)
                for penalty, x in zip(penalties, sparse, strict=True)
            ]
        return maps

    def _targets(self, layer: Layer, a: Any, b: Any, fit: Split) -> dict[str, Any]:
        """Return what affine maps are trained towards beside the labels, by name."""

        def on_fit(compute: Callable[..., Any], variables: Any) -> jax.Array:
            return stitching.in_batches(
                compute, variables, fit.inputs, batch_size=BATCH
            )

        labels = targets.hard(fit.targets)
        from_a, from_b = (on_fit(self._apply, variables) for variables in (a, b))
        soft = targets.soft(from_b)
        return {
            "soft outputs": soft,
            "soft outputs, temperature 4": targets.soft(from_b, 4.0),
            "soft outputs of a": targets.soft(from_a),
            "soft outputs of both": 0.5 * targets.soft(from_a) + 0.5 * soft,
            "labels and soft outputs": labels + soft,
            "logits": targets.squared_error(from_b),
            "labels and CKA": labels + targets.cka(on_fit(layer.cut.front, b)),
        }

    def affine(
        self,
        layer: Layer,
        a: Any,
        b: Any,
        fit: Split,
        activation: Any,
        start: stitching.Fit,
        source: Layer | None = None,
        **options: Any,
    ) -> stitching.Fit:
        """Return the affine map of any activations, trained on labels from a start.

        They have the shape of those of network a at the same layer; or at the layer
        `source`, and are then resized.
        """
        source = source or layer
        module = layers.Affine(layer.channels, convert=resizing(source, layer))
        target = targets.hard(fit.targets)
        given = source, layer, module, a, b, fit.inputs, target, activation, [start]
        return self._train(*given, **options)[0].fit

    def _train(
        self, source, layer, module, a, b, inputs, target, activation, starts, **options
    ) -> list[Any]:
        found = stitching.train_many(
            stitching.stitch(source.cut, module, layer.cut),
            a,
            b,
            inputs,
            target,
            options.pop("optimizer", self._adam),
            activation=activation,
            initial=stitching.each(layers.from_fit(module, x) for x in starts),
            key=self._key,
            steps=options.pop("steps", self._config.steps),
            batch_size=self._config.batch_size,
            **options,
        )
        return list(found)
