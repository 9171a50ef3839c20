"""What runs of a comparison of optimizers show side by side."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks.report import _rllc, plots
from benchmarks.report._comparison import Comparison, Kind, Looks, Numbers, Runs
from benchmarks.report._figure import Figure, Panel, figure, panel
from benchmarks.report._numbers import over_seeds
from benchmarks.report._style import is_learned, label, rate_label, strong

# The effect of learning the law, and of the law.
_QUESTIONS = (
    ("rllc", "rllc_frozen_initial", "RLLC to itself frozen"),
    ("rllc", "momentum", "RLLC to momentum"),
    ("rllc_large_batch", "momentum", "large-batch to momentum"),
    ("rllc_adam", "rllc_adam_frozen_initial", "RLLC-Adam to itself frozen"),
    ("rllc_adam", "adam", "RLLC-Adam to Adam"),
)


def _numbers(result: Any) -> Numbers:
    """Under the last schedule: learned laws to the best methods, and accuracies."""
    schedule = _rllc.schedules(result)[-1]
    for method in filter(is_learned, result.methods):
        kind = Kind(
            f"{label(method)}, {rate_label(schedule)}: loss difference, %", zero=0.0
        )
        for against in result.methods:
            if number := _rllc.difference(result, schedule, method, against):
                yield kind, f"to {label(against)}", number
    for method, entry in _rllc.entries(result, schedule).items():
        for what, values in (
            ("Validation loss", entry.validation_loss),
            ("Test accuracy, %", 100 * entry.test_accuracy),
        ):
            kind = Kind(f"{what}, {rate_label(schedule)}")
            yield kind, label(method), over_seeds(values)


def _curves(runs: Runs, looks: Looks) -> Iterator[Panel]:
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
            yield panel(
                "compared_curves", *draws, method=name, rate=rate_label(schedule)
            )


def _by_batch_size(runs: Runs) -> Iterator[Figure]:
    """Differences by batch size, if each run has one of its own."""
    found = sorted(runs.values(), key=lambda run: run.config["batch_size"])
    sizes = [run.config["batch_size"] for run in found]
    if len(set(sizes)) < len(sizes):
        return
    settings, panels = {"xticks": range(len(sizes)), "xticklabels": sizes}, []
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
            drawn = panel(
                "regimes", *draws, settings=settings, rate=rate_label(schedule)
            )
            panels.append(drawn)
    if panels:
        yield figure("regimes", panels)


COMPARISON = Comparison(
    "Means over seeds, with 95 % t intervals that cover start and batches.",
    _numbers,
    _curves,
    _by_batch_size,
)
