"""Train recipes on what is here, and write what they came to into docs/recipes.md.

    python scripts/recipes_here.py train --text FILE [--data-root DIR] [--only PART] [--out DIR]
    python scripts/recipes_here.py keep --text FILE [--out DIR]
    python scripts/recipes_here.py page

The networks are whole but for ViT-S's depth; the data is Fashion-MNIST, and a text. A run that is
there already is not trained again, one that was cut goes on. `keep` writes what it finds to
docs/recipes.json, `page` the table from there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from halflife.lab.data import unigram_entropy
from halflife.lab.recipes import Recipe, recipe
from halflife.lab.recipes.building import changed, data_of
from halflife.lab.recipes.folder import runs_below
from halflife.lab.recipes.options import Options
from halflife.lab.recipes.running import train
from halflife.lab.sweeping.display import Bar

ROOT = Path(__file__).resolve().parent.parent
PAGE, KEPT = ROOT / "docs" / "recipes.md", ROOT / "docs" / "recipes.json"
SPEED = ROOT / "benchmarks" / "recipes.json"
BEGIN, END = "<!-- runs -->", "<!-- /runs -->"
LAST = 20  # steps that the loss at the end is a mean of

HEADS = (
    *("network", "algorithm", "lr", "weight decay", "steps", "first", "last", "test", "error"),
    *("rows/s", "memory"),
)

METHODS = {  # algorithm, lr, weight decay
    "adamw": ("adamw", 1e-3, 0.05),
    "adams": ("adams", 1e-3, 5e-4),
    "adamprox": ("adamprox", 1e-3, 1e-4),
    "sgds": ("sgds", 0.1, 5e-4),
}
# Recipe, epochs, rows of a step, the step after which it stops, settings of the model.
NETWORKS: dict[str, tuple[str, int, int, int | None, dict[str, Any]]] = {
    "lstm": ("000/lstm-ptb/adamw", 1, 20, None, {}),
    "gpt": ("own/gpt-text/adamw", 5, 32, None, {}),
    "resnet20-nobn": ("004/resnet20-nobn-cifar10/adamw", 1, 64, 300, {}),
    "resnet18": ("000/resnet18-cifar10/adamw", 1, 32, 200, {}),
    "vgg16-bn": ("000/vgg16-cifar10/adamw", 1, 32, 200, {}),
    "vit-s16": ("003/vit-s16-imagenet-100/adamw", 1, 32, 200, {"depth": 4}),
}
UNNORMALIZED = {"resnet20-nobn": 0.02, "vit-s16": 0.02}  # their lr of SGDS, which they bear


def runs() -> dict[str, tuple[Recipe, int | None]]:
    """By name: what is trained, and where it stops."""
    found = {}
    for model, (published, epochs, rows, until, more) in NETWORKS.items():
        text = recipe(published).time is not None
        for method in METHODS if not text else ("adamw", "adams"):
            algorithm, lr, decay = METHODS[method]
            rate = UNNORMALIZED.get(model, lr) if method == "sgds" else lr
            settings = {**recipe(published).model_settings, **more}
            chosen = changed(
                recipe(published), data="text" if text else "fashion-mnist", epochs=epochs,
                batch_size=rows, algorithm=algorithm, lr=rate, weight_decay=decay,
                schedule="warmup-cosine:0.05", model_settings=settings,
            )  # fmt: skip
            found[f"{model}/{method}"] = chosen, until
    return found


def train_all(arguments: argparse.Namespace) -> None:
    """Train those that are asked for, each in a process of its own, which has its own memory."""
    for name in runs():
        if arguments.only in name and name != arguments.only:
            subprocess.run([sys.executable, *sys.argv, "--only", name], check=True)
    if arguments.only not in runs():
        return
    chosen, until = runs()[arguments.only]
    options = Options(
        root=arguments.text if chosen.data == "text" else arguments.data_root,
        accelerator=arguments.accelerator, precision=arguments.precision, until=until,
    )  # fmt: skip
    train(chosen, arguments.out / arguments.only, options, resume=True, display=Bar())


def summaries(out: Path, text: str) -> list[dict[str, Any]]:
    """What the runs of a folder came to."""
    found = []
    for path, run, result in runs_below(out):
        lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        steps = [line for line in lines if "loss" in line]
        speeds = [line["rows_per_s"] for line in steps if "rows_per_s" in line]
        kept = ("name", "model", "model_settings", "data", "algorithm", "lr", "weight_decay")
        found.append(
            {
                **{key: run["recipe"][key] for key in (*kept, "batch_size")},
                "run": str(path.relative_to(out)),
                "machine": run["machine"], "precision": run["options"]["precision"],
                "step": steps[-1]["step"],
                "first_loss": steps[0]["loss"],
                "last_loss": statistics.fmean(line["loss"] for line in steps[-LAST:]),
                "rows_per_s": statistics.median(speeds),
                "peak_mib": steps[-1]["peak_mib"],
                "test_loss": result and result["test_loss"],
                "test_error": result and result["test_error"],
                "unigram": _unigram(text) if run["recipe"]["data"] == "text" else None,
            }
        )  # fmt: skip
    return found


def _unigram(text: str) -> float:
    """Entropy of the text's characters, in nats: the loss of who knows how often each occurs."""
    data = data_of(recipe(NETWORKS["gpt"][0]), Options(root=text))
    return float(unigram_entropy(data.test.inputs))


