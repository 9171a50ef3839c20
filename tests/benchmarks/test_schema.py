"""Every committed result is as `benchmarks.runs.schema` says, and holds no more."""

import json
from pathlib import Path

import pytest

from benchmarks.runs import read_result, schema
from benchmarks.runs._forms import Each, Maybe, departures
from benchmarks.runs._result import departures_of

COMMITTED = Path(__file__).parents[2] / "benchmarks" / "results"
RESULTS = sorted(path.parent for path in COMMITTED.glob("*/result.json"))


@pytest.mark.parametrize("folder", RESULTS, ids=[folder.name for folder in RESULTS])
def test_a_committed_result_holds_what_the_schema_says_and_no_more(folder):
    result = read_result(folder)
    assert result["experiment"] in schema.EXPERIMENTS
    assert list(departures_of(result, exact=True)) == []


def test_what_is_missing_or_besides_is_named():
    result = json.loads((RESULTS[0] / "result.json").read_text())
    del result["started"]
    assert list(departures_of(result)) == ["the whole: it lacks 'started'"]
    result |= {"started": "today", "surprise": 1}
    assert list(departures_of(result)) == []
    [said] = departures_of(result, exact=True)
    assert "'surprise' besides" in said


@pytest.mark.parametrize(
    ("form", "value", "said"),
    [
        (int, 1.0, "the whole: expected int, got 1.0"),
        (float, True, "the whole: expected float, got True"),
        (float, float("inf"), "the whole: expected float, got inf"),
        ([int], [1, None], "[1]: expected int, got None"),
        ([int], {}, "the whole: expected a list, got {}"),
        ({"a": {"b": str}}, {"a": {"b": 3}}, "a.b: expected str, got 3"),
        ({"a": int}, {}, "the whole: it lacks 'a'"),
        (Each([int]), {"x": ["y"]}, "x[0]: expected int, got 'y'"),
        (Maybe({"a": int}), {"a": "b"}, "a: expected int, got 'b'"),
    ],
)
def test_a_departure_is_named_by_its_place(form, value, said):
    assert list(departures(form, value)) == [said]


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (float, 3),
        (object, float("nan")),
        (Maybe(int), None),
        ({"a?": int}, {}),
        (Each(int), {}),
        ([str], []),
        ({"a": int}, {"a": 1, "besides": 2}),
    ],
)
def test_what_meets_a_form_departs_nowhere(form, value):
    assert list(departures(form, value)) == []
