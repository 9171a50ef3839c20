"""Run folders: what a run was asked, what it has finished, and its result.

A run folder holds

======================  ==========================================================
`run.json`              what was asked, and on what it runs (written first)
`stages/NAME.json`      the value of one finished stage
`checkpoints/NAME.npz`  the training of the stage under way; gone when all is finished
`result.json`           every number (written last)
`*.png`                 a comparison's figures, and `report.html`, which shows them
======================  ==========================================================

Every file is written under another name and then renamed, so a file that is there is
whole. A run that was stopped, by Ctrl-C, a crash or a power cut, goes on from its
checkpoint when the same command is given again, and ends with the same result.

Schema of `result.json`, number 1
---------------------------------
A number that is not finite (a loss after divergence) is `null`. Every result has::

    schema           1
    experiment       "rllc", "tour", "combinability", or "speed" and what is timed
    command          the command that started the run
    config           every option of the experiment, defaults included
    versions         {"python", "jax", "jaxlib", "optax", "flax", "numpy",
                      "jax-between", "source"}: `source` is a digest of the code
    machine          {"device", "devices", "cpu", "cores"}
    started          ISO 8601, UTC
    seconds          computing time of all stages together; of a stage that was
                     stopped, the time since it went on

"rllc" and "tour" compare optimizers. Losses are mean cross entropies in nats,
accuracies lie in [0, 1], SCHEDULE is `constant` or `cosine`, [P] is a list over
evaluation points::

    strategy         how runs were advanced, of `benchmarks.training.STRATEGIES`
    methods          METHOD: SCHEDULE:
        space                {HYPER: [low, high, "log" or "linear"], or a fixed value}
        trials               [{"hyper": {HYPER: value}, "train_loss",
                               "validation_loss", "validation_accuracy", "diverged"}]
        selected             {HYPER: value}, the trial with the best validation loss
        at_border            whether its rate was the lowest or highest that was tried
        learned_law          null, or the law of the selected trial: its mean over the
                             second half of training, [k]
        seeds                fresh seeds, the same for every method: runs are paired
        train_loss, validation_loss, validation_accuracy, test_loss, test_accuracy,
        diverged             [a value per seed], at the end of training
        curves               {"steps": [P], "train_loss": [[P] per seed],
                              "validation_loss": [[P] per seed]}
        law                  null for a method without a learned law, else
                             {"steps": [P], "law": [[[k] per point] per seed],
                              "gain": [[P] per seed], "response": [J]}; entry j of
                             `response` is the weight of the gradient of j steps ago
                             in the final update, averaged over the seeds
        seconds_per_step     of one run, median, compilation excluded
        bytes_per_parameter  of the optimizer's state
        steps_to_target      [a number per seed, null where it was never reached]
    targets          {SCHEDULE: training loss}, set by the baselines alone
    comparisons      [{"schedule", "metric", "method", "against", "mean_difference",
                       "low", "high", "better", "pairs"}]: method minus baseline over
                     paired seeds with a 95 % t interval; `better` of `pairs` seeds
                     favour the method. The metrics are train_loss, validation_loss
                     and validation_error (one minus the accuracy): negative
                     differences favour the method
    problems         deterministic problems, PROBLEM: {"steps", "comparisons": as
                     above with the metric log10_loss, "methods": METHOD: {"space",
                     "trials", "selected", "at_border", "learned_law", "seeds",
                     "log10_loss", "diverged"}}; starting points are the seeds

"speed rllc" times one step of several optimizers in turns. Its times are medians over
rounds, and no two measurements give the same::

    parameters       how many float32 parameters a step updates
    copy_bytes_per_second  bytes that a copy of the parameters reads and writes in a
                     second, timed in the same turns
    baseline         the optimizer that the others are compared with
    steps            OPTIMIZER:
        seconds              of one step, parameters and state donated
        ratio                {"median", "low", "high"}: the time relative to the
                             baseline's in the same round; low and high are quartiles
        floor_seconds        the words that the step must move, at the speed of a copy
        temporary_share      bytes beside arguments and results, as the compiler plans
                             them, relative to those of the parameters

"combinability" trains, aligns and combines networks. Errors are shares of test rows in
[0, 1], [N] is a list over networks, METRIC one of train_loss, train_error, test_loss,
test_error, and {INTERVAL} is {"mean", "low", "high"}, over pairs of networks with a
95 % interval over networks (jackknife), to which {PAIRS} adds "pairs": [a value per
pair]::

    widths           WIDTH:
        parameters, symmetry (its table, as text)
        networks             {"train_loss", "validation_loss", "test_loss",
                              "test_accuracy": [N]}, on whole splits
        parents              [METRIC: value, of each network], on the rows used here
        matching             {"pairs", "objective", "starts": {START: objective},
                              "best_start", "moved"}: a value per pair
        transitivity         {"barriers": {"unmatched", "direct", "through": METRIC:
                              {PAIRS}}, "matrices", "cycles": GROUP: {"mean", "chance"}}
        controls             {"fractions", "barriers": CONTROL: METRIC: {PAIRS},
                              "curves": CONTROL: METRIC: [a value per fraction]}
        hypercube            CELL: {"cell": {"distribution", "granularity", "aligned"},
                              METRIC: {"percentiles": [0th to 100th], "excess" and
                              "excess_95" beyond the parents: {PAIRS}}}
        robustness           {"fractions", "moved", "lost", "rows": [{"barrier",
                              "excess": METRIC: {PAIRS}} per fraction]}
        difference           {"seeds", "parents", "combinations": MEASURE: {INTERVAL},
                              "relative": {"parents", "combinations": {INTERVAL}}}
        landscape            {"aligned", "not matched", "vertices": {"x", "y", "marks",
                              METRIC: [[a value per x] per y]}}
        claims               [{"claim", "measure", "bound", "side", "verdict",
                              INTERVAL}]

A "tour" has "combinability" besides: {"width", "symmetry", "starts", "parents",
"hypercube"} of two networks, as above.

"speed combinability" times matching and combining in turns with plain loops::

    matching         {"baseline", "widths": WIDTH: {"parameters", "matching": NAME:
                      {"seconds", "ratio": {"median", "low", "high"} to the baseline,
                      "objective", "recovered"}}}
    combinations     {"baseline", "cases": CASE: {"images", "samples", "batch", "lanes",
                      "start_seconds", "combinations_per_second": {"engine", "loop"},
                      "speedup": {"median", "low", "high"}}}
"""

