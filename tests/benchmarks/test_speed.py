"""Speed is measured in turns, against baselines that compute the same."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

import combinability as combinability_library
import stitching as stitching_library
from benchmarks.__main__ import main
from benchmarks.configs import speed as options
from benchmarks.models import CNN, MLP
from benchmarks.runs import read, read_result
from benchmarks.speed import combinability, rllc, runner, stitching
from benchmarks.speed.runner import Ratio, first_calls, interleaved, timings

BENCHMARKS = {
    "rllc": rllc.BENCHMARK,
    "combinability": combinability.BENCHMARK,
    "stitching": stitching.BENCHMARK,
}
TINY = ["speed", "rllc", "--parameters", "1100000", "--rounds", "3"]
ONE = {"median": 1.0, "low": 1.0, "high": 1.0}
CASE = MLP(10, (16,)), (8, 8, 1), 4
SMALL = CNN(10, channels=(2, 2), features=4), (8, 8, 1)


def fields(shown):
    """Text without line breaks and repeated blanks."""
    return " ".join(shown.split())


def enabled():
    """Whether compilations are read from a cache."""
    config: Any = jax.config
    return config.jax_enable_compilation_cache


@pytest.fixture
def clock(monkeypatch):
    """Programs run once; the first takes 1 s, the second 2 s and so on, per round."""

    def turns(programs, rounds):
        for program in programs.values():
            program()
        count = np.arange(1.0, len(programs) + 1)
        return {
            name: np.full(rounds, n) for name, n in zip(programs, count, strict=True)
        }

    monkeypatch.setattr(runner, "interleaved", turns)


# The runner


def test_programs_take_turns():
    order = []
    programs = {name: (lambda name=name: order.append(name)) for name in "ab"}
    times = interleaved(programs, rounds=2)
    assert order == ["a", "b"] * 3
    assert {name: len(row) for name, row in times.items()} == {"a": 2, "b": 2}


def test_ratios_are_taken_round_by_round():
    noise = np.array([1.0, 10.0, 100.0])
    slow, fast = timings("case", {"slow": 2 * noise, "fast": noise}, {"slow": ["fast"]})
    assert slow.ratios == {"fast": Ratio(median=2, low=2, high=2)}
    assert fast.ratios == {}
    assert (slow.seconds, fast.seconds) == (20, 10)
    times = {"a": np.arange(1.0, 6.0), "b": np.ones(5)}
    assert (
        str(timings("case", times, {"a": "b"})[0].ratios["b"]) == "3.00 (2.00 to 4.00)"
    )


def test_first_calls_are_of_new_programs_that_no_cache_has():
    order, before = [], enabled()

    def build():
        order.append("build")
        return dict.fromkeys("ab", lambda: order.append(enabled()))

    times = first_calls(build, rounds=2)
    assert order == ["build", False, False] * 2
    assert {name: len(row) for name, row in times.items()} == {"a": 2, "b": 2}
    assert enabled() == before


@pytest.mark.parametrize("name", BENCHMARKS)
def test_committed_results_are_shown(name, tmp_path):
    result = read(f"benchmarks/results/speed_{name}")
    with open(tmp_path / "shown", "w") as file:
        runner.show(BENCHMARKS[name], result, Console(file=file, width=200))
    shown = fields((tmp_path / "shown").read_text())
    for one in result.timings:
        assert one.program in shown
        for ratio in one.ratios.values():
            assert str(ratio) in shown


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A run folder of `python -m benchmarks speed rllc`."""
    folder = tmp_path_factory.mktemp("speed") / "run"
    assert main([*TINY, "--out", str(folder)]) == 0
    return folder


def test_a_finished_measurement_is_shown_again_and_not_repeated(measured, capsys):
    before = (measured / "result.json").read_bytes()
    assert main([*TINY, "--out", str(measured)]) == 0
    assert (measured / "result.json").read_bytes() == before
    captured = capsys.readouterr()
    assert "finished before" in captured.err
    result = read(measured)
    names = ["adam", "ademamix", "rllc_1", "rllc_2", "rllc_4", "copy"]
    assert [one.program for one in result.timings] == names
    for one in result.timings[:-1]:
        assert str(one.ratios["adam"]) in captured.out
    assert f"Numbers: {measured / 'result.json'}" in captured.out


