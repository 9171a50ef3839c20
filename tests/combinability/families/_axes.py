"""Axes cut, joined, reshaped and reordered: products, sums and their refinements."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.combinability.families._family import family, plain, random


@family
def slices():
    """Two slices that overlap: three segments."""

    def apply(v, x):
        h = jnp.tanh(x @ v["in"])
        return h[:, :7] @ v["low"] + h[:, 4:] @ v["high"]

    shapes = {"in": (4, 13), "low": (7, 2), "high": (9, 2)}
    layout = """
        in    _ a=4|b=3|c=6
        low   a|b _
        high  b|c _
    """
    return plain(apply, shapes, random(2, 4), layout=layout)


@family
def shifted_sum():
    """x[:-3] + x[3:] of nine units: one class of three units, three times."""

    def apply(v, x):
        h = x @ v["in"]
        return jnp.tanh(h[:, :-3] + h[:, 3:]) @ v["out"]

    layout = """
        in   _ p=3|p|p
        out  p|p _
    """
    return plain(apply, {"in": (4, 9), "out": (6, 2)}, random(2, 4), layout=layout)


@family
def shifted_sum_that_does_not_fit():
    """x[:-3] + x[3:] of eleven units ties unit i with i + 3: segments of 2, 1, 2, …"""

    def apply(v, x):
        h = x @ v["in"]
        return jnp.tanh(h[:, :-3] + h[:, 3:]) @ v["out"]

    layout = """
        in   _ p=2|1|p|1|p|1|p
        out  p|1|p|1|p _
    """
    return plain(apply, {"in": (4, 11), "out": (8, 2)}, random(2, 4), layout=layout)


@family
def rolled_by_one():
    """Each unit is tied to the next one: nothing is left."""

    def apply(v, x):
        h = x @ v["in"]
        return jnp.tanh(h + jnp.roll(h, 1, axis=-1)) @ v["out"]

    return plain(apply, {"in": (4, 5), "out": (5, 2)}, random(2, 4), layout="")


@family
def reversed_axis():
    """h + its mirror image; pairs of units could be exchanged, but that is no class."""

    def apply(v, x):
        h = x @ v["in"]
        return jnp.tanh(h + h[:, ::-1]) @ v["out"]

    shapes = {"in": (4, 5), "out": (5, 2)}
    return plain(apply, shapes, random(2, 4), layout="", complete=False)


@family
def rotate_half():
    """The two halves change places: one class on both."""

    def apply(v, x):
        h = x @ v["in"]
        first, second = jnp.split(h, 2, axis=-1)
        turned = jnp.concatenate([-second, first], axis=-1)
        return jnp.tanh(0.8 * h + 0.6 * turned) @ v["out"]

    layout = """
        in   _ p=5|p
        out  p|p _
    """
    return plain(apply, {"in": (4, 10), "out": (10, 2)}, random(2, 4), layout=layout)


@family
def every_other_unit():
    """Even and odd units apart.

    Complete would be a permutation of each: (p 2), p within the pinned 2.
    """

    def apply(v, x):
        h = jnp.tanh(x @ v["in"])
        return h[:, ::2] @ v["even"] + h[:, 1::2] @ v["odd"]

    shapes = {"in": (4, 10), "even": (5, 2), "odd": (5, 2)}
    return plain(apply, shapes, random(2, 4), layout="", complete=False)


@family
def interleaved_pairs():
    """Pairs by a reshape: (5, 2), the two of each pair told apart."""

    def apply(v, x):
        pairs = (x @ v["in"]).reshape(2, 5, 2)
        return (jnp.tanh(pairs[..., 0]) * pairs[..., 1]) @ v["out"]

    layout = """
        in   _ (p 2)
        out  p _
    """
    return plain(apply, {"in": (4, 10), "out": (5, 2)}, random(2, 4), layout=layout)


@family
def maxout():
    """The pieces of each unit may change places."""

    def apply(v, x):
        h = (x @ v["in"] + v["bias"]).reshape(2, 5, 3).max(-1)
        return h @ v["out"]

    shapes = {"in": (4, 15), "bias": (15,), "out": (5, 2)}
    layout = """
        in    _ (m=5 k)
        bias  (m k)
        out   m _
        k within m
    """
    return plain(apply, shapes, random(2, 4), layout=layout)


@family
def maxout_with_pieces_outside():
    def apply(v, x):
        h = (x @ v["in"]).reshape(2, 3, 5).max(1)
        return jnp.tanh(h) @ v["out"]

    layout = """
        in   _ (k m=5)
        out  m _
        k within m
    """
    return plain(apply, {"in": (4, 15), "out": (5, 2)}, random(2, 4), layout=layout)


@family
def two_reshapes_of_one_axis():
    """(3, 10) and (6, 5) of thirty units: blocks within blocks."""

    def apply(v, x):
        h = jnp.tanh(x @ v["in"])
        low = h.reshape(2, 3, 10).sum(-1) @ v["low"]
        return low + jnp.tanh(h.reshape(2, 6, 5).sum(-1)) @ v["high"]

    shapes = {"in": (4, 30), "low": (3, 2), "high": (6, 2)}
    layout = """
        in    _ (a b c=5)
        low   a _
        high  (a=3 b=2) _
        b within a
        c within a b
    """
    return plain(apply, shapes, random(2, 4), layout=layout)


@family
def reshapes_without_common_refinement():
    """(3, 4) and (4, 3) of twelve units: only the edges are free, and may be missed."""

    def apply(v, x):
        h = jnp.tanh(x @ v["in"])
        low = jnp.tanh(h.reshape(2, 3, 4).sum(-1)) @ v["low"]
        return low + jnp.tanh(h.reshape(2, 4, 3).sum(-1)) @ v["high"]

    shapes = {"in": (4, 12), "low": (3, 2), "high": (4, 2)}
    return plain(apply, shapes, random(2, 4), layout="", complete=False)


@family
def units_on_a_grid():
    """Row and column means of a hidden layer on a grid: rows and columns permute."""

    def apply(v, x):
        h = (x @ v["in"]).reshape(2, 3, 5)
        h = h - h.mean(1, keepdims=True) + jnp.tanh(h.mean(2, keepdims=True))
        return jnp.tanh(h).reshape(2, 15) @ v["out"]

    layout = """
        in   _ (p q=5)
        out  (p q) _
    """
    return plain(apply, {"in": (4, 15), "out": (15, 2)}, random(2, 4), layout=layout)


@family
def units_on_a_grid_with_column_means():
    """Only the mean over rows: each column then has an order of rows of its own."""

    def apply(v, x):
        h = (x @ v["in"]).reshape(2, 3, 5)
        h = h + jnp.tanh(h.mean(1, keepdims=True))
        return jnp.tanh(h).reshape(2, 15) @ v["out"]

    layout = """
        in   _ (p q=5)
        out  (p q) _
        p within q
    """
    return plain(apply, {"in": (4, 15), "out": (15, 2)}, random(2, 4), layout=layout)


@family
def outer_product():
    """All products of two units of a layer, flattened: one class as both factors."""

    def apply(v, x):
        h = jnp.tanh(x @ v["in"])
        return (h[:, :, None] * h[:, None, :]).reshape(2, 25) @ v["out"]

    layout = """
        in   _ h
        out  (h h) _
    """
    return plain(apply, {"in": (4, 5), "out": (25, 2)}, random(2, 4), layout=layout)


@family
def units_at_each_position():
    """A layer with other weights at each (pinned) position: hidden units within it."""

    def apply(v, x):
        h = jnp.tanh(jnp.einsum("bti,tih->bth", x, v["up"]) + v["bias"])
        return jnp.einsum("bth,tho->bto", h, v["down"])

    shapes = {"up": (3, 4, 5), "bias": (3, 5), "down": (3, 5, 2)}
    layout = """
        up    T _ h
        bias  T h
        down  T h _
        h within T
    """
    return plain(apply, shapes, random(2, 3, 4), layout=layout)


@family
def padded_and_joined():
    """Padding with zeros, stacking, and a transposed storage."""

    def apply(v, x):
        a = jnp.pad(jnp.tanh(x @ v["a"]), ((0, 0), (0, 3)))
        b = jnp.tanh(x @ v["b"].T)
        both = jnp.stack([a, b], axis=1)
        return jnp.einsum("bkh,hko->bo", both, v["out"])

    shapes = {"a": (4, 5), "b": (8, 4), "out": (8, 2, 3)}
    layout = """
        a    _ p
        b    p|q _
        out  p|q _ _
    """
    return plain(apply, shapes, random(2, 4), layout=layout)


@family
def truncated_hidden_layer():
    """Units that nothing reads are free only because they are unused: they stay."""

    def apply(v, x):
        return jnp.tanh(x @ v["in"] + v["bias"])[:, :5] @ v["out"]

    layout = """
        in    _ a|_
        bias  a|_
        out   a _
    """
    shapes = {"in": (4, 8), "bias": (8,), "out": (5, 2)}
    return plain(apply, shapes, random(2, 4), layout=layout)


@family
def joined_weights():
    """Two kernels joined along the input, and one cut along its output."""

    def apply(v, x):
        kernel = jnp.concatenate([v["a"], v["b"]], axis=0)
        h = jnp.tanh(jnp.tanh(x @ v["in"]) @ kernel)
        left, right = v["out"][:3], v["out"][3:]
        return h[:, :3] @ left + jnp.square(h[:, 3:]) @ right

    shapes = {"in": (4, 11), "a": (5, 7), "b": (6, 7), "out": (7, 2)}
    layout = """
        in   _ p|q
        a    p s=3|t=4
        b    q s|t
        out  s|t _
    """
    return plain(apply, shapes, random(2, 4), layout=layout)


@family
def captured_constants():
    """A captured array pins the axes along which it varies, and only those."""
    flat = np.full((3, 5), 2.0, np.float32)
    by_row = np.linspace(1.0, 2.0, 3, dtype=np.float32)[:, None].repeat(7, 1)
    by_column = np.linspace(1.0, 2.0, 6, dtype=np.float32)

    def apply(v, x):
        a = jnp.tanh(x @ v["a"]) * flat
        b = jnp.tanh(a @ v["b"]) * by_row
        return jnp.tanh(b @ v["c"] + by_column) @ v["d"]

    shapes = {"a": (4, 5), "b": (5, 7), "c": (7, 6), "d": (6, 2)}
    layout = """
        a  _ h
        b  h k
        c  k _
    """
    return plain(apply, shapes, random(3, 4), layout=layout)


@family
def order_statistics():
    """Sorting, cumulated sums and the place of the largest: units are told apart.

    What goes into the sort, or into the place of the largest, might be more free.
    """

    def apply(v, x):
        a = jnp.sort(x @ v["a"], axis=-1) @ v["a_out"]
        c = jax.nn.one_hot(jnp.argmax(x @ v["c"], axis=-1), 6) @ v["c_out"]
        return a + c

    shapes = {"a": (4, 5), "a_out": (5, 2), "c": (4, 6), "c_out": (6, 2)}
    return plain(apply, shapes, random(3, 4), layout="", complete=False)


@family
def cumulative_sum():
    def apply(v, x):
        return jnp.tanh(jnp.cumsum(x @ v["in"], axis=-1)) @ v["out"]

    return plain(apply, {"in": (4, 5), "out": (5, 2)}, random(3, 4), layout="")


@family
def cumulative_sum_over_time():
    """Along the other axis it does no harm."""

    def apply(v, x):
        return jnp.tanh(jnp.cumsum(x @ v["in"], axis=0)) @ v["out"]

    layout = """
        in   _ h
        out  h _
    """
    return plain(apply, {"in": (4, 5), "out": (5, 2)}, random(3, 4), layout=layout)


@family
def top_two_experts():
    """Sparse routing by `top_k`: the experts' places matter, their insides do not."""

    def apply(v, x):
        values, chosen = jax.lax.top_k(x @ v["router"], 2)
        gate = jax.nn.one_hot(chosen, 5) * jax.nn.softmax(values)[..., None]
        h = jax.nn.relu(jnp.einsum("bi,eih->beh", x, v["up"]))
        return jnp.einsum("be,beh,eho->bo", gate.sum(1), h, v["down"])

    shapes = {"router": (4, 5), "up": (5, 4, 7), "down": (5, 7, 3)}
    layout = """
        up    E _ h
        down  E h _
        h within E
    """
    return plain(apply, shapes, random(3, 4), layout=layout, complete=False)
