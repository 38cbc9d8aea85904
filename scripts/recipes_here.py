"""Train recipes on what is here, and write what they came to into docs/recipes.md.

    python scripts/recipes_here.py train --text FILE [--data-root DIR] [--only PART] [--out DIR]
    python scripts/recipes_here.py keep --text FILE [--out DIR]
    python scripts/recipes_here.py page

The networks are whole; the data is Fashion-MNIST for one epoch, and a text. A run that is there
already is not trained again, one that was cut goes on. `keep` writes what it finds to
docs/recipes.json, `page` the table from there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from halflife.lab.recipes import Recipe, recipe
from halflife.lab.recipes.building import changed, data_of
from halflife.lab.recipes.folder import runs_below
from halflife.lab.recipes.options import Options
from halflife.lab.recipes.running import train
from halflife.lab.sweeping.display import Bar

ROOT = Path(__file__).resolve().parent.parent
PAGE, KEPT = ROOT / "docs" / "recipes.md", ROOT / "docs" / "recipes.json"
BEGIN, END = "<!-- runs -->", "<!-- /runs -->"
LAST = 20  # steps that the loss at the end is a mean of

HEADS = (
    *("network", "algorithm", "lr", "weight decay", "steps", "first", "last", "test", "error"),
    *("rows/s", "memory"),
)

# Method: algorithm, lr, weight decay; SGDS twice, as nothing without batch norm bears 0.1.
METHODS = {
    "adamw": ("adamw", 1e-3, 0.05),
    "adams": ("adams", 1e-3, 5e-4),
    "adamprox": ("adamprox", 1e-3, 1e-4),
    "sgds": ("sgds", 0.1, 5e-4),
}
NETWORKS = {
    "resnet20-nobn": "004/resnet20-nobn-cifar10/adamw",
    "resnet18": "000/resnet18-cifar10/adamw",
    "vgg16-bn": "000/vgg16-cifar10/adamw",
    "vit-s16": "003/vit-s16-imagenet-100/adamw",
}
UNNORMALIZED = {"resnet20-nobn": 0.02, "vit-s16": 0.02}  # their lr of SGDS
TEXTS = {"lstm": "000/lstm-ptb/adamw", "gpt": "own/gpt-text/adamw"}


def runs() -> dict[str, Recipe]:
    """By name: what is trained."""
    found = {}
    for model, published in NETWORKS.items():
        for method, (algorithm, lr, decay) in METHODS.items():
            rate = UNNORMALIZED.get(model, lr) if method == "sgds" else lr
            found[f"{model}/{method}"] = changed(
                recipe(published), data="fashion-mnist", epochs=1, batch_size=128,
                schedule="warmup-cosine:0.05", algorithm=algorithm, lr=rate, weight_decay=decay,
            )  # fmt: skip
    for model, published in TEXTS.items():
        for method in ("adamw", "adams"):
            algorithm, lr, decay = METHODS[method]
            found[f"{model}/{method}"] = changed(
                recipe(published), data="text", algorithm=algorithm, lr=lr, weight_decay=decay,
                epochs=1 if model == "lstm" else 5,
            )  # fmt: skip
    return found


def train_all(arguments: argparse.Namespace) -> None:
    """Train those that are asked for."""
    for name, chosen in runs().items():
        if arguments.only not in name or (arguments.out / name / "result.json").exists():
            continue
        options = Options(
            root=arguments.text if chosen.data == "text" else arguments.data_root,
            accelerator=arguments.accelerator, precision=arguments.precision,
        )  # fmt: skip
        with Bar() as bar:
            train(chosen, arguments.out / name, options, resume=True, display=bar)


def summaries(out: Path, text: str | None) -> list[dict[str, Any]]:
    """What the runs of a folder came to."""
    found = []
    for path, run, result in runs_below(out):
        if result is None:
            continue
        lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        losses = [line["loss"] for line in lines if "loss" in line]
        kept = ("name", "model", "data", "algorithm", "lr", "weight_decay", "batch_size", "time")
        found.append(
            {
                **{key: run["recipe"][key] for key in kept},
                "run": str(path.relative_to(out)),
                "device": run["machine"]["device"], "precision": run["options"]["precision"],
                "torch": run["machine"]["torch"],
                "first_loss": losses[0], "last_loss": statistics.fmean(losses[-LAST:]),
                "unigram": _unigram(text) if run["recipe"]["data"] == "text" else None,
                **result,
            }
        )  # fmt: skip
    return found


def _unigram(text: str | None) -> float | None:
    """Entropy of the text's letters, in nats: the loss of who knows how often each occurs."""
    from halflife.lab.data import unigram_entropy

    if text is None:
        return None
    data = data_of(recipe(TEXTS["gpt"]), Options(root=text))
    return float(unigram_entropy(data.test.inputs))


def page(kept: dict[str, Any]) -> str:
    """The table."""
    lines = [
        f"Trained on {kept['where']}. Of images one epoch of Fashion-MNIST, in batches of 128; of "
        "text, characters of the King James Bible's first five books. Loss: of the first step, the "
        f"mean of the last {LAST}, and the test set's, in nats.",
        "",
        f"| {' | '.join(HEADS)} |",
        "|" + " --- |" * len(HEADS),
    ]
    order = list(runs())
    for each in sorted(kept["runs"], key=lambda each: order.index(each["run"])):
        rows = each["rows_per_s"]
        lines.append(
            f"| {each['model']} | {each['algorithm']} | {each['lr']:g} | {each['weight_decay']:g} "
            f"| {each['step']:,} | {each['first_loss']:.2f} | {each['last_loss']:.3f} "
            f"| {each['test_loss']:.3f} | {each['test_error']:.1f} % | {rows:,.0f} "
            f"| {each['peak_mib']:,.0f} MiB |"
        )
    entropy = next(each["unigram"] for each in kept["runs"] if each["unigram"] is not None)
    lines += [
        "",
        f"Who knows how often each character occurs, and nothing else, has a loss of {entropy:.3f}"
        " on that text. Rows of text are tokens. These are trials of the engine, not of the papers:"
        " one epoch, one seed, settings that nobody chose.",
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
    parser.add_argument("--precision", default="32-true")
    arguments = parser.parse_args()
    if arguments.what == "train":
        train_all(arguments)
        return
    if arguments.what == "keep":
        found = summaries(arguments.out, arguments.text)
        first = found[0]
        where = f"{first['device']}, torch {first['torch']}, {first['precision']}"
        KEPT.write_text(json.dumps({"where": where, "runs": found}, indent=1) + "\n", "utf-8")
    write(json.loads(KEPT.read_text("utf-8")))


if __name__ == "__main__":
    sys.exit(main())
