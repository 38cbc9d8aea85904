"""Warm restarts with normalized decay: the schedule of AdamWR, on any optimizer.

The learning rate restarts after 2, 4 and 8 epochs, and the decay is set anew for the length of each
cycle, as the AdamW paper prescribes.
"""

import torch

import halflife
from halflife import schedules

weight = torch.nn.Parameter(torch.ones(4))
optimizer = halflife.AdamW([weight], lr=1e-3, weight_decay=0.025, decay="independent")
restarts = schedules.cosine_warm_restarts(T_0=2, T_mult=2, steps_per_epoch=10)
scheduler = schedules.JointScheduler(
    optimizer, lr=restarts, weight_decay=schedules.normalized_decay(restarts)
)
print("snapshots after epochs", restarts.snapshot_epochs(14))

for epoch in range(14):
    group = optimizer.param_groups[0]
    print(f"epoch {epoch:2d}  lr {group['lr']:.2e}  weight_decay {group['weight_decay']:.2e}")
    for _ in range(10):
        weight.grad = torch.randn(4)
        optimizer.step()
        scheduler.step()
