"""Figures and a web page from the numbers of a run, without running anything again."""

import os
from pathlib import Path
from typing import Any

from benchmarks.report._combinability import with_interval
from benchmarks.report._figure import Figure, Panel, png
from benchmarks.report._findings import findings
from benchmarks.report._page import content, page
from benchmarks.report._style import label
from benchmarks.report._tables import table
from benchmarks.report._tour import Chapter, chapters
from benchmarks.runs import RunError, read_result, write_atomically

__all__ = [
    "Chapter",
    "Figure",
    "Panel",
    "chapters",
    "figures",
    "findings",
    "label",
    "table",
    "with_interval",
    "write",
]


def figures(result: dict[str, Any]) -> list[Figure]:
    """The figures of a result, those for which there are numbers."""
    return content(result).figures(result)


def write(folder: str | os.PathLike[str]) -> Path:
    """Writes a finished run's figures as PNG and `report.html` into its folder.

    Args:
        folder: a run folder that holds `result.json`.

    Returns:
        The path of `report.html`.

    Raises:
        RunError: if there is no result, it is damaged or has no figures, or the
            folder cannot be written.
    """
    result = read_result(folder)
    if not {"methods", "widths"} & result.keys():
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
