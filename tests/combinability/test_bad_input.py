"""Bad input raises: the argument, what was expected, what was given.

One table for the whole library; `test_nothing_is_left_out` keeps it complete.
"""

import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import combinability as c
from combinability import Correction, Matching, coefficients, permutations
from combinability import symmetry as s
from combinability.coefficients import line, simplex
from tests.bad_input import check_rejected, each_row
from tests.combinability.specs import by_hand


def apply(variables, x):
    return jnp.tanh(x @ variables["in"]) @ variables["out"]


def with_relu(variables, x):
    return jax.nn.relu(x @ variables["in"]) @ variables["out"]


def metric(variables):
    return variables["in"].sum()


def loss(variables, batch):
    return apply(variables, batch).sum()


def nothing(*_):
    return None


V = {"in": jnp.ones((2, 3)), "out": jnp.ones((3, 4))}
SHORT = {"in": jnp.ones((2, 3))}
OTHER = {"in": jnp.ones((2, 2)), "out": jnp.ones((2, 4))}
NAN = {**V, "in": jnp.full((2, 3), jnp.nan)}
COMPLEX, WHOLE = {**V, "in": V["in"] + 0j}, {**V, "out": V["out"].astype(int)}
X, KEY, KEYS = jnp.ones((5, 2)), jax.random.key(0), jax.random.split(jax.random.key(0))
RBG = jax.random.key(0, impl="rbg")
SHAPES = jax.eval_shape(lambda: V)
SYMMETRY, NARROW = (c.infer_symmetry(apply, v, X) for v in (V, OTHER))
SIGNS, SCALES = (
    c.infer_rescaling(c.infer_symmetry(network, V, X)) for network in (apply, with_relu)
)
STILL, NO_GROUPS = {"in": jnp.arange(3)}, by_hand(V, {})
TWICE = {"in": jnp.array([0, 0, 1])}
NEURON = c.uniform(granularity="neuron", symmetry=SYMMETRY)
LOGITS, LABELS = np.ones((5, 4), np.float32), np.zeros(5, int)
CORRECTION = {"Dense_9": Correction(jnp.ones(4), jnp.ones(4))}
DENSE, NORM = nn.Dense(2), nn.BatchNorm(use_running_average=True)
THREE, FOUR = s.variable(3), s.variable(4)
LINEAR, WIDE = (nnx.Linear(2, n, rngs=nnx.Rngs(0)) for n in (3, 4))

ONCE = "expected each of 0, …, 2 once in every row, got [0, 0, 1]"
NO_OUT = "b does not match a: it has no leaf 'out'"
NO_KEY = "key: expected a PRNG key as jax.random.key(0), got 3"
NOT_FINITE = "b: expected finite parameters, got 6 that are NaN or infinite at 'in'"
UNREAL = "a: expected real floating-point numbers, got complex64 at 'in'"
UNIT = "expected a finite number in [0, 1], got"


class Shared(nn.Module):
    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(2)
        return layer(layer(x))


