"""Run the suite with another torch, in an environment made for it; `make compat` calls this.

    python3 scripts/compat.py --torch 2.6.0                       # today's pins but for torch
    python3 scripts/compat.py --torch 2.6.0 --python python3.10 --oldest
    python3 scripts/compat.py --newest
    python3 scripts/compat.py --smoke --python python3.12

Needs nothing but Python's standard library (3.11 or newer), and takes uv where it is installed.

    --oldest   numpy and the extras at the lower bounds of pyproject.toml, as is torch if not given
    --newest   everything as new as there is
    --smoke    imports, the public surface and some tests only
    --again    what failed in the last such run, after a mend; the record says how many

Deprecation warnings are errors with the pins alone: elsewhere they are others' of each other.

Prints what failed and why. A run of everything is written into docs/versions.json, and the page
docs/versions.md from that; one with further arguments of pytest is not. The environment is made
anew, and removed afterwards unless it is to be kept.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "versions.json"
EXTRAS = ("lab", "plot", "lightning", "hf")  # tested at the lower bounds of pyproject.toml
TOOLS = ("dev", "third-party")  # what tests with: at today's pins always
SMOKE = [
    "tests/test_public_api.py",
    "tests/test_base.py",
    "tests/test_errors.py",
    "tests/lab/test_ledger.py",
    "tests/lab/test_cli.py",
]
OF_TORCHAO = (2, 11)  # the lowest torch that the pinned torchao is built for
SHOWN = ("torch", "numpy", "optuna", "lightning", "transformers", "scipy", "scikit-learn")
# Warnings are errors; but what packages say of each other, where they were not made for each other.
MIXED = "filterwarnings=error\ndefault::DeprecationWarning\ndefault::FutureWarning"


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description="run the suite with another torch")
    parser.add_argument("--torch", help="its version; default: the pin, or what the mode says")
    parser.add_argument("--python", default=sys.executable, help="the interpreter")
    mode = parser.add_mutually_exclusive_group()
    for kind in ("oldest", "newest"):
        mode.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--again", action="store_true", help="only what failed last time")
    parser.add_argument("--workers", default="2")
    parser.add_argument("--venv", type=Path, help="made here, and kept")
    parser.add_argument("pytest", nargs="*", help="further arguments of pytest")
    return parser


def main() -> None:
    args = parser().parse_args()
    kind = args.kind or "pinned"
    folder = args.venv or Path(tempfile.mkdtemp(prefix="halflife-compat-"))
    try:
        python = environment(args.python, folder.absolute())
        install(python, requirements(kind, args.torch), constraints(kind, args.torch))
        sys.exit(tested(python, kind, args))
    finally:
        if args.venv is None:
            shutil.rmtree(folder, ignore_errors=True)


# --- the environment -----------------------------------------------------------------------------


def project() -> dict[str, Any]:
    """What pyproject.toml says of the project."""
    import tomllib  # of Python 3.11

    text = (ROOT / "pyproject.toml").read_text("utf-8")
    return tomllib.loads(text)["project"]  # type: ignore[no-any-return]


def requirements(kind: str, torch: str | None) -> list[str]:
    """What is to be installed besides this project, as requirements."""
    stated = project()
    extras = stated["optional-dependencies"]
    wanted = [*stated["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]
    if kind == "oldest":
        wanted = [line.replace(">=", "==", 1) for line in wanted]
    tools = [line for extra in TOOLS for line in extras[extra]]
    if torch is not None and tuple(map(int, torch.split(".")[:2])) < OF_TORCHAO:
        tools.remove("torchao")  # which transformers imports where it is
    if torch is not None:
        wanted = [line for line in wanted if name_of(line) != "torch"] + [f"torch=={torch}"]
    return wanted + tools


def constraints(kind: str, torch: str | None) -> list[str]:
    """The lines of constraints.txt that hold: without another torch's, or the lowest extras'."""
    if kind == "newest":
        return []
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    stated = project()["optional-dependencies"]
    free = {"torch"} if torch else set()
    if kind == "oldest":
        free |= {name_of(line) for extra in EXTRAS for line in stated[extra]}
        free |= {"torch", "numpy", "sqlalchemy"}  # the last is optuna's
    return [line for line in pins if name_of(line) not in free]


def name_of(requirement: str) -> str:
    """The package that a requirement is of."""
    return re.match(r"[\w.-]+", requirement).group().lower()  # type: ignore[union-attr]


def environment(interpreter: str, folder: Path) -> Path:
    """The Python of a new virtual environment."""
    if uv := shutil.which("uv"):
        command = [uv, "venv", "--seed", "--quiet", "--clear", "--python", interpreter, str(folder)]
    else:
        command = [interpreter, "-m", "venv", "--clear", str(folder)]
    if subprocess.run(command).returncode:
        sys.exit(f"{interpreter}: no virtual environment could be made with it.")
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def install(python: Path, wanted: list[str], pins: list[str]) -> None:
    """Install, and this project editable."""
    if uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python)]
    else:
        command = [str(python), "-m", "pip", "install", "--quiet"]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder, "constraints.txt")
        pinned.write_text("\n".join(pins) + "\n", "utf-8")
        command += ["--constraint", str(pinned), "--editable", str(ROOT), *wanted]
        if code := subprocess.run(command, cwd=ROOT).returncode:
            sys.exit(code)
    print(f"installed in {time.monotonic() - start:.0f} s", flush=True)


# --- the run -------------------------------------------------------------------------------------


def tested(python: Path, kind: str, args: argparse.Namespace) -> int:
    """Run the suite, print what failed, and record it; the exit status."""
    versions = installed(python)
    record: dict[str, Any] = {
        "kind": "smoke" if args.smoke else kind,
        "date": datetime.date.today().isoformat(),
        "versions": versions,
    }
    last = (
        next((old for old in recorded() if key(old) == key(record)), None) if args.again else None
    )
    if args.again and not (last and last["failed"]):
        sys.exit("--again: no such run is recorded that had failures; run it whole.")
    names = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(f"{names}; {kind}", flush=True)
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
        command += ["-n", args.workers, f"--junitxml={report}"]
        command += ["-o", MIXED] if kind != "pinned" else []
        command += [node_of(test) for test in last["failed"]] if last else []
        command += SMOKE if args.smoke and not last else []
        done = subprocess.run([*command, *args.pytest], cwd=ROOT, env={**os.environ, **one_thread})
        if not report.exists():  # not even collected
            return done.returncode or 1
        found = outcome(ElementTree.parse(report))
    print(f"\n{names}: {found['passed']} passed, {len(found['failed'])} failed")
    for test, why in found["failed"].items():
        print(f"  {test}\n    {why}")
    for reason, count in found["skipped"].items():
        print(f"  skipped {count}: {reason}")
    if not args.pytest:
        run = found["passed"] + len(found["failed"]) + sum(found["skipped"].values())
        if run < len(last["failed"] if last else [1]):
            sys.exit(f"{run} tests were run, which are too few: nothing is recorded.")
        record["minutes"] = round((time.monotonic() - start) / 60)
        write(mended(last, {**record, **found}) if last else {**record, **found})
    return done.returncode


def node_of(test: str) -> str:
    """A test as pytest is given it; of a file that was not even collected, the file.

    Example:
        >>> node_of("tests/test_a::test_wrong[x]")
        'tests/test_a.py::test_wrong[x]'
        >>> node_of("::tests.test_a")
        'tests/test_a.py'
    """
    path, _, name = test.partition("::")
    return f"{path}.py::{name}" if path else f"{name.replace('.', '/')}.py"


def mended(last: dict[str, Any], again: dict[str, Any]) -> dict[str, Any]:
    """A run of everything, and what became of its failures when they were run again."""
    both = Counter(last["skipped"]) + Counter(again["skipped"])
    return {
        **last,
        "date": again["date"],
        "minutes": last["minutes"] + again["minutes"],
        "passed": last["passed"] + again["passed"],
        "failed": again["failed"],
        "skipped": dict(sorted(both.items())),
        "again": last.get("again", 0) + len(last["failed"]),
    }


def installed(python: Path) -> dict[str, str]:
    """The versions that are to be shown."""
    code = (
        "import importlib.metadata as m, json, platform\n"
        "found = {'python': platform.python_version()}\n"
        f"for name in {SHOWN!r}:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def outcome(report: ElementTree.ElementTree) -> dict[str, Any]:
    """How many tests passed; which failed, and why; how many were skipped for each reason."""
    passed, failed, skipped = 0, {}, Counter()
    for case in report.iter("testcase"):
        test = f"{case.get('classname', '').replace('.', '/')}::{case.get('name')}"
        bad = next((c for c in case if c.tag in ("failure", "error")), None)
        left_out = case.find("skipped")
        if bad is not None:
            text = (bad.get("message") or bad.text or "").strip().splitlines() or [""]
            failed[test] = text[0][:200]
        elif left_out is None:
            passed += 1
        else:
            reason = (left_out.get("message") or "").strip().splitlines()
            skipped[reason[0] if reason else "no reason given"] += 1
    return {"passed": passed, "failed": failed, "skipped": dict(sorted(skipped.items()))}


def recorded() -> list[dict[str, Any]]:
    """The runs so far, the last of each kind."""
    return json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else []


def write(record: dict[str, Any]) -> None:
    """Put a run in the place of the last one of its kind, and write the page."""
    records = [old for old in recorded() if key(old) != key(record)] + [record]
    RESULTS.write_text(json.dumps(sorted(records, key=key), indent=1) + "\n", "utf-8")
    page = runpy.run_path(str(ROOT / "scripts" / "versions_page.py"))
    page["PAGE"].write_text(page["page"](json.loads(RESULTS.read_text("utf-8"))), "utf-8")
    print(f"written: {RESULTS.relative_to(ROOT)}, {page['PAGE'].relative_to(ROOT)}")


def key(record: dict[str, Any]) -> tuple[Any, ...]:
    """What a run is one of: kind, and torch and Python up to the minor version."""
    versions = record["versions"]
    minor = [tuple(map(int, versions[n].split(".")[:2])) for n in ("torch", "python")]
    return (record["kind"], *minor)


if __name__ == "__main__":
    main()
