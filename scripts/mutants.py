"""Run the tests against mutants of the core: which small changes of the code would nobody notice?

    python scripts/mutants.py src/halflife/rules/wish.py --workers 2
    python scripts/mutants.py                     # every module of the core
    python scripts/mutants.py --every 4 --seed 1  # a quarter of each module's mutants
    python scripts/mutants.py --again survived --budget 120
    python scripts/mutants.py --page              # docs/mutants.md from the results

Each mutant runs in a fork of a process that has torch loaded, with the mutated module in place of
the one on disk, which stays as it is. Tests are those that were on its lines (a map of them is made
first, once for each state of a test file and of the core), one case of each test function before
the second of any, up to ``--budget`` seconds, until one fails. What has a result for the module as
it is, is not run again (see ``--again``): an interrupted run goes on where it was.

Needs a system that forks, and what `make install` installs. Results are in
tests/mutants/results.json; mutants that change nothing one could see, with reasons, in
tests/mutants/equivalent.json.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import importlib.machinery
import json
import os
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SRC, TESTS = ROOT / "src", ROOT / "tests"
sys.path[:0] = [str(ROOT / "scripts"), str(SRC)]

from forks import preload, run_all  # noqa: E402
from mutants_page import RESULTS, read_equivalents, score, write_page  # noqa: E402
from mutations import Mutant, mutants_of  # noqa: E402

WORK = ROOT / "out" / "mutants"
CORE = (
    *("mechanism/*.py", "rules/*.py", "tensors/*.py", "bases/effective_rate.py"),
    *("units/strength.py", "units/stated.py", "schedules/schedulers.py"),
)
# Of pages, packages and other rooms: they would find a mutant of the core by luck.
_APART = """
    algorithms algorithms_catalogue architectures averaging base benchmarks compile compiled
    compiled_checkpoints compiled_errors compiled_graphs convert coverage examples layer_decay
    marks mean_rate mutants mutations names native_optimizers_conventions objectives packaging
    paper_optimizers param_groups param_groups_overrides probe probe_table public_api
    published_names reading recipe_pages recommend state_hooks surroundings testing third_party
    torch_optimizers transfer
