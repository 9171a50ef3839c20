"""Signs and scales: the function stays, and what was planted is undone."""

import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import combinability
from tests.combinability.families import FAMILIES

X = jnp.ones((4, 5))


def mlp(activation, widths=(6, 7)):
    layers = [x for width in widths for x in (nn.Dense(width), activation)]
    return nn.Sequential([*layers, nn.Dense(3)])


class Convolutional(nn.Module):
    """BatchNorm, pooling, a residual connection, a depthwise layer, flattening."""

    @nn.compact
    def __call__(self, x):
        for width in (4, 5):
            x = nn.Conv(width, (3, 3))(x)
            x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = x + nn.Conv(5, (1, 1), name="back")(nn.relu(nn.Conv(6, (3, 3))(x)))
        x = nn.leaky_relu(nn.Conv(5, (3, 3), feature_group_count=5)(x))
        return nn.Dense(3)(x.reshape(len(x), -1))


def drawn(model, x, seed=0):
    """Random variables, statistics included: vectors positive."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    rng = np.random.default_rng(seed)

    def leaf(like):
        values = rng.normal(size=like.shape)
        return jnp.asarray(
            values if len(like.shape) > 1 else np.exp(values), like.dtype
        )

    return jax.tree.map(leaf, shapes)


def found(model, x=X, seed=0):
    variables = drawn(model, x, seed)
    symmetry = combinability.infer_symmetry(model.apply, variables, x)
    return variables, combinability.infer_rescaling(symmetry)


def random_values(rescaling, seed=1):
    rng, values = np.random.default_rng(seed), {}
    for name, factor in rescaling.factors.items():
        group = rescaling.symmetry.groups[factor.group]
        noise = rng.normal(size=(*group.blocks, group.size))
        values[name] = np.sign(noise) if factor.kind == "sign" else np.exp(noise)
    return values


def test_a_rescaling_may_be_pickled():
    variables, rescaling = found(mlp(nn.relu))
    again = pickle.loads(pickle.dumps(rescaling))
    assert again == rescaling
    values = random_values(rescaling)
    scaled = [each.apply(values, variables) for each in (again, rescaling)]
    assert jax.tree.all(jax.tree.map(np.array_equal, *scaled))


def where(rescaling, name):
    """Leaf -> exponent."""
    symmetry = rescaling.symmetry
    leaves = [symmetry.leaves[block.leaf].path for block in symmetry.blocks]
    return {leaves[n]: e for n, _, e in rescaling.factors[name].acts}


def printed(x):
    jax.debug.callback(lambda x: None, x)
    return nn.relu(x)


@pytest.mark.parametrize(
    ("activation", "kinds"),
    [
        (nn.relu, {"scale"}),
        (printed, {"scale"}),
        (nn.leaky_relu, {"scale"}),
        (jnp.tanh, {"sign"}),
        (jnp.abs, {"scale", "sign"}),
        (lambda x: x, {"scale", "sign"}),
        (nn.gelu, set()),
        (nn.sigmoid, set()),
        (nn.relu6, set()),
        (lambda x: nn.relu(x - 1), set()),
        (nn.softplus, set()),
    ],
)
def test_activations_let_pass_what_they_should(activation, kinds):
    _, rescaling = found(mlp(activation))
    assert {factor.kind for factor in rescaling.factors.values()} == kinds
    assert len(rescaling.factors) == 2 * len(kinds)


def test_exponents_of_dense_layers_follow_from_the_activation():
    _, rescaling = found(mlp(nn.relu))
    kernel, bias = "params/layers_0/kernel", "params/layers_0/bias"
    after = "params/layers_2/kernel"
    assert where(rescaling, "layers_0 scale") == {kernel: 1, bias: 1, after: -1}
    _, rescaling = found(mlp(lambda x: nn.relu(x) ** 2))
    assert where(rescaling, "layers_0 scale") == {kernel: 1, bias: 1, after: -2}


def test_batch_norm_has_scales_before_and_after_it_and_signs_before_it():
    image = jnp.ones((2, 8, 8, 3))
    _, rescaling = found(Convolutional(), image)
    mean, scale = "batch_stats/BatchNorm_0/mean", "params/BatchNorm_0/scale"
    before = {mean: 1, scale: -1, "params/Conv_0/bias": 1, "params/Conv_0/kernel": 1}
    assert where(rescaling, "Conv_0 scale") == before
    after = {"params/BatchNorm_0/bias": 1, scale: 1, "params/Conv_1/kernel": -1}
    assert where(rescaling, "Conv_0 scale 2") == after
    assert where(rescaling, "Conv_0 sign") == dict.fromkeys(before, 1)
    # All that meets on the residual stream has one scale, after BatchNorm.
    stream = [
        n for n in rescaling.factors if "params/back/kernel" in where(rescaling, n)
    ]
    assert len(stream) == 2


def test_statistics_of_the_batch_leave_only_signs():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.BatchNorm(use_running_average=False)(nn.Dense(6)(x))
            return nn.Dense(2)(jnp.tanh(x))

    model = Net()

    def apply(variables, x):
        return model.apply(variables, x, mutable=["batch_stats"])[0]

    x = jax.random.normal(jax.random.key(0), (4, 5))
    variables = drawn(model, x)
    symmetry = combinability.infer_symmetry(apply, variables, x)
    rescaling = combinability.infer_rescaling(symmetry)
    assert {factor.kind for factor in rescaling.factors.values()} == {"sign"}


NETWORKS = {
    "relu": (mlp(nn.relu), X),
    "tanh": (mlp(jnp.tanh), X),
    "linear": (mlp(lambda x: x), X),
    "convolutional": (Convolutional(), jnp.ones((2, 8, 8, 3))),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_factors_keep_the_function(name, x64):
    model, x = NETWORKS[name]
    variables, rescaling = found(model, x)
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)
    x = jax.random.normal(jax.random.key(0), x.shape, jnp.float64)
    scaled = rescaling.apply(random_values(rescaling), variables)
    assert not np.allclose(jax.tree.leaves(scaled)[-1], jax.tree.leaves(variables)[-1])
    wanted = model.apply(variables, x)
    for moved in (
        scaled,
        combinability.rescale(rescaling, scaled),
        combinability.rescale(rescaling, scaled, towards=drawn(model, x, 5)),
    ):
        np.testing.assert_allclose(model.apply(moved, x), wanted, rtol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_that_differ_by_factors_have_one_canonical_form(name, x64):
    model, x = NETWORKS[name]
    variables, rescaling = found(model, x)
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)
    scaled = rescaling.apply(random_values(rescaling), variables)
    first, second = (combinability.rescale(rescaling, v) for v in (variables, scaled))
    for x, y in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["relu", "tanh", "convolutional"])
def test_planted_factors_are_undone(name, x64):
    model, x = NETWORKS[name]
    variables, rescaling = found(model, x)
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)
    scaled = rescaling.apply(random_values(rescaling), variables)
    back = combinability.rescale(rescaling, scaled, towards=variables)
    for x, y in zip(jax.tree.leaves(back), jax.tree.leaves(variables), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-9)


def test_balanced_units_have_equal_norms_coming_in_and_going_out(x64):
    variables, rescaling = found(mlp(nn.relu))
    layers = combinability.rescale(rescaling, variables)["params"]
    for first, second in (("layers_0", "layers_2"), ("layers_2", "layers_4")):
        coming = (layers[first]["kernel"] ** 2).sum(0) + layers[first]["bias"] ** 2
        going = (layers[second]["kernel"] ** 2).sum(1)
        np.testing.assert_allclose(coming, going, rtol=1e-5)


def squared_distance(x, y):
    return sum(
        map(jnp.sum, jax.tree.leaves(jax.tree.map(lambda a, b: (a - b) ** 2, x, y)))
    )


@pytest.mark.parametrize("activation", [nn.relu, jnp.tanh])
def test_no_other_factor_of_a_unit_brings_a_network_closer(activation, x64):
    """Against a grid of scales, or the other sign, for each unit alone."""
    a, rescaling = found(mlp(activation, (4,)))
    b = combinability.rescale(rescaling, drawn(mlp(activation, (4,)), X, 3), towards=a)
    least = squared_distance(a, b)
    tried = [-1.0] if activation is jnp.tanh else np.exp(np.linspace(-2, 2, 41))
    (name,) = rescaling.factors
    for unit in range(4):
        for value in tried:
            moved = rescaling.apply(
                {name: np.ones(4) + (value - 1) * np.eye(4)[unit]}, b
            )
            assert squared_distance(a, moved) > least * (1 - 1e-6)


def test_dead_units_keep_their_scale():
    variables, rescaling = found(mlp(nn.relu, (4,)))
    kernel = variables["params"]["layers_2"]["kernel"]
    variables["params"]["layers_2"]["kernel"] = kernel.at[1].set(0)
    balanced = combinability.rescale(rescaling, variables)["params"]["layers_0"]
    given = variables["params"]["layers_0"]
    np.testing.assert_array_equal(balanced["kernel"][:, 1], given["kernel"][:, 1])
    assert not np.allclose(balanced["kernel"][:, 0], given["kernel"][:, 0])


@pytest.mark.parametrize("name", ["mixture_of_experts", "mixtral_by_gather"])
def test_hidden_units_of_experts_have_scales_of_their_own(name):
    """One for each unit of each expert; experts, which they lie within, have none."""
    built = FAMILIES[name]()
    symmetry = combinability.infer_symmetry(built.apply, built.variables, *built.inputs)
    factors = combinability.infer_rescaling(symmetry).factors
    assert "scale" in {factor.kind for factor in factors.values()}
    assert all(symmetry.groups[factor.group].within for factor in factors.values())


SOUND = [
    "attention",
    "bottleneck",
    "dense_block",
    "fourier_layer",
    "lstm",
    "modulated_convolution",
    "stacked_layers",
    "top_two_experts",
    "u_net_by_repeat",
    "weight_normalisation",
]


@pytest.mark.parametrize("name", [name for name in SOUND if name in FAMILIES])
def test_factors_of_a_family_pass_certification(name):
    built = FAMILIES[name]()
    symmetry = combinability.infer_symmetry(built.apply, built.variables, *built.inputs)
    combinability.infer_rescaling(symmetry)


def test_a_recurrent_tanh_network_has_signs():
    def apply(v, xs):
        def step(state, x):
            state = jnp.tanh(x @ v["in"] + state @ v["kernel"])
            return state, state

        return jax.lax.scan(step, jnp.zeros(6), xs)[1] @ v["out"]

    shapes = {"in": (5, 6), "kernel": (6, 6), "out": (6, 2)}
    variables = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes.items()}
    symmetry = combinability.infer_symmetry(apply, variables, X)
    (factor,) = combinability.infer_rescaling(symmetry).factors.values()
    assert factor.kind == "sign"
    assert [act.exponent for act in factor.acts] == [1, 1, 1, 1]
