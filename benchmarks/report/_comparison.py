"""Runs of one experiment side by side: what differed, and what came out."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import combinability.plot
import stitching.plot
from benchmarks.report import _rllc, _stitching, plots
from benchmarks.report._figure import Figure, Panel, figure, panel
from benchmarks.report._numbers import Interval, array, over_seeds
from benchmarks.report._page import Page, Section, Table, measured
from benchmarks.report._style import is_learned, label, strong
from combinability import Barrier

_PARTS = ("config", "versions", "machine")
_MOST = 6  # runs in one panel


class Comparison(NamedTuple):
    """Runs side by side.

    Attributes:
        names: what the runs are called.
        commands: what started them.
        different: option, version or machine -> its value in each run, where the runs
            do not agree.
        numbers: what was measured -> the number of each run, None where a run has none.
        meaning: what the numbers and their intervals are.
    """

    names: list[str]
    commands: list[str]
    different: dict[str, list[Any]]
    numbers: dict[str, list[Interval | None]]
    meaning: str


def compare(runs: dict[str, Any]) -> Comparison:
    """Compare results of one experiment, by name."""
    results = list(runs.values())
    meaning, numbers_of, _ = _OF[results[0].experiment]
    found = [numbers_of(result) for result in results]
    names = dict.fromkeys(name for numbers in found for name in numbers)
    return Comparison(
        names=list(runs),
        commands=[result.command for result in results],
        different=_different(results),
        numbers={name: [numbers.get(name) for numbers in found] for name in names},
        meaning=meaning,
    )


def page(compared: Comparison, runs: dict[str, Any]) -> Page:
    """The page of a comparison."""
    names, numbers = compared.names, compared.numbers
    looks = {
        name: {"label": name, "color": strong(place)}
        for place, name in enumerate(names[:_MOST])
    }
    experiment = next(iter(runs.values())).experiment
    curves = list(_OF[experiment][2](runs, looks))
    figures = [_forest(compared, looks)] if numbers else []
    if curves:
        figures.append(figure("curves", curves, meaning="Runs as in the legend."))
    texts = [
        (name, *("–" if value is None else str(value) for value in values))
        for name, values in compared.different.items()
    ]
    every = [
        (name, *("–" if number is None else str(number) for number in row))
        for name, row in numbers.items()
    ]
    same = () if texts else ("Nothing: options, versions and machines are the same.",)
    tables = [("", Table(["", *names], texts))] if texts else []
    return Page(
        title=f"{len(runs)} runs of {experiment}",
        subtitle=", ".join(names),
        sections=[
            Section("What came out", figures=figures),
            Section("What differs", same, tables=tables),
            Section(
                "Every number", tables=[("", Table(["", *names], every))], folded=True
            ),
            Section("How they were made", bullets=compared.commands),
        ],
    )


def _forest(compared: Comparison, looks: dict[str, dict[str, Any]]) -> Figure:
    """A grouped forest plot for each kind of number, which do not share a scale."""
    kinds: dict[str, dict[str, dict[str, Interval]]] = {}
    for name, numbers in compared.numbers.items():
        row = {
            run: number
            for run, number in zip(compared.names, numbers, strict=True)
            if number is not None and run in looks
        }
        kind, _, what = name.rpartition(": ")
        kinds.setdefault(kind, {})[what] = row
    panels = []
    for kind, rows in kinds.items():
        zero = 1.0 if "relative" in kind else 0.0 if "ifference" in kind else None
        height = 1.0 + len(rows) * (0.2 + 0.12 * len(looks))
        draw = partial(plots.forest, rows, looks, zero=zero)
        panels.append(panel(kind, draw, height=height))
    return figure("comparison", panels, meaning=compared.meaning)


def _different(results: Sequence[Any]) -> dict[str, list[Any]]:
    found = {}
    for part in _PARTS:
        every = [getattr(result, part) for result in results]
        for name in dict.fromkeys(name for values in every for name in values):
            values = [each.get(name) for each in every]
            if any(value != values[0] for value in values):
                prefix = "version of " if part == "versions" else ""
                found[prefix + name.replace("_", " ")] = values
    return found


def _of_optimizers(result: Any) -> dict[str, Interval]:
    found = {}
    for schedule in _rllc.schedules(result):
        for method in filter(is_learned, result.methods):
            kind = f"{label(method)}, {schedule}: difference in validation loss, %"
            for against in _rllc.shown(result):
                number = _rllc.difference(
                    result, schedule, method, against, "validation_loss"
                )
                if number:
                    found[f"{kind}: to {label(against)}"] = number
        for method, entry in _rllc.entries(result, schedule).items():
            name = f"Test accuracy, %, {schedule} rate: {label(method)}"
            found[name] = over_seeds(100 * array(entry.test_accuracy))
    return found


def _of_widths(result: Any) -> dict[str, Interval]:
    widths = result.widths.items()
    return {
        f"{name}, width {w}": n
        for w, found in widths
        for name, n in _claims(found).items()
    }


def _claims(found: Any) -> dict[str, Interval]:
    numbers = {}
    for claim in found.claims:
        number, unit, _, _ = measured(claim)
        kind = {"points": "Percentage points", "%": "Percent", "": "Other numbers"}[
            unit
        ]
        numbers[f"{kind}: {claim.claim.replace(': ', ', ')}"] = number
    return numbers


def _of_speed(result: Any) -> dict[str, Interval]:
    """Ratios of "speed …" results, named after the baseline."""
    found: dict[str, Any] = {}
    if result.experiment == "speed rllc":
        kind = f"Time of a step relative to {label(result.baseline)}"
        found = {f"{kind}: {label(n)}": step.ratio for n, step in result.steps.items()}
    elif result.experiment == "speed combinability":
        kind = f"Time relative to {result.matching.baseline}"
        for width, each in result.matching.widths.items():
            for name, way in each.matching.items():
                found[f"{kind}: {name}, width {width}"] = way.ratio
        kind = f"Speed relative to {result.combinations.baseline}"
        cases = result.combinations.cases.items()
        found |= {f"{kind}: {name}": case.speedup for name, case in cases}
    else:
        kind = f"Speed relative to {result.task_loss.baseline}"
        layers = result.task_loss.layers.items()
        found = {f"{kind}: {name}": each.speedup for name, each in layers}
        for name, each in result.moments.measures.items():
            found[f"Speed relative to {each.baseline}: {name}"] = each.speedup
    return {
        name: Interval(*array([ratio.median, ratio.low, ratio.high]).tolist())
        for name, ratio in found.items()
    }


def _optimizer_curves(runs: dict[str, Any], looks) -> list[Panel]:
    """A panel for each method that all runs have, a curve for each run."""
    results, panels = list(runs.values()), []
    schedule = _rllc.schedules(results[0])[-1]
    for method in _rllc.shown(results[0]):
        if all(schedule in result.methods.get(method, {}) for result in results):
            draws = []
            for name, look in looks.items():
                curves = runs[name].methods[method][schedule].curves
                losses = np.maximum(array(curves.validation_loss), 1e-12)
                draws.append(partial(plots.curve, curves.steps, losses, **look))
            title = f"{label(method)}: validation loss"
            settings = {"yscale": "log", "xlabel": f"step, {schedule} rate"}
            panels.append(panel(title, *draws, share=("x", "loss"), **settings))
    return panels


def _segments(runs: dict[str, Any], looks) -> list[Panel]:
    """Test error along the segment, at the largest width of each run."""
    panels = []
    for control in ("not matched", "matched", "matched, repaired"):
        draws = []
        for name, look in looks.items():
            controls = list(runs[name].widths.values())[-1].controls
            errors = 100 * array(controls.curves[control]["test_error"])
            found = Barrier(np.nan, array(controls.fractions), errors)
            draws.append(partial(combinability.plot.barrier, found, **look))
        settings = {"xlabel": "fraction of the segment", "ylim": (0, None)}
        title = f"Test error, %, {control}"
        panels.append(panel(title, *draws, share=("", "error"), **settings))
    return panels


def _layers(runs: dict[str, Any], looks) -> list[Panel]:
    """Relative accuracy over the layers, which runs may have different ones of."""
    panels = []
    for map_ in (_stitching.TASK_LOSS, _stitching.LEAST_SQUARES):
        draws = []
        for name, look in looks.items():
            maps = [every[map_] for every in runs[name].stitches.values()]
            means = [100 * found.relative_accuracy.mean for found in maps]
            draws.append(partial(stitching.plot.over_layers, means, **look))
        settings = {"ylim": (0, 106), "xlabel": "layer, in each run's own order"}
        title = f"Relative accuracy, %, {map_.partition(':')[0]}"
        panels.append(panel(title, *draws, **settings))
    return panels


_SEEDS = "Means over seeds, with 95 % t intervals that cover start and batches."
_PAIRS = "Means over pairs of networks, with 95 % intervals over networks (jackknife)."
_ROUNDS = "Medians over rounds, with quartiles."
# Of each experiment: what its numbers mean, where they are in a result, and curves.
_OF: dict[str, tuple[str, Callable[[Any], dict[str, Interval]], Callable]] = {
    "rllc": (_SEEDS, _of_optimizers, _optimizer_curves),
    "tour": (_SEEDS, _of_optimizers, _optimizer_curves),
    "combinability": (_PAIRS, _of_widths, _segments),
    "stitching": (_PAIRS, _claims, _layers),
    "speed rllc": (_ROUNDS, _of_speed, lambda *_: ()),
    "speed combinability": (_ROUNDS, _of_speed, lambda *_: ()),
    "speed stitching": (_ROUNDS, _of_speed, lambda *_: ()),
}
