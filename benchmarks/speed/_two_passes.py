"""Task-loss matching as hooks do it: both networks run whole in every step."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn


class TwoPasses:
    """Trains one affine map with two full forward passes a step.

    Network 1 runs to its end, and its activation at the layer is taken on the way.
    Network 2 runs from its input to its end, and its activation at the layer is
    exchanged for the mapped one. Both leave results behind (network 1's outputs, and
    network 2's own activation), as hooks do, so that no compiler can leave a half out.
    Derivatives are taken by the map alone. One step is a compiled, donated program;
    Python loops over it.

    Args:
      module: The architecture of both networks.
      path: The layer, a direct child of the module.
      optimizer: Trains the map.
    """

    def __init__(
        self, module: nn.Module, path: str, optimizer: optax.GradientTransformation
    ):
        def loss(params, a, b, inputs, labels):
            outputs, activation = _run(module, path, a, inputs, None)
            mapped = activation @ params["kernel"] + params["bias"]
            logits, own = _run(module, path, b, inputs, mapped)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), (outputs, own)

        @functools.partial(jax.jit, donate_argnums=0)
        def step(state, a, b, inputs, labels, rows):
            params, opt_state = state
            batch = inputs[rows], labels[rows]
            gradient = jax.value_and_grad(loss, has_aux=True)
            (value, hooked), grads = gradient(params, a, b, *batch)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), value, hooked

        self._step, self._optimizer = step, optimizer

    def train(
        self,
        params: Any,
        a: Any,
        b: Any,
        inputs: jax.Array,
        labels: jax.Array,
        batches: jax.Array,
    ) -> tuple[Any, jax.Array]:
        """The map after a step on each of some batches of rows, and the losses."""
        params = jax.tree.map(jnp.array, params)
        state, losses = (params, self._optimizer.init(params)), []
        for rows in batches:
            state, value, _ = self._step(state, a, b, inputs, labels, rows)
            losses.append(value)
        return jax.block_until_ready(state)[0], jnp.stack(losses)


def _run(
    module: nn.Module, path: str, variables: Any, inputs: jax.Array, instead: Any
) -> tuple[jax.Array, jax.Array]:
    """The outputs of a network, and a layer's activation before it is exchanged."""
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
