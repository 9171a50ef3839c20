"""Maps that are trained on the task, through the frozen back of network 2."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

import stitching
from benchmarks.networks import Data
from benchmarks.stitching._config import Config
from benchmarks.stitching._layers import BATCH, Layer
from benchmarks.stitching._maps import TASK, Map, rank_of
from stitching import layers, targets

Progress = Callable[[int, int], None]
# After how many steps the map that starts at random is looked at.
EARLY = (0, 10, 30, 100)


class TaskLoss:
    """Trains maps; those of one class at one layer share a compilation.

    Args:
      config: Steps, minibatches, ranks and penalties.
      apply: Gives the logits of variables for inputs.
    """

    def __init__(self, config: Config, apply: Callable[[Any, jax.Array], jax.Array]):
        self._config, self._apply = config, apply
        rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
        self._adam = optax.adam(rate)

        def sparse(penalty: jax.Array) -> optax.GradientTransformation:
            return optax.chain(optax.adam(rate), layers.proximal_l1(penalty, rate))

        self._sparse = sparse  # one object: programs are told apart by it

    def maps(
        self,
        layer: Layer,
        a: Any,
        b: Any,
        fit: Data,
        direct: Sequence[Map],
        everything: bool,
        progress: Progress | None = None,
    ) -> list[Map]:
        """Every map trained on the task at a layer.

        Args:
          layer: Where networks are stitched.
          a: Variables of network 1.
          b: Variables of network 2.
          fit: Training rows.
          direct: Direct maps, least squares among them, to start from.
          everything: Whether maps are wanted that are tried on few pairs only.
          progress: Called as `progress(done, total)`, in steps.

        Returns:
          The maps; "affine" starts at least squares and learns hard labels.
        """
        activation = stitching.in_batches(
            layer.cut.front, a, fit.inputs, batch_size=BATCH
        )
        starts = {each.kind: each.fit for each in direct}
        least_squares = starts["least squares"]
        hard = targets.hard(fit.targets)

        def train(module, starts, target, optimizer, **options):
            return self._train(
                layer,
                module,
                (a, b, fit.inputs, target, optimizer),
                activation=activation,
                initial=stitching.each(layers.from_fit(module, fit) for fit in starts),
                progress=progress,
                **options,
            )

        affine = layers.Affine(layer.channels)
        if not everything:
            (found,) = train(affine, [least_squares], hard, self._adam)
            return [Map(found.fit, TASK, "affine")]
        chance = stitching.Fit(*_random(self._key(), least_squares))
        begun = {
            "affine": least_squares,
            "affine from permutation": starts["permutation"],
            "affine from identity": starts["identity"],
            "affine from random": chance,
        }
        early = [step for step in EARLY if step < self._config.steps]
        found = train(affine, begun.values(), hard, self._adam, record=early)
        maps = [
            Map(each.fit, TASK, kind) for kind, each in zip(begun, found, strict=True)
        ]
        maps += _recorded(found[-1].recorded, early)
        own = stitching.in_batches(self._apply, b, fit.inputs, batch_size=BATCH)
        (soft,) = train(affine, [least_squares], targets.soft(own), self._adam)
        orthogonal = layers.Orthogonal(layer.channels)
        (rotation,) = train(orthogonal, [starts["Procrustes"]], hard, self._adam)
        maps += [
            Map(soft.fit, TASK, "affine to soft outputs"),
            Map(rotation.fit, TASK, "orthogonal"),
        ]
        for share in self._config.ranks:
            rank = rank_of(share, layer.channels)
            low = layers.LowRank(layer.channels, rank=rank)
            start = [m.fit for m in direct if (m.kind, m.at) == ("reduced rank", share)]
            (found,) = train(low, start, hard, self._adam)
            maps.append(Map(found.fit, TASK, "low rank", share))
        return maps + self._penalised(train, affine, least_squares, hard)

    def affine(
        self, layer: Layer, b: Any, fit: Data, activation: Any, start: stitching.Fit
    ) -> stitching.Fit:
        """The affine map of whatever activations, trained on labels from a start."""
        module = layers.Affine(layer.channels)
        (found,) = self._train(
            layer,
            module,
            (b, b, fit.inputs, targets.hard(fit.targets), self._adam),
            activation=activation,
            initial=stitching.each([layers.from_fit(module, start)]),
        )
        return found.fit

    def _penalised(self, train, module, start, target) -> list[Map]:
        penalties = self._config.task_penalties
        if not penalties:
            return []
        found = train(
            module,
            [start] * len(penalties),
            target,
            self._sparse,
            hyperparameters=stitching.each(jnp.array(penalties)),
        )
        return [
            Map(each.fit, TASK, "sparse", penalty)
            for penalty, each in zip(penalties, found, strict=True)
        ]

    def _train(self, layer: Layer, module: Any, given: Any, **options: Any) -> Any:
        return stitching.train_many(
            stitching.stitch(layer.cut, module, layer.cut),
            *given,
            key=self._key(),
            steps=self._config.steps,
            batch_size=self._config.batch_size,
            **options,
        )

    def _key(self) -> jax.Array:
        return jax.random.key(self._config.seed)


def _random(key: jax.Array, like: stitching.Fit) -> tuple[jax.Array, jax.Array]:
    shape = like.weight.shape
    return jax.nn.initializers.lecun_normal()(key, shape), jnp.zeros(shape[1])


def _recorded(stack: Any, steps: Sequence[int]) -> list[Map]:
    return [
        Map(jax.tree.map(lambda leaf: leaf[place], stack), TASK, "early", step)  # noqa: B023
        for place, step in enumerate(steps)
    ]
