"""Claims about compiled training: what it computes, and that nothing disturbs it."""

import io
from types import SimpleNamespace
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from benchmarks import data, models, networks, training
from benchmarks.changes import Change

ROWS, BATCH = 44, 8  # 5 minibatches an epoch; 4 rows wait for the next
PLAN: dict[str, Any] = {"steps": 13, "batch_size": BATCH, "evaluations": 3}
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
    return networks.make_task(SimpleNamespace(name="blobs", **splits), Net())


@pytest.fixture(scope="module")
def history(task):
    return train(task)


def train(task, **options):
    return networks.train(task, make_adam, HYPER, SEEDS, **{**PLAN, **options})


def assert_same(one, other):
    """Asserts that two histories are bit by bit the same, but for the clock."""
    one, other = (x._replace(seconds_per_step=0, seconds=0) for x in (one, other))
    jax.tree.map(np.testing.assert_array_equal, one, other)


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
    for step in range(PLAN["steps"]):
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
    np.testing.assert_allclose(
        history.curves["train_batch_loss"][1], expected, rtol=1e-4
    )
    logits = task.network.apply(variables, task.test.inputs)
    loss, hits = networks.row_scores(logits, task.test.targets)
    np.testing.assert_allclose(history.final["test_loss"][1], np.mean(loss), rtol=1e-4)
    np.testing.assert_allclose(history.final["test_accuracy"][1], np.mean(hits))


MODES = ("vmapped", "compiled", "stepped")


@pytest.mark.parametrize("mode", MODES)
def test_however_runs_are_advanced_they_compute_the_same(
    task, history, mode, monkeypatch
):
    monkeypatch.setattr(training, "mode", lambda *_: mode)
    other = train(task)
    for one, another in ((other.curves, history.curves), (other.final, history.final)):
        for name in one:
            np.testing.assert_allclose(one[name], another[name], rtol=1e-4)
    measured = np.isfinite(other.seconds)  # where runs took turns
    assert measured.all() == measured.any() == (mode != "vmapped")
    assert mode == "vmapped" or np.all(np.diff(other.seconds, prepend=0) > 0)


@pytest.mark.parametrize("mode", MODES)
def test_an_interrupted_training_continues_with_the_same_bits(
    task, tmp_path, mode, monkeypatch
):
    def interrupt(done, total):
        if done == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "mode", lambda *_: mode)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    whole, file = train(task, probe=probe_count), tmp_path / "state.npz"
    # Segments end at epochs (5, 10) and evaluations (4, 9, 13).
    with pytest.raises(KeyboardInterrupt):
        train(task, checkpoint=file, probe=probe_count, progress=interrupt)
    resumed = []
    history = train(
        task,
        checkpoint=file,
        probe=probe_count,
        progress=lambda done, total: resumed.append((done, total)),
    )
    assert resumed == [(10, 13), (13, 13)]  # from step 9
    assert_same(history, whole)
    assert history.probes["count"].tolist() == [[4, 9, 13]] * 3


def test_progress_segments_do_not_change_the_result(task, history, monkeypatch):
    monkeypatch.setattr(training, "_SEGMENT", 2)
    assert_same(train(task), history)


