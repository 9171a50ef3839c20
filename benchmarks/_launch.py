"""An experiment from the command line: run folder, progress, report."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Display

from benchmarks.runs import Folder, Progress, Result, default_folder


def launch(
    run: Callable[..., Result],
    experiment: str,
    config: Any,
    folder: Folder = None,
    **options: Any,
) -> tuple[Path, Result]:
    """Run an experiment into a run folder, or continue it."""
    console = Console(stderr=True)
    if folder is None:
        data_directory = options.get("data_directory")
        folder = default_folder(experiment, config, data_directory)
    folder = Path(folder)
    finished = (folder / "result.json").exists()
    state = "finished before: shown from" if finished else "writing to"
    console.print(f"{experiment}: {state} {folder}", markup=False, highlight=False)
    with Bars(console) as bars, compile_once(folder):
        result = run(config, folder=folder, progress=bars, **options)
    return folder, result


@contextlib.contextmanager
def compile_once(folder: Path) -> Iterator[None]:
    """Keep compilations in the run folder until the run is finished."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    if before[names[0]] is None:
        jax.config.update(names[0], str(folder / "compilations"))
        jax.config.update(names[1], 0.2)
    try:
        yield
        shutil.rmtree(folder / "compilations", ignore_errors=True)
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


class Bars(Progress):
    """A bar for all stages, with the estimated remaining time, and one for the stage.

    Where there is no terminal to draw on, each stage is a line when it is finished.
    """

    def __init__(self, console: Console):
        self._console = console
        self._display = Display(
            TextColumn("{task.description:<32}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._whole = self._display.add_task("all stages", total=None, left="")
        self._part = self._display.add_task("", total=None, visible=False, left="")
        self._total = self._finished = self._computed = 0
        self._start = time.monotonic()

    def __enter__(self) -> "Bars":
        self._display.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._display.update(self._part, visible=False)
        self._display.update(self._whole, visible=self._total > 0)
        self._display.stop()

    def expect(self, stages: int) -> None:
        self._total = stages
        self._display.update(self._whole, total=stages)

    def begin(self, stage: str) -> None:
        self._display.reset(self._part, description=stage, total=None, visible=True)

    def advance(self, done: int, total: int) -> None:
        self._display.update(self._part, completed=done, total=total)
        self._estimate(done / max(total, 1))

    def end(self, stage: str, seconds: float, stored: bool) -> None:
        if not stored and not self._console.is_terminal:
            self._console.print(f"{stage}: {seconds:.1f} s")
        self._finished += 1
        self._computed += not stored
        self._display.update(self._whole, completed=self._finished)
        self._estimate(0.0)

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def _estimate(self, part: float) -> None:
        """Show what is left if the other stages take as long as those computed here."""
        computed, left = self._computed + part, self._total - self._finished - part
        if computed > 0 and self._total:
            seconds = (time.monotonic() - self._start) * max(left, 0.0) / computed
            minutes, seconds = divmod(round(seconds), 60)
            shown = f"about {minutes}:{seconds:02d} left" if left > 0 else ""
            self._display.update(self._whole, left=shown)
