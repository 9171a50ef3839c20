"""The page of a comparison of optimizers."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

import rllc
import rllc.plot
from benchmarks.report import plots
from benchmarks.report._figure import TEXTS, Figure, Panel, figure, panel
from benchmarks.report._numbers import (
    Interval,
    array,
    listed,
    mean_and_deviation,
    significant,
    with_spread,
    with_unit,
)
from benchmarks.report._page import Page, Section, Table, asked
from benchmarks.report._style import (
    DASHES,
    FAINT,
    INK,
    is_learned,
    label,
    line,
    strong,
    style,
)

_METRICS = {"validation_loss": "validation loss", "train_loss": "training loss"}
_MOST = 6  # curves in one panel
# The memories of our own methods, by their number of units.
_MEMORIES = {3: rllc.decays(0.0, 0.9, 0.99), 4: rllc.decays(0.0, 0.9, 0.99, 0.999)}


def page(result: Any) -> Page:
    """The page of a comparison."""
    config, texts = result.config, TEXTS["pages"]["rllc"]
    return Page(
        **asked("rllc"),
        subtitle=f"{config['dataset']}, {config['model']}, {config['steps']} steps of "
        f"{config['batch_size']}; {config['trials']} trials per method, then "
        f"{config['seeds']} fresh seeds, the same for all methods",
        headlines=headlines(result),
        **findings(result),
        sections=[
            Section("Learning curves", figures=_curves(result)),
            Section("Paired differences", figures=_differences(result)),
            Section("Results", [texts["table"]], tables=_tables(result)),
            Section("What was learned", figures=_laws(result)),
            Section("Sensitivity to the learning rate", figures=_sensitivity(result)),
            *_problems(result),
            Section("What this does not show", bullets=texts["limits"]),
        ],
    )


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
    found = entries(result, schedule).items()
    losses = {name: array(entry.validation_loss).mean() for name, entry in found}
    return sorted(losses, key=lambda name: np.nan_to_num(losses[name], nan=np.inf))


def difference(
    result: Any, schedule: str, method: str, against: str, metric: str
) -> Interval | None:
    """Method minus baseline in percent of the baseline's mean, over paired seeds."""
    for row in result.comparisons:
        same = (row.schedule, row.metric, row.method, row.against)
        if same == (schedule, metric, method, against):
            values = getattr(result.methods[against][schedule], metric)
            found = array([row.mean_difference, row.low, row.high])
            return Interval(*(100 * found / mean_and_deviation(values)[0]).tolist())
    return None


def headlines(result: Any) -> list[tuple[str, str]]:
    """Three numbers, under the last schedule."""
    schedule = schedules(result)[-1]
    ranked = ranking(result, schedule)
    loss = array(result.methods[ranked[0]][schedule].validation_loss).mean()
    text = f"lowest validation loss, {schedule} rate: {label(ranked[0])}"
    found = [(significant(loss), text)]
    learned = [name for name in ranked if is_learned(name)]
    theirs = next((name for name in ranked if not name.startswith("rllc")), "")
    against_best = [(name, theirs) for name in learned]
    against_frozen = [(name, f"{name}_frozen_initial") for name in learned]
    for pairs, what in (
        (against_best, f"against the best baseline, {label(theirs)}"),
        (against_frozen, "against itself with its initial law frozen"),
    ):
        numbers = (
            (ours, _loss_to(result, schedule, ours, other)) for ours, other in pairs
        )
        ours, number = next(((o, n) for o, n in numbers if n), ("", None))
        if number:
            text = f"validation loss of {label(ours)} {what}, {schedule} rate"
            found.append((f"{significant(number.mean, 2, sign=True)} %", text))
    return found


