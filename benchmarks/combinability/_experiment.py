"""The experiment: networks of each width are trained, matched and combined."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import data
from benchmarks.combinability import _studies
from benchmarks.combinability._matchings import matched
from benchmarks.combinability._result import Result
from benchmarks.combinability._variances import variances
from benchmarks.configs.combinability import Config
from benchmarks.intervals import judged
from benchmarks.networks import (
    Task,
    configured_task,
    given_networks,
    open_run,
    scores_of,
    trained_networks,
)
from benchmarks.runs import Folder, Progress, Run

# A combination works if its test error is at most this above its parents' mean.
TOLERANCE = 0.02
# A substantial perturbation moves this part of the matched units.
SUBSTANTIAL = 0.2
# Different is a disagreement of at least this part of that of two seeds.
DIFFERENT = 0.5


def run(
    config: Config,
    *,
    dataset: data.Dataset | None = None,
    model: Any = None,
    folder: Folder = None,
    progress: Progress | None = None,
    data_directory: Folder = None,
) -> Result:
    """Train or read networks of each width, match them, and combine them.

    Args:
        config: what to train and how much to evaluate.
        dataset: a dataset in place of the one that the configuration names.
        model: a network in its place, of one width: what `benchmarks.models.network`
            accepts.
        folder: the run folder, in which an interrupted run continues.
        progress: informed of stages.
        data_directory: where datasets are, and weights that are not found from here.
    """
    if not config.weights:
        _check_count("networks", config.networks)
    here, load = open_run(
        "combinability", config, dataset, model, folder, progress, data_directory
    )
    if here.finished:
        return here.result()
    widths = config.chosen_widths if model is None else (1,)
    here.expect(len(widths) * (8 + len(_studies.CELLS) + len(config.matchings)))
    found = {}
    with jax.default_matmul_precision(config.precision):
        for width in widths:
            task = configured_task(config, load(), model, width)
            found[str(width)] = _run_width(config, here, task, width, data_directory)
    return here.finish(Result, widths=found)


def _run_width(
    config: Config, here: Run, task: Task, width: int, data_directory: Folder
) -> dict[str, Any]:
    """Return the fields of a `Width`."""

    def stage(name: str, compute: Callable[[], Any]) -> Any:
        return here.stage(f"width-{width}.{name}", compute)

    metrics = _studies.make_metrics(task, config.rows, config.calibration, config.seed)
    variables = given_networks(config, task, data_directory)
    if variables:
        _check_count("weights", len(variables))
        trained = stage("train", lambda: scores_of(task, variables, here.advance))
    else:
        variables, trained = trained_networks(
            here,
            f"width-{width}.train",
            f"width-{width}.npz",
            task,
            config.networks,
            steps=config.steps,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            rows=config.rows,
            seed=config.seed,
        )
    key = jax.random.fold_in(jax.random.key(config.seed), width)
    study = _studies.Study(
        config, metrics, variables, key, here.advance, here.checkpoint
    )
    study.scores = stage("parents", study.parents)
    by_weights = stage("match", study.match)
    for number, (i, j) in enumerate(by_weights["matching"]["pairs"]):
        found = by_weights["permutations"].items()
        indices = {group: jnp.asarray(index[number]) for group, index in found}
        study.permutations[i, j] = indices

    def combine(number: int, cell: _studies.Cell) -> Any:
        drawn = jax.random.fold_in(key, number)
        return stage(f"hypercube-{number}", lambda: study.combine(cell, drawn))

    result = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables[0])),
        "symmetry": str(study.symmetry),
        "networks": trained,
        "parents": study.scores,
        "matching": by_weights["matching"],
        "transitivity": by_weights["transitivity"],
        "controls": stage("controls", study.controls),
        "hypercube": {
            cell.name: combine(number, cell)
            for number, cell in enumerate(_studies.CELLS)
        },
        "matchings": {
            name: stage(f"matching-{name}", lambda name=name: matched(study, name, key))
            for name in config.matchings
        },
        "variances": stage("variances", lambda: variances(study)),
        "robustness": stage("robustness", study.robustness),
        "difference": stage("difference", study.difference),
        "landscape": stage("landscape", study.landscape),
    }
    return result | {"claims": claims(result)}


def _check_count(name: str, count: int) -> None:
    if count < 3:
        raise ValueError(
            f"{name}: expected at least 3 networks, as transitivity needs a third, got "
            f"{count}"
        )


def claims(of_width: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a `Claim` for each statement of the paper's abstract.

    The abstract gives no numbers, so the criteria are ours, fixed before any run. A
    claim holds if the whole 95 % interval over networks is on the right side of its
    bound. Whether combinations differ is moot where they do not work: a broken network
    differs from everything.
    """
    cube, perturbed = of_width["hypercube"], of_width["robustness"]

    def excess(cell: str) -> dict[str, Any]:
        return cube[cell]["test_error"]["excess_95"]

    fractions = perturbed["fractions"]
    place = min(range(len(fractions)), key=lambda i: abs(fractions[i] - SUBSTANTIAL))
    through = of_width["transitivity"]["barriers"]["through"]["test_error"]
    worst = "95th percentile of the test error beyond the parents'"
    moved = f"test error beyond the parents', {fractions[place]:.0%} moved"
    rows = [
        ("combinable in the hypercube", worst, excess("uniform [0, 1], element")),
        ("combinable at its vertices", worst, excess("vertices, element")),
        (
            "combinable in its vicinity, [−0.25, 1.25]",
            worst,
            excess("uniform [−0.25, 1.25], element"),
        ),
        ("transitive", "barrier through a third network, test error", through),
        ("robust", moved, perturbed["rows"][place]["excess"]["test_error"]),
    ]
    found = [
        judged(claim, measure, number, TOLERANCE, "at most")
        for claim, measure, number in rows
    ]
    works = found[0]["verdict"] == "holds"
    relative = of_width["difference"]["relative"]
    apart = "disagreement relative to that of two seeds"
    for kind, name in (("parents", "its parents"), ("combinations", "one another")):
        claim = f"different from {name}"
        row = judged(claim, apart, relative[kind], DIFFERENT, "at least")
        found.append(row if works else row | {"verdict": "moot"})
    return found
