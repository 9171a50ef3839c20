"""REPAIR: rescale the activations of a combination to those of its parents."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from combinability._checks import check_function
from combinability._combine import check_like
from combinability._jaxpr import trace_state

# Deviations below this share of a layer's root mean square are those of constants.
_CONSTANT = 1e-6

Apply = Callable[[PyTree, Any], Any]


class ChannelStatistics(NamedTuple):
    """Statistics of a layer's outputs over all axes but the last.

    Attributes:
        mean: shape (channels,).
        deviation: standard deviation, shape (channels,).
    """

    mean: Float[Array, " channels"]
    deviation: Float[Array, " channels"]


class Correction(NamedTuple):
    """Correction of a layer's outputs y: scale * y + shift."""

    scale: Float[Array, " channels"]
    shift: Float[Array, " channels"]


Corrections = Mapping[str, Correction]
Statistics = Mapping[str, ChannelStatistics]


def repair(
    apply: Apply,
    variables: PyTree,
    a: PyTree,
    b: PyTree,
    inputs: Any,
    *,
    statistics: tuple[Statistics, Statistics] | None = None,
    layers: Callable[[str], bool] = lambda path: True,
) -> dict[str, Correction]:
    r"""Return corrections of a combination's activations to those of its parents.

    The activations of an averaged network vary less than those of the networks it is
    made of, more so in every layer. Every channel of every dense and convolutional
    layer gets a scale and a shift such that on the calibration inputs its mean and
    standard deviation are

    .. math::

        \mu = (1 - t) \mu_A + t \mu_B, \qquad \sigma = (1 - t) \sigma_A + t \sigma_B

    The coefficient t of a channel is that of the point of the line from a to b which is
    nearest to the channel's incoming weights θ (ours; on the line it is the
    coefficient of the combination):

    .. math::

        t = \frac{\langle\theta - \theta_A, \theta_B - \theta_A\rangle}
          {\|\theta_B - \theta_A\|^2}

    and 1/2 where a and b have the same weights. Layers are corrected in the order of
    execution in one pass, so each is measured after the corrected layers before it.
    Calibrate on training data. A pure function, which may be used in a metric of
    `evaluate`. For networks with BatchNorm use `reset_batch_norm`.

    Args:
        apply: `apply(variables, inputs)` of a Flax Linen network in evaluation mode,
            not jitted (the layers are intercepted; jit what surrounds it).
        variables: of the combination.
        a: variables of the network of coefficient 0.
        b: variables of the network of coefficient 1.
        inputs: one batch of calibration data.
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

    References:
        Jordan et al., 2022 (REPAIR, arXiv 2211.08403).
    """
    check_like(variables, a, "variables", "a")
    check_like(b, a, "b", "a")
    if statistics is None:
        statistics = (
            channel_statistics(apply, a, inputs, layers=layers),
            channel_statistics(apply, b, inputs, layers=layers),
        )
    corrections: dict[str, Correction] = {}

    def correct(path: str, y: Array) -> Array:
        t = _coefficient(*(_incoming(v, path) for v in (variables, a, b)))
        of_a, of_b = (which[path] for which in statistics)
        target = ChannelStatistics(
            *((1 - t) * x + t * y for x, y in zip(of_a, of_b, strict=True))
        )
        corrections[path] = _correction(_measure(y), target)
        return _corrected(y, corrections[path])

    _run_layers(apply, variables, inputs, layers, correct)
    return corrections


def corrected(apply: Apply, corrections: Corrections) -> Apply:
    """Return a network whose layers are corrected.

    Args:
        apply: `apply(variables, inputs)` of a Flax Linen network, not jitted.
        corrections: what `repair` returned.

    Returns:
        A function of variables and inputs, which raises ValueError if the network does
        not have every layer that is to be corrected.

    Example:
        See `repair`.
    """

    def corrected_apply(variables: PyTree, inputs: Any) -> Any:
        def correct(path: str, y: Array) -> Array:
            return _corrected(y, corrections[path])

        return _run_layers(
            apply, variables, inputs, corrections.__contains__, correct, corrections
        )

    return corrected_apply


