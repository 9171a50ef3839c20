"""Claims about the comparison: that it is fair, resumable, and says what it found."""

import dataclasses
import sys
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from scipy import stats

import benchmarks.__main__ as command_line
import rllc
from benchmarks import (
    _options,
    baselines,
    data,
    models,
    networks,
    report,
    runs,
    training,
)
from benchmarks.baselines import BASELINES, SCHEDULES, Maker
from benchmarks.configs import rllc as options
from benchmarks.rllc import (
    METHODS,
    Config,
    _averages,
    _experiment,
    _problems,
    _tuning,
    _variants,
)
from benchmarks.rllc import run as run_rllc
from benchmarks.rllc._compositions import COMPOSITIONS

CONFIG = Config(
    methods=("sgd", "schedule_free", "rllc_frozen_learned", "rllc"),
    trials=3,
    seeds=3,  # as many as trials, so that both are one program
    steps=12,
    batch_size=32,
    evaluations=4,
    curve_rows=100,
    problems=("rosenbrock",),
)


class Told(runs.Progress):
    """Remembers what was computed, and can interrupt within a stage."""

    def __init__(self, interrupt=None):
        self.computed, self.stored, self.steps = [], [], []
        self._interrupt, self._stage = interrupt, ""

    def begin(self, stage):
        self._stage = stage

    def advance(self, done, total):
        self.steps.append((self._stage, done, total))
        if (self._stage, done) == self._interrupt:
            raise KeyboardInterrupt

    def end(self, stage, seconds, stored):
        (self.stored if stored else self.computed).append(stage)


