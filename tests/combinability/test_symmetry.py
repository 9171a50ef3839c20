"""What inference returns: certification, pins, the table, errors, rules of users."""

import copy
import itertools
import pathlib
import pickle
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import Primitive

import combinability
from combinability.symmetry import CertificationError, carriers, observe, unify
from combinability.symmetry.rules import RULES


def mlp(variables, x):
    return jnp.tanh(x @ variables["in"] + variables["bias"]) @ variables["out"]


def weights(*shapes, seed=0):
    generator = np.random.default_rng(seed)
    return [jnp.asarray(generator.normal(size=s), jnp.float32) for s in shapes]


@pytest.fixture
def variables():
    return dict(zip(("in", "bias", "out"), weights((3, 5), (5,), (5, 2)), strict=True))


X = jnp.ones((4, 3))


@pytest.fixture
def a_wrong_rule(monkeypatch):
    """A rule that lets a reversed axis pass as if its order did not matter."""
    monkeypatch.setitem(RULES, "rev", lambda walk, equation, x: [x])


def test_a_permutation_that_makes_outputs_nan_is_no_symmetry(a_wrong_rule):
    """The logarithm is of a sum of neighbours' signs: for some orders it is NaN."""

    def network(variables, x):
        hidden = jnp.sign(x @ variables["in"])
        total = jnp.einsum("bu,bu->b", hidden + 2, hidden[:, ::-1])
        return 0 * jnp.log(total + 0.5) + (hidden @ variables["out"])[:, 0]

    messages = []
    for units in range(4, 10):
        shapes = {"in": struct((1, units), float), "out": struct((units, 1), float)}
        try:
            combinability.infer_symmetry(network, shapes, struct((1, 1), float))
        except CertificationError as error:
            messages.append(str(error))
    assert messages
    assert all("changes the outputs by inf" in message for message in messages)


def test_certification_catches_a_wrong_rule(variables, a_wrong_rule):
    def reversed_units(variables, x):
        hidden = jnp.tanh(x @ variables["in"])
        return (hidden + hidden[:, ::-1]) @ variables["out"]

    found = combinability.infer_symmetry(reversed_units, variables, X, certify=False)
    assert found.groups
    with pytest.raises(CertificationError, match="changes the outputs"):
        combinability.infer_symmetry(reversed_units, variables, X)


MIXED = {
    "order": lambda h: jnp.cumsum(h, -1),
    # Any shift of the units shifts the result, and a random order is often a shift.
    "shift": lambda h: h * h[:, np.arange(1, h.shape[1] + 1) % h.shape[1]] ** 2,
}


@pytest.mark.parametrize(
    ("mixed", "units"), [("order", 2), ("order", 3), ("shift", 3), ("shift", 4)]
)
def test_certification_leaves_no_permutation_of_few_units_untried(
    monkeypatch, mixed, units
):
    for primitive in ("cumsum", "gather"):
        monkeypatch.setitem(RULES, primitive, lambda walk, equation, x, *_: [x])

    def network(v, x):
        return jnp.tanh(MIXED[mixed](x @ v["in"])) @ v["out"]

    for size in range(1, 5):
        v = {"in": struct((size, units), float), "out": struct((units, 2), float)}
        x = struct((3, size), float)
        assert combinability.infer_symmetry(network, v, x, certify=False).groups
        with pytest.raises(CertificationError, match="changes the outputs"):
            combinability.infer_symmetry(network, v, x)


def test_outputs_that_are_not_finite_cannot_be_certified(variables):
    def infinite(variables, x):
        return mlp(variables, x) / 0.0

    with pytest.raises(CertificationError, match="not finite"):
        combinability.infer_symmetry(infinite, variables, X)


def test_the_function_is_compared_in_float64_whatever_its_dtype(variables):
    def low_precision(variables, x):
        low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables)
        return mlp(low, x.astype(jnp.bfloat16))

    symmetry = combinability.infer_symmetry(low_precision, variables, X)
    assert [group.size for group in symmetry.groups.values()] == [5]


def sizes(symmetry):
    return sorted(group.size for group in symmetry.groups.values())


EMBED, HEADS, WIDTH = 6, 2, 3


