"""Whatever a training uses is a part; what it stores, imports or draws as it runs is none."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from halflife import lab
from halflife.lab.trials.fingerprint import difference, parts_of, referred_parts

HEAD = """
import argparse, dataclasses, enum, functools, os, pathlib, random, sys, threading, types
import torch
from torch import nn
import torch.nn.functional as F
"""
Load = Callable[..., Any]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Sources as the user's modules, one set after the other; the first is `mine`."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    count = iter(range(1000))
    path = [*sys.path]

    def load(source: str, **others: str) -> Any:
        for name in [n for n in sys.modules if n.partition(".")[0] in ("mine", "other", "pack")]:
            del sys.modules[name]
        folder = tmp_path / str(next(count))
        for name, text in {"mine": HEAD + source, **others}.items():
            file = folder / f"{name.replace('__', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        sys.path[:] = [str(folder), *path]
        importlib.invalidate_caches()
        return importlib.import_module("mine")

    yield load
    sys.path[:] = path


TRAIN = "\ndef train(trial): return {}\n"
BUILT = """
class C:
    def __init__(self, w): self.set(w)
    def set(self, w): self.w = w
"""
EDITS = {
    "an installed class": ("ACT = nn.ReLU", "ACT = nn.GELU", "ACT()"),
    "an installed function": ("LOSS = F.mse_loss", "LOSS = F.l1_loss", "LOSS(1, 2)"),
    "an installed module": ("import math as m", "import cmath as m", "m.sqrt(1)"),
    "a loss": ("L = nn.CrossEntropyLoss()", "L = nn.CrossEntropyLoss(label_smoothing=0.1)", "L"),
    "weights of a loss": (
        "L = nn.NLLLoss(torch.tensor([1.0]))", "L = nn.NLLLoss(torch.tensor([2.0]))", "L",
    ),
    "a network": (
        "N = nn.Sequential(nn.Linear(2, 2))", "N = nn.Sequential(nn.Linear(2, 3))", "N",
    ),
    "in a list": ("L = [nn.Dropout(0.1)]", "L = [nn.Dropout(0.5)]", "L"),
    "a dtype": ("D = torch.float32", "D = torch.bfloat16", "D"),
    "a path": ("P = pathlib.Path('1')", "P = pathlib.Path('2')", "P"),
    "arguments": ("A = argparse.Namespace(w=1)", "A = argparse.Namespace(w=2)", "A.w"),
    "a namespace": ("A = types.SimpleNamespace(w=1)", "A = types.SimpleNamespace(w=2)", "A.w"),
    "slots": (
        "class C:\n    __slots__ = ('w',)\nc = C()\nc.w = 1",
        "class C:\n    __slots__ = ('w',)\nc = C()\nc.w = 2", "c.w",
    ),
    "named like a builtin": ("def eval(x): return 1", "def eval(x): return 2", "eval(1)"),
    "a class of a class": (
        "class A:\n    def f(self): return 1\nclass B:\n    a = A",
        "class A:\n    def f(self): return 2\nclass B:\n    a = A", "B.a().f()",
    ),
    "a class's body": (
        "W = 1\nclass C:\n    w = [W]", "W = 2\nclass C:\n    w = [W]", "C.w",
    ),
    "a method's default": (
        "D = 1\nclass C:\n    def f(self, d=D): return d",
        "D = 2\nclass C:\n    def f(self, d=D): return d", "C().f()",
    ),
    "a function's default": (
        "D = 1\ndef f(d=D): return d", "D = 2\ndef f(d=D): return d", "f()",
    ),
    "a single dispatch": (
        "@functools.singledispatch\ndef f(x): return 1\n@f.register\ndef g(x: int): return 1",
        "@functools.singledispatch\ndef f(x): return 1\n@f.register\ndef g(x: int): return 2",
        "f(1)",
    ),
    "a registry": (
        "R = {}\ndef kept(f):\n    R[f.__name__] = f\n    return f\n@kept\ndef g(): return 1",
        "R = {}\ndef kept(f):\n    R[f.__name__] = f\n    return f\n@kept\ndef g(): return 2",
        "R['g']()",
    ),
    "what a cache begins with": ("C = {'w': 1}", "C = {'w': 2}", "C.setdefault('x', 1)"),
    "what a method of building stores": (BUILT + "c = C(1)", BUILT + "c = C(2)", "c.w"),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edit_of_whatever_is_used_is_seen(edit: tuple[str, str, str], load: Load) -> None:
    before, after, used = edit
    one, same, other = (
        parts_of(load(source + TRAIN.format(used)).train) for source in (before, before, after)
    )
    assert one == same
    assert difference(one, other)


IMPORTS = {
    "in the function": "def train(t):\n    from other import build\n    return build()",
    "of a module": "def train(t):\n    import other\n    return other.build()",
    "by a chain": "import pack.models\ndef train(t): return pack.models.build()",
    "of a package": "from pack import models\ndef train(t): return models.build()",
    "of a package in the function": "def train(t):\n    from pack import models\n"
    "    return models.build()",
}


@pytest.mark.parametrize("source", IMPORTS.values(), ids=IMPORTS)
def test_what_is_imported_is_followed_and_that_it_was_imported_is_no_edit(
    source: str, load: Load
) -> None:
    def loaded(number: int, more: str = "") -> Any:
        text = f"def build(): return {number}\ndef unused(): return 0{more}\n"
        others = {"pack____init__": "", "pack__models": text, "other": text}
        return load(source, **{k.replace("____", "__"): v for k, v in others.items()}).train

    one, other, unused = parts_of(loaded(1)), parts_of(loaded(2)), parts_of(loaded(1, " + 1"))
    assert [n.rpartition(".")[2] for n in difference(one, other)] == ["build"]
    assert one == unused
    train = loaded(1)
    importlib.import_module("other")
    importlib.import_module("pack.models")
    assert parts_of(train) == one


def test_a_registry_that_grows_by_an_import_is_no_edit(load: Load) -> None:
    source = "KNOWN = {}\ndef known(f):\n    KNOWN[f.__name__] = f\ndef train(t): return KNOWN['g']"
    mine = load(source, other="import mine\n@mine.known\ndef g(): return 1\n")
    before = parts_of(mine.train)
    importlib.import_module("other")
    assert difference(before, parts_of(mine.train)) == []
    assert set(parts_of(mine.train)) - set(before) == {"other.g (registered)"}


# --- no edit: what the training does as it runs ---------------------------------------------------

RUNS = {
    "a cache": "C = {}\ndef train(t):\n    if 'x' not in C: C['x'] = [1.0]\n    return C['x'][0]",
    "a cache by a method": "C = {}\ndef train(t): return C.setdefault('x', 1.0)",
    "a list": "SEEN = []\ndef train(t):\n    SEEN.append(1)\n    return 1.0",
    "a counter": "N = 0\ndef train(t):\n    global N\n    N += 1\n    return 1.0",
    "a lazy global": "class D: pass\nDATA = None\ndef data():\n    global DATA\n"
    "    if DATA is None: DATA = D()\n    return DATA\ndef train(t): return float(data() is None)",
    "a default": "def data(c={}):\n    c['x'] = 1\n    return c\ndef train(t): return data()['x']",
    "a closure": "def make():\n    c = {}\n    def train(t):\n        c['x'] = 1.0\n"
    "        return c['x']\n    return train\ntrain = make()",
    "lru_cache": "@functools.lru_cache\ndef f(): return 1.0\ndef train(t): return f()",
    "an object that counts": "class T:\n    def __init__(self): self.n = 0\n"
    "    def __call__(self, t):\n        self.n += 1\n        return 1.0\ntrain = T()",
    "a cached property": "class T:\n    @functools.cached_property\n    def x(self): return 1.0\n"
    "    def __call__(self, t): return self.x\ntrain = T()",
    "a class that counts": "class T:\n    n = 0\n    def __call__(self, t):\n        T.n += 1\n"
    "        return 1.0\ntrain = T()",
    "a mapping that fills itself": "class M(dict):\n    def __missing__(self, k):\n"
    "        self[k] = 1.0\n        return 1.0\nm = M()\ndef train(t): return m['x']",
    "a property that fills": "class D:\n    def __init__(self): self._x = None\n    @property\n"
    "    def x(self):\n        if self._x is None: self._x = 1.0\n        return self._x\n"
    "d = D()\ndef train(t): return d.x",
    "random numbers": "g = torch.Generator()\nr = random.Random(0)\n"
    "def train(t): return r.random() + float(torch.rand(1, generator=g))",
    "a network that is trained": "N = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))\n"
    "def train(t):\n    N.train()(torch.randn(4, 2))\n    N.eval()\n"
    "    N[0].weight.data += 1\n    return 1.0",
    "an iterator": "i = iter([1.0, 2.0])\ndef train(t): return next(i)",
}


@pytest.mark.parametrize("source", RUNS.values(), ids=RUNS)
def test_what_a_training_stores_is_no_edit(source: str, load: Load) -> None:
    train = load(source).train
    before = parts_of(train)
    assert train(None) == pytest.approx(1.0, abs=2.0)
    assert difference(before, parts_of(train)) == []


def test_an_option_that_the_training_does_not_name_is_no_edit(load: Load) -> None:
    """A script's own, such as --resume."""
    source = "A = argparse.Namespace(width=1, resume={})\ndef train(t): return A.width"
    assert parts_of(load(source.format(False)).train) == parts_of(load(source.format(True)).train)


