"""The command line of the benchmarks: `python -m benchmarks --help`."""

import errno
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from benchmarks import report as reports
from benchmarks._launch import launch
from benchmarks._summaries import print_page
from benchmarks.combinability import Config as CombinabilityConfig
from benchmarks.combinability import run as run_combinability_experiment
from benchmarks.rllc import Config
from benchmarks.rllc import run as run_rllc
from benchmarks.runs import read_result
from benchmarks.speed import (
    CombinabilitySpeedConfig,
    SpeedConfig,
    StitchingSpeedConfig,
    print_combinability,
    print_steps,
    print_stitching,
    run_combinability,
    run_steps,
    run_stitching,
)
from benchmarks.stitching import Config as StitchingConfig
from benchmarks.stitching import run as run_stitching_experiment
from benchmarks.tour import CONFIG as TOUR
from benchmarks.tour import run as run_tour

_DESCRIPTION = """Experiments on networks and what lies between, each in one command.

Start with `python -m benchmarks tour`. A run writes a folder with result.json (every
number, with configuration, versions and machine); comparisons add figures and
report.html, which opens in any browser. Stopped runs go on when the same command is
given again."""

_PACKAGES = ("benchmarks", "rllc", "combinability", "stitching")
_OK, _USER_ERROR, _INTERRUPTED = 0, 2, 130
# What the machine refuses: room, permission, a name too long or with links in a loop.
_OF_THE_SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM}
_OF_THE_SYSTEM |= {errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP}

_Folder = Annotated[
    Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(optional)")
]

app = tyro.extras.SubcommandApp()
speed = tyro.extras.SubcommandApp()


@app.command
def tour(out: _Folder = None) -> None:
    """From training to what lies between networks, on embedded data, in two minutes.

    Args:
        out: Folder to write; by default one under runs/ that follows from the versions.
    """
    _show(run_tour, "tour", TOUR, out)


@app.command
def rllc(
    config: Annotated[Config, tyro.conf.arg(name="")],
    out: _Folder = None,
    data: _Folder = None,
) -> None:
    """Compare RLLC with the optimizers it competes with, and with itself frozen.

    Every method has the same number of trials; the best is run on fresh paired seeds.
    For instance: python -m benchmarks rllc --dataset fashion_mnist --steps 2000

    Args:
        config: The comparison.
        out: Folder to write; by default one under runs/ that follows from the options.
        data: Folder with the datasets; by default $BENCHMARKS_DATA or the user's cache.
    """
    _show(run_rllc, "rllc", config, out, data_directory=data)


@app.command
def combinability(
    config: Annotated[CombinabilityConfig, tyro.conf.arg(name="")],
    out: _Folder = None,
    data: _Folder = None,
) -> None:
    """Train networks, align them, and combine them all over the hypercube.

    Shows barriers with and without matching and repair, the losses of thousands of
    random combinations, transitivity, robustness, and how combinations differ.
    For instance: python -m benchmarks combinability --dataset mnist --widths 32 128

    Args:
        config: The experiments.
        out: Folder to write; by default one under runs/ that follows from the options.
        data: Folder with the datasets; by default $BENCHMARKS_DATA or the user's cache.
    """
    function = run_combinability_experiment
    _show(function, "combinability", config, out, data_directory=data)


@app.command
def stitching(
    config: Annotated[StitchingConfig, tyro.conf.arg(name="")],
    out: _Folder = None,
    data: _Folder = None,
) -> None:
    """Join the front of one network to the back of another, at every layer.

    Shows how well stitched networks do with maps that are fitted directly or trained on
    the task, which ranks and sparsities are enough, whether similarity indices tell,
    and whether the stitches may be believed.
    For instance: python -m benchmarks stitching --dataset cifar10 --model tiny10
    --weights tiny10/seed0.npz tiny10/seed1.npz tiny10/seed2.npz

    Args:
        config: The experiments.
        out: Folder to write; by default one under runs/ that follows from the options.
        data: Folder with the datasets, and with weights that are not found from here;
            by default $BENCHMARKS_DATA or the user's cache.
    """
    function = run_stitching_experiment
    _show(function, "stitching", config, out, data_directory=data)


