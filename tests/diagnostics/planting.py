"""A healthy training, and the list of faults that can be planted into it.

Each builder plants one fault; its decorator says which findings of severity warning or error must
come of it, all of them and no other, with the parameters they must name.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from halflife.groups import param_groups

STEPS = 400
FAULTS = {}


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.up = nn.Linear(8, 16)
        self.down = nn.Linear(16, 8)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(12, 8)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(8, 12, bias=False)


MATRICES = {"embedding.weight", "head.weight"} | {
    f"blocks.{i}.{name}.weight" for i in (0, 1) for name in ("up", "down")
}
BIASES = {f"blocks.{i}.{name}.bias" for i in (0, 1) for name in ("norm", "up", "down")}
GAINS = {f"blocks.{i}.norm.weight" for i in (0, 1)}


def healthy(model=None, cls=torch.optim.AdamW, weight_decay=0.5, lr=1e-3, **kwargs):
    model = Net() if model is None else model
    return model, cls(param_groups(model), lr=lr, weight_decay=weight_decay, **kwargs)


def cosine(step):
    """From the peak to a tenth of it."""
    return 0.55 + 0.45 * math.cos(math.pi * step / STEPS)


def plant(*codes, names=None, **kwargs):
    """Register a builder of (model, optimizer) or (model, optimizer, more arguments)."""

    def register(build):
        arguments = {"schedule": cosine, "steps": STEPS} | kwargs
        FAULTS[build.__name__] = (build, set(codes), names or {}, arguments)
        return build

    return register
