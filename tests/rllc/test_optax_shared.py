"""Optax's own shared tests, out of the installed wheel, with ours on their lists."""

import ast
import functools
import importlib.util
import os
import pathlib
import re
import types
import unittest

import jax
import optax
import pytest

import rllc

UNITS = rllc.units(optax.trace(0.9), optax.trace(0.5))
FACTORIES = {
    "rllc": rllc.rllc,
    "rllc_adam": rllc.rllc_adam,
    "rllc_complex": functools.partial(rllc.rllc, memory=rllc.complex_block(0.8, 0.2)),
    "rllc_leaf": functools.partial(rllc.rllc, law=rllc.LearningLaw(groups="leaf")),
    "rllc_units": functools.partial(rllc.rllc, memory=UNITS),
}
LESS_COMMON = ("rllc_complex", "rllc_leaf")
RATES = {"rllc_adam": 1e-2, "rllc_complex": 5e-4, "rllc_units": 1e-3}
# Not about the optimizers on the lists.
ABOUT_OTHERS = ("test_explicit_dtype", "test_microbatch")
# What both modules test is run from the one that is stricter.
LEFT_OUT = {
    "contrib": ("test_state_shape_dtype_shard_stability",),
    "alias": (
        "test_gradient_accumulation",
        "test_optimizers_accept_extra_args",
        "test_optimizers_can_be_wrapped_in_inject_hyperparams",
        "test_preserve_dtype",
    ),
    "sharding": (),
}
# None of the shared tests is allowed to skip; a reason would stand here.
ALLOWED_SKIPS: dict[str, str] = {}


def listed():
    """A list of its own for each module, which may change the entries."""
    return [
        {"opt_name": name, "opt_kwargs": {"learning_rate": RATES.get(name, 1e-3)}}
        for name in FACTORIES
    ]


class _Lists(ast.NodeTransformer):
    """Puts other lists of optimizers in place of a test module's own literals."""

    def __init__(self, names):
        self.names = names

    def visit_Assign(self, node):
        literal = isinstance(node.value, ast.List | ast.Tuple | ast.Dict)
        target = node.targets[0]
        if literal and isinstance(target, ast.Name) and target.id in self.names:
            replacement = ast.Subscript(
                ast.Name("OURS", ast.Load()), ast.Constant(target.id), ast.Load()
            )
            node.value = ast.fix_missing_locations(
                ast.copy_location(replacement, node.value)
            )
        return node

    def visit_AugAssign(self, node):
        named = isinstance(node.target, ast.Name) and node.target.id in self.names
        return ast.copy_location(ast.Pass(), node) if named else node


def load(module_name, lists, test_case, factory_name=None):
    """The test case of an Optax test module, made for our optimizers."""
    spec = importlib.util.find_spec(module_name)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(pathlib.Path(spec.origin).read_text())
    assigned = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert set(lists) <= assigned, "Optax has renamed its lists"
    module = types.ModuleType(f"ours.{module_name}")
    module.__dict__.update(OURS=lists, __file__=spec.origin)
    environment = dict(os.environ)
    exec(compile(_Lists(lists).visit(tree), spec.origin, "exec"), module.__dict__)
    os.environ.clear()
    os.environ.update(environment)
    if factory_name is not None:
        assert factory_name in module.__dict__, "Optax has renamed its factory"
        # The name is the last argument of either look-up function.
        setattr(module, factory_name, lambda *arguments: FACTORIES[arguments[-1]])
    return getattr(module, test_case)


# In a dict, so that pytest does not collect the classes by themselves.
CASES = {}
CASES["contrib"] = load(
    "optax.contrib._common_test",
    {"_MAIN_OPTIMIZERS_UNDER_TEST": listed(), "_BASE_OPTIMIZERS": []},
    "ContribTest",
    "_get_opt_factory",
)
CASES["alias"] = load(
    "optax._src.alias_test",
    {"_OPTIMIZERS_UNDER_TEST": listed()},
    "AliasTest",
    "_get_opt",
)
CASES["sharding"] = load(
    "optax._src.sharding_test",
    {"OPTIMIZERS": {name: factory(1.0) for name, factory in FACTORIES.items()}},
    "ShardingTest",
)


def cases(module):
    names = unittest.TestLoader().getTestCaseNames(CASES[module])
    left_out = ABOUT_OTHERS + LEFT_OUT[module]
    return [name for name in names if not name.startswith(left_out)]


def each_case(module):
    """Those of the less common optimizers are slow: together they take long."""
    slow = pytest.mark.slow

    def marks(name):
        described = f"{name} {getattr(CASES[module], name).__doc__ or ''}"
        return [slow] if any(each in described for each in LESS_COMMON) else []

    named = [pytest.param(name, marks=marks(name)) for name in cases(module)]
    return pytest.mark.parametrize("name", named)


def run(test_case, name):
    result = unittest.TestResult()
    test_case(name).run(result)
    assert result.testsRun == 1
    assert not result.errors, result.errors[0][1]
    assert not result.failures, result.failures[0][1]
    for _, reason in result.skipped:
        assert name in ALLOWED_SKIPS, f"skipped: {reason}"


@each_case("contrib")
def test_contrib(name):
    run(CASES["contrib"], name)


@each_case("alias")
def test_alias(name):
    run(CASES["alias"], name)


@each_case("sharding")
def test_sharding(name, monkeypatch):
    # The tests compare version strings, so that '0.10' looks older than '0.7.2'.
    assert tuple(map(int, jax.__version__.split(".")[:3])) >= (0, 8, 1)
    monkeypatch.setattr(jax, "__version__", "0.9")
    run(CASES["sharding"], name)


def test_what_is_left_out_of_one_list_is_run_from_another():
    def kinds(names):
        return {re.sub(r"\d*$", "", name) for name in names}

    loader = unittest.TestLoader()
    every = set().union(*(kinds(loader.getTestCaseNames(c)) for c in CASES.values()))
    left_out = every.difference(*(kinds(cases(module)) for module in CASES))
    assert all(name.startswith(ABOUT_OTHERS) for name in left_out)


def test_every_optimizer_is_on_every_list():
    for module, test_case in CASES.items():
        tests = [getattr(test_case, name) for name in cases(module)]
        described = " ".join(f"{t.__name__} {t.__doc__ or ''}" for t in tests)
        for name in FACTORIES:
            assert name in described, (module, name)
