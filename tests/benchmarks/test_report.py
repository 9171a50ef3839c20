"""Figures, tables, sentences and the page that are made from a result."""

import html.parser
import json
import pathlib
import re

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import benchmarks
from benchmarks import report
from benchmarks.baselines import own_method
from benchmarks.report import _figure, _rllc, _style, plots
from benchmarks.report._figure import figure, forest
from benchmarks.report._numbers import (
    Interval,
    interval,
    listed,
    significant,
    with_spread,
)
from benchmarks.report._page import FAILED, HELD, NEEDS_THREE, UNDECIDED, judged
from benchmarks.rllc import METHODS
from benchmarks.runs import RunError, read

RESULTS = pathlib.Path(benchmarks.__file__).parent / "results"
PAGES = sorted(
    path.parent.name
    for path in RESULTS.glob("*/result.json")
    if not path.parent.name.startswith("speed")
)
START = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.fixture
def folder(tmp_path, result):
    (tmp_path / "result.json").write_text(json.dumps(result))
    return tmp_path


@pytest.fixture
def load(tmp_path):
    """Reads a result, as the tests have changed it, as the commands do."""

    def load(result):
        (tmp_path / "result.json").write_text(json.dumps(result))
        return read(tmp_path)

    return load


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


def said(result):
    """All sentences of the findings, by heading."""
    found = report.page(result).findings
    return {title: " ".join(texts) for title, texts in found.items()}


def table(result):
    """The first table of results: for each method, column to text."""
    sections = {each.title: each for each in report.page(result).sections}
    found = sections["Results"].tables[0][1]
    return {
        row[0]: dict(zip(found.columns[1:], row[1:], strict=True)) for row in found.rows
    }


def test_the_page_is_self_contained_and_the_same_each_time(folder):
    page = report.write(folder, formats=())
    first = page.read_bytes()
    assert report.write(folder, formats=()).read_bytes() == first
    text = first.decode()
    elements = Elements(text)
    assert elements.open == []
    tags = {tag for tag, _ in elements.found}
    assert not tags & {"script", "link", "iframe", "object", "img", "base", "form"}
    for _, attributes in elements.found:
        for name in ("href", "src", "xlink:href", "action", "srcset"):
            assert attributes.get(name, "#").startswith("#")
    assert not re.search(r"url\((?!#)|@import", text)
    identifiers = [attrs["id"] for _, attrs in elements.found if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))
    used = re.findall(r'(?:url\(#|href="#)([^)"]+)', text)
    assert used
    assert set(used) <= set(identifiers)


@pytest.mark.parametrize("format", START)
def test_figures_are_written_in_every_format(tmp_path, format):
    rows = {"Adam": {"run": Interval(-1.0, -2.0, -0.5)}}
    found = figure("segments", [forest("barrier_test_error", rows, {"run": {}})])
    first = report.draw(found, format)
    assert first.startswith(START[format])
    assert report.draw(found, format) == first


def test_a_run_has_a_file_for_every_figure(folder):
    report.write(folder)
    names = {figure.name for figure in report.page(read(folder)).figures}
    assert {"learning_curves", "differences_validation_loss"} < names
    assert {path.stem for path in folder.glob("*.png")} == names


def test_what_a_user_typed_cannot_break_the_page(result, load):
    result["config"]["dataset"] = "<script>alert(1)</script>"
    result["command"] = "python -m benchmarks rllc --out '<b>&'"
    found = load(result)
    page = report.render(report.page(found)._replace(sections=()), found)
    assert "<script" not in page
    assert "&lt;b&gt;&amp;" in page


@pytest.mark.parametrize("name", PAGES)
def test_every_committed_result_has_a_page_of_library_plots(name):
    page = report.page(read(RESULTS / name))
    assert page.question
    assert page.paper
    assert len(page.headlines) == 3
    assert any(page.findings.values())
    modules = {"rllc.plot", "combinability.plot", "stitching.plot", plots.__name__}
    for each in page.figures:
        assert each.panels, each.name
        for one in each.panels:
            assert one.draws, f"{each.name}: {one.title}"
            assert {draw.func.__module__ for draw in one.draws} <= modules
            curves = [d for d in one.draws if d.func in (plots.curve, plots.trials)]
            assert len(curves) <= 6


