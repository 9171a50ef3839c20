"""Law: how the memory units are combined into the step."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from rllc._inner import Groups, listed
from rllc._memory import Memory, check_count
from rllc._solver import ABOVE_0, AT_LEAST_0, PseudoInverse, Ridge, Scalar, check_scalar

ScalarOrSchedule = Scalar | Callable[[Array], Scalar]


@dataclasses.dataclass(frozen=True, eq=False)
class LearningLaw:
    r"""A law that is corrected retrospectively from each new gradient.

    With M the memory of the last step and g the gradient that arrived after it,

    .. math::

        L \leftarrow L + c_2\, M^+ g

    is hypergradient descent on the law, preconditioned by :math:`(M^\top M)^{-1}`; it
    does not change when the loss is scaled, so :math:`c_2` is dimensionless.

    **Conserved gain** (ours). A one-step look back judges the *shape* of the momentum
    well and its *scale* badly: under gradient noise the best next step is too short.
    So by default the gain :math:`\gamma^\top L`, the effective learning rate, is kept
    at its initial value by projecting in the metric P of the memory's Gramian:

    .. math::

        L \leftarrow L - P^{-1}\gamma\,
          \frac{\gamma^\top L - \gamma^\top L_0}{\gamma^\top P^{-1} \gamma}

    The learning rate and its schedule set the scale, retrospection the shape. For other
    memories no direction of the law is known to be its scale (keeping the length that
    aligned units would step by is unstable where their lengths drift apart), so there
    the law is pulled back to the initial one as fast as it is corrected:

    .. math::

        L \leftarrow L + c_2\, (M^+ g - (L - L_0))

    which keeps it within the largest correction of :math:`L_0`. With one linear unit
    and its gain conserved there is nothing to learn: the law stays.

    Args:
        rate: :math:`c_2 \ge 0`, a number or a schedule of the step count. A step at
            which it is not finite leaves the law alone.
        initial: the law at the start, shape (k,), or (groups, k); by default the
            memory's ``initial_law``.
        conserve_gain: whether the gain is kept; False is the paper's free law.
        solver: :class:`Ridge` or :class:`PseudoInverse`.
        groups: None for one law, ``"leaf"`` for one per parameter array, or labels as
            in ``optax.partition`` (a tree, a prefix of it, or a function of the
            parameters) for one per label; laws are ordered by sorted label.
        trust_region: if given, no correction changes the last step by more than this
            fraction of its length, :math:`\|M \Delta L\| \le r \|M L\|` (ours).
        refresh: the Gram matrix of a linear memory is carried by recursion and measured
            again every so many steps.

    Raises:
        ValueError: if a rate, trust region or refresh is out of range, or an initial
            law is not finite.

    Example:
        >>> import optax, rllc
        >>> rate = optax.warmup_constant_schedule(0.0, 3e-3, 100)
        >>> law = rllc.LearningLaw(rate, initial=[0.0, 1.0], groups="leaf")
        >>> optimizer = rllc.rllc(1e-2, memory=rllc.decays(0.0, 0.9), law=law)

    References:
        Szegedy et al., 2024 (arXiv 2402.15262).
    """

    rate: ScalarOrSchedule = 3e-3
    initial: Any | None = None
    conserve_gain: bool = True
    solver: Ridge | PseudoInverse = dataclasses.field(default_factory=Ridge)
    groups: Groups = None
    trust_region: Scalar | None = None
    refresh: int = 1000

    def __post_init__(self):
        if not callable(self.rate):
            check_scalar("rate", self.rate, lambda rate: rate >= 0, AT_LEAST_0)
        if self.trust_region is not None:
            check_scalar("trust_region", self.trust_region, lambda r: r > 0, ABOVE_0)
        if self.initial is not None:
            object.__setattr__(self, "initial", _coefficients("initial", self.initial))
        if not isinstance(self.solver, Ridge | PseudoInverse):
            raise TypeError(
                "solver: expected a Ridge or a PseudoInverse object, got "
                f"{self.solver!r}"
            )
        check_count("refresh", self.refresh)
        if not isinstance(self.conserve_gain, bool | np.bool_):
            raise TypeError(
                f"conserve_gain: expected True or False, got {self.conserve_gain!r}"
            )

    def rate_at(self, count: Array) -> Any:
        """c₂ at a step; 0, so that the law stays, where it is not finite."""
        rate: Any = self.rate
        if callable(rate):
            rate = rate(count)
            _check_scheduled(rate)
        elif not isinstance(rate, Tracer):
            return rate
        return jnp.where(jnp.isfinite(rate), rate, 0)

    def check(self, memory: Memory) -> None:
        """Raise if the memory has another size."""
        if self.initial is not None:
            _check_units("initial", self.initial, memory)

    def start(self, memory: Memory, groups: int, labels: Sequence[Any] = ()) -> Any:
        """The law at the start, shape (groups, k); labels are for errors."""
        initial = memory.initial_law if self.initial is None else self.initial
        return _rows("initial", initial, groups, labels)


def large_batch_law(rate: ScalarOrSchedule = 1e-2) -> LearningLaw:
    r"""A law for large batches (ours).

    With this law or the default one, held fixed, over decays β, a loss of curvature h
    is minimized without growing oscillations if

    .. math::

        c_1 h \sum_i \frac{L_i}{1 + \beta_i} < 2

    The sum is 1.3, and 2.3 for the default law, which gives the newest gradient twice
    the weight. So this law is stable at higher learning rates where curvature limits
    them, as it does in large batches; in small batches, where noise limits them, the
    default is the safer choice. Both have gain 10, so learning rates carry over.

    Args:
        rate: :math:`c_2`, as in :class:`LearningLaw`.

    Returns:
        The law, for ``decays(0.0, 0.9, 0.99)``, the default memory of
        :func:`rllc.rllc`.

    Raises:
        ValueError: if the rate is out of range.

    Example:
        >>> import rllc
        >>> optimizer = rllc.rllc(0.1, law=rllc.large_batch_law())

    References:
        Ours; what it is worth by batch size is in the guide of ``rllc``.
    """
    return LearningLaw(rate, initial=[1.0, 0.6, 0.03])


@dataclasses.dataclass(frozen=True, eq=False)
class FixedLaw:
    """A law that never changes: no inner products are computed.

    Without inner products there is no guard against non-finite gradients either: wrap
    the optimizer in ``optax.apply_if_finite`` where that matters.

    Args:
        coefficients: L, shape (k,), or (groups, k).
        groups: as in :class:`LearningLaw`, where there is more than one row.

    Raises:
        ValueError: if a coefficient is not finite.

    Example:
        >>> import rllc
        >>> law = rllc.FixedLaw([1.0, 0.9])
        >>> nesterov = rllc.scale_by_rllc(rllc.decays(0.0, 0.9), law)
    """

    coefficients: Any
    groups: Groups = None

    def __post_init__(self):
        value = _coefficients("coefficients", self.coefficients)
        object.__setattr__(self, "coefficients", value)

    def check(self, memory: Memory) -> None:
        """Raise if the memory has another size."""
        _check_units("coefficients", self.coefficients, memory)

    def start(self, memory: Memory, groups: int, labels: Sequence[Any] = ()) -> Any:
        """The law, shape (groups, k); labels are for errors."""
        del memory
        return _rows("coefficients", self.coefficients, groups, labels)


def _check_scheduled(rate: Any) -> None:
    if jnp.shape(rate) != ():
        raise ValueError(
            "rate: expected a schedule of numbers, got one that returns shape "
            f"{jnp.shape(rate)}"
        )
    if not isinstance(rate, Tracer) and rate < 0:
        raise ValueError(
            f"rate: expected a schedule of numbers of at least 0, got {rate}"
        )


def _coefficients(name: str, value: Any) -> Any:
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))
    try:  # a copy: what becomes of the caller's array does not change the law
        array = jnp.asarray(value) if traced else np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected real numbers, got {value!r}") from error
    if array.ndim not in (1, 2):
        raise ValueError(
            f"{name}: expected shape (k,) or (groups, k), got {array.shape}"
        )
    if not traced and not np.all(np.isfinite(array)):
        raise ValueError(f"{name}: expected finite numbers, got {array.tolist()}")
    return array


def _check_units(name: str, law: Any, memory: Memory) -> None:
    if law.shape[-1] != memory.size:
        raise ValueError(
            f"{name}: expected one coefficient for each of the memory's {memory.size} "
            f"unit(s), got shape {law.shape}"
        )


def _rows(name: str, law: Any, groups: int, labels: Sequence[Any]) -> Any:
    if law.ndim == 2 and groups and law.shape[0] not in (1, groups):
        raise ValueError(
            f"{name}: expected one row for each of the {groups} group(s) that have "
            f"parameters to train ({listed(labels)}), got shape {law.shape}"
        )
    rows = law if law.ndim == 2 else law[None]
    return rows if rows.shape[0] == groups else rows[np.zeros(groups, int)]
