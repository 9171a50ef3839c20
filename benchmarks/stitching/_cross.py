"""Every layer of one network stitched to every layer of another."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import stitching
from benchmarks.networks import Data
from benchmarks.stitching._layers import Fronts, Layer, in_batches
from stitching import report, similarity
from stitching.layers import resize

Progress = Callable[[int, int], None]
# What is told of each pair of layers, the larger the better.
SCORES = ("r_squared", "relative_accuracy", "CKA", "CCA")


class Cross:
    """Least squares from layer to layer, compiled once for all networks.

    Where maps differ in size, those of network 1 are resized (linear) to network 2's.
    Between maps and vectors there is no stitch: the score is None.

    Args:
      layers: Of the architecture.
      fronts: Of these layers.
    """

    def __init__(self, layers: Sequence[Layer], fronts: Fronts):
        self._layers, self._fronts = layers, fronts
        self._see = jax.jit(_see, static_argnums=0)
        self._backs = [_back(layer) for layer in layers]

    def matrices(
        self,
        a: Any,
        b: Any,
        fit: Data,
        test: Data,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """The scores of every layer of network a with every layer of network b.

        Args:
          a: Variables of the network whose fronts are used.
          b: Variables of the network whose backs are used.
          fit: Rows that maps are fitted on.
          test: Rows that they are scored on.
          progress: Called as `progress(done, total)`, in layers.

        Returns:
          For each of `SCORES` a matrix, a row for each layer of network a, and
          "identification" of each: the share of network b's layers that score highest
          with the same layer of network a.
        """
        sources, targets = (self._activations(v, fit) for v in (a, b))
        held_sources, held_targets = (self._activations(v, test) for v in (a, b))
        count = len(self._layers)
        found: dict[str, Any] = {
            name: np.full((count, count), np.nan) for name in SCORES
        }
        for j, layer in enumerate(self._layers):
            reference = self._backs[j](b, _nothing(layer), held_targets[j])
            for i, source in enumerate(self._layers):
                if len(source.shape) != len(layer.shape):
                    continue
                seen = self._see(layer.shape, sources[i], targets[j])
                held_out = self._see(layer.shape, held_sources[i], held_targets[j])
                map_ = stitching.least_squares(seen)
                logits = self._backs[j](b, map_, held_sources[i])
                values = _values(map_, held_out, logits, reference, test.targets)
                for name, value in zip(SCORES, values, strict=True):
                    found[name][i, j] = value
            if progress:
                progress(j + 1, count)
        known = {name: _identified(matrix) for name, matrix in found.items()}
        matrices = {name: _with_gaps(matrix) for name, matrix in found.items()}
        return {**matrices, "identification": known}

    def _activations(self, variables: Any, data: Data) -> list[jax.Array]:
        parts = [
            self._fronts.activations(variables, batch.inputs)
            for batch in in_batches(data)
        ]
        return [jnp.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def _fitted(shape: tuple[int, ...], activation: jax.Array) -> jax.Array:
    """An activation in the spatial size of another layer."""
    if len(shape) < 3 or activation.shape[1:-1] == shape[:-1]:
        return activation
    return resize(activation, (shape[0], shape[1]), method="linear")


def _see(shape, source, target):
    return stitching.moments(_fitted(shape, source), target)


def _back(layer: Layer) -> Callable[..., jax.Array]:
    @jax.jit
    def back(b, fit, source):
        return layer.cut.back(b, fit(_fitted(layer.shape, source)))

    return back


def _nothing(layer: Layer) -> stitching.Fit:
    return stitching.Fit(jnp.eye(layer.channels), jnp.zeros(layer.channels))


@jax.jit
def _values(fit, held_out, logits, reference, labels):
    return [
        stitching.r_squared(fit, held_out),
        report.relative_accuracy(logits, reference, labels),
        similarity.cka(held_out),
        similarity.cca(held_out),
    ]


def _identified(matrix: np.ndarray) -> dict[str, float]:
    """Whether each layer of network 2 is matched best by the same one of network 1."""
    found = report.identification(matrix.T)
    return {"accuracy": float(found.accuracy), "mean_rank": float(found.mean_rank)}


def _with_gaps(matrix: np.ndarray) -> list[list[float | None]]:
    return [[float(v) if np.isfinite(v) else None for v in row] for row in matrix]


def rank_correlation(one: Any, other: Any) -> float | None:
    """Spearman's correlation over what both have; None where one does not vary."""
    x, y = (np.asarray(values, float).ravel() for values in (one, other))
    kept = np.isfinite(x) & np.isfinite(y)
    x, y = x[kept], y[kept]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    found: Any = stats.spearmanr(x, y)
    return float(found.statistic)
