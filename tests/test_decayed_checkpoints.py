"""A decayed optimizer stopped and resumed, and what it leaves in a checkpoint and in memory."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch

import cases
import halflife
from cases import CORE, RULES, STEPS, OptimizerCase, RuleCase, weights
from halflife import AdamW
from halflife.bases.effective_rate import SUM_KEY
from resuming import WAYS

by_id: Any = {"ids": lambda case: getattr(case, "id", None)}
LRS = cases.schedule("cosine")


# What half precision keeps is a group's, whatever the optimizer has of its own: of each family one.
IN_HALF = [cases.optimizer(name) for name in ("SGD-momentum", "AdamW")]
RESUMED = [
    pytest.param(optimizer, dtype, id=f"{optimizer.id}-{dtype}")
    for dtype, optimizers in ((torch.float64, CORE), (torch.bfloat16, IN_HALF))
    for optimizer in optimizers
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("optimizer", "dtype"), RESUMED)
@pytest.mark.parametrize("rule", RULES, **by_id)
def test_resuming_equals_not_stopping(
    rule: RuleCase, optimizer: OptimizerCase, way: Any, dtype: torch.dtype
) -> None:
    def make(params: Any) -> Any:
        groups = [{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.01}]
        return (
            optimizer.make(groups, rule, eps=1e-3)
            if optimizer.oracle == "adam"
            else (optimizer.make(groups, rule))
        )

    params = cases.make_params(dtype=dtype)
    ours = make(params)
    gradients = cases.make_gradients()
    half = STEPS // 2 + 1  # the parameter that misses gradients has just missed one
    cases.train(ours, params, gradients[:half], [LRS[:half]] * 2)
    resumed, resumed_params = way(ours, params, make)
    cases.train(ours, params, gradients[half:], [LRS[half:]] * 2)
    cases.train(resumed, resumed_params, gradients[half:], [LRS[half:]] * 2)
    assert torch.equal(weights(params), weights(resumed_params))


@pytest.mark.parametrize("rule", RULES, **by_id)
def test_state_dict_is_plain_data(rule: RuleCase) -> None:
    ours = AdamW(cases.make_params(), decay=rule.rule, weight_decay=0.01)

    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(isinstance(k, (str, int)) and plain(v) for k, v in value.items())
        if isinstance(value, (list, tuple)):
            return all(map(plain, value))
        return isinstance(value, (int, float, str, bool, torch.Tensor, type(None)))

    assert plain(ours.state_dict())
    assert isinstance(ours.param_groups[0]["decay"], halflife.DecayRule)  # live, it stays an object


def test_an_unknown_rule_in_a_checkpoint_changes_nothing() -> None:
    ours = AdamW(cases.make_params(), lr=0.1)
    checkpoint = ours.state_dict()
    checkpoint["param_groups"][0].update(decay={"name": "decupled"}, lr=0.7)
    with pytest.raises(ValueError, match="'decupled': unknown rule, did you mean 'decoupled'"):
        ours.load_state_dict(checkpoint)
    assert ours.param_groups[0]["lr"] == 0.1


def test_mid_schedule_resume_with_a_torch_scheduler() -> None:
    def make() -> tuple[Any, Any, Any]:
        torch.manual_seed(3)
        w = torch.nn.Parameter(torch.randn(4))
        ours = AdamW([w], lr=0.1, weight_decay=0.05, decay="corrected")
        return w, ours, torch.optim.lr_scheduler.OneCycleLR(ours, max_lr=0.1, total_steps=20)

    def go(w: Any, ours: Any, scheduler: Any, steps: range) -> None:
        for t in steps:
            w.grad = torch.full_like(w, 0.1 * (t + 1))
            ours.step()
            scheduler.step()

    straight, stopped, resumed = make(), make(), make()
    go(*straight, range(18))
    go(*stopped, range(7))
    resumed[0].data.copy_(stopped[0])
    resumed[2].load_state_dict(stopped[2].state_dict())
    resumed[1].load_state_dict(stopped[1].state_dict())
    go(*resumed, range(7, 18))
    assert torch.equal(straight[0], resumed[0])


def test_no_reference_cycle_keeps_the_model_alive() -> None:
    w = torch.nn.Parameter(torch.ones(3))
    ours = AdamW([w], decay="stable", weight_decay=0.1)
    w.grad = torch.ones(3)
    ours.step()
    watch = weakref.ref(ours)
    del ours
    gc.collect()
    assert watch() is None


def test_a_checkpoint_without_weight_decay_leaves_the_constructed_one() -> None:
    """torch's Rprop has none, so its file brings none: ``1 - (lr / peak) wd`` all the same."""
    w = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    native = torch.optim.Rprop([w], lr=0.2)
    cases.stepped(native, [w], 1)
    ours = halflife.decayed(torch.optim.Rprop)(
        [w], lr=0.2, weight_decay=0.5, decay="independent", peak_lr=0.4
    )
    ours.load_state_dict(native.state_dict())
    cases.stepped(ours, [w], 2)
    torch.testing.assert_close(w.detach(), torch.full_like(w, (1 - 0.5 * 0.5) ** 2))
    assert ours.state[w]["step"] == 3


@pytest.mark.parametrize(
    ("cls", "decay", "key"),
    [(halflife.NAdam, "decoupled", "mu_product"), (halflife.Adam, "stable", SUM_KEY)],
    ids=["scalar", "sum"],
)
def test_later_steps_leave_a_loaded_number_as_it_was(cls: Any, decay: str, key: str) -> None:
    w = torch.nn.Parameter(torch.ones(3))
    first, second = (cls([w], lr=0.1, weight_decay=0.1, decay=decay) for _ in range(2))
    for optimizer in (first, second):
        w.grad = torch.ones_like(w)
        optimizer.step()
    checkpoint = first.state_dict()
    kept = checkpoint["state"][0][key].clone()
    second.load_state_dict(checkpoint)
    w.grad = 3.0 * torch.ones_like(w)
    second.step()
    assert torch.equal(checkpoint["state"][0][key], kept)
    assert not torch.equal(second.state[w][key], kept)
