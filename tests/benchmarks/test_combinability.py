"""The experiments on combinability: what they compute, keep, claim and draw."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import data, intervals, report, runs
from benchmarks.combinability import (
    Config,
    _matchings,
    _preview,
    _studies,
    _variances,
    preview,
    rescaling,
    run,
    train_pair,
)
from benchmarks.combinability._experiment import claims
from benchmarks.intervals import over_networks
from benchmarks.networks import configured_task, trained_networks
from benchmarks.runs import encode
from benchmarks.weights import WeightsError
from combinability import permutations

SMALL = Config(
    widths=(8,),
    networks=3,
    steps=60,
    rows=60,
    calibration=40,
    samples=6,
    points=3,
    fractions=(0.0, 0.2),
    resolution=5,
)


@pytest.fixture(scope="module")
def cells():
    """Three of the distributions stand for all: each is a program to compile."""
    kept = ("uniform [0, 1], element", "vertices, element")
    extra = ("uniform [−0.25, 1.25], element",)
    return [cell for cell in _studies.CELLS if cell.name in kept + extra]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, cells):
    """A result, and the folder that it is in."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_studies, "CELLS", cells)
        return run(SMALL, folder=folder), folder


def test_finished_stages_are_not_computed_again(outcome, cells, monkeypatch):
    found, folder = outcome
    monkeypatch.setattr(_studies, "CELLS", cells)
    (folder / "result.json").unlink()
    stages = {path: path.stat().st_mtime for path in folder.glob("stages/*")}
    assert encode(run(SMALL, folder=folder)) == encode(found)
    assert {path: path.stat().st_mtime for path in folder.glob("stages/*")} == stages


class Notes(runs.Progress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.mark.parametrize("damage", ["missing", "cut", "other bytes", "other arrays"])
def test_trained_networks_that_cannot_be_read_are_trained_again(damage, tmp_path):
    task, notes = configured_task(SMALL, data.load("digits"), width=4), Notes()
    options = {"steps": 4, "batch_size": 8, "learning_rate": 1e-3, "rows": 8}

    def trained():
        here = runs.Run("combinability", SMALL, tmp_path, notes)
        return trained_networks(here, "train", "trained.npz", task, 2, **options)

    first, path = trained(), tmp_path / "networks" / "trained.npz"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "other arrays":
        np.savez(path, one=np.zeros(3))
    else:
        path.write_bytes(content[:99] if damage == "cut" else b"?" * len(content))
    again = trained()
    jax.tree.map(np.testing.assert_array_equal, again, first)
    assert path.read_bytes() == content
    (note,) = notes.notes
    assert str(path) in note
    assert note.endswith("; computing train again")
    assert "\n" not in note


def test_a_finished_run_needs_neither_data_nor_networks(outcome, monkeypatch):
    found, folder = outcome
    shutil.move(folder / "networks", folder / "moved")
    monkeypatch.setattr(data, "load", None)
    assert encode(run(SMALL, folder=folder)) == encode(found)
    shutil.move(folder / "moved", folder / "networks")


def test_given_networks_are_combined_as_those_that_were_trained(
    outcome, cells, monkeypatch, tmp_path
):
    found, folder = outcome
    given = dataclasses.replace(
        SMALL, weights=(str(folder / "networks" / "width-8.npz"),), networks=5
    )
    monkeypatch.setattr(_studies, "CELLS", cells)
    again = run(given).widths["8"]
    first = found.widths["8"]
    for name, values in again.networks.items():
        np.testing.assert_allclose(values, first.networks[name], rtol=1e-5)
    for name in ("parents", "matching", "controls", "hypercube", "robustness"):
        assert encode(getattr(again, name)) == encode(getattr(first, name))


def test_networks_that_diverged_are_not_combined():
    config = dataclasses.replace(SMALL, learning_rate=1e20)
    with pytest.raises(ValueError, match=r"diverged: 3 of 3 .* lower learning rate"):
        run(config)


def test_given_networks_must_be_of_the_model_and_width(outcome):
    file = str(outcome[1] / "networks" / "width-8.npz")
    with pytest.raises(WeightsError, match="weights of another network"):
        run(dataclasses.replace(SMALL, widths=(16,), weights=(file,)))


def test_every_claim_has_an_interval(outcome):
    for row in outcome[0].widths["8"].claims:
        assert row.low <= row.mean <= row.high


def test_the_ends_of_every_segment_are_the_networks_themselves(outcome):
    found = outcome[0].widths["8"]
    parents = np.mean([scores["test_loss"] for scores in found.parents])
    for control in ("not matched", "matched"):
        curve = found.controls.curves[control]["test_loss"]
        assert np.isclose((curve[0] + curve[-1]) / 2, parents, rtol=1e-4)


def test_matching_is_never_worse_than_descent_from_the_identity(outcome):
    matching = outcome[0].widths["8"].matching
    assert np.all(matching.objective >= matching.starts["identity"] - 1e-6)


def test_a_matching_that_is_not_perturbed_moves_and_loses_nothing(outcome):
    found = outcome[0].widths["8"].robustness
    assert found.moved[0] == 0
    assert abs(found.lost[0]) < 1e-6
    assert found.lost[1] > 0


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-0.5, 1.5), (0.2, 0.5)])
def test_the_predicted_variance_is_the_mean_over_coefficients(low, high):
    a, b = np.random.default_rng(0).normal(size=(2, 1000))
    b = 0.6 * a + 2 * b
    coefficients = np.random.default_rng(1).uniform(low, high, 2000)
    (own, shared), (_, other) = np.cov(a, b, bias=True)
    moments = coefficients.mean(), coefficients.var()
    expected = np.mean([np.var((1 - t) * a + t * b) for t in coefficients])
    assert _variances._mixed(own, shared, other, *moments) == pytest.approx(expected)


