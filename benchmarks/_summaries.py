"""What a command prints when it is finished: tables, sentences, where the report is."""

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.rule import Rule
from rich.table import Table

from benchmarks import report

_COLUMNS = ("training loss", "validation loss", "test accuracy", "ms a step")
_LOOK: dict[str, Any] = {
    "box": box.SIMPLE_HEAD,
    "pad_edge": False,
    "show_edge": False,
    "title_justify": "left",
}


def print_comparison(result: dict[str, Any], page: Path, console: Console) -> None:
    """Prints a small table a schedule and what it says."""
    _print_schedules(result, console)
    _print_page(page, console)


def print_tour(result: dict[str, Any], page: Path, console: Console) -> None:
    """Prints the chapters of the tour, each with what came out."""
    for number, chapter in enumerate(report.chapters(result), start=1):
        console.print(Rule(f"{number}  {chapter.title}", align="left", style="dim"))
        if chapter.name == "train":
            _print_schedules(result, console)
        else:
            _print_sentences(chapter.said, console)
    _print_page(page, console)


def print_claims(result: dict[str, Any], page: Path, console: Console) -> None:
    """Prints what became of each claim, width by width where there are widths."""
    widths = result.get("widths", {}).items()
    parts = [(f"Width {width}", "combinations are", found) for width, found in widths]
    for title, what, found in parts or [(None, "claim", result)]:
        grid = Table(title=title, **_LOOK)
        grid.add_column(what)
        grid.add_column("measured", justify="right", no_wrap=True)
        grid.add_column("verdict", no_wrap=True)
        for row in found["claims"]:
            number = report.with_interval(row)
            bound = f"{row['side']} {row['bound']:g}"
            grid.add_row(row["claim"], f"{number}, {bound}", row["verdict"])
        console.print(grid, "")
    _print_page(page, console)


def print_side_by_side(
    compared: report.Comparison, page: Path, console: Console
) -> None:
    """Prints what differs between runs, what came out, and where the page is."""
    for title, rows in (
        ("What differs", compared.different),
        ("What came out", compared.numbers),
    ):
        grid = Table(title=title, **_LOOK)
        grid.add_column("")
        for name in compared.names:
            grid.add_column(escape(name), justify="right", overflow="fold")
        for name, values in rows.items():
            texts = ("–" if value is None else str(value) for value in values)
            grid.add_row(escape(name), *map(escape, texts))
        if rows:
            console.print(grid, "")
    _print_sentences([compared.meaning], console)
    said = f"Comparison: {page}"
    console.print(said, markup=False, highlight=False, soft_wrap=True)


def _print_schedules(result: dict[str, Any], console: Console) -> None:
    for schedule, said in report.findings(result).items():
        grid = Table(title=f"{schedule.capitalize()} rate", **_LOOK)
        grid.add_column("method", no_wrap=True)
        for column in _COLUMNS:
            grid.add_column(column, justify="right", no_wrap=True)
        for name, row in report.table(result, schedule).items():
            grid.add_row(report.label(name), *(row[column] for column in _COLUMNS))
        console.print(grid, "")
        _print_sentences(said, console)


def _print_sentences(said: list[str], console: Console) -> None:
    for sentence in said:
        console.print(f"- {sentence}", highlight=False)
    console.print()


def _print_page(page: Path, console: Console) -> None:
    console.print(f"Report: {page}", markup=False, highlight=False, soft_wrap=True)
