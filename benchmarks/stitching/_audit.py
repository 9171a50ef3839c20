"""Whether stitches may be believed: the library's audit, of two ways of matching."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

import stitching
from benchmarks.networks import Data
from benchmarks.stitching._layers import Layer
from benchmarks.stitching._task_loss import TaskLoss
from stitching import report

METHODS = ("least squares", "task loss")
CONTROLS = ("self_stitch", "shuffled", "noise", "untrained")


class Networks(NamedTuple):
    """Network 1, network 2, and network 1 as it was never trained."""

    one: Any
    two: Any
    untrained: Any


def audits(
    layer: Layer,
    networks: Networks,
    fit: Data,
    test: Data,
    task_loss: TaskLoss,
    key: jax.Array,
) -> dict[str, dict[str, Any]]:
    """The audit of least squares and of task loss at a layer.

    Args:
      layer: Where they are stitched.
      networks: Their variables.
      fit: Rows that maps are fitted on.
      test: Rows that they are scored on.
      task_loss: Trains maps.
      key: Of the controls.

    Returns:
      For each of `METHODS` "r_squared", "distance" and "own_distance" (Mahalanobis),
      "distance_auroc", "energy_auroc", "chance", and "controls": relative accuracies.
    """
    source, own, untrained = (
        tuple(layer.cut.front(variables, data.inputs) for data in (fit, test))
        for variables in networks
    )

    def least_squares(x, y):
        return stitching.least_squares(stitching.moments(x, y))

    def by_task_loss(x, y):
        start = stitching.least_squares(stitching.moments(x, y))
        return task_loss.affine(layer, networks.two, fit, x, start)

    methods: tuple[Callable[[Any, Any], Any], ...] = (least_squares, by_task_loss)
    return {
        name: _numbers(
            report.audit(
                method,
                source,
                own,
                lambda activation: layer.cut.back(networks.two, activation),
                test.targets,
                key=key,
                untrained=untrained,
            )
        )
        for name, method in zip(METHODS, methods, strict=True)
    }


def _numbers(audit: report.Audit) -> dict[str, Any]:
    controls = {
        name: float(getattr(audit.controls, name).relative_accuracy)
        for name in CONTROLS
    }
    return {
        "relative_accuracy": float(audit.measures.relative_accuracy),
        "chance": float(audit.chance),
        "r_squared": float(audit.r_squared),
        "distance": float(audit.distance.mean),
        "own_distance": float(audit.distance.own_mean),
        "distance_auroc": float(audit.distance.auroc),
        "energy_auroc": float(audit.energy.auroc),
        "controls": controls,
    }