@pytest.fixture(scope="module", autouse=True)
def short_problems():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_problems, "STEPS", 40)
        yield


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    """A comparison that was interrupted once: its folder, and what was computed."""
    folder, told = tmp_path_factory.mktemp("run"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
        for interrupt in (("rllc_frozen_learned.measure", 9), None):
            told.append(Told(interrupt))
            options = {"dataset": digits, "folder": folder, "progress": told[-1]}
            if interrupt:
                with pytest.raises(KeyboardInterrupt):
                    run_rllc(CONFIG, **options)
            else:
                result = run_rllc(CONFIG, **options)
    return result, told, folder


@pytest.fixture(scope="module")
def result(finished):
    return finished[0]


def test_losses_of_a_task_that_changes_are_means_over_the_evaluations(digits):
    config = dataclasses.replace(
        CONFIG, methods=("sgd",), schedules=("constant",), problems=(), trials=1
    )
    config = dataclasses.replace(config, changing="labels", change_every=4)
    result = run_rllc(config, dataset=digits)
    found = result.methods["sgd"]["constant"]
    curve = found.curves.validation_loss
    np.testing.assert_allclose(found.validation_loss, curve.mean(axis=1), rtol=1e-4)
    page = report.page(result)
    assert "labels are permuted anew every 4 steps" in page.sections[0].text[0]


def test_tokens_cannot_be_permuted():
    config = dataclasses.replace(CONFIG, changing="inputs", model="transformer")
    split = data.Split(np.zeros((9, 8), np.int32), np.zeros((9, 8), np.int32))
    text = data.Dataset("zeros", split, split, split, classes=2, kind="text")
    with pytest.raises(ValueError, match="inputs of 'zeros' are tokens"):
        run_rllc(config, dataset=text)


def test_a_result_has_what_was_asked_for(result):
    assert set(result.methods) == set(CONFIG.methods)
    for columns in result.methods.values():
        assert set(columns) == {"constant", "cosine"}
        for column in columns.values():
            assert len(column.trials) == CONFIG.trials
            assert column.seeds == [1, 2, 3]
            assert column.curves.steps == [3, 6, 9, 12]
            assert column.curves.train_loss.shape == (3, 4)
            assert len(column.steps_to_target) == 3
            assert column.seconds_per_step > 0
    law = result.methods["rllc"]["cosine"].law
    assert law.law.shape == (3, 4, 3)
    assert law.gain.shape == (3, 4)
    assert law.response.shape == (60,)
    assert result.methods["sgd"]["cosine"].law is None
    assert len(result.comparisons) == 2 * 3 * 1 * 3
    assert set(result.problems["rosenbrock"].methods) == set(CONFIG.methods)


def test_an_interrupted_comparison_continues_in_the_middle_of_its_stage(finished):
    _, (first, second), folder = finished
    assert set(second.stored) == set(first.computed)
    assert second.computed == ["rllc_frozen_learned.measure", "rosenbrock"]
    # Segments end at evaluations; the checkpoint is of the one before the last.
    assert second.steps[0] == ("rllc_frozen_learned.measure", 9, 12)
    assert not (folder / "checkpoints").exists()


def test_a_comparison_that_is_computed_again_gives_the_same(finished, digits):
    result, _, folder = finished
    (folder / "stages" / "rllc_frozen_learned.measure.json").unlink()
    (folder / "result.json").unlink()
    told = Told()
    again = run_rllc(CONFIG, dataset=digits, folder=folder, progress=told)
    assert told.computed == ["rllc_frozen_learned.measure"]
    for schedule in CONFIG.schedules:
        one, other = (
            r.methods["rllc_frozen_learned"][schedule] for r in (result, again)
        )
        np.testing.assert_array_equal(one.train_loss, other.train_loss)
        np.testing.assert_array_equal(one.test_loss, other.test_loss)
        np.testing.assert_array_equal(one.curves.train_loss, other.curves.train_loss)


def test_the_best_trial_is_taken_and_trained_on_fresh_seeds(result):
    for name, columns in result.methods.items():
        for column in columns.values():
            best = min(column.trials, key=lambda trial: trial.validation_loss)
            assert column.selected == best.hyper
            rate = METHODS[name].rate
            rates = sorted(trial.hyper[rate] for trial in column.trials)
            assert column.at_border == (best.hyper[rate] in (rates[0], rates[-1]))
            assert column.train_loss[0] != column.train_loss[1]


def test_a_schedule_makes_a_difference_unless_the_method_has_none(result):
    for name, columns in result.methods.items():
        losses = [[t.train_loss for t in columns[s].trials] for s in CONFIG.schedules]
        assert (losses[0] == losses[1]) == (name == "schedule_free")


def test_a_learned_law_is_frozen_and_given_its_own_trials(result):
    source = result.methods["rllc"]["cosine"]
    initial = _variants.initial_law(rllc.rllc(1.0))
    assert source.learned_law.shape == (3,)
    assert not np.allclose(source.learned_law, initial, atol=1e-4)
    frozen = result.methods["rllc_frozen_learned"]["cosine"]
    assert frozen.law is None
    assert len(frozen.trials) == CONFIG.trials
    assert np.all(frozen.train_loss != source.train_loss)


def test_each_schedule_freezes_the_law_that_was_learned_with_it(digits, monkeypatch):
    asked = {}

    def train(task, maker, hyper, seeds, **options):
        asked.update(hyper, seeds=seeds)
        raise KeyboardInterrupt

    task = networks.make_task(digits, models.build("mlp", digits))
    monkeypatch.setattr(_experiment, "train", train)
    method, run = METHODS["rllc_frozen_learned"], runs.Run("rllc", CONFIG)
    laws = {"constant": [1.0, 2.0, 3.0], "cosine": [4.0, 5.0, 6.0]}
    with pytest.raises(KeyboardInterrupt):
        _experiment.run_method(CONFIG, run, task, method, laws)
    columns = [SCHEDULES[kind] for kind in asked["schedule"]]
    assert sorted(columns) == ["constant"] * 3 + ["cosine"] * 3
    expected = [laws[column] for column in columns]
    np.testing.assert_array_equal(asked["law"], expected)
    assert asked["seeds"] == [0] * 6


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
    ours = Maker(method, 10)({"learning_rate": 0.1, "schedule": 0})
    np.testing.assert_allclose(updates_of(ours), updates_of(make(0.1)), rtol=1e-5)


@pytest.mark.parametrize("make", [rllc.rllc, rllc.rllc_adam])
def test_the_frozen_initial_law_is_rllc_that_does_not_learn(make):
    method = METHODS[f"{make.__name__}_frozen_initial"]
    frozen = Maker(method, 10)({"learning_rate": 0.1, "schedule": 0})
    initial = _variants.initial_law(make(0.1))
    still = make(0.1, law=rllc.LearningLaw(rate=0.0, initial=initial))
    np.testing.assert_allclose(updates_of(frozen), updates_of(still), rtol=1e-5)


def test_every_method_tries_the_same_points_of_the_cube():
    for method in METHODS.values():
        rates = [trial[method.rate] for trial in _tuning.sample(method, 16)]
        sought = method.space[method.rate]
        heights = np.log(np.divide(rates, sought.low)) / np.log(
            sought.high / sought.low
        )
        reference = BASELINES["sgd"]
        expected = [trial["learning_rate"] for trial in _tuning.sample(reference, 16)]
        expected = np.log(np.divide(expected, 1e-2)) / np.log(1e3)
        np.testing.assert_allclose(heights, expected, atol=1e-9)
        # One trial in each sixteenth of the range.
        assert sorted(np.floor(16 * heights)) == list(range(16))


def test_diverged_trials_lose_and_a_border_is_told():
    method = BASELINES["sgd"]
    trials = [{"learning_rate": rate} for rate in (0.1, 0.01, 1.0, 10.0)]
    losses = [0.5, 0.4, 0.1, np.nan]
    diverged = [False, False, True, False]
    assert _tuning.select(method, trials, losses, diverged) == (1, True)
    assert _tuning.select(method, trials, [0.3, *losses[1:]], diverged) == (0, False)
    assert _tuning.select(method, trials, losses, [True] * 4) == (1, True)


def test_a_paired_interval_is_that_of_the_paired_t_test():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 9))
    interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    found = _tuning.paired([*ours, None], [*theirs, 1.0])
    assert found["pairs"] == 9
    assert found["better"] == np.sum(ours < theirs)
    assert found["mean_difference"] == pytest.approx(np.mean(ours - theirs))
    assert (found["low"], found["high"]) == pytest.approx(tuple(interval))


