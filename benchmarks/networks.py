"""Networks that classify: training, scoring, keeping and reading them."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Float, Int

from benchmarks import data, models, weights
from benchmarks._names import is_import_path
from benchmarks._precision import module_dtype
from benchmarks._ranges import check_counts
from benchmarks.models import Network, network
from benchmarks.runs import RunError
from benchmarks.training import Optimizer, fit, for_each_run
from benchmarks.weights import save_networks as save_networks

# Rows that are evaluated at once.
_CHUNK = 250


class Data(NamedTuple):
    """Rows on the device."""

    inputs: jax.Array
    targets: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A network to train and the data it is trained and judged on.

    Attributes:
      name: The dataset's name.
      network: The network.
      train: The training data.
      validation: The data that hyper-parameters are chosen on.
      test: The data that is looked at last.
    """

    name: str
    network: Network
    train: Data
    validation: Data
    test: Data

    @property
    def module(self) -> Any:
        """The network's module."""
        return self.network.module

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Return fresh variables: "params", and statistics if any."""
        return self.network.init(key, self.train.inputs[:1])


def make_task(dataset: Any, model: Any) -> Task:
    """Put a dataset on the device, with the network that will learn it.

    Args:
      dataset: A `benchmarks.data.Dataset`, or anything with its fields.
      model: What `benchmarks.models.network` accepts.

    Raises:
      ValueError: If a split has no rows, or not as many inputs as targets.
    """
    splits = {}
    for name in ("train", "validation", "test"):
        split = getattr(dataset, name)
        rows, targets = len(split.inputs), len(split.targets)
        if rows == 0 or rows != targets:
            raise ValueError(
                f"dataset.{name}: expected as many inputs as targets and at least one, "
                f"got {rows} and {targets}"
            )
        splits[name] = Data(jnp.asarray(split.inputs), jnp.asarray(split.targets))
    return Task(dataset.name, network(model), **splits)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long a training is and when it is evaluated.

    Attributes:
      steps: Optimizer steps.
      batch_size: Rows of a minibatch.
      evaluations: Number of evaluations, evenly spaced, the last at the end.
      curve_rows: Rows, the first of each split, that learning curves are means over.
      final_rows: Training rows that the final training loss is a mean over; validation
        and test data are used whole at the end.
    """

    steps: int
    batch_size: int
    evaluations: int = 20
    curve_rows: int = 10_000
    final_rows: int = 10_000

    def __post_init__(self):
        check_counts(self, **{field.name: 1 for field in dataclasses.fields(self)})
        if self.evaluations > self.steps:
            raise ValueError(
                f"evaluations: expected at most steps={self.steps}, got "
                f"{self.evaluations}"
            )

    @property
    def points(self) -> tuple[int, ...]:
        """The steps after which the runs are evaluated."""
        count = self.evaluations
        return tuple(round((i + 1) * self.steps / count) for i in range(count))


@dataclasses.dataclass(frozen=True)
class History:
    """What happened to R runs at E evaluations; losses are means in nats.

    Attributes:
      steps: Steps taken at each evaluation.
      train_loss: On the first `curve_rows` training rows, in evaluation mode.
      train_batch_loss: Mean minibatch loss since the evaluation before.
      validation_loss: On the first `curve_rows` validation rows.
      validation_accuracy: On the same rows.
      final_train_loss: At the end, on the first `final_rows` training rows.
      final_validation_loss: At the end, on all validation rows.
      final_validation_accuracy: At the end, on all validation rows.
      test_loss: At the end, on all test rows.
      test_accuracy: At the end, on all test rows.
      diverged: Whether a loss was not finite or training ended above its start.
      probes: What `probe` returned at each evaluation.
      seconds_per_step: As in `Fit`.
      seconds: As in `Fit`.
      opt_state_bytes_per_parameter: As in `Fit`.
      variables: At the end, of each run.
    """

    steps: Int[np.ndarray, " E"]
    train_loss: Float[np.ndarray, "R E"]
    train_batch_loss: Float[np.ndarray, "R E"]
    validation_loss: Float[np.ndarray, "R E"]
    validation_accuracy: Float[np.ndarray, "R E"]
    final_train_loss: Float[np.ndarray, " R"]
    final_validation_loss: Float[np.ndarray, " R"]
    final_validation_accuracy: Float[np.ndarray, " R"]
    test_loss: Float[np.ndarray, " R"]
    test_accuracy: Float[np.ndarray, " R"]
    diverged: Bool[np.ndarray, " R"]
    probes: dict[str, np.ndarray]
    seconds_per_step: float
    seconds: Float[np.ndarray, " E"]
    opt_state_bytes_per_parameter: float
    variables: list[Any]


