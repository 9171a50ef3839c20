"""What the report of an optimizer comparison says around its figures."""

from typing import Any

from benchmarks.report._differences import differences
from benchmarks.report._document import bullets, figure_section
from benchmarks.report._figure import Figure
from benchmarks.report._findings import findings
from benchmarks.report._law import laws, responses
from benchmarks.report._learning_curves import learning_curves
from benchmarks.report._numbers import schedules, significant
from benchmarks.report._sensitivity import sensitivity
from benchmarks.report._tables import html_problems, html_table

LIMITS = (
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


def title(result: dict[str, Any]) -> str:
    """The page's title."""
    return "Comparison of optimizers"


def subtitle(result: dict[str, Any]) -> str:
    """What was run, in a line."""
    config = result["config"]
    return (
        f"{config['dataset']}, {config['model']}, {config['steps']} steps of "
        f"{config['batch_size']}; {config['trials']} trials a method, then "
        f"{config['seeds']} fresh seeds"
    )


def figures(result: dict[str, Any]) -> list[Figure]:
    """The figures of an optimizer comparison, those for which there are numbers."""
    law_figures = [laws(result), responses(result)]
    return [
        learning_curves(result),
        *differences(result),
        sensitivity(result),
        *(figure for figure in law_figures if figure is not None),
    ]


def sections(result: dict[str, Any], figures: list[Figure]) -> list[str]:
    """The sections between the title and how it was made, as HTML."""
    return [
        f"<section><h2>In short</h2>{_findings(result)}</section>",
        f"<section><h2>Results</h2>{tables(result)}</section>",
        *map(figure_section, figures),
        _problems(result),
        f"<section><h2>What this does not show</h2>{bullets(LIMITS)}</section>",
    ]


def _findings(result: dict[str, Any]) -> str:
    return "".join(
        f"<h3>{schedule.capitalize()} rate</h3>{bullets(said)}"
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


def tables(result: dict[str, Any]) -> str:
    """What came out under each schedule, as HTML."""
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
