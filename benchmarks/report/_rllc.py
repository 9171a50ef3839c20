"""The page of a comparison of optimizers."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import rllc
import rllc.plot
from benchmarks.report import _page, plots
from benchmarks.report._figure import TEXTS, Figure, figure, forest, panel
from benchmarks.report._numbers import (
    Interval,
    listed,
    over_seeds,
    significant,
    with_spread,
    with_unit,
)
from benchmarks.report._page import FAILED, HELD, UNDECIDED, Page, Section, Table
from benchmarks.report._style import (
    INK,
    is_baseline,
    is_learned,
    label,
    looks,
    method,
    rate_label,
    strong,
)

_LOSSES = {"validation_loss": "Validation loss", "train_loss": "Training loss"}
_METRICS = _LOSSES | {"validation_accuracy": "Validation accuracy, %"}
_FIGURES = {  # of each figure of methods: metrics, what they are drawn over, its name
    "learning_curves": ([*_LOSSES], "steps", "step"),
    "accuracy": (["validation_accuracy"], "steps", "step"),
    "seconds": ([*_LOSSES], "seconds", "seconds"),
    "learning_rate_sensitivity": (["validation_loss"], "rates", "learning rate"),
}
_MOST = 6  # curves in one panel
# Of a method by the side of zero that its difference to others is on.
_STANDINGS = {
    -1: (HELD, "has a lower validation loss than"),
    1: (FAILED, "has a higher validation loss than"),
    0: (UNDECIDED, "shows no clear difference to"),
}
# The memories of older results, by their number of units.
_MEMORIES = {3: rllc.decays(0.0, 0.9, 0.99), 4: rllc.decays(0.0, 0.9, 0.99, 0.999)}


def page(result: Any) -> Page:
    """The page of a comparison."""
    return _page.page(result, sections(result), findings(result), headlines(result))


def sections(result: Any) -> list[Section]:
    """The sections on a comparison, some of which may be empty."""
    curves, accuracy, seconds, trials = (
        list(_by_method(result, name)) for name in _FIGURES
    )
    texts = TEXTS["pages"]["rllc"]
    notes = [] if seconds else [texts["untimed"]]
    if result.config.get("changing"):
        notes.insert(0, texts["changing"].format(**result.config))
    return [
        Section("Learning curves", notes, figures=curves + accuracy + seconds),
        Section("Paired differences", figures=_differences(result)),
        Section("Results", [texts["table"]], tables=[*_tables(result)], printed=True),
        Section("What was learned", figures=[*_laws(result)]),
        Section("Sensitivity to the learning rate", figures=trials),
        *_problems(result),
    ]


def schedules(result: Any) -> list[str]:
    """The schedules of a result, in the order of their first appearance."""
    found = (name for method in result.methods.values() for name in method)
    return list(dict.fromkeys(found))


def entries(result: Any, schedule: str) -> dict[str, Any]:
    """The numbers of each method that was run under a schedule."""
    methods = result.methods.items()
    return {name: method[schedule] for name, method in methods if schedule in method}


def ranking(result: Any, schedule: str) -> list[str]:
    """Methods by mean validation loss; one that diverged on any seed goes last."""
    found = entries(result, schedule)
    losses = {name: entry.validation_loss.mean() for name, entry in found.items()}
    return sorted(losses, key=lambda name: np.nan_to_num(losses[name], nan=np.inf))


def difference(
    result: Any, schedule: str, method: str, against: str, metric="validation_loss"
) -> Interval | None:
    """Method minus baseline in percent of the baseline's mean, over paired seeds.

    None where they were not compared, or the mean is 0.
    """
    for row in result.comparisons:
        same = (row.schedule, row.metric, row.method, row.against)
        if same == (schedule, metric, method, against):
            values = getattr(result.methods[against][schedule], metric)
            mean = over_seeds(values).mean
            numbers = (row.mean_difference, row.low, row.high)
            return Interval(*(100 * x / mean for x in numbers)) if mean else None
    return None


def headlines(result: Any) -> list[tuple[str, str]]:
    """Three numbers, under the last schedule."""
    schedule = schedules(result)[-1]
    ranked = ranking(result, schedule)
    loss = result.methods[ranked[0]][schedule].validation_loss.mean()
    rate = rate_label(schedule)
    text = f"lowest validation loss, {rate}: {label(ranked[0])}"
    found = [(significant(loss), text)]
    theirs = next(filter(is_baseline, ranked), "")
    for end, what in (
        ("", f"against the best baseline, {label(theirs)}"),
        ("_frozen_initial", "against itself with its initial law frozen"),
    ):
        for ours in filter(is_learned, ranked):
            other = ours + end if end else theirs
            if number := difference(result, schedule, ours, other):
                text = f"validation loss of {label(ours)} {what}, {rate}"
                text += "; no clear difference" * (not number.side)
                found.append((f"{significant(number.mean, 2, sign=True)} %", text))
                break
    return found


def findings(result: Any) -> dict[str, list[str]]:
    """Sentences on the best learned law of each schedule by name, and on the others."""
    said: dict[str, list[str]] = {HELD: [], FAILED: [], UNDECIDED: []}
    for schedule in schedules(result):
        for found in (_standings(result, schedule), _doubts(result, schedule)):
            for heading, text in found:
                said[heading].append(f"{rate_label(schedule).capitalize()}: {text}.")
    return said


def _standings(result: Any, schedule: str) -> Iterator[tuple[str, str]]:
    """How learned laws compare with all other methods, each under its heading."""
    ranked = ranking(result, schedule)
    for place, ours in enumerate(filter(is_learned, ranked)):
        sides: dict[int, list[str]] = {-1: [], 1: [], 0: []}
        for other in ranked:
            if number := difference(result, schedule, ours, other):
                sides[number.side].append(_versus(ours, other, number))
        ahead, behind, _ = counts = [*map(len, sides.values())]
        others = f"of {sum(counts)} other methods"
        if place and any(counts):
            text = f"{label(ours)} is ahead of {ahead} {others} and behind {behind}"
            yield HELD if ahead > behind else FAILED, text
        elif not place:
            for side, names in sides.items():
                if names:
                    heading, text = _STANDINGS[side]
                    text = f"{label(ours)} {text} {len(names)} {others}"
                    yield heading, f"{text}: {listed(names, most=4)}"


def _doubts(result: Any, schedule: str) -> Iterator[tuple[str, str]]:
    """What diverged, and what was selected at the border of its range."""
    every = entries(result, schedule).items()
    counts = [(n, sum(e.diverged), len(e.diverged)) for n, e in every]
    if diverged := [f"{label(n)} ({k} of {m})" for n, k, m in counts if k]:
        yield FAILED, f"runs diverged at the selected setting: {listed(diverged)}"
    if names := [label(name) for name, entry in every if entry.at_border]:
        text = "the lowest or highest rate that was tried was selected for"
        yield UNDECIDED, f"{text} {listed(names)}; a wider search may do better"


def _versus(method: str, against: str, number: Interval) -> str:
    """The other method, as seen from this one, and the difference."""
    source, frozen, kind = against.partition("_frozen_")
    own = frozen and source == method
    name = f"its own {kind} law frozen" if own else label(against)
    text = with_unit(significant(number.mean, 2, sign=True), "%")
    return f"{name} ({text if number.known else 'too few finite runs'})"


def shown(result: Any) -> list[str]:
    """The methods in the main figures: learned laws, a frozen one, best baselines."""
    ranked = ranking(result, schedules(result)[-1])
    learned = [name for name in ranked if is_learned(name)][:3]
    frozen = [n for n in ranked if n == f"{(learned or [''])[0]}_frozen_initial"]
    return [*learned, *frozen, *filter(is_baseline, ranked)][:_MOST]


def _by_method(result: Any, name: str) -> Iterator[Figure]:
    """Figures of as many methods as a panel can hold: by metric and schedule."""
    (metrics, over, x), main = _FIGURES[name], shown(result)
    rest = [each for each in result.methods if each not in main]
    groups = [main, *(rest[i : i + _MOST] for i in range(0, len(rest), _MOST))]
    folded = name in ("accuracy", "seconds")
    for place, methods in enumerate(groups[:1] if folded else groups):
        panels = []
        for metric in metrics:
            values: Any = {"metric": _METRICS[metric], "x": x}
            values["settings"] = _limits(result, methods, metric)
            for schedule in schedules(result):
                runs = entries(result, schedule)
                draws = [_drawn(runs[n], n, metric, over) for n in methods if n in runs]
                if draws := [draw for draw in draws if draw]:
                    panels.append(
                        panel("curve", *draws, rate=rate_label(schedule), **values)
                    )
        if panels:
            names = (": " + ", ".join(map(label, methods))) * bool(place)
            end = f"_{place + 1}" * bool(place)
            yield figure(name, panels, end, folded or bool(place), names=names)


def _drawn(entry: Any, name: str, metric: str, over: str):
    """Draw a metric of a method over steps, seconds or rates, if the result has it."""
    if over == "rates":
        return trials(entry, name)
    at, values = (getattr(entry.curves, key) for key in (over, metric))
    if at is None or values is None:
        return None
    if "accuracy" in metric:  # of the runs that did not diverge
        values = 100 * values[np.isfinite(values).all(axis=1)]
    values = np.maximum(values, 1e-12)
    if not len(values):
        return None
    return partial(plots.curve, at, values, band=is_learned(name), **method(name))


def trials(entry: Any, name: str):
    """Draw the trials of a method's search, over its learning rate if it has one."""
    hypers, rate = [trial.hyper for trial in entry.trials], next(iter(entry.space))
    rate = "learning_rate" if "learning_rate" in entry.selected else rate
    rates = np.array([hyper[rate] for hyper in hypers])
    losses = np.array([trial.validation_loss for trial in entry.trials])
    losses[[trial.diverged for trial in entry.trials]] = np.nan
    place = hypers.index(entry.selected) if entry.selected in hypers else None
    return partial(plots.trials, rates, losses, place, **method(name))


