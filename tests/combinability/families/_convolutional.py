"""Convolutional networks."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tests.combinability.families._family import (
    conv,
    dense,
    family,
    linen,
    plain,
    random,
)


def batch_norm(name):
    return nn.BatchNorm(use_running_average=True, name=name)


def layer_norm(name):
    return nn.LayerNorm(name=name)


@family
def cnn_with_flatten():
    """The channels are a factor of the flattened height × width × channels."""

    def body(x):
        x = nn.max_pool(nn.relu(conv(5, "a")(x)), (2, 2), (2, 2))
        x = nn.avg_pool(nn.relu(conv(7, "b")(x)), (2, 2), (1, 1))
        return dense(3, "c")(nn.relu(dense(6, "d")(x.reshape(2, -1))))

    layout = """
        a/kernel  _ _ _ a
        a/bias    a
        b/kernel  _ _ a b
        b/bias    b
        d/kernel  (_ b) d
        d/bias    d
        c/kernel  d _
    """
    return linen(body, random(2, 6, 6, 1), layout=layout)


@family
def cnn_with_channels_first():
    """The flattened axis is channels × height × width here."""

    def apply(v, x):
        x = jax.lax.conv(x, v["a"], (1, 1), "VALID") + v["bias"][:, None, None]
        x = jax.lax.conv(jax.nn.relu(x), v["b"], (2, 1), "SAME")
        return jax.nn.relu(x).reshape(2, -1) @ v["c"]

    shapes = {"a": (5, 1, 3, 3), "bias": (5,), "b": (7, 5, 3, 3), "c": (56, 3)}
    layout = """
        a     a _ _ _
        bias  a
        b     b a _ _
        c     (b _) _
    """
    return plain(apply, shapes, random(2, 1, 6, 6), layout=layout)


@family
def convolution_as_a_product_of_patches():
    """Shifted copies of the channels side by side meet a flattened kernel."""

    def apply(v, x):
        x = jax.nn.relu(x @ v["a"])
        shifted = [x[:, i : i + 3, j : j + 2] for i in range(2) for j in range(3)]
        x = jax.nn.relu(jnp.concatenate(shifted, axis=-1) @ v["b"].reshape(-1, 4))
        return x.mean((1, 2)) @ v["c"]

    shapes = {"a": (2, 5), "b": (2, 3, 5, 4), "c": (4, 3)}
    layout = """
        a  _ a
        b  _ _ a b
        c  b _
    """
    return plain(apply, shapes, random(2, 4, 4, 2), layout=layout)


@family
def vgg_with_layer_norm():
    def body(x):
        for name, features in zip("abc", (5, 7, 6), strict=True):
            x = nn.relu(layer_norm(f"norm_{name}")(conv(features, name)(x)))
            x = nn.max_pool(x, (2, 2), (2, 2))
        return dense(3, "head")(x.reshape(2, -1))

    layout = """
        a/kernel     _ _ _ a
        a/bias       a
        norm_a/*     a
        b/kernel     _ _ a b
        b/bias       b
        norm_b/*     b
        c/kernel     _ _ b c
        c/bias       c
        norm_c/*     c
        head/kernel  (_ c) _
    """
    return linen(body, random(2, 16, 8, 3), layout=layout)


def residual_block(norm, x, inner, features, name, strides=1):
    """Two convolutions, and a projection where the shape changes."""
    options = {"use_bias": False}
    y = conv(inner, f"{name}_1", strides=strides, **options)(x)
    y = nn.relu(norm(f"{name}_norm1")(y))
    y = norm(f"{name}_norm2")(conv(features, f"{name}_2", **options)(y))
    if y.shape != x.shape:
        x = conv(features, f"{name}_skip", size=1, strides=strides, **options)(x)
        x = norm(f"{name}_norm3")(x)
    return nn.relu(x + y)


def resnet(norm):
    def body(x):
        x = nn.relu(norm("norm")(conv(5, "stem", use_bias=False)(x)))
        x = residual_block(norm, x, 4, 5, "p")
        x = residual_block(norm, x, 6, 7, "q", strides=2)
        x = residual_block(norm, x, 3, 7, "s")
        return dense(2, "head")(x.mean((1, 2)))

    layout = """
        stem/kernel    _ _ _ a
        norm/*         a
        p_1/kernel     _ _ a b
        p_norm1/*      b
        p_2/kernel     _ _ b a
        p_norm2/*      a
        q_1/kernel     _ _ a c
        q_norm1/*      c
        q_2/kernel     _ _ c d
        q_norm2/*      d
        q_skip/kernel  _ _ a d
        q_norm3/*      d
        s_1/kernel     _ _ d e
        s_norm1/*      e
        s_2/kernel     _ _ e d
        s_norm2/*      d
        head/kernel    d _
    """
    return linen(body, random(2, 6, 6, 3), layout=layout)


@family
def resnet_with_batch_norm():
    """Running statistics move with their channels: `norm/*` has mean and var in it."""
    return resnet(batch_norm)


@family
def resnet_with_layer_norm():
    return resnet(layer_norm)


@family
def batch_norm_in_training_mode():
    """Statistics of the batch; the updated running ones are an output, so they stay."""

    def body(x):
        x = conv(5, "a", use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=False, name="norm")(x))
        return dense(2, "head")(x.mean((1, 2)))

    layout = """
        a/kernel     _ _ _ a
        norm/scale   a
        norm/bias    a
        head/kernel  a _
    """
    built = linen(body, random(2, 4, 4, 3), layout=layout)

    def apply(variables, x):
        return built.apply(variables, x, mutable=["batch_stats"])[0]

    return built._replace(apply=apply)


@family
def resnet_option_a():
    """The shortcut pads zero channels on both sides: the stream is a sum of segments.

    Left out: the zero channels of both sides could be permuted among each other as one
    group of units that are not neighbours; the two sides are two groups here.
    """

    def body(x):
        x = nn.relu(conv(5, "stem")(x))
        skip = jnp.pad(x[:, ::2, ::2, :], ((0, 0), (0, 0), (0, 0), (2, 3)))
        y = nn.relu(conv(7, "p", strides=2)(x))
        x = nn.relu(skip + batch_norm("norm")(conv(10, "q")(y)))
        return dense(2, "head")(x.mean((1, 2)))

    layout = """
        stem/kernel  _ _ _ a
        stem/bias    a
        p/kernel     _ _ a h
        p/bias       h
        q/kernel     _ _ h u|a|v
        q/bias       u|a|v
        norm/*       u=2|a|v
        head/kernel  u|a|v _
    """
    return linen(body, random(2, 6, 6, 3), layout=layout)


@family
def bottleneck():
    def body(x):
        x = nn.relu(conv(7, "stem")(x))
        y = nn.relu(batch_norm("norm1")(conv(5, "reduce", size=1)(x)))
        y = nn.relu(batch_norm("norm2")(conv(4, "middle")(y)))
        x = nn.relu(x + batch_norm("norm3")(conv(7, "expand", size=1)(y)))
        return dense(2, "head")(x.mean((1, 2)))

    layout = """
        stem/kernel    _ _ _ r
        stem/bias      r
        reduce/kernel  _ _ r a
        reduce/bias    a
        norm1/*        a
        middle/kernel  _ _ a b
        middle/bias    b
        norm2/*        b
        expand/kernel  _ _ b r
        expand/bias    r
        norm3/*        r
        head/kernel    r _
    """
    return linen(body, random(2, 4, 4, 3), layout=layout)


@family
def group_norm():
    """The groups may change places, and channels inside each group."""

    def body(x):
        x = nn.relu(nn.GroupNorm(num_groups=3, name="norm")(conv(15, "a")(x)))
        return dense(2, "head")(nn.relu(conv(7, "b")(x)).mean((1, 2)))

    layout = """
        a/kernel     _ _ _ (g c)
        a/bias       (g=3 c)
        norm/*       (g c)
        b/kernel     _ _ (g c) b
        b/bias       b
        head/kernel  b _
        c within g
    """
    return linen(body, random(2, 4, 4, 3), layout=layout)


@family
def depthwise_separable():
    """Depthwise 3 × 3 with one output a channel, then with three, each then mixed."""

    def body(x):
        x = nn.relu(conv(5, "stem")(x))
        x = nn.relu(conv(5, "deep0", feature_group_count=5)(x))
        x = nn.relu(conv(4, "point0", size=1)(x))
        x = nn.relu(conv(12, "deep1", feature_group_count=4)(x))
        x = nn.relu(conv(7, "point1", size=1)(x))
        return dense(2, "head")(x.mean((1, 2)))

    layout = """
        stem/kernel    _ _ _ a
        stem/bias      a
        deep0/kernel   _ _ _ a
        deep0/bias     a
        point0/kernel  _ _ a b
        point0/bias    b
        deep1/kernel   _ _ _ (b m)
        deep1/bias     (b m)
        point1/kernel  _ _ (b m) c
        point1/bias    c
        head/kernel    c _
        m within b
    """
    return linen(body, random(2, 4, 4, 3), layout=layout)


@family
def grouped_convolution():
    """Groups of input and output channels together; channels inside each."""

    def body(x):
        x = nn.relu(conv(12, "stem")(x))
        x = nn.relu(conv(15, "grouped", feature_group_count=3)(x))
        return dense(2, "head")(x.mean((1, 2)))

    layout = """
        stem/kernel     _ _ _ (g i)
        stem/bias       (g i)
        grouped/kernel  _ _ i=4 (g=3 o)
        grouped/bias    (g o)
        head/kernel     (g o) _
        i within g
        o within g
    """
    return linen(body, random(2, 4, 4, 3), layout=layout)


@family
def grouped_convolution_of_the_input():
    """The groups stay, the output channels of each are free."""

    def body(x):
        x = nn.relu(conv(15, "grouped", feature_group_count=3)(x))
        return dense(2, "head")(x.mean((1, 2)))

    layout = """
        grouped/kernel  _ _ _ (G=3 o)
        grouped/bias    (G o)
        head/kernel     (G o) _
        o within G
    """
    return linen(body, random(2, 4, 4, 6), layout=layout)


@family
def shuffled_groups():
    """ShuffleNet: a grouped convolution, channels (3 × 5) transposed, another of five.

    The second one's groups are the first one's positions inside a group: both factors
    are one permutation each.
    """

    def body(x):
        x = nn.relu(conv(12, "stem")(x))
        x = conv(15, "p", size=1, feature_group_count=3)(x)
        x = x.reshape(2, 4, 4, 3, 5).swapaxes(-1, -2).reshape(2, 4, 4, 15)
        x = nn.relu(conv(10, "q", feature_group_count=5)(x))
        return dense(2, "head")(x.mean((1, 2)))

    layout = """
        stem/kernel  _ _ _ (g i)
        stem/bias    (g i)
        p/kernel     _ _ i=4 (g=3 k)
        p/bias       (g k)
        q/kernel     _ _ g (k=5 o)
        q/bias       (k o)
        head/kernel  (k o) _
        i within g
        o within k
    """
    return linen(body, random(2, 4, 4, 3), layout=layout)


@family
def dense_block():
    """DenseNet: each layer reads all the earlier ones, side by side."""

    def body(x):
        x = conv(5, "stem")(x)
        for name, features in (("p", 4), ("q", 3)):
            y = conv(features, name)(nn.relu(batch_norm(f"norm_{name}")(x)))
            x = jnp.concatenate([x, y], axis=-1)
        x = conv(6, "t", size=1)(nn.relu(batch_norm("norm_t")(x)))
        return dense(2, "head")(x.mean((1, 2)))

    layout = """
        stem/kernel  _ _ _ a
        stem/bias    a
        norm_p/*     a
        p/kernel     _ _ a b
        p/bias       b
        norm_q/*     a|b
        q/kernel     _ _ a|b c
        q/bias       c
        norm_t/*     a|b|c
        t/kernel     _ _ a|b|c d
        t/bias       d
        head/kernel  d _
    """
    return linen(body, random(2, 4, 4, 3), layout=layout)


@family
def concatenation_then_flatten():
    """A product with a sum inside."""

    def body(x):
        x = jnp.concatenate([conv(5, "a")(x), nn.relu(conv(3, "b")(x))], axis=-1)
        return dense(2, "head")(nn.tanh(x).reshape(2, -1))

    layout = """
        a/kernel     _ _ _ a
        a/bias       a
        b/kernel     _ _ _ b
        b/bias       b
        head/kernel  (_ (a|b)) _
    """
    return linen(body, random(2, 2, 3, 1), layout=layout)


def u_net(upsample):
    def body(x):
        top = nn.relu(conv(5, "down0")(x))
        x = nn.relu(conv(7, "down1")(nn.max_pool(top, (2, 2), (2, 2))))
        x = jnp.concatenate([upsample(x), top], axis=-1)
        return conv(1, "head", size=1)(nn.relu(conv(6, "merge")(x)))

    layout = """
        down0/kernel  _ _ _ a
        down0/bias    a
        down1/kernel  _ _ a b
        down1/bias    b
        merge/kernel  _ _ b|a c
        merge/bias    c
        head/kernel   _ _ c _
    """
    return linen(body, random(2, 4, 4, 1), layout=layout)


@family
def u_net_by_bilinear_resize():
    return u_net(lambda x: jax.image.resize(x, (2, 4, 4, 7), "bilinear"))


@family
def u_net_by_nearest_resize():
    return u_net(lambda x: jax.image.resize(x, (2, 4, 4, 7), "nearest"))


@family
def u_net_by_repeat():
    return u_net(lambda x: jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2))


@family
def transposed_convolution():
    def body(x):
        x = nn.relu(conv(5, "a")(x))
        x = nn.relu(nn.ConvTranspose(7, (2, 2), strides=(2, 2), name="up")(x))
        return conv(1, "head", size=1)(x)

    layout = """
        a/kernel     _ _ _ a
        a/bias       a
        up/kernel    _ _ a b
        up/bias      b
        head/kernel  _ _ b _
    """
    return linen(body, random(2, 3, 3, 1), layout=layout)


@family
def pixel_shuffle():
    """Channels (2 × 2 × c) become a finer picture of c channels."""

    def body(x):
        x = nn.relu(conv(20, "a")(x)).reshape(2, 3, 3, 2, 2, 5)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(2, 6, 6, 5)
        return conv(1, "head")(x)

    layout = """
        a/kernel     _ _ _ (4 c)
        a/bias       (4 c)
        head/kernel  _ _ c _
    """
    return linen(body, random(2, 3, 3, 1), layout=layout)


@family
def squeeze_and_excitation():
    def body(x):
        x = nn.relu(conv(7, "a")(x))
        gate = nn.relu(dense(3, "squeeze")(x.mean((1, 2), keepdims=True)))
        x = x * nn.sigmoid(dense(7, "excite")(gate))
        return dense(2, "head")(x.max((1, 2)))

    layout = """
        a/kernel        _ _ _ a
        a/bias          a
        squeeze/kernel  a z
        squeeze/bias    z
        excite/kernel   z a
        excite/bias     a
        head/kernel     a _
    """
    return linen(body, random(2, 4, 4, 3), layout=layout)


@family
def convolution_over_time():
    """Causal, dilated, one spatial axis (TCN)."""

    def body(x):
        x = nn.Conv(5, (3,), padding="CAUSAL", name="a")(x)
        x = x + nn.Conv(5, (3,), padding="CAUSAL", kernel_dilation=2, name="b")(
            nn.relu(x)
        )
        return dense(2, "head")(x[:, -1])

    layout = """
        a/kernel     _ _ r
        a/bias       r
        b/kernel     _ r r
        b/bias       r
        head/kernel  r _
    """
    return linen(body, random(2, 6, 3), layout=layout)


@family
def weight_standardisation():
    """Kernels made zero-mean over all but their output channels."""

    def apply(v, x):
        def layer(x, w):
            w = (w - w.mean((0, 1, 2))) / (w.std((0, 1, 2)) + 0.1)
            dims = ("NHWC", "HWIO", "NHWC")
            return jax.lax.conv_general_dilated(
                x, w, (1, 1), "SAME", dimension_numbers=dims
            )

        x = jax.nn.relu(layer(x, v["a"]))
        return jax.nn.relu(layer(x, v["b"])).mean((1, 2)) @ v["head"]

    shapes = {"a": (3, 3, 2, 5), "b": (3, 3, 5, 7), "head": (7, 2)}
    layout = """
        a     _ _ _ a
        b     _ _ a b
        head  b _
    """
    return plain(apply, shapes, random(2, 4, 4, 2), layout=layout)