@pytest.fixture
def checkpoint(task, tmp_path, monkeypatch):
    """The file that a finished training leaves behind."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    train(task, checkpoint=tmp_path / "state.npz")
    return tmp_path / "state.npz"


@pytest.mark.parametrize(
    ("make", "hyper", "seeds", "steps"),
    [
        (make_adam, HYPER, [3, 5, 5], 13),
        (make_adam, {"learning_rate": [0.01, 0.03, 0.02]}, SEEDS, 13),
        (make_adam, HYPER, SEEDS, 14),
        (make_still, HYPER, SEEDS, 13),
        (make_adam, {"learning_rate": [0.01, 0.03]}, [3, 3], 13),
    ],
    ids=["seeds", "rates", "steps", "optimizer", "number"],
)
def test_a_checkpoint_of_another_training_is_rejected(
    task, checkpoint, make, hyper, seeds, steps
):
    plan = {**PLAN, "steps": steps}
    with pytest.raises(training.CheckpointError, match="belongs to another training"):
        networks.train(task, make, hyper, seeds, **plan, checkpoint=checkpoint)


def flip(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def pickled(content):
    file = io.BytesIO()
    np.savez(file, np.array([print, print]))
    return file.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-10],
        lambda content: flip(content, len(content) // 3),
        lambda content: flip(content, 150),
        lambda content: b"?" * len(content),
        pickled,
    ],
    ids=["empty", "half", "end", "number", "header", "other", "pickled"],
)
def test_a_damaged_checkpoint_is_rejected(task, checkpoint, damage):
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    with pytest.raises(training.CheckpointError, match=r"damaged.*delete it"):
        train(task, checkpoint=checkpoint)


@pytest.mark.parametrize(
    "leaf",
    [
        jnp.zeros((0, 3)),
        jnp.array([[0.1, jnp.nan], [-0.0, 3e38]], jnp.bfloat16),
        jnp.array([0.5, 448.0], jnp.float8_e4m3fn),
        jnp.int32(7),
        jnp.array([True, False]),
        jnp.array([1 + 2j]),
        jax.random.split(jax.random.key(1, impl="rbg"), 2),
        np.array([[0.1, np.inf]]).T,
    ],
    ids=lambda leaf: f"{leaf.dtype}",
)
def test_a_checkpoint_keeps_every_kind_of_array(leaf, tmp_path):
    store = training._Store(tmp_path / "state.npz", leaf)
    assert store.restore(leaf) is None
    store.save((leaf, optax.EmptyState()))
    found, rest = store.restore((leaf, optax.EmptyState()))
    assert rest == optax.EmptyState()
    assert isinstance(found, type(leaf))
    assert found.dtype == leaf.dtype
    one, other = map(training._as_numpy, (found, leaf))
    assert one.shape == other.shape
    assert one.tobytes() == other.tobytes()


def test_networks_are_trained_by_adamw_under_a_cosine_schedule(task):
    asked: dict[str, Any] = {"steps": 13, "batch_size": BATCH}
    found, scores = networks.train_networks(
        task, 2, learning_rate=0.03, weight_decay=0.5, seed=1, **asked
    )
    rate = optax.cosine_decay_schedule(0.03, 13)
    expected = networks.train(
        task,
        lambda hyper: optax.adamw(rate, weight_decay=0.5),
        {"learning_rate": [0.03, 0.03]},
        [1000, 1001],
        **PLAN,
    )
    for one, other in zip(found, expected.variables, strict=True):
        chex.assert_trees_all_close(one["params"], other["params"], rtol=1e-4)
    np.testing.assert_allclose(
        scores["test_loss"], expected.final["test_loss"], rtol=1e-4
    )


def test_a_seed_decides_on_start_and_batches_whatever_the_method(task):
    moved = networks.train(task, make_still, HYPER, SEEDS, **PLAN)
    zero = {"learning_rate": [0.0] * 3}
    other = networks.train(task, make_adam, zero, SEEDS, **PLAN)
    np.testing.assert_array_equal(
        moved.curves["train_batch_loss"], other.curves["train_batch_loss"]
    )
    assert np.array_equal(
        moved.curves["train_batch_loss"][0], moved.curves["train_batch_loss"][1]
    )
    assert not np.any(
        moved.curves["train_batch_loss"][0] == moved.curves["train_batch_loss"][2]
    )


def row_losses(task, variables):
    """Returns the loss of every row of each split, evaluated in one batch."""
    splits = (task.train, task.validation, task.test)
    inputs, targets = (np.concatenate(parts) for parts in zip(*splits, strict=True))
    logits = jax.jit(task.network.apply)(variables, inputs)
    losses = -np.asarray(nn.log_softmax(logits))[np.arange(len(targets)), targets]
    return np.split(losses, np.cumsum([len(split.targets) for split in splits[:2]]))


def test_curves_and_final_losses_are_means_over_the_rows_asked_for(task, monkeypatch):
    monkeypatch.setattr(networks, "_CHUNK", 4)
    plan: dict[str, Any] = {**PLAN, "evaluations": 1, "curve_rows": 6, "final_rows": 10}
    hyper = {"learning_rate": [0.0] * 3}
    history = networks.train(task, make_adam, hyper, SEEDS, **plan)
    # The statistics move even if the parameters do not: they are read off one run.
    variables, _ = loop_by_hand(task, 0.0, 3)

    train, validation, test = row_losses(task, variables)
    curves = {
        "train_loss": np.mean(train[:6]),
        "validation_loss": np.mean(validation[:6]),
    }
    final = {
        "train_loss": np.mean(train[:10]),
        "validation_loss": np.mean(validation),
        "test_loss": np.mean(test),
    }
    for found, expected in ((history.curves, curves), (history.final, final)):
        for name, value in expected.items():
            of_run = found[name][0]
            np.testing.assert_allclose(of_run, value, rtol=1e-5, err_msg=name)


def test_the_loss_of_a_text_is_the_mean_over_all_positions():
    splits = {
        name: make_data(6, trailing=(5,)) for name in ("train", "validation", "test")
    }
    text = networks.make_task(SimpleNamespace(name="text", **splits), Linear())
    variables = jax.jit(text.init)(jax.random.key(0))
    dense = variables["params"]["Dense_0"]
    logits = np.asarray(text.test.inputs) @ dense["kernel"] + dense["bias"]
    flat = np.asarray(nn.log_softmax(logits)).reshape(-1, 3)
    targets = text.test.targets.reshape(-1)
    expected = -np.mean(flat[np.arange(len(targets)), targets])

    scored = networks.score(text.network, variables, text.test)
    np.testing.assert_allclose(scored.loss, expected, rtol=1e-5)
    still = {"learning_rate": [0.0]}
    history = networks.train(
        text, make_sgd, still, [0], steps=1, batch_size=6, evaluations=1
    )
    np.testing.assert_allclose(
        history.curves["train_batch_loss"], history.curves["train_loss"], rtol=1e-5
    )


def test_equal_trainings_compile_once():
    traced = []

    class Traced(Linear):
        def __call__(self, inputs, train=False):
            traced.append(train)
            return super().__call__(inputs, train)

    splits = dict.fromkeys(("train", "validation", "test"), make_data(8))
    task = networks.make_task(SimpleNamespace(name="blobs", **splits), Traced())
    counts = []
    for seed in (0, 1):
        plan: dict[str, Any] = {"steps": 2, "batch_size": 4, "evaluations": 1}
        networks.train(task, make_sgd, {"learning_rate": [0.1 + seed]}, [seed], **plan)
        counts.append(len(traced))
    assert counts[1] - counts[0] <= 2  # the rule reads the loss, shapes of curves


def test_eval_params_decide_on_what_is_judged(task):
    def zeros(state, params):
        return jax.tree.map(jnp.zeros_like, params)

    history = train(task, eval_params=zeros)
    np.testing.assert_allclose(history.curves["train_loss"], np.log(3), rtol=1e-6)
    assert np.all(history.curves["train_batch_loss"] != history.curves["train_loss"])


def test_a_diverged_run_is_marked_and_disturbs_no_other(task, history):
    hyper = {"learning_rate": [0.01, np.inf, 0.01]}
    other = networks.train(task, make_adam, hyper, SEEDS, **PLAN)
    assert other.diverged.tolist() == [False, True, False]
    for name in ("validation_accuracy", "test_accuracy"):
        assert np.isnan(other.final[name]).tolist() == [False, True, False]
    of_curve = other.curves["validation_accuracy"]
    assert np.isnan(of_curve).all(axis=1).tolist() == [False, True, False]
    np.testing.assert_allclose(
        other.final["test_loss"][2], history.final["test_loss"][2], rtol=1e-4
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_has_no_accuracy(task, value):
    variables = jax.tree.map(lambda x: x + value, task.init(jax.random.key(0)))
    score = jax.jit(networks.score, static_argnums=0)
    found = score(task.network, variables, task.test)
    assert not np.isfinite(found.loss)
    assert np.isnan(found.accuracy)


def test_the_optimizer_state_is_weighed(task, history):
    variables = jax.eval_shape(task.init, jax.random.key(0))
    counts = 4.0 / sum(x.size for x in jax.tree.leaves(variables))
    assert 8.0 < history.bytes_per_parameter < 8.0 + 2.0 * counts


class Convolution(nn.Module):
    @nn.compact
    def __call__(self, inputs, train=False):
        return nn.Conv(2, (3,))(inputs).mean(axis=1)


@pytest.mark.parametrize("what", ["labels", "inputs"])
def test_a_task_that_changes_is_trained_and_evaluated_as_it_is_then(task, what):
    change = Change(what, every=5, classes=3)
    found = train(task, change=change)
    start_key, data_key = jax.random.split(jax.random.key(SEEDS[0]))
    variables = jax.jit(task.init)(start_key)
    rate = HYPER["learning_rate"][0]
    state = optax.adam(rate).init(variables["params"])
    measured = []
    for step in range(PLAN["steps"]):
        epoch, index = divmod(step, ROWS // BATCH)
        order = jax.random.permutation(jax.random.fold_in(data_key, epoch), ROWS)
        batch = task.train.taken(order[index * BATCH : (index + 1) * BATCH])
        variables, state, _ = step_by_hand(
            variables, state, rate, *by_hand(batch, what, step // 5)
        )
        if step + 1 in found.steps:
            rows = map(jnp.asarray, by_hand(task.validation, what, step // 5))
            now = data.Split(*rows)
            measured.append(networks.score(task.network, variables, now).loss)
    curve = found.curves["validation_loss"][0]
    np.testing.assert_allclose(curve, measured, rtol=1e-4)
    assert found.final["validation_loss"][0] == pytest.approx(np.mean(measured), 1e-4)
    still = train(task)
    assert not np.allclose(curve, still.curves["validation_loss"][0], rtol=1e-3)


def by_hand(data, what, phase):
    """The rows of a phase: after the first one their order is drawn anew."""
    size = 3 if what == "labels" else 4
    key = jax.random.fold_in(jax.random.key(0), phase)
    order = np.asarray(jax.random.permutation(key, size)) if phase else np.arange(size)
    if what == "labels":
        return data.inputs, order[np.asarray(data.targets)]
    return data.inputs[:, order], data.targets


@pytest.mark.parametrize(
    ("module", "backend", "mode"),
    [
        (Convolution(), "cpu", "stepped"),
        (Convolution(), "gpu", "vmapped"),
        (models.MLP(2, (8,)), "cpu", "vmapped"),
        (models.MLP(2, (256, 256)), "cpu", "compiled"),
        (models.MLP(2, (256, 256)), "tpu", "vmapped"),
    ],
)
def test_how_runs_are_advanced_follows_from_program_and_platform(
    module, backend, mode, monkeypatch
):
    network, inputs = models.network(module), jnp.ones((2, 5, 4))
    variables = network.init(jax.random.key(0), inputs)

    def loss(params, statistics, batch, key, step):
        logits, _ = network.train({"params": params}, batch, key)
        return jnp.sum(logits), statistics

    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    given = (variables["params"], {}, inputs, jax.random.key(0))
    assert training.mode(loss, *given) == mode


class Noisy(nnx.Module):
    """An NNX network with dropout and running statistics."""

    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dense = nnx.Linear(4, 3, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, inputs):
        return self.dense(self.dropout(self.norm(inputs)))


def test_an_nnx_module_trains_and_resumes(task, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    splits = {name: getattr(task, name) for name in ("train", "validation", "test")}
    other = networks.make_task(SimpleNamespace(name="blobs", **splits), Noisy)

    def interrupt(done, total):
        if done == 10:
            raise KeyboardInterrupt

    whole, file = train(other), tmp_path / "state.npz"
    with pytest.raises(KeyboardInterrupt):
        train(other, checkpoint=file, progress=interrupt)
    assert_same(train(other, checkpoint=file), whole)
    assert np.all(whole.curves["train_loss"][:, -1] < whole.curves["train_loss"][:, 0])
    variables = whole.variables[0]
    own = other.network.apply(variables, task.test.inputs)
    by_hand = task.test.inputs - variables["state"]["norm"]["mean"]
    by_hand /= np.sqrt(variables["state"]["norm"]["var"] + 1e-5)
    params = variables["params"]
    by_hand = by_hand * params["norm"]["scale"] + params["norm"]["bias"]
    by_hand = by_hand @ params["dense"]["kernel"] + params["dense"]["bias"]
    np.testing.assert_allclose(own, by_hand, rtol=1e-4, atol=1e-5)


def test_augmented_inputs_are_what_is_trained_on(task):
    history = train(task, augment=lambda key, inputs: 0.0 * inputs)
    plain = networks.score(
        task.network,
        history.variables[0],
        data.Split(0.0 * task.train.inputs, task.train.targets),
    )
    assert np.all(history.curves["train_batch_loss"][:, 0] > 0.9)
    assert np.isfinite(plain.loss)


def test_a_minibatch_larger_than_the_data_is_an_error(task):
    with pytest.raises(ValueError, match=r"batch_size: expected at most 44.*got 50"):
        train(task, batch_size=50)


def test_a_dataset_with_missing_targets_is_rejected():
    broken = SimpleNamespace(inputs=np.zeros((3, 2)), targets=np.zeros(2, np.int32))
    splits = {"train": make_data(), "validation": broken, "test": make_data()}
    with pytest.raises(ValueError, match=r"dataset\.validation: .* got 3 and 2"):
        networks.make_task(SimpleNamespace(name="broken", **splits), Net())
