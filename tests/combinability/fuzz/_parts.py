"""The parts that random networks are made of.

Each part takes the backend `b`, a stream x of shape (time, width) and two small numbers
that choose sizes and variants, and gives a stream. `saved` holds earlier streams.
"""

import numpy as np

PARTS = {}


def part(function):
    PARTS[function.__name__] = function
    return function


def dense(b, x, width, bias=False):
    y = b.contract("tf,fg->tg", x, b.parameter(x.shape[1], width))
    return b.binary("add", y, b.parameter(width)) if bias else y


def scaled(b, x):
    """A normalisation's scale and shift."""
    x = b.binary("mul", x, b.parameter(x.shape[-1]))
    return b.binary("add", x, b.parameter(x.shape[-1]))


@part
def layer(b, x, saved, i, j):
    """A dense layer, sometimes of a single unit."""
    y = dense(b, x, (4, 1, 5, 3, 6, 2)[i], bias=j % 2 == 0)
    return b.unary(("tanh", "relu", "sigmoid")[j % 3], y)


@part
def residual(b, x, saved, i, j):
    y = scaled(b, b.normalise(x)) if j % 2 else x
    y = b.unary("relu", dense(b, y, i + 2, bias=j > 2))
    return b.binary("add", x, dense(b, y, x.shape[1]))


@part
def norm(b, x, saved, i, j):
    return b.unary("tanh", scaled(b, b.normalise(x)))


@part
def group_norm(b, x, saved, i, j):
    groups = 2 + i % 2
    y = dense(b, x, groups * (2 + j % 2))
    y = b.normalise(y.reshape(len(x), groups, -1)).reshape(len(x), -1)
    return b.unary("relu", scaled(b, y))


@part
def save(b, x, saved, i, j):
    """A skip connection begins; the stream goes on from a layer of another width."""
    saved.append(x)
    widths = [width for width in (4, 3, 2, 5, 1) if width != x.shape[1]]
    return b.unary("tanh", dense(b, x, widths[i % 4]))


@part
def skip(b, x, saved, i, j):
    """A skip connection ends: added where widths agree, else side by side."""
    if not saved:
        return x
    other = saved.pop(j % len(saved))[: len(x)]
    if len(other) != len(x):
        return x
    if i % 2:
        x = x if x.shape == other.shape else dense(b, x, other.shape[1])
        return b.binary("add", other, b.unary("tanh", x))
    if other.shape[1] + x.shape[1] > 10:
        x = dense(b, x, 2)
    return b.concatenate([other, x])


@part
def dense_block(b, x, saved, i, j):
    y = b.unary("relu", dense(b, x, 1 + i % 3))
    return b.concatenate([x, y] if j % 2 else [y, x])


@part
def cut(b, x, saved, i, j):
    """Two segments that are treated differently, and change places or not.

    From j = 3 on it may cut in half what belongs together, a head for instance.
    """
    x = x if j > 2 else dense(b, x, 5)
    bound = 1 + i % max(x.shape[1] - 1, 1)
    if bound >= x.shape[1]:
        return x
    left, right = b.segments(x, bound)
    if j % 3 == 0:
        return b.concatenate([b.unary("tanh", right), left])
    if j % 3 == 1:
        return b.concatenate([left, b.unary("relu", dense(b, right, 2))])
    return b.binary("add", dense(b, left, 3), b.unary("tanh", dense(b, right, 3)))


@part
def overlap(b, x, saved, i, j):
    """Two slices that overlap, subtracted; from j = 3 on, of any stream."""
    x = x if j > 2 else dense(b, x, 4 + i)
    width, shift = x.shape[1], 1 + i % 3
    if width <= shift:
        return x
    b.segments(x, min(shift, width - shift), max(shift, width - shift))
    return b.unary("tanh", b.binary("sub", x[:, :-shift], x[:, shift:]))


@part
def unused_units(b, x, saved, i, j):
    """Some units that nothing reads, and a branch that nothing reads."""
    dense(b, x, 3)
    return dense(b, x, 5)[:, : 2 + i % 3]


@part
def positions(b, x, saved, i, j):
    """A table of positions, longer than needed."""
    table = b.parameter(len(x) + i % 3, x.shape[1])
    return b.binary("add", x, table[: len(x)])


@part
def gated(b, x, saved, i, j):
    """A layer whose second half gates its first."""
    width = 2 + i % 4
    y = dense(b, x, 2 * width, bias=j % 2 == 0)
    value, gate = b.segments(y, width)
    return b.binary("mul", value, b.unary("sigmoid", gate))


