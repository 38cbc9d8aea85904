"""Write docs/probe.md: what weight_decay does in some fifty optimizers, by running each.

    python scripts/probe_table.py      # needs pip install -e .[third-party], and half a minute

Rows of packages that are not installed keep the text that the page has.
"""

from __future__ import annotations

import functools
import importlib
import re
import textwrap
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from halflife.diagnostics.probing import BEHAVIOURS, COLUMNS, Probe, probe

PAGE = Path(__file__).resolve().parent.parent / "docs" / "probe.md"


@dataclass(frozen=True)
class Row:
    """One optimizer and what its documentation says: our word for that, and its own."""

    path: str
    documented: str  # keys of BEHAVIOURS, any of which the words allow; none if they say nothing
    words: str
    arguments: dict[str, Any] = field(default_factory=dict)
    said_default: float | None = None  # weight_decay, where the words name it

    @property
    def name(self) -> str:
        flags = ", ".join(f"{k}={v}" for k, v in self.arguments.items())
        return f"`{self.path.removeprefix('torch.optim.')}{f'({flags})' if flags else ''}`"


def l2(*names: str) -> list[Row]:
    return [Row(f"torch.optim.{n}", "l2", '"weight decay (L2 penalty)"') for n in names]


def none(*names: str) -> list[Row]:
    return [Row(f"torch.optim.{n}", "absent", "no such argument") for n in names]


SWITCHED = {"decoupled_weight_decay": True}
TORCH = [
    *l2("ASGD", "Adadelta"),
    Row("torch.optim.Adafactor", "decoupled", '"coefficient (default: 1e-2)"', said_default=0.01),
    *l2("Adagrad", "Adam"),
    Row("torch.optim.Adam", "decoupled", '"equivalent to AdamW"', SWITCHED),
    Row("torch.optim.AdamW", "decoupled", "the formula given"),
    *l2("Adamax"),
    *none("LBFGS"),
    *l2("Muon", "NAdam"),
    Row("torch.optim.NAdam", "decoupled", '"as in AdamW"', SWITCHED),
    *l2("RAdam"),
    Row("torch.optim.RAdam", "decoupled", '"as in AdamW"', SWITCHED),
    *l2("RMSprop"),
    *none("Rprop"),
    *l2("SGD"),
    *none("SparseAdam"),
]


def ours(name: str, rule: str, behaviour: str = "", **others: Any) -> Row:
    return Row(f"halflife.{name}", behaviour or rule, f"`{rule}`", {**others, "decay": rule})


OURS = [
    *(
        ours("AdamW", rule)
        for rule in ("decoupled", "independent", "constant", "corrected", "proximal", "cautious")
    ),
    ours("AdamW", "stable", "gradient_dependent"),
    ours("SGD", "l2"),
    ours("Lion", "decoupled"),
    ours("HeavyBall", "independent", momentum=0.9),
]

