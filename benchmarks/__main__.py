"""The command line of the benchmarks: `python -m benchmarks --help`.

What a command needs is imported when the command is known, so that help is quick.
"""

import collections
import dataclasses
import difflib
import importlib
import inspect
import logging
import os
import re
import shlex
import sys
import traceback
import warnings
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

_Folder = Annotated[
    Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(optional)")
]

EXPERIMENTS = ("rllc", "combinability", "stitching")
_SPEED_ABOUT = (
    "\n\nKeep the machine otherwise idle. A finished measurement is shown again "
    "rather than repeated: to measure again, give another folder."
)
# Modules of `benchmarks.speed`, and their help.
SPEED = {
    "rllc": (
        "Time one step of RLLC, Adam and AdEMAMix, alternately.\n\nEach step is "
        "compiled and works in place; ratios are to Adam's time in the same round and "
        "to the time that its memory traffic takes."
    ),
    "combinability": "Time matching and combining against plain loops, alternately.",
    "stitching": (
        "Time task-loss matching and measures from moments against the usual "
        "implementations, alternately."
    ),
}
COMMANDS = {
    "tour": "The whole project on embedded data, in two minutes.",
    "rllc": "Compare RLLC with other optimizers, and with itself frozen.",
    "combinability": "Train networks, align them, and combine them.",
    "stitching": "Join the front of one network to the back of another.",
    "speed": "Measure speed: speed rllc, combinability or stitching.",
    "report": "Draw the page of finished runs again, or compare several.",
}