def fold_corrections(variables: PyTree, corrections: Corrections) -> PyTree:
    """Return variables of the corrected network: corrections in kernels and biases.

    Args:
        variables: a Flax variables dictionary.
        corrections: what `repair` returned.

    Returns:
        The variables, with scales in kernels and biases, and shifts in biases.

    Raises:
        ValueError: if a corrected layer has no bias for the shift; then use
            `corrected`.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> from flax import linen as nn
        >>> network, x = nn.Dense(2), jnp.eye(3)
        >>> variables = network.init(jax.random.key(0), x)
        >>> fixed = {"": combinability.Correction(jnp.array([2.0, 1.0]), jnp.ones(2))}
        >>> folded = network.apply(combinability.fold_corrections(variables, fixed), x)
        >>> network = combinability.corrected(network.apply, fixed)
        >>> bool(jnp.allclose(folded, network(variables, x)))
        True
    """
    params = variables.get("params") if isinstance(variables, Mapping) else None
    if params is None:
        raise ValueError(
            "variables: expected those of a Flax Linen network, a dict with 'params'"
        )
    for path, (scale, shift) in corrections.items():
        layer = _at(params, path)
        if "bias" not in layer:
            raise ValueError(
                f"variables: layer {path!r} has no bias for the shift; use corrected"
            )
        channels = np.shape(layer["bias"])
        if np.shape(scale) != channels:
            raise ValueError(
                f"corrections: expected shape {channels} for layer {path!r}, got "
                f"{np.shape(scale)}"
            )
        changed = {
            **layer,
            "kernel": layer["kernel"] * scale,
            "bias": layer["bias"] * scale + shift,
        }
        params = _replaced(params, path.split("/") if path else [], changed)
    return {**variables, "params": params}


def channel_statistics(
    apply: Apply,
    variables: PyTree,
    inputs: Any,
    *,
    layers: Callable[[str], bool] = lambda path: True,
) -> dict[str, ChannelStatistics]:
    """Return mean and deviation of every channel of dense and convolutional layers.

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
        found[path] = _measure(y)
        return y

    _run_layers(apply, variables, inputs, layers, kept)
    return found


def _run_layers(
    apply: Apply,
    variables: PyTree,
    inputs: Any,
    layers: Callable[[str], bool],
    change: Callable[[str, Array], Array],
    expected: Collection[str] | None = None,
) -> Any:
    """Apply a network with the outputs of selected layers changed."""
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


def _measure(y: Float[Array, "... channels"]) -> ChannelStatistics:
    """Statistics of a layer's output."""
    axes = tuple(range(y.ndim - 1))
    return ChannelStatistics(y.mean(axes), y.std(axes))


def _correction(found: ChannelStatistics, target: ChannelStatistics) -> Correction:
    size = jnp.sqrt(jnp.mean(found.mean**2 + found.deviation**2))
    varies = found.deviation > _CONSTANT * size
    scale = target.deviation / jnp.where(varies, found.deviation, 1)
    scale = jnp.where(varies, scale, 1)
    return Correction(scale, target.mean - scale * found.mean)


def _corrected(y: Array, correction: Correction) -> Array:
    return (y * correction.scale + correction.shift).astype(y.dtype)


def _coefficient(theta: Array, a: Array, b: Array) -> Float[Array, " channels"]:
    """The coefficient of each column of a combination."""
    square = jnp.sum((b - a) ** 2, axis=0)
    t = jnp.sum((theta - a) * (b - a), axis=0) / jnp.where(square > 0, square, 1)
    return jnp.where(square > 0, t, 0.5)


def _incoming(variables: PyTree, path: str) -> Float[Array, "n c"]:
    """A layer's weights and biases, a column for each channel."""
    layer = _at(variables["params"], path)
    rows = [layer["kernel"].reshape(-1, layer["kernel"].shape[-1])]
    if "bias" in layer:
        rows.append(layer["bias"][None])
    return jnp.concatenate(rows)


def _at(params: Any, path: str) -> Any:
    here = params
    for name in path.split("/") if path else []:
        if name not in here:
            raise ValueError(f"corrections: the network has no layer {path!r}")
        here = here[name]
    return here


def _replaced(tree: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    return {**tree, path[0]: _replaced(tree[path[0]], path[1:], value)}
