"""A plain loop: audit, monitor, bfloat16, accumulation, clipping, and resuming from a checkpoint.

The resumed half of the training ends with the very weights of a training that was not stopped.
"""

import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits

import halflife
from halflife.diagnostics import Monitor, audit

digits = load_digits()
images = torch.tensor(digits.data, dtype=torch.float32) / 16
labels = torch.tensor(digits.target)
steps, accumulate = 60, 2
batches = torch.arange(1000).split(25) * 3  # two for each step


def build():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = halflife.AdamW(
        halflife.param_groups(model),
        lr=1e-2,
        weight_decay=halflife.HalfLife(steps=40),
        decay="independent",
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-3)
    return model, optimizer, scheduler


def train(model, optimizer, scheduler, first, last):
    for step in range(first, last):
        for batch in batches[step * accumulate : (step + 1) * accumulate]:
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(images[batch])
            loss = torch.nn.functional.cross_entropy(logits.float(), labels[batch])
            (loss / accumulate).backward()
        halflife.clip_grad_norm_(optimizer, 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


training = model, optimizer, scheduler = build()
print(audit(model, optimizer, schedule=scheduler, steps_per_epoch=20))

with Monitor(optimizer, model, every=20) as monitor, tempfile.TemporaryDirectory() as folder:
    train(*training, 0, steps // 2)
    torch.save([part.state_dict() for part in training], Path(folder) / "half.pt")
    train(*training, steps // 2, steps)
    print(monitor.table())

    resumed = build()
    for part, state in zip(resumed, torch.load(Path(folder) / "half.pt"), strict=True):
        part.load_state_dict(state)
train(*resumed, steps // 2, steps)

pairs = zip(model.parameters(), resumed[0].parameters(), strict=True)
print("resumed bit for bit:", all(torch.equal(a, b) for a, b in pairs))
error = 100 * (model(images[1000:]).argmax(1) != labels[1000:]).float().mean()
print(f"test error {error:.1f} %")
