"""Stitching maps: fitted to activations, or trained on the task."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import stitching
from benchmarks.networks import Data
from benchmarks.stitching._config import Config
from benchmarks.stitching._layers import BATCH, Advance, Layer
from stitching import layers, targets

DIRECT, TASK, CONTROL = "direct", "task loss", "control"
# The maps that every pair has, by which performance is judged.
LEAST_SQUARES, TASK_LOSS = "least squares", f"{TASK}: affine"
# The map that starts at random is also evaluated after so many steps.
EARLY = (0, 10, 30, 100)


class Map(NamedTuple):
    """A map of channels, and how it was found.

    Attributes:
      fit: The map.
      method: `DIRECT`, `TASK` or `CONTROL`.
      kind: Its class.
      setting: As in `Stitch`.
    """

    fit: stitching.Fit
    method: str
    kind: str
    setting: float | None = None

    @property
    def name(self) -> str:
        """A name among all maps of a layer."""
        prefix = f"{self.method}: " if self.method == TASK else ""
        suffix = "" if self.setting is None else f" {self.setting:g}"
        return f"{prefix}{self.kind}{suffix}"


def direct_maps(seen: stitching.Moments, config: Config, everything: bool) -> list[Map]:
    """Return every map that is fitted to the moments of training rows.

    Args:
      seen: The moments of a pair of activations.
      config: Which ranks and penalties.
      everything: Whether to include maps that are tried on few pairs only.

    Returns:
      The maps, least squares first.
    """
    channels = seen.mean_y.size
    reduced = stitching.reduced_rank(seen)
    maps = [
        Map(stitching.least_squares(seen), DIRECT, LEAST_SQUARES),
        Map(stitching.orthogonal(seen), DIRECT, "Procrustes"),
        Map(stitching.permutation(seen), DIRECT, "permutation"),
    ]
    maps += [
        Map(reduced.rank(_rank(share, channels)), DIRECT, "reduced rank", share)
        for share in config.ranks
    ]
    if not everything:
        return maps
    constant = stitching.Fit(jnp.zeros_like(seen.xy), seen.mean_y)
    unchanged = stitching.Fit(jnp.eye(channels), jnp.zeros(channels))
    maps += [
        Map(stitching.semi_matching(seen), DIRECT, "semi-matching"),
        Map(unchanged, CONTROL, "identity"),
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

    Args:
      config: Steps, minibatches, ranks and penalties.
      apply: `apply(variables, inputs)` returns logits.
    """

    def __init__(self, config: Config, apply: Callable[[Any, jax.Array], jax.Array]):
        self._config, self._apply = config, apply
        rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
        self.optimizer = optax.adam(rate)

        def sparse(penalty: jax.Array) -> optax.GradientTransformation:
            return optax.chain(optax.adam(rate), layers.proximal_l1(penalty, rate))

        self._sparse = sparse  # one object: compilations are shared by its identity

    def maps(
        self,
        layer: Layer,
        a: Any,
        b: Any,
        fit: Data,
        direct: Sequence[Map],
        everything: bool,
        advance: Advance | None = None,
    ) -> list[Map]:
        """Return every map trained on the task at a layer.

        Args:
          layer: Where networks are stitched.
          a: Variables of the network whose front is used.
          b: Variables of the network whose back is used.
          fit: Training rows.
          direct: Direct maps to start from, least squares first.
          everything: Whether to include maps that are tried on few pairs only.
          advance: Called as `advance(done, total)`, in steps.

        Returns:
          The maps; "affine" starts at least squares and learns hard labels.
        """
        activation = stitching.in_batches(
            layer.cut.front, a, fit.inputs, batch_size=BATCH
        )
        starts = {each.kind: each.fit for each in direct}
        least_squares = starts[LEAST_SQUARES]
        affine, hard = layers.Affine(layer.channels), targets.hard(fit.targets)

        def train(module, starts, target=hard, optimizer: Any = self.optimizer, **more):
            found = self._train(
                layer,
                module,
                (a, b, fit.inputs, target, optimizer),
                activation=activation,
                initial=stitching.each(layers.from_fit(module, x) for x in starts),
                progress=advance,
                **more,
            )
            return list(found)

        if not everything:
            return [Map(train(affine, [least_squares])[0].fit, TASK, "affine")]
        random = jax.nn.initializers.lecun_normal()(
            self._key, least_squares.weight.shape
        )
        started = {
            "affine": least_squares,
            "affine from permutation": starts["permutation"],
            "affine from identity": starts["identity"],
            "affine from random": stitching.Fit(
                random, jnp.zeros_like(least_squares.bias)
            ),
        }
        early = [step for step in EARLY if step < self._config.steps]
        found = train(affine, started.values(), record=early)
        maps = [Map(x.fit, TASK, kind) for kind, x in zip(started, found, strict=True)]
        maps += _unstacked(found[-1].recorded, TASK, "early", early)
        own = stitching.in_batches(self._apply, b, fit.inputs, batch_size=BATCH)
        (soft,) = train(affine, [least_squares], targets.soft(own))
        orthogonal = layers.Orthogonal(layer.channels)
        (rotation,) = train(orthogonal, [starts["Procrustes"]])
        maps += [
            Map(soft.fit, TASK, "affine to soft outputs"),
            Map(rotation.fit, TASK, "orthogonal"),
        ]
        for each in direct:
            if each.kind == "reduced rank":
                rank = _rank(each.setting or 0.0, layer.channels)
                low = layers.LowRank(layer.channels, rank=rank)
                maps.append(
                    Map(train(low, [each.fit])[0].fit, TASK, "low rank", each.setting)
                )
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

    def affine(
        self, layer: Layer, b: Any, fit: Data, activation: Any, start: stitching.Fit
    ) -> stitching.Fit:
        """Return the affine map of any activations, trained on labels from a start."""
        module = layers.Affine(layer.channels)
        (found,) = self._train(
            layer,
            module,
            (b, b, fit.inputs, targets.hard(fit.targets), self.optimizer),
            activation=activation,
            initial=stitching.each([layers.from_fit(module, start)]),
        )
        return found.fit

    @property
    def _key(self) -> jax.Array:
        return jax.random.key(self._config.seed)

    def _train(self, layer: Layer, module: Any, given: Any, **options: Any) -> Any:
        return stitching.train_many(
            stitching.stitch(layer.cut, module, layer.cut),
            *given,
            key=self._key,
            steps=self._config.steps,
            batch_size=self._config.batch_size,
            **options,
        )
