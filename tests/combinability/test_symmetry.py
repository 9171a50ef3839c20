"""What inference returns: certification, pins, the table, errors, rules of users."""

import pathlib
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
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
    """A rule that lets a reversed axis pass as if its order were of no matter."""
    monkeypatch.setitem(RULES, "rev", lambda walk, equation, x: [x])


def test_certification_catches_a_wrong_rule(variables, a_wrong_rule):
    def reversed_units(variables, x):
        hidden = jnp.tanh(x @ variables["in"])
        return (hidden + hidden[:, ::-1]) @ variables["out"]

    found = combinability.infer_symmetry(reversed_units, variables, X, certify=False)
    assert found.groups
    with pytest.raises(CertificationError, match="changes the outputs"):
        combinability.infer_symmetry(reversed_units, variables, X)


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


def test_units_without_an_effect_are_pinned_as_unused(variables):
    def only_one_token(variables, x):
        scores = x[:, None] @ variables["in"]
        return jax.nn.softmax(jnp.sum(scores, -1, keepdims=True), 1) + x[:, None]

    symmetry = combinability.infer_symmetry(only_one_token, {"in": variables["in"]}, X)
    assert not symmetry.groups
    assert any("no effect" in pin.reason for pin in symmetry.pins)


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
    "missing leaf": (lambda s, v: s.apply({}, {"bias": v["bias"]}), "3 leaves"),
    "other size": (lambda s, v: s.apply({}, {**v, "in": v["out"]}), r"\(3, 5\)"),
    "other input": (lambda s, v: observe(s, v, X[:2]), r"inputs\[0\]"),
    "no input": (lambda s, v: observe(s, v), "1 arrays"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_refused_by_name(case, variables):
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
