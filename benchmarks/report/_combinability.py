"""The page of experiments on combining aligned networks."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

import combinability.plot
from benchmarks.report import plots
from benchmarks.report._figure import TEXTS, Figure, figure, panel
from benchmarks.report._numbers import Interval, array, fixed, interval
from benchmarks.report._page import Page, Section, Table, asked, judged
from benchmarks.report._style import COLOURS, DASHES, FAINT, line, strong
from combinability import Barrier, Robustness

_UNIFORM = ("uniform [0, 1]", "element")
_TOLERANCE = 2.0  # percentage points beyond the parents that still count as working
_CONTROLS = {
    "not matched": line("not matched", COLOURS["muted-1"][0], DASHES[0]),
    "matched": line("matched", strong(0)),
    "matched, repaired": line("matched, repaired", strong(1)),
    "not matched, temperature": line(
        "not matched, temperature", COLOURS["muted-2"][0], DASHES[1]
    ),
    "matched, temperature": line("matched, temperature", strong(2), DASHES[2]),
}
# The metrics of barriers, and how many of the controls they can tell apart.
_METRICS = {
    "test_error": ("test error", "percentage points", 100, 3),
    "test_loss": ("test loss", "nats", 1, 5),
}
_THROUGH = {
    "unmatched": {"label": "not matched", "color": FAINT},
    "direct": {"label": "matched to each other", "color": strong(0)},
    "through": {"label": "both matched to a third", "color": strong(1)},
}
_KINDS = {
    "seeds": {"label": "two networks", "color": FAINT},
    "parents": {"label": "combination and parent", "color": strong(0)},
    "combinations": {"label": "two combinations", "color": strong(2)},
}
_PLANES = {
    "unmatched": ("not matched", ("a", "b", "c")),
    "aligned": ("aligned to a", ("a", "π(b)", "π(c)")),
    "vertices": ("a and two vertices", ("a", "v", "w")),
}
_MATRICES = {
    "unmatched": "Not matched",
    "direct": "Matched to each other",
    "through_first": "All matched to network 0",
}


def page(result: Any) -> Page:
    """The page of experiments on combinability."""
    config = result.config
    widths = {f"width {width}": found for width, found in result.widths.items()}
    count = len(next(iter(widths.values())).parents)
    return Page(
        **asked("combinability"),
        subtitle=f"{config['dataset']}, {config['model']}, {', '.join(widths)}; "
        f"{count} networks each; {config['samples']} combinations per distribution",
        headlines=headlines(result),
        **judged({where: found.claims for where, found in widths.items()}),
        sections=[
            Section("In the hypercube", figures=[hypercube(result)]),
            Section("From one network to another", figures=_segments(result)),
            Section("Planes through the landscape", figures=[_planes(result)]),
            Section("Transitivity", figures=_transitivity(result)),
            Section("Robustness of the matching", figures=[_robustness(result)]),
            Section("Are combinations different?", figures=[_different(result)]),
            Section("The networks", tables=[("", _networks(result))]),
            Section(
                "What this does not show",
                bullets=TEXTS["pages"]["combinability"]["limits"],
            ),
            *(
                Section(f"Symmetry at {where}", code=found.symmetry, folded=True)
                for where, found in widths.items()
            ),
        ],
    )


def headlines(result: Any) -> list[tuple[str, str]]:
    """Three numbers of the largest width."""
    width, found = _largest(result)
    barriers = found.controls.barriers
    before, after = (
        fixed(100 * barriers[name]["test_error"].mean, 1)
        for name in ("not matched", "matched")
    )
    parents = fixed(
        100 * float(np.mean([scores["test_error"] for scores in found.parents])), 1
    )
    claims = [claim.verdict for claim in found.claims]
    return [
        (
            middles(found.hypercube),
            "median test error of uniform combinations before → after matching, width "
            f"{width}; the networks have {parents} %",
        ),
        (f"{before} → {after} points", "barrier in test error before → after matching"),
        (
            f"{claims.count('holds')} of {len(claims)}",
            f"of the paper's claims hold at width {width}, by bounds of ours",
        ),
    ]


def middles(cube: Mapping[str, Any]) -> str:
    """The median test error of uniform combinations before and after matching."""
    found = {
        cell.cell.aligned: 100 * cell.test_error.percentiles[50]
        for cell in cube.values()
        if (cell.cell.distribution, cell.cell.granularity) == _UNIFORM
    }
    return " → ".join(fixed(found[key], 1) for key in sorted(found)) + " %"


def _largest(result: Any) -> tuple[str, Any]:
    return list(result.widths.items())[-1]


def hypercube(result: Any) -> Figure:
    """The test error of every distribution and granularity."""
    return figure(
        "hypercube",
        [cube(f"Test error, width {w}", found) for w, found in result.widths.items()],
    )


def cube(title: str, found: Any):
    """A panel of the distributions of a width, or of the two networks of a tour."""
    parents = 100 * array([scores["test_error"] for scores in found.parents])
    values = {
        name: 100 * array(cell.test_error.percentiles)
        for name, cell in found.hypercube.items()
    }
    draw = partial(combinability.plot.hypercube, values, parents, tolerance=_TOLERANCE)
    height = 1.0 + 0.27 * len(values)
    settings = {"xlabel": "test error, %", "xlim": (0, None)}
    return panel(title, draw, height=height, share=("error", ""), **settings)


def _segments(result: Any) -> list[Figure]:
    bars, curves = [], []
    looks = _by_width(result)
    for metric, (title, unit, scale, count) in _METRICS.items():
        every = [found.controls.barriers for found in result.widths.values()]
        names = [name for name in list(_CONTROLS)[:count] if name in every[0]]
        limits = (0, 100) if scale == 100 else (0, np.inf)
        rows = {
            name: {
                width: interval(found.controls.barriers[name][metric], scale, *limits)
                for width, found in result.widths.items()
            }
            for name in names
        }
        draw = partial(plots.forest, rows, looks)
        height = 0.9 + count * (0.2 + 0.16 * len(looks))
        bars.append(panel(f"Barrier, {title}", draw, height=height, xlabel=unit))
        for width, found in result.widths.items():
            draws = []
            for name in names:
                losses = scale * array(found.controls.curves[name][metric])
                segment = Barrier(np.nan, array(found.controls.fractions), losses)
                look = _CONTROLS[name]
                draws.append(partial(combinability.plot.barrier, segment, **look))
            name = f"{title.capitalize()}{', %' * (scale > 1)}, width {width}"
            settings = {"xlabel": "fraction of the segment", "ylim": (0, None)}
            curves.append(panel(name, *draws, share=("", metric), **settings))
    return [figure("barriers", bars), figure("segments", curves)]


def _by_width(result: Any) -> dict[str, dict[str, Any]]:
    return {
        width: {"color": strong(place), "label": f"width {width}"}
        for place, width in enumerate(result.widths)
    }


def _planes(result: Any) -> Figure:
    width, found = _largest(result)
    planes = {name: getattr(found.landscape, name) for name in _PLANES}
    errors = {name: 100 * array(plane.test_error) for name, plane in planes.items()}
    levels = combinability.plot.round_levels(np.stack(list(errors.values())))
    panels = []
    for name, (title, names) in _PLANES.items():
        at = (planes[name].x, planes[name].y, errors[name], planes[name].marks, names)
        draw = partial(combinability.plot.plane, *at, levels=levels)
        panels.append(panel(f"Test error, %: {title}", draw, height=3.2))
    return figure("landscape", panels, width=width)


def _transitivity(result: Any) -> list[Figure]:
    width, found = _largest(result)
    height = 1.0 + 0.6 * len(result.widths)
    rows = _grouped(
        result,
        lambda each, how: each.transitivity.barriers[how]["test_error"],
        _THROUGH,
    )
    cycles = {
        f"width {width}": {
            group: Interval(100 * cycle.mean, np.nan, np.nan)
            for group, cycle in each.transitivity.cycles.items()
        }
        for width, each in result.widths.items()
    }
    looks = {
        group: {"color": strong(1)} for groups in cycles.values() for group in groups
    }
    moved = partial(plots.forest, cycles, looks, zero=None, limits=(0, 101))
    bars = partial(plots.forest, rows, _THROUGH)
    matrices = found.transitivity.matrices
    heights = {how: 100 * array(matrices[how]["test_error"]) for how in _MATRICES}
    decimals = 0 if len(heights["direct"]) > 6 else 1
    limits = (0.0, float(max(values.max() for values in heights.values())))
    pairs = [
        panel(
            _MATRICES[how],
            partial(combinability.plot.matrix, values.round(decimals), limits=limits),
            height=3.2,
        )
        for how, values in heights.items()
    ]
    return [
        figure(
            "transitivity",
            [
                panel("Barrier", bars, height=height, xlabel="percentage points"),
                panel(
                    "Units moved by a round trip",
                    moved,
                    height=height,
                    xlabel="% of the units, a mark for each group",
                ),
            ],
        ),
        figure("pairs", pairs, folded=True, width=width),
    ]


def _grouped(result: Any, number: Callable[[Any, str], Any], looks: Mapping[str, Any]):
    """Numbers in percent: a row for each width, in it one for each look."""
    return {
        f"width {width}": {
            name: interval(number(found, name), 100, 0, 100) for name in looks
        }
        for width, found in result.widths.items()
    }


def _robustness(result: Any) -> Figure:
    pairs = {width: _perturbed(found) for width, found in result.widths.items()}
    panels = []
    for title, what, against in (
        ("Excess test error of combinations", "losses", "moved"),
        ("The same against the match lost", "losses", "lost"),
        ("Barrier, test error", "barrier", "moved"),
    ):
        draws = [
            partial(
                combinability.plot.robustness,
                pairs[w],
                what=what,
                against=against,
                **look,
            )
            for w, look in _by_width(result).items()
        ]
        name = "units moved, %" if against == "moved" else "match lost, %"
        settings = {"xlabel": name, "ylim": (0, None), "share": ("", "points")}
        panels.append(panel(title, *draws, **settings))
    return figure("robustness", panels)


def _perturbed(found: Any) -> list[Robustness]:
    """What `combinability.robustness` returns for each pair, in percentage points."""
    rows = found.robustness.rows
    moved, lost = (
        100 * array(side)[:, None]
        for side in (found.robustness.moved, found.robustness.lost)
    )
    barrier = 100 * array([row.barrier["test_error"].pairs for row in rows])
    excess = 100 * array([row.excess["test_error"].pairs for row in rows])
    fractions = array(found.robustness.fractions)
    return [
        Robustness(
            fractions,
            moved,
            lost,
            barrier[:, i, None],
            excess[:, i, None, None],
            1.0,
            0.0,
        )
        for i in range(excess.shape[1])
    ]


def _different(result: Any) -> Figure:
    rows = _grouped(
        result,
        lambda found, kind: getattr(found.difference, kind)["disagreement"],
        _KINDS,
    )
    draw, height = partial(plots.forest, rows, _KINDS), 1.0 + 0.6 * len(rows)
    text = "% of test rows with different predicted classes"
    return figure(
        "different", [panel("Disagreement", draw, height=height, xlabel=text)]
    )


def _networks(result: Any) -> Table:
    rows = []
    for width, found in result.widths.items():
        accuracy = 100 * array(found.networks["test_accuracy"])
        spread = f"{fixed(accuracy.min(), 1)} to {fixed(accuracy.max(), 1)}"
        rows.append((width, f"{found.parameters:,}", spread))
    return Table(("width", "parameters", "test accuracy, %"), rows)
