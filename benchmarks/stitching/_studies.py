"""What is measured on a pair of networks: stitches, indices, layer to layer, audits."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import stitching
from benchmarks.networks import Data, Task, row_scores
from benchmarks.stitching._config import Config
from benchmarks.stitching._layers import (
    Advance,
    Fronts,
    Layer,
    choose_rows,
    find_layers,
    in_batches,
)
from benchmarks.stitching._maps import LEAST_SQUARES, Map, TaskLoss, direct_maps
from stitching import report, similarity
from stitching.layers import resize

# Scores of each pair of layers, larger is better.
CROSS_SCORES = ("r_squared", "relative_accuracy", "CKA", "CCA")
_MEASURES = ("accuracy", "relative_accuracy", "agreement", "cross_entropy")
_CONTROLS = ("self_stitch", "shuffled", "noise", "untrained")
# Images whose Gram matrices are compared.
_IMAGES = 500


class Studies:
    """Studies of pairs of networks of one architecture; each program compiles once.

    Args:
      config: Which rows, layers and maps.
      task: The architecture and its data.
    """

    def __init__(self, config: Config, task: Task):
        self.config, self.task = config, task
        self.rows = choose_rows(config, task)
        self.layers = find_layers(config, task)
        self._fronts = Fronts(self.layers)
        self._task_loss = TaskLoss(config, task.network.apply)
        self._stitched = {layer.name: _stitched(layer) for layer in self.layers}
        self._backs = {layer.name: _back(layer) for layer in self.layers}
        self._moments: tuple[Any, Any] = (None, None)

    def moments(self, a: Any, b: Any, advance: Advance | None = None) -> tuple:
        """Return moments of training and of test rows at all layers.

        Those of the latest pair are kept.
        """
        pair, found = self._moments
        if pair is None or pair[0] is not a or pair[1] is not b:
            rows = self.rows.fit, self.rows.test
            found = tuple(self._fronts.moments(a, b, x, advance) for x in rows)
            self._moments = ((a, b), found)
        return found

    def own_scores(self, variables: Any) -> dict[str, float]:
        """Return test accuracy and loss of a network by itself."""
        parts = [_row_scores(self.task.network, variables, x) for x in self._test]
        losses, hits = (jnp.concatenate(x) for x in zip(*parts, strict=True))
        return {"test_accuracy": float(hits.mean()), "test_loss": float(losses.mean())}

    def stitch(
        self,
        layer: Layer,
        a: Any,
        b: Any,
        everything: bool,
        advance: Advance | None = None,
    ) -> dict[str, Any]:
        """Return the scores of all maps at a layer, by the name of the map.

        Args:
          layer: Where networks are stitched.
          a: Variables of the network whose front is used.
          b: Variables of the network whose back is used.
          everything: Whether to include maps that are tried on few pairs only.
          advance: Called as `advance(done, total)`.
        """
        place = self.layers.index(layer)
        seen, _ = (moments[place] for moments in self.moments(a, b, advance))
        maps = direct_maps(seen, self.config, everything)
        maps += self._task_loss.maps(
            layer, a, b, self.rows.fit, maps, everything, advance
        )
        return self.scores(layer, a, b, maps, advance)

    def affine(self, layer: Layer, a: Any, b: Any, start: stitching.Fit) -> Any:
        """Return the affine map that is trained on labels from a start."""
        activation = layer.cut.front(a, self.rows.fit.inputs)
        return self._task_loss.affine(layer, b, self.rows.fit, activation, start)

    def scores(
        self,
        layer: Layer,
        a: Any,
        b: Any,
        maps: Sequence[Map],
        advance: Advance | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Return the scores of maps on test rows, by name, as in `Stitch`."""
        place, stitched = self.layers.index(layer), self._stitched[layer.name]
        seen, held_out = (moments[place] for moments in self.moments(a, b))
        found: dict[str, list[Any]] = {each.name: [] for each in maps}
        own: list[Any] = []
        for done, batch in enumerate(self._test):
            activation = layer.cut.front(a, batch.inputs)
            itself = layer.cut.front(b, batch.inputs)
            own.append(stitched(b, layer.identity, itself, seen))
            for each in maps:
                found[each.name].append(stitched(b, each.fit, activation, seen))
            if advance:
                advance(done + 1, len(self._test))
        reference = _joined(own)
        return {
            each.name: {
                "method": each.method,
                "kind": each.kind,
                "setting": each.setting,
                "density": float((each.fit.weight != 0).mean()),
                **_numbers(
                    *_measured(
                        _joined(found[each.name]), reference, self.rows.test.targets
                    )
                ),
                "residual": float(1 - stitching.r_squared(each.fit, held_out)),
            }
            for each in maps
        }

    def indices(
        self, a: Any, b: Any, advance: Advance | None = None
    ) -> dict[str, dict[str, float]]:
        """Return every similarity index at every layer; larger is more similar.

        Positions are samples, but for those named "images".
        """
        _, held_out = self.moments(a, b, advance)
        images, found = self.rows.test.inputs[:_IMAGES], {}
        for layer, moments in zip(self.layers, held_out, strict=True):
            x, y = (similarity.flattened(layer.cut.front(v, images)) for v in (a, b))
            values = _of_moments(moments) | _of_images(x, y)
            values["matched correlation"] = similarity.matched_correlation(moments)
            found[layer.name] = {name: float(x) for name, x in values.items()}
        return found

    def cross(
        self, a: Any, b: Any, advance: Advance | None = None
    ) -> dict[str, np.ndarray]:
        """Return the scores of every layer of a with every layer of b.

        Maps are least squares on few rows. Where activations differ in size, those of
        network a are resized (linear) to network b's. Between maps and vectors there is
        no stitch.

        Returns:
          For each of `CROSS_SCORES` a matrix, layers of a × layers of b; NaN where
          there is no stitch.
        """
        fit, test = self.rows.few_fit, self.rows.few_test
        sources, goals = (self._fronts.activations(v, fit) for v in (a, b))
        held_sources, held_goals = (self._fronts.activations(v, test) for v in (a, b))
        count = len(self.layers)
        found = {name: np.full((count, count), np.nan) for name in CROSS_SCORES}
        for j, layer in enumerate(self.layers):
            back = self._backs[layer.name]
            reference = back(b, layer.identity, held_goals[j])
            for i, source in enumerate(self.layers):
                if len(source.shape) != len(layer.shape):
                    continue
                seen = _moments(layer.shape, sources[i], goals[j])
                held_out = _moments(layer.shape, held_sources[i], held_goals[j])
                map_ = stitching.least_squares(seen)
                logits = back(b, map_, held_sources[i])
                values = _cross_scores(map_, held_out, logits, reference, test.targets)
                for name, value in values.items():
                    found[name][i, j] = value
            if advance:
                advance(j + 1, count)
        return found

    def audit(
        self, a: Any, b: Any, untrained: Any, key: jax.Array, advance: Advance
    ) -> dict[str, dict[str, Any]]:
        """Return the audit of least squares and of task loss, by layer and method.

        Args:
          a: Variables of the network whose front is used.
          b: Variables of the network whose back is used.
          untrained: Fresh variables.
          key: Of the controls.
          advance: Called as `advance(done, total)`, in layers.
        """
        found = {}
        for done, layer in enumerate(self.layers):
            found[layer.name] = self._audit(layer, (a, b, untrained), key)
            advance(done + 1, len(self.layers))
        return found

    def _audit(self, layer: Layer, networks: tuple, key: jax.Array) -> dict[str, Any]:
        fit, test = self.rows.few_fit, self.rows.few_test
        b = networks[1]
        source, own, untrained = (
            tuple(layer.cut.front(variables, data.inputs) for data in (fit, test))
            for variables in networks
        )

        def least_squares(x, y):
            return stitching.least_squares(stitching.moments(x, y))

        def by_task_loss(x, y):
            return self._task_loss.affine(layer, b, fit, x, least_squares(x, y))

        def audited(method: Callable) -> dict[str, Any]:
            back = functools.partial(layer.cut.back, b)
            return _audit_numbers(
                report.audit_activations(
                    method,
                    source,
                    own,
                    back,
                    test.targets,
                    key=key,
                    untrained=untrained,
                )
            )

        methods = {LEAST_SQUARES: least_squares, "task loss": by_task_loss}
        return {name: audited(method) for name, method in methods.items()}

    @functools.cached_property
    def _test(self) -> list[Data]:
        return list(in_batches(self.rows.test))


