"""The layers of a Flax Linen network: statistics and change of what they put out."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from combinability._checks import check_function
from combinability._jaxpr import trace_state

Apply = Callable[[PyTree, Any], Any]


class ChannelStatistics(NamedTuple):
    """Of a layer's outputs, over everything but the last axis.

    Attributes:
        mean: shape (channels,).
        deviation: standard deviation, shape (channels,).
    """

    mean: Float[Array, " channels"]
    deviation: Float[Array, " channels"]


def channel_statistics(
    apply: Apply,
    variables: PyTree,
    inputs: Any,
    *,
    layers: Callable[[str], bool] = lambda path: True,
) -> dict[str, ChannelStatistics]:
    """Means and deviations of every channel of dense and convolutional layers.

    Args:
        apply: as in `repair`.
        variables: of a network.
        inputs: one batch of data.
        layers: which layers, by path; by default all.

    Returns:
        path -> statistics of the layer's outputs.

    Raises:
        TypeError, ValueError: as `repair`.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> from flax import linen as nn
        >>> network, x = nn.Dense(3), jnp.eye(4)
        >>> variables = network.init(jax.random.key(0), x)
        >>> found = combinability.channel_statistics(network.apply, variables, x)
        >>> list(found), found[""].mean.shape
        ([''], (3,))
    """
    check_function("apply", apply, "apply(variables, inputs)")
    found: dict[str, ChannelStatistics] = {}

    def kept(path: str, y: Array) -> Array:
        found[path] = measure(y)
        return y

    run_layers(apply, variables, inputs, layers, kept)
    return found


def run_layers(
    apply: Apply,
    variables: PyTree,
    inputs: Any,
    layers: Callable[[str], bool],
    change: Callable[[str, Array], Array],
    expected: Collection[str] | None = None,
) -> Any:
    """Applies a network with the outputs of its selected layers changed."""
    met: list[str] = []
    outside = trace_state()

    def interceptor(next_function, args, kwargs, context):
        y = next_function(*args, **kwargs)
        module = context.module
        path = "/".join(module.path)
        layer = isinstance(module, nn.Dense | nn.Conv)
        if not layer or context.method_name != "__call__" or not layers(path):
            return y
        if path in met:
            raise ValueError(f"layers: {path!r} is called more than once; leave it out")
        if trace_state() != outside:
            raise ValueError(
                f"layers: {path!r} is inside a transformation (jax.jit, nn.scan, "
                "nn.remat) and cannot be reached; jit what surrounds the network, or "
                "leave the layer out"
            )
        met.append(path)
        return change(path, y)

    with nn.intercept_methods(interceptor):
        output = apply(variables, inputs)
    if not met or (expected is not None and set(met) != set(expected)):
        raise ValueError(
            f"apply: met the layers {met}, expected "
            f"{'dense or convolutional ones' if expected is None else list(expected)}; "
            "is it a Flax Linen network, and not jitted?"
        )
    return output


def _measure(y: Array) -> ChannelStatistics:
    axes = tuple(range(y.ndim - 1))
    return ChannelStatistics(y.mean(axes), y.std(axes))


def measure(y: Float[Array, "... channels"]) -> ChannelStatistics:
    """Statistics of a layer's output."""
    axes = tuple(range(y.ndim - 1))
    return ChannelStatistics(y.mean(axes), y.std(axes))
