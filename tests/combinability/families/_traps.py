"""Networks in which a careless reading finds permutations that are none."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.combinability.families._family import family, plain, random


def with_heads(mixed, layout, **shapes):
    """Heads with kernels of their own, mixed with one another, and a residual."""

    def apply(v, x):
        heads = jnp.einsum("bi,hid->bhd", x, v["in"])
        heads = jnp.tanh(heads + mixed(v, heads))
        return jnp.einsum("bhd,hdo->bo", heads, v["out"])

    shapes = {"in": (4, 3, 5), "out": (4, 5, 2)} | shapes
    return plain(apply, shapes, random(2, 3), layout=layout)


@family
def heads_mixed_by_a_matrix():
    """Each output gets dimension d of all heads: d is one class for all of them."""
    layout = """
        in   h _ d
        out  h d _
        mix  h h
    """
    return with_heads(
        lambda v, x: jnp.einsum("hk,bkd->bhd", v["mix"], x), layout, mix=(4, 4)
    )


ORDERED_HEADS = """
    in   _ _ d
    out  _ d _
"""


@family
def heads_summed_up_in_order():
    return with_heads(lambda v, x: jnp.cumsum(x, axis=1), ORDERED_HEADS)


@family
def heads_turned_around():
    return with_heads(lambda v, x: x[:, ::-1], ORDERED_HEADS)


@family
def heads_rolled():
    return with_heads(lambda v, x: jnp.roll(x, 1, axis=1), ORDERED_HEADS)


@family
def heads_reordered():
    order = np.array([2, 0, 3, 1], np.int32)
    return with_heads(lambda v, x: x[:, order], ORDERED_HEADS)


@family
def heads_sorted():
    return with_heads(lambda v, x: jnp.sort(x, axis=1), ORDERED_HEADS)


@family
def heads_convolved():
    """The dimensions are the convolution's batch."""

    def mix(v, x):
        moved = jnp.moveaxis(x, 2, 0).reshape(10, 1, 4)
        moved = jax.lax.conv_general_dilated(moved, v["filter"], (1,), "SAME")
        return jnp.moveaxis(moved.reshape(5, 2, 4), 0, 2)

    return with_heads(mix, ORDERED_HEADS, filter=(1, 1, 3))


@family
def heads_averaged_with_neighbours():
    def mix(v, x):
        window, one, none = (1, 3, 1), (1, 1, 1), ((0, 0), (1, 1), (0, 0))
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, one, none)

    return with_heads(mix, ORDERED_HEADS)


@family
def heads_one_after_another():
    """A scan over the heads that hands their dimensions on."""

    def mix(v, x):
        def step(state, head):
            state = jnp.tanh(state + head)
            return state, state

        zeros = jnp.zeros((2, 5), x.dtype)
        return jax.lax.scan(step, zeros, x.swapaxes(0, 1))[1].swapaxes(0, 1)

    return with_heads(mix, ORDERED_HEADS)


@family
def heads_averaged():
    """The mean over the heads has dimensions but no heads: these lie within them."""
    layout = """
        in   h _ d
        out  h d _
        h within d
    """
    return with_heads(lambda v, x: x.mean(1, keepdims=True), layout)


@family
def joined_constants():
    """Ones beside twos vary along the axis that they are joined along."""

    def apply(v, x):
        h = jnp.tanh(x @ v["in"])
        return (h * jnp.concatenate([jnp.ones(3), 2 * jnp.ones(5)])) @ v["out"]

    layout = """
        in   _ a=3|b=5
        out  a|b _
    """
    return plain(apply, {"in": (4, 8), "out": (8, 2)}, random(2, 4), layout=layout)


@family
def padded_constants():
    def apply(v, x):
        h = jnp.tanh(x @ v["in"])
        return (h * jnp.pad(jnp.ones(5), (0, 3))) @ v["out"]

    layout = """
        in   _ a=5|b=3
        out  a|b _
    """
    return plain(apply, {"in": (4, 8), "out": (8, 2)}, random(2, 4), layout=layout)


@family
def constants_summed_up():
    """The cumulated sum of ones is no constant."""

    def apply(v, x):
        return (jnp.tanh(x @ v["in"]) * jnp.cumsum(jnp.ones(5))) @ v["out"]

    return plain(apply, {"in": (4, 5), "out": (5, 2)}, random(2, 4), layout="")


@family
def window_over_constants():
    """At the edges a window over ones sums fewer of them."""

    def apply(v, x):
        ones = jax.lax.reduce_window(
            jnp.ones(5), 0.0, jax.lax.add, (3,), (1,), ((1, 1),)
        )
        return (jnp.tanh(x @ v["in"]) * ones) @ v["out"]

    return plain(apply, {"in": (4, 5), "out": (5, 2)}, random(2, 4), layout="")


