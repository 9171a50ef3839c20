"""The arrows between the packages, and what their `__init__` may hold."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
OURS = {"rllc", "combinability", "stitching", "benchmarks"}
MAY_IMPORT = {
    "rllc": set(),
    "stitching": set(),
    "combinability": {"stitching"},
    "benchmarks": {"rllc", "combinability", "stitching"},
}
PACKAGES = sorted(package for package in MAY_IMPORT if (ROOT / package).is_dir())
# What the design lets a library depend on.
LIBRARY_DEPENDENCIES = {"jax", "optax", "flax", "chex", "numpy", "scipy", "jaxtyping"}


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


def imported(path):
    """Absolute names of all modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_along_the_arrows(package):
    for path in modules(package):
        for name in imported(path):
            top = name.split(".")[0]
            if top in OURS - {package}:
                assert top in MAY_IMPORT[package], f"{path} imports {name}"
                if package == "combinability":
                    assert name.startswith("stitching.similarity"), f"{path}: {name}"


@pytest.mark.parametrize("package", [p for p in PACKAGES if p != "benchmarks"])
def test_libraries_know_nothing_but_the_declared_dependencies(package):
    import sys

    for path in modules(package):
        for name in imported(path):
            top = name.split(".")[0]
            allowed = LIBRARY_DEPENDENCIES | OURS | set(sys.stdlib_module_names)
            if path.name == "plot.py":  # which nothing else imports
                allowed = allowed | {"matplotlib"}
            assert top in allowed, f"{path} imports {name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_init_only_names_the_public_things(package):
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    for node in tree.body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        named = isinstance(node, ast.Import | ast.ImportFrom | ast.Assign)
        assert docstring or named, ast.unparse(node)


INTERNALS = ("jax.extend", "jax.interpreters", "jax._src", "jax.core", "jaxlib")
# Libraries whose every use of them is in one file.
LIBRARIES = ["combinability", "rllc", "stitching"]


@pytest.mark.parametrize("package", LIBRARIES)
def test_only_one_file_of_a_library_imports_the_internals_of_jax(package):
    for path in modules(package):
        if path.name == "_jaxpr.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", ())]
            source = getattr(node, "module", "") or ""
            if isinstance(node, ast.ImportFrom) and source in ("jax", "jax.core"):
                names = [f"{source}.{name}" for name in names]
            elif isinstance(node, ast.ImportFrom):
                names = [source]
            elif isinstance(node, ast.Attribute):
                names = [ast.unparse(node)]
            elif not isinstance(node, ast.Import):
                continue
            for name in set(names) - {"jax.core.Tracer"}:
                assert not f"{name}.".startswith(
                    tuple(f"{each}." for each in INTERNALS)
                ), f"{path} uses {name}"
