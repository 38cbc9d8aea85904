"""Studies run: what is asked for is measured once, kept whatever happens, and read again."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from study_plans import DESIGN, FAILING, OTHER, faults, measured, planted, two_steps

from halflife.lab.executors import InProcess
from halflife.lab.studies import running
from halflife.lab.studies.calls import advance, studies, study
from halflife.lab.studies.design import designs
from halflife.lab.studies.ledger import StudyError, StudyLedger, read_ledger
from halflife.lab.studies.results import read_results
from halflife.lab.studies.running import code_of, require_study, run_studies, studies_named
from halflife.lab.sweeping.display import Display


class Said(Display):
    """Keeps what is said and shown."""

    def __init__(self):
        self.said, self.shown = [], []

    def say(self, text):
        self.said.append(text)

    def progress(self, done, total, what):
        self.shown.append((done, total, what))


@pytest.fixture(autouse=True)
def registered():
    before = dict(designs()), dict(studies())
    with planted(DESIGN, OTHER, FAILING):
        yield
    assert (designs(), studies()) == before


def run(folder, *names, **more):
    return run_studies(names or [DESIGN.name], folder, InProcess("cpu"), **more)


def path_of(folder, design=DESIGN):
    return folder / f"{design.slug}.jsonl"


# --- plans ----------------------------------------------------------------------------------------


def test_a_plan_is_carried_as_far_as_what_is_known():
    known = {}
    sizes = []
    while True:
        wanted, found = advance(two_steps, DESIGN.minutes, known)
        if found is not None:
            break
        sizes.append(len(wanted))
        known[wanted[0].key] = wanted[0].function(**wanted[0].arguments)  # one at a time
    assert sizes == [2, 1, 4, 3, 2, 1, 4, 3, 2, 1]
    assert wanted == []
    assert found.notes == ["chosen: 1"]
    assert advance(two_steps, DESIGN.minutes, known)[1] == found
    assert len(measured) == len(set(measured)) == 10


def test_a_name_has_one_plan():
    def other(settings):
        yield []

    with pytest.raises(ValueError, match="study '000/figure-1': has a plan already"):
        study(DESIGN.name)(other)


def test_names_are_whole_or_beginnings_or_all():
    def named(*words):
        return [design.name for design in studies_named(words)]

    assert named("all") == named("0") == [DESIGN.name, OTHER.name, FAILING.name]
    assert named("004", DESIGN.name) == [DESIGN.name, FAILING.name]
    assert named(OTHER.name, "001") == [OTHER.name]
    with pytest.raises(StudyError, match=r"study='001/tabel': .*there are .*; did you mean '001"):
        named("001/tabel")
    with pytest.raises(StudyError, match="study='000': is no study"):
        require_study("000")


# --- runs -----------------------------------------------------------------------------------------


def test_what_a_study_asks_for_is_measured_once_and_never_again(tmp_path):
    display = Said()
    found = run(tmp_path, DESIGN.name, OTHER.name, display=display)
    assert len(measured) == len(set(measured)) == 10 + 3
    assert found[DESIGN.name].notes == ["chosen: 1"]
    assert display.said == ["000/figure-1: ended.", "001/table-2: ended."]
    assert display.shown[-1] == (2, 2, "studies")
    assert all(0 <= done <= total == 2 for done, total, _ in display.shown)
    content = path_of(tmp_path).read_bytes()
    again = run(tmp_path, DESIGN.name, OTHER.name, display=display)
    assert len(measured) == 13
    assert again[DESIGN.name] == found[DESIGN.name]
    assert path_of(tmp_path).read_bytes() == content  # whoever adds nothing leaves no trace
    assert display.said[2].startswith("000/figure-1: goes on from 10 measurements in ")


def test_what_is_no_number_comes_back_as_none(tmp_path):
    run(tmp_path)
    recorded = read_ledger(path_of(tmp_path))
    assert len(recorded.values) == 10
    for values in recorded.values.values():
        assert math.isnan(values["none"])
        assert values["many"][0] == 1.0
        assert math.isnan(values["many"][1])
    assert "NaN" not in path_of(tmp_path).read_text("utf-8")
    assert {"versions", "machine", "began"} <= set(recorded.sessions[0])


def test_a_call_that_fails_once_is_tried_again(tmp_path):
    faults[1] = 1
    found = run(tmp_path, FAILING.name)
    assert measured.count("faulty 1") == 2
    assert found[FAILING.name] is not None


def test_a_call_that_fails_twice_is_told_after_everything_else_was_measured(tmp_path):
    faults[1] = 2
    display = Said()
    with pytest.raises(
        StudyError, match=r"1 measurement failed twice.*\"seed\":1(.|\n)*for seed 1"
    ):
        run(tmp_path, FAILING.name, DESIGN.name, display=display)
    assert any("no value for seed 1" in line for line in display.said)
    results = {each.design.name: each for each in read_results(tmp_path)}
    assert results[DESIGN.name].findings is not None
    assert results[FAILING.name].findings is None
    assert len(results[FAILING.name].recorded.values) == 2
    measured.clear()
    run(tmp_path, FAILING.name)
    assert measured == ["faulty 1"]


def test_nothing_new_is_begun_after_the_time_limit(tmp_path, monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(running.time, "monotonic", lambda: float(next(clock)))
    found = run(tmp_path, DESIGN.name, OTHER.name, time_limit=2.5)
    assert found == {DESIGN.name: None, OTHER.name: None}
    assert 0 < len(measured) < 10
    monkeypatch.undo()
    assert run(tmp_path)[DESIGN.name] is not None
    assert len(measured) == len(set(measured)) == 10


def test_an_interruption_loses_nothing_that_was_measured(tmp_path, monkeypatch):
    class Interrupting(InProcess):
        def wait(self, seconds):
            if len(measured) == 4:
                raise KeyboardInterrupt
            return super().wait(seconds)

    with pytest.raises(KeyboardInterrupt):
        run_studies([DESIGN.name], tmp_path, Interrupting("cpu"))
    assert len(read_ledger(path_of(tmp_path)).values) == 4
    run(tmp_path)
    assert len(measured) == len(set(measured)) == 10


# --- ledgers --------------------------------------------------------------------------------------


def test_a_torn_last_line_is_measured_again_and_nothing_else(tmp_path):
    run(tmp_path)
    path = path_of(tmp_path)
    whole = path.read_bytes()
    for cut in (1, 40):
        path.write_bytes(whole[:-cut])
        measured.clear()
        display = Said()
        run(tmp_path, display=display)
        assert len(measured) == 1
        assert len(read_ledger(path).values) == 10
        assert len(display.said) >= 2  # what was mended, and where it goes on


def changed(path, number, **fields):
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    lines[number].update(fields)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def test_what_was_changed_or_damaged_is_refused(tmp_path):
    run(tmp_path)
    path = path_of(tmp_path)
    changed(path, 3, values={"x": 9.0})
    for read in (read_ledger, lambda _: run(tmp_path), lambda _: read_results(tmp_path)):
        with pytest.raises(StudyError, match="line 4: does not match its checksum"):
            read(path)
    path.write_text('{"op_code": "session"}\n')
    with pytest.raises(StudyError, match="begins with no design"):
        read_ledger(path)
    path.write_text("")
    with pytest.raises(StudyError, match="is empty"):
        read_ledger(path)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"name": "000/figure-2"}, "study"),
        ({"sha256": "9" * 64}, "design"),
        ({"code": "9" * 64}, "code"),
        ({"budget": "hours"}, "budget"),
    ],
)
def test_a_ledger_goes_on_only_with_what_it_began_with(tmp_path, fields, word):
    run(tmp_path)
    path = path_of(tmp_path)
    changed(path, 0, **fields)
    content = path.read_bytes()
    with pytest.raises(
        StudyError, match=f"begun with another {word} of this study.*another folder"
    ):
        StudyLedger(path, DESIGN, "minutes", code_of(DESIGN.name), {})
    assert path.read_bytes() == content
    if word == "design":
        with pytest.raises(StudyError, match="begun with another design of 000/figure-1"):
            read_results(tmp_path)


# --- results --------------------------------------------------------------------------------------


def test_results_are_read_from_ledgers_alone_and_measure_nothing(tmp_path):
    run(tmp_path)
    measured.clear()
    first, *others = read_results(tmp_path)
    assert measured == []
    (claim,) = first.claims
    assert claim.verdict.outcome == "replicates"
    assert {key: c.outcome for key, c in claim.controls.items()} == {
        "null": "contradicts",
        "planted": "replicates",
    }
    assert claim.trusted
    assert [each.findings for each in others] == [None, None]
    assert others[0].claims[0].verdict.reason == "has not been run to its end"


def test_the_correction_counts_claims_that_have_not_run(tmp_path):
    run(tmp_path)
    among = read_results(tmp_path)[0].claims[0].verdict
    del designs()[OTHER.name], designs()[FAILING.name]
    alone = read_results(tmp_path)[0].claims[0].verdict
    assert among.p_replicates == pytest.approx(3 * alone.p_replicates)


def test_findings_must_have_what_the_design_promises(tmp_path):
    run(tmp_path)
    (own,) = DESIGN.claims
    for fields, lack in (({"matched": ("K",)}, "gain/K"), ({"name": "loss"}, "loss, loss/null")):
        promised = replace(DESIGN, claims=(replace(own, **fields),))
        designs()[DESIGN.name] = promised
        with pytest.raises(StudyError, match=f"000/figure-1: its plan finds no {lack}"):
            read_results(tmp_path)
    designs()[DESIGN.name] = DESIGN
