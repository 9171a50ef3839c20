"""Inference finds the complete group of every family, and only that."""

import functools
import itertools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from combinability import activation_matching, match, permutations
from combinability.symmetry import infer_symmetry
from tests.combinability import moves
from tests.combinability.families import FAMILIES
from tests.combinability.families._family import random

FAST_COMPILATION = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


@functools.cache
def inferred(name):
    """A family and what is inferred for it, without the library's own certificate."""
    family = FAMILIES[name]()
    symmetry = infer_symmetry(
        family.apply, family.variables, *family.inputs, certify=False
    )
    return family, symmetry


def in_float64(tree):
    """Floats as float64, the rest as it is."""

    def raised(leaf):
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(leaf, jnp.float64) if floating else leaf

    return jax.tree.map(raised, tree)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_groups_of_a_family_are_found(name):
    family, symmetry = inferred(name)
    missing, excess = moves.difference(symmetry, family.layout, family.variables)
    message = f"\n{missing}\n{excess}\n{moves.describe(symmetry)}"
    assert not missing, message
    assert not family.complete or not excess, message


@pytest.mark.parametrize("name", FAMILIES)
def test_the_table_of_axes_says_what_the_blocks_do(name):
    """`Group.axes` and `Symmetry.blocks` name the same units of the same leaves."""
    family, symmetry = inferred(name)
    generators = moves.found_generators(symmetry, family.variables)
    for name, group in symmetry.groups.items():
        units = moves.elements_on_axes(symmetry, name, family.variables)
        for i in range(group.size - 1):
            of_pair = [
                pairs for (n, _, j), pairs in generators.items() if (n, j) == (name, i)
            ]
            moved = {element for pairs in of_pair for element, _ in pairs}
            assert moved <= units[i] | units[i + 1]
            assert units[i] ^ units[i + 1] <= moved


def assert_same_function(family, variables, moved, inputs):
    """Compares outputs, in float64 where the program can be run in it."""
    function = jax.jit(family.apply).lower(variables, *inputs).compile(FAST_COMPILATION)
    expected, got = function(variables, *inputs), function(moved, *inputs)
    tolerance = 1e-2 if family.single else 1e-9
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert np.isfinite(y).all()
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


LARGE = [
    "bottleneck",
    "dense_block",
    "fused_qkv_by_reshape",
    "gpt",
    "mlp_mixer",
    "query_key_norm",
    "resnet_option_a",
    "resnet_with_layer_norm",
    "rotary_positions",
    "stacked_layers",
    "talking_heads",
    "u_net_by_nearest_resize",
    "u_net_by_repeat",
    "vgg_with_layer_norm",
    "vision_transformer",
]


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in LARGE else ()) for n in FAMILIES],
)
def test_exchanging_units_of_every_group_keeps_the_function(name, x64):
    family, symmetry = inferred(name)
    variables, inputs = family.variables, family.inputs
    if not family.single:
        variables, inputs = in_float64((variables, inputs))
    moved = moves.random_element(symmetry, variables, seed=0)
    assert_same_function(family, variables, moved, inputs)


ROUTERS = [
    "buffers_by_scatter",
    "deepseek_limited_to_groups",
    "deepseek_with_a_shared_expert",
    "expert_choice",
    "gshard_by_one_hot_dispatch",
    "megablocks_by_ragged_products",
    "mixtral_by_gather",
    "ragged_products_with_counted_masks",
    "soft_mixture",
    "switch_with_capacity",
    "threshold_routing",
]


@pytest.mark.parametrize(
    "name",
    ["grouped_convolution", "mixture_of_experts", "two_reshapes_of_one_axis", *ROUTERS],
)
def test_applying_a_random_permutation_keeps_the_function(name, x64):
    family, symmetry = inferred(name)
    variables, inputs = in_float64((family.variables, family.inputs))
    rng = np.random.default_rng(0)
    permutation = {}
    for group_name, group in symmetry.groups.items():
        order = np.broadcast_to(np.arange(group.size), (*group.blocks, group.size))
        permutation[group_name] = rng.permuted(order, axis=-1)
    moved = symmetry.apply(permutation, variables)
    assert_same_function(family, variables, moved, inputs)


