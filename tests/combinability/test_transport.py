"""Soft matching by optimal transport, and fusion."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

import combinability
from combinability import permutations
from combinability.symmetry import infer_symmetry
from tests.combinability.families import FAMILIES
from tests.combinability.specs import by_hand


def mlp(variables, x):
    hidden = jax.nn.relu(x @ variables["in"] + variables["b"])
    return jax.nn.relu(hidden @ variables["mid"]) @ variables["out"] + variables["c"]


def mlp_weights(seed, first, second):
    rng = np.random.default_rng(seed)
    shapes = {
        "in": (3, first),
        "b": (first,),
        "mid": (first, second),
        "out": (second, 2),
        "c": (2,),
    }
    return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()}


@functools.cache
def mlp_symmetry(first, second):
    variables = mlp_weights(0, first, second)
    return infer_symmetry(mlp, variables, jnp.zeros((9, 3)), certify=False)


def inputs(seed=0, count=5):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=(9, 3)), jnp.float32) for _ in range(count)]


def one_layer(units):
    """A symmetry of one group, whose scores are the inner products of columns."""
    return by_hand({"w": jnp.zeros((3, units))}, {"h": [("w", 1)]})


def layers(seed, *units):
    rng = np.random.default_rng(seed)
    return [{"w": jnp.asarray(rng.normal(size=(3, n)), jnp.float32)} for n in units]


def close(got, wanted, atol):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), got, wanted)


def scale(scores):
    return (scores.max(-1) - scores.mean(-1)).mean()


def test_two_units_each_have_the_coupling_in_closed_form():
    a, b = layers(0, 2, 2)
    scores = np.asarray(a["w"], float).T @ np.asarray(b["w"], float)
    found = combinability.soft_matching(one_layer(2), a, b, regularisation=0.7)
    epsilon = 0.7 * scale(scores)
    gain = scores[0, 0] + scores[1, 1] - scores[0, 1] - scores[1, 0]
    same = 0.5 / (1 + np.exp(-gain / (2 * epsilon)))
    wanted = [[same, 0.5 - same], [0.5 - same, same]]
    np.testing.assert_allclose(found.couplings["h"], wanted, rtol=1e-5)


@pytest.mark.parametrize(("n", "m"), [(4, 7), (7, 4), (5, 5)])
def test_the_coupling_is_a_scaling_of_the_kernel_and_near_the_best_of_all(n, m):
    """Optimal as Sinkhorn's theorem says; at ε → 0 as a linear program finds."""
    a, b = layers(1, n, m)
    scores = np.asarray(a["w"], float).T @ np.asarray(b["w"], float)

    def coupled(regularisation):
        found = combinability.soft_matching(
            one_layer(n), a, b, symmetry_b=one_layer(m), regularisation=regularisation
        )
        return np.asarray(found.couplings["h"], float)

    # log T − S / ε is a row potential plus a column potential.
    rest = np.log(coupled(0.5)) - scores / (0.5 * scale(scores))
    rest = rest - rest.mean(0) - rest.mean(1, keepdims=True) + rest.mean()
    np.testing.assert_allclose(rest, 0, atol=1e-4)
    sums = [np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))]
    wanted = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    best = -linprog(-scores.ravel(), A_eq=np.concatenate(sums), b_eq=wanted).fun
    # The entropy of a coupling is between max(log n, log m) and log n + log m.
    gap = best - (coupled(1e-2) * scores).sum()
    assert -1e-6 < gap < 1e-2 * scale(scores) * np.log(min(n, m))


def test_couplings_agree_with_those_of_ott():
    linear = pytest.importorskip("ott.solvers.linear")
    geometry = pytest.importorskip("ott.geometry.geometry")
    a, b = layers(2, 5, 8)
    scores = a["w"].T @ b["w"]
    epsilon = 0.3 * float(scale(scores))
    wanted = linear.solve(geometry.Geometry(-scores, epsilon=epsilon)).matrix
    found = combinability.soft_matching(
        one_layer(5), a, b, symmetry_b=one_layer(8), regularisation=0.3
    )
    np.testing.assert_allclose(found.couplings["h"], wanted, atol=1e-3 / 40)


