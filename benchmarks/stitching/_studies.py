"""What is measured on a pair of networks: stitches, indices, layer to layer, audits."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import stitching
from benchmarks.configs.stitching import Config
from benchmarks.networks import Advance, Task, quiet, row_scores
from benchmarks.stitching._layers import (
    Layer,
    activations,
    choose_rows,
    find_layers,
    in_batches,
    moments,
    resizing,
)
from benchmarks.stitching._maps import LEAST_SQUARES, Map, TaskLoss, direct_maps
from stitching import report, similarity

_MEASURES = ("accuracy", "relative_accuracy", "agreement", "cross_entropy")
_CONTROLS = ("self_stitch", "shuffled", "noise", "untrained")
# Images whose Gram matrices are compared.
_IMAGES = 500


class Studies:
    """Studies of pairs of networks of one architecture; each program compiles once.

    In all of them `a` and `b` are the variables of the networks whose front and whose
    back are used, and `advance(done, total)` is called with the progress. Layer to
    layer, the front may be of another architecture, with the layers `fronts`.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        advance: Advance = quiet,
        fronts: Sequence[Layer] | None = None,
    ):
        self.config, self.task, self.advance = config, task, advance
        self.rows = choose_rows(config, task)
        self.layers = find_layers(config, task)
        self.fronts = self.layers if fronts is None else tuple(fronts)
        self._task_loss = TaskLoss(config, task.network.apply, advance)
        self._test = in_batches(self.rows.test)
        self._moments: tuple[Any, Any] = (None, None)

    def moments(self, a: Any, b: Any) -> Any:
        """Return moments of training and of test rows at all layers.

        Those of the latest pair are kept.
        """
        pair, found = self._moments
        if pair is None or pair[0] is not a or pair[1] is not b:
            rows = self.rows.fit, self.rows.test
            found = [moments(self.layers, a, b, x, self.advance) for x in rows]
            self._moments = ((a, b), found)
        return found

    def own_scores(self, variables: Any) -> dict[str, float]:
        """Return test accuracy and loss of a network by itself."""
        parts = [_row_scores(self.task.network, variables, x) for x in self._test]
        losses, hits = _joined(parts)
        return {"test_accuracy": float(hits.mean()), "test_loss": float(losses.mean())}

    def stitch(
        self, layer: Layer, everything: bool, a: Any, b: Any
    ) -> dict[str, dict[str, Any]]:
        """Return the scores of all maps at a layer, by the name of the map.

        With `everything` they include maps that are tried on few pairs only.
        """
        seen, _ = self.moments(a, b)
        place, fit = self.layers.index(layer), self.rows.fit
        maps = direct_maps(seen[place], layer, self.config, everything)
        maps += self._task_loss.maps(layer, a, b, fit, maps, everything)
        return self.scores(layer, a, b, maps)

    def affine(self, layer: Layer, a: Any, b: Any, start: stitching.Fit) -> Any:
        """Return the affine map that is trained on labels from a start."""
        activation = layer.cut.front(a, self.rows.fit.inputs)
        return self._task_loss.affine(layer, a, b, self.rows.fit, activation, start)

    def scores(
        self, layer: Layer, a: Any, b: Any, maps: Sequence[Map]
    ) -> dict[str, dict[str, Any]]:
        """Return the scores of maps on test rows, by name, as in `Stitch`."""
        place, own = self.layers.index(layer), []
        seen, held_out = (of_rows[place] for of_rows in self.moments(a, b))
        found: list[list[Any]] = [[] for _ in maps]
        for done, batch in enumerate(self._test):
            activation = layer.cut.front(a, batch.inputs)
            itself = layer.cut.front(b, batch.inputs)
            own.append(_stitched(layer, b, layer.identity, itself, seen))
            for parts, each in zip(found, maps, strict=True):
                parts.append(_stitched(layer, b, each.fit, activation, seen))
            self.advance(done + 1, len(self._test))
        reference, labels = _joined(own), self.rows.test.targets

        def numbers(each: Map, parts: list[Any]) -> dict[str, Any]:
            measures, distance = _measured(_joined(parts), reference, labels)
            return {
                "method": each.method,
                "kind": each.kind,
                "setting": each.setting,
                "density": float((each.fit.weight != 0).mean()),
                **{name: float(getattr(measures, name)) for name in _MEASURES},
                "hits": measures.hits,
                "distance": float(distance.mean),
                "auroc": float(distance.auroc),
                "residual": float(1 - stitching.r_squared(each.fit, held_out)),
            }

        return {m.name: numbers(m, x) for m, x in zip(maps, found, strict=True)}

    def indices(self, a: Any, b: Any) -> dict[str, dict[str, float]]:
        """Return every similarity index at every layer; larger is more similar.

        Positions are samples, but for those named "images".
        """
        _, held_out = self.moments(a, b)
        images, found = self.rows.test.inputs[:_IMAGES], {}
        for layer, seen in zip(self.layers, held_out, strict=True):
            x, y = (similarity.flattened(layer.cut.front(v, images)) for v in (a, b))
            values = _of_moments(seen) | _of_images(x, y)
            found[layer.name] = {name: float(x) for name, x in values.items()}
        return found

    def cross(self, a: Any, b: Any) -> dict[str, np.ndarray]:
        """Return the scores of every layer of a with every layer of b.

        Maps are least squares on few rows, and for "task loss" trained from there.
        Where activations differ in size, those of network a are resized (linear) to
        network b's. Between maps and vectors there is no stitch.

        Returns:
            For each score, larger is better, a matrix, layers of a × layers of b; NaN
            where there is no stitch.
        """
        fit, test = self.rows.few_fit, self.rows.few_test
        sources, held_sources = (activations(self.fronts, a, x) for x in (fit, test))
        goals, held_goals = (activations(self.layers, b, x) for x in (fit, test))
        shape, steps = (len(self.fronts), len(self.layers)), self.config.cross_steps
        found: dict[str, np.ndarray] = {}
        for j, layer in enumerate(self.layers):
            reference = _back(layer, b, layer.identity, held_goals[j])
            for i, source in enumerate(self.fronts):
                if len(source.shape) != len(layer.shape):
                    continue
                convert = resizing(source, layer) or _unchanged
                held_source = convert(held_sources[i])
                fitted = stitching.least_squares(
                    _moments(convert(sources[i]), goals[j])
                )
                held_out = _moments(held_source, held_goals[j])
                trained = self._task_loss.affine(
                    layer, a, b, fit, sources[i], fitted, source, steps=steps
                )
                values = _of_moments(held_out)
                values["r_squared"] = stitching.r_squared(fitted, held_out)
                for name, map_ in (("least squares", fitted), ("task loss", trained)):
                    logits = _back(layer, b, map_, held_source)
                    given = logits, reference, test.targets
                    values[name] = report.relative_accuracy(*given)
                for name, value in values.items():
                    found.setdefault(name, np.full(shape, np.nan))[i, j] = value
            self.advance(j + 1, len(self.layers))
        return found

    def audit(
        self, untrained: Any, key: jax.Array, a: Any, b: Any
    ) -> dict[str, dict[str, Any]]:
        """Return the audit of least squares and of task loss, by layer and method."""
        found = {}
        for done, layer in enumerate(self.layers):
            found[layer.name] = self._audit(layer, (a, b, untrained), key)
            self.advance(done + 1, len(self.layers))
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
            return self._task_loss.affine(layer, b, b, fit, x, least_squares(x, y))

        def audited(method: Callable) -> dict[str, Any]:
            back = functools.partial(layer.cut.back, b)
            more: Any = {"key": key, "untrained": untrained}
            audit: Any = report.audit_activations(
                method, source, own, back, test.targets, **more
            )
            return {
                "relative_accuracy": float(audit.measures.relative_accuracy),
                "chance": float(audit.chance),
                "r_squared": float(audit.r_squared),
                "distance": float(audit.distance.mean),
                "own_distance": float(audit.distance.own_mean),
                "distance_auroc": float(audit.distance.auroc),
                "energy_auroc": float(audit.energy.auroc),
                "controls": {
                    name: float(getattr(audit.controls, name).relative_accuracy)
                    for name in _CONTROLS
                },
            }

        methods = {LEAST_SQUARES: least_squares, "task loss": by_task_loss}
        return {name: audited(method) for name, method in methods.items()}


