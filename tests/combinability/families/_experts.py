"""Mixtures of experts: routers of the public kinds, and networks that misuse an index.

Experts permute together with the router's outputs, and hidden units within each expert.
"""

import jax
import jax.numpy as jnp

from tests.combinability.families._family import family, plain, random

TOKENS, EXPERTS, CAPACITY = 7, 5, 3
SHAPES = {"router": (4, EXPERTS), "up": (EXPERTS, 4, 6), "down": (EXPERTS, 6, 3)}
FREE = """
    router  _ e
    up      e _ h
    down    e h _
    h within e
"""
SHARED = """
    router  _ e
    up      e _ h
    down    e h _
"""
PINNED = """
    up    E _ h
    down  E h _
    h within E
"""
ONLY_UNITS = """
    up    _ _ h
    down  _ h _
"""


def mixture(route, layout=FREE, complete=True, **more):
    """A router and experts of one hidden layer; `route(v, x, logits)` does the rest."""

    def apply(v, x):
        return route(v, x, x @ v["router"])

    x = random(TOKENS, 4)
    return plain(apply, SHAPES | more, x, layout=layout, complete=complete)


def dispatched(v, x, dispatch, combine):
    """Experts on buffers (expert, place), by one-hot matrices of (token, …)."""
    buffer = jnp.einsum("tec,td->ecd", dispatch, x)
    h = jax.nn.relu(jnp.einsum("ecd,edh->ech", buffer, v["up"]))
    out = jnp.einsum("ech,eho->eco", h, v["down"])
    return jnp.einsum("tec,eco->to", combine, out)


def balance(probabilities, mask):
    """The load-balancing loss of Switch Transformer."""
    return EXPERTS * (mask.mean(0) * probabilities.mean(0)).sum()


def gathered(v, x, chosen, weight):
    """The weights of each token's experts are looked up."""
    h = jax.nn.relu(jnp.einsum("td,tkdh->tkh", x, v["up"][chosen]))
    y = jnp.einsum("tkh,tkho->tko", h, v["down"][chosen])
    return jnp.einsum("tk,tko->to", weight, y)


