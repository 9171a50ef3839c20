"""What an interval says of a claim."""

from collections.abc import Mapping
from typing import Any


def judged(
    claim: str, measure: str, number: Mapping[str, Any], bound: float, side: str
) -> dict[str, Any]:
    """A claim with the verdict that the interval of its number gives."""
    low, high = number["low"], number["high"]
    row = {"claim": claim, "measure": measure, "bound": bound, "side": side}
    row |= {name: number[name] for name in ("mean", "low", "high")}
    if low is None or high is None:
        return row | {"verdict": "undecided"}
    inside, outside = high <= bound, low > bound
    if side == "at least":
        inside, outside = low >= bound, high < bound
    verdict = "holds" if inside else "does not hold" if outside else "undecided"
    return row | {"verdict": verdict}
