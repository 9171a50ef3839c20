"""Barriers, transitivity and robustness agree with what can be computed by hand."""

import itertools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from combinability import (
    Matching,
    barrier,
    barriers,
    cycle_defect,
    evaluate,
    robustness,
    transitivity,
    uniform,
    weight_matching,
)
from combinability.coefficients import line
from combinability.permutations import identity, random
from tests.combinability.specs import by_hand

# One size for most groups, so that few programs are compiled.
UNITS = 40
X = np.random.default_rng(0).normal(size=(16, 3))
KEY = jax.random.key(0)


def network(seed):
    rng, dtype = np.random.default_rng(seed), jnp.zeros(()).dtype  # of the test
    return {
        "in": rng.normal(size=(3, UNITS)).astype(dtype),
        "out": rng.normal(size=(UNITS, 2)).astype(dtype) / 4,
    }


def output(variables):
    return jnp.tanh(X @ variables["in"]) @ variables["out"]


def loss(variables):
    """The mean squared difference from network 0, and an array of losses."""
    error = (output(variables) - output(network(0))) ** 2
    return {"mean": error.mean(), "each": error.mean(0)}


SYMMETRY = by_hand(network(0), {"h": [("in", 1), ("out", 0)]})
# Units of identity kernels: a permutation's inner product counts what it leaves.
EYE = {"w": np.eye(UNITS, dtype=np.float32)}
EYES = by_hand(EYE, {"h": [("w", 1)]})
# Heads with dimensions inside, and a group by itself.
HEADS = by_hand(
    {"w": np.zeros((4, 3)), "v": np.zeros(UNITS)},
    {"head": [("w", 0)], "dim": [("w", 1)], "h": [("v", 0)]},
    within={"dim": ["head"]},
)


def concave(variables):
    return -sum(((leaf - 0.3) ** 2).sum() for leaf in jax.tree.leaves(variables))


def made(permutation):
    return Matching(permutation, jnp.zeros(()), jnp.zeros(1))


def traced_at_most(n):
    """The loss; fails where it is traced more often."""
    chex.clear_trace_counter()
    return chex.assert_max_traces(lambda variables: loss(variables)["mean"], n=n)


# Barriers


def test_the_barrier_of_a_double_well_is_its_hill():
    found = barrier(lambda x: (x**2 - 1) ** 2, jnp.array(-1.0), jnp.array(1.0))
    np.testing.assert_allclose(found.height, 1, rtol=1e-6)
    np.testing.assert_allclose(found.fractions, np.linspace(0, 1, 25))
    t = 2 * found.fractions - 1
    np.testing.assert_allclose(found.losses, (t**2 - 1) ** 2, atol=1e-6)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_barrier_of_a_quadratic_loss_is_a_quarter_of_the_squared_distance(
    x64, seed
):
    a, b = network(0), network(seed)
    square = sum(((a[name] - b[name]) ** 2).sum() for name in a)
    found = barrier(concave, a, b)
    np.testing.assert_allclose(found.height, square / 4, rtol=1e-12)
    # Along the segment the loss exceeds the straight line by t(1 − t) ‖a − b‖².
    t = found.fractions
    line = (1 - t) * found.losses[0] + t * found.losses[-1]
    np.testing.assert_allclose(found.losses - line, t * (1 - t) * square, atol=1e-9)
    assert barrier(lambda v: -concave(v), a, b).height == 0


def test_every_loss_has_a_barrier_of_its_own_between_its_own_ends(x64):
    a, b = network(0), network(1)
    found = barrier(loss, a, b, points=9)
    for at, end in ((0, a), (-1, b)):
        for name, value in loss(end).items():
            np.testing.assert_allclose(found.losses[name][at], value, atol=1e-13)
    each = barrier(lambda v: loss(v)["each"][1], a, b, points=9)
    assert found.height["each"].shape == (2,)
    np.testing.assert_allclose(found.height["each"][1], each.height, rtol=1e-12)
    halves = barrier(lambda v: {"half": loss(v)["each"].sum() / 2}, a, b, points=9)
    np.testing.assert_allclose(found.height["mean"], halves.height["half"], rtol=1e-12)


def test_points_side_by_side_give_the_same_barrier():
    a, b = network(0), network(1)
    found = [barrier(loss, a, b, points=7, batch_size=batch) for batch in (1, 3)]
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), *found
    )