def findings(result: Any) -> dict[str, Any]:
    """Sentences on what held, what failed and what is undecided.

    The best learned law of each schedule is compared with every other method, by name;
    of the other learned laws the outcomes are counted.
    """
    said: dict[str, list[str]] = {"held": [], "failed": [], "undecided": []}
    kinds = {
        -1: ("held", "has a lower validation loss than"),
        1: ("failed", "has a higher validation loss than"),
        0: ("undecided", "shows no clear difference to"),
    }
    for schedule in schedules(result):
        start, ranked = f"{schedule.capitalize()} rate", ranking(result, schedule)
        for place, method in enumerate(filter(is_learned, ranked)):
            every = [
                (other, _loss_to(result, schedule, method, other)) for other in ranked
            ]
            found = [(other, number) for other, number in every if number]
            sides = {
                side: [_versus(method, *pair) for pair in found if pair[1].side == side]
                for side in kinds
            }
            ahead, behind, count = len(sides[-1]), len(sides[1]), len(found)
            if place and found:
                kind = "held" if ahead > behind else "failed"
                text = (
                    f"is ahead of {ahead} of {count} other methods and behind {behind}"
                )
                said[kind].append(f"{start}: {label(method)} {text}.")
            for side, (kind, text) in kinds.items() if not place else ():
                if sides[side]:
                    text += f" {len(sides[side])} of {count} other methods"
                    names = listed(sides[side], most=4)
                    said[kind].append(f"{start}: {label(method)} {text}: {names}.")
        every = entries(result, schedule).items()
        counts = [(n, sum(e.diverged), len(e.diverged)) for n, e in every]
        if diverged := [f"{label(n)} ({k} of {m})" for n, k, m in counts if k]:
            text = "runs diverged at the selected setting"
            said["failed"].append(f"{start}: {text}: {listed(diverged)}.")
        if names := [label(name) for name, entry in every if entry.at_border]:
            text = "the lowest or highest rate that was tried was selected for"
            wider = "a wider search may do better"
            said["undecided"].append(f"{start}: {text} {listed(names)}; {wider}.")
    return said


def _loss_to(result: Any, schedule: str, method: str, against: str) -> Interval | None:
    return difference(result, schedule, method, against, "validation_loss")


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
    others = [name for name in ranked if not name.startswith("rllc")]
    return [*learned, *frozen, *others][:_MOST]


def _groups(result: Any) -> Iterator[tuple[list[str], str]]:
    """Methods in groups that a panel can hold, and how their figures' names end."""
    rest = [name for name in result.methods if name not in shown(result)]
    yield shown(result), ""
    for place in range(0, len(rest), _MOST):
        yield rest[place : place + _MOST], f"_{place // _MOST + 2}"


def _curves(result: Any) -> list[Figure]:
    accuracy = {"validation_accuracy": "validation accuracy, %"}
    found = []
    for key, metrics, x in (
        ("learning_curves", _METRICS, "steps"),
        ("accuracy", accuracy, "steps"),
        ("seconds", _METRICS, "seconds"),
    ):
        first = key == "learning_curves"
        for methods, end in _groups(result) if first else [(shown(result), "")]:
            panels = []
            for metric, title in metrics.items():
                settings = _limits(result, methods, metric) | {"share": ("", metric)}
                settings |= {"xlabel": "step" if x == "steps" else x}
                draw = partial(_curve, metric, x)
                panels += _by_schedule(result, methods, title, draw, **settings)
            if panels:
                found.append(
                    _part(key, end, panels, methods)._replace(
                        folded=bool(end) or not first
                    )
                )
    return found


def _by_schedule(
    result: Any,
    methods: list[str],
    title: str,
    plot: Callable[[Any, str], Any],
    **settings: Any,
) -> Iterator[Panel]:
    """A panel for each schedule with what `plot` draws of each method, if anything."""
    for schedule in schedules(result):
        found = entries(result, schedule)
        draws = [plot(found[name], name) for name in methods if name in found]
        if draws := [draw for draw in draws if draw]:
            yield panel(f"{title.capitalize()}, {schedule} rate", *draws, **settings)


def _curve(metric: str, x: str, entry: Any, method: str):
    at, values = (getattr(entry.curves, name, None) for name in (x, metric))
    if at is None or values is None:
        return None
    values = array(values)
    values = 100 * values if "accuracy" in metric else np.maximum(values, 1e-12)
    look = {"band": is_learned(method), **style(method).line}
    return partial(plots.curve, at, values, **look)


