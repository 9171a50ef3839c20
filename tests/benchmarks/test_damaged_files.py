"""Files that are damaged, are not files, or claim more than they hold; a full disk.

Each reader either gives what was written or says which file is wrong; none takes
memory for what a header merely claims, and nothing is unpickled.
"""

import contextlib
import functools
import gzip
import io
import json
import os
import resource
import tracemalloc
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.data import DataError, _cifar, _idx, _mnist, load
from benchmarks.networks import load_networks, save_networks
from benchmarks.runs import Run, RunError, _run, read_result, write_atomically
from benchmarks.training import CheckpointError, _checkpoint
from combinability._arrays_file import read_arrays
from combinability._checkpoint import Checkpoint

ARRAYS = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6.0).reshape(3, 2)),
    "number": np.array(7),
    "text": np.array("what was asked"),
}
HUGE = 10**12  # bytes


def npz_bytes(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def claiming(shape, content=b"\0" * 24, dtype="<f4", compression=zipfile.ZIP_STORED):
    """An intact zip file of one array whose header claims a shape."""
    header = io.BytesIO()
    about = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, about)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("matrix.npy", header.getvalue() + content)
    return buffer.getvalue()


def with_objects():
    buffer = io.BytesIO()
    np.savez(buffer, matrix=np.array([{"code": "runs"}], object))
    return buffer.getvalue()


def flipped(content, place, bits=0xFF):
    changed = bytearray(content)
    changed[place % len(content)] ^= bits
    return bytes(changed)


