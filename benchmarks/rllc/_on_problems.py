"""The comparison on deterministic problems."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.baselines import Maker, Method
from benchmarks.rllc import _search
from benchmarks.rllc._config import METHODS, Config
from benchmarks.rllc._problems import PROBLEMS, Descent, minimise
from benchmarks.rllc._statistics import paired, plain
from benchmarks.rllc._trainer import TUNING_SEED
from benchmarks.rllc._variants import LEARNED_FROM, VARIANTS, settled_law

STEPS = 1000
_POINTS = 20
# These problems are cheap, and their curvatures are not those of networks: more
# trials than networks have, over rates that reach this factor further on both sides.
_TRIALS = 4
_WIDEN = 10.0
# The logarithm of a loss that has underflowed is taken here.
_SMALLEST = 1e-38
# Weight decay leads straight to a minimum at the origin, which would prove nothing;
# Muon is made for matrices, and there are none here.
_UNSUITABLE = ("adamw", "muon")


def run_problems(
    config: Config, stage: Callable[[str, Callable[[], Any]], Any]
) -> dict[str, Any]:
    """Compares the methods on problems; starting points take the place of seeds.

    Rates are constant. Every method has the same number of trials, all from one
    starting point; the best is run from fresh ones.

    Args:
      config: The comparison: its problems, methods, trials and seeds.
      stage: As in `run_comparison`.

    Returns:
      For each problem "steps", "methods" and "comparisons". The measure is
      "log10_loss", the logarithm of the final loss.
    """
    return {name: _run_problem(name, config, stage) for name in config.problems}


def _run_problem(
    problem: str, config: Config, stage: Callable[[str, Callable[[], Any]], Any]
) -> dict[str, Any]:
    methods: dict[str, Any] = {}
    for name in config.ordered_methods:
        if name in _UNSUITABLE:
            continue
        source = LEARNED_FROM.get(name)
        law = methods[source]["learned_law"] if source else None
        methods[name] = stage(
            f"{problem}.{name}",
            lambda name=name, law=law: _run_method(problem, METHODS[name], config, law),
        )
    comparisons = [
        {
            "schedule": "constant",
            "metric": "log10_loss",
            "method": name,
            "against": other,
            **paired(methods[name]["log10_loss"], methods[other]["log10_loss"]),
        }
        for name in VARIANTS
        if name in methods
        for other in methods
        if other not in VARIANTS
    ]
    return {"steps": STEPS, "methods": methods, "comparisons": comparisons}


def _run_method(
    problem: str, method: Method, config: Config, law: Sequence[float] | None
) -> dict[str, Any]:
    def run(hyper: Mapping[str, float], seed: int) -> Descent:
        given: dict[str, Any] = {**hyper, "cosine": False}
        if law is not None:
            given["law"] = np.array(law, np.float32)
        maker = Maker(method, STEPS)
        return minimise(PROBLEMS[problem], maker, given, seed, points=_POINTS)

    trials = _search.sample(method, _TRIALS * config.trials, _WIDEN)
    tried = [run(trial, TUNING_SEED) for trial in trials]
    losses, diverged = _outcome(tried)
    best, at_border = _search.select(method, trials, losses, diverged)
    seeds = [TUNING_SEED + 1 + i for i in range(config.seeds)]
    fresh_losses, fresh_diverged = _outcome([run(trials[best], seed) for seed in seeds])
    return plain(
        {
            "space": _search.describe(method, _WIDEN),
            "trials": [
                {"hyper": trial, "log10_loss": losses[i], "diverged": diverged[i]}
                for i, trial in enumerate(trials)
            ],
            "selected": trials[best],
            "at_border": at_border,
            "learned_law": settled_law(tried[best].probes),
            "seeds": seeds,
            "log10_loss": fresh_losses,
            "diverged": fresh_diverged,
        }
    )


def _outcome(descents: Sequence[Descent]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the logarithm of every final loss, and whether the run diverged."""
    first, last = (
        np.array(jax.device_get([getattr(descent, name) for descent in descents]))
        for name in ("first_loss", "last_loss")
    )
    return np.log10(np.maximum(last, _SMALLEST)), ~np.isfinite(last) | (last > first)
