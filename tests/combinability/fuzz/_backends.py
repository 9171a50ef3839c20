"""One network, three readings: for JAX to trace, in NumPy's float64, and as a graph.

A network is written once, as a function of a backend. Arrays of all three can be
reshaped, sliced and transposed as they are; what computes goes through the backend.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

UNARY = {
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "square": np.square,
}
BINARY = {"add": np.add, "sub": np.subtract, "mul": np.multiply}


class Numpy:
    """Evaluates a network in float64.

    Args:
        variables: its parameters, in the order in which it asks for them.
    """

    def __init__(self, variables):
        self._variables = iter(variables)

    def parameter(self, *shape):
        return np.asarray(next(self._variables), np.float64).reshape(shape)

    def constant(self, values):
        return np.asarray(values, np.float64)

    def lookup(self, table, text):
        return table[text]

    def segments(self, x, *bounds):
        """An axis cut into parts."""
        return [x[:, i:j] for i, j in itertools.pairwise((0, *bounds, x.shape[1]))]

    def unary(self, name, x):
        return UNARY[name](x)

    def binary(self, name, x, y):
        return BINARY[name](x, y)

    def contract(self, spec, *operands):
        return np.einsum(spec, *operands)

    def mean(self, x, axis):
        return x.mean(axis, keepdims=True)

    def max(self, x, axis):
        return x.max(axis)

    def softmax(self, x):
        x = np.exp(x - x.max(-1, keepdims=True))
        return x / x.sum(-1, keepdims=True)

    def largest(self, x, count):
        """The largest of each row; 0 in place of the others."""
        return np.where(x >= np.sort(x)[:, -count, None], x, 0)

    def routed(self, kind, scores, count, x, up, down):
        """Experts with one hidden layer, by the largest scores; kinds are JAX's."""
        y = self.unary("relu", self.contract("tf,efh->teh", x, up))
        gate = self.largest(scores, count)
        return self.contract("te,teh,eho->to", gate, y, down)

    def normalise(self, x):
        return (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + 0.1)

    def concatenate(self, parts, axis=-1):
        return np.concatenate(parts, axis)

    def tile(self, x, times):
        return np.tile(x, (1, times))

    def cumsum(self, x):
        return np.cumsum(x, -1)

    def convolve(self, x, kernel):
        """Windows of two steps along time."""
        return x[:-1] @ kernel[0] + x[1:] @ kernel[1]

    def blur(self, x, filters):
        """The same for each channel, with constant filters of its own."""
        return x[:-1] * filters[0] + x[1:] * filters[1]

    def write(self, x, row, new):
        """One step replaced."""
        x = np.array(x)
        x[row] = new
        return x

    def collect(self, x, rows, count):
        """Steps added up in the rows that they are sent to."""
        sends = np.arange(count)[:, None] == np.asarray(rows)
        return self.contract("st,tf->sf", self.constant(sends), x)

    def fourier(self, x):
        """Both parts of the transform along time, summed."""
        angle = 2 * np.pi * np.outer(*[np.arange(len(x))] * 2) / len(x)
        waves = (np.cos(angle) - 0.5 * np.sin(angle)).round(9)
        return self.contract("st,tf->sf", self.constant(waves), x)

    def store(self, step, state, xs):
        """As `scan`, with the states written into an array."""
        return self.scan(step, state, xs)

    def scan(self, step, state, xs):
        states = []
        for x in xs:
            state = step(state, x)
            states.append(state)
        return np.stack(states)


