"""Two networks, stitched at every layer, in seconds: for the tour."""

from collections.abc import Callable
from typing import Any

import stitching
from benchmarks.combinability import TrainedPair
from benchmarks.stitching._config import Config
from benchmarks.stitching._layers import Fronts, find_layers
from benchmarks.stitching._maps import DIRECT, TASK, Map
from benchmarks.stitching._rows import choose_rows
from benchmarks.stitching._scoring import Judge, own_scores
from benchmarks.stitching._summary import stitches
from benchmarks.stitching._task_loss import TaskLoss
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
    pair: TrainedPair, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Stitch one network to another at every layer.

    Args:
      pair: The networks.
      progress: Called as `progress(done, total)`, in layers.

    Returns:
      The fields of a `Preview`.
    """
    task, (a, b) = pair.task, pair.networks.variables
    rows, layers = choose_rows(CONFIG, task), find_layers(CONFIG, task)
    fronts, judge = Fronts(layers), Judge(layers, rows.test)
    every_seen = fronts.moments(a, b, rows.fit)
    every_held_out = fronts.moments(a, b, rows.test)
    task_loss = TaskLoss(CONFIG, task.network.apply)
    found, cka = {}, {}
    for place, layer in enumerate(layers):
        seen, held_out = every_seen[place], every_held_out[place]
        maps = [
            Map(stitching.least_squares(seen), DIRECT, "least squares"),
            Map(stitching.orthogonal(seen), DIRECT, "Procrustes"),
            Map(stitching.permutation(seen), DIRECT, "permutation"),
        ]
        activation = layer.cut.front(a, rows.fit.inputs)
        trained = task_loss.affine(layer, b, rows.fit, activation, maps[0].fit)
        maps.append(Map(trained, TASK, "affine"))
        scores = judge.scores(layer, a, b, maps, seen, held_out)
        found[layer.name] = stitches([(0, 1)], [scores])
        cka[layer.name] = float(similarity.cka(held_out))
        if progress:
            progress(place + 1, len(layers))
    own = [own_scores(task.network.apply, each, rows.test) for each in (a, b)]
    accuracies = [scores["test_accuracy"] for scores in own]
    return {"test_accuracy": accuracies, "stitches": found, "CKA": cka}
