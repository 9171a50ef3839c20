"""What cannot be used: options, files and folders, each error naming what is wrong."""

import gzip
import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks import combinability, data, models, rllc, runs, stitching, weights
from benchmarks.__main__ import main
from benchmarks.data import _published

MLP, ROW = models.MLP(3, features=(4,)), np.ones((1, 5), np.float32)
IDX = bytes([0, 0, 8, 2]) + np.array([3, 2], ">u4").tobytes() + bytes(6)


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def read_idx(path):
    return _published.read_idx(path, (3, 2))


def read_cifar(path):
    return _published.read_cifar(path, 2, 1)


def read_own(path):
    return data.load(str(path))


def read_weights(path):
    return weights.load(path, MLP, ROW)


def read_result(path):
    return runs.read(path.parent)


OWN = {"x": np.ones((9, 4, 4), np.uint8), "y": np.arange(9) % 3}
# Name, content, reader, what the error says besides the name.
FILES = [
    ("short.gz", gzip.compress(IDX)[:-9], read_idx, "could not be decompressed"),
    ("plain.gz", IDX, read_idx, "Not a gzipped file"),
    ("cut.gz", gzip.compress(IDX[:-1]), read_idx, r"\[3, 2\].*got 17 bytes"),
    ("long.gz", gzip.compress(IDX + b"x"), read_idx, "got 19 bytes"),
    ("page.gz", gzip.compress(b"<html>"), read_idx, "expected an IDX file"),
    ("none.gz", None, read_idx, "could not be decompressed"),
    ("short.bin", bytes(2 * 3073 - 1), read_cifar, "6146 bytes.*got 6145"),
    ("none.bin", None, read_cifar, "could not be read"),
    ("cut.npz", npz(**OWN)[:-40], read_own, "not a NumPy archive"),
    ("empty.npz", b"", read_own, "not a NumPy archive"),
    ("object.npz", npz(x=np.array([{}]), y=np.ones(1)), read_own, "pickle"),
    ("wrong.npz", npz(a=np.ones(3)), read_own, "expected the arrays x_train.* got a"),
    ("y.npz", npz(x=OWN["x"], y=OWN["y"][:3]), read_own, "y: expected integers, one"),
    ("real.npz", npz(x=OWN["x"], y=OWN["y"] / 2), read_own, "y: expected integers"),
    ("minus.npz", npz(x=OWN["x"], y=OWN["y"] - 1), read_own, "integers from 0"),
    ("wraps.npz", npz(x=OWN["x"], y=OWN["y"] + 2**31), read_own, "y: .*got 2147483648"),
    ("nan.npz", npz(x=[[0.0]] * 3 + [[np.nan]], y=[0] * 4), read_own, "x: .*nan in ro"),
    ("inf.npz", npz(x=[[0.0], [-np.inf], [1]], y=[0] * 3), read_own, "-inf in row 1"),
    ("large.npz", npz(x=[[0.0], [1], [1e39]], y=[0] * 3), read_own, "1e.39 in row 2"),
    ("token.npz", npz(x=[[0], [1], [-1]], y=[0] * 3), read_own, "x: .*got -1 in row 2"),
    ("ids.npz", npz(x=[[2**31], [1], [1]], y=[0] * 3), read_own, "x: .*in row 0"),
    ("rows.npz", npz(x=OWN["x"], y=np.zeros((9, 4), int)), read_own, "y: expected int"),
    ("reals.npz", npz(x=np.ones((9, 4)), y=np.ones((9, 4), int)), read_own, "9 rows"),
    ("axes.npz", npz(x=np.ones(9), y=OWN["y"]), read_own, "numbers with 2 to 4 axes"),
    ("few.npz", npz(x=OWN["x"][:2], y=OWN["y"][:2]), read_own, "at least 3 rows"),
    ("none.npz", None, read_own, "dataset: there is no file"),
    ("cut.npz", npz(**{"a/b": np.ones(9)})[:-40], read_weights, "damaged"),
    ("cut.safetensors", b"\x10", read_weights, "damaged, or of another format"),
    ("other.npz", npz(**{"a/b": np.ones(9)}), read_weights, "'a/b' is unexpected"),
    (
        "tiny.npz",
        npz(**{"conv8.weight": ROW}),
        read_weights,
        "Tiny-10.*model is MLP",
    ),
    ("state.pt", b"", read_weights, r"safetensors\.torch\.save_file"),
    ("gone.npz", None, read_weights, "there is no such file"),
    ("result.json", b'{"schema": 2', read_result, "is damaged"),
    ("result.json", b"\xff\xfe", read_result, "is damaged"),
    ("result.json", b'{"schema": 99}', read_result, "expected schema 2, got 99"),
    ("result.json", b'{"schema": 2, "experiment": "x"}', read_result, "got 'x'"),
]


# Named by their files: a compressed file holds the time, and processes must agree.
@pytest.mark.parametrize(
    ("name", "content", "read", "said"), FILES, ids=[name for name, *_ in FILES]
)
def test_a_file_that_cannot_be_used_is_named(name, content, read, said, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"(?s){said}") as raised:
        read(path)
    assert name in str(raised.value)
    assert len(str(raised.value)) < 1500


def test_a_wrong_archive_of_cifar_is_named(tmp_path):
    (tmp_path / "cifar10").mkdir()
    archive = tmp_path / "cifar10" / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz"):
        pass
    with pytest.raises(data.DataError, match=r"binary\.tar\.gz.*expected SHA-256"):
        data.load("cifar10", tmp_path, download=False)


