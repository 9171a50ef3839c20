"""How a method looks: one colour, dash and name in every figure and table.

Learned laws have strong colours and solid lines, those that come after six colours
broken ones; baselines have muted colours and thin broken lines; a frozen law has a thin
broken line in the colour of the method that it belongs to. Figures are drawn in the
colours for a light page; a page exchanges them for CSS variables of that name.
"""

import re
import tomllib
import zlib
from pathlib import Path
from typing import Any

_STYLE = tomllib.loads(Path(__file__).with_name("style.toml").read_text())
COLOURS: dict[str, list[str]] = _STYLE["colours"]
LEARNED, BASELINES = _STYLE["methods"]["learned"], _STYLE["methods"]["baselines"]
INK, FAINT = COLOURS["ink"][0], COLOURS["faint"][0]
DASHES = (
    (4, 1.5),
    (1.2, 1.4),
    (5, 1.5, 1.2, 1.5),
    (8, 2),
    (2.5, 1.2),
    (7, 1.5, 1, 1.5),
)


def strong(place: int) -> str:
    """The colour of the first, second, … of things that are shown together."""
    return COLOURS[f"strong-{place % 6 + 1}"][0]


def line(
    label: str, colour: str, dash: int | None = None, width: float = 2.0
) -> dict[str, Any]:
    """Keyword arguments of Matplotlib's `plot`; the colour is given by its name."""
    style = "solid" if dash is None else (0, DASHES[dash])
    look: dict[str, Any] = {"label": label, "color": COLOURS[colour][0]}
    return look | {"linewidth": width, "linestyle": style}


def looks(kind: str) -> dict[str, dict[str, Any]]:
    """The lines of `style.toml` of a kind, by name."""
    return {name: line(*each) for name, each in _STYLE["looks"][kind].items()}


def method(name: str) -> dict[str, Any]:
    """The line of a method, the same wherever it appears."""
    source, frozen, kind = name.partition("_frozen_")
    if not is_learned(source):
        place = _place(name, BASELINES, 36)
        colour, dash = f"muted-{place % 6 + 1}", (place + place // 6) % 6
        return line(label(name), colour, dash, 1.5) | {"zorder": 3}
    place = _place(source, LEARNED, 18)
    colour, dash = f"strong-{place % 6 + 1}", (None, 3, 5)[place // 6]
    if frozen:
        dash = 1 if kind == "initial" else 4
        return line(label(name), colour, dash, 1.5) | {"zorder": 3}
    return line(label(name), colour, dash, 2.1) | {"zorder": 4}


def _place(name: str, known: list[str], places: int) -> int:
    """A number below `places` that depends on the name alone."""
    if name in known:
        return known.index(name)
    return len(known) + zlib.crc32(name.encode()) % (places - len(known))


def is_learned(method: str) -> bool:
    """Whether a method corrects its law while it trains; a frozen law does not."""
    return not is_baseline(method) and "frozen" not in method


def is_baseline(method: str) -> bool:
    """Whether a method has no part of RLLC."""
    return "rllc" not in method.rpartition(".")[2].split("_")


def label(method: str) -> str:
    """A method's name as readers know it; one of your own as it was given."""
    if "." in method:
        return method
    source, frozen, kind = method.partition("_frozen_")
    words = [_STYLE["words"].get(word, word) for word in source.split("_")]
    joined = ("-" if words[0] == "RLLC" else " ").join(words)
    joined = joined[:1].upper() + joined[1:]
    return f"{joined}, frozen {kind} law" if frozen else joined


def rate_label(schedule: str) -> str:
    """A schedule of the learning rate in words."""
    return f"{schedule.replace('_', '-')} rate"


def with_variables(svg: str) -> str:
    """Exchange the colours of a drawing for the page's CSS variables of that name."""
    names = {light: f"var(--{name})" for name, (light, _) in COLOURS.items()}
    return re.sub(r"#[0-9a-f]{6}", lambda hex: names.get(hex[0], hex[0]), svg)
