"""Networks with operations beside products and elementwise ones.

Writes into arrays, Fourier transforms, callbacks, random numbers, other orders of a
reshape, convolutions whose kernels are constant or differ from sample to sample.
"""

import jax
import jax.numpy as jnp
import numpy as np

from tests.combinability.families._family import Family, family, plain, random

CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")


def conv2d(x, kernel, strides=(1, 1), **options):
    return jax.lax.conv_general_dilated(
        x, kernel, strides, "SAME", dimension_numbers=CHANNELS_LAST, **options
    )


@family
def class_token_written():
    """The first position of the residual stream is set, the others are copied."""

    def apply(v, x):
        h = jnp.zeros((2, 4, 5), x.dtype).at[:, 1:].set(x @ v["in"])
        h = h.at[:, 0].set(v["token"])
        h = h + jnp.tanh(h @ v["up"]) @ v["down"]
        return h[:, 0] @ v["out"]

    layout = """
        in     _ r
        token  r
        up     r h
        down   h r
        out    r _
    """
    shapes = {"in": (3, 5), "token": (5,), "up": (5, 6), "down": (6, 5), "out": (5, 2)}
    return plain(apply, shapes, random(2, 3, 3), layout=layout)


HIDDEN = """
    in    _ h
    bias  h
    out   h _
"""


def around(change, *inputs, layout=HIDDEN):
    """A layer of five units, a change of its output, and another layer."""

    def apply(v, x, *inputs):
        return change(jnp.tanh(x @ v["in"] + v["bias"]), *inputs) @ v["out"]

    shapes = {"in": (3, 5), "bias": (5,), "out": (5, 2)}
    return plain(apply, shapes, random(4, 3), *inputs, layout=layout)


@family
def rows_changed_in_place():
    def change(h):
        rows = jnp.array([0, 2, 0])
        h = h.at[0].add(1.0).at[1].multiply(h[2]).at[rows].max(0.1).at[3].min(0.2)
        return h.at[2].apply(jnp.sin).at[rows].add(h[:3])

    return around(change)


@family
def messages_on_a_graph():
    def change(h):
        source, target = jnp.array([0, 1, 2, 3, 0]), jnp.array([1, 1, 3, 0, 2])
        added = jax.ops.segment_sum(h[source], target, 4)
        largest = jax.ops.segment_max(jnp.tanh(h)[source], target, 4)
        return h + added * jax.nn.sigmoid(largest)

    return around(change)


@family
def entries_scattered_in_a_batch():
    """Each sample writes to rows of its own."""

    def change(h, rows):
        return jax.vmap(lambda x, row: jnp.zeros((2, 5), x.dtype).at[row].add(x))(
            h, rows
        )

    return around(change, jnp.array([0, 1, 1, 0]))


@family
def single_unit_written():
    """What is set to 1 is the first unit: the units differ."""
    return around(lambda h: h.at[:, 0].set(1.0), layout="")


@family
def units_written_over_one_another():
    """All units are written to the same place, where the last one stays."""

    def change(h):
        places = jnp.zeros(5, jnp.int32)
        return jnp.zeros((5, 4), h.dtype).at[places].set(h.T).T

    return around(change, layout="")


@family
def printed_on_the_way():
    def change(h):
        jax.debug.print("mean {}", h.mean())
        jax.debug.callback(lambda value: None, h)
        return h

    return around(change)


@family
def random_mask_over_positions():
    def change(h, key):
        return h * jax.random.bernoulli(key, 0.5, (4, 1))

    return around(change, jax.random.key(0))


@family
def random_mask_over_units():
    def change(h, key):
        return h * jax.random.uniform(key, h.shape).astype(h.dtype)

    return around(change, jax.random.PRNGKey(0), layout="")


@family
def numbers_looked_at_as_bits():
    """The halves of a number lie on a new axis."""

    def change(h):
        bits = jax.lax.bitcast_convert_type(h.astype(jnp.float32), jnp.uint16)
        return h + bits.sum(-1).astype(h.dtype) / 2**17

    return around(change)._replace(single=True)


@family
def fourier_layer():
    """Positions are transformed, with a matrix of channels for each frequency."""

    def apply(v, x):
        h = jnp.fft.rfft(x @ v["in"], axis=1)
        h = jnp.einsum("bkc,kcd->bkd", h, v["real"] + 1j * v["imaginary"])
        return jax.nn.gelu(jnp.fft.irfft(h, n=6, axis=1)) @ v["out"]

    layout = """
        in         _ a
        real       _ a b
        imaginary  _ a b
        out        b _
    """
    shapes = {"in": (3, 5), "real": (4, 5, 4), "imaginary": (4, 5, 4), "out": (4, 2)}
    return plain(apply, shapes, random(2, 6, 3), layout=layout)