def _limits(result: Any, methods: list[str], metric: str) -> dict[str, Any]:
    """A logarithmic axis around the final losses of some methods."""
    if "accuracy" in metric:
        return {}
    every = [entry for name in methods for entry in result.methods[name].values()]
    ends = np.array([np.median(getattr(entry, metric)) for entry in every])
    ends = np.maximum(ends[np.isfinite(ends)], 1e-12)
    if not ends.size:
        return {}
    curves = [np.median(getattr(entry.curves, metric), axis=0) for entry in every]
    starts, points = [curve[0] for curve in curves], np.concatenate([*curves, ends])
    lowest = max(points[np.isfinite(points)].min(), 1e-12)
    top = min(2 * ends.max(), 1.05 * np.nanmax([*starts, 1.3 * ends.max()]))
    return {"yscale": "log", "ylim": (0.9 * lowest, top)}


def _differences(result: Any) -> list[Figure]:
    """Forest plots: one figure per metric, one panel per learned law."""
    order = schedules(result)[::-1]
    ranked = list(dict.fromkeys(name for s in order for name in ranking(result, s)))
    found = []
    marks = {
        schedule: {
            "color": strong(place) if place else INK,
            "label": rate_label(schedule),
        }
        for place, schedule in enumerate(order)
    }
    for metric, title in _LOSSES.items():
        panels = []
        for ours in filter(is_learned, ranked):
            rows = {}
            for other in ranked:
                every = {s: difference(result, s, ours, other, metric) for s in order}
                if known := {s: number for s, number in every.items() if number}:
                    rows[label(other)] = known
            if rows:
                panels.append(forest("difference", rows, marks, method=label(ours)))
        if panels:
            values: Any = {"metric": title.lower(), "folded": metric == "train_loss"}
            found.append(figure("differences", panels, f"_{metric}", **values))
    return found