def attention(variables, tokens, mask=None):
    """Token ids (batch, time); two heads; True where a position may be looked at."""
    x = variables["table"][tokens]
    query, key, value = (
        jnp.einsum("btf,fhd->bthd", x, variables[name]) for name in "qkv"
    )
    logits = jnp.einsum("bthd,bshd->bhts", query, key)
    if mask is not None:
        logits = jnp.where(mask[:, None, None], logits, -1e9)
    mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(logits), value)
    return jnp.einsum("bthd,hdo->bto", mixed, variables["out"])


def masked_by_length(variables, tokens, lengths):
    return attention(variables, tokens, jnp.arange(5) < lengths[:, None])


def struct(shape, dtype):
    return jax.ShapeDtypeStruct(shape, dtype)


TOKENS, MASK = struct((2, 5), jnp.int32), struct((2, 5), jnp.bool_)


@pytest.mark.parametrize(
    ("apply", "inputs"),
    [
        (attention, [jnp.zeros((2, 5), jnp.int32)]),
        (attention, [TOKENS]),
        (attention, [struct((2, 5), jnp.uint8), MASK]),
        (attention, [jnp.zeros((2, 5), jnp.int32), jnp.zeros((2, 5), bool)]),
        (attention, [jnp.ones((2, 5), jnp.int32), jnp.ones((2, 5), bool)]),
        (masked_by_length, [TOKENS, struct((2,), jnp.int32)]),
        (masked_by_length, [TOKENS, jnp.zeros(2, jnp.int32)]),
    ],
)
def test_the_groups_do_not_depend_on_the_values_of_inputs(apply, inputs):
    """Queries and keys matter although all example tokens are the same."""
    shapes = [(4, EMBED), *[(EMBED, HEADS, WIDTH)] * 3, (HEADS, WIDTH, 2)]
    variables = dict(zip(("table", *"qkv", "out"), weights(*shapes), strict=True))
    found = combinability.infer_symmetry(apply, variables, *inputs)
    assert sizes(found) == [HEADS, WIDTH, WIDTH, EMBED]


def test_variances_may_be_given_by_their_shapes(variables):
    """A matrix of variances has to be positive, for the logarithm to be finite.

    Its rows are a set: their logarithms are added up, in any order.
    """

    def network(variables, x):
        return mlp(variables, x) * jnp.log(variables["scales"]).sum(0)

    shapes = jax.eval_shape(lambda: variables | {"scales": jnp.ones((3, 2))})
    assert sizes(combinability.infer_symmetry(network, shapes, X)) == [3, 5]


def noisy(variables, x, key):
    return mlp(variables, x + jax.random.normal(key, x.shape))


def written(variables, x):
    return mlp(variables, x).at[0].add(1.0)


def scaled(variables, x, scale):
    return mlp(variables, x) * scale * variables["factor"] + variables["count"]


def called_back(variables, x):
    hidden = jnp.tanh(x @ variables["in"] + variables["bias"])
    jax.debug.print("{}", hidden)
    total = struct((4, 1), jnp.float32)
    root = jax.pure_callback(lambda h: np.cbrt(h), total, hidden.sum(1, keepdims=True))
    return (hidden * root) @ variables["out"]


def stored(variables, x):
    def step(i, rows):
        return rows.at[i].set(mlp(variables, x[i]))

    return jax.lax.fori_loop(0, 4, step, jnp.zeros((4, 2), x.dtype))


@pytest.mark.parametrize(
    ("apply", "more", "inputs"),
    [
        (noisy, {}, [jax.random.key(0)]),
        (noisy, {}, [jax.random.PRNGKey(0)]),
        (noisy, {}, [jax.eval_shape(lambda: jax.random.key(0))]),
        (noisy, {}, [jax.random.key(0, impl="rbg")]),
        (written, {}, []),
        (scaled, {"factor": 2.0, "count": 3}, [0.5]),
        (scaled, {"factor": np.float64(2), "count": np.int8(3)}, [np.float32(1)]),
        (scaled, {"factor": jnp.bfloat16(2), "count": True}, [1]),
        (called_back, {}, []),
        (stored, {}, []),
    ],
)
def test_whatever_is_inside_a_network_does_not_disturb_certification(
    apply, more, inputs, variables
):
    found = combinability.infer_symmetry(apply, variables | more, X, *inputs)
    assert sizes(found) == [5]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn"])
