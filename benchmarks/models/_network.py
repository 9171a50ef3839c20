"""Modules of Flax Linen and NNX as pure functions of their variables."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

import combinability
import stitching

Variables = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A Linen module as pure functions; equal modules give equal networks.

    Variables have parameters under "params" and what else training changes, such as
    statistics of BatchNorm, under other names. Whether the module trains is told by its
    argument `train`, `training`, `deterministic` or `use_running_average`, if it has
    one.
    """

    module: Any  # the module

    # The collection that holds the statistics of BatchNorm, among others.
    statistics_in: ClassVar[str] = "batch_stats"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Network) or type(self) is not type(other):
            return False
        return self.module is other.module or (
            _is_hashable(self.module) and self.module == other.module
        )

    def __hash__(self) -> int:
        # A module with a list among its attributes is told apart by its identity.
        return hash(self.module) if _is_hashable(self.module) else id(self.module)

    def init(self, key: jax.Array, example: jax.Array) -> Variables:
        """Return fresh variables, without what a step would only add to (`sow`)."""
        found = dict(self.module.init(key, example, **self._mode(False)))
        if set(found) == {"params"}:
            return found
        after = jax.eval_shape(self.train, found, example, jax.random.key(0))[1]
        after["params"] = found["params"]
        shapes = [jax.tree.map(jnp.shape, each) for each in (found, after)]
        return {n: part for n, part in found.items() if shapes[0][n] == shapes[1][n]}

    def apply(self, variables: Variables, inputs: jax.Array) -> jax.Array:
        """Return logits in evaluation mode."""
        return self.module.apply(variables, inputs, **self._mode(False))

    def train(
        self, variables: Variables, inputs: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Variables]:
        """Return logits in training mode and everything but the parameters, updated."""
        names = [name for name in variables if name != "params"]
        logits, updated = self.module.apply(
            variables,
            inputs,
            mutable=names,
            rngs={"dropout": key},
            **self._mode(True),
        )
        return logits, dict(updated)

    def has_statistics(self, variables: Variables) -> bool:
        """Return whether the network has BatchNorm."""
        found = jax.tree.leaves_with_path(variables.get(self.statistics_in, {}))
        return any(getattr(path[-1], "key", None) == "var" for path, _ in found)

    def reset(self, variables: Variables, inputs: jax.Array) -> Variables:
        """Return variables with the statistics that BatchNorm sees in these inputs."""

        def training(variables, inputs):
            return self.train(variables, inputs, jax.random.key(0))

        name = self.statistics_in
        return combinability.reset_batch_norm(
            training, variables, inputs[None], collection=name
        )

    def repaired(
        self, variables: Variables, a: Variables, b: Variables, inputs: jax.Array
    ) -> Callable[[jax.Array], jax.Array]:
        """Return the logits of a combination of `a` and `b`, repaired on inputs."""
        return _repaired(self.apply, (variables, a, b), inputs)

    def statistics(self, variables: Variables, inputs: jax.Array) -> dict[str, Any]:
        """Return `combinability.channel_statistics`, in evaluation mode."""
        return combinability.channel_statistics(self.apply, variables, inputs)

    def cut(self, path: str, example: Any) -> stitching.Cut:
        """Return `stitching.cut` at a layer, in evaluation mode."""
        return stitching.cut(self.module, path, example, **self._mode(False))

    def cut_points(self, example: Any) -> list[stitching.CutPoint]:
        """Return `stitching.cut_points`, in evaluation mode."""
        variables = jax.eval_shape(self.init, jax.random.key(0), example)
        return stitching.cut_points(
            self.module, variables, example, **self._mode(False)
        )

    def _mode(self, train: bool) -> dict[str, Any]:
        names = inspect.signature(self.module.__call__).parameters
        for name, value in (
            ("train", train),
            ("training", train),
            ("deterministic", not train),
            ("use_running_average", not train),
        ):
            if name in names:
                return {name: value}
        return {}


