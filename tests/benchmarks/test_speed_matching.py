"""The measurement of weight matching compares like with like."""

import pytest

from benchmarks.speed._matching import (
    MatchingSpeedConfig,
    matching_table,
    measure_matching,
)


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": ()}, r"widths is \(\)"),
        ({"widths": (0, 4)}, r"widths is \(0, 4\)"),
        ({"rounds": 2}, "rounds is 2"),
    ],
)
def test_what_cannot_be_timed_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MatchingSpeedConfig(**options)
