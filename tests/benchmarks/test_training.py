"""Claims about compiled training: what it computes, and that nothing disturbs it."""

import dataclasses
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import training
from benchmarks.training import _strategy, _task

ROWS, BATCH = 44, 8  # 5 minibatches an epoch; 4 rows wait for the next
PLAN = training.Plan(steps=13, batch_size=BATCH, evaluations=3)
HYPER = {"learning_rate": [0.01, 0.03, 0.01]}
SEEDS = [3, 3, 5]


class Net(nn.Module):
    """A small network with running statistics."""

    @nn.compact
    def __call__(self, inputs, train=False):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.8)(inputs)
        return nn.Dense(3)(nn.relu(x))


class Linear(nn.Module):
    """One logit for each class, at every position of the input."""

    classes: int = 3

    @nn.compact
    def __call__(self, inputs, train=False):
        return nn.Dense(self.classes)(inputs)


def make_adam(hyper):
    return optax.adam(hyper["learning_rate"])


def make_sgd(hyper):
    return optax.sgd(hyper["learning_rate"])


def make_still(hyper):
    return optax.chain(optax.trace(hyper["learning_rate"]), optax.set_to_zero())


def probe_count(state):
    return {"count": state[0].count}


def make_data(rows=ROWS, trailing=(), seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, *trailing, 4)).astype(np.float32)
    y = np.argmax(x[..., :3] + 0.1 * rng.normal(size=(*x.shape[:-1], 3)), axis=-1)
    return SimpleNamespace(inputs=x, targets=y.astype(np.int32))


@pytest.fixture(scope="module")
def task():
    held_out = {"validation": make_data(9, seed=1), "test": make_data(9, seed=2)}
    splits = {"train": make_data(), **held_out}
    return training.make_task(SimpleNamespace(name="blobs", **splits), Net())


@pytest.fixture(scope="module")
def history(task):
    return train(task)


def train(task, **options):
    return training.train(
        task, make_adam, HYPER, SEEDS, PLAN, **{"strategy": "scan", **options}
    )


def assert_same(one, other):
    """Asserts that two histories are bit by bit the same, but for the clock."""
    for field in dataclasses.fields(one):
        if field.name != "seconds_per_step":
            left, right = getattr(one, field.name), getattr(other, field.name)
            jax.tree.map(np.testing.assert_array_equal, left, right)


@jax.jit
def step_by_hand(variables, state, learning_rate, x, y):
    def loss(params):
        logits, new = Net().apply(
            {**variables, "params": params}, x, True, mutable="batch_stats"
        )
        picked = jnp.take_along_axis(nn.log_softmax(logits), y[:, None], axis=1)
        return -jnp.mean(picked), new["batch_stats"]

    params = variables["params"]
    (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params)
    updates, state = optax.adam(learning_rate).update(grads, state, params)
    params = optax.apply_updates(params, updates)
    return {"params": params, "batch_stats": stats}, state, value


