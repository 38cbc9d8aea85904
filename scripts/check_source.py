"""Check what the linters have no rule for: relative imports, and the voice of docstrings.

    python scripts/check_source.py

Inside the package our own modules are imported relatively. Docstrings name things: that of a
function or property that returns something says what it returns ("The rule meant by ...", "Whether
..."), a class's or module's what it is; that of a function that returns nothing says what it does
("Check the range."). A function that is called for its effect and returns something besides ("Take
one step.") may say so. What never stands first: "Return", "Get", "Compute" and the like where
something is returned, an article where nothing is, and the third person anywhere.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "halflife"

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


def main() -> int:
    """Print every problem of the package; the exit status."""
    found = 0
    for path in sorted((ROOT / "src" / PACKAGE).rglob("*.py")):
        for line, message in sorted(problems(ast.parse(path.read_text("utf-8")))):
            print(f"{path.relative_to(ROOT)}:{line}: {message}")
            found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
