"""The barrier between two networks: how much worse the way is than its ends."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from combinability._arguments import check_networks
from combinability._checks import check_count
from combinability._combine import combine
from combinability._metric import Metric, trace
from combinability.symmetry._symmetry import path_name

# Two networks -> the leaves of the metric's value, each with a leading axis.
Losses = Callable[[PyTree, PyTree], list[np.ndarray]]


class Barrier(NamedTuple):
    """The losses on the straight way from one network to another.

    Attributes:
        height: the barrier; a tree like the metric's value, in float64.
        fractions: the fractions of the way from a (0) to b (1), shape (points,).
        losses: the metric at each; a tree like its value, leading axis `points`.
    """

    height: PyTree
    fractions: Float[np.ndarray, " points"]
    losses: PyTree


def barrier(
    metric: Callable[[PyTree], PyTree],
    a: PyTree,
    b: PyTree,
    *,
    points: int = 25,
    batch: int = 1,
) -> Barrier:
    r"""The barrier on the straight way from one network to another.

    .. math::

        \max_{t \in [0, 1]} \; L((1 - t)\,\Theta_A + t\,\Theta_B)
        - (1 - t)\,L(\Theta_A) - t\,L(\Theta_B)

    It is never negative, as both ends belong to the way, and 0 where the loss is
    convex. Networks trained apart are aligned first; see `match`.

    Args:
        metric: a pure function of a network's variables that gives a real number, or a
            tree of arrays of them, each of which gets a barrier of its own. **Greater
            is worse**: give the error, not the accuracy. Repair of statistics goes
            inside. It is traced and compiled once for all points.
        a: variables of a network.
        b: variables of the same structure; leaves that are not combined (integers) are
            a's all the way.
        points: number of evenly spaced points, both ends included, at least 3. The
            height is the greatest at these; an odd number has the middle among them.
        batch: points side by side. More than 1 may be faster on an accelerator; on a
            CPU it is much slower where the metric convolves.

    Returns:
        Height, fractions and losses as NumPy arrays. The height is NaN where a loss is,
        or where an end's is infinite.

    Raises:
        TypeError: if the metric gives no real numbers, or points or batch is not an
            integer.
        ValueError: if a and b do not match or are not finite, or points or batch is too
            small.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> a, b = {"w": jnp.array(-1.0)}, {"w": jnp.array(1.0)}
        >>> found = combinability.barrier(
        ...     lambda variables: (variables["w"] ** 2 - 1) ** 2, a, b, points=5
        ... )
        >>> found.losses.tolist(), float(found.height)
        ([0.0, 0.5625, 1.0, 0.5625, 0.0], 1.0)

    References:
        Frankle et al., 2020 (arXiv 1912.05671); Ainsworth et al., 2022, Git Re-Basin
        (arXiv 2209.04836).
    """
    points, batch = check_count("points", points, 3), check_count("batch", batch, 1)
    a, b = check_networks({"a": a, "b": b})
    loss = trace_loss(metric, a)
    losses = along(loss, points, batch)(a, b)
    rebuild = loss.structure.unflatten
    return Barrier(
        rebuild([height(leaf) for leaf in losses]), ways(points), rebuild(losses)
    )


def along(loss: Metric, points: int, batch: int) -> Losses:
    """A loss on the straight way between any two networks, compiled once.

    Args:
        loss: the traced metric.
        points: points of the way.
        batch: points side by side.

    Returns:
        (a, b) -> for each leaf of the metric's value its values, (points, …).
    """

    @jax.jit
    def compiled(captured, a, b):
        def at(fraction):
            return loss(captured, combine(a, b, 1 - fraction))

        return one_by_one(at, jnp.asarray(ways(points)), batch)

    return lambda a, b: list(map(np.asarray, compiled(loss.captured, a, b)))


def one_by_one(function: Callable[[Array], Any], xs: Array, batch: int) -> Any:
    """A function of each of many, in a compiled loop, `batch` of them side by side."""
    # A batch of 1 would still be vmapped, which is slow for convolutions on a CPU.
    return jax.lax.map(function, xs, batch_size=batch if batch > 1 else None)


def ways(points: int) -> Float[np.ndarray, " points"]:
    """The fractions of the way that are looked at."""
    return np.linspace(0.0, 1.0, points)


def height(losses: np.ndarray) -> np.ndarray:
    """The barrier of each loss on the way, for losses of shape (points, …)."""
    losses = losses.astype(np.float64)
    t = ways(len(losses)).reshape(-1, *[1] * (losses.ndim - 1))
    # An infinite end has no barrier: 0 · ∞ is NaN, and that is what is meant.
    with np.errstate(invalid="ignore"):
        return np.max(losses - (1 - t) * losses[0] - t * losses[-1], axis=0)


def trace_loss(metric: Callable[[PyTree], PyTree], variables: PyTree) -> Metric:
    """A metric traced once, for networks like the given one.

    Raises:
        TypeError: if its values are not real numbers.
    """
    loss = trace(metric, jax.eval_shape(lambda v: combine(v, v, 0.5), variables))
    for path, leaf in jax.tree_util.tree_flatten_with_path(
        loss.structure.unflatten(loss.outputs)
    )[0]:
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            where = f" at {path_name(path)!r}" if path else ""
            raise TypeError(
                f"metric: expected real losses, got {leaf.dtype}{where}; return a real "
                "number that is greater where a network is worse"
            )
    return loss