import datetime
import errno
import hashlib
import json
import math
import os
import re
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks._machine import machine, versions

SCHEMA = 1
_STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class RunError(ValueError):
    """A run folder that cannot be used as asked; the message says what to do."""


class Run:
    """A run folder that remembers what was asked and what is finished.

    Args:
        experiment: its name, for instance `"rllc"`.
        config: every option of the experiment, as a tree of what JSON can hold.
        folder: where to write. By default a folder under `runs/` whose name follows
            from the experiment, its configuration and the versions, so that the same
            command finds the same folder.

    Raises:
        RunError: if the folder cannot be written, holds something else, or belongs to
            a run with another configuration, other versions or another device.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> run = Run("rllc", {"steps": 100}, folder.name)
        >>> run.stage("one", lambda: {"loss": 0.5})
        {'loss': 0.5}
        >>> again = Run("rllc", {"steps": 100}, folder.name)
        >>> again.stage("one", lambda: 1 / 0)  # stored: not computed again
        {'loss': 0.5}
        >>> folder.cleanup()
    """

    def __init__(
        self,
        experiment: str,
        config: dict[str, Any],
        folder: str | os.PathLike[str] | None = None,
    ):
        asked = {
            "schema": SCHEMA,
            "experiment": experiment,
            "command": shlex.join(["python", *sys.orig_argv[1:]]),
            "config": _decode(json.loads(json.dumps(_encode(config)))),
            "versions": versions(),
            "machine": machine(),
            "started": datetime.datetime.now(datetime.UTC).isoformat(
                timespec="seconds"
            ),
        }
        self.folder = Path(folder) if folder is not None else default_folder(asked)
        self._seconds = 0.0
        self.header = self._open(asked)

    def _open(self, asked: dict[str, Any]) -> dict[str, Any]:
        header = self.folder / "run.json"
        try:
            (self.folder / "stages").mkdir(parents=True, exist_ok=True)
            others = [path.name for path in self.folder.iterdir()]
            there = header.exists()
        except OSError as error:
            raise _cannot_write(self.folder, error) from error
        if there:
            stored = read_json(header)
            _check_same(self.folder, stored, asked)
            return stored
        others = [n for n in others if n != "stages" and not n.endswith(".partial")]
        if others:
            raise RunError(
                f"{self.folder} is not a run folder: it has no run.json but holds "
                f"{sorted(others)[0]!r}; name a new or an empty folder"
            )
        write_atomically(header, _dump(asked))
        return asked

    @property
    def finished(self) -> bool:
        """Whether the result is written."""
        return (self.folder / "result.json").exists()

    def stage(self, name: str, compute: Callable[[], Any]) -> Any:
        """The value of a stage: stored if the stage is finished, else computed.

        Args:
            name: names the stage within the run: letters, digits, `.`, `_` and `-`.
            compute: called without arguments; gives dicts with string keys, lists,
                numbers, strings, `None` and arrays. What it reads besides the run's
                configuration must be values of earlier stages.

        Returns:
            The value as it was stored, so tuples come back as lists: a stage that has
            just been computed and one read from the folder cannot be told apart.

        Raises:
            RunError: if the stored value is damaged or the value cannot be written.
        """
        if not _STAGE_NAME.fullmatch(name):
            raise RunError(
                f"stage: expected a name of letters, digits, '.', '_' and '-', "
                f"got {name!r}"
            )
        path = self.folder / "stages" / f"{name}.json"
        if not path.exists():
            start = time.perf_counter()
            value = _encode(compute())
            seconds = time.perf_counter() - start
            write_atomically(path, json.dumps({"seconds": seconds, "value": value}))
        stored = read_json(path)
        if not isinstance(stored, dict) or not {"seconds", "value"} <= stored.keys():
            raise _damaged(path, "it lacks 'seconds' or 'value'")
        self._seconds += stored["seconds"]
        return _decode(stored["value"])

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Writes `result.json`: the result with the run's configuration and machine.

        Args:
            result: what the experiment found, by the schema in this module's docstring.

        Returns:
            The content of `result.json`.
        """
        whole = _strict({**self.header, "seconds": self._seconds, **result})
        write_atomically(self.folder / "result.json", _dump(whole))
        for left in self.folder.rglob(".*.partial"):  # of processes that were killed
            left.unlink(missing_ok=True)
        return whole


def read_result(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The result of a finished run.

    Args:
        folder: the run folder.

    Returns:
        The content of `result.json`; its schema is in this module's docstring.

    Raises:
        RunError: if there is none, it is damaged, or of another schema.
    """
    path = Path(folder) / "result.json"
    if not path.exists():
        raise RunError(_why_no_result(path))
    result = read_json(path)
    found = result.get("schema") if isinstance(result, dict) else None
    if found != SCHEMA:
        raise RunError(
            f"{path}: expected schema {SCHEMA}, got {found!r}; read it with the "
            f"version of this project that wrote it"
        )
    kinds = {
        "speed rllc": "steps",
        "speed combinability": "combinations",
        "combinability": "widths",
    }
    measured = kinds.get(str(result.get("experiment")), "methods")
    missing = {"experiment", "config", measured} - result.keys()
    if missing:
        raise _damaged(path, f"it lacks {sorted(missing)}")
    return result