WHOLE = npz_bytes(**ARRAYS)
DAMAGED = {
    "empty": b"",
    "noise": bytes(range(256)) * 40,
    "another format": b"\x93NUMPY" + b"\x01\x00" * 100,
    "a JSON file": b'{"schema": 1}',
    "cut in a header": WHOLE[:20],
    "cut in an array": WHOLE[:150],
    "cut in the directory": WHOLE[:-60],
    "cut at the end": WHOLE[:-1],
    "a gap in the middle": WHOLE[:200] + WHOLE[300:],
    "halves exchanged": WHOLE[len(WHOLE) // 2 :] + WHOLE[: len(WHOLE) // 2],
    "bytes exchanged": np.frombuffer(WHOLE, ">u2").astype("<u2").tobytes(),
    "a changed number": flipped(WHOLE, WHOLE.index(np.float32(5).tobytes())),
    "a huge shape": claiming((HUGE,)),
    "a huge product": claiming((2**40, 2**40)),
    "a negative shape": claiming((-6, -1)),
    "a huge item": claiming((1,), dtype=f"|V{HUGE}"),
    "too little": claiming((7,)),
    "a bomb": claiming((10**7,), b"\0" * 4 * 10**7, compression=zipfile.ZIP_DEFLATED),
    "pickled objects": with_objects(),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_npz_file_is_refused_without_taking_what_it_claims(case, tmp_path):
    path = tmp_path / "file.npz"
    path.write_bytes(DAMAGED[case])
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"."):
            read_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_an_intact_npz_file_is_read_as_numpy_reads_it(tmp_path):
    path = tmp_path / "file.npz"
    path.write_bytes(WHOLE)
    found = read_arrays(path)
    with np.load(path) as expected:
        assert list(found) == list(expected)
        for name, array in found.items():
            np.testing.assert_array_equal(array, expected[name], strict=True)
            assert array.flags.writeable
            assert array.flags.f_contiguous == expected[name].flags.f_contiguous


places = st.integers(0, len(WHOLE) - 1)


@given(place=places, bits=st.integers(1, 255), end=places, cut=st.booleans())
@settings(max_examples=200, deadline=None)
def test_no_change_of_an_npz_file_goes_unnoticed(
    tmp_path_factory, place, bits, end, cut
):
    path = tmp_path_factory.getbasetemp() / "changed.npz"
    path.write_bytes(WHOLE[:end] if cut else flipped(WHOLE, place, bits))
    try:
        found = read_arrays(path)
    except ValueError:
        return
    # What carries no content, as the time of writing, may be anything.
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


TREE = {"b": np.arange(3.0), "w": np.ones((2, 3), jnp.bfloat16)}
LEAVES = [jax.ShapeDtypeStruct((), jnp.float32)]


def samples_file(path):
    return Checkpoint(path, {"key": "0"}, LEAVES)


# Of each npz file of ours: the error, how it is written and how it is read.
READERS = {
    "training": (
        CheckpointError,
        lambda path: _checkpoint.save(path, {"steps": 3}, TREE),
        lambda path: _checkpoint.load(path, {"steps": 3}, TREE),
    ),
    "what training": (
        CheckpointError,
        lambda path: _checkpoint.save(path, {"steps": 3}, TREE),
        _checkpoint.read_asked,
    ),
    "networks": (
        RunError,
        lambda path: save_networks(path, [{"w": np.ones(3)}]),
        lambda path: load_networks(path, {"w": np.ones(3)}, 1),
    ),
    "samples": (
        ValueError,
        lambda path: samples_file(path).save([np.ones(4, np.float32)]),
        lambda path: samples_file(path).load(),
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_of_arrays_names_the_damaged_file(reader, tmp_path):
    error, write, read = READERS[reader]
    path = tmp_path / "file.npz"
    write(path)
    read(path)
    whole = path.read_bytes()
    for content in (*DAMAGED.values(), WHOLE, whole[:-9], flipped(whole, 90)):
        path.write_bytes(content)
        with pytest.raises(error, match=r"file\.npz.*[Dd]elete"):
            read(path)


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_and_not_waited_for(reader, tmp_path):
    error, write, read = READERS[reader]
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("folder", "pipe", "device"):
        with pytest.raises(error, match=rf"{name}.*not a regular file"):
            read(tmp_path / name)
    write(tmp_path / "target")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    read(tmp_path / "link")


@pytest.mark.parametrize(
    "stored",
    [
        [np.ones(3), np.ones((2, 3), np.uint16)],
        [np.ones(3, np.float32), np.ones((2, 3), jnp.bfloat16)],
        [np.ones(4), np.ones((2, 3), jnp.bfloat16)],
        [np.ones(3)],
    ],
)
def test_a_checkpoint_with_arrays_of_another_kind_is_refused(stored, tmp_path):
    path = tmp_path / "file.npz"
    _checkpoint.save(path, {"steps": 3}, stored)
    with pytest.raises(CheckpointError, match="arrays of another optimizer or network"):
        _checkpoint.load(path, {"steps": 3}, TREE)


@pytest.mark.parametrize(
    "arrays",
    [
        {"about": np.array('{"run": {"key": "0"}, "batch": 0}')},
        {"about": np.array('{"run": {"key": "0"}, "batch": 1}')},
        {"about": np.array('{"run": 3, "batch": 1}')},
        {"about": np.array("[" * 10**5)},
        {"leaf_0": np.ones(4, np.float64)},
        {"leaf_0": np.ones((4, 1), np.float32)},
        {"leaf_0": np.array(1.0, np.float32)},
    ],
)
def test_samples_that_do_not_fit_are_refused(arrays, tmp_path):
    path = tmp_path / "file.npz"
    about = {"about": np.array('{"run": {"key": "0"}, "batch": 1}')}
    path.write_bytes(npz_bytes(**about | arrays))
    with pytest.raises(ValueError, match=r"file\.npz is damaged or holds no samples"):
        samples_file(path).load()


# JSON: run.json, stages and result.json.

CONFIG = {"steps": 10}
odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["array", "shape", "dtype", "x"]), inner)
    ),
    max_leaves=5,
)


def paths_in(value, path=()):
    """Where something is in a tree of JSON."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from paths_in(value[key], (*path, key))


def replaced(value, path, new):
    if not path:
        return new
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], new)
    return changed


@contextlib.contextmanager
def refusing_by_name(path):
    """Nothing is raised, or what is wrong with a file that is named."""
    try:
        yield
    except RunError as error:
        if str(path) not in str(error):
            pytest.fail(f"{path} is not named: {error}")


@pytest.fixture(scope="module")
def versions_once():
    """To look up versions takes longer than all the rest here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_run, "versions", functools.cache(_run.versions))
        yield


def write_changed(path, data):
    content = json.loads(path.read_text())
    place = data.draw(st.sampled_from(list(paths_in(content))))
    path.write_text(json.dumps(replaced(content, place, data.draw(odd))))


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_changed_run_folder_goes_on_or_names_the_file(
    tmp_path_factory, versions_once, data
):
    folder = tmp_path_factory.mktemp("run")
    value = {"losses": np.arange(3.0), "name": "sgd", "rows": [1, None]}
    Run("rehearsal", CONFIG, folder).stage("one", lambda: value)
    damaged = data.draw(st.sampled_from(["run.json", "stages/one.json"]))
    write_changed(folder / damaged, data)
    with refusing_by_name(folder):
        Run("rehearsal", CONFIG, folder).stage("one", lambda: value)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_changed_result_is_read_or_refused_by_name(
    tmp_path_factory, minimal_result, data
):
    folder = tmp_path_factory.mktemp("run")
    (folder / "result.json").write_text(json.dumps(minimal_result))
    write_changed(folder / "result.json", data)
    with refusing_by_name(folder / "result.json"):
        read_result(folder)


