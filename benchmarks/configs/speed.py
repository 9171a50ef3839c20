"""Options of the measurements of speed."""

import dataclasses

from benchmarks._options import check_counts, check_positive

# Of `combinability`: large networks with random weights.
LARGE = ("MLP 512", "MLP 2048", "GPT-2-small")
# Of `stitching`: how many images there are.
IMAGES = 2000


@dataclasses.dataclass(frozen=True)
class Rllc:
    """What is timed.

    Args:
        parameters: how many float32 parameters.
        rounds: how often each optimizer is timed, alternately.
    """

    parameters: int = 10_000_000
    rounds: int = 31

    def __post_init__(self):
        check_counts(self, parameters=1_100_000, rounds=3)


@dataclasses.dataclass(frozen=True)
class Combinability:
    """What is timed: matching of ResNet-20, and combinations.

    Args:
        widths: ResNet-20 with LayerNorm and 16, 32 and 64 channels times each of these
            is matched to a permuted and noisy copy.
        rounds: how often each program is timed, alternately; first calls 3 times.
        samples: numbers of combinations that are evaluated.
        seed: of weights, permutations, noise and the order of the groups.
        large: large networks with random weights that are matched once: "MLP 512",
            "MLP 2048", "GPT-2-small" (minutes, and 4 GB of memory).
    """

    widths: tuple[int, ...] = (4, 16)
    rounds: int = 5
    samples: tuple[int, ...] = (48, 300, 1000)
    seed: int = 0
    large: tuple[str, ...] = ()

    def __post_init__(self):
        check_counts(self, widths=1, rounds=3, samples=1, seed=0)
        unknown = [name for name in self.large if name not in LARGE]
        if unknown:
            known = ", ".join(LARGE)
            raise ValueError(f"large: expected some of {known}, got {unknown[0]!r}")


@dataclasses.dataclass(frozen=True)
class Stitching:
    """What is timed: task-loss matching of Tiny-10, and measures from moments.

    Args:
        rounds: how often each program is timed, alternately.
        seconds: how long each training takes in a round, about.
        batch_size: images per step.
        samples: of the activations whose CKA and least squares are timed.
        features: of each of these.
        seed: of these.
    """

    rounds: int = 7
    seconds: float = 1.0
    batch_size: int = 100
    samples: int = 10_000
    features: int = 512
    seed: int = 0

    def __post_init__(self):
        check_counts(self, rounds=3, batch_size=1, features=1, seed=0)
        check_positive(self, "seconds")
        if self.batch_size > IMAGES:
            raise ValueError(
                f"batch_size: expected at most {IMAGES}, got {self.batch_size}"
            )
        if self.features >= self.samples:
            raise ValueError(
                f"features: expected fewer than samples={self.samples}, "
                f"got {self.features}"
            )


CONFIGS = {"rllc": Rllc, "combinability": Combinability, "stitching": Stitching}
