"""One pass over the memory: what a whole step does to each element, compiled.

A kernel reads the weights, the state and the gradient once, as flat tensors of one length, and
writes weights and state once. What the rule does to a weight is the rule's own code: a map is
traced with a view of the one piece, whose direction and preconditioner are what the kernel has just
computed. All numbers that may change come in one tensor, so that none of them compiles anything
anew; shapes are dynamic.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ...rules import DecayMap, View
from ...tensors.rounding import is_half, rounded
from ...versions import compiled_apart
from .direct import Direct

__all__ = ["NUMBERS", "Kernel", "adam", "compiled", "sgd", "states_of"]

# kernel(numbers, seed, weights, *state, gradient[, anchor]) writes the weights and the state.
Kernel: TypeAlias = "Callable[..., None]"

BACKEND = "inductor"  # of torch.compile


class Piece(View):
    """What a map sees inside a kernel: one flat tensor, and what is known of it there."""

    def __init__(self, weight: Tensor, amount: Tensor, **known: Tensor | None) -> None:
        self.weights, self.amount, self._known = [weight], amount, known

    def anchors(self) -> list[Tensor]:
        """The anchor's piece."""
        return [self._known["anchor"]]  # type: ignore[list-item]

    def gradients(self) -> list[Tensor]:
        """This step's gradient."""
        return [self._known["gradient"]]  # type: ignore[list-item]

    def directions(self) -> list[Tensor]:
        """This step's direction, up to a positive factor."""
        return [self._known["direction"]]  # type: ignore[list-item]

    def preconditioners(self) -> list[Tensor]:
        """The metric of this step."""
        return [self._known["preconditioner"]]  # type: ignore[list-item]

    def elementwise(self, function: Callable[..., None], *others: Any) -> None:
        """Call the function: no pieces, no rounding."""
        function(self.weights[0], self.amount, *(other[0] for other in others))


@functools.cache
def compiled(
    kernel: Callable[..., Kernel],
    rule: DecayMap | None,
    options: tuple[Any, ...],
    dtype: torch.dtype,
    device: str,
    backend: str,
) -> Kernel:
    """The compiled kernel of a base, a rule and options; one in a process.

    Args:
        kernel: `adam` or `sgd`.
        rule: the map; None for the rules that are numbers, which share one kernel.
        options: of the kernel.
        dtype: of the weights.
        device: its type.
        backend: of torch.compile.
    """
    kernel_of_rule = kernel(rule, *options)
    if rule is None or type(rule).__module__.partition(".")[0] == __name__.partition(".")[0]:
        return Direct(kernel_of_rule, backend)
    # A user's own may look at what changes, and the compiler's guards see that.
    return compiled_apart(kernel_of_rule, dynamic=True, fullgraph=True, backend=backend)


def adam(rule: DecayMap | None, amsgrad: bool, maximize: bool) -> Kernel:
    """The kernel of Adam: state ``exp_avg, exp_avg_sq`` and, with ``amsgrad``, the maximum."""

    def kernel(numbers: Tensor, seed: Tensor | None, weight: Tensor, *tensors: Tensor) -> None:
        amount, kept, coefficient, size, beta1, new1, beta2, new2, correction, eps = (
            numbers.unbind()
        )
        state, (gradient, *anchor) = tensors[: 2 + amsgrad], tensors[2 + amsgrad :]
        w, g = _wide(weight), _wide(gradient)
        g = (-g if maximize else g) + coefficient * w
        first = beta1 * _wide(state[0]) + new1 * g
        second = beta2 * _wide(state[1]) + new2 * g * g
        moments = [first, second]
        if amsgrad:
            moments.append(torch.maximum(_wide(state[2]), second))
        metric = correction * moments[-1].sqrt() + eps
        w = _decay(rule, w, size * (first / metric), amount, kept, g, first, metric, *anchor)
        _write(weight, w, seed)
        for old, moment in zip(state, moments, strict=True):
            old.copy_(moment)

    return kernel


def sgd(rule: DecayMap | None, nesterov: bool | None, maximize: bool) -> Kernel:
    """The kernel of SGD: state ``momentum_buffer``, none where ``nesterov`` is None."""

    def kernel(numbers: Tensor, seed: Tensor | None, weight: Tensor, *tensors: Tensor) -> None:
        amount, kept, coefficient, size, momentum, old, new = numbers.unbind()
        state = tensors[: nesterov is not None]
        gradient, *anchor = tensors[len(state) :]
        w, g = _wide(weight), _wide(gradient)
        g = (-g if maximize else g) + coefficient * w
        direction = g
        for buffer in state:
            moment = old * _wide(buffer) + new * g
            direction = g + momentum * moment if nesterov else moment
            buffer.copy_(moment)
        w = _decay(rule, w, size * direction, amount, kept, g, direction, None, *anchor)
        _write(weight, w, seed)

    return kernel


# Numbers that a kernel takes.
NUMBERS: dict[Callable[..., Kernel], int] = {adam: 10, sgd: 7}


def states_of(kernel: Callable[..., Kernel], options: tuple[Any, ...]) -> int:
    """How many tensors of state a kernel writes."""
    return 2 + options[0] if kernel is adam else int(options[0] is not None)


def _decay(
    rule: DecayMap | None,
    w: Tensor,
    update: Tensor,
    amount: Tensor,
    kept: Tensor,
    gradient: Tensor,
    direction: Tensor,
    metric: Tensor | None,
    anchor: Tensor | None = None,
) -> Tensor:
    """The weights after decay and update, in the rule's order."""
    if rule is None:
        return kept * w - update
    w = w.clone() if rule.acts == "before" else w - update  # a map writes in place
    known = {"gradient": gradient, "direction": direction, "preconditioner": metric}
    piece = Piece(w, amount, **known, anchor=anchor)
    rule.apply(piece)
    return w - update if rule.acts == "before" else w


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if is_half(tensor) else tensor


def _write(weight: Tensor, w: Tensor, seed: Tensor | None) -> None:
    weight.copy_(w if seed is None else rounded(w, weight.dtype, seed))
