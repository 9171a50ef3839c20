"""What a page says, and how it becomes HTML: `templates/page.html`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jinja2

from benchmarks.report._figure import TEXTS, Figure, inline
from benchmarks.report._numbers import Interval, interval, with_unit
from benchmarks.report._style import COLOURS

HELD, FAILED = "What held", "What did not"
UNDECIDED, LIMITS = "What this run cannot decide", "What this does not show"
# Why a claim's number has no interval.
NEEDS_THREE = "needs at least three pairs, of three networks or more"
NOT_FINITE = "no finite value"
_TEMPLATES = Path(__file__).with_name("templates")


class Table(NamedTuple):
    """Rows of text; the first cell of each is its heading."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: frozenset[tuple[int, int]] = frozenset()  # cells to show bold
    text: bool = False  # whether cells are sentences rather than numbers


class Section(NamedTuple):
    """A part of a page: what it says, then tables, figures and fixed-width text."""

    title: str
    text: Sequence[str] = ()
    bullets: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[tuple[str, Table]] = ()
    code: str = ""
    folded: bool = False
    printed: bool = False  # whether commands print its tables when they are finished


class Page(NamedTuple):
    """What a page says."""

    title: str
    subtitle: str  # what was run, in a line
    question: str = ""
    paper: str = ""
    headlines: Sequence[tuple[str, str]] = ()  # numbers, each with what it is
    findings: Mapping[str, Sequence[str]] = MappingProxyType({})
    sections: Sequence[Section] = ()

    @property
    def figures(self) -> list[Figure]:
        """All figures, in order."""
        return [figure for section in self.sections for figure in section.figures]


def page(
    result: Any,
    sections: Iterable[Section],
    findings: Mapping[str, Sequence[str]] = MappingProxyType({}),
    headlines: Sequence[tuple[str, str]] = (),
    **values: Any,
) -> Page:
    """The page of a result in the words of `texts.toml`, filled with `values`."""
    found = TEXTS["pages"][result.experiment]
    values = result.config | values
    texts = headlines or [
        (number.format(**values), text.format(**values))
        for number, text in found["headlines"]
    ]
    subtitle = found["subtitle"].format(**values)
    words = (found["title"], subtitle, found["question"], found["paper"])
    kept = [section for section in sections if any(section[1:-1])]
    limits = Section(LIMITS, bullets=found["limits"])
    return Page(*words, texts, findings, [*kept, limits])


def render(page: Page, result: Any = None) -> str:
    """A page with its figures inside; the result of a run says how it was made."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    template = environment.get_template("page.html")
    return template.render(page=page, result=result, inline=inline, colours=COLOURS)


def measured(claim: Any) -> tuple[Interval, str, str, str]:
    """A claim's number, its unit, the bound, and the verdict or why there is none."""
    scale, unit, low, high = next(
        unit for part, unit in TEXTS["units"].items() if part in claim.measure
    )
    found = interval(claim, scale, low, high)
    bound = with_unit(f"{scale * claim.bound:g}", unit)
    missing = NEEDS_THREE if math.isfinite(found.mean) else NOT_FINITE
    verdict = claim.verdict if found.known else missing
    return found, unit, f"{claim.side} {bound}", verdict


def judged(claims: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
    """Sentences on claims by heading; those at several widths are one."""
    found: dict[str, dict[Any, list[str]]] = {HELD: {}, FAILED: {}, UNDECIDED: {}}
    headings = {"holds": HELD, "does not hold": FAILED}
    for where, rows in claims.items():
        for claim in rows:
            number, unit, bound, verdict = measured(claim)
            text = "moot" if verdict == "moot" else number.text(unit)
            text += f"; {verdict}" * (not number.known)
            row = found[headings.get(verdict, UNDECIDED)]
            said = row.setdefault((claim.claim, claim.measure, bound), [])
            said.append(text + f" at {where}" * bool(where))
    return {
        heading: [
            f"{claim[:1].upper()}{claim[1:]}: {'; '.join(texts)}. "
            f"Bound: {bound} ({measure})."
            for (claim, measure, bound), texts in rows.items()
        ]
        for heading, rows in found.items()
    }
