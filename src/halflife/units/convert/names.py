"""Which convention a name means: our own, papers', and libraries'."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from ...rules import DecayMap, DecayRule
from ...rules.published import L2_ON_SGD, NORMALIZED, PUBLISHED
from .conventions import CONVENTIONS, FIXED
from .kinds import Convention, RuleConvention

__all__ = ["NAMES", "REFUSED", "Name", "convention_named", "name_of"]


@dataclass(frozen=True)
class Name:
    """One name of a convention.

    Args:
        convention: its canonical name.
        meaning: where the name is from, and under which of its settings it means this.
        verified: whether the library's code was read or run for this table.
        note: what a conversion from or to it says besides.
        optimizer: "lion" or "sgd" where the name is theirs alone, for predictions of RMS and
            rotation.
        at_zero: whether it decays at lr 0 too, where the convention does not.
    """

    convention: str
    meaning: str
    verified: bool = True
    note: str = ""
    optimizer: str | None = None
    at_zero: bool = False


_ON_ADAI = ("adais", "adai_s")  # its effective rate is 1: the stable rule is lr-coupled there
# Of published names, what a reader should know besides.
_REMARKS = {
    "adamw": "AdamW as libraries have it; the paper's is 'adamw_paper'",
    "adamw_paper": "Loshchilov & Hutter 2019, Algorithm 2",
    "sgdw": "Loshchilov & Hutter 2019, Algorithm 1; that of libraries is lr-coupled: 'timm.sgdw'",
    "sgdw_paper": "Loshchilov & Hutter 2019, Algorithm 1",
    "hanson_pratt": "Hanson & Pratt 1988",
    "adamc": "Defazio 2025",
    "sgdc": "Defazio 2025",
    "sgds": "Xie et al. 2023 on SGD",
    "adams": "Xie et al. 2023 on Adam",
    "adais": "Xie et al. 2023 on Adai, whose effective rate is 1",
    "adai_s": "Xie et al. 2023 on Adai, whose effective rate is 1",
    "swd": "Xie et al. 2023",
    "adamprox": "Zhuang et al. 2022",
    "proxadam": '"Decay no more", 2023',
}


def _published() -> dict[str, Name]:
    """The catalogue's names: the convention whose rule theirs is."""
    by_rule = {
        c.rule: name
        for name, c in CONVENTIONS.items()
        if isinstance(c, RuleConvention) and name != "l2"
    }
    names = {}
    for name, rule in PUBLISHED.items():
        convention = "l2" if name in L2_ON_SGD else by_rule.get(rule)
        if name in _ON_ADAI:
            convention = "decoupled"
        if convention is None or name in NORMALIZED:
            continue
        remark = _REMARKS.get(name, f"published; the rule `{rule!r}`")
        note = "that of libraries is lr-coupled: 'timm.sgdw'" if name == "sgdw" else ""
        optimizer = "lion" if name == "lion" else "sgd" if name.startswith("sgd") else None
        names[name] = Name(convention, remark, note=note, optimizer=optimizer)
    return names


_FIXED = "decays at lr 0 too, where `constant` does not"
_COMPOSER = "MosaicML Composer's DecoupledAdamW, DecoupledSGDW"
_BNB = "bitsandbytes' AdamW, AdEMAMix (32 and 8 bits, paged)"