def _stitched(layer: Layer) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Logits, and distances of mapped activations from network b's own."""

    @jax.jit
    def stitched(b, fit, activation, seen):
        mapped = fit(activation)
        distances = report.per_image(report.mahalanobis(mapped, seen))
        return layer.cut.back(b, mapped), distances

    return stitched


@jax.jit
def _measured(stitched, reference, labels):
    measures = report.measures(stitched[0], reference[0], labels)
    return measures, report.out_of_distribution(stitched[1], reference[1])


def _numbers(
    measures: report.Measures, distance: report.OutOfDistribution
) -> dict[str, Any]:
    numbers: dict[str, Any] = {x: float(getattr(measures, x)) for x in _MEASURES}
    numbers["hits"] = measures.hits
    return numbers | {"distance": float(distance.mean), "auroc": float(distance.auroc)}


def _joined(parts: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *parts)


@functools.partial(jax.jit, static_argnums=0)
def _row_scores(network, variables, data):
    return row_scores(network.apply(variables, data.inputs), data.targets)


@jax.jit
def _of_moments(moments):
    return {
        "CKA": similarity.cka(moments),
        "CCA": similarity.cca(moments),
        "SVCCA": similarity.svcca(moments),
        "PWCCA": similarity.pwcca(moments),
        "linear regression": similarity.linear_regression(moments),
        "1 − Procrustes distance": 1 - similarity.procrustes(moments),
    }


