"""Published algorithms by name: an optimizer, a decay rule and the paper's settings.

    optimizer = create("adams", model.parameters(), lr=3e-4)
    print(algorithms())

A name means what its paper says, in the unit of its paper. Where a published name has several
meanings, the keys have an addition and the bare name is refused, with what to choose from.
"""

from __future__ import annotations

import difflib
from typing import Any

from .baselines import BASELINES
from .entry import Algorithm as Algorithm
from .entry import Algorithms as Algorithms
from .papers import PAPERS

__all__ = ["Algorithm", "Algorithms", "algorithm", "algorithms", "create"]

# Published names that are no key: what each can mean, and the key of what is here.
AMBIGUOUS: dict[str, str] = {
    "adam": "with L2 regularization, torch's weight_decay ('adam_l2'), or one of the others: "
    "'adamw', 'adams', 'adamprox'",
    "sgd": "with L2 regularization, torch's weight_decay ('sgd_l2'), or one of the others: "
    "'sgdw', 'sgds', 'sgd_hanson_pratt'",
    "adamp": "of Schaipp 2023, Decay no more ('adamp_blog'), or of Heo et al. 2021, which projects "
    "the update and is not here",
    "adamprox_l2": "for the squared norm ('adamprox'), or for the norm itself ('adamproxl2')",
    "adamd": "of Zhou et al. 2024, with decay that falls exponentially ('adamw_d', 'l2_adam_d'), "
    "or of St John 2021, which is not here",
    "l2_adam": "as in torch ('adam_l2'), or as analysed by Zhou et al. 2024 ('l2_adam_003')",
    "swd": "stable weight decay on Adam ('adams'), on SGD ('sgds') or on Adai ('adais')",
    "cadamw": "with cautious weight decay ('cautious_adamw'), or the cautious optimizer of Liang "
    "et al. 2024, which masks the update and is not here",
    "cwd": "cautious weight decay on AdamW ('cautious_adamw'), or on any optimizer: "
    "decay='cautious'",
}


def algorithms() -> Algorithms:
    """Every algorithm of the catalogue, those of the papers on weight decay first.

    Example:
        >>> [entry.name for entry in algorithms() if entry.rule_name == "Stable()"]
        ['sgds', 'adams', 'adais']
    """
    return Algorithms([*PAPERS, *BASELINES])


def algorithm(name: str) -> Algorithm:
    """The entry of a published name: its key or an alias, in any case, "-" or "_".

    Raises:
        ValueError: for an unknown name, naming the nearest ones, and for one with several
            meanings, naming these.
        TypeError: if the name is no string.

    Example:
        >>> print(algorithm("AdamProx"))
        adamprox: w = (w - eta alpha u) / (1 + eta lambda)
          Zhuang et al. 2022, Understanding AdamW through proximal methods and scale-freeness, ...
          AdamW + Proximal(rule=Independent()), lr=0.001, weight_decay=0.0001
    """
    if not isinstance(name, str):
        raise TypeError(f"name={name!r}: must be the name of an algorithm, such as 'adamw'.")
    key = name.strip().lower().replace("-", "_").replace(" ", "_")
    if key in _BY_NAME:
        return _BY_NAME[key]
    if key in AMBIGUOUS:
        raise ValueError(f"name={name!r} has several meanings: {AMBIGUOUS[key]}.")
    near = difflib.get_close_matches(key, [*_BY_NAME, *AMBIGUOUS], n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "see algorithms()."
    raise ValueError(f"name={name!r}: unknown algorithm; {hint}")


def create(name: str, params: Any, **overrides: Any) -> Any:
    """The optimizer that a published name means, by the paper's settings.

    Args:
        name: key or alias; see `algorithms`.
        params: parameters, named parameters, or groups.
        **overrides: what to set otherwise: any argument of the optimizer. ``weight_decay`` is a
            number in the paper's unit, or a strength such as ``HalfLife(steps=5000)``.

    Returns:
        The optimizer. If the algorithm has a schedule, ``algorithm(name).schedule`` builds it.

    Raises:
        ValueError: for a name that is unknown, ambiguous, or no torch optimizer.
        TypeError: if the name is no string.

    Example:
        >>> import torch
        >>> optimizer = create("sgds", [torch.zeros(2, requires_grad=True)], lr=0.5)
        >>> group = optimizer.param_groups[0]
        >>> group["decay"], group["lr"], group["momentum"], group["weight_decay"]
        (Stable(), 0.5, 0.9, 0.0005)
    """
    return algorithm(name).create(params, **overrides)


_BY_NAME = {key: entry for entry in algorithms() for key in (entry.name, *entry.aliases)}
