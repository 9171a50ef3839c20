"""Proximal gradient: the L1 penalty as a step behind any optimizer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Int

from stitching._checks import nonnegative
from stitching.direct._sparse import soft_threshold

Rate = ArrayLike | Callable[[Array], ArrayLike]


class ProximalState(NamedTuple):
    """Attributes:
    proximal_count: steps done, for a schedule.
    """

    proximal_count: Int[Array, ""]


def proximal_l1(
    penalty: ArrayLike, learning_rate: Rate, mask: Any = None
) -> optax.GradientTransformationExtraArgs:
    r"""Follow updates by the proximal step of an L1 penalty.

    .. math::

        \theta \leftarrow \operatorname{soft}_{\alpha\lambda}(\theta + u), \qquad
        \operatorname{soft}_t(a) = \operatorname{sign}(a)\,(|a| - t)_+

    The last of a chain. Small entries become exactly zero, and may come back. Behind
    plain gradient descent at this learning rate it minimises the loss plus
    :math:`\lambda \|\theta\|_1`; behind an optimizer that scales each entry by itself,
    such as Adam, the effective penalty of an entry is scaled by as much.

    Args:
        penalty: λ ≥ 0; may be traced.
        learning_rate: α, that of the optimizer in front: a number or a schedule.
        mask: what is penalised, as in `optax.masked`; by default the leaves that are
            named "kernel".

    Returns:
        The transformation; its update needs the parameters.

    Raises:
        TypeError, ValueError: if a number is not real, or negative; at `init`, if no
            leaf is named "kernel" and there is no mask; at `update`, without params.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from stitching import layers
        >>> optimizer = optax.chain(optax.sgd(1.0), layers.proximal_l1(0.5, 1.0))
        >>> params = {"kernel": jnp.array([0.25, -2.0])}
        >>> still = {"kernel": jnp.zeros(2)}
        >>> updates, _ = optimizer.update(still, optimizer.init(params), params)
        >>> optax.apply_updates(params, updates)["kernel"].tolist()
        [0.0, -1.5]

    References:
        Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm for
        linear inverse problems", 2009 (ISTA).
    """
    weight = nonnegative("penalty", penalty)
    if not callable(learning_rate):
        nonnegative("learning_rate", learning_rate)

    def init(params):
        del params
        return ProximalState(jnp.zeros((), jnp.int32))

    def update(updates, state, params=None, **_):
        if params is None:
            raise ValueError(
                "params: expected the parameters, got None; pass them to update"
            )
        count = state.proximal_count
        rate = learning_rate(count) if callable(learning_rate) else learning_rate

        def land(update, param):
            threshold = jnp.asarray(rate * weight, param.dtype)
            return soft_threshold(param + update, threshold) - param

        updates = jax.tree.map(land, updates, params)
        return updates, ProximalState(jnp.asarray(optax.safe_increment(count)))

    step = optax.GradientTransformationExtraArgs(init, update)
    return optax.masked(step, _kernels if mask is None else mask)


def _kernels(params: Any) -> Any:
    """Which leaves are named "kernel"."""

    def named(path, _):
        # In a box, such as a variable of NNX, the last key is not the name.
        keys = (getattr(key, "key", getattr(key, "name", None)) for key in path)
        return "kernel" in keys

    found = jax.tree_util.tree_map_with_path(named, params)
    if not any(jax.tree.leaves(found)):
        raise ValueError(
            "params: expected a leaf named 'kernel' to penalise, got none; give a mask"
        )
    return found
