"""What the base optimizers that torch has not share: torch's conventions around one update.

An optimizer here is its hyper-parameters, its state, and its update, which is written twice:

    _single   on one parameter, in plain tensor operations: the readable one
    _multi    on lists of tensors of one device and dtype, in foreach operations

with the same operations in the same order, so that the two agree bit for bit on the CPU. It has no
weight decay, not even as an option: rules are put on by `halflife.Decayed`.

Scalars that change with the step are Python floats, or tensors where the step must not depend on
the host (``capturable``, a compiled step, a tensor as lr); both take the same expressions. There is
no ``differentiable``: foreach operations have no autograd.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..checks import Scalar
from ..tensors.reduction import real
from ..versions import check_capture, foreach_devices

__all__ = [
    "BaseOptimizer",
    "Group",
    "Lists",
    "State",
    "check_betas",
    "check_eps",
    "moments",
    "moments_of_many",
    "of_each",
    "scalar",
]

Group: TypeAlias = "dict[str, Any]"  # a parameter group
State: TypeAlias = "dict[str, Any]"  # what is kept of one parameter, by torch's keys


class Lists(NamedTuple):
    """The tensors of one group that take this step, as parallel lists; complex ones as real."""

    params: list[Tensor]
    grads: list[Tensor]
    state: dict[str, list[Any]]  # per state key; "step" counts the coming step too

    def one_by_one(self) -> Iterator[tuple[Tensor, Tensor, State]]:
        """Each parameter, its gradient and its state."""
        for i, (p, grad) in enumerate(zip(self.params, self.grads, strict=True)):
            yield p, grad, {key: values[i] for key, values in self.state.items()}

    def by_device_and_dtype(self) -> Iterator[Lists]:
        """The lists that one foreach operation takes together."""
        buckets: dict[Any, list[int]] = defaultdict(list)
        for i, p in enumerate(self.params):
            # Nor does one take tensors of several meshes, or of one and none.
            buckets[p.device, p.dtype, getattr(p, "device_mesh", None)].append(i)
        for indices in buckets.values():
            yield Lists(
                [self.params[i] for i in indices],
                [self.grads[i] for i in indices],
                {key: [values[i] for i in indices] for key, values in self.state.items()},
            )


class BaseOptimizer(Optimizer):
    """An optimizer without weight decay, which is put on it by `halflife.Decayed`.

    Args:
        params: parameters, named parameters, or groups.
        defaults: hyper-parameters; every one but ``foreach`` is read by the subclass.

    Raises:
        ValueError: if the lr is negative, or a tensor of more than one element.
    """

    # Lion does not look at the number of steps taken: no host work, and nothing to capture.
    _counts_steps: ClassVar[bool] = True

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        lr = defaults["lr"]
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not lr >= 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        super().__init__(params, defaults)

    @abstractmethod
    def _initial(self, group: Group) -> dict[str, float]:
        """The tensors kept of each parameter, like it in shape, and the value they start from."""

    @abstractmethod
    def _single(self, group: Group, p: Tensor, grad: Tensor, state: State) -> None:
        """Update one parameter, in plain tensor operations."""

    @abstractmethod
    def _multi(self, group: Group, lists: Lists) -> None:
        """Update many in the same way, in foreach operations."""

    def _prepare(self, work: list[tuple[Group, Lists]]) -> None:
        """Look at the whole model first; what is found joins the lists' state for this step."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: reevaluates the model and returns the loss.

        Returns:
            The closure's loss, or None without one.
        """
        if self._counts_steps:
            check_capture(self)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        work = [(group, self._lists(group)) for group in self.param_groups]
        self._prepare(work)
        for group, lists in work:
            if _uses_foreach(group):
                for batch in lists.by_device_and_dtype():
                    if group["maximize"]:
                        batch = batch._replace(grads=list(torch._foreach_neg(batch.grads)))
                    self._multi(group, batch)
            else:
                for p, grad, one in lists.one_by_one():
                    self._single(group, p, -grad if group["maximize"] else grad, one)
        return loss

    def _lists(self, group: Group) -> Lists:
        """The group's tensors that take this step, with their state started and steps counted."""
        initial, on_device = self._initial(group), group.get("capturable", False)
        keys = ["step", *initial] if self._counts_steps else list(initial)
        lists = Lists([], [], {key: [] for key in keys})
        for p in group["params"]:
            if p.grad is None:
                continue
            if p.grad.is_sparse:
                raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")
            state = self.state[p]
            if "exp_avg" not in state:
                if self._counts_steps:
                    state["step"] = _zero(p.device if on_device else None)
                for key, value in initial.items():
                    state[key] = torch.zeros_like(p)
                    real(state[key]).fill_(value)  # both parts of a complex parameter start there
            lists.params.append(real(p))
            lists.grads.append(real(p.grad))
            for key in keys:
                lists.state[key].append(real(state[key]))
        if steps := lists.state.get("step"):
            torch._foreach_add_(steps, 1)
            if not (on_device or torch.compiler.is_compiling()):
                lists.state["step"] = [step.item() for step in steps]
        return lists

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from a pickle or a checkpoint, also one that knew fewer settings."""
        super().__setstate__(state)
        for group in self.param_groups:
            for key, default in self.defaults.items():
                if key != "differentiable":  # torch's own, which it puts there while loading
                    group.setdefault(key, default)
            for p in group["params"]:
                step = self.state.get(p, {}).get("step")
                if step is not None and not isinstance(step, Tensor):
                    on_device = p.device if group.get("capturable") else None
                    self.state[p]["step"] = _zero(on_device) + step


def check_betas(betas: tuple[float, float]) -> None:
    """Refuse averaging factors that do not average.

    Raises:
        ValueError: in torch's words.
    """
    for index, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {index}: {beta}")


def check_eps(eps: float) -> None:
    """Refuse a denominator that can be negative.

    Raises:
        ValueError: in torch's words.
    """
    if not eps >= 0.0:
        raise ValueError(f"Invalid epsilon value: {eps}")


def scalar(lr: Scalar) -> Scalar:
    """The lr as a number or a 0-dim tensor, which broadcasts to every parameter.

    Example:
        >>> scalar(torch.tensor([0.5]))
        tensor(0.5000)
    """
    return lr.squeeze() if isinstance(lr, Tensor) else lr


def of_each(function: Callable[[Any], Any], steps: list[Any]) -> list[Any]:
    """``function(t)`` for each count of steps; of all at once where they are tensors of a device.

    Example:
        >>> of_each(lambda t: 2 * t, [1.0, 3.0])
        [2.0, 6.0]
        >>> of_each(lambda t: 2 * t, [torch.tensor(1.0), torch.tensor(3.0)])
        [tensor(2.), tensor(6.)]
    """
    if all(isinstance(t, Tensor) for t in steps) and len({t.device for t in steps}) == 1:
        return list(function(torch.stack(steps)).unbind())
    return [function(t) for t in steps]


def moments(group: Group, grad: Tensor, state: State) -> tuple[Tensor, Tensor]:
    """Adam's first and second moment of a parameter, advanced; the maximum where one is kept."""
    beta1, beta2 = group["betas"]
    state["exp_avg"].lerp_(grad, 1 - beta1)
    second = state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    if "max_exp_avg_sq" in state:
        second = torch.maximum(state["max_exp_avg_sq"], second, out=state["max_exp_avg_sq"])
    return state["exp_avg"], second