def test_random_numbers_are_drawn_in_the_type_that_the_program_says(dtype, variables):
    def network(variables, x, key):
        noise = jax.random.uniform(key, (4, 1), jnp.bfloat16).astype(dtype)
        return mlp(variables, x) * noise.astype(jnp.float32)

    key = jax.random.key(0)
    assert sizes(combinability.infer_symmetry(network, variables, X, key)) == [5]


def test_an_array_without_entries_has_no_groups_and_does_no_harm(variables):
    empty = combinability.infer_symmetry(mlp, variables, X[:0])
    assert not empty.groups
    kernel = {"kernel": jnp.ones((3, 3, 2, 4))}

    def convolved(variables, x):
        return jax.lax.conv_general_dilated(
            x,
            variables["kernel"],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    assert not combinability.infer_symmetry(
        convolved, kernel, jnp.ones((0, 4, 4, 2))
    ).groups


def test_masked_outputs_may_be_infinite(variables):
    def masked(variables, x):
        return jnp.where(jnp.arange(2) > 0, mlp(variables, x), -jnp.inf)

    assert sizes(combinability.infer_symmetry(masked, variables, X)) == [5]


def test_complex_variables_are_certified(variables):
    def network(variables, x):
        return jnp.abs(mlp(variables, x))

    waves = {name: (1 + 1j) * leaf for name, leaf in variables.items()}
    assert sizes(combinability.infer_symmetry(network, waves, X)) == [5]


def opaque(x):
    """A primitive that can be traced and has no compiled form."""
    primitive = Primitive("opaque_for_a_test")
    primitive.def_abstract_eval(lambda x: x)
    return primitive.bind(x)


def test_what_cannot_be_evaluated_is_said_with_what_to_do(variables):
    from jax.experimental import io_callback

    def unknown(variables, x):
        return opaque(mlp(variables, x))

    def effectful(variables, x):
        y = mlp(variables, x)
        return io_callback(lambda y: y, struct(y.shape, y.dtype), y)

    for network, named in [(unknown, "opaque_for_a_test"), (effectful, "io_callback")]:
        with pytest.raises(CertificationError, match=f"{named}.*certify=False gives"):
            combinability.infer_symmetry(network, variables, X)
        found = combinability.infer_symmetry(network, variables, X, certify=False)
        assert sizes(found) == [5]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h: h * jax.random.bernoulli(jax.random.key(0), 0.5, h.shape), "random"),
        (lambda h: jnp.real(jnp.fft.fft(h)) + jnp.imag(jnp.fft.fft(h)), "Fourier"),
        (lambda h: jnp.cumsum(h, -1), "cumulative sum"),
        (lambda h: h + jnp.argmax(h, -1)[:, None], "positions"),
        (lambda h: h + jnp.arange(5), "position numbers"),
        (
            lambda h: jax.pure_callback(lambda h: h, struct(h.shape, h.dtype), h),
            "Python callback",
        ),
        (lambda h: jnp.linalg.qr(h[:, :4])[0] @ jnp.ones((4, 5)), "decomposition"),
        (lambda h: h.at[:, 2].set(0.0), "index picks where"),
    ],
)
def test_reasons_say_what_happens_in_the_network(change, reason, variables):
    def network(variables, x):
        return change(jnp.tanh(x @ variables["in"])) @ variables["out"]

    found = combinability.infer_symmetry(network, variables, X)
    pinned = {pin.reason for pin in found.pins if (pin.path, pin.axis) == ("in", 1)}
    assert any(reason in each for each in pinned), pinned


def test_equal_calls_give_equal_groups():
    """What a group lies within is in the same order, pinned or not."""

    def network(variables, x):
        h = jnp.einsum("bi,mgiu->bmgu", x, variables["in"])
        return jnp.einsum("bmgu,mguo->bmgo", jnp.tanh(h), variables["out"])

    shapes = {"in": struct((2, 3, 3, 5), float), "out": struct((2, 3, 5, 2), float)}
    found = [
        combinability.infer_symmetry(network, shapes, X, certify=False)
        for _ in range(10)
    ]
    assert found[0].groups["in:3"].within == ("in:0", "in:1")
    for each in found[1:]:
        assert each.groups == found[0].groups
        assert each.blocks == found[0].blocks


