"""Functions and modules of users: what is compiled once, and what is read anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import stitching
from stitching import similarity

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
CALLS = {
    "bootstrap": lambda index: similarity.bootstrap(index, X, X, key=KEY, draws=3),
    "permutation_test": lambda index: similarity.permutation_test(
        index, X, X, key=KEY, permutations=3
    ),
}


class Scaled:
    """An index that reads a factor."""

    factor = 1.0

    def __call__(self, x, y):
        return (self.factor * x * y).sum()


@pytest.mark.parametrize("name", CALLS)
def test_an_index_of_your_own_is_read_anew_in_each_call(name):
    scaled, fresh = Scaled(), Scaled()
    before = CALLS[name](scaled)
    scaled.factor = fresh.factor = 3.0
    after, wanted = CALLS[name](scaled), CALLS[name](fresh)
    jax.tree.map(np.testing.assert_array_equal, after, wanted)
    same = jax.tree.map(np.array_equal, after, before)
    assert not all(jax.tree.leaves(same))


class Twice(nnx.Module):
    def __init__(self, seed):
        self.layer = nnx.Linear(3, 2, rngs=nnx.Rngs(seed))
        self.norm = nnx.BatchNorm(2, rngs=nnx.Rngs(seed))

    def __call__(self, x):
        return self.norm(self.layer(x))

    def twice(self, x):
        return 2 * self(x)


@pytest.mark.parametrize("name", ["__call__", "twice"])
def test_batches_of_an_nnx_module_are_those_of_its_present_state(name):
    module = Twice(0)
    module.eval()
    for seed in range(2):
        nnx.update(module, nnx.state(Twice(seed)))
        function = module if name == "__call__" else module.twice
        found = stitching.in_batches(function, X, batch_size=8)
        np.testing.assert_allclose(found, function(X), rtol=1e-5, atol=1e-6)


def test_an_nnx_module_that_changes_has_no_batches():
    with pytest.raises(ValueError, match=r"Twice that changes 'norm/mean.*eval\(\)"):
        stitching.in_batches(Twice(0), X)


@pytest.mark.filterwarnings("ignore:Using 'Module.sow")
def test_what_an_nnx_module_records_is_no_change():
    class Records(Twice):
        def __call__(self, x):
            self.sow(nnx.Intermediate, "seen", x)
            return super().__call__(x)

    module = Records(0)
    module.eval()
    for _ in range(2):
        found = stitching.in_batches(module, X, batch_size=8)
        assert "seen" not in vars(module)
        np.testing.assert_allclose(found, Twice.__call__(module, X), 1e-5, 1e-6)


@pytest.mark.parametrize("wrapper", [lambda function: function, jax.jit])
def test_a_function_is_traced_once(wrapper):
    traces = []

    @wrapper
    def function(x):
        traces.append(x.shape)
        return jnp.tanh(x)

    for _ in range(2):
        stitching.in_batches(function, X, batch_size=8)
    assert traces == [(8, 3)]