@pytest.mark.parametrize("name", PAGES)
def test_intervals_side_by_side_are_told_apart_by_colour(name):
    for each in report.page(read(RESULTS / name)).figures:
        for one in each.panels:
            for draw in one.draws:
                if draw.func is plots.forest:
                    looks = [x for x in draw.args[1].values() if "label" in x]
                    colours = {look["color"] for look in looks}
                    assert len(colours) == len(looks), each.name


def test_a_method_run_under_one_schedule_has_its_differences():
    found = read(RESULTS / "fashion_mnist_cnn_2000_steps")
    assert list(found.methods["adaptive_memory"]) == ["constant"]
    for each in _rllc._differences(found):
        for one in each.panels:
            rows = one.draws[0].args[0]
            assert list(rows["Adaptive memory"]) == ["constant"]
            assert set(rows["Momentum"]) == {"constant", "cosine"}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_words_for_what_options_name(name):
    found = read(RESULTS / name)
    page, model = report.page(found), found.config["model"]
    said = [text for _, text in page.headlines]
    said += [text for texts in page.findings.values() for text in texts]
    for section in page.sections:
        said += [section.title, *section.text, *section.bullets]
        for title, table in section.tables:
            said += [title, *table.columns]
    for each in page.figures:
        said += [each.title, *each.text]
        for one in each.panels:
            said += [one.title, str(one.settings.get("xlabel"))]
            said += [str(draw.keywords.get("label")) for draw in one.draws]
    said = [text.replace(model, "") for text in said]
    assert [text for text in said if re.search("[a-z]_[a-z]", text)] == []


def test_headlines_are_numbers_of_the_result(result, load):
    (_, lowest), (_, gap), (_, learning) = [
        (number, text) for number, text in report.page(load(result)).headlines
    ]
    assert lowest == "lowest validation loss, constant rate: RLLC"
    assert gap.startswith("validation loss of RLLC against the best baseline, Adam")
    assert "its initial law frozen" in learning
    numbers = [number for number, _ in report.page(load(result)).headlines]
    losses = {
        name: np.mean(method["constant"]["validation_loss"])
        for name, method in result["methods"].items()
    }
    assert numbers[0] == significant(losses["rllc"])
    for number, against in zip(
        numbers[1:], ("adam", "rllc_frozen_initial"), strict=True
    ):
        expected = 100 * (losses["rllc"] / losses[against] - 1)
        assert float(number.rstrip(" %").replace("−", "-")) == pytest.approx(
            expected, abs=1
        )


def test_successes_and_failures_are_read_off_the_numbers(result, load):
    found = said(load(result))
    assert "RLLC has a lower validation loss than 3 of 3 other" in found[HELD]
    assert "its own initial law frozen (−1" in found[HELD]
    assert "RLLC-Adam is ahead of 1 of 3 other methods" in found[FAILED]
    assert "selected for SGD; a wider" in found[UNDECIDED]
    for row in result["comparisons"]:
        for key in ("mean_difference", "low", "high"):
            row[key] = abs(row[key])
        row["low"] = row["high"] = row["mean_difference"]
    found = said(load(result))
    assert "RLLC has a higher validation loss than 3 of 3" in found[FAILED]
    assert not found[HELD]


@pytest.mark.parametrize(("low", "note"), [(-1.0, ""), (None, "too few finite runs")])
def test_an_interval_that_includes_zero_or_is_unknown_decides_nothing(
    result, load, low, note
):
    for row in result["comparisons"]:
        row["low"], row["high"] = low, low and -low
    found = said(load(result))
    undecided = found[UNDECIDED]
    assert "RLLC shows no clear difference to 3 of 3 other methods" in undecided
    assert note in undecided
    assert not found[HELD]


def test_a_run_that_diverged_is_counted_and_ranks_last(result, load):
    entry = result["methods"]["rllc"]["constant"]
    entry["validation_loss"][0] = entry["train_loss"][0] = None
    entry["diverged"][0] = True
    found = load(result)
    assert _rllc.ranking(found, "constant")[-1] == "rllc"
    assert "diverged at the selected setting: RLLC (1 of 4)" in said(found)[FAILED]
    assert table(found)["RLLC"]["diverged"] == "1 of 4"


