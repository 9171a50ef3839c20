"""Each index changes under exactly the transformations that the table says."""

import pathlib
import re

import numpy as np
import pytest
from scipy.stats import ortho_group

from stitching import similarity
from tests.stitching.pairs import ALL, FROM_MOMENTS, draw


def translation(rng, x):
    return x + 3 * rng.normal(size=x.shape[1])


def isotropic_scaling(rng, x):
    return x * rng.uniform(2, 5)


def feature_scaling(rng, x):
    return x * np.exp(2 * rng.normal(size=x.shape[1]))


def orthogonal_maps(rng, x):
    return x @ ortho_group.rvs(x.shape[1], random_state=rng)


def invertible_linear_maps(rng, x):
    return x @ rng.normal(size=(x.shape[1], x.shape[1]))


def feature_permutations(rng, x):
    return x[:, rng.permutation(x.shape[1])]


def joint_sample_permutations(_, x):
    return x[np.random.default_rng(7).permutation(len(x))]


TRANSFORMATIONS = {
    each.__name__.replace("_", " "): each
    for each in (
        translation,
        isotropic_scaling,
        feature_scaling,
        orthogonal_maps,
        invertible_linear_maps,
        feature_permutations,
        joint_sample_permutations,
    )
}
INDICES = (
    "canonical_correlations",
    "cca",
    "cka",
    "linear_regression",
    "matched_correlation",
    "max_correlation",
    "mutual_neighbours",
    "procrustes",
    "pwcca",
    "rsa",
    "shape_distance",
    "svcca",
)
# Of other arguments than the default ones.
VARIANTS = {
    "cka, debiased": ("cka", set(), set()),
    "cka, RBF": ("cka", set(), set()),
    "cca, not centred": ("cca", set(), {"translation"}),
    "rsa, Euclidean": ("rsa", {"translation", "orthogonal maps"}, set()),
    "shape_distance, half": ("shape_distance", set(), {"isotropic scaling"}),
    "shape_distance, whitened": (
        "shape_distance",
        {"feature scaling", "invertible linear maps"},
        set(),
    ),
}


def table(text):
    """Index -> what leaves it unchanged, and whether it can be had from moments."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    found = {}
    for names, *cells in rows[2:]:
        kept = {
            name for name, mark in zip(rows[0][1:], cells, strict=True) if mark == "✓"
        }
        for index in re.findall(r"`(\w+)`", names):
            found[index] = kept - {"from moments"}, cells[-1] != "–"
    return found


TABLE = table(similarity.__doc__ or "")
PERMUTATIONS = {"feature permutations", "joint sample permutations"}


def invariances(index):
    return TABLE[index][0] | PERMUTATIONS


def changes(index, transform_x, transform_y):
    """Whether the index changes, over three pairs."""
    differences = []
    for seed in range(3):
        x, y = draw(seed=seed)
        rng = np.random.default_rng(seed)
        moved = ALL[index](transform_x(rng, x), transform_y(rng, y))
        differences.append(np.abs(moved - ALL[index](x, y)).max())
    if max(differences) < 1e-7:
        return False
    assert max(differences) > 1e-3, "neither clearly the same nor clearly another"
    return True


def nothing(_, x):
    return x


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("index", [*INDICES, *VARIANTS])
def test_what_the_table_says_holds(x64, index, transformation):
    base, more, less = VARIANTS.get(index, (index, set(), set()))
    invariant = transformation in (invariances(base) | more) - less
    transform = TRANSFORMATIONS[transformation]
    assert changes(index, transform, transform) != invariant


@pytest.mark.parametrize("index", [*INDICES, *VARIANTS])
def test_samples_permuted_in_one_activation_only_are_other_samples(x64, index):
    assert changes(index, joint_sample_permutations, nothing)


@pytest.mark.parametrize(
    ("index", "transform", "invariant_in_x", "invariant_in_y"),
    [
        ("linear_regression", invertible_linear_maps, True, False),
        ("linear_regression", feature_scaling, True, False),
        ("pwcca", invertible_linear_maps, False, True),
        ("pwcca", orthogonal_maps, False, True),
        ("max_correlation", isotropic_scaling, True, True),
    ],
)
def test_one_argument_may_take_more_than_both(
    x64, index, transform, invariant_in_x, invariant_in_y
):
    assert changes(index, transform, nothing) != invariant_in_x
    assert changes(index, nothing, transform) != invariant_in_y


@pytest.mark.parametrize("index", ["linear_regression", "pwcca", "max_correlation"])
def test_indices_that_are_said_not_to_be_symmetric_are_not(x64, index):
    x, y = draw()
    assert abs(ALL[index](x, y) - ALL[index](y, x)) > 1e-3


def test_the_table_is_complete_and_that_of_the_guide():
    guide = pathlib.Path(similarity.__file__).parent.parent / "README.md"
    shown = re.search(
        r"<!-- invariances -->\n(.*?)<!-- end -->", guide.read_text(), re.DOTALL
    )
    assert shown
    assert table(shown[1]) == TABLE
    assert TABLE.keys() == set(INDICES)
    for index, (_, from_moments) in TABLE.items():
        assert from_moments == (index in FROM_MOMENTS), index
