"""Two networks, combined before and after their alignment, in seconds: for the tour."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import combinability
import rllc
from benchmarks import data
from benchmarks.combinability import _studies
from benchmarks.combinability._config import Config
from benchmarks.combinability._experiment import training_of
from benchmarks.combinability._metrics import make_metrics
from benchmarks.networks import Task, make_task, model_of, train_networks

WIDTH = 256
CONFIG = Config(networks=2, steps=300, rows=300, calibration=100, samples=1000)
_CELLS = ("uniform [0, 1], element, not matched", "uniform [0, 1], element")


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedPair:
    """Two networks that differ in their seed alone, and how they are matched.

    Attributes:
      task: What they were trained on.
      networks: The networks and their metrics.
      matching: The second towards the first.
    """

    task: Task
    networks: _studies.Networks
    matching: combinability.Matching


def train_pair(dataset: data.Dataset) -> TrainedPair:
    """Train two MLPs with `rllc_adam` and match them by their weights.

    Args:
      dataset: Images.

    Returns:
      The pair; the same for the same dataset.
    """
    task = make_task(dataset, model_of(CONFIG, WIDTH, dataset))
    metrics = make_metrics(task, CONFIG.rows, CONFIG.calibration, CONFIG.seed)
    trained, _ = train_networks(
        training_of(CONFIG), task, scaling=rllc.scale_by_rllc_adam
    )
    variables = [jax.tree.map(jnp.asarray, network) for network in trained]
    scores = _studies.scores(metrics, variables)
    key = jax.random.key(CONFIG.seed)
    networks = _studies.Networks(metrics, variables, scores, key)
    matching = combinability.match(networks.symmetry, *variables, key=key)
    networks.permutations[0, 1] = matching.permutation
    return TrainedPair(task, networks, matching)


def preview(
    pair: TrainedPair, advance: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Combine two networks at random, before and after their alignment.

    Args:
      pair: The networks.
      advance: Called as `advance(done, total)`, in combinations.

    Returns:
      The fields of a `Preview`.
    """
    networks, samples = pair.networks, CONFIG.samples
    cells = {cell.name: cell for cell in _studies.CELLS if cell.name in _CELLS}
    cube = {}
    for place, name in enumerate(_CELLS):

        def shown(done: int, total: int, place: int = place) -> None:
            advance(place * total + done, len(_CELLS) * total)

        cube[name] = _studies.combine(
            networks, [(0, 1)], cells[name], samples, networks.key, shown
        )
    return {
        "width": WIDTH,
        "symmetry": str(networks.symmetry),
        "log10_equivalent": _log10_equivalent(networks.symmetry),
        "starts": dict(pair.matching.starts or {}),
        "parents": networks.scores,
        "hypercube": cube,
    }


def _log10_equivalent(symmetry: combinability.Symmetry) -> float:
    """Of the number of permutations, each of which computes the same function."""
    indices = combinability.permutations.identity(symmetry).values()
    blocks = [(index.size // index.shape[-1], index.shape[-1]) for index in indices]
    return sum(n * math.lgamma(size + 1) for n, size in blocks) / math.log(10)
