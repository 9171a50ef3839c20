"""Every pair of networks matched, once."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import jax
from jaxtyping import PyTree

from combinability._arguments import check_bijections
from combinability._keys import Key
from combinability._permutation import Permutations, identity, invert
from combinability.matching._matching import Matching
from combinability.symmetry._symmetry import Symmetry

Pair = tuple[int, int]


class Matcher(Protocol):
    """A way of matching, as `match` or `weight_matching`."""

    def __call__(
        self, symmetry: Symmetry, a: PyTree, b: PyTree, *, key: Key
    ) -> Matching:
        """The permutation of b that moves it towards a."""
        ...


def match_pairs(
    symmetry: Symmetry,
    models: Sequence[PyTree],
    match: Matcher,
    key: Key,
    done: Callable[[], None],
) -> dict[Pair, Permutations]:
    """For each i, j the permutation of j that moves it towards i.

    Pairs i < j are matched, the others are the inverses of these. `done` is called
    after each matching.

    Raises:
        TypeError: if `match` gives no object with a permutation.
        ValueError: if that is no permutation of the groups.
    """
    still = check_bijections(symmetry, identity(symmetry), "identity")
    towards = {(i, i): still for i in range(len(models))}
    pairs = list(itertools.combinations(range(len(models)), 2))
    inverse = jax.jit(lambda permutation: invert(symmetry, permutation))
    for (i, j), own in zip(pairs, jax.random.split(key, len(pairs)), strict=True):
        found = match(symmetry, models[i], models[j], key=own)
        permutation = getattr(found, "permutation", None)
        if not isinstance(permutation, Mapping):
            raise TypeError(
                "match: expected it to give an object with a dict `permutation`, as "
                f"weight_matching does, got {found!r}"
            )
        given = check_bijections(symmetry, permutation, "match: permutation")
        towards[i, j] = {**still, **given}
        towards[j, i] = inverse(towards[i, j])
        done()
    return towards
