"""Optimizers that hold one part of a model: what would take it for the whole is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

import halflife
from halflife import Adaptive, Cautious, NormControl, ProximalNorm, Stable, attach, decayed

WHOLE: list[Any] = [Stable(), Stable(eps=1e-8), Adaptive(), ProximalNorm(), Cautious(Stable())]
EACH: list[Any] = [
    "decoupled", "independent", "constant", "corrected", "proximal", "l2", Cautious(),
    NormControl(target=0.1), ProximalNorm(per_tensor=True), "preconditioned", "anchored",
]  # fmt: skip


@pytest.fixture
def two_processes() -> Iterator[None]:
    """The first of two; nothing is sent."""
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    yield
    dist.destroy_process_group()


def params() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(3, 2)) for _ in range(4)]


def zero(cls: type, **settings: Any) -> Any:
    from torch.distributed.optim import ZeroRedundancyOptimizer

    return ZeroRedundancyOptimizer(params(), optimizer_class=cls, lr=0.1, **settings)


class OwnAdamW(halflife.AdamW):
    """A user's subclass, whose constructor stands between."""

    def __init__(self, params: Any, **settings: Any) -> None:
        super().__init__(params, **settings)


@pytest.mark.usefixtures("two_processes")
@pytest.mark.parametrize("cls", [halflife.AdamW, OwnAdamW, decayed(torch.optim.Adam)])
@pytest.mark.parametrize("rule", WHOLE, ids=repr)
def test_zero_redundancy_and_a_rule_of_the_whole_model(rule: Any, cls: type) -> None:
    with pytest.raises(ValueError, match=r"ZeroRedundancyOptimizer gives each process a part"):
        zero(cls, decay=rule, weight_decay=0.1)


@pytest.mark.usefixtures("two_processes")
@pytest.mark.parametrize("rule", WHOLE, ids=repr)
def test_a_rule_attached_to_what_zero_redundancy_has_built(rule: Any) -> None:
    wrapper = zero(torch.optim.AdamW, weight_decay=0.1)
    with pytest.raises(ValueError, match=r"ZeroRedundancyOptimizer gives each process a part"):
        attach(wrapper.optim, rule)
    assert type(wrapper.optim) is torch.optim.AdamW
    assert attach(wrapper.optim, "decoupled") is wrapper.optim


@pytest.mark.usefixtures("two_processes")
@pytest.mark.parametrize("rule", EACH, ids=repr)
def test_zero_redundancy_and_rules_of_each_tensor(rule: Any) -> None:
    """It gives out whole tensors."""
    optimizer = zero(halflife.AdamW, decay=rule, weight_decay=0.1)
    assert 0 < len(optimizer.optim.param_groups[0]["params"]) < 4


@pytest.mark.usefixtures("two_processes")
def test_a_rate_of_the_settings_is_the_same_everywhere() -> None:
    zero(halflife.SGD, momentum=0.9, decay="stable", weight_decay=0.1)
    zero(halflife.SGD, momentum=0.9, decay=Cautious(Stable()), weight_decay=0.1)
    with pytest.raises(ValueError, match="ZeroRedundancyOptimizer"):
        zero(halflife.SGD, decay=ProximalNorm(Stable()), weight_decay=0.1)


@pytest.mark.usefixtures("two_processes")
def test_a_base_whose_own_step_takes_a_mean_over_the_model() -> None:
    with pytest.raises(ValueError, match="Adai: takes norms or means of whole tensors or models"):
        zero(halflife.Adai, decay="decoupled", weight_decay=0.1)


@pytest.mark.usefixtures("two_processes")
def test_a_rule_written_later_is_refused_before_anything_changes() -> None:
    optimizer = zero(halflife.AdamW, weight_decay=0.1).optim
    optimizer.param_groups[0]["decay"] = "stable"
    for p in optimizer.param_groups[0]["params"]:
        p.grad = torch.ones_like(p)
    with pytest.raises(ValueError, match="ZeroRedundancyOptimizer"):
        optimizer.step()
    assert all(bool((p == 1.0).all()) for p in optimizer.param_groups[0]["params"])


def test_alone_nothing_is_refused() -> None:
    """One process holds all; and an optimizer that merely stands beside such a one does too."""
    dist.init_process_group("fake", rank=0, world_size=1, store=FakeStore())
    try:
        optimizer = zero(halflife.AdamW, decay="stable", weight_decay=0.1)
    finally:
        dist.destroy_process_group()
    assert len(optimizer.optim.param_groups[0]["params"]) == 4


@pytest.mark.usefixtures("two_processes")
def test_beside_it_nothing_is_refused() -> None:
    zero(halflife.AdamW)
    halflife.AdamW(params(), decay="stable")


@pytest.mark.parametrize("rule", [*WHOLE, NormControl(target=0.1), ProximalNorm(per_tensor=True)])
def test_flattened_parameters(rule: Any) -> None:
    """FSDP1 marks what it flattens and cuts up, with ``use_orig_params`` or without."""
    marked = params()
    for p in marked:
        p._fsdp_flattened = True  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="FullyShardedDataParallel gives each process a part"):
        halflife.AdamW(marked, decay=rule, weight_decay=0.1)
    plain = torch.optim.AdamW(marked)
    with pytest.raises(ValueError, match="FullyShardedDataParallel"):
        halflife.attach(plain, rule)
    assert type(plain) is torch.optim.AdamW
    for each in ("cautious", "anchored", "huber", "proximal_l1", "preconditioned", "power"):
        halflife.AdamW(marked, decay=each, weight_decay=0.1)  # of single elements
