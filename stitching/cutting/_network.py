"""Flax modules as functions of variables and inputs, with the outputs of layers marked.

A `Linen` and an `Nnx` network have the same methods:

- `example(inputs)`: shapes and dtypes of the variables;
- `plain(variables)`: a user's variables, checked, as a tree for `program`;
- `program(variables, inputs, path, wanted)`: the traced program in which the outputs of
  one layer are marked, or of all layers where `path` is None; `wanted` as for `trace`.
"""

import collections
import contextlib
import copy
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import errors, nnx
from flax import linen as nn
from jaxtyping import PyTree

from stitching._jaxpr import Dependences, Program, Wanted, mark, trace

Method = str | Callable[..., Any]


def network(
    module: Any, method: Method, options: Mapping[str, Any], inputs: tuple[PyTree, ...]
) -> "Linen | Nnx":
    """A module and how it is called; later changes of the module do not reach it.

    Raises:
        TypeError: if it is no module of Flax, or an option holds an array.
        ValueError: for an unknown method, an option that is not the method's, or a
            module that is not frozen.
    """
    if isinstance(module, Structure):
        graph, tree, leaves = module
        module = nnx.merge(graph, tree.unflatten(leaves))
    if not isinstance(module, nn.Module | nnx.Module):
        raise TypeError(
            f"module: expected an instance of flax.linen.Module or flax.nnx.Module, "
            f"got {module!r}; for others make Cut(front, back) from two functions"
        )
    for name, value in options.items():
        if name in ("rngs", "mutable", "capture_intermediates"):
            raise ValueError(
                f"{name}: a cut network is frozen and draws no random numbers; "
                "pass only keyword arguments of the module's own method"
            )
        arrays = jax.Array | np.ndarray | jax.ShapeDtypeStruct
        if any(isinstance(leaf, arrays) for leaf in jax.tree.leaves(value)):
            raise TypeError(
                f"{name}: expected an option that holds no array, got "
                f"{type(value).__name__}; arrays are inputs: pass several inputs as a "
                f"tuple, cut(module, path, (x, {name})), and where the module takes it "
                f"by keyword also method=lambda module, x, {name}: "
                f"module(x, {name}={name})"
            )
    method = _function(module, method)
    if isinstance(module, nnx.Module):
        return Nnx(module, method, options, inputs)
    return Linen(_copied(module), method, options)


def check_kind(variables: Any, of_nnx: bool) -> None:
    """Raise a TypeError unless these may be the variables of a module."""
    expected = "nnx.state(module)"
    if not of_nnx:
        expected = 'a dictionary of collections, as module.init returns ({"params": …})'
    if not isinstance(variables, Mapping | nnx.State if of_nnx else Mapping):
        raise TypeError(
            f"variables: expected {expected}, got {type(variables).__name__}"
        )


class Structure(NamedTuple):
    """An NNX module without the values of its variables."""

    graph: Any
    tree: Any
    leaves: list[jax.ShapeDtypeStruct]


def described(module: Any, method: Method) -> tuple[Any, Method]:
    """A module and its method as `network` takes them, that equal ones are equal to.

    Linen modules are compared by their attributes, NNX modules by their structure.
    """
    if getattr(method, "__self__", None) is module:
        method = getattr(method, "__func__", method)
    if not isinstance(module, nnx.Module):
        return module, method
    graph, state = nnx.split(module)
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda state: state, state))
    return Structure(graph, tree, leaves), method


def _function(module: Any, method: Method) -> Callable[..., Any]:
    """The method as a function of the module, whichever copy of it."""
    if isinstance(method, str):
        if callable(getattr(module, method, None)):
            return lambda module, *args, **options: getattr(module, method)(
                *args, **options
            )
    elif callable(method):
        owner = getattr(method, "__self__", module)
        if owner is module:
            function: Any = getattr(method, "__func__", method)
            return lambda module, *args, **options: function(module, *args, **options)
    raise ValueError(
        f"method: expected the name of a method of {type(module).__name__}, a method "
        f"of this module, or a function of a module and its inputs, got {method!r}"
    )


def _copied(value: Any) -> Any:
    """A copy that later changes do not reach; as it is if it holds, say, a lock."""
    try:
        return copy.deepcopy(value)
    except TypeError:
        return value


# ---- Linen


