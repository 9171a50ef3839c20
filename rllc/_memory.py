"""Memory: what an optimizer stores and how it evolves."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg
from jaxtyping import Array, Float, PyTree

from rllc import _spectrum
from rllc._inner import wide
from rllc._jaxpr import after, stored

MemoryState = PyTree[Array]


@runtime_checkable
class Memory(Protocol):
    """What is stored between steps: k units, each shaped like the parameters.

    The columns of M ∈ Rⁿˣᵏ are the units. Any object with these members is a memory,
    so users may write their own; :func:`scale_by_rllc` needs nothing else. The state
    is any pytree of arrays in which parameter-shaped parts keep the structure of the
    parameters (so that Optax's tree tools see them).
    """

    @property
    def size(self) -> int:
        """The number of units k ≥ 1."""
        ...

    @property
    def initial_law(self) -> np.ndarray:
        """The law, shape (k,), that training starts from by default."""
        ...

    def init(self, params: optax.Params, dtype: Any | None = None) -> MemoryState:
        """The state before the first gradient; dtype None is the parameters' own."""
        ...

    def units(self, state: MemoryState) -> tuple[optax.Updates, ...]:
        """The k units, read from the state."""
        ...

    def update(
        self,
        gradient: optax.Updates,
        state: MemoryState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> MemoryState:
        """The state once the gradient has been taken in."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class LinearMemory:
    r"""Units that evolve linearly and take in the gradient linearly.

    .. math::

        M \leftarrow M A + g\, b^\top

    so that the gradient of j steps ago weighs :math:`b^\top A^j L` in the step.

    Args:
        propagator: A, shape (k, k), real and finite; static.
        input: b, shape (k,), real and finite; static.
        initial_law: the law to start from, shape (k,). By default the law of gain 1
            (see :func:`rllc.diagnostics`) that is shortest in the metric of the
            Gramian, which does not depend on the basis; where there is no Gramian, the
            shortest law that gives the newest gradient weight 1.

    Raises:
        ValueError: if A is not square, b or the law does not match it, k is 0, or an
            entry is not finite.

    Example:
        >>> import rllc
        >>> memory = rllc.LinearMemory([[0.0, 0.0], [0.0, 0.9]], [1.0, 1.0])
        >>> memory.size
        2

    References:
        Szegedy et al., 2024 (arXiv 2402.15262), linear memory.
    """

    propagator: Float[np.ndarray, "k k"]
    input: Float[np.ndarray, " k"]
    initial_law: Float[np.ndarray, " k"]

    def __init__(
        self,
        propagator: Any,
        input: Any,
        initial_law: Any | None = None,
    ):
        propagator = _finite_array("propagator", propagator, ndim=2)
        size = len(propagator)
        if propagator.shape != (size, size) or size == 0:
            raise ValueError(
                "propagator: expected a square matrix with at least one row, got shape "
                f"{propagator.shape}"
            )
        input = _finite_array("input", input, ndim=1)
        if input.shape != (size,):
            raise ValueError(
                f"input: expected shape ({size},) to match the propagator, got "
                f"{input.shape}"
            )
        object.__setattr__(self, "propagator", propagator)
        object.__setattr__(self, "input", input)
        if initial_law is None:
            law = self._default_law()
        else:
            law = _finite_array("initial_law", initial_law, ndim=1)
            if law.shape != (size,):
                raise ValueError(
                    f"initial_law: expected shape ({size},), one coefficient per unit, "
                    f"got {law.shape}"
                )
        object.__setattr__(self, "initial_law", law)

    @property
    def size(self) -> int:
        return len(self.input)

    @functools.cached_property
    def spectrum(self) -> "_spectrum.Spectrum":
        """Gramian, gain and resonance; raises ValueError where they do not exist."""
        return _spectrum.spectrum(self.propagator, self.input)

    def _default_law(self) -> np.ndarray:
        try:
            spectrum = self.spectrum
        except ValueError:
            return self.input / max(self.input @ self.input, np.finfo(float).tiny)
        direction = np.linalg.solve(spectrum.gramian, spectrum.gain)
        return direction / (spectrum.gain @ direction)

    @functools.cached_property
    def rounding_growth(self) -> np.ndarray:
        """The largest relative error of each unit per relative error of a rounding.

        A rounding error of unit j, at most u |mⱼ|, reaches unit i after n steps times
        (Aⁿ)ⱼᵢ. Copies are not rounded again. 1 / (1 − β) for a decay β.
        """
        power, reached = np.eye(self.size), np.zeros((self.size, self.size))
        length = np.zeros(self.size)
        for _ in range(1000):
            reached += np.abs(power)
            length += np.abs(self.input @ power)
            power = power @ self.propagator
        entries = np.vstack([self.propagator, self.input])
        copies = (np.abs(entries).sum(0) == 1) & (np.abs(entries).max(0) == 1)
        rounded = np.where(copies & (self.input == 0), 0, length)
        return rounded @ reached / np.maximum(length, np.finfo(float).tiny)

    def _is_precise(self, unit: int, dtype: Any) -> bool:
        """Whether a unit stays within 5 % when it is stored in a dtype."""
        error = self.rounding_growth * float(jnp.finfo(dtype).eps) / 2
        feeds = np.linalg.matrix_power(
            np.eye(self.size) + (self.propagator != 0), self.size
        )
        return bool(np.all(error[feeds[unit] > 0] <= 0.05))

    def init(
        self, params: optax.Params, dtype: Any | None = None
    ) -> tuple[optax.Updates, ...]:
        def empty(leaf, unit):
            stored = storage_dtype(leaf, dtype)
            if not self._is_precise(unit, stored):
                stored = wide(stored)
            return jnp.zeros_like(leaf, dtype=stored)

        return tuple(
            jax.tree.map(functools.partial(empty, unit=unit), params)
            for unit in range(self.size)
        )

    def units(self, state: tuple[optax.Updates, ...]) -> tuple[optax.Updates, ...]:
        return tuple(state)

    def update(
        self,
        gradient: optax.Updates,
        state: tuple[optax.Updates, ...],
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, ...]:
        del params, extra_args
        return self.advance(state, gradient)

    def advance(
        self,
        state: tuple[optax.Updates, ...],
        source: Any,
        read: Callable[[Any], optax.Updates] = lambda source: source,
        condition: Any = True,
    ) -> tuple[optax.Updates, ...]:
        """The next state, unit by unit, so that each can take the place of its old one.

        Args:
            state: the units.
            source: what the gradient is read from.
            read: the gradient from the source, computed anew for each unit.
            condition: where it does not hold, the units stay as they are.
        """
        units = list(state)
        conditions = jax.tree.map(lambda leaf: condition, units[0])
        coupled = np.any(self.propagator != np.diag(np.diag(self.propagator)))
        for assignments in self._assignments:
            trees = (*units, read(source))
            for unit, weights in assignments:
                new = linear_combination(trees, weights)
                units[unit] = jax.tree.map(write, conditions, new, units[unit])
            units, source = stored((units, source))
            if coupled:
                conditions = jax.tree.map(after, conditions, units[assignments[-1][0]])
        return tuple(units)

    @functools.cached_property
    def _assignments(self) -> list[list[tuple[int, np.ndarray]]]:
        """M A + g bᵀ as assignments (unit, weights of units and gradient), in order.

        A unit is assigned after those that read it. Units that read each other, as in
        a complex block, are assigned one by one where that is accurate, else together.
        """
        weights = np.vstack([self.propagator, self.input]).T
        reads = self.propagator.T != 0
        reached = np.linalg.matrix_power(np.eye(self.size) + reads, self.size) > 0
        together = reached & reached.T
        # A unit reaches more units than those which it reads.
        order = np.argsort(-reached.sum(1), kind="stable")
        steps, done = [], set()
        for unit in order:
            if unit not in done:
                group = np.flatnonzero(together[unit]).tolist()
                done.update(group)
                steps += _one_by_one(weights, group) or [
                    [(i, weights[i]) for i in group]
                ]
        return steps


def write(condition: Any, new: Array, old: Array) -> Array:
    """The new value in the old one's dtype, clipped to its range, or the old value."""
    if new.dtype != old.dtype:
        if jnp.issubdtype(old.dtype, jnp.floating):
            limit = float(jnp.finfo(old.dtype).max)
            if limit < float(jnp.finfo(new.dtype).max):
                new = jnp.clip(new, -limit, limit)
        new = new.astype(old.dtype)
    return new if condition is True else jnp.where(condition, new, old)


def _one_by_one(weights: np.ndarray, group: list[int]) -> list | None:
    """Assignments of one unit each by elimination, if its multipliers are small.

    With N W = U upper triangular and N lower, x′ = W x + e is solved for x′ᵢ by
    Uᵢ x + Nᵢ e and those x′ⱼ that came before.
    """
    upper = weights[np.ix_(group, group)]
    lower = np.eye(len(group))
    with np.errstate(divide="ignore", invalid="ignore"):
        for i in range(len(group) - 1):
            factors = np.outer(upper[i + 1 :, i] / upper[i, i], np.ones(len(group)))
            lower[i + 1 :] -= factors * lower[i]
            upper[i + 1 :] -= factors * upper[i]
    if not np.maximum(np.abs(upper), np.abs(lower)).max() <= 4:
        return None
    rows = lower @ weights[group]
    rows[:, group] = np.triu(upper) - np.tril(lower, -1)
    return [[(unit, row)] for unit, row in zip(group, rows, strict=True)]


def linear_combination(trees: Sequence[Any], coefficients: Any) -> Any:
    """Σᵢ coefficientᵢ · treeᵢ over nonzero coefficients, in at least float32."""
    traced = isinstance(coefficients, jax.Array)
    terms = [
        (tree, coefficient if traced else float(coefficient))
        for tree, coefficient in zip(trees, coefficients, strict=True)
        if traced or coefficient != 0
    ]
    trees, coefficients = zip(*terms or [(trees[0], 0.0)], strict=True)

    def combine(*leaves):
        dtype = wide(*(leaf.dtype for leaf in leaves))
        real = jnp.finfo(dtype).dtype
        products = [
            jnp.asarray(coefficient, real) * leaf.astype(dtype)
            for coefficient, leaf in zip(coefficients, leaves, strict=True)
        ]
        return sum(products[1:], products[0])

    return jax.tree.map(combine, *trees)


def storage_dtype(leaf: Array, dtype: Any | None) -> Any:
    """The dtype of a unit: the one asked for, complex where the parameter is."""
    if dtype is None:
        return leaf.dtype
    real = jnp.finfo(dtype).dtype
    return jnp.promote_types(real, jnp.complex64) if jnp.iscomplexobj(leaf) else real


def at_least_float32(tree: Any) -> Any:
    """The tree with leaves of lower precision raised to float32."""

    def raised(leaf):
        dtype = wide(leaf.dtype)
        if leaf.dtype == dtype:
            return leaf
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf.update(dtype=dtype)
        return leaf.astype(dtype)

    return jax.tree.map(raised, tree)


def decays(*rates: float) -> LinearMemory:
    r"""One exponentially decaying sum of gradients per rate.

    .. math::

        m_i \leftarrow \beta_i m_i + g

    A rate of 0 is the gradient itself. In the default law each unit weighs inversely to
    its squared length under white gradients, and the gain is that of momentum with the
    rate nearest to 0.9, so learning rates of ``optax.sgd(…, momentum=0.9)`` carry over:

    .. math::

        L_i \propto 1 - \beta_i^2, \qquad
        \sum_i \frac{L_i}{1 - \beta_i} = \frac{1}{1 - \beta_*}

    Args:
        *rates: the decay rates βᵢ, each in (-1, 1), all different.

    Returns:
        The memory, with one unit per rate.

    Raises:
        ValueError: without rates, or for a rate outside (-1, 1).

    Example:
        >>> import rllc
        >>> rllc.decays(0.0, 0.9, 0.99).initial_law.round(3)
        array([2.045, 0.389, 0.041])
        >>> rllc.decays(0.9).initial_law
        array([1.])

    References:
        The default law: ours, by experiment.
    """
    if not rates:
        raise ValueError("rates: expected at least one, got none")
    values = _finite_array("rates", rates, ndim=1)
    for rate in values:
        _check_radius("rates", rate)
    nearest = values[np.argmin(np.abs(values - 0.9))]
    law = (1 - values**2) / np.sum(1 + values) / (1 - nearest)
    return LinearMemory(np.diag(values), np.ones(values.size), law)


def real_block(decay: float, size: int = 1) -> LinearMemory:
    r"""A real Jordan block: a decaying sum, the decaying sum of that, and so on.

    .. math::

        m_1 \leftarrow \beta m_1 + g, \qquad m_i \leftarrow \beta m_i + m_{i-1}

    with the old :math:`m_{i-1}` on the right. The default law is momentum's, (1, 0, …).

    Args:
        decay: β, in (-1, 1).
        size: the number of units, at least 1.

    Returns:
        The memory.

    Raises:
        ValueError: for a decay outside (-1, 1) or a size below 1.

    Example:
        >>> import rllc
        >>> rllc.real_block(0.9, size=2).propagator
        array([[0.9, 1. ],
               [0. , 0.9]])

    References:
        Szegedy et al., 2024 (arXiv 2402.15262), real Jordan form.
    """
    check_count("size", size)
    decay = checked_decay(decay)
    propagator = decay * np.eye(size) + np.eye(size, k=1)
    return LinearMemory(propagator, _unit_vector(size), _unit_vector(size))


def complex_block(radius: float, angle: float, size: int = 1) -> LinearMemory:
    r"""A complex Jordan block in real form: decaying sums that rotate.

    .. math::

        z_1 \leftarrow r e^{i\varphi} z_1 + g, \qquad
        z_j \leftarrow r e^{i\varphi} z_j + z_{j-1}

    each :math:`z_j` stored as two real units (real and imaginary part). The default
    law is 1 on the first real part.

    Args:
        radius: r, in (0, 1).
        angle: φ, in radians; not a multiple of π, where the imaginary parts are empty.
        size: the number of complex units, at least 1; the memory has 2 · size units.

    Returns:
        The memory.

    Raises:
        ValueError: for a radius outside (0, 1), an angle that is a multiple of π, or a
            size below 1.

    Example:
        >>> import rllc
        >>> rllc.complex_block(0.9, 0.3).size
        2

    References:
        Szegedy et al., 2024 (arXiv 2402.15262), complex Jordan blocks.
    """
    check_count("size", size)
    radius = float(_finite_array("radius", radius, ndim=0))
    angle = float(_finite_array("angle", angle, ndim=0))
    if not 0 < radius < 1:
        raise ValueError(f"radius: expected a number in (0, 1), got {radius}")
    if abs(math.sin(angle)) < 1e-12:
        raise ValueError(
            "angle: expected a finite number that is no multiple of π (there the "
            f"imaginary units stay empty: use real_block), got {angle}"
        )
    cosine, sine = radius * math.cos(angle), radius * math.sin(angle)
    rotation = np.array([[cosine, sine], [-sine, cosine]])
    propagator = np.kron(np.eye(size), rotation) + np.kron(np.eye(size, k=1), np.eye(2))
    return LinearMemory(propagator, _unit_vector(2 * size), _unit_vector(2 * size))


def gradient_history(k: int) -> LinearMemory:
    """The last k gradients, newest first: a shift register.

    The default law is SGD's, (1, 0, …).

    Args:
        k: the number of gradients kept, at least 1.

    Returns:
        The memory.

    Raises:
        ValueError: for k below 1.

    Example:
        >>> import rllc
        >>> rllc.gradient_history(2).propagator
        array([[0., 1.],
               [0., 0.]])
    """
    check_count("k", k)
    return LinearMemory(np.eye(k, k=1), _unit_vector(k), _unit_vector(k))


def direct_sum(*memories: LinearMemory) -> LinearMemory:
    """Several linear memories side by side.

    The default law is the first memory's, with zeros for the others.

    Args:
        *memories: at least one :class:`LinearMemory`. To combine them under the Gramian
            ridge, no two may share a mode (the same decay, say).

    Returns:
        The memory that has all their units, in order.

    Raises:
        ValueError: without memories.
        TypeError: if one is not a :class:`LinearMemory`.

    Example:
        >>> import rllc
        >>> rllc.direct_sum(rllc.decays(0.0), rllc.complex_block(0.9, 0.3)).size
        3
    """
    if not memories:
        raise ValueError("memories: expected at least one, got none")
    for memory in memories:
        if not isinstance(memory, LinearMemory):
            kind = type(memory).__name__
            raise TypeError(
                f"memories: expected LinearMemory objects, got {kind}; units from "
                "other transformations go into one `units(…)`"
            )
    propagator = scipy.linalg.block_diag(*(m.propagator for m in memories))
    law = np.zeros(sum(memory.size for memory in memories))
    law[: memories[0].size] = memories[0].initial_law
    return LinearMemory(propagator, np.concatenate([m.input for m in memories]), law)


class TransformationUnitsState(NamedTuple):
    """State of :func:`units`: each transformation's last output and own state."""

    outputs: tuple[optax.Updates, ...]
    inner: tuple[optax.OptState, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class TransformationUnits:
    """The memory made by :func:`units`."""

    transformations: tuple[optax.GradientTransformationExtraArgs, ...]

    @property
    def size(self) -> int:
        return len(self.transformations)

    @property
    def initial_law(self) -> np.ndarray:
        return _unit_vector(self.size)

    def init(
        self, params: optax.Params, dtype: Any | None = None
    ) -> TransformationUnitsState:
        return TransformationUnitsState(
            outputs=tuple(
                jax.tree.map(
                    lambda leaf: jnp.zeros_like(leaf, dtype=storage_dtype(leaf, dtype)),
                    params,
                )
                for _ in self.transformations
            ),
            inner=tuple(t.init(at_least_float32(params)) for t in self.transformations),
        )

    def units(self, state: TransformationUnitsState) -> tuple[optax.Updates, ...]:
        return state.outputs

    def update(
        self,
        gradient: optax.Updates,
        state: TransformationUnitsState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> TransformationUnitsState:
        gradient, params = at_least_float32((gradient, params))
        results = [
            transformation.update(gradient, inner, params, **extra_args)
            for transformation, inner in zip(
                self.transformations, state.inner, strict=True
            )
        ]
        outputs, inner = zip(*results, strict=True)
        return TransformationUnitsState(outputs=outputs, inner=inner)


def units(*transformations: optax.GradientTransformation) -> TransformationUnits:
    """Units that are the current outputs of Optax transformations.

    The way to boost a known optimizer: with one unit and a fixed law it *is* that
    optimizer; more units and a learning law combine several. Give unscaled directions
    (``optax.scale_by_adam()``, ``optax.scale_by_lion()``, ``optax.trace(0.9)``), which
    point along the gradient: :func:`rllc.rllc` applies sign and learning rate. The
    default law is (1, 0, …), the first transformation as it is.

    Combine transformations whose outputs scale alike with the gradient. Next to
    ``optax.scale_by_adam()``, whose output keeps its length, a coefficient of
    ``optax.trace(0.9)`` that was learned on small gradients makes huge steps once they
    grow.

    Args:
        *transformations: at least one transformation. Parameters and extra arguments of
            ``update`` are passed on to each.

    Returns:
        A memory with one unit per transformation.

    Raises:
        ValueError: without transformations.
        TypeError: if one is no Optax transformation.

    Example:
        >>> import optax, rllc
        >>> memory = rllc.units(optax.scale_by_adam(), optax.scale_by_lion())
        >>> memory.initial_law
        array([1., 0.])
    """
    if not transformations:
        raise ValueError("transformations: expected at least one, got none")
    for transformation in transformations:
        if not isinstance(transformation, optax.GradientTransformation):
            raise TypeError(
                "transformations: expected optax.GradientTransformation objects, got "
                f"{type(transformation).__name__}"
            )
    return TransformationUnits(
        tuple(optax.with_extra_args_support(t) for t in transformations)
    )


def _finite_array(name: str, value: Any, ndim: int) -> np.ndarray:
    try:
        array = np.asarray(value)
    except jax.errors.TracerArrayConversionError as error:
        raise TypeError(
            f"{name}: expected concrete numbers, got traced ones; how a memory evolves "
            "is compiled into the step. Under optax.inject_hyperparams name it in "
            "static_args"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{name}: expected rows of equal length, got {value!r}"
        ) from error
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected real numbers, got dtype {array.dtype}")
    array = array.astype(np.float64)
    if array.ndim != ndim:
        raise ValueError(
            f"{name}: expected {ndim} dimension(s), got shape {array.shape}"
        )
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name}: expected finite numbers, got {array.tolist()}")
    return array


def _check_radius(name: str, value: float) -> None:
    if not -1 < value < 1:
        raise ValueError(
            f"{name}: expected a number in (-1, 1), got {value}; at 1 and beyond "
            "nothing decays (an undamped memory: LinearMemory with PseudoInverse())"
        )


def checked_decay(value: Any) -> float:
    """The decay as a number of Python's, if it is one in (-1, 1)."""
    decay = float(_finite_array("decay", value, ndim=0))
    _check_radius("decay", decay)
    return decay


def check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name}: expected an integer of at least 1, got {value!r}")


def _unit_vector(size: int) -> np.ndarray:
    return np.eye(size)[0]