def test_the_table_has_means_deviations_and_costs(result, load):
    entry = result["methods"]["sgd"]["constant"]
    entry["validation_loss"] = [1.0, 2.0, 3.0, 4.0]
    entry["test_accuracy"] = [0.9, 0.92, 0.91, 0.91]
    row = table(load(result))["SGD"]
    assert row["validation loss"] == "2.50 ± 1.29"
    assert row["test accuracy, %"] == "91.00 ± 0.82"
    assert row["steps to target"] == "25 (2 of 4)"
    assert row["bytes per parameter"] == "8.0"
    assert row["selected"] == "learning rate 1.00"
    assert not any("ms" in name.split() for name in row)  # no measurement of speed
    entry["steps_to_target"] = [None] * 4
    assert table(load(result))["SGD"]["steps to target"] == "never"


def test_the_best_of_a_column_is_bold(result, load):
    sections = {each.title: each for each in report.page(load(result)).sections}
    for title, expected in (
        ("Results", {("RLLC", "validation loss"), ("RLLC", "training loss")}),
        # On the problem RLLC failed from one start.
        ("Deterministic problems", {("SGD", "quadratic, log₁₀ loss")}),
    ):
        table = sections[title].tables[0][1]
        bold = {(table.rows[i][0], table.columns[j]) for i, j in table.best}
        assert expected <= bold


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
def test_gaps_in_the_numbers_are_drawn_around(result, load, damage, recwarn):
    for method in result["methods"].values():
        damage(method["constant"])
    assert Elements(report.render(report.page(load(result)))).open == []
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("zero", [["adam"], ["sgd", "adam", "rllc_frozen_initial"]])
def test_a_difference_to_a_loss_of_zero_has_no_percentage(result, load, zero):
    for name in zero:
        entry = result["methods"][name]["constant"]
        entry["validation_loss"] = entry["train_loss"] = [0.0] * 4
    found = load(result)
    for method in ("rllc", "rllc_adam"):
        assert _rllc.difference(found, "constant", method, zero[0]) is None
    page = report.page(found)
    assert not [each for each in page.findings[HELD] if "Adam (" in each]
    assert len(page.headlines) == (2 if len(zero) == 1 else 1)


@pytest.mark.parametrize("start", [0.0, None])
def test_a_gain_is_drawn_only_relative_to_a_start(result, load, recwarn, start):
    law = result["methods"]["rllc"]["constant"]["law"]
    law["gain"] = [[start, *[2.0] * 5]] * 4
    law = load(result).methods["rllc"]["constant"].law
    assert _rllc._gain_panels("rllc", law) == []
    assert list(recwarn) == []


def test_without_laws_and_comparisons_there_are_no_such_figures(result, load):
    for method in result["methods"].values():
        method["constant"]["law"] = None
    result["comparisons"], result["problems"], result["targets"] = [], {}, {}
    names = [figure.name for figure in report.page(load(result)).figures]
    assert names == ["learning_curves", "learning_rate_sensitivity"]


def test_curves_over_seconds_and_in_accuracy_where_the_result_has_them(result, load):
    untimed = "There are no curves over seconds"
    page = report.page(load(result))
    assert not {figure.name for figure in page.figures} & {"accuracy", "seconds"}
    assert untimed in report.render(page)
    for method in result["methods"].values():
        curves = method["constant"]["curves"]
        losses = np.array(curves["validation_loss"])
        curves["validation_accuracy"] = (1 - losses / 5).tolist()
        curves["seconds"] = [0.5 * step for step in curves["steps"]]
    page = report.page(load(result))
    assert untimed not in report.render(page)
    found = {figure.name: figure for figure in page.figures}
    drawn = found["accuracy"].panels[0].draws[0].args[1]
    expected = 100 * np.array(
        result["methods"]["rllc"]["constant"]["curves"]["validation_accuracy"]
    )
    np.testing.assert_allclose(drawn, expected)
    over_seconds = found["seconds"].panels[0]
    assert over_seconds.settings["xlabel"] == "seconds"
    steps = found["learning_curves"].panels[0].draws[0].args[0]
    np.testing.assert_allclose(over_seconds.draws[0].args[0], 0.5 * np.array(steps))


