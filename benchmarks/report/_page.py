"""The page of a result: which sections it has follows from the experiment."""

from typing import Any

from benchmarks.report import _combinability, _optimizers, _stitching, _tour
from benchmarks.report._document import document
from benchmarks.report._figure import Figure


def content(result: dict[str, Any]) -> Any:
    """The module that knows what a report of this experiment says."""
    if result["experiment"] == "tour":
        return _tour
    if "stitches" in result:
        return _stitching
    return _combinability if "widths" in result else _optimizers


def page(result: dict[str, Any], figures: list[Figure]) -> str:
    """The report of a result as a self-contained HTML page."""
    told = content(result)
    sections = told.sections(result, figures)
    return document(result, told.title(result), told.subtitle(result), sections)
