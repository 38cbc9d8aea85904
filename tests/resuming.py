"""The ways in which a training is stopped and resumed."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import torch


def via_state_dict(optimizer: Any, params: list[torch.Tensor], make: Any) -> tuple[Any, Any]:
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    fresh_params = [torch.nn.Parameter(p.detach().clone()) for p in params]
    fresh = make(fresh_params)
    fresh.load_state_dict(torch.load(file))  # the defaults: weights_only
    return fresh, fresh_params


def via_deepcopy(optimizer: Any, params: list[torch.Tensor], make: Any) -> tuple[Any, Any]:
    copied = copy.deepcopy(optimizer)
    return copied, [p for g in copied.param_groups for p in g["params"]]


def via_pickle(optimizer: Any, params: list[torch.Tensor], make: Any) -> tuple[Any, Any]:
    copied = pickle.loads(pickle.dumps(optimizer))
    return copied, [p for g in copied.param_groups for p in g["params"]]


WAYS = [via_state_dict, via_deepcopy, via_pickle]
