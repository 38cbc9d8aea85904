"""The public surface: its names, its words, its documentation, and what importing it costs."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import halflife

ROOT = Path(__file__).resolve().parent.parent

# Adding, renaming or removing a name is a decision: it changes this list, docs/api and CHANGELOG.
PUBLIC_NAMES = [
    "ASGD",
    "AdaBound",
    "Adadelta",
    "Adagrad",
    "Adai",
    "Adam",
    "AdamDelta",
    "AdamW",
    "Adamax",
    "Adaptive",
    "Anchored",
    "Cautious",
    "Constant",
    "Corrected",
    "DecayRule",
    "Decayed",
    "Decoupled",
    "Fraction",
    "HalfLife",
    "HeavyBall",
    "HuberDecay",
    "Independent",
    "L2Regularization",
    "Lion",
    "Muon",
    "NAdam",
    "NormControl",
    "Normalized",
    "Padam",
    "PowerDecay",
    "Preconditioned",
    "Proximal",
    "ProximalL1",
    "ProximalNorm",
    "RAdam",
    "RMSprop",
    "Rotation",
    "SGD",
    "Stable",
    "TargetRMS",
    "Timescale",
    "TotalDecay",
    "Yogi",
    "algorithms",
    "attach",
    "averaging_of",
    "clip_grad_norm_",
    "convert",
    "decayed",
    "describe",
    "param_groups",
    "recommend",
    "schedules",
    "transfer",
]

# Words that CONTRIBUTING.md replaces by one of its own: no public name or argument uses them.
AVOIDED = {
    "backend",
    "engine",
    "gauge",
    "initial_lr",
    "max_lr",
    "no_decay_list",
    "skip_list",
    "wd",
}

# Imported by extras only; `import halflife` must work, and stay quick, without them.
OPTIONAL = ["lightning", "optuna", "ray", "rich", "scipy", "sklearn", "transformers", "typer"]


def public_objects() -> list[tuple[str, object]]:
    return [(name, getattr(halflife, name)) for name in halflife.__all__]


# --- names ---------------------------------------------------------------------------------------


def test_names_are_pinned():
    assert sorted(halflife.__all__) == sorted(PUBLIC_NAMES)


def test_all_holds_every_public_name_and_nothing_else():
    visible = {
        name
        for name, value in vars(halflife).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert visible == {
        name for name, value in public_objects() if not isinstance(value, ModuleType)
    }
    assert len(halflife.__all__) == len(set(halflife.__all__))


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_name_uses_our_words(name):
    value = getattr(halflife, name)
    words = {name.lower()}
    for function in [value, *vars(value).values()] if inspect.isclass(value) else [value]:
        if inspect.isfunction(function) or inspect.isclass(function):
            try:
                words.update(inspect.signature(function).parameters)
            except ValueError:  # no signature: implemented in C
                continue
    assert not words & AVOIDED


# --- documentation -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_name_is_documented(name):
    value = getattr(halflife, name)
    assert inspect.getdoc(value)
    module = value.__name__ if isinstance(value, ModuleType) else value.__module__
    pages = "\n".join(page.read_text("utf-8") for page in (ROOT / "docs/api").glob("*.md"))
    documented = re.findall(r"^::: (\S+)", re.sub(r"<!--.*?-->", "", pages, flags=re.S), flags=re.M)
    assert any(module == entry or module.startswith(f"{entry}.") for entry in documented), (
        f"{module} has no ':::' entry in docs/api"
    )


# --- cost and isolation of the import ------------------------------------------------------------


def run_fresh(code: str) -> dict:
    """What a new interpreter prints as JSON. No warning may come up in it."""
    command = [sys.executable, "-W", "error", "-c", code]
    # Bytecode is kept, as for everybody who installs a package.
    env = {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "tests", env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_loads_the_core_only_and_nothing_beyond_torch_and_numpy():
    loaded = run_fresh(
        "import json, sys, numpy, torch\n"
        "before = set(sys.modules)\n"
        "import halflife\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    packages = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert packages <= {"halflife", "torch", "numpy"}
    # import-linter orders the modules of the package; this is about the package itself.
    ours = {name.split(".")[1] for name in loaded if name.startswith("halflife.")}
    assert not ours & {"cli", "diagnostics", "integrations", "lab", "testing"}


def test_import_works_without_the_extras():
    loaded = run_fresh(
        "import json, sys\n"
        f"sys.modules.update(dict.fromkeys({OPTIONAL!r}))  # importing one now raises\n"
        "import halflife\n"
        "print(json.dumps(halflife.__all__))"
    )
    assert loaded == halflife.__all__


def test_import_leaves_torch_as_it_was():
    state = (
        "(str(torch.get_default_dtype()), torch.get_num_threads(), torch.is_grad_enabled(), "
        "torch.are_deterministic_algorithms_enabled(), len(warnings.filters), "
        "torch.get_rng_state().tolist())"
    )
    unchanged = run_fresh(
        "import json, warnings, torch\n"
        f"before = {state}\n"
        "import halflife\n"
        f"print(json.dumps(before == {state}))"
    )
    assert unchanged is True


def test_import_cost():
    """At most a fifth above ``import torch``, by processor time, the best of three."""
    code = (
        "import json, time\n"
        "start = time.process_time()\n"
        "import torch\n"
        "middle = time.process_time()\n"
        "import halflife\n"
        "print(json.dumps([middle - start, time.process_time() - start]))"
    )
    runs = [run_fresh(code) for _ in range(3)]
    assert min(whole for _, whole in runs) <= 1.2 * min(torch_alone for torch_alone, _ in runs)
