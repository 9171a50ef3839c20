"""Combinations a second, against a loop and against what a matrix product reaches."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.models import MLP, ResNet
from benchmarks.speed import _matmul, combinations_table, measure_combinations
from benchmarks.speed._combinations import Case, CombinationsConfig
from benchmarks.speed._matmul import Matmul, flops


def counted(module, shape):
    inputs = jnp.ones(shape)
    variables = jax.eval_shape(module.init, jax.random.key(0), inputs)
    return flops(module.apply, variables, inputs)


def test_operations_are_those_counted_by_hand():
    products = 2 * 7 * (64 * 32 + 32 * 16 + 16 * 10)
    beside = 7 * (2 * (32 + 16) + 10)  # biases, and ReLU
    assert counted(MLP(10, (32, 16)), (7, 8, 8, 1)) == products + beside


def test_operations_of_convolutions_are_counted():
    # 3×3 kernels on 32×32 pixels, a stride of two with each doubling of the channels.
    stages = 9 * (3 * 16 + 6 * 16**2) * 32**2
    stages += 9 * (16 * 32 + 5 * 32**2) * 16**2 + 9 * (32 * 64 + 5 * 64**2) * 8**2
    shortcuts = 16 * 32 * 16**2 + 32 * 64 * 8**2
    found = counted(ResNet(10, norm="layer"), (1, 32, 32, 3))
    # Padding is not counted, normalisation and ReLU are.
    assert 0.9 < found / (2 * (stages + shortcuts + 640)) < 1.1


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.setattr(_matmul, "_SECONDS", 0.0)
    case = Case(MLP(10, (16,)), (8, 8, 1), images=4)
    config = CombinationsConfig(rounds=3, seconds=0.01)
    return measure_combinations(config, selected={"small_mlp": case})


def test_the_share_is_the_rate_of_evaluation_relative_to_a_product(measured):
    found = measured["cases"]["small_mlp"]
    reached = found["flops"] * found["combinations_per_second"]["engine"]
    assert found["flops"] > 2 * 4 * (64 * 16 + 16 * 10)
    share = reached / found["matmul_flops_per_second"]
    assert found["matmul_share"] == pytest.approx(share)
    heading, row = combinations_table(measured)
    assert row[heading.index("of matmul")] == f"{100 * share:.0f} %"


def test_a_product_is_as_large_as_it_must_be_to_be_timed(monkeypatch):
    monkeypatch.setattr(_matmul, "_SMALLEST", 8)
    monkeypatch.setattr(_matmul, "_LARGEST", 32)
    matmul = Matmul()
    assert matmul.size == 32
    assert matmul.flops == 2 * 32**3 * len(jax.local_devices())
    assert matmul().shape == (len(jax.local_devices()), 32, 32)