def _laws(result: Any) -> Iterator[Figure]:
    """For each schedule the laws over time, and next to them the responses."""
    last = schedules(result)[-1]
    for schedule in schedules(result)[::-1]:
        found = entries(result, schedule).items()
        known = [
            (name, entry.law, memory)
            for name, entry in found
            if entry.law and (memory := _memory(entry.law))
        ]
        for place in range(0, len(known), _MOST // 2):
            some = known[place : place + _MOST // 2]
            panels = [each for one in some for each in _law_panels(*one)]
            gains = [each for name, law, _ in some for each in _gain_panels(name, law)]
            end = f"_{schedule}" * (schedule != last) + f"_{place}" * bool(place)
            yield figure(
                "laws", panels + gains, end, bool(end), rate=rate_label(schedule)
            )


def _law_panels(name: str, law: Any, memory: rllc.LinearMemory) -> list[Any]:
    look = looks("responses")
    start = rllc.response(memory, law.law[:, 0], 60).mean(axis=0)
    paths = partial(rllc.plot.law, memory, law.law.swapaxes(0, 1), law.steps)
    responses = {"momentum": 0.9 ** np.arange(60), "start": start, "end": law.response}
    draws = [partial(rllc.plot.response, r, **look[n]) for n, r in responses.items()]
    return [
        panel("law", paths, method=label(name)),
        panel("response", *draws, method=label(name)),
    ]


def _gain_panels(name: str, law: Any) -> list[Any]:
    """The gain over time, where it is not conserved."""
    start = law.gain[:, :1]
    gain = law.gain / np.where(start == 0, np.nan, start)
    if np.nanmax(np.abs(gain - 1), initial=0.0) <= 1e-3:
        return []
    draw = partial(plots.curve, law.steps, gain, color=INK)
    return [panel("gain", draw, method=label(name))]


def _memory(law: Any) -> rllc.LinearMemory | None:
    """The linear memory that a recorded law combines, if it is known.

    Older results do not hold it: there it is one whose gain is that of the laws.
    """
    if law.memory is not None:
        return rllc.LinearMemory(law.memory.propagator, law.memory.input)
    memory = _MEMORIES.get(law.law.shape[-1])
    if memory is None:
        return None
    gain = law.law @ (1 / (1 - np.diag(memory.propagator)))
    known = np.isfinite(law.gain)
    return memory if np.allclose(gain[known], law.gain[known], 1e-2) else None


_COLUMNS: dict[str, Callable[[Any], str]] = {
    "validation loss": lambda entry: with_spread(entry.validation_loss),
    "training loss": lambda entry: with_spread(entry.train_loss),
    "test accuracy, %": lambda entry: with_spread(100 * entry.test_accuracy),
    "steps to target": lambda entry: _steps(entry.steps_to_target),
    "diverged": lambda entry: f"{sum(entry.diverged)} of {len(entry.diverged)}",
    "bytes per parameter": lambda entry: f"{entry.bytes_per_parameter:.1f}",
    "selected": lambda entry: ", ".join(
        f"{name.replace('_', ' ')} {significant(value)}"
        for name, value in entry.selected.items()
        if isinstance(value, int | float)
    ),
}


def _tables(result: Any) -> Iterator[tuple[str, Table]]:
    """What came out under each schedule."""
    for schedule in schedules(result):
        found = entries(result, schedule)
        rows = [
            (label(name), *(text(entry) for text in _COLUMNS.values()))
            for name, entry in found.items()
        ]
        best = [
            (e.validation_loss, e.train_loss, -e.test_accuracy) for e in found.values()
        ]
        target = result.targets.get(schedule)
        note = f"; target: training loss {significant(target)}" if target else ""
        table = Table(["method", *_COLUMNS], rows, _bold(best))
        yield f"{rate_label(schedule).capitalize()}{note}", table


def _bold(rows: list[Any]) -> frozenset[tuple[int, int]]:
    """The cells with the lowest mean of their column; a missing value loses."""
    means = np.array([[np.mean(values) for values in row] for row in rows])
    lowest = np.nan_to_num(means, nan=np.inf).argmin(axis=0)
    known = np.isfinite(means.min(axis=0, where=~np.isnan(means), initial=np.inf))
    return frozenset((int(lowest[j]), int(j) + 1) for j in np.flatnonzero(known))


def _steps(values: list[int | None]) -> str:
    reached = [value for value in values if value is not None]
    part = "" if len(reached) == len(values) else f" ({len(reached)} of {len(values)})"
    return f"{np.median(reached):.0f}{part}" if reached else "never"


def _problems(result: Any) -> Iterator[Section]:
    """The deterministic problems."""
    losses: dict[str, list[Any]] = {}
    for place, problem in enumerate(result.problems.values()):
        for name, found in problem.methods.items():
            missing = [np.array([np.nan]) for _ in result.problems]
            losses.setdefault(name, missing)[place] = found.log10_loss
    if losses:
        rows = [(label(name), *map(with_spread, row)) for name, row in losses.items()]
        columns = ["method", *(f"{name}, log₁₀ loss" for name in result.problems)]
        steps = next(iter(result.problems.values())).steps
        text = TEXTS["pages"]["rllc"]["problems"].format(steps=steps)
        tables = [("", Table(columns, rows, _bold([*losses.values()])))]
        yield Section("Deterministic problems", [text], tables=tables, folded=True)
