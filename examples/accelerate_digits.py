"""accelerate: bfloat16, accumulation, clipping, and resuming from its checkpoint.

Needs the extra hf.
"""

import tempfile

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits

import halflife
from halflife.diagnostics import Monitor

digits = load_digits()
images = torch.tensor(digits.data, dtype=torch.float32) / 16
labels = torch.tensor(digits.target)
train_set = torch.utils.data.TensorDataset(images[:1000], labels[:1000])

accelerator = Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=2)


def build():
    set_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = halflife.AdamW(
        halflife.param_groups(model),
        lr=1e-2,
        weight_decay=halflife.HalfLife(steps=40),
        decay="independent",
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 80, eta_min=1e-3)
    loader = torch.utils.data.DataLoader(train_set, 25)
    return accelerator.prepare(model, optimizer, scheduler, loader)


def epoch(model, optimizer, scheduler, loader):
    for images, labels in loader:
        with accelerator.accumulate(model):
            accelerator.backward(torch.nn.functional.cross_entropy(model(images), labels))
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()


training = build()
monitor = Monitor(training[1], training[0], every=20)
for _ in range(2):
    epoch(*training)
with tempfile.TemporaryDirectory() as folder:
    accelerator.save_state(folder)
    for _ in range(2):
        epoch(*training)
    print(monitor.table())
    monitor.close()
    weights = [p.detach().clone() for p in training[0].parameters()]

    accelerator.load_state(folder)  # back to the middle
    for _ in range(2):
        epoch(*training)

pairs = zip(weights, training[0].parameters(), strict=True)
print("resumed bit for bit:", all(torch.equal(a, b) for a, b in pairs))
error = 100 * (training[0](images[1000:]).argmax(1) != labels[1000:]).float().mean()
print(f"test error {error:.1f} %")