def test_counts_of_errors_are_not_rounded_to_integers():
    def errors(x):
        return (jnp.abs(x - jnp.array([0.0, 1.0, 5.0])) > 0.75).sum()

    found = barrier(errors, jnp.array(0.0), jnp.array(1.0), points=5)
    assert found.losses.tolist() == [2, 1, 1, 1, 2]
    assert found.height == 0
    flags = barrier(lambda x: x > 0.3, jnp.array(0.0), jnp.array(1.0), points=5)
    assert flags.height == 0.5


def test_an_infinite_loss_is_an_infinite_barrier_and_an_infinite_end_has_none():
    a, b = jnp.array(-1.0), jnp.array(1.0)
    assert barrier(lambda x: 1 / x**2, a, b, points=3).height == np.inf
    assert np.isnan(barrier(lambda x: 1 / (x - 1) ** 2, a, b, points=3).height)


@pytest.mark.optimized
def test_many_pairs_have_the_barriers_of_each_and_one_program():
    metric = traced_at_most(1)
    models = [network(seed) for seed in range(3)]
    pairs = list(itertools.combinations(models, 2))
    found = barriers(metric, iter(pairs), points=5)
    assert found.losses.shape == (3, 5)
    for number, (a, b) in enumerate(pairs):
        one = barrier(metric, a, b, points=5)
        np.testing.assert_array_equal(found.losses[number], one.losses)
        assert found.height[number] == one.height
    np.testing.assert_array_equal(found.fractions, np.linspace(0, 1, 5))


def test_every_pair_may_have_arguments_of_its_own():
    a, b = jnp.array(0.0), jnp.array(1.0)
    found = barriers(
        lambda x, centre: -((x - centre) ** 2), [(a, b, 0.5), (b, a, 2.0)], points=3
    )
    np.testing.assert_allclose(found.losses[:, 0], [-0.25, -1])
    np.testing.assert_allclose(found.height, 0.25)


# Transitivity


@pytest.fixture(scope="module")
def planted():
    """Three permuted copies of network 0, and what is found between them."""
    moves = [random(key, SYMMETRY) for key in jax.random.split(KEY, 3)]
    models = [SYMMETRY.apply(move, network(0)) for move in moves]
    return models, transitivity(loss, SYMMETRY, models, key=KEY, points=5)


def test_permuted_copies_have_no_barrier_after_matching(planted):
    _, found = planted
    off = ~np.eye(3, dtype=bool)
    assert (found.unmatched["mean"][off] > 0.1).all()
    assert np.abs(found.direct["mean"]).max() < 1e-10
    assert np.abs(found.through["each"]).max() < 1e-10
    assert found.through["each"].shape == (3, 3, 3, 2)


def test_planted_permutations_are_found_and_close_every_cycle(planted):
    models, found = planted
    assert found.triples.tolist() == [[0, 1, 2]]
    assert found.cycles["h"].tolist() == [0]
    for number, (i, j) in enumerate(found.pairs):
        moved = SYMMETRY.apply({"h": found.permutations["h"][number]}, models[j])
        jax.tree.map(np.testing.assert_array_equal, moved, models[i])


def test_results_can_be_written_as_json(planted):
    _, found = planted
    lists = jax.tree.map(np.ndarray.tolist, jax.tree.map(np.asarray, found._asdict()))
    assert json.loads(json.dumps(lists))["chance"] == {"h": 1 - 1 / UNITS}


def test_matrices_hold_the_barriers_of_the_networks_as_they_stand():
    models = [network(seed) for seed in range(4)]
    given = []

    def match(symmetry, a, b, *, key):
        given.append(weight_matching(symmetry, a, b, key=key))
        return given[-1]

    found = transitivity(
        concave, SYMMETRY, models, key=KEY, match=match, references=[2], points=5
    )
    assert found.through.shape == (1, 4, 4)
    still = np.arange(UNITS)
    to = {(i, i): still for i in range(4)}
    for (i, j), matching in zip(found.pairs.tolist(), given, strict=True):
        to[i, j] = np.asarray(matching.permutation["h"])
        to[j, i] = np.argsort(to[i, j])

    def height(i, p, j, q):
        """The barrier of the concave loss is a quarter of the squared distance."""
        x, y = models[i], models[j]
        square = ((x["in"][:, p] - y["in"][:, q]) ** 2).sum()
        return (square + ((x["out"][p] - y["out"][q]) ** 2).sum()) / 4

    for i, j in found.pairs.tolist():
        expected = {
            "unmatched": height(i, still, j, still),
            "direct": height(i, still, j, to[i, j]),
            "through": height(i, to[2, i], j, to[2, j]),
        }
        measured = {
            "unmatched": found.unmatched[i, j],
            "direct": found.direct[j, i],
            "through": found.through[0, i, j],
        }
        assert measured == pytest.approx(expected, rel=1e-4)
        assert expected["direct"] <= expected["through"] < expected["unmatched"]