NAMES: dict[str, Name] = {
    # --- papers and common words ---
    **_published(),
    "torch": Name("decoupled", "torch's AdamW, Adam with decoupled_weight_decay=True, Muon"),
    "decay_after": Name("decoupled_after", "a word for it"),
    "coupled": Name("decoupled", "what those call it who compare it with independent decay"),
    "fully_decoupled": Name("independent", "optimi's word"),
    "loshchilov_hutter_normalized": Name("normalized", "Loshchilov & Hutter 2019, appendix B.1"),
    "total_decay": Name("total", "the strength `TotalDecay`"),
    "target_rms": Name("rms", "the strength `TargetRMS`"),
    "halflife": Name("half_life", "the strength `HalfLife`"),
    # --- libraries ---
    "torch.adamw": Name("decoupled", "torch.optim.AdamW; Adam with decoupled_weight_decay=True"),
    "torch.muon": Name("decoupled", "torch.optim.Muon"),
    "torch.sgd": Name("l2", "torch.optim.SGD", optimizer="sgd"),
    "sgd": Name("l2", "SGD with an L2 term, as torch.optim.SGD", optimizer="sgd"),
    "optax.adamw": Name("decoupled", "optax.adamw, its default 1e-4"),
    "optax.lion": Name("decoupled", "optax.lion, its default 1e-3", optimizer="lion"),
    "optax.adafactor": Name(
        "constant", f"optax.adafactor: weight_decay_rate is added after the lr; {_FIXED}",
        at_zero=True,
    ),
    "keras": Name("decoupled", "weight_decay of Keras 3 optimizers; AdamW's default is 4e-3"),
    "timm": Name(
        "decoupled",
        "timm's adamw, adamwlegacy, nadamw, radamw, adoptw, adanw and lion; rmsproptf with "
        "decoupled_decay=True",
        note="timm's adam, sgd, nadam, radam, adopt and rmsproptf have an L2 term",
    ),
    "timm.sgdw": Name("decoupled", "timm's sgdw", optimizer="sgd"),
    "timm.laprop": Name("decoupled_after", "timm's laprop"),
    "timm.adan": Name("proximal", "timm's adan; adanw, with no_prox=True, is 'timm'"),
    "timm.corrected": Name(
        "corrected",
        "timm with corrected_weight_decay=True: adamc, nadamc, sgdc, adoptc, lionc, rmsproptfc; at "
        "the lr of construction as its peak",
    ),
    "optimi": Name("decoupled", "optimi, decouple_lr=False"),
    "optimi.decouple_lr": Name("independent", "optimi with decouple_lr=True, at its max_lr"),
    "composer": Name("independent", _COMPOSER),
    "mosaicml": Name("independent", _COMPOSER),
    "deepspeed": Name("decoupled", "DeepSpeed's FusedAdam, CPUAdam, adam_w_mode=True"),
    "apex": Name("decoupled", "apex FusedAdam, adam_w_mode=True", verified=False),
    "bitsandbytes": Name(
        "decoupled_after", f"{_BNB} on CUDA: the decay multiplies the result",
        note="on CUDA only; on other devices it decays before the step: 'bitsandbytes.cpu'",
    ),
    "bitsandbytes.cpu": Name(
        "decoupled", f"{_BNB} elsewhere: its default (CPU, MPS) and triton (XPU) code decays before"
    ),
    "fairseq": Name("decoupled", "fairseq's adam", verified=False),
    "tensorflow_addons": Name(
        "constant",
        f"tfa.optimizers.AdamW, SGDW: unscheduled unless you schedule weight_decay too; {_FIXED}",
        at_zero=True,
    ),
    "tfa": Name(
        "constant", f"tensorflow_addons, unless weight_decay is scheduled by hand; {_FIXED}",
        at_zero=True,
    ),
    "flashoptim": Name("decoupled", "FlashOptim, decouple_lr=False"),
    "flashoptim.decouple_lr": Name("independent", "FlashOptim with decouple_lr=True"),
    "pytorch_optimizer": Name("decoupled", "pytorch_optimizer, weight_decouple=True"),
    "pytorch_optimizer.fixed_decay": Name(
        "constant", f"pytorch_optimizer, fixed_decay=True; {_FIXED}", at_zero=True
    ),
    "lion_pytorch": Name("decoupled", "lion-pytorch", optimizer="lion"),
    "lion_pytorch.decoupled": Name(
        "independent", "lion-pytorch, decoupled_weight_decay=True: the number as you pass it",
        optimizer="lion",
    ),
    "heavyball": Name("decoupled", "HeavyBall's optimizers"),
}  # fmt: skip

_ELEMENTWISE = (
    "each weight has a fraction of its own there, so no coefficient of another rule is equal; "
    "compare at the same measured weight norm instead"
)
_ADAPTIVE = (
    "an L2 term in an adaptive optimizer is divided by sqrt(v), each weight by its own, so no "
    "decay coefficient is equal to it (Loshchilov & Hutter 2019, Proposition 2); start from a "
    "timescale instead"
)
_FOLLOWS = (
    "its fraction follows the gradients and weights of each step, so no coefficient of another "
    "rule is equal; compare at the same measured weight norm instead"
)
_CYCLE = (
    "its number is normalized by the length of the cycle, as its schedule computes it: convert "
    "that as 'normalized', with the cycle's epochs"
)


def _why_not(name: str, rule: DecayRule) -> str:
    if name in NORMALIZED:
        return _CYCLE
    if rule.joins_gradient:
        return _ADAPTIVE
    return _ELEMENTWISE if isinstance(rule, DecayMap) else _FOLLOWS


REFUSED: dict[str, str] = {
    **dict.fromkeys(("adam", "torch.adam", "adamax"), _ADAPTIVE),
    **dict.fromkeys(
        ("cautious", "huber", "l1", "proximal_l1", "preconditioned", "adamp", "power"), _ELEMENTWISE
    ),
    **{name: _why_not(name, rule) for name, rule in PUBLISHED.items() if name not in NAMES},
    "adaptive": _FOLLOWS,
    "anchored": "it decays toward the anchor at the inner rule's fraction: convert that number",
    "schedule_free": (
        "it decays a sequence that is not the weights you evaluate, so no fraction of the weights "
        "is removed; keep its own weight_decay"
    ),
}


def _key(name: object) -> str:
    return str(name).strip().lower().replace("-", "_").replace(" ", "_")


def name_of(name: object) -> Name | None:
    """What the table says of a name as people write it; None for others.

    Example:
        >>> name_of("Composer").convention
        'independent'
    """
    return NAMES.get(_key(name))


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
    key = _key(name)
    if key in REFUSED:
        raise ValueError(f"{role}={name!r} has no conversion: {REFUSED[key]}.")
    if key in NAMES:
        if NAMES[key].at_zero:
            return FIXED
        key = NAMES[key].convention
    if key not in CONVENTIONS:
        known = sorted({*CONVENTIONS, *NAMES})
        near = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(
            f"{role}={name!r}: unknown convention; {hint}The conventions are "
            f"{', '.join(CONVENTIONS)}; the page on units lists the names of libraries."
        )
    return CONVENTIONS[key]
