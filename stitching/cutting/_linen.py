"""Linen modules as functions whose layers are tagged."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn
from jaxtyping import PyTree

from stitching.cutting._tag import tag


def abstract_variables(
    module: nn.Module, x: PyTree, method: str, options: Mapping[str, Any]
) -> PyTree[jax.ShapeDtypeStruct]:
    """Shapes and dtypes of the variables that `init` gives."""

    def init(x):
        return module.init(jax.random.key(0), x, method=method, **options)

    return jax.eval_shape(init, x)


def tagged(
    module: nn.Module, method: str, options: Mapping[str, Any], path: str | None
) -> Callable[[Any, Any], Any]:
    """The network with the outputs of one layer tagged, or of all."""

    def network(variables, x):
        with nn.intercept_methods(_Tagging(path)):
            return module.apply(
                {**variables, "stitching": _places(variables, path)},
                x,
                method=method,
                **options,
            )

    return network


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=[], meta_fields=["path", "wanted"]
)
@dataclasses.dataclass(frozen=True)
class _Place:
    """The name of a module, in the structure of a tree and not in its leaves."""

    path: str
    wanted: str | None


def _places(variables: Mapping[str, Any], wanted: str | None) -> dict[str, Any]:
    """A collection that tells every module its own name.

    `nn.jit` keeps traces from one call to the next and from one module to its
    siblings. With this among the variables no two share a trace, so that a tag inside
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


class _Tagging:
    """Tags what `__call__` gives, of one layer or of all below the root."""

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
            return tag(path, following(*args, **kwargs))
        finally:
            self._running.remove(path)
