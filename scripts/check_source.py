"""Check what the linters have no rule for: imports, torch's private parts, docstrings' voice.

    python scripts/check_source.py

Inside the package our own modules are imported relatively. Private names of torch, which move from
one version to the next without notice, stand in `halflife/versions.py` alone: private modules and
names that are imported from torch, private attributes that nothing in the package defines, such
names in ``getattr``, and whatever private name that module has as a string. ``torch._foreach_*`` is
private by its underscore only.

Docstrings name things: that of a
function or property that returns something says what it returns ("The rule meant by ...", "Whether
..."), a class's or module's what it is; that of a function that returns nothing says what it does
("Check the range."). A function that is called for its effect and returns something besides ("Take
one step.") may say so. What never stands first: "Return", "Get", "Compute" and the like where
something is returned, an article where nothing is, and the third person anywhere.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Set
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "halflife"
VERSIONS = "versions.py"

_BY_NAME = {"getattr", "hasattr", "setattr", "delattr"}
# Private names of others: of Python, and what models mark their tensors with.
NOT_OF_TORCH = {
    *("_exit", "_fields", "_getframe", "_replace"),
    *("_fingerprint", "_n_gpu", "_no_weight_decay", "_optim"),
}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function

# They say only that something is returned, or how it came about.
_EMPTY = """
    return get compute calculate determine make create build construct generate produce obtain
    retrieve fetch yield provide
"""
# Other verbs of this code, whose third person is caught.
_VERBS = """
    accept add advance append apply ask audit begin carry change check choose clear collect compare
    convert copy declare describe divide do drive evaluate find forget give go handle hold keep
    leave let load log measure move multiply name put raise read refuse register remove replace
    require restore run save say scale set show start subtract take tell train turn update use want
    watch write
"""
EMPTY = frozenset(_EMPTY.split())
VERBS = EMPTY | frozenset(_VERBS.split())
NOUNS = {"changes", "measures", "names", "runs", "scales", "sets", "uses"}  # where things are named
ARTICLES = {"a", "an", "the", "one", "what", "whether", "how", "which"}


def third_person(word: str) -> bool:
    """Whether a word is one of `VERBS` in the third person."""
    return any(word in (verb + "s", verb + "es", verb[:-1] + "ies") for verb in VERBS)


def returns(function: Documented) -> bool:
    """Whether it is a function declared to return something, or a context that gives something."""
    if not isinstance(function, Function) or function.returns is None:
        return False
    return ast.unparse(function.returns) not in ("None", "NoReturn", "Iterator[None]")


def voice(node: Documented) -> str | None:
    """What is wrong with the first word of a docstring."""
    words = (ast.get_docstring(node) or "").split()
    if not words:
        return None
    first = words[0].strip(".,:;").lower()
    names = not isinstance(node, Function) or returns(node)
    noun = names and (first in NOUNS or words[1:2] == ["of"])  # "Checks of arguments"
    if third_person(first) and not noun:
        return f"{words[0]!r}: no third person; name what it is, or say what it does as a command"
    if names and first in EMPTY:
        return f"{words[0]!r}: name what it is or returns ('The ...', 'Whether ...')"
    if not names and first in ARTICLES:
        return f"{words[0]!r}: it returns nothing, so say what it does as a command"
    return None


def problems(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines and what is wrong with them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            modules = [] if node.level else [node.module or ""]
        else:
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            if module.partition(".")[0] == PACKAGE:
                line = getattr(node, "lineno", 0)
                yield line, f"import of {module}: write it relatively, from .x or from ..x"
        if isinstance(node, Documented) and (message := voice(node)):
            line = 1 if isinstance(node, ast.Module) else node.body[0].lineno
            yield line, f"docstring begins {message}"


def is_private(name: object) -> bool:
    """Whether it is a name with one underscore in front."""
    return isinstance(name, str) and name.isidentifier() and name[0] == "_" != name[1:2] != ""


def defined(tree: ast.Module) -> Iterator[str]:
    """Private names that a module defines: of functions, classes, variables and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | Function):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield from [node.attr] if ast.unparse(node.value) in ("self", "cls") else []


def strings(tree: ast.AST) -> set[str]:
    """Private names that stand in a module as strings."""
    return {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and is_private(n.value)}


def private_parts(tree: ast.Module, ours: Set[str], moved: Set[str]) -> Iterator[tuple[int, str]]:
    """Lines and the private names of torch in them.

    Args:
        tree: a module.
        ours: private names that the package defines.
        moved: private names that only the module of versions may have as strings.
    """
    for node in ast.walk(tree):
        names: list[str] = []  # those that begin with "torch." are torch's whoever else has such
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.startswith("torch.")]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{a.name}" for a in node.names if not node.level]
            names = [name for name in names if name.startswith("torch.")]
        elif isinstance(node, ast.Attribute):
            whole = ast.unparse(node)
            names = [f"torch.{node.attr}" if whole.startswith("torch.") else node.attr]
            names = [] if whole.startswith("torch._foreach_") else names
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in _BY_NAME:
            names = sorted(strings(node.args[1])) if node.args[1:] else []
        elif isinstance(node, ast.Constant) and node.value in moved:
            names = [node.value]
        for name in names:
            known = NOT_OF_TORCH if name.startswith("torch.") else NOT_OF_TORCH | ours
            for part in filter(is_private, name.split(".")):
                if part not in known:
                    yield node.lineno, f"{part}: a private name of torch; see {VERSIONS}"


def main() -> int:
    """Print every problem of the package; the exit status."""
    found = 0
    source = ROOT / "src" / PACKAGE
    trees = {path: ast.parse(path.read_text("utf-8")) for path in sorted(source.rglob("*.py"))}
    ours = {name for tree in trees.values() for name in defined(tree)}
    moved = strings(trees[source / VERSIONS]) - ours
    for path, tree in trees.items():
        private = [] if path == source / VERSIONS else private_parts(tree, ours, moved)
        for line, message in sorted({*problems(tree), *private}):
            print(f"{path.relative_to(ROOT)}:{line}: {message}")
            found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
