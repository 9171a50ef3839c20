"""REPAIR: a combination's activations rescaled to lie between those of its parents."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from combinability._combine import check_like
from combinability._layers import (
    Apply,
    ChannelStatistics,
    channel_statistics,
    measure,
    run_layers,
)

# Deviations below this share of a layer's root mean square are those of constants.
_CONSTANT = 1e-6


class Correction(NamedTuple):
    """What a layer's outputs are corrected by: y becomes scale * y + shift."""

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
    r"""Corrects what a combination has lost of its parents' activations.

    The activations of an averaged network vary less than those of the networks it is
    made of, layer by layer. Every channel of every dense and convolutional layer gets a
    scale and a shift such that on the calibration inputs

    .. math::

        \mu = \lambda \mu_A + (1 - \lambda) \mu_B, \qquad
        \sigma = \lambda \sigma_A + (1 - \lambda) \sigma_B

    The share λ of a channel is that of the segment from b to a which is nearest to the
    channel's incoming weights θ (ours; on the segment it is the coefficient itself):

    .. math::

        \lambda = \frac{\langle\theta - \theta_B, \theta_A - \theta_B\rangle}
          {\|\theta_A - \theta_B\|^2}

    and 1/2 where a and b have the same weights. Layers are corrected in the order of
    execution in one pass, so each is measured behind the corrected ones. Calibrate on
    training data. A pure function, for use inside of a metric of `evaluate` too. For
    networks with BatchNorm use `reset_batch_norm`.

    Args:
        apply: `apply(variables, inputs)` of a Flax Linen network in evaluation mode,
            not jitted (the layers are intercepted; jit what surrounds it).
        variables: of the combination.
        a: variables of the network that coefficient 1 stands for.
        b: variables of the other one.
        inputs: one batch of calibration data.
        statistics: `channel_statistics` of a and of b on the same inputs, to compute
            them once for many combinations; computed here if not given.
        layers: which layers, by path ("Dense_0", "block/Conv_1"); by default all.

    Returns:
        path -> scale and shift of each layer; see `corrected` and `fold`. A channel
        that is constant in the combination is shifted only.

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
        share = _share(*(_incoming(v, path) for v in (variables, a, b)))
        of_a, of_b = (which[path] for which in statistics)
        target = ChannelStatistics(
            *(share * x + (1 - share) * y for x, y in zip(of_a, of_b, strict=True))
        )
        corrections[path] = _correction(measure(y), target)
        return _corrected(y, corrections[path])

    run_layers(apply, variables, inputs, layers, correct)
    return corrections


def corrected(apply: Apply, corrections: Corrections) -> Apply:
    """A network whose layers are corrected as `repair` found.

    Args:
        apply: `apply(variables, inputs)` of a Flax Linen network, not jitted.
        corrections: what `repair` returned.

    Returns:
        A function of variables and inputs; it raises ValueError if it does not meet
        every layer that is to be corrected.

    Example:
        See `repair`.
    """

    def corrected_apply(variables: PyTree, inputs: Any) -> Any:
        def correct(path: str, y: Array) -> Array:
            return _corrected(y, corrections[path])

        return run_layers(
            apply, variables, inputs, corrections.__contains__, correct, corrections
        )

    return corrected_apply


def fold(variables: PyTree, corrections: Corrections) -> PyTree:
    """Variables of a network that does by itself what `corrected` does.

    Args:
        variables: a Flax variables dictionary.
        corrections: what `repair` returned.

    Returns:
        The variables with scales in kernels and biases, and shifts in biases.

    Raises:
        ValueError: if a corrected layer has no bias to take the shift; then use
            `corrected`.

    Example:
        >>> import jax, jax.numpy as jnp, combinability
        >>> from flax import linen as nn
        >>> network, x = nn.Dense(2), jnp.eye(3)
        >>> variables = network.init(jax.random.key(0), x)
        >>> fixed = {"": combinability.Correction(jnp.array([2.0, 1.0]), jnp.ones(2))}
        >>> folded = network.apply(combinability.fold(variables, fixed), x)
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
                f"variables: layer {path!r} has no bias to take the shift; use "
                "corrected"
            )
        changed = {
            **layer,
            "kernel": layer["kernel"] * scale,
            "bias": layer["bias"] * scale + shift,
        }
        params = _replaced(params, path.split("/") if path else [], changed)
    return {**variables, "params": params}


def _correction(found: ChannelStatistics, target: ChannelStatistics) -> Correction:
    size = jnp.sqrt(jnp.mean(found.mean**2 + found.deviation**2))
    varies = found.deviation > _CONSTANT * size
    scale = target.deviation / jnp.where(varies, found.deviation, 1)
    scale = jnp.where(varies, scale, 1)
    return Correction(scale, target.mean - scale * found.mean)


def _corrected(y: Array, correction: Correction) -> Array:
    return (y * correction.scale + correction.shift).astype(y.dtype)


def _share(theta: Array, a: Array, b: Array) -> Float[Array, " channels"]:
    """The share of a in each column of a combination."""
    square = jnp.sum((a - b) ** 2, axis=0)
    share = jnp.sum((theta - b) * (a - b), axis=0) / jnp.where(square > 0, square, 1)
    return jnp.where(square > 0, share, 0.5)


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
