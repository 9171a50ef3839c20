"""Runs of one experiment side by side: what differed, and what came out.

What a comparison of an experiment shows lies beside its page, as a `Comparison`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from benchmarks.report._figure import Figure, Panel, figure, forest
from benchmarks.report._numbers import Interval
from benchmarks.report._page import Page, Section, Table, measured
from benchmarks.report._style import strong

OVER_PAIRS = (
    "Means over pairs of networks, with 95 % intervals over networks (jackknife)."
)
_MOST = 6  # runs in one panel
_UNITS = {"points": "Percentage points", "%": "Percent", "": "Other numbers"}


class Kind(NamedTuple):
    """What numbers have in common that share a panel."""

    title: str
    zero: float | None = None  # where a vertical line is drawn


Runs = Mapping[str, Any]  # results by name
Looks = Mapping[str, Mapping[str, Any]]  # how a run looks, by its name
Numbers = Iterator[tuple[Kind, str, Interval]]  # the string says what the number is of


def _nothing(*_: Any) -> tuple[()]:
    return ()


class Comparison(NamedTuple):
    """What an experiment shows of its runs side by side."""

    meaning: str  # of its numbers
    numbers: Callable[[Any], Numbers]  # of one result
    curves: Callable[[Runs, Looks], Iterable[Panel]] = _nothing
    figures: Callable[[Runs], Iterable[Figure]] = _nothing  # that a page starts with


def page(runs: Runs, shown: Comparison) -> Page:
    """The page of a comparison of results, by name."""
    names, results = list(runs), list(runs.values())
    looks = {
        name: {"label": name, "color": strong(place)}
        for place, name in enumerate(names[:_MOST])
    }
    kinds: dict[Kind, dict[str, dict[str, Interval]]] = {}
    for run, result in runs.items():
        for kind, what, number in shown.numbers(result):
            kinds.setdefault(kind, {}).setdefault(what, {})[run] = number
    panels = [  # which do not share a scale
        forest("compared", rows, looks, zero=kind.zero, kind=kind.title)
        for kind, rows in kinds.items()
    ]
    figures = [*shown.figures(runs)]
    figures.append(figure("comparison", panels, meaning=shown.meaning))
    if curves := list(shown.curves({name: runs[name] for name in looks}, looks)):
        figures.append(figure("curves", curves))
    every = [
        (f"{kind.title}: {what}", *(str(row.get(run, "–")) for run in names))
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
            Section("What differs", same, tables=tables, printed=True),
            Section(
                "Every number",
                [shown.meaning],
                tables=numbers,
                folded=True,
                printed=True,
            ),
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


def numbers_of_claims(found: Any, where: str = "") -> Numbers:
    """The numbers of claims, by their unit."""
    for claim in found.claims:
        number, unit, *_ = measured(claim)
        yield Kind(_UNITS[unit]), claim.claim + where, number
