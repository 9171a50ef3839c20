"""Control flow, wrapped functions, and leaves that are no weights."""

import jax
import jax.numpy as jnp

from tests.combinability.families._family import (
    Family,
    draw,
    family,
    plain,
    random,
)


@family
def branches():
    """`cond`: a class of its own in one branch, one that goes through both."""

    def apply(v, x):
        h = jnp.tanh(x @ v["in"])
        h = jax.lax.cond(
            x.sum() > 0,
            lambda h: jnp.tanh(h @ v["up"]) @ v["down"],
            lambda h: h * v["scale"],
            h,
        )
        return jnp.tanh(h) @ v["out"]

    shapes = {"in": (4, 5), "up": (5, 7), "down": (7, 5), "scale": (5,), "out": (5, 2)}
    layout = """
        in     _ r
        up     r m
        down   m r
        scale  r
        out    r _
    """
    return plain(apply, shapes, random(3, 4), layout=layout)


@family
def switch_on_the_hidden_layer():
    def apply(v, x):
        h = jnp.tanh(x @ v["in"])
        index = (h.sum() > 0).astype(jnp.int32)
        branches = [lambda h: h @ v["a"], lambda h: (h**2) @ v["b"]]
        return jax.lax.switch(index, branches, h)

    layout = """
        in  _ h
        a   h _
        b   h _
    """
    shapes = {"in": (4, 5), "a": (5, 2), "b": (5, 2)}
    return plain(apply, shapes, random(3, 4), layout=layout)


@family
def wrapped_functions():
    """Inside `jit`, `vmap`, `checkpoint`, `custom_jvp` and `custom_vjp`."""

    @jax.custom_vjp
    def straight_through(x):
        return jnp.sign(x)

    straight_through.defvjp(lambda x: (jnp.sign(x), None), lambda _, g: (g,))

    @jax.jit
    def first(x, w):
        return jax.nn.relu(x @ w)

    def apply(v, x):
        h = jax.vmap(first, (0, None))(x, v["a"])
        h = jax.checkpoint(lambda h: jax.nn.elu(h @ v["b"]))(h)
        return (straight_through(h) + h) @ v["c"]

    shapes = {"a": (4, 5), "b": (5, 7), "c": (7, 2)}
    layout = """
        a  _ p
        b  p q
        c  q _
    """
    return plain(apply, shapes, random(3, 4), layout=layout)


@family
def unused_leaf_and_dead_branch():
    def apply(v, x):
        h = jnp.tanh(x @ v["in"])
        dead = jnp.sort(h @ v["dead"], axis=-1) + v["unused"].sum()
        return h @ v["out"], (dead * 0).shape

    shapes = {"in": (4, 5), "dead": (5, 7), "unused": (7,), "out": (5, 2)}
    layout = """
        in   _ h
        out  h _
    """
    built = plain(apply, shapes, random(3, 4), layout=layout)
    return built._replace(apply=lambda v, x: apply(v, x)[0])


@family
def integer_leaves():
    """A mask of integers on the units, and a counter; the mask's units stay."""

    def apply(v, x):
        masked = jnp.tanh(x @ v["a"]) * v["mask"]
        return jnp.tanh(masked @ v["b"]) @ v["c"] * (v["steps"] + 1)

    shapes = {"a": (4, 5), "b": (5, 7), "c": (7, 2)}
    layout = """
        b  _ h
        c  h _
    """
    built = plain(apply, shapes, random(3, 4), layout=layout)
    integers = {"mask": jnp.array([0, 1, 1, 0, 2]), "steps": jnp.array(3)}
    return built._replace(variables=built.variables | integers)


@family
def integer_routing():
    """An integer leaf that picks units: the picked axis stays."""

    def apply(v, x):
        h = jnp.tanh(x @ v["in"])[:, v["order"]]
        return jnp.tanh(h @ v["mid"]) @ v["out"]

    shapes = {"in": (4, 5), "mid": (5, 7), "out": (7, 2)}
    layout = """
        mid  _ h
        out  h _
    """
    built = plain(apply, shapes, random(3, 4), layout=layout)
    variables = built.variables | {"order": jnp.array([2, 0, 1, 4, 3])}
    return built._replace(variables=variables)


@family
def gradient_inside():
    """Features that are gradients of an inner network's output (an energy model).

    The energy is a sum over the outputs, which may then change places as well.
    """

    def apply(v, x):
        def energy(x):
            return (jax.nn.softplus(x @ v["up"] + v["bias"]) @ v["down"]).sum()

        return jax.grad(energy)(x)

    shapes = {"up": (4, 5), "bias": (5,), "down": (5, 3)}
    layout = """
        up    _ h
        bias  h
        down  h o
    """
    return plain(apply, shapes, random(3, 4), layout=layout)


@family
def half_precision_inside():
    """Conversions there and back."""

    def apply(v, x):
        h = jnp.tanh(x.astype(jnp.bfloat16) @ v["in"].astype(jnp.bfloat16))
        return h.astype(x.dtype) @ v["out"]

    layout = """
        in   _ h
        out  h _
    """
    shapes = {"in": (4, 5), "out": (5, 2)}
    built = plain(apply, shapes, random(3, 4), layout=layout)
    return built._replace(single=True)


@family
def list_of_layers():
    """Variables as a list of tuples."""

    def apply(v, x):
        for w, b in v[:-1]:
            x = jax.nn.relu(x @ w + b)
        return x @ v[-1]

    def like(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    variables = [(like(4, 5), like(5)), (like(5, 7), like(7)), like(7, 2)]
    layout = """
        0/0  _ a
        0/1  a
        1/0  a b
        1/1  b
        2    b _
    """
    return Family(apply, draw(variables), (random(3, 4),), layout)
