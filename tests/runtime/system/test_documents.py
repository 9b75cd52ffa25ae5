"""JSON and numpy files are read within bounds."""

from __future__ import annotations

import io
import json
import os
import zipfile

import numpy as np
import pytest

from sam_edge_runtime.system.documents import json_text, parse_json, parse_npy, read_json, read_npz
from sam_edge_runtime.system.text import read_regular


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_document_is_read_in_every_encoding_of_json(encoding, tmp_path):
    (tmp_path / "a.json").write_bytes('{"ä": [1, null]}\r\n'.encode(encoding))
    assert read_json(tmp_path / "a.json") == {"ä": [1, None]}


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000, "9" * 5000, "{", "", "\ufeff"])
def test_what_is_no_document_is_a_value_error(text):
    for form in (text, text.encode()):
        with pytest.raises(ValueError, match=r"."):
            parse_json(form)


def test_a_pipe_a_folder_and_a_large_file_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes(11))
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(OSError, match=r"no regular file|Is a directory"):
            read_json(path)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        read_regular(tmp_path / "large", 10)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none")


def test_numbers_that_json_lacks_are_null():
    text = json_text({"a": [float("nan"), 1.5], "b": (float("inf"), -float("inf")), "c": "NaN"})
    assert json.loads(text) == {"a": [None, 1.5], "b": [None, None], "c": "NaN"}


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.asfortranarray(np.arange(12).reshape(3, 4)),
        np.zeros((0, 3)),
        np.array(7),
        np.array(["a", "bc"]),
    ],
)
def test_an_array_is_read_as_numpy_reads_it(array):
    found = parse_npy(npy(array))
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype
    assert found.flags.writeable


def claiming(shape: tuple[int, ...], content: bytes = bytes(16)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue() + content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (claiming((10**12,)), "claims 4000000000000 bytes of values, and 16 follow"),
        (claiming((3,)), "claims 12 bytes of values, and 16 follow"),
        (claiming((-2, -2)), "of shape"),
        (b"\x93NUMPY\x01\x00\x0c\x00{'descr': (\n ", "header is damaged"),
        (b"", "header is damaged"),
        (b"\x93NUMPY\x01\x00", "header is damaged"),
        (b"\x93NUMPY\x09\x00" + bytes(100), "header is damaged"),
        (b"not an array", "header is damaged"),
    ],
)
def test_an_array_that_lies_is_refused_before_memory_is_taken(content, words):
    with pytest.raises(ValueError, match=words):
        parse_npy(content)


def test_an_array_of_objects_is_refused():
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="object"):
        parse_npy(file.getvalue())


def test_archives_are_read_within_a_number_of_bytes(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, small=np.arange(3), large=np.zeros(100_000))
    assert set(read_npz(path, 1 << 20)) == {"small", "large"}
    with pytest.raises(ValueError, match="more than 100,000 bytes"):
        read_npz(path, 100_000)


@pytest.mark.parametrize("kind", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_compressions_that_numpy_does_not_write_are_refused(kind, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", kind) as archive:
        archive.writestr("a.npy", npy(np.arange(3)))
    with pytest.raises(ValueError, match="no array that numpy wrote"):
        read_npz(tmp_path / "a.npz", 1 << 20)


def test_members_that_are_no_arrays_are_refused(tmp_path):
    for name, content in (("notes.txt", b"text"), ("a.npy", b"text")):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr(name, content)
        with pytest.raises(ValueError, match=name):
            read_npz(tmp_path / "a.npz", 1 << 20)
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ValueError, match="damaged zip"):
        read_npz(tmp_path / "a.npz", 1 << 20)
