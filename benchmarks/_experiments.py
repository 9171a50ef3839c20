"""The experiments that the command line launches."""

import functools
import os

from benchmarks import combinability, rllc, stitching
from benchmarks._launch import Experiment

Folder = str | os.PathLike[str]


def comparing(config: rllc.Config) -> Experiment:
    """Optimizers, each tuned and then measured."""
    compute = functools.partial(rllc.run_comparison, config)
    total = rllc.STAGES * len(config.methods)
    return Experiment("rllc", config, compute, rllc.is_counted, total)


def combining(
    config: combinability.Config, data_directory: Folder | None = None
) -> Experiment:
    """Networks, aligned and combined.

    Args:
        config: the experiments.
        data_directory: where weights lie that are not found from here.
    """
    compute = functools.partial(
        combinability.run_experiment, config, data_directory=data_directory
    )
    total = combinability.STAGES * len(config.chosen_widths)
    return Experiment("combinability", config, compute, lambda _: True, total)


def joining(
    config: stitching.Config, data_directory: Folder | None = None
) -> Experiment:
    """Networks, stitched in pairs.

    Args:
        config: the experiments.
        data_directory: where weights lie that are not found from here.
    """
    compute = functools.partial(
        stitching.run_experiment, config, data_directory=data_directory
    )
    return Experiment("stitching", config, compute, stitching.is_pair, config.pairs)
