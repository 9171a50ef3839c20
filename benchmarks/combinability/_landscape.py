"""Planes through the landscape of losses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import combinability
from benchmarks.combinability._scoring import Judge


def planes(
    judge: Judge,
    networks: list[Any],
    aligned: list[Any],
    resolution: int,
    key: jax.Array,
) -> dict[str, Any]:
    """Test errors and losses on planes through three points.

    Args:
      judge: What losses are measured with.
      networks: Three networks as they are.
      aligned: The same, aligned to the first.
      resolution: Points along a side.
      key: Of the random vertices.

    Returns:
      "aligned" and "unmatched", the planes through the three networks, and
      "vertices", the plane through the first network, and two random vertices of the
      hypercube between it and the second: each with "x", "y", "marks" (the places of
      the three points) and a grid of each metric, rows along y. Distances are
      Euclidean, relative to that of the first two points.
    """
    a, b = aligned[:2]
    coin = combinability.coefficients.bernoulli(0.5)
    vertices = [
        combinability.combine(a, b, coin.sample(i, a, key=key)) for i in range(2)
    ]
    corners = {
        "aligned": aligned[:3],
        "unmatched": networks[:3],
        "vertices": [a, *vertices],
    }
    return {name: _plane(judge, three, resolution) for name, three in corners.items()}


def _plane(judge: Judge, corners: list[Any], resolution: int) -> dict:
    """The plane of a, b and c, in coordinates in which a is (0, 0) and b (1, 0)."""
    a, b, c = corners
    first = jax.tree.map(jnp.subtract, b, a)
    second = jax.tree.map(jnp.subtract, c, a)
    length = _inner(first, first)
    along = _inner(first, second) / length
    across = jax.tree.map(lambda x, y: x - along * y, second, first)
    height = float(np.sqrt(_inner(across, across) / length))
    marks = [(0.0, 0.0), (1.0, 0.0), (float(along), height)]
    x = np.linspace(-0.35, 1.35, resolution)
    y = np.linspace(-0.3 * height, 1.35 * height, resolution)
    points = np.array([(u, v / height) for v in y for u in x], np.float32)

    @jax.jit
    def scores(points):
        def one(point):
            place = jax.tree.map(
                lambda o, e, f: o + point[0] * e + point[1] * f, a, first, across
            )
            return judge.scores(place)

        return jax.lax.map(one, points)

    found = {
        metric: np.asarray(values, float).reshape(resolution, resolution).tolist()
        for metric, values in scores(jnp.asarray(points)).items()
    }
    return {"x": x.tolist(), "y": y.tolist(), "marks": marks, **found}


def _inner(first: Any, second: Any) -> float:
    products = jax.tree.map(lambda x, y: jnp.vdot(x, y), first, second)
    return float(sum(jax.tree.leaves(products)))