class Jax(Numpy):
    """The same with JAX's own operations, for tracing."""

    def __init__(self, variables):
        self._variables = iter(variables)

    def parameter(self, *shape):
        return next(self._variables)

    def constant(self, values):
        return jnp.asarray(values, jnp.float32)

    def unary(self, name, x):
        return {
            "tanh": jnp.tanh,
            "sigmoid": jax.nn.sigmoid,
            "relu": jax.nn.relu,
            "square": jnp.square,
        }[name](x)

    def binary(self, name, x, y):
        return {"add": jnp.add, "sub": jnp.subtract, "mul": jnp.multiply}[name](x, y)

    def contract(self, spec, *operands):
        return jnp.einsum(spec, *operands)

    def softmax(self, x):
        return jax.nn.softmax(x)

    def routed(self, kind, scores, count, x, up, down):
        values, chosen = jax.lax.top_k(scores, count)
        if kind == "gathered":
            y = jax.nn.relu(jnp.einsum("tf,tkfh->tkh", x, up[chosen]))
            return jnp.einsum("tk,tkh,tkho->to", values, y, down[chosen])
        if kind == "sorted":
            order = jnp.argsort(chosen.ravel())
            sizes = jnp.bincount(chosen.ravel(), length=len(up))
            y = jax.nn.relu(jax.lax.ragged_dot(x[order // count], up, sizes))
            y = jax.lax.ragged_dot(y, down, sizes)[jnp.argsort(order)]
            return (y.reshape(*values.shape, -1) * values[..., None]).sum(1)
        mask = jax.nn.one_hot(chosen, len(up)).sum(1)
        if kind == "buffered":
            place = (jnp.cumsum(mask, 0) * mask).astype(int)
            sends = mask[..., None] * jax.nn.one_hot(place, len(x) + 1)
            y = jax.nn.relu(jnp.einsum("tec,tf,efh->ech", sends, x, up))
            return jnp.einsum("te,tec,ech,eho->to", scores, sends, y, down)
        y = jax.nn.relu(jnp.einsum("tf,efh->teh", x, up))
        return jnp.einsum("te,teh,eho->to", scores * mask, y, down)

    def normalise(self, x):
        return (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + 0.1)

    def concatenate(self, parts, axis=-1):
        return jnp.concatenate(parts, axis)

    def tile(self, x, times):
        return jnp.tile(x, (1, times))

    def cumsum(self, x):
        return jnp.cumsum(x, -1)

    def convolve(self, x, kernel):
        dims = ("NWC", "WIO", "NWC")
        return jax.lax.conv_general_dilated(
            x[None], kernel, (1,), "VALID", dimension_numbers=dims
        )[0]

    def blur(self, x, filters):
        return jax.lax.conv_general_dilated(
            x[None],
            jnp.asarray(filters, jnp.float32)[:, None],
            (1,),
            "VALID",
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=x.shape[1],
        )[0]

    def write(self, x, row, new):
        return x.at[row].set(new)

    def collect(self, x, rows, count):
        return jax.ops.segment_sum(x, jnp.asarray(rows), count)

    def fourier(self, x):
        waves = jnp.fft.fft(x, axis=0)
        return waves.real + 0.5 * waves.imag

    def store(self, step, state, xs):
        def body(i, carry):
            state, states = carry
            state = step(state, xs[i])
            return state, jax.lax.dynamic_update_slice(states, state[None], (i, 0))

        start = state, jnp.zeros((len(xs), len(state)))
        return jax.lax.fori_loop(0, len(xs), body, start)[1]

    def scan(self, step, state, xs):
        def body(state, x):
            state = step(state, x)
            return state, state

        return jax.lax.scan(body, state, xs)[1]


class Graph(Numpy):
    """The network as a graph of scalars: an array holds the numbers of its nodes.

    Each node has a kind (an operation; an entry of an input; a parameter's name) and
    edges from its operands. Operands that may be exchanged have equal roles.
    """

    def __init__(self):
        self.kinds: list[np.ndarray] = []
        self.edges: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.parameters: list[np.ndarray] = []
        self.witnesses: list[np.ndarray] = []
        self._names: dict[object, int] = {}
        self._count = 0

    def kind(self, name) -> int:
        return self._names.setdefault(name, len(self._names))

    def nodes(self, shape, name, distinct=False):
        """New nodes, of one kind or of a kind each."""
        count = int(np.prod(shape))
        ids = np.arange(self._count, self._count + count)
        self._count += count
        names = [(name, i) for i in range(count)] if distinct else [name] * count
        self.kinds.append(np.array([self.kind(n) for n in names], int))
        return ids.reshape(shape)

    def connect(self, source, target, role) -> None:
        source, target = np.broadcast_arrays(source, target)
        roles = np.full(source.size, self.kind(("role", role)))
        self.edges.append((source.ravel(), target.ravel(), roles))

    def input(self, shape, name):
        return self.nodes(shape, name, distinct=True)

    def parameter(self, *shape):
        ids = self.nodes(shape, ("parameter", len(self.parameters)))
        self.parameters.append(ids)
        return ids

    def constant(self, values):
        values = np.asarray(values, float)
        known = [self.nodes((), ("constant", value)) for value in values.ravel()]
        return np.array(known, int).reshape(values.shape)

    def lookup(self, table, text):
        """Each step may look up any row."""
        ids = self.nodes((len(text), table.shape[1]), "lookup")
        self.connect(self.input((len(text), 1), "text"), ids, "text")
        for number, row in enumerate(table):
            self.connect(row, ids, ("row", number))
        return ids

    def segments(self, x, *bounds):
        parts = super().segments(x, *bounds)
        self.tell_apart(parts)
        return parts

    def tell_apart(self, parts) -> None:
        """Witnesses of the part that each node is in.

        Units of different segments may play the same role, and could be permuted among
        one another. They are groups of their own by definition; this says so.
        """
        for number, part in enumerate(parts):
            ids = self.nodes(part.shape, ("part", len(self.witnesses), number))
            self.connect(part, ids, "witness")
            self.witnesses.append(ids.ravel())

    def apply(self, name, shape, *operands):
        """Nodes of an operation whose operands have roles of their own."""
        ids = self.nodes(shape, name)
        for role, operand in enumerate(operands):
            self.connect(operand, ids, role)
        return ids

    def unary(self, name, x):
        return self.apply(name, x.shape, x)

    def binary(self, name, x, y):
        shape = np.broadcast_shapes(x.shape, y.shape)
        if name == "sub":
            return self.apply(name, shape, x, y)
        ids = self.nodes(shape, name)
        self.connect(x, ids, "any")
        self.connect(y, ids, "any")
        return ids

    def reduce(self, name, x, axis):
        """One node over an axis, in no order; the axis stays with size 1."""
        ids = self.nodes(np.take(x, [0], axis).shape, name)
        self.connect(x, ids, "any")
        return ids

    def contract(self, spec, *operands):
        inputs, result = spec.split("->")
        letters = inputs.split(",")
        order = result + "".join(sorted(set("".join(letters)) - set(result)))
        sizes = {}
        for names, operand in zip(letters, operands, strict=True):
            sizes |= dict(zip(names, operand.shape, strict=True))
        products = self.nodes([sizes[n] for n in order], "product")
        for names, operand in zip(letters, operands, strict=True):
            kept = sorted(names, key=order.index)
            moved = operand.transpose([names.index(n) for n in kept])
            shape = [sizes[n] if n in names else 1 for n in order]
            self.connect(moved.reshape(shape), products, "any")
        sums = self.nodes([sizes[n] for n in result], "sum")
        padding = [1] * (len(order) - len(result))
        self.connect(products, sums.reshape([*sums.shape, *padding]), "any")
        return sums

    def mean(self, x, axis):
        return self.reduce("mean", x, axis)

    def max(self, x, axis):
        return self.reduce("max", x, axis).squeeze(axis)

    def softmax(self, x):
        return self.apply("softmax", x.shape, x, self.reduce("partition", x, -1))

    def largest(self, x, count):
        name = f"largest {count}"
        return self.apply(name, x.shape, x, self.reduce("ranks", x, -1))

    def normalise(self, x):
        return self.apply("normalise", x.shape, x, self.reduce("moments", x, -1))

    def concatenate(self, parts, axis=-1):
        self.tell_apart(parts)
        return super().concatenate(parts, axis)

    def cumsum(self, x):
        columns = [x[:, :1]]
        for i in range(1, x.shape[1]):
            columns.append(self.binary("add", columns[-1], x[:, i : i + 1]))
        return np.concatenate(columns, -1)

    def convolve(self, x, kernel):
        windows = np.stack([x[:-1], x[1:]])
        return self.contract("wtf,wfg->tg", windows, kernel)

    def blur(self, x, filters):
        windows = np.stack([x[:-1], x[1:]])
        return self.contract("wtf,wf->tf", windows, self.constant(filters))

    def scan(self, step, state, xs):
        states = list(itertools.accumulate(xs, step, initial=state))[1:]
        return np.stack(states)
