"""What is wrong is refused at the door: the argument, what came, what was expected.

One table for the whole library; `test_nothing_is_left_out` keeps it complete.
"""

import re

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rllc

NAN = float("nan")
STATE = rllc.scale_by_rllc().init(jnp.ones(3))
OTHERS = optax.adam(1e-3).init(jnp.ones(3))
EIGHT = rllc.FixedLaw(np.ones(8))
NONE_THERE = "state must hold exactly one RLLC state, found 0"
OUTSIDE = "must lie in (-1, 1), got 1.0: at 1 and beyond nothing decays"
NO_MEMORY = "memory must be a memory object such as decays(0.0, 0.9)"

# Of each public function: calls, what they raise, and what must be said.
BAD = {
    "FixedLaw": [
        (
            lambda: rllc.FixedLaw([NAN]),
            ValueError,
            "coefficients must be finite, got [na",
        ),
        (
            lambda: rllc.FixedLaw("one"),
            ValueError,
            "coefficients must be real numbers, got",
        ),
        (
            lambda: rllc.FixedLaw(1.0),
            ValueError,
            "coefficients must have shape (k,) or",
        ),
    ],
    "LearningLaw": [
        (
            lambda: rllc.LearningLaw(-1.0),
            ValueError,
            "rate must be non-negative and finite",
        ),
        (
            lambda: rllc.LearningLaw(NAN),
            ValueError,
            "rate must be non-negative and finite",
        ),
        (
            lambda: rllc.LearningLaw("slow"),
            ValueError,
            "rate must be a non-negative number",
        ),
        (
            lambda: rllc.LearningLaw(solver=3),
            TypeError,
            "solver must be a Ridge or a Pseudo",
        ),
        (
            lambda: rllc.LearningLaw(refresh=0),
            ValueError,
            "refresh must be an integer of at",
        ),
        (
            lambda: rllc.LearningLaw(trust_region=-1.0),
            ValueError,
            "trust_region must be pos",
        ),
        (
            lambda: rllc.LearningLaw(initial=[np.inf]),
            ValueError,
            "initial must be finite",
        ),
    ],
    "LinearMemory": [
        (
            lambda: rllc.LinearMemory(np.ones((2, 3)), [1, 1]),
            ValueError,
            "propagator must be a square matrix with at least one row, got shape",
        ),
        (
            lambda: rllc.LinearMemory(np.eye(2), [1]),
            ValueError,
            "input must have shape (2,)",
        ),
        (
            lambda: rllc.LinearMemory([[NAN]], [1]),
            ValueError,
            "propagator must be finite",
        ),
        (
            lambda: rllc.LinearMemory(np.eye(2) / 2, [1, 1], [1]),
            ValueError,
            "initial_law must have shape (2,), one coefficient a unit, got (1,)",
        ),
    ],
    "PseudoInverse": [
        (
            lambda: rllc.PseudoInverse(-1.0),
            ValueError,
            "rcond must be non-negative and fini",
        ),
    ],
    "Ridge": [
        (
            lambda: rllc.Ridge(-1.0),
            ValueError,
            "ridge must be positive and finite, got -1.0",
        ),
        (
            lambda: rllc.Ridge("some"),
            ValueError,
            "ridge must be a positive number, got 'som",
        ),
    ],
    "complex_block": [
        (
            lambda: rllc.complex_block(1.5, 0.3),
            ValueError,
            "radius must lie in [0, 1), got",
        ),
        (
            lambda: rllc.complex_block(0.5, 0.0),
            ValueError,
            "angle must be finite and no mult",
        ),
        (
            lambda: rllc.complex_block(0.5, 0.3, 0),
            ValueError,
            "size must be an integer of at",
        ),
    ],
    "decays": [
        (lambda: rllc.decays(), ValueError, "decays needs at least one rate, got none"),
        (lambda: rllc.decays(0.0, 1.0), ValueError, f"rates {OUTSIDE}"),
        (lambda: rllc.decays(NAN), ValueError, "rates must be finite, got [nan]"),
        (
            lambda: rllc.decays("fast"),
            ValueError,
            "rates must be real numbers, got dtype",
        ),
    ],
    "diagnostics": [(lambda: rllc.diagnostics(OTHERS), ValueError, NONE_THERE)],
    "direct_sum": [
        (
            lambda: rllc.direct_sum(),
            ValueError,
            "direct_sum needs at least one memory, got",
        ),
        (
            lambda: rllc.direct_sum(3),
            TypeError,
            "memories must be LinearMemory objects, got",
        ),
    ],
    "freeze": [(lambda: rllc.freeze(OTHERS), ValueError, NONE_THERE)],
    "gradient_history": [
        (
            lambda: rllc.gradient_history(0),
            ValueError,
            "k must be an integer of at least 1",
        ),
        (
            lambda: rllc.gradient_history(1.5),
            ValueError,
            "k must be an integer of at least 1",
        ),
    ],
    "momentum": [(lambda: rllc.momentum(1.0), ValueError, OUTSIDE)],
    "nesterov": [
        (lambda: rllc.nesterov(1.0), ValueError, OUTSIDE),
        (
            lambda: rllc.nesterov(0),
            ValueError,
            "decay must not be 0, got 0: use sgd()",
        ),
    ],
    "real_block": [
        (lambda: rllc.real_block(1.0), ValueError, f"decay {OUTSIDE}"),
        (
            lambda: rllc.real_block(0.5, 0),
            ValueError,
            "size must be an integer of at least 1",
        ),
    ],
    "response": [
        (
            lambda: rllc.response(3, [1.0], 5),
            TypeError,
            "memory must be a LinearMemory, got i",
        ),
        (
            lambda: rllc.response(rllc.decays(0.9), [1.0], 0),
            ValueError,
            "length must be an in",
        ),
        (
            lambda: rllc.response(rllc.decays(0.9), rllc.FixedLaw([1.0, 2.0]), 5),
            ValueError,
            "law must have shape (1,) or (groups, 1), got (2,)",
        ),
    ],
    "rllc": [
        (lambda: rllc.rllc(0.1, memory=3), TypeError, NO_MEMORY),
        (
            lambda: rllc.rllc(0.1, law=3),
            TypeError,
            "law must be a LearningLaw or a FixedLaw",
        ),
        (
            lambda: rllc.rllc(0.1, law=EIGHT),
            ValueError,
            "one coefficient for each of the mem",
        ),
    ],
    "rllc_adam": [
        (lambda: rllc.rllc_adam(0.1, memory=3), TypeError, NO_MEMORY),
        (
            lambda: rllc.rllc_adam(0.1, b2=1.0),
            ValueError,
            "b2 must be non-negative, less",
        ),
        (lambda: rllc.rllc_adam(0.1, eps=-1.0), ValueError, "eps must be non-negative"),
    ],
    "scale_by_rllc": [
        (lambda: rllc.scale_by_rllc(3), TypeError, NO_MEMORY),
        (
            lambda: rllc.scale_by_rllc(memory_dtype="int32"),
            ValueError,
            "memory_dtype must be a floating-point dtype, got int32",
        ),
        (
            lambda: rllc.scale_by_rllc().update(jnp.ones(4), STATE),
            ValueError,
            "first difference at  of shape (4,), expected  of shape (3,)",
        ),
    ],
    "scale_by_rllc_adam": [
        (lambda: rllc.scale_by_rllc_adam(memory=3), TypeError, NO_MEMORY),
        (
            lambda: rllc.scale_by_rllc_adam(b2=NAN),
            ValueError,
            "b2 must be non-negative, le",
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
            "units needs at least one transformation, got no",
        ),
        (
            lambda: rllc.units(3),
            TypeError,
            "transformations must be optax.GradientTransform",
        ),
    ],
}

# What only holds values, a protocol, and what takes no argument.
CANNOT_FAIL = {
    "Diagnostics",
    "Memory",
    "ScaleByRllcAdamState",
    "ScaleByRllcState",
    "sgd",
}

ROWS = [row for rows in BAD.values() for row in rows]


@pytest.mark.parametrize(
    "row",
    ROWS,
    ids=[f"{name}-{row[2][:30]}" for name, rows in BAD.items() for row in rows],
)
def test_bad_input_is_refused_by_name(row):
    call, error, said = row
    with pytest.raises(error, match=re.escape(said)) as caught:
        call()
    # Not whatever some library deep inside happened to say.
    assert caught.traceback[-1].path.is_relative_to(rllc.__path__[0])


def test_nothing_is_left_out():
    assert set(rllc.__all__) == BAD.keys() | CANNOT_FAIL
    assert not BAD.keys() & CANNOT_FAIL
