"""Figures and a web page from the numbers of a run, without running anything again."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import (
    _combinability,
    _comparison,
    _rllc,
    _stitching,
    _tour,
    plots,
)
from benchmarks.report._comparison import Comparison, compare
from benchmarks.report._figure import Figure, Panel, draw
from benchmarks.report._numbers import Interval, interval
from benchmarks.report._page import Page, Section, Table, measured, render
from benchmarks.report._read import read
from benchmarks.report._rllc import table
from benchmarks.report._style import label
from benchmarks.report._tour import Chapter, chapters
from benchmarks.runs import RunError, write_atomically

__all__ = [
    "Chapter",
    "Comparison",
    "Figure",
    "Interval",
    "Page",
    "Panel",
    "Section",
    "Table",
    "chapters",
    "compare",
    "draw",
    "figures",
    "has_figures",
    "interval",
    "label",
    "measured",
    "page",
    "plots",
    "read",
    "render",
    "table",
    "write",
    "write_comparison",
]

_PAGES = {
    "rllc": _rllc.page,
    "tour": _tour.page,
    "combinability": _combinability.page,
    "stitching": _stitching.page,
}


def page(result: Any) -> Page:
    """What the page of a result says."""
    return _PAGES[result.experiment](result)


def figures(result: Any) -> list[Figure]:
    """The figures of a result."""
    return page(result).figures


def has_figures(folder: str | os.PathLike[str]) -> bool:
    """Whether a finished run is of an experiment that has a page."""
    return read(folder).experiment in _PAGES


def write(folder: str | os.PathLike[str], formats: Sequence[str] = ("png",)) -> Path:
    """Write a finished run's figures and `report.html` into its folder.

    Args:
        folder: a run folder that holds `result.json`.
        formats: of the figures: "png", "svg", "pdf".

    Returns:
        The path of `report.html`.

    Raises:
        RunError: if there is no result, it is damaged or has no figures, or the
            folder cannot be written.
    """
    result = read(folder)
    if not has_figures(folder):
        raise RunError(
            f"{folder} holds a run of {result.experiment!r}, which has no figures; "
            f"its numbers are in result.json, and as a table by\n  {result.command}"
        )
    found = page(result)
    for figure in found.figures:
        for format in formats:
            path = Path(folder) / f"{figure.name}.{format}"
            write_atomically(path, draw(figure, format))
    report = Path(folder) / "report.html"
    write_atomically(report, render(found, origin(result), result.command))
    return report


def origin(result: Any) -> dict[str, str]:
    """Where a result comes from."""
    machine, versions = result.machine, result.versions
    return {
        "started": result.started,
        "computing": f"{result.seconds:.0f} s",
        "device": f"{machine.devices} × {machine.device}",
        "processor": f"{machine.cpu}, {machine.cores} cores",
        "versions": ", ".join(f"{name} {v}" for name, v in versions.items()),
        "options": "; ".join(
            f"{name.replace('_', ' ')} "
            f"{', '.join(map(str, value)) if isinstance(value, list) else value}"
            for name, value in result.config.items()
        ),
    }


def write_comparison(
    folders: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    formats: Sequence[str] = (),
) -> tuple[Comparison, Path]:
    """Compare finished runs of one experiment and write `comparison.html`.

    Args:
        folders: two or more run folders.
        out: the folder to write to; by default the first of them.
        formats: of the figures as files: "png", "svg", "pdf".

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
    results = [read(folder) for folder in folders]
    runs = dict(zip(names, results, strict=True))
    experiments = list(dict.fromkeys(run.experiment for run in results))
    if len(experiments) > 1:
        raise RunError(
            f"expected runs of one experiment to compare, got {', '.join(experiments)}"
        )
    compared = compare(runs)
    found = _comparison.page(compared, runs)
    path = Path(folders[0] if out is None else out) / "comparison.html"
    for figure in found.figures:
        for format in formats:
            file = path.with_name(f"comparison_{figure.name}.{format}")
            write_atomically(file, draw(figure, format))
    write_atomically(path, render(found))
    return compared, path