def moments_of_many(
    group: Group, grads: list[Tensor], state: dict[str, list[Any]]
) -> tuple[list[Tensor], list[Tensor]]:
    """The same of many parameters, in foreach operations."""
    beta1, beta2 = group["betas"]
    seconds = state["exp_avg_sq"]
    torch._foreach_lerp_(state["exp_avg"], grads, 1 - beta1)
    torch._foreach_mul_(seconds, beta2)
    torch._foreach_addcmul_(seconds, grads, grads, value=1 - beta2)
    if "max_exp_avg_sq" in state:
        torch._foreach_maximum_(state["max_exp_avg_sq"], seconds)
        seconds = state["max_exp_avg_sq"]
    return state["exp_avg"], seconds


def _uses_foreach(group: Group) -> bool:
    """Torch's choice where it is left open: foreach where it has kernels, else the for-loop."""
    if group["foreach"] is not None:
        return group["foreach"]
    devices = foreach_devices()
    return all(
        type(p) in (Tensor, torch.nn.Parameter) and p.device.type in devices
        for p in group["params"]
    )


def _zero(device: torch.device | None) -> Tensor:
    # torch's choice: a count in float32 is exact up to 16 million steps.
    wide = torch.get_default_dtype() == torch.float64
    return torch.zeros((), dtype=torch.float64 if wide else torch.float32, device=device)
