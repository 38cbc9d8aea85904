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
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..bases.measures import Measures
from ..rules import ANCHOR_KEY, DecayMap, View, apply_maps, keep_anchors
from ..rules.contract import DecayRule, as_rule
from ..rules.sharded import ShardedView
from ..rules.step import Step
from ..rules.wish import Wish, wish_of
from ..tensors import fused, rounding
from ..tensors.packs import packs_of
from ..tensors.passes import add_to_gradients, multiply_weights
from ..tensors.reduction import is_sharded
from ..units.strength import Strength
from ..versions import begin_state
from .checkpoint import load, make_plain
from .implementation import chosen
from .known import Known, known_of
from .native_call import Call, native_call
from .parts import builder_of_parts
from .settings import check_keywords, group_settings, plain_pairs
from .undo import accept, undo_of
from .warnings_once import warn_above_strength, warn_clamped

__all__ = ["Decayed"]


class Decayed(Optimizer):
    """Mixin that gives a ``torch.optim.Optimizer`` class an explicit decay rule.

    Put it in front of the native class. The group entries ``lr`` and ``weight_decay`` stay the
    user's (any scheduler may write them); ``decay`` holds the rule and ``peak_lr`` the highest lr.

    Args:
        params: parameters, named parameters, or groups, as torch takes them. A group may have its
            own ``decay``, ``peak_lr`` and ``weight_decay``.
        *args: the native optimizer's arguments, ``weight_decay`` as a number or a strength.
        **kwargs: the native optimizer's keyword arguments, and those of `own`: ``decay``, the rule
            or its name (default: the class's ``default_rule``; without one the optimizer is the
            native one), and ``peak_lr``, the schedule's highest lr (default: each group's lr at
            construction). A strength needs it under every rule, as it becomes a number there; a
            number only under rules that divide by it.

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
    own: ClassVar[tuple[str, ...]] = ("decay", "peak_lr")  # settings that the native class has not
    prefers_fused: ClassVar[bool] = False
    keep_on_load: str | None = None  # `load_state_dict`'s ``keep``, where a framework calls it
    _native_step: ClassVar[Callable[..., Any]]
    _known: list[Known]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Find the native step: the first one behind `Decayed` in the method resolution order."""
        super().__init_subclass__(**kwargs)
        behind = cls.__mro__[cls.__mro__.index(Decayed) + 1 :]
        step = next(vars(base)["step"] for base in behind if "step" in vars(base))
        # torch wraps a class's step to fire hooks once it has an instance. Our own step is wrapped
        # so too, hence exactly this one layer must go; the next one sets the grad mode and stays.
        cls._native_step = step.__wrapped__ if getattr(step, "hooked", False) else step

    def __init__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        init = super().__init__
        signature = inspect.signature(init)
        check_keywords(signature, kwargs, own=(*self.own, "weight_decay"))
        own = {name: kwargs.pop(name, None) for name in self.own}
        own["decay"] = type(self).default_rule if own["decay"] is None else as_rule(own["decay"])
        if "weight_decay" not in signature.parameters:
            own["weight_decay"] = kwargs.pop("weight_decay", 0.0)
        call = signature.bind(params, *args, **kwargs)
        plain_pairs(call.arguments, {n: p.default for n, p in signature.parameters.items()})
        if isinstance(strength := call.arguments.get("weight_decay"), Strength):
            # The native constructor wants a number; each group resolves the strength for itself.
            own["weight_decay"] = strength
            call.arguments["weight_decay"] = 0.0
        self._own_defaults = own
        if (holder := builder_of_parts()) is not None:
            self._part_of = holder
        init(*call.args, **call.kwargs)
        # Not before: a native constructor may set what decides its decay after the groups.
        self._look_again()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; what it leaves open it inherits from the constructor.

        Raises:
            ValueError: if the rule, the lr, its peak or the weight decay is out of range; nothing
                has changed then.
        """
        # torch's constructor adds the groups after it has set self.defaults, which ours join here.
        self.defaults.update(self.__dict__.pop("_own_defaults", {}))
        if isinstance(param_group, dict):
            if isinstance(param_group.get("params"), Iterator):
                param_group["params"] = list(param_group["params"])
            plain_pairs(param_group, self.defaults)
            label = f"parameter group {len(self.param_groups)}"
            param_group.update(self._checked({**self.defaults, **param_group}, label))
        super().add_param_group(param_group)
        try:
            self._begin(self.param_groups[-1])
            if "_known" in self.__dict__:  # else under construction
                begin_state(self)
                self._known_at(len(self.param_groups) - 1)
        except ValueError:  # anchors that do not fit, or a base that steps by its closure
            self.param_groups.pop()
            raise

    @classmethod
    def _checked(cls, given: dict[str, Any], label: str) -> dict[str, Any]:
        """The settings that a group starts with; whatever a class refuses, it refuses here."""
        return group_settings(cls, given, label)

    def _begin(self, group: dict[str, Any]) -> None:
        """Start what a group's rule keeps; anchors that were kept before make room."""
        if isinstance(group["decay"], DecayMap):
            group["decay"], anchors = group["decay"].begin(group["params"])
            if anchors is not None:
                pending = self.__dict__.setdefault("_pending_anchors", {})
                pending.update(zip(group["params"], anchors, strict=True))
                for p in group["params"]:
                    (self.state.get(p) or {}).pop(ANCHOR_KEY, None)
        if group["decay"] is not None:
            rounding.begin(group)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step: the native one, with each group's decay as its rule says.

        Args:
            closure: reevaluates the model and returns the loss; called once, or, without any rule,
                as the native step calls it.

        Returns:
            The closure's loss, or what the native step returns without one.

        Raises:
            ValueError: if a rule would remove a fraction of 1 or more, or the lr is above its
                peak; nothing has changed then, nor where the native optimizer refuses the step.
        """
        if not self.prefers_fused and self._has_no_rule():
            return self._native_step(closure)  # which may call it more than once
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        measures, groups = self._measures(), self.param_groups
        originals: list[dict[str, Any]] = []
        gradients: list[tuple[Tensor, Tensor | None]] = []
        taken, undo = False, None
        try:
            # Loops: torch 2.11 fails on a graph that is broken where a comprehension is (3.12).
            calls: list[Call] = []
            for i in range(len(groups)):
                calls.append(self._call(self._known_at(i), i, measures))
            undo = undo_of(self, calls)
            scale, skipped = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
            for group, call in zip(groups, calls, strict=True):
                if call.gradient is not None:  # of the weights as they are
                    gradients += add_to_gradients(group, call.gradient, scale, packs_of(self))
            views: list[View] = []
            for call in calls:
                if call.view is not None:
                    views.append(call.view)
            if views:
                self._apply_maps("before", views)
            for group, (swap, factor, *_) in zip(groups, calls, strict=True):
                if factor is not None:
                    multiply_weights(group, factor, skipped, packs_of(self))
                original = {}
                for key in tuple(swap):
                    original[key] = group[key]
                originals.append(original)
                group.update(swap)
            result = self._native_step()
            for call in calls:
                if call.own is not None:
                    call.own()
            taken = True
            if undo is not None:
                accept(self, calls)
            if views:
                self._apply_maps("after", views)
                for view in views:
                    keep_anchors(self, view.rule, view.params)
        finally:
            for group, original in zip(groups, originals, strict=False):
                group.update(original)
            for param, grad in gradients:
                param.grad = grad
            if undo is not None and not taken:
                undo()
            measures.finish(taken)
        return result if closure is None else loss

    def _has_no_rule(self) -> bool:
        return all(known.rule is None for known in self._known) and all(
            group["decay"] is None for group in self.param_groups
        )

    def _call(self, known: Known, index: int, measures: Measures) -> Call:
        """The native call that does what the group's rule says."""
        group = known.group
        swap = chosen(self, known, group)
        if group["decay"] is None:
            return Call(swap)
        wish = self._wish(group["decay"], self._step_of(index, group, measures), known)
        call = native_call(known, group, wish, swap)
        if not isinstance(group["decay"], DecayMap):
            return call
        # Not by `_replace`, whose result torch 2.11 cannot hand over where a graph breaks.
        return Call(call.swap, call.factor, call.gradient, self._view(group, wish))

    def _step_of(self, index: int, group: dict[str, Any], measures: Measures) -> Step:
        """What a group's rule may know of this step."""
        measured = functools.partial(measures.of, group)
        return Step(group["lr"], group["peak_lr"], group["weight_decay"], measured, index)

    def _wish(self, rule: DecayRule, step: Step, known: Known) -> Wish:
        """What the rule wants; one warning where that is more than all, or than its strength."""
        wish = wish_of(rule, step)
        if known.most is not None:
            warn_above_strength(self, known, step, wish.rate)
        if not isinstance(wish.amount, Tensor) and wish.amount == 1.0 and rule.removes_fraction:
            warn_clamped(self, rule, step, wish.rate)
        return wish

    def _view(self, group: dict[str, Any], wish: Wish) -> View:
        amount = wish.amount
        if (skipped := getattr(self, "found_inf", None)) is not None:
            zero = torch.zeros((), dtype=torch.float64, device=skipped.device)
            amount = torch.where(skipped > 0, zero, zero + amount)
        params = [p for p in group["params"] if p.grad is not None]
        kind = ShardedView if any(map(is_sharded, params)) else View
        return kind(group["decay"], self, group, params, amount)

    def _apply_maps(self, when: str, views: list[View]) -> None:
        due = [view for view in views if view.rule.acts == when and view.params]
        for view in due:
            view.look()
        if due:
            _change_weights(due)

    def _known_at(self, index: int) -> Known:
        """The record of a group, made anew where what it was derived from has changed."""
        group, records = self.param_groups[index], self._known
        known = records[index] if index < len(records) else None
        compiling = torch.compiler.is_compiling()  # a graph looks at the tensors by itself
        if known is not None and known.group is group and group["decay"] is known.rule:
            written = isinstance(group.get("weight_decay"), Strength)
            if compiling or (not written and known.still_holds()):
                return known
        # Not as a decorator, which would import the compiler where nothing is compiled.
        renewed = torch.compiler.disable(self._renewed) if compiling else self._renewed
        return renewed(index)

    def _renewed(self, index: int) -> Known:
        """The record made anew; a copy of the optimizer may be run, which no graph can hold."""
        records, group = self._known, self.param_groups[index]
        # By identity: groups may have been taken out, reordered or copied.
        known = next((record for record in records if record.group is group), None)
        del records[len(self.param_groups) :]
        self._adopt(index, known)
        known = known_of(self, group)
        records[index : index + 1] = [known]
        return known

    def _adopt(self, index: int, known: Known | None) -> None:
        """Take what was written into a group, as a new group's is taken."""
        group, label = self.param_groups[index], f"parameter group {index}"
        written = group["decay"]
        if written is None:
            if known is not None and known.rule is not None:
                raise TypeError(
                    f"decay=None of {label}: must be a DecayRule or its name, as its rule was "
                    f"{known.rule!r}; weight_decay=0 turns the decay off."
                )
            return
        rule = as_rule(written)
        # The rule of a group that is not known, a copy's, has begun as far as it is plain.
        other = isinstance(rule, DecayMap) and rule.carries_tensors
        other = other or (known is not None and rule != known.rule)
        unchecked = known is None and not isinstance(written, DecayRule)
        if other or unchecked or isinstance(group.get("weight_decay"), Strength):
            group.update(self._checked({**group, "decay": rule}, label))
        group["decay"] = rule
        if other:
            self._begin(group)

    def _look_again(self) -> None:
        """Find out anew what is known of each group, where it can be."""
        self._known = []
        self._measured = Measures(self)  # now: torch 2.10 compiles no step that sets an attribute
        for index, group in enumerate(self.param_groups):
            if not (group["decay"] is None or isinstance(group["decay"], DecayRule)):
                break  # the next step takes it, or refuses it by name
            self._known_at(index)

    def _fits(self, known: Known, group: dict[str, Any]) -> bool:
        """Whether the fused kernel can walk the group's tensors; its state is laid so."""
        params = group["params"]
        if not fused.fits(known.layout, params):
            if known.layout != "contiguous" or all(p.is_contiguous() for p in params):
                return False
            was, known = known, known.laid_anew()
            self._known = [known if other is was else other for other in self._known]
            if not fused.fits(known.layout, params):
                return False
        fused.lay_state(known.layout, params, self.state, self._walked(group))
        return True

    def _walked(self, group: dict[str, Any]) -> Sequence[str]:
        """Keys of the state that a fused kernel walks beside the weights."""
        return [k for k in fused.WALKED if any(k in self.state.get(p, ()) for p in group["params"])]

    def _measures(self) -> Measures:
        return self._measured

    def last_measured(self, name: str, group: dict[str, Any] | None = None) -> float | None:
        """A number that the last step measured, as `Step.measured`; None if no rule has asked.

        Args:
            name: of the number.
            group: one of ``param_groups``, where they differ in it: SGD's rate is of its momentum.

        Raises:
            ValueError: if they differ, and no group is given.
        """
        return self._measures().last(name, group)

    @property
    def last_effective_rate(self) -> float | None:
        """The optimizer's effective rate in the last step, as `last_measured` gives it."""
        return self.last_measured("effective_rate")

    def __getstate__(self) -> dict[str, Any]:
        """As torch's, with the anchors that are in no parameter's state yet."""
        pending = self.__dict__.get("_pending_anchors")
        return super().__getstate__() | ({"_pending_anchors": pending} if pending else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from a pickle or a checkpoint; what is derived from the state is forgotten."""
        super().__setstate__(state)
        self._look_again()

    def state_dict(self) -> dict[str, Any]:
        """As torch's, with each group's rule as plain data; hooks see it so too."""
        plain = self.register_state_dict_post_hook(make_plain, prepend=True)
        try:
            return super().state_dict()
        finally:
            plain.remove()

    def load_state_dict(self, state_dict: dict[str, Any], *, keep: str | None = None) -> None:
        """Load a checkpoint of this optimizer or of its torch twin.

        A halflife checkpoint brings its rules, peaks and coefficients; a torch checkpoint brings
        coefficients alone, and the constructor's rules and peaks stay. Hooks are called as torch
        calls them: ours are the last before the loading and the first after it.

        Args:
            state_dict: as `state_dict` gives it, or torch's.
            keep: whose decay holds afterwards (rule, peak, coefficient): "checkpoint", or
                "constructed". Default: `keep_on_load`, and without it the checkpoint's, with one
                warning where it replaces another rule or strength than the one constructed. lr,
                momenta and everything else are the checkpoint's.

        Raises:
            ValueError: if the checkpoint names an unknown rule or does not fit, or ``keep`` is no
                choice; nothing has changed then.
        """
        load(self, super().load_state_dict, state_dict, self.keep_on_load if keep is None else keep)


def _change_weights(views: list[View]) -> None:
    with torch.no_grad():  # no decorator: dynamo makes one graph of what itself names torch
        apply_maps(views)
