"""Ledgers that are torn, damaged, or made to do harm: nothing happens but a clear sentence."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest
from ledgers import cell, filled, train

from halflife.lab import Result
from halflife.lab.ledger import Ledger, LedgerError
from halflife.lab.ledger import journal as journal_module

SYSTEM = pytest.mark.skipif(os.name == "nt", reason="needs links, pipes and modes of POSIX")


def listing(folder):
    """All that is there, with sizes, times and contents."""
    return {
        str(path): (path.lstat()[0], path.lstat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in sorted(Path(folder).rglob("*"))
    }  # fmt: skip


def resealed(folder, change):
    """Change the last record of a journal, and give it the checksum that fits."""
    path = folder / "ledger.journal"
    operations = [json.loads(line) for line in path.read_text().splitlines()]
    stored = [o for o in operations if "cell" in o.get("user_attr", {})][-1]["user_attr"]["cell"]
    change(stored["record"])
    text = json.dumps(stored["record"], sort_keys=True, separators=(",", ":"))
    stored["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text("".join(json.dumps(o) + "\n" for o in operations))


# --- torn ----------------------------------------------------------------------------------------


def test_a_line_torn_anywhere_is_set_aside_and_nothing_else_lost(tmp_path):
    records = filled(tmp_path / "whole", 2)
    whole = (tmp_path / "whole" / "ledger.journal").read_bytes()
    # As if it had been killed there, its claims are nobody's.
    whole = whole.replace(b'"ended":false', b'"ended":true')
    # The record of the second cell: the line with the last "cell".
    start = whole.rindex(b"\n", 0, whole.rindex(b'"cell"')) + 1
    end_of_line = whole.index(b"\n", start)
    for end in (start + 1, (start + end_of_line) // 2, end_of_line):
        folder = tmp_path / str(end)
        folder.mkdir()
        path = folder / "ledger.journal"
        path.write_bytes(whole[:end])
        with Ledger(folder) as ledger:  # reading leaves it as it is
            assert len(ledger.records()) == 1
        assert os.listdir(folder) == ["ledger.journal"]
        assert path.read_bytes() == whole[:end]
        with Ledger(folder, writing=True) as ledger:
            (note,) = ledger.notes
            assert f"{path}: the write of its last line was interrupted" in note
            assert "ledger.journal.torn-1" in note
            assert len(ledger.records()) == 1
            train(ledger, cell(1))
        assert (folder / "ledger.journal.torn-1").read_bytes() == whole[start:end]
        with Ledger(folder) as ledger:
            assert ledger.records() == records


@SYSTEM
def test_a_torn_line_is_not_set_aside_through_a_link(tmp_path):
    filled(tmp_path, 1)
    path = tmp_path / "ledger.journal"
    path.write_bytes(path.read_bytes() + b'{"torn')
    (tmp_path / "ledger.journal.torn-1").symlink_to(tmp_path / "elsewhere")
    with Ledger(tmp_path, writing=True) as ledger:
        assert "torn-2" in ledger.notes[0]
    assert not (tmp_path / "elsewhere").exists()


# --- damaged -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"{broken\n",
        b"[1, 2]\n",
        b"\n",
        b"\x00\x00\xff\n",
        b"[" * 100_000 + b"\n",
        b"9" * 5000 + b"\n",
    ],
    ids=["broken", "list", "empty", "bytes", "deep", "long number"],
)
def test_a_corrupt_line_in_the_middle_is_an_error_and_nothing_is_changed(tmp_path, line):
    filled(tmp_path, 1)
    path = tmp_path / "ledger.journal"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], line, *lines[3:]]))
    before = listing(tmp_path)
    for writing in (True, False):
        with pytest.raises(LedgerError, match=r"ledger.journal, line 3: corrupt.*delete that line"):
            Ledger(tmp_path, writing=writing)
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    "operation",
    [
        {"op_code": 99},
        {"op_code": 4},
        {"op_code": [1]},
        {"op_code": 1, "study_id": 0, "worker_id": "x"},  # the study, deleted
        {"op_code": 2, "study_id": 0, "worker_id": "x", "user_attr": {"halflife": "<b>"}},
        {"op_code": 4, "study_id": 0, "worker_id": "x", "datetime_start": None, "user_attrs": 7},
        {"op_code": 4, "study_id": 0, "worker_id": "x", "datetime_start": "now"},
        {"op_code": 4, "study_id": 0, "worker_id": "x", "datetime_start": None,
         "user_attrs": {"cell": {"record": [], "sha256": ""}}},
        {"op_code": 4, "study_id": 0, "worker_id": "x", "datetime_start": None, "params": {"x": 1},
         "distributions": {"x": "{\"name\": \"System\"}"}},
    ],
)  # fmt: skip
def test_an_operation_that_makes_no_sense(tmp_path, operation):
    filled(tmp_path, 1)
    with open(tmp_path / "ledger.journal", "a") as file:
        file.write(json.dumps(operation) + "\n")
    before = listing(tmp_path)
    with pytest.raises(LedgerError, match=r"damaged|another format|holds no sweep|checksum"):
        Ledger(tmp_path)
    assert listing(tmp_path) == before


def test_meta_that_makes_no_sense(tmp_path):
    filled(tmp_path, 1)
    for meta in (7, {"lrs": 3}, {"rules": [1]}, {"choose": {}}, {"report": {"name": 1}}):
        operation = {"op_code": 2, "study_id": 0, "worker_id": "x", "user_attr": {"meta": meta}}
        with open(tmp_path / "ledger.journal", "a") as file:
            file.write(json.dumps(operation) + "\n")
        with pytest.raises(LedgerError, match="is damaged, or no ledger of halflife"):
            Result.read(tmp_path)


def test_a_record_that_was_altered_is_refused_by_its_number(tmp_path):
    filled(tmp_path)
    path = tmp_path / "ledger.journal"
    text = path.read_text()
    for old, new in (('"val":33.3', '"val":3.33'), ('"status":"done"', '"status":"pruned"')):
        assert old in text
        path.write_text(text.replace(old, new, 1))
        for writing in (True, False):
            with pytest.raises(
                LedgerError, match="trial 0: the record does not match its checksum"
            ):
                Ledger(tmp_path, writing=writing)


LARGE = 10**400
WRONG = [
    ("lr", "0.1"), ("lr", LARGE), ("lr", {"not finite": "inf"}), ("lr", None), ("seed", 1.5),
    ("seed", True), ("seed", -1), ("seed", LARGE), ("rule", "a\x00b"), ("rule", "\x1b[31m"),
    ("rule", ""), ("rule", "x" * 10_000), ("rule", ["decoupled"]), ("status", "fine"),
    ("params", []), ("params", {"x": [1]}), ("params", {"a\nb": 1}), ("params", {"x": "\x07"}),
    ("metrics", None), ("metrics", {"val": "1"}), ("metrics", {"val": LARGE}), ("metrics", {"": 1}),
    ("curve", [1]), ("curve", {"val": 1}), ("curve", {"step": [1], "val": [1, 2]}),
    ("curve", {"val": ["1"]}), ("seconds", "long"), ("steps", [1]), ("error", 5),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), WRONG, ids=[f"{k}-{str(v)[:12]!r}" for k, v in WRONG])
def test_a_record_of_wrong_types_is_refused_though_its_checksum_fits(tmp_path, key, value):
    filled(tmp_path, 1)
    resealed(tmp_path, lambda record: record.update({key: value}))
    with pytest.raises(LedgerError, match=r"trial 0: the record has .* as none of halflife's"):
        Ledger(tmp_path)


def test_the_same_change_to_what_is_allowed_is_read(tmp_path):
    """So that the test above fails for its value, and not for how it is written."""
    filled(tmp_path, 1)
    resealed(tmp_path, lambda record: record.update({"rule": "<script>alert(1)</script>"}))
    with Ledger(tmp_path) as ledger:
        assert ledger.records()[0]["rule"] == "<script>alert(1)</script>"


# --- made to do harm -----------------------------------------------------------------------------


def test_reading_changes_nothing(tmp_path):
    filled(tmp_path)
    before = listing(tmp_path)
    with Ledger(tmp_path) as ledger:
        assert len(ledger.records()) == 3
    Result.read(tmp_path).cells()
    assert listing(tmp_path) == before
    for missing in (tmp_path / "none", tmp_path / "ledger.journal" / "below"):
        with pytest.raises(LedgerError, match=r"holds no ledger.journal"):
            Ledger(missing)
    assert listing(tmp_path) == before


@SYSTEM
def test_a_directory_that_cannot_be_written_is_read(tmp_path):
    records = filled(tmp_path)
    (tmp_path / "ledger.journal").chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        with Ledger(tmp_path) as ledger:
            assert ledger.records() == records
        if os.geteuid():  # root may write all the same
            with pytest.raises(LedgerError, match=r"cannot be written \(Permission denied\)"):
                Ledger(tmp_path, writing=True)
    finally:
        tmp_path.chmod(0o700)


def test_an_address_in_a_directory_is_not_used(tmp_path):
    database = tmp_path / "other.db"
    (tmp_path / "ledger.url").write_text(f"sqlite:///{database}\n")
    with pytest.raises(LedgerError, match=r"holds no ledger.journal"):
        Ledger(tmp_path)
    filled(tmp_path, 1)
    with Ledger(tmp_path) as ledger:
        assert len(ledger.records()) == 1
    assert not database.exists()


@SYSTEM
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder", "device"])
def test_what_is_no_plain_file_is_refused_at_once(tmp_path, kind):
    path, elsewhere = tmp_path / "out" / "ledger.journal", tmp_path / "elsewhere"
    path.parent.mkdir()
    if kind == "link":
        filled(elsewhere, 1)
        path.symlink_to(elsewhere / "ledger.journal")
    elif kind == "dangling link":
        path.symlink_to(elsewhere)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        try:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # endless zeros
        except PermissionError:
            pytest.skip("only root makes devices")
    before = listing(tmp_path) if kind not in ("pipe", "device") else os.listdir(path.parent)
    for writing in (False, True):
        with pytest.raises(
            LedgerError, match=r"ledger.journal: is (a link|no plain file); a ledger"
        ):
            Ledger(path.parent, writing=writing)
    after = listing(tmp_path) if kind not in ("pipe", "device") else os.listdir(path.parent)
    assert after == before


@SYSTEM
def test_the_lock_is_not_made_through_a_link(tmp_path):
    (tmp_path / "ledger.journal.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerError, match="cannot be written"):
        Ledger(tmp_path, writing=True)
    assert not (tmp_path / "elsewhere").exists()


def test_files_and_lines_that_are_far_too_large(tmp_path, monkeypatch):
    filled(tmp_path, 1)
    path = tmp_path / "ledger.journal"
    os.truncate(path, (1 << 30) + 1)  # of holes
    with pytest.raises(LedgerError, match="no plain file of at most 1 GB"):
        Ledger(tmp_path)
    monkeypatch.setattr(journal_module, "_LINE", 5000)
    path.write_bytes(b'{"op_code": 0, "x": "' + b"x" * 6000 + b'"}\n')
    with pytest.raises(LedgerError, match=r"line 1: is longer than"):
        Ledger(tmp_path)


def test_a_name_of_a_driver_is_no_path(tmp_path, monkeypatch):
    """A claim of a driver called ../x may lead to no file outside the folder of locks."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    with Ledger(tmp_path / "out", writing=True):
        pass  # which makes the folder of locks
    mine = tmp_path / "mine.lock"
    mine.write_text("mine")
    filled(tmp_path / "out", 1)
    trial = {
        "op_code": 4, "study_id": 0, "worker_id": "x", "datetime_start": None,
        "user_attrs": {"key": cell(5).key, "driver": "../mine"},
    }  # fmt: skip
    sign = {"host": "x", "locked": True, "beat": 0.0}
    said = {"op_code": 2, "study_id": 0, "worker_id": "x", "user_attr": {"driver:../mine": sign}}
    with open(tmp_path / "out" / "ledger.journal", "a") as file:
        file.write(f"{json.dumps(trial)}\n{json.dumps(said)}\n")
    with Ledger(tmp_path / "out", writing=True) as ledger:
        assert ledger.claim([cell(5)]) == [cell(5)]
    assert mine.read_text() == "mine"


def test_a_report_of_a_hostile_ledger_escapes_what_it_shows(tmp_path):
    hostile = "<img src=x onerror=alert(1)>"
    filled(tmp_path, 1)
    resealed(tmp_path, lambda r: r.update(rule=hostile, metrics={hostile: 1.0}, curve=None))
    meta = {"rules": [hostile], "seeds": [7], "lrs": [1e-3 / 3], "name": hostile,
            "coefficients": {hostile: [0.1 / 3]}, "choose": {"name": hostile}}  # fmt: skip
    said = {"op_code": 2, "study_id": 0, "worker_id": "x", "user_attr": {"meta": meta}}
    with open(tmp_path / "ledger.journal", "a") as file:
        file.write(json.dumps(said) + "\n")
    page = Result.read(tmp_path).report(tmp_path / "page").read_text()
    assert "onerror" in page
    assert hostile not in page