def test_an_interval_needs_two_pairs():
    single = _tuning.paired([1.0, None], [2.0, 1.0])
    assert single["mean_difference"] == -1.0
    assert np.isnan([single["low"], single["high"]]).all()
    assert np.isnan(_tuning.paired([np.nan], [1.0])["mean_difference"])


def test_a_target_is_set_by_baselines_alone():
    def column(losses):
        return {"constant": {"curves": {"train_loss": [[9.0, x] for x in losses]}}}

    methods = {
        "sgd": column([3.0, 2.0, 8.0]),
        "adam": column([4.0, None, 4.0]),
        "rllc": column([0.1] * 3),
        "rllc_frozen_initial": column([0.2] * 3),
    }
    assert _experiment._target(methods, "constant") == pytest.approx(3.0 * 1.05)
    assert _experiment._target({"rllc": methods["rllc"]}, "constant") is None


def test_a_target_is_reached_at_the_first_point_that_is_as_low():
    curves = [[3.0, 1.0, 0.5], [3.0, 2.0, 1.5], [None, None, None]]
    assert _tuning.steps_to_target([10, 20, 30], curves, 1.0) == [20, None, None]
    assert _tuning.steps_to_target([10, 20, 30], curves, None) == [None] * 3


def test_the_quadratic_has_its_condition_number_and_no_special_basis():
    hessian = jax.jit(jax.hessian(_problems.quadratic))(jnp.zeros(100))
    values = np.linalg.eigvalsh(np.asarray(hessian, np.float64))
    assert values[-1] == pytest.approx(1.0, rel=1e-3)
    assert values[-1] / values[0] == pytest.approx(1e4, rel=0.05)
    assert np.abs(np.asarray(hessian)).max() < 0.5


def test_problems_are_minimised_and_weight_decay_has_no_part_in_them(result):
    sgd = result.problems["rosenbrock"].methods["sgd"]
    assert sgd.selected in [trial.hyper for trial in sgd.trials]
    assert len(sgd.trials) == 4 * CONFIG.trials
    assert len(sgd.log10_loss) == CONFIG.seeds
    assert not any(sgd.diverged)
    assert {"adamw", "muon"} == set(_problems._UNSUITABLE)


def test_descent_on_a_problem_is_what_a_plain_loop_computes(result):
    found = result.problems["rosenbrock"].methods["sgd"]
    problem = _problems.PROBLEMS["rosenbrock"]
    x = problem.start(jax.random.key(found.seeds[0]))
    for _ in range(_problems.STEPS):
        x = x - found.selected["learning_rate"] * jax.grad(problem.loss)(x)
    assert np.log10(problem.loss(x)) == pytest.approx(found.log10_loss[0], rel=1e-3)


def test_the_choices_of_options_are_what_there_is():
    assert set(get_args(options.Model)) == set(models.NAMES)
    assert get_args(_options.Published) == data.NAMES
    assert tuple(METHODS) == options.METHOD_NAMES
    assert set(get_args(options.Problem)) == set(_problems.PROBLEMS)
    assert [*get_args(options.Baseline)] == [*BASELINES]
    assert get_args(options.Schedule) == SCHEDULES


# Your own.


