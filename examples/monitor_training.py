"""Watch a training: what each step does to the weights, beside what theory predicts.

The records also go to a file, from which a later program, or a resumed run, reads them.
"""

import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits

import halflife
from halflife.diagnostics import Monitor
from halflife.diagnostics.gradient_norms import gradient_norms
from halflife.diagnostics.histograms import update_histogram
from halflife.diagnostics.monitor import read_records

digits = load_digits()
images = torch.tensor(digits.data, dtype=torch.float32) / 16
labels = torch.tensor(digits.target)
batches = list(zip(images.split(50), labels.split(50), strict=True))

torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Linear(64, 64, bias=False),
    torch.nn.BatchNorm1d(64),
    torch.nn.ReLU(),
    torch.nn.Linear(64, 10),
)
optimizer = halflife.AdamW(
    halflife.param_groups(model),
    lr=3e-3,
    weight_decay=halflife.TargetRMS(0.05),
    decay="corrected",
)
loss = torch.nn.functional.cross_entropy

with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "run.jsonl"
    per_epoch = len(batches)
    monitor = Monitor(optimizer, model, every=50, sinks=[file], steps_per_epoch=per_epoch)
    with monitor:
        for _ in range(20):
            for inputs, targets in batches:
                optimizer.zero_grad()
                loss(model(inputs), targets).backward()
                optimizer.step()
    print(monitor.table())
    for record in read_records(file):
        if record["name"] == "decayed" and record["step"] % 200 == 0:
            rms, target = record["weight_rms"], record["weight_rms_predicted"]
            print(f"epoch {record['epoch']:4.1f}: weight RMS {rms:.4f}, predicted {target:.4f}")

print(update_histogram(optimizer).spread, "powers of two: spread of the updates")
print(gradient_norms(model, loss, batches))
