"""Random networks: what is inferred keeps the function, and nothing is missed."""

import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from combinability import infer_rescaling
from combinability.symmetry import infer_symmetry
from tests.combinability import moves
from tests.combinability.fuzz._automorphisms import network, orbit_sizes
from tests.combinability.fuzz._network import Program, build
from tests.combinability.fuzz._parts import PARTS

small = st.integers(0, 5)
programs = st.builds(
    Program,
    st.booleans(),
    st.lists(
        st.tuples(st.sampled_from(sorted(PARTS)), small, small), min_size=1, max_size=6
    ).map(tuple),
    st.sampled_from(["each", "flatten", "tied"]),
)


def assert_keeps_the_function(built, symmetry):
    """Exchanges many units and compares outputs in float64."""
    moved = moves.random_element(symmetry, built.parameters, seed=0)
    expected, got = built.evaluate(built.parameters), built.evaluate(moved)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


def order_of(symmetry, built, used) -> int:
    """How many permutations of the parameters that matter a symmetry stands for."""
    generators = moves.found_generators(symmetry, built.parameters)
    matters = np.concatenate([part.ravel() for part in used])
    blocks = {
        (name, block)
        for (name, block, _), move in generators.items()
        if any(matters[element] for element, _ in move)
    }
    return math.prod(math.factorial(symmetry.groups[name].size) for name, _ in blocks)


def beyond_labels(program, symmetry) -> bool:
    """Whether a network may be one of those that a tree of labels cannot describe.

    Cuts across units that belong together (half a head), or between those that others
    lie within (one head of two), cost part of the symmetry. A class inside of one that
    is on two axes of the same array has one permutation.
    """
    for block in symmetry.blocks:
        counts = Counter(name for name in block.labels if name in symmetry.groups)
        if len(counts) > 1 and max(counts.values()) > 1:
            return True
    return any(name in ("cut", "overlap") and j > 2 for name, _, j in program.parts)


def check(program) -> bool:
    """Checks one network; whether its whole symmetry had to be found."""
    built = build(program)
    symmetry = infer_symmetry(
        built.apply, built.parameters, *built.inputs, certify=False
    )
    assert_keeps_the_function(built, symmetry)
    graph = network(built.graph, built.outputs)
    expected = math.prod(orbit_sizes(graph))
    found = order_of(symmetry, built, graph.used)
    complete = not beyond_labels(program, symmetry)
    message = f"{found} of {expected}\n{moves.describe(symmetry)}"
    assert found == expected if complete else expected % found == 0, message
    return complete


@settings(max_examples=60, deadline=None, derandomize=True)
@given(programs)
def test_a_random_network_has_the_symmetry_that_is_inferred(program):
    event(f"all is found: {check(program)}")


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True)
@given(programs)
def test_many_random_networks_have_the_symmetry_that_is_inferred(program):
    check(program)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(programs)
def test_signs_and_scales_of_a_random_network_keep_its_function(program):
    built, rng, values = build(program), np.random.default_rng(0), {}
    symmetry = infer_symmetry(
        built.apply, built.parameters, *built.inputs, certify=False
    )
    rescaling = infer_rescaling(symmetry, certify=False)
    for name, factor in rescaling.factors.items():
        group = symmetry.groups[factor.group]
        drawn = rng.normal(size=(*group.blocks, group.size))
        values[name] = np.sign(drawn) if factor.kind == "sign" else np.exp(drawn)
    event(f"there are some: {bool(values)}")
    with jax.enable_x64(True):
        wide = {n: jnp.asarray(x, float) for n, x in built.parameters.items()}
        moved = jax.device_get(rescaling.apply(values, wide))
    expected, got = built.evaluate(built.parameters), built.evaluate(moved)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


def test_for_most_random_networks_the_whole_symmetry_is_found():
    rng = np.random.default_rng(0)
    complete = 0
    for _ in range(40):
        names = rng.choice(sorted(PARTS), rng.integers(1, 7))
        parts = tuple((name, *rng.integers(0, 6, 2).tolist()) for name in names)
        end = str(rng.choice(["each", "flatten", "tied"]))
        complete += check(Program(bool(rng.integers(2)), parts, end))
    assert complete >= 30


@pytest.mark.parametrize("name", sorted(PARTS))
@pytest.mark.parametrize(("i", "j"), [(0, 0), (1, 1), (4, 5), (5, 2)])
def test_each_part_has_the_symmetry_that_is_inferred(name, i, j):
    check(Program(True, ((name, i, j),), "each"))


@pytest.mark.parametrize("half", [0, 1])
def test_all_readings_of_a_network_agree(half):
    """JAX's values are NumPy's, for a network of half of the parts."""
    names = sorted(PARTS)[half::2]
    parts = tuple((name, k % 6, k // 3 % 6) for k, name in enumerate(names))
    built = build(Program(True, parts, "each"))
    compiled = jax.jit(built.apply).lower(built.parameters, *built.inputs).compile()
    values = compiled(built.parameters, *built.inputs)
    np.testing.assert_allclose(values, built.evaluate(built.parameters), 1e-3, 1e-4)


@pytest.mark.parametrize(
    ("parts", "end", "expected"),
    [
        ((("layer", 0, 0),), "each", 24 * 24),
        ((("layer", 2, 0), ("layer", 3, 0)), "each", 24 * 120 * 6),
        ((("repeated", 1, 0),), "each", 24 * 6),
        ((("pairs_of_heads", 1, 0),), "each", 24 * 6 * 2),
        ((("maxout", 1, 0),), "each", 24 * 6 * 2**3 * 6),
        ((("summed_up", 0, 0),), "each", 1),
        ((("group_norm", 1, 0),), "each", 24 * 6 * 2**3),
    ],
)
def test_automorphisms_are_counted(parts, end, expected):
    """By hand: factorials of widths, to the power of how many blocks there are."""
    built = build(Program(False, parts, end))
    assert math.prod(orbit_sizes(network(built.graph, built.outputs))) == expected
