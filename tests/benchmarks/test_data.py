"""Datasets: what is loaded, what is rejected, what is downloaded."""

import dataclasses
import functools
import gzip
import hashlib
import http.server
import io
import os
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks import data
from benchmarks.data import _load, _published
from benchmarks.data._published import Remote, read_idx

REAL_FILES = os.environ.get("BENCHMARKS_DATA")


@pytest.fixture(autouse=True)
def no_outside(monkeypatch, tmp_path):
    """No test reads the user's data or reaches another machine."""
    monkeypatch.delenv("BENCHMARKS_DATA", raising=False)
    monkeypatch.setattr(_load.pooch, "os_cache", lambda project: tmp_path / "cache")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


# Writers of the published formats.


def idx_bytes(array, kind=8):
    header = bytes([0, 0, kind, array.ndim])
    sizes = b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return header + sizes + array.astype(np.uint8).tobytes()


def write_gzip(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, compresslevel=1))


def small_mnist(train=60, test=20, validation=10):
    return dataclasses.replace(
        _published.MNIST, train=train, test=test, validation=validation
    )


def write_mnist(directory, seed=0, train=60, test=20):
    random = np.random.default_rng(seed)
    for prefix, count in (("train", train), ("t10k", test)):
        folder = directory / "mnist"
        images = random.integers(0, 256, (count, 28, 28))
        write_gzip(folder / f"{prefix}-images-idx3-ubyte.gz", idx_bytes(images))
        labels = idx_bytes(np.arange(count) % 10)
        write_gzip(folder / f"{prefix}-labels-idx1-ubyte.gz", labels)


def small_cifar(name):
    whole = {"cifar10": _published.CIFAR10, "cifar100": _published.CIFAR100}[name]
    return dataclasses.replace(
        whole,
        train=dict.fromkeys(whole.train, 4),
        test=dict.fromkeys(whole.test, 3),
        validation=2,
    )


def cifar_records(cifar, count, seed=0):
    random = np.random.default_rng(seed)
    labels = [random.integers(0, 10, (count, 1)) for _ in range(cifar.labels)]
    pixels = random.integers(0, 256, (count, 3072))
    return np.concatenate([*labels, pixels], axis=1).astype(np.uint8)


def cifar_files(cifar):
    sizes = {**cifar.train, **cifar.test}
    return {
        file: cifar_records(cifar, count, seed).tobytes()
        for seed, (file, count) in enumerate(sizes.items())
    }


def write_files(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)