def _joined(parts: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *parts)


def _unchanged(activation: jax.Array) -> jax.Array:
    return activation


# Compiled once for each network, layer or shape.


@functools.partial(jax.jit, static_argnums=0)
def _row_scores(network, variables, data):
    return row_scores(network.apply(variables, data.inputs), data.targets)


@functools.partial(jax.jit, static_argnums=0)
def _stitched(layer, b, fit, activation, seen):
    """Logits, and distances of mapped activations from network b's own."""
    mapped = fit(activation)
    distances = report.per_image(report.mahalanobis(mapped, seen))
    return layer.cut.back(b, mapped), distances


@jax.jit
def _measured(stitched, reference, labels):
    measures = report.measures(stitched[0], reference[0], labels)
    return measures, report.out_of_distribution(stitched[1], reference[1])


_moments = jax.jit(stitching.moments)


@functools.partial(jax.jit, static_argnums=0)
def _back(layer, b, fit, source):
    return layer.cut.back(b, fit(source))


def _of_moments(moments):
    return _compiled_indices(moments) | {
        "matched correlation": similarity.matched_correlation(moments)
    }


@jax.jit
def _compiled_indices(moments):
    return {
        "CKA": similarity.cka(moments),
        "CCA": similarity.cca(moments),
        "SVCCA": similarity.svcca(moments),
        "PWCCA": similarity.pwcca(moments),
        "linear regression": similarity.linear_regression(moments),
        "1 − Procrustes distance": 1 - similarity.procrustes(moments),
        "1 − shape distance, whitened": (
            1 - similarity.shape_distance(moments, alpha=0) / (np.pi / 2)
        ),
        "highest correlation": similarity.max_correlation(moments),
    }


@jax.jit
def _of_images(x, y):
    neighbours = min(10, len(x) - 1)
    return {
        "CKA, images": similarity.cka(x, y),
        "debiased CKA, images": similarity.cka(x, y, debiased=True),
        "CKA of RBF kernels, images": similarity.cka(x, y, kernel=similarity.RBF()),
        "RSA, images": similarity.rsa(x, y),
        "RSA of distances, images": similarity.rsa(
            x, y, distance=similarity.euclidean_distance, compare=similarity.pearson
        ),
        "mutual neighbours, images": similarity.mutual_neighbours(x, y, k=neighbours),
    }
