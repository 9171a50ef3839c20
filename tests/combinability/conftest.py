"""Most of the time goes into compiling what is computed in no time."""

import pytest

# They compare bits, or compute for long.
OPTIMIZED = (
    "test_coefficients.py",
    "test_connectivity.py",
    "test_evaluate.py",
    "test_straight_through.py",
)


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled(request):
    if request.path.name not in OPTIMIZED:
        request.getfixturevalue("little_optimized")