def tar_bytes(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


# Names and directories.


def test_every_name_can_be_asked_for(tmp_path):
    assert data.NAMES[0] == "digits"
    for name in data.NAMES[1:]:
        with pytest.raises(data.DataError, match="is not there, and downloads are off"):
            data.load(name, tmp_path, download=False)


def test_the_argument_comes_before_the_environment_and_that_before_the_cache(
    tmp_path, monkeypatch
):
    def missing(directory=None):
        with pytest.raises(data.DataError) as error:
            data.load("mnist", directory, download=False)
        return str(error.value)

    assert f"'{tmp_path / 'cache' / 'mnist'}" in missing()
    monkeypatch.setenv("BENCHMARKS_DATA", str(tmp_path / "environment"))
    assert f"'{tmp_path / 'environment' / 'mnist'}" in missing()
    (tmp_path / "argument").mkdir()
    assert f"'{tmp_path / 'argument' / 'mnist'}" in missing(tmp_path / "argument")
    with pytest.raises(data.DataError, match=r"data: there is no folder '.*argumnet'"):
        data.load("mnist", tmp_path / "argumnet")


def test_a_missing_file_is_named_with_where_to_get_it_and_what_is_there(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(data.DataError) as error:
        data.load("mnist", tmp_path, download=False)
    message = str(error.value)
    for part in (
        str(tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz"),
        _published.MNIST.url + "t10k-labels-idx1-ubyte.gz",
        _published.MNIST.sha256["t10k-labels-idx1-ubyte.gz"],
        "BENCHMARKS_DATA",
    ):
        assert part in message


# What is loaded.


def test_digits_are_split_without_overlap_and_standardised():
    digits = data.load("digits")
    splits = (digits.train, digits.validation, digits.test)
    assert [len(s.inputs) for s in splits] == [1197, 300, 300]
    assert [len(s.targets) for s in splits] == [1197, 300, 300]
    assert digits.train.inputs.shape[1:] == (8, 8, 1)
    assert digits.train.inputs.dtype == np.float32
    assert digits.train.targets.dtype == np.int32
    assert digits.kind == "image"
    assert set(digits.test.targets) == set(range(digits.classes))
    assert abs(digits.train.inputs.mean()) < 1e-3
    assert abs(digits.train.inputs.std() - 1) < 1e-3
    images = np.concatenate([s.inputs for s in splits]).reshape(1797, -1)
    assert len(np.unique(images, axis=0)) == 1797


def test_digits_are_the_same_every_time():
    first, second = data.load("digits"), data.load("digits")
    np.testing.assert_array_equal(first.validation.inputs, second.validation.inputs)
    # These numbers change only if the split does, which would make runs incomparable.
    assert first.train.targets[:12].tolist() == [0, 1, 3, 4, 5, 6, 7, 8, 9, 0, 1, 3]
    assert first.validation.targets[:12].tolist() == [
        4,
        3,
        0,
        8,
        0,
        3,
        6,
        0,
        1,
        6,
        9,
        8,
    ]


def test_mnist_comes_back_as_written(tmp_path):
    write_mnist(tmp_path, seed=3)
    mnist = small_mnist().load(tmp_path, download=False)
    assert mnist.train.inputs.shape == (50, 28, 28, 1)
    assert mnist.validation.inputs.shape == (10, 28, 28, 1)
    assert (mnist.classes, mnist.kind) == (10, "image")
    random = np.random.default_rng(3)
    written = (
        random.integers(0, 256, (60, 28, 28)),
        random.integers(0, 256, (20, 28, 28)),
    )
    np.testing.assert_allclose(
        mnist.test.inputs[..., 0], (written[1] / 255 - 0.1307) / 0.3081, atol=1e-5
    )
    # Together, train and validation are the training file; labels stay with images.
    pixels = mnist.train.inputs[:, 0, 0, 0], mnist.validation.inputs[:, 0, 0, 0]
    found = np.sort(np.concatenate(pixels) * 0.3081 + 0.1307) * 255
    np.testing.assert_allclose(found, np.sort(written[0][:, 0, 0]), atol=1e-3)
    for split in (mnist.train, mnist.validation):
        rows = np.rint((split.inputs[..., 0] * 0.3081 + 0.1307) * 255)
        index = [np.flatnonzero((written[0] == row).all((1, 2)))[0] for row in rows]
        np.testing.assert_array_equal(split.targets, np.asarray(index) % 10)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("nested", [False, True])
def test_cifar_is_read_from_both_places(tmp_path, name, nested):
    cifar = small_cifar(name)
    write_files(
        tmp_path / (f"{name}/{cifar.folder}" if nested else cifar.folder),
        cifar_files(cifar),
    )
    dataset = cifar.load(tmp_path, download=False)
    total = 4 * len(cifar.train)
    assert dataset.train.inputs.shape == (total - 2, 32, 32, 3)
    assert dataset.validation.inputs.shape == (2, 32, 32, 3)
    assert dataset.test.inputs.shape == (3, 32, 32, 3)
    assert dataset.classes == {"cifar10": 10, "cifar100": 100}[name]


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_planes_become_channels_and_the_last_label_counts(tmp_path, name):
    cifar = small_cifar(name)
    records = cifar_records(cifar, 3)
    start = cifar.labels
    (tmp_path / "test.bin").write_bytes(records.tobytes())
    images, labels = _published.read_cifar(tmp_path / "test.bin", 3, cifar.labels)
    for row, column, channel in ((0, 0, 0), (5, 7, 1), (31, 30, 2)):
        byte = start + channel * 1024 + row * 32 + column
        np.testing.assert_array_equal(images[:, row, column, channel], records[:, byte])
    np.testing.assert_array_equal(labels, records[:, start - 1])


def small_text(content):
    return dataclasses.replace(
        _published.TINY_SHAKESPEARE,
        remote=dataclasses.replace(
            _published.TINY_SHAKESPEARE.remote, sha256=sha256(content)
        ),
    )


def test_text_is_cut_into_windows_whose_targets_are_the_next_characters(tmp_path):
    random = np.random.default_rng(0)
    text = "".join(random.choice(list("zab c\n"), 65 * 200))
    write_files(tmp_path / "tiny_shakespeare", {"input.txt": text.encode()})
    dataset = small_text(text.encode()).load(tmp_path, download=False)
    assert (dataset.classes, dataset.kind) == (6, "text")
    splits = (dataset.train, dataset.validation, dataset.test)
    assert [s.inputs.shape for s in splits] == [(180, 64), (10, 64), (10, 64)]
    assert dataset.train.inputs.dtype == dataset.train.targets.dtype == np.int32
    vocabulary = np.array(sorted(set(text)))
    for split, start in zip(splits, (0, 180, 190), strict=True):
        whole = np.concatenate([split.inputs, split.targets[:, -1:]], axis=1)
        read = "".join(vocabulary[whole].ravel())
        assert read == text[65 * start : 65 * start + len(read)]
        np.testing.assert_array_equal(split.targets[:, :-1], split.inputs[:, 1:])


# What is rejected.

arrays = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, max_side=5))


@pytest.fixture(scope="module")
def idx_file(tmp_path_factory):
    return tmp_path_factory.mktemp("idx") / "some-idx-ubyte.gz"


@given(array=arrays)
def test_idx_is_read_as_it_was_written(idx_file, array):
    write_gzip(idx_file, idx_bytes(array))
    read = read_idx(idx_file, array.shape)
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.uint8


@given(array=arrays, places=st.data())
def test_an_idx_file_cut_off_anywhere_is_rejected_by_name(idx_file, array, places):
    whole = gzip.compress(idx_bytes(array))
    idx_file.write_bytes(whole[: places.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(data.DataError, match=idx_file.name):
        read_idx(idx_file, array.shape)


def test_mnist_with_images_missing_is_rejected_by_name(tmp_path):
    write_mnist(tmp_path)
    with pytest.raises(data.DataError, match=r"t10k.*\[21, 28, 28\].*got 15696"):
        small_mnist(test=21).load(tmp_path, download=False)


def test_a_cifar_folder_without_one_file_is_rejected_by_name(tmp_path):
    cifar = small_cifar("cifar10")
    files = cifar_files(cifar)
    del files["data_batch_5.bin"]
    write_files(tmp_path / cifar.folder, files)
    with pytest.raises(data.DataError, match=r"data_batch_5.bin' could not be read"):
        cifar.load(tmp_path, download=False)


def test_a_changed_text_is_rejected_by_name(tmp_path):
    write_files(tmp_path / "tiny_shakespeare", {"input.txt": b"First Citizen:\r\n"})
    text = small_text(b"First Citizen:\n")
    with pytest.raises(data.DataError, match=r"input.txt' \(16 bytes\) is damaged"):
        text.load(tmp_path, download=False)


# Downloads, from a server on this machine.


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.fixture
def server(tmp_path):
    """Serve a folder; gives the folder and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


def test_a_download_with_the_right_hash_is_kept_and_not_repeated(server, tmp_path):
    folder, address = server
    (folder / "file").write_bytes(b"content")
    path = tmp_path / "data" / "some" / "file"
    remote = Remote(address + "file", sha256(b"content"))
    remote.fetch(path, download=True)
    assert path.read_bytes() == b"content"
    (folder / "file").unlink()
    remote.fetch(path, download=True)


def test_a_download_with_a_wrong_hash_is_rejected_and_nothing_stays(server, tmp_path):
    folder, address = server
    (folder / "file").write_bytes(b"other")
    path = tmp_path / "data" / "some" / "file"
    message = rf"could not be downloaded .*hash.*{sha256(b'content')}"
    with pytest.raises(data.DataError, match=message):
        Remote(address + "file", sha256(b"content")).fetch(path, download=True)
    assert not path.exists()


def test_a_download_that_is_not_found_says_where_it_looked(server, tmp_path):
    _, address = server
    path = tmp_path / "data" / "some" / "file"
    message = rf"some/file' is not there.*404.*Get it from {address}gone"
    with pytest.raises(data.DataError, match=message):
        Remote(address + "gone", sha256(b"content")).fetch(path, download=True)
    assert not path.exists()


def test_a_server_that_does_not_answer_is_a_data_error(tmp_path):
    remote = Remote("http://127.0.0.1:9/file", sha256(b""))
    with pytest.raises(data.DataError, match="could not be downloaded"):
        remote.fetch(tmp_path / "some" / "file", download=True)


def test_mnist_is_downloaded_and_then_read_without_the_server(server, tmp_path):
    folder, address = server
    write_mnist(folder)
    hashes = {
        f: sha256((folder / "mnist" / f).read_bytes()) for f in _published.MNIST.sha256
    }
    mnist = dataclasses.replace(small_mnist(), url=f"{address}mnist/", sha256=hashes)
    downloaded = mnist.load(tmp_path / "data", download=True)
    again = mnist.load(tmp_path / "data", download=False)
    np.testing.assert_array_equal(downloaded.train.inputs, again.train.inputs)


def served_cifar(server, archive):
    folder, address = server
    (folder / "cifar.tar.gz").write_bytes(archive)
    remote = Remote(address + "cifar.tar.gz", sha256(archive))
    return dataclasses.replace(small_cifar("cifar10"), archive=remote)


def cifar_archive(**changes):
    cifar = small_cifar("cifar10")
    inside = {f"{cifar.folder}/{f}": c for f, c in cifar_files(cifar).items()}
    return inside | changes


def test_cifar_is_downloaded_and_unpacked(server, tmp_path):
    extra = {"cifar-10-batches-bin/readme.html": b"<html>", "../outside": b"outside"}
    cifar = served_cifar(server, tar_bytes(cifar_archive() | extra))
    directory = tmp_path / "data"
    dataset = cifar.load(directory, download=True)
    assert dataset.train.inputs.shape == (18, 32, 32, 3)
    unpacked = directory / "cifar10" / cifar.folder
    assert {p.name for p in unpacked.iterdir()} == set(cifar_files(cifar))
    assert not list(tmp_path.rglob("outside"))
    # A file that goes missing is unpacked again; no download is needed.
    (unpacked / "test_batch.bin").unlink()
    cifar.load(directory, download=False)


# The published files, where they are.


def real(name, path):
    there = REAL_FILES is not None and (Path(REAL_FILES) / path).exists()
    reason = f"BENCHMARKS_DATA does not name a directory with {path}"
    return pytest.param(name, marks=pytest.mark.skipif(not there, reason=reason))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        real("mnist", "mnist"),
        real("fashion_mnist", "fashion_mnist"),
        real("cifar10", "cifar-10-batches-bin"),
        real("cifar100", "cifar-100-binary"),
    ],
)
def test_published_images_have_the_published_statistics(name):
    dataset = data.load(name, REAL_FILES, download=False)
    held_out = 10_000 if name.endswith("mnist") else 5_000
    sizes = [len(s.inputs) for s in (dataset.train, dataset.validation, dataset.test)]
    assert sizes == [
        (60_000 if held_out == 10_000 else 50_000) - held_out,
        held_out,
        10_000,
    ]
    mean, deviation = (
        getattr(np, statistic)(dataset.train.inputs, axis=(0, 1, 2), dtype=np.float64)
        for statistic in ("mean", "std")
    )
    np.testing.assert_allclose(mean, 0, atol=5e-3)
    # CIFAR-10 is scaled by the mean deviation within an image, which is smaller.
    np.testing.assert_allclose(deviation, 1.24 if name == "cifar10" else 1, atol=0.08)
    assert np.bincount(dataset.test.targets).shape == (dataset.classes,)


@pytest.mark.parametrize("name", [real("tiny_shakespeare", "tiny_shakespeare")])
def test_the_published_text_has_65_characters(name):
    dataset = data.load(name, REAL_FILES, download=False)
    splits = (dataset.train, dataset.validation, dataset.test)
    assert [s.inputs.shape for s in splits] == [(15443, 64), (858, 64), (858, 64)]
    assert dataset.classes == 65
    start = [*"\n !$&',-.3:;?", *map(chr, range(65, 91)), *map(chr, range(97, 123))]
    assert "".join(np.array(start)[dataset.train.inputs[0]]).startswith(
        "First Citizen:"
    )


# Your own.

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
CLASSES = np.arange(40) % 4


def own(tmp_path, **arrays):
    np.savez(tmp_path / "own.npz", **arrays)
    return data.load("own.npz", tmp_path)


def test_your_own_images_are_standardised_and_split_by_a_fixed_seed(tmp_path):
    one, again = (own(tmp_path, x=IMAGES, y=CLASSES) for _ in range(2))
    parts = (one.train, one.validation, one.test)
    assert [len(part.inputs) for part in parts] == [29, 5, 6]
    assert (one.kind, one.classes, one.train.targets.dtype) == ("image", 4, np.int32)
    np.testing.assert_array_equal(one.train.inputs, again.train.inputs)
    seen = np.concatenate([one.train.inputs, one.validation.inputs])
    np.testing.assert_allclose(seen.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std((0, 1, 2)), 1, atol=1e-5)
    every = np.concatenate([part.inputs for part in parts])
    assert len(np.unique(every.reshape(40, -1), axis=0)) == 40


def test_your_own_split_vectors_and_tokens_are_taken_as_they_are(tmp_path):
    x = IMAGES[:, 0, :, 0]
    real, split = x.astype(np.float32), slice(30)
    found = own(
        tmp_path,
        x_train=real[split],
        y_train=CLASSES[split],
        x_test=real[30:],
        y_test=CLASSES[30:],
    )
    assert found.kind == "vector"
    np.testing.assert_array_equal(found.test.inputs, real[30:])
    assert own(tmp_path, x=x, y=CLASSES).kind == "tokens"
    text = own(tmp_path, x=x, y=x)
    assert (text.kind, text.classes) == ("text", 1 + int(x.max()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": IMAGES[30:, :, :3]}, "of the same shape but for the first axis"),
        ({"x_test": IMAGES[30:] / 255}, "real numbers in both, got uint8 and float64"),
        ({"x_train": IMAGES[:30] / 255}, "real numbers in both, got float64 and uint8"),
    ],
)
def test_both_parts_of_your_own_data_are_of_one_kind(tmp_path, changes, message):
    arrays = {"x_train": IMAGES[:30], "x_test": IMAGES[30:]} | changes
    labels = {"y_train": CLASSES[:30], "y_test": CLASSES[30:]}
    with pytest.raises(data.DataError, match=message):
        own(tmp_path, **arrays, **labels)


def test_both_parts_of_your_own_labels_have_as_many_axes(tmp_path):
    x = np.arange(40 * 3).reshape(40, 3) % 5
    arrays = {"x_train": x[:30], "y_train": x[:30], "x_test": x[30:]}
    assert own(tmp_path, **arrays, y_test=x[30:]).kind == "text"
    with pytest.raises(data.DataError, match=r"as many axes, .*\(30, 3\) and \(10,\)"):
        own(tmp_path, **arrays, y_test=CLASSES[30:])