def family(name):
    found = FAMILIES[name]()
    symmetry = infer_symmetry(
        found.apply, found.variables, *found.inputs, certify=False
    )
    return found, symmetry


def drawn(symmetry, like, seed):
    rng = np.random.default_rng(seed)
    leaves, structure = jax.tree.flatten(like)
    return structure.unflatten(
        jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype) for leaf in leaves
    )


@pytest.mark.parametrize("regularisation", [1e-4, 0.05, 3.0])
@pytest.mark.parametrize("name", ["attention_by_reshape", "wide", "narrow"])
def test_marginals_hold_and_their_violation_is_what_is_reported(name, regularisation):
    if name == "attention_by_reshape":
        found, symmetry = family(name)
        a, b = (drawn(symmetry, found.variables, seed) for seed in (0, 1))
        other = symmetry
    else:
        sizes = [(4, 6), (9, 5)]
        small, large = sizes if name == "wide" else sizes[::-1]
        a, b = mlp_weights(0, *small), mlp_weights(1, *large)
        symmetry, other = mlp_symmetry(*small), mlp_symmetry(*large)
    soft = combinability.soft_matching(
        symmetry, a, b, symmetry_b=other, regularisation=regularisation
    )
    assert soft.couplings.keys() == symmetry.groups.keys()
    for group, coupling in soft.couplings.items():
        coupling = np.asarray(coupling, float)
        n, m = symmetry.groups[group].size, other.groups[group].size
        assert coupling.shape[-2:] == (n, m)
        assert (coupling >= 0).all()
        rows, columns = coupling.sum(-1) * n - 1, coupling.sum(-2) * m - 1
        largest = max(abs(rows).max(), abs(columns).max())
        assert soft.violation[group] == pytest.approx(largest, abs=1e-12)
        assert largest < 1e-5


def is_hard(symmetry, soft, back):
    for name in symmetry.groups:
        coupling = np.asarray(soft.couplings[name])
        wanted = np.eye(coupling.shape[-1])[np.asarray(back[name])]
        np.testing.assert_allclose(coupling.shape[-1] * coupling, wanted, atol=5e-3)


@pytest.mark.parametrize("by", ["weights", "activations"])
def test_with_little_regularisation_a_planted_permutation_is_recovered(by):
    symmetry, a = mlp_symmetry(12, 9), mlp_weights(0, 12, 9)
    back = permutations.random(jax.random.key(1), symmetry)
    noisy = jax.tree.map(lambda x, y: x + 0.05 * y, a, mlp_weights(5, 12, 9))
    b = symmetry.apply(permutations.invert(symmetry, back), noisy)
    batches = inputs(count=40) if by == "activations" else None
    soft = combinability.soft_matching(
        symmetry, a, b, batches=batches, regularisation=1e-4
    )
    is_hard(symmetry, soft, back)
    moved = combinability.transport(symmetry, soft.couplings, b)
    close(moved, symmetry.apply(back, b), 5e-3)


def test_nested_groups_are_recovered_and_moved_as_apply_moves_them():
    found, symmetry = family("attention_by_reshape")
    assert any(group.within for group in symmetry.groups.values())
    a = drawn(symmetry, found.variables, 0)
    back = permutations.random(jax.random.key(2), symmetry)
    b = symmetry.apply(permutations.invert(symmetry, back), a)
    soft = combinability.soft_matching(symmetry, a, b, regularisation=1e-3)
    moved = combinability.transport(symmetry, soft.couplings, b)
    close(moved, a, 5e-3)


def test_a_network_fused_with_a_permuted_copy_computes_the_same():
    symmetry, a = mlp_symmetry(12, 9), mlp_weights(3, 12, 9)
    b = symmetry.apply(permutations.random(jax.random.key(4), symmetry), a)
    soft = combinability.soft_matching(symmetry, a, b, regularisation=1e-3)
    fused = combinability.combine(
        a, combinability.transport(symmetry, soft.couplings, b), 0.5
    )
    (x,) = inputs(count=1)
    np.testing.assert_allclose(mlp(fused, x), mlp(a, x), rtol=1e-3, atol=1e-3)