@family
def fourier_transform_in_two_dimensions():
    def apply(v, x):
        h = jnp.real(jnp.fft.fftn(x @ v["in"], axes=(1, 2)))
        return jnp.tanh(h) @ v["out"]

    layout = """
        in   _ h
        out  h _
    """
    shapes = {"in": (3, 5), "out": (5, 2)}
    return plain(apply, shapes, random(2, 2, 3, 3), layout=layout)


@family
def fourier_transform_of_units():
    return around(lambda h: jnp.imag(jnp.fft.fft(h)) + jnp.real(h), layout="")


@family
def states_stored_in_a_counted_loop():
    def apply(v, x):
        def step(i, carry):
            state, states = carry
            state = jnp.tanh(state @ v["kernel"] + x[i] @ v["in"])
            return state, states.at[i].set(state)

        start = jnp.zeros(5, x.dtype), jnp.zeros((4, 5), x.dtype)
        return jax.lax.fori_loop(0, 4, step, start)[1] @ v["out"]

    layout = """
        in      _ h
        kernel  h h
        out     h _
    """
    shapes = {"in": (3, 5), "kernel": (5, 5), "out": (5, 2)}
    return plain(apply, shapes, random(4, 3), layout=layout)


@family
def states_stored_in_a_while_loop():
    def apply(v, x):
        def step(carry):
            i, state, states = carry
            state = jnp.tanh(state * v["decay"] + x[i] @ v["in"])
            states = jax.lax.dynamic_update_slice(states, state[None], (i, 0))
            return i + 1, state, states

        start = 0, jnp.zeros(5, x.dtype), jnp.zeros((4, 5), x.dtype)
        states = jax.lax.while_loop(lambda carry: carry[0] < len(x), step, start)[2]
        return states @ v["out"]

    layout = """
        in     _ h
        decay  h
        out    h _
    """
    shapes = {"in": (3, 5), "decay": (5,), "out": (5, 2)}
    return plain(apply, shapes, random(4, 3), layout=layout)


@family
def heads_flattened_in_fortran_order():
    def apply(v, x):
        h = jnp.tanh(jnp.einsum("bi,ihd->bhd", x, v["in"]))
        return h.reshape(len(x), -1, order="F") @ v["out"]

    layout = """
        in   _ h d
        out  (d h) _
        d within h
    """
    return plain(apply, {"in": (3, 2, 5), "out": (10, 2)}, random(4, 3), layout=layout)


@family
def ravelled_in_fortran_order_inside_a_scan():
    def apply(v, xs):
        def step(state, x):
            h = jnp.tanh(jnp.einsum("bi,ih->bh", x, v["in"]))
            return state + h.ravel(order="F") @ v["out"], None

        return jax.lax.scan(step, jnp.zeros(2, xs.dtype), xs)[0]

    layout = """
        in   _ h
        out  (h _) _
    """
    return plain(apply, {"in": (3, 5), "out": (20, 2)}, random(3, 4, 3), layout=layout)


@family
def blur_pooling():
    """Each channel is averaged with the same constant filter."""

    def apply(v, x):
        blur = np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0])[:, :, None, None] / 16
        blur = jnp.tile(jnp.asarray(blur, x.dtype), (1, 1, 1, 6))
        h = jax.nn.relu(conv2d(x, v["kernel"]))
        h = conv2d(h, blur, (2, 2), feature_group_count=6)
        return h.mean((1, 2)) @ v["out"]

    layout = """
        kernel  _ _ _ h
        out     h _
    """
    shapes = {"kernel": (3, 3, 2, 6), "out": (6, 2)}
    return plain(apply, shapes, random(2, 4, 4, 2), layout=layout)


@family
def filters_that_differ_from_channel_to_channel():
    def apply(v, x):
        filters = jnp.arange(1.0, 7.0, dtype=x.dtype)[None, None, None]
        h = jax.nn.relu(conv2d(x, v["kernel"]))
        h = conv2d(h, filters, feature_group_count=6)
        return h.mean((1, 2)) @ v["out"]

    shapes = {"kernel": (3, 3, 2, 6), "out": (6, 2)}
    return plain(apply, shapes, random(2, 4, 4, 2), layout="")


