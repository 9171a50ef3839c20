"""A taste of combinability: two networks, a thousand combinations, in seconds."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax

import combinability
import rllc
from benchmarks import data
from benchmarks.combinability._config import Config
from benchmarks.combinability._hypercube import CELLS, run_cell
from benchmarks.combinability._networks import training_of
from benchmarks.combinability._scoring import Judge, make_judge
from benchmarks.networks import Task, make_task, module_of, train_networks

WIDTH = 256
CONFIG = Config(
    networks=2, steps=300, rows=300, calibration=100, samples=1000, batch=16
)
_NAMES = ("uniform [0, 1], element, not matched", "uniform [0, 1], element")


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Two networks that differ in their seed alone, and how they are aligned.

    Attributes:
      task: What they were trained on.
      judge: The rows that they, and what is made of them, are measured on.
      networks: Their variables, as they were trained.
      symmetry: Of their architecture.
      matching: The second towards the first.
    """

    task: Task
    judge: Judge
    networks: tuple[Any, Any]
    symmetry: combinability.Symmetry
    matching: combinability.Matching

    @property
    def aligned(self) -> Any:
        """The second network with its units in the order of the first's."""
        return self.symmetry.apply(self.matching.permutation, self.networks[1])


def train_pair(dataset: data.Dataset) -> Pair:
    """Trains two MLPs with RLLC on Adam's scaling, and aligns them by their weights.

    Args:
      dataset: Images.

    Returns:
      The pair; the same for the same dataset.
    """
    module = module_of(CONFIG.model, WIDTH, dataset)
    task = make_task(dataset, module)
    judge = make_judge(task, CONFIG.rows, CONFIG.calibration, CONFIG.seed)
    trained, _ = train_networks(
        training_of(CONFIG), task, scaling=rllc.scale_by_rllc_adam
    )
    a, b = (jax.tree.map(jax.numpy.asarray, variables) for variables in trained)
    example = judge.calibration.inputs[:2]
    symmetry = combinability.infer_symmetry(judge.apply, a, example)
    matching = combinability.match(symmetry, a, b, key=jax.random.key(CONFIG.seed))
    return Pair(task, judge, (a, b), symmetry, matching)


def taste(
    pair: Pair, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Combines two networks at random, before and after their alignment.

    Args:
      pair: The networks.
      progress: Called as `progress(done, total)`, in combinations.

    Returns:
      "combinability" of a tour, of the schema in `benchmarks.runs`.
    """
    scores = jax.jit(pair.judge.scores)
    parents = [{m: float(v) for m, v in scores(x).items()} for x in pair.networks]
    cells = {cell.name: cell for cell in CELLS if cell.name in _NAMES}
    cube = {}
    for place, name in enumerate(_NAMES):

        def shown(done: int, total: int, place: int = place) -> None:
            if progress:
                progress(place * total + done, len(_NAMES) * total)

        cube[name] = run_cell(
            cells[name],
            pair.judge,
            pair.symmetry,
            [(0, 1)],
            lambda i, j: (*pair.networks, pair.aligned),
            parents,
            CONFIG.samples,
            CONFIG.batch,
            jax.random.key(CONFIG.seed),
            shown,
        )
    return {
        "width": WIDTH,
        "symmetry": str(pair.symmetry),
        "log10_equivalent": _log10_equivalent(pair.symmetry),
        "starts": dict(pair.matching.starts or {}),
        "parents": parents,
        "hypercube": cube,
    }


def _log10_equivalent(symmetry: combinability.Symmetry) -> float:
    """Of the number of permutations, each of which computes the same function."""
    indices = combinability.permutations.identity(symmetry).values()
    blocks = [(index.size // index.shape[-1], index.shape[-1]) for index in indices]
    return sum(n * math.lgamma(size + 1) for n, size in blocks) / math.log(10)
