"""Tables: what was selected, what came out, what a step costs."""

import html
from typing import Any

import numpy as np

from benchmarks.report._numbers import (
    array,
    entries,
    mean_and_deviation,
    significant,
    with_spread,
)
from benchmarks.report._style import is_learned, label

_LOSSES = {
    "train_loss": "training loss",
    "validation_loss": "validation loss",
}


def table(result: dict[str, Any], schedule: str) -> dict[str, dict[str, str]]:
    """The table of a schedule: for each method, column name to text."""
    return {
        name: {
            **{title: with_spread(entry[key]) for key, title in _LOSSES.items()},
            "test accuracy": _percent(entry["test_accuracy"]),
            "steps to target": _steps(entry["steps_to_target"]),
            "diverged": f"{100 * np.mean(entry['diverged']):.0f} %",
            "ms a step": significant(1e3 * entry["seconds_per_step"], 2),
            "bytes a parameter": f"{entry['bytes_per_parameter']:.1f}",
            "selected": _selected(entry["selected"]),
        }
        for name, entry in entries(result, schedule)
    }


def html_table(result: dict[str, Any], schedule: str) -> str:
    """The table of a schedule, the best of each column in bold."""
    found = dict(entries(result, schedule))
    best = {
        title: lowest({name: entry[key] for name, entry in found.items()})
        for key, title in _LOSSES.items()
    }
    errors = {name: -array(entry["test_accuracy"]) for name, entry in found.items()}
    best["test accuracy"] = lowest(errors)
    return html_grid(table(result, schedule), best)


def html_problems(result: dict[str, Any]) -> str:
    """The table of the deterministic problems: mean logarithm of the final loss."""
    losses = {
        f"{problem}, log₁₀ loss": {
            name: method["log10_loss"] for name, method in found["methods"].items()
        }
        for problem, found in result["problems"].items()
    }
    names = dict.fromkeys(name for column in losses.values() for name in column)
    rows = {
        name: {
            title: with_spread(column[name]) if name in column else "–"
            for title, column in losses.items()
        }
        for name in names
    }
    return html_grid(rows, {title: lowest(column) for title, column in losses.items()})


def html_grid(rows: dict[str, dict[str, str]], best: dict[str, str | None]) -> str:
    """A table with a row a method; `best` names the method to show bold in a column."""
    titles = list(next(iter(rows.values())))
    head = "".join(f'<th scope="col"{_kind(t)}>{html.escape(t)}</th>' for t in titles)
    body = "".join(_row(name, row, best) for name, row in rows.items())
    return (
        '<div class="scroll" tabindex="0"><table><thead><tr>'
        f'<th scope="col">method</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def lowest(values: dict[str, Any]) -> str | None:
    """The method with the lowest mean, where a value that is missing loses."""
    means = {name: array(column).mean() for name, column in values.items()}
    means = {name: mean for name, mean in means.items() if np.isfinite(mean)}
    return min(means, key=lambda name: means[name]) if means else None


def _row(name: str, row: dict[str, str], best: dict[str, str | None]) -> str:
    cells = "".join(
        f"<td{_kind(title, best.get(title) == name)}>{_cell(text)}</td>"
        for title, text in row.items()
    )
    kind = ' class="learned"' if is_learned(name) else ""
    head = f'<th scope="row">{html.escape(label(name))}</th>'
    return f"<tr{kind}>{head}{cells}</tr>"


def _cell(text: str) -> str:
    mean, _, spread = html.escape(text).partition(" ± ")
    if not spread or mean.startswith("("):
        return html.escape(text)
    return f"{mean} <small>± {spread}</small>"


def _kind(title: str, best: bool = False) -> str:
    if best:
        return ' class="best"'
    return ' class="text"' if title == "selected" else ""


def _selected(hyper: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {significant(value)}"
        for name, value in hyper.items()
    )


def _percent(values: list) -> str:
    mean, deviation = mean_and_deviation(100 * array(values))
    if not np.isfinite(mean):
        return "–"
    return f"{mean:.2f} %" + (f" ± {deviation:.2f}" if np.isfinite(deviation) else "")


def _steps(values: list) -> str:
    reached = [value for value in values if value is not None]
    if not reached:
        return "never"
    part = "" if len(reached) == len(values) else f" ({len(reached)}/{len(values)})"
    return f"{np.median(reached):.0f}{part}"