def ragged(v, x, chosen, weight, sizes):
    """Rows sorted by expert, two ragged products, and back."""
    order = jnp.argsort(chosen.ravel())
    rows = jnp.take(x, order // chosen.shape[1], axis=0)
    h = jax.nn.relu(jax.lax.ragged_dot(rows, v["up"], sizes))
    y = jax.lax.ragged_dot(h, v["down"], sizes)
    y = jnp.take(y, jnp.argsort(order), axis=0).reshape(*chosen.shape, -1)
    return jnp.einsum("tk,tko->to", weight, y)


def top_two(logits):
    values, chosen = jax.lax.top_k(logits, 2)
    return jax.nn.softmax(values), chosen


@family
def switch_with_capacity():
    """Top 1; tokens beyond an expert's capacity are dropped; a load-balancing loss."""

    def route(v, x, logits):
        p = jax.nn.softmax(logits)
        mask = jax.nn.one_hot(jnp.argmax(p, axis=-1), EXPERTS, dtype=x.dtype)
        place = jnp.cumsum(mask, axis=0) * mask
        kept = mask * (place <= CAPACITY)
        place = (place.sum(-1) - 1).astype(int)
        spots = jax.nn.one_hot(place, CAPACITY, dtype=x.dtype)
        dispatch = kept[:, :, None] * spots[:, None]
        combine = (p * mask).sum(-1)[:, None, None] * dispatch
        return dispatched(v, x, dispatch, combine), balance(p, mask)

    return mixture(route)


@family
def gshard_by_one_hot_dispatch():
    """Top 2 by two `argmax`; the second choice queues after the first."""

    def route(v, x, logits):
        p = jax.nn.softmax(logits)
        first = jax.nn.one_hot(jnp.argmax(p, -1), EXPERTS, dtype=x.dtype)
        second = jnp.argmax(jnp.where(first > 0, -jnp.inf, p), -1)
        second = jax.nn.one_hot(second, EXPERTS, dtype=x.dtype)
        places = jnp.cumsum(first, 0) - first, jnp.cumsum(second, 0) - second
        places = places[0], places[1] + first.sum(0, keepdims=True)
        gates = [(p * mask).sum(-1) for mask in (first, second)]
        combine = 0
        for mask, place, gate in zip((first, second), places, gates, strict=True):
            mask = mask * (place < CAPACITY)
            spot = (place * mask).sum(-1).astype(int)
            spot = jax.nn.one_hot(spot, CAPACITY, dtype=x.dtype)
            gate = gate / (gates[0] + gates[1])
            combine += gate[:, None, None] * mask[:, :, None] * spot[:, None]
        dispatch = (combine > 0).astype(x.dtype)
        return dispatched(v, x, dispatch, combine), balance(p, first)

    return mixture(route)


@family
def mixtral_by_gather():
    """Top 2, gated units, biases; the weights of each token's experts are looked up."""

    def route(v, x, logits):
        weight, chosen = top_two(logits)
        h = jnp.einsum("td,tkdh->tkh", x, v["up"][chosen]) + v["bias"][chosen]
        h *= jax.nn.silu(jnp.einsum("td,tkdh->tkh", x, v["gate"][chosen]))
        y = jnp.einsum("tkh,tkho->tko", h, v["down"][chosen])
        return jnp.einsum("tk,tko->to", weight, y)

    layout = f"""{FREE}
        gate  e _ h
        bias  e h
    """
    return mixture(route, layout, gate=(EXPERTS, 4, 6), bias=(EXPERTS, 6))


@family
def one_token_at_a_time():
    """Without a batch the experts are taken by `dynamic_slice`; a fused gate."""

    def apply(v, x):
        logits = x @ v["router"]
        best = jnp.argmax(logits)
        h, gate = jnp.split(x @ v["up"][best], 2)
        return logits[best] * (jnp.tanh(h) * gate @ v["down"][best])

    shapes = SHAPES | {"up": (EXPERTS, 4, 12)}
    layout = """
        router  _ e
        up      e _ h|g
        down    e h _
        h within e
    """.replace("h|g", "(2 h)")
    return plain(apply, shapes, random(4), layout=layout)


@family
def tokens_by_vmap():
    def route(v, x, logits):
        def one(x, logits):
            weight, chosen = top_two(logits)
            h = jax.nn.relu(jnp.einsum("d,kdh->kh", x, v["up"][chosen]))
            return jnp.einsum("k,kh,kho->o", weight, h, v["down"][chosen])

        return jax.vmap(one)(x, logits)

    return mixture(route)


@family
def megablocks_by_ragged_products():
    """Rows sorted by expert; sizes by `bincount`."""

    def route(v, x, logits):
        weight, chosen = top_two(logits)
        sizes = jnp.bincount(chosen.ravel(), length=EXPERTS)
        return ragged(v, x, chosen, weight, sizes)

    return mixture(route)


@family
def ragged_products_with_counted_masks():
    """Sizes by a sum of one-hot vectors; results are added up where they belong."""

    def route(v, x, logits):
        weight, chosen = top_two(logits)
        sizes = jax.nn.one_hot(chosen, EXPERTS, dtype=jnp.int32).sum((0, 1))
        order = jnp.argsort(chosen.ravel())
        h = jax.nn.relu(jax.lax.ragged_dot(x[order // 2], v["up"], sizes))
        y = jax.lax.ragged_dot(h, v["down"], sizes)
        y *= weight.ravel()[order][:, None]
        return jnp.zeros((TOKENS, 3), x.dtype).at[order // 2].add(y)

    return mixture(route)


@family
def deepseek_with_a_shared_expert():
    """Sigmoid scores with a bias for the choice, and a shared expert."""

    def route(v, x, logits):
        scores = jax.nn.sigmoid(logits)
        _, chosen = jax.lax.top_k(scores + v["bias"], 2)
        weight = jnp.take_along_axis(scores, chosen, axis=-1)
        weight /= weight.sum(-1, keepdims=True)
        shared = jax.nn.relu(x @ v["shared_up"]) @ v["shared_down"]
        return gathered(v, x, chosen, weight) + shared

    layout = f"""{FREE}
        bias         e
        shared_up    _ s
        shared_down  s _
    """
    more = {"bias": (EXPERTS,), "shared_up": (4, 8), "shared_down": (8, 3)}
    return mixture(route, layout, **more)


@family
def deepseek_limited_to_groups():
    """Experts of the two groups with the largest sums of two: groups permute."""

    def apply(v, x):
        scores = jax.nn.sigmoid(x @ v["router"])
        groups = jax.lax.top_k(scores.reshape(TOKENS, 3, 4), 2)[0].sum(-1)
        _, best = jax.lax.top_k(groups, 2)
        mask = jax.nn.one_hot(best, 3, dtype=x.dtype).sum(1)
        mask = jnp.repeat(mask, 4, axis=-1)
        _, chosen = jax.lax.top_k(jnp.where(mask > 0, scores, -jnp.inf), 3)
        weight = jnp.take_along_axis(scores, chosen, axis=-1)
        return gathered(v, x, chosen, weight)

    layout = """
        router  _ (g=3 e=4)
        up      (g e) _ h
        down    (g e) h _
        e within g
        h within g e
    """
    shapes = {"router": (4, 12), "up": (12, 4, 5), "down": (12, 5, 3)}
    return plain(apply, shapes, random(TOKENS, 4), layout=layout)


@family
def expert_choice():
    """Each expert takes the tokens that score highest with it."""

    def route(v, x, logits):
        weight, tokens = jax.lax.top_k(jax.nn.softmax(logits).T, CAPACITY)
        h = jax.nn.relu(jnp.einsum("ecd,edh->ech", x[tokens], v["up"]))
        y = jnp.einsum("ech,eho->eco", h, v["down"]) * weight[..., None]
        return jnp.zeros((TOKENS, 3), x.dtype).at[tokens].add(y)

    return mixture(route)


@family
def soft_mixture():
    """Every expert gets mixtures of all tokens (Soft MoE)."""

    def apply(v, x):
        logits = jnp.einsum("td,des->tes", x, v["slots"])
        dispatch = jax.nn.softmax(logits, axis=0)
        combine = jax.nn.softmax(logits.reshape(TOKENS, -1)).reshape(logits.shape)
        return dispatched(v, x, dispatch, combine)

    layout = """
        slots  _ e s
        up     e _ h
        down   e h _
        s within e
        h within e
    """
    shapes = {"slots": (4, 3, 2), "up": (3, 4, 6), "down": (3, 6, 3)}
    return plain(apply, shapes, random(TOKENS, 4), layout=layout)


@family
def threshold_routing():
    """All experts whose probability is not below the second largest."""

    def route(v, x, logits):
        p = jax.nn.softmax(logits)
        gate = jnp.where(p >= jnp.sort(p)[:, -2:-1], p, 0)
        h = jax.nn.relu(jnp.einsum("td,edh->teh", x, v["up"]))
        return jnp.einsum("te,teh,eho->to", gate, h, v["down"])

    return mixture(route)


@family
def layers_of_experts_in_a_scan():
    """Each layer has experts of its own, next to a residual stream."""

    def apply(v, x):
        def layer(x, v):
            weight, chosen = top_two(x @ v["router"])
            return x + gathered(v, x, chosen, weight), None

        return jax.lax.scan(layer, x @ v["in"], v["layers"])[0] @ v["out"]

    layout = """
        in             _ r
        layers/router  L r e
        layers/up      L e r h
        layers/down    L e h r
        out            r _
        e within L
        h within L e
    """
    shapes = {"in": (4, 5), "out": (5, 2)}
    layers = {"router": (2, 5, 3), "up": (2, 3, 5, 6), "down": (2, 3, 6, 5)}
    built = plain(apply, shapes | layers, random(TOKENS, 4), layout=layout)
    v = dict(built.variables)
    v["layers"] = {name: v.pop(name) for name in layers}
    return built._replace(variables=v)


@family
def buffers_by_scatter():
    """Tokens are written to their place in their expert's buffer, and read there."""

    def route(v, x, logits):
        best = jnp.argmax(logits, -1)
        before = jnp.cumsum(jax.nn.one_hot(best, EXPERTS, dtype=jnp.int32), 0)
        place = jnp.take_along_axis(before, best[:, None], 1)[:, 0] - 1
        buffer = jnp.zeros((EXPERTS, CAPACITY, 4), x.dtype)
        buffer = buffer.at[best, place].add(x, mode="drop")
        h = jax.nn.relu(jnp.einsum("ecd,edh->ech", buffer, v["up"]))
        y = jnp.einsum("ech,eho->eco", h, v["down"])
        y = y.at[best, place].get(mode="fill", fill_value=0)
        return y * jax.nn.softmax(logits)[jnp.arange(TOKENS), best][:, None]

    return mixture(route)


# Routers that are not followed, and what is done with an index that depends on order.


@family
def experts_by_number():
    """The number of an expert enters the result."""

    def route(v, x, logits):
        weight, chosen = top_two(logits)
        return gathered(v, x, chosen, weight) + chosen.sum(-1, keepdims=True)

    return mixture(route, PINNED)


@family
def one_expert_is_special():
    def route(v, x, logits):
        weight, chosen = top_two(logits)
        weight = jnp.where(chosen == 0, 2 * weight, weight)
        return gathered(v, x, chosen, weight)

    return mixture(route, PINNED)


@family
def experts_shifted_by_one():
    """What the next expert does to a token."""

    def route(v, x, logits):
        weight, chosen = top_two(logits)
        return gathered(v, x, (chosen + 1) % EXPERTS, weight)

    return mixture(route, ONLY_UNITS)


@family
def experts_counted_from_the_end():
    def route(v, x, logits):
        weight, chosen = top_two(logits)
        return gathered(v, x, 0 - chosen, weight)

    return mixture(route, ONLY_UNITS)


@family
def layers_of_different_experts():
    """The first layer of one expert before the second of another."""

    def route(v, x, logits):
        _, chosen = top_two(logits)
        h = jax.nn.relu(jnp.einsum("td,tdh->th", x, v["up"][chosen[:, 0]]))
        return jnp.einsum("th,tho->to", h, v["down"][chosen[:, 1]])

    return mixture(route, SHARED)


@family
def layers_of_other_tokens():
    """Each token's hidden units meet the expert of its neighbour."""

    def route(v, x, logits):
        best = jnp.argmax(logits, -1)
        h = jax.nn.relu(jnp.einsum("td,tdh->th", x, v["up"][best]))
        return jnp.einsum("th,tho->to", jnp.roll(h, 1, axis=0), v["down"][best])

    return mixture(route, SHARED)


@family
def experts_of_two_tokens_meet():
    """Hidden units of all pairs of tokens are compared."""

    def route(v, x, logits):
        best = jnp.argmax(logits, -1)
        h = jax.nn.relu(jnp.einsum("td,tdh->th", x, v["up"][best]))
        return jax.nn.softmax(h @ h.T) @ jnp.einsum("th,tho->to", h, v["down"][best])

    return mixture(route, SHARED)


@family
def ragged_products_with_other_sizes():
    """The sizes are not those of the rows that were sorted."""

    def route(v, x, logits):
        weight, chosen = top_two(logits)
        sizes = jnp.bincount(chosen[:, 0], length=EXPERTS) * 2
        return ragged(v, x, chosen, weight, sizes)

    return mixture(route, ONLY_UNITS)


@family
def ragged_products_with_sorted_sizes():
    """The sizes are those of the rows, in another order."""

    def route(v, x, logits):
        weight, chosen = top_two(logits)
        sizes = jnp.bincount(chosen.ravel(), length=EXPERTS)
        sizes = jax.lax.sort_key_val(logits.sum(0), sizes)[1]
        return ragged(v, x, chosen, weight, sizes)

    return mixture(route, ONLY_UNITS)


@family
def sorted_rows_by_place():
    """What is added to a row depends on its place among the sorted ones."""

    def route(v, x, logits):
        _, chosen = top_two(logits)
        sizes = jnp.bincount(chosen.ravel(), length=EXPERTS)
        order = jnp.argsort(chosen.ravel())
        rows = x[order // 2] + v["places"]
        h = jax.nn.relu(jax.lax.ragged_dot(rows, v["up"], sizes))
        y = jax.lax.ragged_dot(h, v["down"], sizes)
        return y[jnp.argsort(order)].reshape(TOKENS, 2, -1).sum(1)

    return mixture(route, PINNED, places=(2 * TOKENS, 4))


@family
def first_of_the_sorted_rows():
    """Only the tokens of the first experts count."""

    def route(v, x, logits):
        _, chosen = top_two(logits)
        sizes = jnp.bincount(chosen.ravel(), length=EXPERTS)
        rows = x[jnp.argsort(chosen.ravel()) // 2]
        h = jax.nn.relu(jax.lax.ragged_dot(rows, v["up"], sizes))
        return jax.lax.ragged_dot(h, v["down"], sizes)[:5].mean(0)

    return mixture(route, PINNED)


@family
def equal_scores():
    """Of experts with as many large scores, the first is taken."""

    def route(v, x, logits):
        best = jnp.argmax((jnp.tile(logits, (2, 1)) > 0).sum(0))
        return x @ v["up"][best] @ v["down"][best]

    return mixture(route, ONLY_UNITS, complete=False)


@family
def experts_in_a_loop():
    """One expert after the other, with the tokens that chose it."""

    def route(v, x, logits):
        weight, chosen = top_two(logits)
        total = 0
        for e in range(EXPERTS):
            h = jax.nn.relu(x @ v["up"][e]) @ v["down"][e]
            total += (weight * (chosen == e)).sum(-1, keepdims=True) * h
        return total

    return mixture(route, ONLY_UNITS, complete=False)


@family
def units_sorted_or_picked():
    """Not experts: sorted units, the largest unit, the ranks of units."""

    def apply(v, x):
        a = jnp.sort(x @ v["a"], axis=-1) @ v["a_out"]
        b = jnp.argmax(x @ v["b"], axis=-1)
        c = x @ v["c"]
        ranks = jnp.argsort(jnp.argsort(c, axis=-1), axis=-1)
        return a + v["b_out"][b] + (c * ranks) @ v["c_out"]

    shapes = {"a": (4, 5), "a_out": (5, 2), "b": (4, 6), "b_out": (6, 2)}
    layout = """
        a      _ a
        b      _ b
        b_out  b _
        c      _ c
        c_out  c _
    """
    shapes |= {"c": (4, 7), "c_out": (7, 2)}
    return plain(apply, shapes, random(3, 4), layout=layout)
