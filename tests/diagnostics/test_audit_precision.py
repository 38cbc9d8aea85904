"""What the audit says of rounding, against real runs in low precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from halflife.diagnostics.auditing import audit


@pytest.mark.parametrize("lr", [1e-3, 3e-4, 1e-4, 1e-5])
def test_verdict_on_fused_steps_in_bfloat16_is_that_of_a_run(lr):
    """The difference that decay makes in a real run of noise, against the audit's verdict."""
    fraction, steps, size = 2e-4, 150, 1 << 14
    weights = (0.02 + 0.01 * torch.rand(size)).bfloat16()
    ends = []
    for decay in (0.0, fraction / lr):
        model = nn.Linear(128, 128, bias=False).bfloat16()
        model.weight.data.copy_(weights.view(128, 128))
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=decay, fused=True)
        if decay:
            codes = [f.code for f in audit(model, optimizer).findings]
        noise = torch.Generator().manual_seed(1)
        for t in range(30 + steps):
            model.weight.grad = torch.randn(128, 128, generator=noise).bfloat16()
            optimizer.step()
            if t == 29:  # the moments have settled; the run starts here
                model.weight.data.copy_(weights.view(128, 128))
        ends.append(model.weight.detach().double().flatten())
    start = weights.double()
    removed = float((ends[0] - ends[1]).dot(start) / start.dot(start))
    kept = removed / (1 - (1 - fraction) ** steps)
    assert ("lost-in-precision" in codes) == (kept < 0.5)


@pytest.mark.parametrize("factor", [0.45, 4.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_threshold_is_a_quarter_of_epsilon(dtype, factor):
    """Below a quarter of epsilon nothing moves, whatever the weight; far above decay arrives."""
    model = nn.Linear(64, 64, bias=False).to(dtype)
    fraction = factor * torch.finfo(dtype).eps / 4
    optimizer = SignDescent(model.parameters(), lr=0.5, weight_decay=2 * fraction)
    result = audit(model, optimizer)
    assert ("lost-in-precision" in [f.code for f in result.errors]) == (factor < 1)
    unchanged = result.parameters[0].unchanged
    assert (unchanged == 1.0) if factor < 1 else (unchanged is None or unchanged < 0.7)


class SignDescent(torch.optim.Optimizer):
    def __init__(self, params, lr, weight_decay):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(p.grad.sign(), alpha=group["lr"])


class Compensated(SignDescent):
    """Keeps the remainders of rounding, as Kahan's summation does."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                exact = state.get("exact", p.float())
                exact = exact * (1 - group["lr"] * group["weight_decay"])
                state["exact"] = exact - group["lr"] * p.grad.sign()
                p.copy_(state["exact"])


def test_an_optimizer_that_keeps_the_remainders_is_believed():
    model = nn.Linear(64, 64, bias=False).bfloat16()
    lost = audit(model, SignDescent(model.parameters(), lr=0.1, weight_decay=0.01))
    kept = audit(model, Compensated(model.parameters(), lr=0.1, weight_decay=0.01))
    assert [f.code for f in lost.errors] == ["lost-in-precision"]
    assert not kept.errors


def test_kahan_summation_that_leaves_out_the_decay_is_found():
    """optimi's carries the remainders of updates only: a real run keeps nothing of the decay."""
    optimi = pytest.importorskip("optimi", reason="needs the third-party optimizers")
    start = (0.02 * torch.randn(64, 64)).bfloat16()
    ends = []
    for decay in (0.0, 0.1):
        model = nn.Linear(64, 64, bias=False).bfloat16()
        model.weight.data.copy_(start)
        optimizer = optimi.AdamW(model.parameters(), lr=1e-3, weight_decay=decay, kahan_sum=True)
        codes = [f.code for f in audit(model, optimizer).errors]
        noise = torch.Generator().manual_seed(0)
        for _ in range(50):
            model.weight.grad = torch.randn(64, 64, generator=noise).bfloat16()
            optimizer.step()
        ends.append(model.weight.detach().clone())
    assert torch.equal(*ends)
    assert codes == ["lost-in-precision"]
