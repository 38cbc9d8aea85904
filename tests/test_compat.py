"""`make compat`, its page, and the workflow that runs it for the versions that it promises."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tomllib", reason="in the standard library from Python 3.11")
yaml = pytest.importorskip("yaml", reason="mkdocs brings it")

ROOT = Path(__file__).resolve().parent.parent
COMPAT = runpy.run_path(str(ROOT / "scripts" / "compat.py"))
PAGE = runpy.run_path(str(ROOT / "scripts" / "versions_page.py"))
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"


def test_the_page_is_written_from_the_records() -> None:
    records = json.loads(PAGE["RESULTS"].read_text("utf-8"))
    assert PAGE["PAGE"].read_text("utf-8") == PAGE["page"](records), "run make compat"
    assert records == sorted(records, key=COMPAT["key"])


def test_the_oldest_is_the_lower_bounds() -> None:
    wanted = COMPAT["requirements"]("oldest", None)
    assert {"torch==2.6", "numpy==1.26", "optuna==4.0", "lightning==2.5"} <= {*wanted}
    assert not [line for line in wanted if ">" in line]
    free = {COMPAT["name_of"](line) for line in COMPAT["constraints"]("oldest", None)}
    assert not free & {"torch", "numpy", "optuna", "lightning", "sqlalchemy"}
    assert {"pytest", "hypothesis"} <= free


def test_the_pins_hold_but_for_torch() -> None:
    assert "torch==2.8.0" in COMPAT["requirements"]("pinned", "2.8.0")
    names = [COMPAT["name_of"](line) for line in COMPAT["constraints"]("pinned", "2.8.0")]
    assert "torch" not in names
    assert {"numpy", "optuna", "transformers"} <= {*names}
    assert "torch" in map(COMPAT["name_of"], COMPAT["constraints"]("pinned", None))
    assert COMPAT["constraints"]("newest", None) == []


REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="test_right"/>
<testcase classname="tests.test_a" name="test_wrong[x]">
<failure message="assert 1 == 2&#10;more"/></testcase>
<testcase classname="tests.test_b" name="">
<error message="collection failure">ImportError</error></testcase>
<testcase classname="tests.test_c" name="test_left_out">
<skipped message="torch 2.9: why"/></testcase>
<testcase classname="tests.test_c" name="test_too"><skipped message="torch 2.9: why"/></testcase>
</testsuite></testsuites>"""


def test_what_a_run_says_is_read() -> None:
    found = COMPAT["outcome"](ElementTree.ElementTree(ElementTree.fromstring(REPORT)))
    assert found == {
        "passed": 1,
        "failed": {
            "tests/test_a::test_wrong[x]": "assert 1 == 2",
            "tests/test_b::": "collection failure",
        },
        "skipped": {"torch 2.9: why": 2},
    }
    versions = {"torch": "2.8.0+cpu", "python": "3.11.7", "numpy": "2.4.6"}
    record = {"kind": "pinned", "date": "2026-01-02", "versions": versions, "minutes": 1, **found}
    page = PAGE["page"]([record])
    assert "| 2.8.0 | 3.11.7 | 2.4.6 | the pins | 1 | 2 | 2 | 2026-01-02 |" in page
    assert r"- torch 2.8.0, the pins: `tests/test_a::test_wrong[x]`: assert 1 == 2" in page
    assert "- torch 2.9: why (2 tests)" in page


def test_what_failed_is_run_again_and_the_row_says_so() -> None:
    was = {"passed": 5, "failed": {"tests/test_a::x[1]": "no", "tests/test_a::y": "no"}}
    old = {"kind": "pinned", "date": "2026-01-02", "minutes": 9, "skipped": {"why": 1}, **was}
    old["versions"] = {"torch": "2.8.0", "python": "3.11.7", "numpy": "2.4.6"}
    again = {"passed": 1, "failed": {}, "skipped": {"why": 1}, "minutes": 1, "date": "2026-01-03"}
    record = COMPAT["mended"](old, again)
    assert (record["passed"], record["failed"], record["skipped"]) == (6, {}, {"why": 2})
    assert (record["date"], record["minutes"], record["again"]) == ("2026-01-03", 10, 2)
    assert "| 6 | 2 | 0 (2 run again) | 2026-01-03 |" in PAGE["page"]([record])
    assert COMPAT["mended"](record, again)["again"] == 2
    assert COMPAT["node_of"]("::tests.test_a") == "tests/test_a.py"
    assert [*map(COMPAT["node_of"], was["failed"])] == [
        "tests/test_a.py::x[1]",
        "tests/test_a.py::y",
    ]


def test_a_run_takes_the_place_of_the_last_of_its_kind() -> None:
    def record(kind: str, torch: str, python: str) -> dict[str, Any]:
        return {"kind": kind, "versions": {"torch": torch, "python": python}}

    key = COMPAT["key"]
    assert key(record("pinned", "2.9.1", "3.11.7")) == key(record("pinned", "2.9.0+cpu", "3.11.9"))
    assert key(record("pinned", "2.9.1", "3.11.7")) < key(record("pinned", "2.10.0", "3.11.7"))
    assert key(record("pinned", "2.9.1", "3.11.7")) != key(record("oldest", "2.9.1", "3.11.7"))


def commands() -> list[list[str]]:
    """What the workflow runs, a job of the matrix each."""
    jobs = yaml.safe_load(WORKFLOW.read_text("utf-8"))["jobs"]
    found = []
    for job in jobs.values():
        for entry in job.get("strategy", {}).get("matrix", {}).get("include", [{}]):
            for step in job["steps"]:
                if "run" in step:
                    line = re.sub(
                        r"\$\{\{ matrix\.(\w+) \}\}", lambda m, e=entry: e[m[1]], step["run"]
                    )
                    found.append(shlex.split(line))
    return found


def rehearsed(*targets: str) -> str:
    """What make would run: without the flags and variables of a make that runs these tests."""
    command, env = ["make", "-n", *targets], {"PATH": os.environ["PATH"]}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("\\\n", " ")


def test_the_workflow_runs_what_there_is() -> None:
    found = commands()
    assert ["make", "test"] in found
    compat = [line for line in found if line[1] == "compat"]
    assert len(compat) == 4
    for line in found:
        assert line[0] == "make"
        assert rehearsed(*line[1:])
    for line in compat:
        command = shlex.split(rehearsed(*line[1:]))
        assert (ROOT / command[1]).exists()
        given = COMPAT["parser"]().parse_args(command[2:])
        assert given.python.removeprefix("python") in {"3.10", "3.12", "3.13", "3.14"}
        assert given.smoke == ("SMOKE=1" in line)
        assert (given.kind == "oldest") == (given.torch == "2.6.0") == ("OLDEST=1" in line)


def test_the_workflow_and_the_page_promise_the_same() -> None:
    """The lowest and the highest Python of the classifiers, and the lowest torch."""
    project = COMPAT["project"]()
    pythons = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    text = " ".join(" ".join(line) for line in commands())
    assert f"PYTHON=python{pythons[0]}" in text
    assert f"PYTHON=python{pythons[-1]}" in text
    (torch,) = re.findall(r"torch>=([\d.]+)", " ".join(project["dependencies"]))
    assert f"TORCH={torch}.0 OLDEST=1" in text
    assert f"Python {pythons[0]} to {pythons[-1]}" in PAGE["HEAD"]
    assert f'requires-python = ">={pythons[0]}"' in (ROOT / "pyproject.toml").read_text("utf-8")
