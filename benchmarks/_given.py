"""Objects given from Python: the names and digests that a run records of them.

Networks and optimizers are identified by the programs that they are traced to: these
change with arguments, code and captured arrays, wherever they are defined.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.baselines import Maker, Method
from benchmarks.configs.rllc import LEARNED_FROM
from benchmarks.data import Dataset
from benchmarks.models import Network


class Given(NamedTuple):
    """What is recorded of objects that were given in place of names.

    Attributes:
        options: the options that they replace.
        digests: a digest of each, by what it is.
    """

    options: Mapping[str, Any] = MappingProxyType({})
    digests: Mapping[str, str] = MappingProxyType({})

    def __or__(self, other: "Given") -> "Given":
        both = zip(self, other, strict=True)
        return Given(*({**mine, **theirs} for mine, theirs in both))


def given_dataset(dataset: Dataset) -> Given:
    """Identify a dataset by its arrays."""
    digest = hashlib.sha256(repr((dataset.classes, dataset.kind)).encode())
    for split in (dataset.train, dataset.validation, dataset.test):
        for array in map(np.asarray, split):
            digest.update(repr((array.shape, str(array.dtype))).encode())
            digest.update(np.ascontiguousarray(array).data)
    name = dataset.name
    return Given({"dataset": name}, {f"dataset {name}": digest.hexdigest()[:12]})


def given_model(network: Network, example: Any) -> Given:
    """Identify a network by its initial variables and its logits in training."""

    def program(key: jax.Array, inputs: jax.Array) -> Any:
        variables = network.init(key, inputs)
        return variables, network.train(variables, inputs, key)

    module = network.module
    name = getattr(module, "__qualname__", type(module).__qualname__)
    found = _digest(program, jax.random.key(0), example)
    return Given({"model": name}, {f"model {name}": found})


def given_methods(
    named: Sequence[str], methods: Sequence[Method], params: Any, steps: int
) -> Given:
    """Identify optimizers by their spaces and a step, after those that are named."""

    def program(method: Method) -> Callable[..., Any]:
        def step(hyper: Any, params: Any) -> Any:
            optimizer = Maker(method, steps)(hyper)
            found = optimizer.update(params, optimizer.init(params), params)
            return found, method.eval_params and method.eval_params(found[1], params)

        return step

    def digest(method: Method) -> str:
        hyper: dict[str, Any] = dict.fromkeys(method.space, np.float32(0))
        hyper["schedule"] = 0
        if method.name in LEARNED_FROM:
            hyper["law"] = np.zeros(3, np.float32)  # one of the default memory
        about = method.space, method.fixed, method.scheduled
        return _digest(program(method), hyper, params, about=repr(about))

    names = [*named, *(method.name for method in methods)]
    digests = {f"method {method.name}": digest(method) for method in methods}
    return Given({"methods": names}, digests)


def _digest(program: Callable[..., Any], *arguments: Any, about: str = "") -> str:
    text = about + jax.jit(program).lower(*arguments).as_text()
    return hashlib.sha256(text.encode()).hexdigest()[:12]
