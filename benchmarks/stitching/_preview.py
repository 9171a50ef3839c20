"""Two networks, stitched at every layer, in seconds: for the tour."""

from typing import Any

from benchmarks.combinability._studies import Study
from benchmarks.configs.stitching import Config
from benchmarks.networks import Advance, Task, quiet
from benchmarks.stitching import _summary
from benchmarks.stitching._maps import TASK, Map, main_maps
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


def preview(pair: tuple[Task, Study], advance: Advance = quiet) -> dict[str, Any]:
    """Stitch one network to another at every layer."""
    task, study = pair
    a, b = study.variables
    studies = Studies(CONFIG, task)
    found, cka = {}, {}
    for place, layer in enumerate(studies.layers):
        seen, held_out = (moments[place] for moments in studies.moments(a, b))
        maps = main_maps(seen)
        maps.append(Map(studies.affine(layer, a, b, maps[0].fit), TASK, "affine"))
        scores = studies.scores(layer, a, b, maps)
        found[layer.name] = _summary.stitches([(0, 1)], [scores])
        cka[layer.name] = float(similarity.cka(held_out))
        advance(place + 1, len(studies.layers))
    accuracies = [studies.own_scores(each)["test_accuracy"] for each in (a, b)]
    return {"test_accuracy": accuracies, "stitches": found, "CKA": cka}
