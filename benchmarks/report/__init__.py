"""Figures and a web page from the numbers of a run, without running anything again."""

import os
from pathlib import Path
from typing import Any

from benchmarks.report._differences import differences
from benchmarks.report._figure import Figure, Panel, png
from benchmarks.report._findings import findings
from benchmarks.report._law import laws, responses
from benchmarks.report._learning_curves import learning_curves
from benchmarks.report._page import page
from benchmarks.report._sensitivity import sensitivity
from benchmarks.report._style import label
from benchmarks.report._tables import table
from benchmarks.runs import RunError, read_result, write_atomically

__all__ = ["Figure", "Panel", "figures", "findings", "label", "table", "write"]


def figures(result: dict[str, Any]) -> list[Figure]:
    """The figures of an optimizer comparison, those for which there are numbers."""
    law_figures = [laws(result), responses(result)]
    return [
        learning_curves(result),
        *differences(result),
        sensitivity(result),
        *(figure for figure in law_figures if figure is not None),
    ]


def write(folder: str | os.PathLike[str]) -> Path:
    """Writes a finished run's figures as PNG and `report.html` into its folder.

    Args:
        folder: a run folder that holds `result.json`.

    Returns:
        The path of `report.html`.

    Raises:
        RunError: if there is no result, it is damaged or not a comparison's, or the
            folder cannot be written.
    """
    result = read_result(folder)
    if "methods" not in result:
        raise RunError(
            f"{folder} holds a run of {result['experiment']!r}, which has no figures; "
            f"its numbers are in result.json, and as a table by\n  {result['command']}"
        )
    drawn = figures(result)
    for figure in drawn:
        write_atomically(Path(folder) / f"{figure.name}.png", png(figure))
    report = Path(folder) / "report.html"
    write_atomically(report, page(result, drawn))
    return report
