"""Run folders: what a run was asked, what it has finished, and its result.

A run folder holds

======================  ==========================================================
`run.json`              what was asked, and on what it runs (written first)
`stages/NAME.json`      the value of one finished stage
`checkpoints/NAME.npz`  the training of the stage under way; gone when all is finished
`result.json`           every number (written last)
`*.png`                 a comparison's figures, and `report.html`, which shows them
======================  ==========================================================

Every file is written under another name and then renamed, so a file that is there is
whole. A run that was stopped, by Ctrl-C, a crash or a power cut, goes on from its
checkpoint when the same command is given again, and ends with the same result.

`benchmarks.runs.schema` says, as data, what is in a `result.json`.
"""

from benchmarks.runs import _schema as schema
from benchmarks.runs._files import RunError, read_json, write_atomically
from benchmarks.runs._result import read_result
from benchmarks.runs._run import Run

__all__ = [
    "Run",
    "RunError",
    "read_json",
    "read_result",
    "schema",
    "write_atomically",
]
