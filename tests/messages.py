"""Errors whose whole message is compared, and the small trainings that raise them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from halflife import AdamW, decayed


def weight() -> list[torch.Tensor]:
    return [torch.nn.Parameter(torch.ones(2))]


def group(**entries: Any) -> list[dict[str, Any]]:
    return [{"params": weight(), **entries}]


Case = tuple[Callable[[], Any], type[Exception], str]


def stepped(lr: float, to: float, **arguments: Any) -> None:
    params = weight()
    optimizer = AdamW(params, lr=lr, **arguments)
    params[0].grad = torch.ones(2)
    optimizer.param_groups[0]["lr"] = to
    optimizer.step()


def decayed_step(base: Any, rule: str) -> None:
    params = weight()
    optimizer = decayed(base)(params, weight_decay=0.1, decay=rule)
    params[0].grad = torch.ones(2)
    optimizer.step()


def check_message(run: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        run()
    assert message in str(caught.value)


def check_sentence(run: Callable[[], Any], error: type[Exception], message: str) -> None:
    """One sentence with a remedy."""
    with pytest.raises(error) as caught:
        run()
    text = str(caught.value)
    assert "\n" not in text
    if not text.startswith("Invalid"):  # torch's own
        assert ":" in text
