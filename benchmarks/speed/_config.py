"""What measurements of speed are asked."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class CombinabilitySpeedConfig:
    """What is timed: matching of ResNet-20, and combinations.

    Args:
      widths: ResNet-20 with LayerNorm and 16, 32 and 64 channels times each of these is
        matched to a permuted and noisy copy.
      rounds: How often each program is timed, in turns.
      samples: Numbers of combinations that are evaluated.
      seed: Of weights, permutations and noise.
      large: Large networks with random weights that are matched once: "MLP 512",
        "MLP 2048", "ResNet-50", "GPT-2-small" (minutes, and 4 GB of memory).
    """

    widths: tuple[int, ...] = (4, 16)
    rounds: int = 5
    samples: tuple[int, ...] = (48, 300, 1000)
    seed: int = 0
    large: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class StitchingSpeedConfig:
    """What is timed: task-loss matching of Tiny-10, and measures from moments.

    Args:
      rounds: How often each program is timed, in turns.
      seconds: How long training takes in a round, about, for each layer and way.
      batch_size: Images a step.
      samples: Of the activations whose CKA and least squares are timed.
      features: Of each of these.
      seed: Of these.
    """

    rounds: int = 7
    seconds: float = 1.0
    batch_size: int = 100
    samples: int = 10_000
    features: int = 512
    seed: int = 0