def page(kept: dict[str, Any]) -> str:
    """The table."""
    order = list(runs())
    found = sorted(kept["runs"], key=lambda each: order.index(each["run"]))
    machine = found[0]["machine"]
    lines = [
        f"Trained on {machine['device']}, one process of {kept['threads']}, torch "
        f"{machine['torch']}, in {found[0]['precision']}. Images are Fashion-MNIST's, text the "
        "characters of Genesis in the King James Bible; where there is a test loss, the run was "
        "whole, else it is the first steps of an epoch. Losses in nats: of the first step, the "
        f"mean of the last {LAST}, and the test set's.",
        "",
        f"| {' | '.join(HEADS)} |",
        "|" + " --- |" * len(HEADS),
    ]
    for each in found:
        depth = each["model_settings"].get("depth")
        test, error = each["test_loss"], each["test_error"]
        row = (
            each["model"] + (f" (depth {depth})" if depth else ""),
            each["algorithm"],
            f"{each['lr']:g}",
            f"{each['weight_decay']:g}",
            f"{each['step']:,} x {each['batch_size']}",
            f"{each['first_loss']:.2f}",
            f"{each['last_loss']:.3f}",
            "" if test is None else f"{test:.3f}",
            "" if error is None else f"{error:.1f} %",
            f"{each['rows_per_s']:,.0f}",
            f"{each['peak_mib']:,.0f} MiB",
        )
        lines.append(f"| {' | '.join(row)} |")
    entropy = next(each["unigram"] for each in found if each["unigram"] is not None)
    lines += [
        "",
        f"Who knows how often each character occurs, and nothing else, has a loss of {entropy:.3f} "
        "on that text's test part. Rows of text are tokens; memory is the whole process's. These "
        "are trials of the engine and not of the papers: one seed, and settings that nobody chose. "
        "The machine had other work, so that the speeds say little; what the engine costs is "
        "measured in turns with a plain loop of torch and its fused AdamW:",
        "",
        "| | rows of a step | plain loop, rows/s | halflife train, rows/s | ratio (10 to 90 %) |",
        "| --- | --- | --- | --- | --- |",
    ]
    measured = json.loads(SPEED.read_text("utf-8"))["recipes"]
    for name, case in measured["cases"].items():
        ratio = case["ratio"]
        lines.append(
            f"| {name} | {case['batch_size']} | {case['plain']:,.0f} | {case['ours']:,.0f} "
            f"| {ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f}) |"
        )
    lines += [
        "",
        f"(`python -m benchmarks recipes --json benchmarks/recipes.json`, on {measured['device']}, "
        f"{measured['threads']} thread(s), {case['rounds']} rounds.) No recipe has been trained at "
        "its size, and none on a GPU yet.",
    ]
    return "\n".join(lines)


def write(kept: dict[str, Any]) -> None:
    """The table into its page."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{page(kept)}\n\n{END}{after}", "utf-8")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("train", "keep", "page"))
    parser.add_argument("--text", help="a file of text")
    parser.add_argument("--data-root", help="folder of Fashion-MNIST")
    parser.add_argument("--only", default="", help="runs whose name contains this")
    parser.add_argument("--out", type=Path, default=Path("runs/here"))
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--threads", type=int, default=1, help="torch's")
    parser.add_argument("--precision", default="32-true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.what == "train":
        train_all(arguments)
        return
    if arguments.what == "keep":
        found = summaries(arguments.out, arguments.text)
        kept = {"threads": f"{arguments.threads} thread(s)", "runs": found}
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    write(json.loads(KEPT.read_text("utf-8")))


if __name__ == "__main__":
    sys.exit(main())