def repeated(variables, first, second):
    """A wider network of the same function: units twice, shuffled, weights halved."""
    rng = np.random.default_rng(7)
    rows = [np.repeat(np.arange(n), 2)[rng.permutation(2 * n)] for n in (first, second)]
    wide = dict(variables)
    wide |= {"in": variables["in"][:, rows[0]], "b": variables["b"][rows[0]]}
    wide["mid"] = variables["mid"][rows[0]][:, rows[1]] / 2
    wide["out"] = variables["out"][rows[1]] / 2
    return wide


@pytest.mark.parametrize("by", ["weights", "activations"])
def test_a_network_with_repeated_units_is_moved_back_to_its_function(by):
    narrow = mlp_weights(0, 6, 5)
    wide = repeated(narrow, 6, 5)
    of, other = mlp_symmetry(6, 5), mlp_symmetry(12, 10)
    (x,) = inputs(9, count=1)
    np.testing.assert_allclose(mlp(wide, x), mlp(narrow, x), rtol=1e-4, atol=1e-4)
    batches = inputs(count=40) if by == "activations" else None
    soft = combinability.soft_matching(
        of, narrow, wide, symmetry_b=other, batches=batches, regularisation=1e-3
    )
    moved = combinability.transport(of, soft.couplings, wide, symmetry_b=other)
    assert jax.tree.map(jnp.shape, moved) == jax.tree.map(jnp.shape, narrow)
    np.testing.assert_allclose(mlp(moved, x), mlp(narrow, x), rtol=1e-2, atol=1e-2)
    # And the other way: units are split, and the function stays.
    soft = combinability.soft_matching(
        other, wide, narrow, symmetry_b=of, regularisation=1e-3
    )
    moved = combinability.transport(other, soft.couplings, narrow, symmetry_b=of)
    np.testing.assert_allclose(mlp(moved, x), mlp(narrow, x), rtol=1e-2, atol=1e-2)


def test_transport_by_any_permutation_is_apply():
    found, symmetry = family("attention_by_reshape")
    b = drawn(symmetry, found.variables, 1)
    permutation = permutations.random(jax.random.key(5), symmetry)
    couplings = {}
    for name, group in symmetry.groups.items():
        index = np.asarray(permutation[name])
        coupling = np.eye(group.size)[index] / group.size
        # For a pair of parents the one of a's parent.
        for axis, parent in reversed(list(enumerate(group.within))):
            if parent in symmetry.groups:
                coupling = np.repeat(
                    np.expand_dims(coupling, axis + 1), group.blocks[axis], axis + 1
                )
        couplings[name] = coupling
    moved = combinability.transport(symmetry, couplings, b)
    wanted = symmetry.apply(permutation, b)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), moved, wanted
    )


def test_groups_without_a_coupling_stay():
    symmetry, b = mlp_symmetry(4, 5), mlp_weights(0, 4, 5)
    first, *_ = symmetry.groups
    index = np.array([2, 0, 3, 1])
    moved = combinability.transport(symmetry, {first: np.eye(4)[index] / 4}, b)
    wanted = symmetry.apply({first: jnp.asarray(index)}, b)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), moved, wanted
    )


def deep(variables, x):
    for block in variables["blocks"]:
        x = x + jax.nn.relu(x @ block["up"]) @ block["down"]
    return x @ variables["head"]


