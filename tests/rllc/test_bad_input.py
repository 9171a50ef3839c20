"""Input validation: errors name the argument, what was expected and what came.

One table for the whole library; `test_nothing_is_left_out` keeps it complete.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rllc
from tests.bad_input import check_rejected, each_row

NAN = float("nan")
STATE = rllc.scale_by_rllc().init(jnp.ones(3))
OTHERS = optax.adam(1e-3).init(jnp.ones(3))
EIGHT = rllc.FixedLaw(np.ones(8))
PAIR = {"a": jnp.ones(2), "b": jnp.ones(3)}
BY_LEAF = rllc.LearningLaw(groups="leaf")
BY_ARRAY = rllc.LearningLaw(groups=lambda tree: np.ones(2))
THREE_LABELS = rllc.FixedLaw(np.ones((3, 3)), {"a": "x", "b": "y", "n": "z"})
NONE_THERE = "state: expected at least one RLLC state in it, found none"
OUTSIDE = ": expected a number in (-1, 1), got 1.0; at 1 and beyond nothing"
NO_MEMORY = "memory: expected an object such as decays(0.0, 0.9)"


def after_a_step(rate):
    optimizer = rllc.rllc(0.1, law=rllc.LearningLaw(rate))
    jax.eval_shape(optimizer.update, jnp.ones(3), optimizer.init(jnp.ones(3)))


# Of each public function: calls, what they raise, and what must be said.
BAD = {
    "FixedLaw": [
        (
            lambda: rllc.FixedLaw([NAN]),
            ValueError,
            "coefficients: expected finite numbers, got [na",
        ),
        (
            lambda: rllc.FixedLaw("one"),
            ValueError,
            "coefficients: expected real numbers, got",
        ),
        (
            lambda: rllc.FixedLaw(1.0),
            ValueError,
            "coefficients: expected shape (k,) or",
        ),
    ],
    "LearningLaw": [
        (
            lambda: rllc.LearningLaw(conserve_gain="no"),
            TypeError,
            "conserve_gain: expected True or False, got 'no'",
        ),
        (
            lambda: after_a_step(lambda count: -1.0),
            ValueError,
            "rate: expected a schedule of numbers of at least 0, got -1.0",
        ),
        (
            lambda: after_a_step(lambda count: jnp.ones(2)),
            ValueError,
            "rate: expected a schedule of numbers, got one that returns shape (2,)",
        ),
        (
            lambda: rllc.LearningLaw(-1.0),
            ValueError,
            "rate: expected a finite number, at least 0",
        ),
        (
            lambda: rllc.LearningLaw(NAN),
            ValueError,
            "rate: expected a finite number, at least 0",
        ),
        (
            lambda: rllc.LearningLaw("slow"),
            ValueError,
            "rate: expected a finite number, at least 0, got 'slow'",
        ),
        (
            lambda: rllc.LearningLaw(solver=3),
            TypeError,
            "solver: expected a Ridge or a Pseudo",
        ),
        (
            lambda: rllc.LearningLaw(refresh=0),
            ValueError,
            "refresh: expected an integer of at",
        ),
        (
            lambda: rllc.LearningLaw(trust_region=-1.0),
            ValueError,
            "trust_region: expected a finite number above 0",
        ),
        (
            lambda: rllc.LearningLaw(initial=[np.inf]),
            ValueError,
            "initial: expected finite",
        ),
    ],
    "LinearMemory": [
        (
            lambda: rllc.LinearMemory([[0.5], [0.1, 0.5]], [1, 1]),
            ValueError,
            "propagator: expected rows of equal length, got [[0.5], [0.1, 0.5]]",
        ),
        (
            lambda: rllc.LinearMemory(np.ones((2, 3)), [1, 1]),
            ValueError,
            "propagator: expected a square matrix with at least one row, got shape",
        ),
        (
            lambda: rllc.LinearMemory(np.eye(2), [1]),
            ValueError,
            "input: expected shape (2,)",
        ),
        (
            lambda: rllc.LinearMemory([[NAN]], [1]),
            ValueError,
            "propagator: expected finite",
        ),
        (
            lambda: rllc.LinearMemory(np.eye(2) / 2, [1, 1], [1]),
            ValueError,
            "initial_law: expected shape (2,), one coefficient per unit, got (1,)",
        ),
    ],
    "PseudoInverse": [
        (
            lambda: rllc.PseudoInverse(-1.0),
            ValueError,
            "rcond: expected a finite number, at least 0",
        ),
    ],
    "Ridge": [
        (
            lambda: rllc.Ridge(-1.0),
            ValueError,
            "ridge: expected a finite number above 0, got -1.0",
        ),
        (
            lambda: rllc.Ridge("some"),
            ValueError,
            "ridge: expected a finite number above 0, got 'som",
        ),
    ],
    "complex_block": [
        (
            lambda: jax.jit(rllc.complex_block)(0.5, 0.3),
            TypeError,
            "radius: expected concrete numbers, got traced ones",
        ),
        (
            lambda: jax.jit(lambda x: rllc.complex_block(0.5, x))(0.3),
            TypeError,
            "angle: expected concrete numbers, got traced ones",
        ),
        (
            lambda: rllc.complex_block("half", 0.3),
            ValueError,
            "radius: expected real numbers, got dtype",
        ),
        (
            lambda: rllc.complex_block(0.5, [0.3]),
            ValueError,
            "angle: expected 0 dimension(s), got shape (1,)",
        ),
        (
            lambda: rllc.complex_block(1.5, 0.3),
            ValueError,
            "radius: expected a number in (0, 1), got",
        ),
        (
            lambda: rllc.complex_block(0.5, 0.0),
            ValueError,
            "angle: expected a finite number that is no mult",
        ),
        (
            lambda: rllc.complex_block(0.5, 0.3, 0),
            ValueError,
            "size: expected an integer of at",
        ),
    ],
    "decays": [
        (lambda: rllc.decays(), ValueError, "rates: expected at least one, got none"),
        (lambda: rllc.decays(0.0, 1.0), ValueError, f"rates{OUTSIDE}"),
        (
            lambda: rllc.decays(NAN),
            ValueError,
            "rates: expected finite numbers, got [nan]",
        ),
        (
            lambda: jax.jit(rllc.decays)(0.9),
            TypeError,
            "rates: expected concrete numbers, got traced ones",
        ),
        (
            lambda: rllc.decays("fast"),
            ValueError,
            "rates: expected real numbers, got dtype",
        ),
    ],
    "diagnostics": [(lambda: rllc.diagnostics(OTHERS), ValueError, NONE_THERE)],
    "direct_sum": [
        (
            lambda: rllc.direct_sum(),
            ValueError,
            "memories: expected at least one, got none",
        ),
        (
            lambda: rllc.direct_sum(3),
            TypeError,
            "memories: expected LinearMemory objects, got",
        ),
    ],
    "freeze": [(lambda: rllc.freeze(OTHERS), ValueError, NONE_THERE)],
    "gradient_history": [
        (
            lambda: rllc.gradient_history(0),
            ValueError,
            "k: expected an integer of at least 1",
        ),
        (
            lambda: rllc.gradient_history(1.5),
            ValueError,
            "k: expected an integer of at least 1",
        ),
    ],
    "momentum": [
        (lambda: rllc.momentum(0.1, 1.0), ValueError, f"decay{OUTSIDE}"),
        (
            lambda: jax.jit(lambda x: rllc.momentum(0.1, x))(0.9),
            TypeError,
            "decay: expected concrete numbers, got traced ones",
        ),
    ],
    "nesterov": [
        (lambda: rllc.nesterov(0.1, 1.0), ValueError, f"decay{OUTSIDE}"),
        (
            lambda: jax.jit(lambda x: rllc.nesterov(0.1, x))(0.9),
            TypeError,
            "decay: expected concrete numbers, got traced ones",
        ),
    ],
    "real_block": [
        (
            lambda: jax.jit(rllc.real_block)(0.5),
            TypeError,
            "decay: expected concrete numbers, got traced ones",
        ),
        (
            lambda: rllc.real_block("half"),
            ValueError,
            "decay: expected real numbers, got dtype",
        ),
        (lambda: rllc.real_block(1.0), ValueError, f"decay{OUTSIDE}"),
        (
            lambda: rllc.real_block(0.5, 0),
            ValueError,
            "size: expected an integer of at least 1",
        ),
    ],
    "response": [
        (
            lambda: rllc.response(3, [1.0], 5),
            TypeError,
            "memory: expected a LinearMemory, got i",
        ),
        (
            lambda: rllc.response(rllc.decays(0.9), [1.0], 0),
            ValueError,
            "length: expected an in",
        ),
        (
            lambda: rllc.response(rllc.decays(0.9), rllc.FixedLaw([1.0, 2.0]), 5),
            ValueError,
            "law: expected shape (1,) or (groups, 1), got (2,)",
        ),
    ],
    "rllc": [
        (
            lambda: rllc.rllc(0.1, mask={"w": True}),
            ValueError,
            "weight_decay: expected a number, as there is a mask",
        ),
        (lambda: rllc.rllc(0.1, memory=3), TypeError, NO_MEMORY),
        (
            lambda: rllc.rllc(-0.1),
            ValueError,
            "learning_rate: expected a finite number, at least 0, got -0.1",
        ),
        (
            lambda: rllc.rllc(0.1, weight_decay=NAN),
            ValueError,
            "weight_decay: expected a finite number, at least 0, got nan",
        ),
        (
            lambda: rllc.rllc(0.1, law=3),
            TypeError,
            "law: expected a LearningLaw or a FixedLaw",
        ),
        (
            lambda: rllc.rllc(0.1, law=EIGHT),
            ValueError,
            "one coefficient for each of the mem",
        ),
    ],
    "rllc_adam": [
        (
            lambda: rllc.rllc_adam(0.1, mask={"w": True}),
            ValueError,
            "weight_decay: expected a number, as there is a mask",
        ),
        (
            lambda: rllc.rllc_adam(
                0.1,
                rllc.LinearMemory(
                    np.diag([0.0, 0.5]), [1.0, 1.0], initial_law=[2.0, -1.0]
                ),
            ),
            ValueError,
            "memory: expected an initial_law whose gain is not 0",
        ),
        (lambda: rllc.rllc_adam(0.1, memory=3), TypeError, NO_MEMORY),
        (
            lambda: rllc.rllc_adam(np.inf),
            ValueError,
            "learning_rate: expected a finite number, at least 0, got inf",
        ),
        (
            lambda: rllc.rllc_adam(0.1, b2=jnp.bfloat16(0.999)),
            ValueError,
            "b2: expected at least float16, got bfloat16, in which 0.999 rounds to 1",
        ),
        (
            lambda: rllc.rllc_adam(0.1, b2=1.0),
            ValueError,
            "b2: expected a number in [0, 1), got 1.0",
        ),
        (
            lambda: rllc.rllc_adam(0.1, eps=-1.0),
            ValueError,
            "eps: expected a finite number, at least 0",
        ),
    ],
    "scale_by_rllc": [
        (lambda: rllc.scale_by_rllc(3), TypeError, NO_MEMORY),
        (
            lambda: rllc.scale_by_rllc(memory_dtype="int32"),
            ValueError,
            "memory_dtype: expected a floating-point dtype of at least 16 bits, got in",
        ),
        (
            lambda: rllc.scale_by_rllc(memory_dtype="float8_e5m2"),
            ValueError,
            "memory_dtype: expected a floating-point dtype of at least 16 bits, got fl",
        ),
        (
            lambda: rllc.scale_by_rllc(memory_dtype="half precision"),
            TypeError,
            "memory_dtype: expected a dtype, got 'half precision'",
        ),
        (
            lambda: rllc.scale_by_rllc().update(jnp.ones(4), STATE),
            ValueError,
            "got an array of shape (4,) where they have an array of shape (3,)",
        ),
        (
            lambda: rllc.scale_by_rllc(law=BY_ARRAY).init(jnp.ones(3)),
            ValueError,
            "groups: expected labels such as strings or integers, got [array(",
        ),
        (
            lambda: rllc.scale_by_rllc(law=BY_LEAF).update(
                PAIR, rllc.scale_by_rllc().init(PAIR)
            ),
            ValueError,
            "groups: expected one group for each law of the state, of which there are "
            "1, got 2: 0, 1",
        ),
        (
            lambda: rllc.scale_by_rllc().update(
                PAIR, rllc.scale_by_rllc(law=BY_LEAF).init(PAIR), PAIR
            ),
            ValueError,
            "groups: expected one group for each law of the state, of which there are "
            "2, got 1: 'all parameters'",
        ),
        (
            lambda: rllc.scale_by_rllc(law=THREE_LABELS).init({**PAIR, "n": 1}),
            ValueError,
            "2 group(s) that have parameters to train ('x', 'y'), got shape (3, 3)",
        ),
    ],
    "sgd": [
        (
            lambda: rllc.sgd("fast"),
            ValueError,
            "learning_rate: expected a finite number, at least 0, got 'fast'",
        ),
    ],
    "large_batch_law": [
        (
            lambda: rllc.large_batch_law(-1.0),
            ValueError,
            "rate: expected a finite number, at least 0, got -1.0",
        ),
    ],
    "scale_by_rllc_adam": [
        (lambda: rllc.scale_by_rllc_adam(memory=3), TypeError, NO_MEMORY),
        (
            lambda: rllc.scale_by_rllc_adam(b2=NAN),
            ValueError,
            "b2: expected a number in [0, 1), got nan",
        ),
        (
            lambda: rllc.scale_by_rllc_adam(law=EIGHT),
            ValueError,
            "one coefficient for each",
        ),
    ],
    "units": [
        (
            lambda: rllc.units(),
            ValueError,
            "transformations: expected at least one, got no",
        ),
        (
            lambda: rllc.units(3),
            TypeError,
            "transformations: expected optax.GradientTransform",
        ),
    ],
}

# What only holds values, a protocol, and what takes no argument.
CANNOT_FAIL = {
    "Diagnostics",
    "Memory",
    "ScaleByRllcAdamState",
    "ScaleByRllcState",
}


A = rllc.decays(0.9)
TWO = rllc.decays(0.0, 0.9)
UNITS = rllc.units(optax.identity(), optax.trace(0.9))
# Who made a state, who was given it, and what it must say.
STATES = {
    "fixed": (rllc.momentum(0.1), rllc.rllc(0.1, A), "Gram matrix of a LearningLaw"),
    "fewer": (rllc.rllc(0.1, A), rllc.rllc(0.1, TWO), "2 unit(s), got 1 unit(s)"),
    "more": (rllc.rllc(0.1, TWO), rllc.rllc(0.1, A), "1 unit(s), got 2 unit(s)"),
    "linear": (rllc.rllc(0.1, TWO), rllc.rllc(0.1, UNITS), "outputs of transf"),
    "units": (rllc.rllc(0.1, UNITS), rllc.rllc(0.1, TWO), "units of a linear memory"),
    "link": (rllc.scale_by_rllc(), rllc.rllc(0.1), "by 1 other(s), got a Scale"),
    "no link": (rllc.rllc(0.1), rllc.scale_by_rllc(), "by 0 other(s), got a Scale"),
    "decay": (rllc.rllc(0.1, weight_decay=0.1), rllc.rllc(0.1), "by 1 other(s), got"),
    "no decay": (rllc.rllc(0.1), rllc.rllc(0.1, weight_decay=0.1), "by 2 other(s)"),
    "adam": (rllc.rllc_adam(0.1, TWO), rllc.rllc(0.1, TWO), "got a ScaleByRllcAdamS"),
    "no adam": (rllc.rllc(0.1, TWO), rllc.rllc_adam(0.1, TWO), "got a ScaleByRllc"),
    "other": (optax.trace(0.9), rllc.rllc(0.1), "got a TraceState followed"),
}


@pytest.mark.parametrize("name", STATES)
def test_the_state_of_another_optimizer_is_rejected(name):
    maker, given, said = STATES[name]
    state = maker.init(jnp.ones(3))

    def call():
        given.update(jnp.ones(3), state, jnp.ones(3))

    check_rejected((call, ValueError, said), rllc)
    check_rejected((call, ValueError, "state: expected that of this"), rllc)


def test_a_frozen_law_takes_over_the_state_of_the_learning_one():
    state = rllc.rllc(0.1, TWO).init(jnp.ones(3))
    frozen = rllc.rllc(0.1, TWO, rllc.freeze(state))
    updates, _ = frozen.update(jnp.ones(3), state, jnp.ones(3))
    np.testing.assert_allclose(updates, -0.1 * TWO.initial_law.sum(), rtol=1e-6)


@each_row(BAD)
def test_bad_input_is_rejected_by_name(row):
    check_rejected(row, rllc)


def test_nothing_is_left_out():
    assert set(rllc.__all__) == BAD.keys() | CANNOT_FAIL
    assert not BAD.keys() & CANNOT_FAIL
