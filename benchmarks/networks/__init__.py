"""What experiments on trained networks share: training, files, intervals, verdicts."""

from benchmarks.networks._files import load_networks, save_networks
from benchmarks.networks._module import module_of
from benchmarks.networks._read import read_networks
from benchmarks.networks._scores import scores_of
from benchmarks.networks._statistics import interval_of, over_networks
from benchmarks.networks._train import Training, train_networks
from benchmarks.networks._verdict import judged

__all__ = [
    "Training",
    "interval_of",
    "judged",
    "load_networks",
    "module_of",
    "over_networks",
    "read_networks",
    "save_networks",
    "scores_of",
    "train_networks",
]
