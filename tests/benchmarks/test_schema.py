"""Every committed result is as `benchmarks.runs.schema` says, and holds no more."""

import json
from pathlib import Path

import pytest

from benchmarks.runs import read_result, schema
from benchmarks.runs._forms import Apart, Each, Maybe, Per, departures
from benchmarks.runs._result import departures_of

COMMITTED = Path(__file__).parents[2] / "benchmarks" / "results"
RESULTS = sorted(path.parent for path in COMMITTED.glob("*/result.json"))
PER_SEED = Per("seed", int)
PAIR = {"a": [1, 2], "b": [3, 4]}


@pytest.mark.parametrize("folder", RESULTS, ids=[folder.name for folder in RESULTS])
def test_a_committed_result_holds_what_the_schema_says_and_no_more(folder):
    result = read_result(folder)
    assert result["experiment"] in schema.EXPERIMENTS
    assert list(departures_of(result, exact=True)) == []


@pytest.mark.parametrize(
    "name",
    [
        "digits_mlp",
        "combinability_cifar10_resnet20_layernorm",
        "stitching_cifar10_resnet20_layernorm",
    ],
)
def test_a_list_that_lacks_an_entry_is_named(name):
    result = read_result(COMMITTED / name)
    form = schema.COMMON | schema.EXPERIMENTS[result["experiment"]]
    for place, entries in lists_per(form, result):
        last = entries.pop()
        said = list(departures_of(result))
        assert any(place in each for each in said), place
        entries.append(last)


def lists_per(form, value, place=""):
    """Lists whose lengths the form tells, the first at each place of the form."""
    if isinstance(form, Maybe):
        if value is not None:
            yield from lists_per(form.form, value, place)
    elif isinstance(form, Per):
        yield place, value
        yield from lists_per(form.form, value[0], f"{place}[0]")
    elif isinstance(form, list):
        for entry in value[:1]:
            yield from lists_per(form[0], entry, f"{place}[0]")
    elif isinstance(form, Each | Apart):
        for name, entry in [*value.items()][:1]:
            yield from lists_per(form.form, entry, f"{place}.{name}".lstrip("."))
    elif isinstance(form, dict):
        for name, entry in form.items():
            if name in value:
                yield from lists_per(entry, value[name], f"{place}.{name}".lstrip("."))


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
        (Per("seed", int), [1, None], "[1]: expected int, got None"),
        (Per("seed", int), 3, "the whole: expected a list, got 3"),
        (
            {"a": {"b": PER_SEED}, "c": PER_SEED},
            {"a": {"b": [1, 2]}, "c": [1]},
            "c: expected 2 entries, one per seed as in a.b, got 1",
        ),
        (
            Each(PER_SEED),
            {"x": [1], "y": [1, 2]},
            "y: expected 1 entries, one per seed as in x, got 2",
        ),
        (
            {"a": PER_SEED, "b": Apart({"c": PER_SEED})},
            {"a": [1], "b": {"x": {"c": [1]}, "y": {"c": [1, 2]}}},
            "b.y.c: expected 1 entries, one per seed as in a, got 2",
        ),
        (
            [Per("seed", int)],
            [[1, 2], [1, 2, 3]],
            "[1]: expected 2 entries, one per seed as in [0], got 3",
        ),
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
        ({"a": PER_SEED, "b": PER_SEED}, {"a": [1, 2], "b": [3, 4]}),
        ({"a": PER_SEED, "b": Per("point", int)}, {"a": [1, 2], "b": [3]}),
        (Apart({"a": PER_SEED, "b": PER_SEED}), {"x": {"a": [], "b": []}, "y": PAIR}),
        (Per("row", Per("row", int)), [[1, 2], [3, 4]]),
    ],
)
def test_what_meets_a_form_departs_nowhere(form, value):
    assert list(departures(form, value)) == []
