"""The page of experiments on combining aligned networks."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

import combinability.plot
from benchmarks.intervals import rank_correlation
from benchmarks.report import _page, plots
from benchmarks.report._comparison import (
    OVER_PAIRS,
    Comparison,
    Looks,
    Numbers,
    Runs,
    numbers_of_claims,
)
from benchmarks.report._figure import Figure, Panel, figure, forest, panel
from benchmarks.report._numbers import Interval, fixed, interval, percent
from benchmarks.report._page import Page, Section, Table, judged
from benchmarks.report._style import looks, strong
from combinability import Barrier, Robustness

_UNIFORM = ("uniform [0, 1]", "element")
_TOLERANCE = 2.0  # percentage points beyond the parents that still count as working
# Of each metric of barriers: its scale, and how many of the controls it can tell apart.
_METRICS = {"test_error": (100, 3), "test_loss": (1, 5)}
_PLANES = {"unmatched": "a b c", "aligned": "a π(b) π(c)", "vertices": "a v w"}
Widths = Mapping[str, Any]  # "width 32" -> what was found at this width


def page(result: Any) -> Page:
    """The page of experiments on combinability."""
    widths = {f"width {width}": found for width, found in result.widths.items()}
    last, largest = list(widths.items())[-1]
    barriers, verdicts = largest.controls.barriers, [c.verdict for c in largest.claims]
    return _page.page(
        result,
        [
            Section(
                "In the hypercube",
                figures=[*_claims(result.widths), hypercube(widths)],
            ),
            Section("From one network to another", figures=_segments(widths)),
            Section("Matched in other ways", figures=_matchings(widths)),
            Section("What becomes of the variance", figures=_variances(widths)),
            Section("Planes through the landscape", figures=[_planes(largest, last)]),
            Section("Transitivity", figures=_transitivity(widths, largest, last)),
            Section("Robustness of the matching", figures=[_robustness(widths)]),
            Section("Are combinations different?", figures=[_different(widths)]),
            Section("The networks", tables=[("", _networks(widths))]),
            *(
                Section(f"Symmetry at {width}", code=found.symmetry, folded=True)
                for width, found in widths.items()
            ),
        ],
        judged({width: found.claims for width, found in widths.items()}),
        last=last,
        every=", ".join(widths),
        count=len(largest.parents),
        middles=middles(largest.hypercube),
        parents=percent(np.mean([scores["test_error"] for scores in largest.parents])),
        before=percent(barriers["not matched"]["test_error"].mean),
        after=percent(barriers["matched"]["test_error"].mean),
        held=verdicts.count("holds"),
        claims=len(verdicts),
    )


def _claims(widths: Mapping[str, Any]) -> list[Figure]:
    """From which width on each claim holds; none where there are few widths."""
    if len(widths) < 3:
        return []
    found = [
        [each for each in one.claims if each.bound == _TOLERANCE / 100]
        for one in widths.values()
    ]
    draws = [
        partial(
            combinability.plot.by_width,
            [int(width) for width in widths],
            100 * np.array([each.mean for each in claims]),
            100 * np.array([[c.low for c in claims], [c.high for c in claims]]),
            bound=_TOLERANCE,
            label=claims[0].claim.removeprefix("combinable "),
            color=strong(place),
        )
        for place, claims in enumerate(zip(*found, strict=True))
    ]
    return [figure("by_width", [panel("by_width", *draws, height=3.6)])]


def middles(cells: Mapping[str, Any]) -> str:
    """The median test error of uniform combinations before and after matching."""
    found = {
        each.cell.aligned: percent(each.test_error.percentiles[50])
        for each in cells.values()
        if (each.cell.distribution, each.cell.granularity) == _UNIFORM
    }
    return " → ".join(found[aligned] for aligned in sorted(found)) + " %"


def hypercube(widths: Widths, name: str = "hypercube") -> Figure:
    """The test error of every distribution."""
    panels = []
    for width, found in widths.items():
        parents = 100 * np.array([scores["test_error"] for scores in found.parents])
        cells = found.hypercube.items()
        values = {at: 100 * each.test_error.percentiles for at, each in cells}
        draw = partial(combinability.plot.hypercube, values, parents)
        draw = partial(draw, tolerance=_TOLERANCE)
        panels.append(panel(name, draw, height=1.0 + 0.27 * len(values), width=width))
    return figure(name, panels)


def _segment(controls: Any, control: str, metric: str, scale: float, **look: Any):
    """Draw a curve along the segment between two networks."""
    losses = scale * controls.curves[control][metric]
    found = Barrier(np.nan, np.array(controls.fractions), losses)
    return partial(combinability.plot.barrier, found, **look)


def _segments(widths: Widths) -> list[Figure]:
    bars, curves = [], []
    known = next(iter(widths.values())).controls.barriers
    controls = list(looks("controls").items())
    for metric, (scale, count) in _METRICS.items():
        marks = {name: look for name, look in controls[:count] if name in known}
        limit = 100 if scale == 100 else np.inf
        rows = {
            name: {
                width: interval(found.controls.barriers[name][metric], scale, 0, limit)
                for width, found in widths.items()
            }
            for name in marks
        }
        bars.append(forest(f"barrier_{metric}", rows, _by_width(widths)))
        for width, found in widths.items():
            draw = partial(_segment, found.controls)
            draws = [draw(name, metric, scale, **look) for name, look in marks.items()]
            curves.append(panel(f"segment_{metric}", *draws, width=width))
    return [figure("barriers", bars), figure("segments", curves)]


def _by_width(widths: Widths) -> dict[str, dict[str, Any]]:
    return {w: {"color": strong(i), "label": w} for i, w in enumerate(widths)}


def _matchings(widths: Widths) -> list[Figure]:
    """Pairs matched by weights and in other ways, as far as the result has any."""
    rows = {}
    for width, found in widths.items():
        if found.matchings:
            by_weights = found.controls, found.hypercube[", ".join(_UNIFORM)]
            others = found.matchings.items()
            others = {name: (of.controls, of.combinations) for name, of in others}
            rows[width] = {"weights": by_weights, **others}
    if not rows:
        return []
    tried = set().union(*rows.values())
    marks = {name: look for name, look in looks("matchings").items() if name in tried}

    def drawn(name: str, number: Callable[[Any, Any], Any]) -> Panel:
        numbers = {
            width: {
                way: interval(number(*of), 100, high=100) for way, of in row.items()
            }
            for width, row in rows.items()
        }
        return forest(name, numbers, marks)

    panels = [
        drawn("matchings_barrier", lambda c, _: c.barriers["matched"]["test_error"]),
        drawn(
            "matchings_repaired",
            lambda c, _: c.barriers["matched, repaired"]["test_error"],
        ),
        drawn("matchings_hypercube", lambda _, of: of.test_error.excess_95),
    ]
    return [figure("matchings", panels)]


def _variances(widths: Widths) -> list[Figure]:
    """Variances of layers, measured and predicted; and what predicts the excess."""
    predicted, excess = [], []
    for width, found in widths.items():
        if not found.variances:  # an older result
            continue
        draws = []
        for place, (layer, of) in enumerate(found.variances.items()):
            pairs = [(of.predicted[c].mean, of.measured[c].mean) for c in of.measured]
            # Six colours, then the same in another shape.
            look = {
                "label": layer,
                "color": strong(place),
                "marker": "osD^"[place // 6 % 4],
            }
            draws.append(partial(plots.points, *zip(*pairs, strict=True), **look))
        draws.append(partial(plots.diagonal))
        predicted.append(panel("variances", *draws, width=width))
        last = list(found.variances.values())[-1]
        share = [
            last.signal[c].mean / (last.predicted[c].mean or np.nan)
            for c in last.measured
        ]
        cells = [found.hypercube[cell] for cell in last.measured]
        draws = []
        for name, look in looks("excess").items():
            errors = [
                of.test_error.excess if name == "as they are" else of.repaired
                for of in cells
            ]
            points = [100 * max(e.mean, 0.0) for e in errors if e is not None]
            if len(points) == len(cells):
                draws.append(partial(plots.points, share, points, **look))
        rank = rank_correlation(share, [of.test_error.excess.mean for of in cells])
        excess.append(panel("excess", *draws, width=width, correlation=fixed(rank, 2)))
    if not predicted:
        return []
    return [figure("variances", predicted), figure("excess", excess)]


def _planes(found: Any, width: str) -> Figure:
    planes = {name: getattr(found.landscape, name) for name in _PLANES}
    every = np.stack([100 * plane.test_error for plane in planes.values()])
    levels, panels = combinability.plot.round_levels(every), []
    for (name, plane), errors in zip(planes.items(), every, strict=True):
        at = (plane.x, plane.y, errors, plane.marks, _PLANES[name].split())
        draw = partial(combinability.plot.plane, *at, levels=levels)
        panels.append(panel(f"plane_{name}", draw))
    return figure("landscape", panels, width=width)


def _transitivity(widths: Widths, largest: Any, last: str) -> list[Figure]:
    cycles = {
        width: {
            group: Interval(100 * cycle.mean)
            for group, cycle in found.transitivity.cycles.items()
        }
        for width, found in widths.items()
    }
    marks = {group: {"color": strong(1)} for row in cycles.values() for group in row}
    barriers = _by_look(
        "transitivity",
        widths,
        lambda found, name: found.transitivity.barriers[name]["test_error"],
    )
    moved = forest("moved", cycles, marks, zero=None, limits=(0, 101))
    moved = moved._replace(height=barriers.height)
    every = largest.transitivity.matrices.items()
    matrices = {name: 100 * found["test_error"] for name, found in every}
    decimals = 0 if len(matrices["direct"]) > 6 else 1
    limits = (0.0, float(max(values.max() for values in matrices.values())))
    draw = partial(combinability.plot.matrix, limits=limits)
    pairs = [
        panel(f"pairs_{name}", partial(draw, matrices[name].round(decimals)))
        for name in ("unmatched", "direct", "through_first")
    ]
    return [
        figure("transitivity", [barriers, moved]),
        figure("pairs", pairs, folded=True, width=last),
    ]


def _by_look(name: str, widths: Widths, number: Callable[[Any, str], Any]) -> Panel:
    """Numbers in percent: a row for each width, one number for each look of a name."""
    marks = looks(name)
    rows = {
        width: {kind: interval(number(found, kind), 100, 0, 100) for kind in marks}
        for width, found in widths.items()
    }
    return forest(name, rows, marks)


def _robustness(widths: Widths) -> Figure:
    pairs = {width: _perturbed(found.robustness) for width, found in widths.items()}
    panels = []
    for name in ("losses_moved", "losses_lost", "barrier_moved"):
        what, against = name.split("_")
        draw = partial(combinability.plot.robustness, what=what, against=against)
        marks = _by_width(widths).items()
        draws = [partial(draw, pairs[width], **look) for width, look in marks]
        panels.append(panel(name, *draws))
    return figure("robustness", panels)


def _perturbed(found: Any) -> list[Robustness]:
    """What `combinability.robustness` returns for each pair, in percentage points."""
    barrier = 100 * np.array([row.barrier["test_error"].pairs for row in found.rows])
    excess = 100 * np.array([row.excess["test_error"].pairs for row in found.rows])
    fractions = np.array(found.fractions)
    moved, lost = 100 * found.moved[:, None], 100 * found.lost[:, None]
    return [
        Robustness(fractions, moved, lost, one[:, None], of[:, None, None], 1.0, 0.0)
        for one, of in zip(barrier.T, excess.T, strict=True)
    ]


def _different(widths: Widths) -> Figure:
    drawn = _by_look(
        "difference_of_networks",
        widths,
        lambda found, kind: getattr(found.difference, kind)["disagreement"],
    )
    return figure("different", [drawn])


def _networks(widths: Widths) -> Table:
    rows = []
    for width, found in widths.items():
        accuracy = found.networks["test_accuracy"]
        spread = f"{percent(accuracy.min())} to {percent(accuracy.max())}"
        rows.append((width, f"{found.parameters:,}", spread))
    return Table(("width", "parameters", "test accuracy, %"), rows)


def _numbers(result: Any) -> Numbers:
    for width, found in result.widths.items():
        yield from numbers_of_claims(found, f", width {width}")


def _curves(runs: Runs, looks: Looks) -> Iterator[Panel]:
    """Test error along the segment, at the largest width of each run."""
    for control in ("not matched", "matched", "matched, repaired"):
        draws = []
        for name, result in runs.items():
            found = list(result.widths.values())[-1].controls
            if control in found.curves:  # REPAIR is not in all older results
                draws.append(_segment(found, control, "test_error", 100, **looks[name]))
        yield panel("compared_segments", *draws, control=control)


COMPARISON = Comparison(OVER_PAIRS, _numbers, _curves)
