"""Most of the time goes into compiling what is computed in no time."""

import pytest

# They are about bits and rounding.
OPTIMIZED = ("test_similarity_scales.py", "test_train.py", "test_train_many.py")


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled(request):
    if request.path.name not in OPTIMIZED:
        request.getfixturevalue("little_optimized")
