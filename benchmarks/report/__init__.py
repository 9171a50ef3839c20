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
from benchmarks.report._figure import Figure, draw
from benchmarks.report._page import Page, Section, Table, render
from benchmarks.runs import Result, RunError, read, write_atomically

__all__ = [
    "Figure",
    "Page",
    "Section",
    "Table",
    "compare",
    "draw",
    "page",
    "plots",
    "render",
    "write",
    "write_comparison",
]

_PAGES = {
    "rllc": _rllc.page,
    "tour": _tour.page,
    "combinability": _combinability.page,
    "stitching": _stitching.page,
}


def page(result: Result) -> Page:
    """What the page of a result says.

    Raises:
        RunError: if results of its experiment have no page.
    """
    if result.experiment not in _PAGES:
        raise RunError(
            f"a run of {result.experiment!r} has no figures; its numbers are in "
            f"result.json, and as a table by\n  {result.command}"
        )
    return _PAGES[result.experiment](result)


def write(folder: str | os.PathLike[str], formats: Sequence[str] = ("png",)) -> Path:
    """Write a finished run's figures and `report.html` into its folder.

    Args:
        folder: a run folder that holds `result.json`.
        formats: of the figures: "png", "svg", "pdf".

    Returns:
        The path of `report.html`.

    Raises:
        RunError: if there is no result, it is damaged or has no page, or the folder
            cannot be written.
    """
    result = read(folder)
    return _write(page(result), Path(folder) / "report.html", formats, result)


def write_comparison(
    folders: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    formats: Sequence[str] = (),
) -> Path:
    """Compare finished runs of one experiment and write `comparison.html`.

    Args:
        folders: two or more run folders.
        out: the folder to write to; by default the first of them.
        formats: of the figures as files: "png", "svg", "pdf".

    Returns:
        The path of `comparison.html`.

    Raises:
        RunError: if a run has no result, the runs are of several experiments, one is
            there twice, or the page cannot be written.
    """
    found = compare(folders)
    path = Path(folders[0] if out is None else out) / "comparison.html"
    return _write(found, path, formats)


def compare(folders: Sequence[str | os.PathLike[str]]) -> Page:
    """What the page of a comparison says; see `write_comparison`."""
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
    return _comparison.page(runs)


def _write(found: Page, path: Path, formats: Sequence[str], result: Any = None) -> Path:
    prefix = "" if result else f"{path.stem}_"
    for figure in found.figures:
        for format in formats:
            file = path.with_name(f"{prefix}{figure.name}.{format}")
            write_atomically(file, draw(figure, format))
    write_atomically(path, render(found, result))
    return path
