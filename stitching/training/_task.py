"""What is trained: what all stitches share, and what each is given."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from jaxtyping import PRNGKeyArray, PyTree

from stitching.training._program import Program

Strategy = Literal["vmap", "scan", "loop"]
STRATEGIES: tuple[Strategy, ...] = ("vmap", "scan", "loop")
Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Task:
    """What all stitches that train together have in common.

    Attributes:
        program: the stitched network and the optimizer.
        steps: how many each takes.
        batch_size: samples a step.
        record: after how many steps the map is recorded.
        keep: whether network 1's activations are kept; None if they fit.
        strategy: how steps are taken; None for the fastest.
        progress: called as `progress(done, total)`.
        devices: what stitches side by side are spread over; None for the default one.
    """

    program: Program
    steps: int
    batch_size: int
    record: Sequence[int]
    keep: bool | None
    strategy: Strategy | None
    progress: Progress | None
    devices: Sequence[Any] | None = None


class Given(NamedTuple):
    """What each stitch is given; what is the same object for several is shared.

    Attributes:
        variables_1: of network 1.
        variables_2: of network 2.
        x: all samples.
        target: of all samples.
        key: of the initial layer and the order of the minibatches.
        initial: variables of the layer.
        activation: what network 1 gives for all samples; None if not known.
        hyperparameters: of the optimizer.
    """

    variables_1: PyTree
    variables_2: PyTree
    x: PyTree
    target: Any
    key: PRNGKeyArray
    initial: PyTree
    activation: PyTree
    hyperparameters: PyTree
