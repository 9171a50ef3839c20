"""The experiment: pairs of networks are stitched at every layer."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from benchmarks import data
from benchmarks.configs.stitching import Config, spread_pairs
from benchmarks.networks import (
    Task,
    configured_task,
    given_networks,
    open_run,
    trained_networks,
)
from benchmarks.runs import Folder, Progress, Run
from benchmarks.stitching import _summary
from benchmarks.stitching._result import Result
from benchmarks.stitching._studies import Studies


def run(
    config: Config,
    *,
    dataset: data.Dataset | None = None,
    model: Any = None,
    folder: Folder = None,
    progress: Progress | None = None,
    data_directory: Folder = None,
) -> Result:
    """Train or read networks, and stitch pairs of them at every layer.

    Args:
        config: which networks, pairs and maps.
        dataset: a dataset in place of the one that the configuration names.
        model: a network in its place: what `benchmarks.models.network` accepts.
        folder: the run folder, in which an interrupted run continues.
        progress: informed of stages.
        data_directory: where datasets are, and weights that are not found from here.
    """
    here, load = open_run(
        "stitching", config, dataset, model, folder, progress, data_directory
    )
    if here.finished:
        return here.result()
    with jax.default_matmul_precision(config.precision):
        task = configured_task(config, load(), model, config.width)
        other = config.other
        if other is not None:
            other = other, configured_task(other, load(), None, other.width)
        found = _run(config, here, task, other, data_directory)
    return here.finish(Result, **found)


def _run(
    config: Config,
    here: Run,
    task: Task,
    other: tuple[Config, Task] | None,
    data_directory: Folder,
) -> dict[str, Any]:
    """Return the fields of a `Result`; each stage needs only the networks."""
    studies = Studies(config, task, here.advance)
    networks = given_networks(config, task, data_directory)
    if len(networks) == 1:
        raise ValueError("weights: expected at least 2 networks to stitch, got 1")
    pairs = spread_pairs(len(networks) or config.networks, config.pairs)
    crossed, audited = pairs[: config.cross], pairs[: config.audited]
    stages = len(pairs) * (1 + len(studies.layers)) + len(crossed) + len(audited)
    stages += (1 + 2 * config.between) * (other is not None)
    here.expect(stages + 1 + (not networks))
    if not networks:
        networks, _ = _trained(config, here, task, "train", "trained.npz")
    own = here.stage("own", lambda: [studies.own_scores(each) for each in networks])
    maps: dict[str, list[Any]] = {layer.name: [] for layer in studies.layers}
    indices: dict[str, list[Any]] = {layer.name: [] for layer in studies.layers}
    crosses, audits = [], []
    for number, (i, j) in enumerate(pairs):

        def stage(
            name: str, compute: Callable[..., Any], *given: Any, i: int = i, j: int = j
        ) -> Any:
            return here.stage(
                f"pair-{i}-{j}.{name}",
                functools.partial(compute, *given, networks[i], networks[j]),
            )

        for layer in studies.layers:
            name = layer.name.replace("/", ".").lstrip("._")
            everything = number < config.deep
            maps[layer.name].append(stage(name, studies.stitch, layer, everything))
        if number < config.cross:
            crosses.append(stage("cross", studies.cross))
        if number < config.audited:
            key = jax.random.fold_in(jax.random.key(config.seed), 1000 + i)
            fresh = jax.jit(task.init)(jax.random.key(1_000_000 + i))
            audits.append(stage("audit", studies.audit, fresh, key))
        for name, values in stage("indices", studies.indices).items():
            indices[name].append(values)
    summary = {
        "stitches": {x: _summary.stitches(pairs, found) for x, found in maps.items()},
        "indices": {x: _summary.indices(pairs, found) for x, found in indices.items()},
        **_summary.correlations(pairs, maps, indices),
        "cross": _summary.cross(crossed, crosses),
        "audit": _summary.audit(audited, audits),
        "other": other and _between_kinds(here, studies, networks, *other),
    }
    return {
        "networks": {name: [scores[name] for scores in own] for name in own[0]},
        "layers": [{"name": x.name, "shape": x.shape} for x in studies.layers],
        "pairs": pairs,
        **summary,
        "claims": _summary.claims(pairs, maps, summary),
    }


def _trained(
    config: Config, here: Run, task: Task, stage: str, file: str
) -> tuple[list[Any], dict[str, list[float]]]:
    return trained_networks(
        here,
        stage,
        file,
        task,
        config.networks,
        steps=config.training_steps,
        batch_size=config.training_batch_size,
        learning_rate=config.training_learning_rate,
        seed=config.seed,
    )


def _between_kinds(
    here: Run, studies: Studies, networks: list[Any], config: Config, task: Task
) -> dict[str, Any]:
    """Train networks of another kind; return the fields of an `Other`."""
    ahead = Studies(config, task, here.advance, studies.layers)
    back = Studies(studies.config, studies.task, here.advance, ahead.layers)
    others, scores = _trained(config, here, task, "train-other", "other.npz")
    pairs = [(i, i) for i in range(min(len(networks), len(others)))]
    found: dict[str, list[Any]] = {"ahead": [], "back": []}
    for i, _ in pairs:
        for name, direction, a, b in (
            ("ahead", ahead, networks[i], others[i]),
            ("back", back, others[i], networks[i]),
        ):
            compute = functools.partial(direction.cross, a, b)
            found[name].append(here.stage(f"other-{i}.{name}", compute))
    return {
        "model": config.model,
        "width": config.width,
        "layers": [{"name": x.name, "shape": x.shape} for x in ahead.layers],
        "test_accuracy": scores["test_accuracy"],
        **{name: _summary.cross(pairs, x, same=False) for name, x in found.items()},
    }
