"""Statistics of BatchNorm, reset to those of calibration data."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, PyTree

from combinability._jaxpr import returns_an_input, trace
from combinability._layers import (
    at_least_float32,
    layer_path,
    module_with,
    with_collection,
)

# Old statistics that those of a batch are small next to; a power of 2.
_LARGE = 2.0**60


def reset_batch_norm(
    apply: Callable[[PyTree, Any], tuple[Any, PyTree]] | nnx.Module,
    variables: PyTree,
    batches: PyTree,
    *,
    collection: str = "batch_stats",
) -> PyTree:
    r"""Return variables with running statistics of calibration data.

    The combined running statistics of two networks are not those of the combination
    (Jordan et al., 2022, arXiv 2211.08403, section 3; the exact pooling is ours). With
    :math:`\mu_j` and :math:`\sigma_j^2` the statistics of batch j of m in training
    mode, the new statistics are those of all batches pooled (not a moving average):

    .. math::

        \mu = \frac1m \sum_j \mu_j, \qquad
        \sigma^2 = \frac1m \sum_j \left(\sigma_j^2 + (\mu_j - \mu)^2\right)

    In training mode the layers before normalise by the batch's own statistics; with one
    batch of all calibration data the result is what the network sees when it is
    evaluated, to rounding, which is multiplied by 1 / (1 − decay). Calibrate on
    training data. A pure function, which may be used in a metric of `evaluate`. Outside
    of `jax.jit`, a call with the same `apply`, or an NNX module of the same structure,
    and the same shapes does not compile again, and what `apply` closes over is read
    when it is first traced. One that cannot be hashed is compiled at every call.

    Args:
        apply: `apply(variables, x)` in training mode; gives the output and a dictionary
            with the updated collection, as in Flax `model.apply(variables, x,
            train=True, mutable=["batch_stats"])`. The update must be a moving average,
            `decay * old + (1 - decay) * batch`, of leaves named `mean` and `var`;
            others, such as those of `nn.SpectralNorm`, stay as they are.
            Or a Flax NNX module in training mode, which is left as it is.
        variables: a dictionary with the collection; of an NNX module
            `nnx.state(module)`, or a part of it.
        batches: a tree of arrays with leading axes (batches, size): x of each batch.
        collection: the name of the statistics; those of an NNX module are its
            `nnx.BatchStat`.

    Returns:
        The variables with new statistics, in the dtypes of the old ones. Of an NNX
        module with all its statistics, also where variables are a part without them.

    Raises:
        ValueError: if variables have no such collection of means and variances, apply
            does not update it, or there is no batch.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> from flax import linen as nn
        >>> norm = nn.BatchNorm(use_running_average=False)
        >>> batches = jnp.arange(12.0).reshape(3, 4, 1)
        >>> apply = lambda v, x: norm.apply(v, x, mutable=["batch_stats"])
        >>> variables = norm.init(jax.random.key(0), batches[0])
        >>> variables = combinability.reset_batch_norm(apply, variables, batches)
        >>> round(float(variables["batch_stats"]["mean"][0]), 3)
        5.5
    """
    if isinstance(apply, nnx.Module):
        return _reset_nnx(apply, variables, batches, collection)
    if not isinstance(variables, Mapping) or collection not in variables:
        got = sorted(variables) if isinstance(variables, Mapping) else type(variables)
        raise ValueError(
            f"variables: expected a dictionary with {collection!r}, got {got}"
        )
    _check_statistics(variables, collection)
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(batches)]
    if not shapes or any(len(shape) < 2 or 0 in shape[:2] for shape in shapes):
        raise ValueError(
            "batches: expected arrays with leading axes (batches, size), both at least "
            f"1, got shapes {shapes}"
        )
    try:
        hash(apply)
    except TypeError:
        pooled = _pooled(apply, collection, variables, batches)
    else:
        pooled = _compiled_pooled(apply, collection, variables, batches)
    old = _statistics(variables[collection])
    new = {path: x.astype(jnp.result_type(old[path])) for path, x in pooled.items()}
    changed = _with_statistics(variables[collection], new)
    return with_collection(variables, collection, changed)


def _check_statistics(variables: Mapping[str, PyTree], collection: str) -> None:
    """Raise unless the collection holds means, and variances that have one."""
    found = _statistics(variables[collection])
    if not found:
        leaves = jax.tree_util.tree_leaves_with_path(variables[collection])
        got = ", ".join(repr(layer_path(path)) for path, _ in leaves) or "none"
        raise ValueError(
            f"variables[{collection!r}]: expected leaves named 'mean' and 'var', got "
            f"{got}"
        )
    for path in found:
        if _mean_of(path) not in found:
            raise ValueError(f"variables[{collection!r}]: {path!r} has no mean")


def _statistics(collection: PyTree) -> dict[str, Any]:
    """The means and variances of a collection, by path."""
    leaves = jax.tree_util.tree_leaves_with_path(collection)
    named = {layer_path(path): leaf for path, leaf in leaves}
    return {
        path: leaf
        for path, leaf in named.items()
        if path.rpartition("/")[2] in ("mean", "var")
    }


def _with_statistics(collection: PyTree, statistics: Mapping[str, Any]) -> PyTree:
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: statistics.get(layer_path(path), leaf), collection
    )


def _mean_of(path: str) -> str:
    """The mean that belongs to a statistic: of a mean, itself."""
    return f"{path.rpartition('/')[0]}/mean".removeprefix("/")


def _pooled(
    apply: Callable[[PyTree, Any], tuple[Any, PyTree]],
    collection: str,
    variables: Mapping[str, PyTree],
    batches: PyTree,
) -> dict[str, Array]:
    """Mean and variance over all batches, whatever the decay of the network is."""
    old = _statistics(variables[collection])

    def update(statistics, x):
        changed = _with_statistics(variables[collection], statistics)
        new = _statistics(apply({**variables, collection: changed}, x)[1][collection])
        return {path: new[path] for path in statistics}

    first = jax.tree.map(lambda leaf: leaf[0], batches)
    if returns_an_input(trace(update, old, first)[0]):
        raise ValueError(
            f"apply: returned {collection!r} as it got them; apply the network in "
            "training mode with the collection mutable"
        )
    # In at least float32, since a decay near 1 is rounded in half precision.
    zeros = jax.tree.map(lambda leaf: jnp.zeros_like(at_least_float32(leaf)), old)
    large = jax.tree.map(lambda leaf: leaf + _LARGE, zeros)

    def of_batch(x):
        # new = decay * old + (1 - decay) * batch; where old is large, the decay follows
        # without rounding. Its tangent would not do: NNX stops gradients.
        new, other = update(zeros, x), update(large, x)
        return jax.tree.map(lambda n, o: n / (1 - (o - n) / _LARGE), new, other)

    each = jax.lax.map(of_batch, batches)

    def pool(path, leaf):
        mean = each[_mean_of(path)]
        return leaf.mean(0) if leaf is mean else leaf.mean(0) + mean.var(0)

    return {path: pool(path, leaf) for path, leaf in each.items()}


_compiled_pooled = jax.jit(_pooled, static_argnums=(0, 1))


@dataclasses.dataclass(frozen=True)
class _NnxNetwork:
    """An NNX module as a Linen function, the same for modules of the same structure."""

    graph: Any
    collection: str

    def __call__(self, variables: PyTree, x: Any) -> tuple[Any, PyTree]:
        state = nnx.merge_state(*variables.values())
        module = nnx.merge(self.graph, state, copy=True)
        return module(x), {self.collection: nnx.state(module, nnx.BatchStat)}


def _reset_nnx(module: nnx.Module, variables: PyTree, batches, collection) -> PyTree:
    """`reset_batch_norm` of an NNX module."""
    graph, *states = nnx.split(module_with(module, variables), nnx.BatchStat, ...)
    if not jax.tree.leaves(states[0]):
        raise ValueError("apply: expected an NNX module with nnx.BatchStat, got none")
    parts = dict(zip((collection, "others"), states, strict=True))
    network = _NnxNetwork(graph, collection)
    new = reset_batch_norm(network, parts, batches, collection=collection)
    _, given = nnx.split_state(variables, nnx.BatchStat, ...)
    return nnx.merge_state(given, new[collection])