def test_random_matchings_have_the_cycle_defect_of_chance():
    def match(symmetry, a, b, *, key):
        return made(random(key, symmetry))

    models = [{"w": np.zeros((4, 3)), "v": np.full(UNITS, n)} for n in range(8)]
    found = transitivity(
        lambda v: v["v"].sum(),
        HEADS,
        models,
        key=KEY,
        match=match,
        references=[0],
        points=3,
    )
    assert found.chance == pytest.approx({"head": 3 / 4, "dim": 11 / 12, "h": 39 / 40})
    means = {name: defects.mean() for name, defects in found.cycles.items()}
    assert means == pytest.approx(found.chance, abs=0.12)


def test_the_cycle_defect_does_not_depend_on_where_the_cycle_starts():
    defect = jax.jit(lambda *steps: cycle_defect(HEADS, *steps))
    keys = jax.random.split(KEY, (5, 3))
    for p, q, r in [[random(key, HEADS) for key in row] for row in keys]:
        assert defect(p, q, r) == defect(q, r, p) == defect(r, p, q)


def test_transitivity_traces_its_metric_once():
    metric, calls = traced_at_most(1), []
    transitivity(
        metric,
        SYMMETRY,
        [network(seed) for seed in range(3)],
        key=KEY,
        match=weight_matching,
        points=5,
        progress=lambda done, total: calls.append((done, total)),
    )
    # Three matchings, and barriers of three pairs unmatched, direct and through.
    assert calls == [(done, 12) for done in range(1, 13)]


# Robustness


@pytest.fixture(scope="module")
def matched():
    """A matched pair of networks, perturbed to several fractions."""
    a, b = network(0), network(1)
    permutation = weight_matching(SYMMETRY, a, b, key=KEY).permutation
    found = robustness(
        loss,
        SYMMETRY,
        a,
        b,
        permutation,
        key=KEY,
        fractions=[0, 0.5, 1],
        trials=3,
        samples=8,
        points=5,
    )
    return a, b, permutation, found


def test_no_perturbation_is_the_matching_itself(matched):
    a, b, permutation, found = matched
    aligned = SYMMETRY.apply(permutation, b)
    height = barrier(loss, a, aligned, points=5).height
    losses = evaluate(loss, a, aligned, uniform(), key=KEY, samples=8, batch_size=1)
    for name in ("mean", "each"):
        for trial in range(3):
            np.testing.assert_allclose(
                found.barrier[name][0, trial], height[name], rtol=1e-5
            )
            np.testing.assert_allclose(
                found.losses[name][0, trial], losses[name], rtol=1e-5
            )
    assert found.losses["each"].shape == (3, 3, 8, 2)
    assert found.moved[0].tolist() == found.lost[0].tolist() == [0, 0, 0]


def test_the_objective_lost_is_that_of_the_permuted_weights(matched):
    a, b, permutation, found = matched

    def inner(index):
        return (a["in"] * b["in"][:, index]).sum() + (a["out"] * b["out"][index]).sum()

    assert found.matched == pytest.approx(inner(permutation["h"]), rel=1e-5)
    rng = np.random.default_rng(1)
    values = [inner(rng.permutation(UNITS)) for _ in range(2000)]
    assert abs(found.chance - np.mean(values)) < 4 * np.std(values) / np.sqrt(32)
    assert (found.lost[1:] > 0).all()
    assert found.lost[2].mean() == pytest.approx(1, abs=0.2)


