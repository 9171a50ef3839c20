"""Attention and token models.

Left out everywhere: the bias of the keys adds the same to all logits of a query, so it
could be permuted by itself; here it moves with the query and key dimensions.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests.combinability.families._family import (
    conv,
    dense,
    family,
    linen,
    plain,
    random,
    tokens,
)

HEADS = """
    d within h
    e within h
"""


def attention_layout(name, residual="r", head="h", inner="d", value="e"):
    """The lines of a `MultiHeadDotProductAttention`."""
    return f"""
        {name}/query/kernel  {residual} {head} {inner}
        {name}/query/bias    {head} {inner}
        {name}/key/kernel    {residual} {head} {inner}
        {name}/key/bias      {head} {inner}
        {name}/value/kernel  {residual} {head} {value}
        {name}/value/bias    {head} {value}
        {name}/out/kernel    {head} {value} {residual}
        {name}/out/bias      {residual}
        {inner} within {head}
        {value} within {head}
    """


def multi_head(name, heads=3, features=12, **options):
    return nn.MultiHeadDotProductAttention(
        num_heads=heads, qkv_features=features, name=name, **options
    )


@family
def vision_transformer():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            token = self.param("token", nn.zeros, (1, 1, 7))
            x = conv(7, "patch", size=2, strides=2)(x).reshape(2, 4, 7)
            x = jnp.concatenate([jnp.tile(token, (2, 1, 1)), x], axis=1)
            x = x + nn.Embed(5, 7, name="position")(jnp.arange(5))
            x = x + multi_head("attention")(nn.LayerNorm(name="norm0")(x))
            y = nn.gelu(dense(5, "up")(nn.LayerNorm(name="norm1")(x)))
            x = nn.LayerNorm(name="norm2")(x + dense(7, "down")(y))
            return dense(2, "head")(x[:, 0])

    layout = (
        attention_layout("attention")
        + """
        patch/kernel        _ _ _ r
        patch/bias          r
        token               _ _ r
        position/embedding  _ r
        norm0/*             r
        norm1/*             r
        norm2/*             r
        up/kernel           r m
        up/bias             m
        down/kernel         m r
        down/bias           r
        head/kernel         r _
    """
    )
    return linen(Model(), random(2, 4, 4, 1), layout=layout)


@family
def gpt():
    """Causal, a table of positions longer than the text, tied input and output.

    The rows that the text does not reach stay where they are, but their columns move
    along: else a longer text would see another network.
    """

    class Model(nn.Module):
        @nn.compact
        def __call__(self, text):
            words = nn.Embed(11, 7, name="words")
            positions = self.param("positions", nn.zeros, (6, 7))
            x = words(text) + positions[: text.shape[1]]
            mask = nn.make_causal_mask(text)
            for layer, width in enumerate((5, 4)):
                y = nn.LayerNorm(name=f"norm{layer}0")(x)
                x = x + multi_head(f"attention{layer}")(y, mask=mask)
                y = nn.LayerNorm(name=f"norm{layer}1")(x)
                y = nn.gelu(dense(width, f"up{layer}")(y))
                x = x + dense(7, f"down{layer}")(y)
            return words.attend(nn.RMSNorm(name="norm")(x))

    layout = """
        words/embedding  _ r
        positions        _ r
        norm/*           r
    """
    for layer in (0, 1):
        names = {"head": f"h{layer}", "inner": f"d{layer}", "value": f"e{layer}"}
        layout += (
            attention_layout(f"attention{layer}", **names)
            + f"""
            norm{layer}0/*      r
            norm{layer}1/*      r
            up{layer}/kernel    r m{layer}
            up{layer}/bias      m{layer}
            down{layer}/kernel  m{layer} r
            down{layer}/bias    r
        """
        )
    return linen(Model(), tokens(2, 4), layout=layout)


@family
def cross_attention_from_learned_queries():
    """Latents (Perceiver) that are averaged may change places."""

    def apply(v, x):
        query = jnp.einsum("nr,rhd->nhd", v["latents"], v["query"])
        key = jnp.einsum("btr,rhd->bthd", x, v["key"])
        value = jnp.einsum("btr,rhe->bthe", x, v["value"])
        weights = jax.nn.softmax(jnp.einsum("nhd,bthd->bhnt", query, key))
        mixed = jnp.einsum("bhnt,bthe->bnhe", weights, value)
        return jnp.tanh(jnp.einsum("bnhe,heo->bno", mixed, v["out"])).mean(1)

    shapes = {"latents": (5, 7), "query": (7, 3, 4), "key": (6, 3, 4)}
    shapes |= {"value": (6, 3, 2), "out": (3, 2, 3)}
    layout = (
        """
        latents  n r
        query    r h d
        key      _ h d
        value    _ h e
        out      h e _
    """
        + HEADS
    )
    return plain(apply, shapes, random(2, 4, 6), layout=layout)


def attend(query, key, value):
    """Attention over axis 1, heads on axis 2."""
    logits = jnp.einsum("bthd,bshd->bhts", query, key) / query.shape[-1] ** 0.5
    return jnp.einsum("bhts,bshe->bthe", jax.nn.softmax(logits), value)


@family
def attention_by_reshape():
    """Heads from a reshape of the width, and back."""

    def body(x):
        x = dense(7, "stem")(x)
        query, key, value = (
            dense(12, name)(x).reshape(2, 4, 3, 4) for name in ("q", "k", "v")
        )
        x = x + dense(7, "out")(attend(query, key, value).reshape(2, 4, 12))
        return dense(2, "head")(x)

    layout = (
        """
        stem/kernel  _ r
        stem/bias    r
        q/kernel     r (h=3 d)
        q/bias       (h d)
        k/kernel     r (h d)
        k/bias       (h d)
        v/kernel     r (h e=4)
        v/bias       (h e)
        out/kernel   (h e) r
        out/bias     r
        head/kernel  r _
    """
        + HEADS
    )
    return linen(body, random(2, 4, 5), layout=layout)


@family
def heads_inside_head_dimensions():
    """The width is (head size × heads): the other order."""

    def apply(v, x):
        query, key, value = (
            (x @ v[name]).reshape(2, 4, -1, 3).swapaxes(2, 3) for name in "qkv"
        )
        return attend(query, key, value).swapaxes(2, 3).reshape(2, 4, -1) @ v["out"]

    shapes = {"q": (7, 12), "k": (7, 12), "v": (7, 15), "out": (15, 2)}
    layout = (
        """
        q    _ (d h=3)
        k    _ (d h)
        v    _ (e h)
        out  (e h) _
    """
        + HEADS
    )
    return plain(apply, shapes, random(2, 4, 7), layout=layout)


@family
def fused_qkv_by_split():
    """One kernel with three segments."""

    def body(x):
        fused = dense(30, "qkv")(x)
        query, key, value = jnp.split(fused, (9, 18), axis=-1)
        query, key = query.reshape(2, 4, 3, 3), key.reshape(2, 4, 3, 3)
        mixed = attend(query, key, value.reshape(2, 4, 3, 4))
        return dense(2, "out")(mixed.reshape(2, 4, 12))

    layout = (
        """
        qkv/kernel  _ (h=3 d=3)|(h d)|(h e=4)
        qkv/bias    (h d)|(h d)|(h e)
        out/kernel  (h e) _
    """
        + HEADS
    )
    return linen(body, random(2, 4, 5), layout=layout)


@family
def fused_qkv_by_reshape():
    """(3, heads, size), then indexed: one class of head sizes for all three is enough.

    Complete would be another one for the values.
    """

    def body(x):
        query, key, value = jnp.moveaxis(
            dense(36, "qkv")(x).reshape(2, 4, 3, 3, 4), 2, 0
        )
        return dense(2, "out")(attend(query, key, value).reshape(2, 4, 12))

    layout = """
        qkv/kernel  _ (3 h=3 d)
        qkv/bias    (3 h d)
        out/kernel  (h d) _
        d within h
    """
    return linen(body, random(2, 4, 5), layout=layout, complete=False)


@family
def grouped_query_attention():
    """Three key-value heads; two query heads of each may change places."""

    def apply(v, x):
        query = jnp.einsum("btr,rgqd->btgqd", x, v["query"])
        key = jnp.einsum("btr,rgd->btgd", x, v["key"])
        value = jnp.einsum("btr,rge->btge", x, v["value"])
        logits = jnp.einsum("btgqd,bsgd->bgqts", query, key)
        mixed = jnp.einsum("bgqts,bsge->btgqe", jax.nn.softmax(logits), value)
        return mixed.reshape(2, 4, -1) @ v["out"]

    shapes = {"query": (7, 3, 2, 4), "key": (7, 3, 4), "value": (7, 3, 5)}
    layout = """
        query  _ g q d
        key    _ g d
        value  _ g e
        out    (g q e) _
        q within g
        d within g
        e within g
    """
    inputs = random(2, 4, 7)
    return plain(apply, shapes | {"out": (30, 2)}, inputs, layout=layout)


@family
def grouped_query_attention_by_repeat():
    """The same with the keys and values repeated for each query head."""

    def apply(v, x):
        query = (x @ v["query"]).reshape(2, 4, 6, 4)
        key = jnp.repeat((x @ v["key"]).reshape(2, 4, 3, 4), 2, axis=2)
        value = jnp.repeat((x @ v["value"]).reshape(2, 4, 3, 5), 2, axis=2)
        return attend(query, key, value).reshape(2, 4, 30) @ v["out"]

    shapes = {"query": (7, 24), "key": (7, 12), "value": (7, 15), "out": (30, 2)}
    layout = """
        query  _ (g q=2 d)
        key    _ (g=3 d)
        value  _ (g e)
        out    (g q e) _
        q within g
        d within g
        e within g
    """
    return plain(apply, shapes, random(2, 4, 7), layout=layout)


@family
def multi_query_attention():
    """One key-value head: its dimensions are shared by all query heads."""

    def apply(v, x):
        query = jnp.einsum("btr,rhd->bthd", x, v["query"])
        logits = jnp.einsum("bthd,bsd->bhts", query, x @ v["key"])
        mixed = jnp.einsum("bhts,bse->bthe", jax.nn.softmax(logits), x @ v["value"])
        return jnp.einsum("bthe,heo->bto", mixed, v["out"])

    shapes = {"query": (7, 3, 4), "key": (7, 4), "value": (7, 5), "out": (3, 5, 2)}
    layout = """
        query  _ h d
        key    _ d
        value  _ e
        out    h e _
    """
    return plain(apply, shapes, random(2, 4, 7), layout=layout)


def rotary(x):
    """Pairs (i, i + half) turned by angles that differ from pair to pair."""
    half = x.shape[-1] // 2
    rates = 10.0 ** -jnp.arange(half)
    angles = (jnp.arange(x.shape[1])[:, None] * rates)[:, None, :]
    first, second = jnp.split(x, 2, axis=-1)
    turned = (
        first * jnp.cos(angles) - second * jnp.sin(angles),
        second * jnp.cos(angles) + first * jnp.sin(angles),
    )
    return jnp.concatenate(turned, axis=-1)


@family
def rotary_positions():
    """The inner axes of queries and keys stay; heads and values are free."""

    def body(x):
        x = dense(7, "stem")(x)
        query, key, value = (
            nn.DenseGeneral((3, size), name=name)(x)
            for name, size in (("q", 4), ("k", 4), ("v", 5))
        )
        x = attend(rotary(query), rotary(key), value)
        return nn.DenseGeneral(2, axis=(-2, -1), name="out")(x)

    layout = """
        stem/kernel  _ r
        stem/bias    r
        q/kernel     r h _
        q/bias       h _
        k/kernel     r h _
        k/bias       h _
        v/kernel     r h e
        v/bias       h e
        out/kernel   h e _
        e within h
    """
    return linen(body, random(2, 4, 6), layout=layout)


@family
def query_key_norm():
    """A scale that all heads share ties the head dimensions of all heads."""

    def body(x):
        x = multi_head("a", normalize_qk=True, out_features=7)(x)
        return dense(2, "head")(nn.relu(x))

    layout = """
        a/query/kernel    _ h d
        a/query/bias      h d
        a/key/kernel      _ h d
        a/key/bias        h d
        a/query_ln/scale  d
        a/key_ln/scale    d
        a/value/kernel    _ h e
        a/value/bias      h e
        a/out/kernel      h e r
        a/out/bias        r
        head/kernel       r _
        e within h
    """
    return linen(body, random(2, 4, 6), layout=layout)


@family
def talking_heads():
    """Heads mixed before and after the softmax: three kinds of heads."""

    def apply(v, x):
        query = jnp.einsum("btr,rhd->bthd", x, v["query"])
        key = jnp.einsum("btr,rhd->bthd", x, v["key"])
        value = jnp.einsum("btr,rge->btge", x, v["value"])
        logits = jnp.einsum("bthd,bshd,hk->bkts", query, key, v["before"])
        weights = jnp.einsum("bkts,kg->bgts", jax.nn.softmax(logits), v["after"])
        return jnp.einsum("bgts,bsge,geo->bto", weights, value, v["out"])

    shapes = {"query": (7, 3, 4), "key": (7, 3, 4), "before": (3, 5), "after": (5, 6)}
    shapes |= {"value": (7, 6, 2), "out": (6, 2, 3)}
    layout = """
        query   _ h d
        key     _ h d
        before  h k
        after   k g
        value   _ g e
        out     g e _
        d within h
        e within g
    """
    return plain(apply, shapes, random(2, 4, 7), layout=layout)


@family
def pairs_of_heads():
    """Differences of all pairs: the dimensions are one class for all heads."""

    def apply(v, x):
        heads = jnp.tanh(x @ v["in"]).reshape(2, 3, 5)
        pairs = heads[:, :, None] - heads[:, None]
        return jnp.tanh((pairs**2).sum(-1)).sum(-1) @ v["out"]

    shapes = {"in": (4, 15), "out": (3, 2)}
    layout = """
        in   _ (h d)
        out  h _
    """
    return plain(apply, shapes, random(2, 4), layout=layout)


@family
def shared_weights_across_heads():
    """A layer that each head applies to itself: its inputs are one class for all."""

    def apply(v, x):
        heads = jnp.tanh(x @ v["in"]).reshape(2, 3, 5)
        heads = jnp.tanh(heads @ v["shared"])
        return heads.reshape(2, -1) @ v["out"]

    shapes = {"in": (4, 15), "shared": (5, 7), "out": (21, 2)}
    layout = """
        in      _ (h d)
        shared  d e
        out     (h e) _
    """
    return plain(apply, shapes, random(2, 4), layout=layout)


@family
def alibi():
    """A captured slope for each head: heads stay, each head's dimensions are free."""
    slopes = np.array([0.5, 0.25, 0.125])

    def apply(v, x):
        query, key, value = (jnp.einsum("btr,rhd->bthd", x, v[n]) for n in "qkv")
        distance = jnp.arange(4)[:, None] - jnp.arange(4)
        logits = jnp.einsum("bthd,bshd->bhts", query, key)
        weights = jax.nn.softmax(logits - slopes[:, None, None] * distance)
        return jnp.einsum("bhts,bshe,heo->bto", weights, value, v["o"])

    shapes = {"q": (7, 3, 4), "k": (7, 3, 4), "v": (7, 3, 5), "o": (3, 5, 2)}
    layout = """
        q  _ H d
        k  _ H d
        v  _ H e
        o  H e _
        d within H
        e within H
    """
    return plain(apply, shapes, random(2, 4, 7), layout=layout)


@family
def gated_linear_unit():
    """The two halves of a layer multiplied: one class on both segments."""

    def body(x):
        x = dense(7, "stem")(x)
        x = x + dense(7, "down")(nn.glu(dense(10, "up")(x)))
        return dense(2, "head")(x)

    layout = """
        stem/kernel  _ r
        stem/bias    r
        up/kernel    r m|m
        up/bias      m=5|m
        down/kernel  m r
        down/bias    r
        head/kernel  r _
    """
    return linen(body, random(3, 4), layout=layout)


@family
def mlp_mixer():
    def body(x):
        x = conv(7, "patch", size=2, strides=2)(x).reshape(2, 4, 7)
        y = nn.LayerNorm(name="norm0")(x).swapaxes(1, 2)
        y = dense(4, "tokens_down")(nn.gelu(dense(5, "tokens_up")(y)))
        x = x + y.swapaxes(1, 2)
        y = nn.gelu(dense(6, "up")(nn.LayerNorm(name="norm1")(x)))
        x = x + dense(7, "down")(y)
        return dense(2, "head")(x.mean(1))

    layout = """
        patch/kernel        _ _ _ r
        patch/bias          r
        norm0/*             r
        tokens_up/kernel    _ s
        tokens_up/bias      s
        tokens_down/kernel  s _
        norm1/*             r
        up/kernel           r m
        up/bias             m
        down/kernel         m r
        down/bias           r
        head/kernel         r _
    """
    return linen(body, random(2, 4, 4, 1), layout=layout)


@family
def stacked_layers():
    """`nn.scan` over layers: each layer has hidden units and heads of its own."""

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            x = x + multi_head("attention")(nn.LayerNorm(name="norm")(x))
            return x + dense(7, "down")(nn.gelu(dense(5, "up")(x))), None

    def body(x):
        layers = nn.scan(
            Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=2
        )
        x, _ = layers(name="layers")(dense(7, "stem")(x), None)
        return dense(2, "head")(x)

    layout = """
        stem/kernel                     _ r
        stem/bias                       r
        layers/norm/*                   L r
        layers/attention/query/kernel   L r h d
        layers/attention/query/bias     L h d
        layers/attention/key/kernel     L r h d
        layers/attention/key/bias       L h d
        layers/attention/value/kernel   L r h e
        layers/attention/value/bias     L h e
        layers/attention/out/kernel     L h e r
        layers/attention/out/bias       L r
        layers/up/kernel                L r m
        layers/up/bias                  L m
        layers/down/kernel              L m r
        layers/down/bias                L r
        head/kernel                     r _
        m within L
        h within L
        d within L h
        e within L h
    """
    return linen(body, random(2, 4, 6), layout=layout)


@family
def layers_of_a_parallel_sum():
    """All layers at once, not one after another: then the layers may be permuted."""

    def apply(v, x):
        h = jax.nn.relu(jnp.einsum("bi,lim->blm", x, v["up"]))
        return jnp.einsum("blm,lmo->bo", h, v["down"])

    shapes = {"up": (3, 4, 5), "down": (3, 5, 2)}
    layout = """
        up    l _ m
        down  l m _
        m within l
    """
    return plain(apply, shapes, random(2, 4), layout=layout)
