"""Maps that are fitted on activations, without the task."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import stitching
from benchmarks.stitching._config import Config

DIRECT, TASK, CONTROL = "direct", "task loss", "control"


class Map(NamedTuple):
    """A map of channels, and how it was found.

    Attributes:
      fit: The map.
      way: `DIRECT`, `TASK` or `CONTROL`.
      kind: Its class.
      at: Share of the full rank, or of the largest penalty, or the penalty; None for
        classes without.
    """

    fit: stitching.Fit
    way: str
    kind: str
    at: float | None = None

    @property
    def name(self) -> str:
        """A name among all maps of a layer."""
        prefix = f"{self.way}: " if self.way == TASK else ""
        return f"{prefix}{self.kind}" + ("" if self.at is None else f" {self.at:g}")


def rank_of(share: float, channels: int) -> int:
    """The rank that is a share of the full one, at least 1."""
    return max(1, round(share * channels))


def direct_maps(seen: stitching.Moments, config: Config, everything: bool) -> list[Map]:
    """Every direct map from the moments of training rows.

    Args:
      seen: The moments of a pair of activations.
      config: Which ranks and penalties.
      everything: Whether maps are wanted that are tried on few pairs only.

    Returns:
      The maps, least squares first.
    """
    channels = seen.mean_y.size
    reduced = stitching.reduced_rank(seen)
    maps = [
        Map(stitching.least_squares(seen), DIRECT, "least squares"),
        Map(stitching.orthogonal(seen), DIRECT, "Procrustes"),
        Map(stitching.permutation(seen), DIRECT, "permutation"),
    ]
    maps += [
        Map(reduced.rank(rank_of(share, channels)), DIRECT, "reduced rank", share)
        for share in config.ranks
    ]
    if not everything:
        return maps
    constant = stitching.Fit(jnp.zeros_like(seen.xy), seen.mean_y)
    unchanged = stitching.Fit(jnp.eye(channels), jnp.zeros(channels))
    maps += [
        Map(stitching.semi_matching(seen), DIRECT, "semi-matching"),
        Map(unchanged, CONTROL, "identity"),
        Map(constant, CONTROL, "mean"),
    ]
    return maps + _sparse(seen, sorted(config.penalties, reverse=True))


def _sparse(seen: stitching.Moments, shares: list[float]) -> list[Map]:
    if not shares:
        return []
    penalties = stitching.largest_penalty(seen) * np.array(shares)
    path = stitching.sparse_path(seen, penalties, tolerance=1e-4, sweeps=200)
    return [
        Map(jax.tree.map(lambda leaf: leaf[place], path), DIRECT, "sparse", share)  # noqa: B023
        for place, share in enumerate(shares)
    ]