def codebook(v, x):
    z = x @ v["in"]
    nearest = jnp.argmin(((z[:, None] - v["set"]) ** 2).sum(-1), -1)
    return v["set"][nearest] @ v["out"]


def slots(v, x):
    key, value, slot = x @ v["key"], x @ v["value"], v["set"]
    for _ in range(2):
        weight = jax.nn.softmax((slot @ v["query"]) @ key.T, axis=0)
        slot = slot + weight / weight.sum(1, keepdims=True) @ value
    return jnp.tanh(slot @ v["out"]).sum(0)


def register_tokens(v, x):
    h = jnp.concatenate([v["set"], x @ v["in"]])
    query, key, value = (h @ v[name] for name in "qkv")
    h = h + jax.nn.softmax(query @ key.T) @ value
    return h[len(v["set"]) :].mean(0) @ v["out"]


def committee(v, x):
    return jnp.tanh(x @ v["set"].T).sum(1)


def prototypes(v, x):
    distances = ((x[:, None] - v["set"]) ** 2).sum(-1)
    return jax.nn.logsumexp(-distances, axis=1)


def maxout(v, x):
    return jnp.einsum("bi,sui->bsu", x, v["set"]).max(1) @ v["out"]


SETS = {
    codebook: {"in": (3, 4), "set": (6, 4), "out": (4, 2)},
    slots: {
        **{"key": (3, 5), "value": (3, 4), "query": (4, 5)},
        **{"set": (6, 4), "out": (4, 2)},
    },
    register_tokens: {
        **{"in": (3, 4), "set": (6, 4), "out": (4, 2)},
        **{"q": (4, 5), "k": (4, 5), "v": (4, 4)},
    },
    committee: {"set": (6, 3)},
    prototypes: {"set": (6, 3)},
    maxout: {"set": (6, 5, 3), "out": (5, 2)},
}


@pytest.mark.parametrize("apply", SETS, ids=lambda apply: apply.__name__)
def test_a_set_of_vectors_is_a_group_on_a_single_array(apply):
    """No order of it changes the function, yet what is averaged has to be matched."""
    names = SETS[apply]
    a = dict(zip(names, weights(*names.values()), strict=True))
    x = weights((8, 3), seed=1)[0]
    symmetry = combinability.infer_symmetry(apply, a, x)
    (name,) = (
        name
        for name, group in symmetry.groups.items()
        if [(axis.path, axis.axis) for axis in group.axes] == [("set", 0)]
    )
    assert symmetry.groups[name].size == 6
    order = combinability.permutations.random(jax.random.key(0), symmetry)
    b = symmetry.apply(order, a)
    np.testing.assert_allclose(apply(b, x), apply(a, x), rtol=1e-4, atol=1e-5)
    midpoint = combinability.combine(a, symmetry.apply({name: order[name]}, a), 0.5)
    assert not np.allclose(apply(midpoint, x), apply(a, x), rtol=1e-2)
    found = combinability.match(symmetry, a, b, key=jax.random.key(0))
    aligned = symmetry.apply(found.permutation, b)
    assert jax.tree.all(jax.tree.map(np.array_equal, aligned, a))


@pytest.mark.parametrize(
    ("activation", "layers"),
    [
        (jax.nn.sigmoid, 16),
        (lambda x: 1 + jnp.sin(x) / 5, 13),
        (lambda x: 1 + jnp.tanh(x) / 6, 12),
    ],
)
def test_early_layers_of_a_deep_saturating_network_have_an_effect(activation, layers):
    """Their effect is far smaller than the outputs, though larger than rounding."""

    def deep(variables, x):
        for weight in variables[:-1]:
            x = activation(x @ weight)
        return x @ variables[-1]

    variables = weights((3, 16), *[(16, 16)] * (layers - 1), (16, 2))
    assert sizes(combinability.infer_symmetry(deep, variables, X)) == [16] * layers


def test_weights_of_which_only_the_signs_count_have_an_effect(variables):
    def binary(variables, x):
        return mlp(jax.tree.map(jnp.sign, variables), x)

    assert sizes(combinability.infer_symmetry(binary, variables, X)) == [5]


