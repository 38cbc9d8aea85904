"""Several processes at one ledger: who may train what, and what becomes of those that die."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time

import optuna
import pytest
from ledgers import PARTS, SETTINGS, cell, filled, outcome, train

from halflife.lab.ledger import Ledger, drivers
from halflife.lab.ledger.ledger import Ledger as Whole


def joined(folder, **options):
    ledger = Ledger(folder, writing=True, **options)
    ledger.configure(SETTINGS, PARTS, resume=True)
    return ledger


def killed(ledger):
    """As kill -9 leaves it: its lock is free, and nothing more is written."""
    driver = ledger._driver
    driver._stop.set()
    driver._lock.release()
    driver._write = lambda *_: (_ for _ in ()).throw(OSError("dead"))


def recorded(folder):
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "ledger.journal"))
    study = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))
    return [t.user_attrs["key"] for t in study.trials if "cell" in t.user_attrs], study.trials


def test_two_share_the_work_and_see_each_others(tmp_path):
    with joined(tmp_path) as first, joined(tmp_path) as second:
        assert first.claim([cell(0), cell(1)]) == [cell(0), cell(1)]
        assert second.claim([cell(0), cell(1), cell(2)]) == [cell(2)]
        assert (first.others(), second.others()) == (1, 2)
        first.finish(cell(0), outcome(), 1.0)
        second.refresh()
        assert second.status(cell(0)) == "done"
        assert second.others() == 1
        first.release()
        assert second.others() == 0
        assert second.claim([cell(0), cell(1)]) == [cell(1)]
        second.finish(cell(1), outcome(), 1.0)
        second.finish(cell(2), outcome(), 1.0)
    with Ledger(tmp_path) as ledger:
        assert len(ledger.records()) == 3


def test_many_at_once_train_each_cell_once(tmp_path):
    cells, mine = [cell(n) for n in range(12)], {}
    begin = threading.Barrier(4)

    def drive(name):
        with joined(tmp_path) as ledger:
            begin.wait()
            mine[name] = []
            for each in cells:
                if ledger.claim([each]):
                    mine[name].append(each)
                    ledger.finish(each, outcome(), 1.0)

    threads = [threading.Thread(target=drive, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(c.lr for own in mine.values() for c in own) == sorted(c.lr for c in cells)
    keys, _ = recorded(tmp_path)
    assert sorted(keys) == sorted(c.key for c in cells)


def test_one_that_died_gives_its_cells_up_at_once(tmp_path):
    first = joined(tmp_path)
    train(first, cell(0))
    assert first.claim([cell(1)]) == [cell(1)]
    killed(first)
    with joined(tmp_path) as second, joined(tmp_path) as third:
        begin = time.monotonic()
        assert second.claim([cell(0), cell(1)]) == [cell(1)]
        assert third.claim([cell(0), cell(1)]) == []
        assert time.monotonic() - begin < 5.0
        second.finish(cell(1), outcome(), 1.0)
    keys, trials = recorded(tmp_path)
    assert sorted(keys) == sorted([cell(0).key, cell(1).key])
    assert [t.state.name for t in trials] == ["COMPLETE", "FAIL", "COMPLETE"]


def test_one_that_died_after_its_record_has_recorded_it(tmp_path, monkeypatch):
    """Between the record and the end of the trial, which are two writes."""
    first = joined(tmp_path)
    assert first.claim([cell(0)])
    monkeypatch.setattr(Whole, "_complete", lambda *_: None)
    first.finish(cell(0), outcome(), 1 / 3)
    monkeypatch.undo()
    killed(first)
    with Ledger(tmp_path) as reader:
        assert reader.status(cell(0)) == "done"
    with joined(tmp_path) as second:
        assert second.claim([cell(0)]) == []
    keys, trials = recorded(tmp_path)
    assert keys == [cell(0).key]
    assert [(t.state.name, t.value) for t in trials] == [("COMPLETE", 1 / 3)]


def test_one_of_another_machine_is_dead_after_a_silence(tmp_path, monkeypatch):
    first = joined(tmp_path)
    assert first.claim([cell(0)])
    monkeypatch.setattr(drivers, "_host", lambda: "another machine")
    with joined(tmp_path) as second:
        assert second.claim([cell(0)]) == []  # it lives, though its lock cannot be seen
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 99.0)
        assert second.claim([cell(0)]) == []
        monkeypatch.setattr(time, "time", lambda: now + 101.0)
        assert second.claim([cell(0)]) == [cell(0)]
        # It was only silent: what it brings now is the other's.
        assert first.finish(cell(0), outcome(metrics={"val": 9.0}), 9.0) is False
        assert second.finish(cell(0), outcome(), 1.0) is True
        assert first.claim([cell(0)]) == []
        assert first.records()[0]["metrics"] == second.records()[0]["metrics"]
    keys, _ = recorded(tmp_path)
    assert keys == [cell(0).key]
    first.close()


def test_one_that_ended_in_order_holds_nothing(tmp_path):
    first = joined(tmp_path)
    assert first.claim([cell(0)])
    first.close()
    with joined(tmp_path) as second:
        assert second.others() == 0
        assert second.claim([cell(0)]) == [cell(0)]


def test_one_that_ends_where_nothing_can_be_written_is_dead_all_the_same(tmp_path):
    first = joined(tmp_path)
    assert first.claim([cell(0)])

    def full(*_):
        raise OSError(28, "No space left on device")

    first._storage._backend.append_logs = full
    first.close()
    with joined(tmp_path) as second:
        assert second.claim([cell(0)]) == [cell(0)]


def test_a_sign_of_life_is_given_again_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr(drivers, "BEAT", 0.02)
    with joined(tmp_path) as ledger:
        before = ledger._attributes[f"driver:{ledger.driver}"]["beat"]
        until = time.monotonic() + 20
        while ledger._attributes[f"driver:{ledger.driver}"]["beat"] == before:
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.mark.parametrize(
    "sign", [None, 7, {}, {"beat": "now"}, {"beat": None, "locked": True}, {"ended": True}]
)
def test_signs_that_make_no_sense_are_none_of_life(sign):
    assert not drivers.alive("0123456789ab", sign)
    assert not drivers.alive("../0123456789", {"beat": time.time()})


WRITER = """
    import sys
    sys.path.insert(0, {here!r})
    from halflife.lab.ledger import Ledger
    from ledgers import PARTS, SETTINGS, cell, outcome
    with Ledger({out!r}, writing=True) as ledger:
        ledger.configure(SETTINGS, PARTS, resume=True)
        for n in range(240):
            if ledger.claim([cell(n)]):
                ledger.finish(cell(n), outcome(), 1.0)
                print(n, flush=True)
