"""Whatever a sweep, its metrics, parameters and errors are called: the page and picture hold it."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from report_page import Page, maps
from synthetic import grid, landscape, meta

from halflife.lab.report import write_report
from halflife.lab.report.failures import failures
from halflife.lab.report.summary import clock, facts
from halflife.lab.report.svg import clean, fitted, width_of

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>&amp;\"'{{ 7 * 7 }}"
CONTROL = "".join(map(chr, range(32))) + "\x7f\x85\ufffe\uffff\ud800"
TURNED = "\u202eevil\u2066\u200f"
LONG = "W" * 200
HOSTILE = {"markup": MARKUP, "control": CONTROL + "x", "turned": TURNED, "long": LONG}


def sweep(name):
    """A sweep in which everything that has a name has this one."""
    rules = (name + "1", name + "2")
    plan = meta(rules, lrs=grid(1e-3, 1e-1, 3), strengths=grid(1e-4, 1e-1, 3), default_decay=0.01)
    plan = replace(
        plan,
        name=name,
        description=name,
        optimizer=name,
        schedule=name,
        command=name,
        prediction=name,
        confirm_seeds=[10_000, 10_001],
        report={"name": name, "unit": name},
        curve_unit=name,
        params={name: [name + "a", name + "b"], "p": [1, 2]},
        versions={name: name},
        extensions=[{"rule": rules[0], "axis": "lr", "side": "high", "value": 1.0}],
        unresolved=[{"rule": rules[0], "axis": "lr", "side": "high", "reason": name}],
    )
    records = []
    for i, r in enumerate(landscape(plan, slopes=dict.fromkeys(rules, 0.0), noise=0.1)):
        for value in plan.params[name]:
            for p in plan.params["p"]:
                curve = {"step": [1, 2], name: [2.0, 1.0], name + "z": [1.0, math.inf]}
                own = {"params": {name: value, "p": p}, "curve": curve}
                own["metrics"] = {name: r["metrics"]["test_error"] + 0.1 * p}
                if i % 31 == 0:
                    own |= {"status": "failed", "metrics": {}, "error": f"Traceback\n{name}"}
                records.append(r | own)
    return plan, records


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_no_name_gets_out_of_its_place(name, tmp_path):
    plan, records = sweep(name)
    page = write_report(records, plan, tmp_path).read_text("utf-8")  # it has an encoding
    parsed = Page(page)
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {"img", "iframe", "a", "object"}
    assert [tag for tag, _ in parsed.elements].count("script") == 1
    for _, attributes in parsed.elements:
        assert not [key for key in attributes if key.startswith("on")]
    body = page[page.index("<body>") :]
    assert clean(page) == page
    assert "{{" not in body or name == MARKUP
    assert "49" not in re.findall(r"<h1[^>]*>([^<]*)", body)[0]
    if name == MARKUP:  # it is shown as it is
        assert MARKUP in "".join(parsed.text)
    for text in ((tmp_path / "landscape.svg").read_text("utf-8"), *maps(page).values()):
        ET.fromstring(text)  # valid XML
    numbers = json.loads((tmp_path / "summary.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert numbers["meta"]["name"] == name


def test_long_names_are_cut_with_the_whole_as_a_tooltip(tmp_path):
    plan, records = sweep(LONG)
    page = write_report(records, plan, tmp_path).read_text("utf-8")
    for svg in maps(page).values():
        for shown, whole in re.findall(
            r"<text [^>]*>([^<]*)(?:<title>([^<]*)</title>)?</text>", svg
        ):
            assert len(shown) < 60
            if shown.endswith("\N{HORIZONTAL ELLIPSIS}") and whole:
                assert shown[:-1] in whole
        assert f"<title>{LONG}" in svg
    (heading,) = re.findall(r"<h1 title=\"([^\"]*)\">[^<]{,160}</h1>", page)
    assert heading == LONG


def test_text_fits_a_width_by_any_script():
    for text in ("lr", LONG, "i" * 300, "\u5b57" * 100, "\u05d0" * 100, "e\u0301" * 100):
        assert width_of(fitted(text, 100.0)) <= 100.0
    assert fitted("no cut", 100.0) == "no cut"


def test_what_xml_forbids_is_replaced_and_nothing_else():
    allowed = "\t\n\r A\xa0\u05d0\u5b57\U0001f600"
    assert clean(allowed) == allowed
    assert set(clean(CONTROL.replace("\t", "").replace("\n", "").replace("\r", ""))) == {"\ufffd"}


def test_failures_by_the_same_error_stand_together():
    plan = meta(("decoupled",), lrs=grid(1e-3, 1e-1, 3), strengths=grid(1e-4, 1e-1, 3))
    records = landscape(plan, slopes={"decoupled": 0.0})
    for i, r in enumerate(records):
        r |= {"status": "failed", "error": "Traceback\nA: x" if i % 3 else f"Traceback\nB: {i}"}
    found, left_out = failures(records)
    assert found[0].line == "A: x"
    assert len(found[0].cells) + found[0].more == sum(i % 3 > 0 for i in range(len(records)))
    assert len(found) + left_out == 1 + sum(i % 3 == 0 for i in range(len(records)))
    huge = failures([records[0] | {"error": "x" * 10**6 + "\nC: the end"}])[0][0]
    assert huge.line == "C: the end"
    assert len(huge.traceback) < 20_000
    assert huge.traceback.endswith("C: the end")


def test_facts_of_what_was_run():
    plan = meta(("decoupled",), lrs=[0.01], strengths=[1e-3, 1e-2], confirm_seeds=[10_000, 10_001])
    records = landscape(plan, slopes={"decoupled": 0.0})
    records[0] |= {"status": "failed", "seconds": 3600.0}
    records[1] |= {"status": "pruned", "progress": 0.4}
    records[2] |= {"diverged": True}
    known = dict(facts(records, plan))
    total = 3600.0 + 0.1 * (len(records) - 1)
    assert known["time of trainings"].startswith(f"{clock(total)} in all; one: 0.1 s in the median")
    counts = {"done": len(records) - 3, "failed": 1, "pruned": 1, "diverged": 1}
    assert known["trainings"] == ", ".join(f"{n} {kind}" for kind, n in counts.items())
    assert known["seeds that choose"] == "0 to 2"
    assert known["fresh seeds"] == "10000, 10001"
    assert known["torch"] == "2.13.0"


def test_a_summary_of_anything_is_strict_json(tmp_path):
    plan = meta(("decoupled",), lrs=[0.001, 0.01], strengths=[1e-3, 1e-2], confirm_seeds=[10_000])
    plan = replace(plan, params={"width": [np.int64(8).item(), True, "wide"]})
    records = [
        r | {"params": {"width": 8}, "metrics": {"test_error": value}, "diverged": False}
        for r, value in zip(
            landscape(plan, slopes={"decoupled": 0.0}),
            [math.nan, math.inf, -math.inf, 1e308, -1e308, 0.0, 1.0] * 10,
            strict=False,
        )
    ]
    write_report(records, plan, tmp_path)
    json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