DECOUPLED = '"Apply weight decay to parameters"'
THEIRS = [
    Row("pytorch_optimizer.AdaBelief", "decoupled", DECOUPLED),
    Row(
        "pytorch_optimizer.AdaBelief",
        "l2",
        '"adding it to the gradient"',
        {"weight_decouple": False},
    ),
    Row(
        "pytorch_optimizer.AdaBelief",
        "constant",
        '"without scaling it by the learning rate"',
        {"fixed_decay": True},
    ),
    Row("pytorch_optimizer.AdaBound", "decoupled", DECOUPLED),
    Row("pytorch_optimizer.AdamC", "decoupled", "lr^2 only in groups with `normalized=True`"),
    Row("pytorch_optimizer.AdamP", "decoupled", DECOUPLED),
    Row("pytorch_optimizer.AdamS", "gradient_dependent", '"stable weight decay"'),
    Row("pytorch_optimizer.Adai", "l2", '"adding it to the gradient"'),
    Row("pytorch_optimizer.Adan", "l2", '"adding it to the gradient"'),
    Row("pytorch_optimizer.Lamb", "decoupled", DECOUPLED),
    Row("pytorch_optimizer.LaProp", "decoupled decoupled_after", DECOUPLED),
    Row("pytorch_optimizer.Lion", "decoupled", "`cautious` masks the update", {"cautious": True}),
    Row("pytorch_optimizer.MARS", "decoupled", "of matrices; vectors have `weight_decay_1d`"),
    Row("pytorch_optimizer.NovoGrad", "l2", '"adding it to the gradient"'),
    Row("pytorch_optimizer.Prodigy", "scaled", "decoupled, times the distance it estimates"),
    Row("pytorch_optimizer.RAdam", "decoupled", DECOUPLED),
    Row("pytorch_optimizer.SGDP", "scaled", f"{DECOUPLED}; code: times 1 / (1 - momentum)"),
    Row("pytorch_optimizer.SGDW", "decoupled", DECOUPLED),
    Row("pytorch_optimizer.SOAP", "decoupled decoupled_after", '"weight decay coefficient"'),
    Row("pytorch_optimizer.StableAdamW", "gradient_dependent", "at the lr that each tensor gets"),
    Row("pytorch_optimizer.Yogi", "decoupled", DECOUPLED),
    Row("optimi.Adam", "l2", '"applies L2 penalty"'),
    Row("optimi.AdamW", "decoupled", '"decoupled weight decay"'),
    Row("optimi.AdamW", "independent", '"fully decoupled"', {"decouple_lr": True}),
    Row("optimi.Adan", "proximal", "Adan's paper, Algorithm 1"),
    Row("optimi.Lion", "decoupled", '"decoupled weight decay"'),
    Row("optimi.SGD", "l2", '"applies L2 penalty"'),
    Row("optimi.SGD", "decoupled", '"decoupled weight decay"', {"decouple_wd": True}),
    Row("optimi.StableAdamW", "gradient_dependent", "at the lr that each tensor gets"),
    Row("lion_pytorch.Lion", "decoupled", '"lr * λ"'),
    Row("lion_pytorch.Lion", "independent", "wd over the first lr", SWITCHED),
    Row("came_pytorch.CAME", "l2", '"weight decay (L2 penalty)"'),
    Row("heavyball.AdamW", "decoupled", 'source: "Decoupled Weight Decay Regularization"'),
    Row("heavyball.AdamC", "corrected", '"weight-decay scaled by `lr / max_lr`"'),
    Row("heavyball.AdamW", "cautious", "the name", {"cautious_weight_decay": True}),
    Row("heavyball.NAdam", "l2", "not decoupled by default"),
    Row("heavyball.NAdam", "decoupled", "the name", SWITCHED),
    Row("heavyball.SGD", "", "not said"),
    Row("torchao.optim.Adam8bit", "l2", "the name, as in torch"),
    Row("torchao.optim.AdamW8bit", "decoupled", "the name, as in torch"),
    Row("torchao.optim.AdamW4bit", "decoupled", "the name, as in torch"),
    Row("schedulefree.AdamWScheduleFree", "averaged", "switch by `train()` and `eval()`"),
    Row("schedulefree.SGDScheduleFree", "averaged", "switch by `train()` and `eval()`"),
]

HEAD = """\
---
hide: [navigation, toc]
---

# What `weight_decay` does elsewhere

<!-- Written by scripts/probe_table.py, which runs every optimizer: edit that, not this. -->

The same argument stands for a dozen different updates. `halflife probe` finds out which, by running
an optimizer for a few steps on a few numbers, whatever its documentation says:

```console
$ halflife probe lion_pytorch.Lion --arg decoupled_weight_decay=True
$ halflife probe SGD Adam AdamW Adafactor
```

In Python, `halflife.diagnostics.probe("torch.optim.AdamW")` also takes a class, an instance with
its flags, or a function that makes one. `--json` prints the measurements.

In this table `g` is the gradient, `u` the direction of the update, `p` an lr that it remembers.

| behaviour | a step |
|---|---|
"""

