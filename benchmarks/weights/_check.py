"""Whether named arrays are those of a network, and if not, what differs."""

import difflib
from collections.abc import Iterable, Mapping, Set

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
            f"{name!r} is {_described(found[name])}, expected {_described(wanted)}"
            for name, wanted in expected.items()
            if name in found and not _fits(found[name], wanted)
        ),
    ]
    if complaints:
        raise WeightsError(f"weights of another network: {'; '.join(complaints)}")


def _listed(fault: str, names: Set[str], others: Iterable[str]) -> list[str]:
    others = sorted(others)
    return _first(
        f"{name!r} is {fault}"
        + "".join(
            f" (nearest: {n!r})" for n in difflib.get_close_matches(name, others, 1)
        )
        for name in sorted(names)
    )


def _first(complaints: Iterable[str]) -> list[str]:
    complaints = list(complaints)
    rest = len(complaints) - _LISTED
    return complaints[:_LISTED] + ([f"{rest} more such"] if rest > 0 else [])


def _fits(found: np.ndarray, wanted: jax.ShapeDtypeStruct) -> bool:
    # Any precision will do, but whole numbers are no weights.
    kinds = {jnp.issubdtype(a.dtype, jnp.floating) for a in (found, wanted)}
    return found.shape == wanted.shape and len(kinds) == 1


def _described(array: np.ndarray | jax.ShapeDtypeStruct) -> str:
    return f"{array.dtype}{list(array.shape)}"
