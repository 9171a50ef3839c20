"""How many permutations of its parameters leave a network's graph of scalars as it is.

A network's symmetries, as far as they follow from which scalar goes where, are the
automorphisms of that graph. They are counted by colour refinement: nodes of equal
colour stay so only if operands and consumers have equal colours. Then one of the
parameters that still look alike is marked; the count is how many of them, marked in its
place, give the same colours, times the count of what is left; and so on until all are
told apart. It knows nothing of axes, labels or groups.
"""

from typing import NamedTuple

import numpy as np

from tests.combinability.fuzz._backends import Graph


class Refinement(NamedTuple):
    """A graph's edges, sorted by target and by source."""

    incoming: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    outgoing: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

    def stable(self, colours: np.ndarray) -> np.ndarray:
        """Colours refined until nothing changes."""
        count = len(np.unique(colours))
        while True:
            finer = mixed(colours)
            for number, (start, ends, other, roles) in enumerate(self):
                with np.errstate(over="ignore"):
                    seen = mixed(mixed(colours[other]) + roles)
                    sums = np.add.reduceat(seen, start) if len(start) else seen
                    finer[ends] += mixed(sums + np.uint64(number + 1))
            colours, before = finer, count
            count = len(np.unique(colours))
            if count == before:
                return colours


def mixed(x: np.ndarray) -> np.ndarray:
    """Hashes of 64-bit numbers (SplitMix64's finalizer)."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def sorted_edges(ends, others, roles):
    """Edges by their ends: where each end's begin, ends, others, hashed roles."""
    order = np.argsort(ends, kind="stable")
    unique, start = np.unique(ends[order], return_index=True)
    return start, unique, others[order], mixed(roles[order].astype(np.uint64))


class Network(NamedTuple):
    """What is left of a graph when all that no output needs is taken away.

    Attributes:
        refinement: the edges.
        colours: the kinds of the nodes, outputs told apart.
        used: for each parameter, in order, which of its entries an output needs.
        nodes: for each parameter the nodes of those.
    """

    refinement: Refinement
    colours: np.ndarray
    used: list[np.ndarray]
    nodes: list[np.ndarray]


def ancestors(nodes, source, target, count: int) -> np.ndarray:
    """Which of all nodes some nodes depend on, themselves included."""
    found = np.zeros(count, bool)
    found[nodes] = True
    before = -1
    while before != found.sum():
        before = found.sum()
        found[source[found[target]]] = True
    return found


def network(graph: Graph, outputs: np.ndarray) -> Network:
    """The part of a graph that its outputs need."""
    kinds = np.concatenate(graph.kinds)
    source, target, roles = (np.concatenate(x) for x in zip(*graph.edges, strict=True))
    needed = ancestors(outputs.ravel(), source, target, len(kinds))
    kept = ancestors(
        np.concatenate([outputs.ravel(), *graph.witnesses]), source, target, len(kinds)
    )
    inside = kept[target]
    source, target, roles = source[inside], target[inside], roles[inside]
    colours = mixed(kinds.astype(np.uint64))
    places = mixed(np.arange(outputs.size, dtype=np.uint64))
    np.bitwise_xor.at(colours, outputs.ravel(), mixed(places))
    colours[~kept] = 0
    edges = Refinement(
        sorted_edges(target, source, roles), sorted_edges(source, target, roles)
    )
    used = [needed[ids] for ids in graph.parameters]
    return Network(edges, colours, used, [ids[needed[ids]] for ids in graph.parameters])


def orbit_sizes(found: Network) -> list[int]:
    """Numbers whose product is the number of automorphisms."""
    colours = found.refinement.stable(found.colours)
    leaves = np.concatenate([ids.ravel() for ids in found.nodes])
    sizes = []
    while True:
        values, counts = np.unique(colours[leaves], return_counts=True)
        if (counts == 1).all():
            return sizes
        smallest = values[counts > 1][np.argmin(counts[counts > 1])]
        alike = leaves[colours[leaves] == smallest]
        marked = [found.refinement.stable(mark(colours, node)) for node in alike]
        signatures = [np.sort(c).tobytes() for c in marked]
        sizes.append(signatures.count(signatures[0]))
        colours = marked[0]


def mark(colours: np.ndarray, node: int) -> np.ndarray:
    """Colours with one node told apart."""
    marked = colours.copy()
    marked[node] = mixed(marked[[node]] ^ np.uint64(0xFFFF))[0]
    return marked
