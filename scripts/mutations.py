"""The mutations of one module: small changes, each of which a test should notice.

    python scripts/mutations.py src/halflife/rules/wish.py        # lists them

Mutated are comparisons, conditions, arithmetic, numbers, truth values, keyword arguments, contexts,
decorators, and statements that are made for their effect. Not mutated are docstrings, annotations,
imports, ``__all__``, ``strict=``, assertions, and what an error or a warning says.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitXor: ast.BitOr, ast.USub: ast.UAdd,
}  # fmt: skip
OTHER_NAME = {"min": "max", "max": "min", "any": "all", "all": "any"}
NOT_EXPRESSIONS = {"annotation", "body", "finalbody", "handlers", "orelse", "type_params"}
# Decorators without which the code is another thing altogether.
KEPT = {"abstractmethod", "classmethod", "contextmanager", "dataclass", "overload", "property",
        "staticmethod"}  # fmt: skip


@dataclass
class Mutant:
    """One mutation.

    Attributes:
        function: the qualified name of where it is; "" at the module's level.
        kind: of mutation.
        change: what was there, and what stands there instead.
        lines: of the module, on which a test must have been to notice it; none where they are run
            when the module is imported.
        apply: makes the change in the tree.
        revert: undoes it.
    """

    function: str
    kind: str
    change: str
    lines: range
    apply: Callable[[], None]
    revert: Callable[[], None]
    number: int = field(default=0)  # among those that read the same

    @property
    def key(self) -> str:
        """What identifies it, also after other lines have moved it."""
        number = f" #{self.number}" if self.number else ""
        return f"{self.function or 'module'}: {self.change}{number}"


def mutants_of(tree: ast.Module) -> list[Mutant]:
    """The mutants of a module, in the order of its lines."""
    found = sorted(_Walk().of_body(tree, ""), key=lambda m: m.lines.start)
    seen: Counter[str] = Counter()
    for mutant in found:
        key = mutant.key
        mutant.number = seen[key]
        seen[key] += 1
    return found


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else f"{text[:87]}..."


class _Walk:
    """The walk through one module; `statement` is the one that it is in."""

    statement: ast.stmt

    def of_body(self, owner: ast.AST, name: str) -> Iterator[Mutant]:
        for field_name in ("body", "orelse", "finalbody"):
            statements = getattr(owner, field_name, [])
            for index, statement in enumerate(statements):
                self.statement = statement
                yield from self.of_statement(statements, index, name)
        for handler in getattr(owner, "handlers", []):
            yield from self.of_body(handler, name)

    def of_statement(self, owner: list[ast.stmt], index: int, name: str) -> Iterator[Mutant]:
        node = owner[index]
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal | ast.Assert):
            return
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            inner = f"{name}.{node.name}".lstrip(".")
            yield from self.of_decorators(node, inner)
            if isinstance(node, ast.FunctionDef):
                for default in (*node.args.defaults, *node.args.kw_defaults):
                    if default is not None:
                        yield from self.of_expression(node.args, default, inner)
            yield from self.of_body(node, inner)
            return
        if isinstance(node, ast.Raise) or _is_warning(node):
            yield self.replaced(owner, index, ast.Pass(), "statement", name, f"no {_head(node)}")
            return
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring, or "..."
        if _is_for_effect(node):
            yield self.replaced(owner, index, ast.Pass(), "statement", name, f"no {_head(node)}")
        if isinstance(node, ast.With):
            plain = ast.If(ast.Constant(True), node.body, [])
            if not any(item.optional_vars for item in node.items):
                yield self.replaced(owner, index, plain, "context", name, f"no {_head(node)}")
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.AugAssign):
            yield from self.swapped(node, vars(node), "op", node.op, name)
        for child_name, child in ast.iter_fields(node):
            if child_name in NOT_EXPRESSIONS:
                continue
            for part in child if isinstance(child, list) else [child]:
                if isinstance(part, ast.AST):
                    self.statement = node
                    yield from self.of_expression(node, part, name)
        yield from self.of_body(node, name)

    def of_decorators(self, node: ast.FunctionDef | ast.ClassDef, name: str) -> Iterator[Mutant]:
        for index, decorator in enumerate(node.decorator_list):
            text = ast.unparse(decorator)
            if text.split("(")[0].split(".")[-1] not in KEPT and ".setter" not in text:
                yield self.removed(node.decorator_list, index, "decorator", name, f"no @{text}")

    def of_expression(self, parent: ast.AST, node: ast.AST, name: str) -> Iterator[Mutant]:
        """The mutants of an expression, and of the expressions in it."""
        if isinstance(node, ast.JoinedStr):
            return
        if isinstance(node, ast.Compare):
            for index, operator in enumerate(node.ops):
                yield from self.swapped(node, node.ops, index, operator, name)
        elif isinstance(node, ast.BoolOp | ast.BinOp):
            yield from self.swapped(node, vars(node), "op", node.op, name)
        elif isinstance(node, ast.UnaryOp):
            if isinstance(node.op, ast.Not):
                yield self.put(parent, node, node.operand, "condition", name)
            else:
                yield from self.swapped(node, vars(node), "op", node.op, name)
        elif isinstance(node, ast.Constant):
            if (other := _other_constant(node.value)) is not None:
                yield self.put(parent, node, ast.Constant(other), "constant", name)
        elif isinstance(node, ast.Name) and node.id in OTHER_NAME:
            yield self.put(parent, node, ast.Name(OTHER_NAME[node.id], node.ctx), "name", name)
        elif isinstance(node, ast.Call):
            for index, keyword in enumerate(node.keywords):
                if keyword.arg is not None and not _asserts(keyword):
                    what = f"{_text(node)} without {keyword.arg}="
                    yield self.removed(node.keywords, index, "argument", name, what)
        test = getattr(node, "test", None) if isinstance(node, ast.IfExp) else None
        if isinstance(parent, ast.If | ast.While) and parent.test is node:
            test = node
        if test is not None and not isinstance(test, ast.Compare | ast.UnaryOp):
            where = parent if test is node else node
            yield self.put(where, test, ast.UnaryOp(ast.Not(), test), "condition", name)
        for child_name, child in ast.iter_fields(node):
            if child_name == "annotation" or (isinstance(node, ast.keyword) and _asserts(node)):
                continue
            for part in child if isinstance(child, list) else [child]:
                if isinstance(part, ast.AST):
                    yield from self.of_expression(node, part, name)

    def swapped(
        self, node: ast.AST, owner: list | dict, key: int | str, operator: ast.AST, name: str
    ) -> Iterator[Mutant]:
        if type(operator) not in SWAPPED:
            return
        other = SWAPPED[type(operator)]()
        was = _text(node)
        owner[key] = other  # type: ignore[index]
        change = f"{was} -> {_text(node)}"
        owner[key] = operator  # type: ignore[index]
        yield self.made(owner, key, operator, other, "operator", name, change, node)

    def put(self, parent: ast.AST, node: ast.AST, other: ast.expr, kind: str, name: str) -> Mutant:
        """Another expression in the place of one of its parent's."""
        for key, value in ast.iter_fields(parent):
            owner: list | dict = value if isinstance(value, list) else vars(parent)
            if isinstance(value, list) and any(entry is node for entry in value):
                key = next(i for i, entry in enumerate(value) if entry is node)  # type: ignore[assignment]
            elif value is not node:
                continue
            own = isinstance(parent, ast.expr | ast.arguments)
            context = parent if own else self.statement
            change = f"{_text(node)} -> {_text(other)} in {_head(context)}"
            return self.made(owner, key, node, other, kind, name, change, node)
        raise AssertionError(ast.dump(parent))

    def replaced(
        self, owner: list, index: int, other: ast.stmt, kind: str, name: str, change: str
    ) -> Mutant:
        return self.made(owner, index, owner[index], other, kind, name, change, owner[index])

    def removed(self, owner: list, index: int, kind: str, name: str, change: str) -> Mutant:
        node = owner[index]
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        apply, revert = (lambda: owner.pop(index)), (lambda: owner.insert(index, node))
        return Mutant(name, kind, change, self.lines_of(lines), apply, revert)

    def made(
        self, owner: list | dict, key: int | str, was: ast.AST, other: ast.AST, kind: str,
        name: str, change: str, at: ast.AST,
    ) -> Mutant:  # fmt: skip
        def put(node: ast.AST) -> Callable[[], None]:
            return lambda: owner.__setitem__(key, node)  # type: ignore[index]

        ast.copy_location(other, at)
        ast.fix_missing_locations(other)
        end = at.end_lineno if not isinstance(at, ast.stmt) else at.lineno  # type: ignore[attr-defined]
        lines = range(at.lineno, (end or at.lineno) + 1)  # type: ignore[attr-defined]
        return Mutant(name, kind, change, self.lines_of(lines), put(other), put(was))

    def lines_of(self, lines: range) -> range:
        """Where Python says that the code is run: an expression's lines, or its statement's."""
        first = self.statement.lineno
        return range(min(first, lines.start), lines.stop) if _simple(self.statement) else lines