def heads_of(b, x, heads, size):
    return dense(b, x, heads * size).reshape(len(x), heads, size)


def attend(b, query, key, value):
    logits = b.contract("thd,shd->hts", query, key)
    return b.contract("hts,she->the", b.softmax(logits), value)


@part
def attention(b, x, saved, i, j):
    """Separate, fused, with a norm that heads share, or with a common key."""
    heads, inner, outer = 2 + i % 2, 2 + j % 2, 2
    if i >= 4:
        fused = dense(b, x, heads * (2 * inner + outer))
        width = heads * inner
        cuts = b.segments(fused, width, 2 * width)
        query, key, value = (y.reshape(len(x), heads, -1) for y in cuts)
    else:
        query, key = heads_of(b, x, heads, inner), heads_of(b, x, heads, inner)
        value = heads_of(b, x, heads, outer)
    if j >= 4:
        query = b.binary("mul", b.normalise(query), b.parameter(inner))
    y = dense(b, attend(b, query, key, value).reshape(len(x), -1), x.shape[1])
    return b.binary("add", x, y)


@part
def grouped_queries(b, x, saved, i, j):
    """Query heads in groups that have one key and value each; one group at i = 0."""
    groups, many = 1 + i % 3, 2
    query = dense(b, x, groups * many * 2).reshape(len(x), groups, many, 2)
    key, value = heads_of(b, x, groups, 2), heads_of(b, x, groups, 2 + j % 2)
    logits = b.contract("tgqd,sgd->gqts", query, key)
    mixed = b.contract("gqts,sge->tgqe", b.softmax(logits), value)
    return dense(b, mixed.reshape(len(x), -1), 3)


@part
def shared_across_heads(b, x, saved, i, j):
    """One layer for every head."""
    y = heads_of(b, x, 2 + i % 2, 3)
    y = b.contract("thd,de->the", b.unary("tanh", y), b.parameter(3, 2 + j % 2))
    return b.unary("relu", y.reshape(len(x), -1))


@part
def pairs_of_heads(b, x, saved, i, j):
    y = heads_of(b, x, 2 + i % 3, 2)
    pairs = b.binary("sub", y[:, :, None], y[:, None])
    distance = b.contract("thkd->thk", b.unary("square", pairs))
    return b.contract("thk->th", b.unary("tanh", distance))


@part
def mixed_heads(b, x, saved, i, j):
    """Heads with kernels of their own, mixed with one another, with a residual."""
    heads = 2 + i % 3
    y = b.contract("tf,hfd->thd", x, b.parameter(heads, x.shape[1], 2))
    if j % 3 == 0:
        mixed = b.contract("hk,tkd->thd", b.parameter(heads, heads), y)
    elif j % 3 == 1:
        mixed = b.mean(y, 1)
    else:
        mixed = b.mean(y, 2)
    y = b.binary("add", y, b.unary("tanh", mixed))
    return b.contract("thd,hdo->to", b.unary("relu", y), b.parameter(heads, 2, 3))


@part
def experts(b, x, saved, i, j):
    count, width = 2 + i % 2, 2 + j % 2
    gate = b.softmax(dense(b, x, count))
    y = b.contract("tf,efh->teh", x, b.parameter(count, x.shape[1], width))
    y = b.unary("relu", y)
    down = b.parameter(count, width, 3)
    return b.contract("te,teh,eho->to", gate, y, down)


