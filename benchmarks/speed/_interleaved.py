"""Timing of several programs in turns, so that noise of the machine meets all alike."""

import time
from collections.abc import Callable, Mapping

import jax
import numpy as np


def interleaved(
    programs: Mapping[str, Callable[[], object]],
    rounds: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, np.ndarray]:
    """Times programs round by round, each once a round, after one round of warming up.

    Args:
      programs: What to time, by name; each returns arrays, which are waited for.
      rounds: How often each is timed.
      progress: Called as `progress(done, total)` after each round.

    Returns:
      Seconds of each call, shape (rounds,), by name.

    Example:
      >>> times = interleaved({"nothing": lambda: None}, rounds=3)
      >>> times["nothing"].shape
      (3,)
    """
    times = {name: np.empty(rounds) for name in programs}
    for index in range(-1, rounds):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program())
            if index >= 0:
                times[name][index] = time.perf_counter() - start
        progress(index + 1, rounds)
    return times


def ratio(times: np.ndarray, baseline: np.ndarray) -> dict[str, float]:
    """The median over rounds of a time against the baseline's, with quartiles."""
    low, middle, high = np.quantile(times / baseline, [0.25, 0.5, 0.75])
    return {"median": float(middle), "low": float(low), "high": float(high)}