@family
def two_constant_filters_for_each_channel():
    """Channels go through alike; what they become keeps its order within each."""

    def apply(v, x):
        filters = jnp.tile(jnp.asarray([1.0, -2.0], x.dtype), 4)[None, None, None]
        h = jnp.tanh(conv2d(x, v["kernel"]))
        h = conv2d(h, filters, feature_group_count=4)
        return jax.nn.relu(h).mean((1, 2)) @ v["out"]

    layout = """
        kernel  _ _ _ h
        out     (h _) _
    """
    shapes = {"kernel": (3, 3, 2, 4), "out": (8, 2)}
    return plain(apply, shapes, random(2, 4, 4, 2), layout=layout)


@family
def constants_that_repeat():
    """A captured slope for each head, repeated over its dimensions."""
    slopes = np.repeat(np.array([0.5, 1.0, 2.0], np.float32), 4)

    def apply(v, x):
        return (jnp.tanh(x @ v["in"]) * slopes.astype(x.dtype)) @ v["out"]

    layout = """
        in   _ (H=3 d)
        out  (H=3 d) _
        d within H
    """
    return plain(apply, {"in": (3, 12), "out": (12, 2)}, random(4, 3), layout=layout)


@family
def modulated_convolution():
    """Every sample scales the kernel's inputs by a style of its own."""

    def apply(v, x, z):
        def one(x, style):
            return conv2d(x[None], v["kernel"] * style[:, None])[0]

        h = conv2d(x, v["in"])
        h = jax.nn.relu(jax.vmap(one)(h, z @ v["style"]))
        return h.mean((1, 2)) @ v["out"]

    layout = """
        in      _ _ _ a
        style   _ a
        kernel  _ _ a b
        out     b _
    """
    shapes = {
        "in": (1, 1, 2, 4),
        "style": (3, 4),
        "kernel": (3, 3, 4, 5),
        "out": (5, 2),
    }
    return plain(apply, shapes, random(2, 4, 4, 2), random(2, 3, seed=1), layout=layout)


@family
def ensemble_of_convolutional_networks():
    def apply(v, x):
        def member(v):
            h = jax.nn.relu(conv2d(x, v["a"]))
            return jax.nn.relu(conv2d(h, v["b"])).mean((1, 2)) @ v["out"]

        return jax.vmap(member)(v)

    layout = """
        a    M _ _ _ a
        b    M _ _ a b
        out  M b _
        a within M
        b within M
    """
    shapes = {"a": (3, 3, 3, 2, 5), "b": (3, 3, 3, 5, 4), "out": (3, 4, 2)}
    return plain(apply, shapes, random(2, 4, 4, 2), layout=layout)


@family
def convolution_in_groups_of_the_batch():
    """The first half of the samples meets the first half of the filters."""

    def apply(v, x):
        h = jax.lax.conv_general_dilated(
            jnp.tanh(x @ v["in"]),
            v["kernel"],
            (1,),
            "SAME",
            dimension_numbers=("NWC", "WIO", "NWC"),
            batch_group_count=2,
        )
        return jnp.tanh(h) @ v["out"]

    layout = """
        in      _ h
        kernel  _ h (G=2 f)
        out     (G=2 f) _
        f within G
    """
    shapes = {"in": (2, 5), "kernel": (1, 5, 6), "out": (6, 2)}
    return plain(apply, shapes, random(4, 3, 2), layout=layout)


@family
def experts_of_a_ragged_product():
    """Rows come sorted by expert; hidden units of all experts permute in each."""

    def apply(v, x, sizes):
        h = jax.nn.relu(jax.lax.ragged_dot(x @ v["in"], v["up"], sizes))
        return jax.lax.ragged_dot(h, v["down"], sizes) @ v["out"]

    layout = """
        in    _ r
        up    _ r h
        down  _ h s
        out   s _
    """
    shapes = {"in": (3, 5), "up": (2, 5, 6), "down": (2, 6, 4), "out": (4, 2)}
    inputs = random(4, 3), jnp.array([3, 1])
    return plain(apply, shapes, *inputs, layout=layout, complete=False)


@family
def decompositions_in_each_head():
    """Whatever is done to a head's matrix, heads permute."""

    def apply(v, x):
        h = jnp.tanh(jnp.einsum("bi,ihd->bhd", x, v["in"]))
        matrix = jnp.einsum("bhd,bhe->hde", h, h) + jnp.eye(3, dtype=x.dtype)
        found = jnp.linalg.cholesky(matrix)[:, -1] + jnp.linalg.inv(matrix)[:, 0]
        found += jnp.linalg.eigvalsh(matrix) + jnp.linalg.svd(matrix, compute_uv=False)
        return jnp.einsum("hd,hdo->o", found, v["out"])

    layout = """
        in   _ h _
        out  h _ _
    """
    return plain(
        apply, {"in": (3, 2, 3), "out": (2, 3, 2)}, random(4, 3), layout=layout
    )