# Options by group, each with what it decides on; what is not listed is in the last.
_DATA_AND_NETWORKS = (
    *("dataset", "model", "model_options", "weights", "weights_mapping"),
    *("width", "widths", "networks", "methods", "layers", "problems"),
)
_TRAINING = (
    *("steps", "batch_size", "learning_rate", "weight_decay", "schedules"),
    *("trials", "seeds"),
    *("training_steps", "training_batch_size", "training_learning_rate"),
)
_GROUPS = {
    "data_and_networks": ("What is trained or read.", _DATA_AND_NETWORKS),
    "training": ("How networks are trained.", _TRAINING),
    "computing": ("How numbers are computed.", ("precision", "dtype", "seed")),
    "evaluation": ("What is measured.", ()),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, by default the process's.

    Returns 0 if all went well, 2 for what the user can correct, 130 after Ctrl-C.
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
        if error.filename is None:
            raise
        _say(f"error: {error.strerror}: {error.filename}")
        return _USER_ERROR
    except ValueError as error:
        if not _is_for_the_user(error):
            raise
        _say(f"error: {_with_option(str(error), command, rest)}")
        return _USER_ERROR
    return _OK


def _tour(arguments: Sequence[str]) -> None:
    def tour(out: _Folder = None) -> Path | None:
        """From training to what lies between networks, on embedded data.

        Takes two minutes on two cores.

        Args:
            out: folder to write; by default one under runs/ that follows from versions.
        """
        return out

    out = tyro.cli(tour, prog=f"{_PROGRAM} tour", args=arguments)
    from benchmarks import tour as package

    _show(package.run, "tour", package.CONFIG, out)


def _experiment(name: str, arguments: Sequence[str]) -> None:
    """Parse options in groups, with the configuration's docstrings as their help."""
    Config = importlib.import_module(f"benchmarks.configs.{name}").Config
    default = Config()
    if "--quick" in arguments:
        default = dataclasses.replace(default, **default.quick)
    docs = [inspect.getdoc(kind) or "" for kind in reversed(Config.__mro__)]
    helps = "\n".join(doc.partition("Args:\n")[2] for doc in docs[1:])
    helps = re.sub(r"\n {8}", " ", helps)
    members: list[Any] = []
    left = {field.name: field.type for field in dataclasses.fields(default)}
    for group, (about, options) in _GROUPS.items():
        chosen = [option for option in left if option in options or not options]
        fields = [(one, left.pop(one), getattr(default, one)) for one in chosen]
        kind = dataclasses.make_dataclass(group, fields)
        kind.__doc__ = f"{about}\n\nArgs:\n{helps}"
        members.append((group, kind))
    members += [
        ("out", Annotated[_Folder, _OUT], None),
        ("data", Annotated[_Folder, _DATA], None),
        ("quick", Annotated[bool, _QUICK], False),
    ]
    found = tyro.cli(
        dataclasses.make_dataclass("Options", members),
        prog=f"{_PROGRAM} {name}",
        description=docs[-1].partition("Args:\n")[0],
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
    )
    groups = [vars(getattr(found, group)) for group in _GROUPS]
    options = dict(collections.ChainMap(*groups))
    if found.quick:
        small = Config.quick_by_model.get(options["model"], {})
        options |= {name: x for name, x in small.items() if options[name] is None}
    config = Config(**options)
    package = importlib.import_module(f"benchmarks.{name}")
    _show(package.run, name, config, found.out, data_directory=found.data)


_OUT = tyro.conf.arg(
    metavar="DIR",
    help="folder to write; by default one under runs/ that follows from the options.",
)
_DATA = tyro.conf.arg(
    metavar="DIR",
    help="folder with datasets and weights; by default $BENCHMARKS_DATA or the user's "
    "cache.",
)
_QUICK = tyro.conf.arg(help="small defaults, for a first look in about a minute.")


def _speed(arguments: Sequence[str]) -> None:
    name = (list(arguments) or ["--help"])[0]
    about = {kind: text.partition("\n")[0] for kind, text in SPEED.items()}
    if name in ("-h", "--help"):
        print(_help(" speed", "Measure speed against named baselines.\n", about))
        return
    if name not in SPEED:
        sys.exit(_unknown("measurement", name, SPEED))
    from benchmarks.configs.speed import CONFIGS

    kind = Annotated[CONFIGS[name], tyro.conf.arg(name="")]
    asked = tyro.cli(
        dataclasses.make_dataclass("Asked", [("config", kind), ("out", _Folder, None)]),
        prog=f"{_PROGRAM} speed {name}",
        description=SPEED[name] + _SPEED_ABOUT,
        args=list(arguments)[1:],
    )
    from rich.console import Console

    from benchmarks.speed import runner

    module = importlib.import_module(f"benchmarks.speed.{name}")
    folder, result = runner.run(module.BENCHMARK, asked.config, asked.out)
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
        folders: run folders, each of which holds result.json.
        out: folder for the page and figures, where a run's cannot be written, say; by
            default the first run's.
        format: file formats of the figures.
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
    _say(f"error: unknown {what} {name}{hint} (expected one of {', '.join(known)})")
    return _USER_ERROR


def _with_option(message: str, command: str, rest: Sequence[str]) -> str:
    """A message that begins with an option's name in code, as users know it."""
    kinds: Any = ()
    if command in EXPERIMENTS:
        kinds = [importlib.import_module(f"benchmarks.configs.{command}").Config]
    elif command == "speed":
        kinds = [importlib.import_module("benchmarks.configs.speed").CONFIGS[rest[0]]]
    names = [field.name for kind in kinds for field in dataclasses.fields(kind)]
    name, colon, after = message.partition(":")
    if colon and name in [*names, "out", "data"]:
        return f"--{name.replace('_', '-')}:{after}"
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


def _script() -> int:
    """Run the process's command; where nobody reads what it prints, end quietly."""
    try:
        try:
            code = main()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _OK
    if code == _USER_ERROR:
        # Of a damaged folder Orbax would list the errors of every array, also from
        # threads that go on reading.
        logging.disable()
        warnings.simplefilter("ignore")
        sys.unraisablehook = lambda _: None
    return code


if __name__ == "__main__":
    sys.exit(_script())
