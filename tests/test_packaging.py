"""What pyproject.toml and constraints.txt promise each other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib", reason="in the standard library from Python 3.11")

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line.partition("#")[0].strip() for line in lines]
    return dict(re.match(r"([\w.-]+)==([\w.]+)", pin).groups() for pin in pins if pin)


def test_extras_for_development_and_dependency_groups_are_the_same_lists():
    for name, group in PROJECT["dependency-groups"].items():
        assert EXTRAS[name] == group


def test_what_make_installs_is_pinned():
    installed = re.search(r"--extras (\S*dev\S*)", (ROOT / "Makefile").read_text("utf-8"))
    wanted = PROJECT["project"]["dependencies"] + [
        requirement for name in installed.group(1).split(",") for requirement in EXTRAS[name]
    ]
    names = {re.match(r"[\w.-]+", requirement).group() for requirement in wanted}
    assert names <= set(constraints())


def test_torch_is_pinned_in_one_place():
    pin = f"{constraints()['torch']}"
    files = ["pyproject.toml", "Makefile", ".ci/run", "scripts/install.py"]
    assert [name for name in files if pin in (ROOT / name).read_text("utf-8")] == []


@pytest.mark.parametrize("version", ["3.9.18", "2.7.18"])
def test_installer_refuses_an_old_python_by_name(version):
    code = (
        "import runpy, sys\n"
        f"sys.version, sys.version_info = {version!r}, {tuple(map(int, version.split('.')))}\n"
        "sys.argv = ['install.py']\n"
        "runpy.run_path('scripts/install.py', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert f"Python {version} is too old: 3.10 or newer is needed" in done.stderr


def test_uv_is_told_where_pip_looks(monkeypatch, tmp_path):
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import install
    finally:
        sys.path.pop(0)
    for name in ("PIP_CONFIG_FILE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nextra-index-url = https://a.invalid/simple\ntimeout = 60\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_FIND_LINKS", "wheels more")
    found = install.pip_config(Path(sys.executable))
    assert found["find-links"][-2:] == ["wheels", "more"]
    assert "https://a.invalid/simple" in found["extra-index-url"]
    assert "timeout" not in found
    assert install.uv_options({"find-links": ["wheels", "more"]}) == [
        "--find-links", "wheels", "--find-links", "more",
    ]  # fmt: skip
    assert install.uv_options({"extra-index-url": ["a"]}) == [
        "--index-strategy", "unsafe-best-match", "--index", "a",
    ]  # fmt: skip
