"""What retrospection has learned: laws, gains and responses."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from benchmarks.report._axes import count_steps, name_ends, shade
from benchmarks.report._figure import Figure, Panel
from benchmarks.report._numbers import array, entries, schedules
from benchmarks.report._style import FAINT, Style, styles

_DECAY = 0.9  # of the reference momentum
_SUBSCRIPTS = "₁₂₃₄₅₆₇₈₉"
_UNIT_DASHES = ["solid", (0, (5, 1.6)), (0, (1.3, 1.5)), (0, (6, 1.5, 1.3, 1.5))]


def laws(result: dict[str, Any]) -> Figure | None:
    """Coefficients of the law and its gain along training."""
    looks = styles(result["methods"])
    panels = [
        Panel(f"Gain, {schedule} rate", _gains(result, looks, schedule), 2.6)
        for schedule in schedules(result)
        if any(_moves(law) for _, law in _learned(result, schedule))
    ]
    panels += [
        Panel(
            f"Law of {looks[method].label}, {schedule}", _law(looks[method], law), 2.6
        )
        for method in result["methods"]
        for schedule in schedules(result)
        for name, law in _learned(result, schedule)
        if name == method
    ]
    text = (
        "The law L₁ … Lₖ weights the memory units; the gain is the sum of the weights "
        "that it gives to all past gradients, relative to its first value here: the "
        "factor on the learning rate. A conserved gain stays at 1, and is not drawn "
        "where all are conserved. Mean over seeds; the band spans all seeds.",
        "A law that moves is not by itself a law that helps: for that, compare with "
        "the frozen law in the paired differences.",
    )
    legend = tuple(looks[name] for name in result["methods"] if _has_law(result, name))
    return (
        Figure("laws", "Learned laws", text, tuple(panels), legend) if panels else None
    )


def responses(result: dict[str, Any]) -> Figure | None:
    """Weight of past gradients in the final update."""
    looks = styles(result["methods"])
    panels = [
        Panel(f"Final response, {schedule} rate", _responses(result, looks, schedule))
        for schedule in schedules(result)
        if any(True for _ in _learned(result, schedule))
    ]
    text = (
        "How much of the last update comes from the gradient of j steps ago, as a "
        "share of all weight that is shown. Grey, for reference: momentum and "
        f"Nesterov's momentum, both with decay {_DECAY}. Mean over seeds; the axis is "
        "logarithmic except about zero.",
        "This is the shape only: the scale, which acts like a learning rate, is "
        "divided out. Methods on Adam's scaling weight scaled gradients.",
    )
    legend = tuple(looks[name] for name in result["methods"] if _has_law(result, name))
    return (
        Figure("responses", "Effective response", text, tuple(panels), legend)
        if panels
        else None
    )


def _learned(result: dict[str, Any], schedule: str) -> Iterator[tuple[str, dict]]:
    for method, entry in entries(result, schedule):
        if entry.get("law"):
            yield method, entry["law"]


def _has_law(result: dict[str, Any], method: str) -> bool:
    return any(entry.get("law") for entry in result["methods"][method].values())


def _band(axes: Axes, steps, values: np.ndarray, style: Style) -> None:
    axes.fill_between(steps, values.min(axis=0), values.max(axis=0), **shade(style))


def _moves(law: dict[str, Any]) -> bool:
    gain = array(law["gain"])
    return bool(np.nanmax(np.abs(gain / gain[:, :1] - 1)) > 1e-3)


def _gains(result: dict[str, Any], looks: dict[str, Style], schedule: str):
    def draw(axes: Axes) -> None:
        axes.axhline(1, color=FAINT, linewidth=0.8, zorder=1)
        for method, law in _learned(result, schedule):
            gain = array(law["gain"])
            gain = gain / gain[:, :1]
            axes.plot(law["steps"], gain.mean(axis=0), **looks[method].line)
            _band(axes, law["steps"], gain, looks[method])
        count_steps(axes)
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, 0.9), max(high, 1.1))

    return draw


def _law(style: Style, law: dict[str, Any]):
    def draw(axes: Axes) -> None:
        steps, values = array(law["steps"]), array(law["law"])
        axes.axhline(0, color=FAINT, linewidth=0.8, zorder=1)
        ends = []
        for unit in range(values.shape[-1]):
            mean = values[..., unit].mean(axis=0)
            line = style.line | {"linestyle": _UNIT_DASHES[unit % 4]}
            axes.plot(steps, mean, **line)
            _band(axes, steps, values[..., unit], style)
            ends.append(mean[-1])
        count_steps(axes)
        names = [f"L{_SUBSCRIPTS[unit % 9]}" for unit in range(len(ends))]
        name_ends(axes, steps[-1], array(ends), names, style.colour)

    return draw


def _responses(result: dict[str, Any], looks: dict[str, Style], schedule: str):
    def draw(axes: Axes) -> None:
        found = dict(_learned(result, schedule))
        length = max(len(law["response"]) for law in found.values())
        momentum = _DECAY ** np.arange(length)
        nesterov = np.append(1 + _DECAY, _DECAY * momentum[1:])
        for name, weights, dash in [
            (f"Momentum {_DECAY}", momentum, (0, (4, 1.5))),
            (f"Nesterov {_DECAY}", nesterov, (0, (1.2, 1.4))),
        ]:
            line = {"color": FAINT, "linestyle": dash, "linewidth": 1.5}
            axes.plot(_shape(weights), label=name, **line)
        for method, law in found.items():
            axes.plot(_shape(array(law["response"])), **looks[method].line)
        axes.set_yscale("symlog", linthresh=1e-3, linscale=0.5)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.axhline(0, color=FAINT, linewidth=0.8, zorder=1)
        axes.set_xlabel("steps ago, j", loc="left")
        axes.legend(frameon=False, fontsize=9, labelcolor=FAINT)

    return draw


def _shape(weights: np.ndarray) -> np.ndarray:
    """Scaled to sum to one in absolute value, which a vanishing gain cannot spoil."""
    return weights / np.abs(weights).sum()
