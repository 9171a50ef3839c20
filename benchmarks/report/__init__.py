"""Figures and a web page from the numbers of a run, without running anything again."""

import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import (
    _combinability,
    _comparison,
    _rllc,
    _rllc_comparison,
    _speed_comparison,
    _stitching,
    _stitching_comparison,
    _tour,
    plots,
)
from benchmarks.report._figure import draw
from benchmarks.report._page import Page, render
from benchmarks.runs import Result, RunError, read, write_atomically

__all__ = [
    "Page",
    "compare",
    "draw",
    "page",
    "plots",
    "render",
    "write",
]

_PAGES = {
    "rllc": _rllc.page,
    "tour": _tour.page,
    "combinability": _combinability.page,
    "stitching": _stitching.page,
}
_COMPARISONS = {
    "rllc": _rllc_comparison.COMPARISON,
    "tour": _rllc_comparison.COMPARISON,
    "combinability": _combinability.COMPARISON,
    "stitching": _stitching_comparison.COMPARISON,
    "speed rllc": _speed_comparison.COMPARISON,
    "speed combinability": _speed_comparison.COMPARISON,
    "speed stitching": _speed_comparison.COMPARISON,
}
_Folder = str | os.PathLike[str]


def page(result: Result) -> Page:
    """Return what the page of a result says; not every experiment has one."""
    if result.experiment not in _PAGES:
        raise RunError(
            f"a run of {result.experiment!r} has no figures; its numbers are in "
            f"result.json, and as a table by\n  {result.command}"
        )
    return _PAGES[result.experiment](result)


def compare(folders: Sequence[_Folder]) -> Page:
    """Return what the page of a comparison of finished runs says."""
    places = [Path(folder).resolve() for folder in folders]
    if len(set(places)) < max(2, len(places)):
        raise RunError(
            f"expected two or more different run folders to compare, got "
            f"{', '.join(map(str, folders)) or 'none'}"
        )
    names = [place.name for place in places]
    if len(set(names)) < len(names):
        names = [str(place) for place in places]
    runs = dict(zip(names, map(read, folders), strict=True))
    experiments = list(dict.fromkeys(run.experiment for run in runs.values()))
    if len(experiments) > 1:
        raise RunError(
            f"expected runs of one experiment to compare, got {', '.join(experiments)}"
        )
    return _comparison.page(runs, _COMPARISONS[experiments[0]])


def write(
    *folders: _Folder, out: _Folder | None = None, formats: Sequence[str] = ("png",)
) -> Path:
    """Write the figures and the page of a finished run, or compare several.

    Args:
        *folders: run folders that hold `result.json`, of one experiment.
        out: the folder for the page and figures; by default the first run's.
        formats: of the figures as files: "png", "svg", "pdf".

    Returns:
        The path of the page, `report.html` or `comparison.html`.

    Raises:
        RunError: if there is no result, it is damaged or has no page, runs cannot be
            compared, or the page cannot be written.
    """
    result = read(folders[0]) if len(folders) == 1 else None
    found = page(result) if result else compare(folders)
    path = Path(out or folders[0]) / ("report.html" if result else "comparison.html")
    for figure in found.figures:
        name = figure.name if result else f"comparison_{figure.name}"
        for format in formats:
            write_atomically(path.with_name(f"{name}.{format}"), draw(figure, format))
    write_atomically(path, render(found, result))
    return path