@dataclasses.dataclass(frozen=True, eq=False)
class NnxNetwork(Network):
    """An NNX module as pure functions; its attribute `module` is what makes it."""

    statistics_in: ClassVar[str] = "state"

    def init(self, key: jax.Array, example: jax.Array) -> Variables:
        del example  # NNX modules know their shapes
        _, params, rest = nnx.split(self.module(nnx.Rngs(key)), nnx.Param, ...)
        found = {"params": nnx.to_pure_dict(params)}
        return found | _state(rest)

    def apply(self, variables: Variables, inputs: jax.Array) -> jax.Array:
        return self._merged(variables, False)(inputs)

    def train(
        self, variables: Variables, inputs: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Variables]:
        del key  # NNX modules carry their own
        module = self._merged(variables, True)
        logits = module(inputs)
        _, _, rest = nnx.split(module, nnx.Param, ...)
        if "state" not in variables:
            return logits, {}
        flat, kept = map(_flat, (_state(rest)["state"], variables["state"]))
        new = {name: flat[name] for name in kept}  # not what the module has sown
        return logits, {"state": nnx.traversals.unflatten_mapping(new)}

    def repaired(
        self, variables: Variables, a: Variables, b: Variables, inputs: jax.Array
    ) -> Callable[[jax.Array], jax.Array]:
        module, state = self._module_and_state(variables)
        others = [self._module_and_state(each)[1] for each in (a, b)]
        return _repaired(module, [state, *others], inputs)

    def statistics(self, variables: Variables, inputs: jax.Array) -> dict[str, Any]:
        module, state = self._module_and_state(variables)
        return combinability.channel_statistics(module, state, inputs)

    def cut(self, path: str, example: Any) -> stitching.Cut:
        module = self.module(nnx.Rngs(0))
        module.eval()
        found = stitching.cut(module, path, example)

        def front(variables, inputs):
            return found.front(nnx.state(self._merged(variables, False)), inputs)

        def back(variables, *arrays):
            return found.back(nnx.state(self._merged(variables, False)), *arrays)

        return dataclasses.replace(found, front=front, back=back)

    def cut_points(self, example: Any) -> list[stitching.CutPoint]:
        module = self.module(nnx.Rngs(0))
        module.eval()
        return stitching.cut_points(module, nnx.state(module), example)

    def _module_and_state(self, variables: Variables) -> tuple[nnx.Module, Any]:
        module = self._merged(variables, False)
        return module, nnx.state(module, nnx.Not(nnx.RngState))

    def _merged(self, variables: Variables, train: bool) -> Any:
        graph, params, rest = _structure(self.module, train)
        params, rest = (jax.tree.map(lambda leaf: leaf, x) for x in (params, rest))
        nnx.replace_by_pure_dict(params, variables["params"])
        state = jax.tree.map(
            _wrapped, nnx.to_pure_dict(rest), variables.get("state", {})
        )
        nnx.replace_by_pure_dict(rest, state)
        return nnx.merge(graph, params, rest)


def _repaired(apply: Any, networks: Any, inputs: jax.Array) -> Any:
    found = combinability.repair(apply, *networks, inputs=inputs)
    return functools.partial(combinability.corrected(apply, found), networks[0])


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _state(rest: Any) -> Variables:
    """Everything but the parameters; keys as the integers that they consist of."""
    found = jax.tree.map(
        lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf,
        nnx.to_pure_dict(rest),
    )
    return {"state": found} if found else {}


def _flat(state: Any) -> dict[tuple, jax.Array]:
    return nnx.traversals.flatten_mapping(state)


def _wrapped(like: Any, leaf: Any) -> Any:
    return jax.random.wrap_key_data(leaf) if _is_key(like) else leaf


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@functools.cache
def _structure(make: Callable[[nnx.Rngs], Any], train: bool) -> Any:
    module = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    (module.train if train else module.eval)()
    return nnx.split(module, nnx.Param, ...)


def network(module: Any) -> Network:
    """Return a Linen module, or what makes an NNX module, as pure functions.

    The latter is a function of `nnx.Rngs`, such as the module's class.
    """
    if isinstance(module, Network):
        return module
    if isinstance(module, nn.Module):
        return Network(module)
    if callable(module) and not isinstance(module, nnx.Module):
        return NnxNetwork(module)
    raise TypeError(
        "model: expected a Linen module or a function of nnx.Rngs that returns an NNX "
        f"module, got {type(module).__name__}"
    )