@pytest.fixture(scope="module")
def minimal_result():
    return {
        "schema": 1,
        "experiment": "speed rllc",
        "command": "python -m benchmarks speed rllc",
        "config": {"rounds": 3},
        "versions": {"jax": "0.10"},
        "machine": {"device": "cpu", "devices": 1, "cpu": "one", "cores": 2},
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1.5,
        "parameters": 10,
        "copy_bytes_per_second": 1e9,
        "baseline": "adam",
        "steps": {},
    }


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("seconds", float("nan"), "seconds: expected float, got nan"),
        ("seconds", "1.5", "seconds: expected float, got '1.5'"),
        ("parameters", True, "parameters: expected int, got True"),
        ("machine", [], r"machine: expected a dict, got \[\]"),
        ("steps", {"adam": {}}, "steps.adam: it lacks 'seconds'"),
    ],
)
def test_an_entry_that_departs_from_the_schema_is_named(
    tmp_path, minimal_result, name, value, said
):
    (tmp_path / "result.json").write_text(json.dumps(minimal_result | {name: value}))
    with pytest.raises(RunError, match=rf"result\.json is damaged: {said}"):
        read_result(tmp_path)


@pytest.mark.parametrize("content", [b"[" * 10**5, b"\xff\xfe\0", b"1" * 10**5, b"{"])
def test_what_is_no_json_is_refused_by_name(tmp_path, content):
    for name in ("run.json", "result.json"):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        Run("rehearsal", CONFIG, tmp_path)
    with pytest.raises(RunError, match=r"result\.json is damaged"):
        read_result(tmp_path)


@pytest.mark.parametrize("target", ["nothing", "result.json"])
def test_a_link_to_nothing_or_in_a_loop_is_no_result(tmp_path, target):
    (tmp_path / "result.json").symlink_to(tmp_path / target)
    with pytest.raises(RunError, match=r"holds no result\.json"):
        read_result(tmp_path)


def test_a_folder_that_is_refused_is_left_as_it_was(tmp_path):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.tex").write_text("precious")
    with pytest.raises(RunError, match=r"chapter\.tex"):
        Run("rehearsal", CONFIG, thesis)
    assert [path.name for path in thesis.iterdir()] == ["chapter.tex"]


def test_a_question_that_is_refused_leaves_no_folder(tmp_path):
    def ask(folder):
        run = Run("rehearsal", CONFIG, folder)
        with pytest.raises(ValueError, match="steps"), run.tentative():
            run.stage("one", lambda: int("steps"))

    ask(tmp_path / "outer" / "inner")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    ask(tmp_path / "empty")
    assert list(tmp_path.rglob("*")) == [tmp_path / "empty"]


def test_what_is_worth_keeping_is_not_taken_back(tmp_path):
    for number, place in enumerate(("stages/one.json", "checkpoints/one.npz")):
        folder = tmp_path / str(number)
        run = Run("rehearsal", CONFIG, folder)
        write_atomically(folder / place, "{}")
        with pytest.raises(ValueError, match="late"), run.tentative():
            raise ValueError("late")
        assert (folder / place).exists()
    # Nor is the folder of a run that another process began.
    Run("rehearsal", CONFIG, tmp_path / "begun")
    again = Run("rehearsal", CONFIG, tmp_path / "begun")
    with pytest.raises(ValueError, match="early"), again.tentative():
        raise ValueError("early")
    assert (tmp_path / "begun" / "run.json").exists()


# Datasets.


def idx_file(path, shape=(2, 3)):
    content = b"\0\0\x08\x02" + np.array(shape, ">u4").tobytes() + bytes(6)
    path.write_bytes(gzip.compress(content))
    return path


def test_bytes_after_a_gzip_stream_are_refused(tmp_path):
    path = idx_file(tmp_path / "images.gz")
    assert _idx.read_idx(path, (2, 3)).shape == (2, 3)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DataError, match=r"images\.gz.*could not be decompressed"):
        _idx.read_idx(path, (2, 3))


