"""The experiments, stage by stage: pair by pair, layer by layer."""

import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from benchmarks import data, runs
from benchmarks._precision import computed_in
from benchmarks.networks import make_task, module_of, read_networks
from benchmarks.stitching._audit import Networks, audits
from benchmarks.stitching._claims import claims
from benchmarks.stitching._config import Config, spread_pairs
from benchmarks.stitching._cross import Cross
from benchmarks.stitching._indices import indices
from benchmarks.stitching._layers import Fronts, Layer, find_layers
from benchmarks.stitching._maps import direct_maps
from benchmarks.stitching._networks import (
    kept_networks,
    train_and_save,
)
from benchmarks.stitching._result import Result
from benchmarks.stitching._rows import choose_rows
from benchmarks.stitching._scoring import Judge, own_scores
from benchmarks.stitching._summary import (
    Pair,
    audit_summary,
    correlations,
    cross,
    of_indices,
    rounded,
    stitches,
)
from benchmarks.stitching._task_loss import TaskLoss

Stage = Callable[[str, Callable[[], Any]], Any]
Progress = Callable[[str, int, int], None]


def run(
    config: Config,
    *,
    dataset: data.Dataset | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: runs.Progress | None = None,
    data_directory: str | os.PathLike[str] | None = None,
) -> Result:
    """Run the experiments into a run folder.

    Args:
      config: The experiments.
      dataset: A dataset in place of the one that the configuration names.
      folder: The run folder, in which an interrupted run continues.
      progress: What is told of stages.
      data_directory: Where datasets are, and weights that are not found from here.
    """
    here = runs.Run("stitching", config, folder, progress)
    found = run_experiment(
        config,
        here.stage,
        lambda _, done, total: here.advance(done, total),
        dataset=dataset,
        folder=here.folder,
        data_directory=data_directory,
    )
    return here.finish(Result, **found)


