"""SGD with the learning rate inside the momentum buffer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...reduction import real
from .optimizer import Group, Lists, NativeOptimizer, State, scalar

__all__ = ["HeavyBall"]


class HeavyBall(NativeOptimizer):
    r"""``m <- momentum m + lr g``, ``w <- w - m``: the buffer holds steps, not gradients.

    ``torch.optim.SGD`` multiplies by the lr after the buffer. The two agree as long as the lr is
    constant; when it changes, each gradient keeps here the lr it came with, also in a step taken
    at ``lr = 0``, which therefore still moves the weights. Source: Loshchilov & Hutter 2019,
    Algorithm 1; Sutskever et al. 2013; the heavy ball of Polyak 1964.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1e-3 (torch's of SGD).
        momentum: factor of the buffer. Default 0.9.
        foreach: multi-tensor implementation; None: where torch has kernels for it.
        maximize: ascend instead of descend.

    Raises:
        ValueError: for a value out of range.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> w.grad = torch.tensor([1.0])
        >>> optimizer = HeavyBall([w], lr=0.25, momentum=0.5)
        >>> optimizer.step()
        >>> optimizer.param_groups[0]["lr"] = 0.0
        >>> optimizer.step()
        >>> w.item()  # 1 - 0.25 - 0.125
        0.625
    """

    _counts_steps = False

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.9,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"Invalid momentum value: {momentum}")
        defaults = {"lr": lr, "momentum": momentum, "foreach": foreach, "maximize": maximize}
        super().__init__(params, defaults)

    def _initial(self, group: Group) -> dict[str, float]:
        return {"momentum_buffer": 0.0}

    def _lists(self, group: Group) -> Lists:
        params = [p for p in group["params"] if p.grad is not None]
        for p in params:
            if p.grad.is_sparse:
                raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        buffers = [real(self.state[p]["momentum_buffer"]) for p in params]
        grads = [real(p.grad) for p in params]
        return Lists([real(p) for p in params], grads, {"momentum_buffer": buffers})

    def _single(self, group: Group, p: Tensor, grad: Tensor, state: State) -> None:
        p.sub_(state["momentum_buffer"].mul_(group["momentum"]).add_(grad * scalar(group["lr"])))

    def _multi(self, group: Group, lists: Lists) -> None:
        params, grads, state = lists
        buffers = state["momentum_buffer"]
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, torch._foreach_mul(grads, scalar(group["lr"])))
        torch._foreach_sub_(params, buffers)
