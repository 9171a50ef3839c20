"""What may be permuted: groups, the blocks of leaves that carry them, and `apply`."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int, PyTree

from combinability._checks import check_mapping, check_paths, named_leaves
from combinability._jaxpr import Program
from combinability.symmetry._indexing import take

_WIDTH = 100  # of the printed table

# Group name -> index array: (size,), or (*sizes of `within`, size) for a nested group.
Permutation = Mapping[str, Int[Array, "*within size"]]


class Axis(NamedTuple):
    """Where a group is in a leaf.

    Attributes:
        path: the leaf, for instance `"params/Dense_0/kernel"`.
        axis: the axis of the leaf.
        start: first index of the part of the axis that carries the group.
        stop: end of that part.
        shape: that part as a product of factors, row-major; `(size,)` where the whole
            part is the group.
        factor: which of the factors is the group.
    """

    path: str
    axis: int
    start: int
    stop: int
    shape: tuple[int, ...]
    factor: int


class Group(NamedTuple):
    """Units that are permuted together in every array that has them.

    Attributes:
        size: number of units.
        axes: where the units are.
        within: names of the groups (or pinned axes) that this group lies within: it has
            a permutation of its own inside each of their units. `()` for most.
        blocks: their sizes; a permutation of this group is an index array of shape
            `(*blocks, size)`.
    """

    size: int
    axes: tuple[Axis, ...]
    within: tuple[str, ...] = ()
    blocks: tuple[int, ...] = ()


class Pin(NamedTuple):
    """An axis (or a part of one) that must stay, and why."""

    path: str
    axis: int
    start: int
    stop: int
    reason: str


class Step(NamedTuple):
    """An array is reshaped to `shape`, and the part from `start` to `stop` is taken."""

    shape: tuple[int, ...]
    start: tuple[int, ...]
    stop: tuple[int, ...]

    def take(self, array: Array) -> Array:
        """The part."""
        return array.reshape(self.shape)[tuple(map(slice, self.start, self.stop))]

    def put(self, array: Array, part: Array) -> Array:
        """The array with another part in its place."""
        where = tuple(map(slice, self.start, self.stop))
        size = tuple(j - i for i, j in zip(self.start, self.stop, strict=True))
        whole = array.reshape(self.shape).at[where].set(part.reshape(size))
        return whole.reshape(array.shape)


class Block(NamedTuple):
    """A part of a leaf, seen as an array each axis of which is one group or none.

    Attributes:
        leaf: the position of the leaf in the flattened variables.
        shape: the part reshaped, an axis for each factor.
        labels: for each axis of `shape` the group's name, the name of the pinned axis
            that another group lies within, or `None`.
        steps: how to get the part from the leaf; `()` for the whole leaf.
    """

    leaf: int
    shape: tuple[int, ...]
    labels: tuple[str | None, ...]
    steps: tuple[Step, ...] = ()

    def take(self, leaf: Array) -> Array:
        """The part of a leaf."""
        for step in self.steps:
            leaf = step.take(leaf)
        return leaf.reshape(self.shape)

    def put(self, leaf: Array, part: Array) -> Array:
        """A leaf with another part in its place."""
        views = [leaf]
        for step in self.steps:
            views.append(step.take(views[-1]))
        part = part.reshape(views[-1].shape)
        for step, view in zip(reversed(self.steps), reversed(views[:-1]), strict=True):
            part = step.put(view, part)
        return part

    def positions(self, name: str) -> tuple[int, ...]:
        """The axes of `shape` that carry a group."""
        return tuple(i for i, label in enumerate(self.labels) if label == name)


class Leaf(NamedTuple):
    """A leaf that a symmetry was inferred for."""

    path: str
    shape: tuple[int, ...]
    dtype: Any


class Carrier(NamedTuple):
    """An intermediate value that carries groups: what a layer takes in.

    Attributes:
        path: the numbers of the equations that lead to it, and of the operand.
        scanned: how many scans it is inside of; it gets a leading axis for each.
        block: the part of the value (leading axes included) as for a leaf.
    """

    path: tuple[int, ...]
    scanned: int
    block: Block


class Trace(NamedTuple):
    """The program that a symmetry was read off.

    Attributes:
        program: the traced function of the flattened variables and inputs.
        inputs: path, shape and dtype of each input.
        carriers: the intermediate values that carry groups.
    """

    program: Program
    inputs: tuple[Leaf, ...]
    carriers: tuple[Carrier, ...] = ()


@dataclasses.dataclass(frozen=True)
class Symmetry:
    """The permutations of a network's units that leave its function unchanged.

    With a permutation π of a group, an array x that carries the group on an axis
    becomes x[..., π, ...]; permuting every such array together does not change
    `apply(variables, x)`. A group that lies `within` another one is permuted inside
    each of that one's units: after those have moved, unit i of block p comes from
    index `π[p, i]` of the same block.

    Attributes:
        groups: name -> `Group`.
        pins: the axes that must stay, with reasons.
        blocks: the parts of the leaves that carry a group.
        leaves: path, shape and dtype of each leaf, in flattened order.
        inputs: the shapes that the symmetry holds for.
        trace: the program that it was read off, to observe intermediate values; a
            pickled copy has none.
        rest: the other parts of the leaves that carry a group somewhere.
    """

    groups: Mapping[str, Group]
    pins: tuple[Pin, ...]
    blocks: tuple[Block, ...]
    leaves: tuple[Leaf, ...]
    inputs: str = ""
    trace: Trace | None = dataclasses.field(default=None, repr=False, compare=False)
    rest: tuple[Block, ...] = ()

    def __hash__(self) -> int:
        return hash((self.blocks, self.leaves))

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"trace": None}  # programs cannot be pickled

    def __copy__(self) -> "Symmetry":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Symmetry":
        return self

    def __str__(self) -> str:
        return _table(self)

    @property
    def partition(self) -> tuple[Block, ...]:
        """All parts of the leaves that carry a group, whether the part has one or not.

        Together they are the whole of these leaves.
        """
        return *self.blocks, *self.rest

    def split(self, variables: PyTree) -> list[Array]:
        """The blocks of variables, in the order of `blocks`."""
        leaves = self.check(variables, "variables")
        return [block.take(jnp.asarray(leaves[block.leaf])) for block in self.blocks]

    def join(self, parts: Sequence[Array], variables: PyTree) -> PyTree:
        """Variables with their blocks replaced: the inverse of `split`."""
        leaves = self.check(variables, "variables")
        if len(parts) != len(self.blocks):
            raise ValueError(
                f"parts: expected one for each of {len(self.blocks)} blocks, got "
                f"{len(parts)}"
            )
        for block, part in zip(self.blocks, parts, strict=True):
            leaves[block.leaf] = block.put(jnp.asarray(leaves[block.leaf]), part)
        return jax.tree.unflatten(jax.tree.structure(variables), leaves)

    def apply(self, permutation: Permutation, variables: PyTree) -> PyTree:
        """Permutes the units of a network; its function stays.

        Args:
            permutation: index arrays of the groups to move; groups that it does not
                name stay. May be traced.
            variables: the tree that the symmetry was inferred from, or one like it.

        Returns:
            Variables whose unit i of a group is unit `permutation[group][i]` of the
            given ones.

        Raises:
            ValueError: if a group is unknown, an index array has the wrong shape or
                dtype or does not name each unit once, or the variables have other
                leaves.

        Example:
            >>> import jax, jax.numpy as jnp, combinability
            >>> def apply(variables, x):
            ...     return jnp.tanh(x @ variables["in"]) @ variables["out"]
            >>> variables = {"in": jnp.eye(2, 3), "out": jnp.ones((3, 1))}
            >>> x = jnp.ones((1, 2))
            >>> symmetry = combinability.infer_symmetry(apply, variables, x)
            >>> moved = symmetry.apply({"in": jnp.array([2, 0, 1])}, variables)
            >>> moved["in"].tolist()
            [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
        """
        self.check_permutation(permutation)
        order = sorted(permutation, key=lambda name: len(self.groups[name].within))
        parts = self.split(variables)
        for number, block in enumerate(self.blocks):
            for name in order:
                index, within = jnp.asarray(permutation[name]), self.groups[name].within
                for axis in block.positions(name):
                    axes = (*map(block.labels.index, within), axis)
                    parts[number] = take(parts[number], index, axes)
        return self.join(parts, variables)

    def check(self, variables: PyTree, name: str) -> list[Any]:
        """The leaves of variables.

        Raises:
            ValueError: if they are not those of the symmetry; names the first.
        """
        found = named_leaves(name, variables)
        check_paths(name, found, self.leaves)
        for (path, leaf), wanted in zip(found, self.leaves, strict=True):
            if jnp.shape(leaf) != wanted.shape:
                raise ValueError(
                    f"{name}: expected shape {wanted.shape} at {path!r}, as in "
                    f"the inference, got {jnp.shape(leaf)}"
                )
        return [leaf for _, leaf in found]

    def check_permutation(
        self, permutation: Permutation, name: str = "permutation"
    ) -> None:
        """Check that index arrays permute the units of this symmetry's groups.

        Whether a traced index array names each unit once cannot be checked.

        Args:
            permutation: group -> index array.
            name: what the argument is called, for the errors.

        Raises:
            TypeError: if it is no mapping.
            ValueError: if a group is unknown, an index array has the wrong shape or
                dtype, or does not name each unit once in every row.
        """
        check_mapping(name, permutation, "group -> index array")
        for group_name, index in permutation.items():
            if group_name not in self.groups:
                known = ", ".join(self.groups)
                raise ValueError(
                    f"{name}: no group {group_name!r}; the groups are {known}"
                )
            group = self.groups[group_name]
            _check_index(f"{name}[{group_name!r}]", index, (*group.blocks, group.size))


def _check_index(name: str, index: Any, shape: tuple[int, ...]) -> None:
    dtype = jnp.asarray(index).dtype
    if jnp.shape(index) != shape or not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(
            f"{name}: expected integers of shape {shape}, got {dtype.name} of shape "
            f"{jnp.shape(index)}"
        )
    if isinstance(index, Tracer):
        return
    if (np.sort(index, axis=-1) != np.arange(shape[-1])).any():
        raise ValueError(
            f"{name}: expected each of 0, …, {shape[-1] - 1} once in every row, got "
            f"{np.asarray(index).tolist()}"
        )


def check_symmetry(name: str, value: Any) -> None:
    """Raise a TypeError unless a value is a symmetry."""
    if not isinstance(value, Symmetry):
        raise TypeError(
            f"{name}: expected a symmetry, as infer_symmetry returns, got "
            f"{type(value).__name__}"
        )


def is_key(value: Any) -> bool:
    """Whether an array holds random keys."""
    return jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def _table(symmetry: Symmetry) -> str:
    """The groups with their sizes and axes, then the pinned axes by reason.

    An axis is written `leaf:axis`; a part of one `leaf:axis[start:stop]`; a factor of a
    flattened axis by the sizes of all factors, the group's own in brackets.
    """
    units = sum(math.prod((g.size, *g.blocks)) for g in symmetry.groups.values())
    title = f"{len(symmetry.groups)} groups, {units} units"
    if symmetry.inputs:
        title += f", for inputs of {symmetry.inputs}"
    return "\n".join([title, *_groups(symmetry), *_pins(symmetry.pins)])


def _groups(symmetry: Symmetry) -> Iterable[str]:
    shapes = {leaf.path: leaf.shape for leaf in symmetry.leaves}
    rows = [
        (name, _size(group), " ".join(_axis(axis, shapes) for axis in group.axes))
        for name, group in symmetry.groups.items()
    ]
    width = max([5, *(len(name) for name, _, _ in rows)])
    yield ""
    yield f"{'group':<{width}}  {'size':>8}  axes"
    for name, size, axes in rows:
        yield from _wrapped(f"{name:<{width}}  {size:>8}  ", axes)
    outer = {n: g.within for n, g in symmetry.groups.items() if g.within}
    for name, within in outer.items():
        yield f"{name} lies within {', '.join(within)}: a permutation for each of them"


def _size(group: Group) -> str:
    return "·".join(map(str, (*group.blocks, group.size)))


def _axis(axis: Axis, shapes: dict[str, tuple[int, ...]]) -> str:
    text = f"{axis.path}:{axis.axis}"
    if (axis.start, axis.stop) != (0, shapes[axis.path][axis.axis]):
        text += f"[{axis.start}:{axis.stop}]"
    if len(axis.shape) > 1:
        sizes = [
            f"[{size}]" if factor == axis.factor else str(size)
            for factor, size in enumerate(axis.shape)
        ]
        text += f"({'×'.join(sizes)})"
    return text


def _pins(pins: Iterable[Pin]) -> Iterable[str]:
    reasons: dict[str, list[str]] = {}
    for pin in pins:
        reasons.setdefault(pin.reason, []).append(f"{pin.path}:{pin.axis}")
    yield ""
    yield "pinned"
    for reason, axes in reasons.items():
        yield from _wrapped("  ", f"{reason}: {' '.join(dict.fromkeys(axes))}")


def _wrapped(head: str, text: str) -> Iterable[str]:
    line = head
    for word in text.split(" "):
        if len(line) + len(word) > _WIDTH and line.strip():
            yield line.rstrip()
            line = " " * len(head)
        line += word + " "
    yield line.rstrip()
