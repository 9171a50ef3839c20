"""Eight virtual devices and one compilation cache for the whole session."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiled at the third of LLVM's levels, the default, every shape of random numbers
# takes a second, at the second a fifth of that. What XLA itself does is the same. What
# the environment says comes last and wins.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=2 "
    + os.environ.get("XLA_FLAGS", "")
)

import jax
import pytest


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


@pytest.fixture
def x64():
    """Float64 arithmetic for one test."""
    with jax.enable_x64(True):
        yield
