"""Runs of one experiment side by side: what differed, and what came out."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import combinability.plot
import stitching.plot
from benchmarks.report import _rllc, _stitching, plots
from benchmarks.report._figure import Figure, Panel, figure, panel
from benchmarks.report._numbers import Interval, array, over_seeds
from benchmarks.report._page import Page, Section, Table, measured
from benchmarks.report._style import is_learned, label, strong
from combinability import Barrier

_MOST = 6  # runs in one panel
_SEEDS = "Means over seeds, with 95 % t intervals that cover start and batches."
_PAIRS = "Means over pairs of networks, with 95 % intervals over networks (jackknife)."
_ROUNDS = "Medians over rounds, with quartiles."
_KINDS = {"points": "Percentage points", "%": "Percent", "": "Other numbers"}


def page(runs: dict[str, Any]) -> Page:
    """The page of a comparison of results, by name."""
    names, experiment = list(runs), next(iter(runs.values())).experiment
    meaning, numbers_of, curves_of = _OF[experiment]
    looks = {
        name: {"label": name, "color": strong(place)}
        for place, name in enumerate(names[:_MOST])
    }
    kinds: dict[str, dict[str, dict[str, Interval]]] = {}
    for run, result in runs.items():
        for (kind, what), number in numbers_of(result).items():
            kinds.setdefault(kind, {}).setdefault(what, {})[run] = number
    every = [
        (f"{kind}: {what}", *(str(row[run]) if run in row else "–" for run in names))
        for kind, rows in kinds.items()
        for what, row in rows.items()
    ]
    different = list(_different(list(runs.values())))
    figures = [_forest(kinds, looks, meaning)]
    if curves := list(curves_of(runs, looks)):
        figures.append(figure("curves", curves))
    columns, commands = ["", *names], [result.command for result in runs.values()]
    numbers = Table(columns, every)
    same = () if different else ("Options, versions and machines are the same.",)
    tables = [("", Table(columns, different, text=True))] if different else []
    return Page(
        title=f"{len(runs)} runs of {experiment}",
        subtitle=", ".join(names),
        sections=[
            Section("What came out", figures=figures),
            Section("What differs", same, tables=tables),
            Section("Every number", [meaning], tables=[("", numbers)], folded=True),
            Section("How they were made", bullets=commands),
        ],
    )


def _forest(kinds: dict[str, Any], looks: dict[str, Any], meaning: str) -> Figure:
    """A grouped forest plot for each kind of number, which do not share a scale."""
    panels = []
    for kind, rows in kinds.items():
        zero = 1.0 if "relative" in kind else 0.0 if "ifference" in kind else None
        height = 1.0 + len(rows) * (0.14 + 0.12 * len(looks))
        draw = partial(plots.forest, rows, looks, zero=zero)
        panels.append(panel(kind, draw, height=height))
    return figure("comparison", panels, meaning=meaning)


def _different(results: list[Any]) -> Iterator[list[str]]:
    """Options, versions and machines that are not the same in all runs."""
    for part in ("config", "versions", "machine"):
        every = [plain(getattr(result, part)) for result in results]
        for name in dict.fromkeys(name for values in every for name in values):
            values = [each.get(name) for each in every]
            if any(value != values[0] for value in values):
                prefix = "version of " if part == "versions" else ""
                texts = ["–" if value is None else str(value) for value in values]
                yield [prefix + name.replace("_", " "), *texts]


def plain(values: Any) -> dict[str, Any]:
    """A record or a mapping as a mapping."""
    if isinstance(values, dict):
        return values
    return {name: getattr(values, name) for name in values.__struct_fields__}


# The numbers of a result: (kind, what) -> the number.
Numbers = dict[tuple[str, str], Interval]


def _of_optimizers(result: Any) -> Numbers:
    """Under the last schedule: learned laws to the best methods, and accuracies."""
    found: Numbers = {}
    schedule = _rllc.schedules(result)[-1]
    for method in filter(is_learned, result.methods):
        kind = f"{label(method)}, {schedule} rate: loss difference, %"
        for against in result.methods:
            asked = (schedule, method, against, "validation_loss")
            if number := _rllc.difference(result, *asked):
                found[kind, f"to {label(against)}"] = number
    for method, entry in _rllc.entries(result, schedule).items():
        for kind, values in (
            ("Validation loss", entry.validation_loss),
            ("Test accuracy, %", 100 * array(entry.test_accuracy)),
        ):
            found[f"{kind}, {schedule} rate", label(method)] = over_seeds(values)
    return found


def _of_widths(result: Any) -> Numbers:
    return {
        (kind, f"{what}, width {width}"): number
        for width, found in result.widths.items()
        for (kind, what), number in _of_claims(found).items()
    }


def _of_claims(found: Any) -> Numbers:
    every = [(claim.claim, *measured(claim)[:2]) for claim in found.claims]
    return {(_KINDS[unit], claim): number for claim, number, unit in every}


def _of_speed(result: Any) -> Numbers:
    """Ratios of "speed …" results, with the baseline in the kind."""
    found: dict[tuple[str, str], Any] = {}
    if result.experiment == "speed rllc":
        kind = f"Time of a step relative to {label(result.baseline)}"
        found = {(kind, label(n)): step.ratio for n, step in result.steps.items()}
    elif result.experiment == "speed combinability":
        kind = f"Time relative to {result.matching.baseline}"
        for width, each in result.matching.widths.items():
            for name, way in each.matching.items():
                found[kind, f"{name}, width {width}"] = way.ratio
        kind = "Time of evaluate relative to a compiled map"
        for name, case in result.combinations.cases.items():
            for samples, ratio in case.to_map.items():
                found[kind, f"{name}, {samples} samples"] = ratio
    else:
        kind = f"Speed relative to {result.task_loss.baseline}"
        for name, each in result.task_loss.layers.items():
            found[kind, name] = each.speedup
        for name, each in result.moments.measures.items():
            found[f"Speed relative to {each.baseline}", name] = each.speedup
    return {
        name: Interval(*array([ratio.median, ratio.low, ratio.high]).tolist())
        for name, ratio in found.items()
    }


def _optimizer_curves(runs: dict[str, Any], looks: dict[str, Any]) -> Iterator[Panel]:
    """A panel for each method that all runs have, a curve for each run."""
    results = [runs[name] for name in looks]
    schedule = _rllc.schedules(results[0])[-1]
    every = [_rllc.entries(result, schedule) for result in results]
    for method in _rllc.shown(results[0]):
        if all(method in found for found in every):
            draws = []
            for found, look in zip(every, looks.values(), strict=True):
                curves = found[method].curves
                losses = np.maximum(array(curves.validation_loss), 1e-12)
                draws.append(partial(plots.curve, curves.steps, losses, **look))
            title = f"{label(method)}: validation loss"
            settings: dict[str, Any] = {"yscale": "log", "share": ("x", "loss")}
            yield panel(title, *draws, xlabel=f"step, {schedule} rate", **settings)


def _segments(runs: dict[str, Any], looks: dict[str, Any]) -> Iterator[Panel]:
    """Test error along the segment, at the largest width of each run."""
    for control in ("not matched", "matched", "matched, repaired"):
        draws = []
        for name, look in looks.items():
            controls = list(runs[name].widths.values())[-1].controls
            if control not in controls.curves:  # REPAIR needs a Linen module
                continue
            errors = 100 * array(controls.curves[control]["test_error"])
            found = Barrier(np.nan, array(controls.fractions), errors)
            draws.append(partial(combinability.plot.barrier, found, **look))
        settings: dict[str, Any] = {"ylim": (0, None), "share": ("", "error")}
        title = f"Test error, %, {control}"
        yield panel(title, *draws, xlabel="fraction of the segment", **settings)


def _layers(runs: dict[str, Any], looks: dict[str, Any]) -> Iterator[Panel]:
    """Relative accuracy over the layers, which runs may have different ones of."""
    for map_ in (_stitching.TASK_LOSS, _stitching.LEAST_SQUARES):
        draws = []
        for name, look in looks.items():
            maps = [every[map_] for every in runs[name].stitches.values()]
            means = [100 * found.relative_accuracy.mean for found in maps]
            draws.append(partial(stitching.plot.over_layers, means, **look))
        title = f"Relative accuracy, %, {map_.partition(':')[0]}"
        count = max(len(runs[name].stitches) for name in looks)
        ticks: dict[str, Any] = {"xticks": range(count), "xticklabels": range(count)}
        text = "layer, in each run's own order"
        yield panel(title, *draws, xlabel=text, ylim=(0, 106), **ticks)


# Of each experiment: what its numbers mean, where they are in a result, and curves.
_OF: dict[str, tuple[str, Callable[[Any], Numbers], Callable[..., Any]]] = {
    "rllc": (_SEEDS, _of_optimizers, _optimizer_curves),
    "tour": (_SEEDS, _of_optimizers, _optimizer_curves),
    "combinability": (_PAIRS, _of_widths, _segments),
    "stitching": (_PAIRS, _of_claims, _layers),
    "speed rllc": (_ROUNDS, _of_speed, lambda *_: ()),
    "speed combinability": (_ROUNDS, _of_speed, lambda *_: ()),
    "speed stitching": (_ROUNDS, _of_speed, lambda *_: ()),
}
