"""Run folders: what a run was asked, which stages are finished, and its result.

======================  ==========================================================
`run.json`              configuration, versions and machine (written first)
`stages/NAME.json`      the value of one finished stage
`checkpoints/NAME/`     unfinished work of the current stage
`networks/`             trained networks, where an experiment keeps them
`result.json`           every number (written last)
======================  ==========================================================

Every file is written under another name and then renamed, so a file that exists is
complete. A run that was stopped, by Ctrl-C, a crash or a power cut, continues when the
same command is given again, and ends with the same result.

A result is a `Result`, a msgspec struct; each experiment defines its own in a file
`_result.py`. Types are the schema: `read` checks a file against them. In JSON a number
that is not finite is null; in the structs it is NaN.
"""

import dataclasses
import datetime
import errno
import hashlib
import importlib
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import msgspec
import numpy as np

from benchmarks._given import Given
from benchmarks._machine import Machine, machine, versions

SCHEMA = 2

# The type of each experiment's result, imported when it is needed.
RESULTS = {
    "rllc": "benchmarks.rllc._result:Result",
    "tour": "benchmarks.tour:Result",
    "combinability": "benchmarks.combinability._result:Result",
    "stitching": "benchmarks.stitching._result:Result",
    "speed rllc": "benchmarks.speed.runner:Result",
    "speed combinability": "benchmarks.speed.runner:Result",
    "speed stitching": "benchmarks.speed.runner:Result",
}

Folder = str | os.PathLike[str] | None
_R = TypeVar("_R", bound="Result")

if TYPE_CHECKING:
    Number = float
else:

    class Number(float):
        """A number in a result that may be NaN, which JSON holds as null."""


class RunError(ValueError):
    """A run folder or result that cannot be used; the message says what to do."""