OWN = """
import optax
from flax import nnx

class Own(nnx.Module):
    def __init__(self, features, classes, *, rngs):
        self.hidden = nnx.Linear(64, features, rngs=rngs)
        self.last = nnx.Linear(features, classes, rngs=rngs)

    def __call__(self, inputs):
        x = inputs.reshape(len(inputs), -1)
        return self.last(nnx.relu(self.hidden(x)))

def momentum(learning_rate, decay):
    return optax.sgd(learning_rate, decay)

momentum.space = {"learning_rate": (1e-3, 1.0), "decay": (0.5, 0.9, "linear")}
"""


def test_your_own_data_model_and_optimizer_are_compared_in_one_command(
    tmp_path, monkeypatch, capsys
):
    rows = np.random.default_rng(0)
    arrays = {"x": rows.random((60, 8, 8)).astype("f"), "y": np.arange(60) % 3}
    np.savez(tmp_path / "own.npz", **arrays)
    (tmp_path / "own_things.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("benchmarks.report.write", lambda folder: None)
    monkeypatch.chdir(tmp_path)
    asked = "rllc --dataset own.npz --model own_things:Own --schedules cosine"
    asked += " --methods adam rllc own_things:momentum --trials 2 --seeds 2 --steps 6"
    asked += " --evaluations 2 --batch-size 8 --out run"
    options = [*asked.split(), "--model-options", '{"features": 5}']
    assert command_line.main(options) == 0
    monkeypatch.delitem(sys.modules, "own_things")
    found = runs.read("run")
    assert list(found.methods) == ["adam", "rllc", "own_things.momentum"]
    own = found.methods["own_things.momentum"]["cosine"]
    assert own.space["decay"] == [0.5, 0.9, "linear"]
    pairs = {(row.method, row.against) for row in found.comparisons}
    assert ("own_things.momentum", "adam") in pairs
    assert "momentum" in capsys.readouterr().out


def test_your_own_objects_are_compared_from_python(digits, tmp_path):
    config = dataclasses.replace(CONFIG, methods=("sgd",), problems=(), trials=1)
    mine = dataclasses.replace(digits, name="mine")
    given = {"dataset": mine, "model": nn.Sequential([Flat(), nn.Dense(10)])}
    deeper = nn.Sequential([Flat(), nn.Dense(20), nn.Dense(10)])
    methods = [optax.rmsprop, optax.adamax]
    found = run_rllc(config, methods=methods, folder=tmp_path, **given)
    assert list(found.methods) == ["sgd", "rmsprop", "adamax"]
    assert found.config["methods"] == [*found.methods]
    assert report.page(found).subtitle.startswith("mine, Sequential, ")
    again = run_rllc(config, methods=methods, folder=tmp_path, **given)
    assert runs.encode(again) == runs.encode(found)
    for other in ({"dataset": digits}, {"model": deeper}, {"methods": methods[:1]}):
        with pytest.raises(runs.RunError, match="belongs to another run"):
            run_rllc(config, **{"methods": methods, **given, **other}, folder=tmp_path)


def own_law(learning_rate):
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        rllc.scale_by_rllc(rllc.decays(0.5, 0.95)),
        optax.scale_by_learning_rate(learning_rate),
    )


def not_linear(learning_rate):
    return rllc.rllc(learning_rate, rllc.units(optax.trace(0.0), optax.trace(0.9)))


def several_laws(learning_rate):
    return rllc.rllc(learning_rate, law=rllc.LearningLaw(groups="leaf"))


def fixed_law(learning_rate):
    return rllc.rllc(learning_rate, law=rllc.FixedLaw([0.0, 1.0, 0.0]))


def test_the_law_that_your_own_method_learns_is_recorded_and_drawn(digits):
    config = dataclasses.replace(
        CONFIG, methods=("rllc",), schedules=("constant",), problems=(), trials=1
    )
    model = nn.Sequential([Flat(), nn.Dense(10)])
    methods = [own_law, not_linear, several_laws, fixed_law]
    result = run_rllc(config, dataset=digits, model=model, methods=methods)
    laws: dict[str, Any] = {
        name: columns["constant"].law for name, columns in result.methods.items()
    }
    assert laws["several_laws"] is None
    assert laws["fixed_law"] is None
    memory, law = rllc.decays(0.5, 0.95), laws["own_law"]
    np.testing.assert_array_equal(law.memory.propagator, memory.propagator)
    np.testing.assert_array_equal(law.memory.input, memory.input)
    np.testing.assert_allclose(
        law.response, rllc.response(memory, law.law[:, -1], 60).mean(0)
    )
    assert laws["not_linear"].memory is None
    assert np.ptp(laws["not_linear"].law) > 0
    np.testing.assert_array_equal(laws["rllc"].memory.input, np.ones(3))
    (figure,) = [f for f in report.page(result).figures if f.name == "laws"]
    assert len(figure.panels) == 4  # of two methods, over time and as a response


