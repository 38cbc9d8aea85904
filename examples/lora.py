"""LoRA and weight decay: the product decays at twice the rate of its factors, whatever alpha is.

A layer as in the LoRA paper, written by hand; parameter names of peft sort the same way. Adapters
start at the pretrained weights (B = 0), so decay of A and B is decay toward those.
"""

import torch
from torch import Tensor, nn

import halflife


# --8<-- [start:layer]
class LoRALinear(nn.Module):
    """``W = W0 + (alpha / rank) B A``; W0 is frozen."""

    def __init__(self, base: nn.Linear, rank: int = 4, alpha: float = 8.0) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_A = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        self.scale = alpha / rank

    def delta(self) -> Tensor:
        """What is added to the pretrained weight."""
        return self.scale * self.lora_B @ self.lora_A

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * (x @ self.lora_A.T @ self.lora_B.T)


# --8<-- [end:layer]


def adapted(alpha: float = 8.0) -> nn.Module:
    torch.manual_seed(0)
    layers = (LoRALinear(nn.Linear(16, 32), alpha=alpha), nn.ReLU(), nn.LayerNorm(32))
    return nn.Sequential(*layers, nn.Linear(32, 4))


# --8<-- [start:optimizer]
def optimizer_of(model: nn.Module, steps: int) -> halflife.AdamW:
    """The adapter forgets half of what it learned in so many steps; the rest follows a rule."""
    groups = halflife.param_groups(
        model,
        overrides={  # the first pattern that matches wins
            "*.lora_[AB]": {"weight_decay": halflife.HalfLife(steps=2 * steps)},
            "3.weight": {"weight_decay": halflife.HalfLife(steps=steps)},  # a new head: toward 0
        },
    )
    return halflife.AdamW(groups, lr=1e-3, weight_decay=0.0)


# --8<-- [end:optimizer]


def share_left(alpha: float, steps: int) -> float:
    """How much of the adapter is left after so many steps without a gradient."""
    model = adapted(alpha)
    adapter = model[0]
    nn.init.normal_(adapter.lora_B)
    before = adapter.delta().norm()
    optimizer = optimizer_of(model, steps)
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    for _ in range(steps):
        optimizer.step()
    return (adapter.delta().norm() / before).item()


if __name__ == "__main__":
    print(halflife.param_groups(adapted()))
    print(halflife.describe(optimizer_of(adapted(), 500)))
    for alpha in (8.0, 64.0):
        print(f"alpha {alpha:g}: left of B A after 500 steps: {share_left(alpha, 500):.3f}")
