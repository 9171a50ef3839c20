"""Runs of one experiment side by side: what differed, and what came out."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec
import numpy as np

import stitching.plot
from benchmarks.report import _rllc, _stitching, plots
from benchmarks.report._combinability import segment
from benchmarks.report._figure import Panel, figure, forest, panel
from benchmarks.report._numbers import Interval, over_seeds
from benchmarks.report._page import Page, Section, Table, measured
from benchmarks.report._style import is_learned, label, strong

_MOST = 6  # runs in one panel
# What learning the law is worth, and what a law is worth.
_QUESTIONS = (
    ("rllc", "rllc_frozen_initial", "RLLC to itself frozen"),
    ("rllc", "momentum", "RLLC to momentum"),
    ("rllc_large_batch", "momentum", "large-batch to momentum"),
    ("rllc_adam", "rllc_adam_frozen_initial", "RLLC-Adam to itself frozen"),
    ("rllc_adam", "adam", "RLLC-Adam to Adam"),
)
_KINDS = {"points": "Percentage points", "%": "Percent", "": "Other numbers"}
_SEEDS = "Means over seeds, with 95 % t intervals that cover start and batches."
_PAIRS = "Means over pairs of networks, with 95 % intervals over networks (jackknife)."
_ROUNDS = "Medians over rounds, with quartiles."
Looks = Mapping[str, Mapping[str, Any]]  # how a run looks, by its name
Numbers = Iterator[tuple[str, str, Interval]]  # of which kind, what it is, the number


def page(runs: Mapping[str, Any]) -> Page:
    """The page of a comparison of results, by name."""
    names, results = list(runs), list(runs.values())
    meaning, numbers_of, curves_of = _OF[results[0].experiment.partition(" ")[0]]
    looks = {
        name: {"label": name, "color": strong(place)}
        for place, name in enumerate(names[:_MOST])
    }
    kinds: dict[str, dict[str, dict[str, Interval]]] = {}
    for run, result in runs.items():
        for kind, what, number in numbers_of(result):
            kinds.setdefault(kind, {}).setdefault(what, {})[run] = number
    panels = []
    for kind, rows in kinds.items():  # which do not share a scale
        zero = 1.0 if "relative" in kind else 0.0 if "ifference" in kind else None
        panels.append(forest("compared", rows, looks, zero=zero, kind=kind))
    figures = [figure("comparison", panels, meaning=meaning)]
    if regimes := list(_regimes(runs)):
        figures.insert(0, figure("regimes", regimes))
    if curves := list(curves_of({name: runs[name] for name in looks}, looks)):
        figures.append(figure("curves", curves))
    every = [
        (f"{kind}: {what}", *(str(row[run]) if run in row else "–" for run in names))
        for kind, rows in kinds.items()
        for what, row in rows.items()
    ]
    columns, different = ["", *names], list(_different(results))
    same = () if different else ("Options, versions and machines are the same.",)
    tables = [("", Table(columns, different, text=True))] * bool(different)
    commands, numbers = [run.command for run in results], [("", Table(columns, every))]
    return Page(
        title=f"{len(runs)} runs of {results[0].experiment}",
        subtitle=", ".join(names),
        sections=[
            Section("What came out", figures=figures),
            Section("What differs", same, tables=tables),
            Section("Every number", [meaning], tables=numbers, folded=True),
            Section("How they were made", bullets=commands),
        ],
    )


def _different(results: list[Any]) -> Iterator[list[str]]:
    """Options, versions and machines that are not the same in all runs."""
    for part in ("config", "versions", "machine"):
        every = [msgspec.to_builtins(getattr(result, part)) for result in results]
        for name in dict.fromkeys(name for values in every for name in values):
            values = [each.get(name) for each in every]
            if any(value != values[0] for value in values):
                prefix = "version of " if part == "versions" else ""
                texts = ["–" if value is None else str(value) for value in values]
                yield [prefix + name.replace("_", " "), *texts]


def _of_optimizers(result: Any) -> Numbers:
    """Under the last schedule: learned laws to the best methods, and accuracies."""
    schedule = _rllc.schedules(result)[-1]
    for method in filter(is_learned, result.methods):
        kind = f"{label(method)}, {schedule} rate: loss difference, %"
        for against in result.methods:
            if number := _rllc.difference(result, schedule, method, against):
                yield kind, f"to {label(against)}", number
    for method, entry in _rllc.entries(result, schedule).items():
        for kind, values in (
            ("Validation loss", entry.validation_loss),
            ("Test accuracy, %", 100 * entry.test_accuracy),
        ):
            yield f"{kind}, {schedule} rate", label(method), over_seeds(values)


def _regimes(runs: Mapping[str, Any]) -> Iterator[Panel]:
    """Differences by batch size, a panel for each schedule that all runs have."""
    found = [run for run in runs.values() if run.experiment == "rllc"]
    sizes = sorted({run.config["batch_size"] for run in found})
    if len(sizes) < 2 or len(sizes) < len(runs):  # each run has a size of its own
        return
    found = sorted(found, key=lambda run: run.config["batch_size"])
    settings = {"xticks": range(len(sizes)), "xticklabels": sizes}
    for schedule in _rllc.schedules(found[0]):
        draws = []
        for place, (method, against, text) in enumerate(_QUESTIONS):
            pair = (schedule, method, against)
            numbers = [_rllc.difference(run, *pair) for run in found]
            if all(numbers):
                look = {"label": text, "color": strong(place)}
                shift = 0.11 * (place - (len(_QUESTIONS) - 1) / 2)
                draws.append(partial(plots.over, numbers, shift=shift, **look))
        if draws:
            words = schedule.replace("_", "-")
            yield panel("regimes", *draws, settings=settings, schedule=words)


def _of_claims(found: Any, where: str = "") -> Numbers:
    for claim in found.claims:
        number, unit, *_ = measured(claim)
        yield _KINDS[unit], claim.claim + where, number


def _of_widths(result: Any) -> Numbers:
    for width, found in result.widths.items():
        yield from _of_claims(found, f", width {width}")


def _of_speed(result: Any) -> Numbers:
    for one in result.timings:
        for other, ratio in one.ratios.items():
            if other != one.program:
                number = Interval(ratio.median, ratio.low, ratio.high)
                what = f"{one.program}, {one.case}"
                yield f"Time relative to {other}", what, number


def _optimizer_curves(runs: Mapping[str, Any], looks: Looks) -> Iterator[Panel]:
    """A panel for each method that all runs have, a curve for each run."""
    first = next(iter(runs.values()))
    schedule = _rllc.schedules(first)[-1]
    every = {name: _rllc.entries(result, schedule) for name, result in runs.items()}
    for method in _rllc.shown(first):
        if all(method in found for found in every.values()):
            draws = []
            for name, found in every.items():
                curves = found[method].curves
                losses = np.maximum(curves.validation_loss, 1e-12)
                draws.append(partial(plots.curve, curves.steps, losses, **looks[name]))
            name = label(method)
            yield panel("compared_curves", *draws, method=name, schedule=schedule)


def _segments(runs: Mapping[str, Any], looks: Looks) -> Iterator[Panel]:
    """Test error along the segment, at the largest width of each run."""
    for control in ("not matched", "matched", "matched, repaired"):
        draws = []
        for name, result in runs.items():
            found = list(result.widths.values())[-1].controls
            if control in found.curves:  # REPAIR is not in all older results
                draws.append(segment(found, control, "test_error", 100, **looks[name]))
        yield panel("compared_segments", *draws, control=control)


def _layers(runs: Mapping[str, Any], looks: Looks) -> Iterator[Panel]:
    """Relative accuracy over the layers, which runs may have different ones of."""
    ticks = range(max(len(result.stitches) for result in runs.values()))
    settings = {"xticks": ticks, "xticklabels": ticks}
    for kind in (_stitching.TASK_LOSS, _stitching.LEAST_SQUARES):
        draws, method = [], kind.partition(":")[0]
        for name, result in runs.items():
            numbers = _stitching.across(result.stitches, kind).values()
            means = [100 * number.mean for number in numbers]
            draws.append(partial(stitching.plot.over_layers, means, **looks[name]))
        yield panel("compared_layers", *draws, settings=settings, method=method)


# Of each experiment: what its numbers mean, where they are in a result, and curves.
_OF: dict[str, tuple[str, Callable[[Any], Numbers], Callable[..., Any]]] = {
    "rllc": (_SEEDS, _of_optimizers, _optimizer_curves),
    "tour": (_SEEDS, _of_optimizers, _optimizer_curves),
    "combinability": (_PAIRS, _of_widths, _segments),
    "stitching": (_PAIRS, _of_claims, _layers),
    "speed": (_ROUNDS, _of_speed, lambda *_: ()),
}
