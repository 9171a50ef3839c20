"""The tour's page: one story in chapters, each with a number and what it rests on."""

import html
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.report import _combinations, _optimizers, _stitches
from benchmarks.report._combinability import combined
from benchmarks.report._document import bullets, figure_body, folded
from benchmarks.report._figure import Figure
from benchmarks.report._findings import findings
from benchmarks.report._law import laws
from benchmarks.report._learning_curves import learning_curves
from benchmarks.report._numbers import (
    array,
    power,
    ranking,
    schedules,
    significant,
)
from benchmarks.report._stitching import stitched
from benchmarks.report._style import label

_LIMITS = (
    "An easy task and small networks, chosen so that all of this fits into two "
    "minutes. The committed results are of larger ones.",
    "One pair of networks was aligned, combined and stitched: no intervals over "
    "networks.",
)


class Chapter(NamedTuple):
    """A part of the story.

    Attributes:
        name: of its anchor.
        title: a few words.
        card: its number for the head of the page, and what that is.
        lead: what is done, and why one would.
        said: what came out, in sentences.
        figures: what is drawn.
        more: HTML behind its figures.
    """

    name: str
    title: str
    card: tuple[str, str]
    lead: str
    said: list[str]
    figures: list[Figure]
    more: str = ""


def chapters(result: dict[str, Any]) -> list[Chapter]:
    """The chapters for which the result of a tour has numbers."""
    parts: list[tuple[str, Callable[[dict[str, Any]], Chapter]]] = [
        ("methods", _training),
        ("combinability", _symmetry),
        ("combinability", _combining),
        ("stitching", _stitching),
    ]
    return [chapter(result) for key, chapter in parts if key in result]


def title(result: dict[str, Any]) -> str:
    """The page's title."""
    return "A tour between networks"


def subtitle(result: dict[str, Any]) -> str:
    """What was run, in a line."""
    config = result["config"]
    return (
        f"Real data ({config['dataset']}), small networks, {config['steps']} steps of "
        f"{config['batch_size']}; {result['seconds']:.0f} s of computing"
    )


def figures(result: dict[str, Any]) -> list[Figure]:
    """The figures of all chapters, and those of the comparison's details."""
    told = [figure for chapter in chapters(result) for figure in chapter.figures]
    names = {figure.name for figure in told}
    details = _optimizers.figures(result)
    return [*told, *(figure for figure in details if figure.name not in names)]


def sections(result: dict[str, Any], figures: list[Figure]) -> list[str]:
    """The sections between the title and how it was made, as HTML."""
    told = chapters(result)
    return [
        _cards(told),
        *(_section(number, chapter) for number, chapter in enumerate(told, start=1)),
        f"<section><h2>What this does not show</h2>{bullets(_LIMITS)}</section>",
    ]


def _cards(told: list[Chapter]) -> str:
    items = "".join(
        f'<a href="#{chapter.name}"><span>{html.escape(chapter.title)}</span>'
        f"<strong>{html.escape(chapter.card[0])}</strong>"
        f"<small>{html.escape(chapter.card[1])}</small></a>"
        for chapter in told
    )
    return f'<nav class="cards" aria-label="Chapters">{items}</nav>'


def _section(number: int, chapter: Chapter) -> str:
    drawn = "".join(
        f"<h3>{html.escape(figure.title)}</h3>{figure_body(figure)}"
        for figure in chapter.figures
    )
    return (
        f'<section id="{chapter.name}"><h2><span class="number">{number}</span>'
        f"{html.escape(chapter.title)}</h2>"
        f'<p class="lead">{html.escape(chapter.lead)}</p>{bullets(chapter.said)}'
        f"{drawn}{chapter.more}</section>"
    )


def _training(result: dict[str, Any]) -> Chapter:
    schedule = schedules(result)[-1]
    first = ranking(result, schedule)[0]
    loss = array(result["methods"][first][schedule]["validation_loss"]).mean()
    said = [
        f"{name.capitalize()} rate. {sentence}"
        for name, sentences in findings(result).items()
        for sentence in sentences[:2]  # the order, and ours against the best baseline
    ]
    config = result["config"]
    lead = (
        "RLLC keeps several memories of past gradients and learns, from each new one, "
        "how to combine them. It trains the same networks as the optimizers that it "
        f"competes with: {config['trials']} trials a method to find its settings, then "
        f"{config['seeds']} fresh seeds, the same for all."
    )
    drawn = [learning_curves(result), laws(result)]
    inside = {"learning_curves", "laws", "combinations"}
    details = [f for f in _optimizers.figures(result) if f.name not in inside]
    more = folded("Every number", _optimizers.tables(result)) + "".join(
        folded(figure.title, figure_body(figure)) for figure in details
    )
    return Chapter(
        "train",
        "Train",
        (label(first), f"lowest validation loss, {schedule} rate: {significant(loss)}"),
        lead,
        said,
        [figure for figure in drawn if figure is not None],
        more + folded("What a comparison like this does not show", _limits()),
    )


def _limits() -> str:
    return bullets(_optimizers.LIMITS)


def _symmetry(result: dict[str, Any]) -> Chapter:
    found = result["combinability"]
    many = power(round(found["log10_equivalent"]))
    lead = (
        "Which hidden units may change places without changing the function? The "
        "answer is read off the network's program, layer names and specifications by "
        "hand are not needed, and certified in float64 on random weights."
    )
    said = [
        f"Each network is one of {many} that compute the same function, so two "
        "training runs that found the same function may look nothing alike.",
        "The two networks here were trained with RLLC on Adam's scaling, from "
        "different seeds; everything below is about this pair.",
    ]
    table = f"<pre>{html.escape(found['symmetry'])}</pre>"
    return Chapter(
        "symmetry",
        "Symmetry",
        (many, "arrangements of the units of one network, one function"),
        lead,
        said,
        [],
        table,
    )


def _combining(result: dict[str, Any]) -> Chapter:
    found = result["combinability"]
    middle = {
        cell["cell"]["aligned"]: cell["test_error"]["percentiles"][50]
        for cell in found["hypercube"].values()
    }
    lead = (
        "Bring the second network's units into the order of the first's, by the "
        "weights alone. Then mix the two at random, every single weight with a "
        "coefficient of its own: a point of a hypercube whose corners are as far from "
        "the parents as can be. Networks that can be combined so hold more in common "
        "than a path between them."
    )
    return Chapter(
        "combine",
        "Align and combine",
        (
            f"{100 * middle[False]:.0f} → {100 * middle[True]:.0f} %",
            "median test error of random combinations, before and after alignment",
        ),
        lead,
        combined(found),
        [_combinations.taste(found)],
    )


def _stitching(result: dict[str, Any]) -> Chapter:
    found = result["stitching"]
    names = ("least squares", "task loss: affine")
    worst = [
        min(
            maps[name]["relative_accuracy"]["mean"]
            for maps in found["stitches"].values()
        )
        for name in names
    ]
    lead = (
        "Run the first network up to a layer, translate what it gives by one affine "
        "map of its units, and let the second network go on from there. If that does "
        "the task, what the second network needs is in the first one's activation, and "
        "a linear map finds it."
    )
    return Chapter(
        "stitch",
        "Stitch",
        (
            f"{100 * worst[0]:.0f} and {100 * worst[1]:.0f} %",
            "of the second network's accuracy at the worst layer, by least squares and "
            "by training on the task",
        ),
        lead,
        stitched(found),
        [_stitches.taste(found)],
    )
