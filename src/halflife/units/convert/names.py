"""Which convention a name means: our own, papers', and libraries'."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from .conventions import CONVENTIONS, Convention

__all__ = ["NAMES", "REFUSED", "Name", "convention_named"]


@dataclass(frozen=True)
class Name:
    """One name of a convention.

    Args:
        convention: its canonical name.
        meaning: where the name is from, and under which of its settings it means this.
        verified: whether the library's code was read or run for this table.
    """

    convention: str
    meaning: str
    verified: bool = True


NAMES: dict[str, Name] = {
    # --- papers and common words ---
    "decoupled": Name("torch", "the rule `Decoupled`"),
    "coupled": Name("torch", "what those call it who compare it with independent decay"),
    "adamw": Name("torch", "AdamW as libraries have it; the paper's is 'adamw_paper'"),
    "sgdw": Name("torch", "SGDW as libraries have it; the paper's is 'sgdw_paper'"),
    "adamw_paper": Name("independent", "Loshchilov & Hutter 2019, Algorithm 2"),
    "sgdw_paper": Name("independent", "Loshchilov & Hutter 2019, Algorithm 1"),
    "fully_decoupled": Name("independent", "optimi's word"),
    "loshchilov_hutter_normalized": Name("normalized", "Loshchilov & Hutter 2019, appendix B.1"),
    "hanson_pratt": Name("constant", "Hanson & Pratt 1988"),
    "adamc": Name("corrected", "Defazio 2025"),
    "sgdc": Name("corrected", "Defazio 2025"),
    "sgds": Name("stable", "Xie et al. 2023 on SGD"),
    "adams": Name("stable", "Xie et al. 2023 on Adam"),
    "swd": Name("stable", "Xie et al. 2023"),
    "proxadam": Name("proximal", '"Decay no more", 2023'),
    "adamprox": Name("proximal_independent", "Zhuang et al. 2022"),
    "total_decay": Name("total", "the strength `TotalDecay`"),
    "target_rms": Name("rms", "the strength `TargetRMS`"),
    "halflife": Name("half_life", "the strength `HalfLife`"),
    # --- libraries ---
    "torch.adamw": Name("torch", "torch.optim.AdamW; Adam with decoupled_weight_decay=True"),
    "torch.muon": Name("torch", "torch.optim.Muon"),
    "torch.sgd": Name("l2", "torch.optim.SGD"),
    "sgd": Name("l2", "SGD with an L2 term, as torch.optim.SGD"),
    "optax.adamw": Name("torch", "optax.adamw, its default 1e-4"),
    "optax.lion": Name("torch", "optax.lion, its default 1e-3", verified=False),
    "optax.adafactor": Name("constant", "optax.adafactor: weight_decay_rate is added after the lr"),
    "keras": Name("torch", "weight_decay of Keras 3 optimizers; AdamW's default is 4e-3"),
    "timm": Name("torch", "timm's AdamW and others"),
    "timm.corrected": Name("corrected", "timm with corrected_weight_decay=True"),
    "optimi": Name("torch", "optimi, decouple_lr=False"),
    "optimi.decouple_lr": Name("independent", "optimi with decouple_lr=True, at its max_lr"),
    "composer": Name("independent", "MosaicML Composer's DecoupledAdamW, DecoupledSGDW"),
    "mosaicml": Name("independent", "MosaicML Composer's DecoupledAdamW, DecoupledSGDW"),
    "deepspeed": Name("torch", "DeepSpeed's FusedAdam, CPUAdam, adam_w_mode=True", verified=False),
    "apex": Name("torch", "apex FusedAdam, adam_w_mode=True", verified=False),
    "bitsandbytes": Name("decay_after", "bitsandbytes AdamW: the decay multiplies the result"),
    "fairseq": Name("torch", "fairseq's adam", verified=False),
    "tensorflow_addons": Name(
        "constant", "tfa.optimizers.AdamW, SGDW: unscheduled unless you schedule weight_decay too"
    ),
    "tfa": Name("constant", "tensorflow_addons, unless weight_decay is scheduled by hand"),
    "flashoptim": Name("torch", "FlashOptim, decouple_lr=False"),
    "flashoptim.decouple_lr": Name("independent", "FlashOptim with decouple_lr=True"),
    "pytorch_optimizer": Name("torch", "pytorch_optimizer, weight_decouple=True"),
    "pytorch_optimizer.fixed_decay": Name("constant", "pytorch_optimizer, fixed_decay=True"),
    "lion_pytorch": Name("torch", "lion-pytorch"),
    "lion_pytorch.decoupled": Name(
        "independent", "lion-pytorch, decoupled_weight_decay=True: the number as you pass it"
    ),
    "heavyball": Name("torch", "HeavyBall's optimizers"),
}

_ELEMENTWISE = (
    "each weight has a fraction of its own there, so no coefficient of another rule is equal; "
    "compare at the same measured weight norm instead"
)
_ADAPTIVE = (
    "an L2 term in an adaptive optimizer is divided by sqrt(v), each weight by its own, so no "
    "decay coefficient is equal to it (Loshchilov & Hutter 2019, Proposition 2); start from a "
    "timescale instead"
)
REFUSED: dict[str, str] = {
    **dict.fromkeys(
        ("adam", "adam_l2", "torch.adam", "adagrad", "rmsprop", "adamax", "nadam", "radam"),
        _ADAPTIVE,
    ),
    **dict.fromkeys(
        ("cautious", "huber", "l1", "proximal_l1", "preconditioned", "adamp", "power"),
        _ELEMENTWISE,
    ),
    "anchored": "it decays toward the anchor at the inner rule's fraction: convert that number",
    "schedule_free": (
        "it decays a sequence that is not the weights you evaluate, so no fraction of the weights "
        "is removed; keep its own weight_decay"
    ),
}


def convention_named(name: str, role: str) -> Convention:
    """The convention of a name.

    Args:
        name: canonical or alias; upper case, dashes and spaces do not matter.
        role: "source" or "target", for the message.

    Raises:
        ValueError: for a name that has no conversion, with the reason, or an unknown one, with the
            nearest known.

    Example:
        >>> convention_named("Composer", "source").name
        'independent'
    """
    key = str(name).strip().lower().replace("-", "_").replace(" ", "_")
    if key in REFUSED:
        raise ValueError(f"{role}={name!r} has no conversion: {REFUSED[key]}.")
    if key in NAMES:
        key = NAMES[key].convention
    if key not in CONVENTIONS:
        known = sorted({*CONVENTIONS, *NAMES})
        near = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(
            f"{role}={name!r}: unknown convention; {hint}The conventions are "
            f"{', '.join(CONVENTIONS)}; halflife.units.convert.NAMES lists the names of libraries."
        )
    return CONVENTIONS[key]