def _trials(entry: Any, method: str):
    name = next(iter(entry.space))
    name = "learning_rate" if "learning_rate" in entry.selected else name
    rates = array([trial.hyper[name] for trial in entry.trials])
    losses = array([trial.validation_loss for trial in entry.trials])
    losses[[trial.diverged for trial in entry.trials]] = np.nan
    at = np.where(np.isclose(rates, entry.selected[name]), losses, np.nan)
    place = int(np.nanargmin(at)) if np.isfinite(at).any() else None
    return partial(plots.trials, rates, losses, place, **style(method).line)


def _limits(result: Any, methods: list[str], metric: str) -> dict[str, Any]:
    """A logarithmic axis around the final losses of some methods."""
    if "accuracy" in metric:
        return {}
    every = [entry for name in methods for entry in result.methods[name].values()]
    ends = np.array([np.median(array(getattr(entry, metric))) for entry in every])
    ends = np.maximum(ends[np.isfinite(ends)], 1e-12)
    if not ends.size:
        return {}
    starts = [np.median(array(getattr(e.curves, metric))[:, 0]) for e in every]
    top = min(2 * ends.max(), 1.05 * np.nanmax([*starts, 1.3 * ends.max()]))
    return {"yscale": "log", "ylim": (0.9 * ends.min(), top)}


def _part(key: str, end: str, panels: Iterable[Panel], methods: list[str]) -> Figure:
    """A figure of some of the methods, folded if these are not the first ones."""
    found = figure(f"{key}{end}", panels, bool(end), key)
    names = ": " + ", ".join(map(label, methods))
    return found._replace(title=found.title + names * bool(end))


def _differences(result: Any) -> list[Figure]:
    """Forest plots: one figure per metric, one panel per learned law."""
    order = schedules(result)[::-1]
    ranked, found = ranking(result, order[0]), []
    looks = {
        schedule: {"color": (INK, strong(1))[place % 2], "label": f"{schedule} rate"}
        for place, schedule in enumerate(order)
    }
    for metric, title in _METRICS.items():
        panels = []
        for method in filter(is_learned, ranked):
            rows = {}
            for against in ranked:
                every = [difference(result, s, method, against, metric) for s in order]
                if known := {s: n for s, n in zip(order, every, strict=True) if n}:
                    rows[label(against)] = known
            if rows:
                draw = partial(plots.forest, rows, looks)
                text = "difference, % (left: ahead)"
                size = {"height": 0.9 + 0.3 * len(rows), "share": ("x", "")}
                panels.append(panel(label(method), draw, xlabel=text, **size))
        if panels:
            name, fold = f"differences_{metric}", metric != "validation_loss"
            found.append(figure(name, panels, fold, "differences", metric=title))
    return found


def _sensitivity(result: Any) -> list[Figure]:
    found = []
    for methods, end in _groups(result):
        settings = _limits(result, methods, "validation_loss")
        settings |= {"xlabel": "learning rate", "share": ("rate", "loss")}
        panels = _by_schedule(result, methods, "Validation loss", _trials, **settings)
        found.append(_part("learning_rate_sensitivity", end, panels, methods))
    return found


def _laws(result: Any) -> list[Figure]:
    """For each schedule the laws over time, and beside them the responses."""
    found, last = [], schedules(result)[-1]
    momentum = partial(
        rllc.plot.response,
        0.9 ** np.arange(60),
        **line("response of momentum 0.9", FAINT, DASHES[1], 1.5),
    )
    for schedule in schedules(result)[::-1]:
        panels, gains = [], []
        for method, entry in entries(result, schedule).items():
            memory = _memory(entry.law) if entry.law else None
            if memory is None:
                continue
            laws, gain = array(entry.law.law), array(entry.law.gain)
            moves = np.nanmax(np.abs(gain / gain[:, :1] - 1)) > 1e-3
            start = rllc.response(memory, laws[:, 0], 60).mean(axis=0)
            looks = (line("response at the start", INK, DASHES[0], 1.5),)
            looks += (line("response at the end", INK),)
            panels += [
                panel(
                    f"{label(method)}: share of the gain",
                    partial(
                        rllc.plot.law, memory, laws.swapaxes(0, 1), entry.law.steps
                    ),
                    share=("", "law"),
                ),
                panel(
                    f"{label(method)}: response",
                    momentum,
                    partial(rllc.plot.response, start, **looks[0]),
                    partial(rllc.plot.response, array(entry.law.response), **looks[1]),
                    share=("", "response"),
                ),
            ]
            if moves:
                gain /= gain[:, :1]
                draw = partial(plots.curve, entry.law.steps, gain, color=INK)
                name = f"{label(method)}: gain relative to its start"
                gains.append(panel(name, draw, xlabel="step"))
        name = "laws" if schedule == last else f"laws_{schedule}"
        panels += gains
        if panels:
            fold = schedule != last
            found.append(figure(name, panels, fold, "laws", schedule=schedule))
    return found