class Rematerialised(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.remat(nn.Dense)(2)(x)


class SharedNnx(nnx.Module):
    def __init__(self):
        self.layer = nnx.Linear(2, 2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.layer(self.layer(x))


class RematerialisedNnx(SharedNnx):
    def __call__(self, x):
        return nnx.remat(lambda layer, x: layer(x))(self.layer, x)


def matched(function, *more, a=V, b=V, key=KEY, symmetry=SYMMETRY, **options):
    return function(symmetry, a, b, *more, key=key, **options)


def weights(**options):
    return matched(c.weight_matching, **options)


def activations(*batches, **options):
    return matched(c.activation_matching, batches, **options)


def straight(of=loss, batches=(X,), a=V, b=V, key=KEY, **options):
    return c.straight_through_matching(SYMMETRY, of, a, b, batches, key=key, **options)


def soft(batches=None, **options):
    return c.soft_matching(SYMMETRY, V, V, batches=batches, **options)


def moved(couplings, b=V, **options):
    return c.transport(SYMMETRY, couplings, b, **options)


def many(models, **options):
    return c.match_many(SYMMETRY, models, **{"key": KEY, **options})


def evaluated(of=metric, b=V, distribution=None, **options):
    distribution = c.uniform() if distribution is None else distribution
    return c.evaluate(of, V, b, distribution, **{"key": KEY, "samples": 2, **options})


def evaluated_many(models, distribution):
    return c.evaluate_many(metric, models, distribution, key=KEY, samples=2)


def segment(of=metric, b=V, **options):
    return c.barrier(of, V, b, **options)


def triple(*models, symmetry=SYMMETRY, key=KEY, **options):
    return c.transitivity(metric, symmetry, models or [V, V, V], key=key, **options)


def perturbed(permutation=STILL, a=V, key=KEY, **options):
    return c.robustness(metric, SYMMETRY, a, V, permutation, key=key, **options)


def repaired(module, **options):
    variables = module.init(KEY, X)
    return c.repair(module.apply, variables, variables, variables, X, **options)


def repaired_nnx(module, of=None):
    state = nnx.state(of or module)
    return c.repair(module, state, state, state, X)


def reset(apply=nothing, batches=X[None], statistics=None):
    variables = NORM.init(KEY, X)
    if statistics is not None:
        variables = {**variables, "batch_stats": {"norm": statistics}}
    return c.reset_batch_norm(apply, variables, batches)


def same_statistics(variables, x):
    return NORM.apply(variables, x, mutable=["batch_stats"])


def sampled(distribution=None, variables=V, key=KEY):
    return (distribution or c.uniform()).sample(0, variables, key=key)


# Of each public name: what is said, and the call that raises it.
VALUE_ERRORS = {
    "Symmetry": {
        f"permutation['in']: {ONCE}": lambda: SYMMETRY.apply(TWICE, V),
        "no group 'x'; the groups are in": lambda: SYMMETRY.apply({"x": 0}, V),
        "it has no leaf 'out'": lambda: SYMMETRY.apply({}, SHORT),
        "variables: it has no leaf 'out'": lambda: SYMMETRY.split(SHORT),
        "parts: expected one for each of 2": lambda: SYMMETRY.join([], V),
    },
    "activation_matching": {
        "symmetry: expected one from infer": lambda: activations(
            X, symmetry=by_hand(V, {"h": [("in", 1), ("out", 0)]})
        ),
        "batches: expected at least one batch": lambda: activations(),
        "batches[1]: expected shape (5, 2)": lambda: activations(X, X[1:]),
        "batches[0]: expected 1 arrays": lambda: activations((X, X)),
        "a: the activations that carry in, or their squares, are not finite": (
            lambda: activations(X * jnp.nan)
        ),
        "b: it has no leaf 'out'": lambda: activations(X, b=SHORT),
        NOT_FINITE: lambda: activations(X, b=NAN),
        "similarity: expected 'inner' or 'correlation', got 'cos'": lambda: activations(
            X, similarity="cos"
        ),
        "max_units: expected at least 1": lambda: activations(X, max_units=0),
        "groups: no group 'out'": lambda: activations(X, groups=["out"]),
        f"fixed['in']: {ONCE}": lambda: activations(X, fixed=TWICE),
    },
    "barrier": {
        "points: expected at least 3, got 2": lambda: segment(points=2),
        "batch_size: expected at least 1, got 0": lambda: segment(batch_size=0),
        NO_OUT: lambda: segment(b=SHORT),
        "at 'in': expected float32 of shape (2, 3), got float32 of shape (2, 2)": (
            lambda: segment(b=OTHER)
        ),
        NOT_FINITE: lambda: segment(b=NAN),
    },
    "barriers": {"pairs: expected at least one": lambda: c.barriers(metric, [])},
    "bernoulli": {
        f"probability: {UNIT} 1.5": lambda: coefficients.bernoulli(1.5),
        f"probability: {UNIT} nan": lambda: coefficients.bernoulli(np.nan),
    },
    "beta": {
        "alpha: expected a finite number above 0": lambda: coefficients.beta(0.0, 1.0),
        "beta: expected a finite number above 0": lambda: coefficients.beta(1.0, -1.0),
    },
    "channel_statistics": {
        "apply: met the layers []": lambda: c.channel_statistics(apply, V, X),
        "is inside a transformation": lambda: c.channel_statistics(
            jax.jit(DENSE.apply), DENSE.init(KEY, X), X
        ),
    },
    "combine": {
        NO_OUT: lambda: c.combine(V, SHORT, 0.5),
        "b does not match a: it has one more leaf 'z'": lambda: c.combine(
            V, {**V, "z": 1.0}, 0.5
        ),
        "at 'in': expected float32 of shape (2, 3), got float16": lambda: c.combine(
            V, {**V, "in": V["in"].astype("f2")}, 0.5
        ),
        "containers of other types": lambda: c.combine([X], (X,), 0.5),
        "coefficients: expected a number or a tree like the networks, got an array of "
        "shape (3,)": lambda: c.combine(V, V, jnp.ones(3)),
        "coefficients: it has no leaf 'in'": lambda: c.combine(V, V, None),
        "coefficients: expected the leaf 'in', got 'on'": lambda: c.combine(
            V, V, {"on": 0.5, "put": 1.0}
        ),
        "coefficients: expected a shape that broadcasts to (2, 3) at 'in', got (2,)": (
            lambda: c.combine(V, V, {"in": np.ones(2), "out": 1})
        ),
        "broadcasts to (3, 4) at 'out', got (1, 3, 4)": lambda: c.combine(
            V, V, {"in": 1, "out": np.ones((1, 3, 4))}
        ),
    },
    "combine_many": {
        "models: expected at least one": lambda: c.combine_many([], jnp.ones(0)),
        "coefficients: expected an array of shape (2,)": lambda: c.combine_many(
            [V, V], jnp.ones(3)
        ),
        "models[2] does not match models[0]": lambda: c.combine_many(
            [V, V, SHORT], jnp.ones(3)
        ),
    },
    "compose": {
        "outer: no group 'x'": lambda: permutations.compose(SYMMETRY, {"x": X}, {}),
        f"inner['in']: {ONCE}": lambda: permutations.compose(SYMMETRY, {}, TWICE),
    },
    "corrected": {
        "expected ['Dense_9']": lambda: c.corrected(apply, CORRECTION)(V, X),
        "met the layers [], expected ['Dense_9']": lambda: c.corrected(
            DENSE.apply, CORRECTION
        )(DENSE.init(KEY, X), X),
    },
    "cycle_defect": {
        "permutations: expected at least one": lambda: c.cycle_defect(SYMMETRY),
        ONCE: lambda: c.cycle_defect(SYMMETRY, TWICE),
    },
    "difference": {
        NO_OUT: lambda: c.difference(apply, V, SHORT, X),
        "expected shape (samples, classes)": lambda: c.difference(apply, V, V, X[0]),
    },
    "disagreement": {
        "expected the same shape, got (5, 4) and (4, 4)": lambda: c.disagreement(
            LOGITS, LOGITS[:4]
        ),
        "neither empty, got (0, 4)": lambda: c.disagreement(LOGITS[:0], LOGITS[:0]),
    },
    "distance": {
        "second['in']: expected the shape of first['in'], (3,), got (2,)": (
            lambda: permutations.distance(STILL, {"in": jnp.arange(2)})
        ),
    },
    "embed": {
        "wider: expected at least 3 units in group 'in', got 2": lambda: c.embed(
            SYMMETRY, V, NARROW
        ),
        "variables: it has no leaf 'out'": lambda: c.embed(SYMMETRY, SHORT, SYMMETRY),
        "wider: expected the symmetry of a network with the same leaves": (
            lambda: c.embed(SYMMETRY, V, NO_GROUPS)
        ),
        "wider: expected 'in' to differ only in the sizes of groups, got shape": (
            lambda: c.embed(
                SYMMETRY,
                V,
                c.infer_symmetry(apply, {**V, "in": jnp.ones((4, 3))}, X[:, [0] * 4]),
            )
        ),
    },
    "error_overlap": {
        "labels: expected shape (5,), that of the logits without classes, got (3,)": (
            lambda: c.error_overlap(LOGITS, LOGITS, LABELS[:3])
        ),
        "labels: expected classes from 0 to 3, got 4 to 4": lambda: c.error_overlap(
            LOGITS, LOGITS, LABELS + 4
        ),
        "the same shape": lambda: c.error_overlap(LOGITS, LOGITS[1:], LABELS),
    },
    "evaluate": {
        "samples: expected at least 1, got 0": lambda: evaluated(samples=0),
        "batch_size: expected at least 1, got -1": lambda: evaluated(batch_size=-1),
        NO_OUT: lambda: evaluated(b=SHORT),
        NOT_FINITE: lambda: evaluated(b=NAN),
        "samples: expected 3, the number of points": lambda: evaluated(
            distribution=line(3)
        ),
        "expected one for two networks, by evaluate, got": lambda: evaluated(
            distribution=simplex(2)
        ),
        "devices: expected different devices": lambda: evaluated(devices=[]),
        "devices: expected different devices of this process": lambda: evaluated(
            devices=jax.devices()[:1] * 2
        ),
    },
    "evaluate_many": {
        "models: expected at least one": lambda: evaluated_many([], simplex(2)),
        "models[1] does not match": lambda: evaluated_many([V, SHORT], simplex(2)),
        "one for 2 networks, by evaluate_many": lambda: evaluated_many(
            [V, V], simplex(3)
        ),
        "which is for two networks, by evaluate": lambda: evaluated_many(
            [V, V], c.uniform()
        ),
    },
    "fold_corrections": {
        "variables: expected those of a Flax": lambda: c.fold_corrections(
            V, CORRECTION
        ),
        "no layer 'Dense_9'": lambda: c.fold_corrections({"params": V}, CORRECTION),
        "layer 'Dense_9' has no bias": lambda: c.fold_corrections(
            {"params": {"Dense_9": {"kernel": X}}}, CORRECTION
        ),
        "corrections: expected shape (5,) for layer 'Dense_9', got (4,)": (
            lambda: c.fold_corrections(
                {"params": {"Dense_9": {"kernel": X.T, "bias": X[:, 0]}}}, CORRECTION
            )
        ),
    },
    "infer_symmetry": {
        "variables: expected a tree": lambda: c.infer_symmetry(apply, {}, X),
    },
    "invert": {
        f"permutation['in']: {ONCE}": lambda: permutations.invert(SYMMETRY, TWICE),
        "permutation['in']: expected integers of shape (3,), got int32 of shape (2,)": (
            lambda: permutations.invert(SYMMETRY, {"in": jnp.arange(2)})
        ),
        "expected integers of shape (3,), got float32": lambda: permutations.invert(
            SYMMETRY, {"in": jnp.arange(3.0)}
        ),
    },
    "jensen_shannon": {
        "the same shape": lambda: c.jensen_shannon(LOGITS, LOGITS.T),
        "(samples, classes)": lambda: c.jensen_shannon(LOGITS[0], LOGITS[0]),
    },
    "line": {"points: expected at least 2, got 1": lambda: line(1)},
    "match": {
        NOT_FINITE: lambda: matched(c.match, b=NAN),
        "restarts: expected at least 0": lambda: matched(c.match, restarts=-1),
        "annealing_steps: expected at least 1": lambda: matched(
            c.match, annealing_steps=0
        ),
        "b: it has one more leaf 'z'": lambda: matched(c.match, b={**V, "z": X}),
        "symmetry: has no groups; print(symmetry) says why axes are pinned": (
            lambda: matched(c.match, symmetry=NO_GROUPS)
        ),
    },
    "match_many": {
        "models: expected at least 2 networks, got 1": lambda: many(iter([V])),
        "models[1]: it has no leaf 'out'": lambda: many([V, SHORT]),
        "models[2]: expected finite parameters, got 6": lambda: many([V, V, NAN]),
        "max_rounds: expected at least 0, got -1": lambda: many([V, V], max_rounds=-1),
    },
    "normal": {
        "scale: expected a finite number of at least 0": lambda: coefficients.normal(
            0.0, -1.0
        ),
        "mean: expected a finite number": lambda: coefficients.normal(np.nan),
    },
    "perturb": {f"fraction: {UNIT} 1.5": lambda: permutations.perturb(KEY, TWICE, 1.5)},
    "random": {
        "key: expected one key, got keys of shape (2,)": lambda: permutations.random(
            KEYS, SYMMETRY
        ),
    },
    "repair": {
        NO_OUT: lambda: c.repair(apply, V, V, SHORT, X),
        "apply: met the layers []": lambda: c.repair(apply, V, V, V, X),
        "layers: 'Dense_0' is called more than once": lambda: repaired(Shared()),
        "is inside a transformation": lambda: repaired(Rematerialised()),
        "'bias' of shape (3,); the module has (4,)": lambda: repaired_nnx(WIDE, LINEAR),
        "'layer' is inside a transformation": lambda: repaired_nnx(RematerialisedNnx()),
        "'layer' is called more than once": lambda: repaired_nnx(SharedNnx()),
        "statistics: expected those of layer '' too": lambda: repaired(
            DENSE, statistics=({}, {})
        ),
    },
    "Rescaling": {
        "values: no factor 'x'; the factors are in sign": (
            lambda: SIGNS.apply({"x": jnp.ones(3)}, V)
        ),
        "values['in sign']: expected shape (3,), got (5,)": (
            lambda: SIGNS.apply({"in sign": jnp.ones(5)}, V)
        ),
        "values['in sign']: expected signs of 1 or -1, got [1.0, 1.0, 0.5]": (
            lambda: SIGNS.apply({"in sign": jnp.array([1, 1, 0.5])}, V)
        ),
        **{
            f"['in scale']: expected positive finite scales, got [1.0, 1.0, {x}]": (
                lambda x=x: SCALES.apply({"in scale": jnp.array([1, 1, x])}, V)
            )
            for x in (-1.0, 0.0, np.inf, np.nan)
        },
        "it has no leaf 'out'": lambda: SIGNS.apply({}, SHORT),
    },
    "infer_rescaling": {
        "symmetry: expected one from infer_symmetry": lambda: c.infer_rescaling(
            c.Symmetry({}, (), (), ())
        ),
    },
    "rescale": {
        "variables: expected finite parameters": lambda: c.rescale(SIGNS, NAN),
        "variables: it has no leaf 'out'": lambda: c.rescale(SIGNS, SHORT),
        "towards: it has no leaf 'out'": lambda: c.rescale(SIGNS, V, SHORT),
        "max_sweeps: expected at least 1, got 0": (
            lambda: c.rescale(SIGNS, V, max_sweeps=0)
        ),
    },
    "reset_batch_norm": {
        "variables: expected a dictionary with 'batch_stats', got ['params']": (
            lambda: c.reset_batch_norm(nothing, {"params": {}}, X[None])
        ),
        "apply: returned 'batch_stats' as it got them": lambda: reset(same_statistics),
        "expected an NNX module with nnx.BatchStat, got none": (
            lambda: c.reset_batch_norm(LINEAR, nnx.state(LINEAR), X[None])
        ),
        "batches: expected arrays with leading axes": lambda: reset(batches=X[0]),
        "both at least 1, got shapes [(1, 0, 2)]": lambda: reset(batches=X[None, :0]),
        "leaves named 'mean' and 'var', got 'norm/median'": lambda: reset(
            statistics={"median": 0.0}
        ),
        "'norm/var' has no mean": lambda: reset(statistics={"var": 0.0}),
    },
    "robustness": {
        f"permutation['in']: {ONCE}": lambda: perturbed(TWICE),
        "permutation: no group 'x'": lambda: perturbed({"x": jnp.arange(3)}),
        "permutation: expected at least one group to perturb": lambda: perturbed({}),
        f"fractions: {UNIT} 1.5": lambda: perturbed(fractions=[0, 1.5]),
        "fractions: expected at least one": lambda: perturbed(fractions=[]),
        "trials: expected at least 1, got 0": lambda: perturbed(trials=0),
        "samples: expected at least 1, got 0": lambda: perturbed(samples=0),
        "distribution: expected one for two networks": lambda: perturbed(
            distribution=simplex(3)
        ),
        "samples: expected 5, the number of points": lambda: perturbed(
            distribution=line(5), samples=4
        ),
        "a: expected shape (2, 3) at 'in'": lambda: perturbed(a=OTHER),
    },
    "simplex": {
        "n: expected at least 2, got 1": lambda: simplex(1),
        "concentration: expected a finite number above 0": lambda: simplex(2, 0.0),
    },
    "soft_matching": {
        "regularisation: expected a finite number above 0": lambda: c.soft_matching(
            SYMMETRY, V, V, regularisation=0.0
        ),
        "steps: expected at least 1": lambda: c.soft_matching(SYMMETRY, V, V, steps=0),
        "b: expected shape": lambda: c.soft_matching(SYMMETRY, V, V, symmetry_b=NARROW),
        "batches: expected at least one": lambda: soft([]),
        "batches[0]: expected shape (5, 2)": lambda: soft([X[1:]]),
        "groups: no group 'x'": lambda: soft(groups=["x"]),
        "fixed: no group 'x'": lambda: soft(fixed={"x": X}),
        "fixed['in']: expected shape (3, 3), got (5, 2)": lambda: soft(fixed={"in": X}),
        "fixed: expected groups that are not matched": lambda: soft(
            fixed={"in": jnp.eye(3) / 3}, groups=["in"]
        ),
        "leaf_weights: no leaf 'x'": lambda: soft(leaf_weights={"x": 1}),
        "batches: the activations that carry in or": lambda: soft([X * jnp.nan]),
    },
    "straight_through_matching": {
        "batches: expected at least one": lambda: straight(batches=[]),
        "steps: expected at least 1, got 0": lambda: straight(steps=0),
        "sweeps: expected at least 1, got 0": lambda: straight(sweeps=0),
        f"start['in']: {ONCE}": lambda: straight(start=TWICE),
        "start: no group 'x'": lambda: straight(start={"x": jnp.arange(3)}),
        "a: it has no leaf 'out'": lambda: straight(a=SHORT),
        "b: it has no leaf 'out'": lambda: straight(b=SHORT),
        "loss: expected one number for each batch, got (5, 4)": lambda: straight(apply),
        "loss: expected one number for each batch, got (), ()": lambda: straight(
            lambda v, x: (loss(v, x), 0.0)
        ),
        "loss: expected a finite number at the midpoint": lambda: straight(
            lambda v, x: loss(v, x) + jnp.inf
        ),
        "optimizer: the surrogate weights are not finite after step 0": (
            lambda: straight(optimizer=optax.sgd(np.inf))
        ),
    },
    "transport": {
        "couplings: no group 'x'; the groups are in": lambda: moved({"x": np.eye(3)}),
        "couplings['in']: expected shape (3, 3), got": lambda: moved({"in": np.eye(2)}),
        "couplings['in']: expected finite numbers": lambda: moved({"in": -np.eye(3)}),
        "expected finite numbers of at least 0": lambda: moved(
            {"in": np.full((3, 3), np.nan)}
        ),
        "couplings: expected one for group 'in', which has 2": lambda: moved(
            {}, OTHER, symmetry_b=NARROW
        ),
    },
    "transitivity": {
        "models: expected at least 3 networks, got 2; for a pair see barrier": (
            lambda: triple(V, V)
        ),
        "models[0]: it has no leaf 'out'": lambda: triple(SHORT, V, V),
        "models[2] does not match models[0] at 'in'": lambda: triple(V, V, OTHER),
        "models[1]: expected finite parameters": lambda: triple(V, NAN, V),
        "symmetry: has no groups; print": lambda: triple(symmetry=NO_GROUPS),
        "0 to 2, got [0, 3]": lambda: triple(references=[0, 3]),
        "references: expected different numbers of networks": lambda: triple(
            references=[1, 1]
        ),
        "references: expected at least 0, got -1": lambda: triple(references=[-1]),
        f"match: permutation['in']: {ONCE}": lambda: triple(
            match=lambda *_, key: Matching(TWICE, jnp.zeros(()), jnp.zeros(1))
        ),
    },
    "uniform": {
        "low: expected at most high = 0.0, got 1": lambda: c.uniform(1.0, 0.0),
        "high: expected a finite number": lambda: c.uniform(0.0, np.inf),
        "granularity: expected one of element, neuron, tensor, module, model": (
            lambda: c.uniform(granularity="layer")
        ),
        "symmetry: expected a Symmetry": lambda: c.uniform(granularity="neuron"),
        "expected the leaf 'in', got 'w'": lambda: sampled(NEURON, {"w": X}),
        "key: expected one key, got keys of shape (2,)": lambda: sampled(key=KEYS),
    },
    "weight_cosine": {
        NO_OUT: lambda: c.weight_cosine(V, SHORT),
        "real or complex numbers, got none": lambda: c.weight_cosine({}, {}),
    },
    "weight_distance": {
        NO_OUT: lambda: c.weight_distance(V, SHORT),
        "real or complex numbers, got none": lambda: c.weight_distance(
            {"n": 3}, {"n": 4}
        ),
    },
    "weight_matching": {
        NOT_FINITE: lambda: weights(b=NAN),
        "a: expected shape (2, 3) at 'in', as in": lambda: weights(a=OTHER),
        "max_sweeps: expected at least 1, got 0": lambda: weights(max_sweeps=0),
        f"start['in']: {ONCE}": lambda: weights(start=TWICE),
        "groups: no group 'x'; the groups are in": lambda: weights(groups=["x"]),
        "groups: expected at least one group": lambda: weights(groups=lambda *_: False),
        f"fixed['in']: {ONCE}": lambda: weights(fixed=TWICE),
        "fixed: expected groups that are not matched, got 'in'": lambda: weights(
            groups="in", fixed=STILL
        ),
        "leaf_weights['in']: expected a finite number of at least 0, got -1": (
            lambda: weights(leaf_weights={"in": -1})
        ),
        "leaf_weights: no leaf 'x'; the leaves are in, out": lambda: weights(
            leaf_weights={"x": 1}
        ),
    },
    # Of `combinability.symmetry`.
    "cut": {
        "bounds: expected increasing positions": lambda: s.cut(THREE, [1, 9]),
        "inside an axis of 3, got [2, 1]": lambda: s.cut(THREE, [2, 1]),
    },
    "observe": {
        "variables: it has no leaf 'out'": lambda: s.observe(SYMMETRY, SHORT, X),
        "inputs: expected shape (5, 2) at '0'": lambda: s.observe(SYMMETRY, V, X.T),
    },
    "split": {"sizes: expected some that multiply": lambda: s.split(THREE, [2, 2])},
    "unify": {"labels: expected axes of one length": lambda: s.unify(THREE, FOUR)},
}
TYPE_ERRORS = {
    "Symmetry": {
        "dict group -> index array, got [": lambda: SYMMETRY.apply([0, 1], V),
    },
    "activation_matching": {
        NO_KEY: lambda: activations(X, key=3),
        "batches: expected an iterable of inputs, got Array": lambda: matched(
            c.activation_matching, jnp.ones((5, 2))
        ),
        "batches[0]: expected arrays, got str at 'x'": lambda: activations(
            {"x": "name"}
        ),
        "batches[0]: expected float32 as in the inference, got complex64": (
            lambda: activations(X + 1j)
        ),
    },
    "barrier": {
        "metric: expected a function of variables": lambda: segment(3),
        "points: expected an integer, got 2.5": lambda: segment(points=2.5),
        "metric: expected real losses, got complex64 at 'z'": lambda: segment(
            lambda v: {"z": v["in"].sum() + 1j}
        ),
        "b: expected concrete arrays, got a traced one at 'in'; samples are": (
            lambda: jax.jit(lambda b: segment(b=b).height)(V)
        ),
    },
    "barriers": {
        f"pairs: expected tuples (a, b) or (a, b, *args), got {got}": (
            lambda pair=pair: c.barriers(metric, [pair])
        )
        for got, pair in (("tuple of length 1", (V,)), ("dict of length 2", V))
    },
    "bernoulli": {
        "probability: expected a number, got 'h": lambda: coefficients.bernoulli(
            "half"
        ),
    },
    "channel_statistics": {
        "apply: expected a function": lambda: c.channel_statistics(3, V, X),
    },
    "combine": {
        "b: expected arrays, got custom_jvp at 'act'; take only": lambda: c.combine(
            V, {**V, "act": jax.nn.relu}, 0.5
        ),
        "b: expected arrays, got an array of <U1 at 'name'": lambda: c.combine(
            V, {**V, "name": np.array(["a"])}, 0.5
        ),
        "b: expected arrays, got an array of datetime64": lambda: c.combine(
            V, {**V, "day": np.array(["2024-01-01"], "datetime64[D]")}, 0.5
        ),
        "b: expected arrays, got ShapeDtypeStruct": lambda: c.combine(V, SHAPES, 0.5),
    },
    "error_overlap": {
        "labels: expected integers, got float32": lambda: c.error_overlap(
            LOGITS, LOGITS, LOGITS[:, 0]
        ),
    },
    "evaluate": {
        "samples: expected an integer, got True": lambda: evaluated(samples=True),
        "samples: expected an integer, got 2.5": lambda: evaluated(samples=2.5),
        NO_KEY: lambda: evaluated(key=3),
        "key: expected concrete arrays, got a traced one; samples": lambda: jax.vmap(
            lambda key: evaluated(key=key)
        )(KEYS),
        "args: expected concrete arrays, got a traced one at '0'": lambda: jax.grad(
            lambda x: evaluated(lambda v, x: x * v["in"].sum(), args=(x,)).sum()
        )(1.0),
        **{
            f"args: expected a tuple of arguments, got {got}; write (x,) for one": (
                lambda args=args: evaluated(args=args)
            )
            for got, args in (("ndarray", np.ones(2)), ("NoneType", None), ("dict", V))
        },
        "metric: expected a function of variables, got": lambda: evaluated(of=3),
        "metric: expected arrays of numbers, got str at 'n'": lambda: evaluated(
            lambda v: {"n": "x"}
        ),
        "metric: expected arrays for each combination, got None": lambda: evaluated(
            nothing
        ),
        "metric: expected arrays of numbers": lambda: evaluated(lambda v: KEY),
        "distribution: expected an object with a method": lambda: evaluated(
            distribution=3
        ),
        "distribution: expected something hashable": lambda: evaluated(
            distribution=coefficients.Distribution("uniform", [0.0, 1.0])
        ),
    },
    "Rescaling": {
        "values: expected a dict factor -> array, got [1.0]": (
            lambda: SIGNS.apply([1.0], V)
        ),
    },
    "embed": {
        "symmetry: expected a symmetry, as infer_symmetry returns, got dict": (
            lambda: c.embed(V, V, SYMMETRY)
        ),
        "wider: expected a symmetry": lambda: c.embed(SYMMETRY, V, V),
    },
    "infer_rescaling": {
        "symmetry: expected a symmetry": lambda: c.infer_rescaling(V),
    },
    "rescale": {
        "rescaling: expected one from infer_rescaling, got Symmetry": (
            lambda: c.rescale(SYMMETRY, V)
        ),
    },
    "transport": {
        "couplings: expected a dict group -> coupling, got SoftMatching": (
            lambda: moved(c.SoftMatching(STILL, {}))
        ),
        "symmetry_b: expected a symmetry": lambda: moved({}, symmetry_b=V),
    },
    "infer_symmetry": {
        "apply: expected a function": lambda: c.infer_symmetry(3, V, X),
        "variables: expected arrays, got custom_jvp at 'act/0'; take only": (
            lambda: c.infer_symmetry(apply, {**V, "act": [jax.nn.relu]}, X)
        ),
        "inputs: expected arrays, got str at '0/mode'": lambda: c.infer_symmetry(
            apply, V, {"x": X, "mode": "train"}
        ),
        "variables: expected nnx.state(module), or a part of it, got dict": (
            lambda: c.infer_symmetry(LINEAR, V, X)
        ),
    },
    "line": {"points: expected an integer, got 2.5": lambda: line(2.5)},
    "match": {
        NO_KEY: lambda: matched(c.match, key=3),
        "b: expected arrays, got ShapeDtypeStruct": lambda: matched(c.match, b=SHAPES),
        "leaf_weights: expected a dict from path to weight or a function": (
            lambda: matched(c.match, leaf_weights=[1.0, 0.0])
        ),
        "symmetry: expected a symmetry": lambda: matched(c.match, symmetry=V),
        "groups: expected names of groups, or a function groups(name, group) -> bool": (
            lambda: matched(c.match, groups=3)
        ),
        "max_sweeps: expected an integer, got True": lambda: matched(
            c.match, max_sweeps=True
        ),
    },
    "match_many": {
        NO_KEY: lambda: many([V, V], key=3),
        "models[1]: expected real floating-point numbers": lambda: many([V, WHOLE]),
    },
    "perturb": {
        NO_KEY: lambda: permutations.perturb(3, TWICE, 0.5),
        "permutation: expected a dict group -> index array, got [1, 2]": (
            lambda: permutations.perturb(KEY, [1, 2], 0.5)
        ),
        "fraction: expected a number, got 'a": lambda: permutations.perturb(
            KEY, TWICE, "all"
        ),
    },
    "random": {NO_KEY: lambda: permutations.random(3, SYMMETRY)},
    "register_rule": {
        "expected the name of a primitive, got none": lambda: c.register_rule(),
        "expected names of primitives, got <fu": lambda: c.register_rule(apply),
        "rule: expected a function": lambda: c.register_rule("no_such")(3),
    },
    "repair": {
        "apply: expected a function": lambda: c.repair(3, V, V, V, X),
        "statistics: expected a pair of dicts by layer": (
            lambda: repaired(DENSE, statistics={"": 1})
        ),
        "variables: expected nnx.state(module), or a part of it, got dict": (
            lambda: c.repair(LINEAR, V, V, V, X)
        ),
    },
    "reset_batch_norm": {
        "variables: expected nnx.state(module), or a part of it, got dict": (
            lambda: c.reset_batch_norm(LINEAR, V, X[None])
        ),
    },
    "robustness": {
        "permutation: expected a dict group -> index array, got Matching": (
            lambda: perturbed(Matching(STILL, jnp.zeros(()), jnp.zeros(1)))
        ),
        "fractions: expected a list of numbers, got 0.5": lambda: perturbed(
            fractions=0.5
        ),
        "distribution: expected an object": lambda: perturbed(distribution=0.5),
    },
    "soft_matching": {
        "fixed: expected a dict group -> coupling, got [1]": lambda: soft(fixed=[1]),
        "batches: expected an iterable of inputs, got": lambda: soft(jnp.ones((5, 2))),
        "batches[0]: expected float32 as in the inference, got complex64": lambda: soft(
            [X + 0j]
        ),
    },
    "straight_through_matching": {
        NO_KEY: lambda: straight(key=3),
        "steps: expected an integer, got 2.0": lambda: straight(steps=2.0),
        "batches: expected an iterable": lambda: straight(batches=X),
        "loss: expected a real number, got int32": lambda: straight(
            lambda v, x: loss(v, x).astype(int)
        ),
    },
    "transitivity": {
        NO_KEY: lambda: triple(key=3),
        "models: expected a list of networks, got <class": lambda: c.transitivity(
            metric, SYMMETRY, V, key=KEY
        ),
        "references: expected a list of integers, got 1": lambda: triple(references=1),
        "match: expected it to return an object with a dict `permutation`": (
            lambda: triple(match=lambda *_, key: STILL)
        ),
    },
    "uniform": {
        "low: expected a number, got ''": lambda: c.uniform(""),
        NO_KEY: lambda: sampled(key=3),
        "got an array of float64 of shape (2,)": lambda: sampled(key=np.zeros(2)),
        "depend on how many samples are drawn together": lambda: sampled(key=RBG),
    },
    "weight_matching": {
        NO_KEY: lambda: weights(key=3),
        UNREAL: lambda: weights(a=COMPLEX),
        "b: expected real floating-point numbers, got int32 at 'out'": lambda: weights(
            b=WHOLE
        ),
        "max_sweeps: expected an integer, got 0.5": lambda: weights(max_sweeps=0.5),
        "leaf_weights['in']: expected a number, got 'heavy'": lambda: weights(
            leaf_weights=lambda path: "heavy"
        ),
        "b: expected concrete arrays, got a traced one at 'in'": lambda: jax.jit(
            lambda b: weights(b=b)
        )(V),
    },
}
TABLES = ((VALUE_ERRORS, ValueError), (TYPE_ERRORS, TypeError))
BAD = {
    name: [
        (call, error, said)
        for table, error in TABLES
        for said, call in table.get(name, {}).items()
    ]
    for name in VALUE_ERRORS | TYPE_ERRORS
}

# What only holds values: `NamedTuple`s, protocols, types and errors; and what takes
# nothing but a symmetry, or labels and a size of any kind.
CANNOT_FAIL = {
    *("Axis", "Barrier", "Block", "Carrier", "ChannelStatistics", "Coefficients"),
    *("Correction", "Difference", "Distribution", "ErrorOverlap", "Group", "Label"),
    *("ManyMatching", "Matching", "Permutation", "Pin", "Robustness", "SoftMatching"),
    "Transitivity",
    *("CertificationError", "carriers", "identity"),
    *("concatenation", "pin", "product", "variable"),
}


@each_row(BAD)
def test_bad_input_raises(row):
    check_rejected(row, c)


def test_a_traced_permutation_is_not_looked_into():
    moved = jax.jit(SYMMETRY.apply)({"in": jnp.array([2, 0, 1])}, V)
    assert moved["in"].shape == (2, 3)


def test_plots_name_what_is_not_there():
    from combinability import plot

    found = c.Barrier(0.0, np.arange(3), {"loss": np.zeros(3)})
    for leaf, said in ((None, "got None"), ("acc", r"expected one of \['loss'\]")):
        with pytest.raises(ValueError, match=f"leaf: expected .*{said[-8:]}"):
            plot.barrier(found, leaf)


def test_nothing_is_left_out():
    public = {
        name
        for module in (c, coefficients, permutations, s)
        for name in module.__all__
        if not inspect.ismodule(getattr(module, name))
    }
    assert public == BAD.keys() | CANNOT_FAIL
    assert not BAD.keys() & CANNOT_FAIL
