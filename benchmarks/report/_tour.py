"""The tour's page: one story in chapters, each with a number and what it rests on."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import stitching.plot
from benchmarks.report import _combinability, _rllc, _stitching
from benchmarks.report._figure import TEXTS, Figure, figure, panel
from benchmarks.report._numbers import fixed, power
from benchmarks.report._page import Page, Section, asked
from benchmarks.report._style import INK

_TEXTS = TEXTS["pages"]["tour"]


class Chapter(NamedTuple):
    """A part of the story.

    Attributes:
        name: a word.
        title: a few words.
        headline: a number, and what it is.
        lead: what is done, and why one would.
        said: what came out, in sentences.
        figures: what is drawn.
        code: text of fixed width.
        details: further sections.
    """

    name: str
    title: str
    headline: tuple[str, str]
    lead: str
    said: Sequence[str]
    figures: Sequence[Figure] = ()
    code: str = ""
    details: Sequence[Section] = ()


def chapters(result: Any) -> list[Chapter]:
    """The chapters of a tour."""
    parts: list[Callable[[Any], Chapter]] = [_train, _symmetry, _combine, _stitch]
    return [chapter(result) for chapter in parts]


def page(result: Any) -> Page:
    """The page of a tour."""
    config, told, sections = result.config, chapters(result), []
    for number, chapter in enumerate(told, start=1):
        text = ([chapter.lead], chapter.said, chapter.figures)
        title = f"{number}. {chapter.title}"
        sections += [Section(title, *text, code=chapter.code), *chapter.details]
    return Page(
        **asked("tour"),
        subtitle=f"Real data ({config['dataset']}), small networks, {config['steps']} "
        f"steps of {config['batch_size']}; {result.seconds:.0f} s of computing",
        headlines=[chapter.headline for chapter in told],
        sections=[
            *sections,
            Section("What this does not show", bullets=_TEXTS["limits"]),
        ],
    )


def _train(result: Any) -> Chapter:
    found, config = _rllc.page(result), result.config
    numbers = _rllc.headlines(result)
    own = [number for number in numbers if "initial law frozen" in number[1]]
    main = ("learning_curves", "laws", "differences_validation_loss")
    details = [
        section._replace(
            title=f"Training: {section.title.lower()}",
            figures=[figure for figure in section.figures if figure.name not in main],
            folded=True,
        )
        for section in found.sections
    ]
    return Chapter(
        "train",
        "Train",
        (own or numbers)[0],
        _TEXTS["train"].format(trials=config["trials"], seeds=config["seeds"]),
        [*found.held, *found.failed, *found.undecided],
        [figure for figure in found.figures if figure.name in main],
        details=[
            each for each in details if each.figures or each.tables or each.bullets
        ],
    )


def _symmetry(result: Any) -> Chapter:
    many = power(round(result.combinability.log10_equivalent))
    said = [
        f"Each network is one of {many} that compute the same function, so two "
        "training runs that found the same function may look nothing alike."
    ]
    number = (many, "arrangements of the units of one network, all the same function")
    code = result.combinability.symmetry
    return Chapter("symmetry", "Symmetry", number, _TEXTS["symmetry"], said, code=code)


def _combine(result: Any) -> Chapter:
    found = result.combinability
    parents = [fixed(100 * scores["test_error"], 1) for scores in found.parents]
    said = [
        f"{'Matched' if cell.cell.aligned else 'As they are'}: half of the "
        f"{cell.cell.distribution} combinations have a test error of at most "
        f"{fixed(100 * cell.test_error.percentiles[50], 1)} %, 95 of 100 of at most "
        f"{fixed(100 * cell.test_error.percentiles[95], 1)} %; the networks have "
        f"{' and '.join(parents)} %."
        for cell in found.hypercube.values()
    ]
    text = "median test error of random combinations, before → after alignment"
    number = (_combinability.middles(found.hypercube), text)
    figures = [figure("combinations", [_combinability.cube("Test error", found)])]
    lead = _TEXTS["combine"]
    return Chapter("combine", "Align and combine", number, lead, said, figures)


def _stitch(result: Any) -> Chapter:
    found, names = result.stitching, (_stitching.LEAST_SQUARES, _stitching.TASK_LOSS)
    said = []
    for layer, maps in found.stitches.items():
        fitted, trained = (
            fixed(100 * maps[name].relative_accuracy.mean, 1) for name in names
        )
        said.append(
            f"Stitched at {layer}: {fitted} % of network b's accuracy by least "
            f"squares, {trained} % by task loss; CKA {fixed(found.CKA[layer], 2)}."
        )
    worst = [fixed(_stitching.worst(found.stitches, name)[1], 0) for name in names]
    number = (
        f"{' and '.join(worst)} %",
        "of network b's accuracy at the worst layer, by least squares and by "
        "training on the task",
    )
    layers = [_stitching.short(layer) for layer in found.CKA]
    index = list(found.CKA.values())
    similarity = partial(stitching.plot.over_layers, index, layers, color=INK)
    panels = [
        _stitching.lines(
            "Relative accuracy, %", found, "relative_accuracy", height=2.6
        ),
        panel("Linear CKA", similarity, height=2.6, ylim=(0, 1.06)),
    ]
    figures = [figure("stitches", panels)]
    return Chapter("stitch", "Stitch", number, _TEXTS["stitch"], said, figures)
