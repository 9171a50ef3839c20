"""Whether named arrays are those of a network, and if not, what differs."""

import difflib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence, Set

import jax
import jax.numpy as jnp
import numpy as np

from ._archive import WeightsError

# How many names an error lists of a kind.
_LISTED = 3


def check(
    found: Mapping[str, np.ndarray], expected: Mapping[str, jax.ShapeDtypeStruct]
) -> None:
    """Refuse arrays whose names, shapes or kinds of number are not those expected.

    Raises:
      WeightsError: with the first names that are missing, unexpected or of another
        shape, and the nearest names on the other side.
    """
    missing, unexpected = expected.keys() - found.keys(), found.keys() - expected.keys()
    complaints = [
        *_listed("missing", missing, unexpected),
        *_listed("unexpected", unexpected, missing or expected.keys()),
        *_first(
            [n for n in expected if n in found and not _fits(found[n], expected[n])],
            lambda name: (
                f"{name!r} is {_described(found[name])}, expected "
                + _described(expected[name])
            ),
        ),
    ]
    if complaints:
        raise WeightsError(f"weights of another network: {'; '.join(complaints)}")


def _listed(fault: str, names: Set[str], others: Iterable[str]) -> list[str]:
    others = sorted(others)
    nearest = functools.partial(difflib.get_close_matches, possibilities=others, n=1)
    return _first(
        sorted(names),
        lambda name: (
            f"{name!r} is {fault}"
            + "".join(f" (nearest: {near!r})" for near in nearest(name))
        ),
    )


def _first(names: Sequence[str], complaint: Callable[[str], str]) -> list[str]:
    """What there is to say of the first names, and how many more there are."""
    rest = len(names) - _LISTED
    said = [complaint(name) for name in names[:_LISTED]]
    return said + ([f"{rest} more such"] if rest > 0 else [])


def _fits(found: np.ndarray, wanted: jax.ShapeDtypeStruct) -> bool:
    # Any precision will do, but whole numbers are no weights.
    kinds = {jnp.issubdtype(a.dtype, jnp.floating) for a in (found, wanted)}
    return found.shape == wanted.shape and len(kinds) == 1


def _described(array: np.ndarray | jax.ShapeDtypeStruct) -> str:
    return f"{array.dtype}{list(array.shape)}"
