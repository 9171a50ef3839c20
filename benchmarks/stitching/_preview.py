"""Two networks, stitched at every layer, in seconds: for the tour."""

from collections.abc import Callable
from typing import Any

import stitching
from benchmarks.combinability import TrainedPair
from benchmarks.stitching import _summary
from benchmarks.stitching._config import Config
from benchmarks.stitching._maps import DIRECT, LEAST_SQUARES, TASK, Map
from benchmarks.stitching._studies import Studies
from stitching import similarity

# Least squares is near to what labels can teach: small steps from there.
CONFIG = Config(
    model="mlp",
    steps=100,
    learning_rate=1e-3,
    fit_rows=1000,
    test_rows=300,
)


def preview(
    pair: TrainedPair, advance: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Stitch one network to another at every layer.

    Args:
      pair: The networks.
      advance: Called as `advance(done, total)`, in layers.

    Returns:
      The fields of a `Preview`.
    """
    a, b = pair.networks.variables
    studies = Studies(CONFIG, pair.task)
    found, cka = {}, {}
    every_seen, every_held_out = studies.moments(a, b)
    for place, layer in enumerate(studies.layers):
        seen = every_seen[place]
        maps = [
            Map(stitching.least_squares(seen), DIRECT, LEAST_SQUARES),
            Map(stitching.orthogonal(seen), DIRECT, "Procrustes"),
            Map(stitching.permutation(seen), DIRECT, "permutation"),
        ]
        trained = studies.affine(layer, a, b, maps[0].fit)
        maps.append(Map(trained, TASK, "affine"))
        scores = studies.scores(layer, a, b, maps)
        found[layer.name] = _summary.stitches([(0, 1)], [scores])
        cka[layer.name] = float(similarity.cka(every_held_out[place]))
        advance(place + 1, len(studies.layers))
    accuracies = [studies.own_scores(each)["test_accuracy"] for each in (a, b)]
    return {"test_accuracy": accuracies, "stitches": found, "CKA": cka}
