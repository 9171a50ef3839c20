"""Task-loss matching by hand: a Python loop over a compiled step of a loss."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn


class Loop:
    """Trains a map by a Python loop over one compiled, donated step.

    Args:
      loss: loss(params, *data, rows) of a minibatch, and what else it leaves behind.
      optimizer: Trains the map.
    """

    def __init__(
        self,
        loss: Callable[..., tuple[jax.Array, Any]],
        optimizer: optax.GradientTransformation,
    ):
        @functools.partial(jax.jit, donate_argnums=0)
        def step(state, data, rows):
            params, opt_state = state
            gradient = jax.value_and_grad(loss, has_aux=True)
            (value, left), grads = gradient(params, *data, rows)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), value, left

        self.step, self._optimizer = step, optimizer

    def train(self, params: Any, data: Any, batches: Iterable[Any]) -> jax.Array:
        """The losses of a step on each of some batches of rows."""
        params = jax.tree.map(jnp.array, params)
        state, losses = (params, self._optimizer.init(params)), []
        for rows in batches:
            state, value, _ = self.step(state, data, rows)
            losses.append(value)
        return jax.block_until_ready(jnp.stack(losses))


def on_activations(back: Callable[[Any, jax.Array], jax.Array]) -> Any:
    """The loss of a map of activations that are computed before, on labels."""

    def loss(params, b, activation, labels, rows):
        logits = back(b, _mapped(params, activation[rows]))
        return _cross_entropy(logits, labels[rows]), ()

    return loss


def two_passes(module: nn.Module, path: str) -> Any:
    """The loss of a map by two full forward passes, as with hooks, on labels.

    Network 1 runs to its end, and its activation at the layer is taken on the way.
    Network 2 runs from its input to its end, and its activation at the layer is
    replaced by the mapped one. Both leave results behind (network 1's outputs, and
    network 2's own activation), as hooks do, so that no compiler can leave a half out.

    Args:
      module: The architecture of both networks.
      path: The layer, a direct child of the module.
    """

    def loss(params, a, b, inputs, labels, rows):
        outputs, activation = _run(module, path, a, inputs[rows], None)
        mapped = _mapped(params, activation)
        logits, own = _run(module, path, b, inputs[rows], mapped)
        return _cross_entropy(logits, labels[rows]), (outputs, own)

    return loss


def _mapped(params: Any, activation: jax.Array) -> jax.Array:
    return activation @ params["kernel"] + params["bias"]


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _run(
    module: nn.Module, path: str, variables: Any, inputs: jax.Array, instead: Any
) -> tuple[jax.Array, jax.Array]:
    """The outputs of a network, and a layer's activation before it is replaced."""
    found: list[jax.Array] = []

    def hook(following: Callable, arguments: Any, options: Any, context: Any) -> Any:
        given = following(*arguments, **options)
        if context.module.path != (path,) or context.method_name != "__call__":
            return given
        found.append(given)
        return given if instead is None else instead

    with nn.intercept_methods(hook):
        outputs: Any = module.apply(variables, inputs, train=False)
    return outputs, found[0]