"""
APART = frozenset(_APART.split())
SLOWEST, LONGEST = 5.0, 60.0  # seconds of a test, and of a file of tests; what takes more is left
MOST_TESTS = 400
FIRST_FILES, FIRST_TESTS = 3, 40
PYTEST = ("-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", "--no-header", "--tb=no",
          "-W", "ignore::pytest.PytestAssertRewriteWarning", "--rootdir", str(ROOT))  # fmt: skip


# --- which tests are on which lines ---------------------------------------------------------------


class Tracer:
    """A pytest plugin: the lines of the core that each test runs, and how long it takes."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files, self.on = files, set()
        self.lines: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self.seconds: dict[str, float] = defaultdict(float)
        self.bad: set[str] = set()

    def pytest_sessionstart(self, session: Any) -> None:
        self.session, self.end = session, time.monotonic() + LONGEST

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.on = set()
        signal.signal(signal.SIGALRM, lambda *_: sys.settrace(None))  # too slow to be of use
        signal.setitimer(signal.ITIMER_REAL, SLOWEST)
        sys.settrace(self._call)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.outcome != "passed":
            self.bad.add(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        sys.settrace(None)
        if nodeid not in self.bad and self.seconds[nodeid] <= SLOWEST:
            for file, line in self.on:
                self.lines[self.files[file]][str(line)].append(nodeid)
        if time.monotonic() > self.end:
            self.session.shouldstop = "long enough"

    def _call(self, frame: Any, event: str, arg: Any) -> Any:
        return self._line if frame.f_code.co_filename in self.files else None

    def _line(self, frame: Any, event: str, arg: Any) -> Any:
        if event == "line":
            self.on.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line


def traced(files: list[Path], modules: list[Path]) -> dict[str, Any]:
    """The lines of modules that the tests of files run."""
    import pytest

    os.chdir(ROOT)
    tracer = Tracer({str(m): str(m.relative_to(ROOT)) for m in modules})
    arguments = [a for a in PYTEST if a != "-x"]
    pytest.main([*arguments, *(str(f.relative_to(ROOT)) for f in files)], plugins=[tracer])
    numbers = {nodeid: number for number, nodeid in enumerate(tracer.seconds)}
    lines = {
        module: {line: [numbers[nodeid] for nodeid in nodeids] for line, nodeids in own.items()}
        for module, own in tracer.lines.items()
    }
    return {"tests": list(tracer.seconds.items()), "lines": lines}


def maps_of_tests(workers: int) -> list[Any]:
    """What `traced` finds of each file of tests; kept in `WORK`."""
    core = modules_of_core()
    tests = [t for t in sorted(TESTS.glob("test_*.py")) if t.stem[len("test_") :] not in APART]
    together = {t.stem: [t] for t in tests} | {"examples": core}
    of_core = digest(*core)
    kept = {n: WORK / "map" / f"{n}-{digest(*f)}-{of_core}.json" for n, f in together.items()}
    jobs = [
        (name, lambda f=files: traced(f, core), 1800.0)
        for name, files in together.items()
        if not kept[name].exists()
    ]
    (WORK / "map").mkdir(parents=True, exist_ok=True)
    for name, found in run_all(jobs, workers, "map of tests"):
        if isinstance(found, dict):
            kept[name].write_text(json.dumps(found))
        else:
            print(f"{name}: {found or 'died'}, not in the map")
    return [json.loads(path.read_text()) for path in kept.values() if path.exists()]


def on_lines_of(module: str, maps: list[Any]) -> dict[int, dict[str, float]]:
    """For each line of a module, the tests on it and their seconds."""
    result: dict[int, dict[str, float]] = defaultdict(dict)
    for own in maps:
        for line, numbers in own["lines"].get(module, {}).items():
            result[int(line)].update(own["tests"][number] for number in numbers)
    return result


def chosen(on_lines: dict[int, dict[str, float]], mutant: Mutant, budget: float) -> list[list[str]]:
    """The tests to run, in two rounds.

    First a few from few files, one of each test function before another of any; then those that
    are on few other lines of the module, as tests of errors and edges are, up to the budget.
    """
    tests: dict[str, float] = {}
    for line in mutant.lines:
        tests |= on_lines.get(line, {})
    if not tests:  # run at import only, as far as anybody knows
        for found in on_lines.values():
            tests |= found
    turns: Counter[str] = Counter()
    ordered = []
    for nodeid, seconds in sorted(tests.items(), key=lambda entry: (entry[1], entry[0])):
        function = nodeid.split("[")[0]
        ordered.append((turns[function], seconds, nodeid))
        turns[function] += 1
    functions = Counter(function.split("::")[0] for function in turns)
    files = [file for file, _ in functions.most_common(FIRST_FILES)]
    first = [nodeid for _, _, nodeid in sorted(ordered) if nodeid.split("::")[0] in files]
    first = first[:FIRST_TESTS]
    breadth = Counter(nodeid for found in on_lines.values() for nodeid in found)
    second, spent = [], 0.0
    for nodeid in sorted(tests.keys() - {*first}, key=lambda n: (breadth[n], tests[n], n)):
        spent += tests[nodeid]
        if spent > budget or len(second) == MOST_TESTS:
            break
        second.append(nodeid)
    return [tests for tests in (first, second) if tests]


# --- the run --------------------------------------------------------------------------------------


class Failures:
    """A pytest plugin: the tests that fail, and the files that cannot be imported."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.names.append(report.nodeid)

    pytest_collectreport = pytest_runtest_logreport


def plant(name: str, code: CodeType) -> None:
    """Have a module made of this code, whoever imports it."""

    class Loader(importlib.machinery.SourceFileLoader):
        def get_code(self, _: str) -> CodeType:
            return code

    class Finder:
        @staticmethod
        def find_spec(fullname: str, path: Any = None, target: Any = None) -> Any:
            if fullname != name:
                return None
            spec = importlib.machinery.PathFinder.find_spec(fullname, path)
            assert spec is not None
            spec.loader = Loader(fullname, str(spec.origin))
            return spec

    sys.meta_path.insert(0, Finder)  # type: ignore[arg-type]


def tried(module: Path, code: CodeType, rounds: list[list[str]]) -> dict[str, Any]:
    """Whether some test fails with the module made of this code."""
    import pytest

    os.chdir(ROOT)
    parts = module.relative_to(SRC).with_suffix("").parts
    plant(".".join(parts), code)
    try:  # before pytest, which loads by itself what it is given as a file with examples
        importlib.import_module(".".join(parts))
    except Exception:
        return {"outcome": "killed", "by": "importing it"}
    for tests in rounds:
        failures = Failures()
        if pytest.main([*PYTEST, *tests], plugins=[failures]) != 0:
            if not failures.names:
                return {"outcome": "not run"}  # such as a test that is there no more
            return {"outcome": "killed", "by": failures.names[0]}
    return {"outcome": "survived"}


def failing(tests: list[str]) -> list[str]:
    """Those that fail without a mutation: alone, or in another order."""
    import pytest

    os.chdir(ROOT)
    failures = Failures()
    pytest.main([*(a for a in PYTEST if a != "-x"), *tests], plugins=[failures])
    return failures.names


def judge(module: Path, on_lines: Any, arguments: argparse.Namespace, results: Any) -> None:
    """Run a module's mutants that have no result; results are written as they come."""
    name = str(module.relative_to(ROOT))
    tree = ast.parse(module.read_text(encoding="utf-8"))
    mutants = mutants_of(tree)
    before, source = results.get(name, {}), digest(module)
    old = before["mutants"] if before.get("source") == source else {}
    sample = mutants
    if arguments.again:
        sample = [m for m in mutants if old.get(m.key, {}).get("outcome") in arguments.again]
    elif arguments.every > 1:
        offset = random.Random(f"{arguments.seed} {name}").randrange(arguments.every)
        sample = mutants[offset :: arguments.every]
    equivalents = read_equivalents()
    wanted = {
        mutant.key: (mutant, chosen(on_lines, mutant, arguments.budget))
        for mutant in sample
        if arguments.only in mutant.key and (name, mutant.key) not in equivalents
        if mutant.key not in old or old[mutant.key]["outcome"] in arguments.again
    }
    jobs: list[tuple[Any, Callable[[], Any], float]] = []
    for mutant, rounds in wanted.values():
        mutant.apply()
        try:
            code = compile(tree, str(module), "exec")
        finally:
            mutant.revert()
        rounds = [arguments.tests] if arguments.tests else rounds
        work = lambda c=code, r=rounds: tried(module, c, r)  # noqa: E731
        jobs.append((mutant, work, 60.0 + 5.0 * arguments.budget))
    results[name] = {"mutants": old, "of": len(mutants), "source": source}
    for mutant, found in run_all(jobs, arguments.workers, name):
        if not isinstance(found, dict):
            found = {"outcome": "killed", "by": found or "a crash"}
        if found["outcome"] == "not run":
            print(f"{name}: pytest refuses the tests of {mutant.key}")
            continue
        first = old.get(mutant.key, found).get("first", found["outcome"])
        old[mutant.key] = {**found, "first": first, "on": time.strftime("%Y-%m-%d")}
        if found["outcome"] == "survived":
            print(f"{'':60}\r", end="")
            print(f"{name}:{mutant.lines.start} survived: {mutant.key}")
        save(results)
    killers = sorted({v["by"] for k, v in old.items() if "::" in v.get("by", "") and k in wanted})
    again = [("", lambda: failing(killers), 600.0 + 5.0 * len(killers))] if killers else []
    for _, found in run_all(again, 1, f"{name}: without a mutation"):
        bad = killers if found is None else found
        for key in [k for k, v in old.items() if v.get("by") in bad]:
            print(f"{name}: {old[key]['by']} fails without a mutation: no result of {key}")
            del old[key]
    save(results)
    print(f"{name}: {score(name, results[name], equivalents)}")


def save(results: dict[str, Any]) -> None:
    """Write the results, so that whatever happens no half of them is read."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    ordered = {n: {**r, "mutants": dict(sorted(r["mutants"].items()))} for n, r in results.items()}
    new = RESULTS.with_suffix(".new")
    new.write_text(json.dumps(dict(sorted(ordered.items())), indent=1) + "\n", encoding="utf-8")
    new.replace(RESULTS)


def digest(*files: Path) -> str:
    """A short name of what files hold."""
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12]


def modules_of_core() -> list[Path]:
    """The modules that a run without arguments mutates."""
    found = [p for pattern in CORE for p in sorted((SRC / "halflife").glob(pattern))]
    return [p for p in found if p.name != "__init__.py"]


def main() -> None:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", type=Path, help="default: all of the core")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--every", type=int, default=1, help="take every n-th mutant only")
    parser.add_argument("--seed", type=int, default=0, help="which of the n samples")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds of tests for a mutant")
    parser.add_argument(
        "--again", nargs="*", default=[], help="only what had this outcome: survived"
    )
    parser.add_argument("--tests", nargs="*", default=[], help="these, not those on its lines")
    parser.add_argument("--only", default="", help="mutants whose name has this in it")
    parser.add_argument("--page", action="store_true", help="only write docs/mutants.md")
    arguments = parser.parse_args()
    if not arguments.page:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        WORK.mkdir(parents=True, exist_ok=True)
        preload()
        modules = [m.resolve() for m in arguments.modules] or modules_of_core()
        maps = [] if arguments.tests else maps_of_tests(arguments.workers)
        for module in modules:
            results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            on_lines = on_lines_of(str(module.relative_to(ROOT)), maps)
            judge(module, on_lines, arguments, results)
    results = json.loads(RESULTS.read_text())
    for module in modules_of_core():  # the page says of which nothing is known
        mutants = mutants_of(ast.parse(module.read_text(encoding="utf-8")))
        unknown = {"mutants": {}, "of": len(mutants), "source": ""}
        results.setdefault(str(module.relative_to(ROOT)), unknown)
    save(results)
    write_page()


if __name__ == "__main__":
    main()