def _why_no_result(path: Path) -> str:
    header = path.parent / "run.json"
    if not header.exists():
        return (
            f"{path.parent} holds no result.json; name the folder of a finished run, "
            f"as printed at its end"
        )
    command = read_json(header).get("command")
    return f"{path.parent}: the run has not finished; go on with\n  {command}"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file so that it is there whole or not at all.

    Raises:
        RunError: if it cannot be written: no permission, a full disk.
    """
    content = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        try:
            with open(partial, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        RunError: if it cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise _damaged(path, str(error)) from error


def default_folder(asked: dict[str, Any]) -> Path:
    """`runs/EXPERIMENT-DIGEST`: another digest for another question or version."""
    parts = [asked["experiment"], asked["config"], asked["versions"]]
    question = json.dumps([*parts, asked["machine"]["device"]], sort_keys=True)
    digest = hashlib.sha256(question.encode()).hexdigest()[:8]
    return Path("runs") / f"{asked['experiment'].replace(' ', '-')}-{digest}"


def _check_same(folder: Path, stored: Any, asked: dict[str, Any]) -> None:
    """Refuses to mix two questions, two versions or two devices in one run."""
    parts = ("schema", "experiment", "config", "versions", "machine")
    if not isinstance(stored, dict) or not set(parts) <= stored.keys():
        raise _damaged(folder / "run.json", f"it lacks one of {list(parts)}")
    pairs = [(stored[part], asked[part]) for part in parts[:4]]
    pairs.append((stored["machine"].get("device"), asked["machine"]["device"]))
    names = ("schema", "experiment", "", "version of ", "device")
    changes = [
        change
        for name, (there, here) in zip(names, pairs, strict=True)
        for change in _differences(name, there, here)
    ]
    if changes:
        raise RunError(
            f"{folder} belongs to another run: {'; '.join(changes)}. Name another "
            f"folder with --out, or delete this one"
        )


def _differences(name: str, there: Any, here: Any) -> list[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        keys = [*there, *(key for key in here if key not in there)]
        prefix = f"{name}." if name and not name.endswith(" ") else name
        return [
            change
            for key in keys
            for change in _differences(prefix + key, there.get(key), here.get(key))
        ]
    return [] if there == here else [f"{name} was {there!r}, now {here!r}"]


def _cannot_write(path: Path, error: OSError) -> RunError:
    advice = "name another folder with --out"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "make room and give the same command again, which goes on from here"
    return RunError(f"cannot write {path}: {error.strerror}; {advice}")


def _damaged(path: Path, why: str) -> RunError:
    return RunError(
        f"{path} is damaged: {why}; delete it and give the run's command again, which "
        f"computes only what is missing"
    )


def _encode(value: Any) -> Any:
    """A tree that JSON holds exactly; arrays keep their dtype and shape."""
    if isinstance(value, dict):
        wrong = [key for key in value if not isinstance(key, str)]
        if wrong:
            raise TypeError(f"stage value: expected string keys, got {wrong[0]!r}")
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray | jax.Array):
        array = np.asarray(value)
        content = {"array": array.ravel().tolist(), "shape": list(array.shape)}
        return content | {"dtype": array.dtype.name}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"stage value: expected dicts, lists, numbers, strings, None and arrays, "
        f"got {type(value).__name__}"
    )


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array", "shape", "dtype"}:
        return np.array(value["array"], value["dtype"]).reshape(value["shape"])
    return {key: _decode(item) for key, item in value.items()}


def _strict(value: Any) -> Any:
    """What every JSON reader accepts: arrays as lists, non-finite numbers as null."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        return _strict(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _dump(value: Any) -> str:
    return _lines(value, "\n") + "\n"


def _lines(value: Any, newline: str) -> str:
    """JSON, a line for each entry, but a list of numbers on one line."""
    inner = newline + " "
    if isinstance(value, dict) and value:
        items = [f"{json.dumps(k)}: {_lines(v, inner)}" for k, v in value.items()]
        return "{" + inner + f",{inner}".join(items) + newline + "}"
    if isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        items = [_lines(item, inner) for item in value]
        return "[" + inner + f",{inner}".join(items) + newline + "]"
    return json.dumps(value, allow_nan=False)