@family
def constants_from_a_loop():
    """A loop that fills an array with its counter."""

    def apply(v, x):
        marks = jax.lax.fori_loop(0, 5, lambda i, a: a.at[i].set(i), jnp.zeros(5))
        stacked = jax.lax.scan(lambda c, _: (c + 1, c), 0.5, None, length=7)[1]
        h = jnp.tanh(x @ v["in"]) * marks
        return (jnp.tanh(h @ v["mid"]) * stacked) @ v["out"]

    shapes = {"in": (4, 5), "mid": (5, 7), "out": (7, 2)}
    return plain(apply, shapes, random(2, 4), layout="")


@family
def single_units_joined():
    """Two layers of one unit each, side by side: two different units."""

    def apply(v, x):
        h = jnp.concatenate([x @ v["a"], jnp.tanh(x @ v["b"])], axis=-1)
        return jnp.tanh(h @ v["mid"]) @ v["out"]

    shapes = {"a": (4, 1), "b": (4, 1), "mid": (2, 5), "out": (5, 2)}
    layout = """
        mid  _ h
        out  h _
    """
    return plain(apply, shapes, random(2, 4), layout=layout)


@family
def differences_of_neighbours():
    def apply(v, x):
        h = x @ v["in"]
        return jnp.tanh(h[:, 1:] - h[:, :-1]) @ v["out"]

    return plain(apply, {"in": (4, 6), "out": (5, 2)}, random(2, 4), layout="")


@family
def units_taken_one_by_one():
    """Each unit of a layer is an array of its own: they are different units."""

    def apply(v, x):
        h = jnp.tanh(x @ v["in"])
        parts = [h[:, i] * (i + 1) for i in range(4)]
        return jnp.stack(parts, axis=-1) @ v["out"]

    return plain(apply, {"in": (5, 4), "out": (4, 2)}, random(2, 5), layout="")


@family
def positions_of_a_short_text():
    """With one position only, the axis of positions is trivial; the others are not."""

    def apply(v, x):
        h = x @ v["in"] + v["positions"][: x.shape[1]]
        return jnp.tanh(h) @ v["out"]

    shapes = {"in": (4, 5), "positions": (3, 5), "out": (5, 2)}
    layout = """
        in         _ r
        positions  _ r
        out        r _
    """
    return plain(apply, shapes, random(2, 1, 4), layout=layout)


@family
def tiled_layer():
    """The same units twice, added to a layer of twice as many."""

    def apply(v, x):
        a, b = jnp.tanh(x @ v["a"]), x @ v["b"]
        return jnp.tanh(jnp.tile(a, (1, 3)) + b) @ v["out"]

    shapes = {"a": (4, 5), "b": (4, 15), "out": (15, 2)}
    layout = """
        a    _ p
        b    _ (k p)
        out  (k p) _
        k within p
    """
    return plain(apply, shapes, random(2, 4), layout=layout)


@family
def reshaped_and_back():
    """Nothing happens in between: one class of fifteen."""

    def apply(v, x):
        h = jnp.tanh((x @ v["in"]).reshape(2, 3, 5)).reshape(2, 15)
        return h @ v["out"]

    layout = """
        in   _ h
        out  h _
    """
    return plain(apply, {"in": (4, 15), "out": (15, 2)}, random(2, 4), layout=layout)


@family
def layers_of_one_array_in_a_python_loop():
    """Each layer's units are free by themselves, but a slice may hide it."""

    def apply(v, x):
        x = x @ v["in"]
        for layer in range(3):
            x = x + jnp.tanh(x @ v["up"][layer]) @ v["down"][layer]
        return x @ v["out"]

    shapes = {"in": (4, 5), "up": (3, 5, 7), "down": (3, 7, 5), "out": (5, 2)}
    layout = """
        in    _ r
        up    _ r _
        down  _ _ r
        out   r _
    """
    return plain(apply, shapes, random(2, 4), layout=layout, complete=False)


@family
def layers_of_one_array_in_a_fori_loop():
    def apply(v, x):
        def layer(i, x):
            return x + jnp.tanh(x @ v["up"][i]) @ v["down"][i]

        return jax.lax.fori_loop(0, 3, layer, x @ v["in"]) @ v["out"]

    shapes = {"in": (4, 5), "up": (3, 5, 7), "down": (3, 7, 5), "out": (5, 2)}
    layout = """
        in    _ r
        up    _ r _
        down  _ _ r
        out   r _
    """
    return plain(apply, shapes, random(2, 4), layout=layout, complete=False)