def loop_by_hand(task, learning_rate, seed):
    """Trains one run with a plain Python loop; returns its variables and losses."""
    start_key, data_key = jax.random.split(jax.random.key(seed))
    variables = jax.jit(task.init)(start_key)
    state = optax.adam(learning_rate).init(variables["params"])
    losses = []
    for step in range(PLAN.steps):
        epoch, index = divmod(step, ROWS // BATCH)
        order = jax.random.permutation(jax.random.fold_in(data_key, epoch), ROWS)
        rows = order[index * BATCH : (index + 1) * BATCH]
        x, y = task.train.inputs[rows], task.train.targets[rows]
        variables, state, loss = step_by_hand(variables, state, learning_rate, x, y)
        losses.append(float(loss))
    return variables, losses


def test_training_is_what_a_plain_loop_computes(task, history):
    variables, losses = loop_by_hand(task, HYPER["learning_rate"][1], SEEDS[1])
    expected = [np.mean(part) for part in np.split(losses, history.steps[:-1])]
    np.testing.assert_allclose(history.train_batch_loss[1], expected, rtol=1e-4)
    score = jax.jit(_task.row_scores, static_argnums=0)
    loss, hits = score(task.module, variables, task.test)
    np.testing.assert_allclose(history.test_loss[1], np.mean(loss), rtol=1e-4)
    np.testing.assert_allclose(history.test_accuracy[1], np.mean(hits))


@pytest.mark.parametrize("strategy", ["vmap", "loop"])
def test_every_strategy_computes_the_same(task, history, strategy):
    other = train(task, strategy=strategy)
    assert (history.strategy, other.strategy) == ("scan", strategy)
    for name in ("train_loss", "train_batch_loss", "validation_loss", "test_loss"):
        np.testing.assert_allclose(
            getattr(other, name), getattr(history, name), rtol=1e-4
        )


def test_the_result_does_not_depend_on_the_segment(task, history):
    reports = []
    other = train(task, segment=2, progress=lambda *report: reports.append(report))
    assert_same(history, other)
    # Segments end at epochs (5, 10), evaluation points (4, 9, 13) and after 2 steps.
    assert [done for done, _ in reports] == [2, 4, 5, 7, 9, 10, 12, 13]
    assert {total for _, total in reports} == {PLAN.steps}


@pytest.mark.parametrize("strategy", ["scan", "vmap"])
def test_an_interrupted_training_goes_on_with_the_same_bits(task, tmp_path, strategy):
    def interrupt(done, total):
        if done == 10:
            raise KeyboardInterrupt

    options = {"strategy": strategy, "probe": probe_count}
    path = tmp_path / "checkpoint.npz"
    with pytest.raises(KeyboardInterrupt):
        train(task, checkpoint=path, segment=3, progress=interrupt, **options)
    resumed = []
    # Without a strategy it is the interrupted one's.
    history = train(
        task,
        checkpoint=path,
        progress=lambda done, total: resumed.append(done),
        **{**options, "strategy": None},
    )
    assert resumed == [10, 13]  # from the evaluation point at step 9
    assert_same(history, train(task, **options))
    assert history.probes["count"].tolist() == [[4, 9, 13]] * 3


def test_a_checkpoint_of_another_training_is_refused(task, tmp_path):
    path = tmp_path / "checkpoint.npz"
    train(task, checkpoint=path)
    with pytest.raises(training.CheckpointError, match=r"seeds was \[3, 3, 5\], now"):
        training.train(
            task, make_adam, HYPER, [3, 5, 5], PLAN, strategy="scan", checkpoint=path
        )
    with pytest.raises(training.CheckpointError, match="another optimizer"):
        training.train(task, make_still, HYPER, SEEDS, PLAN, checkpoint=path)


def test_a_damaged_checkpoint_is_refused_by_name(task, tmp_path):
    path = tmp_path / "checkpoint.npz"
    train(task, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(training.CheckpointError, match=r"checkpoint\.npz cannot be"):
        train(task, checkpoint=path)


def test_a_seed_decides_on_start_and_batches_whatever_the_method(task):
    moved = training.train(task, make_still, HYPER, SEEDS, PLAN, strategy="scan")
    zero = {"learning_rate": [0.0] * 3}
    other = training.train(task, make_adam, zero, SEEDS, PLAN, strategy="scan")
    np.testing.assert_array_equal(moved.train_batch_loss, other.train_batch_loss)
    assert np.array_equal(moved.train_batch_loss[0], moved.train_batch_loss[1])
    assert not np.any(moved.train_batch_loss[0] == moved.train_batch_loss[2])


def row_losses(task, variables):
    """Returns the loss of every row of each split, evaluated in one batch."""
    splits = (task.train, task.validation, task.test)
    inputs, targets = (np.concatenate(parts) for parts in zip(*splits, strict=True))
    logits = jax.jit(task.module.apply)(variables, inputs)
    losses = -np.asarray(nn.log_softmax(logits))[np.arange(len(targets)), targets]
    return np.split(losses, np.cumsum([len(split.targets) for split in splits[:2]]))


def test_curves_and_final_losses_are_means_over_the_rows_asked_for(task, monkeypatch):
    monkeypatch.setattr(_task, "CHUNK", 4)
    plan = dataclasses.replace(PLAN, evaluations=1, curve_rows=6, final_rows=10)
    hyper = {"learning_rate": [0.0] * 3}
    history = training.train(task, make_adam, hyper, SEEDS, plan, strategy="scan")
    # The statistics move even if the parameters do not: they are read off one run.
    variables, _ = loop_by_hand(task, 0.0, 3)

    train, validation, test = row_losses(task, variables)
    expected = {
        "train_loss": np.mean(train[:6]),
        "validation_loss": np.mean(validation[:6]),
        "final_train_loss": np.mean(train[:10]),
        "final_validation_loss": np.mean(validation),
        "test_loss": np.mean(test),
    }
    for name, value in expected.items():
        of_run = getattr(history, name)[0]
        np.testing.assert_allclose(of_run, value, rtol=1e-5, err_msg=name)


def test_the_loss_of_a_text_is_the_mean_over_all_positions():
    splits = {
        name: make_data(6, trailing=(5,)) for name in ("train", "validation", "test")
    }
    text = training.make_task(SimpleNamespace(name="text", **splits), Linear())
    variables = jax.jit(text.init)(jax.random.key(0))
    dense = variables["params"]["Dense_0"]
    logits = np.asarray(text.test.inputs) @ dense["kernel"] + dense["bias"]
    flat = np.asarray(nn.log_softmax(logits)).reshape(-1, 3)
    targets = text.test.targets.reshape(-1)
    expected = -np.mean(flat[np.arange(len(targets)), targets])

    @jax.jit
    def losses(variables, data):
        trained, _ = _task.batch_loss(text.module, variables["params"], {}, data)
        evaluated, _ = _task.chunk_sums(text.module, variables, data, 0, 6, size=6)
        return trained, evaluated / 6, text.loss(variables, data)

    np.testing.assert_allclose(losses(variables, text.test), expected, rtol=1e-5)


@pytest.mark.parametrize("strategy", ["vmap", "scan"])
def test_all_optimizers_share_the_compilation_of_the_start(strategy):
    traced = []

    class Traced(Linear):
        def __call__(self, inputs, train=False):
            traced.append(strategy)
            return super().__call__(inputs, train)

    keys, example = jax.random.split(jax.random.key(0)), jnp.ones((1, 4))
    hyper = {"learning_rate": jnp.ones(2)}
    for make in (make_adam, make_sgd):
        program = _strategy.Program(Traced(), make, BATCH)
        _strategy.make_fleet(strategy, program, keys, hyper, example)
    assert len(traced) == 1


def test_eval_params_decide_on_what_is_judged(task):
    def zeros(state, params):
        return jax.tree.map(jnp.zeros_like, params)

    history = train(task, eval_params=zeros)
    np.testing.assert_allclose(history.train_loss, np.log(3), rtol=1e-6)
    assert np.all(history.train_batch_loss != history.train_loss)


def test_a_diverged_run_is_marked_and_disturbs_no_other(task, history):
    hyper = {"learning_rate": [0.01, np.inf, 0.01]}
    other = training.train(task, make_adam, hyper, SEEDS, PLAN, strategy="vmap")
    assert other.diverged.tolist() == [False, True, False]
    np.testing.assert_allclose(other.test_loss[2], history.test_loss[2], rtol=1e-4)


def test_the_optimizer_state_is_weighed(task, history):
    variables = jax.eval_shape(task.init, jax.random.key(0))
    counts = 4.0 / sum(x.size for x in jax.tree.leaves(variables))
    assert 8.0 < history.opt_state_bytes_per_parameter < 8.0 + 2.0 * counts


def test_a_convolution_on_a_cpu_is_stepped_from_python_untimed(monkeypatch):
    class Convolution(nn.Module):
        @nn.compact
        def __call__(self, inputs, train=False):
            return nn.Conv(2, (3,))(inputs).mean(axis=1)

    splits = dict.fromkeys(("train", "validation", "test"), make_data(6, (5,)))
    task = training.make_task(SimpleNamespace(name="images", **splits), Convolution())
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(_strategy, "_seconds_per_step", None)
    assert training.fastest_strategy(task, batch_size=2, runs=3) == "loop"


def test_the_fastest_strategy_is_taken_and_remembered(task, monkeypatch):
    seconds = {"vmap": 2.0, "scan": 1.0, "loop": 3.0}
    timed = []

    def clock(strategy, *rest):
        timed.append(strategy)
        return seconds[strategy]

    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(_strategy, "_seconds_per_step", clock)
    monkeypatch.setattr(_strategy, "_fastest", {})
    for _ in range(2):
        assert training.fastest_strategy(task, batch_size=BATCH, runs=4) == "scan"
    assert timed == ["vmap", "scan", "loop"]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert training.fastest_strategy(task, batch_size=BATCH, runs=1) == "scan"
    assert len(timed) == 3  # nothing to choose from


def test_strategies_can_be_timed(task, monkeypatch):
    monkeypatch.setattr(_strategy, "_TIMING_SECONDS", 0.01)
    program = _strategy.Program(Linear(), _strategy._reference_optimizer, BATCH)
    for strategy in ("vmap", "loop"):
        seconds = _strategy._seconds_per_step(strategy, task, program, runs=2)
        assert 0.0 < seconds < 10.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hyper": {"learning_rate": [0.1]}}, r"hyper\['learning_rate'\].*axis of 3"),
        ({"seeds": [0.5, 1.0, 2.0]}, "seeds has .* dtype float64"),
        ({"seeds": []}, "at least one run"),
        ({"plan": dataclasses.replace(PLAN, batch_size=50)}, "blobs has 44 training"),
        ({"segment": 0}, "segment is 0"),
        ({"strategy": "fast"}, "strategy is 'fast': expected one of"),
    ],
)
def test_what_cannot_be_trained_is_refused(task, options, message):
    asked = {"hyper": HYPER, "seeds": SEEDS, "plan": PLAN, **options}
    with pytest.raises(ValueError, match=message):
        training.train(task, make_adam, **asked)


def test_a_plan_that_cannot_be_followed_is_refused():
    with pytest.raises(ValueError, match="evaluations is 20 but there are only 5"):
        training.Plan(steps=5, batch_size=2)
    with pytest.raises(ValueError, match="batch_size is 0"):
        training.Plan(steps=50, batch_size=0)


def test_a_dataset_with_missing_targets_is_refused():
    broken = SimpleNamespace(inputs=np.zeros((3, 2)), targets=np.zeros(2, np.int32))
    splits = {"train": make_data(), "validation": broken, "test": make_data()}
    with pytest.raises(ValueError, match=r"dataset\.validation has 3 inputs and 2"):
        training.make_task(SimpleNamespace(name="broken", **splits), Net())