@pytest.mark.parametrize(
    "cut",
    [
        lambda h: jnp.split(h, [5], axis=1),
        lambda h: jnp.split(h, 2, axis=1),
        lambda h: jnp.array_split(h, 5, axis=1),
        lambda h: [jnp.roll(h, np.int64(5), axis=1)],
    ],
    ids=["split", "halves", "array_split", "roll"],
)
def test_sizes_are_python_integers_however_an_axis_is_cut(cut):
    """`jnp.split` and `jnp.roll` may put NumPy integers into the program."""

    def heads(v, x):
        h = jnp.tanh(x @ v["in"]).reshape(-1, 3, 4)
        parts = cut(jax.nn.softmax(h, axis=-1).reshape(-1, 12))
        return [part @ v[f"out {i}"] for i, part in enumerate(parts)]

    x = struct((4, 3), float)
    parts = jax.eval_shape(cut, struct((4, 12), float))
    variables = {f"out {i}": jnp.ones((p.shape[1], 2)) for i, p in enumerate(parts)}
    symmetry = combinability.infer_symmetry(
        heads, {**variables, "in": jnp.ones((3, 12))}, x
    )
    assert symmetry.groups
    numbers = [
        symmetry.groups,
        [block._replace(labels=()) for block in symmetry.blocks],
        [(pin.axis, pin.start, pin.stop) for pin in symmetry.pins],
    ]
    assert {type(x) for x in jax.tree.leaves(numbers)} <= {int, str}


def test_certification_compiles_once_though_groups_are_pinned(variables):
    counted, lowered = Primitive("counted_for_a_test"), []
    counted.def_abstract_eval(lambda x: x)

    def lower(context, x):
        lowered.append(x)
        return [x]

    jax.interpreters.mlir.register_lowering(counted, lower)

    def network(variables, x):
        y = mlp(variables, counted.bind(x))
        return y + one_token(variables["unused"], x)

    unused = dict(zip("qkv", weights((3, 4), (3, 4), (3, 2)), strict=True))
    found = combinability.infer_symmetry(network, variables | {"unused": unused}, X)
    assert sizes(found) == [5]
    assert any("no effect" in pin.reason for pin in found.pins)
    assert len(lowered) == 1


@pytest.fixture(scope="module")
def stacked():
    """Nested groups, in a network with a leaf of keys."""

    def apply(variables, x):
        noise = jax.random.normal(variables["key"], (4, 2))
        return Stack().apply(variables["net"], x) + noise

    variables = {"net": Stack().init(jax.random.key(0), X), "key": jax.random.key(1)}
    return variables, combinability.infer_symmetry(apply, variables, X)


def test_a_symmetry_may_be_pickled(stacked):
    variables, symmetry = stacked
    again = pickle.loads(pickle.dumps(symmetry))
    assert again == symmetry
    assert str(again) == str(symmetry)
    order = combinability.permutations.random(jax.random.key(0), again)
    moved = [each.apply(order, variables) for each in (again, symmetry)]
    assert jax.tree.all(jax.tree.map(lambda x, y: (x == y).all(), *moved))
    for needs_the_program in (carriers, combinability.infer_rescaling):
        assert needs_the_program(symmetry)
        with pytest.raises(ValueError, match="it was read off, which is not pickled"):
            needs_the_program(again)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copied_symmetry_keeps_the_program(copied, stacked):
    _, symmetry = stacked
    again = copied(symmetry)
    assert again == symmetry
    assert carriers(again) == carriers(symmetry)


def one_token(v, x):
    """Attention among the tokens of a sequence of one: queries and keys are unused."""
    query, key, value = (x[:, None] @ v[name] for name in "qkv")
    logits = jnp.einsum("btd,bsd->bts", query, key)
    return (jax.nn.softmax(logits) @ value)[:, 0]


def test_units_without_an_effect_are_pinned_as_unused(variables):
    def only_one_token(variables, x):
        scores = x[:, None] @ variables["in"]
        return jax.nn.softmax(jnp.sum(scores, -1, keepdims=True), 1) + x[:, None]

    symmetry = combinability.infer_symmetry(only_one_token, {"in": variables["in"]}, X)
    assert not symmetry.groups
    assert any("no effect" in pin.reason for pin in symmetry.pins)


