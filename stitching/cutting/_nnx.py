"""NNX modules as functions whose layers are tagged."""

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx
from jaxtyping import PyTree

from stitching.cutting._frozen import computed
from stitching.cutting._tag import tag


def abstract_variables(module: nnx.Module) -> PyTree[jax.ShapeDtypeStruct]:
    """Shapes and dtypes of the state."""
    return jax.eval_shape(lambda state: state, nnx.state(module))


def tagged(
    module: nnx.Module, method: str, options: Mapping[str, Any], path: str | None
) -> Callable[[Any, Any], Any]:
    """The network with the outputs of one layer tagged, or of all."""
    graph = nnx.graphdef(module)

    def network(variables, x):
        copy = nnx.merge(graph, variables)
        for parts, layer in nnx.iter_modules(copy):
            name = "/".join(map(str, parts))
            if name and path in (None, name):
                _set_tags(layer, name)
        return getattr(copy, method)(x, **options)

    return network


def _set_tags(layer: Any, name: str) -> None:
    # An attribute, not a closure: transformations take modules apart and build new ones
    # of the same class with the same attributes.
    layer._stitching_path = name
    object.__setattr__(layer, "__class__", _with_tags(type(layer)))


@functools.cache
def _with_tags(layer: type[nnx.Module]) -> type[nnx.Module]:
    def call(self, *args, **kwargs):
        return tag(self._stitching_path, layer.__call__(self, *args, **kwargs))

    pytree = {"pytree": layer._pytree__is_pytree}
    return types.new_class(
        layer.__name__, (layer,), pytree, lambda body: body.update(__call__=call)
    )


def check_frozen(
    module: nnx.Module, method: str, options: Mapping[str, Any], x: PyTree
) -> None:
    """Raises a ValueError if the module changes its state while it runs."""
    graph, state = nnx.split(module)
    names = [name for name, _ in nnx.to_flat_state(state)]

    def after(state, x):
        copy = nnx.merge(graph, state)
        getattr(copy, method)(x, **options)
        variables = dict(nnx.to_flat_state(nnx.state(copy)))
        return [variables[name].get_value() for name in names]

    jaxpr = jax.make_jaxpr(after)(state, x).jaxpr
    for name, value in zip(names, jaxpr.outvars, strict=True):
        if computed(jaxpr, value):
            raise ValueError(
                f"module: changes its variable {'/'.join(map(str, name))!r} while it "
                "runs, but a cut network is frozen; call `module.eval()` before cutting"
            )