class Flat(nn.Module):
    def __call__(self, inputs):
        return inputs.reshape(len(inputs), -1)


def test_a_cosine_schedule_scales_your_own_updates():
    method = baselines.own_method(optax.sgd)
    hyper = {"learning_rate": 0.5, "schedule": 1}
    optimizer = Maker(method, 4)(hyper)
    updates = updates_of(optimizer)
    rates = 0.25 * (1 + np.cos(np.pi * np.arange(4) / 4))
    gradients = np.random.default_rng(0).normal(size=(4, 3)).astype("f")
    np.testing.assert_allclose(updates, -rates[:, None] * gradients, rtol=1e-5)


def test_your_own_averages_are_what_is_evaluated():
    def averaged(learning_rate):
        return optax.contrib.schedule_free_sgd(learning_rate, b1=0.5)

    assert baselines.own_method(averaged).eval_params is None
    averaged.eval_params = 0.9
    with pytest.raises(ValueError, match="methods: expected the attribute eval_params"):
        baselines.own_method(averaged)
    averaged.eval_params = optax.contrib.schedule_free_eval_params
    method = baselines.own_method(averaged)
    assert method.eval_params is not None
    optimizer = Maker(method, 4)({"learning_rate": 0.5, "schedule": 0})
    params, plain = jnp.ones(3), averaged(0.5)
    state, expected = optimizer.init(params), plain.init(params)
    gradient = jnp.arange(3.0)
    for _ in range(3):
        updates, state = optimizer.update(gradient, state, params)
        _, expected = plain.update(gradient, expected, params)
        params = optax.apply_updates(params, updates)
    wanted = optax.contrib.schedule_free_eval_params(expected, params)
    np.testing.assert_allclose(method.eval_params(state, params), wanted, rtol=1e-6)
    assert abs(wanted - params).max() > 0.01


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_compositions_lower_a_loss(name):
    method = COMPOSITIONS[name]
    hyper = {rate: one.at(0.6) for rate, one in method.space.items()}
    optimizer = Maker(method, 60)(hyper | {"schedule": 1})
    target = jax.random.normal(jax.random.key(0), (4, 3))

    def loss(params):
        return jnp.mean((params["w"] - target) ** 2) + jnp.mean(params["b"] ** 2)

    @jax.jit
    def last():
        def step(_, carry):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return optax.apply_updates(params, updates), state

        params = {"w": jnp.zeros((4, 3)), "b": jnp.ones(3)}
        carry = jax.lax.fori_loop(0, 60, step, (params, optimizer.init(params)))
        if method.eval_params is not None:
            return loss(params), loss(method.eval_params(carry[1], carry[0]))
        return loss(params), loss(carry[0])

    before, after = last()
    assert after < before


def followed(optimizer: Any, params: Any, steps: int) -> tuple[Any, Any, list[Any]]:
    """Returns parameters, state and the path of an optimizer on a quadratic."""
    state, path = optimizer.init(params), []
    for _ in range(steps):
        updates, state = optimizer.update(params - 1.0, state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return params, state, path


def test_averaged_parameters_are_a_decaying_average_of_the_path():
    start = jnp.array([3.0, -2.0])
    _, state, path = followed(_averages.averaged(optax.sgd(0.1)), start, 5)
    _, _, expected = followed(optax.sgd(0.1), start, 5)
    np.testing.assert_array_equal(path, expected)
    average: Any = start
    for params in path:
        average = 0.99 * average + 0.01 * params
    found: Any = _averages.evaluated(state, path[-1])
    np.testing.assert_allclose(found, average, rtol=1e-6)


def test_lookahead_with_its_slow_parameters_in_the_state_is_that_of_optax():
    start = jnp.array([3.0, -2.0])
    fast, state, _ = followed(_averages.looking_ahead(optax.sgd(0.1)), start, 8)
    optimizer: Any = optax.lookahead(optax.sgd(0.1), 6, 0.5)
    both: Any = optax.LookaheadParams.init_synced(start)
    theirs = optimizer.init(both)
    for _ in range(8):
        updates, theirs = optimizer.update(both.fast - 1.0, theirs, both)
        both = optax.apply_updates(both, updates)
    np.testing.assert_allclose(fast, both.fast, rtol=1e-6)
    found: Any = _averages.evaluated(state, fast)
    np.testing.assert_allclose(found, both.slow, rtol=1e-6)
