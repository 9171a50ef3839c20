"""The order of the minibatches."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

# Steps for which minibatches are drawn at once, at least.
_STEPS = 1024


def minibatches(
    key: PRNGKeyArray, samples: int, batch_size: int, steps: int
) -> Iterator[Int[Array, "some batch"]]:
    """Rows of the minibatches of all steps, in blocks of whole epochs.

    An epoch is a random order of the samples that follows from the key and its number
    alone; what is left of it after the last whole minibatch is left out.

    Args:
        key: one, or a stack of them, each of which gets an order of its own.
        samples: how many there are.
        batch_size: how many of them a step takes.
        steps: how many steps there are; the last block may have more.

    Yields:
        Blocks of the same shape, with a leading axis if the keys have one.
    """
    each = samples // batch_size
    epochs = min(-(-_STEPS // each), -(-steps // each))
    for first in range(0, -(-steps // each), epochs):

        def block(key, numbers=range(first, first + epochs)):
            orders = np.stack([_order(key, number, samples) for number in numbers])
            return orders[:, : each * batch_size].reshape(-1, batch_size)

        yield jnp.asarray(
            np.stack([block(one) for one in key]) if _stacked(key) else block(key)
        )


@functools.partial(jax.jit, static_argnums=2)
def _order(key: Any, epoch: Any, samples: int) -> Array:
    rows = jnp.arange(samples, dtype=jnp.int32)
    return jax.random.permutation(jax.random.fold_in(key, epoch), rows)


def _stacked(key: PRNGKeyArray) -> bool:
    """Whether this is a stack of keys, of either kind."""
    return key.ndim > (0 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 1)
