"""Multilayer perceptrons and what hangs on them."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from tests.combinability.families._family import (
    Family,
    dense,
    draw,
    family,
    linen,
    plain,
    random,
    tokens,
)


@family
def mlp():
    def body(x):
        x = nn.relu(dense(5, "a", use_bias=False)(x))
        x = nn.tanh(dense(7, "b", use_bias=False)(x))
        return dense(2, "c", use_bias=False)(x)

    return linen(
        body,
        random(3, 4),
        layout="""
            a/kernel  _ a
            b/kernel  a b
            c/kernel  b _
        """,
    )


@family
def mlp_with_biases_and_layer_norm():
    def body(x):
        x = nn.gelu(nn.LayerNorm(name="norm")(dense(5, "a")(x)))
        x = nn.softmax(dense(7, "b")(x))
        return dense(2, "c")(x)

    return linen(
        body,
        random(3, 4),
        layout="""
            a/kernel  _ a
            a/bias    a
            norm/*    a
            b/kernel  a b
            b/bias    b
            c/kernel  b _
        """,
    )


@family
def residual_mlp():
    def body(x):
        x = dense(5, "stem")(x)
        x = x + dense(5, "down0")(nn.relu(dense(7, "up0")(x)))
        x = x + dense(5, "down1")(nn.relu(dense(6, "up1")(nn.RMSNorm(name="norm")(x))))
        return dense(2, "head")(x)

    return linen(
        body,
        random(3, 4),
        layout="""
            stem/kernel   _ r
            stem/bias     r
            up0/kernel    r a
            up0/bias      a
            down0/kernel  a r
            down0/bias    r
            norm/scale    r
            up1/kernel    r b
            up1/bias      b
            down1/kernel  b r
            down1/bias    r
            head/kernel   r _
        """,
    )


@family
def plain_jax():
    """Three layers: the middle one in layout (out, in), scaled by a scalar."""

    def apply(v, x):
        h = jnp.tanh(x @ v["w0"] + v["b0"])
        h = jax.nn.silu(v["gain"] * jnp.einsum("oi,bi->bo", v["w1"], h))
        return jax.nn.log_softmax(h @ v["w2"])

    shapes = {"w0": (4, 5), "b0": (5,), "w1": (7, 5), "gain": (), "w2": (7, 3)}
    layout = """
        w0  _ a
        b0  a
        w1  b a
        w2  b _
    """
    return plain(apply, shapes, random(3, 4), layout=layout)


@family
def nnx_network():
    class Block(nnx.Module):
        def __init__(self, rngs):
            self.up = nnx.Linear(4, 5, rngs=rngs)
            self.norm = nnx.BatchNorm(5, use_running_average=True, rngs=rngs)
            self.down = nnx.Linear(5, 2, rngs=rngs)

        def __call__(self, x):
            return self.down(nnx.relu(self.norm(self.up(x))))

    graph, state = nnx.split(nnx.eval_shape(lambda: Block(nnx.Rngs(0))))

    def apply(state, x):
        return nnx.merge(graph, state)(x)

    layout = """
        up/kernel/*    _ a
        up/bias/*      a
        norm/*         a
        down/kernel/*  a _
    """
    return Family(apply, draw(state), (random(3, 4),), layout)


@family
def two_inputs():
    def body(x, y):
        x, y = dense(5, "x")(x), dense(5, "y")(y)
        return dense(2, "out")(nn.relu(x) * nn.sigmoid(y))

    layout = """
        x/kernel    _ a
        x/bias      a
        y/kernel    _ a
        y/bias      a
        out/kernel  a _
    """
    return linen(body, random(3, 4), random(3, 2), layout=layout)


@family
def bilinear_layer():
    def apply(v, x, y):
        x, y = jnp.tanh(x @ v["x"]), jnp.tanh(y @ v["y"])
        return jnp.tanh(jnp.einsum("bi,kij,bj->bk", x, v["w"], y)) @ v["out"]

    shapes = {"x": (4, 5), "y": (3, 7), "w": (6, 5, 7), "out": (6, 2)}
    layout = """
        x    _ i
        y    _ j
        w    k i j
        out  k _
    """
    return plain(apply, shapes, random(3, 4), random(3, 3), layout=layout)


@family
def multiple_outputs():
    """One output is the hidden layer's mean; another the hidden layer b itself."""

    def body(x):
        a = nn.relu(dense(5, "a")(x))
        b = nn.relu(dense(7, "b")(a))
        c = nn.relu(dense(6, "c")(a))
        return {"mean": a.mean(-1), "b": b, "c": dense(2, "out")(c)}

    layout = """
        a/kernel    _ a
        a/bias      a
        b/kernel    a _
        c/kernel    a c
        c/bias      c
        out/kernel  c _
    """
    return linen(body, random(3, 4), layout=layout)


@family
def tied_autoencoder():
    def apply(v, x):
        h = jnp.tanh(x @ v["w0"] + v["b0"])
        z = jnp.tanh(h @ v["w1"] + v["b1"])
        h = jnp.tanh(z @ v["w1"].T + v["c1"])
        return h @ v["w0"].T + v["c0"]

    shapes = {"w0": (4, 7), "w1": (7, 5)}
    shapes |= {"b0": (7,), "b1": (5,), "c1": (7,), "c0": (4,)}
    layout = """
        w0  _ h
        b0  h
        w1  h z
        b1  z
        c1  h
    """
    return plain(apply, shapes, random(3, 4), layout=layout)


@family
def repeated_layer():
    """The same weights four times: one class on both axes."""

    def apply(v, x):
        h = x @ v["in"]
        for _ in range(4):
            h = jnp.tanh(h @ v["w"] + v["b"])
        return h @ v["out"]

    shapes = {"in": (4, 5), "w": (5, 5), "b": (5,), "out": (5, 2)}
    layout = """
        in   _ h
        w    h h
        b    h
        out  h _
    """
    return plain(apply, shapes, random(3, 4), layout=layout)


@family
def weight_normalisation():
    def apply(v, x):
        def layer(x, w, scale):
            return x @ (scale * w / jnp.linalg.norm(w, axis=0, keepdims=True))

        h = jax.nn.relu(layer(x, v["w0"], v["g0"]))
        h = jax.nn.relu(layer(h, v["w1"], v["g1"]))
        return h @ v["w2"]

    shapes = {"w0": (4, 5), "g0": (5,), "w1": (5, 7), "g1": (7,), "w2": (7, 2)}
    layout = """
        w0  _ a
        g0  a
        w1  a b
        g1  b
        w2  b _
    """
    return plain(apply, shapes, random(3, 4), layout=layout)


@family
def linen_weight_norm():
    def body(x):
        x = nn.WeightNorm(dense(5, "a"), name="norm")(x)
        return dense(2, "b")(nn.relu(x))

    layout = """
        a/kernel             _ a
        a/bias               a
        norm/a/kernel/scale  a
        b/kernel             a _
    """
    return linen(body, random(3, 4), layout=layout)


@family
def mixture_of_experts():
    """Experts may change places, and each has hidden units of its own."""

    def apply(v, x):
        gate = jax.nn.softmax(x @ v["router"])
        h = jax.nn.relu(jnp.einsum("bi,eih->beh", x, v["up"]) + v["bias"])
        return jnp.einsum("be,beh,eho->bo", gate, h, v["down"])

    shapes = {"router": (4, 5), "up": (5, 4, 7), "bias": (5, 7), "down": (5, 7, 3)}
    layout = """
        router  _ e
        up      e _ h
        bias    e h
        down    e h _
        h within e
    """
    return plain(apply, shapes, random(3, 4), layout=layout)


@family
def ensemble():
    """A vmapped module, averaged."""

    class Member(nn.Module):
        @nn.compact
        def __call__(self, x):
            return dense(2, "down")(nn.relu(dense(7, "up")(x)))

    def body(x):
        alike: Any = {"in_axes": None}
        members = nn.vmap(
            Member,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            axis_size=5,
            **alike,
        )
        return members(name="m")(x).mean(0)

    layout = """
        m/up/kernel    e _ h
        m/up/bias      e h
        m/down/kernel  e h _
        m/down/bias    e _
        h within e
    """
    return linen(body, random(3, 4), layout=layout)


@family
def hypernetwork():
    """A layer whose weights another network makes."""

    def apply(v, x, z):
        code = jnp.tanh(z @ v["code"])
        weights = (code @ v["maker"]).reshape(4, 7)
        return jax.nn.relu(x @ weights) @ v["out"]

    shapes = {"code": (3, 5), "maker": (5, 28), "out": (7, 2)}
    layout = """
        code   _ c
        maker  c (4 h)
        out    h _
    """
    return plain(apply, shapes, random(3, 4), random(3, seed=1), layout=layout)


@family
def embedding_gather():
    """Rows of a table are chosen by the input: they stay; its columns are free."""

    def body(x):
        x = nn.Embed(11, 5, name="table")(x)
        return dense(2, "out")(nn.relu(x).mean(1))

    layout = """
        table/embedding  _ r
        out/kernel       r _
    """
    return linen(body, tokens(3, 4), layout=layout)


@family
def embedding_by_one_hot():
    def body(x):
        x = dense(5, "table", use_bias=False)(jax.nn.one_hot(x, 11))
        return dense(2, "out")(nn.relu(x))

    layout = """
        table/kernel  _ r
        out/kernel    r _
    """
    return linen(body, tokens(3), layout=layout)


@family
def dropout_and_remat():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dropout(0.5, deterministic=True)(nn.relu(dense(7, "up")(x)))
            return dense(5, "down")(x)

    def body(x):
        x = dense(5, "stem")(x)
        x = x + nn.remat(Block)(name="block")(x)
        return dense(2, "head")(x)

    layout = """
        stem/kernel        _ r
        stem/bias          r
        block/up/kernel    r h
        block/up/bias      h
        block/down/kernel  h r
        block/down/bias    r
        head/kernel        r _
    """
    return linen(body, random(3, 4), layout=layout)


@family
def equal_axes_of_a_kernel():
    """Reading a kernel by its transpose as well, in the same layer, ties both axes."""

    def apply(v, x):
        h = jnp.tanh(x @ v["in"])
        return jnp.tanh(h @ (v["w"] + v["w"].T)) @ v["out"]

    shapes = {"in": (4, 5), "w": (5, 5), "out": (5, 2)}
    layout = """
        in   _ h
        w    h h
        out  h _
    """
    return plain(apply, shapes, random(3, 4), layout=layout)


@family
def added_to_its_own_transpose():
    """h[i] + g[j] on a square: the sum of a table and its transpose ties i with j."""

    def apply(v, x):
        table = jnp.tanh((x @ v["i"])[:, :, None] + (x @ v["j"])[:, None, :])
        return jnp.tanh(table + table.swapaxes(1, 2)).sum(1) @ v["out"]

    shapes = {"i": (4, 5), "j": (4, 5), "out": (5, 2)}
    layout = """
        i    _ h
        j    _ h
        out  h _
    """
    return plain(apply, shapes, random(3, 4), layout=layout)