READING = """
## Reading the tables

- **fraction / wd**: the share of the weights that a step removed, per unit of `weight_decay`, at
  lr 1/8 and then 1/16. Two steps with two lrs tell `lr` from `1`, `lr / p` and `lr^2 / p`.
- **scale-free**: the weights are the same after the gradients were multiplied by powers of two,
  another one for each coordinate, or only one for all; with `eps` at 0 where it may be.
- **lr multiplies**: the step; or the momentum, so that older gradients keep the lr of their own
  step; or nothing now (it acts later, or never); or the step is not in proportion to it.
- **bfloat16**: what is left of a decay of 2^-10 per step, by its effect after 64 steps with noise
  as gradients, relative to float32. One word where all implementations agree.
- **documented**: what the documentation says of that argument, and what the run says to that.

It does not see a decay that no `weight_decay` sets (`lambd` of ASGD), nor one that needs more than
ten steps, a model, or weights of another size (SaRA changes only small ones).
"""


def page(old: str = "") -> str:
    """The page; rows that cannot be run are taken from the old one."""
    rows = [f"| `{name}` | {text} |" for name, text in BEHAVIOURS.items()]
    parts = [HEAD + "\n".join(rows), surprises(), READING]
    for title, table in (
        (f"torch {torch.__version__.partition('+')[0]}", TORCH),
        ("halflife, with the rule as an argument", OURS),
        ("Other packages", THEIRS),
    ):
        parts.append(f"\n## {title}\n\n{head()}")
        for row in table:
            parts.append(line(row, old))
    parts.append(f"\n{LINKS}")
    return "\n".join(parts).replace("\n\n\n", "\n\n").rstrip() + "\n"


def head() -> str:
    names = ["optimizer", *COLUMNS[:2], "documented", *COLUMNS[2:], "default wd"]
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def line(row: Row, old: str = "") -> str:
    """One row of a table."""
    package = row.path.partition(".")[0]
    try:
        importlib.import_module(package)
    except ImportError:
        found = re.search(rf"^\| {re.escape(row.name)} \|.*$", old, flags=re.M)
        return found.group(0) if found else f"| {row.name} | not installed |"
    found = run(row)
    default = "-" if found.weight_decay is None else f"{found.weight_decay:g}"
    said = row.words
    if row.documented:
        agrees = found.behaviour in row.documented.split()
        said += f": {'confirmed' if agrees else '**contradicted**'}"
    if row.said_default not in (None, found.weight_decay):
        said += "; its default **contradicted**"
    behaviour, fraction, *others = found.cells()
    cells = [row.name, f"`{behaviour}`", fraction, said, *others, default]
    return f"| {' | '.join(cells)} |"


