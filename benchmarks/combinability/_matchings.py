"""Other matchings than by weights: by activations, and straight through.

Where combinations of networks that were matched by weights do not work, this tells
whether the matching is at fault or the networks are.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import combinability
from benchmarks.combinability import _studies
from benchmarks.data import Split
from benchmarks.intervals import Pair, pair_interval
from benchmarks.networks import row_scores
from combinability import permutations

# Calibration rows of a batch.
_BATCH = 100
Find = Callable[[Pair], combinability.Matching]


def matched(study: _studies.Study, name: str, key: jax.Array) -> dict[str, Any]:
    """Return a `Matched` of the pairs of a ring.

    Args:
        study: networks that have been matched by weights.
        name: a name in `MATCHINGS`.
        key: of the combinations that are drawn.
    """
    find, found = MATCHINGS[name](study), {}
    for done, pair in enumerate(study.ring):
        found[pair] = find(pair).permutation
        study.advance(done + 1, len(study.ring))
    moved = [
        permutations.distance(study.permutations[pair], found[pair]) for pair in found
    ]
    other = dataclasses.replace(study, permutations=found)
    return {
        "moved": pair_interval(study.ring, np.asarray(moved)),
        "controls": other.controls(("matched", "matched, repaired")),
        "combinations": other.combine(_studies.UNIFORM, key),
    }


def _batches(study: _studies.Study) -> Iterator[Split]:
    """Batches of one size, of all calibration rows but the last few."""
    rows = study.metrics.calibration
    size = min(_BATCH, len(rows.inputs))
    for start in range(0, len(rows.inputs) - size + 1, size):
        yield rows.taken(slice(start, start + size))


def _by_activations(study: _studies.Study) -> Find:
    inputs = [batch.inputs for batch in _batches(study)]
    apply, example = study.metrics.network.apply, study.variables[0]
    symmetry = combinability.infer_symmetry(apply, example, inputs[0], certify=False)

    def find(pair: Pair) -> combinability.Matching:
        a, b = (study.variables[i] for i in pair)
        return combinability.activation_matching(symmetry, a, b, inputs, key=study.key)

    return find


def _straight_through(study: _studies.Study) -> Find:
    """Starts at the permutation that was found by weights."""
    batches, network = list(_batches(study)), study.metrics.network

    def loss(variables: Any, batch: Split) -> jax.Array:
        if network.has_statistics(variables):  # those of a midpoint are of no network
            logits, _ = network.train(variables, batch.inputs, jax.random.key(0))
        else:
            logits = network.apply(variables, batch.inputs)
        return jnp.mean(row_scores(logits, batch.targets)[0])

    def find(pair: Pair) -> combinability.Matching:
        a, b = (study.variables[i] for i in pair)
        start = study.permutations[pair]
        return combinability.straight_through_matching(
            study.symmetry, loss, a, b, batches, key=study.key, start=start
        )

    return find


MATCHINGS: dict[str, Callable[[_studies.Study], Find]] = {
    "activations": _by_activations,
    "straight_through": _straight_through,
}
