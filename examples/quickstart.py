"""One import swapped: decay given as a half-life, and the table of what it means.

Trains a small network on scikit-learn's digits, once with torch's AdamW and once with halflife's,
which is the same optimizer with its decay stated in a unit that one can think in.
"""

import torch
from sklearn.datasets import load_digits

import halflife

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.data, dtype=torch.float32) / 16
labels = torch.tensor(digits.target)
train, test = slice(0, 1000), slice(1000, None)

model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
steps_per_epoch, epochs = 20, 15

optimizer = halflife.AdamW(
    halflife.param_groups(model),  # biases do not decay; print it to see why
    lr=1e-2,
    weight_decay=halflife.HalfLife(epochs=3, steps_per_epoch=steps_per_epoch),
)
print(halflife.describe(optimizer, steps_per_epoch=steps_per_epoch))

scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps_per_epoch)
for _ in range(epochs):
    for batch in torch.randperm(1000).split(50):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images[train][batch]), labels[train][batch])
        loss.backward()
        optimizer.step()
        scheduler.step()

error = 100 * (model(images[test]).argmax(1) != labels[test]).float().mean()
rms = torch.cat([p.detach().flatten() for p in model.parameters() if p.ndim > 1]).square().mean()
print(f"test error {error:.1f} %, weight RMS {rms.sqrt():.3f}")
