"""What a page says, and how it becomes HTML: `templates/page.html`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from benchmarks.report._figure import TEXTS, Figure, inline
from benchmarks.report._numbers import Interval, interval, with_unit
from benchmarks.report._style import css_variables

_TEMPLATES = Path(__file__).with_name("templates")
# Part of a claim's measure -> scale, unit and range of the number on a page.
_UNITS = {
    "rank correlation": (1, "", -1, 1),
    "orders of magnitude": (1, "", float("-inf"), float("inf")),
    "barrier": (100, "points", 0, 100),
    "minus": (100, "points", -100, 100),
    "beyond": (100, "points", -100, 100),
    "share": (100, "%", 0, 100),
    "": (100, "%", 0, float("inf")),
}
NEEDS_THREE = "needs at least three networks"


class Table(NamedTuple):
    """Rows of text; the first cell of each is its heading.

    Attributes:
        columns: headings.
        rows: as many cells each.
        best: (row, column) of cells to show bold.
        text: whether cells are sentences rather than numbers.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: frozenset[tuple[int, int]] = frozenset()
    text: bool = False


class Section(NamedTuple):
    """A part of a page: what it says, then figures, tables and fixed-width text."""

    title: str
    text: Sequence[str] = ()
    bullets: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[tuple[str, Table]] = ()
    code: str = ""
    folded: bool = False


class Page(NamedTuple):
    """What a page says.

    Attributes:
        title: a few words.
        subtitle: what was run, in a line.
        question: what was asked.
        paper: where the question is from.
        headlines: numbers, each with what it is.
        held: what was found as asked, in sentences.
        failed: what was not.
        undecided: what the run cannot decide.
        sections: the details.
    """

    title: str
    subtitle: str
    question: str = ""
    paper: str = ""
    headlines: Sequence[tuple[str, str]] = ()
    held: Sequence[str] = ()
    failed: Sequence[str] = ()
    undecided: Sequence[str] = ()
    sections: Sequence[Section] = ()

    @property
    def findings(self) -> list[tuple[str, Sequence[str]]]:
        """The sentences under their headings."""
        return [
            ("What held", self.held),
            ("What did not", self.failed),
            ("What this run cannot decide", self.undecided),
        ]

    @property
    def figures(self) -> list[Figure]:
        """All figures, in order."""
        return [figure for section in self.sections for figure in section.figures]


def render(page: Page, result: Any = None) -> str:
    """A page that needs nothing else: no network, no scripts, figures inside.

    Args:
        page: what it says.
        result: says how it was made, if it is of one run.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html").render(
        page=page,
        result=result,
        inline=inline,
        light=css_variables(dark=False),
        dark=css_variables(dark=True),
        css=(_TEMPLATES / "page.css").read_text(),
    )


def asked(name: str) -> dict[str, str]:
    """The title, question and paper of a page, as `texts.toml` has them."""
    found = TEXTS["pages"][name]
    return {key: found[key] for key in ("title", "question", "paper")}


def measured(claim: Any) -> tuple[Interval, str, str, str]:
    """A claim's number, its unit, the bound as text, and the verdict."""
    scale, unit, low, high = next(
        unit for part, unit in _UNITS.items() if part in claim.measure
    )
    found = interval(claim, scale, low, high)
    bound = with_unit(f"{scale * claim.bound:g}", unit)
    verdict = claim.verdict if found.known else NEEDS_THREE
    return found, unit, f"{claim.side} {bound}", verdict


def judged(claims: dict[str, Sequence[Any]]) -> dict[str, Any]:
    """Sentences on claims that held, failed or are undecided; several networks in one.

    Args:
        claims: what the networks are called ("width 32", or "") -> their claims.
    """
    found: dict[str, dict[Any, list[str]]] = {"held": {}, "failed": {}, "undecided": {}}
    kinds = {"holds": "held", "does not hold": "failed"}
    for where, rows in claims.items():
        for claim in rows:
            number, unit, bound, verdict = measured(claim)
            note = f"; {verdict}" if verdict == NEEDS_THREE else ""
            text = "moot" if verdict == "moot" else number.text(unit) + note
            text += f" at {where}" * bool(where)
            row = found[kinds.get(verdict, "undecided")]
            row.setdefault((claim.claim, claim.measure, bound), []).append(text)
    return {
        kind: [
            f"{claim[:1].upper()}{claim[1:]}: {'; '.join(texts)}. "
            f"Bound: {bound} ({measure})."
            for (claim, measure, bound), texts in rows.items()
        ]
        for kind, rows in found.items()
    }
