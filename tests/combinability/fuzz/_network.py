"""A random network: a beginning, parts, and an end."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests.combinability.fuzz._backends import Graph, Jax, Numpy
from tests.combinability.fuzz._parts import PARTS, dense

TIME, FEATURES = 3, 2
TEXT = np.array([1, 3, 0])


class Program(NamedTuple):
    """What to build.

    Attributes:
        embed: whether the input is a text (a table is looked up), or features.
        parts: (name, i, j) of each part.
        end: a layer at each step, or on the flattened stream, or the table again.
    """

    embed: bool
    parts: tuple[tuple[str, int, int], ...]
    end: str


def run(backend, program: Program, features, text):
    """The outputs of a network for given inputs, in a backend."""
    table = None
    if program.embed:
        table = backend.parameter(4, 4)
        x = backend.lookup(table, text)
    else:
        x = dense(backend, features, 4)
    saved = []
    for name, i, j in program.parts:
        x = PARTS[name](backend, x, saved, i, j)
    if program.end == "tied" and table is not None:
        x = backend.unary("tanh", dense(backend, x, 4))
        return backend.contract("tf,vf->tv", x, table)
    if program.end == "flatten":
        x = x.reshape(1, -1)
    return dense(backend, x, 2)


class Built(NamedTuple):
    """A network with parameters.

    Attributes:
        apply: for JAX, of the parameters (a dict) and the inputs.
        evaluate: the same in NumPy's float64, for these inputs.
        parameters: random ones.
        inputs: features and a text.
        graph: its graph of scalars.
        outputs: the nodes of its outputs.
    """

    apply: Callable[..., Any]
    evaluate: Callable[..., np.ndarray]
    parameters: dict[str, np.ndarray]
    inputs: tuple[np.ndarray, np.ndarray]
    graph: Graph
    outputs: np.ndarray


def build(program: Program, seed: int = 0) -> Built:
    """A network in all three readings."""
    graph, rng = Graph(), np.random.default_rng(seed)
    outputs = run(graph, program, graph.input((TIME, FEATURES), "input"), TEXT)
    parameters = {
        f"p{number:02}": rng.normal(size=ids.shape).astype(np.float32)
        for number, ids in enumerate(graph.parameters)
    }
    features = rng.normal(size=(TIME, FEATURES)).astype(np.float32)

    def apply(parameters, features, text):
        return run(Jax(parameters.values()), program, features, text)

    def evaluate(parameters):
        return run(Numpy(parameters.values()), program, features, TEXT)

    return Built(apply, evaluate, parameters, (features, TEXT), graph, outputs)
