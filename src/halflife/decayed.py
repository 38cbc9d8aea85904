"""The one place where a decay rule meets an optimizer's native step.

A rule says ``w <- a w - s u``. On an optimizer whose native decay multiplies the weights by
``1 - lr * weight_decay``, that is the native step itself, called with

    lr' = s        weight_decay' = (1 - a) / s

so a rule costs no pass over the weights and runs in torch's own fused kernel. `Decayed` swaps
these scalars into the parameter groups for the duration of the native step and puts the user's
own back. Where the native step cannot take the decay (SGD, scalars that are tensors, ``s = 0``),
the weights are multiplied by ``a`` first and the native step runs without decay.

    class AdamW(Decayed, torch.optim.AdamW):
        default_rule = Decoupled()
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from itertools import chain
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from . import fused, rounding
from .decay import DecayRule, Scalar, Step, as_rule
from .effective_rate import SUM_KEY, EffectiveRate, effective_rate_of
from .maps import ANCHOR_KEY, DecayMap, View, apply_maps, keep_anchors
from .native import SWITCH, Way, native_kind
from .passes import add_to_gradients, multiply_weights
from .reduction import is_sharded
from .settings import check_fraction, check_keywords, clamps, group_settings
from .sharded import ShardedView
from .strength import Strength

__all__ = ["Call", "Decayed"]


class Call(NamedTuple):
    """How one group's native step is to be called."""

    swap: dict[str, Any]  # group entries for the duration of the step
    factor: Scalar | None = None  # what the weights are multiplied by first
    gradient: Scalar | None = None  # multiple of the weights that joins the gradients first
    view: View | None = None  # what the rule changes by itself, before or after
    own: Callable[[], None] | None = None  # steps what the native step has been denied


