"""What a command prints when it is finished: numbers, sentences, where the page is."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.report import Page


def print_page(page: Page, path: Path, console: Console) -> None:
    """Print the head of a page, its main tables and sentences, and where it is."""
    if page.question:
        console.print(f"\n{page.question}\n", style="dim", highlight=False)
    numbers = Table.grid(padding=(0, 2))
    for number, text in page.headlines:
        numbers.add_row(f"[bold]{escape(number)}[/bold]", escape(text))
    console.print(numbers, "")
    for section in page.sections:
        for title, table in section.tables if section.printed else ():
            count = 4 if page.question else len(table.columns)
            grid = Table(
                title=title or section.title,
                box=box.SIMPLE_HEAD,
                pad_edge=False,
                show_edge=False,
            )
            for place, name in enumerate(table.columns[:count]):
                justify = "right" if place else "left"
                grid.add_column(escape(name), justify=justify, overflow="fold")
            for row in table.rows:
                grid.add_row(*map(escape, row[:count]))
            console.print(grid, "")
    chapters = [(s.title, s.bullets) for s in page.sections[:-1] if not s.folded]
    for title, said in [*page.findings.items(), *chapters]:
        if said:
            console.print(f"[bold]{escape(title)}[/bold]")
            for sentence in said:
                console.print(f"- {sentence}", highlight=False, markup=False)
            console.print()
    what = path.stem.capitalize()
    console.print(f"{what}: {path}", markup=False, highlight=False, soft_wrap=True)
