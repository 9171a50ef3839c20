"""Bad input raises: the argument, what was expected, what was given.

One table for the whole library; `test_nothing_is_left_out` keeps it complete.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np

import combinability
from combinability import coefficients, permutations
from combinability import symmetry as symmetries
from tests.bad_input import check_refused, each_row


def apply(variables, x):
    return jnp.tanh(x @ variables["in"]) @ variables["out"]


def metric(variables):
    return variables["in"].sum()


def loss(variables, batch):
    return apply(variables, batch).sum()


V = {"in": jnp.ones((2, 3)), "out": jnp.ones((3, 4))}
SHORT = {"in": jnp.ones((2, 3))}
NAN = {**V, "in": jnp.full((2, 3), jnp.nan)}
X, KEY = jnp.ones((5, 2)), jax.random.key(0)
SHAPES = jax.eval_shape(lambda: V)
NO_VALUES = "b: expected arrays, got ShapeDtypeStruct at 'in'"
SYMMETRY = combinability.infer_symmetry(apply, V, X)
NARROW = combinability.infer_symmetry(
    apply, {"in": jnp.ones((2, 2)), "out": jnp.ones((2, 4))}, X
)
TWICE = {"in": jnp.array([0, 0, 1])}
FLOATS = {"in": jnp.arange(3.0)}
UNKNOWN = {"hidden": jnp.arange(3)}
LOGITS, LABELS = np.ones((5, 4), np.float32), np.zeros(5, int)
CORRECTION = {"Dense_9": combinability.Correction(jnp.ones(4), jnp.ones(4))}
LINE, THREE, FOUR = (
    combinability.coefficients.line(3),
    symmetries.variable(3),
    symmetries.variable(4),
)
ONCE = "expected each of 0, …, 2 once in every row, got [0, 0, 1]"
NO_OUT = "b does not match a: it has no leaf 'out'"
NO_KEY = "key: expected a PRNG key as jax.random.key(0), got 3"

c, s = combinability, symmetries

# Of each public function: calls, what they raise, and what must be said.
BAD = {
    "Symmetry": [
        (lambda: SYMMETRY.apply(TWICE, V), ValueError, f"permutation['in']: {ONCE}"),
        (
            lambda: SYMMETRY.apply(UNKNOWN, V),
            ValueError,
            "no group 'hidden'; the groups",
        ),
        (
            lambda: SYMMETRY.apply([0, 1], V),
            TypeError,
            "dict group -> index array, got [",
        ),
        (lambda: SYMMETRY.apply({}, SHORT), ValueError, "it has no leaf 'out'"),
        (
            lambda: SYMMETRY.split(SHORT),
            ValueError,
            "variables: it has no leaf 'out'",
        ),
        (lambda: SYMMETRY.join([], V), ValueError, "parts: expected one for each of 2"),
    ],
    "activation_matching": [
        (lambda: matched(c.activation_matching, [X], key=3), TypeError, NO_KEY),
        (
            lambda: matched(c.activation_matching, []),
            ValueError,
            "batches: expected at",
        ),
        (
            lambda: matched(c.activation_matching, [{"x": "name"}]),
            TypeError,
            "batches[0]: expected arrays, got str at 'x'",
        ),
        (
            lambda: matched(c.activation_matching, [X], b=SHORT),
            ValueError,
            "b: it has no leaf 'out'",
        ),
        (
            lambda: matched(c.activation_matching, [X], similarity="cosine"),
            ValueError,
            "similarity: expected",
        ),
    ],
    "barriers": [
        (lambda: c.barriers(metric, []), ValueError, "pairs: expected at least one"),
    ],
    "barrier": [
        (
            lambda: c.barrier(metric, V, V, points=2),
            ValueError,
            "points: expected at least",
        ),
        (lambda: c.barrier(metric, V, SHORT), ValueError, NO_OUT),
        (
            lambda: c.barrier(metric, V, NAN),
            ValueError,
            "b: expected finite parameters",
        ),
        (
            lambda: c.barrier(3, V, V),
            TypeError,
            "metric: expected a function of variables",
        ),
    ],
    "bernoulli": [
        (
            lambda: coefficients.bernoulli(1.5),
            ValueError,
            "probability: expected a number in [0, 1]",
        ),
        (
            lambda: coefficients.bernoulli("half"),
            TypeError,
            "probability: expected a number, got 'h",
        ),
        (
            lambda: coefficients.bernoulli(np.nan),
            ValueError,
            "probability: expected a finite number",
        ),
    ],
    "beta": [
        (
            lambda: coefficients.beta(0.0, 1.0),
            ValueError,
            "alpha: expected a finite number above 0",
        ),
        (
            lambda: coefficients.beta(1.0, -1.0),
            ValueError,
            "beta: expected a finite number above 0",
        ),
    ],
    "channel_statistics": [
        (
            lambda: c.channel_statistics(apply, V, X),
            ValueError,
            "apply: met the layers []",
        ),
        (
            lambda: c.channel_statistics(3, V, X),
            TypeError,
            "apply: expected a function",
        ),
    ],
    "combine": [
        (
            lambda: c.combine(V, {**V, "act": jax.nn.relu}, 0.5),
            TypeError,
            "b: expected arrays, got custom_jvp at 'act'; take only",
        ),
        (
            lambda: c.combine(V, {**V, "name": np.array(["a"])}, 0.5),
            TypeError,
            "b: expected arrays, got an array of <U1 at 'name'; take only",
        ),
        (lambda: c.combine(V, SHORT, 0.5), ValueError, NO_OUT),
        (lambda: c.combine(V, SHAPES, 0.5), TypeError, NO_VALUES),
        (
            lambda: c.combine(V, V, None),
            ValueError,
            "coefficients: it has no leaf 'in'",
        ),
        (
            lambda: c.combine(V, V, {"in": 1.0}),
            ValueError,
            "coefficients: it has no leaf 'out'",
        ),
    ],
    "combine_many": [
        (
            lambda: c.combine_many([], jnp.ones(1)),
            ValueError,
            "models: expected at least o",
        ),
        (
            lambda: c.combine_many([V, V], jnp.ones(3)),
            ValueError,
            "coefficients: expected",
        ),
    ],
    "compose": [
        (
            lambda: permutations.compose(SYMMETRY, UNKNOWN, {}),
            ValueError,
            "outer: no group 'hidden'",
        ),
        (
            lambda: permutations.compose(SYMMETRY, {}, TWICE),
            ValueError,
            f"inner['in']: {ONCE}",
        ),
    ],
    "corrected": [
        (
            lambda: c.corrected(apply, CORRECTION)(V, X),
            ValueError,
            "expected ['Dense_9']",
        ),
    ],
    "weight_cosine": [(lambda: c.weight_cosine(V, SHORT), ValueError, NO_OUT)],
    "cycle_defect": [
        (
            lambda: c.cycle_defect(SYMMETRY),
            ValueError,
            "permutations: expected at least o",
        ),
        (lambda: c.cycle_defect(SYMMETRY, TWICE), ValueError, ONCE),
    ],
    "difference": [
        (lambda: c.difference(apply, V, SHORT, X), ValueError, NO_OUT),
        (
            lambda: c.difference(apply, V, V, X, LABELS[:3]),
            ValueError,
            "labels: expected s",
        ),
    ],
    "embed": [
        (
            lambda: c.embed(SYMMETRY, V, NARROW),
            ValueError,
            "wider: expected at least 3 units in group 'in', got 2",
        ),
        (
            lambda: c.embed(SYMMETRY, SHORT, SYMMETRY),
            ValueError,
            "variables: ",
        ),
    ],
    "disagreement": [
        (
            lambda: c.disagreement(LOGITS, LOGITS[:4]),
            ValueError,
            "expected the same shape",
        ),
    ],
    "distance": [
        (
            lambda: permutations.distance({"in": jnp.arange(3)}, {"in": jnp.arange(4)}),
            ValueError,
            "second['in']: expected the shape of first['in'], (3,), got (4,)",
        ),
    ],
    "error_overlap": [
        (
            lambda: c.error_overlap(LOGITS, LOGITS, LABELS[:3]),
            ValueError,
            "labels: expected",
        ),
        (
            lambda: c.error_overlap(LOGITS, LOGITS, LOGITS[:, 0]),
            TypeError,
            "labels: expecte",
        ),
        (
            lambda: c.error_overlap(LOGITS, LOGITS[1:], LABELS),
            ValueError,
            "the same shape",
        ),
    ],
    "evaluate": [
        (
            lambda: evaluated(samples=0),
            ValueError,
            "samples: expected at least 1, got 0",
        ),
        (
            lambda: evaluated(samples=True),
            TypeError,
            "samples: expected an integer, got Tr",
        ),
        (
            lambda: evaluated(batch_size=-1),
            ValueError,
            "batch_size: expected at least 1, got -1",
        ),
        (lambda: evaluated(key=3), TypeError, NO_KEY),
        (
            lambda: evaluated(of=3),
            TypeError,
            "metric: expected a function of variables, got",
        ),
        (lambda: evaluated(b=SHORT), ValueError, NO_OUT),
        (lambda: evaluated(b=NAN), ValueError, "b: expected finite parameters"),
        (
            lambda: evaluated(distribution=3),
            TypeError,
            "distribution: expected an object",
        ),
        (lambda: evaluated(distribution=LINE), ValueError, "samples: expected 3"),
        (
            lambda: evaluated(devices=[]),
            ValueError,
            "devices: expected different devices",
        ),
    ],
    "evaluate_many": [
        (
            lambda: evaluated_many([], coefficients.simplex(2)),
            ValueError,
            "models: expected at least on",
        ),
        (
            lambda: evaluated_many([V], coefficients.simplex(2)),
            ValueError,
            "distribution: ",
        ),
        (
            lambda: evaluated_many([V, V], c.uniform()),
            ValueError,
            "which is for two networks",
        ),
    ],
    "fold_corrections": [
        (
            lambda: c.fold_corrections(
                {"params": {"Dense_9": {"kernel": X.T, "bias": jnp.ones(5)}}},
                CORRECTION,
            ),
            ValueError,
            "corrections: expected shape (5,) for layer 'Dense_9', got (4,)",
        ),
        (
            lambda: c.fold_corrections(V, CORRECTION),
            ValueError,
            "variables: expected those of a Flax",
        ),
        (
            lambda: c.fold_corrections({"params": V}, CORRECTION),
            ValueError,
            "no layer 'Dense_9'",
        ),
    ],
    "infer_symmetry": [
        (lambda: c.infer_symmetry(3, V, X), TypeError, "apply: expected a function"),
        (
            lambda: c.infer_symmetry(apply, {}, X),
            ValueError,
            "variables: expected a tree",
        ),
        (
            lambda: c.infer_symmetry(apply, {**V, "act": [jax.nn.relu]}, X),
            TypeError,
            "variables: expected arrays, got custom_jvp at 'act/0'; take only",
        ),
        (
            lambda: c.infer_symmetry(apply, V, {"x": X, "mode": "train"}),
            TypeError,
            "inputs: expected arrays, got str at '0/mode'",
        ),
    ],
    "invert": [
        (
            lambda: permutations.invert(SYMMETRY, TWICE),
            ValueError,
            f"permutation['in']: {ONCE}",
        ),
        (
            lambda: permutations.invert(SYMMETRY, FLOATS),
            ValueError,
            "expected integers of shape (3,)",
        ),
    ],
    "jensen_shannon": [
        (
            lambda: c.jensen_shannon(LOGITS, LOGITS.T),
            ValueError,
            "expected the same shape",
        ),
    ],
    "weight_distance": [(lambda: c.weight_distance(V, SHORT), ValueError, NO_OUT)],
    "line": [
        (
            lambda: coefficients.line(1),
            ValueError,
            "points: expected at least 2, got 1",
        ),
        (
            lambda: coefficients.line(2.5),
            TypeError,
            "points: expected an integer, got 2.5",
        ),
    ],
    "match": [
        (lambda: matched(c.match, key=3), TypeError, NO_KEY),
        (lambda: matched(c.match, b=SHAPES), TypeError, NO_VALUES),
        (
            lambda: matched(c.match, leaf_weights=[1.0, 0.0]),
            TypeError,
            "leaf_weights: expected a dict from path to weight or a function",
        ),
        (
            lambda: matched(c.match, b=NAN),
            ValueError,
            "b: expected finite parameters, got 6 that are NaN or infinite at 'in'",
        ),
        (
            lambda: matched(c.match, restarts=-1),
            ValueError,
            "restarts: expected at least 0",
        ),
    ],
    "match_many": [
        (
            lambda: c.match_many(SYMMETRY, [V], key=KEY),
            ValueError,
            "models: expected at least 2 networks, got 1",
        ),
        (lambda: c.match_many(SYMMETRY, [V, V], key=3), TypeError, NO_KEY),
        (
            lambda: c.match_many(SYMMETRY, [V, SHORT], key=KEY),
            ValueError,
            "models[1]: it has no leaf 'out'",
        ),
    ],
    "normal": [
        (
            lambda: coefficients.normal(0.0, -1.0),
            ValueError,
            "scale: expected a number of at",
        )
    ],
    "perturb": [
        (lambda: permutations.perturb(3, TWICE, 0.5), TypeError, NO_KEY),
        (
            lambda: permutations.perturb(KEY, TWICE, 1.5),
            ValueError,
            "fraction: expected a number in [0",
        ),
        (
            lambda: permutations.perturb(KEY, TWICE, "all"),
            TypeError,
            "fraction: expected a number, got",
        ),
    ],
    "random": [
        (lambda: permutations.random(3, SYMMETRY), TypeError, NO_KEY),
        (
            lambda: permutations.random(jax.random.split(KEY), SYMMETRY),
            ValueError,
            "key: expected one key, got keys of shape (2,)",
        ),
    ],
    "register_rule": [
        (
            lambda: c.register_rule(),
            TypeError,
            "expected the name of a primitive, got none",
        ),
        (
            lambda: c.register_rule(apply),
            TypeError,
            "expected names of primitives, got <fu",
        ),
        (lambda: c.register_rule("no_such")(3), TypeError, "rule: expected a function"),
    ],
    "repair": [
        (lambda: c.repair(apply, V, V, SHORT, X), ValueError, NO_OUT),
        (lambda: c.repair(3, V, V, V, X), TypeError, "apply: expected a function"),
        (lambda: c.repair(apply, V, V, V, X), ValueError, "apply: met the layers []"),
    ],
    "reset_batch_norm": [
        (
            lambda: c.reset_batch_norm(lambda v, x: (x, {}), V, X),
            ValueError,
            "variables: expected a dictionary with 'batch_stats'",
        ),
    ],
    "robustness": [
        (
            lambda: c.robustness(metric, SYMMETRY, V, V, TWICE, key=KEY),
            ValueError,
            f"permutation['in']: {ONCE}",
        ),
        (
            lambda: c.robustness(metric, SYMMETRY, V, V, {}, key=KEY, fractions=[2.0]),
            ValueError,
            "permutation: expected at least one group",
        ),
    ],
    "simplex": [
        (lambda: coefficients.simplex(1), ValueError, "n: expected at least 2, got 1"),
        (
            lambda: coefficients.simplex(2, concentration=0.0),
            ValueError,
            "concentration: expected a f",
        ),
    ],
    "straight_through_matching": [
        (lambda: straight(key=3), TypeError, NO_KEY),
        (lambda: straight(batches=[]), ValueError, "batches: expected at least one"),
        (lambda: straight(steps=0), ValueError, "steps: expected at least 1, got 0"),
        (lambda: straight(start=TWICE), ValueError, f"start['in']: {ONCE}"),
    ],
    "transitivity": [
        (
            lambda: c.transitivity(metric, SYMMETRY, [V, V], key=KEY),
            ValueError,
            "models: expected at least 3 networks, got 2; for a pair see barrier",
        ),
    ],
    "uniform": [
        (
            lambda: c.uniform(1.0, 0.0),
            ValueError,
            "low: expected at most high = 0.0, got 1",
        ),
        (lambda: c.uniform(0.0, np.inf), ValueError, "high: expected a finite number"),
        (
            lambda: c.uniform(granularity="layer"),
            ValueError,
            "granularity: expected one of",
        ),
        (
            lambda: c.uniform(granularity="neuron"),
            ValueError,
            "symmetry: expected a Symmetry for gra",
        ),
    ],
    "weight_matching": [
        (lambda: matched(c.weight_matching, key=3), TypeError, NO_KEY),
        (
            lambda: matched(c.weight_matching, b=NAN),
            ValueError,
            "b: expected finite parameters",
        ),
        (
            lambda: matched(c.weight_matching, start=TWICE),
            ValueError,
            f"start['in']: {ONCE}",
        ),
        (
            lambda: matched(c.weight_matching, groups=["hidden"]),
            ValueError,
            "groups: no group 'hidden'; the groups are",
        ),
        (
            lambda: matched(c.weight_matching, fixed=TWICE),
            ValueError,
            f"fixed['in']: {ONCE}",
        ),
        (
            lambda: matched(c.weight_matching, leaf_weights={"in": -1}),
            ValueError,
            "leaf_weights['in']: expected at least 0, got -1",
        ),
        (
            lambda: matched(c.weight_matching, leaf_weights={"kernel": 1}),
            ValueError,
            "leaf_weights: no leaf 'kernel'; the leaves are",
        ),
    ],
    # Of `combinability.symmetry`.
    "cut": [
        (
            lambda: s.cut(THREE, [1, 9]),
            ValueError,
            "bounds: expected increasing positions",
        ),
        (lambda: s.cut(THREE, [2, 1]), ValueError, "inside an axis of 3, got [2, 1]"),
    ],
    "observe": [
        (
            lambda: s.observe(SYMMETRY, SHORT, X),
            ValueError,
            "variables: it has no leaf 'out'",
        ),
        (
            lambda: s.observe(SYMMETRY, V, X.T),
            ValueError,
            "inputs: expected shape (5, 2) at '0'",
        ),
    ],
    "split": [
        (
            lambda: s.split(THREE, [2, 2]),
            ValueError,
            "sizes: expected some that multiply",
        ),
    ],
    "unify": [
        (
            lambda: s.unify(THREE, FOUR),
            ValueError,
            "labels: expected axes of one length",
        ),
    ],
}

# What only holds values: `NamedTuple`s, protocols, types and errors; and what takes
# nothing but a symmetry, or labels and a size of any kind.
CANNOT_FAIL = {
    *("Axis", "Barrier", "Block", "Carrier", "ChannelStatistics", "Coefficients"),
    *("Correction", "Difference", "Distribution", "ErrorOverlap", "Group", "Label"),
    *("ManyMatching", "Matching", "Permutation", "Pin", "Robustness", "Transitivity"),
    *("CertificationError", "carriers", "identity"),
    *("concatenation", "pin", "product", "variable"),
}


def matched(function, *more, b=V, key=KEY, **options):
    return function(SYMMETRY, V, b, *more, key=key, **options)


def straight(batches=(X,), key=KEY, **options):
    return combinability.straight_through_matching(
        SYMMETRY, loss, V, V, batches, key=key, **options
    )


def evaluated(of=metric, b=V, distribution=None, **options):
    distribution = combinability.uniform() if distribution is None else distribution
    given = {"key": KEY, "samples": 2, **options}
    return combinability.evaluate(of, V, b, distribution, **given)


def evaluated_many(models, distribution):
    return combinability.evaluate_many(metric, models, distribution, key=KEY, samples=2)


@each_row(BAD)
def test_bad_input_raises(row):
    check_refused(row, combinability)


def test_a_traced_permutation_is_not_looked_into():
    moved = jax.jit(SYMMETRY.apply)({"in": jnp.array([2, 0, 1])}, V)
    assert moved["in"].shape == (2, 3)


def test_nothing_is_left_out():
    public = {
        name
        for module in (combinability, coefficients, permutations, symmetries)
        for name in module.__all__
        if not inspect.ismodule(getattr(module, name))
    }
    assert public == BAD.keys() | CANNOT_FAIL
    assert not BAD.keys() & CANNOT_FAIL
