"""Figures and a web page from the numbers of a run, without running anything again."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report._comparison import Comparison, compare, comparison_page
from benchmarks.report._figure import Figure, Panel, png
from benchmarks.report._findings import findings
from benchmarks.report._numbers import with_interval
from benchmarks.report._page import content, page
from benchmarks.report._style import label
from benchmarks.report._tables import table
from benchmarks.report._tour import Chapter, chapters
from benchmarks.runs import RunError, read_result, write_atomically

__all__ = [
    "Chapter",
    "Comparison",
    "Figure",
    "Panel",
    "chapters",
    "figures",
    "findings",
    "has_figures",
    "label",
    "table",
    "with_interval",
    "write",
    "write_comparison",
]


def figures(result: dict[str, Any]) -> list[Figure]:
    """The figures of a result, those for which there are numbers."""
    return content(result).figures(result)


def has_figures(folder: str | os.PathLike[str]) -> bool:
    """Whether a finished run is of an experiment that is drawn."""
    return bool({"methods", "widths", "stitches"} & read_result(folder).keys())


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
    if not has_figures(folder):
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


def write_comparison(
    folders: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
) -> tuple[Comparison, Path]:
    """Compares finished runs of one experiment and writes `comparison.html`.

    Args:
        folders: two or more run folders.
        out: the folder to write to; by default the first of them.

    Returns:
        The comparison, and the path of its page.

    Raises:
        RunError: if a run has no result, the runs are of several experiments, one is
            there twice, or the page cannot be written.
    """
    places = [Path(folder).resolve() for folder in folders]
    if len(set(places)) < max(2, len(places)):
        raise RunError(
            f"expected two or more different run folders to compare, got "
            f"{', '.join(map(str, folders)) or 'none'}"
        )
    names = [place.name for place in places]
    if len(set(names)) < len(names):
        names = [str(place) for place in places]
    runs = dict(zip(names, map(read_result, folders), strict=True))
    experiments = list(dict.fromkeys(run["experiment"] for run in runs.values()))
    if len(experiments) > 1:
        raise RunError(
            f"expected runs of one experiment to compare, got {', '.join(experiments)}"
        )
    compared = compare(runs)
    page = Path(folders[0] if out is None else out) / "comparison.html"
    write_atomically(page, comparison_page(compared, experiments[0]))
    return compared, page
