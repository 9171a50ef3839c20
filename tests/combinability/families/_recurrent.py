"""Recurrent networks: `scan`, cells, and linear recurrences."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tests.combinability.families._family import dense, family, linen, plain, random


def recurrent(cell, layout):
    def body(x):
        x = nn.RNN(cell(5, name="cell"))(x)
        return dense(2, "head")(x)

    return linen(body, random(2, 6, 4), layout=layout)._replace(single=True)


@family
def simple_cell():
    """One class on both axes of the recurrent kernel."""
    layout = """
        cell/i/kernel  _ h
        cell/i/bias    h
        cell/h/kernel  h h
        head/kernel    h _
    """
    return recurrent(nn.SimpleCell, layout)


LSTM = """
    cell/i?/kernel  _ h
    cell/h?/kernel  h h
    cell/h?/bias    h
    head/kernel     h _
"""


@family
def lstm():
    return recurrent(nn.LSTMCell, LSTM)


@family
def lstm_with_joined_gates():
    """The cell joins its four kernels, multiplies once and splits again."""
    return recurrent(nn.OptimizedLSTMCell, LSTM)


@family
def gru():
    layout = """
        cell/i?/kernel  _ h
        cell/i?/bias    h
        cell/h?/kernel  h h
        cell/hn/bias    h
        head/kernel     h _
    """
    return recurrent(nn.GRUCell, layout)


@family
def bidirectional_layers():
    """Two cells side by side: a sum of segments."""

    def body(x):
        forward, backward = nn.RNN(nn.SimpleCell(5)), nn.RNN(nn.SimpleCell(3))
        x = nn.Bidirectional(forward, backward)(x)
        return dense(2, "head")(nn.relu(dense(7, "mix")(x)))

    layout = """
        SimpleCell_0/i/kernel  _ a
        SimpleCell_0/i/bias    a
        SimpleCell_0/h/kernel  a a
        SimpleCell_1/i/kernel  _ b
        SimpleCell_1/i/bias    b
        SimpleCell_1/h/kernel  b b
        mix/kernel             a|b c
        mix/bias               c
        head/kernel            c _
    """
    return linen(body, random(2, 6, 4), layout=layout)._replace(single=True)


@family
def scan_by_hand():
    """Two coupled states; one is seen only by its mean and through the other."""

    def apply(v, x):
        def step(carry, x):
            fast, slow = carry
            fast = jnp.tanh(x @ v["in"] + fast @ v["w"] + slow @ v["back"])
            slow = 0.9 * slow + 0.1 * jnp.tanh(fast @ v["up"])
            return (fast, slow), (fast @ v["out"], slow.mean(-1))

        zeros = jnp.zeros((2, 5), x.dtype), jnp.zeros((2, 7), x.dtype)
        return jax.lax.scan(step, zeros, x)

    shapes = {"in": (4, 5), "w": (5, 5), "back": (7, 5), "up": (5, 7), "out": (5, 2)}
    layout = """
        in    _ a
        w     a a
        back  b a
        up    a b
        out   a _
    """
    built = plain(apply, shapes, random(6, 2, 4), layout=layout)
    return built._replace(apply=lambda v, x: apply(v, x)[1])


@family
def learned_initial_state():
    def apply(v, x):
        def step(state, x):
            return jnp.tanh(x @ v["in"] + state * v["decay"] + state @ v["w"]), None

        state = jnp.broadcast_to(v["start"], (2, 5))
        return jax.lax.scan(step, state, x)[0] @ v["out"]

    shapes = {"in": (4, 5), "w": (5, 5), "decay": (5,), "start": (5,), "out": (5, 2)}
    layout = """
        in     _ h
        w      h h
        decay  h
        start  h
        out    h _
    """
    return plain(apply, shapes, random(6, 2, 4), layout=layout)


@family
def state_returned():
    """The final state itself is an output: it stays."""

    def apply(v, x):
        def step(state, x):
            return jnp.tanh(x @ v["in"] + state @ v["w"]), None

        return jax.lax.scan(step, jnp.zeros((2, 5), x.dtype), x)[0]

    shapes = {"in": (4, 5), "w": (5, 5)}
    return plain(apply, shapes, random(6, 2, 4), layout="")


@family
def stacked_layers_by_hand():
    """`lax.scan` over layers: the hidden units of each are its own."""

    def apply(v, x):
        def layer(x, w):
            up, down = w
            return x + jnp.tanh(x @ up) @ down, None

        x = x @ v["in"]
        return jax.lax.scan(layer, x, (v["up"], v["down"]))[0] @ v["out"]

    shapes = {"in": (4, 5), "up": (3, 5, 7), "down": (3, 7, 5), "out": (5, 2)}
    layout = """
        in    _ r
        up    L r m
        down  L m r
        out   r _
        m within L
    """
    return plain(apply, shapes, random(2, 4), layout=layout)


@family
def stacked_layers_handing_on_hidden_units():
    """The hidden units go from layer to layer as well: one permutation for all."""

    def apply(v, x):
        def layer(carry, w):
            x, hidden = carry
            hidden = jnp.tanh(x @ w["up"] + 0.5 * hidden)
            return (x + hidden @ w["down"], hidden), None

        x = x @ v["in"]
        layers = {"up": v["up"], "down": v["down"]}
        (x, _), _ = jax.lax.scan(layer, (x, jnp.zeros((2, 7), x.dtype)), layers)
        return x @ v["out"]

    shapes = {"in": (4, 5), "up": (3, 5, 7), "down": (3, 7, 5), "out": (5, 2)}
    layout = """
        in    _ r
        up    _ r m
        down  _ m r
        out   r _
    """
    return plain(apply, shapes, random(2, 4), layout=layout)


@family
def diagonal_state_space():
    """A linear recurrence by `associative_scan`: states of each channel within it."""

    def apply(v, x):
        inner = x @ v["in"]  # (time, channels)
        decay = jax.nn.sigmoid(v["decay"])  # (channels, states)
        drive = inner[:, :, None] * v["b"]
        factor = jnp.broadcast_to(decay, drive.shape)

        def join(left, right):
            return left[0] * right[0], left[1] * right[0] + right[1]

        states = jax.lax.associative_scan(join, (factor, drive))[1]
        y = jnp.tanh(jnp.einsum("tcn,cn->tc", states, v["c"]) + inner * v["d"])
        return y @ v["out"]

    shapes = {"in": (4, 5), "decay": (5, 3), "b": (5, 3), "c": (5, 3), "d": (5,)}
    layout = """
        in     _ c
        decay  c n
        b      c n
        c      c n
        d      c
        out    c _
        n within c
    """
    return plain(apply, shapes | {"out": (5, 2)}, random(6, 4), layout=layout)


@family
def while_loop_to_a_fixed_point():
    """Runs until the state hardly moves: the test is a sum over the units."""

    def apply(v, x):
        drive = x @ v["in"]

        def step(carry):
            state, _, count = carry
            new = jnp.tanh(drive + 0.3 * (state @ v["w"]))
            return new, jnp.abs(new - state).sum(), count + 1

        def goes_on(carry):
            return (carry[1] > 1e-2) & (carry[2] < 9)

        start = (jnp.zeros_like(drive), jnp.asarray(1.0, x.dtype), 0)
        return jax.lax.while_loop(goes_on, step, start)[0] @ v["out"]

    shapes = {"in": (4, 5), "w": (5, 5), "out": (5, 2)}
    layout = """
        in   _ h
        w    h h
        out  h _
    """
    return plain(apply, shapes, random(2, 4), layout=layout)


@family
def fori_loop_over_shared_layer():
    def apply(v, x):
        h = jnp.tanh(x @ v["in"])
        h = jax.lax.fori_loop(0, 3, lambda _, h: jnp.tanh(h @ v["w"]) + h, h)
        return h @ v["out"]

    shapes = {"in": (4, 5), "w": (5, 5), "out": (5, 2)}
    layout = """
        in   _ h
        w    h h
        out  h _
    """
    return plain(apply, shapes, random(2, 4), layout=layout)