def _simple(node: ast.stmt) -> bool:
    return not hasattr(node, "body")


def _is_warning(node: ast.stmt) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and ast.unparse(call.func) == "warnings.warn"


def _is_for_effect(node: ast.stmt) -> bool:
    """Whether without the statement the rest still runs: it calls, or writes something that is."""
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], ast.Attribute | ast.Subscript)
    return isinstance(node, ast.Expr | ast.AugAssign | ast.Continue | ast.Break | ast.Delete)


def _asserts(keyword: ast.keyword) -> bool:
    """Whether it is ``zip(strict=)``, an assertion."""
    return keyword.arg == "strict"


def _head(node: ast.AST) -> str:
    """A statement's first line; of an error or a warning, what it is without what it says."""
    if isinstance(node, ast.Raise):
        exception = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return f"raise {_text(exception)}" if exception is not None else "raise"
    if isinstance(node, ast.stmt) and _is_warning(node):
        return "warning"
    if isinstance(node, ast.With):
        return f"with {', '.join(map(_text, node.items))}"
    if isinstance(node, ast.If | ast.While):
        return f"if {_text(node.test)}"
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.For):
        return f"for {_text(node.target)} in {_text(node.iter)}"
    return _text(node)


def _other_constant(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 2.0 if value else 1.0
    return None


def main() -> None:
    """List the mutants of modules."""
    for name in sys.argv[1:]:
        for mutant in mutants_of(ast.parse(Path(name).read_text(encoding="utf-8"))):
            print(f"{name}:{mutant.lines.start}  {mutant.kind:9}  {mutant.key}")


if __name__ == "__main__":
    main()
