"""A taste of combinability: two networks, a thousand combinations, in seconds."""

from collections.abc import Callable
from typing import Any

import jax

import combinability
from benchmarks import data, training
from benchmarks.combinability._config import Config
from benchmarks.combinability._hypercube import CELLS, run_cell
from benchmarks.combinability._networks import network, train_networks
from benchmarks.combinability._scoring import make_judge

WIDTH = 256
CONFIG = Config(
    networks=2, steps=300, rows=300, calibration=100, samples=1000, batch=16
)
_NAMES = ("uniform [0, 1], element", "uniform [0, 1], element, not matched")


def taste(
    dataset: data.Dataset, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Trains two networks, aligns them, and combines them before and after.

    Args:
      dataset: Images.
      progress: Called as `progress(done, total)`, in combinations.

    Returns:
      "combinability" of a tour, of the schema in `benchmarks.runs`.
    """
    module = network(CONFIG, WIDTH, dataset.classes)
    task = training.make_task(dataset, module)
    judge = make_judge(task, CONFIG.rows, CONFIG.calibration, CONFIG.seed)
    networks, _ = train_networks(CONFIG, task, strategy="vmap")
    a, b = (jax.tree.map(jax.numpy.asarray, variables) for variables in networks)
    example = judge.calibration.inputs[:2]
    symmetry = combinability.infer_symmetry(judge.apply, a, example)
    key = jax.random.key(CONFIG.seed)
    matching = combinability.match(symmetry, a, b, key=key)
    aligned = symmetry.apply(matching.permutation, b)
    scores = jax.jit(judge.scores)
    parents = [{m: float(v) for m, v in scores(x).items()} for x in (a, b)]
    cube = {
        cell.name: run_cell(
            cell,
            judge,
            symmetry,
            [(0, 1)],
            lambda i, j: (a, b, aligned),
            parents,
            CONFIG.samples,
            CONFIG.batch,
            key,
            progress,
        )
        for cell in CELLS
        if cell.name in _NAMES
    }
    return {
        "width": WIDTH,
        "symmetry": str(symmetry),
        "starts": dict(matching.starts or {}),
        "parents": parents,
        "hypercube": cube,
    }