"""


@pytest.mark.slow
def test_killed_writers_lose_and_repeat_nothing(tmp_path, request):
    """SIGKILL at arbitrary moments; every record that a writer reported must be there, once."""
    code = textwrap.dedent(WRITER.format(here=str(request.path.parent), out=str(tmp_path)))
    reported: list[int] = []
    for kills in range(100):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        if kills < 4:
            for _ in range(20 * kills + 1):  # let it get going, then kill it wherever it is
                reported.append(int(child.stdout.readline()))
            time.sleep(0.003 * kills)
            child.kill()
        reported += [int(n) for n in child.communicate()[0].split()]
        if child.returncode == 0:
            break
    # What is printed is on disk; a cell may be on disk whose print the kill prevented.
    assert len(reported) == len(set(reported)) <= 240
    keys, _ = recorded(tmp_path)
    assert sorted(keys) == sorted(cell(n).key for n in range(240))
    with Ledger(tmp_path) as ledger:
        assert ledger.records() == [{**cell(n).as_dict(), **outcome()} for n in range(240)]


def test_a_reader_sees_a_ledger_that_is_being_written(tmp_path):
    records = filled(tmp_path)
    with joined(tmp_path) as ledger:
        assert ledger.claim([cell(3)])
        with Ledger(tmp_path) as reader:
            assert reader.records() == records
