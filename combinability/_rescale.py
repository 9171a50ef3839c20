"""Signs and positive scales of units: which there are, and how to choose them."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, PyTree

from combinability._checks import check_count, check_mapping
from combinability.matching._match import checked_blocks
from combinability.symmetry._certify import Trial
from combinability.symmetry._groups import assemble, placed_units
from combinability.symmetry._indexing import along
from combinability.symmetry._infer import label_program
from combinability.symmetry._scales import Scales, Term, Value, integers
from combinability.symmetry._symmetry import Symmetry, check_symmetry
from combinability.symmetry._walk import Walk
from combinability.symmetry.rules import RULES


class Acts(NamedTuple):
    """Where a factor acts: entries of unit u are multiplied by its factor^exponent.

    Attributes:
        block: the position in `symmetry.blocks`.
        axis: the axis of the block that carries the group.
        exponent: a whole number.
    """

    block: int
    axis: int
    exponent: int


class Factor(NamedTuple):
    """A factor for each unit of a group that the function does not depend on.

    Attributes:
        group: the group.
        kind: `"sign"` (±1) or `"scale"` (positive).
        acts: where it acts.
    """

    group: str
    kind: str
    acts: tuple[Acts, ...]


@dataclasses.dataclass(frozen=True)
class Rescaling:
    """The signs and positive scales of units that leave a function unchanged.

    Attributes:
        symmetry: the groups.
        factors: name -> `Factor`. The name is the group's and the kind; where a group
            has several of a kind (before and after BatchNorm) they are numbered.
    """

    symmetry: Symmetry
    factors: Mapping[str, Factor]

    def apply(self, values: Mapping[str, Any], variables: PyTree) -> PyTree:
        """Multiply units by factors and divide what is taken of them; may be traced.

        Args:
            values: factor -> array of the shape (*blocks, size) of its group: positive
                scales, signs of ±1. Factors that it does not name are 1.
            variables: a tree as the symmetry's.

        Returns:
            Variables of the same function.

        Raises:
            ValueError: if a factor is unknown, has another shape or other values, or
                the variables have other leaves.
        """
        check_mapping("values", values, "factor -> array")
        parts = self._multiplied(values, self.symmetry.split(variables))
        return self.symmetry.join(parts, variables)

    def _multiplied(self, values: Mapping[str, Any], parts: list[Array]) -> list[Array]:
        """As `apply`, for the blocks of variables."""
        parts = list(parts)
        for name, value in values.items():
            if name not in self.factors:
                known = ", ".join(self.factors)
                raise ValueError(f"values: no factor {name!r}; the factors are {known}")
            group = self.symmetry.groups[self.factors[name].group]
            value = jnp.asarray(value)
            if value.shape != (*group.blocks, group.size):
                raise ValueError(
                    f"values[{name!r}]: expected shape {(*group.blocks, group.size)}, "
                    f"got {value.shape}"
                )
            if not jnp.issubdtype(value.dtype, jnp.floating):
                value = value.astype(float)  # integers have no negative powers
            _check_values(f"values[{name!r}]", self.factors[name].kind, value)
            for number, axis, exponent in self.factors[name].acts:
                block = self.symmetry.blocks[number]
                axes = (*map(block.labels.index, group.within), axis)
                power = along(value, axes, len(block.shape)) ** exponent
                parts[number] = (parts[number] * power).astype(parts[number].dtype)
        return parts

    def __str__(self) -> str:
        lines = [f"{len(self.factors)} factors"]
        for name, factor in self.factors.items():
            where = [
                f"{self.symmetry.leaves[self.symmetry.blocks[n].leaf].path}^{e}"
                for n, _, e in factor.acts
            ]
            lines.append(f"{name}: {' '.join(dict.fromkeys(where))}")
        return "\n".join(lines)


def infer_rescaling(symmetry: Symmetry, certify: bool = True) -> Rescaling:
    r"""Infer the signs and positive scales of units that leave a function unchanged.

    They are read off the traced program, as permutations are: a factor of a unit passes
    what is linear; a positive one ReLU, leaky ReLU and max pooling too; a sign tanh and
    other odd functions. Layers are dense ones, convolutions, BatchNorm with stored
    statistics, residual connections, scans; what has no rule lets nothing pass. For
    ReLU

    .. math::

        W_\text{out}\,\operatorname{ReLU}(W_\text{in} x + b)
        = W_\text{out} S^{-1} \operatorname{ReLU}(S W_\text{in} x + S b), \quad S > 0

    Args:
        symmetry: one from `infer_symmetry`. Units that it pins, and groups that others
            lie within, get no factors.
        certify: whether to test the result in float64 on random variables.

    Returns:
        The factors of each group that has some.

    Raises:
        CertificationError: if factors change the outputs, or the network cannot be
            evaluated on random variables.
        ValueError: if the symmetry has no trace, because it was not inferred.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> def apply(variables, x):
        ...     return jnp.maximum(x @ variables["in"], 0) @ variables["out"]
        >>> variables = {"in": jnp.ones((2, 3)), "out": jnp.ones((3, 1))}
        >>> symmetry = combinability.infer_symmetry(apply, variables, jnp.ones((4, 2)))
        >>> print(combinability.infer_rescaling(symmetry))
        1 factors
        in scale: in^1 out^-1

    Ours. Scales of ReLU networks: Neyshabur et al., 2015 (arXiv 1506.02617); signs of
    tanh networks: Chen, Lu and Hecht-Nielsen, 1993.
    """
    check_symmetry("symmetry", symmetry)
    if symmetry.trace is None:
        raise ValueError(
            "symmetry: expected one from infer_symmetry, got one without the program "
            "that it was read off, which is not pickled with it"
        )
    program = symmetry.trace.program
    walk = Walk(RULES)
    labels = label_program(walk, program, symmetry.leaves)
    again, found, fuse = assemble(walk, labels, symmetry.leaves, symmetry.trace)
    names = {group.axes: name for name, group in symmetry.groups.items()}
    outer = {parent for group in symmetry.groups.values() for parent in group.within}
    groups = {
        label: name
        for other, label in found.items()
        if (name := names.get(again.groups[other].axes)) and name not in outer
    }

    def units(label):
        return list(placed_units(label, fuse, groups))

    factors: dict[str, Factor] = {}
    for kind in ("scale", "sign"):
        scales = Scales(walk.labels, units, signs=kind == "sign")
        leaves = [scales.unknowns(of_leaf) for of_leaf in labels]
        inputs = [Value([[] for _ in x.shape]) for x in symmetry.trace.inputs]
        scales.run(program, [*leaves, *inputs])
        terms = {
            (number, axis, start, stride): scales.reduce(term)
            for number, (of_leaf, value) in enumerate(zip(labels, leaves, strict=True))
            for axis, label in enumerate(of_leaf)
            for (_, start, stride), term in zip(
                units(label), value.terms[axis], strict=True
            )
        }
        for group, acts in _solutions(symmetry, terms):
            taken = sum((f.group, f.kind) == (group, kind) for f in factors.values())
            name = f"{group} {kind}" + (f" {taken + 1}" if taken else "")
            factors[name] = Factor(group, kind, acts)
    rescaling = Rescaling(symmetry, factors)
    if certify and factors:
        _certify(rescaling)
    return rescaling


def _solutions(
    symmetry: Symmetry, terms: Mapping[tuple[int, int, int, int], Term]
) -> Iterator[tuple[str, tuple[Acts, ...]]]:
    """For each unknown that is free: its group, and where it acts."""
    found: dict[int, list[tuple[str, int, int, Fraction]]] = {}
    for number, block in enumerate(symmetry.blocks):
        shape = symmetry.leaves[block.leaf].shape
        numbers: Any = np.arange(math.prod(shape)).reshape(shape)
        entries: Any = block.take(numbers)
        first = np.array(np.unravel_index(entries.flat[0], shape))
        for axis, name in enumerate(block.labels):
            if name is None or name not in symmetry.groups:
                continue
            second = np.take(entries, 1, axis).flat[0]
            step = np.array(np.unravel_index(second, shape)) - first
            (along_axis,) = np.flatnonzero(step)
            where = int(along_axis), int(first[along_axis]), int(step[along_axis])
            for unknown, exponent in terms.get((block.leaf, *where), {}).items():
                found.setdefault(unknown, []).append((name, number, axis, exponent))
    for acts in found.values():
        names, numbers, axes, exponents = zip(*acts, strict=True)
        whole = integers(exponents)
        if sum(whole) < 0:
            whole = [-x for x in whole]
        yield names[0], tuple(map(Acts, numbers, axes, whole))


def _check_values(name: str, kind: str, value: Array) -> None:
    """Raise a ValueError unless signs are ±1 and scales positive, if not traced."""
    if isinstance(value, Tracer):
        return
    numbers = np.asarray(value, float)
    if kind == "sign" and not (np.abs(numbers) == 1).all():
        raise ValueError(f"{name}: expected signs of 1 or -1, got {numbers.tolist()}")
    if kind == "scale" and not ((numbers > 0) & np.isfinite(numbers)).all():
        raise ValueError(
            f"{name}: expected positive finite scales, got {numbers.tolist()}"
        )


def _certify(rescaling: Rescaling) -> None:
    """Test random scales and signs, then their inverses and the opposite signs."""
    symmetry, generator = rescaling.symmetry, np.random.default_rng(0)
    drawn = {}
    for name, factor in rescaling.factors.items():
        group = symmetry.groups[factor.group]
        drawn[name] = generator.normal(size=(*group.blocks, group.size))

    def scaled(leaves: list[Array], direction: int) -> list[Array]:
        values = {}
        for name, factor in rescaling.factors.items():
            x = direction * drawn[name]
            values[name] = np.sign(x) if factor.kind == "sign" else np.exp(x / 2)
        leaves, blocks = list(leaves), symmetry.blocks
        parts = rescaling._multiplied(values, [x.take(leaves[x.leaf]) for x in blocks])
        for block, part in zip(blocks, parts, strict=True):
            leaves[block.leaf] = block.put(leaves[block.leaf], part)
        return leaves

    with jax.enable_x64(True):
        assert symmetry.trace
        tested = Trial(symmetry.leaves, symmetry.trace, generator)
        for direction in (1, -1):
            change = functools.partial(scaled, direction=direction)
            tested.keeps(change, f"multiplying by {', '.join(drawn)}")


def rescale(
    rescaling: Rescaling,
    variables: PyTree,
    towards: PyTree | None = None,
    *,
    max_sweeps: int = 1000,
) -> PyTree:
    r"""Choose the signs and scales of units, for one network or to align it to another.

    Without `towards`, the sum of squares of all arrays that scales act on becomes the
    smallest,

    .. math::

        \min_{s > 0} \sum_\theta \sum_{i} \theta_i^2 \prod s_{u(i)}^{2e},

    which is the same for all networks that differ by scales: with ReLU, what comes into
    each unit has the norm of what goes out. Then signs are chosen so that the entries
    of the first array that fixes them have a positive sum for each unit. With
    `towards`, the squared distance to that network is minimised over scales and signs.

    Each step takes the exact minimum for all units of one factor with the others fixed
    (for scales a root of a polynomial), so neither objective rises. The first is convex
    in log s and reaches its minimum; the second is started from the given scales and
    from those that balance both networks, and the nearer end is returned. Permute
    first: see `match`.

    Args:
        rescaling: from `infer_rescaling`.
        variables: the network, a tree as the symmetry's.
        towards: the network to come close to, likewise; none.
        max_sweeps: the largest number of sweeps over the factors; 1000.

    Returns:
        Variables of the same function. Units whose scale has no optimum, as all that
        comes in or goes out is 0, keep it; so do groups on two axes of one array.

    Raises:
        ValueError: if a tree does not match the symmetry or is not finite.
        TypeError: if parameters are not real numbers.

    Example:
        >>> import jax.numpy as jnp, combinability
        >>> def apply(variables, x):
        ...     return jnp.maximum(x @ variables["in"], 0) @ variables["out"]
        >>> variables = {"in": jnp.array([[4.0, 1]]), "out": jnp.array([[1.0], [9]])}
        >>> symmetry = combinability.infer_symmetry(apply, variables, jnp.ones((1, 1)))
        >>> rescaling = combinability.infer_rescaling(symmetry)
        >>> balanced = combinability.rescale(rescaling, variables)
        >>> {name: leaf.round(4).ravel().tolist() for name, leaf in balanced.items()}
        {'in': [2.0, 3.0], 'out': [2.0, 3.0]}

    Ours. Balanced norms: Neyshabur et al., 2015 (arXiv 1506.02617).
    """
    if not isinstance(rescaling, Rescaling):
        raise TypeError(
            "rescaling: expected one from infer_rescaling, got "
            f"{type(rescaling).__name__}"
        )
    check_count("max_sweeps", max_sweeps, 1)
    parts = checked_blocks(rescaling.symmetry, variables, "variables")
    search = Search(rescaling, parts, None)
    balanced = search.run({}, max_sweeps)
    if towards is None:
        return rescaling.apply(search.signed(balanced), variables)
    goal = checked_blocks(rescaling.symmetry, towards, "towards")
    other = Search(rescaling, goal, None).run({}, max_sweeps)
    both = {name: balanced[name] / other[name] for name in balanced}
    search = Search(rescaling, parts, goal)
    ends = [search.run(start, max_sweeps) for start in ({}, both)]
    return rescaling.apply(min(ends, key=search.objective), variables)


Values = dict[str, np.ndarray]


class Search:
    """Coordinate descent over factors, on blocks in float64.

    Args:
        rescaling: the factors.
        parts: the blocks of the network.
        goal: the blocks of the one to come close to; if none, norms are minimised.
    """

    def __init__(
        self,
        rescaling: Rescaling,
        parts: Sequence[np.ndarray],
        goal: Sequence[np.ndarray] | None,
    ):
        self._rescaling = rescaling
        self._parts = [np.asarray(x, float) for x in parts]
        self._goal = goal and [np.asarray(x, float) for x in goal]
        self._factors = {
            name: factor
            for name, factor in rescaling.factors.items()
            if len({act.block for act in factor.acts}) == len(factor.acts)
        }

    def run(self, start: Values, max_sweeps: int) -> Values:
        """Sweep over the factors until the objective stops falling."""
        values, least = dict(start), math.inf
        for name, factor in self._factors.items():
            group = self._rescaling.symmetry.groups[factor.group]
            values.setdefault(name, np.ones((*group.blocks, group.size)))
        for _ in range(max_sweeps):
            for name, factor in self._factors.items():
                if self._goal or factor.kind == "scale":
                    values[name] = values[name] * self._best(factor, values)
            objective = self.objective(values)
            if not objective < least * (1 - 1e-14):
                break
            least = objective
        return values

    def objective(self, values: Values) -> float:
        """The sum of squares, or the squared distance to the goal."""
        blocks = range(len(self._parts))
        parts = [self._scaled(number, values) for number in blocks]
        goal = self._goal or [np.zeros(())] * len(parts)
        return float(
            sum(((x - y) ** 2).sum() for x, y in zip(parts, goal, strict=True))
        )

    def signed(self, values: Values) -> Values:
        """Choose the signs, of each factor by an array that no open one acts on."""
        values = dict(values)
        still = {n: f for n, f in self._factors.items() if f.kind == "sign"}
        while still:
            free = [
                (name, act)
                for name, factor in still.items()
                for act in factor.acts
                if act.exponent % 2
                and not any(
                    act.block == other.block
                    for n, f in still.items()
                    for other in f.acts
                    if n != name
                )
            ]
            name, act = next(
                (x for x in free if self._sums(*x, values).all()),
                free[0] if free else next((n, f.acts[0]) for n, f in still.items()),
            )
            sums = self._sums(name, act, values)
            values[name] = np.where(sums < 0, -1.0, 1.0) * values[name]
            del still[name]
        return values

    def _sums(self, name: str, act: Acts, values: Values) -> np.ndarray:
        entries = self._scaled(act.block, values)
        return self._over_units(self._factors[name].group, act, entries)

    def _scaled(self, number: int, values: Values) -> np.ndarray:
        part, block = self._parts[number], self._rescaling.symmetry.blocks[number]
        for name, factor in self._factors.items():
            within = self._rescaling.symmetry.groups[factor.group].within
            for act in factor.acts:
                if act.block == number:
                    axes = (*map(block.labels.index, within), act.axis)
                    power = along(values[name], axes, part.ndim)
                    part = part * power**act.exponent
        return part

    def _over_units(self, group: str, act: Acts, entries: np.ndarray) -> np.ndarray:
        """Sums over all axes but those of a group and what it lies within."""
        labels = self._rescaling.symmetry.blocks[act.block].labels
        within = self._rescaling.symmetry.groups[group].within
        axes = (*map(labels.index, within), act.axis)
        return np.einsum(entries, range(entries.ndim), axes)

    def _best(self, factor: Factor, values: Values) -> np.ndarray:
        """The best change of a factor with the others fixed, for each unit.

        Over the exponents e, the objective is the sum of A s^2e − 2 B s^e.
        """
        squares: dict[int, Any] = {}
        products: dict[int, Any] = {}
        for act in factor.acts:
            e, entries = act.exponent, self._scaled(act.block, values)
            add = self._over_units(factor.group, act, entries**2)
            squares[e] = squares.get(e, 0) + add
            goal = 0 * entries if self._goal is None else self._goal[act.block]
            add = self._over_units(factor.group, act, entries * goal)
            products[e] = products.get(e, 0) + add

        def cost(s):
            return sum(
                squares[e] * s ** (2 * e) - 2 * products[e] * s**e for e in squares
            )

        one = np.ones_like(add)
        if factor.kind == "sign":
            return np.where(cost(-one) < cost(one), -one, one)
        candidates = [one, *_stationary(squares, products)]
        costs = np.stack([cost(s) for s in candidates])
        best = np.argmin(costs, axis=0)
        return np.take_along_axis(np.stack(candidates), best[None], 0)[0]


def _stationary(squares: Mapping[int, Any], products: Mapping[int, Any]) -> np.ndarray:
    """The positive s at which the derivative of the cost is 0; else 1."""
    lowest = min(*squares, 0)
    degree = 2 * (max(*squares, 0) - lowest)
    shape = next(iter(squares.values())).shape
    powers = np.zeros((degree + 1, *shape))
    for e in squares:
        powers[2 * (e - lowest)] += e * squares[e]
        powers[e - 2 * lowest] -= e * products[e]
    ends = (powers[0] < 0) & (powers[-1] > 0)
    companion = np.zeros((*shape, degree, degree))
    companion[..., 1:, :-1] = np.eye(degree - 1)
    companion[..., -1] = -np.moveaxis(
        powers[:-1] / np.where(ends, powers[-1], 1), 0, -1
    )
    roots = np.moveaxis(np.linalg.eigvals(companion), -1, 0)
    real = ends & (roots.real > 0) & (abs(roots.imag) <= 1e-9 * abs(roots))
    return np.where(real, roots.real, 1.0)
