"""The tour's page: one story in chapters, each with a number and what it rests on."""

import itertools
from functools import partial
from typing import Any

import numpy as np

import stitching.plot
from benchmarks.report import _combinability, _page, _rllc, _stitching
from benchmarks.report._figure import TEXTS, figure, panel
from benchmarks.report._numbers import fixed, percent, power
from benchmarks.report._page import Page, Section
from benchmarks.report._style import INK

_MAIN = ("learning_curves", "laws", "differences_validation_loss")
Chapter = tuple[tuple[str, str], list[Section]]  # a headline; sections


def page(result: Any) -> Page:
    """The page of a tour."""
    headlines, sections = [], []
    for number, chapter in enumerate((_train, _symmetry, _combine, _stitch), 1):
        headline, (first, *details) = chapter(result)
        headlines.append(headline)
        sections += [first._replace(title=f"{number}. {first.title}"), *details]
    return _page.page(
        result, sections, headlines=headlines, spent=f"{result.seconds:.0f}"
    )


def _text(chapter: str, **values: Any) -> list[str]:
    return [TEXTS["pages"]["tour"][chapter].format(**values)]


def _train(result: Any) -> Chapter:
    limits = TEXTS["pages"]["rllc"]["limits"]
    sections = [*_rllc.sections(result), Section(_page.LIMITS, bullets=limits)]
    numbers = _rllc.headlines(result)
    own = [number for number in numbers if "initial law frozen" in number[1]]
    every = [figure for section in sections for figure in section.figures]
    figures = [figure for figure in every if figure.name in _MAIN]
    said = [*itertools.chain(*_rllc.findings(result).values())]
    details = []
    for section in sections:
        title = f"Training: {section.title.lower()}"
        rest = [figure for figure in section.figures if figure.name not in _MAIN]
        if rest or section.tables or section.bullets:
            details.append(section._replace(title=title, figures=rest, folded=True))
    first = Section("Train", _text("train", **result.config), said, figures)
    return (own or numbers)[0], [first, *details]


def _symmetry(result: Any) -> Chapter:
    found = result.combinability
    many = power(round(found.log10_equivalent))
    said = _text("equivalent", many=many)
    number = (many, "arrangements of the units of one network, all the same function")
    section = Section("Symmetry", _text("symmetry"), said, code=found.symmetry)
    return number, [section]


def _combine(result: Any) -> Chapter:
    found = result.combinability
    parents = [percent(scores["test_error"]) for scores in found.parents]
    said = []
    for each in found.hypercube.values():
        said += _text(
            "combined",
            start="Matched" if each.cell.aligned else "As they are",
            distribution=each.cell.distribution,
            half=percent(each.test_error.percentiles[50]),
            most=percent(each.test_error.percentiles[95]),
            parents=" and ".join(parents),
        )
    text = "median test error of random combinations, before → after alignment"
    number = (_combinability.middles(found.hypercube), text)
    figures = [_combinability.hypercube({"": found}, "combinations")]
    return number, [Section("Align and combine", _text("combine"), said, figures)]


def _stitch(result: Any) -> Chapter:
    found, names = result.stitching, (_stitching.LEAST_SQUARES, _stitching.TASK_LOSS)
    said = []
    for layer, maps in found.stitches.items():
        fitted, trained = (percent(maps[n].relative_accuracy.mean) for n in names)
        values = {"layer": layer, "fitted": fitted, "trained": trained}
        said += _text("stitched", **values, cka=fixed(found.CKA[layer], 2))
    worst = [fixed(_stitching.worst(found.stitches, name)[1], 0) for name in names]
    number = (f"{' and '.join(worst)} %", _text("worst")[0])
    layers = [*map(_stitching.short, found.CKA)]
    values = np.array(list(found.CKA.values()))
    similarity = partial(stitching.plot.over_layers, values, layers, color=INK)
    panels = [
        _stitching.lines("stitched", found.stitches, "relative_accuracy"),
        panel("similarity", similarity),
    ]
    section = Section("Stitch", _text("stitch"), said, [figure("stitches", panels)])
    return number, [section]
