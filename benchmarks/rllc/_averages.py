"""Optimizers that are evaluated at an average of their parameters."""

from typing import Any, NamedTuple

import optax

_AVERAGE_STEP = 0.01  # the average looks back over 100 steps
_SYNC_PERIOD, _SLOW_STEP = 6, 0.5  # of lookahead, an example of its authors
Optimizer = optax.GradientTransformationExtraArgs


class _Evaluated(NamedTuple):
    """An optimizer's state, and the parameters that it is judged by."""

    inner: Any
    params: optax.Params


def evaluated(state: _Evaluated, params: optax.Params) -> optax.Params:
    """Return the parameters that a method is judged by."""
    del params
    return state.params


def averaged(optimizer: optax.GradientTransformation) -> Optimizer:
    """Judge an optimizer by the decaying average of its parameters."""

    def init(params: optax.Params) -> _Evaluated:
        return _Evaluated(optimizer.init(params), params)

    def update(updates, state, params: Any = None, **extra_args):
        del extra_args
        updates, inner = optimizer.update(updates, state.inner, params)
        new = optax.apply_updates(params, updates)
        average = optax.incremental_update(new, state.params, _AVERAGE_STEP)
        return updates, _Evaluated(inner, average)

    return Optimizer(init, update)


def looking_ahead(optimizer: optax.GradientTransformation) -> Optimizer:
    """Keep the slow parameters of `optax.lookahead` in the state."""
    pair: Any = optax.lookahead(optimizer, _SYNC_PERIOD, _SLOW_STEP)

    def init(params: optax.Params) -> _Evaluated:
        both = optax.LookaheadParams.init_synced(params)
        return _Evaluated(pair.init(both), params)

    def update(updates, state, params: Any = None, **extra_args):
        del extra_args
        both = optax.LookaheadParams(params, state.params)
        found, inner = pair.update(updates, state.inner, both)
        slow = optax.apply_updates(state.params, found.slow)
        return found.fast, _Evaluated(inner, slow)

    return Optimizer(init, update)
