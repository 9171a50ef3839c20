"""Stitching layers trained on the task."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from scipy.optimize import minimize

import rllc
import stitching
from stitching import Cut, layers, targets
from stitching.training import _step
from tests.stitching.networks import (
    AnySize,
    Compact,
    Residual,
    images,
    scattered,
    vectors,
)
from tests.stitching.test_compilations import compilations

SAMPLES = 48
KEY = jax.random.key(7)
SGD = optax.sgd(0.2)
ADAM = optax.adam(0.05)
CONVOLUTIONS = nn.Sequential(
    [nn.Conv(4, (3, 3)), nn.relu, nn.Conv(3, (3, 3)), lambda y: y.mean(axis=(1, 2))]
)


def variables(module, x, seed):
    """Some network's, the same in each test."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    scale = jnp.asarray(1 + 0.2 * seed)
    return jax.tree.map(lambda leaf: scale * leaf, scattered(shapes))


@functools.cache
def pair(name):
    """Two networks, stitched, with their variables and samples."""
    dtype = jnp.result_type(float)
    if name == "mlp":
        modules, paths, width = (Compact(9), Compact(7)), ("Dense_0", "Dense_0"), 7
        x = vectors(SAMPLES).astype(dtype)
    else:
        network, *paths = {
            "conv": (CONVOLUTIONS, "layers_0", "layers_0"),
            "norm": (Residual(), "first", "first"),
            "beside": (Residual(), "stem", "first/dense"),
        }[name]
        modules, width = (network, network), 4
        x = images(8).astype(dtype)
    halves = [stitching.cut(*each, x[:1]) for each in zip(modules, paths, strict=True)]
    stitched = stitching.stitch(halves[0], layers.Affine(width), halves[1])
    a, b = (variables(module, x, seed) for seed, module in enumerate(modules))
    a, b = jax.tree.map(lambda leaf: leaf.astype(dtype), (a, b))
    return stitched, a, b, x, targets.hard(jnp.arange(len(x)) % 3)


@pytest.fixture(scope="module")
def mlp():
    return pair("mlp")


def train(given, optimizer=ADAM, steps=30, batch_size=16, key=KEY, **options):
    return stitching.train(
        *given, optimizer, key=key, steps=steps, batch_size=batch_size, **options
    )


def close(one, other, rtol=1e-5, atol=1e-6):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), one, other
    )


def by_hand(given, initial, optimizer, steps):
    """Full gradients of the whole composed network, one step after another."""
    stitched, a, b, x, target = given

    @jax.jit
    def advance(params, state):
        def loss(params):
            inner = stitched.cut_1.front(a, x)
            mapped = stitched.layer.apply({"params": params}, inner)
            beside = () if stitched.cut_2.is_bottleneck else (x,)
            logits = stitched.cut_2.back(b, mapped, *beside)
            return optax.softmax_cross_entropy_with_integer_labels(
                logits, target.values
            ).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state, value

    optimizer = optax.with_extra_args_support(optimizer)
    params = initial["params"]
    state, losses = optimizer.init(params), []
    for _ in range(steps):
        params, state, value = advance(params, state)
        losses.append(value)
    return params, losses


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("mlp", SGD),
        ("mlp", optax.adam(optax.cosine_decay_schedule(0.1, 8))),
        ("mlp", optax.polyak_sgd(0.3)),
        ("mlp", optax.MultiSteps(SGD, 2)),
        ("mlp", rllc.rllc(0.1)),
        ("conv", SGD),
        ("norm", SGD),
        ("beside", SGD),
    ],
    ids=[
        "SGD",
        "a schedule",
        "Polyak",
        "steps of two",
        "rllc",
        "convolutions",
        "BatchNorm",
        "beside",
    ],
)
def test_full_batches_are_gradient_descent_on_the_composed_network(name, optimizer):
    with jax.enable_x64(True):
        given = pair.__wrapped__(name)
        stitched, a, _, x, _ = given
        initial = stitched.init(KEY, a, x[:1])
        found = train(given, optimizer, 8, len(x), initial=initial)
        params, losses = by_hand(given, initial, optimizer, 8)
    close(found.variables["params"], params, rtol=1e-10, atol=1e-12)
    close(found.losses, np.array(losses), rtol=1e-10)
    assert losses[-1] < losses[0]


