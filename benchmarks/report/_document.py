"""The HTML that every report has: document, lists, figures, where it comes from."""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report._figure import Figure, legend_swatch, svg
from benchmarks.report._style import css_variables


def document(
    result: dict[str, Any], title: str, subtitle: str, sections: Iterable[str]
) -> str:
    """A page that needs nothing else: no network, no scripts, figures inside."""
    origin = f"<section><h2>How it was made</h2>{_origin(result)}</section>"
    footer = (
        "Beside this page lie result.json, with every number, and every figure as PNG."
    )
    return plain_document(title, subtitle, [*sections, origin], footer)


def plain_document(
    title: str, subtitle: str, sections: Iterable[str], footer: str = ""
) -> str:
    """A page of sections that does not say where they come from."""
    style = Path(__file__).with_name("page.css").read_text()
    light, dark = css_variables(dark=False), css_variables(dark=True)
    title = html.escape(title)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ {light} }}
@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}
{style}</style>
</head>
<body>
<header><h1>{title}</h1><p class="faint">{html.escape(subtitle)}</p></header>
<main>
{"".join(sections)}
</main>
<footer>{html.escape(footer)}
</footer>
</body>
</html>
"""


def bullets(items: Iterable[str]) -> str:
    """A list of sentences."""
    return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"


def folded(title: str, body: str) -> str:
    """HTML that is shown when asked for."""
    return f"<details><summary>{html.escape(title)}</summary>{body}</details>"


def figure_section(figure: Figure) -> str:
    """A figure with its title, text and legend."""
    if figure.folded:
        return folded(figure.title, figure_body(figure))
    title = html.escape(figure.title)
    return f"<section><h2>{title}</h2>{figure_body(figure)}</section>"


def figure_body(figure: Figure) -> str:
    """A figure with its text and legend."""
    first, *rest = (html.escape(paragraph) for paragraph in figure.text)
    looks = sorted(figure.legend, key=lambda style: not style.learned)
    items = "".join(
        f"<li>{legend_swatch(style)}{html.escape(style.label)}</li>" for style in looks
    )
    legend = f'<ul class="legend">{items}</ul>' if items else ""
    panels = "".join(svg(panel, figure.title) for panel in figure.panels)
    limits = "".join(f'<p class="limits">{paragraph}</p>' for paragraph in rest)
    return (
        f'<p>{first}</p><figure>{legend}<div class="panels">{panels}</div></figure>'
        f"{limits}"
    )


def grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text, the first cell of each row as its heading."""
    head = "".join(f'<th class="text">{html.escape(name)}</th>' for name in columns)
    body = "".join(
        "<tr>"
        + f"<th>{html.escape(row[0])}</th>"
        + "".join(f'<td class="text">{html.escape(cell)}</td>' for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table class="sentences"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _origin(result: dict[str, Any]) -> str:
    machine, versions = result["machine"], result["versions"]
    facts = {
        "started": result["started"],
        "computing": f"{result['seconds']:.0f} s",
        "device": f"{machine['devices']} × {machine['device']}",
        "processor": f"{machine['cpu']}, {machine['cores']} cores",
        "versions": ", ".join(f"{name} {v}" for name, v in versions.items()),
        "options": "; ".join(
            f"{name.replace('_', ' ')} {_listed(value)}"
            for name, value in result["config"].items()
        ),
    }
    listed = "".join(
        f"<dt>{name}</dt><dd>{html.escape(str(fact))}</dd>"
        for name, fact in facts.items()
    )
    return f"<pre>{html.escape(result['command'])}</pre><dl>{listed}</dl>"


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
