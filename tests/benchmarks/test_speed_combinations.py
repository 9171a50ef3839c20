"""Combinations are timed against two programs that evaluate the same combinations."""

from typing import Any

import jax
import numpy as np

from benchmarks.models import MLP
from benchmarks.speed import _combinations, combinations_table, measure_combinations
from benchmarks.speed._combinations import Case, CombinationsConfig

CASE = Case(MLP(10, (16,)), (8, 8, 1), images=4)


def test_all_programs_evaluate_the_same_combinations():
    values = {
        name: np.asarray(program(5))
        for name, program in _combinations._programs(CASE).items()
    }
    assert len(np.unique(values["loop"])) == 5
    for name in ("evaluate", "map"):
        np.testing.assert_allclose(values[name], values["loop"], rtol=1e-5)


def test_first_calls_and_each_number_of_samples_have_ratios():
    config: Any = jax.config
    cached, calls = config.jax_enable_compilation_cache, []
    found = measure_combinations(
        CombinationsConfig(rounds=3, samples=(2, 4)),
        progress=lambda *done: calls.append(done),
        selected={"small": CASE},
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert config.jax_enable_compilation_cache == cached
    case = found["cases"]["small"]
    # Compiling takes longer than evaluating.
    for program, seconds in case["first_seconds"].items():
        assert seconds > case["seconds"]["4"][program]
    heading, first, *rows = combinations_table(found)
    assert first[:2] == ("small", "first call")
    for row, samples in zip(rows, ("2", "4"), strict=True):
        median = case["to_map"][samples]["median"]
        assert row[:2] == ("small", samples)
        assert row[heading.index("to map")].startswith(f"{median:.2f} (")
