"""Marks in a traced program: here is what this layer gave."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

# The identity on the flattened output of a layer. It exists only in programs that are
# looked at, never in one that runs, so that it needs no lowering.
tag_p = Primitive("tag")
tag_p.multiple_results = True


def tag(path: str, output: Any) -> Any:
    """The output of a layer, marked; as it is where it holds anything but arrays."""
    leaves, tree = jax.tree.flatten(output)
    arrays = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]
    if not leaves or not all(arrays):
        return output
    tagged = tag_p.bind(*map(jnp.asarray, leaves), path=path, tree=tree)
    return jax.tree.unflatten(tree, tagged)


@tag_p.def_abstract_eval
def _abstract(*leaves, path, tree):
    return list(leaves)


def _linearise(primals, tangents, **params):
    return tag_p.bind(*primals, **params), list(tangents)


def _batch(leaves, axes, **params):
    # The outer axis first, whatever axis it was mapped over.
    pairs = list(zip(leaves, axes, strict=True))
    (size,) = {leaf.shape[axis] for leaf, axis in pairs if axis is not None}
    leaves = [batching.bdim_at_front(leaf, axis, size) for leaf, axis in pairs]
    return tag_p.bind(*leaves, **params), [0] * len(leaves)


ad.primitive_jvps[tag_p] = _linearise
batching.primitive_batchers[tag_p] = _batch