def test_devices_files_and_locks_are_no_part(load: Load) -> None:
    source = (
        "LOCK = threading.Lock()\nFILE = sys.__stdout__\nD = torch.device({0!r})\nE = {0!r}\n"
        "ENV = os.environ\ndef train(t): return LOCK, FILE, D, E, ENV"
    )
    one, other = (parts_of(load(source.format(d)).train) for d in ("cpu", "cuda:1"))
    assert {n for n in difference(one, other) if not n.endswith(": D")} == set()


def test_every_process_and_hash_seed_finds_the_same(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        HEAD + "KINDS = {'l2', 'stable', nn.ReLU, nn.GELU, None}\nMODEL = nn.Linear(2, 2)\n"
        "class Color(enum.Enum):\n    RED = 1\nC = {Color.RED: {'a', 'b', 'c'}}\n"
        "@dataclasses.dataclass\nclass Config:\n    w: int = 1\n"
        "    k: set = dataclasses.field(default_factory=lambda: {'x', 'y'})\nCONFIG = Config()\n"
        "LOCK, LOG = threading.Lock(), __import__('logging').getLogger('mine')\n"
        "chosen = lambda t: t in {'l2', 'decoupled', 'stable', 'none'}\n"
        "def train(t): return KINDS, C, CONFIG, MODEL, LOCK, LOG, chosen(t), Color.RED\n"
    )
    code = "from mine import train; from halflife.lab.trials.fingerprint import *; "
    code += "print(parts_of(train), referred_parts(train))"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
            timeout=100, env={**os.environ, "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in (1, 2)
    }  # fmt: skip
    assert len(said) == 1
    assert "mine.train: KINDS" in said.pop()


