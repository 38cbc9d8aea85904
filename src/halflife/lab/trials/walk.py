"""The walk through a training: from each function and class to the names that it uses."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sys
import types
from collections import deque
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from .source import (
    cells_of,
    codes_in,
    functions_in,
    global_names,
    globals_of,
    imported,
    instructions,
    is_by_name,
    is_own_module,
    is_theirs,
    strings_in,
    tree_of,
)
from .stored import Bindings, names_of_body, stored_attributes, stores
from .values import Teller, qualified, wrapped_in

__all__ = ["REGISTERED", "Met", "Sources", "Walk", "digest_of"]

REGISTERED = " (registered)"
# What every module has by itself.
_OF_MODULES = frozenset(vars(types.ModuleType("any"))) | {
    "__annotations__", "__builtins__", "__cached__", "__file__", "__path__", "__warningregistry__",
}  # fmt: skip
# What Python itself stores in classes; parts of it tell the line, and which subclasses there are.
_OF_CLASSES = frozenset({
    "__abstractmethods__", "__annotate__", "__annotate_func__", "__annotations__",
    "__annotations_cache__", "__dataclass_fields__", "__dataclass_params__", "__dict__", "__doc__",
    "__firstlineno__", "__match_args__", "__module__", "__orig_bases__", "__parameters__",
    "__qualname__", "__static_attributes__", "__weakref__", "_abc_impl",
})  # fmt: skip


@dataclass
class Sources:
    """Sources that have been read."""

    trees: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    bindings: dict[str, Bindings] = field(default_factory=dict)

    def tree(self, thing: Any) -> ast.Module | None:
        """The source of a class or some code; None where there is none."""
        if id(thing) not in self.trees:
            self.trees[id(thing)] = thing, tree_of(thing)
        return self.trees[id(thing)][1]

    def module(self, name: str) -> Bindings | None:
        """How the names of a module of the user's got their values; None without its source."""
        module = sys.modules.get(name)
        if name == "__main__" or module is None or not is_own_module(module):
            return None
        return self.bindings.get(name) or Bindings(module, self.bindings)


@dataclass
class Met:
    """What stands in all the code: attributes that it names, and globals that it stores into."""

    names: set[str] = field(default_factory=set)
    stored: set[tuple[int, str]] = field(default_factory=set)  # in the globals of that identity


