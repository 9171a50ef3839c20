"""Runs of one experiment side by side: what differed, and what came out."""

import html
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from benchmarks.report._document import bullets, plain_document
from benchmarks.report._numbers import array, significant
from benchmarks.report._style import label

_PARTS = ("config", "versions", "machine")


class Number(NamedTuple):
    """A number of a run with the ends of its interval; NaN where there is none."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        ends = [significant(end) for end in (self.low, self.high)]
        missing = math.isnan(self.low) or math.isnan(self.high)
        text = significant(self.value)
        return text if missing else f"{text} [{ends[0]}, {ends[1]}]"


class Comparison(NamedTuple):
    """Runs side by side.

    Attributes:
        names: what the runs are called, one each.
        commands: what started them.
        different: option, version or machine -> its value in each run, where the runs
            do not agree.
        numbers: what was measured -> the number of each run, None where a run has none.
        meaning: what the numbers and their intervals are.
    """

    names: list[str]
    commands: list[str]
    different: dict[str, list[Any]]
    numbers: dict[str, list[Number | None]]
    meaning: str


def compare(runs: dict[str, dict[str, Any]]) -> Comparison:
    """Compares results of one experiment.

    Args:
        runs: results by name.
    """
    results = list(runs.values())
    meaning, numbers_of = _NUMBERS.get(
        results[0]["experiment"], ("No numbers of this experiment are compared.", dict)
    )
    found = [numbers_of(result) for result in results]
    measured = dict.fromkeys(name for numbers in found for name in numbers)
    return Comparison(
        names=list(runs),
        commands=[result["command"] for result in results],
        different=_different(results),
        numbers={name: [numbers.get(name) for numbers in found] for name in measured},
        meaning=meaning,
    )


def comparison_page(compared: Comparison, experiment: str) -> str:
    """The comparison as a self-contained HTML page."""
    title = f"{len(compared.names)} runs of {experiment}"
    different = _grid("", compared.names, _texts(compared.different))
    sections = [
        f"<section><h2>What differs</h2>{different}</section>"
        if compared.different
        else "<section><h2>What differs</h2><p>Nothing: options, versions and machines "
        "are the same.</p></section>",
        f"<section><h2>What came out</h2><p>{html.escape(compared.meaning)}</p>"
        f"{_grid('', compared.names, _texts(compared.numbers))}</section>",
        f"<section><h2>How they were made</h2>{bullets(compared.commands)}</section>",
    ]
    return plain_document(title, ", ".join(compared.names), sections)


def _texts(rows: dict[str, list[Any]]) -> dict[str, list[str]]:
    return {
        name: ["–" if value is None else str(value) for value in values]
        for name, values in rows.items()
    }


def _grid(corner: str, names: Sequence[str], rows: dict[str, list[str]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th>'
        + "".join(f"<td>{html.escape(text)}</td>" for text in row)
        + "</tr>"
        for name, row in rows.items()
    )
    return (
        '<div class="scroll" tabindex="0"><table><thead><tr>'
        f'<th scope="col">{corner}</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _different(results: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    found = {}
    for part in _PARTS:
        names = dict.fromkeys(name for result in results for name in result[part])
        for name in names:
            values = [result[part].get(name) for result in results]
            if any(value != values[0] for value in values):
                prefix = "version of " if part == "versions" else ""
                found[prefix + name.replace("_", " ")] = values
    return found


def over_seeds(values: Any) -> Number:
    """The mean of the finite values with its 95 % t interval.

    Example:
        >>> str(over_seeds([1.0, 2.0, 3.0, None]))
        '2.00 [−0.484, 4.48]'
    """
    finite = array(values)
    finite = finite[np.isfinite(finite)]
    mean = float(finite.mean()) if finite.size else math.nan
    if finite.size < 2:
        return Number(mean, math.nan, math.nan)
    half = float(scipy.stats.t.ppf(0.975, finite.size - 1) * scipy.stats.sem(finite))
    return Number(mean, mean - half, mean + half)


def _of_optimizers(result: dict[str, Any]) -> dict[str, Number]:
    return {
        f"{label(name)}, {schedule}, {title}": over_seeds(entry[key])
        for key, title in (
            ("validation_loss", "validation loss"),
            ("test_accuracy", "test accuracy"),
        )
        for name, schedules in result["methods"].items()
        for schedule, entry in schedules.items()
    }


def _of_combinations(result: dict[str, Any]) -> dict[str, Number]:
    return {
        f"Width {width}: {name}": number
        for width, found in result["widths"].items()
        for name, number in _of_claims(found).items()
    }


def _of_claims(found: dict[str, Any]) -> dict[str, Number]:
    return {
        f"{row['claim']}, {row['measure']}": Number(
            *array([row["mean"], row["low"], row["high"]])
        )
        for row in found["claims"]
    }


def _of_steps(result: dict[str, Any]) -> dict[str, Number]:
    relative = f"time of a step relative to {label(result['baseline'])}"
    return {
        f"{label(name)}: {relative}": _ratio(step["ratio"])
        for name, step in result["steps"].items()
    }


def _of_matching(result: dict[str, Any]) -> dict[str, Number]:
    matching = {
        f"Width {width}, {name}: time relative to {result['matching']['baseline']}": (
            _ratio(way["ratio"])
        )
        for width, found in result["matching"]["widths"].items()
        for name, way in found["matching"].items()
    }
    return matching | {
        f"{name}: speed relative to {result['combinations']['baseline']}": _ratio(
            case["speedup"]
        )
        for name, case in result["combinations"]["cases"].items()
    }


def _of_stitching_speed(result: dict[str, Any]) -> dict[str, Number]:
    trained, measures = result["task_loss"], result["moments"]["measures"]
    layers = {
        f"{layer}: speed relative to {trained['baseline']}": _ratio(found["speedup"])
        for layer, found in trained["layers"].items()
    }
    return layers | {
        f"{name}: speed relative to {found['baseline']}": _ratio(found["speedup"])
        for name, found in measures.items()
    }


def _ratio(found: dict[str, Any]) -> Number:
    return Number(*array([found["median"], found["low"], found["high"]]))


_SEEDS = "Means over seeds, with 95 % t intervals that cover start and batches."
_PAIRS = "Means over pairs of networks, with 95 % intervals over networks (jackknife)."
_ROUNDS = "Medians over rounds, with quartiles."
# Of each experiment: what its numbers mean, and where they are in a result.
_NUMBERS: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, Number]]]] = {
    "rllc": (_SEEDS, _of_optimizers),
    "tour": (_SEEDS, _of_optimizers),
    "combinability": (_PAIRS, _of_combinations),
    "stitching": (_PAIRS, _of_claims),
    "speed rllc": (_ROUNDS, _of_steps),
    "speed combinability": (_ROUNDS, _of_matching),
    "speed stitching": (_ROUNDS, _of_stitching_speed),
}
