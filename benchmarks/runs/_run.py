"""A run folder that remembers what was asked and what is finished."""

import contextlib
import datetime
import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks._machine import machine, versions
from benchmarks.runs import _schema
from benchmarks.runs._files import (
    RunError,
    cannot_write,
    damaged,
    dump,
    read_json,
    write_atomically,
)
from benchmarks.runs._forms import departures
from benchmarks.runs._values import decode, encode, strict

_STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


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
            "schema": _schema.NUMBER,
            "experiment": experiment,
            "command": shlex.join(["python", *sys.orig_argv[1:]]),
            "config": decode(json.loads(json.dumps(encode(config)))),
            "versions": versions(),
            "machine": machine(),
            "started": datetime.datetime.now(datetime.UTC).isoformat(
                timespec="seconds"
            ),
        }
        self.folder = Path(folder) if folder is not None else default_folder(asked)
        self._seconds = 0.0
        self._made: list[Path] | None = None  # folders, if this process began the run
        self.header = self._open(asked)

    def _open(self, asked: dict[str, Any]) -> dict[str, Any]:
        header = self.folder / "run.json"
        try:
            if header.exists():
                stored = read_json(header)
                _check_same(self.folder, stored, asked)
                return stored
            _check_empty(self.folder)
            parents = (self.folder, *self.folder.parents)
            self._made = [parent for parent in parents if not parent.exists()]
            with self.tentative():
                (self.folder / "stages").mkdir(parents=True, exist_ok=True)
                write_atomically(header, dump(asked))
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        return asked

    @contextlib.contextmanager
    def tentative(self) -> Iterator[None]:
        """Takes the folder back if an error comes before any work is in it.

        So a question that is refused leaves nothing behind. A folder that was there
        before stays, and so does one whose run was begun by an earlier process.
        """
        try:
            yield
        except (ValueError, OSError):
            if self._made is not None and not self._has_work():
                self._clear()
            raise

    def _has_work(self) -> bool:
        """Whether there is a file that would have to be computed again."""
        places = ("stages", "checkpoints", "networks")
        files = (path for place in places for path in self.folder.glob(f"{place}/*"))
        return any(path.suffix != ".partial" for path in files)

    def _clear(self) -> None:
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            for folder in self._made or ():  # others may write in the outer ones
                folder.rmdir()

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
            value = encode(compute())
            seconds = time.perf_counter() - start
            write_atomically(path, json.dumps({"seconds": seconds, "value": value}))
        stored = read_json(path)
        if not isinstance(stored, dict) or not {"seconds", "value"} <= stored.keys():
            raise damaged(path, "it lacks 'seconds' or 'value'")
        try:
            self._seconds += float(stored["seconds"])
            return decode(stored["value"])
        except (TypeError, ValueError, OverflowError) as error:
            raise damaged(path, str(error)) from error

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Writes `result.json`: the result with the run's configuration and machine.

        Args:
            result: what the experiment found, by `benchmarks.runs.schema`.

        Returns:
            The content of `result.json`.
        """
        whole = strict({**self.header, "seconds": self._seconds, **result})
        write_atomically(self.folder / "result.json", dump(whole))
        for left in self.folder.rglob(".*.partial"):  # of processes that were killed
            left.unlink(missing_ok=True)
        return whole


def default_folder(asked: dict[str, Any]) -> Path:
    """`runs/EXPERIMENT-DIGEST`: another digest for another question or version."""
    parts = [asked["experiment"], asked["config"], asked["versions"]]
    question = json.dumps([*parts, asked["machine"]["device"]], sort_keys=True)
    digest = hashlib.sha256(question.encode()).hexdigest()[:8]
    return Path("runs") / f"{asked['experiment'].replace(' ', '-')}-{digest}"


def _check_empty(folder: Path) -> None:
    """Refuses a folder with anything in it but what a killed run may have left."""
    there = folder.iterdir() if folder.exists() else ()
    names = sorted(path.name for path in there)
    others = [n for n in names if n != "stages" and not n.endswith(".partial")]
    if others:
        raise RunError(
            f"{folder} is not a run folder: it has no run.json but holds "
            f"{others[0]!r}; name a new or an empty folder"
        )


def _check_same(folder: Path, stored: Any, asked: dict[str, Any]) -> None:
    """Refuses to mix two questions, two versions or two devices in one run."""
    parts = ("schema", "experiment", "config", "versions", "machine")
    form = {part: _schema.COMMON[part] for part in (*parts, "command", "started")}
    for wrong in departures(form, stored):
        raise damaged(folder / "run.json", wrong)
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
