"""BatchNorm statistics of a combination."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from combinability._checks import path_name
from combinability._jaxpr import returns_an_input, trace


def reset_batch_norm(
    apply: Callable[[PyTree, Any], tuple[Any, PyTree]],
    variables: PyTree,
    batches: PyTree,
    *,
    collection: str = "batch_stats",
) -> PyTree:
    r"""Return variables with running statistics of calibration data.

    The combined running statistics of two networks are not those of the combination.
    With :math:`\mu_j` and :math:`\sigma_j^2` the statistics of batch j of m in training
    mode, the new statistics are those of all batches pooled (not a moving average):

    .. math::

        \mu = \frac1m \sum_j \mu_j, \qquad
        \sigma^2 = \frac1m \sum_j \left(\sigma_j^2 + (\mu_j - \mu)^2\right)

    In training mode the layers before normalise by the batch's own statistics; with one
    batch of all calibration data the result is exactly what the network sees when it is
    evaluated. Calibrate on training data, never on the data that the combination is
    evaluated on. A pure function, which may be used in a metric of `evaluate`.

    Args:
        apply: `apply(variables, x)` in training mode; gives the output and a dictionary
            with the updated collection, as in Flax `model.apply(variables, x,
            train=True, mutable=["batch_stats"])`. The update must be a moving average,
            `decay * old + (1 - decay) * batch`, of leaves named `mean` and `var`.
        variables: a dictionary with the collection.
        batches: a tree of arrays with leading axes (batches, size): x of each batch.
        collection: the name of the statistics.

    Returns:
        The variables with new statistics.

    Raises:
        ValueError: if variables have no such collection, a leaf of it is neither a
            mean nor a variance, apply does not update it, or there is no batch.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> from flax import linen as nn
        >>> norm = nn.BatchNorm(use_running_average=False)
        >>> batches = jnp.arange(12.0).reshape(3, 4, 1)
        >>> variables = norm.init(jax.random.key(0), batches[0])
        >>> variables = combinability.reset_batch_norm(
        ...     lambda v, x: norm.apply(v, x, mutable=["batch_stats"]),
        ...     variables, batches,
        ... )
        >>> round(float(variables["batch_stats"]["mean"][0]), 3)
        5.5

    References:
        The statistics of a permuted and averaged network: Jordan et al., 2022 (REPAIR,
        arXiv 2211.08403), section 3; the exact pooling is ours.
    """
    if not isinstance(variables, dict) or collection not in variables:
        raise ValueError(
            f"variables: expected a dictionary with {collection!r}, got "
            f"{sorted(variables) if isinstance(variables, dict) else type(variables)}"
        )
    old = variables[collection]
    _check(old, batches, collection)

    def update(statistics, x):
        return apply({**variables, collection: statistics}, x)[1][collection]

    _check_updates(update, old, batches, collection)
    zeros, ones = jax.tree.map(jnp.zeros_like, old), jax.tree.map(jnp.ones_like, old)

    def of_batch(x):
        # The tangent of the old statistics is the average's decay, exactly.
        new, decay = jax.jvp(lambda s: update(s, x), (zeros,), (ones,))
        return jax.tree.map(lambda n, d: n / (1 - d), new, decay)

    pooled = _pool(jax.lax.map(of_batch, batches))
    return {**variables, collection: pooled}


def _pool(of_batches: PyTree) -> PyTree:
    """Means and variances of all batches from those of each, by the leaf's name."""
    found, structure = jax.tree_util.tree_flatten_with_path(of_batches)
    by_path = {path_name(path): leaf for path, leaf in found}

    def pooled(path, leaf):
        if not path.endswith("var"):
            return leaf.mean(0)
        return leaf.mean(0) + by_path[path[: -len("var")] + "mean"].var(0)

    return jax.tree.unflatten(
        structure, [pooled(path, leaf) for path, leaf in by_path.items()]
    )


def _check(statistics: PyTree, batches: PyTree, collection: str) -> None:
    paths = [
        path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(statistics)
    ]
    for path in paths:
        if path.rpartition("/")[2] not in ("mean", "var"):
            raise ValueError(
                f"variables[{collection!r}]: expected leaves named 'mean' and 'var', "
                f"got {path!r}"
            )
        if path.endswith("var") and path[: -len("var")] + "mean" not in paths:
            raise ValueError(f"variables[{collection!r}]: {path!r} has no mean")
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(batches)]
    if not shapes or any(len(shape) < 2 or 0 in shape[:2] for shape in shapes):
        raise ValueError(
            "batches: expected arrays with leading axes (batches, size), both at least "
            f"1, got shapes {shapes}"
        )


def _check_updates(
    update: Callable, statistics: PyTree, batches: PyTree, collection: str
) -> None:
    first = jax.tree.map(lambda leaf: leaf[0], batches)
    if returns_an_input(trace(update, statistics, first)[0]):
        raise ValueError(
            f"apply: returned {collection!r} as it got them; apply the network in "
            "training mode with the collection mutable"
        )