def run_experiment(
    config: Config,
    stage: Stage = lambda name, compute: compute(),
    progress: Progress | None = None,
    *,
    dataset: data.Dataset | None = None,
    folder: Path | None = None,
    data_directory: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Reads or trains networks, and stitches pairs of them at every layer.

    Args:
      config: Which networks, pairs and maps.
      stage: `stage(name, compute)` returns `compute()`, or what that returned when the
        experiment was run before.
      progress: Called as `progress(stage, done, total)`.
      dataset: The dataset, if it is already loaded.
      folder: Where trained networks are kept; by default nowhere.
      data_directory: Where datasets lie, and weights that are not found from here.

    Returns:
      "networks", "layers", "pairs", "stitches", "indices", "correlations", "cross",
      "audit" and "claims" of the schema in `benchmarks.runs`.

    Raises:
      ValueError: If the dataset or a layer does not suit the model.
      RunError: If a file of weights cannot be used, or there are too few networks.
    """
    dataset = data.load(config.dataset, data_directory) if dataset is None else dataset
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return run_experiment(
                config,
                stage,
                progress,
                dataset=dataset,
                folder=Path(temporary),
                data_directory=data_directory,
            )
    with computed_in(config.precision):
        return _run(
            _Experiment(config, dataset, stage, progress, folder, data_directory)
        )


class _Experiment:
    """What all stages share."""

    def __init__(self, config, dataset, stage, progress, folder, data_directory):
        self.config, self.folder = config, folder
        self._stage, self._progress = stage, progress
        self._data_directory = data_directory
        module = module_of(config.model, config.width, dataset, config.dtype)
        self.task = make_task(dataset, module)
        self.rows = choose_rows(config, self.task)
        self.layers = find_layers(config, self.task)
        self.fronts = Fronts(self.layers)
        self.cross = Cross(self.layers, self.fronts)
        self.judge = Judge(self.layers, self.rows.test)
        self.task_loss = TaskLoss(config, self.apply)
        self._latest: tuple[Any, Any] = (None, None)

    def stage(self, name: str, compute: Callable[..., Any]) -> Any:
        """The value of a stage; `compute` is given its progress."""
        progress = self._progress and functools.partial(self._progress, name)
        return self._stage(name, lambda: compute(progress))

    @functools.cached_property
    def networks(self) -> list[Any]:
        """The variables of all networks."""
        config = self.config
        if config.weights:
            return read_networks(config.weights, self.task, self._data_directory)
        return kept_networks(self.task, self.folder, config.networks)

    @functools.cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """The ordered pairs that are stitched."""
        count = len(self.networks)
        if count < 2:
            raise ValueError(
                f"weights are of {count} network: expected at least 2 to stitch"
            )
        return spread_pairs(count, self.config.pairs)

    def moments(self, i: int, j: int, progress: Any) -> tuple[Any, Any]:
        """Moments of training and of test rows at all layers, of the pair at hand."""
        pair, found = self._latest
        if pair != (i, j):
            a, b = self.networks[i], self.networks[j]
            seen = self.fronts.moments(a, b, self.rows.fit, progress)
            found = seen, self.fronts.moments(a, b, self.rows.test, progress)
            self._latest = ((i, j), found)
        return found

    def apply(self, variables: Any, inputs: jax.Array) -> jax.Array:
        """Logits in evaluation mode."""
        return self.task.module.apply(variables, inputs, train=False)  # pyright: ignore

    def untrained(self, seed: int) -> Any:
        """Fresh variables."""
        return jax.jit(self.task.init)(jax.random.key(1_000_000 + seed))


def is_pair(stage: str) -> bool:
    """Whether a stage, by its name, is the last one that every pair has."""
    return stage.endswith(".indices")


def _run(it: _Experiment) -> dict[str, Any]:
    """All stages; each needs only the networks."""
    config = it.config
    if not config.weights:
        it.stage("train", functools.partial(_train, it))
    own = it.stage("own", lambda _: _own(it))
    pairs = [(i, j) for i, j in own.pop("pairs")]
    maps: dict[str, list[Any]] = {layer.name: [] for layer in it.layers}
    alike: dict[str, list[Any]] = {layer.name: [] for layer in it.layers}
    crossed, audited = [], []
    for number, pair in enumerate(pairs):
        name = f"pair-{pair[0]}-{pair[1]}"
        for layer in it.layers:
            stitch = functools.partial(_stitch, it, number < config.deep, pair, layer)
            found = it.stage(f"{name}.{_as_file(layer)}", stitch)
            maps[layer.name].append(found)
        if number < config.cross:
            cross_ = functools.partial(_cross, it, pair)
            crossed.append(it.stage(f"{name}.cross", cross_))
        if number < config.audited:
            audit = functools.partial(_audit, it, pair)
            audited.append(it.stage(f"{name}.audit", audit))
        found = it.stage(f"{name}.indices", functools.partial(_indices, it, pair))
        for layer, values in found.items():
            alike[layer].append(values)
    summary = {
        "stitches": {name: stitches(pairs, found) for name, found in maps.items()},
        "indices": {name: of_indices(pairs, found) for name, found in alike.items()},
        "correlations": correlations(pairs, maps, alike),
        "cross": cross(pairs[: config.cross], crossed),
        "audit": audit_summary(pairs[: config.audited], audited),
    }
    shapes = [{"name": layer.name, "shape": list(layer.shape)} for layer in it.layers]
    judged = claims(pairs, maps, summary)
    return {
        "networks": own,
        "layers": shapes,
        "pairs": [list(pair) for pair in pairs],
        **rounded({**summary, "claims": judged}),
    }


def _train(it: _Experiment, progress: Any) -> dict[str, Any]:
    train_and_save(it.config, it.task, it.folder, progress)
    return {}


def _own(it: _Experiment) -> dict[str, Any]:
    """What the networks do by themselves, and which are paired."""
    scores = [own_scores(it.apply, each, it.rows.test) for each in it.networks]
    columns = {name: [one[name] for one in scores] for name in scores[0]}
    return {**columns, "pairs": it.pairs}


def _stitch(
    it: _Experiment, everything: bool, pair: Pair, layer: Layer, progress: Any
) -> dict[str, Any]:
    """The scores of all maps of a pair at a layer."""
    a, b = (it.networks[number] for number in pair)
    place = it.layers.index(layer)
    seen, held_out = (moments[place] for moments in it.moments(*pair, progress))
    maps = direct_maps(seen, it.config, everything)
    maps += it.task_loss.maps(layer, a, b, it.rows.fit, maps, everything, progress)
    return it.judge.scores(layer, a, b, maps, seen, held_out, progress)


def _indices(it: _Experiment, pair: Pair, progress: Any) -> dict[str, Any]:
    """The indices of a pair at every layer."""
    a, b = (it.networks[number] for number in pair)
    held_out = it.moments(*pair, progress)[1]
    return {
        layer.name: indices(layer, a, b, moments, it.rows.test)
        for layer, moments in zip(it.layers, held_out, strict=True)
    }


def _cross(it: _Experiment, pair: Pair, progress: Any) -> dict[str, Any]:
    a, b = (it.networks[place] for place in pair)
    return it.cross.matrices(a, b, it.rows.few_fit, it.rows.few_test, progress)


def _audit(it: _Experiment, pair: Pair, progress: Any) -> dict[str, Any]:
    """The audits of every layer."""
    one, two = (it.networks[number] for number in pair)
    networks = Networks(one, two, it.untrained(pair[0]))
    key = jax.random.fold_in(jax.random.key(it.config.seed), 1000 + pair[0])
    found = {}
    for done, layer in enumerate(it.layers):
        found[layer.name] = audits(
            layer, networks, it.rows.few_fit, it.rows.few_test, it.task_loss, key
        )
        if progress:
            progress(done + 1, len(it.layers))
    return found


def _as_file(layer: Layer) -> str:
    """A layer's path as a part of the name of a stage."""
    return layer.name.replace("/", ".").lstrip("._")