def test_of_another_depth_only_after_residual_blocks_that_add_nothing():
    rng = np.random.default_rng(0)

    def block(width=6, down=1.0):
        up, back = rng.normal(size=(2, 3, width))
        return {"up": jnp.asarray(up), "down": down * jnp.asarray(back.T)}

    head, x = jnp.asarray(rng.normal(size=(3, 2))), jnp.ones((4, 3))
    shallow = {"blocks": [block()], "head": head}
    three = {"blocks": [block() for _ in range(3)], "head": head}
    of = [infer_symmetry(deep, v, x, certify=False) for v in (shallow, three)]
    with pytest.raises(ValueError, match=r"symmetry_b: .* networks of different depth"):
        combinability.soft_matching(of[0], shallow, three, symmetry_b=of[1])
    # Blocks whose second matrix is zero are the identity.
    padded = {
        "blocks": [*shallow["blocks"], block(down=0), block(down=0)],
        "head": head,
    }
    np.testing.assert_array_equal(deep(padded, x), deep(shallow, x))
    soft = combinability.soft_matching(of[1], padded, three)
    fused = combinability.combine(
        padded, combinability.transport(of[1], soft.couplings, three), 0.5
    )
    assert deep(fused, x).shape == (4, 2)


def test_only_the_groups_that_are_asked_for_are_coupled():
    symmetry, a = mlp_symmetry(12, 9), mlp_weights(0, 12, 9)
    first, second = symmetry.groups
    back = permutations.random(jax.random.key(1), symmetry)
    b = symmetry.apply(permutations.invert(symmetry, {first: back[first]}), a)
    soft = combinability.soft_matching(
        symmetry, a, b, groups=[first], regularisation=1e-3
    )
    assert list(soft.couplings) == list(soft.violation) == [first]
    close(combinability.transport(symmetry, soft.couplings, b), a, 5e-3)
    with pytest.raises(ValueError, match=f"groups: expected {second!r} among them"):
        combinability.soft_matching(
            symmetry,
            a,
            mlp_weights(0, 12, 7),
            symmetry_b=mlp_symmetry(12, 7),
            groups=lambda name, group: name == first,
        )


@pytest.mark.parametrize("by", ["weights", "activations"])
def test_fixed_couplings_are_held_while_the_others_are_found(by):
    symmetry, a = mlp_symmetry(12, 9), mlp_weights(0, 12, 9)
    first, second = symmetry.groups
    back = permutations.random(jax.random.key(1), symmetry)
    b = symmetry.apply(permutations.invert(symmetry, back), a)
    held = {second: jnp.eye(9)[back[second]] / 9}
    batches = inputs(count=40) if by == "activations" else None
    soft = combinability.soft_matching(
        symmetry, a, b, fixed=held, batches=batches, regularisation=1e-3
    )
    is_hard(symmetry, soft, back)
    np.testing.assert_array_equal(soft.couplings[second], held[second])
    # By weights the units of the first group see those of the second: the wrong
    # coupling of these is held too, and leads elsewhere.
    wrong = {second: jnp.eye(9)[jnp.roll(back[second], 1)] / 9}
    led = combinability.soft_matching(
        symmetry, a, b, fixed=wrong, batches=batches, regularisation=1e-3
    )
    np.testing.assert_array_equal(led.couplings[second], wrong[second])
    same = np.allclose(led.couplings[first], soft.couplings[first], atol=1e-6)
    assert same == (by == "activations")


def test_units_within_others_stay_where_only_the_others_are_coupled():
    found, symmetry = family("attention_by_reshape")
    a = drawn(symmetry, found.variables, 0)
    outer = [n for n, group in symmetry.groups.items() if not group.within]
    back = permutations.random(jax.random.key(2), symmetry)
    back = {name: back[name] for name in outer}
    b = symmetry.apply(permutations.invert(symmetry, back), a)
    soft = combinability.soft_matching(
        symmetry, a, b, groups=outer, regularisation=1e-3
    )
    assert [*soft.couplings] == outer
    close(combinability.transport(symmetry, soft.couplings, b), a, 5e-3)


def test_the_weights_of_leaves_are_those_of_scores():
    symmetry, (a, b) = mlp_symmetry(5, 4), (mlp_weights(n, 5, 4) for n in (0, 1))
    found = combinability.soft_matching(
        symmetry, a, b, leaf_weights=lambda path: {"b": 0.0, "in": 4.0}.get(path, 1.0)
    )
    a, b = ({**v, "b": 0 * v["b"], "in": 2 * v["in"]} for v in (a, b))
    wanted = combinability.soft_matching(symmetry, a, b)
    close(found.couplings, wanted.couplings, 1e-6)