def test_accuracy_is_drawn_and_written_of_the_runs_that_did_not_diverge(result, load):
    names = ["adam", "rllc"]
    for name, lost in zip(names, (4, 1), strict=True):
        entry = result["methods"][name]["constant"]
        known = [[0.9] * 6] * (4 - lost)
        entry["curves"]["validation_accuracy"] = [[None] * 6] * lost + known
        entry["test_accuracy"] = [None] * lost + [0.9] * (4 - lost)
    found = load(result)
    (figure,) = [f for f in report.page(found).figures if f.name == "accuracy"]
    (drawn,) = [draw.args[1] for draw in figure.panels[0].draws]
    np.testing.assert_allclose(drawn, np.full((3, 6), 90.0))
    accuracies = [table(found)[_style.label(n)]["test accuracy, %"] for n in names]
    assert accuracies == ["–", "90.0 ± 0.0"]


def test_a_method_tuned_without_a_learning_rate_is_placed_by_what_was_tuned(
    result, load
):
    entry = result["methods"]["sgd"]["constant"]
    entry["space"] = {"factor": [0.1, 10, "log"]}
    for hyper in [entry["selected"], *(trial["hyper"] for trial in entry["trials"])]:
        hyper["factor"] = hyper.pop("learning_rate")
    found = load(result).methods["sgd"]["constant"]
    rates, losses, selected = _rllc.trials(found, "sgd").args
    assert rates.tolist() == pytest.approx([0.1, 1.0, 3.0, 10.0])
    assert rates[selected] == 1.0
    assert np.isnan(losses[-1])  # diverged


def test_claims_are_in_one_unit_and_intervals_end_at_what_is_possible():
    class Claim:
        def __init__(self, measure, number, verdict):
            self.claim, self.measure, self.verdict = "works", measure, verdict
            (self.mean, self.low, self.high), self.bound = number, 0.02
            self.side = "at most"

    found = judged(
        {
            "width 32": [Claim("barrier, test error", (0.5, -0.2, 1.2), "undecided")],
            "width 64": [
                Claim("barrier, test error", (0.01, np.nan, np.nan), "undecided")
            ],
            "width 128": [Claim("barrier, test error", (np.nan,) * 3, "undecided")],
        }
    )
    assert found[HELD] == found[FAILED] == []
    (sentence,) = found[UNDECIDED]
    text = sentence.replace("\xa0", " ")
    assert "50 points [0, 100] at width 32" in text
    assert f"1.00 points; {NEEDS_THREE} at width 64" in text
    assert "– points; no finite value at width 128" in text
    assert "Bound: at most 2 points" in text
    number = interval(Claim("", (0.9, -1.2, 2.3), ""), 1, -1, 1)
    assert number == Interval(0.9, -1.0, 1.0)


def test_runs_are_compared_by_curves_and_intervals(tmp_path):
    folders = [RESULTS / name for name in ("mnist_mlp", "fashion_mnist_mlp")]
    path = report.write(*folders, out=tmp_path, formats=())
    assert Elements(path.read_text()).open == []
    page = report.compare(folders)
    assert {figure.name for figure in page.figures} == {"comparison", "curves"}
    tables = {s.title: s.tables[0][1].rows for s in page.sections if s.tables}
    assert ["dataset", "mnist", "fashion_mnist"] in tables["What differs"]
    kind = "RLLC-Adam, cosine rate: loss difference, %"
    (row,) = [row for row in tables["Every number"] if row[0] == f"{kind}: to Muon"]
    for text, folder in zip(row[1:], folders, strict=True):
        result = json.loads((folder / "result.json").read_text())
        (found,) = [
            row
            for row in result["comparisons"]
            if (row["schedule"], row["metric"]) == ("cosine", "validation_loss")
            and (row["method"], row["against"]) == ("rllc_adam", "muon")
        ]
        baseline = np.mean(result["methods"]["muon"]["cosine"]["validation_loss"])
        mean = float(text.split()[0].replace("−", "-"))
        expected = 100 * found["mean_difference"] / baseline
        assert mean == pytest.approx(expected, abs=0.1)
    with pytest.raises(RunError, match="runs of one experiment"):
        report.write(folders[0], RESULTS / "speed_rllc", out=tmp_path)