@jax.jit
def _of_images(x, y):
    return {
        "debiased CKA, images": similarity.cka(x, y, debiased=True),
        "RSA, images": similarity.rsa(x, y),
        "mutual neighbours, images": similarity.mutual_neighbours(
            x, y, k=min(10, len(x) - 1)
        ),
    }


def _resized(shape: tuple[int, ...], activation: jax.Array) -> jax.Array:
    """An activation in the spatial size of another layer."""
    if len(shape) < 3 or activation.shape[1:-1] == shape[:-1]:
        return activation
    return resize(activation, (shape[0], shape[1]), method="linear")


@functools.partial(jax.jit, static_argnums=0)
def _moments(shape, source, goal):
    return stitching.moments(_resized(shape, source), goal)


def _back(layer: Layer) -> Callable[..., jax.Array]:
    @jax.jit
    def back(b, fit, source):
        return layer.cut.back(b, fit(_resized(layer.shape, source)))

    return back


@jax.jit
def _cross_scores(fit, held_out, logits, reference, labels):
    return {
        "r_squared": stitching.r_squared(fit, held_out),
        "relative_accuracy": report.relative_accuracy(logits, reference, labels),
        "CKA": similarity.cka(held_out),
        "CCA": similarity.cca(held_out),
    }


def _audit_numbers(audit: Any) -> dict[str, Any]:
    def control(name: str) -> float:
        return float(getattr(audit.controls, name).relative_accuracy)

    return {
        "relative_accuracy": float(audit.measures.relative_accuracy),
        "chance": float(audit.chance),
        "r_squared": float(audit.r_squared),
        "distance": float(audit.distance.mean),
        "own_distance": float(audit.distance.own_mean),
        "distance_auroc": float(audit.distance.auroc),
        "energy_auroc": float(audit.energy.auroc),
        "controls": {name: control(name) for name in _CONTROLS},
    }
