"""Write into README.md what is measured elsewhere.

    python scripts/readme.py             the audit, the speed, the requirements: seconds
    python scripts/readme.py --train     the table of half-life against default too: minutes

The audit is that of examples/train.py, the table what that program prints, the speed that of
benchmarks/results.json, the requirements those of pyproject.toml.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
README, EXAMPLES = ROOT / "README.md", ROOT / "examples"
FINDING = "warning inert-decay"
MODELS = {"resnet18": "ResNet-18", "gpt2": "GPT-2 small"}


def audit() -> str:
    """Of what ``halflife audit train:build`` says the title, the finding on decay, and the end."""
    from recipe_pages import output_of

    here = Path.cwd()
    os.chdir(EXAMPLES)
    try:
        lines = output_of("audit train:build").splitlines()
    finally:
        os.chdir(here)
    (start,) = [i for i, line in enumerate(lines) if line.startswith(FINDING)]
    following = re.compile(r"(error|warning|info) \S+:|\d+ (error|warning|note)")
    end = next(i for i in range(start + 1, len(lines)) if following.match(lines[i]))
    return "\n".join([lines[0].strip(), "...", *lines[start:end], "...", lines[-1]])


def speed() -> str:
    """How much faster than torch's default the default step is, by the benchmark's last results."""
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text("utf-8"))
    times = {
        MODELS[result["model"]]: 1.0 / row["of_default"]["median"]
        for result in results["rules"]
        for row in result["rows"]
        if row["name"] == "AdamW Decoupled" and result["model"] in MODELS and result["threads"] == 1
    }
    return " and ".join(f"{times[name]:.1f} times ({name})" for name in MODELS.values())


def needs() -> str:
    """The requirements."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    python = re.search(r'requires-python = ">=([\d.]+)"', project)
    torch = re.search(r'"torch>=([\d.]+)"', project)
    assert python is not None
    assert torch is not None
    return f"It needs Python {python[1]}, torch {torch[1]}, or newer, and numpy."


def measured(printed: str) -> dict[str, str]:
    """The numbers that examples/train.py prints, by what they are."""
    found = {}
    for part, heading in (("wrong", "a fifth of the labels"), ("right", "all labels right")):
        block = printed[printed.index(heading) :]
        for name, line in (
            ("default", "test error, torch's default "),
            ("chosen", "test error, chosen half-life "),
            ("difference", "difference, seed by seed "),
            ("default rms", "weight RMS, torch's default "),
            ("chosen rms", "weight RMS, chosen half-life "),
        ):
            value = re.search(rf"{line} +(\S+( \+- \S+)?)", block)
            assert value, line
            found[f"{part} {name}"] = value[1].replace("+-", "±")
    for name, pattern in (
        ("half-life", r"chosen: (\d+) epochs"),
        ("predicted", r"predicted at equilibrium (\S+);"),
        ("left", r"leaves (\d+) %"),
        ("noise", r"noise for gradients (\S+)"),
    ):
        found[name] = re.search(pattern, printed)[1]
    return found


def rows(found: dict[str, str]) -> list[str]:
    """The table of these numbers."""
    cells = [
        (
            "60 epochs on 500 digits",
            "torch's default",
            f"half-life {found['half-life']} epochs",
            "difference",
        ),
        ("---",) * 4,
        *(
            (
                f"test error, {labels}",
                *(
                    f"{found[f'{part} {name}']}{unit}"
                    for name, unit in (("default", " %"), ("chosen", " %"), ("difference", ""))
                ),
            )
            for part, labels in (
                ("wrong", "a fifth of the labels wrong"),
                ("right", "all labels right"),
            )
        ),
        (
            "weight RMS, a fifth of the labels wrong",
            found["wrong default rms"],
            found["wrong chosen rms"],
            f"predicted {found['predicted']}",
        ),
    ]
    return [f"| {' | '.join(row)} |" for row in cells]


def trained() -> str:
    """What examples/train.py prints."""
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, str(EXAMPLES / "train.py")]
    done = subprocess.run(
        command, env=os.environ | threads, text=True, capture_output=True, check=True
    )
    return done.stdout


def written(readme: str) -> str:
    """The README as it should be, apart from the table."""
    readme = re.sub(
        r"(```text\n).*?(\n```)", lambda m: m[1] + audit() + m[2], readme, count=1, flags=re.S
    )
    for pattern, text in (
        (r"[\d.]+ times \(ResNet-18\) and [\d.]+ times \(GPT-2 small\)", speed()),
        (r"It needs Python .*? and numpy\.", needs()),
    ):
        readme, count = re.subn(pattern, text, readme)
        assert count == 1, pattern
    return readme


def with_table(readme: str, found: dict[str, str]) -> str:
    """The README with its table written again; its sentences name three of the numbers."""
    table = "\n".join(rows(found))
    return re.sub(r"\| 60 epochs on.*?(?=\n\n)", lambda _: table, readme, count=1, flags=re.S)


def main() -> None:
    """Write the README."""
    readme = written(README.read_text("utf-8"))
    if "--train" in sys.argv[1:]:
        readme = with_table(readme, measured(trained()))
    README.write_text(readme, "utf-8")


if __name__ == "__main__":
    main()