# --- what has no source, and what answers to any name ---------------------------------------------


def test_what_was_typed_in_is_told_by_its_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    def typed(number: int) -> dict[str, str]:
        module = types.ModuleType("__main__")
        monkeypatch.setitem(sys.modules, "__main__", module)
        source = f"class Net:\n    def f(self): return {number}\ndef train(t): return Net().f()\n"
        exec(compile(source, "<input>", "exec"), vars(module))
        return parts_of(module.train)

    assert typed(1) == typed(1)
    assert difference(typed(1), typed(2)) == ["__main__.Net.f"]


class Dotted(dict[str, Any]):
    """A mapping whose items are attributes."""

    __getattr__ = dict.__getitem__


class Odd:
    """An object that has whatever it is asked for."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, trial: Any) -> float:
        return 1.0


@pytest.mark.parametrize("make", [lambda: Dotted(width=3), Odd, threading.Lock, lambda: print])
def test_any_value_gets_a_part(make: Callable[[], Any]) -> None:
    assert "train(0)" in parts_of(functools.partial(print, make()))


class Named:
    """A training with attributes that the lab's own have too."""

    configuration = (1,)
    about = "text"
    stacked = None

    def __call__(self, trial: Any) -> float:
        return float(trial.lr)


def test_attributes_of_a_training_are_its_own() -> None:
    result = lab.sweep(
        Named(), lr=[0.1], weight_decay=[0.1], seeds=1, confirm=0, default=False, extend=False,
        executor=lab.InProcess(), progress=False,
    )  # fmt: skip
    assert all(cell["status"] == "done" for cell in result.cells())


# --- what another process finds -------------------------------------------------------------------


def test_what_a_process_computes_for_itself_is_not_compared(load: Load) -> None:
    source = (
        "import time, tempfile\nSTART = time.time()\nRANK = int(os.environ.get('RANK', '{}'))\n"
        "WIDTH = {}\ndef train(t): return START, RANK, WIDTH"
    )
    first = referred_parts(load(source.format(0, 1)).train)
    assert first == referred_parts(load(source.format(0, 1)).train)
    edited = referred_parts(load(source.format(0, 2)).train)
    assert difference(first, edited) == ["mine.train: WIDTH"]


def test_a_constant_is_followed_to_where_it_is_written(load: Load) -> None:
    source = "from other import WIDTH\nDOUBLE = [WIDTH * 2]\ndef train(t): return DOUBLE"
    one, other = (referred_parts(load(source, other=f"WIDTH = {n}\n").train) for n in (1, 2))
    assert difference(one, other) == ["mine.train: DOUBLE"]


def test_what_the_calling_script_has_set_is_missed_by_a_worker(load: Load) -> None:
    mine = load("WIDTH = 1\ndef train(t): return WIDTH")
    before = referred_parts(mine.train)
    mine.WIDTH = 2
    assert difference(before, referred_parts(mine.train)) == ["mine.train: WIDTH"]


def test_what_is_sent_whole_is_not_compared(load: Load) -> None:
    mine = load("def make(n):\n    def train(t): return n\n    return train\ntrain = make(1)")
    assert referred_parts(mine.train) == {}
    assert referred_parts(functools.partial(mine.make, nn=torch.nn.Linear(2, 2))).keys() == {
        "mine.make"
    }