@pytest.fixture(scope="module")
def perturbed():
    """A network and its copy, permuted, under a concave loss."""
    move = random(KEY, EYES)
    back = {"h": jnp.argsort(move["h"])}
    return robustness(
        concave,
        EYES,
        EYE,
        EYES.apply(move, EYE),
        back,
        key=KEY,
        fractions=[0, 0.1, 0.3, 0.6, 1],
        trials=3,
        samples=20,
        points=5,
    )


def test_the_barrier_grows_with_the_fraction_moved_as_computed(perturbed):
    # Each moved unit changes two entries by 1: ‖a − π′(b)‖² = 2 · 40 · moved.
    np.testing.assert_allclose(perturbed.barrier, 80 * perturbed.moved / 4, atol=1e-4)
    assert (np.diff(perturbed.barrier, axis=0) > 0).all()
    asked = np.broadcast_to(perturbed.fractions[:, None], perturbed.moved.shape)
    assert (perturbed.moved >= asked - 1e-6).all()
    assert (perturbed.moved <= asked + 1 / 40 + 1e-6).all()


def test_the_objective_lost_grows_with_the_fraction_moved_as_computed(perturbed):
    assert perturbed.matched == 40
    # A random permutation leaves one unit in place on average, give or take one.
    assert perturbed.chance == pytest.approx(1, abs=4 / np.sqrt(32))
    expected = 40 * perturbed.moved / (40 - perturbed.chance)
    np.testing.assert_allclose(perturbed.lost, expected, rtol=1e-6)


def test_uniform_combinations_lose_as_computed():
    # With t uniform E t² = 1/3, so that the mean of ‖Θ − a‖² is ‖a − π′(b)‖² / 3.
    found = robustness(
        lambda v: ((v["w"] - EYE["w"]) ** 2).sum(),
        EYES,
        EYE,
        EYE,
        identity(EYES),
        key=KEY,
        fractions=[0.5],
        trials=3,
        samples=200,
        points=3,
    )
    # Of 40 terms of variance 4/45 each, over 200 samples: a deviation of 0.13.
    assert found.losses.mean() == pytest.approx(80 * found.moved.mean() / 3, abs=0.5)


def test_a_perturbation_goes_on_from_the_lesser_ones():
    found = robustness(
        lambda v: v["w"],
        EYES,
        EYE,
        EYE,
        identity(EYES),
        key=KEY,
        fractions=[0.2, 0.3],
        trials=3,
        samples=3,
        points=3,
        distribution=line(3),
    )
    # The last sample of the line is π′(b): a permuted identity matrix.
    lesser, larger = found.losses[:, :, -1].argmax(axis=-2)
    assert (np.mean(lesser != larger, axis=-1) < 0.2).all()
    # Those of different trials have little in common.
    assert np.mean(lesser[0] != lesser[1]) > 0.25


def test_groups_without_a_permutation_are_not_perturbed():
    variables = {"v": np.arange(UNITS, dtype=np.float32), "w": np.arange(UNITS) ** 0.5}
    found = robustness(
        lambda v: v,
        by_hand(variables, {"v": [("v", 0)], "w": [("w", 0)]}),
        variables,
        variables,
        {"v": jnp.arange(UNITS)},
        key=KEY,
        fractions=[1],
        trials=3,
        samples=3,
        points=3,
        distribution=line(3),
    )
    assert found.moved.tolist() == [[1, 1, 1]]
    still = np.broadcast_to(variables["w"], (1, 3, 3, UNITS))
    np.testing.assert_allclose(found.losses["w"], still, rtol=1e-6)
    # The first sample of the line is a, the last is π′(b).
    assert (found.losses["v"][0, :, -1] != variables["v"]).all()
    np.testing.assert_array_equal(found.losses["v"][0, 1, 0], variables["v"])


def test_robustness_has_two_programs_for_any_number_of_fractions():
    # One along the segment, one for random combinations.
    metric, calls, fractions = traced_at_most(2), [], [0, 0.2, 0.4, 1]
    robustness(
        metric,
        SYMMETRY,
        network(0),
        network(1),
        identity(SYMMETRY),
        key=KEY,
        fractions=fractions,
        trials=3,
        samples=2,
        points=3,
        progress=lambda done, total: calls.append((done, total)),
    )
    total = 3 * len(fractions)
    assert calls == [(done, total) for done in range(1, total + 1)]
