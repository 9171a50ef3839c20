"""Claims about the comparison: that it is fair, resumable, and says what it found."""

import dataclasses
import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import rllc
from benchmarks import data, models, training
from benchmarks.baselines import BASELINES, Maker
from benchmarks.rllc import (
    METHODS,
    Config,
    _comparison,
    _on_problems,
    _problems,
    _search,
    _variants,
    run_comparison,
)
from benchmarks.rllc._statistics import paired, plain, steps_to_target
from benchmarks.rllc._trainer import Trainer

CONFIG = Config(
    methods=("sgd", "schedule_free", "rllc_frozen_learned", "rllc"),
    trials=3,
    seeds=2,
    steps=12,
    batch_size=32,
    evaluations=4,
    curve_rows=100,
    problems=("rosenbrock",),
    strategy="scan",  # Without timing: the machine must not decide on the result.
)


class Stages:
    """A run folder in memory, which can fail before a given stage."""

    def __init__(self, failing=None):
        self.stored, self.computed, self.failing = {}, [], failing

    def __call__(self, name, compute):
        if name == self.failing:
            raise KeyboardInterrupt
        if name not in self.stored:
            self.computed.append(name)
            self.stored[name] = json.dumps(compute(), allow_nan=False)
        return json.loads(self.stored[name])


@pytest.fixture(scope="module", autouse=True)
def short_problems():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_on_problems, "STEPS", 40)
        yield


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def finished(digits):
    """A comparison that was interrupted once, and its stages."""
    stages = Stages(failing="rllc_frozen_learned.measure")
    with pytest.raises(KeyboardInterrupt):
        run_comparison(CONFIG, stages, dataset=digits)
    stages.failing = None
    return run_comparison(CONFIG, stages, dataset=digits), stages


def test_a_result_has_what_the_schema_says(finished):
    result, _ = finished
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert set(result["methods"]) == set(CONFIG.methods)
    for columns in result["methods"].values():
        assert set(columns) == {"constant", "cosine"}
        for column in columns.values():
            assert len(column["trials"]) == CONFIG.trials
            assert column["seeds"] == [1, 2]
            assert column["curves"]["steps"] == [3, 6, 9, 12]
            assert np.shape(column["curves"]["train_loss"]) == (2, 4)
            assert np.shape(column["steps_to_target"]) == (2,)
            assert column["seconds_per_step"] > 0
    law = result["methods"]["rllc"]["cosine"]["law"]
    assert np.shape(law["law"]) == (2, 4, 3)
    assert np.shape(law["gain"]) == (2, 4)
    assert np.shape(law["response"]) == (60,)
    assert result["methods"]["sgd"]["cosine"]["law"] is None
    assert len(result["comparisons"]) == 2 * 3 * 1 * 3
    assert set(result["problems"]["rosenbrock"]["methods"]) == set(CONFIG.methods)


def test_an_interrupted_comparison_goes_on_with_its_next_stage(finished):
    _, stages = finished
    # Every stage was computed once, the interrupted one included.
    assert len(set(stages.computed)) == len(stages.computed)
    trained = [name for name in stages.computed if "rosenbrock" not in name]
    assert trained[-3:] == [
        "rllc.measure",
        "rllc_frozen_learned.tune",
        "rllc_frozen_learned.measure",
    ]


def test_a_comparison_that_is_run_again_gives_the_same(finished, digits):
    result, stages = finished
    name = "sgd.measure"
    again = dict(stages.stored)
    del again[name]
    replay = Stages()
    replay.stored = again
    other = run_comparison(CONFIG, replay, dataset=digits)
    assert replay.computed == [name]
    for column in ("constant", "cosine"):
        for key in ("train_loss", "test_loss", "curves", "diverged"):
            assert (
                other["methods"]["sgd"][column][key]
                == result["methods"]["sgd"][column][key]
            )


def test_the_strategy_is_timed_once_unless_it_is_given(digits, monkeypatch):
    timed = []

    def fastest(task, batch_size, runs):
        timed.append((batch_size, runs))
        return "scan"

    monkeypatch.setattr(_comparison.training, "fastest_strategy", fastest)
    config = dataclasses.replace(
        CONFIG, methods=("sgd",), problems=(), trials=1, strategy=None
    )
    stages = Stages()
    for _ in range(2):
        assert run_comparison(config, stages, dataset=digits)["strategy"] == "scan"
    assert timed == [(32, 2)]


def test_the_best_trial_is_taken_and_trained_on_fresh_seeds(finished):
    for name, columns in finished[0]["methods"].items():
        for column in columns.values():
            best = min(column["trials"], key=lambda trial: trial["validation_loss"])
            assert column["selected"] == best["hyper"]
            rate = METHODS[name].rate
            rates = sorted(trial["hyper"][rate] for trial in column["trials"])
            at_border = best["hyper"][rate] in (rates[0], rates[-1])
            assert column["at_border"] == at_border
            assert column["train_loss"][0] != column["train_loss"][1]