def test_a_stopped_measurement_continues_at_the_case_that_was_stopped(tmp_path):
    calls, config = [], stitching.Config(rounds=3)
    row = {"case": "bn3", "program": "train", "seconds": 2.0, "ratios": {"train": ONE}}

    def first():
        calls.append("first")
        return [row | {"notes": {}}]

    def second():
        calls.append("second")
        if len(calls) < 3:
            raise KeyboardInterrupt
        return [row | {"notes": {"difference": float("nan")}}]

    cases = {"first": first, "second": second}
    benchmark = stitching.BENCHMARK._replace(cases=lambda config: cases)
    with pytest.raises(KeyboardInterrupt):
        runner.run(benchmark, config, tmp_path)
    runner.run(benchmark, config, tmp_path)
    assert calls == ["first", "second", "second"]
    plain = read_result(tmp_path)["timings"]
    assert plain == [row | {"notes": {}}, row | {"notes": {"difference": None}}]


def test_a_measurement_has_no_report(measured, capsys):
    assert main(["report", str(measured)]) == 2
    captured = capsys.readouterr().err
    assert "a run of 'speed rllc' has no figures" in captured
    assert "Traceback" not in captured


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (rllc.Config, {"parameters": 10}, "parameters: expected .*, got 10"),
        (rllc.Config, {"rounds": 0}, "rounds: expected .*, got 0"),
        (combinability.Config, {"widths": ()}, "widths: expected .*, got none"),
        (
            combinability.Config,
            {"widths": (0, 4)},
            r"widths: .* got \(0, 4\)",
        ),
        (combinability.Config, {"samples": (0,)}, r"samples: expected .*, got \(0,\)"),
        (combinability.Config, {"rounds": 2}, "rounds: expected .*, got 2"),
        (
            combinability.Config,
            {"large": ("VGG",)},
            "large: expected some of MLP 512, .*, got 'VGG'",
        ),
        (stitching.Config, {"rounds": 2}, "rounds: expected .*, got 2"),
        (stitching.Config, {"seconds": 0.0}, r"seconds: expected .*, got 0\.0"),
        (stitching.Config, {"batch_size": 0}, "batch_size: expected .*, got 0"),
        (stitching.Config, {"batch_size": 2001}, "batch_size: expected .*, got 2001"),
        (
            stitching.Config,
            {"features": 10_000},
            "features: .* samples=10000, got",
        ),
    ],
)
def test_a_configuration_that_cannot_be_timed_raises(config, options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)


# rllc


@pytest.mark.parametrize("parameters", [1_100_000, 1_049_600 * 3])
def test_times_of_steps_are_relative_to_adam_and_to_a_copy(
    parameters, clock, monkeypatch
):
    only = ("adam", "ademamix")
    found = {n: rllc.optimizers()[n] for n in only}
    sizes = []

    def step(optimizer, gradient):
        sizes.append(sum(leaf.size for leaf in gradient))
        return (lambda: None), 8 * parameters

    monkeypatch.setattr(rllc, "optimizers", lambda: found)
    monkeypatch.setattr(rllc, "step", step)
    adam, ademamix, copy = rllc.measure(rllc.Config(parameters, rounds=3))
    assert sizes == [parameters] * 2
    # The copy took 3 s; it reads and writes four bytes per parameter.
    assert copy.notes == {"bandwidth, GB/s": pytest.approx(8e-9 * parameters / 3)}
    assert adam.ratios["adam"].median == 1
    assert ademamix.ratios["adam"].median == ademamix.seconds
    assert adam.notes["traffic, ms"] == pytest.approx(1e3 * 7 / 2 * 3)
    assert adam.notes["temporary, %"] == 200


@pytest.mark.parametrize("name", ["adam", "rllc_2"])
def test_a_timed_step_is_the_optimizers(name):
    optimizer, _ = rllc.optimizers()[name]
    gradient = [jnp.array([0.5, -1.0]), jnp.array([2.0])]
    program, temporary = rllc.step(optimizer, gradient)
    params: Any = [jnp.ones(2), jnp.ones(1)]
    state = optimizer.init(params)
    for _ in range(2):
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        timed, _ = program()
    chex.assert_trees_all_close(timed, params, rtol=1e-6)
    assert temporary >= 0


# combinability


@pytest.mark.parametrize("features", [(8,), (8, 8)])
def test_the_loop_and_the_library_match_alike(features, clock):
    config, network = combinability.Config(rounds=3, seed=1), MLP(5, features)
    found = combinability.time_matching("small", network, jnp.zeros((1, 64)), config)
    identity, pinned, loop = found
    assert identity.notes["objective"] == pytest.approx(loop.notes["objective"], 1e-5)
    assert identity.notes["recovered, %"] == loop.notes["recovered, %"]
    assert pinned.notes["recovered, %"] == 100
    for one in found:
        assert one.ratios["loop"].median == one.seconds / loop.seconds


