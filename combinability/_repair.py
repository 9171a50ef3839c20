"""REPAIR: the statistics of a combination's activations."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from combinability._checks import check_function
from combinability._combine import check_like
from combinability._layers import (
    Network,
    as_function,
    at_least_float32,
    layer_arrays,
    run_layers,
    square_root,
    with_arrays,
)

# Deviations below this share of a layer's root mean square are those of constants.
_CONSTANT = 1e-6
# Outputs are equal up to so many times the root of their type's resolution.
_ROUNDING = 4


class ChannelStatistics(NamedTuple):
    """Mean and standard deviation of a layer's outputs, per channel.

    Over all axes but the last, or but those of the features of a `DenseGeneral` or
    `LinearGeneral`; in at least float32.
    """

    mean: Float[Array, "*channels"]
    deviation: Float[Array, "*channels"]


class Correction(NamedTuple):
    """Correction of a layer's outputs y: scale * y + shift, in at least float32."""

    scale: Float[Array, "*channels"]
    shift: Float[Array, "*channels"]


Corrections = Mapping[str, Correction]
Statistics = Mapping[str, ChannelStatistics]


def repair(
    apply: Network,
    variables: PyTree,
    a: PyTree,
    b: PyTree,
    inputs: Any,
    *,
    statistics: tuple[Statistics, Statistics] | None = None,
    layers: Callable[[str], bool] = lambda path: True,
) -> dict[str, Correction]:
    r"""Return corrections of a combination's activations to those of its parents.

    REPAIR (Jordan et al., 2022, arXiv 2211.08403): the activations of an averaged
    network vary less than those of its parents, more so in every layer. Every channel
    of every dense and convolutional layer (listed below) gets a scale and a shift such
    that on the calibration inputs its mean and standard deviation are

    .. math::

        \mu = (1 - t) \mu_A + t \mu_B, \qquad \sigma = (1 - t) \sigma_A + t \sigma_B

    The coefficient t of a channel is that of the point of the line from a to b which is
    nearest to the channel's incoming weights θ (ours), and 1/2 where a and b have the
    same weights:

    .. math::

        t = \frac{\langle\theta - \theta_A, \theta_B - \theta_A\rangle}
          {\|\theta_B - \theta_A\|^2}

    Layers are corrected in the order of execution in one pass, so each is measured
    after the corrected layers before it. A pure function, which may be used in a metric
    of `evaluate`. For networks with BatchNorm use `reset_batch_norm`.

    The layers are Linen's `Dense`, `DenseGeneral` (the projections of attention),
    `Conv` and `ConvTranspose`, and NNX's `Linear`, `LinearGeneral`, `Conv` and
    `ConvTranspose`. Others stay as they are: `Einsum`, `ConvLocal`, `Embed`, and
    `ConvTranspose` with `transpose_kernel=True`. Statistics and corrections are in at
    least float32, whatever the dtype of the network.

    Args:
        apply: `apply(variables, inputs)` of a Flax Linen network, not jitted (the
            layers are intercepted; jit what surrounds it), or a Flax NNX module. In
            evaluation mode.
        variables, a, b: of the combination and of its parents; of an NNX module
            `nnx.state(module)`, or a part of it. What a part lacks is the module's own.
        inputs: one batch of calibration data, from the training set.
        statistics: `channel_statistics` of a and of b on the same inputs, where they
            are computed once for many combinations; by default computed here.
        layers: which layers, by path ("Dense_0", "block/Conv_1"); by default all.

    Returns:
        path -> scale and shift of each layer; see `corrected` and `fold_corrections`.
        A channel that is constant in the combination is only shifted.

    Raises:
        ValueError: if the trees do not match, no layer is met, or a layer is called
            more than once or inside a lifted transformation (`nn.scan`, `nn.remat`).

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> from flax import linen as nn
        >>> network, x = nn.Dense(3), jax.random.normal(jax.random.key(0), (50, 4))
        >>> a, b = (network.init(jax.random.key(seed), x) for seed in (1, 2))
        >>> middle = combinability.combine(a, b, 0.5)
        >>> fixed = combinability.repair(network.apply, middle, a, b, x)
        >>> ends = [network.apply(v, x).std(0) for v in (a, b)]
        >>> y = combinability.corrected(network.apply, fixed)(middle, x)
        >>> bool(jnp.allclose(y.std(0), (ends[0] + ends[1]) / 2, atol=1e-5))
        True
    """
    check_like(variables, a, "variables", "a")
    check_like(b, a, "b", "a")
    ends = statistics or [
        channel_statistics(apply, parent, inputs, layers=layers) for parent in (a, b)
    ]
    if len(ends) != 2 or not all(isinstance(end, Mapping) for end in ends):
        raise TypeError("statistics: expected a pair of dicts by layer, of a and of b")
    corrections: dict[str, Correction] = {}

    def correct(path: str, y: Array, axes: int) -> Array:
        if any(path not in end for end in ends):
            raise ValueError(
                f"statistics: expected those of layer {path!r} too; compute them with "
                "the same layers"
            )
        channels = y.shape[-axes:]
        theta, first, last = (
            _incoming(tree, path, channels) for tree in (variables, a, b)
        )
        square = jnp.sum((last - first) ** 2, axis=0)
        t = jnp.sum((theta - first) * (last - first), axis=0)
        t = jnp.where(square > 0, t / jnp.where(square > 0, square, 1), 0.5)
        of_a, of_b = (end[path] for end in ends)
        mean, deviation = ((1 - t) * x + t * y for x, y in zip(of_a, of_b, strict=True))
        found = _measure(y, axes)
        size = square_root(jnp.mean(found.mean**2 + found.deviation**2))
        varies = found.deviation > _CONSTANT * size
        scale = deviation / jnp.where(varies, found.deviation, 1)
        scale = jnp.where(varies, scale, 1)
        corrections[path] = Correction(scale, mean - scale * found.mean)
        return _corrected(y, corrections[path])

    run_layers(apply, variables, inputs, layers, correct)
    return corrections


