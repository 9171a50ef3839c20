"""What the numbers say, in sentences; who wins is read off, never assumed."""

from typing import Any

import numpy as np

from benchmarks.report._numbers import (
    array,
    best_baseline,
    entries,
    ranking,
    schedules,
    significant,
    with_spread,
)
from benchmarks.report._style import is_learned, label


def findings(result: dict[str, Any]) -> dict[str, list[str]]:
    """A few sentences on who is ahead, by how much and how surely.

    Args:
        result: by the schema of `benchmarks.runs`.

    Returns:
        Plain sentences for each schedule.
    """
    said = {}
    for schedule in schedules(result):
        ranked = ranking(result, schedule)
        said[schedule] = [
            _order(result, schedule, ranked),
            *_against_baseline(result, schedule, ranked),
            *_against_frozen(result, schedule, ranked),
            *_tally(result, schedule),
            *_divergence(result, schedule),
            *_at_border(result, schedule),
        ]
    return said


def _order(result: dict[str, Any], schedule: str, ranked: list[str]) -> str:
    def value(name: str) -> str:
        losses = result["methods"][name][schedule]["validation_loss"]
        return f"{label(name)} {with_spread(losses)}"

    first = ", ".join(value(name) for name in ranked[:3])
    last = f"; last, {value(ranked[-1])}" if len(ranked) > 3 else ""
    return f"Lowest validation loss: {first}{last}."


def _against_baseline(result: dict[str, Any], schedule: str, ranked: list[str]):
    """The best learned law against the best baseline; clear is what excludes zero."""
    learned = next((name for name in ranked if is_learned(name)), None)
    row = _comparison(result, schedule, learned, best_baseline(result, schedule))
    if row:
        yield (
            f"{label(row['method'])} against the best baseline, "
            f"{label(row['against'])}: {_difference(row)} in validation loss, lower on "
            f"{row['better']} of {row['pairs']} paired seeds; {_verdict(row)}."
        )


def _against_frozen(result: dict[str, Any], schedule: str, ranked: list[str]):
    """Each learned law against itself, frozen: is it the learning that helps?"""
    for method in filter(is_learned, ranked):
        verdicts = [
            f"the {kind} law frozen: {_verdict(row)}"
            for kind in ("initial", "learned")
            if (row := _comparison(result, schedule, method, f"{method}_frozen_{kind}"))
        ]
        if verdicts:
            yield f"{label(method)} against itself with {'; with '.join(verdicts)}."


def _comparison(result: dict[str, Any], schedule: str, method, against) -> dict | None:
    asked = (schedule, "validation_loss", method, against)
    keys = ("schedule", "metric", "method", "against")
    rows = result.get("comparisons", [])
    return next((row for row in rows if tuple(row[k] for k in keys) == asked), None)


def _difference(row: dict[str, Any]) -> str:
    low, mean, high = array([row["low"], row["mean_difference"], row["high"]])
    sign = "+" if mean > 0 else ""
    interval = f"[{significant(low, 2)}, {significant(high, 2)}]"
    return f"{sign}{significant(mean, 2)} (95 % interval {interval})"


def _verdict(row: dict[str, Any]) -> str:
    low, high = array([row["low"], row["high"]])
    if not np.isfinite([low, high]).all():
        return "too few finite runs to tell"
    if low <= 0 <= high:
        return "no clear difference"
    return "clearly ahead" if high < 0 else "clearly behind"


def _tally(result: dict[str, Any], schedule: str) -> list[str]:
    """How often a learned law beats a baseline, over every pair."""
    counts = []
    for metric in ("train_loss", "validation_loss"):
        bounds = [
            (row["low"], row["high"])
            for row in result.get("comparisons", [])
            if (row["schedule"], row["metric"]) == (schedule, metric)
        ]
        if bounds:
            low, high = array(bounds).T
            name = metric.replace("train", "training").replace("_", " ")
            counts.append(
                f"by {name} clearly ahead in {(high < 0).sum()} of {len(bounds)} pairs "
                f"and clearly behind in {(low > 0).sum()}"
            )
    told = f"Each learned law against each other method: {'; '.join(counts)}"
    return [f"{told}."] if counts else []


def _divergence(result: dict[str, Any], schedule: str) -> list[str]:
    counts = {
        label(name): f"{sum(entry['diverged'])} of {len(entry['diverged'])}"
        for name, entry in entries(result, schedule)
        if any(entry["diverged"])
    }
    listed = ", ".join(f"{name} ({count})" for name, count in counts.items())
    return [f"Runs that diverged at the selected setting: {listed}."] if counts else []


def _at_border(result: dict[str, Any], schedule: str) -> list[str]:
    names = [label(name) for name, e in entries(result, schedule) if e.get("at_border")]
    return (
        [
            f"Selected at the lowest or highest rate that was tried, so a wider search "
            f"may do better: {', '.join(names)}."
        ]
        if names
        else []
    )
