"""The tour in miniature, in a process of its own, for `test_killed_commands`.

Its sizes are those of `test_tour`; its arguments those of `python -m benchmarks tour`.
"""

import dataclasses
import sys

import benchmarks.__main__ as command_line
import benchmarks.combinability._preview as preview
from benchmarks import tour
from benchmarks.combinability import Config

SIZES = {"methods": ("sgd", "rllc"), "trials": 2, "seeds": 2, "curve_rows": 100}
SIZES |= {"steps": 40, "evaluations": 4, "batch_size": 32}
PAIR = Config(networks=2, steps=60, rows=40, calibration=20, samples=40)

if __name__ == "__main__":
    tour.CONFIG = dataclasses.replace(tour.CONFIG, **SIZES)
    preview.CONFIG, preview.WIDTH = PAIR, 8
    sys.exit(command_line.main(["tour", *sys.argv[1:]]))
