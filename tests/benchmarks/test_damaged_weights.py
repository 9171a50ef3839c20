"""Published weights that are damaged, or made to fill the memory.

Whatever lies in a file, it is read exactly or refused with `WeightsError`, and no more
memory is taken than a few times what the network's arrays may take.
"""

import contextlib
import io
import json
import os
import tracemalloc
import warnings
import zipfile
import zlib

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import models, weights
from benchmarks.weights import _archive

LIMIT = 2**16
ARRAYS = {
    "params/Dense_0/kernel": np.arange(12, dtype=np.float32).reshape(4, 3),
    "params/Dense_0/bias": np.arange(3.0),
    "columns": np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3)),
    "steps": np.array(7),
    "empty": np.zeros((0, 3), np.float32),
}


def npz(arrays, save=np.savez):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def safe(header, data=b""):
    """A safetensors file with whatever header."""
    return len(header).to_bytes(8, "little") + header.encode() + data


WHOLE = {
    "stored": npz(ARRAYS),
    "compressed": npz(ARRAYS, np.savez_compressed),
    "safetensors": _archive.safetensors_bytes(ARRAYS),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("weights") / "file"


def read(path, content):
    """What is read of a file with such content, in bounded memory; None if nothing."""
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with contextlib.suppress(weights.WeightsError):
            return _archive.read(path, LIMIT)
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * LIMIT


def assert_exact(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_whole_file_is_read_exactly_whichever_way_it_is_written(kind, path):
    assert_exact(read(path, WHOLE[kind]), ARRAYS)


@st.composite
def damage(draw, content):
    """The content cut, or with bytes changed, or parts exchanged or repeated."""
    place, end = sorted(draw(st.integers(0, len(content))) for _ in range(2))
    length = draw(st.integers(1, 40))
    one, other = content[place : place + length], content[end : end + length]
    return draw(
        st.sampled_from(
            [
                content[:place],
                content[place:],
                content[:place] + content[end:],
                content[:place] + one + content[place:],
                content[:place] + other + content[place + len(other) :],
                content[:place] + draw(st.binary(max_size=4)) + content[place:],
                changed(content, place, draw(st.integers(1, 255))),
            ]
        )
    )


def changed(content, place, bits):
    place %= len(content)
    return content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :]


@pytest.mark.parametrize("kind", ["stored", "compressed"])
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_of_a_damaged_archive_nothing_is_read_but_what_was_written(kind, path, data):
    found = read(path, data.draw(damage(WHOLE[kind])))
    if found is not None:
        assert_exact(found, ARRAYS)


def spelled_out(content):
    """What a safetensors file says, by another parser than ours."""
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(
            data[slice(*about["data_offsets"])], _archive._DTYPES[about["dtype"]]
        ).reshape(about["shape"])
        for name, about in header.items()
    }


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_of_damaged_safetensors_nothing_is_read_but_what_is_there(path, data):
    # The format has no checksums: a changed number is a number.
    content = data.draw(damage(WHOLE["safetensors"]))
    found = read(path, content)
    if found is not None:
        assert_exact(found, spelled_out(content))


# Files that are intact and claim what they like.

sizes = st.sampled_from([-1, 0, 1, 2, 3, 2**31, 2**40, 2**62, 2**63, 2**64, 10**30])
shapes = st.lists(sizes, max_size=4) | st.just([1] * 70)


def member(shape, dtype, content, version=(1, 0)):
    """A file of NumPy's format that claims a shape and a dtype."""
    about = {"descr": dtype, "fortran_order": False, "shape": tuple(shape)}
    header = repr(about).encode() + b"\n"
    length = len(header).to_bytes(2 if version == (1, 0) else 4, "little")
    return np.lib.format.magic(*version) + length + header + content


def zipped(*members, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        with zipfile.ZipFile(file, "w", compression) as archive:
            for name, content in members:
                archive.writestr(name, content)
    return file.getvalue()


members = st.tuples(
    st.sampled_from(["a.npy", "a", "b.npy", "/data.pkl"]),
    st.builds(
        member,
        shapes,
        st.sampled_from(["<f4", ">f8", "|V0", "<U0", f"|V{10**9}", "|O", "<f16", "x"]),
        st.sampled_from([b"", bytes(4), bytes(8), bytes(24), bytes(8 * LIMIT)]),
        st.sampled_from([(1, 0), (2, 0), (3, 0)]),
    ),
)


@given(
    content=st.lists(members, min_size=1, max_size=3),
    compression=st.sampled_from(
        [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    ),
)
@settings(max_examples=150, deadline=None)
def test_an_archive_may_claim_what_it_likes(path, content, compression):
    found = read(path, zipped(*content, compression=compression))
    if found is not None:
        names = [name.removesuffix(".npy") for name, _ in content]
        assert list(found) == names
        for array, (_, written) in zip(found.values(), content, strict=True):
            assert array.size < LIMIT
            np.testing.assert_array_equal(
                array, np.load(io.BytesIO(written)), strict=True
            )


entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F64", "BF16", "C64", "F4", "F8_E4M3", "x"]),
        "shape": shapes,
        "data_offsets": st.lists(st.sampled_from([0, 4, 8, 2**62]), max_size=3),
    }
)