def run(row: Row) -> Probe:
    """The probe of one row."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        return probe(row.path, **row.arguments) if row.arguments else plain(row.path)


@functools.cache
def plain(path: str) -> Probe:
    """The probe of a class as it comes."""
    return probe(path)


# --- what surprised us: each sentence is computed, and fails when it is no longer so --------------


LINKS = "[sgd]: https://github.com/pytorch/pytorch/issues/191763"


def surprises() -> str:
    """The section of that name."""
    facts = (half_sgd, asgd, implementations, documented, scale, nadam, kahan)
    texts = [text for text in (" ".join(fact().split()) for fact in facts) if text]
    bullets = [
        textwrap.fill(f"- {t}", 100, subsequent_indent="  ", break_on_hyphens=False) for t in texts
    ]
    start = "\n## What surprised us\n\nThe script that writes this page runs each of these again.\n"
    return "\n".join([start, *bullets])


def half_sgd() -> str:
    ends = {}
    for fused in (False, True):
        w = torch.nn.Parameter(torch.ones(64, dtype=torch.bfloat16))
        optimizer = torch.optim.SGD([w], lr=0.1, fused=fused)
        w.grad = torch.full_like(w, 0.5)
        optimizer.step()
        ends[fused] = w.detach().float()
    assert bool((ends[True] == 1.0).all())
    assert bool((ends[False] < 1.0).all())
    return f"""`SGD(fused=True)` on the CPU does not train half-precision weights, and does not say
    so: 64 bfloat16 weights of 1 with the gradient 0.5 are {ends[False][0]:.4g} after a for-loop
    step at lr 0.1 and {ends[True][0]:g} after a fused one. Only what does not fill a vector
    register at the end of a tensor moves ([issue 191763][sgd] of torch, closed after 2.13)."""


def asgd() -> str:
    w = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = torch.optim.ASGD([w], lr=0.1, weight_decay=0.0)
    for _ in range(100):
        w.grad = torch.zeros_like(w)
        optimizer.step()
    assert w.item() < 0.9995
    return f"""ASGD decays at `weight_decay=0`, by `lambd=1e-4`: a weight of 1 without gradient is
    {w.item():.4f} after 100 steps at lr 0.1. And a step takes the lr that was set for the one
    before."""


def implementations() -> str:
    kept = plain("torch.optim.AdamW").bfloat16
    assert kept["for-loop"] == kept["foreach"] == 0.0
    assert float(kept["fused"] or 0.0) > 0.9
    assert {
        *plain("torch.optim.Muon").bfloat16.values(),
        *plain("torch.optim.Adafactor").bfloat16.values(),
    } == {0.0}
    return """The implementation decides whether bfloat16 weights decay: AdamW by for-loop or
    foreach rounds the decayed weights by themselves and loses all of a decay of 2^-10 per step;
    fused, it rounds once, with the update, and keeps it. Muon and Adafactor are not fused, and lose
    it. L2 survives, since the gradient carries it."""


def documented() -> str:
    muon, adafactor = torch.optim.Muon, torch.optim.Adafactor
    assert "L2 penalty" in str(muon.__doc__)
    assert plain("torch.optim.Muon").behaviour == "decoupled"
    assert "default: 1e-2" in str(adafactor.__doc__)
    assert plain("torch.optim.Adafactor").weight_decay == 0.0
    return """torch documents the decay of Muon as "L2 penalty", and it is decoupled; that of
    Adafactor as 1e-2 by default, and it is 0."""


def scale() -> str:
    adam, radam = plain("torch.optim.Adam"), plain("torch.optim.RAdam")
    assert (adam.scale_free, adam.scale_free_decayed) == ("by coordinate", "no")
    assert radam.scale_free == "no"
    return """With torch's L2, Adam depends on the scale of the loss; without decay, or with a
    decoupled one, it does not. RAdam always does: its first five steps are those of SGD."""


def nadam() -> str:
    try:
        import heavyball
    except ImportError:
        return ""
    w = torch.nn.Parameter(torch.full((2, 2), 3.0))
    with warnings.catch_warnings(), torch.compiler.set_stance("force_eager"):
        warnings.simplefilter("ignore")
        optimizer = heavyball.NAdam([w], lr=0.1, weight_decay=0.5)
        for _ in range(50):
            w.grad = torch.zeros_like(w)
            optimizer.step()
    assert w[0, 0].item() > 3.0
    return f"""heavyball's NAdam makes weights grow by its default decay: `wd w` joins the gradient,
    and is taken off the normalised update again. Weights of 3 without gradient are
    {w[0, 0].item():.3g} after 50 steps at lr 0.1 and weight_decay 0.5."""


def kahan() -> str:
    try:
        import optimi
    except ImportError:
        return ""
    w = torch.nn.Parameter(torch.linspace(0.25, 1.0, 64).bfloat16())
    optimizer = optimi.AdamW([w], lr=2.0**-6, weight_decay=2.0**-4)
    w.grad = torch.ones_like(w)
    optimizer.step()
    assert "kahan_comp" in optimizer.state[w]
    assert set(plain("optimi.AdamW").bfloat16.values()) == {0.0}
    return """optimi's Kahan summation, which turns itself on for bfloat16, does not cover the
    decay: the weights are multiplied before the compensated addition, and all of a decay of 2^-10
    per step is lost."""


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8") if PAGE.exists() else ""), "utf-8")