@pytest.mark.usefixtures("x64")
def test_a_linear_back_leads_to_the_convex_optimum():
    """Front and back that do nothing: multinomial logistic regression."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 4))
    labels = (x @ rng.normal(size=(4, 3)) + 2 * rng.normal(size=(60, 3))).argmax(axis=1)
    nothing = Cut(lambda _, x: x, lambda _, activation: activation)
    given = (
        stitching.stitch(nothing, layers.Affine(3), nothing),
        {},
        {},
        jnp.asarray(x),
        targets.hard(labels),
    )
    found = train(given, optax.lbfgs(), steps=60, batch_size=60)

    def objective(flat):
        weight, bias = flat[:12].reshape(4, 3), flat[12:]
        logits = x @ weight + bias
        logits = logits - logits.max(axis=1, keepdims=True)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        pull = (np.exp(logs) - np.eye(3)[labels]) / 60
        value = -logs[np.arange(60), labels].mean()
        return value, np.concatenate([(x.T @ pull).ravel(), pull.sum(axis=0)])

    best = minimize(objective, np.zeros(15), jac=True, options={"gtol": 1e-10})
    assert found.losses[-1] == pytest.approx(best.fun, abs=1e-9)
    assert found.losses[0] > best.fun + 0.1
    logits = np.asarray(found.fit(x))
    expected = x @ best.x[:12].reshape(4, 3) + best.x[12:]
    centred = [z - z.mean(axis=1, keepdims=True) for z in (logits, expected)]
    np.testing.assert_allclose(*centred, atol=1e-3)


def test_a_python_loop_takes_the_steps_of_the_compiled_one(mlp, monkeypatch):
    compiled = train(mlp)
    monkeypatch.setattr(_step, "loops_in_python", lambda *_: True)
    close(compiled[:3], train(mlp)[:3])


@pytest.mark.optimized
def test_segments_and_repetition_change_no_bit(mlp):
    whole = train(mlp)
    parts = train(mlp, record=(3, 4), progress=lambda *_: None)
    for other in (train(mlp), parts):
        jax.tree.map(np.testing.assert_array_equal, whole[:3], other[:3])


def test_an_equal_call_traces_and_compiles_nothing(mlp):
    stitched, a, b, x, target = mlp
    traces = []

    def counted(function):
        def traced(*arguments):
            traces.append(function)
            return function(*arguments)

        return traced

    halves = [
        Cut(*map(counted, (c.front, c.back))) for c in (stitched.cut_1, stitched.cut_2)
    ]

    def call(steps):
        joined = stitching.stitch(halves[0], layers.Affine(7), halves[1])
        labels = targets.hard(np.array(target.values))
        return train((joined, a, b, x + 1, labels), steps=steps, record=(2,))

    call(30)
    before = len(traces)
    assert before < 12
    with compilations() as compiled:
        call(30)
        call(17)  # a number of steps is no shape
    assert len(traces) == before
    assert not compiled


def network(kind):
    """A loss of parameters, whose convolution is somewhere inside."""
    kernel = jnp.ones((3, 1, 1))

    def convolution(x):
        return jnp.tanh(jax.lax.conv(x[None, None], kernel.T, (1,), "SAME"))[0, 0]

    return {
        "plain": convolution,
        "jit": jax.jit(convolution),
        "remat": jax.checkpoint(convolution),
        "scan": lambda x: jax.lax.scan(lambda x, _: (convolution(x), None), x, None, 2)[
            0
        ],
        "cond": lambda x: jax.lax.cond(x[0] > 0, convolution, jnp.tanh, x),
        "none": lambda x: jnp.tanh(x @ jnp.eye(4)),
    }[kind]


@pytest.mark.parametrize("kind", ["plain", "jit", "remat", "scan", "cond", "none"])
def test_convolutions_on_a_cpu_are_looped_over_from_python(kind):
    jaxpr = jax.make_jaxpr(jax.grad(lambda x: network(kind)(x).sum()))(jnp.ones(4))
    assert _step.slow_in_loops("cpu", jaxpr) == (kind != "none")
    assert not _step.slow_in_loops("gpu", jaxpr)
    assert not _step.slow_in_loops("tpu", jaxpr)


@pytest.mark.parametrize("name", ["conv", "mlp"])
def test_how_steps_are_taken_follows_from_the_program(name, monkeypatch):
    loops = []
    original = _step.slow_in_loops

    def slow(platform, jaxpr):
        loops.append(original(platform, jaxpr))
        return loops[-1]

    monkeypatch.setattr(_step, "slow_in_loops", slow)
    train(pair(name), steps=2, batch_size=8)
    assert set(loops) == {name == "conv"}


@pytest.mark.parametrize("path", ["first", "mid"])
@pytest.mark.parametrize(
    ("example", "size"), [((5,), (9,)), ((5,), (3,)), ((4, 4), (6, 3))], ids=str
)
def test_a_stitched_network_takes_other_sizes_than_the_example(path, example, size):
    """Sequences of other lengths and maps of other sizes, as of those of a cut at x."""
    generator = np.random.default_rng(0)
    example = jnp.ones((2, *example, 4))
    x = jnp.asarray(generator.normal(size=(12, *size, 4)), jnp.float32)
    a, b = (variables(AnySize(), x, seed) for seed in (1, 2))
    target = targets.hard(jnp.arange(12) % 3)
    layer = layers.Affine(8 if path == "first" else 6)
    found, outputs = [], []
    for shown in (example, x):
        halves = stitching.cut(AnySize(), path, shown)
        assert halves.is_bottleneck
        stitched = stitching.stitch(halves, layer, halves)
        initial = stitched.init(KEY, a, x)
        outputs.append(stitched.apply(initial, a, b, x))
        inner = halves.front(a, x)
        for options in ({"keep": True}, {"keep": False}, {"activation": inner}):
            given = stitched, a, b, x, target
            found.append(train(given, steps=5, batch_size=4, **options)[:3])
    close(*outputs)
    for one in found[1:]:
        close(one, found[0])


def test_stitches_side_by_side_take_other_sizes_than_the_example():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(12, 9, 4)), jnp.float32)
    a, b = (variables(AnySize(), x, seed) for seed in (1, 2))
    halves = stitching.cut(AnySize(), "mid", x[:, :5])
    stitched = stitching.stitch(halves, layers.Affine(6), halves)
    given = stitched, a, b, x, targets.hard(jnp.arange(12) % 3)
    keys = jax.random.split(KEY, 2)
    options = {"steps": 5, "batch_size": 4}
    many = stitching.train_many(*given, ADAM, key=stitching.each(keys), **options)
    for one, key in zip(many, keys, strict=True):
        close(one[:3], train(given, key=key, **options)[:3], rtol=1e-4)


def test_a_back_by_hand_gets_x_where_it_names_it():
    seen = []

    def named(variables, activation, x):
        seen.append(x.shape)
        return variables * activation

    front = lambda variables, x: x  # noqa: E731
    for back in (
        named,
        lambda variables, y: y,
        lambda variables, y, other=2: other * y,
    ):
        whole = Cut(front, back)
        stitched = stitching.stitch(whole, layers.Affine(3), whole)
        x = vectors(12)
        initial = stitched.init(KEY, 1.0, x)
        stitched.apply(initial, 1.0, 1.0, x)
        train((stitched, 1.0, 1.0, x, targets.hard(jnp.arange(12) % 3)), SGD, 2, 4)
    assert set(seen) == {(12, 5), (4, 5)}


def test_what_is_kept_is_what_would_be_computed(mlp):
    stitched, a, _, x, _ = mlp
    known = stitching.in_batches(stitched.cut_1.front, a, x, batch_size=20)
    kept = train(mlp, keep=True)
    close(kept[:3], train(mlp, keep=False)[:3])
    close(kept[:3], train(mlp, activation=known)[:3])
    host = (*mlp[:3], np.asarray(x), mlp[4])
    close(kept[:3], train(host)[:3])


@pytest.mark.parametrize(("keep", "calls"), [(True, 1), (False, 6)])
def test_the_front_runs_once_if_it_is_kept(keep, calls):
    ran = []

    def front(variables, x):
        jax.debug.callback(lambda: ran.append(1))
        return variables * x

    whole = Cut(front, lambda _, activation: activation)
    given = (stitching.stitch(whole, layers.Affine(3), whole), 2.0, None, vectors(12))
    train(
        (*given, targets.hard(jnp.arange(12) % 3)),
        SGD,
        6,
        4,
        keep=keep,
    )
    jax.effects_barrier()
    assert len(ran) == calls


def test_only_the_layer_trains_and_nothing_given_is_changed(mlp):
    stitched, a, b, x, target = mlp
    layer = layers.MaskedAffine(7, mask_init=jax.nn.initializers.constant(np.eye(9, 7)))
    stitched = stitching.stitch(stitched.cut_1, layer, stitched.cut_2)
    initial = stitched.init(KEY, a, x)
    before = jax.tree.map(np.array, (a, b, x, target, initial))
    found = train((stitched, *mlp[1:]), initial=initial)
    jax.tree.map(np.testing.assert_array_equal, (a, b, x, target, initial), before)
    np.testing.assert_array_equal(
        found.variables["fixed"]["mask"], initial["fixed"]["mask"]
    )
    changed = jax.tree.map(
        lambda a, b: bool((a != b).any()), found.variables["params"], initial["params"]
    )
    assert all(jax.tree.leaves(changed))


def test_the_result_runs_as_a_network(mlp):
    stitched, a, b, x, target = mlp
    found = train(mlp, record=(30,))
    logits = stitched.apply(found.variables, a, b, x)
    mapped = found.fit(stitched.cut_1.front(a, x))
    close(logits, stitched.cut_2.back(b, mapped))
    close(jax.tree.map(lambda leaf: leaf[0], found.recorded), found.fit)
    assert target.loss(logits, None) < 0.9 * found.losses[0]


def test_training_the_identity_between_a_network_and_itself_starts_at_its_loss():
    stitched, _, b, x, target = pair("norm")
    layer = layers.Affine(4, kernel_init=layers.identity)
    stitched = stitching.stitch(stitched.cut_2, layer, stitched.cut_2)
    found = train((stitched, b, b, x, target), SGD, 1, len(x))
    whole = Residual().apply(b, x)
    np.testing.assert_allclose(found.losses[0], target.loss(whole, None), rtol=1e-5)


CONSTRAINED = {
    "orthogonal": layers.Orthogonal(7),
    "low rank": layers.LowRank(7, rank=2),
    "masked": layers.MaskedAffine(
        7, mask_init=jax.nn.initializers.constant(np.eye(9, 7))
    ),
    "sparse": layers.Sparse(7, penalty=0.02),
    "matching": layers.Matching(7),
}


@pytest.mark.parametrize("name", CONSTRAINED)
def test_layers_stay_in_their_classes(mlp, name):
    layer = CONSTRAINED[name]
    stitched = stitching.stitch(mlp[0].cut_1, layer, mlp[0].cut_2)
    optimizer = ADAM
    if name == "sparse":
        optimizer = optax.chain(optax.sgd(0.2), layer.proximal(0.2))
    found = train((stitched, *mlp[1:]), optimizer, record=(0, 15, 30))
    weights = np.asarray(found.recorded.weight, float)
    assert np.abs(weights[-1] - weights[0]).max() > 0.01
    np.testing.assert_allclose(weights[-1], found.fit.weight, atol=1e-6)
    for weight in weights:
        if name == "orthogonal":
            np.testing.assert_allclose(weight.T @ weight, np.eye(7), atol=2e-6)
        elif name == "low rank":
            assert np.linalg.matrix_rank(weight, tol=1e-5) == 2
        elif name == "masked":
            assert (weight[np.eye(9, 7) == 0] == 0).all()
        elif name == "matching":
            assert np.isin(weight, [0, 1]).all()
            assert weight.sum() == 7
    if name == "sparse":
        assert (weights[0] != 0).all()
        assert 5 < (weights[-1] == 0).sum() < 63


def test_maps_are_recorded_after_the_steps_asked_for(mlp):
    found = train(mlp, record=(12, 0, 30))
    start = stitched_start(mlp)
    for index, steps in enumerate((12, 0, 30)):
        then = jax.tree.map(lambda leaf: leaf[index], found.recorded)  # noqa: B023
        expected = train(mlp, steps=steps).fit if steps else start
        close(then, expected)


def stitched_start(given):
    stitched, a, _, x, _ = given
    initial = stitched.init(jax.random.fold_in(KEY, 0), a, x[:1])
    return stitched.layer.fit(initial)


def test_no_step_asked_for_records_nothing(mlp):
    assert train(mlp).recorded is None


def test_a_term_of_cka_makes_activations_alike(mlp):
    stitched, a, b, x, target = mlp
    own = stitching.in_batches(stitched.cut_2.front, b, x)
    inner = stitching.in_batches(stitched.cut_1.front, a, x)

    def index(weight):
        whole = target + weight * targets.cka(own)
        found = train((stitched, a, b, x, whole), steps=60, batch_size=48)
        return stitching.similarity.cka(found.fit(inner), own)

    assert index(5.0) > index(0.0) + 0.05


def test_soft_targets_bring_outputs_near(mlp):
    stitched, a, b, x, _ = mlp
    logits = stitching.in_batches(Compact(7).apply, b, x)
    given = (stitched, a, b, x, targets.soft(logits, temperature=2.0))
    found = train(given, steps=60)
    before = stitched.init(jax.random.fold_in(KEY, 0), a, x[:1])

    def distance(variables):
        own = jax.nn.softmax(stitched.apply(variables, a, b, x))
        return jnp.abs(own - jax.nn.softmax(logits)).mean()

    assert distance(found.variables) < 0.5 * distance(before)


def test_an_epoch_sees_every_sample_once_in_an_order_of_its_own():
    rows = np.asarray(_step.minibatches(KEY, 10, 3, 9))
    epochs = rows[:9].reshape(3, 9)
    for epoch in epochs:
        assert len(set(epoch.tolist())) == 9
        assert set(epoch.tolist()) <= set(range(10))
    assert (epochs[0] != epochs[1]).any()
    # The first steps of a longer training are those of a shorter one.
    longer = _step.minibatches(KEY, 10, 3, 5000)
    np.testing.assert_array_equal(longer[:9], rows[:9])
    assert (np.asarray(longer[:5000]).max(axis=1) > 0).all()


def test_progress_is_reported_and_may_interrupt(mlp):
    told = []
    train(mlp, progress=lambda *each: told.append(each))
    done = [count for count, _ in told]
    assert done == sorted(set(done))
    assert told[-1] == (30, 30)
    assert len(told) > 1

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(mlp, progress=interrupt)


def test_a_step_computes_no_gradient_of_network_2():
    """Forwards and backwards to the activation: twice the products of a pass."""
    width = 256
    back = nn.Sequential([nn.Dense(width), nn.relu, nn.Dense(width), nn.relu])
    x = jnp.ones((64, width))
    b = back.init(KEY, x)
    halves = Cut(lambda _, x: x, back.apply)
    stitched = stitching.stitch(halves, layers.Affine(width), halves)
    params = stitched.init(KEY, None, x)["params"]
    target = targets.hard(jnp.arange(64))
    order = jnp.arange(64)[None]
    data = _step.Data({}, None, b, x, None, target, None, order)
    program = _step.Program(stitched, SGD)
    run = _step.start(program, params, data)

    def flops(function, *arguments):
        return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]

    def taken(run, data):
        return _step.step(program, run, data, 0)

    product = 2 * 64 * width * width
    assert flops(back.apply, b, x) == pytest.approx(2 * product, rel=0.05)
    # Of the layer forwards and for its weight, of the back both ways.
    assert flops(taken, run, data) == pytest.approx(6 * product, rel=0.05)


@pytest.mark.parametrize("name", ["Affine", "Orthogonal", "Matching", "Sparse"])
def test_a_stitching_layer_trains_alike_in_linen_and_nnx(mlp, name):
    layer, optimizer = getattr(layers, name), ADAM
    layer = layer(7, penalty=0.02) if name == "Sparse" else layer(7)
    if name == "Sparse":
        optimizer = optax.chain(optax.sgd(0.2), layer.proximal(0.2))
    stitched, a, _, x, _ = mlp
    linen = stitching.stitch(stitched.cut_1, layer, stitched.cut_2)
    initial = linen.init(KEY, a, x)
    module = layers.to_nnx(layer, initial)
    activation = stitched.cut_1.front(a, x)
    close(module(activation), layer.apply(initial, activation))
    expected = train((linen, *mlp[1:]), optimizer, initial=initial, record=(5,))
    joined = stitching.stitch(stitched.cut_1, module, stitched.cut_2)
    found = train((joined, *mlp[1:]), optimizer, record=(5,))
    close((found.fit, found.losses, found.recorded), expected[1:])
    if name == "Sparse":
        np.testing.assert_array_equal(found.fit.weight == 0, expected.fit.weight == 0)
        assert 5 < (found.fit.weight == 0).sum() < 63
    close(module.fit(), layer.fit(initial))  # as it was
    nnx.update(module, found.variables["params"])
    close(module.fit(), expected.fit)


def test_any_nnx_module_trains(mlp):
    stitched, _, _, _, target = mlp

    class Layer(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(9, 12, rngs=rngs)
            self.norm = nnx.BatchNorm(12, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)
            self.last = nnx.Linear(12, 7, rngs=rngs)

        def __call__(self, x):
            return self.last(nnx.relu(self.drop(self.norm(self.first(x)))))

    losses = []
    for seed in (0, 1):
        module = Layer(nnx.Rngs(seed))
        joined = stitching.stitch(stitched.cut_1, module, stitched.cut_2)
        found = train((joined, *mlp[1:]))
        assert found.fit is None
        assert (
            target.loss(joined.apply(found.variables, *mlp[1:4]), None)
            < found.losses[0]
        )
        losses.append(found.losses)
        # The rest is frozen, and equal structures do not share their arrays.
        jax.tree.map(
            np.testing.assert_array_equal,
            nnx.to_pure_dict(nnx.state(module, nnx.BatchStat)),
            nnx.to_pure_dict(nnx.state(Layer(nnx.Rngs(seed)), nnx.BatchStat)),
        )
    assert abs(losses[0][0] - losses[1][0]) > 1e-3


@pytest.mark.usefixtures("x64")
def test_a_regression_with_masks_leads_to_weighted_least_squares():
    """Front and back that do nothing, and one of two outputs."""
    rng = np.random.default_rng(3)
    x, values = rng.normal(size=(60, 4)), rng.normal(size=(60, 3))
    weights = rng.integers(3, size=60)
    whole = Cut(lambda _, x: x, lambda _, x: {"place": x, "other": x.sum(axis=1)})
    values[weights == 0] = np.nan
    target = targets.squared_error(
        values, weights=weights, pick=lambda outputs: outputs["place"]
    )
    stitched = stitching.stitch(whole, layers.Affine(3), whole)
    found = train((stitched, {}, {}, jnp.asarray(x), target), optax.lbfgs(), 40, 60)
    roots = np.sqrt(weights)[:, None]
    design = np.column_stack([x, np.ones(60)])
    best = np.linalg.lstsq(roots * design, roots * np.nan_to_num(values))[0]
    np.testing.assert_allclose(found.fit.weight, best[:4], atol=1e-6)
    np.testing.assert_allclose(found.fit.bias, best[4], atol=1e-6)


def test_a_layer_of_ones_own_trains(mlp):
    layer = nn.Sequential([nn.Dense(12), nn.relu, nn.Dense(7)])
    stitched = stitching.stitch(mlp[0].cut_1, layer, mlp[0].cut_2)
    found = train((stitched, *mlp[1:]))
    assert found.fit is None
    assert found.losses[-10:].mean() < found.losses[:3].mean()


class Weighted(nn.Module):
    """A layer with an attribute that is an array, or holds one."""

    weights: Any

    @nn.compact
    def __call__(self, x):
        return nn.Dense(7)(x * jax.tree.leaves(self.weights)[0])


@pytest.mark.optimized
@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray, lambda a: {"a": a}])
def test_layers_that_differ_in_an_array_train_differently(mlp, convert):
    stitched, *given = mlp
    ones = np.ones(9, np.float32)
    first, second, third = (
        train(
            (stitching.stitch(stitched.cut_1, layer, stitched.cut_2), *given), steps=2
        ).losses
        for layer in (Weighted(convert(scale * ones)) for scale in (1, 0.5, 0.5))
    )
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(second, third)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Dropout(0.5, deterministic=False),
        nn.BatchNorm(use_running_average=False),
    ],
)
def test_a_layer_that_is_not_deterministic_is_rejected(mlp, layer):
    stitched, *given = mlp
    layer = nn.Sequential([nn.Dense(7), layer])
    stitched = stitching.stitch(stitched.cut_1, layer, stitched.cut_2)
    with pytest.raises(ValueError, match=r"layer: .*changes.*Sequential, which does"):
        train((stitched, *given))


@pytest.mark.parametrize("batch_size", [1, 3, 4, 7, 100])
@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray])
def test_batches_together_are_the_whole(batch_size, convert):
    x = {"a": convert(np.arange(14.0).reshape(7, 2)), "b": convert(np.arange(7))}
    found = stitching.in_batches(_two, jnp.float32(3), x, batch_size=batch_size)
    jax.tree.map(np.testing.assert_array_equal, found, _two(3, x))


def _two(factor, x):
    return factor * x["a"], {"sum": x["a"].sum(axis=1) + x["b"]}