@given(
    names=st.lists(st.sampled_from(["a", "b", "c", "__metadata__"]), max_size=3),
    each=st.lists(entries, min_size=3, max_size=3),
    size=st.sampled_from([0, 4, 8, 16]),
)
@settings(max_examples=150, deadline=None)
def test_a_safetensors_header_may_claim_what_it_likes(path, names, each, size):
    said = zip(names, map(json.dumps, each), strict=False)
    header = ", ".join(f'"{name}": {about}' for name, about in said)
    content = safe("{" + header + "}", bytes(size))
    found = read(path, content)
    if found is not None:
        assert sorted(found) == sorted(names)
        assert_exact(found, spelled_out(content))


def lying(claimed):
    """A zip bomb that claims to hold little, and whose checksum is that of little."""
    array = member((2 * 10**7,), "|u1", bytes(2 * 10**7))
    content = bytearray(zipped(("a.npy", array)))
    place = content.index(b"PK\x01\x02")
    content[place + 16 : place + 20] = zlib.crc32(array[:claimed]).to_bytes(4, "little")
    content[place + 24 : place + 28] = claimed.to_bytes(4, "little")
    return bytes(content)


def entry(*shape):
    """What a header says of eight bytes of numbers."""
    about = {"dtype": "F32", "shape": shape, "data_offsets": [0, 8]}
    return f'"a": {json.dumps(about)}'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (npz({"a": np.zeros(LIMIT)}, np.savez_compressed), f"expected at most {LIMIT}"),
        (lying(1000), "takes 20000000 bytes, but 927 are there"),
        (npz({"a": np.zeros(LIMIT)}), f"has 524544 bytes, expected at most {LIMIT}"),
        (zipped(*[("a.npy", member((), "<f4", bytes(4)))] * 2), "two arrays named 'a'"),
        (
            zipped(("a.npy", b""), compression=zipfile.ZIP_LZMA),
            "'a.npy': compression 14 of a zip file",
        ),
        (safe(f"{{{entry(2)}, {entry(1, 2)}}}", bytes(8)), "two entries named 'a'"),
        (safe(f"{{{entry(*[1] * 69, 2)}}}", bytes(8)), "maximum supported dimension"),
    ],
)
def test_what_would_fill_the_memory_or_is_ambiguous_is_refused(content, said, path):
    path.write_bytes(content)
    with pytest.raises(weights.WeightsError, match=f"file.*{said}"):
        _archive.read(path, LIMIT)
    assert read(path, content) is None


def test_a_header_whose_length_begins_like_a_pickle_is_read(path):
    content = safe(f"{{{entry(2)}}}".ljust(128), bytes(8))
    assert content.startswith(b"\x80")
    assert_exact(read(path, content), {"a": np.zeros(2, np.float32)})


MLP, ROW = models.MLP(3, features=(4,)), jax.ShapeDtypeStruct((1, 5), np.float32)


@pytest.mark.parametrize("dtype", [np.float64, ml_dtypes.bfloat16, np.float32])
def test_every_precision_has_room_in_the_limit_of_a_network(dtype, tmp_path):
    wide = models.MLP(10, features=(1024,))
    row = jax.ShapeDtypeStruct((1, 784), np.float32)
    shapes = jax.eval_shape(wide.init, jax.random.key(0), row)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, dtype), shapes)
    weights.save(tmp_path / "file", variables)
    found = weights.load(tmp_path / "file", wide, row)
    assert jax.tree.all(jax.tree.map(np.array_equal, found, variables))


def test_a_file_far_larger_than_the_network_is_refused_unread(tmp_path):
    with open(tmp_path / "huge", "wb") as file:
        file.write((80).to_bytes(8, "little") + b"{")
        file.truncate(10**12)  # of which the disk stores nothing
    with pytest.raises(
        weights.WeightsError, match=r"has 10{12} bytes, expected at most 10\d{5}"
    ):
        weights.load(tmp_path / "huge", MLP, ROW)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("folder", "pipe", "device"):
        with pytest.raises(weights.WeightsError, match=f"{name}: it is not a regular"):
            weights.load(tmp_path / name, MLP, ROW)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nothing").symlink_to("gone")
    for name, said in (("loop", "Too many levels"), ("nothing", "No such file")):
        with pytest.raises(weights.WeightsError, match=f"{name}: {said}"):
            weights.load(tmp_path / name, MLP, ROW)
