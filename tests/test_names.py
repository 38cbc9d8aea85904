"""Names: those that texts mention exist, no module is hidden, and one name is one thing."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import halflife

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "halflife"

# Names after "halflife": not in an address, a path or another word, and no ending of a file.
MENTION = re.compile(r"(?<![\w./@-])halflife((?:\.[A-Za-z_]\w*)+)")
ENDINGS = {"dev", "html", "json", "md", "org", "py", "toml", "yaml", "yml"}

# One name, several definitions, for a reason. Commands (halflife.cli) are named as what they call.
SAME_NAME = {
    "load": "of a checkpoint, into an optimizer; of a data set, by its name",
    "WeightDecayMonitor": "one for each framework; a script uses one of them",
    "sweep": "of tensors, over a list of them; of a training, over its settings",
    "build": "of the report, its page; of a model's name, the model",
    "train": "of a recipe, from its name to its result; of a task, the loop of its cells",
    "fitted": "of a model, its settings that data decides; of a page, a text that has room",
    "Setting": "of a recipe, one line of it; of a sweep, what is chosen: neither meets the other",
    "Bench": "of an optimizer, two of its steps; of a study, networks that have been trained",
    "Call": "of torch's kernels, one of their calls; of a study, a measurement that is asked for",
    "call": "of a model as a function; of a study, a measurement that is asked for",
    "Choice": "of a sweep's rule, its setting; of a study's arm, its cell",
    "chosen": "of an implementation; of a study's arm, its cell",
    "cells_of": "of a study, a rule's grid; of a program, what its functions close over",
    "Curve": "of a study, a figure; of a schedule, a function of the step",
    "judged": "of finalists, on fresh seeds; of a claim, on its values",
    "measured": "of a monitor, quantities; of a study, what a cell names",
    "decayed": "the optimizer with a rule; of a study, what decay leaves",
}


def mentions(text: str) -> Iterator[str]:
    for match in MENTION.finditer(text):
        parts = match[1].split(".")[1:]
        if parts[0] not in ENDINGS:
            yield ".".join(["halflife", *parts])


def texts() -> list[Path]:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [*pages, *sorted(SRC.rglob("*.py"))]


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    here: object = halflife
    path = "halflife"
    parts = name.split(".")[1:]
    for place, part in enumerate(parts):
        path = f"{path}.{part}"
        if hasattr(here, part):
            here = getattr(here, part)
            continue
        if not hasattr(here, "__path__") or importlib.util.find_spec(path) is None:
            return False  # not a folder, or one without this module
        if place == len(parts) - 1:
            return True  # some need an extra to be imported; that they are there is enough
        here = importlib.import_module(path)
    return True


def test_names_in_texts_exist() -> None:
    missing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in texts()
        for name in mentions(path.read_text("utf-8"))
        if not exists(name)
    ]
    assert not missing


def test_names_are_found_in_texts() -> None:
    """Else the test above could not fail."""
    text = "`halflife.theory.figures`, see halflife.schedules.cosine. halflife.toml, a/halflife.x"
    assert list(mentions(text)) == ["halflife.theory.figures", "halflife.schedules.cosine"]
    assert all(map(exists, mentions(text)))
    assert not exists("halflife.describe.no_such_name")  # of the function
    assert not exists("halflife.theory.no_such_module")
    assert not exists("halflife.schedules.no_such_curve")


def test_no_module_is_hidden_by_an_object_of_its_name() -> None:
    hidden = []
    for module in pkgutil.walk_packages(halflife.__path__, "halflife."):
        parent, _, leaf = module.name.rpartition(".")
        package = importlib.import_module(parent)
        # What is not imported yet would, if imported now, take the place of what hides it.
        if getattr(package, leaf, None) is not sys.modules.get(module.name):
            hidden.append(module.name)
    assert not hidden


def test_one_name_is_one_thing() -> None:
    places = defaultdict(list)
    for path in sorted(SRC.rglob("*.py")):
        if (SRC / "cli") in path.parents:
            continue
        where = path.relative_to(SRC).as_posix()
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                if any(ast.unparse(each).startswith("study(") for each in node.decorator_list):
                    continue  # a plan is named by what its paper calls it, and asked for by that
                places[node.name].append(where)
    assert not [
        f"{name}: {', '.join(where)}"
        for name, where in places.items()
        if len(set(where)) > 1 and name not in SAME_NAME
    ]


def test_the_table_of_contributing_names_every_room() -> None:
    table = re.findall(
        r"^\| `([^`]+)` \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), flags=re.M
    )
    rooms = [f"{path.name}/" for path in SRC.iterdir() if (path / "__init__.py").exists()]
    assert sorted(rooms) == sorted(
        name for name in table if name.endswith("/") and name != "tests/"
    )
    files = {path.name for path in SRC.iterdir() if path.is_file()}
    assert files == {"__init__.py", "__main__.py", "checks.py", "py.typed", "versions.py"}
