"""Eight virtual devices and one compilation cache for the whole session."""

import gc
import importlib.metadata
import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
# Most of the time goes into compiling many small programs, so tests compile without
# optimizations, which takes less than half as long; doctests and child processes too.
# Those that are marked `optimized` compile at the second of LLVM's levels: at the
# third, the default, every shape of random numbers takes a second, five times as long.
# One module per program, and in jaxlib 0.10 the older of two emitters of fusions (later
# versions have only the other one), take half of the rest. What the environment says
# comes last and wins.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ["XLA_FLAGS"] = " ".join(
    (
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=2",
        "--xla_cpu_parallel_codegen_split_count=1",
        "--xla_cpu_use_fusion_emitters=false"
        if importlib.metadata.version("jaxlib").startswith("0.10.")
        else "",
        os.environ.get("XLA_FLAGS", ""),
    )
)
# By default XLA has one thread per device, and each waits for the others in a sum over
# devices: two such programs at once could wait for each other for ever.
os.environ.setdefault("PJRT_NPROC", "32")

import jax
import pytest

# The files that take longest, so that no process starts one when the others are ready.
STARTED_FIRST = (
    "rllc/test_optax_shared.py",
    "stitching/test_cut_scans.py",
    "stitching/test_similarity.py",
    "rllc/test_leaves.py",
    "rllc/test_sharding.py",
    "benchmarks/test_stitching.py",
    "benchmarks/test_own.py",
    "benchmarks/test_rllc.py",
    "benchmarks/test_combinability.py",
    "combinability/test_families.py",
    "rllc/test_low_precision.py",
    "stitching/test_similarity_scales.py",
    "rllc/test_robustness.py",
    "stitching/test_layers.py",
    "combinability/test_fuzz_symmetry.py",
    "benchmarks/test_speed.py",
    "stitching/test_report_audit.py",
    "stitching/test_layer_moments.py",
    "test_readme.py",
    "combinability/test_activation_matching.py",
    "benchmarks/test_tour.py",
)


def pytest_collection_modifyitems(items):
    """The order in which `--no-loadscope-reorder` hands files out."""
    folder = pathlib.Path(__file__).parent
    places = {folder / name: place for place, name in enumerate(STARTED_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


QUICK = jax.config.read("jax_disable_most_optimizations")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Compile with all optimizations what is marked `optimized`."""
    quick = QUICK and item.get_closest_marker("optimized") is None
    if quick != jax.config.read("jax_disable_most_optimizations"):
        jax.config.update("jax_disable_most_optimizations", quick)
        jax.clear_caches()  # they do not know that option


def pytest_collection_finish():
    """What is imported by now stays: the garbage collector need not look at it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Equal programs are compiled once a session, by whichever process is first.

    Name a folder in `JAX_COMPILATION_CACHE_DIR` to keep them from session to session.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        session = tmp_path_factory.getbasetemp()
        if "PYTEST_XDIST_WORKER" in os.environ:
            session = session.parent
        jax.config.update("jax_compilation_cache_dir", str(session / "compilations"))
    # Most of the time goes into many small programs.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture(scope="module", autouse=True)
def programs_are_freed():
    """Free compiled programs after each file.

    Each is several memory mappings, of which Linux allows a process 65,530.
    """
    yield
    jax.clear_caches()


@pytest.fixture
def x64():
    """Float64 arithmetic for one test."""
    with jax.enable_x64(True):
        yield