def test_a_schedule_makes_a_difference_unless_the_method_has_none(finished):
    methods = finished[0]["methods"]
    for name, columns in methods.items():
        same = columns["constant"]["trials"] == columns["cosine"]["trials"]
        assert same == (name == "schedule_free")


def test_a_learned_law_is_frozen_and_given_its_own_trials(finished, digits):
    result, _ = finished
    source = result["methods"]["rllc"]["cosine"]
    laws = source["learned_law"]
    initial = _variants.initial_law(rllc.rllc(1.0, memory=_variants.MEMORY))
    assert np.shape(laws) == (3,)
    assert not np.allclose(laws, initial, atol=1e-4)
    frozen = result["methods"]["rllc_frozen_learned"]["cosine"]
    assert frozen["law"] is None
    assert len(frozen["trials"]) == CONFIG.trials
    assert frozen["train_loss"] != source["train_loss"]


def test_each_schedule_freezes_the_law_that_was_learned_with_it(digits, monkeypatch):
    asked = {}

    def train(task, maker, hyper, seeds, plan, **options):
        asked.update(hyper, seeds=seeds)
        raise KeyboardInterrupt

    task = training.make_task(digits, models.build("mlp", digits))
    monkeypatch.setattr(training, "train", train)
    laws = {"constant": [1.0, 2.0, 3.0], "cosine": [4.0, 5.0, 6.0]}
    with pytest.raises(KeyboardInterrupt):
        Trainer(CONFIG, task, "scan").tune(METHODS["rllc_frozen_learned"], laws)
    columns = ["cosine" if flag else "constant" for flag in asked["cosine"]]
    assert sorted(columns) == ["constant"] * 3 + ["cosine"] * 3
    np.testing.assert_array_equal(asked["law"], [laws[column] for column in columns])
    assert asked["seeds"] == [0] * 6


@pytest.fixture
def single(digits, tmp_path):
    """A comparison of one method, with checkpoints; it returns what it reports, too."""
    config = dataclasses.replace(
        CONFIG, methods=("sgd",), schedules=("cosine",), problems=()
    )

    def run(stage=lambda name, compute: compute()):
        reports = []
        result = run_comparison(
            config,
            stage,
            lambda *report: reports.append(report),
            dataset=digits,
            folder=tmp_path,
        )
        return result, reports

    return run


def test_progress_is_reported_by_stage(single):
    result, reports = single()
    assert reports[-1] == ("sgd.measure", 12, 12)
    assert ("sgd.tune", 3, 12) in reports
    assert result["comparisons"] == []  # nothing learns its law


def test_a_training_is_kept_until_its_stage_is_stored(single, tmp_path):
    def stop_before_storing(name, compute):
        compute()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        single(stop_before_storing)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [
        "sgd.tune.npz"
    ]
    _, reports = single()
    assert {stage for stage, *_ in reports} == {"sgd.measure"}
    assert list((tmp_path / "checkpoints").iterdir()) == []


def updates_of(optimizer: Any) -> np.ndarray:
    """Returns an optimizer's updates for a row of gradients."""

    def step(state, gradient):
        update, state = optimizer.update(gradient, state, jnp.zeros(3))
        return state, update

    @jax.jit
    def run(gradients):
        return jax.lax.scan(step, optimizer.init(jnp.zeros(3)), gradients)[1]

    return np.asarray(run(np.random.default_rng(0).normal(size=(4, 3)).astype("f")))


@pytest.mark.parametrize("make", [rllc.rllc, rllc.rllc_adam])
def test_the_variants_are_the_defaults_of_the_library(make):
    method = METHODS[make.__name__]
    ours = Maker(method, 10)({"learning_rate": 0.1, "cosine": False})
    np.testing.assert_allclose(updates_of(ours), updates_of(make(0.1)), rtol=1e-5)


@pytest.mark.parametrize("make", [rllc.rllc, rllc.rllc_adam])
def test_the_frozen_initial_law_is_rllc_that_does_not_learn(make):
    method = METHODS[f"{make.__name__}_frozen_initial"]
    frozen = Maker(method, 10)({"learning_rate": 0.1, "cosine": False})
    initial = _variants.initial_law(make(0.1))
    still = make(0.1, law=rllc.LearningLaw(rate=0.0, initial=initial))
    np.testing.assert_allclose(updates_of(frozen), updates_of(still), rtol=1e-5)


