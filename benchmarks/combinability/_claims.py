"""The claims of the paper's abstract, and whether a run supports them.

The abstract gives no numbers, so the criteria are ours, fixed before any run. A
combination *works* if its test error is at most two percentage points above the mean of
its parents'. Each claim is a number that must be at most, or at least, a bound: it
holds if the whole 95 % interval over networks is on the right side, it does not if the
whole interval is on the wrong side, and is undecided otherwise. Whether combinations
differ is moot where they do not work: a broken network differs from everything.
"""

from typing import Any

from benchmarks.intervals import judged

TOLERANCE = 0.02
# A substantial perturbation moves this part of the matched units.
SUBSTANTIAL = 0.2
# Different is a disagreement of at least this part of that of two seeds.
DIFFERENT = 0.5


def claims(of_width: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a `Claim` for each statement of the abstract.

    Args:
      of_width: "hypercube", "transitivity", "robustness" and "difference" of a `Width`.
    """
    cube, perturbed = of_width["hypercube"], of_width["robustness"]

    def excess(cell: str) -> dict[str, Any]:
        return cube[cell]["test_error"]["excess_95"]

    fractions = perturbed["fractions"]
    place = min(range(len(fractions)), key=lambda i: abs(fractions[i] - SUBSTANTIAL))
    through = of_width["transitivity"]["barriers"]["through"]["test_error"]
    worst = "95th percentile of the test error beyond the parents'"
    moved = f"test error beyond the parents', {fractions[place]:.0%} moved"
    rows = [
        ("combinable in the hypercube", worst, excess("uniform [0, 1], element")),
        ("combinable at its vertices", worst, excess("vertices, element")),
        (
            "combinable in its vicinity, [−0.25, 1.25]",
            worst,
            excess("uniform [−0.25, 1.25], element"),
        ),
        ("transitive", "barrier through a third network, test error", through),
        ("robust", moved, perturbed["rows"][place]["excess"]["test_error"]),
    ]
    found = [
        judged(claim, measure, number, TOLERANCE, "at most")
        for claim, measure, number in rows
    ]
    works = found[0]["verdict"] == "holds"
    relative = of_width["difference"]["relative"]
    apart = "disagreement relative to that of two seeds"
    for kind, name in (("parents", "its parents"), ("combinations", "one another")):
        claim = f"different from {name}"
        row = judged(claim, apart, relative[kind], DIFFERENT, "at least")
        found.append(row if works else row | {"verdict": "moot"})
    return found
