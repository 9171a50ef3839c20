"""How a stitched network is judged: on test rows, beside network 2."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import stitching
from benchmarks.networks import Data
from benchmarks.stitching._layers import Layer, in_batches
from benchmarks.stitching._maps import Map
from stitching import report

Progress = Callable[[int, int], None]
Scores = dict[str, Any]


class Judge:
    """Judges maps at the layers of one architecture, each by one compiled program.

    Args:
      layers: The layers.
      test: The test rows.
    """

    def __init__(self, layers: Sequence[Layer], test: Data):
        self._test = test
        self._stitched = {layer.name: _stitched(layer) for layer in layers}

    def scores(
        self,
        layer: Layer,
        a: Any,
        b: Any,
        maps: Sequence[Map],
        seen: stitching.Moments,
        held_out: stitching.Moments,
        progress: Progress | None = None,
    ) -> dict[str, Scores]:
        """The scores of every map from network a to network b at a layer.

        Args:
          layer: Where they are stitched.
          a: Variables of the network whose front is used.
          b: Variables of the network whose back is used.
          maps: The maps.
          seen: Moments of training rows; network b's own are the reference of what is
            out of distribution.
          held_out: Moments of test rows.
          progress: Called as `progress(done, total)`, in maps and batches.

        Returns:
          For each map, by name, "way", "kind", "at", "density" (share of weights that
          are not zero) and the scores of the schema in `benchmarks.runs`.
        """
        stitched = self._stitched[layer.name]
        own = Map(_identity(layer.channels), "own", "own")
        batches = list(in_batches(self._test))
        found: dict[str, list[Any]] = {each.name: [] for each in (own, *maps)}
        for done, batch in enumerate(batches):
            activation = layer.cut.front(a, batch.inputs)
            itself = layer.cut.front(b, batch.inputs)
            found[own.name].append(stitched(b, own.fit, itself, seen))
            for number, each in enumerate(maps):
                found[each.name].append(stitched(b, each.fit, activation, seen))
                if progress:
                    progress(done * len(maps) + number + 1, len(batches) * len(maps))
        outputs = {name: _joined(parts) for name, parts in found.items()}
        reference = outputs.pop(own.name)
        return {
            each.name: {
                "way": each.way,
                "kind": each.kind,
                "at": each.at,
                "density": float((each.fit.weight != 0).mean()),
                **_numbers(
                    _measured(outputs[each.name], reference, self._test.targets)
                ),
                "residual": float(1 - stitching.r_squared(each.fit, held_out)),
            }
            for each in maps
        }


def _stitched(layer: Layer) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Logits, and distances of what the map gives from network b's own activations."""

    @jax.jit
    def stitched(b, fit, activation, seen):
        given = fit(activation)
        distances = report.per_image(report.mahalanobis(given, seen))
        return layer.cut.back(b, given), distances

    return stitched


@jax.jit
def _measured(
    stitched: tuple[jax.Array, jax.Array],
    reference: tuple[jax.Array, jax.Array],
    labels: jax.Array,
) -> tuple[report.Measures, report.OutOfDistribution]:
    measures = report.measures(stitched[0], reference[0], labels)
    return measures, report.out_of_distribution(stitched[1], reference[1])


def _numbers(
    found: tuple[report.Measures, report.OutOfDistribution],
) -> Scores:
    measures, distance = found
    kept = ("accuracy", "relative_accuracy", "agreement", "cross_entropy")
    numbers: Scores = {name: float(getattr(measures, name)) for name in kept}
    numbers["hits"] = measures.hits.tolist()
    numbers["distance"] = float(distance.mean)
    numbers["own_distance"] = float(distance.own_mean)
    numbers["beyond_95"] = float(distance.beyond_95)
    numbers["auroc"] = float(distance.auroc)
    return numbers


def _identity(channels: int) -> stitching.Fit:
    return stitching.Fit(jnp.eye(channels), jnp.zeros(channels))


def _joined(parts: Sequence[tuple[jax.Array, jax.Array]]) -> Any:
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *parts)


def own_scores(
    apply: Callable[[Any, jax.Array], jax.Array], variables: Any, test: Data
) -> Scores:
    """Test accuracy and loss of a network by itself."""
    parts = [_row_scores(apply, variables, batch) for batch in in_batches(test)]
    hits, losses = (jnp.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return {"test_accuracy": float(hits.mean()), "test_loss": float(losses.mean())}


@functools.partial(jax.jit, static_argnums=0)
def _row_scores(apply, variables, data):
    logits = apply(variables, data.inputs)
    logs = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(logs, data.targets[:, None], axis=-1)[:, 0]
    return (logits.argmax(-1) == data.targets).astype(logs.dtype), -chosen
