"""How much evidence for any class there is in logits."""

from typing import Any

import jax
from jaxtyping import Array, Float

from stitching.report._logits import Logits, checked, positive


def energy(logits: Logits, temperature: Any = 1.0) -> Float[Array, "*samples"]:
    r"""The energy of logits, lower where the network is surer.

    .. math::

        -T \log \sum_c \exp(\ell_c / T)

    What is out of distribution has, as a rule, a high one. Of a stitched network
    *both* sides tell: a map that was trained on the task through the frozen back may
    drive it to energies lower than network 2 ever reaches by itself.

    Args:
        logits: (..., classes); each leading index is a sample.
        temperature: T, above 0.

    Returns:
        One number a sample, of shape (...), in units of the logits.

    Raises:
        TypeError, ValueError: if the logits are not real, have no samples or classes,
            or a temperature that is not traced is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from stitching import report
        >>> unsure, sure = report.energy(jnp.array([[0.0, 0.0], [60.0, 0.0]]))
        >>> round(float(unsure), 3), round(float(sure), 3)
        (-0.693, -60.0)

    References:
        Liu et al., 2020, arXiv 2010.03759.
    """
    positive("temperature", temperature)
    return _energy(checked("logits", logits), temperature)


@jax.jit
def _energy(logits: Array, temperature: Any) -> Array:
    return -temperature * jax.nn.logsumexp(logits / temperature, axis=-1)
