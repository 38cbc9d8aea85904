"""Optimizers of other packages that have one of our rules, each with the setting that gives it.

    pip install --group third-party      # without them, their rows say so

What each does was read in its source, and the tests compare its weights with our rule's.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch
from torch.optim import Optimizer

from .workbench import Workbench

ADAM_STATE = {"exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq"}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


@dataclass(frozen=True)
class Peer:
    """One setting of a package's optimizer.

    Args:
        module: its package.
        optimizer: its class there.
        against: our candidate with the same base and rule.
        setting: its arguments, beyond those of every Adam.
        group: entries of the parameter group, where the setting is not an argument.
        state: its name for each of the reference's state tensors; None if it makes its own.
        reference: whose state it shares, "adamw" or "sgd".
        since: the lowest version that does so, where an older one may be met.
        compiles: it compiles the whole list of parameters at once, which takes longer than all
            else here; measured without.
    """

    module: str
    optimizer: str
    against: str
    setting: dict[str, Any] = field(default_factory=dict)
    group: dict[str, Any] = field(default_factory=dict)
    state: dict[str, str] | None = field(default_factory=lambda: dict(ADAM_STATE))
    reference: str = "adamw"
    since: str | None = None
    compiles: bool = False

    @property
    def name(self) -> str:
        """The package, the class and the setting."""
        told = [f"{k}={v}" for k, v in {**self.setting, **self.group}.items() if k != "momentum"]
        return " ".join([f"{self.module}.{self.optimizer}", *told, *["eager"] * self.compiles])

    def make(self, params: list[torch.nn.Parameter], lr: float, weight_decay: float) -> Optimizer:
        """The optimizer, without state.

        Raises:
            ImportError: without the package, or with one that is too old.
        """
        module = importlib.import_module(self.module)
        if self.since and _numbers(version(self.module)) < _numbers(self.since):
            raise ImportError(f"{self.module} {self.since} or newer is needed")
        if self.compiles:
            module.utils.compile_mode = None
        cls = getattr(module, self.optimizer)
        arguments = {"lr": lr, "weight_decay": weight_decay, **self.setting}
        if self.against.startswith("AdamW"):
            arguments |= {"betas": (0.9, 0.999), "eps": 1e-8}
        elif self.against.startswith("Lion"):
            arguments["betas"] = (0.9, 0.99)
        return cls([{"params": params, **self.group}], **arguments)

    def on(self, bench: Workbench, lr: float, weight_decay: float) -> Optimizer:
        """The optimizer on a model's tensors."""
        optimizer = self.make(bench.params, lr, weight_decay)
        if self.state is not None:
            bench.sharing(getattr(bench, self.reference), optimizer, **self.state)
            if self.module == "optimi":
                for p in bench.params:  # by whose absence it knows that there is no state yet
                    optimizer.state[p]["kahan_comp"] = None
        return optimizer


PEERS = [
    Peer("optimi", "AdamW", "AdamW Decoupled", {"decouple_lr": False}),
    Peer("optimi", "AdamW", "AdamW Independent", {"decouple_lr": True}),
    Peer("optimi", "AdamW", "AdamW Independent", {"decouple_lr": True, "foreach": True}),
    Peer("pytorch_optimizer", "AdamC", "AdamW Constant", {"fixed_decay": True}),
    Peer("pytorch_optimizer", "AdamC", "AdamW Corrected", group={"normalized": True}),
    Peer("heavyball", "AdamC", "AdamW Corrected", state=None, since="3.0", compiles=True),
    Peer("pytorch_optimizer", "AdamS", "AdamW Stable"),
    Peer(
        "heavyball",
        "AdamW",
        "AdamW Cautious",
        {"cautious_weight_decay": True},
        state=None,
        since="3.0",
        compiles=True,
    ),
    Peer(
        "optimi",
        "SGD",
        "SGD Decoupled",
        {"decouple_wd": True, "momentum": 0.9},
        state={"exp_avg": "momentum_buffer"},
        reference="sgd",
    ),
    Peer("lion_pytorch", "Lion", "Lion Decoupled", state={"exp_avg": "exp_avg"}),
    Peer("optimi", "Lion", "Lion Decoupled", {"decouple_lr": False}, state={"exp_avg": "exp_avg"}),
    Peer("pytorch_optimizer", "Lion", "Lion Decoupled", state={"exp_avg": "exp_avg"}),
]
