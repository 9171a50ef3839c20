"""The command line stands whatever it is given.

It either starts to work, and then every option was sensible; or it says in a line what
is wrong, returns 2, and leaves the folder that it was called in as it was.
"""

import dataclasses
import errno
import functools
import os

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from benchmarks import data, training
from benchmarks.__main__ import main
from benchmarks.combinability import Config as CombinabilityConfig
from benchmarks.rllc import Config
from benchmarks.speed import CombinabilitySpeedConfig, SpeedConfig, _run
from benchmarks.training import _strategy, _train


class Started(Exception):
    """What was asked is about to be computed."""


COMMANDS = {
    ("rllc",): Config,
    ("combinability",): CombinabilityConfig,
    ("speed", "rllc"): SpeedConfig,
    ("speed", "combinability"): CombinabilitySpeedConfig,
}
# No option takes any of these, and every number is one of the second or the third.
SENSELESS = ["-1", "-7", "nan", "inf", "-inf", "2147483648", "9" * 30, "", "x", "1e3x"]
COUNTS = ["1", "2", "3", "5", "12", "1200000"]
SHARES = ["0", "0.0", "0.25", "1.0"]
WORDS = ["digits", "mlp", "resnet20", "sgd", "rllc", "constant", "scan", "quadratic"]
PLACES = [
    "run",
    "a/b",
    "[bold]",
    "[/bold]",
    "x" * 300,
    "/dev/null/run",
    "/proc/run",
    ".",
]

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
value = st.sampled_from([*SENSELESS, *COUNTS, *SHARES, *WORDS]) | words


@st.composite
def asked(draw):
    """A command with some of its options, and whether a value makes no sense."""
    command = draw(st.sampled_from(list(COMMANDS)))
    fields = dataclasses.fields(COMMANDS[command])
    arguments, senseless = list(command), False
    for field in draw(st.lists(st.sampled_from(fields), unique=True, max_size=3)):
        several = "tuple" in str(field.type)
        values = draw(st.lists(value, max_size=2)) if several else [draw(value)]
        arguments += [f"--{field.name.replace('_', '-')}", *values]
        senseless |= not values and field.name != "problems"
        senseless |= bool(set(values) & set(SENSELESS))
    if draw(st.booleans()):
        arguments += ["--out", draw(st.sampled_from(PLACES))]
    return arguments, senseless


@pytest.fixture
def started(monkeypatch, tmp_path):
    """What would take long raises `Started`; the current folder is an empty one."""

    def start(*arguments, **options):
        raise Started

    monkeypatch.setattr(_train, "_Training", start)
    monkeypatch.setattr(training, "fastest_strategy", start)
    monkeypatch.setattr(_strategy, "fastest_strategy", start)
    for name in ("steps", "matching", "combinations"):
        monkeypatch.setattr(_run, f"measure_{name}", start)
    monkeypatch.setattr(data, "load", functools.cache(data.load))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outcome(arguments, capsys):
    """What a command returns, "started" if it would have begun; and what it says."""
    try:
        status = main(arguments)
    except SystemExit as stopped:
        status = stopped.code
    except Started:
        status = "started"
    return status, capsys.readouterr().err


@given(asked=asked())
@example(asked=(["combinability", "--learning-rate", "nan"], True))
@example(asked=(["combinability", "--widths"], True))
@example(asked=(["speed", "combinability", "--seconds", "inf"], True))
@example(asked=(["rllc", "--model", "transformer"], True))
@example(asked=(["combinability", "--calibration", "1200000"], True))
@example(asked=(["combinability", "--networks", "2"], True))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_command_starts_or_is_refused_in_a_line(asked, started, capsys):
    arguments, senseless = asked
    before = set(started.rglob("*"))
    status, said = outcome(arguments, capsys)
    assert status in ("started", 2), said
    if status == "started":
        assert not senseless, arguments
        return
    assert "Traceback" not in said
    assert set(started.rglob("*")) == before, arguments
    if "error: " in said and "╭" not in said:
        [line] = [line for line in said.splitlines() if "error: " in line]
        assert len(line) > len("error: ")


@given(words=st.lists(words, min_size=1, max_size=3))
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_an_unknown_command_is_refused(words, started, capsys):
    status, said = outcome(["nothing", *words], capsys)
    assert status == 2
    assert "Traceback" not in said
    assert list(started.iterdir()) == []


@pytest.mark.parametrize(
    "error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS]
)
def test_what_the_system_refuses_is_told_in_a_line(error, started, monkeypatch, capsys):
    def refused(*arguments, **options):
        raise OSError(error, os.strerror(error), "some/file")

    monkeypatch.setattr(_train, "_Training", refused)
    assert main(["rllc", "--strategy", "scan", "--out", "run"]) == 2
    assert f"error: {os.strerror(error)}: some/file" in capsys.readouterr().err
    assert list(started.iterdir()) == []


def test_a_file_that_is_missing_within_is_a_bug_of_ours(started, monkeypatch):
    def broken(*arguments, **options):
        raise FileNotFoundError(errno.ENOENT, "No such file", "benchmarks/file")

    monkeypatch.setattr(_train, "_Training", broken)
    with pytest.raises(FileNotFoundError):
        main(["rllc", "--strategy", "scan", "--out", "run"])


@pytest.mark.parametrize("folder", ["x" * 300, "", "file", "/proc", "a\nb", "[/bold]"])
def test_a_report_of_what_is_no_run_folder_is_refused(folder, started, capsys):
    (started / "file").write_text("")
    status, said = outcome(["report", folder], capsys)
    assert status == 2
    assert said.startswith("error: ")
    assert [path.name for path in started.iterdir()] == ["file"]
