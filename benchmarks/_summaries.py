"""What a command prints when it is finished: numbers, sentences, where the page is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import report

_LOOK: dict[str, Any] = {
    "box": box.SIMPLE_HEAD,
    "pad_edge": False,
    "show_edge": False,
    "title_justify": "left",
}


def print_page(folder: Path, console: Console) -> None:
    """Prints the head of a run's page: its question, numbers, sentences and results."""
    page = report.page(report.read(folder))
    console.print(f"\n{page.question}\n", style="dim", highlight=False)
    numbers = Table.grid(padding=(0, 2))
    for number, text in page.headlines:
        numbers.add_row(f"[bold]{escape(number)}[/bold]", escape(text))
    console.print(numbers, "")
    for section in page.sections:
        for title, table in section.tables if "esults" in section.title else ():
            _print_table(title, table.columns[:4], table.rows, console)
    chapters = [(each.title, each.bullets) for each in page.sections[:-1]]
    for title, said in [*page.findings, *chapters]:
        if said:
            console.print(f"[bold]{title}[/bold]")
            for sentence in said:
                console.print(f"- {sentence}", highlight=False, markup=False)
            console.print()
    _print_path("Report", folder / "report.html", console)


def print_side_by_side(
    compared: report.Comparison, page: Path, console: Console
) -> None:
    """Prints what differs between runs, what came out, and where the page is."""
    for title, found in (
        ("What differs", compared.different),
        ("What came out", compared.numbers),
    ):
        rows = [
            (name, *("–" if value is None else str(value) for value in values))
            for name, values in found.items()
        ]
        if rows:
            _print_table(title, ["", *compared.names], rows, console)
    console.print(f"- {compared.meaning}\n", highlight=False)
    _print_path("Comparison", page, console)


def _print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], console: Console
) -> None:
    grid = Table(title=title, **_LOOK)
    grid.add_column(columns[0])
    for name in columns[1:]:
        grid.add_column(escape(name), justify="right", overflow="fold")
    for row in rows:
        grid.add_row(*map(escape, row[: len(columns)]))
    console.print(grid, "")


def _print_path(what: str, path: Path, console: Console) -> None:
    console.print(f"{what}: {path}", markup=False, highlight=False, soft_wrap=True)
