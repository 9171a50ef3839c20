"""The measurement of weight matching compares like with like."""

import jax.numpy as jnp
import pytest

from benchmarks.models import MLP
from benchmarks.speed import _matching
from benchmarks.speed._matching import (
    MatchingSpeedConfig,
    large_table,
    matching_table,
    measure_large_matching,
    measure_matching,
)
from combinability import match


@pytest.fixture(scope="module")
def measured():
    calls = []
    config = MatchingSpeedConfig(widths=(1,), rounds=3)
    result = measure_matching(config, lambda *call: calls.append(call))
    return result, calls


@pytest.mark.slow
def test_from_the_same_start_in_the_same_order_the_loop_ends_at_the_same(measured):
    found = measured[0]["widths"]["1"]["matching"]
    loop, ours = found["loop"], found["identity"]
    assert ours["objective"] == pytest.approx(loop["objective"], rel=1e-5)
    assert ours["recovered"] == pytest.approx(loop["recovered"], abs=0.01)
    assert loop["ratio"]["median"] == 1


@pytest.mark.slow
def test_progress_and_table_tell_of_every_program(measured):
    result, calls = measured
    assert calls[-1] == (3, 3)
    heading, *rows = matching_table(result)
    assert {len(row) for row in rows} == {len(heading)}
    assert [row[:2] for row in rows] == [
        ("1", "loop"),
        ("1", "identity"),
        ("1", "pinned"),
    ]


def test_large_networks_are_matched_once_and_their_memory_is_measured(monkeypatch):
    case = lambda: MLP(3, (8, 8)), jnp.zeros((1, 5)), match
    monkeypatch.setitem(_matching.LARGE, "small", case)
    result = measure_large_matching(["small"])
    one = result["small"]
    assert one["parameters"] == 5 * 8 + 8 + 8 * 8 + 8 + 8 * 3 + 3
    assert one["groups"] == 2
    assert one["cpu_seconds"] > 0
    assert one["gigabytes"] > 0.05
    heading, row = large_table(result)
    assert len(row) == len(heading)
    assert row[0] == "small"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": ()}, r"widths is \(\)"),
        ({"widths": (0, 4)}, r"widths is \(0, 4\)"),
        ({"rounds": 2}, "rounds: expected at least 3, got 2"),
        ({"large": ("VGG",)}, "large: expected some of MLP 512, .*, got 'VGG'"),
    ],
)
def test_what_cannot_be_timed_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MatchingSpeedConfig(**options)