@dataclasses.dataclass(frozen=True)
class Linen:
    """A Linen module."""

    module: nn.Module
    method: Callable[..., Any]
    options: Mapping[str, Any]

    def example(self, inputs: tuple[PyTree, ...]) -> PyTree[jax.ShapeDtypeStruct]:
        def init(*inputs):
            return self.module.init(
                jax.random.key(0), *inputs, method=self.method, **self.options
            )

        return jax.eval_shape(init, *inputs)

    def plain(self, variables: Any) -> PyTree:
        check_kind(variables, of_nnx=False)
        return variables

    def program(
        self, variables: PyTree, inputs: Any, path: str | None, wanted: Wanted
    ) -> Program:
        def run(variables, inputs):
            marked = {**variables, "stitching": _places(variables, path)}
            with nn.intercept_methods(_Marking(path)):
                return self.module.apply(
                    marked, *inputs, method=self.method, **self.options
                )

        try:
            return trace(run, variables, inputs, wanted)
        except (errors.ModifyScopeVariableError, errors.InvalidRngError) as error:
            raise ValueError(
                "module: changes its variables or draws random numbers while it runs, "
                "but a cut network is frozen; pass the keyword argument that turns "
                "this off, for instance `train=False`"
            ) from error
        except (
            errors.ApplyScopeInvalidVariablesTypeError,
            errors.ScopeCollectionNotFound,
            errors.ScopeParamNotFoundError,
            errors.ScopeParamShapeError,
            errors.ScopeVariableNotFoundError,
        ) as error:
            raise ValueError(self._what_is_wrong(variables, inputs, error)) from error

    def _what_is_wrong(self, variables: Any, inputs: Any, error: Exception) -> str:
        given, wanted = (
            {jax.tree_util.keystr(path, simple=True, separator="/"): jnp.shape(leaf)
             for path, leaf in jax.tree.leaves_with_path(tree)}
            for tree in (variables, self.example(inputs))
        )  # fmt: skip
        found = next((name for name in wanted if given.get(name) != wanted[name]), None)
        if found is None:
            return f"variables: {error}"
        return (
            f"variables: expected what module.init returns, with {found!r} of shape "
            f"{wanted[found]}, got {given.get(found, 'nothing of that name')}; the "
            f"collections are {', '.join(map(repr, variables))}"
        )


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=[], meta_fields=["path", "wanted"]
)
@dataclasses.dataclass(frozen=True)
class _Place:
    """The name of a module, in the structure of a tree and not in its leaves."""

    path: str
    wanted: str | None


def _places(variables: Mapping[str, Any], wanted: str | None) -> dict[str, Any]:
    """A collection that holds the name of every module.

    `nn.jit` keeps traces from one call to the next and from one module to its
    siblings. With this among the variables no two share a trace, so a mark inside
    always has the right name, and none shows up where nothing is cut.
    """
    places: dict[str, Any] = {"": _Place("", wanted)}
    for collection in variables.values():
        for keys, _ in jax.tree.leaves_with_path(collection):
            names, node = [str(getattr(key, "key", key)) for key in keys], places
            for depth, name in enumerate(names[:-1], 1):
                path = "/".join(names[:depth])
                node = node.setdefault(name, {"": _Place(path, wanted)})
    return places


class _Marking:
    """Marks what `__call__` returns, of one layer or of all below the root."""

    def __init__(self, path: str | None):
        self._path = path
        self._running: set[str] = set()

    def __call__(self, following, args, kwargs, context):
        path = "/".join(context.module.path)
        wanted = path if self._path is None else self._path
        # A subclass may call its parent's `__call__`, and modules may share a scope:
        # of calls under one name within each other, the outer one counts.
        if (
            context.method_name != "__call__"
            or path in ("", *self._running)
            or path != wanted
        ):
            return following(*args, **kwargs)
        self._running.add(path)
        try:
            return mark(path, following(*args, **kwargs))
        finally:
            self._running.remove(path)


# ---- NNX


