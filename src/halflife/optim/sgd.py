"""SGD, with the decay rule as an argument."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ..bases.bench import unnoticed
from ..mechanism.compiled import Compilable
from ..mechanism.known import Known
from ..mechanism.settings import refuse_unknown, tensors_of
from ..rules.contract import DecayRule, RuleName
from ..rules.scalar import L2Regularization
from ..tensors import rounding
from ..units.strength import Strength

__all__ = ["SGD"]

BUFFER = "momentum_buffer"


class SGD(Compilable, torch.optim.SGD):
    r"""``torch.optim.SGD`` with an explicit decay rule; by default torch's own, bit for bit.

    torch's SGD knows L2 only, so the other rules multiply the weights in a pass of their own.
    With ``foreach`` and ``fused`` both left open, the fused kernel is used wherever torch has one
    that can take this step: dense real floating-point parameters, no sparse gradient, and, with
    dampening, no parameter whose first gradient comes later than the others'.
    Nor where it leaves half-precision weights as they are, as on the CPU in torch 2.13.

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1e-3 (torch's).
        momentum: factor of the momentum buffer. Default 0.
        dampening: 1 minus the weight of a new gradient in the buffer. Default 0.
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.
        nesterov: look-ahead momentum.
        maximize: ascend instead of descend.
        foreach: multi-tensor implementation; None leaves it open.
        differentiable: let autograd pass through the step.
        fused: fused implementation; None leaves it open.
        decay: the decay rule, or its name. Default ``L2Regularization()``, as in torch.
        peak_lr: the schedule's highest lr. A strength needs it under every rule, a number under
            those that divide by it. Default: the group's lr at construction.
        implementation: "native" for torch's own, or "compiled": update and elementwise rule in one
            pass over the memory, by torch.compile (some seconds for each rule at the first step).
            For `Cautious` and the other elementwise maps, which take passes of their own otherwise;
            the rules that are numbers gain nothing in float32, and on a GPU in no precision. None:
            compiled on an accelerator that torch.compile has a backend for (Triton), where it was
            measured to be the faster one: such a map of half-precision weights, whose whole update
            is then rounded stochastically, or one that needs the preconditioner. Not where
            ``foreach``, ``fused`` or ``capturable`` is given, nor under a gradient scaler; native
            otherwise, and where compiling fails, which is said once. A map beside torch's step
            holds some temporaries of the largest tensor there, a compiled one none. A compiled step
            is refused with ``foreach``, ``fused``, ``differentiable``, rules with a
            norm, and complex parameters.

    Example:
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4,
        ...                 decay="independent")  # SGDW as in its paper
    """

    default_rule = L2Regularization()
    prefers_fused = True

    @refuse_unknown
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor | Strength = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        decay: DecayRule | RuleName | None = None,
        peak_lr: float | None = None,
        implementation: Literal["compiled", "native"] | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
            foreach=foreach,
            differentiable=differentiable,
            fused=fused,
            decay=decay,
            peak_lr=peak_lr,
            implementation=implementation,
        )

    @classmethod
    def _checked(cls, given: dict[str, Any], label: str) -> dict[str, Any]:
        """Refuse a group that is to be fused, where torch's kernel would not train its weights."""
        if given["fused"] and not _fused_trains(tensors_of(given["params"])):
            raise ValueError(
                f"fused=True of {label}: this torch's fused SGD leaves half-precision weights on "
                "the CPU as they are; leave fused out, or train in float32."
            )
        return super()._checked(given, label)

    def _fits(self, known: Known, group: dict[str, Any]) -> bool:
        if not super()._fits(known, group):
            return False
        if known.halves and not _fused_trains(group["params"]):
            return False
        grads = [p.grad for p in group["params"]]
        if True in [g is not None and g.is_sparse for g in grads]:
            return False
        return group["momentum"] == 0 or self._buffered(group)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step, as `halflife.Decayed.step`."""
        return None if self._would_begin_in_a_skipped_step() else super().step(closure)

    def _would_begin_in_a_skipped_step(self) -> bool:
        """Whether a scaler skips a step in which torch's kernel would start dampened momentum.

        It would leave the buffers uninitialised, and read them in the next step. Only there is the
        scaler's number waited for.
        """
        skipped = getattr(self, "found_inf", None)
        if skipped is None:
            return False
        begins = any(
            group["momentum"] != 0 and group["dampening"] != 0 and self._unbuffered(group)
            for group in self.param_groups
        )
        return begins and bool(skipped > 0)

    def _unbuffered(self, group: dict[str, Any]) -> list[Tensor]:
        states = map(self.state.get, group["params"])
        without = [not s or s.get(BUFFER) is None for s in states]
        if True not in without:
            return []
        pairs = zip(group["params"], without, strict=True)
        return [p for p, missing in pairs if missing and p.grad is not None]

    def _buffered(self, group: dict[str, Any]) -> bool:
        """Whether the fused kernel can be given momentum buffers as they are, or started here.

        It starts them itself only where none exists, and wrongly in a step that a scaler skips.
        Begun at 0 they become the gradient, as they should, unless it is dampened.
        """
        missing = self._unbuffered(group)
        if not missing:
            return True
        late = len(missing) < sum(p.grad is not None for p in group["params"])
        if group["dampening"] != 0:
            return not late
        if late or getattr(self, "found_inf", None) is not None:
            for p in missing:
                self.state[p][BUFFER] = torch.zeros_like(p)
        return True

    def _walked(self, group: dict[str, Any]) -> Sequence[str]:
        return (BUFFER,) if group["momentum"] != 0 else ()


def _fused_trains(params: list[Tensor]) -> bool:
    return all(_fused_moves(p.dtype) for p in params if p.is_cpu and rounding.is_half(p))


@functools.cache
@unnoticed()
def _fused_moves(dtype: torch.dtype) -> bool:
    """Whether this torch's kernel for the CPU moves all of a vector register; 2.13's does not."""
    w = torch.zeros(64, dtype=dtype, requires_grad=True)
    w.grad = torch.ones_like(w)
    torch.optim.SGD([w], lr=1.0, fused=True).step()
    return bool((w != 0).all())