COMB, STITCH = combinability.Config, stitching.Config
OPTIONS = [
    (rllc.Config, {"methods": ("sgdd",)}, "got 'sgdd'; did you mean 'sgd'"),
    (rllc.Config, {"methods": ("rllc_frozen_learned",)}, "expected 'rllc' too"),
    (rllc.Config, {"methods": ()}, "methods: expected at least one"),
    (rllc.Config, {"methods": ("sgd", "sgd")}, "methods: expected .* each once"),
    (rllc.Config, {"schedules": ("linear",)}, "schedules: expected one of"),
    (rllc.Config, {"problems": ("rosenbrok",)}, "did you mean 'rosenbrock'"),
    (rllc.Config, {"trials": 0}, "trials: expected at least 1, got 0"),
    (rllc.Config, {"steps": 2**31}, "steps: expected at most 2147483647"),
    (rllc.Config, {"steps": 5}, "evaluations: expected at most steps=5, got 24"),
    (COMB, {"model": "mlq"}, "did you mean 'mlp'"),
    (COMB, {"networks": 1}, "networks: expected at least 2, got 1"),
    (COMB, {"samples": 2}, "samples: expected at least 5"),
    (COMB, {"fractions": (0.0, 1.5)}, r"fractions: expected .* in \[0, 1\]"),
    (COMB, {"weight_decay": -1.0}, "weight_decay: expected a finite number"),
    (COMB, {"widths": ()}, "widths: expected one or more integers"),
    (COMB, {"rows": 0}, "rows: expected at least 1, got 0"),
    (COMB, {"model": "tiny10", "widths": (2,)}, "'tiny10' has one size"),
    (COMB, {"weights": ("a.npz",)}, "widths: expected one, that of"),
    (STITCH, {"ranks": (0.0,)}, "ranks: expected numbers between 0 and 1"),
    (STITCH, {"penalties": (1.0,)}, "penalties: expected numbers between 0 and 1"),
    (STITCH, {"task_penalties": (-1.0,)}, "task_penalties: expected"),
    (rllc.Config, {"changing": "weather"}, "changing: expected one of labels, inputs"),
    (rllc.Config, {"change_every": 0}, "change_every: expected at least 1, got 0"),
    (STITCH, {"width": 2}, "width: expected none, as 'cnn' has one size, got 2"),
    (STITCH, {"other_width": 2}, "other_width: expected none, as 'cnn' has one size"),
    (STITCH, {"other_model": "x"}, "other_model: expected one of"),
    (STITCH, {"between": 1}, "between: expected at least 2, got 1"),
    (STITCH, {"batch_size": 6000}, "fit_rows: expected at least 6000, got 5000"),
    (STITCH, {"learning_rate": 0.0}, "learning_rate: expected a positive"),
    *((kind, {"precision": "heighest"}, "mean 'highest'") for kind in (COMB, STITCH)),
    *((kind, {"dtype": "float16"}, "mean 'bfl") for kind in (rllc.Config, COMB)),
]


@pytest.mark.parametrize(("config", "options", "said"), OPTIONS)
def test_an_option_that_is_out_of_range_is_named(config, options, said):
    with pytest.raises(ValueError, match=said):
        config(**options)


COMMANDS = [
    ("report nowhere", "holds no result.json"),
    ("rlcc", "did you mean rllc"),
    ("speed rlc", "did you mean rllc"),
    ("rllc --dataset mnits", "--dataset: expected one of .*did you mean 'mnist'"),
    ("rllc --dataset none.npz", "--dataset: there is no file 'none.npz'"),
    ("rllc --data nowhere", "--data: there is no folder 'nowhere'"),
    ("rllc --model mpl", "--model: expected one of"),
    ("rllc --model no_such:Net", "--model: there is no module 'no_such'"),
    ("rllc --model optax:Net", "--model: 'optax' has no 'Net'"),
    ("rllc --model-options {", "--model-options: expected a JSON object"),
    ('rllc --model-options {"a":1}', "--model-options: expected none for 'mlp'"),
    ("rllc --methods adam optax:none", "--methods: 'optax' has no 'none'"),
    ("rllc --methods optax:__name__", "--methods: expected .* to be a function"),
    ("rllc --batch-size 1000000", "--batch-size: expected at most 1197"),
    ("rllc --model cnn --dataset tiny_shakespeare", "is not there, and could not be"),
    ("combinability --networks 2", "--networks: expected at least 3"),
    ("combinability --widths 8 --calibration 5000", "--calibration: expected fewer"),
    ("combinability --model tiny10 --weights no.npz", "--weights: there is no file"),
    ("stitching --weights-mapping optax:none", "--weights-mapping: 'optax' has no"),
    ("stitching --layers Convv", "nearest are 'Conv"),
    ("rllc --out /dev/null/run", "cannot (read|write) /dev/null/run"),
]


@pytest.mark.parametrize(("arguments", "said"), COMMANDS)
def test_a_mistake_is_reported_in_a_line_before_a_folder_is_made(
    arguments, said, tmp_path, monkeypatch, capsys
):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCHMARKS_DATA", str(tmp_path))
    monkeypatch.setattr("pooch.retrieve", offline)
    try:
        code = main(arguments.split())
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    captured = " ".join(capsys.readouterr().err.split())
    assert "error: " in captured
    assert re.search(said, captured), captured
    assert "Traceback" not in captured
    assert not [path for path in Path(tmp_path).rglob("*") if path.is_file()]
