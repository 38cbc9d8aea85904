"""Make the virtual environment and install this checkout into it, editable, with its extras.

    python3 scripts/install.py --venv .venv --extras lab,docs,dev [--installer auto|pip|uv]

Needs nothing but Python's standard library. Every install goes through constraints.txt.

pip is the default. uv is faster but does not read pip's configuration, so it may find another
build of torch (several GB of CUDA packages in place of the CPU build that pip would take). "auto"
therefore takes uv only when it is installed and pip is configured with nothing that decides which
files are found except find-links, which is handed over; "uv" hands over the indexes as well.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 10)
# pip options that decide which files are found: option -> uv's option, None where uv has no equal.
SOURCES = {
    "find-links": "--find-links",
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "no-index": None,
    "constraint": None,
    "no-binary": None,
    "only-binary": None,
    "pre": None,
    "platform": None,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="make the virtual environment of this checkout")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--extras", default="lab,plot,images,docs,dev,third-party,lightning,hf")
    parser.add_argument("--installer", choices=["auto", "pip", "uv"], default="auto")
    args = parser.parse_args()
    if sys.version_info < OLDEST:
        sys.exit(
            f"Python {sys.version.split()[0]} is too old: 3.10 or newer is needed; "
            "name one with 'make PYTHON=python3.12'."
        )
    start = time.monotonic()
    python = environment(args.venv.absolute())
    config = pip_config(python)
    uv = shutil.which("uv")
    if args.installer == "uv" and uv is None:
        sys.exit("USE_UV=1, but no uv is on the PATH: install it, or leave USE_UV out to use pip.")
    if args.installer == "uv" or (
        args.installer == "auto" and uv and set(config) <= {"find-links"}
    ):
        command = [str(uv), "pip", "install", "--python", str(python), *uv_options(config)]
    else:
        command = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["--quiet", "--constraint", "constraints.txt", "--editable", f".[{args.extras}]"]
    print(
        f"installing .[{args.extras}] into {args.venv} with "
        f"{'uv' if command[1] == 'pip' else 'pip'} ...",
        flush=True,
    )
    code = subprocess.run(command, cwd=ROOT).returncode
    if code:
        sys.exit(code)
    print(f"installed in {time.monotonic() - start:.0f} s")


def environment(venv: Path) -> Path:
    """The Python of the virtual environment, which is made when it is missing or broken."""
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    works = [str(python), "-c", "import pip"]
    if python.exists() and subprocess.run(works, capture_output=True).returncode == 0:
        return python
    again = ["--clear"] if (venv / "pyvenv.cfg").exists() else []
    made = subprocess.run([sys.executable, "-m", "venv", *again, str(venv)])
    if made.returncode:
        sys.exit(
            f"{sys.executable} cannot make virtual environments: on Debian and Ubuntu, "
            "install the package python3-venv."
        )
    return python


def pip_config(python: Path) -> dict[str, list[str]]:
    """The options of SOURCES that pip's files and environment variables set, with their values."""
    listing = subprocess.run(
        [str(python), "-m", "pip", "config", "list"], capture_output=True, text=True
    )
    found: dict[str, list[str]] = {}
    for line in listing.stdout.splitlines():  # global.find-links='/some/folder /another'
        key, _, value = line.partition("=")
        option = key.rpartition(".")[2]
        if option in SOURCES and value:
            values = str(ast.literal_eval(value)).split()
            found[option] = list(dict.fromkeys(found.get(option, []) + values))
    return found


def uv_options(config: dict[str, list[str]]) -> list[str]:
    """What makes uv look where pip looks, and choose as pip does: the newest over all indexes."""
    if lost := [option for option in config if SOURCES[option] is None]:
        print(f"note: pip is configured with {', '.join(lost)}, which uv is not told", flush=True)
    options = ["--index-strategy", "unsafe-best-match"] if "extra-index-url" in config else []
    for option, values in config.items():
        if flag := SOURCES[option]:
            options += [part for value in values for part in (flag, value)]
    return options


if __name__ == "__main__":
    main()
