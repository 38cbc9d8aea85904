"""Reading files: nothing in a pickle or an archive is run or followed; damage is told."""

from __future__ import annotations

import os
import pickle
import struct

import numpy as np
import pytest
from data_files import python2_pickle, tar_of, written

from halflife.lab.data.files import DataError, check_digest, contents, located, members, places
from halflife.lab.data.unpickling import safely_unpickled

# --- pickles --------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.arange(6, dtype=">i4"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([True, False]),
        np.array(["a", "bc"]),
        np.zeros((0, 3), np.float32),
    ],
    ids=["bytes", "big-endian", "fortran", "bool", "text", "empty"],
)
def test_arrays_come_back_from_every_protocol(array, protocol):
    found = safely_unpickled(pickle.dumps({"a": [array]}, protocol), "here")["a"][0]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_numbers_text_and_containers_come_back(protocol):
    value = {"a": [1, 2.5, None, True, ("x", b"y")], "b": {"c": np.int64(7), "d": np.float32(0.5)}}
    assert safely_unpickled(pickle.dumps(value, protocol), "here") == value


def test_a_pickle_of_python_2_has_keys_in_text_and_values_in_bytes():
    images = np.arange(8, dtype=np.uint8).reshape(2, 4)
    data = python2_pickle({b"data": images, b"labels": [3, 300], b"filenames": [b"a.png"]})
    assert pickle.loads(data, encoding="bytes")[b"labels"] == [3, 300]  # the writer is right
    found = safely_unpickled(data, "here")
    np.testing.assert_array_equal(found["data"], images)
    assert (found["labels"], found["filenames"]) == ([3, 300], [b"a.png"])


class Hostile:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], tuple(self.call[1:])


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, "system"), (eval, "eval"), (np.load, "load"), (getattr, "getattr")],
    ids=["system", "eval", "np.load", "getattr"],
)
def test_a_hostile_pickle_is_refused_by_name_and_not_run(tmp_path, function, name, protocol):
    mark = tmp_path / "run"
    argument = f"touch {mark}" if function is os.system else f"open({str(mark)!r}, 'w')"
    data = pickle.dumps({"data": Hostile(function, argument)}, protocol)
    with pytest.raises(DataError, match=rf"a/file: not read, as it holds the name .*\.{name}"):
        safely_unpickled(data, "a/file")
    assert not mark.exists()


def test_allowed_functions_keep_nothing_that_a_pickle_does_to_them():
    # BUILD on a function: Python would set its attributes, for all pickles after this one.
    data = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}U\x01xK\x01sb."
    with pytest.raises(DataError):
        safely_unpickled(data, "here")
    data = b"\x80\x02cnumpy\nndarray\nN}U\x0c__setstate__K\x01s\x86b."  # of a class
    with pytest.raises(DataError):
        safely_unpickled(data, "here")
    array = np.arange(3)
    np.testing.assert_array_equal(safely_unpickled(pickle.dumps(array), "here"), array)


def test_arrays_of_objects_and_other_codecs_are_refused():
    with pytest.raises(DataError, match="not read"):
        safely_unpickled(pickle.dumps(np.array([{}, []], object)), "here")
    with pytest.raises(DataError, match="codec"):
        safely_unpickled(b"c_codecs\nencode\n(Vabc\nVzlib\ntR.", "here")


