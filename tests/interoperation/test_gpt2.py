"""A network of GPT-2's names and shapes: symmetry, matching, cutting and stitching."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import combinability
import stitching
from tests.interoperation import gpt2

MODEL = gpt2.GPT2(vocabulary=31, context=12, width=16, layers=2, heads=2)
TOKENS = jnp.asarray(np.random.default_rng(0).integers(31, size=(8, 10)))


def random_state():
    """Random weights by Hugging Face's names, as its file of GPT-2 has them."""
    random, width = np.random.default_rng(1), MODEL.width
    shapes = {"wte.weight": (MODEL.vocabulary, width)}
    shapes |= {"wpe.weight": (MODEL.context, width), "ln_f.weight": (width,)}
    shapes |= {"ln_f.bias": (width,)}
    for i in range(MODEL.layers):
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h.{i}.{norm}.weight": (width,), f"h.{i}.{norm}.bias": (width,)}
        for layer, into, out in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, 4 * width),
            ("mlp.c_proj", 4 * width, width),
        ):
            shapes[f"h.{i}.{layer}.weight"] = (into, out)
            shapes[f"h.{i}.{layer}.bias"] = (out,)
    return {
        f"transformer.{name}": random.normal(0, 0.4, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def variables(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpt2") / "model.safetensors"
    save_file(random_state(), path)
    return gpt2.load(path)


@pytest.fixture(scope="module")
def symmetry(variables):
    return combinability.infer_symmetry(MODEL.apply, variables, TOKENS)


@pytest.fixture(scope="module")
def permuted(variables, symmetry):
    permutation = combinability.permutations.random(jax.random.key(0), symmetry)
    return symmetry.apply(permutation, variables)


@functools.cache
def apply():
    return jax.jit(MODEL.apply)


def assert_close(got, wanted):
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * scale)


def test_the_file_has_the_variables_of_the_module(variables):
    initial = jax.eval_shape(MODEL.init, jax.random.key(0), TOKENS)
    shapes = jax.tree.map(np.shape, variables)
    assert shapes == jax.tree.map(np.shape, initial)


def test_stream_heads_and_hidden_units_may_be_permuted(symmetry):
    """And head sizes within each head, of queries and keys apart from values."""
    sizes = collections.Counter(
        (group.size, len(group.within)) for group in symmetry.groups.values()
    )
    stream, heads, head_size, hidden = (16, 0), (2, 0), (8, 1), (64, 0)
    layers = MODEL.layers
    expected = {stream: 1, heads: layers, head_size: 2 * layers, hidden: layers}
    assert sizes == expected


def test_a_permuted_copy_computes_the_same_and_is_matched(
    variables, permuted, symmetry
):
    logits = apply()(variables, TOKENS)
    assert_close(apply()(permuted, TOKENS), logits)
    matching = combinability.match(
        symmetry, variables, permuted, key=jax.random.key(1), restarts=0
    )
    aligned = symmetry.apply(matching.permutation, permuted)
    jax.tree.map(np.testing.assert_array_equal, aligned, variables)


@pytest.mark.parametrize("block", ["h_0", "h_1"])
def test_blocks_are_cut_and_stitched(block, variables, permuted):
    cut = stitching.cut(MODEL, block, TOKENS)
    activation = cut.front(variables, TOKENS)
    logits = apply()(variables, TOKENS)
    assert cut.is_bottleneck
    assert_close(cut.back(variables, activation), logits)
    # The copy's residual stream is a permutation of ours: the best matching of units
    # stitches its front to our back without any loss.
    moments = stitching.moments(cut.front(permuted, TOKENS), activation)
    fit = stitching.permutation(moments)
    assert_close(cut.back(variables, fit(cut.front(permuted, TOKENS))), logits)


@pytest.mark.slow
def test_hugging_face_computes_the_same_logits(variables):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=MODEL.vocabulary,
        n_positions=MODEL.context,
        n_embd=MODEL.width,
        n_layer=MODEL.layers,
        n_head=MODEL.heads,
        bos_token_id=0,
        eos_token_id=0,
    )
    network = transformers.GPT2LMHeadModel(config).eval()
    tensors = {name: torch.from_numpy(a) for name, a in random_state().items()}
    loaded = network.load_state_dict(tensors, strict=False)
    assert not loaded.unexpected_keys
    assert set(loaded.missing_keys) <= {"lm_head.weight"}
    with torch.no_grad():
        expected = network(torch.from_numpy(np.array(TOKENS))).logits.numpy()
    assert_close(apply()(variables, TOKENS), expected)