class Decayed(Optimizer):
    """Mixin that gives a ``torch.optim.Optimizer`` class an explicit decay rule.

    Put it in front of the native class. The group entries ``lr`` and ``weight_decay`` stay the
    user's (any scheduler may write them); ``decay`` holds the rule and ``peak_lr`` the highest lr.

    Args:
        params: parameters, named parameters, or groups, as torch takes them. A group may have its
            own ``decay``, ``peak_lr`` and ``weight_decay``.
        *args: the native optimizer's arguments, ``weight_decay`` as a number or a strength.
        decay: the rule, or its name. Default: the class's ``default_rule``; without one the
            optimizer is the native one.
        peak_lr: the schedule's highest lr. Default: each group's lr at construction.
        **kwargs: the native optimizer's keyword arguments.

    Raises:
        TypeError: for an unknown keyword, naming the nearest known one.
        ValueError: for values out of range, before anything changes.

    Example:
        >>> class NAdam(Decayed, torch.optim.NAdam):
        ...     default_rule = as_rule("independent")
        >>> w = torch.ones(1, requires_grad=True)
        >>> optimizer = NAdam([w], lr=1e-3, weight_decay=0.5)
        >>> w.grad = torch.zeros(1)
        >>> optimizer.step()
        >>> w.item()
        0.5
    """

    default_rule: ClassVar[DecayRule | None] = None
    prefers_fused: ClassVar[bool] = False
    _native_step: ClassVar[Callable[..., Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Find the native step: the first one behind `Decayed` in the method resolution order."""
        super().__init_subclass__(**kwargs)
        behind = cls.__mro__[cls.__mro__.index(Decayed) + 1 :]
        step = next(vars(base)["step"] for base in behind if "step" in vars(base))
        # torch wraps a class's step to fire hooks once it has an instance. Our own step is wrapped
        # so too, hence exactly this one layer must go; the next one sets the grad mode and stays.
        cls._native_step = step.__wrapped__ if getattr(step, "hooked", False) else step

    def __init__(
        self,
        params: Any,
        *args: Any,
        decay: DecayRule | str | None = None,
        peak_lr: float | None = None,
        **kwargs: Any,
    ) -> None:
        init = super().__init__
        signature = inspect.signature(init)
        check_keywords(signature, kwargs, own=("decay", "peak_lr", "weight_decay"))
        self._own_defaults: dict[str, Any] = {
            "decay": type(self).default_rule if decay is None else as_rule(decay),
            "peak_lr": peak_lr,
        }
        if "weight_decay" not in signature.parameters:
            self._own_defaults["weight_decay"] = kwargs.pop("weight_decay", 0.0)
        call = signature.bind(params, *args, **kwargs)
        if isinstance(strength := call.arguments.get("weight_decay"), Strength):
            # The native constructor wants a number; each group resolves the strength for itself.
            self._own_defaults["weight_decay"] = strength
            call.arguments["weight_decay"] = 0.0
        init(*call.args, **call.kwargs)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; what it leaves open it inherits from the constructor.

        Raises:
            ValueError: if the rule, the lr, its peak or the weight decay is out of range.
        """
        # torch's constructor sets self.defaults and then adds the groups, so the first group is
        # the first moment at which our own defaults can join them.
        self.defaults.update(self.__dict__.pop("_own_defaults", {}))
        if isinstance(param_group, dict):
            label = f"parameter group {len(self.param_groups)}"
            given = {**self.defaults, **param_group}
            param_group.update(group_settings(type(self), given, label))
        super().add_param_group(param_group)
        self._begin(self.param_groups[-1])
        self._kinds()

    def _begin(self, group: dict[str, Any]) -> None:
        if group["decay"] is not None:
            rounding.begin(group)
        if isinstance(group["decay"], DecayMap):
            group["decay"], anchors = group["decay"].begin(group["params"])
            if anchors is not None:
                pending = self.__dict__.setdefault("_pending_anchors", {})
                pending.update(zip(group["params"], anchors, strict=True))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step: the native one, with each group's decay as its rule says.

        Args:
            closure: reevaluates the model and returns the loss; called once.

        Returns:
            The closure's loss, or what the native step returns without one.

        Raises:
            ValueError: if a rule would remove a fraction of 1 or more, or the lr is above its
                peak; nothing has changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        rates, groups = self._rates(), self.param_groups
        originals: list[dict[str, Any]] = []
        gradients: list[tuple[Tensor, Tensor | None]] = []
        taken = False
        try:
            calls = [self._native_call(i, group, rates) for i, group in enumerate(groups)]
            views = [call.view for call in calls if call.view is not None]
            if views:
                self._apply_maps("before", views)
            for group, (swap, factor, gradient, *_) in zip(groups, calls, strict=True):
                if factor is not None:
                    multiply_weights(group, factor, getattr(self, "found_inf", None))
                if gradient is not None:
                    gradients += add_to_gradients(group, gradient)
                originals.append({key: group[key] for key in tuple(swap)})
                group.update(swap)
            result = self._native_step()
            for own in [call.own for call in calls if call.own is not None]:
                own()
            taken = True
            if views:
                self._apply_maps("after", views)
                keep_anchors(self)
        finally:
            for group, original in zip(groups, originals, strict=False):
                group.update(original)
            for param, grad in gradients:
                param.grad = grad
            if rates is not None:
                rates.finish(taken)
        return result if closure is None else loss

    def _native_call(self, index: int, group: dict[str, Any], rates: EffectiveRate | None) -> Call:
        """The native call that does what the group's rule says."""
        swap: dict[str, Any] = {}
        if self.prefers_fused and self._fuses(index, group):
            swap["fused"] = True
        rule, lr, weight_decay = group["decay"], group["lr"], group["weight_decay"]
        if rule is None:
            return Call(swap)
        of = None if rates is None else functools.partial(rates.of, group)
        step = Step(lr, group["peak_lr"], weight_decay, of, index)
        kind, switch = self._kinds()[index], group.get(SWITCH)
        # A native step rounds half-precision weights to the nearest: their decay would be lost.
        rounds = self._halves(index, group)

        gradient = rule.gradient_coefficient(step)
        # torch's optimizers look at the decay's value, which breaks a graph where it is a tensor.
        # On a device they would wait for it.
        compiling = torch.compiler.is_compiling() or (
            isinstance(weight_decay, Tensor) and not weight_decay.is_cpu
        )
        if isinstance(gradient, Tensor) or gradient != 0.0:
            one_pass = swap.get("fused") or group.get("fused")  # adds in float32, rounds once
            native = kind in ("switch", "l2") and (one_pass or not rounds)
            if not native or (compiling and isinstance(gradient, Tensor)):
                swap["weight_decay"] = 0.0
                return Call(swap, gradient=gradient)
            if switch:
                swap[SWITCH] = False
            if gradient is not weight_decay:
                swap["weight_decay"] = gradient
            return Call(swap)

        if isinstance(rule, DecayMap):
            swap["weight_decay"] = 0.0
            return Call(swap, view=self._view(rule, group, step))

        scale = rule.direction_scale(step)
        size = lr if not isinstance(scale, Tensor) and scale == 1.0 else lr * scale
        if size is not lr:
            swap["lr"] = size
        native = kind in ("switch", "decoupled") and not rounds
        if kind == "switch" and not switch:
            swap[SWITCH] = True
        rate = rule.rate(step)
        fraction = weight_decay * rate
        on_device = isinstance(fraction, Tensor)
        clamped = False
        if on_device:
            fraction = fraction.clamp(max=1.0) if clamps(rule) else fraction
        elif fraction >= 1.0:
            fraction, clamped = self._bounded(rule, fraction, step), True
        if native and rate is lr and size is lr and not (compiling and on_device):
            return Call(swap)  # the native decay itself; a tensor stays what the user gave
        if not native or on_device or isinstance(size, Tensor) or size == 0.0:
            swap["weight_decay"] = 0.0
            return Call(swap, factor=1.0 - fraction)
        # In this order: lr / lr is exactly 1, whereas (lr * wd) / lr need not be wd.
        swap["weight_decay"] = 1.0 / size if clamped else weight_decay * (rate / size)
        return Call(swap)

    def _view(self, rule: DecayMap, group: dict[str, Any], step: Step) -> View:
        amount = rule.fraction(step)
        if not isinstance(amount, Tensor) and amount >= 1.0 and rule.removes_fraction:
            amount = self._bounded(rule, amount, step)
        if (skipped := getattr(self, "found_inf", None)) is not None:
            zero = torch.zeros((), dtype=torch.float64, device=skipped.device)
            amount = torch.where(skipped > 0, zero, zero + amount)
        params = [p for p in group["params"] if p.grad is not None]
        kind = ShardedView if any(map(is_sharded, params)) else View
        return kind(rule, self, group, params, amount)

    def _apply_maps(self, when: str, views: list[View]) -> None:
        due = [view for view in views if view.rule.acts == when and view.params]
        if due:
            _change_weights(due)

    def _bounded(self, rule: DecayRule, fraction: float, step: Step) -> float:
        """1 where the data asked for more, with one warning; an error where the user did."""
        if not clamps(rule):
            check_fraction(rule, fraction, step)
        elif fraction > 1.0 and not self.__dict__.get("_warned_clamped"):
            self._warned_clamped = True
            warnings.warn(
                f"{type(self).__name__}: the stable rule asked for the fraction {fraction:.3g} of "
                "each weight in one step, clamped to 1: the gradients are tiny against lr * "
                "weight_decay; lower weight_decay. (Said once.)",
                stacklevel=4,
            )
        return 1.0

    def _kinds(self) -> list[Way]:
        """How each group's native step takes a decay; found by running it, so not in a graph."""
        known: list[Way] = self.__dict__.setdefault("_native_kinds", [])
        for group in self.param_groups[len(known) :]:
            known.append("none" if group.get("decay") is None else native_kind(self, group))
        return known

    def _halves(self, index: int, group: dict[str, Any]) -> bool:
        known = self.__dict__.setdefault("_has_halves", {})
        if index not in known:
            known[index] = any(map(rounding.is_half, group["params"]))
        return known[index]

    def _fuses(self, index: int, group: dict[str, Any]) -> bool:
        """Whether to run the fused kernel, which torch leaves off unless asked for."""
        if group["fused"] is not None or group["foreach"] is not None:
            return False
        if group["differentiable"] or torch.compiler.is_compiling():
            return False
        known = self.__dict__.setdefault("_fusable", {})
        if index not in known:
            known[index] = fused.layout(group["params"])
        return fused.fits(known[index], group["params"])

    def _rates(self) -> EffectiveRate | None:
        if "_effective_rate" not in self.__dict__:
            self._effective_rate = effective_rate_of(self)
        return self._effective_rate

    @property
    def last_effective_rate(self) -> float | None:
        """The effective rate of the last step; None if no rule has asked for it."""
        last = getattr(self._rates(), "last", None)
        return None if last is None else float(last)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from a pickle or a checkpoint; what is derived from the state is forgotten."""
        super().__setstate__(state)
        for derived in ("_effective_rate", "_fusable", "_has_halves", "_native_kinds"):
            self.__dict__.pop(derived, None)
        self._kinds()

    def state_dict(self) -> dict[str, Any]:
        """As torch's, with each group's rule as plain data."""
        state_dict = super().state_dict()
        for group in state_dict["param_groups"]:
            if group["decay"] is not None:
                group["decay"] = group["decay"].as_dict()
            for key in rounding.KEYS & group.keys():  # they advance in place
                group[key] = group[key].clone()
        return state_dict

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint of this optimizer or of its torch twin.

        A halflife checkpoint brings its rules and peaks; a torch checkpoint has none, and the
        constructor's stay.

        Raises:
            ValueError: if the checkpoint names an unknown rule or does not fit; nothing has
                changed then.
        """
        groups = []
        for position, saved in enumerate(state_dict["param_groups"]):
            live = self.param_groups[position] if position < len(self.param_groups) else {}
            own = {key: live.get(key) for key in ("decay", "peak_lr", "weight_decay")}
            own |= {key: live[key] for key in rounding.KEYS & live.keys()}
            group = {**own, **saved}
            if group["decay"] is not None:
                group["decay"] = as_rule(group["decay"])
            groups.append(group)
        super().load_state_dict({**state_dict, "param_groups": groups})
        saved_indices = chain.from_iterable(group["params"] for group in groups)
        params = chain.from_iterable(group["params"] for group in self.param_groups)
        for index, p in zip(saved_indices, params, strict=True):
            saved_state = state_dict["state"].get(index, {})
            # torch has cast what follows to the parameter's dtype and moved it to its device.
            for key, value in saved_state.items():
                scalar = isinstance(value, Tensor) and value.dim() == 0 and key != "step"
                if scalar or key == SUM_KEY:
                    self.state[p][key] = value.to(p.device, copy=True)
            if ANCHOR_KEY in saved_state:
                self.state[p][ANCHOR_KEY] = saved_state[ANCHOR_KEY].clone()
                self.__dict__.get("_pending_anchors", {}).pop(p, None)
            step = saved_state.get("step")
            if self.prefers_fused and isinstance(step, Tensor) and step.device != p.device:
                # Fused kernels want the count beside the parameter; torch moves it only for
                # groups whose flag is set, and ours is chosen at each step.
                self.state[p]["step"] = step.to(p.device, torch.float32, copy=True)


def _change_weights(views: list[View]) -> None:
    with torch.no_grad():  # no decorator: dynamo makes one graph of what itself names torch
        apply_maps(views)