def test_first_layers_vary_as_predicted_and_combinations_are_repaired(outcome):
    found = outcome[0].widths["8"]
    first = found.variances["Dense_0"]
    assert list(found.variances) == [f"Dense_{i}" for i in range(4)]
    assert 0 < first.correlation.mean < 1
    uniform, vertices = ("uniform [0, 1], element", "vertices, element")
    for cell in (uniform, vertices):
        predicted, measured = first.predicted[cell].mean, first.measured[cell].mean
        assert measured == pytest.approx(predicted, rel=0.15)
        assert found.hypercube[cell].repaired.pairs.shape == (3,)
    assert first.signal[uniform].mean < first.predicted[uniform].mean
    # The coefficients of vertices have the variance that keeps that of the layer.
    assert first.predicted[vertices].mean == pytest.approx(1, abs=1e-3)


def test_every_figure_is_drawn_and_the_page_holds_the_claims(outcome):
    folder = outcome[1]
    page = report.write(folder).read_text()
    drawn = {path.stem for path in folder.glob("*.png")}
    assert {
        "hypercube",
        "barriers",
        "matchings",
        "landscape",
        "robustness",
        "different",
    } < drawn
    assert "Combinable in the hypercube: " in page
    assert "3 groups, 24 units" in page


@pytest.fixture(scope="module")
def pair():
    small = Config(networks=2, steps=30, rows=40, calibration=20, samples=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_preview, "CONFIG", small)
        patch.setattr(_preview, "WIDTH", 8)
        yield train_pair(data.load("digits"))


@pytest.fixture(scope="module")
def previewed(pair):
    """What a preview says of the pair, and the progress that it reports."""
    seen = []
    return preview(pair, lambda done, total: seen.append((done, total))), seen


def test_a_preview_combines_matched_and_not(previewed):
    found, seen = previewed
    assert seen[-1] == (8, 8)
    assert np.isclose(10 ** found["log10_equivalent"], 40320**3)  # 8! for each layer
    assert [cell["cell"]["aligned"] for cell in found["hypercube"].values()] == [
        False,
        True,
    ]


@pytest.mark.parametrize("name", _matchings.MATCHINGS)
def test_every_way_of_matching_finds_copies_of_a_network(pair, name):
    _, study = pair
    keys = jax.random.split(jax.random.key(0), 2)
    moves = [permutations.random(key, study.symmetry) for key in keys]
    copies = [study.symmetry.apply(move, study.variables[0]) for move in moves]
    # Straight-through matching starts at what is given, the others take no notice.
    back = permutations.invert(study.symmetry, moves[1])
    given = permutations.compose(study.symmetry, moves[0], back)
    if name != "straight_through":
        given = permutations.identity(study.symmetry)
    copied = dataclasses.replace(study, variables=copies, permutations={(0, 1): given})
    copied.scores = copied.parents()
    found = _matchings.matched(copied, name, jax.random.key(1))
    assert found["controls"]["barriers"]["matched"]["test_loss"]["mean"] < 1e-5
    excess = found["combinations"]["test_loss"]["excess_95"]["mean"]
    assert excess == pytest.approx(0, abs=1e-5)
    assert (found["moved"]["mean"] == 0) == (name == "straight_through")


def test_a_pair_computes_the_same_functions_after_its_alignment(pair, previewed):
    task, study = pair
    apply, inputs = jax.jit(task.network.apply), task.test.inputs
    _, aligned = study.aligned((0, 1))
    outputs = [apply(variables, inputs) for variables in (study.variables[1], aligned)]
    np.testing.assert_allclose(*outputs, atol=1e-5)