class Walk:
    """One walk through a training.

    Args:
        known: sources that have been read.
        before: what a walk before this one has seen; None for the first.
        content: whether arrays are read.

    Attributes:
        seen: what stands in the code.
    """

    def __init__(self, known: Sources, before: Met | None, *, content: bool) -> None:
        self._known, self._before = known, before
        self.seen = Met()
        self._parts: dict[str, set[str]] = {}
        self._referred: dict[str, set[str]] = {}
        # The objects themselves: an identity may be given again when its object is gone.
        self._seen: dict[tuple[int, bool], Any] = {}
        self._by_name = False  # whether another process would import what is looked at
        self._ending = ""
        self._waiting: deque[tuple[Any, bool]] = deque()
        self._registered: deque[tuple[Any, bool]] = deque()
        self._teller = Teller(self.follow, self._stored, self._named, content=content)

    def digests(self, *, referred: bool) -> dict[str, str]:
        """Of several parts that have one name, such as lambdas, all count."""
        parts = self._referred if referred else self._parts
        return {n: d.copy().pop() if len(d) == 1 else digest_of(str(sorted(d)))
                for n, d in parts.items()}  # fmt: skip

    def begin(self, train: Any) -> None:
        """Walk a training."""
        self.training(train, "train")
        self._take_waiting()
        self._ending = REGISTERED
        while self._registered:
            value, self._by_name = self._registered.popleft()
            self._teller.text(value)
            self._take_waiting()

    def _part(self, name: str, text: str, referred: str | None = None) -> None:
        name += self._ending
        self._parts.setdefault(name, set()).add(digest_of(text))
        if self._by_name and referred is not None:
            self._referred.setdefault(name, set()).add(digest_of(referred))

    def _named(self, attribute: str) -> bool:
        return self._before is None or attribute in self._before.names

    def _stored(self, kind: type) -> Set[str]:
        """Attributes that objects of a class store while they are used."""
        if self._before is None:
            return frozenset()
        trees = [self._known.tree(base) for base in kind.__mro__ if is_theirs(base)]
        used = self._before.names
        return {n for tree in trees if tree is not None for n in stored_attributes(tree, used)}

    # --- values -----------------------------------------------------------------------------------

    def training(self, value: Any, name: str) -> None:
        """Take what is called for each cell: a part for each thing that it holds."""
        if isinstance(value, functools.partial):
            self.training(value.func, name)
            for key, held in (*enumerate(value.args), *value.keywords.items()):
                self.value(held, f"{name}({key})")
        elif isinstance(value, types.MethodType):
            self.training(value.__func__, name)
            self.training(value.__self__, name)
        elif _is_code(value):
            self.follow(value)
        elif (inner := wrapped_in(value)) is not None:
            self.training(inner, name)
        else:
            self.holder(value, name)

    def holder(self, value: Any, name: str) -> None:
        """Take an object that is a training."""
        self.follow(type(value))
        try:
            state = self._teller.state(value)
        except Exception:  # whatever the object does when it is looked into
            state = None
        if isinstance(state, dict):
            for key, held in state.items():
                self.value(held, f"{name}.{key}")
        else:
            self.value(value, name)

    def value(self, value: Any, name: str, source: str | None = None) -> None:
        """Take a value, and follow the functions and classes in it.

        Args:
            value: anything.
            name: of the part.
            source: that tells it where the value itself does not.
        """
        text = self._teller.text(value)
        if _is_code(value) and is_theirs(value):
            return  # a part by itself
        self._part(name, f"{text} {source}" if self._teller.untold and source else text)

    # --- code -------------------------------------------------------------------------------------

    def follow(self, thing: Any) -> None:
        """Have a function or class taken, once what is at hand has been."""
        self._waiting.append((thing, self._by_name))

    def _take_waiting(self) -> None:
        while self._waiting:
            thing, self._by_name = self._waiting.popleft()
            self._by_name = self._by_name or is_by_name(thing)
            if (id(thing), self._by_name) not in self._seen:
                self._seen[id(thing), self._by_name] = thing
                self.code(thing)

    def code(self, thing: Any) -> None:
        """Take a function or class, and what it uses."""
        if isinstance(thing, type):
            if is_theirs(thing):
                self.kind(thing)
        elif is_theirs(thing.__code__):
            self.function(thing)
        else:
            self.decorator(thing)

    def decorator(self, function: types.FunctionType) -> None:
        """Follow what a function of an installed package holds of the user's."""
        for held in (getattr(function, "__wrapped__", None), *cells_of(function).values()):
            if _is_code(held) or isinstance(held, (functools.partial, types.MethodType)):
                self._teller.text(held)
        registry = inspect.getattr_static(function, "registry", None)
        if isinstance(registry, types.MappingProxyType):  # of functools.singledispatch
            self._registered.append((list(registry.values()), self._by_name))

    def function(self, function: types.FunctionType) -> None:
        """Take a function's code and what it uses; of a decorated one, the one inside too."""
        code, name = function.__code__, qualified(function)
        if (inner := getattr(function, "__wrapped__", None)) is not None:
            self._teller.text(inner)
            name += f" ({code.co_name})"  # as the one inside has that name
        tree = self._known.tree(code)
        text = instructions(code) if tree is None else ast.dump(tree)
        self._part(name, text, text)
        self.names(code, function.__globals__, name)
        self.given(function, name)

    def given(self, function: types.FunctionType, owner: str) -> None:
        """Take what a function has from those around it, and its defaults."""
        code = function.__code__
        tree = self._known.tree(code)
        changed = {root for root, _ in stores(tree)} if tree is not None else set()
        inner = getattr(function, "__wrapped__", None)
        for variable, content in cells_of(function).items():
            if isinstance(content, types.ModuleType):
                self.module(content, {*code.co_names}, set())
            elif content is not inner and variable not in {*changed, "__class__"}:
                self.value(content, f"{owner}: {variable}")
        defaults = function.__defaults__ or ()
        arguments = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
        known = dict(zip(arguments, defaults, strict=True)) | (function.__kwdefaults__ or {})
        for variable, content in known.items():
            if variable not in changed:
                self.value(content, f"{owner}: default of {variable}")

    def kind(self, kind: type) -> None:
        """Take a class's code, that of its bases, and what its methods and its body use."""
        name = qualified(kind)
        tree = self._known.tree(kind)
        bases = (*kind.__mro__[1:], type(kind))
        text = str([qualified(b) for b in bases]) if tree is None else ast.dump(tree)
        self._part(name, text, text)
        for base in bases:
            self.follow(base)
        if tree is not None:
            around = globals_of(kind)
            for used in sorted(names_of_body(tree) & around.keys()):
                self.bound(around, used, name, {used})
        stored = self._stored(kind)
        for key, member in vars(kind).items():
            if key in _OF_CLASSES:
                continue
            functions = functions_in(member)
            for function in functions:
                if tree is None or hasattr(function, "__wrapped__") or not is_theirs(function):
                    self.follow(function)
                else:
                    self.names(function.__code__, function.__globals__, name)
                    self.given(function, f"{name}.{key}")
            described = not isinstance(member, type) and hasattr(type(member), "__get__")
            hidden = key.startswith("_") and key.endswith("_")
            if not (functions or described or hidden or key in stored):
                self.value(member, f"{name}.{key}")

    def names(self, code: types.CodeType, known: Mapping[str, Any], owner: str) -> None:
        """Follow the global names in some code, and in the code within it, and its imports."""
        codes = list(codes_in(code))
        used = {n for inner in codes for n in (*inner.co_names, *strings_in(inner))}
        names = dict.fromkeys(n for inner in codes for n in global_names(inner))
        self.seen.names |= used
        if (tree := self._known.tree(code)) is not None:
            changed = names.keys() & {root for root, _ in stores(tree)}
            self.seen.stored |= {(id(known), name) for name in changed}
        for name in names:
            # What no source can write is of a tool that rewrites code, such as pytest.
            if name in known and name not in _OF_MODULES and name.isidentifier():
                self.bound(known, name, owner, used)
        for inner in codes:
            for module in imported(inner, known.get("__package__")):
                self._imported(module, used)

    def _imported(self, module: types.ModuleType, used: set[str]) -> None:
        outside, self._by_name = self._by_name, True
        self.module(module, used, set())
        self._by_name = outside

    def bound(self, known: Mapping[str, Any], name: str, owner: str, used: set[str]) -> None:
        """Take the value of a module's name."""
        value = known[name]
        part = f"{owner}: {name}"
        if isinstance(value, types.ModuleType):
            self._part(part, f"module {value.__name__}", f"module {value.__name__}")
            self._imported(value, used)
            return
        source = self._known.module(str(known.get("__name__")))
        told = None if source is None else source.text(name)
        stored = self._before is not None and (id(known), name) in self._before.stored
        changed = source is not None and name in source.changed
        if not _is_code(value) and (stored or (changed and not _is_plain(value))):
            told = told or qualified(type(value))
            self._part(part, told, told)
            self._registered.append((value, self._by_name))
            return
        self.value(value, part, told)
        if not self._by_name or (_is_code(value) and is_theirs(value)):
            return
        if told is None or (source is not None and source.is_literal(name) and not changed):
            if _is_plain(value):
                text = self._teller.text(value)
                self._part(part, text, text)
        else:
            self._referred.setdefault(part + self._ending, set()).add(digest_of(told))

    def module(self, module: types.ModuleType, used: set[str], seen: set[int]) -> None:
        """Take what some code uses of a module of the user's own, and of those within it."""
        if id(module) in seen or not is_own_module(module):
            return
        seen.add(id(module))
        lazy = used - vars(module).keys() if "__getattr__" in vars(module) else set()
        for attribute in sorted(lazy):
            getattr(module, attribute, None)  # it may import or make it now
        for attribute in sorted((used & vars(module).keys()) - _OF_MODULES):
            value = vars(module)[attribute]
            if isinstance(value, types.ModuleType):
                self.module(value, used, seen)
            else:
                self.bound(vars(module), attribute, module.__name__, used)


def digest_of(text: str) -> str:
    """A short digest."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_code(value: Any) -> bool:
    return isinstance(value, (type, types.FunctionType))


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, bytes, int, float, complex, type(None)))
