"""How a method looks: one colour, line and name in every figure and table.

Members of the RLLC family are strong, in colours that stay apart for colour-blind
readers (after Okabe and Ito); baselines step back in muted tones and broken lines. A
frozen law is a baseline, thin and broken, in the colour of the method it belongs to.
Every colour has a light and a dark form: figures are drawn in the light one, and a
page may exchange it for the dark one by name.
"""

import dataclasses
import re
from collections.abc import Iterable

_COLOURS = {  # name: (on a light page, on a dark page)
    "ink": ("#1f2430", "#e4e7ee"),
    "faint": ("#6b7280", "#9aa3b2"),
    "rule": ("#dfe3e8", "#323945"),
    "page": ("#fefefe", "#14171c"),
    "rllc-1": ("#0b68b0", "#58b2f0"),
    "rllc-2": ("#d1541a", "#ff8f52"),
    "rllc-3": ("#018a66", "#35c99c"),
    "rllc-4": ("#b0437f", "#ec86bb"),
    "rllc-5": ("#8a6d00", "#e0b93a"),
    "rllc-6": ("#5b4bb5", "#a99bff"),
    "base-1": ("#8b95a3", "#8a94a3"),
    "base-2": ("#b39a74", "#ad9670"),
    "base-3": ("#88a488", "#84a184"),
    "base-4": ("#a893b3", "#a690b2"),
    "base-5": ("#b88f8f", "#b58c8c"),
    "base-6": ("#7fa3ad", "#7ca0aa"),
}
# Known methods keep their colour in whatever company they appear.
_LEARNED = ("rllc", "rllc_free", "rllc_adam")
_BASELINES = ("sgd", "momentum", "nesterov", "adam", "adamw", "nadam", "aggmo")
_BASELINES += ("ademamix", "lion", "schedule_free", "prodigy", "muon")
_DASHES = [
    (4, 1.5),
    (1.2, 1.4),
    (5, 1.5, 1.2, 1.5),
    (8, 2),
    (2.5, 1.2),
    (7, 1.5, 1, 1.5),
]
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

INK, FAINT, RULE, PAGE = (_COLOURS[n][0] for n in ("ink", "faint", "rule", "page"))


def colour(name: str) -> str:
    """A colour of the palette, on a light page.

    Example:
        >>> colour("rllc-1")
        '#0b68b0'
    """
    return _COLOURS[name][0]


@dataclasses.dataclass(frozen=True)
class Style:
    """The look of a method.

    Attributes:
        label: its name for readers.
        learned: whether it belongs to the RLLC family.
        colour: its colour on a light page.
        width: of its lines, in points.
        dash: lengths of dashes and gaps in line widths, none for a solid line.
    """

    label: str
    learned: bool
    colour: str
    width: float
    dash: tuple[float, ...] = ()

    @property
    def line(self) -> dict:
        """Keyword arguments of matplotlib's `plot`."""
        return {
            "color": self.colour,
            "linewidth": self.width,
            "linestyle": (0, self.dash) if self.dash else "solid",
            "zorder": 4 if self.learned or self.colour == INK else 3,
        }


def is_learned(method: str) -> bool:
    """Whether a method corrects its law while it trains; a frozen law does not.

    Example:
        >>> names = ("rllc_adam", "rllc_frozen_learned", "adam")
        >>> [is_learned(name) for name in names]
        [True, False, False]
    """
    return method.startswith("rllc") and "frozen" not in method


def styles(methods: Iterable[str]) -> dict[str, Style]:
    """The look of each method, the same in every report for those known by name.

    Example:
        >>> looks = styles(["sgd", "rllc_adam"])
        >>> looks["rllc_adam"].label, looks["sgd"].learned
        ('RLLC-Adam', False)
    """
    methods = list(methods)
    sources = [method.partition("_frozen_")[0] for method in methods]
    learned = list(dict.fromkeys([*_LEARNED, *filter(is_learned, sources)]))
    others = list(dict.fromkeys([*_BASELINES, *methods]))
    looks = {}
    for method, source in zip(methods, sources, strict=True):
        if is_learned(source):
            colour = _COLOURS[f"rllc-{learned.index(source) % 6 + 1}"][0]
            frozen = method.removeprefix(source)
            dash = {"": (), "_frozen_initial": _DASHES[1]}.get(frozen, _DASHES[4])
            width = 1.2 if frozen else 2.1
            looks[method] = Style(label(method), not frozen, colour, width, dash)
        else:
            place = others.index(method)
            colour = _COLOURS[f"base-{place % 6 + 1}"][0]
            dash = _DASHES[(place + place // 6) % 6]
            looks[method] = Style(label(method), False, colour, 1.3, dash)
    return looks


def emphasised(looks: dict[str, Style], method: str | None) -> dict[str, Style]:
    """The same looks with one baseline stepping forward, in the colour of ink."""
    if method is None:
        return looks
    style = dataclasses.replace(looks[method], colour=INK, width=1.8)
    return looks | {method: style}


def label(method: str) -> str:
    """A method's name as readers know it.

    Example:
        >>> label("rllc_adam"), label("schedule_free"), label("rllc_frozen_learned")
        ('RLLC-Adam', 'Schedule free', 'RLLC, frozen learned')
    """
    source, frozen, kind = method.partition("_frozen_")
    words = [_LABELS.get(word, word) for word in source.split("_")]
    joined = ("-" if words[0] == "RLLC" else " ").join(words)
    joined = joined[:1].upper() + joined[1:]
    return f"{joined}, frozen {kind}" if frozen else joined


def with_variables(svg: str) -> str:
    """Exchanges the colours of a drawing for the page's CSS variables of that name."""
    names = {light: name for name, (light, _) in _COLOURS.items()}
    return re.sub(
        r"#[0-9a-f]{6}",
        lambda found: f"var(--{names[found[0]]})" if found[0] in names else found[0],
        svg,
    )


def css_variables(dark: bool) -> str:
    """Declarations of the page's colours."""
    return " ".join(f"--{name}: {both[dark]};" for name, both in _COLOURS.items())
