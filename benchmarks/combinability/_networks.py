"""How the networks that are combined are trained."""

from benchmarks.combinability._config import Config
from benchmarks.networks import Training


def training_of(config: Config) -> Training:
    """How the networks of one width are trained."""
    return Training(
        config.networks,
        config.steps,
        config.batch_size,
        config.learning_rate,
        config.rows,
        config.seed,
    )
