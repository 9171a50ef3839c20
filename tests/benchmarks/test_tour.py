"""`python -m benchmarks tour`: the first thing that anybody runs."""

import dataclasses
import html
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import data, report, tour
from benchmarks.__main__ import main
from benchmarks.combinability import Config
from benchmarks.runs import read, read_result

LAWS = ("initial", "learned")
METHODS = {"momentum", "adam", "rllc", "rllc_adam"}
METHODS |= {f"{n}_frozen_{law}" for n in ("rllc", "rllc_adam") for law in LAWS}


def test_the_tour_shows_rllc_beside_what_it_competes_with():
    assert set(tour.CONFIG.methods) == METHODS
    assert tour.CONFIG.dataset == "digits"
    assert tour.CONFIG.schedules == ("constant",)  # no known end
    assert tour.CONFIG.trials >= 4
    assert tour.CONFIG.seeds >= 4


def test_a_tour_ends_with_a_table_what_it_says_and_the_report(
    tmp_path, monkeypatch, capsys
):
    # Sizes of `test_rllc`, which shares the compilations.
    small = {"methods": ("sgd", "rllc"), "trials": 1, "seeds": 1, "curve_rows": 100}
    small |= {"steps": 12, "evaluations": 2, "batch_size": 32}
    monkeypatch.setattr(
        "benchmarks.tour.CONFIG", dataclasses.replace(tour.CONFIG, **small)
    )
    # Those of `test_combinability`, likewise.
    pair = Config(networks=2, steps=30, rows=40, calibration=20, samples=4)
    monkeypatch.setattr("benchmarks.combinability._preview.CONFIG", pair)
    monkeypatch.setattr("benchmarks.combinability._preview.WIDTH", 8)
    assert main(["tour", "--out", str(tmp_path / "run")]) == 0
    printed, folder = capsys.readouterr().out, tmp_path / "run"
    result = read_result(folder)
    assert result["experiment"] == "tour"
    _agrees(printed, result)
    assert printed.rstrip().endswith(f"Report: {tmp_path / 'run' / 'report.html'}")
    page = (tmp_path / "run" / "report.html").read_text()
    told = report.page(read(folder))
    chapters = [each.title for each in told.sections if each.title[0].isdigit()]
    assert chapters == ["1. Train", "2. Symmetry", "3. Align and combine", "4. Stitch"]
    for text in [*chapters, *(number for number, _ in told.headlines)]:
        assert html.escape(text) in page
        assert text in printed
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", page)


def _agrees(printed, result):
    """The table holds the means of the result, and its sentences name the best."""
    for name, title in (("sgd", "SGD"), ("rllc", "RLLC")):
        losses = result["methods"][name]["constant"]["validation_loss"]
        row = re.findall(rf"^{title} .*$", printed, flags=re.MULTILINE)[0]
        assert f"{losses[0]:.2f}" in row
    assert "lowest validation loss" in printed


@pytest.mark.slow
def test_the_real_tour_finds_that_all_methods_learn(tmp_path):
    assert main(["tour", "--out", str(tmp_path / "run")]) == 0
    result = read_result(tmp_path / "run")
    assert set(result["methods"]) == METHODS
    for schedules in result["methods"].values():
        for entry in schedules.values():
            assert min(entry["test_accuracy"]) > 0.9
            assert not any(entry["diverged"])


def test_augmented_images_are_new_in_each_batch_and_keep_what_they_show():
    digits = data.load("digits").train
    images, targets = jnp.asarray(digits.inputs[:200]), digits.targets[:200]
    one, other = (tour.augment(jax.random.key(i), images) for i in range(2))
    assert one.shape == images.shape
    assert not np.any(np.all(np.isclose(one, other), axis=(1, 2, 3)))
    distances = jnp.sum((one[:, None] - images[None]) ** 2, axis=(2, 3, 4))
    nearest = targets[np.argsort(distances, axis=1)[:, 0]]
    assert np.mean(nearest == targets) > 0.5  # by chance 0.1, among 200 images


def test_an_image_that_is_neither_turned_nor_shifted_only_gets_noise(monkeypatch):
    for name in ("_DEGREES", "_PIXELS", "_NOISE"):
        monkeypatch.setattr(tour, name, 0.0)
    image = jnp.arange(64.0).reshape(1, 8, 8, 1)
    same = tour.augment(jax.random.key(0), image)
    np.testing.assert_allclose(same, image, atol=1e-4)
