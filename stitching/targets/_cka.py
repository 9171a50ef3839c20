"""Network 2's own activation as a target, by similarity."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from stitching import similarity
from stitching._moments import real
from stitching.targets._target import Target

View = Callable[[Float[ArrayLike, "*n p"]], Float[Array, "n p"]]


def cka(
    activation: Float[ArrayLike, "*n q"], view: View = similarity.positions
) -> Target:
    r"""How unlike its own activation is what network 2 is given.

    .. math::

        1 - \mathrm{CKA}(f(x_1), x_2)

    with the linear index of `similarity.cka`, in each minibatch by itself: it needs
    batches of more samples than channels to say much. A term beside others; alone it
    leaves the mean, the scale and a rotation of the map open. Not defined where the map
    gives one value for all samples.

    Args:
        activation: network 2's own, for instance `stitching.in_batches(cut_2.front,
            variables_2, x)`.
        view: makes samples × features of an activation: `similarity.positions` or
            `similarity.flattened`.

    Returns:
        The `Target`.

    Raises:
        TypeError: if the activation is not real.
        ValueError: if it has fewer than two axes; when trained on, if its shape is not
            that of what the stitching layer gives.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import targets
        >>> own = jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> abs(round(float(targets.cka(own).loss(None, 5 - 2 * own)), 5))
        0.0

    References:
        Csiszárik et al., 2021, arXiv 2110.14633 (CKA beside task loss). As a term of
        the loss: ours.
    """
    activation = real("activation", activation)
    if activation.ndim < 2 or activation.size == 0:
        raise ValueError(
            f"activation: expected shape (samples, ..., channels), got "
            f"{activation.shape}"
        )
    return CKA(activation, view)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CKA(Target):
    """1 − CKA of what is given and what network 2 has there itself."""

    activation: Float[Array, "*n q"]
    view: View = dataclasses.field(metadata={"static": True})

    def loss(self, logits, activation):
        del logits
        index = similarity.cka(self.view(activation), self.view(self.activation))
        return 1 - jnp.asarray(index)

    def check(self, logits, activation):
        del logits
        shape = getattr(activation, "shape", None)
        if self.activation.shape != shape:
            raise ValueError(
                f"target: expected an activation of shape {shape}, as the stitching "
                f"layer gives, got {self.activation.shape}"
            )
