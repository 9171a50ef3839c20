"""How precisely networks are computed is asked for by name, and happens."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from benchmarks import combinability as combinability_benchmark
from benchmarks import data, models, rllc
from benchmarks import stitching as stitching_benchmark
from benchmarks.__main__ import main
from benchmarks.networks import make_task
from benchmarks.rllc._experiment import compare
from benchmarks.runs import Run, read_result

PRODUCTS = ("dot_general", "conv_general_dilated")


def stages(stage) -> Any:
    """A run of which only the stages are asked for."""
    return SimpleNamespace(stage=stage, checkpoint=None)


def task():
    digits = data.load("digits")
    return make_task(digits, models.build("mlp", digits))


def _run_with_stages(experiment, stage, options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "stage", lambda _, name, compute, **__: stage(name, compute))
        experiment.run(experiment.Config(**options))


EXPERIMENTS = {
    "rllc": lambda stage, **options: compare(
        rllc.Config(**options), stages(stage), task()
    ),
    "combinability": lambda stage, **options: _run_with_stages(
        combinability_benchmark, stage, options
    ),
    "stitching": lambda stage, **options: _run_with_stages(
        stitching_benchmark, stage, options
    ),
}


def products(program):
    """The equations of a program that are products, in order, wherever they are."""
    for equation in program.eqns:
        if equation.primitive.name in PRODUCTS:
            yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from products(inner)


def dtypes(module, inputs):
    """Of the operands of each product of a network, of its variables and its logits."""
    variables = jax.eval_shape(module.init, jax.random.key(0), inputs)
    traced = jax.make_jaxpr(module.apply)(variables, inputs)
    seen = [
        {str(operand.aval.dtype) for operand in equation.invars}
        for equation in products(traced.jaxpr)
    ]
    (logits,) = traced.out_avals
    kept = {str(leaf.dtype) for leaf in jax.tree.leaves(variables)}
    return seen, kept, str(logits.dtype)


def dataset_of(kind, shape):
    inputs = np.zeros((2, *shape), np.int32 if kind == "text" else np.float32)
    targets = np.zeros(inputs.shape if kind == "text" else 2, np.int32)
    split = data.Split(inputs, targets)
    return data.Dataset("some", split, split, split, 10, kind)


@pytest.mark.parametrize("name", models.NAMES)
def test_all_layers_but_the_last_compute_in_the_dtype(name):
    text = name == "transformer"
    dataset = dataset_of(*(("text", (8,)) if text else ("image", (32, 32, 1))))
    inputs = jnp.asarray(dataset.train.inputs)
    (*hidden, last), kept, logits = dtypes(
        models.build(name, dataset, jnp.bfloat16), inputs
    )
    assert hidden
    assert all(found == {"bfloat16"} for found in hidden)
    assert last == kept == {"float32"}
    assert logits == "float32"
    plain, kept, _ = dtypes(models.build(name, dataset), inputs)
    assert len(plain) == len(hidden) + 1
    assert all(found == kept == {"float32"} for found in plain)


@pytest.mark.parametrize(
    ("model", "width"),
    [("mlp", 8), ("resnet20", 1), ("resnet20_layernorm", 1), ("cnn", None)],
)
def test_networks_that_are_combined_or_stitched_compute_in_the_dtype(model, width):
    digits = data.load("digits")
    module = models.build(model, digits, jnp.bfloat16, width=width)
    (*hidden, last), _, logits = dtypes(module, jnp.zeros((1, 8, 8, 1)))
    assert all(found == {"bfloat16"} for found in hidden)
    assert last == {"float32"}
    assert logits == "float32"


@pytest.mark.parametrize("experiment", ["combinability", "stitching"])
def test_an_experiment_builds_its_networks_in_the_dtype(experiment, monkeypatch):
    asked = []

    def seen(name, dataset, dtype, **options):
        asked.append(dtype)
        raise Seen

    monkeypatch.setattr(models, "build", seen)
    with pytest.raises(Seen):
        EXPERIMENTS[experiment](None, dtype="bfloat16")
    assert asked == [jnp.bfloat16]


class Seen(Exception):
    """Stops an experiment in its first stage."""


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("precision", ["default", "high", "highest"])
def test_every_stage_computes_in_the_precision(experiment, precision):
    def stage(name, compute):
        program = jax.make_jaxpr(jnp.matmul)(jnp.ones((2, 2)), jnp.ones((2, 2)))
        (product,) = products(program.jaxpr)
        raise Seen({str(side) for side in product.params["precision"]})

    with pytest.raises(Seen) as seen:
        EXPERIMENTS[experiment](stage, precision=precision)
    assert seen.value.args == ({precision.upper()},)


def test_the_result_says_what_was_asked(tmp_path):
    asked = ["rllc", "--methods", "sgd", "--schedules", "constant", "--trials", "1"]
    asked += ["--seeds", "1", "--steps", "2", "--evaluations", "1", "--problems"]
    asked += ["--precision", "high", "--dtype", "bfloat16"]
    assert main([*asked, "--out", str(tmp_path / "run")]) == 0
    result = read_result(tmp_path / "run")
    assert result["config"]["precision"] == "high"
    assert result["config"]["dtype"] == "bfloat16"
    found = result["methods"]["sgd"]["constant"]["curves"]["train_loss"][0][0]
    assert 0 < found < 10


@pytest.mark.parametrize("command", EXPERIMENTS)
def test_the_command_line_rejects_unknown_names(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--dtype", "float8"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "--dtype" in said
    assert "float8" in said
