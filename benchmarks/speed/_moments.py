"""CKA and least squares from moments, against Gram matrices and pseudo-inverses."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import stitching
from benchmarks.speed._interleaved import interleaved, ratio
from stitching import similarity


@dataclasses.dataclass(frozen=True)
class MomentsSpeedConfig:
    """What is timed.

    Args:
      samples: Of two activations.
      features: Of each.
      rounds: How often each way is timed, in turns.
      seed: Of the activations.
    """

    samples: int = 10_000
    features: int = 512
    rounds: int = 5
    seed: int = 0

    def __post_init__(self):
        if self.rounds < 3:
            raise ValueError(f"rounds is {self.rounds}: expected at least 3.")
        if not 1 <= self.features < self.samples:
            raise ValueError(
                f"features is {self.features}: expected at least 1, and fewer than the "
                f"{self.samples} samples."
            )


def measure_moments(
    config: MomentsSpeedConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Times linear CKA and least squares with an intercept, each in two ways.

    Ours see the activations once, for their moments. The baselines are the definitions:
    CKA from the two centred Gram matrices of all samples, and least squares by the
    pseudo-inverse of the centred activation. All are compiled.

    Args:
      config: What is timed.
      progress: Called as `progress(done, total)`, in rounds.

    Returns:
      {"samples", "features", "measures": {NAME: {"baseline", "seconds": {"moments",
      "baseline"}, "speedup": {"median", "low", "high"}, "difference" (of the values,
      relative to the largest)}}}.
    """
    x, y = _activations(config)
    ways = {
        "CKA": ("Gram matrices", jax.jit(_cka), jax.jit(cka_of_gram_matrices)),
        "least squares": (
            "pseudo-inverse",
            jax.jit(_least_squares),
            jax.jit(least_squares_by_pseudo_inverse),
        ),
    }
    programs = {}
    for name, (_, ours, usual) in ways.items():
        programs[f"{name}, moments"] = lambda way=ours: way(x, y)
        programs[f"{name}, baseline"] = lambda way=usual: way(x, y)
    times = interleaved(programs, config.rounds, progress)
    measures = {}
    for name, (baseline, ours, usual) in ways.items():
        seconds = {way: times[f"{name}, {way}"] for way in ("moments", "baseline")}
        measures[name] = {
            "baseline": baseline,
            "seconds": {way: float(np.median(t)) for way, t in seconds.items()},
            "speedup": ratio(seconds["baseline"], seconds["moments"]),
            "difference": _difference(ours(x, y), usual(x, y)),
        }
    return {
        "samples": config.samples,
        "features": config.features,
        "measures": measures,
    }


def moments_table(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the measurement as text, a heading first."""
    rows = [("measure", "moments, s", "baseline, s", "speedup", "difference")]
    for name, measure in result["measures"].items():
        times, seconds = measure["speedup"], measure["seconds"]
        rows.append(
            (
                f"{name} ({measure['baseline']})",
                f"{seconds['moments']:.3f}",
                f"{seconds['baseline']:.3f}",
                f"{times['median']:.1f} ({times['low']:.1f} to {times['high']:.1f})",
                f"{measure['difference']:.0e}",
            )
        )
    return rows


def _activations(config: MomentsSpeedConfig) -> tuple[jax.Array, jax.Array]:
    """Two activations that have something, but not all, in common."""
    keys = jax.random.split(jax.random.key(config.seed), 3)
    shape = (config.samples, config.features)
    x, noise = (jax.random.normal(key, shape) for key in keys[:2])
    mixing = jax.random.normal(keys[2], (config.features,) * 2)
    return x, jnp.tanh(x @ mixing / config.features**0.5) + 0.1 * noise + 1


def _cka(x, y):
    return similarity.cka(stitching.moments(x, y))


def _least_squares(x, y):
    fit = stitching.least_squares(stitching.moments(x, y))
    return fit.weight, fit.bias


def cka_of_gram_matrices(x: jax.Array, y: jax.Array) -> jax.Array:
    """Linear CKA from centred Gram matrices of samples × samples."""

    def centred(gram):
        gram = gram - gram.mean(axis=0)
        return gram - gram.mean(axis=1, keepdims=True)

    one, other = (centred(z @ z.T) for z in (x, y))
    return (one * other).sum() / (jnp.linalg.norm(one) * jnp.linalg.norm(other))


def least_squares_by_pseudo_inverse(
    x: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Weight and bias of least squares, from the pseudo-inverse of the activation."""
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    weight = jnp.linalg.pinv(x - mean_x) @ (y - mean_y)
    return weight, mean_y - mean_x @ weight


def _difference(one: Any, other: Any) -> float:
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(float(jnp.abs(x - y).max() / jnp.abs(y).max()) for x, y in leaves)
