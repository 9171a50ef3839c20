"""Networks that classify: training, scoring, keeping and reading them."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import data, models, weights
from benchmarks._given import Given, given_dataset, given_methods, given_model
from benchmarks.baselines import Method
from benchmarks.changes import Change
from benchmarks.data import Split
from benchmarks.models import Network, network
from benchmarks.runs import Folder, Progress, Run
from benchmarks.training import Optimizer, fit, for_each_run, unstacked

# Rows that are evaluated at once.
_CHUNK = 250
Advance = Callable[[int, int], None]


def quiet(done: int, total: int) -> None:
    """Report no progress."""


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A network to train and the data it is trained and evaluated on."""

    name: str  # the dataset's name
    network: Network  # the network
    train: Split  # the training data
    validation: Split  # the data that hyper-parameters are chosen on
    test: Split  # the data of the final evaluation

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """The shape of a minibatch of one row."""
        inputs = self.train.inputs
        return jax.ShapeDtypeStruct(inputs[:1].shape, inputs.dtype)

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Return fresh variables: "params", and statistics if any."""
        return self.network.init(key, self.train.inputs[:1])


def make_task(dataset: Any, model: Any) -> Task:
    """Put a dataset on the device, with the network that will learn it."""
    splits = {}
    for name in ("train", "validation", "test"):
        split = getattr(dataset, name)
        rows, targets = len(split.inputs), len(split.targets)
        if rows == 0 or rows != targets:
            raise ValueError(
                f"dataset.{name}: expected as many inputs as targets and at least one, "
                f"got {rows} and {targets}"
            )
        splits[name] = Split(jnp.asarray(split.inputs), jnp.asarray(split.targets))
    return Task(dataset.name, network(model), **splits)


# The setup that experiments share.


def open_run(
    experiment: str,
    config: Any,
    dataset: data.Dataset | None,
    model: Any,
    folder: Folder,
    progress: Progress | None,
    data_directory: Folder,
    methods: Sequence[Method] = (),
) -> tuple[Run, Callable[[], data.Dataset]]:
    """Check what options name, and open the run folder; also return what loads data.

    A dataset, model and methods that are given replace or add to those of the options.
    """
    if dataset is None:
        data.check(config.dataset, data_directory)
    if model is None:
        models.check(config.model, config.model_options)
    if hasattr(config, "weights"):
        weights.check_files(config.weights, data_directory, config.weights_mapping)
    load = functools.cache(lambda: dataset or data.load(config.dataset, data_directory))
    given = Given() if dataset is None else given_dataset(dataset)
    if model is not None:
        task = configured_task(config, load(), model)
        given |= given_model(task.network, task.example)
    if methods:
        task = configured_task(config, load(), model)
        params = jax.eval_shape(task.init, jax.random.key(0))["params"]
        given |= given_methods(config.methods, methods, params, config.steps)
    return Run(experiment, config, folder, progress, data_directory, given), load


def configured_task(
    config: Any, dataset: data.Dataset, model: Any = None, width: int | None = None
) -> Task:
    """Return the task of a model, by default of the one that a configuration names."""
    if model is None:
        # Float32 is what inputs and variables are: modules then ask for nothing.
        dtype = jnp.bfloat16 if config.dtype == "bfloat16" else None
        options = config.model_options
        model = models.build(config.model, dataset, dtype, width=width, options=options)
    return make_task(dataset, model)


def given_networks(config: Any, task: Task, data_directory: Folder) -> list[Any]:
    """Return the networks in the files that a configuration names, if any."""
    module, mapping = task.network.module, config.weights_mapping
    return weights.read_networks(
        config.weights, module, task.example, data_directory, mapping
    )


def trained_networks(
    here: Run, stage: str, file: str, task: Task, networks: int, **options: Any
) -> tuple[list[Any], dict[str, list[float]]]:
    """Train networks in a stage of a run, and keep them in its folder."""
    path = here.folder / "networks" / file

    def train() -> dict[str, list[float]]:
        more = {"progress": here.advance, "checkpoint": here.checkpoint()}
        variables, scores = train_networks(task, networks, **options, **more)
        weights.save_networks(path, variables)
        return scores

    read = functools.partial(weights.load_all, path, task.network, task.example)
    scores = here.stage(stage, train, check=read)
    lost = scores["test_loss"].count(None)
    if lost:
        raise ValueError(
            f"training diverged: {lost} of {networks} networks have no finite loss; "
            "choose a lower learning rate and another run folder"
        )
    return [jax.tree.map(jnp.asarray, variables) for variables in read()], scores


# Training and scoring.


class History(NamedTuple):
    """What happened to R runs at E evaluations; losses are means in nats.

    Attributes:
        steps: steps taken at each evaluation.
        curves: "train_loss", "validation_loss" and "validation_accuracy" on the first
            `curve_rows` rows, and "train_batch_loss", the mean loss of the minibatches
            since the evaluation before; (R, E).
        final: "train_loss" on the first `final_rows` rows, "validation_loss",
            "validation_accuracy", "test_loss" and "test_accuracy" at the end; (R,). Of
            a task that changes, the first three are means over the evaluations.
        diverged: whether a loss was not finite or training ended above its start; (R,).
        probes: what `probe` returned at each evaluation; (R, E, ...).
        seconds_per_step: as in `Fit`.
        seconds: as in `Fit`.
        bytes_per_parameter: of the optimizer's state.
        variables: at the end, of each run.
    """

    steps: np.ndarray
    curves: dict[str, np.ndarray]
    final: dict[str, np.ndarray]
    diverged: np.ndarray
    probes: dict[str, np.ndarray]
    seconds_per_step: float
    seconds: np.ndarray
    bytes_per_parameter: float
    variables: list[Any]


def train(
    task: Task,
    optimizer: Optimizer,
    hyper: Mapping[str, Any],
    seeds: Sequence[int] | np.ndarray,
    *,
    steps: int,
    batch_size: int,
    evaluations: int = 20,
    curve_rows: int = 10_000,
    final_rows: int = 10_000,
    eval_params: Callable[[Any, Any], Any] | None = None,
    probe: Callable[[Any], dict[str, jax.Array]] | None = None,
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    change: Change | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Advance | None = None,
) -> History:
    """Train R runs of one network that differ in seed and hyper-parameters.

    A run's initial variables and the order of its data follow from its seed alone: runs
    of different optimizers with one seed are paired.

    Args:
        task: what is trained.
        optimizer: as for `fit`.
        hyper: hyper-parameters by name, arrays with a leading axis R.
        seeds: a seed for each run.
        steps: optimizer steps.
        batch_size: rows of a minibatch.
        evaluations: how many, evenly spaced, the last at the end; at most `steps`.
        curve_rows: rows, the first of each split, that learning curves are means over.
        final_rows: training rows that the final training loss is a mean over;
            validation and test data are used whole at the end.
        eval_params: `eval_params(opt_state, params)` returns the parameters to
            evaluate, for methods that evaluate at another point than they step from.
        probe: `probe(opt_state)` returns small arrays to record at each evaluation.
        augment: `augment(key, inputs)` changes the inputs of each minibatch.
        change: how the task changes; evaluations are of the task that it is then.
        checkpoint: as for `fit`.
        progress: as for `fit`.

    Raises:
        ValueError: if a minibatch is larger than the training data.
        CheckpointError: if the checkpoint is damaged or of another training.
    """
    points = tuple(round((i + 1) * steps / evaluations) for i in range(evaluations))
    split_seed = jax.vmap(lambda seed: jax.random.split(jax.random.key(seed)))
    keys = split_seed(np.asarray(seeds))
    scoring = _Scoring(task.network, eval_params)
    found = fit(
        _Loss(task.network, augment, change),
        _initial(task.network, keys[:, 0], task.train.inputs[:1]),
        optimizer,
        task.train,
        key=keys[:, 1],
        steps=steps,
        batch_size=batch_size,
        hyper={name: jnp.asarray(value) for name, value in hyper.items()},
        points=(0, *points),
        evaluate=_Curves(scoring, probe, change),
        evaluation_data=(
            task.train.first(curve_rows),
            task.validation.first(curve_rows),
        ),
        checkpoint=checkpoint,
        progress=progress,
    )
    runs = found.variables, found.opt_state
    splits = task.train.first(final_rows), task.validation, task.test
    if change is not None:
        splits = [change(split, steps - 1) for split in splits]
    train_, validation, test = (
        for_each_run(scoring, runs, split, one_by_one=found.one_by_one)
        for split in splits
    )
    curves, probes = jax.tree.map(lambda x: x[:, 1:], found.measured)
    before, losses = found.measured[0]["train_loss"][:, 0], curves["train_loss"]
    finite = np.all(np.isfinite(losses), axis=1) & np.isfinite(train_.loss)
    final = {
        "train_loss": train_.loss,
        "validation_loss": validation.loss,
        "validation_accuracy": validation.accuracy,
        "test_loss": test.loss,
        "test_accuracy": test.accuracy,
    }
    if change is not None:
        final |= {name: values.mean(axis=1) for name, values in curves.items()}
    return History(
        steps=np.array(points),
        curves={**curves, "train_batch_loss": found.batch_loss[:, 1:]},
        final=final,
        diverged=~finite | (losses[:, -1] > before),
        probes=probes,
        seconds_per_step=found.seconds_per_step,
        seconds=found.seconds[1:],
        bytes_per_parameter=found.bytes_per_parameter,
        variables=unstacked(found.variables),
    )


class Score(NamedTuple):
    """Mean loss, and accuracy: NaN where the loss is not finite."""

    loss: Any
    accuracy: Any


def score(network: Network, variables: Any, data: Split) -> Score:
    """Return the mean cross entropy and accuracy of all rows, in evaluation mode.

    Rows are evaluated in chunks, so that memory does not grow with their number.
    """
    count = len(data.inputs)
    size = min(_CHUNK, count)

    def sums(first: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows = first + jnp.arange(size)
        chunk = Split(*(jnp.take(x, rows, axis=0, mode="clip") for x in data))
        losses, hits = row_scores(network.apply(variables, chunk.inputs), chunk.targets)
        counts = rows < count  # rows past the end repeat the last one
        total = [jnp.sum(jnp.where(counts, value, 0.0)) for value in (losses, hits)]
        return total[0], total[1]

    losses, hits = jax.lax.map(sums, jnp.arange(0, count, size))
    loss, accuracy = jnp.sum(losses) / count, jnp.sum(hits) / count
    # The largest of logits that are NaN is the first: chance, which means nothing.
    return Score(loss, jnp.where(jnp.isfinite(loss), accuracy, jnp.nan))


def row_scores(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return loss and accuracy of every row; of a text, means over positions."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    hits = (jnp.argmax(logits, axis=-1) == targets).astype(losses.dtype)
    rows = len(targets)
    return losses.reshape(rows, -1).mean(1), hits.reshape(rows, -1).mean(1)


# Frozen dataclasses instead of closures: equal ones share their compilations.


@dataclasses.dataclass(frozen=True)
class _Loss:
    """Mean cross entropy of a minibatch, in training mode."""

    network: Network
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None
    change: Change | None

    def __call__(self, params, statistics, batch, key, step):
        if self.change is not None:
            batch = self.change(batch, step)
        variables, inputs = {"params": params, **statistics}, batch.inputs
        if self.augment is not None:
            inputs = self.augment(jax.random.fold_in(key, 1), inputs)
        logits, statistics = self.network.train(variables, inputs, key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets)
        return jnp.mean(losses), statistics


@dataclasses.dataclass(frozen=True)
class _Scoring:
    """Scores of a run at the parameters that its optimizer evaluates."""

    network: Network
    eval_params: Callable[[Any, Any], Any] | None

    def __call__(self, variables, opt_state, data):
        if self.eval_params is not None:
            params = self.eval_params(opt_state, variables["params"])
            variables = {**variables, "params": params}
        return score(self.network, variables, data)


@dataclasses.dataclass(frozen=True)
class _Curves:
    """What learning curves record, and what `probe` returns."""

    scoring: _Scoring
    probe: Callable[[Any], dict[str, jax.Array]] | None
    change: Change | None

    def __call__(self, variables, opt_state, step, train, validation):
        if self.change is not None:
            train, validation = (self.change(x, step) for x in (train, validation))
        of_train = self.scoring(variables, opt_state, train)
        held_out = self.scoring(variables, opt_state, validation)
        curves = {
            "train_loss": of_train.loss,
            "validation_loss": held_out.loss,
            "validation_accuracy": held_out.accuracy,
        }
        return curves, {} if self.probe is None else self.probe(opt_state)


@functools.partial(jax.jit, static_argnums=0)
def _initial(network, keys, example):
    return jax.vmap(lambda key: network.init(key, example))(keys)


def train_networks(
    task: Task,
    networks: int,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float = 0.0,
    rows: int = 1000,
    seed: int = 0,
    scaling: Callable[[], optax.GradientTransformation] = optax.scale_by_adam,
    progress: Advance | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> tuple[list[Any], dict[str, list[float]]]:
    """Train networks that differ only in their seeds."""
    history = train(
        task,
        _Cosine(steps, weight_decay, scaling),
        {"learning_rate": np.full(networks, learning_rate)},
        np.arange(networks) + 1000 * seed,
        steps=steps,
        batch_size=batch_size,
        evaluations=max(1, min(10, steps // 50)),
        curve_rows=rows,
        progress=progress,
        checkpoint=checkpoint,
    )
    names = ("train_loss", "validation_loss", "test_loss", "test_accuracy")
    return history.variables, {name: history.final[name].tolist() for name in names}


@dataclasses.dataclass(frozen=True)
class _Cosine:
    """A cosine schedule to zero; equal for equal attributes, so compiled once."""

    steps: int
    weight_decay: float  # decoupled from the gradient, times the learning rate
    scaling: Callable[[], optax.GradientTransformation]

    def __call__(self, hyper: dict[str, jax.Array]) -> optax.GradientTransformation:
        rate = optax.cosine_decay_schedule(1.0, self.steps)
        return optax.chain(
            self.scaling(),
            optax.add_decayed_weights(self.weight_decay),
            optax.scale_by_schedule(rate),
            optax.scale(-1.0 * hyper["learning_rate"]),
        )


def scores_of(task: Task, networks: list[Any], advance: Advance) -> dict[str, Any]:
    """Return "train_loss" (on 10,000 rows), "test_loss" and "test_accuracy"."""
    scored, rows = jax.jit(score, static_argnums=0), []
    for done, variables in enumerate(networks):
        train = scored(task.network, variables, task.train.first(10_000))
        rows.append((train.loss, *scored(task.network, variables, task.test)))
        advance(done + 1, len(networks))
    columns = zip(*np.asarray(rows, float).tolist(), strict=True)
    return dict(zip(("train_loss", "test_loss", "test_accuracy"), columns, strict=True))
