"""Two networks, combined before and after their alignment, in seconds: for the tour."""

import math
from typing import Any

import jax
import jax.numpy as jnp

import combinability
import rllc
from benchmarks import data
from benchmarks.combinability import _studies
from benchmarks.configs.combinability import Config
from benchmarks.networks import (
    Advance,
    Task,
    configured_task,
    quiet,
    train_networks,
)

WIDTH = 256
CONFIG = Config(
    networks=2, steps=300, rows=300, calibration=100, samples=1000, repaired=0
)
_CELLS = ("uniform [0, 1], element, not matched", "uniform [0, 1], element")


def train_pair(dataset: data.Dataset) -> tuple[Task, _studies.Study]:
    """Train two MLPs with `rllc_adam`, the same ones for the same dataset of images."""
    task = configured_task(CONFIG, dataset, width=WIDTH)
    metrics = _studies.make_metrics(task, CONFIG.rows, CONFIG.calibration, CONFIG.seed)
    trained, _ = train_networks(
        task,
        CONFIG.networks,
        steps=CONFIG.steps,
        batch_size=CONFIG.batch_size,
        learning_rate=CONFIG.learning_rate,
        rows=CONFIG.rows,
        scaling=rllc.scale_by_rllc_adam,
    )
    variables = [jax.tree.map(jnp.asarray, network) for network in trained]
    return task, _studies.Study(CONFIG, metrics, variables, jax.random.key(CONFIG.seed))


def preview(
    pair: tuple[Task, _studies.Study], advance: Advance = quiet
) -> dict[str, Any]:
    """Combine two networks at random, before and after their alignment by weights."""
    study, samples = pair[1], CONFIG.samples
    matching = combinability.match(study.symmetry, *study.variables, key=study.key)
    study.permutations[0, 1] = matching.permutation
    study.scores = study.parents()
    cells = {cell.name: cell for cell in _studies.CELLS if cell.name in _CELLS}
    cube = {}
    for place, name in enumerate(_CELLS):
        study.advance = lambda done, _, place=place: advance(
            place * samples + done, len(_CELLS) * samples
        )
        cube[name] = study.combine(cells[name], study.key)
    return {
        "width": WIDTH,
        "symmetry": str(study.symmetry),
        "log10_equivalent": _log10_equivalent(study.symmetry),
        "starts": dict(matching.starts or {}),
        "parents": study.scores,
        "hypercube": cube,
    }


def _log10_equivalent(symmetry: combinability.Symmetry) -> float:
    """Of the number of permutations, each of which computes the same function."""
    indices = combinability.permutations.identity(symmetry).values()
    blocks = [(index.size // index.shape[-1], index.shape[-1]) for index in indices]
    return sum(n * math.lgamma(size + 1) for n, size in blocks) / math.log(10)