@speed.command(name="rllc")
def speed_rllc(
    config: Annotated[SpeedConfig, tyro.conf.arg(name="")], out: _Folder = None
) -> None:
    """Time one step of RLLC beside Adam and AdEMAMix, in turns.

    Each step is compiled and works in place; what counts is its time relative to Adam's
    in the same round, and how near it comes to the time that its memory traffic takes.
    For instance: python -m benchmarks speed rllc --parameters 3000000

    Leave the machine alone meanwhile. A finished measurement is shown again rather than
    repeated: to measure anew, name another folder.

    Args:
        config: The measurement.
        out: Folder to write; by default one under runs/ that follows from the options.
    """
    _print_measured(*run_steps(config, out), print_steps)


@speed.command(name="combinability")
def speed_combinability(
    config: Annotated[CombinabilitySpeedConfig, tyro.conf.arg(name="")],
    out: _Folder = None,
) -> None:
    """Time matching and combining beside plain loops, in turns.

    Leave the machine alone meanwhile. A finished measurement is shown again rather than
    repeated: to measure anew, name another folder.

    Args:
        config: The measurement.
        out: Folder to write; by default one under runs/ that follows from the options.
    """
    _print_measured(*run_combinability(config, out), print_combinability)


@speed.command(name="stitching")
def speed_stitching(
    config: Annotated[StitchingSpeedConfig, tyro.conf.arg(name="")],
    out: _Folder = None,
) -> None:
    """Time task-loss matching and measures from moments beside the usual ways.

    Leave the machine alone meanwhile. A finished measurement is shown again rather than
    repeated: to measure anew, name another folder.

    Args:
        config: The measurement.
        out: Folder to write; by default one under runs/ that follows from the options.
    """
    _print_measured(*run_stitching(config, out), print_stitching)


app.command(
    speed,
    name="speed",
    help="Time what is meant to be fast, against named baselines: `speed rllc`, "
    "`speed combinability`, `speed stitching`.",
)


@app.command
def report(
    folders: Annotated[
        tuple[Path, ...], tyro.conf.arg(metavar="DIR [DIR ...]"), tyro.conf.Positional
    ],
    out: _Folder = None,
    format: tuple[Literal["png", "svg", "pdf"], ...] = ("png",),
) -> None:
    """Draw the figures and the page of finished runs again, without running them.

    Of several runs of one experiment it shows side by side what differed and what came
    out, and writes that as comparison.html.

    Args:
        folders: Run folders, each of which holds result.json.
        out: Folder for comparison.html; by default the first run's.
        format: File formats of the figures.
    """
    if len(folders) == 1:
        print(f"Report: {reports.write(folders[0], format)}")
        return
    path = reports.write_comparison(folders, out, format)
    print_page(reports.compare(folders), path, Console())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status.

    Args:
        arguments: what follows `python -m benchmarks`; by default the process's.

    Returns:
        0 if all went well, 2 for what the user can mend, 130 after Ctrl-C.
    """
    try:
        app.cli(prog="python -m benchmarks", description=_DESCRIPTION, args=arguments)
    except KeyboardInterrupt:
        again = shlex.join(["python", *sys.orig_argv[1:]])
        _say(f"\nStopped. What is finished is kept; to continue, repeat\n  {again}")
        return _INTERRUPTED
    except OSError as error:
        if error.errno not in _OF_THE_SYSTEM:
            raise
        _say(f"error: {error.strerror}: {error.filename or 'no file named'}")
        return _USER_ERROR
    except ValueError as error:
        if not _is_for_the_user(error):
            raise
        _say(f"error: {error}")
        return _USER_ERROR
    return _OK


def _show(
    run: Callable[..., Any], name: str, config: Any, out: Path | None, **options: Any
) -> None:
    """Run an experiment, write its page, and print what came out."""
    folder, result = launch(run, name, config, out, **options)
    reports.write(folder)
    print_page(reports.page(result), folder / "report.html", Console())


def _print_measured(
    folder: Path, _: Any, show: Callable[[dict[str, Any], Console], None]
) -> None:
    console = Console()
    show(read_result(folder), console)
    console.print(f"\nNumbers: {folder / 'result.json'}", markup=False, soft_wrap=True)


def _is_for_the_user(error: ValueError) -> bool:
    """Whether our own code raised it; what a library raises is a bug of ours."""
    origin = traceback.extract_tb(error.__traceback__)[-1]
    root = Path(__file__).parent.parent
    ours = [root / package for package in _PACKAGES]
    raised = (origin.line or "").startswith("raise ")
    return raised and any(map(Path(origin.filename).is_relative_to, ours))


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
