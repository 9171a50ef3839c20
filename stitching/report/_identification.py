"""Whether each layer is matched best by its counterpart."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PyTree

from stitching._checks import real


class Identification(NamedTuple):
    """What `identification` finds.

    Attributes:
        accuracy: share of the layers whose counterpart scores highest; a counterpart
            that ties with others counts by its chance among them.
        mean_rank: mean rank of the counterparts, 1 the best; ties share the mean.
        chance: the accuracy of scores without information, 1 / layers.
        chance_rank: their mean rank, (layers + 1) / 2.
        ranks: rank of the counterpart, layer by layer.
        best: for each layer, the one that scores highest.
    """

    accuracy: Float[Array, ""]
    mean_rank: Float[Array, ""]
    chance: Float[Array, ""]
    chance_rank: Float[Array, ""]
    ranks: Float[Array, " layers"]
    best: Int[Array, " layers"]


def layer_scores(
    score: Callable[[Any, Any], ArrayLike],
    layers_1: Sequence[PyTree],
    layers_2: Sequence[PyTree],
) -> Float[Array, "k l"]:
    """Return the scores of every layer of network 1 with every layer of network 2.

    Args:
        score: score(one, two) returns a number, larger for a better match: a similarity
            index, the held-out R² of a fit, the relative accuracy of a stitch.
        layers_1, layers_2: what `score` takes of each layer of network 1 and of network
            2: activations for instance, or cuts.

    Returns:
        The scores, one row per layer of network 1.

    Raises:
        ValueError: if there is no layer, or a score is not a scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import report
        >>> def score(x, y):
        ...     return -jnp.abs(x - y)
        >>> report.layer_scores(score, [0.0, 1.0], [0.0, 1.5]).tolist()
        [[-0.0, -1.5], [-1.0, -0.5]]
    """
    if not layers_1 or not layers_2:
        raise ValueError(
            f"layers_1 and layers_2: expected at least one layer each, got "
            f"{len(layers_1)} and {len(layers_2)}"
        )
    rows = [[real("score", score(x, y)) for y in layers_2] for x in layers_1]
    shapes = {each.shape for row in rows for each in row} - {()}
    if shapes:
        raise ValueError(
            f"score: expected a function to a scalar, got one to shape {shapes.pop()}"
        )
    return jnp.stack([jnp.stack(row) for row in rows])


def identification(scores: Float[ArrayLike, "layers layers"]) -> Identification:
    """Ask whether each layer is matched best by the same layer of the other network.

    A sanity check of a *measure of similarity*: networks of one architecture that
    differ only in their seed are expected to do the same at the same depth, so a
    measure that finds another layer more similar measures something else. Task-loss
    matching fails here: its maps leave the distribution on which the back was trained.

    Args:
        scores: (layers, layers), larger for a better match (a distance: negative);
            rows are layers of network 1, columns those of network 2. NaN is the worst.

    Returns:
        `Identification`, to be compared with its chance levels.

    Raises:
        ValueError: if the scores are not square, or there are none.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import report
        >>> found = report.identification(jnp.array([[0.9, 0.5], [0.8, 0.7]]))
        >>> float(found.accuracy), found.ranks.tolist(), found.best.tolist()
        (0.5, [1.0, 2.0], [0, 0])

    References:
        Kornblith et al., 2019, arXiv 1905.00414, section 6.1 (identification); Balogh
        and Jelasity, 2024, arXiv 2412.11299 (of stitches). Ties and ranks: ours.
    """
    scores = real("scores", scores)
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or scores.size == 0:
        raise ValueError(
            f"scores: expected a square matrix (layers, layers), got {scores.shape}"
        )
    return _ranked(scores)


@jax.jit
def _ranked(scores: Array) -> Identification:
    scores = jnp.where(jnp.isnan(scores), -jnp.inf, scores)
    own = jnp.diagonal(scores)[:, None]
    better = (scores > own).sum(axis=1)
    tied = (scores == own).sum(axis=1)
    layers = len(scores)
    ranks = better + (tied + 1) / 2
    return Identification(
        accuracy=jnp.where(better == 0, 1 / tied, 0).mean(),
        mean_rank=ranks.mean(),
        chance=jnp.asarray(1 / layers),
        chance_rank=jnp.asarray((layers + 1) / 2),
        ranks=ranks,
        best=scores.argmax(axis=1),
    )