def _memory(law: Any) -> rllc.LinearMemory | None:
    """The memory whose gain is that of the recorded laws."""
    laws, gain = array(law.law), array(law.gain)
    memory = _MEMORIES.get(laws.shape[-1])
    if memory is None:
        return None
    known = np.isfinite(gain)
    weights = 1 / (1 - np.diag(memory.propagator))
    return memory if np.allclose((laws @ weights)[known], gain[known], 1e-2) else None


def _tables(result: Any) -> list[tuple[str, Table]]:
    """What came out under each schedule."""
    found = []
    for schedule in schedules(result):
        target = result.targets.get(schedule)
        note = f"; target: training loss {significant(target)}" if target else ""
        rows, columns = table(result, schedule), {}
        for name, entry in entries(result, schedule).items():
            keys = ("validation_loss", "train_loss", "test_accuracy")
            for place, key in enumerate(keys, start=1):
                values = array(getattr(entry, key))
                columns.setdefault(place, {})[name] = values * (-1) ** (place == 3)
        grid = Table(
            ["method", *next(iter(rows.values()))],
            [(label(name), *row.values()) for name, row in rows.items()],
            _bold(list(rows), columns),
        )
        found.append((f"{schedule.capitalize()} rate{note}", grid))
    return found


def table(result: Any, schedule: str) -> dict[str, dict[str, str]]:
    """The table of a schedule: for each method, column name to text."""
    return {
        name: {
            **{title: with_spread(getattr(entry, k)) for k, title in _METRICS.items()},
            "test accuracy, %": with_spread(100 * array(entry.test_accuracy)),
            "steps to target": _steps(entry.steps_to_target),
            "diverged": f"{sum(entry.diverged)} of {len(entry.diverged)}",
            "bytes per parameter": f"{entry.bytes_per_parameter:.1f}",
            "selected": ", ".join(
                f"{name.replace('_', ' ')} {significant(value)}"
                for name, value in entry.selected.items()
                if isinstance(value, int | float)
            ),
        }
        for name, entry in entries(result, schedule).items()
    }


def _bold(names: list[str], columns: dict[int, dict[str, Any]]) -> frozenset:
    """The cells with the lowest mean of their column; a missing value loses."""
    found = set()
    for place, column in columns.items():
        means = {name: array(values).mean() for name, values in column.items()}
        finite = [name for name in names if math.isfinite(means.get(name, math.nan))]
        if finite:
            found.add((names.index(min(finite, key=means.__getitem__)), place))
    return frozenset(found)


def _steps(values: list[int | None]) -> str:
    reached = [value for value in values if value is not None]
    part = "" if len(reached) == len(values) else f" ({len(reached)} of {len(values)})"
    return f"{np.median(reached):.0f}{part}" if reached else "never"


def _problems(result: Any) -> list[Section]:
    """The deterministic problems."""
    losses = {
        problem: {name: method.log10_loss for name, method in found.methods.items()}
        for problem, found in result.problems.items()
    }
    if not losses:
        return []
    names = list(dict.fromkeys(name for column in losses.values() for name in column))
    rows = [
        (label(n), *(with_spread(c[n]) if n in c else "–" for c in losses.values()))
        for n in names
    ]
    bold = _bold(names, dict(enumerate(losses.values(), start=1)))
    columns = ["method", *(f"{problem}, log₁₀ loss" for problem in losses)]
    steps = next(iter(result.problems.values())).steps
    text = TEXTS["pages"]["rllc"]["problems"].format(steps=steps)
    tables = [("", Table(columns, rows, bold))]
    return [Section("Deterministic problems", [text], tables=tables, folded=True)]
