"""Lightning Fabric: bfloat16, accumulation, clipping, and resuming from its checkpoint.

Needs the extra lightning.
"""

import tempfile
from pathlib import Path

import torch
from lightning.fabric import Fabric
from sklearn.datasets import load_digits

import halflife
from halflife.diagnostics import Monitor

digits = load_digits()
images = torch.tensor(digits.data, dtype=torch.float32) / 16
labels = torch.tensor(digits.target)
steps, accumulate = 60, 2
batches = torch.arange(1000).split(25) * 3  # two for each step

fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")


def build():
    fabric.seed_everything(0, verbose=False)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = halflife.AdamW(
        halflife.param_groups(model),
        lr=1e-2,
        weight_decay=halflife.HalfLife(steps=40),
        decay="independent",
    )
    model, optimizer = fabric.setup(model, optimizer)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-3)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler}


def train(model, optimizer, scheduler, first, last):
    for step in range(first, last):
        for batch in batches[step * accumulate : (step + 1) * accumulate]:
            loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
            fabric.backward(loss / accumulate)
        fabric.clip_gradients(model, optimizer, max_norm=1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


training = build()
with Monitor(training["optimizer"], training["model"], every=20) as monitor:
    train(**training, first=0, last=steps // 2)
    with tempfile.TemporaryDirectory() as folder:
        fabric.save(Path(folder) / "half.ckpt", training)
        resumed = build()
        fabric.load(Path(folder) / "half.ckpt", resumed)
    train(**training, first=steps // 2, last=steps)
    print(monitor.table())
train(**resumed, first=steps // 2, last=steps)

pairs = zip(training["model"].parameters(), resumed["model"].parameters(), strict=True)
print("resumed bit for bit:", all(torch.equal(a, b) for a, b in pairs))
error = 100 * (training["model"](images[1000:]).argmax(1) != labels[1000:]).float().mean()
print(f"test error {error:.1f} %")
