"""An audit as a table that teaches what its numbers mean."""

from collections.abc import Iterator
from typing import NamedTuple

from stitching.report._audit import Audit


class _Row(NamedTuple):
    name: str
    value: float
    meaning: str


def table(audit: Audit) -> str:
    """The numbers of an audit, one a line, each with what it says."""
    rows = list(_rows(audit))
    width = max(len(row.name) for row in rows)
    lines = [f"{row.name:<{width}}  {row.value:8.3f}  {row.meaning}" for row in rows]
    return "\n".join(
        [f"a stitch on {audit.measures.hits.sum()} held-out samples", *lines]
    )


def _rows(audit: Audit) -> Iterator[_Row]:
    found, distance = audit.measures, audit.distance
    yield _Row(
        "relative accuracy",
        float(found.relative_accuracy),
        f"of network 2's {float(found.reference_accuracy):.3f}; a constant answer has "
        f"{float(audit.chance):.3f}",
    )
    yield _Row(
        "agreement",
        float(found.agreement),
        "of the samples are put into the class that network 2 puts them into",
    )
    yield _Row(
        "cross-entropy",
        float(found.cross_entropy),
        f"nats against network 2's soft outputs; {float(found.reference_entropy):.3f} "
        "is the least possible",
    )
    yield _Row(
        "R² at the cut",
        float(audit.r_squared),
        "of the variance of network 2's own is explained; below 0, its mean is nearer",
    )
    yield _Row(
        "distance",
        float(distance.mean),
        f"from network 2's own activations (Mahalanobis); these have "
        f"{float(distance.own_mean):.3f}",
    )
    yield _Row(
        "  beyond 99 %",
        float(distance.beyond_99),
        "lie farther out than 99 % of the own; in distribution 0.010 do",
    )
    yield _Row(
        "  AUROC",
        float(distance.auroc),
        "0.5: as far out as the own; 1: all of them farther",
    )
    yield _Row(
        "energy, AUROC",
        float(audit.energy.auroc),
        "0.5: as sure as network 2; 0: always surer, 1: never",
    )
    yield from _control_rows(audit)


def _control_rows(audit: Audit) -> Iterator[_Row]:
    meanings = {
        "self_stitch": "network 2 to itself; what lacks to 1 is the method's failure",
        "shuffled": "of other inputs; above a constant answer, something leaks",
        "noise": "above a constant answer, map and back do the task alone",
        "untrained": "random features; only what is above them was learned",
    }
    for name, meaning in meanings.items():
        control = getattr(audit.controls, name)
        if control is not None:
            label = f"control: {name.replace('_', '-')}"
            yield _Row(label, float(control.relative_accuracy), meaning)