class Nnx:
    """An NNX module as it was when this was made.

    Kept are its structure and attributes, not the values of its variables. What the
    network only records (`Intermediate`) is dropped, and the state of random numbers,
    on which its output does not depend, is replaced by zeros.
    """

    def __init__(
        self,
        module: nnx.Module,
        method: Callable[..., Any],
        options: Mapping[str, Any],
        inputs: tuple[PyTree, ...],
    ):
        self._method, self._options = method, options
        graph, state = nnx.split(module)
        own = nnx.merge(_copied(graph), state)
        nnx.pop(own, _not_perturbed)
        self._graph, *states = nnx.split(own, nnx.Not(nnx.RngState), ...)
        self._state, self._random = jax.eval_shape(lambda *states: states, *states)
        self._check_frozen(inputs)

    def example(self, inputs: tuple[PyTree, ...]) -> PyTree[jax.ShapeDtypeStruct]:
        return {name: _value(leaf) for name, leaf in _named(self._state).items()}

    def plain(self, variables: Any) -> PyTree:
        check_kind(variables, of_nnx=True)
        given, plain = _named(variables), {}
        for name, wanted in self.example(()).items():
            value = _value(given.get(name))
            shapes = [jax.tree.map(jnp.shape, each) for each in (value, wanted)]
            if name not in given or shapes[0] != shapes[1]:
                got = shapes[0] if name in given else "nothing of that name"
                raise ValueError(
                    f"variables: expected nnx.state(module), all of it (not, for "
                    f"instance, only its nnx.Param), with {name!r} of shape "
                    f"{shapes[1]}, got {got}"
                )
            plain[name] = value
        return plain

    def program(
        self, variables: PyTree, inputs: Any, path: str | None, wanted: Wanted
    ) -> Program:
        def run(variables, inputs):
            copy, layers = self._module(variables), set()
            for parts, layer in nnx.iter_modules(copy):
                name = _name(parts)
                if name and path in (None, name) and callable(layer):
                    object.__setattr__(layer, _MARKED, name)
                    layers.add(type(layer))
            with contextlib.ExitStack() as stack:
                for layer in layers:
                    stack.enter_context(_marking(layer))
                return self._method(copy, *inputs, **self._options)

        return trace(run, variables, inputs, wanted)

    def _module(self, variables: Mapping[str, Any]) -> nnx.Module:
        values = [variables[name] for name in _named(self._state)]
        state = jax.tree.structure(self._state).unflatten(jax.tree.leaves(values))
        random = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), self._random)
        return nnx.merge(self._graph, state, random)

    def _check_frozen(self, inputs: tuple[PyTree, ...]) -> None:
        """Raise a ValueError if the output depends on a state that changes."""
        kinds = _named(nnx.merge_state(self._state, self._random))

        def run(state, random, inputs):
            copy = nnx.merge(self._graph, state, random)
            output = self._method(copy, *inputs, **self._options)
            after = _named(nnx.state(copy))
            return output, {name: _value(after[name]) for name in kinds}

        program = Dependences(run, self._state, self._random, inputs)
        nothing = jax.tree.map(lambda _: False, program.changed())
        everything = jax.tree.map(lambda _: True, nothing[0])
        *states, _ = program.used((everything, nothing[1]))
        used = {n: leaf for state in states for n, leaf in _named(state).items()}
        hint = (
            "but a cut network is frozen; call `module.eval()` before cutting, or turn "
            "it off in the module"
        )
        for name, changed in program.changed()[1].items():
            reads = any(jax.tree.leaves(_value(used[name])))
            if isinstance(kinds[name], nnx.RngState):
                if reads:
                    raise ValueError(
                        f"module: its output depends on random numbers ({name!r}), "
                        f"{hint}"
                    )
            elif any(jax.tree.leaves(changed)) and not isinstance(
                kinds[name], nnx.metrics.MetricState
            ):
                wanted = nothing[0], {**nothing[1], name: changed}
                from_inputs = any(jax.tree.leaves(program.used(wanted)[2]))
                trees = map(jax.tree.structure, (changed, _value(kinds[name])))
                grows = len(set(trees)) > 1
                # A parameter may be normalised where it is, as `nnx.WeightNorm` does.
                reads &= not isinstance(kinds[name], nnx.Param)
                # Unread, it counts calls or, where it grows, records activations.
                if reads or (from_inputs and not grows):
                    raise ValueError(
                        f"module: changes its variable {name!r} while it runs, {hint}"
                    )


def _not_perturbed(path: Any, variable: Any) -> bool:
    kind = variable if isinstance(variable, type) else type(variable)
    return issubclass(kind, nnx.Intermediate) and not issubclass(kind, nnx.Perturbation)


def _name(parts: Any) -> str:
    return "/".join(map(str, parts))


def _named(variables: Any) -> dict[str, Any]:
    """The leaves of a state or a nested dictionary by path."""
    if isinstance(variables, nnx.State):
        return {_name(parts): leaf for parts, leaf in nnx.to_flat_state(variables)}
    flat = nnx.traversals.flatten_mapping(variables)
    return {_name(parts): leaf for parts, leaf in flat.items()}


def _value(leaf: Any) -> Any:
    return leaf.get_value() if isinstance(leaf, nnx.Variable) else leaf


# The attribute of a layer that holds its name. Transformations take modules apart and
# build new ones of the same class and attributes; what NNX itself keeps in a module,
# under names that begin like this one, is not taken for a part of it.
_MARKED = "_pytree__marked"
# Of the classes whose layers are being marked, how often, and their own `__call__`.
_open: collections.Counter[type] = collections.Counter()
_own: dict[type, Any] = {}
_lock = threading.Lock()


@contextlib.contextmanager
def _marking(layer: type[nnx.Module]) -> Iterator[None]:
    """Mark what layers of a class return that have the name of a mark.

    They keep their class, as a network may ask for it, or compare it.
    """
    with _lock:
        _open[layer] += 1
        if _open[layer] == 1:
            _own[layer] = vars(layer).get("__call__")
            layer.__call__ = _marks(layer)
    try:
        yield
    finally:
        with _lock:
            _open[layer] -= 1
            if not _open[layer]:
                own = _own.pop(layer)
                if own is None:  # inherited
                    del layer.__call__
                else:
                    layer.__call__ = own


def _marks(layer: type[nnx.Module]) -> Callable[..., Any]:
    call = layer.__call__

    @functools.wraps(call, updated=())
    def marked(self, *args, **kwargs):
        output = call(self, *args, **kwargs)
        name = vars(self).get(_MARKED)
        # A subclass that calls its parent's `__call__` is marked once, by its own.
        return output if name is None or type(self) is not layer else mark(name, output)

    return marked
