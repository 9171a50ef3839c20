"""The stages of the tour: optimizers compared; two networks combined and stitched."""

import functools
import os

from benchmarks import combinability, data, models, rllc, stitching
from benchmarks.networks import make_task
from benchmarks.rllc._experiment import STAGES, compare
from benchmarks.runs import Progress, Run
from benchmarks.tour._result import Result

# As many seeds as trials: both then run in one compiled program.
CONFIG = rllc.Config(
    methods=("sgd", "momentum", "adam", "rllc", "rllc_adam"),
    trials=6,
    seeds=6,
    steps=300,
    evaluations=15,
)


def run(
    config: rllc.Config = CONFIG,
    *,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Train small networks on digits, with RLLC and others; combine and stitch two.

    Args:
      config: The comparison.
      folder: The run folder.
      progress: What is told of stages.
    """
    here = Run("tour", config, folder, progress)
    here.expect(STAGES * len(config.methods) + 2)
    dataset = data.load(config.dataset)
    task = make_task(dataset, models.build(config.model, dataset))
    found = compare(config, here, task)
    # Trained in seconds, always to the same networks: not kept.
    pair = functools.cache(lambda: combinability.train_pair(dataset))
    combined = here.stage(
        "combine", lambda: combinability.preview(pair(), here.advance)
    )
    stitched = here.stage("stitch", lambda: stitching.preview(pair(), here.advance))
    return here.finish(Result, **found, combinability=combined, stitching=stitched)