def corrected(apply: Network, corrections: Corrections) -> Callable[[PyTree, Any], Any]:
    """Return a network whose layers are corrected; see `repair` for an example.

    Args:
        apply: as in `repair`.
        corrections: what `repair` returned.

    Returns:
        A function of variables and inputs, which raises ValueError if the network does
        not have every layer that is to be corrected.
    """

    def correct(path: str, y: Array, axes: int) -> Array:
        return _corrected(y, corrections[path])

    def corrected_apply(variables: PyTree, inputs: Any) -> Any:
        chosen = corrections.__contains__
        return run_layers(apply, variables, inputs, chosen, correct, corrections)

    return corrected_apply


def fold_corrections(
    variables: PyTree,
    corrections: Corrections,
    *,
    apply: Network | None = None,
    inputs: Any = None,
) -> PyTree:
    """Return variables of the corrected network: corrections in kernels and biases.

    They are those of the corrected network where every corrected layer uses its kernel
    as it is stored, and no other layer uses it: not with `WeightNorm` or other
    normalised weights, nor with tied ones. Variables do not show that; `apply` does.

    Args:
        variables: a Flax variables dictionary, or `nnx.state(module)`.
        corrections: what `repair` returned.
        apply, inputs: as in `repair`, outside of `jax.jit`: the result is compared with
            `corrected` on these inputs. By default it is not.

    Raises:
        ValueError: if a corrected layer has no bias for the shift, or the outputs
            differ; then use `corrected`.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> variables = {"params": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}}
        >>> fixed = {"": combinability.Correction(jnp.array([2.0, 1.0]), jnp.ones(2))}
        >>> folded = combinability.fold_corrections(variables, fixed)
        >>> folded["params"]["kernel"][0].tolist(), folded["params"]["bias"].tolist()
        ([2.0, 1.0], [3.0, 2.0])
    """
    leaves = layer_arrays(variables)
    for path, (scale, shift) in corrections.items():
        kernel, bias = _names(path)
        if kernel not in leaves:
            raise ValueError(f"corrections: the network has no layer {path!r}")
        if bias not in leaves:
            raise ValueError(
                f"variables: layer {path!r} has no bias for the shift; use corrected"
            )
        channels = np.shape(leaves[bias])
        if np.shape(scale) != channels[-np.ndim(scale) :]:
            raise ValueError(
                f"corrections: expected shape {channels} for layer {path!r}, got "
                f"{np.shape(scale)}"
            )
        leaves[kernel] = _corrected(leaves[kernel], (scale, jnp.zeros_like(shift)))
        leaves[bias] = _corrected(leaves[bias], (scale, shift))
    folded = with_arrays(variables, leaves)
    if apply is not None:
        wanted = corrected(apply, corrections)(variables, inputs)
        _check_equal(as_function(apply)(folded, inputs), wanted)
    return folded


def _check_equal(found: PyTree, wanted: PyTree) -> None:
    """Raise a ValueError unless outputs are equal, up to rounding."""
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        rounding = _ROUNDING * float(jnp.finfo(jnp.result_type(float, y)).eps) ** 0.5
        error, size = jnp.max(jnp.abs(x - y)), jnp.max(jnp.abs(y))
        if not error <= rounding * size:
            raise ValueError(
                "corrections: expected layers that alone use their kernels, as they "
                f"are stored; folded, they change outputs of up to {float(size):.2g} "
                f"by up to {float(error):.2g}: use corrected"
            )


def channel_statistics(
    apply: Network,
    variables: PyTree,
    inputs: Any,
    *,
    layers: Callable[[str], bool] = lambda path: True,
) -> dict[str, ChannelStatistics]:
    """Return mean and deviation of every channel of dense and convolutional layers.

    Args:
        apply, variables, inputs, layers: as in `repair`, for one network.

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

    def kept(path: str, y: Array, axes: int) -> Array:
        found[path] = _measure(y, axes)
        return y

    run_layers(apply, variables, inputs, layers, kept)
    return found


def _measure(y: Float[Array, "..."], axes: int) -> ChannelStatistics:
    """Statistics of a layer's output, whose last axes are channels."""
    y, others = at_least_float32(y), tuple(range(y.ndim - axes))
    return ChannelStatistics(y.mean(others), square_root(y.var(others)))


def _corrected(y: Array, correction: tuple[Array, Array]) -> Array:
    scale, shift = correction
    return (at_least_float32(y) * scale + shift).astype(y.dtype)


def _incoming(
    variables: PyTree, path: str, channels: tuple[int, ...]
) -> Float[Array, "n *channels"]:
    """A layer's weights and biases, a column for each channel."""
    leaves = layer_arrays(variables)
    if _names(path)[0] not in leaves:
        raise ValueError(
            f"variables: layer {path!r} has no kernel of its own, as it shares that of "
            "another; leave it out by layers"
        )
    found = [leaves[name] for name in _names(path) if name in leaves]
    return jnp.concatenate([at_least_float32(x).reshape(-1, *channels) for x in found])


def _names(path: str) -> tuple[str, str]:
    """The paths of a layer's kernel and bias."""
    kernel, bias = (f"{path}/{name}".removeprefix("/") for name in ("kernel", "bias"))
    return kernel, bias