def test_damaged_pickles_are_told():
    data = python2_pickle({b"data": np.arange(100, dtype=np.uint8)})
    for cut in (0, 1, 20, len(data) // 2, len(data) - 1):
        with pytest.raises(DataError, match="here: "):
            safely_unpickled(data[:cut], "here")
    shorter = data.replace(struct.pack("<i", 100), struct.pack("<i", 101), 1)
    with pytest.raises(DataError, match="here: cut off, damaged"):
        safely_unpickled(shorter, "here")


# --- archives -------------------------------------------------------------------------------------


def test_members_are_read_in_one_pass_and_nothing_is_unpacked(tmp_path):
    path = tar_of(tmp_path / "a.tar.gz", {"d/x": b"1", "d/other": b"2", "./d/y": b"3"})
    assert dict(members(path, "d", ["y", "x"], "a file", 10)) == {"x": b"1", "y": b"3"}
    assert os.listdir(tmp_path) == ["a.tar.gz"]


def test_a_folder_is_read_as_its_archive(tmp_path):
    written(tmp_path, {"x": b"1", "y": b"3"})
    assert dict(members(tmp_path, "d", ["x", "y"], "a file", 10, ["z"])) == {"x": b"1", "y": b"3"}


def test_links_and_dots_lead_nowhere(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    path = tar_of(tmp_path / "a.tar.gz", {}, {"d/x": "../secret"})
    with pytest.raises(DataError, match=r"d/x is a link or a folder"):
        list(members(path, "d", ["x"], "a file", 10))
    path = tar_of(tmp_path / "b.tar.gz", {"d/../d/x": b"1", "/d/x": b"2", "../d/x": b"3"})
    with pytest.raises(DataError, match="holds no d/x, expected a file"):
        list(members(path, "d", ["x"], "a file", 10))


def test_members_have_a_size_that_they_may_have(tmp_path):
    path = tar_of(tmp_path / "a.tar.gz", {"d/x": b"12345", "d/y": b""})
    with pytest.raises(DataError, match="has 5 bytes"):
        list(members(path, "d", ["x"], "a file", 4))
    with pytest.raises(DataError, match="has 0 bytes"):
        list(members(path, "d", ["y"], "a file", 4))


def test_cut_archives_are_told(tmp_path):
    whole = tar_of(tmp_path / "a.tar.gz", {"d/x": os.urandom(5000)}).read_bytes()
    for cut in (0, 5, 100, len(whole) // 2):
        path = tmp_path / "cut.tar.gz"
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"cut\.tar\.gz"):
            list(members(path, "d", ["x"], "a file", 5000))
    path.write_bytes(b"this is a page that says: not found" * 50)
    with pytest.raises(DataError, match="no tar archive"):
        list(members(path, "d", ["x"], "a file", 5000))


# --- files ----------------------------------------------------------------------------------------


def test_contents_tell_what_is_wrong(tmp_path):
    with pytest.raises(DataError, match=r"none: missing, expected a list; put it there\."):
        contents(tmp_path / "none", "a list")
    (tmp_path / "empty").touch()
    with pytest.raises(DataError, match="empty: empty, expected a list"):
        contents(tmp_path / "empty", "a list")
    (tmp_path / "long").write_bytes(b"12345")
    with pytest.raises(DataError, match="more than 4 bytes"):
        contents(tmp_path / "long", "a list", limit=4)
    (tmp_path / "page.gz").write_bytes(b"<html>")
    with pytest.raises(DataError, match="cut off or damaged"):
        contents(tmp_path / "page.gz", "a list")


def test_digests(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    check_digest(path, {"x": "900150983cd24fb0d6963f7d28e17f72"}, True)  # of RFC 1321, A.5
    check_digest(path, {"y": "0"}, True)
    check_digest(path, {"x": "0"}, False)
    with pytest.raises(DataError, match=r"MD5 0.*found 9001.*verify=False"):
        check_digest(path, {"x": "0"}, True)


def test_where_is_looked(tmp_path, monkeypatch):
    monkeypatch.setenv("HALFLIFE_DATA", str(tmp_path))
    assert places(None, "a")[:2] == [tmp_path, tmp_path / "a"]
    assert all("datasets" in place.parts for place in places(None, "a")[2:])
    assert places("x") == [places("x")[0]]
    (tmp_path / "a").mkdir()
    found = located("a", None, lambda p: p if p.name == "a" else None, "put it there")
    assert found == tmp_path / "a"
    with pytest.raises(DataError, match=f"a: not found in {tmp_path}, .*; put it there"):
        located("a", None, lambda _: None, "put it there")
    monkeypatch.delenv("HALFLIFE_DATA")
    with pytest.raises(DataError, match="HALFLIFE_DATA is not set"):
        located("a", None, lambda _: None, "put it there")
