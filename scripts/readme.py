"""Write into README.md what is measured elsewhere.

    python scripts/readme.py             the audit, the speed, the requirements: seconds
    python scripts/readme.py --train     the table of half-life against default too: minutes

The audit is that of examples/train.py, the table what that program prints, the speed that of
benchmarks/results.json, the requirements those of pyproject.toml. What each training of the table
comes to is kept in docs/assets/half_life.json: a test repeats a few and need not repeat all.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
README, EXAMPLES = ROOT / "README.md", ROOT / "examples"
TRAININGS = ROOT / "docs" / "assets" / "half_life.json"
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


def example() -> Any:
    """examples/train.py, as a module that nobody else has."""
    spec = importlib.util.spec_from_file_location("half_life_example", EXAMPLES / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trained(seed: int, half_life: float | None, wrong: float, noise: bool) -> dict[str, Any]:
    """What a training is told by, and what it comes to."""
    module = example()
    model, (_, validation, test) = module.trained(seed, half_life, wrong, noise=noise)
    return {
        **{"seed": seed, "half_life": half_life, "wrong": wrong, "noise": noise},
        **{"validation": module.error(model, validation), "test": module.error(model, test)},
        "rms": module.rms(model),
    }


def printed(train: Callable[..., dict[str, Any]]) -> str:
    """What the example prints if its trainings come to what this gives, which is as `trained`."""
    module = example()

    def one(
        seed: int, epochs: float | None, wrong: float = 0.2, length: int = 0, noise: bool = False
    ) -> tuple[dict[str, Any], list[str]]:
        assert length == module.EPOCHS
        return train(seed, epochs, wrong, noise), ["training", "validation", "test"]

    module.trained, module.error = one, lambda found, part: found[part]
    module.rms = lambda found: found["rms"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        module.main(module.CHOOSE, module.FRESH, module.EPOCHS)
    return out.getvalue()


def remembered() -> str:
    """What the example prints if all of its trainings come to what is kept of them."""
    rows = json.loads(TRAININGS.read_text("utf-8"))
    kept = {(r["seed"], r["half_life"], r["wrong"], r["noise"]): r for r in rows}
    return printed(lambda *told: kept[told])


def keep() -> None:
    """Train all that the table needs, and keep what each comes to."""
    import torch

    torch.set_num_threads(1)  # what sums come to may depend on it
    rows: list[dict[str, Any]] = []

    def train(*told: Any) -> dict[str, Any]:
        rows.append(trained(*told))
        return rows[-1]

    printed(train)
    lines = ",\n".join(json.dumps(row) for row in rows)
    TRAININGS.write_text(f"[\n{lines}\n]\n", "utf-8")


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
        keep()
    readme = with_table(readme, measured(remembered()))
    README.write_text(readme, "utf-8")


if __name__ == "__main__":
    main()
