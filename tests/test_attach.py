"""Rules on optimizers whose first base is not torch's ``Optimizer``, as in some packages."""

from __future__ import annotations

import abc
import copy
import pickle
from typing import Any

import pytest
import torch

import cases
from cases import PEAK
from halflife import Decayed, attach, decayed
from halflife.testing import check_optimizer

LRS = cases.schedule("cosine")


class Abstract(abc.ABC, torch.optim.Optimizer):
    """The first base decides how Python lays out an instance; here it is not the optimizer."""

    @abc.abstractmethod
    def about(self) -> str:
        """Something that every optimizer of the package has."""


class Package(Abstract):
    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    def about(self) -> str:
        return "plain descent"

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(p.grad, alpha=-group["lr"])
        return loss


def trained(optimizer: Any, params: list[torch.Tensor]) -> list[torch.Tensor]:
    cases.train(optimizer, params, cases.make_gradients(), [LRS])
    return [p.detach().clone() for p in params]


def by_hand() -> list[torch.Tensor]:
    """``(1 - lr/peak wd) w - lr g``."""
    params = cases.make_params()
    for lr, row in zip(LRS, cases.make_gradients(), strict=True):
        for p, grad in zip(params, row, strict=True):
            if grad is not None:
                p.detach().mul_(1 - lr / PEAK * 0.03).sub_(lr * grad)
    return [p.detach() for p in params]


def test_the_mixin_comes_first_and_the_class_is_one() -> None:
    cls = decayed(Package)
    assert cls.__mro__[1:3] == (Decayed, Package)
    assert cls is decayed(Package) is pickle.loads(pickle.dumps(cls))
    assert type(attach(Package([torch.zeros(1)]), "constant")) is cls
    with pytest.raises(TypeError, match="abstract"):
        decayed(Abstract)([torch.zeros(1)])


@pytest.mark.parametrize("way", ["decayed", "attach", "pickle", "deepcopy"])
def test_independent_decay_is_as_defined(way: str) -> None:
    params = cases.make_params()
    arguments: dict[str, Any] = {"lr": PEAK, "weight_decay": 0.03}
    if way == "decayed":
        optimizer: Any = decayed(Package)(params, decay="independent", **arguments)
    else:
        optimizer = attach(Package(params, **arguments), "independent")
    if way == "pickle":
        optimizer = pickle.loads(pickle.dumps(optimizer))
    elif way == "deepcopy":
        optimizer = copy.deepcopy(optimizer)
    for mine, expected in zip(
        trained(optimizer, optimizer.param_groups[0]["params"]), by_hand(), strict=True
    ):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-14)
    assert optimizer.about() == "plain descent"


def test_a_class_in_front_with_its_own_step_still_reaches_the_rule() -> None:
    """As Lightning Fabric does it: a subclass made of the instance's class, its dict copied."""
    params, calls = cases.make_params(), []

    class Wrapper:
        def __init__(self, optimizer: Any) -> None:
            self.__dict__.update(optimizer.__dict__)
            self.wrapped = optimizer

        def step(self, closure: Any = None) -> Any:
            calls.append(1)
            return self.wrapped.step(closure)

    inner = attach(Package(params, lr=PEAK, weight_decay=0.03), "independent")
    cls = type("Wrapped", (Wrapper, type(inner)), {})
    assert cls.__mro__[1:5] == (Wrapper, type(inner), Decayed, Package)
    for mine, expected in zip(trained(cls(inner), params), by_hand(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-14)
    assert len(calls) == len(LRS)


def test_the_conformance_suite() -> None:
    check_optimizer(Package)
