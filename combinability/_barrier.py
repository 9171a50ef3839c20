"""The barrier between two networks: how far losses rise between them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, PyTree

from combinability._checks import check_count, path_name
from combinability._evaluate import evaluate
from combinability.coefficients import line


class Barrier(NamedTuple):
    """The losses on the line segment from one network to another; smaller is better.

    Attributes:
        height: the barrier: a tree like the metric's value, in float64.
        fractions: the points of the segment, from 0 (a) to 1 (b).
        losses: the metric at each point: a tree with a leading axis `points`.
    """

    height: PyTree
    fractions: Float[np.ndarray, " points"]
    losses: PyTree


def barrier(
    metric: Callable[..., PyTree],
    a: PyTree,
    b: PyTree,
    *,
    points: int = 25,
    args: Sequence[PyTree] = (),
    batch_size: int | None = None,
) -> Barrier:
    r"""Return the loss barrier on the line segment from one network to another.

    .. math::

        \max_{t \in [0, 1]} \; L((1 - t)\,\Theta_A + t\,\Theta_B)
        - (1 - t)\,L(\Theta_A) - t\,L(\Theta_B)

    as in Frankle et al., 2020 (arXiv 1912.05671). It is never negative, as t = 0 gives
    0, and 0 where the loss is convex. Align networks that were trained separately
    first; see `match`.

    Args:
        metric: a pure function `metric(variables, *args)` that returns a loss: a real
            number, **smaller is better** (the error, not the accuracy), or a tree of
            arrays of them, each of which has its own barrier. Compiled once for equal
            calls, as in `evaluate`.
        a, b: variables of the same structure; leaves that are not combined (integers)
            are a's at every point.
        points: number of evenly spaced points, both ends included, at least 3. The
            height is the maximum over these; an odd number includes the midpoint.
        args, batch_size: as in `evaluate`.

    Returns:
        A `Barrier` of NumPy arrays. The height is NaN where a loss is, or where the
        loss at an end is infinite.

    Raises:
        TypeError: if the metric returns no real numbers, or as `evaluate`.
        ValueError: as `evaluate`, or if points is less than 3.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> double_well = lambda x: (x**2 - 1) ** 2
        >>> ends = jnp.array(-1.0), jnp.array(1.0)
        >>> found = combinability.barrier(double_well, *ends, points=5)
        >>> found.losses.tolist(), float(found.height)
        ([0.0, 0.5625, 1.0, 0.5625, 0.0], 1.0)
    """
    points = check_count("points", points, 3)
    key = jax.random.key(0, impl="threefry2x32")  # a line of points draws nothing
    losses = evaluate(
        metric, a, b, line(points),
        key=key, samples=points, args=args, batch_size=batch_size,
    )  # fmt: skip
    height = jax.tree_util.tree_map_with_path(_height, losses)
    return Barrier(height, np.linspace(0.0, 1.0, points), losses)


def barriers(
    metric: Callable[..., PyTree],
    pairs: Iterable[tuple[PyTree, ...]],
    *,
    points: int = 25,
    batch_size: int | None = None,
) -> Barrier:
    """Return the barriers of many pairs of networks, with one compiled program.

    Args:
        pairs: tuples (a, b), or (a, b, *args) with further arguments of the metric for
            this pair. May be a generator: one pair at a time is in memory.
        metric, points, batch_size: as in `barrier`.

    Returns:
        As `barrier`, height and losses with a leading axis `pairs`.

    Raises:
        ValueError, TypeError: as `barrier`, and if there is no pair.

    Example:
        >>> import itertools, jax.numpy as jnp, combinability
        >>> pairs = itertools.combinations(jnp.array([-1.0, 1.0, 3.0]), 2)
        >>> found = combinability.barriers(lambda x: -(x**2), pairs, points=3)
        >>> found.height.tolist(), found.losses.shape
        ([1.0, 4.0, 1.0], (3, 3))
    """
    found = [
        barrier(metric, a, b, points=points, args=args, batch_size=batch_size)
        for a, b, *args in map(_checked_pair, pairs)
    ]
    if not found:
        raise ValueError("pairs: expected at least one pair of networks, got none")
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *found)
    return stacked._replace(fractions=found[0].fractions)


def _checked_pair(pair: Any) -> Sequence[PyTree]:
    if not isinstance(pair, tuple | list) or len(pair) < 2:
        raise TypeError(
            f"pairs: expected tuples (a, b) or (a, b, *args), got {type(pair).__name__}"
            + (f" of length {len(pair)}" if hasattr(pair, "__len__") else "")
        )
    return pair


def _height(path: tuple, losses: np.ndarray) -> np.ndarray:
    """The barrier of losses of shape (points, …)."""
    if np.iscomplexobj(losses):
        where = f" at {path_name(path)!r}" if path else ""
        raise TypeError(
            f"metric: expected real losses, got {losses.dtype}{where}; return real "
            "numbers that are smaller where a network is better"
        )
    losses = losses.astype(np.float64)
    t = np.linspace(0.0, 1.0, len(losses)).reshape(-1, *[1] * (losses.ndim - 1))
    # A loss that is infinite at an end has no barrier: 0 · ∞ is NaN, as intended.
    with np.errstate(invalid="ignore"):
        return np.max(losses - (1 - t) * losses[0] - t * losses[-1], axis=0)
