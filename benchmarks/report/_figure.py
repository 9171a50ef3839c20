"""A figure is a few panels: side by side in a file, each an inline SVG in a page.

Panels are drawn narrow with type that stays readable at the width of a phone; a page
lets them flow, one above the other where there is no room. The legend of a figure is
made from the marks of its panels, in the order in which they were drawn.
"""

import html
import io
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.figure import FigureBase
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from benchmarks.report._numbers import significant
from benchmarks.report._style import with_variables

TEXTS = tomllib.loads(Path(__file__).with_name("texts.toml").read_text())
_SETTINGS = matplotlib.rc_params_from_file(
    Path(__file__).with_name("templates") / "figures.mplstyle",
    use_default_template=False,
)
_WIDTH = 4.4  # inches: a phone shows it at about its natural size
_DIGITS = ((1, 1.5, 2, 3, 5, 7), (1, 2, 3, 5), (1, 3), (1,))  # finest first


class Panel(NamedTuple):
    """One drawing.

    Attributes:
        title: what is seen, a few words.
        draws: plots it; each is called with `ax=`.
        height: in inches.
        share: names of horizontal and vertical limits; panels of a figure that name
            the same ones have the same limits.
        settings: arguments of Matplotlib's `Axes.set`.
    """

    title: str
    draws: Sequence[Callable[..., Any]]
    height: float
    share: tuple[str, str]
    settings: dict[str, Any]


class Figure(NamedTuple):
    """Panels that belong together.

    Attributes:
        name: the file name, without the ending.
        title: its heading.
        text: paragraphs that say what is seen, and what is not shown.
        panels: what is drawn.
        folded: whether a page shows it only when asked.
    """

    name: str
    title: str
    text: Sequence[str]
    panels: Sequence[Panel]
    folded: bool = False


def panel(
    title: str,
    *draws: Callable[..., Any],
    height: float = 3.0,
    share: tuple[str, str] = ("", ""),
    **settings: Any,
) -> Panel:
    """A panel of one or several plots on the same axes."""
    return Panel(title, draws, height, share, settings)


def figure(
    name: str,
    panels: Iterable[Panel],
    folded: bool = False,
    key: str | None = None,
    **values: Any,
) -> Figure:
    """A figure with the title and text that `texts.toml` has of its name or key."""
    found = TEXTS["figures"][key or name]
    text = [paragraph.format(**values) for paragraph in found["text"]]
    return Figure(name, found["title"].format(**values), text, list(panels), folded)


