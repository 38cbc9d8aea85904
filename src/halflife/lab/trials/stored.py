"""What a training's code stores, so that a cache that is filled is not taken for an edit.

What the training itself changes is told by the statements that made it, not by its value.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Mapping, Set

from .source import FUNCTIONS, own_module, tree_of

__all__ = ["Bindings", "names_of_body", "stored_attributes", "stores"]

# Methods that change what they are called on.
_CHANGING = frozenset({
    "add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "pop",
    "popitem", "popleft", "remove", "reverse", "setdefault", "sort", "update",
    "fit", "fit_transform", "load_state_dict", "partial_fit", "step",
})  # fmt: skip
_BUILDING = frozenset({"__init__", "__new__", "__post_init__", "__setstate__", "__set_name__"})


def stores(tree: ast.AST) -> set[tuple[str, str]]:
    r"""What some code changes: names, each with the attribute of it, or with ``""``.

    Local names are among them.

    Example:
        >>> source = "def f(self):\n    CACHE['x'] = 1\n    self.calls += 1\n    SEEN.append(0)"
        >>> sorted(stores(ast.parse(source)))
        [('CACHE', ''), ('SEEN', ''), ('self', 'calls')]
    """
    found: set[tuple[str, str]] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            found |= {(name, "") for name in node.names}
        elif isinstance(node, (ast.Attribute, ast.Subscript)):
            if not isinstance(node.ctx, ast.Load):
                found.add(_root(node))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found |= {_root(node.func.value)} if _changes(node.func.attr) else set()
    return found - {("", "")}


def _changes(method: str) -> bool:
    """Whether a method changes what it is called on; one that ends like torch's does."""
    return method in _CHANGING or (method.endswith("_") and not method.endswith("__"))


def _root(node: ast.AST) -> tuple[str, str]:
    attribute = ""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        if isinstance(node, ast.Attribute):
            attribute = node.attr
        node = node.func if isinstance(node, ast.Call) else node.value
    return (node.id, attribute) if isinstance(node, ast.Name) else ("", "")


def stored_attributes(tree: ast.AST, used: Set[str]) -> set[str]:
    """Attributes that a class stores while it is used, and not while an object of it is made.

    ``""`` is among them if it stores items of the object itself.

    Args:
        tree: the class's source.
        used: names of attributes that the training uses.
    """
    kind = next((n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)), None)
    methods = {n.name: n for n in kind.body if isinstance(n, FUNCTIONS)} if kind else {}
    calls: dict[str, set[str]] = {}
    stored: dict[str, set[str]] = {}
    for name, method in methods.items():
        arguments = [*method.args.posonlyargs, *method.args.args][:1]
        selves = {*(a.arg for a in arguments), kind.name if kind else ""}
        stored[name] = {a for root, a in stores(method) if root in selves}
        calls[name] = {
            n.attr for n in ast.walk(method) if isinstance(n, ast.Attribute)
            and isinstance(n.value, ast.Name) and n.value.id in selves
        }  # fmt: skip
    building = _reached(_BUILDING & set(methods), calls)
    running = {n for n in methods if n in used or (n.startswith("__") and n.endswith("__"))}
    return set().union(*(stored[n] for n in _reached(running - building, calls)))


def _reached(names: Set[str], calls: Mapping[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    new = set(names)
    while new:
        reached |= new
        new = {c for n in new for c in calls[n] if c in calls} - reached
    return reached


def names_of_body(tree: ast.AST) -> set[str]:
    """Names that a class's body uses as it runs, which its methods do later."""
    found: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name):
            found |= {node.id} if isinstance(node.ctx, ast.Load) else set()
        elif isinstance(node, FUNCTIONS):
            defaults = [d for d in (*node.args.defaults, *node.args.kw_defaults) if d]
            waiting += [*node.decorator_list, *defaults]
        elif isinstance(node, ast.AnnAssign):
            waiting += [node.value] if node.value else []
        elif not isinstance(node, ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return found


class Bindings:
    """How the names of a module got their values, by its source.

    Args:
        module: the user's own.
        known: of other modules, by name, to be read once.

    Attributes:
        changed: names that functions of the module give other values or contents, whoever calls
            them: caches, counters, registries.
    """

    def __init__(self, module: types.ModuleType, known: dict[str, Bindings] | None = None) -> None:
        self._module, self._known = module, {} if known is None else known
        self._known[module.__name__] = self
        tree = tree_of(module)
        self._statements = [] if tree is None else tree.body
        self._binding: dict[str, list[ast.stmt]] = {}
        self.changed: set[str] = set()
        for statement in self._statements:
            if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
                self.changed |= _outside(statement)
                continue
            for name in _bound(statement):
                self._binding.setdefault(name, []).append(statement)

    def text(self, name: str, depth: int = 8) -> str | None:
        """The statements that give a name its value, and those of the names in them.

        None where there are none.
        """
        if name not in self._binding:
            return None
        texts: dict[int, str] = {}
        seen, waiting = {name}, [name]
        while waiting:
            for statement in self._binding.get(waiting.pop(), ()):
                if id(statement) in texts:
                    continue
                texts[id(statement)] = ast.dump(statement)
                if isinstance(statement, ast.ImportFrom):
                    texts[id(statement)] += self._there(statement, depth)
                inner = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)} - seen
                seen |= inner
                waiting += sorted(inner)
        return " ".join(texts[id(s)] for s in self._statements if id(s) in texts)

    def _there(self, statement: ast.ImportFrom, depth: int) -> str:
        """The same of what is imported from another module of the user's."""
        name = "." * statement.level + (statement.module or "")
        module = own_module(name, getattr(self._module, "__package__", None))
        if module is None or module is self._module or not depth:
            return ""
        other = self._known.get(module.__name__) or Bindings(module, self._known)
        return "".join(other.text(alias.name, depth - 1) or "" for alias in statement.names)

    def is_literal(self, name: str) -> bool:
        """Whether a name's value stands in the source as it is."""
        statements = self._binding.get(name, [])
        value = getattr(statements[0], "value", None) if len(statements) == 1 else None
        if not isinstance(value, ast.expr):
            return False
        try:
            ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return False
        return isinstance(statements[0], (ast.Assign, ast.AnnAssign))


def _outside(function: ast.AST) -> set[str]:
    """Names that a function, or the methods of a class, change and that are not their own."""
    found: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, FUNCTIONS):
            arguments = [a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)]
            names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
            own = {n.id for n in names if not isinstance(n.ctx, ast.Load)}
            declared = {n for g in ast.walk(node) if isinstance(g, ast.Global) for n in g.names}
            found |= {root for root, _ in stores(node)} - ((own | {*arguments}) - declared)
    return found


def _bound(statement: ast.stmt) -> set[str]:
    """Names that a statement of a module binds or changes."""
    found = {root for root, _ in stores(statement)}
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {a.asname or a.name.partition(".")[0] for a in node.names}
    return found
