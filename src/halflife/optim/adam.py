"""Adam and AdamW, with the decay rule as an argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ..mechanism.compiled import Compilable
from ..mechanism.settings import refuse_unknown
from ..rules.contract import DecayRule, RuleName
from ..rules.scalar import Decoupled, L2Regularization
from ..units.strength import Strength
from ..versions import ADAM_ARGUMENTS

__all__ = ["Adam", "AdamW"]

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Adam(Compilable, torch.optim.Adam):
    r"""``torch.optim.Adam`` with an explicit decay rule; by default torch's own, bit for bit.

    Every rule runs inside torch's own kernel. With ``foreach`` and ``fused`` both left open, the
    fused kernel is used wherever torch has one for the parameters (dense real floating point, on
    CPU or an accelerator): it is the fastest, 4 to 7 times torch's default on the CPU. Pass
    ``foreach=False, fused=False`` for the for-loop. In bfloat16 and float16, where torch's decay is
    lost in rounding, ours is kept (see `halflife.tensors.rounding`).

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1e-3 (torch's).
        betas: averaging factors of the gradient and of its square. Default (0.9, 0.999).
        eps: added to the denominator. Default 1e-8.
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 0.
        amsgrad: divide by the maximum of all second moments so far.
        foreach: multi-tensor implementation; None leaves it open.
        maximize: ascend instead of descend.
        capturable: allow capture in a CUDA graph.
        differentiable: let autograd pass through the step.
        fused: fused implementation; None leaves it open.
        decoupled_weight_decay: torch's own switch, which only decides the default of ``decay``.
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
            is refused with ``foreach``, ``fused``, ``capturable``, ``differentiable``, rules with a
            norm, and complex parameters.

    Example:
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = Adam(model.parameters(), lr=1e-3, weight_decay=5e-4, decay="stable")
    """

    default_rule = L2Regularization()
    prefers_fused = True

    @refuse_unknown
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float | Tensor | Strength = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        decay: DecayRule | RuleName | None = None,
        peak_lr: float | None = None,
        implementation: Literal["compiled", "native"] | None = None,
    ) -> None:
        if decay is None and decoupled_weight_decay:
            decay = Decoupled()
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            **dict.fromkeys(ADAM_ARGUMENTS, decoupled_weight_decay),
            decay=decay,
            peak_lr=peak_lr,
            implementation=implementation,
        )

    def _walked(self, group: dict[str, Any]) -> Sequence[str]:
        return _MOMENTS if not group["amsgrad"] else (*_MOMENTS, "max_exp_avg_sq")


class AdamW(Compilable, torch.optim.AdamW):
    r"""``torch.optim.AdamW`` with an explicit decay rule; by default torch's own, bit for bit.

    Every rule runs inside torch's own kernel. With ``foreach`` and ``fused`` both left open, the
    fused kernel is used wherever torch has one for the parameters (dense real floating point, on
    CPU or an accelerator): it is the fastest, 4 to 7 times torch's default on the CPU. Pass
    ``foreach=False, fused=False`` for the for-loop. In bfloat16 and float16, where torch's decay is
    lost in rounding, ours is kept (see `halflife.tensors.rounding`).

    Args:
        params: parameters, named parameters, or groups.
        lr: learning rate. Default 1e-3 (torch's).
        betas: averaging factors of the gradient and of its square. Default (0.9, 0.999).
        eps: added to the denominator. Default 1e-8.
        weight_decay: the rule's coefficient, in the rule's unit, or a strength such as
            ``HalfLife(steps=5000)``. Default 1e-2 (torch's).
        amsgrad: divide by the maximum of all second moments so far.
        maximize: ascend instead of descend.
        foreach: multi-tensor implementation; None leaves it open.
        capturable: allow capture in a CUDA graph.
        differentiable: let autograd pass through the step.
        fused: fused implementation; None leaves it open.
        decay: the decay rule, or its name. Default ``Decoupled()``, as in torch.
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
            is refused with ``foreach``, ``fused``, ``capturable``, ``differentiable``, rules with a
            norm, and complex parameters.

    Example:
        >>> from halflife import HalfLife
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=HalfLife(steps=5000))
        >>> round(optimizer.param_groups[0]["weight_decay"], 4)
        0.1386
    """

    default_rule = Decoupled()
    prefers_fused = True

    @refuse_unknown
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float | Tensor | Strength = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decay: DecayRule | RuleName | None = None,
        peak_lr: float | None = None,
        implementation: Literal["compiled", "native"] | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decay=decay,
            peak_lr=peak_lr,
            implementation=implementation,
        )

    def _walked(self, group: dict[str, Any]) -> Sequence[str]:
        return _MOMENTS if not group["amsgrad"] else (*_MOMENTS, "max_exp_avg_sq")
