"""The experiment: pairs of networks are stitched at every layer."""

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import data
from benchmarks._precision import computed_in
from benchmarks.intervals import Pair
from benchmarks.networks import (
    Task,
    Training,
    check_options,
    load_networks,
    make_task,
    model_of,
    read_networks,
    save_networks,
    train_networks,
)
from benchmarks.runs import Progress, Run
from benchmarks.stitching import _summary
from benchmarks.stitching._claims import claims
from benchmarks.stitching._config import Config, spread_pairs
from benchmarks.stitching._result import Result
from benchmarks.stitching._studies import Studies


def run(
    config: Config,
    *,
    dataset: data.Dataset | None = None,
    model: Any = None,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    data_directory: str | os.PathLike[str] | None = None,
) -> Result:
    """Train or read networks, and stitch pairs of them at every layer.

    Args:
      config: Which networks, pairs and maps.
      dataset: A dataset in place of the one that the configuration names.
      model: A network in its place: what `benchmarks.models.network` accepts.
      folder: The run folder, in which an interrupted run continues.
      progress: Informed of stages.
      data_directory: Where datasets are, and weights that are not found from here.

    Raises:
      ValueError: If the dataset or a layer does not suit the model, or there are too
        few networks.
      RunError: If a file of weights cannot be used.
    """
    check_options(config, dataset, model, data_directory)
    here = Run("stitching", config, folder, progress)
    if dataset is None:
        dataset = data.load(config.dataset, data_directory)
    if model is None:
        model = model_of(config, config.width, dataset)
    with computed_in(config.precision):
        found = _run(config, here, make_task(dataset, model), data_directory)
    return here.finish(Result, **found)


def _run(config: Config, here: Run, task: Task, data_directory: Any) -> dict[str, Any]:
    """Return the fields of a `Result`; each stage needs only the networks."""
    studies, advance = Studies(config, task), here.advance
    given = None
    if config.weights:
        given = read_networks(
            config.weights, task, data_directory, config.weights_mapping
        )
        if len(given) < 2:
            raise ValueError(
                f"weights: expected at least 2 networks to stitch, got {len(given)}"
            )
    count = len(given) if given else config.networks
    pairs = spread_pairs(count, config.pairs)
    here.expect(
        (given is None)
        + 1
        + len(pairs) * (1 + len(studies.layers))
        + min(config.cross, len(pairs))
        + min(config.audited, len(pairs))
    )
    networks = given or _trained(config, here, task)
    own = here.stage("own", lambda: [studies.own_scores(each) for each in networks])
    maps: dict[str, list[Any]] = {layer.name: [] for layer in studies.layers}
    indices: dict[str, list[Any]] = {layer.name: [] for layer in studies.layers}
    crossed, audited = [], []
    for number, pair in enumerate(pairs):

        def stage(name: str, compute: Callable[..., Any], pair: Pair = pair) -> Any:
            networks_of_pair = (networks[i] for i in pair)
            return here.stage(
                f"pair-{pair[0]}-{pair[1]}.{name}", lambda: compute(*networks_of_pair)
            )

        for layer in studies.layers:
            everything = number < config.deep
            found = stage(
                layer.name.replace("/", ".").lstrip("._"),
                lambda a, b, x=layer, all_=everything: studies.stitch(
                    x, a, b, all_, advance
                ),
            )
            maps[layer.name].append(found)
        if number < config.cross:
            crossed.append(stage("cross", lambda a, b: studies.cross(a, b, advance)))
        if number < config.audited:
            key = jax.random.fold_in(jax.random.key(config.seed), 1000 + pair[0])
            fresh = jax.jit(task.init)(jax.random.key(1_000_000 + pair[0]))
            audited.append(
                stage(
                    "audit",
                    lambda a, b, f=fresh, k=key: studies.audit(a, b, f, k, advance),
                )
            )
        found = stage("indices", lambda a, b: studies.indices(a, b, advance))
        for name, values in found.items():
            indices[name].append(values)
    summary = {
        "stitches": {x: _summary.stitches(pairs, found) for x, found in maps.items()},
        "indices": {x: _summary.indices(pairs, found) for x, found in indices.items()},
        "correlations": _summary.correlations(pairs, maps, indices),
        "cross": _summary.cross(pairs[: config.cross], crossed),
        "audit": _summary.audit(pairs[: config.audited], audited),
    }
    return {
        "networks": {name: [scores[name] for scores in own] for name in own[0]},
        "layers": [{"name": x.name, "shape": x.shape} for x in studies.layers],
        "pairs": pairs,
        **summary,
        "claims": claims(pairs, maps, summary),
    }


def _trained(config: Config, here: Run, task: Task) -> list[Any]:
    """Train networks and keep them in the run folder."""
    file = here.folder / "networks" / "trained.npz"

    def train() -> dict[str, Any]:
        asked = Training(
            config.networks,
            config.training_steps,
            config.training_batch_size,
            config.training_learning_rate,
            seed=config.seed,
        )
        variables, scores = train_networks(asked, task, here.advance, here.checkpoint())
        save_networks(file, variables)
        return scores

    here.stage("train", train)
    like = jax.eval_shape(task.init, jax.random.key(0))
    found = load_networks(file, like, config.networks)
    return [jax.tree.map(jnp.asarray, variables) for variables in found]
