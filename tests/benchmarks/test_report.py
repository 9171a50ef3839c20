"""Figures, tables, sentences and the page that are made from a result."""

import html.parser
import json
import re

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest

from benchmarks import report
from benchmarks.report import _figure, _page, _sensitivity, _style
from benchmarks.report._numbers import significant, with_spread
from benchmarks.runs import RunError

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def folder(tmp_path, result):
    (tmp_path / "result.json").write_text(json.dumps(result))
    return tmp_path


class Elements(html.parser.HTMLParser):
    """Every start tag of a page, and a check that tags nest."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self, page):
        super().__init__()
        self.found, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_figures_and_page_are_written_and_the_same_each_time(folder):
    page = report.write(folder)
    names = {path.stem for path in folder.glob("*.png")}
    assert {"learning_curves", "learning_rate_sensitivity", "laws", "responses"} < names
    assert {"differences_train_loss", "differences_validation_loss"} < names
    assert all(path.read_bytes()[:8] == PNG for path in folder.glob("*.png"))
    first = page.read_bytes()
    assert report.write(folder).read_bytes() == first
    assert not list(folder.glob("*.partial"))

    text = first.decode()
    elements = Elements(text)
    assert elements.open == []
    _is_self_contained(text, elements)
    _works_in_the_dark_and_on_a_phone(text, elements)
    _identifiers_are_unique_and_found(text, elements)


def _is_self_contained(text, elements):
    tags = {tag for tag, _ in elements.found}
    assert not tags & {"script", "link", "iframe", "object", "img", "base", "form"}
    for _, attributes in elements.found:
        for name in ("href", "src", "xlink:href", "action", "srcset"):
            assert attributes.get(name, "#").startswith("#")
    assert set(re.findall(r"https?://[^\s\"']+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def _works_in_the_dark_and_on_a_phone(text, elements):
    assert "@media (prefers-color-scheme: dark)" in text
    viewport = (
        "meta",
        {"name": "viewport", "content": "width=device-width, initial-scale=1"},
    )
    assert viewport in elements.found
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert drawings
    light = {both[0] for both in _style._COLOURS.values()}
    for drawing in drawings:
        assert not light & set(re.findall(r"#[0-9a-f]{6}", drawing))
        opening = drawing.split(">")[0]
        assert "viewBox" in opening
        assert "width=" not in opening


def _identifiers_are_unique_and_found(text, elements):
    identifiers = [attrs["id"] for _, attrs in elements.found if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))
    used = re.findall(r'(?:url\(#|href="#)([^)"]+)', text)
    assert used
    assert set(used) <= set(identifiers)


def test_what_a_user_typed_cannot_break_the_page(result):
    result["config"]["dataset"] = "<script>alert(1)</script>"
    result["command"] = "python -m benchmarks rllc --out '<b>&'"
    page = _page.page(result, [])
    assert "<script" not in page
    assert "&lt;b&gt;&amp;" in page


def test_the_winner_is_read_off_the_numbers(result):
    said = " ".join(report.findings(result)["constant"])
    assert "Lowest validation loss: RLLC 0.3" in said
    assert "RLLC against the best baseline, Adam: −0.09" in said
    assert "lower on 4 of 4 paired seeds; clearly ahead" in said
    assert "RLLC against itself with the initial law frozen: clearly ahead" in said
    assert "Selected at the lowest or highest rate" in said
    assert said.endswith("may do better: SGD.")


def test_a_defeat_is_told_as_plainly(result):
    for row in result["comparisons"]:
        for key in ("mean_difference", "low", "high"):
            row[key] = abs(row[key])
        row["better"] = 0
    said = " ".join(report.findings(result)["constant"])
    assert "lower on 0 of 4 paired seeds; clearly behind" in said
    assert "clearly ahead in 0 of 6 pairs and clearly behind in 6" in said


def test_an_interval_that_includes_zero_shows_no_difference(result):
    for row in result["comparisons"]:
        row["low"], row["high"] = -1.0, 1.0
    said = " ".join(report.findings(result)["constant"])
    assert "no clear difference" in said
    assert "clearly ahead in 0 of 6 pairs and clearly behind in 0" in said


def test_one_seed_makes_no_claim(result):
    for row in result["comparisons"]:
        row["low"] = row["high"] = None
    assert "too few finite runs" in " ".join(report.findings(result)["constant"])
    report.figures(result)


def test_a_run_that_diverged_is_counted_and_ranks_last(result):
    entry = result["methods"]["rllc"]["constant"]
    entry["validation_loss"][0] = entry["train_loss"][0] = None
    entry["diverged"][0] = True
    said = " ".join(report.findings(result)["constant"])
    assert "Lowest validation loss: RLLC, frozen initial" in said
    assert "diverged at the selected setting: RLLC (1 of 4)" in said
    assert report.table(result, "constant")["rllc"]["diverged"] == "25 %"


def test_the_table_has_means_deviations_and_costs(result):
    entry = result["methods"]["sgd"]["constant"]
    entry["validation_loss"] = [1.0, 2.0, 3.0, 4.0]
    entry["test_accuracy"] = [0.9, 0.92, 0.91, 0.91]
    row = report.table(result, "constant")["sgd"]
    assert row["validation loss"] == "2.50 ± 1.29"
    assert row["test accuracy"] == "91.00 % ± 0.82"
    assert row["steps to target"] == "25 (2/4)"
    assert row["ms a step"] == "0.10"
    assert row["bytes a parameter"] == "8.0"
    assert row["selected"] == "learning rate 1.00"
    entry["steps_to_target"] = [None] * 4
    assert report.table(result, "constant")["sgd"]["steps to target"] == "never"


def test_the_best_of_a_column_is_bold(result):
    page = _page.page(result, [])
    bold = re.findall(
        r'<tr[^>]*><th scope="row">([^<]+)</th>(?:(?!</tr>).)*"best"', page
    )
    assert bold == ["RLLC", "SGD"]  # SGD on the problem: RLLC failed from one start


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: entry.update(validation_loss=[None] * 4, train_loss=[None] * 4),
        lambda entry: entry["curves"].update(validation_loss=[[None] * 6] * 4),
        lambda entry: [trial.update(diverged=True) for trial in entry["trials"]],
        lambda entry: entry.update(trials=entry["trials"][1:2]),
        lambda entry: entry["curves"].update(train_loss=[[0.0] * 6] * 4),
    ],
)
def test_gaps_in_the_numbers_are_drawn_around(result, damage, recwarn):
    for method in result["methods"].values():
        damage(method["constant"])
    assert Elements(_page.page(result, report.figures(result))).open == []
    assert [str(warning.message) for warning in recwarn] == []


def test_without_laws_and_comparisons_there_are_no_such_figures(result):
    for method in result["methods"].values():
        method["constant"]["law"] = None
    del result["comparisons"], result["problems"], result["targets"]
    names = [figure.name for figure in report.figures(result)]
    assert names == ["learning_curves", "learning_rate_sensitivity"]
    _page.page(result, [])


def test_a_method_tuned_without_a_learning_rate_is_placed_by_what_was_tuned(result):
    entry = result["methods"]["sgd"]["constant"]
    entry["space"] = {"factor": [0.1, 10, "log"]}
    for hyper in [entry["selected"], *(trial["hyper"] for trial in entry["trials"])]:
        hyper["factor"] = hyper.pop("learning_rate")
    assert _figure.png(_sensitivity.sensitivity(result))[:8] == PNG


def test_a_folder_without_a_result_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"holds no result\.json"):
        report.write(tmp_path)


def test_a_method_looks_the_same_in_any_company():
    alone, together = (
        _style.styles(names)
        for names in (["adam", "rllc_adam"], ["sgd", "rllc", "adam", "rllc_adam"])
    )
    assert all(alone[name] == together[name] for name in alone)


def test_looks_tell_methods_apart():
    names = [*_style._LEARNED, *_style._BASELINES]
    names += ["rllc_frozen_initial", "rllc_frozen_learned", "rllc_new", "another"]
    looks = [(s.colour, s.width, s.dash) for s in _style.styles(names).values()]
    assert len(set(looks)) == len(looks)


@pytest.mark.parametrize("dark", [False, True])
def test_learned_laws_stand_out_and_all_lines_can_be_seen(dark):
    page = _style._COLOURS["page"][dark]
    contrast = {
        name: _contrast(both[dark], page) for name, both in _style._COLOURS.items()
    }
    learned = [value for name, value in contrast.items() if name.startswith("rllc")]
    baselines = [value for name, value in contrast.items() if name.startswith("base")]
    assert min(learned) >= 4
    assert min(baselines) >= 2.4
    assert contrast["ink"] > 12
    assert contrast["faint"] > 4.5


def _contrast(one, other):
    """The contrast ratio of the web content accessibility guidelines."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour):
    raw = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(raw <= 0.04045, raw / 12.92, ((raw + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@hypothesis.given(
    hnp.arrays(
        np.int64, st.tuples(st.integers(1, 12), st.just(2)), elements=st.integers(-9, 9)
    )
)
def test_no_trial_lies_below_the_hull(points):
    x, y = points.T
    hull = _sensitivity.lower_hull(x, y)
    assert hull[0, 0] == x.min()
    assert hull[-1, 0] == x.max()
    assert np.all(np.interp(x, hull[:, 0], hull[:, 1]) <= y + 1e-9)
    slopes = np.diff(hull[:, 1]) / np.maximum(np.diff(hull[:, 0]), 1e-9)
    assert np.all(np.diff(slopes) > 0)


@hypothesis.given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_number_is_written_to_three_digits(value):
    text = significant(value).replace("−", "-")
    mantissa, _, exponent = text.partition("·10")
    exponent = exponent.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    assert float(mantissa) * 10.0 ** int(exponent or 0) == pytest.approx(
        value, rel=5e-3
    )


@hypothesis.given(
    st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=5)
)
def test_any_spread_can_be_written(values):
    assert with_spread(values)
