"""The command line of the benchmarks: `python -m benchmarks --help`.

What a command needs is imported when the command is known, so that help is quick.
"""

import dataclasses
import difflib
import errno
import importlib
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

_PROGRAM = "python -m benchmarks"
_ABOUT = """Experiments on networks and what lies between, each in one command.

Start with `python -m benchmarks tour`. A run writes a folder with result.json (every
number, with configuration, versions and machine), figures and report.html, which opens
in any browser. A stopped run continues when the same command is given again.
"""
_PACKAGES = ("benchmarks", "rllc", "combinability", "stitching")
_OK, _USER_ERROR, _INTERRUPTED = 0, 2, 130
# Errors of the file system that the user can resolve.
_OF_THE_SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM}
_OF_THE_SYSTEM |= {errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP}

_Folder = Annotated[
    Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(optional)")
]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A command that runs an experiment into a folder.

    Attributes:
      about: Its help.
      package: Where `Config` and `run` are.
      quick: Options of `--quick`, in place of the defaults.
    """

    about: str
    package: str
    quick: Mapping[str, Any]


EXPERIMENTS = {
    "rllc": Experiment(
        "Compare RLLC with the optimizers it competes with, and with itself frozen.\n\n"
        "Every method has the same number of trials; the best is run on fresh paired "
        "seeds. For instance: python -m benchmarks rllc --dataset fashion_mnist "
        "--steps 2000",
        "benchmarks.rllc",
        {
            "methods": ("momentum", "adam", "rllc", "rllc_adam", "rllc_frozen_initial"),
            "trials": 4,
            "seeds": 3,
            "steps": 200,
            "evaluations": 10,
        },
    ),
    "combinability": Experiment(
        "Train networks, align them, and combine them all over the hypercube.\n\n"
        "Shows barriers with and without matching and repair, losses of thousands of "
        "random combinations, transitivity, robustness, and how combinations differ. "
        "For instance: python -m benchmarks combinability --dataset mnist --widths 32 "
        "128",
        "benchmarks.combinability",
        {
            "widths": (64,),
            "networks": 3,
            "steps": 300,
            "rows": 200,
            "calibration": 100,
            "samples": 60,
            "points": 5,
            "fractions": (0.0, 0.2, 1.0),
            "resolution": 7,
        },
    ),
    "stitching": Experiment(
        "Join the front of one network to the back of another, at every layer.\n\n"
        "Shows how well stitched networks do with maps that are fitted directly or "
        "trained on the task, which ranks and sparsities are enough, what similarity "
        "indices say, and whether the stitches can be trusted. For instance: python -m "
        "benchmarks stitching --dataset cifar10 --model tiny10 --weights "
        "tiny10/seed0.npz tiny10/seed1.npz tiny10/seed2.npz",
        "benchmarks.stitching",
        {
            "model": "mlp",
            "networks": 2,
            "training_steps": 200,
            "pairs": 2,
            "deep": 0,
            "cross": 1,
            "fit_rows": 500,
            "test_rows": 300,
            "cross_rows": 200,
            "steps": 50,
        },
    ),
}
_SPEED_ABOUT = (
    "\n\nLeave the machine alone meanwhile. A finished measurement is shown again "
    "rather than repeated: to measure anew, name another folder."
)
# Modules of `benchmarks.speed`, and their help.
SPEED = {
    "rllc": (
        "Time one step of RLLC, Adam and AdEMAMix, in turns.\n\nEach step is compiled "
        "and works in place; ratios are to Adam's time in the same round and to the "
        "time that its memory traffic takes."
    ),
    "combinability": "Time matching and combining against plain loops, in turns.",
    "stitching": (
        "Time task-loss matching and measures from moments against the usual "
        "implementations, in turns."
    ),
}
COMMANDS = {
    "tour": "The whole project on embedded data, in two minutes.",
    **{name: one.about.partition("\n")[0] for name, one in EXPERIMENTS.items()},
    "speed": "Time what is meant to be fast: speed rllc, combinability or stitching.",
    "report": "Draw the page of finished runs again, or compare several.",
}

# Options by group; what is not listed is in the last.
_GROUPS = {
    "Data and networks": (
        *("dataset", "model", "model_options", "weights", "weights_mapping"),
        *("width", "widths", "networks", "methods", "layers", "problems"),
    ),
    "Training": (
        *("steps", "batch_size", "learning_rate", "schedules", "trials", "seeds"),
        *("training_steps", "training_batch_size", "training_learning_rate"),
    ),
    "Computing": ("precision", "dtype", "seed"),
    "Evaluation": (),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Args:
      arguments: What follows `python -m benchmarks`; by default the process's.

    Returns:
      0 if all went well, 2 for what the user can correct, 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command, rest = (arguments or ["--help"])[0], arguments[1:]
    try:
        if command in ("-h", "--help"):
            print(_help("", _ABOUT, COMMANDS))
        elif command == "tour":
            _tour(rest)
        elif command in EXPERIMENTS:
            _experiment(command, rest)
        elif command == "speed":
            _speed(rest)
        elif command == "report":
            tyro.cli(_report, prog=f"{_PROGRAM} report", args=rest)
        else:
            return _unknown("command", command, COMMANDS)
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
        _say(f"error: {_with_options(str(error))}")
        return _USER_ERROR
    return _OK


def _tour(arguments: Sequence[str]) -> None:
    def tour(out: _Folder = None) -> Path | None:
        """From training to what lies between networks, on embedded data.

        Takes two minutes on two cores.

        Args:
          out: Folder to write; by default one under runs/ that follows from versions.
        """
        return out

    out = tyro.cli(tour, prog=f"{_PROGRAM} tour", args=arguments)
    from benchmarks import tour as package

    _show(package.run, "tour", package.CONFIG, out)


def _experiment(name: str, arguments: Sequence[str]) -> None:
    experiment = EXPERIMENTS[name]
    package = importlib.import_module(experiment.package)
    default = package.Config()
    if "--quick" in arguments:
        default = dataclasses.replace(default, **experiment.quick)
    options = _parsed(f"{_PROGRAM} {name}", experiment.about, default, arguments)
    config = package.Config(**options.pop("config"))
    out, data = options["out"], options["data"]
    _show(package.run, name, config, out, data_directory=data)


def _parsed(
    program: str, about: str, default: Any, arguments: Sequence[str]
) -> dict[str, Any]:
    """Parse options of a configuration, in groups."""
    helps = dict(
        re.findall(
            r"^      (\w+): (.*?)(?=^      \w+: |^    \S|\Z)",
            (type(default).__doc__ or "") + "\n",
            re.DOTALL | re.MULTILINE,
        )
    )
    fields: dict[str, list[Any]] = {title: [] for title in _GROUPS}
    for field in dataclasses.fields(default):
        title = next(
            (t for t, names in _GROUPS.items() if field.name in names), "Evaluation"
        )
        help_ = " ".join(helps.get(field.name, "").split())
        value = dataclasses.field(default=getattr(default, field.name))
        kind = _Dataset if field.name == "dataset" else field.type
        typed = Annotated[kind, tyro.conf.arg(help=help_)]
        fields[title].append((field.name, typed, value))
    groups: list[Any] = []
    for title, members in fields.items():
        if members:
            group = dataclasses.make_dataclass(title.replace(" ", ""), members)
            group.__doc__ = None
            groups.append((title.lower().replace(" ", "_"), group, dataclasses.field()))
    folders = [
        ("out", Annotated[_Folder, _OUT], dataclasses.field(default=None)),
        ("data", Annotated[_Folder, _DATA], dataclasses.field(default=None)),
        ("quick", Annotated[bool, _QUICK], dataclasses.field(default=False)),
    ]
    every = dataclasses.make_dataclass("Options", groups + folders, kw_only=True)
    found = tyro.cli(
        every,
        prog=program,
        description=about,
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
    )
    config = {
        k: v for name, *_ in groups for k, v in vars(getattr(found, name)).items()
    }
    return {"config": config, "out": found.out, "data": found.data}


# Shown as choices; a file may be named as well.
_Dataset: Any = (
    Literal["digits", "mnist", "fashion_mnist", "cifar10", "cifar100"]
    | Literal["tiny_shakespeare"]
    | str
)
_OUT = tyro.conf.arg(
    metavar="DIR",
    help="Folder to write; by default one under runs/ that follows from the options.",
)
_DATA = tyro.conf.arg(
    metavar="DIR",
    help="Folder with datasets and weights; by default $BENCHMARKS_DATA or the user's "
    "cache.",
)
_QUICK = tyro.conf.arg(help="Small defaults, for a first look in about a minute.")


def _speed(arguments: Sequence[str]) -> None:
    name = (list(arguments) or ["--help"])[0]
    about = {kind: text.partition("\n")[0] for kind, text in SPEED.items()}
    if name in ("-h", "--help"):
        print(_help(" speed", "Time what is meant to be fast, in turns.\n", about))
        return
    if name not in SPEED:
        sys.exit(_unknown("measurement", name, SPEED))
    module = importlib.import_module(f"benchmarks.speed.{name}")

    def measure(config: Any, out: _Folder = None) -> tuple[Any, Path | None]:
        return config, out

    measure.__annotations__["config"] = Annotated[module.Config, tyro.conf.arg(name="")]

    program, text = f"{_PROGRAM} speed {name}", SPEED[name] + _SPEED_ABOUT
    config, out = tyro.cli(
        measure, prog=program, description=text, args=list(arguments)[1:]
    )
    from rich.console import Console

    from benchmarks.speed import runner

    folder, result = runner.run(module.BENCHMARK, config, out)
    console = Console()
    runner.show(module.BENCHMARK, result, console)
    path = folder / "result.json"
    console.print(f"\nNumbers: {path}", markup=False, soft_wrap=True)


def _report(
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
    from rich.console import Console

    from benchmarks import report
    from benchmarks._summaries import print_page

    path = report.write(*folders, out=out, formats=format)
    if len(folders) == 1:
        print(f"Report: {path}")
    else:
        print_page(report.compare(folders), path, Console())


def _show(
    run: Callable[..., Any], name: str, config: Any, out: Path | None, **options: Any
) -> None:
    """Run an experiment, write its page, and print what came out."""
    from rich.console import Console

    from benchmarks import report
    from benchmarks._launch import launch
    from benchmarks._summaries import print_page

    folder, result = launch(run, name, config, out, **options)
    report.write(folder)
    print_page(report.page(result), folder / "report.html", Console())


def _help(command: str, about: str, commands: Mapping[str, str]) -> str:
    rows = [f"  {name:<15}{text}" for name, text in commands.items()]
    usage = f"usage: {_PROGRAM}{command} COMMAND [OPTIONS]"
    more = f"`{_PROGRAM}{command} COMMAND --help` lists the options of a command."
    return "\n".join([usage, "", about, *rows, "", more])


def _unknown(what: str, name: str, known: Mapping[str, Any]) -> int:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    _say(f"error: unknown {what} {name}{hint} (there are {', '.join(known)})")
    return _USER_ERROR


def _with_options(message: str) -> str:
    """A message that begins with an option's name in code, as users know it."""
    name, colon, rest = message.partition(":")
    if colon and re.fullmatch(r"[a-z]+(_[a-z]+)*", name):
        return f"--{name.replace('_', '-')}:{rest}"
    return message


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
