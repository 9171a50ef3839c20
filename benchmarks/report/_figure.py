"""A figure is a few panels: side by side in a file, each an inline SVG in a page.

Panels are drawn narrow with type that stays readable at the width of a phone; a page
lets them flow, one above the other where there is no room. The legend of a figure is
made from the marks of its panels, in the order in which they were drawn.
"""

import html
import io
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.figure import FigureBase
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from benchmarks.report import plots
from benchmarks.report._numbers import Interval, significant
from benchmarks.report._style import with_variables

_FOLDER = Path(__file__).parent
_TEXTS = (_FOLDER / "texts.toml").read_text()
# No line breaks between a number and its unit.
TEXTS = tomllib.loads(re.sub("(?<=[0-9}]) %", "\u00a0%", _TEXTS))
_SETTINGS = matplotlib.rc_params_from_file(
    _FOLDER / "templates" / "figures.mplstyle", use_default_template=False
)
_WIDTH = 4.4  # inches: a phone shows it at about its natural size
_FILLED = ("title", "xlabel")  # what values are filled into


class Panel(NamedTuple):
    """One drawing."""

    title: str
    draws: Sequence[Callable[..., Any]]  # each is called with `ax=`
    height: float  # in inches
    share: Sequence[str]  # names of limits that panels of a figure have in common
    settings: dict[str, Any]  # of Matplotlib's `Axes.set`


class Figure(NamedTuple):
    """Panels that belong together."""

    name: str  # of the file, without the ending
    title: str
    text: Sequence[str]  # what is seen, then what is not shown
    panels: Sequence[Panel]
    folded: bool = False  # whether a page shows it only when asked


def panel(
    name: str,
    *draws: Callable[..., Any],
    height: float = 3.0,
    settings: Mapping[str, Any] = MappingProxyType({}),
    **values: Any,
) -> Panel:
    """A panel of plots on the same axes; `texts.toml` has its title and settings."""
    found = TEXTS["panels"][name] | settings
    filled = {k: v.format(**values) if k in _FILLED else v for k, v in found.items()}
    share = [limits.format(**values) for limits in filled.pop("share", ("", ""))]
    title, height = filled.pop("title"), filled.pop("height", height)
    return Panel(title, draws, height, share, filled)


def forest(
    name: str,
    rows: Mapping[str, Mapping[str, Interval]],
    looks: Mapping[str, Mapping[str, Any]],
    *,
    zero: float | None = 0.0,
    limits: tuple[float, float] | None = None,
    **values: Any,
) -> Panel:
    """A panel of intervals in rows, as `plots.forest` draws them."""
    draw = partial(plots.forest, rows, looks, zero=zero, limits=limits)
    height = 0.9 + len(rows) * (0.12 + 0.12 * len(looks))
    return panel(name, draw, height=height, **values)


def figure(
    name: str,
    panels: Iterable[Panel],
    end: str = "",
    folded: bool = False,
    **values: Any,
) -> Figure:
    """A figure with the title and text of `texts.toml`; `end` is of the file's name."""
    found = TEXTS["figures"][name]
    text = [paragraph.format(**values) for paragraph in found["text"]]
    title = found["title"].format(**values)
    return Figure(name + end, title, text, list(panels), folded)


def draw(figure: Figure, format: str = "png") -> bytes:
    """Draw a figure on white as a PNG of 150 dots per inch, an SVG or a PDF."""
    panels, columns = figure.panels, min(2, len(figure.panels))
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    heights = [max(panel.height for panel in row) for row in rows]
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": figure.title}):
        size = (_WIDTH * columns, sum(heights) + 0.1)
        canvas = Canvas(figsize=size, layout="constrained", facecolor="white")
        canvas.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # pyright: ignore
        grid = canvas.add_gridspec(len(rows), columns, height_ratios=heights)
        places = [divmod(i, columns) for i in range(len(panels))]
        marks = _plotted(panels, [canvas.add_subfigure(grid[at]) for at in places])
        if marks:
            lines = _add_legend(canvas, marks, min(len(marks), 2 * columns))
            canvas.set_size_inches(size[0], size[1] + 0.22 * lines)
        file = io.BytesIO()
        stable = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(format)
        canvas.savefig(file, format=format, dpi=150, metadata=stable, facecolor="white")
    return file.getvalue()


