"""The check of the source finds what it is for, each in one line of a package that has it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
try:
    import check_source
finally:
    sys.path.pop(0)

# What versions.py says, and what another module of the package says beside it.
VERSIONS = 'NOTE = "_opt_called"\ndef patched(o): o._patch_step_function()\n'
OURS = "class Own:\n    def _mine(self, _given):\n        self._kept = _given\n"


def package(tmp_path: Path, line: str) -> Path:
    folder = tmp_path / "src" / "halflife"
    folder.mkdir(parents=True)
    (folder / "versions.py").write_text(f'"""What differs."""\n{VERSIONS}', "utf-8")
    (folder / "own.py").write_text(f'"""Our own."""\n{OURS}{line}\n', "utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("import torch._dynamo", "_dynamo"),
        ("from torch._subclasses import FakeTensor", "_subclasses"),
        ("from torch.utils._foreach_utils import anything", "_foreach_utils"),
        ("from torch.nn.modules.conv import _ConvNd", "_ConvNd"),
        ("torch._dynamo.mark_static(w)", "_dynamo"),
        ("f(torch._mine)", "_mine"),  # torch's, though there is one of ours too
        ("w.grad._version", "_version"),
        ("step._wrapped_by_lr_sched = True", "_wrapped_by_lr_sched"),
        ('getattr(w, "_fsdp_flattened", False)', "_fsdp_flattened"),
        ('group.pop("_opt_called")', "_opt_called"),
        ("from halflife.own import Own", "import of halflife.own"),
        ('def f() -> int: """Return one."""', "docstring begins"),
    ],
)
def test_what_is_wrong_is_found(tmp_path, monkeypatch, capsys, line, said):
    monkeypatch.setattr(check_source, "ROOT", package(tmp_path, line))
    assert check_source.main() == 1
    found = capsys.readouterr().out.splitlines()
    assert len(found) == 1
    assert found[0].startswith(f"{Path('src/halflife/own.py')}:5: {said}")


@pytest.mark.parametrize(
    "line",
    [
        "torch._foreach_mul_(weights, 0.5)",
        "Own()._mine(Own()._kept)",
        "os._exit(1)",
        "w.__torch_function__",
        "from .own import _given",
        'hasattr(batch, "_fields")',
        'sums["_name_of_ours"]',
        'def f() -> int: """One."""',
    ],
)
def test_what_is_right_is_not(tmp_path, monkeypatch, capsys, line):
    monkeypatch.setattr(check_source, "ROOT", package(tmp_path, line))
    assert check_source.main() == 0
    assert capsys.readouterr().out == ""


def test_private_names():
    names = ["_a", "a", "__a__", "__a", "_", "a._b", 1]
    assert [n for n in names if check_source.is_private(n)] == ["_a"]
    tree = ast.parse(OURS)
    assert {n for n in check_source.defined(tree) if check_source.is_private(n)} == {
        "_mine",
        "_given",
        "_kept",
    }