def test_a_gzip_bomb_is_refused_before_it_unfolds(tmp_path):
    path = tmp_path / "images.gz"
    header = gzip.decompress(idx_file(path).read_bytes())[:12]
    path.write_bytes(gzip.compress(header + bytes(2 * 10**7), compresslevel=1))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="should be 18, not more than 18"):
            _idx.read_idx(path, (2, 3))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_header_that_claims_too_much_is_refused(tmp_path):
    path = idx_file(tmp_path / "images.gz", shape=(2**32 - 1, 2**32 - 1))
    with pytest.raises(DataError, match=r"its shape should be \(2, 3\)"):
        _idx.read_idx(path, (2, 3))
    swapped = np.array([2, 3], "<u4").tobytes()
    path.write_bytes(gzip.compress(b"\0\0\x08\x02" + swapped + bytes(6)))
    with pytest.raises(DataError, match="its shape should be"):
        _idx.read_idx(path, (2, 3))


@pytest.mark.parametrize("name", ["mnist", "tiny_shakespeare", "cifar10"])
def test_a_dataset_that_is_no_file_is_refused_and_not_waited_for(name, tmp_path):
    folder, files = {
        "mnist": ("mnist", _mnist.MNIST.sha256),
        "tiny_shakespeare": ("tiny_shakespeare", ["input.txt"]),
        "cifar10": ("cifar-10-batches-bin", _cifar.CIFAR10.train),
    }[name]
    make = {
        "folder": lambda path: path.mkdir(),
        "pipe": os.mkfifo,
        "device": lambda path: path.symlink_to("/dev/zero"),
    }
    for kind, put in make.items():
        directory = tmp_path / kind
        (directory / folder).mkdir(parents=True)
        for file in files:
            put(directory / folder / file)
        with pytest.raises(DataError, match="is not a regular file"):
            load(name, directory, download=False)


def test_a_link_to_nothing_is_told_from_a_file_that_is_not_there(tmp_path):
    (tmp_path / "tiny_shakespeare").mkdir()
    (tmp_path / "tiny_shakespeare" / "input.txt").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=r"input\.txt' is a link to what is not there"):
        load("tiny_shakespeare", tmp_path, download=False)


def test_a_file_that_is_too_long_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "data_batch_1.bin"
    with open(path, "wb") as file:
        file.truncate(HUGE)  # of which the disk stores nothing
    with pytest.raises(DataError, match=rf"has {HUGE} bytes, expected 6146"):
        _cifar.read_cifar(path, 2, (10,))


# A full disk.


@pytest.fixture
def no_room():
    """The system refuses to write beyond the first bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield functools.partial(limit, 100), functools.partial(limit, before[0])
    limit(before[0])


@pytest.mark.parametrize("reader", READERS)
def test_a_write_that_the_system_refuses_leaves_the_file_as_it_was(
    reader, tmp_path, no_room
):
    _, write, read = READERS[reader]
    path = tmp_path / "file.npz"
    stop, go_on = no_room
    for expected in ([], [path]):
        stop()
        try:
            with pytest.raises((RunError, OSError), match=r"cannot .*file\.npz"):
                write(path)
        finally:
            go_on()
        assert list(tmp_path.iterdir()) == expected
        write(path)
        read(path)


def test_a_run_goes_on_when_there_is_room_again(tmp_path, no_room):
    run = Run("rehearsal", CONFIG, tmp_path / "run")
    run.stage("one", lambda: 1)
    stop, go_on = no_room
    stop()
    try:
        with pytest.raises(RunError, match=r"cannot write .*two\.json.*make room"):
            run.stage("two", lambda: list(range(100)))
        with pytest.raises(RunError, match=r"cannot write .*result\.json.*make room"):
            run.finish({})
    finally:
        go_on()
    assert not list((tmp_path / "run").rglob("*.partial"))
    again = Run("rehearsal", CONFIG, tmp_path / "run")
    assert again.stage("one", lambda: 2) == 1
    assert again.stage("two", lambda: [3]) == [3]
    assert again.finish({"found": 4}) == read_result(tmp_path / "run")


def test_a_full_device_is_told_from_the_kernel(tmp_path):
    path = tmp_path / "result.json"
    (tmp_path / f".result.json.{os.getpid()}.partial").symlink_to("/dev/full")
    with pytest.raises(RunError, match="No space left on device; make room"):
        write_atomically(path, "{}")
    assert list(tmp_path.iterdir()) == []
    write_atomically(path, "{}")
    assert path.read_text() == "{}"


def test_a_folder_below_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for _, write, _ in READERS.values():
        with pytest.raises((RunError, OSError), match=r"cannot .*file/inner\.npz"):
            write(tmp_path / "file" / "inner.npz")
