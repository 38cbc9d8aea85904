"""Hugging Face's Trainer: our optimizers, and the decay watched in its log.

trainer = Trainer(
    model, args, train_dataset=data,
    optimizer_cls_and_kwargs=optimizer_cls_and_kwargs(
        args, weight_decay=HalfLife(steps=5000), decay="independent"
    ),
)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from halflife.optim import AdamW

try:
    from transformers import Trainer, TrainingArguments
except ImportError as error:
    raise ImportError(
        f"halflife.integrations.transformers needs the extra 'hf' ({error}): "
        "pip install torch-halflife[hf]"
    ) from error

__all__ = ["optimizer_cls_and_kwargs", "trainer_groups"]


def trainer_groups(model: nn.Module) -> list[dict[str, Any]]:
    """The Trainer's own grouping: no decay for LayerNorm, nor where "bias" or "norm" is in a name.

    Args:
        model: the model; parameters that need no gradient are left out.

    Returns:
        The group that decays, with the optimizer's ``weight_decay``, and the one that does not.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
        >>> [(len(g["params"]), g.get("weight_decay")) for g in trainer_groups(model)]
        [(1, None), (3, 0.0)]
    """
    decaying = set(Trainer.get_decay_parameter_names(None, model))
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in named if name in decaying]},
        {"params": [p for name, p in named if name not in decaying], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def optimizer_cls_and_kwargs(
    args: TrainingArguments,
    optimizer: Callable[..., Optimizer] = AdamW,
    *,
    groups: Callable[[nn.Module], list[dict[str, Any]]] = trainer_groups,
    **settings: Any,
) -> tuple[Callable[[], Callable[..., Optimizer]], dict[str, Any]]:
    """What ``Trainer(optimizer_cls_and_kwargs=...)`` takes, for an optimizer with a decay rule.

    The Trainer writes ``args.weight_decay``, a number, into the groups it makes, which leaves no
    room for a strength. So it is given a function that makes the groups, once the Trainer has the
    model as it will be trained.

    Args:
        args: the Trainer's arguments. ``learning_rate`` and ``weight_decay`` are taken from them,
            and for Adam and AdamW ``adam_beta1``, ``adam_beta2`` and ``adam_epsilon``.
        optimizer: the optimizer's class.
        groups: makes the groups of a model. Default: as the Trainer does; `halflife.param_groups`
            is another.
        **settings: arguments of the optimizer, which come before those from `args`:
            ``weight_decay=HalfLife(steps=5000), decay="independent"``.

    Example:
        >>> args = TrainingArguments(learning_rate=0.01, weight_decay=0.1, report_to=[])
        >>> make, settings = optimizer_cls_and_kwargs(args, decay="independent")
        >>> optimizer = make()(nn.Linear(2, 2), **settings)
        >>> [(group["decay"], group["weight_decay"]) for group in optimizer.param_groups]
        [(Independent(), 0.1), (Independent(), 0.0)]
    """
    own: dict[str, Any] = {"lr": args.learning_rate, "weight_decay": args.weight_decay}
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Adam):
        own |= {"betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}

    def build(model: nn.Module, **settings: Any) -> Optimizer:
        return optimizer(groups(model), **settings)

    # To the Trainer, what is no optimizer class makes a function that is called with the model.
    return lambda: build, own | settings