def test_the_interval_over_networks_is_wider_than_over_pairs_as_if_independent():
    # A value that is the sum of two effects of networks: pairs that share a network
    # are alike.
    effects = np.random.default_rng(0).normal(size=6)
    pairs = [(i, j) for i in range(6) for j in range(i + 1, 6)]
    values = [effects[i] + effects[j] for i, j in pairs]
    found = over_networks(pairs, values)
    naive = 2 * np.std(values, ddof=1) / np.sqrt(len(values))
    assert found["high"] - found["mean"] > 1.2 * naive
    # The mean is twice that of the effects, whose spread is known.
    exact = 2 * np.std(effects, ddof=1) / np.sqrt(6)
    half = (found["high"] - found["mean"]) / 2.570581835636314  # t, 5 degrees
    assert np.isclose(half, exact, rtol=1e-6)


@pytest.mark.parametrize(
    "pairs",
    [
        [(0, 1)],
        [(0, 1), (1, 0)],
        [(0, 1), (1, 2)],
        [(0, 1), (2, 3)],
        [(0, 0), (1, 1)],
        [(0, 1), (1, 0), (0, 1)],
    ],
)
def test_an_interval_needs_three_networks_and_three_pairs(pairs):
    values = np.arange(1.0, 1 + len(pairs))
    found = intervals.pair_interval(pairs, values)
    assert (found["mean"], found["low"], found["high"]) == (values.mean(), None, None)
    claim = intervals.judged("works", "error", found, 10.0, "at most")
    assert claim["verdict"] == "undecided"


def test_intervals_over_disjoint_pairs_cover_the_mean_as_often_as_they_say():
    pairs = [(0, 1), (2, 3), (4, 5)]
    values = np.random.default_rng(0).normal(size=(500, 3))
    found = [over_networks(pairs, row) for row in values]
    covered = np.mean([each["low"] <= 0 <= each["high"] for each in found])
    assert 0.92 < covered < 0.98


def _claim(mean, low, high):
    return {"mean": mean, "low": low, "high": high}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.0, 0.02, "holds"), (0.01, 0.03, "undecided"), (0.021, 0.03, "does not hold")],
)
def test_a_claim_holds_where_the_whole_interval_is_on_its_side(low, high, verdict):
    number = _claim((low + high) / 2, low, high)
    cell = {"test_error": {"excess_95": number}}
    names = ("uniform [0, 1]", "vertices", "uniform [−0.25, 1.25]")
    apart = _claim(1.0, 0.9, 1.1)
    found = claims(
        {
            "hypercube": {f"{name}, element": cell for name in names},
            "transitivity": {"barriers": {"through": {"test_error": number}}},
            "robustness": {
                "fractions": [0.0, 0.2],
                "rows": [{"excess": {"test_error": number}}] * 2,
            },
            "difference": {"relative": {"parents": apart, "combinations": apart}},
        }
    )
    assert {row["verdict"] for row in found[:5]} == {verdict}
    expected = "holds" if verdict == "holds" else "moot"
    assert {row["verdict"] for row in found[5:]} == {expected}


def test_rescaling_is_measured_on_matched_pairs():
    found = rescaling.run(pairs=1, steps=20, widths=(4,))
    assert list(found) == ["jax", "pairs", "steps", "relu 4", "tanh 4"]
    for name in ("relu 4", "tanh 4"):
        (pair,) = found[name]["pairs"]
        assert list(pair)[:2] == ["not matched", "matched"]
        assert all(np.isfinite(list(way.values())).all() for way in pair.values())
        # Neither step moves the network further away.
        distances = [way["distance"] for way in pair.values()]
        assert distances[0] >= distances[1] >= distances[2]


def test_a_plane_of_networks_leaves_counts_and_keys_as_they_are():
    rows = np.random.default_rng(0)
    networks = [
        {"w": jnp.asarray(rows.normal(size=4)), "key": jnp.full(2, seed, jnp.uint32)}
        for seed in (1, 2, 3)
    ]

    def metric(variables):
        assert variables["key"].dtype == jnp.uint32
        norm = jnp.vdot(variables["w"], variables["w"])
        return {"norm": norm, "key": variables["key"][0]}

    found = _studies._plane(metric, 5, *networks)
    assert (found["key"] == 1).all()
    without = [{"w": each["w"]} for each in networks]
    expected = _studies._plane(
        lambda v: {"norm": jnp.vdot(v["w"], v["w"])}, 5, *without
    )
    assert found["marks"] == expected["marks"]
    np.testing.assert_array_equal(found["norm"], expected["norm"])
