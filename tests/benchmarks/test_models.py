"""Models: shapes, sizes counted by hand, and what must not leak."""

import functools
import itertools
import math
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from benchmarks import data, models
from benchmarks.data._published import CIFAR10
from benchmarks.models._tiny10 import convolve_by_products

KEY = jax.random.key(0)


# Random numbers are NumPy's: JAX would compile a program for each shape.


def images(shape, count=2):
    random = np.random.default_rng(0)
    return jnp.asarray(random.normal(size=(count, *shape)), jnp.float32)


def characters(count=2, length=64, classes=65):
    random = np.random.default_rng(0)
    return jnp.asarray(random.integers(0, classes, (count, length)), jnp.int32)


def variables_of(model, inputs):
    """Shapes only: nothing is compiled."""
    return jax.eval_shape(model.init, KEY, inputs)


def random_like(shapes):
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: random.normal(size=leaf.shape).astype(np.float32), shapes
    )


def parameters(model, inputs):
    leaves = jax.tree.leaves(variables_of(model, inputs)["params"])
    return sum(math.prod(leaf.shape) for leaf in leaves)


def dataset_of(kind, shape, classes):
    """A dataset of two examples, for `build`, which reads only its form."""
    text = kind == "text"
    inputs = np.zeros((2, *shape), np.int32 if text else np.float32)
    split = data.Split(inputs, np.zeros((2, *shape) if text else 2, np.int32))
    return data.Dataset(f"some {kind}", split, split, split, classes, kind)


DIGITS = dataset_of("image", (8, 8, 1), 10)
GROUP: Any = {"norm": "group"}
GREY = dataset_of("image", (28, 28, 1), 10)
COLOUR = dataset_of("image", (32, 32, 3), 100)
TEXT = dataset_of("text", (64,), 65)

IMAGE_MODELS = ("mlp", "cnn", "resnet20", "resnet20_layernorm", "vgg", "vit")


# Shapes and sizes.


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        *itertools.product(IMAGE_MODELS, [DIGITS, GREY, COLOUR]),
        ("tiny10", GREY),
        ("tiny10", COLOUR),
    ],
)
def test_every_image_model_gives_one_logit_a_class(name, dataset):
    model = models.build(name, dataset)
    inputs = jnp.asarray(dataset.train.inputs)
    variables = variables_of(model, inputs)
    for train in (False, True):
        apply = functools.partial(model.apply, train=train, mutable=["batch_stats"])
        logits, _ = jax.eval_shape(apply, variables, inputs)
        assert logits.shape == (2, dataset.classes)
        assert logits.dtype == jnp.float32


def test_the_transformer_gives_one_logit_a_character_at_every_position():
    model = models.build("transformer", TEXT)
    inputs = characters()
    variables = variables_of(model, inputs)
    assert jax.eval_shape(model.apply, variables, inputs).shape == (2, 64, 65)
    shorter = jax.eval_shape(model.apply, variables, inputs[:, :10])
    assert shorter.shape == (2, 10, 65)


def test_the_multilayer_perceptron_has_the_parameters_counted_by_hand():
    count = (784 * 64 + 64) + (64 * 64 + 64) + (64 * 10 + 10)
    assert parameters(models.build("mlp", GREY), images((28, 28, 1))) == count
    deeper = models.MLP(3, features=(5, 4, 6))
    count = (12 * 5 + 5) + (5 * 4 + 4) + (4 * 6 + 6) + (6 * 3 + 3)
    assert parameters(deeper, images((2, 2, 3))) == count


def test_the_convolutional_network_has_the_parameters_counted_by_hand():
    count = (9 * 16 + 16) + (9 * 16 * 32 + 32) + (2 * 2 * 32 * 64 + 64) + 650
    assert parameters(models.build("cnn", DIGITS), images((8, 8, 1))) == count
    count = (9 * 3 * 32 + 32) + (9 * 32 * 64 + 64) + (8 * 8 * 64 * 128 + 128)
    count += 128 * 100 + 100
    assert parameters(models.build("cnn", COLOUR), images((32, 32, 3))) == count