def test_every_large_network_can_be_named():
    assert tuple(combinability.LARGE) == options.LARGE


def test_large_networks_are_matched_once_and_their_memory_is_measured(monkeypatch):
    case = MLP(3, (8, 8)), jnp.zeros((1, 5)), combinability_library.match
    monkeypatch.setitem(combinability.LARGE, "small", case)
    monkeypatch.setattr(options, "LARGE", ("small",))
    config = combinability.Config(large=("small",))
    (one,) = combinability.cases(config)["small"]()
    assert one.program == "match"
    parameters = 5 * 8 + 8 + 8 * 8 + 8 + 8 * 3 + 3
    assert one.notes["parameters, M"] == pytest.approx(parameters / 1e6)
    assert one.notes["groups"] == 2
    assert one.notes["all threads, s"] > 0
    assert one.notes["at most, GB"] > 0.05
    assert "small" not in combinability.cases(combinability.Config())


def test_the_large_transformer_is_of_the_published_size():
    network, inputs, _ = combinability.LARGE["GPT-2-small"]
    shapes = jax.eval_shape(network.init, jax.random.key(0), inputs)["params"]
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    # GPT-2 shares the embedding with its last layer, which here has its own weights.
    assert count == 124_439_808 + 50257 * (768 + 1)


def test_all_programs_evaluate_the_same_combinations():
    programs = combinability.evaluations(*CASE)
    values = {name: np.asarray(program(5)) for name, program in programs.items()}
    assert len(np.unique(values["loop"])) == 5
    for name in ("evaluate", "map"):
        np.testing.assert_allclose(values[name], values["loop"], rtol=1e-5)


def test_combinations_are_timed_with_and_without_compilation(clock, monkeypatch):
    config = combinability.Config(rounds=3, samples=(2, 4))
    monkeypatch.setattr(combinability, "CASES", {"small": CASE})
    found = combinability.cases(config)["small"]()
    cases = ["small, first call", "small, 2 samples", "small, 4 samples"]
    assert [one.case for one in found] == [case for case in cases for _ in range(3)]
    assert min(one.seconds for one in found) > 0
    for i in range(0, 9, 3):
        evaluate, map_, loop = found[i : i + 3]
        assert [*evaluate.ratios] == [map_.program, loop.program] == ["map", "loop"]
        ratio = evaluate.ratios["map"]
        assert ratio.low <= ratio.median <= ratio.high
        if i:
            assert evaluate.ratios["loop"].median == evaluate.seconds / loop.seconds


# stitching


def test_all_trainings_take_the_same_steps(clock):
    config = stitching.Config(rounds=3, seconds=1e-3, batch_size=20)
    found = stitching.time_layer(*SMALL, "Conv_1", config)
    train, many, by_hand, whole, _ = found
    names = ["train", "many", "by hand", "two passes", "activations, once"]
    assert [one.program for one in found] == names
    assert train.notes["difference"] < 1e-5
    for other in (whole, by_hand):
        ratio = train.ratios[other.program].median
        assert ratio == pytest.approx(train.seconds / other.seconds)
    assert many.ratios["train"].median == pytest.approx(many.seconds / train.seconds)


def test_two_passes_run_both_networks_whole():
    def flops(function, *arguments):
        return function.lower(*arguments).compile().cost_analysis()["flops"]

    module, x = SMALL[0], jnp.ones((20, *SMALL[1]))
    a, b = (module.init(jax.random.key(seed), x[:1]) for seed in (1, 2))
    cut, optimizer = stitching_library.cut(module, "Dense_1", x[:1]), optax.sgd(0.1)
    step = stitching.jitted_step(stitching.loss_on_labels(cut, whole=True), optimizer)
    params = {"kernel": jnp.eye(10), "bias": jnp.zeros(10)}
    state = params, optimizer.init(params)
    given = (a, b, x, jnp.zeros(20, int)), jnp.arange(20)
    # Behind the last layer there is nothing: what is left is the two passes.
    whole = flops(jax.jit(lambda variables, x: module.apply(variables, x)), a, x)
    assert flops(step, state, *given) > 1.95 * whole


@pytest.mark.parametrize("name", ["CKA", "least squares"])
def test_measures_from_moments_have_the_values_of_their_definitions(name, clock):
    config = stitching.Config(samples=200, features=8, rounds=3)
    moments, other = stitching.time_measure(name, config)
    assert moments.notes["difference"] < 1e-4
    assert moments.ratios[other.program].median == moments.seconds / other.seconds