def draw(figure: Figure, format: str = "png", columns: int = 2) -> bytes:
    """Draw a figure on white as a PNG of 150 dots per inch, an SVG or a PDF."""
    panels = figure.panels
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    columns = min(columns, len(panels))
    heights = [max(panel.height for panel in row) for row in rows]
    with _settings(figure.title):
        size = (_WIDTH * columns, sum(heights) + 0.1)
        canvas = Canvas(figsize=size, layout="constrained", facecolor="white")
        canvas.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # pyright: ignore
        grid = canvas.add_gridspec(len(rows), columns, height_ratios=heights)
        every = [
            _drawn(panel, canvas.add_subfigure(grid[i, j]))
            for i, row in enumerate(rows)
            for j, panel in enumerate(row)
        ]
        _share(panels, every)
        marks = _marks(every)
        if marks:
            ncols = min(len(marks), 2 * columns)
            lines = -(-len(marks) // ncols)
            canvas.set_size_inches(size[0], size[1] + 0.22 * lines)
            _legend(canvas, marks, loc="outside lower center", ncols=ncols)
        file = io.BytesIO()
        stable = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(format)
        canvas.savefig(file, format=format, dpi=150, metadata=stable, facecolor="white")
    return file.getvalue()


def inline(figure: Figure) -> tuple[str, list[str]]:
    """The legend and the panels as SVG that takes colours and type from the page."""
    with _settings(figure.title):
        canvases = [
            Canvas(figsize=(_WIDTH, panel.height), layout="constrained")
            for panel in figure.panels
        ]
        every = [
            _drawn(panel, canvas)
            for panel, canvas in zip(figure.panels, canvases, strict=True)
        ]
        _share(figure.panels, every)
        drawings = [
            _for_page(canvas, f"{figure.title}: {panel.title}")
            for panel, canvas in zip(figure.panels, canvases, strict=True)
        ]
        marks = _marks(every)
        if not marks:
            return "", drawings
        columns = 1 if max(map(len, marks)) > 22 else 2
        height = 0.23 * -(-len(marks) // columns)
        canvas = Canvas(figsize=(_WIDTH, height))
        _legend(canvas, marks, loc="center left", ncols=columns, borderpad=0)
        return _for_page(canvas, f"{figure.title}: legend"), drawings


def _settings(salt: str):
    return matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": salt})


def _drawn(panel: Panel, canvas: FigureBase) -> Axes:
    canvas.suptitle(panel.title, x=0.01, ha="left")
    axes = canvas.add_subplot()
    for plot in panel.draws:
        plot(ax=axes)
    axes.set(ylabel="", **panel.settings)
    axes.set_xlabel(axes.get_xlabel(), loc="left")
    return axes


def _marks(every: Iterable[Axes]) -> dict[str, Any]:
    """What the panels have labelled, each once."""
    marks: dict[str, Any] = {}
    for axes in every:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            marks.setdefault(name, handle)
    return marks


def _legend(canvas: Canvas, marks: dict[str, Any], **options: Any) -> None:
    handles, names = list(marks.values()), list(marks)
    canvas.legend(handles, names, handlelength=2.8, **options)


def _share(panels: Sequence[Panel], every: Sequence[Axes]) -> None:
    for side, name in enumerate("xy"):
        for group in {panel.share[side] for panel in panels} - {""}:
            same = [
                axes
                for panel, axes in zip(panels, every, strict=True)
                if panel.share[side] == group
            ]
            limits = np.array([getattr(axes, f"get_{name}lim")() for axes in same])
            upwards = limits[0, 0] < limits[0, 1]
            ends = (limits.min(), limits.max()) if upwards else limits[0]
            for axes in same:
                getattr(axes, f"set_{name}lim")(*ends)
    for axes in every:
        if axes.get_xscale() == "log":
            _round_ticks(axes.xaxis, *axes.get_xlim())
        if axes.get_yscale() == "log":
            _round_ticks(axes.yaxis, *axes.get_ylim())


def _round_ticks(side: Any, low: float, high: float) -> None:
    """From three to six round numbers on a logarithmic axis."""
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))))
    for digits in _DIGITS:
        found = [digit * 10.0**decade for decade in decades for digit in digits]
        found = [tick for tick in found if low <= tick <= high]
        if 3 <= len(found) <= 6:
            ticks = found
            break
    side.set_ticks([tick for tick in ticks if low <= tick <= high])
    side.set_major_formatter(FuncFormatter(_round))
    side.set_minor_formatter(NullFormatter())


def _round(value: float, _: Any) -> str:
    return f"{value:g}" if value > 5e-4 else significant(value, 1).replace("1·", "")


def _for_page(canvas: Canvas, description: str) -> str:
    file = io.StringIO()
    with _settings(description):  # identifiers follow from it
        canvas.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    drawing = file.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    # Identifiers of groups repeat from drawing to drawing, and nothing refers to them.
    drawing = re.sub(r'<g id="[^"]*"', "<g", drawing)
    drawing = re.sub(r"<!--.*?-->\s*", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", "var(--type)", drawing)
    name = html.escape(description, quote=True)
    box = re.search(r'viewBox="[^"]*"', drawing)
    assert box is not None
    opening = (
        f'<svg {box[0]} role="img" aria-label="{name}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return with_variables(re.sub(r"<svg[^>]*>", lambda _: opening, drawing, count=1))