def resnet20_parameters(width):
    a, b, c = 16 * width, 32 * width, 64 * width
    convolutions = 9 * (3 * a + 6 * a * a + a * b + 5 * b * b + b * c + 5 * c * c)
    shortcuts = a * b + b * c
    norms = 2 * (7 * a + 6 * b + 6 * c + b + c)
    return convolutions + shortcuts + norms + 10 * c + 10


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_the_resnet_has_the_parameters_counted_by_hand(width, norm):
    model = models.ResNet(10, width=width, norm=norm)
    count = parameters(model, images((32, 32, 3)))
    assert count == resnet20_parameters(width)
    # The known size, 269,722 without projections, and what two projections add.
    if width == 1:
        assert count == 269_722 + (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("depth", [11, 13, 16, 19])
def test_vgg_has_the_parameters_counted_by_hand(depth, norm):
    more = {11: 0, 13: 1, 16: 1, 19: 1}[depth]
    deeper = {11: 2, 13: 2, 16: 3, 19: 4}[depth]
    widths = [3, *[4] * (1 + more), *[8] * (1 + more)]
    widths += [*[16] * deeper, *[32] * deeper, *[32] * deeper]
    # Eight, ten, thirteen or sixteen convolutions, and three dense layers once.
    assert len(widths) - 1 == depth - 3
    count = sum(9 * a * b + 2 * b for a, b in itertools.pairwise(widths))
    model = models.VGG(10, depth=depth, width=4, norm=norm)
    assert parameters(model, images((32, 32, 3))) == count + 32 * 10 + 10


def test_the_vision_transformer_has_the_parameters_counted_by_hand():
    attention = 4 * (64 * 64 + 64)
    perceptron = (64 * 256 + 256) + (256 * 64 + 64)
    norm = 2 * 64
    count = (4 * 4 * 3 * 64 + 64) + 8 * 8 * 64
    count += 4 * (attention + perceptron + 2 * norm) + norm + 64 * 100 + 100
    assert parameters(models.build("vit", COLOUR), images((32, 32, 3))) == count


def test_tiny10_has_the_parameters_counted_by_hand():
    pairs = [(3, 16), (16, 16), (16, 32), (32, 32), (32, 32), (32, 64), (64, 64)]
    count = sum(9 * before * after for before, after in pairs) + 64 * 64
    # A bias, a scale and a shift for each channel.
    count += 3 * (16 + 16 + 32 + 32 + 32 + 64 + 64 + 64) + 64 * 10 + 10
    assert parameters(models.Tiny10(), images((32, 32, 3))) == count


def test_the_transformer_has_the_parameters_counted_by_hand():
    attention = 4 * (64 * 64 + 64)
    perceptron = (64 * 256 + 256) + (256 * 64 + 64)
    norm = 2 * 64
    count = (65 + 64) * 64 + 2 * (attention + perceptron + 2 * norm) + norm
    count += 64 * 65 + 65
    assert parameters(models.build("transformer", TEXT), characters()) == count


# Behaviour.


@pytest.fixture(scope="module")
def transformer():
    """A small transformer as a function of characters (2, 12)."""
    model = models.CharTransformer(classes=9, width=16, heads=2, context=12)
    # Initial biases are zero, which could hide a leak: every parameter is random.
    variables = random_like(variables_of(model, characters(length=12, classes=9)))
    apply = jax.jit(model.apply)
    return lambda inputs: np.asarray(apply(variables, inputs))


@pytest.mark.parametrize("position", [1, 6, 11])
def test_a_later_character_never_changes_an_earlier_logit(transformer, position):
    inputs = characters(length=12, classes=9)
    changed = inputs.at[:, position].set((inputs[:, position] + 1) % 9)
    before, after = transformer(inputs), transformer(changed)
    np.testing.assert_array_equal(before[:, :position], after[:, :position])
    # From there on every position sees the change.
    assert (np.abs(before - after)[:, position:].max(axis=-1) > 0).all()


def test_the_transformer_knows_the_order_of_characters(transformer):
    inputs = characters(count=1, length=12, classes=9).repeat(2, axis=0)
    first, second = transformer(inputs.at[:, :2].set([[1, 2], [2, 1]]))
    assert not np.allclose(first[-1], second[-1])


def test_without_positions_the_order_of_products_does_not_matter():
    model = models.ViT(3, width=16, layers=1, heads=2)
    inputs = images((8, 12, 3))
    # Patches are 4×4: the left third goes to the right, rows of patches change places.
    moved = jnp.roll(inputs, (4, 4), axis=(1, 2))
    variables = random_like(variables_of(model, inputs))
    apply = jax.jit(model.apply)
    assert not np.allclose(apply(variables, inputs), apply(variables, moved), 0.01)
    variables["params"]["positions"] = 0 * variables["params"]["positions"]
    plain = apply(variables, inputs)
    np.testing.assert_allclose(apply(variables, moved), plain, rtol=1e-4, atol=1e-4)
    # Within a patch the order of pixels does.
    within = jnp.roll(inputs, 2, axis=1)
    assert not np.allclose(apply(variables, within), plain, 0.01)


@pytest.fixture(scope="module")
def resnet():
    """The smallest residual network, and its variables."""
    model = models.ResNet(10, depth=8)
    inputs = 3 + 2 * images((8, 8, 1), count=4)
    params = random_like(variables_of(model, inputs)["params"])
    statistics = jax.jit(lambda: model.init(KEY, inputs)["batch_stats"])()
    return model, {"params": params, "batch_stats": statistics}, inputs


def test_batch_statistics_move_only_in_training(resnet):
    model, variables, inputs = resnet
    statistics = variables["batch_stats"]
    apply = jax.jit(
        functools.partial(model.apply, mutable=["batch_stats"]),
        static_argnames="train",
    )
    _, evaluated = apply(variables, inputs, train=False)
    jax.tree.map(np.testing.assert_array_equal, statistics, evaluated["batch_stats"])
    _, trained = apply(variables, inputs, train=True)
    for path, leaf in jax.tree.leaves_with_path(trained["batch_stats"]):
        start = 0 if "mean" in jax.tree_util.keystr(path) else 1
        assert (np.asarray(leaf) != start).all(), path


def test_in_evaluation_an_image_does_not_depend_on_its_batch(resnet):
    model, variables, inputs = resnet
    apply = jax.jit(model.apply)
    together = apply(variables, inputs)
    # The same shape again, so that nothing is compiled twice.
    alone = apply(variables, inputs.at[1:].set(0))
    np.testing.assert_allclose(together[:1], alone[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", [models.ResNet, models.VGG])
def test_with_layer_normalisation_there_are_no_batch_statistics(family):
    found = variables_of(family(10, norm="layer"), images((32, 32, 3)))
    assert set(found) == {"params"}
    found = variables_of(family(10, norm="batch"), images((32, 32, 3)))
    assert set(found) == {"params", "batch_stats"}


def test_five_stages_of_vgg_halve_the_image():
    model = models.VGG(10, width=4)
    inputs = images((32, 32, 3))
    variables = variables_of(model, inputs)
    apply = functools.partial(model.apply, capture_intermediates=True)
    _, state = jax.eval_shape(apply, variables, inputs)
    last = [state["intermediates"][f"Conv_{i}"]["__call__"][0] for i in (0, 1, 3, 5, 7)]
    sizes = [(32, 32, 4), (16, 16, 8), (8, 8, 16), (4, 4, 32), (2, 2, 32)]
    assert [layer.shape[1:] for layer in last] == sizes


@pytest.mark.parametrize(("name", "width"), [("vgg", 8), ("vgg_layernorm", None)])
def test_a_vgg_is_built_as_wide_as_asked_with_its_norm(name, width):
    found = models.build(name, GREY, width=width)
    assert (found.width, found.norm) == (width or 16, "batch" if width else "layer")


def test_the_second_and_third_stage_halve_the_image():
    model = models.ResNet(10, depth=8)
    inputs = images((32, 32, 3))
    variables = variables_of(model, inputs)
    apply = functools.partial(model.apply, capture_intermediates=True)
    _, state = jax.eval_shape(apply, variables, inputs)
    blocks = [state["intermediates"][f"_Block_{i}"]["__call__"][0] for i in range(3)]
    shapes = [block.shape[1:] for block in blocks]
    assert shapes == [(32, 32, 16), (16, 16, 32), (8, 8, 64)]


def test_tiny10_reads_cifar_as_it_is_loaded():
    """The published networks were trained on inputs scaled by these numbers."""
    assert CIFAR10.mean == (0.4914, 0.4822, 0.4465)
    assert CIFAR10.deviation == (0.2023, 0.1994, 0.2010)


def test_tiny10_leaves_one_position_of_the_smallest_image():
    model, inputs = models.Tiny10(), images((27, 27, 3))
    variables = variables_of(model, inputs)
    apply = functools.partial(model.apply, capture_intermediates=True)
    _, state = jax.eval_shape(apply, variables, inputs)
    assert state["intermediates"]["conv7"]["__call__"][0].shape == (2, 1, 1, 64)


@pytest.mark.usefixtures("x64")
def test_a_convolution_by_products_is_a_convolution_and_so_are_its_gradients():
    random = np.random.default_rng(0)
    inputs, kernel = random.normal(size=(2, 4, 5, 3)), random.normal(size=(3, 2, 3, 4))

    def value_and_gradients(convolve):
        def loss(inputs, kernel):
            layer = nn.Conv(4, (3, 2), padding="VALID", conv_general_dilated=convolve)
            params = {"kernel": kernel, "bias": jnp.arange(4.0)}
            return jnp.sin(jnp.asarray(layer.apply({"params": params}, inputs))).sum()

        return jax.value_and_grad(loss, (0, 1))(inputs, kernel)

    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12),
        value_and_gradients(convolve_by_products),
        value_and_gradients(None),
    )


# What is rejected.


@pytest.mark.parametrize("name", models.NAMES)
def test_a_model_for_the_other_kind_of_data_is_rejected(name):
    dataset = DIGITS if name == "transformer" else TEXT
    with pytest.raises(ValueError, match=rf"'{name}' reads .* choose one of"):
        models.build(name, dataset)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: models.build("resnet_20", DIGITS), "did you mean 'resnet20'"),
        (lambda: models.build("cnn", DIGITS, width=8), "width: .* 'cnn' has one size"),
        (lambda: models.ResNet(10, depth=18), r"depth: expected 6n \+ 2 .* got 18"),
        (lambda: models.ResNet(10, **GROUP), "norm: expected 'batch' or 'layer'"),
        (lambda: models.VGG(10, **GROUP), "norm: expected 'batch' or 'layer'"),
        (lambda: models.VGG(10, depth=12), r"depth: expected one of \[11.* got 12"),
        (lambda: models.ViT(65, heads=5), "width: expected a multiple of heads=5"),
        (lambda: models.CharTransformer(65, heads=5), "a multiple of heads=5, got 64"),
        (
            lambda: variables_of(models.Tiny10(), images((26, 40, 3))),
            "images of 26×40, expected at least 27×27",
        ),
        (
            lambda: variables_of(models.ViT(10), images((8, 10, 3))),
            "images of 8×10, expected .* patch=4 divides",
        ),
        (
            lambda: variables_of(
                models.CharTransformer(65, context=10), characters(length=11)
            ),
            "11 characters, expected at most context=10",
        ),
    ],
)
def test_what_a_model_cannot_be_is_rejected(make, said):
    with pytest.raises(ValueError, match=said):
        make()