def test_units_that_are_0_by_chance_keep_their_group():
    def apply(variables, x):
        return jax.nn.relu(x @ variables["in"]) @ variables["out"]

    for inputs, units in itertools.product((1, 2, 3, 5), (2, 3, 4)):
        shapes = {"in": (inputs, units), "out": (units, 1)}
        variables = {n: jax.ShapeDtypeStruct(s, float) for n, s in shapes.items()}
        found = combinability.infer_symmetry(apply, variables, jnp.ones((1, inputs)))
        assert [group.size for group in found.groups.values()] == [units]


def test_every_axis_is_a_group_or_pinned_with_a_reason(variables):
    symmetry = combinability.infer_symmetry(mlp, variables, X)
    named = {(a.path, a.axis) for g in symmetry.groups.values() for a in g.axes}
    pinned = {(p.path, p.axis): p.reason for p in symmetry.pins}
    axes = {(f.path, i) for f in symmetry.leaves for i in range(len(f.shape))}
    assert named | pinned.keys() == axes
    assert "input" in pinned["in", 0]
    assert "output" in pinned["out", 1]


def test_the_table_shows_groups_inputs_and_reasons(variables):
    text = str(combinability.infer_symmetry(mlp, variables, X))
    assert text.splitlines()[0] == "1 groups, 5 units, for inputs of float32[4, 3]"
    for shown in ("bias:0", "in:1", "out:0", "an input of the function: in:0"):
        assert shown in text


def test_shapes_are_enough_to_infer_from(variables):
    shapes = jax.eval_shape(lambda: variables)
    x = jax.ShapeDtypeStruct(X.shape, X.dtype)
    symmetry = combinability.infer_symmetry(mlp, shapes, x)
    assert symmetry.groups == combinability.infer_symmetry(mlp, variables, X).groups


def test_integers_and_keys_are_never_permuted(variables):
    def masked(variables, x):
        noise = 0 * jax.random.normal(variables["key"], (5,))
        hidden = jnp.tanh(x @ variables["in"]) * variables["mask"] + noise
        return hidden @ variables["out"]

    extra = {"mask": jnp.arange(5), "key": jax.random.key(0)}
    symmetry = combinability.infer_symmetry(masked, variables | extra, X)
    assert not symmetry.groups


def test_a_rule_of_the_users_own_is_followed(variables):
    double = Primitive("double_for_a_test")
    double.def_impl(lambda x: 2 * x)
    double.def_abstract_eval(lambda x: x)
    jax.interpreters.mlir.register_lowering(
        double, jax.interpreters.mlir.lower_fun(lambda x: 2 * x, multiple_results=False)
    )

    def network(variables, x):
        return double.bind(x @ variables["in"]) @ variables["out"]

    without = combinability.infer_symmetry(network, variables, X)
    assert not without.groups
    assert any("double_for_a_test" in pin.reason for pin in without.pins)

    @combinability.register_rule("double_for_a_test")
    def rule(walk, equation, x):
        return [[unify(label, label) for label in x]]

    try:
        assert combinability.infer_symmetry(network, variables, X).groups
    finally:
        del RULES["double_for_a_test"]


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + nn.Dense(3)(nn.relu(nn.Dense(5)(x))), None


class Stack(nn.Module):
    @nn.compact
    def __call__(self, x):
        layers = nn.scan(
            Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=4
        )
        return nn.Dense(2)(layers()(nn.Dense(3)(x), None)[0])


def test_values_inside_a_scan_are_observed_stacked_with_their_group():
    variables = Stack().init(jax.random.key(0), X)
    symmetry = combinability.infer_symmetry(Stack().apply, variables, X)
    hidden = next(name for name, group in symmetry.groups.items() if group.within)
    assert symmetry.groups[hidden].blocks == (4,)
    values = observe(symmetry, variables, X)
    found = [
        value
        for carrier, value in zip(carriers(symmetry), values, strict=True)
        if hidden in carrier.block.labels
    ]
    assert [value.shape for value in found] == [(4, 4, 5)]
    permutation = {hidden: jnp.stack([jnp.roll(jnp.arange(5), i) for i in range(4)])}
    moved = observe(symmetry, symmetry.apply(permutation, variables), X)
    for carrier, before, after in zip(carriers(symmetry), values, moved, strict=True):
        if hidden in carrier.block.labels:
            expected = jnp.stack([jnp.roll(before[i], i, -1) for i in range(4)])
            np.testing.assert_allclose(after, expected, rtol=1e-6)


