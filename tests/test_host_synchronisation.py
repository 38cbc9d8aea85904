"""No step waits for the device: nothing is read back, and nothing copied there in lockstep.

Run on meta tensors, which are on no host and have no values: a step that looks at one fails, and a
dispatch mode sees every copy between them and the host. What really needs CUDA is in `tests/gpu`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import cases
from accelerator import DEVICE, has_all_kernels  # noqa: F401
from cases import PEAK, OptimizerCase

pytestmark = pytest.mark.usefixtures("has_all_kernels")

READS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::equal"}
RULES = {c.id: (c.rule, c.weight_decay) for c in (*cases.RULES, *cases.MAPS)}
FOREACH, FUSED, CAPTURABLE = {"foreach": True}, {"fused": True}, {"capturable": True}
# Which implementations of which optimizer; with its defaults otherwise.
BASES: dict[str, OptimizerCase] = {
    f"{name}-{how}" if how else name: cases.optimizer(name).only(**settings)
    for name, how, settings in (
        ("SGD", "foreach", {"momentum": 0.9, **FOREACH}),
        ("SGD", "fused", {"momentum": 0.9, **FUSED}),
        ("AdamW", "", {}),
        ("AdamW", "foreach", FOREACH),
        ("AdamW", "fused", FUSED),
        ("AdamW", "capturable", {**FOREACH, **CAPTURABLE}),
        ("Adam", "fused", FUSED),
        ("AMSGrad", "foreach", {"amsgrad": True, **FOREACH}),
        ("AMSGrad", "capturable", {"amsgrad": True, **FOREACH, **CAPTURABLE}),
        ("Yogi", "capturable", {**FOREACH, **CAPTURABLE}),
        ("RMSprop", "capturable", {**FOREACH, **CAPTURABLE}),
        # They keep numbers beside the count of steps, on the host unless they are captured.
        ("NAdam", "", {}),
        ("NAdam", "foreach", FOREACH),
        ("NAdam", "capturable", {**FOREACH, **CAPTURABLE}),
        ("RAdam", "foreach", FOREACH),
        ("Adamax", "foreach", FOREACH),
        ("ASGD", "capturable", {**FOREACH, **CAPTURABLE}),
        ("Lion", "foreach", FOREACH),
        ("Adai", "capturable", {**FOREACH, **CAPTURABLE}),
    )
}


# Here every rule; what a rule does with tensors is no affair of the implementation of other bases,
# which have one of each kind: a number, a norm, a pass of its own, and maps with what they look at.
EVERY_RULE = (
    "SGD-foreach",
    "SGD-fused",
    "AdamW",
    "AdamW-foreach",
    "AdamW-fused",
    "AdamW-capturable",
)
OF_ALL_KINDS = ("l2", "decoupled", "stable", "adaptive", "cautious", "preconditioned", "norm")
PAIRS = [(b, r) for b in BASES for r in (RULES if b in EVERY_RULE else OF_ALL_KINDS)]


class NoWaiting(TorchDispatchMode):
    """Fails on what waits for the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        given = [t.device.type for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        assert not (DEVICE in given and name in READS), f"{func} reads a value"
        if name.startswith("aten::_fused_"):
            return None  # it has no meta kernel; CUDA's reads its scalars on the device
        result = func(*args, **kwargs)
        made = [t.device.type for t in tree_leaves(result) if isinstance(t, Tensor)]
        if "copy" in name:
            blocking = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2] is True))
            apart = len({*given, *made}) > 1
            assert not (apart and blocking), f"{func} from {given} to {made} waits"
        assert not (DEVICE in given and "cpu" in made), f"{func} brings a value to the host"
        return result


class NoNumbersThere(TorchFunctionMode):
    """Fails on a tensor made there from numbers of the host: a copy that waits, unlike a fill."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor, Tensor.new_tensor):
            copied = not isinstance(args[0 if func is not Tensor.new_tensor else 1], Tensor)
            assert not (copied and result.device.type == DEVICE), f"{func} copies numbers"
        return result


def make(base: str, rule: Any, weight_decay: float) -> tuple[Any, list[Tensor]]:
    cls, flags = BASES[base].cls, BASES[base].arguments
    # Two of no dimension: where they go together, a number of the host has their very shape.
    shapes = [(4, 3), (5,), (), ()]
    params = [torch.nn.Parameter(torch.empty(s, device=DEVICE)) for s in shapes]
    try:
        return cls(params, lr=PEAK, weight_decay=weight_decay, decay=rule, **flags), params
    except ValueError as refusal:
        pytest.skip(str(refusal))


def steps(optimizer: Any, params: list[Tensor]) -> None:
    for t in range(3):
        for p in params:
            p.grad = torch.empty_like(p)
        if t == 0 and isinstance(optimizer, torch.optim.ASGD):  # torch's own puts the lr there
            optimizer.step()
            continue
        with NoNumbersThere(), NoWaiting():
            optimizer.step()


@pytest.mark.parametrize(("base", "rule"), PAIRS)
def test_no_step_waits(base: str, rule: str) -> None:
    optimizer, params = make(base, *RULES[rule])
    steps(optimizer, params)


@pytest.mark.parametrize(
    ("base", "rule"), [(b, r) for b, r in PAIRS if "capturable" in b or b == "AdamW-fused"]
)
def test_nor_with_tensors_for_lr_and_weight_decay(base: str, rule: str) -> None:
    optimizer, params = make(base, *RULES[rule])
    for group in optimizer.param_groups:
        group["lr"] = torch.empty((), device=DEVICE)
        group["weight_decay"] = torch.empty((), device=DEVICE)
    steps(optimizer, params)


def test_the_check_can_fail() -> None:
    x = torch.ones(2, device=DEVICE)
    with NoWaiting():
        with pytest.raises(AssertionError, match="reads a value"):
            x.sum().item()
        with pytest.raises(AssertionError, match="waits"):
            torch.ones(2).to(DEVICE)
        torch.ones(2).to(DEVICE, non_blocking=True)
    with NoNumbersThere():
        with pytest.raises(AssertionError, match="copies numbers"):
            torch.as_tensor(1.0, device=DEVICE)
        torch.full((), 1.0, device=DEVICE)