def test_a_folder_without_a_result_is_rejected(tmp_path):
    with pytest.raises(RunError, match=r"holds no result\.json"):
        report.write(tmp_path)


def test_a_method_looks_the_same_on_every_page():
    unfrozen = {name.partition("_frozen_")[0] for name in METHODS}
    assert unfrozen == {*_style.LEARNED, *_style.BASELINES}
    names = [*METHODS, "package.module.optimizer"]
    looks = [_style.method(name) for name in names]
    assert looks == [_style.method(name) for name in reversed(names)][::-1]
    assert len({(look["color"], str(look["linestyle"])) for look in looks}) == len(
        looks
    )
    rllc = _style.method("rllc")
    assert rllc == {**rllc, "label": "RLLC", "linestyle": "solid"}
    assert _style.label("rllc_adam_frozen_initial") == "RLLC-Adam, frozen initial law"
    assert _style.label("schedule_free") == "Schedule free"


def test_your_own_method_has_the_name_that_it_was_given_by():
    method = own_method("optax:adamax").name
    assert _style.label(method) == "optax.adamax"
    assert _style.is_baseline(method)
    assert _style.is_learned("mine.rllc_steps")
    assert _style.is_baseline("my_rllc.adam")


def test_a_method_with_a_part_of_rllc_is_no_baseline():
    result = read(RESULTS / "mnist_mlp_compositions")
    shown = _rllc.shown(result)
    assert len(set(shown)) == len(shown)
    for method in ("nadam_rllc", "sign_rllc", "muon_rllc", "schedule_free_rllc_adam"):
        assert not _style.is_baseline(method)
    (text,) = [text for _, text in _rllc.headlines(result) if "best baseline" in text]
    assert "the best baseline, Muon" in text


@hypothesis.given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_number_is_written_to_three_digits(value):
    text = significant(value).replace("−", "-")
    mantissa, _, exponent = text.partition("·10")
    exponent = exponent.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    assert float(mantissa) * 10.0 ** int(exponent or 0) == pytest.approx(
        value, rel=5e-3
    )


def test_numbers_are_written_as_people_do():
    assert significant(0.0012345) == "0.00123"
    assert significant(-1234.5) == "−1234"
    assert significant(float("nan")) == "–"
    assert with_spread([0.0447, 0.0529]) == "0.0488 ± 0.0058"
    assert with_spread([1e-9, 3e-9]) == "2.00·10⁻⁹ ± 1.4·10⁻⁹"
    assert with_spread([1.0, None]) == "1.00"
    assert listed("abcdef", most=2) == "a, b and 4 more"
    assert str(Interval(2.0, 1.5, 2.5)) == "2.00 [1.50, 2.50]"
    assert interval(Interval(0.99, 0.9, 1.08), 100, high=100) == (99.0, 90.0, 100.0)


@hypothesis.given(
    st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=5)
)
def test_any_spread_can_be_written(values):
    assert with_spread(values)


def test_a_curve_that_falls_below_its_end_is_seen(result, load):
    curves = result["methods"]["rllc"]["constant"]["curves"]
    for losses in curves["validation_loss"]:
        losses[3] = 0.01
    (figure,) = [
        f for f in report.page(load(result)).figures if f.name == "learning_curves"
    ]
    assert figure.panels[0].settings["ylim"][0] < 0.01


@pytest.mark.parametrize(("length", "lines"), [(4, 1), (24, 2), (60, 4)])
def test_a_legend_has_as_many_columns_as_fit(length, lines):
    canvas = _figure.Canvas(figsize=(6, 3), layout="constrained")
    axes = canvas.add_subplot()
    marks = {f"{i}" * length: axes.plot([0, 1])[0] for i in range(4)}
    assert _figure._add_legend(canvas, marks, 4) == lines
    (legend,) = canvas.legends
    assert legend.get_window_extent().width <= canvas.bbox.width
