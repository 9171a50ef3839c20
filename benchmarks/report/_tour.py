"""The tour's page: one story in chapters, each with a number and what it rests on."""

from collections.abc import Callable
from functools import partial
from typing import Any

import stitching.plot
from benchmarks.report import _combinability, _rllc, _stitching
from benchmarks.report._figure import TEXTS, figure, panel
from benchmarks.report._numbers import fixed, power
from benchmarks.report._page import Page, Section, asked
from benchmarks.report._style import INK

_TEXTS = TEXTS["pages"]["tour"]
Chapter = tuple[tuple[str, str], list[Section]]  # a headline; sections


def page(result: Any) -> Page:
    """The page of a tour."""
    config = result.config
    parts: list[Callable[[Any], Chapter]] = [_train, _symmetry, _combine, _stitch]
    headlines, chapters = zip(*(part(result) for part in parts), strict=True)
    sections = []
    for number, (first, *details) in enumerate(chapters, start=1):
        sections += [first._replace(title=f"{number}. {first.title}"), *details]
    return Page(
        **asked("tour"),
        subtitle=f"Real data ({config['dataset']}), small networks, {config['steps']} "
        f"steps of {config['batch_size']}; {result.seconds:.0f} s of computing",
        headlines=headlines,
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
    lead = _TEXTS["train"].format(trials=config["trials"], seeds=config["seeds"])
    figures = [figure for figure in found.figures if figure.name in main]
    said = [*found.held, *found.failed, *found.undecided]
    details = [
        section._replace(
            title=f"Training: {section.title.lower()}",
            figures=[figure for figure in section.figures if figure.name not in main],
            folded=True,
        )
        for section in found.sections
    ]
    kept = [each for each in details if each.figures or each.tables or each.bullets]
    return (own or numbers)[0], [Section("Train", [lead], said, figures), *kept]


def _symmetry(result: Any) -> Chapter:
    found = result.combinability
    many = power(round(found.log10_equivalent))
    said = [
        f"Each network is one of {many} that compute the same function, so two "
        "training runs that found the same function may look nothing alike."
    ]
    number = (many, "arrangements of the units of one network, all the same function")
    text = [_TEXTS["symmetry"]]
    return number, [Section("Symmetry", text, said, code=found.symmetry)]


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
    return number, [Section("Align and combine", [_TEXTS["combine"]], said, figures)]


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
    index = (list(found.CKA.values()), [_stitching.short(layer) for layer in found.CKA])
    similarity = partial(stitching.plot.over_layers, *index, color=INK)
    size: dict[str, Any] = {"height": 2.6}
    panels = [
        _stitching.lines("Relative accuracy, %", found, "relative_accuracy", **size),
        panel("Linear CKA", similarity, ylim=(0, 1.06), **size),
    ]
    figures = [figure("stitches", panels)]
    return number, [Section("Stitch", [_TEXTS["stitch"]], said, figures)]