def test_apply_may_be_traced_and_mapped_over_permutations(variables):
    symmetry = combinability.infer_symmetry(mlp, variables, X)
    orders = jnp.stack([jnp.roll(jnp.arange(5), i) for i in range(3)])

    @jax.jit
    @jax.vmap
    def outputs(order):
        return mlp(symmetry.apply({"in": order}, variables), X)

    for one in outputs(orders):
        np.testing.assert_allclose(one, mlp(variables, X), rtol=1e-5)


WRONG = {
    "no leaves": (lambda s, v: combinability.infer_symmetry(mlp, {}, X), "variables"),
    "unknown group": (lambda s, v: s.apply({"hidden": jnp.arange(5)}, v), "no group"),
    "wrong shape": (lambda s, v: s.apply({"in": jnp.arange(4)}, v), r"shape \(5,\)"),
    "wrong dtype": (lambda s, v: s.apply({"in": jnp.ones(5)}, v), "float32"),
    "other leaf": (lambda s, v: s.apply({}, {**v, "aa": v["in"]}), "'aa'"),
    "missing leaf": (lambda s, v: s.apply({}, {"bias": v["bias"]}), "no leaf 'in'"),
    "other size": (lambda s, v: s.apply({}, {**v, "in": v["out"]}), r"\(3, 5\)"),
    "other input": (lambda s, v: observe(s, v, X[:2]), "inputs: expected shape"),
    "no input": (lambda s, v: observe(s, v), "inputs: it has no leaf '0'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_rejected_by_name(case, variables):
    call, message = WRONG[case]
    symmetry = combinability.infer_symmetry(mlp, variables, X, certify=False)
    with pytest.raises(ValueError, match=message):
        call(symmetry, variables)


def test_a_rule_needs_the_names_of_primitives():
    with pytest.raises(TypeError, match="names of primitives"):
        combinability.register_rule(lambda walk, equation: [])


def test_the_printed_table_of_the_guide_is_true():
    from benchmarks.models import ResNet

    guide = pathlib.Path(combinability.__file__).with_name("README.md").read_text()
    shown = re.search(r"<!-- table -->\n```text\n(.*?)\n```", guide, re.DOTALL)
    network, x = ResNet(10, depth=8, norm="layer"), jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(network.init, jax.random.key(0), x)
    symmetry = combinability.infer_symmetry(network.apply, variables, x, certify=False)
    assert shown is not None
    assert shown[1] == str(symmetry)


class Attentive(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(3, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, use_running_average=True, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 6, decode=False, rngs=rngs)
        self.drop = nnx.Dropout(0.5, deterministic=True, rngs=rngs)
        self.last = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x, scale):
        x = self.norm(nnx.relu(self.first(x)))
        return self.last(x + self.drop(self.attention(x))) * scale


def test_an_nnx_module_takes_the_place_of_apply():
    module, x = Attentive(nnx.Rngs(0)), jnp.ones((1, 4, 3))
    graph, state = nnx.split(module)
    expected = combinability.infer_symmetry(
        lambda v, *inputs: nnx.merge(graph, v)(*inputs), state, x, 2.0
    )
    found = combinability.infer_symmetry(module, state, x, 2.0)
    assert found.groups == expected.groups
    axes = [axis.path for group in found.groups.values() for axis in group.axes]
    assert any("norm/mean" in path for path in axes)
    shapes = jax.eval_shape(lambda: nnx.state(Attentive(nnx.Rngs(0))))
    assert combinability.infer_symmetry(module, shapes, x, 2.0).groups == found.groups


def test_what_a_part_of_the_state_lacks_is_constant():
    module, x = Attentive(nnx.Rngs(0)), jnp.ones((1, 4, 3))
    params = nnx.state(module, nnx.Param)
    found = combinability.infer_symmetry(module, params, x, 2.0)
    whole = combinability.infer_symmetry(module, nnx.state(module), x, 2.0)
    assert found.groups.keys() == whole.groups.keys()
    module.norm.mean[...] = jnp.arange(6.0)  # tells its channels apart
    found = combinability.infer_symmetry(module, params, x, 2.0)
    assert len(found.groups) == len(whole.groups) - 1