def train(
    task: Task,
    optimizer: Optimizer,
    hyper: Mapping[str, Any],
    seeds: Sequence[int] | np.ndarray,
    plan: Plan,
    *,
    eval_params: Callable[[Any, Any], Any] | None = None,
    probe: Callable[[Any], dict[str, jax.Array]] | None = None,
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> History:
    """Train R runs of one network that differ in seed and hyper-parameters.

    A run's initial variables and the order of its data follow from its seed alone: runs
    of different optimizers with one seed are paired.

    Args:
      task: What is trained.
      optimizer: As for `fit`.
      hyper: Hyper-parameters by name, arrays with a leading axis R.
      seeds: A seed for each run.
      plan: Steps, minibatches and evaluations.
      eval_params: `eval_params(opt_state, params)` returns the parameters to evaluate,
        for methods that evaluate at another point than they step from.
      probe: `probe(opt_state)` returns small arrays to record at each evaluation.
      augment: `augment(key, inputs)` changes the inputs of each minibatch.
      checkpoint: As for `fit`.
      progress: As for `fit`.

    Raises:
      ValueError: If hyper-parameters and seeds differ in number, or a minibatch is
        larger than the training data.
      CheckpointError: If the checkpoint is damaged or of another training.

    Example:
      >>> import numpy as np, optax
      >>> from types import SimpleNamespace as Bag
      >>> from benchmarks.models import MLP
      >>> x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
      >>> split = Bag(inputs=x, targets=(x[:, 0] > 0).astype(np.int32))
      >>> data = Bag(name="half", train=split, validation=split, test=split)
      >>> history = train(
      ...     make_task(data, MLP(2, features=())),
      ...     lambda hyper: optax.sgd(hyper["learning_rate"]),
      ...     {"learning_rate": [0.1, 1.0]},
      ...     seeds=[0, 0],
      ...     plan=Plan(steps=20, batch_size=16, evaluations=2),
      ... )
      >>> history.train_loss.shape, bool(np.all(history.test_accuracy > 0.8))
      ((2, 2), True)
    """
    seeds = np.asarray(seeds)
    hyper = _checked_hyper(hyper, seeds)
    keys = jax.vmap(lambda seed: jax.random.split(jax.random.key(seed)))(seeds)
    variables = _initial(task.network, keys[:, 0], task.train.inputs[:1])

    def rows(split: Data, count: int | None = None) -> Data:
        return Data(*(x[:count] for x in split))

    data = rows(task.train, plan.curve_rows), rows(task.validation, plan.curve_rows)
    found = fit(
        _Loss(task.network, augment),
        variables,
        optimizer,
        task.train,
        key=keys[:, 1],
        steps=plan.steps,
        batch_size=plan.batch_size,
        hyper=hyper,
        points=(0, *plan.points),
        evaluate=_Curves(_Scoring(task.network, eval_params), probe),
        evaluation_data=data,
        checkpoint=checkpoint,
        progress=progress,
    )
    final = _Scoring(task.network, eval_params)
    splits = rows(task.train, plan.final_rows), task.validation, task.test
    runs = found.variables, found.opt_state
    train_, validation, test = (
        for_each_run(final, runs, split, one_by_one=found.one_by_one)
        for split in splits
    )
    curves, probes = found.measured
    first = curves["train_loss"][:, 0]
    curves = {name: value[:, 1:] for name, value in curves.items()}
    finite = np.all(np.isfinite(curves["train_loss"]), axis=1)
    risen = curves["train_loss"][:, -1] > first
    return History(
        steps=np.array(plan.points),
        **curves,
        train_batch_loss=found.batch_loss[:, 1:],
        final_train_loss=train_.loss,
        final_validation_loss=validation.loss,
        final_validation_accuracy=validation.accuracy,
        test_loss=test.loss,
        test_accuracy=test.accuracy,
        diverged=~finite | risen | ~np.isfinite(train_.loss),
        probes={name: value[:, 1:] for name, value in probes.items()},
        seconds_per_step=found.seconds_per_step,
        seconds=found.seconds[1:],
        opt_state_bytes_per_parameter=found.state_bytes_per_parameter,
        variables=[
            jax.tree.map(lambda leaf, r=r: leaf[r], found.variables)
            for r in range(len(seeds))
        ],
    )


class Score(NamedTuple):
    """Mean loss and accuracy."""

    loss: Any
    accuracy: Any


def score(network: Network, variables: Any, data: Data) -> Score:
    """Return the mean cross entropy and accuracy of all rows, in evaluation mode.

    Rows are evaluated in chunks, so that memory does not grow with their number.
    """
    count = len(data.inputs)
    size = min(_CHUNK, count)

    def sums(first: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows = first + jnp.arange(size)
        chunk = Data(*(jnp.take(x, rows, axis=0, mode="clip") for x in data))
        losses, hits = row_scores(network.apply(variables, chunk.inputs), chunk.targets)
        counts = rows < count  # rows past the end repeat the last one
        total = [jnp.sum(jnp.where(counts, value, 0.0)) for value in (losses, hits)]
        return total[0], total[1]

    losses, hits = jax.lax.map(sums, jnp.arange(0, count, size))
    return Score(jnp.sum(losses) / count, jnp.sum(hits) / count)


def row_scores(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return loss and accuracy of every row; of a text, means over positions."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    hits = (jnp.argmax(logits, axis=-1) == targets).astype(losses.dtype)
    rows = len(targets)
    return losses.reshape(rows, -1).mean(1), hits.reshape(rows, -1).mean(1)


_score = jax.jit(score, static_argnums=0)


@dataclasses.dataclass(frozen=True)
class _Loss:
    """Mean cross entropy of a minibatch, in training mode."""

    network: Network
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None

    def __call__(self, params, statistics, batch, key):
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

    def __call__(self, variables, opt_state, train, validation):
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


def _checked_hyper(hyper: Mapping[str, Any], seeds: np.ndarray) -> dict[str, jax.Array]:
    if seeds.ndim != 1 or len(seeds) == 0 or seeds.dtype.kind not in "iu":
        raise ValueError(
            "seeds: expected one integer for each run and at least one, got shape "
            f"{seeds.shape} and dtype {seeds.dtype}"
        )
    arrays = {name: jnp.asarray(value) for name, value in hyper.items()}
    for name, value in arrays.items():
        if value.ndim == 0 or len(value) != len(seeds):
            raise ValueError(
                f"hyper[{name!r}]: expected a leading axis of {len(seeds)}, one entry "
                f"for each seed, got shape {value.shape}"
            )
    return arrays


@dataclasses.dataclass(frozen=True)
class Training:
    """How many networks are trained, and how long.

    Attributes:
      networks: How many.
      steps: Training steps.
      batch_size: Rows of a minibatch.
      learning_rate: At the start, of a cosine schedule.
      rows: Rows that learning curves are means over.
      seed: Networks of two seeds have no seed in common.
      weight_decay: Decoupled from the gradient, times the learning rate.
    """

    networks: int
    steps: int
    batch_size: int
    learning_rate: float
    rows: int = 1000
    seed: int = 0
    weight_decay: float = 0.0


def train_networks(
    asked: Training,
    task: Task,
    progress: Callable[[int, int], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    scaling: Callable[[], optax.GradientTransformation] = optax.scale_by_adam,
) -> tuple[list[Any], dict[str, list[float]]]:
    """Train networks that are alike but for their seeds.

    Args:
      asked: How many, and how long.
      task: What is trained.
      progress: Called as `progress(done, total)`, in steps.
      checkpoint: A folder for unfinished training.
      scaling: Makes the optimizer, all but its learning rate; by default Adam.

    Returns:
      Their variables; their final training, validation and test scores.
    """
    plan = Plan(
        steps=asked.steps,
        batch_size=asked.batch_size,
        evaluations=max(1, min(10, asked.steps // 50)),
        curve_rows=asked.rows,
        final_rows=10_000,
    )
    history = train(
        task,
        _Cosine(asked.steps, asked.weight_decay, scaling),
        {"learning_rate": np.full(asked.networks, asked.learning_rate)},
        np.arange(asked.networks) + 1000 * asked.seed,
        plan,
        progress=progress,
        checkpoint=checkpoint,
    )
    scores = {
        "train_loss": history.final_train_loss.tolist(),
        "validation_loss": history.final_validation_loss.tolist(),
        "test_loss": history.test_loss.tolist(),
        "test_accuracy": history.test_accuracy.tolist(),
    }
    return history.variables, scores


@dataclasses.dataclass(frozen=True)
class _Cosine:
    """A cosine schedule to zero; equal for equal attributes, so compiled once."""

    steps: int
    weight_decay: float
    scaling: Callable[[], optax.GradientTransformation]

    def __call__(self, hyper: dict[str, jax.Array]) -> optax.GradientTransformation:
        rate = optax.cosine_decay_schedule(1.0, self.steps)
        return optax.chain(
            self.scaling(),
            optax.add_decayed_weights(self.weight_decay),
            optax.scale_by_schedule(rate),
            optax.scale(-1.0 * hyper["learning_rate"]),
        )


def scores_of(
    task: Task,
    networks: list[Any],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[float]]:
    """Return "train_loss" (on 10,000 rows), "test_loss" and "test_accuracy".

    Args:
      task: The network and its data.
      networks: The variables of each.
      progress: Called as `progress(done, total)`, in networks.
    """
    found: dict[str, list[float]] = {
        name: [] for name in ("train_loss", "test_loss", "test_accuracy")
    }
    for done, variables in enumerate(networks):
        train = _score(task.network, variables, Data(*(x[:10_000] for x in task.train)))
        test = _score(task.network, variables, task.test)
        for name, value in zip(found, (train[0], *test), strict=True):
            found[name].append(float(value))
        if progress:
            progress(done + 1, len(networks))
    return found


def check_options(
    config: Any,
    dataset: data.Dataset | None,
    model: Any,
    data_directory: str | os.PathLike[str] | None,
) -> None:
    """Raise if data, model or weights are not there, before anything is loaded.

    Args:
      config: An experiment's, with `dataset`, `model`, `model_options`, `weights` and
        `weights_mapping`.
      dataset: A dataset in place of the one that the configuration names.
      model: A network in its place.
      data_directory: Where datasets and weights are.
    """
    if dataset is None:
        data.check(config.dataset, data_directory)
    if model is None:
        models.check(config.model, config.model_options)
    weights.check_files(config.weights, data_directory, config.weights_mapping)


def model_of(config: Any, width: int | None, dataset: data.Dataset) -> Any:
    """Return the model that an experiment's configuration names, of one width."""
    own = is_import_path(config.model)
    return models.build(
        config.model,
        dataset,
        module_dtype(config.dtype),
        width=None if own else width,
        options=config.model_options,
    )


def load_networks(path: Path, like: Any, count: int) -> list[Any]:
    """Return the variables of the networks that `save_networks` kept.

    Args:
      path: The file.
      like: Variables of the structure and shapes that are expected.
      count: How many networks.

    Raises:
      RunError: If the file is missing, damaged or of other networks.
    """
    try:
        return weights.load_like(path, like, count)
    except weights.WeightsError as error:
        raise RunError(
            f"cannot read the networks of this run: {error}; delete the run folder and "
            "repeat the command"
        ) from error


def read_networks(
    paths: Sequence[str],
    task: Task,
    data_directory: str | os.PathLike[str] | None = None,
    mapping: str | None = None,
) -> list[Any]:
    """Return the variables of trained networks, as `weights.read_networks` does.

    Args:
      paths: Files and folders.
      task: The network that they are of.
      data_directory: Where relative paths are looked for that are not here.
      mapping: Import path of a function that reads them.
    """
    inputs = task.train.inputs
    example = jax.ShapeDtypeStruct(inputs[:1].shape, inputs.dtype)
    return weights.read_networks(paths, task.module, example, data_directory, mapping)