def test_every_method_tries_the_same_points_of_the_cube():
    for method in METHODS.values():
        rates = [trial[method.rate] for trial in _search.sample(method, 16)]
        sought = method.space[method.rate]
        heights = np.log(np.divide(rates, sought.low)) / np.log(
            sought.high / sought.low
        )
        reference = BASELINES["sgd"]
        expected = [trial["learning_rate"] for trial in _search.sample(reference, 16)]
        expected = np.log(np.divide(expected, 1e-2)) / np.log(1e3)
        np.testing.assert_allclose(heights, expected, atol=1e-9)
        # One trial in each sixteenth of the range.
        assert sorted(np.floor(16 * heights)) == list(range(16))


def test_diverged_trials_lose_and_a_border_is_told():
    method = BASELINES["sgd"]
    trials = [{"learning_rate": rate} for rate in (0.1, 0.01, 1.0, 10.0)]
    losses = [0.5, 0.4, 0.1, np.nan]
    diverged = [False, False, True, False]
    assert _search.select(method, trials, losses, diverged) == (1, True)
    assert _search.select(method, trials, [0.3, *losses[1:]], diverged) == (0, False)
    assert _search.select(method, trials, losses, [True] * 4) == (1, True)


def test_a_paired_interval_is_that_of_the_paired_t_test():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 9))
    interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    found = paired([*ours, None], [*theirs, 1.0])
    assert found["pairs"] == 9
    assert found["better"] == np.sum(ours < theirs)
    assert found["mean_difference"] == pytest.approx(np.mean(ours - theirs))
    assert (found["low"], found["high"]) == pytest.approx(tuple(interval))


def test_an_interval_needs_two_pairs():
    single = paired([1.0, None], [2.0, 1.0])
    assert single["mean_difference"] == -1.0
    assert single["low"] is single["high"] is None
    assert paired([np.nan], [1.0])["mean_difference"] is None


def test_a_target_is_set_by_baselines_alone():
    def column(losses):
        return {"constant": {"curves": {"train_loss": [[9.0, x] for x in losses]}}}

    methods = {
        "sgd": column([3.0, 2.0, 8.0]),
        "adam": column([4.0, None, 4.0]),
        "rllc": column([0.1] * 3),
        "rllc_frozen_initial": column([0.2] * 3),
    }
    assert _comparison._target(methods, "constant") == pytest.approx(3.0 * 1.05)
    assert _comparison._target({"rllc": methods["rllc"]}, "constant") is None


def test_a_target_is_reached_at_the_first_point_that_is_as_low():
    curves = [[3.0, 1.0, 0.5], [3.0, 2.0, 1.5], [None, None, None]]
    assert steps_to_target([10, 20, 30], curves, 1.0) == [20, None, None]
    assert steps_to_target([10, 20, 30], curves, None) == [None] * 3


def test_numbers_that_are_not_finite_become_none():
    tree = {"a": (np.float32(np.inf), [np.nan, 1]), "b": np.array([True])}
    assert plain(tree) == {"a": [None, [None, 1]], "b": [True]}


def test_the_quadratic_has_its_condition_number_and_no_special_basis():
    hessian = jax.jit(jax.hessian(_problems.quadratic))(jnp.zeros(100))
    values = np.linalg.eigvalsh(np.asarray(hessian, np.float64))
    assert values[-1] == pytest.approx(1.0, rel=1e-3)
    assert values[-1] / values[0] == pytest.approx(1e4, rel=0.05)
    assert np.abs(np.asarray(hessian)).max() < 0.5


def test_problems_are_minimised_and_weight_decay_has_no_part_in_them(finished):
    result = finished[0]["problems"]["rosenbrock"]
    sgd = result["methods"]["sgd"]
    assert sgd["selected"] in [trial["hyper"] for trial in sgd["trials"]]
    assert len(sgd["trials"]) == 4 * CONFIG.trials
    assert len(sgd["log10_loss"]) == CONFIG.seeds
    assert not any(sgd["diverged"])
    assert {"adamw", "muon"} == set(_on_problems._UNSUITABLE)


def test_the_help_names_every_dataset_and_model():
    assert Config.__doc__ is not None
    for option, names in (("dataset", data.NAMES), ("model", models.NAMES)):
        entry = re.search(rf"{option}: (.*?)\n +\w+: ", Config.__doc__, re.DOTALL)
        assert entry is not None
        assert sorted(re.findall(r'"(\w+)"', entry[1])) == sorted(names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ("sgdd",)}, "unknown entry of methods 'sgdd'; did you mean 'sgd'"),
        ({"methods": ("rllc_frozen_learned",)}, "without 'rllc', whose learned law"),
        ({"methods": ()}, "at least one"),
        ({"schedules": ("linear",)}, "unknown entry of schedules 'linear'"),
        ({"problems": ("rosenbrok",)}, "did you mean 'rosenbrock'"),
        ({"methods": ("sgd", "sgd")}, "a name is there twice"),
        ({"trials": 0}, "trials is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"steps": 5}, "evaluations is 24 but there are only 5"),
    ],
)
def test_what_cannot_be_compared_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Config(**options)