def _add_legend(canvas: Canvas, marks: dict[str, Any], columns: int) -> int:
    """Add a legend of that many columns, or as many as fit; return its lines."""
    legend = canvas.legend(
        marks.values(), marks, loc="outside lower center", ncols=columns
    )
    if columns > 1 and legend.get_window_extent().width > canvas.bbox.width:
        legend.remove()
        return _add_legend(canvas, marks, columns - 1)
    return -(-len(marks) // columns)


def inline(figure: Figure) -> tuple[str, list[str]]:
    """The legend and the panels as SVG that takes colours and type from the page."""
    with matplotlib.rc_context(_SETTINGS):
        sizes = [(_WIDTH, panel.height) for panel in figure.panels]
        canvases = [Canvas(figsize=size, layout="constrained") for size in sizes]
        marks = _plotted(figure.panels, canvases)
        names = [f"{figure.title}: {panel.title}" for panel in figure.panels]
        drawings = list(map(_for_page, canvases, names))
        if not marks:
            return "", drawings
        columns = 1 if max(map(len, marks)) > 22 else 2
        canvas = Canvas(figsize=(_WIDTH, 0.23 * -(-len(marks) // columns)))
        options: Any = {"loc": "center left", "ncols": columns, "borderpad": 0}
        canvas.legend(marks.values(), marks, **options)
        return _for_page(canvas, f"{figure.title}: legend"), drawings


def _plotted(panels: Sequence[Panel], canvases: Sequence[FigureBase]) -> dict[str, Any]:
    """Draw each panel on its canvas; return what they have labelled, each once."""
    every: list[Axes] = []
    for panel, canvas in zip(panels, canvases, strict=True):
        canvas.suptitle(panel.title, x=0.01, ha="left")
        axes = canvas.add_subplot()
        for plot in panel.draws:
            plot(ax=axes)
        if "yscale" in panel.settings:  # margins are to be of this scale
            axes.set_yscale(panel.settings["yscale"])
            axes.autoscale_view(scalex=False)
        axes.set(ylabel="", **panel.settings)
        axes.set_xlabel(axes.get_xlabel(), loc="left")
        every.append(axes)
    for place, side in enumerate("xy"):
        groups: dict[str, list[Axes]] = {}
        for panel, axes in zip(panels, every, strict=True):
            groups.setdefault(panel.share[place], []).append(axes)
        groups.pop("", None)
        for same in groups.values():
            limits = np.array([getattr(axes, f"get_{side}lim")() for axes in same])
            for axes in same:
                axes.set(**{f"{side}lim": (limits.min(), limits.max())})
        for axes in every:
            if getattr(axes, f"get_{side}scale")() == "log":
                ends = getattr(axes, f"get_{side}lim")()
                _round_ticks(getattr(axes, f"{side}axis"), *ends)
    marks: dict[str, Any] = {}
    for axes in every:
        handles, names = axes.get_legend_handles_labels()
        marks = dict(zip(names, handles, strict=True)) | marks
    return marks


def _round_ticks(side: Any, low: float, high: float) -> None:
    """From three to six round numbers on a logarithmic axis."""
    ticks: Any = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)))
    for digits in ((1, 1.5, 2, 3, 5, 7), (1, 2, 3, 5), (1, 3), (1,)):  # finest first
        found = np.outer(decades, digits).ravel()
        if 3 <= np.sum((low <= found) & (found <= high)) <= 6:
            ticks = found
            break
    side.set_ticks([tick for tick in ticks if low <= tick <= high])
    side.set_major_formatter(FuncFormatter(_round))
    side.set_minor_formatter(NullFormatter())


def _round(value: float, _: Any) -> str:
    return f"{value:g}" if value > 5e-4 else significant(value, 1).replace("1·", "")


def _for_page(canvas: Canvas, description: str) -> str:
    file = io.StringIO()
    # Identifiers follow from the salt.
    with matplotlib.rc_context({"svg.hashsalt": description}):
        canvas.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    drawing = file.getvalue()
    name, box = html.escape(description), re.search(r'viewBox="[^"]*"', drawing)
    opening = (
        f'<svg {box and box[0]} role="img" aria-label="{name}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    for pattern, new in (
        (r"^.*?<svg[^>]*>", lambda _: opening),
        (r"<metadata>.*?</metadata>|<!--.*?-->\s*", ""),
        # Identifiers of groups repeat from drawing to drawing; nothing refers to them.
        (r'<g id="[^"]*"', "<g"),
        (r"'DejaVu Sans'(, [^;\"]*)?", "var(--type)"),
    ):
        drawing = re.sub(pattern, new, drawing, flags=re.DOTALL)
    return with_variables(drawing)
