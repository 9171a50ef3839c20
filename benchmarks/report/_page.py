"""One HTML file that needs nothing else: no network, no scripts, figures inside."""

import html
from pathlib import Path
from typing import Any

from benchmarks.report._figure import Figure, legend_swatch, svg
from benchmarks.report._findings import findings
from benchmarks.report._numbers import schedules, significant
from benchmarks.report._style import css_variables
from benchmarks.report._tables import html_problems, html_table

_LIMITS = (
    "One data set and one small network: the order of methods may be another one "
    "elsewhere, above all for larger models and longer training.",
    "Every method had the same number of trials from a space of the same kind. That is "
    "fair to a fixed effort, not to a method's best: more trials may change the order.",
    "The best learned law and the best baseline are named after the fact, which "
    "flatters both. Validation data selected the settings; test data selected nothing.",
    "Intervals cover the randomness of start and batches. They do not cover the choice "
    "of the settings, which were selected once, nor that of the data.",
    "Seconds a step were taken while the whole comparison ran, several runs at once "
    "where that is faster; they are no benchmark of speed.",
)


def page(result: dict[str, Any], figures: list[Figure]) -> str:
    """The report of an optimizer comparison as a self-contained HTML page."""
    style = Path(__file__).with_name("page.css").read_text()
    light, dark = css_variables(dark=False), css_variables(dark=True)
    title = html.escape(_title(result))
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
<header><h1>{title}</h1><p class="faint">{html.escape(_subtitle(result))}</p></header>
<main>
<section><h2>In short</h2>{_findings(result)}</section>
<section><h2>Results</h2>{_tables(result)}</section>
{"".join(_section(figure) for figure in figures)}
{_problems(result)}
<section><h2>What this does not show</h2>{_list(_LIMITS)}</section>
<section><h2>How it was made</h2>{_origin(result)}</section>
</main>
<footer>Beside this page lie result.json, with every number, and every figure as PNG.
</footer>
</body>
</html>
"""


def _title(result: dict[str, Any]) -> str:
    names = {"rllc": "Comparison of optimizers", "tour": "A tour of RLLC"}
    return names.get(result["experiment"], str(result["experiment"]))


def _subtitle(result: dict[str, Any]) -> str:
    config = result["config"]
    return (
        f"{config['dataset']}, {config['model']}, {config['steps']} steps of "
        f"{config['batch_size']}; {config['trials']} trials a method, then "
        f"{config['seeds']} fresh seeds"
    )


def _list(items) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"


def _findings(result: dict[str, Any]) -> str:
    return "".join(
        f"<h3>{schedule.capitalize()} rate</h3>{_list(said)}"
        for schedule, said in findings(result).items()
    )


def _problems(result: dict[str, Any]) -> str:
    problems = result.get("problems")
    if not problems:
        return ""
    steps = next(iter(problems.values()))["steps"]
    return (
        "<section><h2>Deterministic problems</h2>"
        f"<p>No data and no noise: {steps} steps at a constant rate from fresh "
        "starting points, after a search of the same kind. Mean ± sample standard "
        "deviation of the logarithm of the final loss.</p>"
        f"{html_problems(result)}"
        '<p class="limits">Two textbook surfaces: what helps here need not help a '
        "network, whose gradients are noisy.</p></section>"
    )


def _tables(result: dict[str, Any]) -> str:
    intro = (
        "<p>Mean ± sample standard deviation over fresh seeds, at the setting that was "
        "selected on validation data; means are over finite values. Bold numbers are "
        "the best of their column, which need not mean clearly best: see the paired "
        "differences.</p>"
    )
    parts = [intro]
    for schedule in schedules(result):
        target = (result.get("targets") or {}).get(schedule)
        note = f"; target: training loss {significant(target)}" if target else ""
        parts.append(f"<h3>{schedule.capitalize()} rate{note}</h3>")
        parts.append(html_table(result, schedule))
    return "".join(parts)


def _section(figure: Figure) -> str:
    first, *rest = (html.escape(paragraph) for paragraph in figure.text)
    looks = sorted(figure.legend, key=lambda style: not style.learned)
    items = "".join(
        f"<li>{legend_swatch(style)}{html.escape(style.label)}</li>" for style in looks
    )
    legend = f'<ul class="legend">{items}</ul>' if items else ""
    panels = "".join(svg(panel, figure.title) for panel in figure.panels)
    limits = "".join(f'<p class="limits">{paragraph}</p>' for paragraph in rest)
    body = (
        f'<p>{first}</p><figure>{legend}<div class="panels">{panels}</div></figure>'
        f"{limits}"
    )
    title = html.escape(figure.title)
    if figure.folded:
        return f"<details><summary>{title}</summary>{body}</details>"
    return f"<section><h2>{title}</h2>{body}</section>"


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