class Record(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Base of what a result consists of; fields are named, unknown ones rejected."""


class Header(Record):
    """Configuration, versions and machine of a run."""

    schema: int  # the version of the result's format
    experiment: str  # A name in `RESULTS`
    command: str  # the command that started the run
    config: dict[str, Any]  # every option, defaults included
    # Of Python, JAX, Optax, …; "source" is a digest of this project's code.
    versions: dict[str, str]
    machine: Machine  # device and processor
    started: str  # ISO 8601, UTC


class Result(Header):
    """Fields common to all results."""

    seconds: float  # computing time of all stages together


class Progress:
    """How a run reports what it does; this one keeps quiet."""

    def expect(self, stages: int) -> None:
        """Called with the number of stages, before the first."""

    def begin(self, stage: str) -> None:
        """Called before a stage, computed or stored."""

    def advance(self, done: int, total: int) -> None:
        """Called within a stage, in units of its choice."""

    def end(self, stage: str, seconds: float, stored: bool) -> None:
        """Called after a stage; `stored` if it was finished by an earlier process."""

    def note(self, text: str) -> None:
        """Called with a sentence for the user."""


class Run:
    """A run folder.

    The folder is created by the first stage; an error before anything is finished
    removes it again.

    Args:
        experiment: a name in `RESULTS`.
        config: a dataclass with every option.
        folder: the run folder; by default a temporary one.
        progress: informed of stages and their progress.
        data_directory: where files that the configuration names may lie.
        given: objects that stand in place of what the configuration names.

    Raises:
        RunError: if the folder cannot be used: it holds something else, or a run with
            another configuration, other versions or other devices.

    Example:
        >>> import dataclasses, tempfile
        >>> Config = dataclasses.make_dataclass("Config", [("steps", int)])
        >>> folder = tempfile.TemporaryDirectory()
        >>> run = Run("rllc", Config(100), folder.name)
        >>> run.stage("one", lambda: {"loss": 0.5})
        {'loss': 0.5}
        >>> again = Run("rllc", Config(100), folder.name)
        >>> again.stage("one", lambda: 1 / 0)  # stored: not computed again
        {'loss': 0.5}
        >>> folder.cleanup()
    """

    def __init__(
        self,
        experiment: str,
        config: Any,
        folder: Folder = None,
        progress: Progress | None = None,
        data_directory: Folder = None,
        given: Given | None = None,
    ):
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory()
            folder = self._temporary.name
        self.folder = Path(folder)
        self.header = header(experiment, config, data_directory, given)
        progress = progress or Progress()
        self.expect, self.advance = progress.expect, progress.advance
        self._progress = progress
        self._seconds = 0.0
        self._current = ""
        self._created = False
        path = self.folder / "run.json"
        try:
            if path.exists():
                stored = _decode(path, path.read_bytes(), Header)
                _check_same(self.folder, stored, self.header)
                self.header = stored
            else:
                _check_empty(self.folder)
        except OSError as error:
            raise RunError(f"cannot read {path}: {error.strerror}") from error

    @property
    def finished(self) -> bool:
        """Whether the result is written."""
        return (self.folder / "result.json").exists()

    def result(self) -> Any:
        """Return the result of a finished run."""
        return read(self.folder)

    def checkpoint(self, name: str = "state.npz") -> Path:
        """Return the file that the current stage may keep unfinished work in.

        It is removed when the value of the stage is stored.
        """
        return self.folder / "checkpoints" / self._current / name

    def stage(
        self,
        name: str,
        compute: Callable[[], Any],
        type: Any = Any,
        check: Callable[[], Any] | None = None,
    ) -> Any:
        """Return the value of a stage as it is stored; compute it if it is not.

        Args:
            name: the name of a file.
            compute: returns structs, dicts with string keys, lists, numbers, strings,
                None or arrays. It may read the configuration and values of earlier
                stages.
            type: what the stored JSON is read as; by default plain JSON, in which
                arrays and tuples are lists and numbers that are not finite are None.
            check: raises a ValueError if a file that the stage has written is missing
                or damaged; the stage is then computed again.
        """
        path = self.folder / "stages" / f"{name}.json"
        self._current = name
        self._progress.begin(name)
        stored = path.exists()
        if stored and check is not None:
            try:
                check()
            except ValueError as error:
                stored = False
                self._progress.note(f"{error}; computing {name} again")
        if not stored:
            self._create()
            start = time.perf_counter()
            try:
                value = compute()
            except (ValueError, OSError):
                self._remove_if_empty()
                raise
            seconds = time.perf_counter() - start
            write_atomically(path, encode({"seconds": seconds, "value": value}))
            shutil.rmtree(self.folder / "checkpoints" / name, ignore_errors=True)
        found = _decode(path, path.read_bytes(), _Stage)
        self._seconds += found.seconds
        self._progress.end(name, found.seconds, stored)
        return _decode(path, bytes(found.value), type)

    def finish(self, type: type[_R], **fields: Any) -> _R:
        """Write `result.json`: the header and what the experiment found."""
        self._create()
        whole = {**msgspec.structs.asdict(self.header), "seconds": self._seconds}
        content = encode(whole | fields)
        path = self.folder / "result.json"
        result = _decode(path, content, type)
        write_atomically(path, content)
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        for left in self.folder.rglob(".*.partial"):  # of processes that were killed
            left.unlink(missing_ok=True)
        return result

    def _create(self) -> None:
        path = self.folder / "run.json"
        if not path.exists():
            self._created = True
            content = msgspec.json.format(encode(self.header), indent=2)
            write_atomically(path, content)

    def _remove_if_empty(self) -> None:
        places = ("stages", "checkpoints", "networks")
        kept = (p for place in places for p in self.folder.glob(f"{place}/**/*"))
        if self._created and not any(path.is_file() for path in kept):
            shutil.rmtree(self.folder, ignore_errors=True)


class _Stage(msgspec.Struct):
    seconds: float
    value: msgspec.Raw


def header(
    experiment: str,
    config: Any,
    data_directory: Folder = None,
    given: Given | None = None,
) -> Header:
    """Return the header of a run that starts now."""
    given = given or Given()
    options = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    options = msgspec.json.decode(encode({**options, **given.options}))
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Header(
        schema=SCHEMA,
        experiment=experiment,
        command=shlex.join(["python", *sys.orig_argv[1:]]),
        config=options,
        versions=versions(options, data_directory) | dict(given.digests),
        machine=machine(),
        started=now,
    )


def default_folder(experiment: str, config: Any, data_directory: Folder = None) -> Path:
    """Return `runs/EXPERIMENT-DIGEST`; options, versions, devices give the digest."""
    asked = header(experiment, config, data_directory)
    devices = asked.machine.device, asked.machine.devices
    parts = [experiment, asked.config, asked.versions, *devices]
    question = json.dumps(parts, sort_keys=True)
    digest = hashlib.sha256(question.encode()).hexdigest()[:8]
    return Path("runs") / f"{experiment.replace(' ', '-')}-{digest}"


def read(folder: str | os.PathLike[str]) -> Any:
    """Return the result of a finished run."""
    path = Path(folder) / "result.json"
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise RunError(_why_no_result(path.parent)) from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    plain = _decode(path, content, dict[str, Any])
    if plain.get("schema") != SCHEMA:
        raise RunError(
            f"{path}: expected schema {SCHEMA}, got {plain.get('schema')!r}; read it "
            "with the version of this project that wrote it"
        )
    name = plain.get("experiment")
    if name not in RESULTS:
        raise RunError(f"{path}: expected an experiment of {[*RESULTS]}, got {name!r}")
    module, _, attribute = RESULTS[name].partition(":")
    return _decode(path, content, getattr(importlib.import_module(module), attribute))


def read_result(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the result of a finished run as plain JSON values."""
    return msgspec.json.decode(encode(read(folder)))


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file, and the folder it is in, so that it is complete or absent."""
    content = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        advice = "name another folder with --out"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = f"make room and repeat the command, which continues, or {advice}"
        raise RunError(f"cannot write {path}: {error.strerror}; {advice}") from error


def encode(value: Any) -> bytes:
    """Return JSON; numbers that are not finite are null, arrays are lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic | jax.Array):
            return np.asarray(value).tolist()
        if isinstance(value, float):
            return float(value)
        raise TypeError(
            "stage value: expected dicts, lists, numbers, strings, None and arrays, "
            f"got {type(value).__name__}"
        )

    return msgspec.json.encode(value, enc_hook=plain)


