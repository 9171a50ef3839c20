"""Laws that are learned: read from a state, averaged, and the memory that they combine.

They are found in any optimizer that contains `rllc.scale_by_rllc`, your own included.
"""

from typing import Any
from unittest import mock

import jax
import numpy as np
import optax

import rllc

# How far back the response of a law is recorded.
RESPONSE_LENGTH = 60


def law_probe(opt_state: Any) -> dict[str, jax.Array]:
    """Read law and gain from a state, if it holds one law and that is learned."""
    try:
        read = rllc.diagnostics(opt_state)
    except ValueError:  # there is none
        return {}
    if isinstance(read, dict) or read.condition is None or len(read.law) > 1:
        return {}
    return {"law": read.law[0], "gain": read.gain[0]}


def settled_law(probes: dict[str, Any]) -> np.ndarray | None:
    """Return a run's mean law over the second half of its points, if it has laws."""
    if "law" not in probes:
        return None
    laws = np.asarray(probes["law"])
    return laws[len(laws) // 2 :].mean(axis=0)


def linear_memory(
    optimizer: optax.GradientTransformation, params: Any, size: int
) -> rllc.LinearMemory | None:
    """Return the memory whose units an optimizer's law combines, if it is linear.

    An optimizer does not expose its memory, so it is intercepted when the optimizer
    makes its first state.

    Args:
        optimizer: one whose state `law_probe` reads.
        params: parameters that it takes, or their shapes.
        size: the number of units that the law combines.
    """
    caught = []
    original = rllc.LinearMemory.init

    def init(memory: rllc.LinearMemory, *args: Any, **options: Any) -> Any:
        caught.append(memory)
        return original(memory, *args, **options)

    with mock.patch.object(rllc.LinearMemory, "init", init):
        jax.eval_shape(optimizer.init, params)
    return next((memory for memory in caught if memory.size == size), None)


def mean_response(memory: rllc.LinearMemory, laws: np.ndarray) -> np.ndarray:
    """Return the mean of the responses of several laws, shape (runs, k)."""
    return np.mean(rllc.response(memory, laws, RESPONSE_LENGTH), axis=0)