@pytest.mark.parametrize("name", ROUTERS)
def test_a_router_passes_certification(name):
    family, symmetry = inferred(name)
    certified = infer_symmetry(family.apply, family.variables, *family.inputs)
    # The slots of a soft mixture are on one axis only: exchanging them has no effect.
    assert symmetry.groups.keys() - certified.groups.keys() <= {"slots"}
    assert len(certified.groups) >= 2


@pytest.mark.parametrize("name", ["mixtral_by_gather", "megablocks_by_ragged_products"])
def test_permuted_experts_and_their_units_are_matched(name):
    family, symmetry = inferred(name)
    planted = permutations.random(jax.random.key(1), symmetry)
    moved = symmetry.apply(planted, family.variables)
    found = match(symmetry, family.variables, moved, key=jax.random.key(0))
    back = symmetry.apply(found.permutation, moved)
    jax.tree.map(np.testing.assert_array_equal, back, family.variables)


def test_units_of_gathered_experts_are_matched_beside_activations():
    """No value has an axis of experts next to their units: weights match those."""
    family, symmetry = inferred("mixtral_by_gather")
    planted = permutations.random(jax.random.key(1), symmetry)
    moved = symmetry.apply(planted, family.variables)
    batches = [random(7, 4, seed=seed) for seed in range(4)]
    found = activation_matching(
        symmetry, family.variables, moved, batches, key=jax.random.key(0)
    )
    back = symmetry.apply(found.permutation, moved)
    jax.tree.map(np.testing.assert_array_equal, back, family.variables)


def test_experts_that_tie_are_pinned_by_certification():
    """Scores are often all 0, and then the first experts are taken."""

    def apply(v, x):
        chosen = jnp.argmax(jax.nn.relu(x @ v["router"] - 2), axis=-1)
        h = jnp.tanh(jnp.einsum("td,tdh->th", x, v["up"][chosen]))
        return jnp.einsum("th,tho->to", h, v["down"][chosen])

    shapes = {"router": (4, 3), "up": (3, 4, 5), "down": (3, 5, 2)}
    variables = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes.items()}
    x = jax.ShapeDtypeStruct((6, 4), jnp.float32)
    symmetry = infer_symmetry(apply, variables, x)
    assert [group.size for group in symmetry.groups.values()] == [5]
    reasons = {pin.reason for pin in symmetry.pins if (pin.path, pin.axis) == ("up", 0)}
    assert reasons == {"the first of equal values is taken"}


SMALL = ["captured_constants", "pairs_of_heads", "plain_jax", "slices"]


def exchanges_of_two_indices(variables):
    """Every pair of indices exchanged on every choice of axes of the leaves: orders."""
    leaves = list(moves.numbered(variables).values())
    axes = [(n, axis) for n, leaf in enumerate(leaves) for axis in range(leaf.ndim)]
    longest = max(size for leaf in leaves for size in leaf.shape)
    for i, j in itertools.combinations(range(longest), 2):
        long = [(n, axis) for n, axis in axes if leaves[n].shape[axis] > j]
        for count in range(1, len(long) + 1):
            for chosen in itertools.combinations(long, count):
                moved = list(leaves)
                for n, axis in chosen:
                    index = np.arange(leaves[n].shape[axis])
                    index[[i, j]] = j, i
                    moved[n] = np.take(moved[n], index, axis)
                yield np.concatenate([np.ravel(leaf) for leaf in moved])


@pytest.mark.parametrize("name", SMALL)
def test_no_other_exchange_of_two_indices_keeps_the_function(name, x64):
    """Brute force; what has no effect at all is left out."""
    family, symmetry = inferred(name)
    variables, inputs = in_float64((family.variables, family.inputs))
    flat, unravel = jax.flatten_util.ravel_pytree(variables)

    def value(flat):
        return jax.flatten_util.ravel_pytree(family.apply(unravel(flat), *inputs))[0]

    orders = np.stack(list(exchanges_of_two_indices(variables)))
    values = jax.jit(jax.vmap(lambda order: value(flat[order])))(orders)
    kept = orders[np.abs(values - value(flat)).max(-1) < 1e-9]
    allowed = [np.arange(flat.size)]
    for each in moves.exchanges(symmetry, variables).values():
        allowed += [order[move] for order in allowed for move in each]
    assert set(map(tuple, kept)) <= set(map(tuple, allowed))
