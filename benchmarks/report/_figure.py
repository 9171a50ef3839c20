"""A figure is a few panels: side by side in a PNG, each an inline SVG in a page.

Panels are drawn narrow with type that stays readable at the width of a phone; a page
lets them flow, one above the other where there is no room.
"""

import dataclasses
import html
import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from benchmarks.report._style import FAINT, INK, RULE, Style, with_variables

_WIDTH = 4.4  # inches: a phone shows it at about its natural size
_SETTINGS: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.labelcolor": FAINT,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "figure.facecolor": "none",
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "lines.solid_capstyle": "round",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 9.5,
    "xtick.minor.size": 0,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 9.5,
    "ytick.left": False,
    "ytick.minor.left": False,
}


@dataclasses.dataclass(frozen=True)
class Panel:
    """One drawing.

    Attributes:
        title: what is seen, a few words.
        draw: draws it on the axes it is given.
        height: in inches.
    """

    title: str
    draw: Callable[[Axes], None]
    height: float = 3.0


@dataclasses.dataclass(frozen=True)
class Figure:
    """Panels that belong together.

    Attributes:
        name: the file name of its PNG, without the ending.
        title: its heading.
        text: paragraphs that say what is seen, and what is not shown.
        panels: what is drawn.
        legend: the styles that its lines are to be read by.
        folded: whether a page shows it only when asked.
    """

    name: str
    title: str
    text: tuple[str, ...]
    panels: tuple[Panel, ...]
    legend: tuple[Style, ...] = ()
    folded: bool = False


def png(figure: Figure, columns: int = 2) -> bytes:
    """The figure as a PNG on white, at 200 dots an inch."""
    rows = [
        figure.panels[i : i + columns] for i in range(0, len(figure.panels), columns)
    ]
    columns = min(columns, len(figure.panels))
    heights = [max(panel.height for panel in row) for row in rows]
    legend = sorted(figure.legend, key=lambda style: not style.learned)
    legend_rows = -(-len(legend) // (2 * columns))
    with matplotlib.rc_context(_SETTINGS):
        size = (_WIDTH * columns, sum(heights) + 0.22 * legend_rows + 0.1)
        canvas = Canvas(figsize=size, layout="constrained", facecolor="white")
        canvas.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # pyright: ignore
        grid = canvas.add_gridspec(len(rows), columns, height_ratios=heights)
        for i, row in enumerate(rows):
            for j, panel in enumerate(row):
                axes = canvas.add_subplot(grid[i, j])
                axes.set_title(panel.title)
                panel.draw(axes)
        if legend:
            canvas.legend(
                handles=[Line2D([], [], label=s.label, **s.line) for s in legend],
                loc="outside lower center",
                ncols=min(len(legend), 2 * columns),
                frameon=False,
                handlelength=2.6,
                fontsize=9.5,
            )
        file = io.BytesIO()
        canvas.savefig(file, format="png", dpi=200)
    return file.getvalue()


def svg(panel: Panel, description: str) -> str:
    """The panel as inline SVG that takes its colours and type from the page."""
    salt: dict[Any, Any] = {"svg.hashsalt": description + panel.title}
    with matplotlib.rc_context(_SETTINGS | salt):
        canvas = Canvas(figsize=(_WIDTH, panel.height), layout="constrained")
        axes = canvas.add_subplot()
        axes.set_title(panel.title)
        panel.draw(axes)
        file = io.StringIO()
        canvas.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return _for_page(file.getvalue(), f"{description}: {panel.title}")


def _for_page(drawing: str, description: str) -> str:
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
    drawing = re.sub(r"<svg[^>]*>", lambda _: opening, drawing, count=1)
    return with_variables(drawing)


def legend_swatch(style: Style) -> str:
    """A short line in the method's style, as inline SVG."""
    dash = " ".join(f"{length * style.width:g}" for length in style.dash)
    stroke = f'stroke="{style.colour}" stroke-width="{style.width * 1.2:g}"'
    return with_variables(
        '<svg class="swatch" viewBox="0 0 28 8" aria-hidden="true">'
        f'<path d="M1 4H27" {stroke} stroke-dasharray="{dash}"/></svg>'
    )