def test_batches_are_cast_to_the_dtypes_of_the_inference():
    symmetry, (a, b) = mlp_symmetry(5, 4), (mlp_weights(n, 5, 4) for n in (0, 1))
    batches = [np.round(10 * np.asarray(x)) for x in inputs()]
    wanted = combinability.soft_matching(symmetry, a, b, batches=batches)
    whole = [x.astype(int) for x in batches]
    half = [jax.tree.map(lambda x: x.astype(jnp.bfloat16), v) for v in (a, b)]
    found = combinability.soft_matching(symmetry, a, b, batches=whole)
    close(found.couplings, wanted.couplings, 0)
    combinability.soft_matching(symmetry, *half, batches=whole)


def test_functions_with_equal_groups_and_shapes_are_coupled_each_by_its_own():
    """Compiled programs are those of the function, not of any with the same groups."""
    a, b = (mlp_weights(seed, 5, 4) for seed in (0, 1))
    (x,) = inputs(count=1)

    def coupled(activation):
        def network(v, x):
            hidden = activation(x @ v["in"] + v["b"])
            return activation(hidden @ v["mid"]) @ v["out"] + v["c"]

        symmetry = infer_symmetry(network, a, x, certify=False)
        return symmetry, combinability.soft_matching(symmetry, a, b, batches=[x])

    symmetry, _ = coupled(jax.nn.relu)
    other, found = coupled(jnp.cos)
    assert symmetry == other
    jax.clear_caches()
    _, alone = coupled(jnp.cos)
    jax.tree.map(np.testing.assert_array_equal, found.couplings, alone.couplings)


def beside_inputs(v, x):
    """Units in pairs with inputs, before and after them; two axes of one array."""
    first = jnp.concatenate([x, jax.nn.relu(x @ v["in"])], -1)
    second = jnp.concatenate([jax.nn.relu(first @ v["mid"]), x], -1)
    return second @ v["out"]


def beside_inputs_weights(seed, n, m):
    rng = np.random.default_rng(seed)
    shapes = {"in": (3, n), "mid": (3 + n, m), "out": (m + 3, 2)}
    return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()}


def test_parts_of_arrays_without_units_are_moved_as_they_are():
    narrow = beside_inputs_weights(0, 4, 5)
    units, more = np.repeat(np.arange(4), 2), np.repeat(np.arange(5), 2)
    wide = {"in": narrow["in"][:, units]}
    rows = np.concatenate([np.arange(3), 3 + units])
    mid = narrow["mid"] / np.array([1, 1, 1, 2, 2, 2, 2])[:, None]
    wide["mid"] = mid[rows][:, more]
    out = narrow["out"] / np.array([2, 2, 2, 2, 2, 1, 1, 1])[:, None]
    wide["out"] = out[np.concatenate([more, 5 + np.arange(3)])]
    x = inputs(count=1)[0]
    np.testing.assert_allclose(
        beside_inputs(wide, x), beside_inputs(narrow, x), rtol=1e-4, atol=1e-5
    )
    of, other = (infer_symmetry(beside_inputs, v, x) for v in (narrow, wide))
    soft = combinability.soft_matching(
        of, narrow, wide, symmetry_b=other, regularisation=1e-3
    )
    moved = combinability.transport(of, soft.couplings, wide, symmetry_b=other)
    np.testing.assert_array_equal(moved["out"][5:], wide["out"][10:])
    np.testing.assert_allclose(
        beside_inputs(moved, x), beside_inputs(narrow, x), rtol=2e-2, atol=2e-2
    )
    embedded = combinability.embed(of, narrow, other)
    assert jax.tree.map(jnp.shape, embedded) == jax.tree.map(jnp.shape, wide)
    np.testing.assert_allclose(
        beside_inputs(embedded, x), beside_inputs(narrow, x), rtol=1e-5, atol=1e-6
    )
