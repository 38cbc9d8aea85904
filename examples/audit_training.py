"""An audit before the training: what is wrong with a usual set-up, and the same one put right.

From the command line, in this folder: `halflife audit audit_training:usual`, and `:right`.
"""

import torch
from torch import nn

import halflife
from halflife.diagnostics import audit


class Block(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)


def model() -> nn.Module:
    torch.manual_seed(0)
    blocks = [Block() for _ in range(4)]
    return nn.Sequential(nn.Embedding(64, 32), *blocks, nn.Linear(32, 64, bias=False)).bfloat16()


def usual() -> dict:
    """All parameters, bfloat16 weights, torch's AdamW, lr 3e-4 down to zero."""
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-4, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20_000)
    return {"model": net, "optimizer": optimizer, "schedule": scheduler, "steps_per_epoch": 2_000}


# --8<-- [start:right]
def right() -> dict:
    """Matrices alone, over five epochs, at a decay that keeps their size; nothing is rounded away.

    The strength says so in one place: no weight_decay to convert.
    """
    net = model()
    optimizer = halflife.AdamW(
        halflife.param_groups(net),
        lr=3e-4,
        weight_decay=halflife.Timescale(epochs=5, steps_per_epoch=2_000),
        decay="corrected",
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20_000)
    return {"model": net, "optimizer": optimizer, "schedule": scheduler, "steps_per_epoch": 2_000}


# --8<-- [end:right]


if __name__ == "__main__":
    for build in (usual, right):
        result = audit(**build())
        print(f"{build.__name__}\n\n{result}\n")
