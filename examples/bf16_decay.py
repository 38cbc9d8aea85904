"""How much of AdamW's weight decay bfloat16 weights keep, by implementation and learning rate.

Noise for gradients, weight_decay=0.1, 1,000 steps, once with the decay and once without. What the
first lost of its initial weights more than the second is compared with 1 - exp(-steps lr wd).
"""

import math

import torch

import halflife

STEPS, WEIGHT_DECAY = 1000, 0.1


def weights_after(make, lr: float, weight_decay: float, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    weights = torch.nn.Parameter(
        (0.02 * torch.randn(10_000, generator=generator)).to(dtype)  # as in an initial network
    )
    optimizer = make([weights], lr=lr, weight_decay=weight_decay)
    for _ in range(STEPS):
        weights.grad = torch.randn(10_000, generator=generator).to(dtype)
        optimizer.step()
    return weights.detach().double()


def kept(make, lr: float, dtype: torch.dtype = torch.bfloat16) -> float:
    generator = torch.Generator().manual_seed(0)
    start = (0.02 * torch.randn(10_000, generator=generator)).to(dtype).double()
    lost = weights_after(make, lr, 0.0, dtype) - weights_after(make, lr, WEIGHT_DECAY, dtype)
    due = 1.0 - math.exp(-STEPS * lr * WEIGHT_DECAY)
    return ((lost @ start) / (start @ start)).item() / due


def torch_adamw(**implementation: bool):
    return lambda params, **settings: torch.optim.AdamW(params, **settings, **implementation)


ROWS = {
    "torch, float32": (torch_adamw(foreach=False), torch.float32),
    "torch, for-loop": (torch_adamw(foreach=False), torch.bfloat16),
    "torch, foreach": (torch_adamw(foreach=True), torch.bfloat16),
    "torch, fused": (torch_adamw(fused=True), torch.bfloat16),
    "halflife": (halflife.AdamW, torch.bfloat16),
}

if __name__ == "__main__":
    rates = (1e-3, 1e-4, 1e-5)
    print(f"{'decay kept, lr':<18}" + "".join(f"{lr:>8g}" for lr in rates))
    for name, (make, dtype) in ROWS.items():
        shares = "".join(f"{100 * kept(make, lr, dtype):>6.0f} %" for lr in rates)
        print(f"{name:<18}{shares}", flush=True)