@part
def routed_experts(b, x, saved, i, j):
    """Biased scores, so that none are equal where the stream is zero."""
    count, width = 3 + i % 2, 2 + i % 3
    scores = b.softmax(dense(b, x, count, bias=True))
    up, down = b.parameter(count, x.shape[1], width), b.parameter(count, width, 3)
    kind = ("gathered", "sorted", "buffered", "masked")[j % 4]
    return b.routed(kind, scores, 1 + j // 3, x, up, down)


@part
def maxout(b, x, saved, i, j):
    units, pieces = 2 + i % 3, 2 + j % 2
    y = dense(b, x, units * pieces)
    if i % 2:
        y = b.max(y.reshape(len(x), units, pieces), 2)
    else:
        y = b.max(y.reshape(len(x), pieces, units), 1)
    return dense(b, y, 3)


@part
def token_mixing(b, x, saved, i, j):
    y = b.contract("tf,ts->sf", x, b.parameter(len(x), 2 + i % 3))
    y = b.contract("sf,st->tf", b.unary("tanh", y), b.parameter(y.shape[0], len(x)))
    return b.binary("add", x, y)


@part
def layer_at_each_position(b, x, saved, i, j):
    kernel = b.parameter(len(x), x.shape[1], 2 + i % 3)
    y = b.unary("tanh", b.contract("tf,tfh->th", x, kernel))
    return dense(b, y, 3) if j % 2 else y


@part
def recurrent(b, x, saved, i, j):
    if len(x) < 2:
        return x
    width = 2 + i % 3
    y, kernel = dense(b, x, width), b.parameter(width, width)

    def step(state, new):
        mixed = b.contract("f,fg->g", state, kernel)
        return b.unary("tanh", b.binary("add", new, mixed))

    start = b.parameter(width) if j % 2 else b.constant(np.zeros(width))
    return (b.store if i > 2 else b.scan)(step, start, y)


@part
def repeated(b, x, saved, i, j):
    """The same square kernel twice."""
    x = dense(b, x, 2 + i % 3)
    kernel = b.parameter(x.shape[1], x.shape[1])
    for _ in range(2):
        x = b.unary("tanh", b.contract("tf,fg->tg", x, kernel))
    return x


@part
def excitation(b, x, saved, i, j):
    gate = b.unary("relu", dense(b, b.mean(x, 0), 2 + i % 2))
    return b.binary("mul", x, b.unary("sigmoid", dense(b, gate, x.shape[1])))


@part
def tiled(b, x, saved, i, j):
    """The stream side by side with itself, gated by a layer of that width."""
    gate = b.unary("tanh", dense(b, x, 2))
    x = b.unary("relu", dense(b, x, 2 + j % 2))
    gate = b.unary("sigmoid", dense(b, gate, 2 * x.shape[1]))
    return b.binary("mul", b.tile(x, 2), gate)


@part
def captured(b, x, saved, i, j):
    """A captured array that differs in every unit, or in none."""
    values = np.linspace(1, 2, x.shape[1]) if i % 2 else np.full(x.shape[1], 3.0)
    return b.unary("tanh", b.binary("mul", x, b.constant(values)))


@part
def summed_up(b, x, saved, i, j):
    return b.unary("tanh", b.cumsum(x))


@part
def convolution(b, x, saved, i, j):
    """Over time, windows of two; then a pooling window of two, if there is room."""
    if len(x) < 3:
        return x
    y = b.unary("relu", b.convolve(x, b.parameter(2, x.shape[1], 2 + i % 4)))
    if j % 2 and len(y) >= 2:
        y = b.max(y[: len(y) // 2 * 2].reshape(len(y) // 2, 2, -1), 1)
    return y


@part
def flatten(b, x, saved, i, j):
    """Time and width become one axis, and a layer makes a new stream of one step."""
    y = b.unary("relu", dense(b, x.reshape(1, -1), 2 + i))
    return b.unary("tanh", y)


@part
def fortran_order(b, x, saved, i, j):
    """Heads × their size flattened the other way round, each head normalised."""
    y = b.normalise(heads_of(b, x, 2 + i % 2, 2 + j % 2))
    y = b.unary("tanh", y).reshape(len(x), -1, order="F")
    return b.binary("add", y, b.parameter(y.shape[1])) if i > 2 else dense(b, y, 3)


@part
def read_in_fortran_order(b, x, saved, i, j):
    """All of the stream in one step, the width before time."""
    y = b.unary("relu", dense(b, x.reshape(1, -1, order="F"), 2 + i))
    return b.unary("tanh", y)


@part
def token(b, x, saved, i, j):
    """A step set to a vector of its own, then the same layer for all steps."""
    if len(x) < 2:
        return x
    x = b.write(x, i % len(x), b.parameter(x.shape[1]))
    return b.unary("tanh", dense(b, x, 2 + j % 3))


@part
def messages(b, x, saved, i, j):
    """Steps added up along the edges of a graph."""
    rows = (np.arange(len(x)) * (1 + j)) % 2
    return b.binary("add", b.unary("tanh", x)[:2], b.collect(x, rows, min(2, len(x))))


@part
def spectrum(b, x, saved, i, j):
    """A layer at each frequency."""
    y = b.fourier(x)
    kernel = b.parameter(len(y), x.shape[1], 2 + i % 3)
    return b.unary("tanh", b.contract("tf,tfh->th", y, kernel))


@part
def blurred(b, x, saved, i, j):
    """Channels filtered alike, or each in its own way."""
    if len(x) < 2:
        return x
    filters = np.ones((2, x.shape[1])) * [[0.5], [2.0]]
    if j % 3 == 0:
        filters += np.arange(x.shape[1])
    return b.unary("tanh", b.blur(x, filters))