def _decode(path: Path, content: bytes, type: Any) -> Any:
    """What JSON holds, checked against a type; null numbers are NaN."""

    def special(type: Any, value: Any) -> Any:
        if type is Number:
            return Number("nan" if value is None else value)
        try:
            return np.array(value, float)
        except (TypeError, ValueError):
            raise ValueError("expected numbers in lists of equal lengths") from None

    try:
        return msgspec.json.decode(content, type=type, dec_hook=special)
    except msgspec.DecodeError as error:
        raise RunError(
            f"{path} is damaged: {error}; delete it and repeat the run's command, "
            "which computes only what is missing"
        ) from error


def _check_empty(folder: Path) -> None:
    there = folder.iterdir() if folder.exists() else ()
    names = sorted(path.name for path in there if not path.name.endswith(".partial"))
    if [name for name in names if name not in ("stages", "compilations")]:
        raise RunError(
            f"{folder} is not a run folder: it has no run.json but holds "
            f"{names[0]!r}; name a new or an empty folder"
        )


def _check_same(folder: Path, stored: Header, asked: Header) -> None:
    if stored.experiment != asked.experiment:
        changes = [f"it is a run of {stored.experiment}, not of {asked.experiment}"]
    else:
        there, here = (
            {
                "schema": one.schema,
                "device": one.machine.device,
                # How samples are shared changes how their values are rounded.
                "number of devices": one.machine.devices,
                **one.config,
            }
            | {f"version of {name}": value for name, value in one.versions.items()}
            for one in (stored, asked)
        )
        changes = [
            f"{name} was {there.get(name)!r}, now {here.get(name)!r}"
            for name in dict.fromkeys([*there, *here])
            if there.get(name) != here.get(name)
        ]
    if changes:
        raise RunError(
            f"{folder} belongs to another run: {'; '.join(changes)}. Name another "
            "folder with --out, or delete this one"
        )


def _why_no_result(folder: Path) -> str:
    path = folder / "run.json"
    if not path.exists():
        return (
            f"{folder} holds no result.json; name the folder of a finished run, as "
            "printed at its end"
        )
    asked = _decode(path, path.read_bytes(), Header)
    return f"{folder}: the run has not finished; continue with\n  {asked.command}"
