"""How a method looks: one colour, dash and name in every figure and table.

Learned laws have strong colours that stay apart for colour-blind readers (after Okabe
and Ito) and solid lines; baselines have muted colours and broken lines; a frozen law
has a broken line in the colour of the method that it belongs to. Figures are drawn in
the colours for a light page; a page exchanges them for CSS variables of that name.
"""

import dataclasses
import re
import zlib
from typing import Any

COLOURS = {  # name: (on a light page, on a dark page)
    "ink": ("#1f2430", "#e4e7ee"),
    "faint": ("#6b7280", "#9aa3b2"),
    "rule": ("#dfe3e8", "#323945"),
    "page": ("#fefefe", "#14171c"),
    "strong-1": ("#0b68b0", "#58b2f0"),
    "strong-2": ("#d1541a", "#ff8f52"),
    "strong-3": ("#018a66", "#35c99c"),
    "strong-4": ("#b0437f", "#ec86bb"),
    "strong-5": ("#8a6d00", "#e0b93a"),
    "strong-6": ("#5b4bb5", "#a99bff"),
    "muted-1": ("#7c8796", "#939dac"),
    "muted-2": ("#a9823f", "#c29a58"),
    "muted-3": ("#6d9a6d", "#84b084"),
    "muted-4": ("#9673ab", "#b392c6"),
    "muted-5": ("#b07070", "#c98d8d"),
    "muted-6": ("#5797a8", "#74b1c2"),
}
INK, FAINT = COLOURS["ink"][0], COLOURS["faint"][0]
DASHES = (
    (4, 1.5),
    (1.2, 1.4),
    (5, 1.5, 1.2, 1.5),
    (8, 2),
    (2.5, 1.2),
    (7, 1.5, 1, 1.5),
)
_LEARNED = ("rllc", "rllc_free", "rllc_adam")
_BASELINES = ("sgd", "momentum", "nesterov", "adam", "adamw", "nadam", "aggmo")
_BASELINES += ("ademamix", "lion", "schedule_free", "prodigy", "muon")
_LABELS = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "nadam": "NAdam",
    "lion": "Lion",
    "aggmo": "AggMo",
    "ademamix": "AdEMAMix",
    "rllc": "RLLC",
}


def strong(place: int) -> str:
    """The colour of the first, second, … of things that are shown together.

    Example:
        >>> strong(0), strong(6)
        ('#0b68b0', '#0b68b0')
    """
    return COLOURS[f"strong-{place % 6 + 1}"][0]


def line(
    label: str, colour: str, dash: tuple[float, ...] = (), width: float = 2.0
) -> dict[str, Any]:
    """Keyword arguments of Matplotlib's `plot`."""
    style = (0, dash) if dash else "solid"
    return {"label": label, "color": colour, "linewidth": width, "linestyle": style}


@dataclasses.dataclass(frozen=True)
class Style:
    """The look of a method.

    Attributes:
        label: its name for readers.
        learned: whether it learns its law while it trains.
        colour: its colour on a light page.
        dash: lengths of dashes and gaps in line widths, none for a solid line.
    """

    label: str
    learned: bool
    colour: str
    dash: tuple[float, ...] = ()

    @property
    def line(self) -> dict[str, Any]:
        """Keyword arguments of Matplotlib's `plot`."""
        width = 2.1 if self.learned else 1.5
        above = {"zorder": 4 if self.learned else 3}
        return line(self.label, self.colour, self.dash, width) | above


def style(method: str) -> Style:
    """The look of a method, the same wherever it appears.

    Example:
        >>> style("rllc_adam").label, style("sgd").learned
        ('RLLC-Adam', False)
    """
    source, _, kind = method.partition("_frozen_")
    if is_learned(source):
        place = _place(source, _LEARNED, 6)
        dash = {"": (), "initial": DASHES[1]}.get(kind, DASHES[4])
        return Style(label(method), not kind, strong(place), dash)
    place = _place(method, _BASELINES, 36)
    colour = COLOURS[f"muted-{place % 6 + 1}"][0]
    return Style(label(method), False, colour, DASHES[(place + place // 6) % 6])


def _place(name: str, known: tuple[str, ...], places: int) -> int:
    """A number below `places` that depends on the name alone."""
    if name in known:
        return known.index(name)
    return len(known) + zlib.crc32(name.encode()) % (places - len(known))


def is_learned(method: str) -> bool:
    """Whether a method corrects its law while it trains; a frozen law does not.

    Example:
        >>> names = ("rllc_adam", "rllc_adam_frozen_learned", "adam")
        >>> [is_learned(name) for name in names]
        [True, False, False]
    """
    return method.startswith("rllc") and "frozen" not in method


def label(method: str) -> str:
    """A method's name as readers know it.

    Example:
        >>> label("schedule_free"), label("rllc_adam_frozen_initial")
        ('Schedule free', 'RLLC-Adam, frozen initial law')
    """
    source, frozen, kind = method.rpartition(":")[2].partition("_frozen_")
    words = [_LABELS.get(word, word) for word in source.split("_")]
    joined = ("-" if words[0] == "RLLC" else " ").join(words)
    joined = joined[:1].upper() + joined[1:]
    return f"{joined}, frozen {kind} law" if frozen else joined


def with_variables(svg: str) -> str:
    """Exchange the colours of a drawing for the page's CSS variables of that name."""
    names = {light: name for name, (light, _) in COLOURS.items()}
    return re.sub(
        r"#[0-9a-f]{6}",
        lambda found: f"var(--{names[found[0]]})" if found[0] in names else found[0],
        svg,
    )


def css_variables(dark: bool) -> str:
    """Declarations of the page's colours."""
    return " ".join(f"--{name}: {both[dark]};" for name, both in COLOURS.items())