@family
def solved_for_every_unit():
    """Units are right-hand sides of linear systems of samples."""

    def change(h):
        matrix = jnp.eye(4, dtype=h.dtype) + h @ h.T
        h = jnp.linalg.solve(matrix, h)
        h = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(matrix), h)
        lower = jnp.tril(matrix)
        h = jax.lax.linalg.triangular_solve(lower, h.T, left_side=False, lower=True).T
        below = jnp.full(4, 0.1, h.dtype).at[0].set(0.0)
        above, diagonal = below[::-1], jnp.ones(4, h.dtype)
        return jax.lax.linalg.tridiagonal_solve(below, diagonal, above, h)

    return around(change)


@family
def what_jax_makes_of_other_operations():
    """Some of it is a program of its own in newer versions."""

    def change(h):
        h = h + jnp.interp(h, jnp.linspace(-1.0, 1.0, 5), jnp.arange(5.0) ** 2)
        h = jnp.polyval(jnp.array([1.0, -2.0, 0.5], h.dtype), h)
        h = jax.lax.custom_root(
            lambda z: z - jnp.tanh(0.1 * z + h),
            jnp.zeros_like(h),
            lambda f, z: jax.lax.fori_loop(0, 5, lambda _, z: z - f(z), z),
            lambda g, y: y,
        )
        mantissa, exponent = jnp.frexp(h.astype(jnp.float32))
        return h + jnp.ldexp(mantissa, exponent + 1).astype(h.dtype)

    return around(change)._replace(single=True)


@family
def low_precision_inside():
    def change(h):
        h = h.astype(jnp.float8_e4m3fn).astype(jnp.bfloat16).astype(h.dtype)
        return jax.lax.reduce_precision(h, 5, 4)

    return around(change)._replace(single=True)


@family
def numbers_as_leaves():
    """Python's and NumPy's numbers beside arrays; a scale as an input."""

    def apply(v, x, scale):
        h = jnp.tanh(x @ v["in"]) * v["scale"] + v["shift"]
        return h @ v["out"] * scale

    arrays = plain(apply, {"in": (3, 5), "out": (5, 2)}, layout="").variables
    layout = """
        in   _ h
        out  h _
    """
    numbers = {"scale": np.asarray(2.0), "shift": np.float32(0.5)}
    return Family(apply, arrays | numbers, (random(4, 3), np.float32(2.0)), layout)


@family
def gradient_of_an_energy():
    """What a network returns is the gradient by its input, through max pooling."""

    def apply(v, x):
        def energy(x):
            h = jax.nn.relu(conv2d(x, v["kernel"]))
            h = jax.lax.reduce_window(
                h, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
            )
            return (jnp.tanh(h.mean((1, 2)) @ v["mid"]) @ v["out"]).sum()

        return jax.grad(energy)(x)

    layout = """
        kernel  _ _ _ h
        mid     h k
        out     k s
    """
    shapes = {"kernel": (3, 3, 2, 4), "mid": (4, 5), "out": (5, 2)}
    return plain(apply, shapes, random(2, 4, 4, 2), layout=layout)


@family
def positions_of_the_largest_in_windows():
    """A window keeps a value and where it was; the positions differ by channel."""

    def apply(v, x):
        h = jnp.tanh(x @ v["in"])
        positions = jnp.broadcast_to(jnp.arange(4.0, dtype=x.dtype)[:, None], h.shape)

        def larger(one, other):
            keep = one[0] >= other[0]
            return tuple(
                jax.lax.select(keep, x, y) for x, y in zip(one, other, strict=True)
            )

        _, found = jax.lax.reduce_window(
            (h, positions),
            (np.array(-9.0, x.dtype), np.array(0.0, x.dtype)),
            larger,
            (2, 1),
            (2, 1),
            "VALID",
        )
        return jnp.tanh(found * v["scale"]) @ v["out"]

    layout = """
        in     _ h
        scale  h
        out    h _
    """
    shapes = {"in": (3, 5), "scale": (5,), "out": (5, 2)}
    return plain(apply, shapes, random(4, 3), layout=layout)