YOURS = """import jax
from flax import linen as nn
from flax import nnx
class Own(nn.Module):
    classes: int
    options: dict | None = None
    @nn.compact
    def __call__(self, x, train=False):
        if train: x = x + self.make_rng("noise")
        return nn.Dense(self.classes)(x.reshape(len(x), -1))
class OwnNnx(nnx.Module):
    def __init__(self, classes, options=None, *, rngs):
        if options == {}: raise RuntimeError("no options")
        self.last = nnx.Linear(64, classes, rngs=rngs)
    def __call__(self, x): return self.last(x.reshape(len(x), -1))
class Plain: pass
def wrong(classes): return Own(classes).no_such
instance, values = Own(10), {"a": 1}
"""


@pytest.fixture
def yours(tmp_path, monkeypatch):
    """Writes a module of a user's, and forgets it again."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "yours", raising=False)
    yield lambda text: (tmp_path / "yours.py").write_text(text)
    sys.modules.pop("yours", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import jax\njax.tree_map_gone", r"AttributeError: .*yours.py, line 2\)"),
        ("import not_there_either", r"No module named 'not_th.*yours.py, line 1\)"),
        ("x = 1\ndef f(:", r"SyntaxError: .*yours.py, line 2\)"),
        ("\n\nint('x')", r"ValueError: .*yours.py, line 3\)"),
        ("import json\njson.loads('x')", r"JSONDecodeError: .*yours.py, line 2\)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_its_line(yours, text, said):
    yours(text)
    with pytest.raises(ValueError, match=f"^model: 'yours' cannot be imp.*{said}"):
        models.check("yours:Net")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("Gone", {}, "^model: 'yours' has no 'Gone'"),
        ("instance", {}, "^model: expected .* to be a class .* of type Own"),
        ("values", {}, "^model: expected .* to be a class .* of type dict"),
        ("Plain", {}, "^model_options: .* expected a Linen module"),
        ("wrong", {}, r"^model_options: .*no_such.*yours.py, line 17\)"),
        ("Own", {"depth": 2}, "^model_options: .*depth"),
        ("OwnNnx", {"depth": 2}, "^model_options: .*depth"),
        ("OwnNnx", {"options": {}}, r"^model_options: .*no opt.*yours.py, line 13\)"),
        ("Own", {}, r"^model: .* cannot train on .*noise.*yours.py, line 9\)"),
    ],
)
def test_what_keeps_your_own_model_from_being_used_is_named(yours, name, options, said):
    yours(YOURS)
    with pytest.raises(ValueError, match=said):
        models.build(f"yours:{name}", DIGITS, options=options)


def test_options_of_your_own_model_may_be_nested(yours):
    yours(YOURS)
    nested = {"options": {"a": [1, {"b": 2}]}}
    made = [models.build("yours:OwnNnx", DIGITS, options=nested) for _ in range(2)]
    assert made[0] == made[1]
    assert hash(made[0]) == hash(made[1])


class NormLinen(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(not train, name="norm")(nn.Dense(6, name="hidden")(x))
        return nn.Dense(3, name="logits")(nn.relu(x))


class NormNnx(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(5, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.drop = nnx.Dropout(0.0, rngs=rngs)
        self.logits = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.logits(self.drop(nnx.relu(self.norm(self.hidden(x)))))


def test_statistics_are_reset_alike_in_linen_and_nnx():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(30, 5)), jnp.float32)
    linen, other = models.network(NormLinen()), models.network(NormNnx)
    variables = other.init(jax.random.key(0), x)
    same = {
        "params": variables["params"],
        "batch_stats": {"norm": variables["state"]["norm"]},
    }
    np.testing.assert_allclose(linen.apply(same, x), other.apply(variables, x), 1e-5)
    assert linen.has_statistics(same)
    assert other.has_statistics(variables)
    assert not models.network(nn.Dense(2)).has_statistics({"params": {}})
    reset, expected = other.reset(variables, x), linen.reset(same, x)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        reset["state"]["norm"],
        expected["batch_stats"]["norm"],
    )
    assert abs(reset["state"]["norm"]["mean"]).max() > 0.01
    # The keys of dropout are no statistics.
    jax.tree.map(
        np.testing.assert_array_equal,
        reset["state"]["drop"],
        variables["state"]["drop"],
    )


class SowsLinen(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(not train)(nn.relu(nn.Dense(6)(x)))
        self.sow("losses", "balance", (x**2).mean())
        return nn.Dense(3)(x)


class SowsNnx(NormNnx):
    def __call__(self, x):
        self.sow(nnx.Intermediate, "seen", x)
        return super().__call__(x)


@pytest.mark.filterwarnings("ignore:Using 'Module.sow")
@pytest.mark.parametrize("module", [SowsLinen(), SowsNnx])
def test_what_a_network_records_is_not_carried_from_step_to_step(module):
    network, x = models.network(module), jnp.ones((4, 5))
    variables = network.init(jax.random.key(0), x)
    shapes = jax.tree.map(jnp.shape, variables)
    for _ in range(2):
        _, rest = network.train(variables, x, jax.random.key(1))
        variables = {"params": variables["params"]} | rest
        assert jax.tree.map(jnp.shape, variables) == shapes
    assert network.has_statistics(variables)
