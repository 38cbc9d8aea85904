"""What weight decay does to your own training loop: a sweep over it, and its report.

The loop has a DataLoader, dropout and a validation split. Run it again and it goes on where it was;
`python examples/sweep_plain_loop.py runs/digits` keeps it in that folder.
"""

import sys
import tempfile

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from halflife import lab

images, labels = load_digits(return_X_y=True)
digits = TensorDataset(torch.tensor(images / 16).float(), torch.tensor(labels))
# Once: what is told is of images by which no seed has chosen a setting.
known, test_set = random_split(digits, [900, 897], torch.Generator().manual_seed(0))


def train(trial):
    halves = torch.Generator().manual_seed(trial.seed)
    train_set, val_set = random_split(known, [400, 500], halves)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
    optimizer = trial.optimizer(model)
    for _ in trial.epochs(5):
        model.train()
        for x, y in DataLoader(train_set, batch_size=50, shuffle=True):
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        trial.report(val=error(model, val_set))
    return {"val": error(model, val_set), "test": error(model, test_set)}


@torch.no_grad()
def error(model, part):
    model.eval()
    x, y = part[:]
    return 100 * (model(x).argmax(1) != y).float().mean()


result = lab.sweep(
    train,
    out=sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(),
    lr=lab.log(1e-3, 1e-1, 3),
    weight_decay=lab.log(1e-2, 1, 3),
    seeds=2,
    confirm=4,
    choose=lab.Metric("val", "%", examples=500),
    report=lab.Metric("test", "%", examples=897),
    executor=lab.Local(2),
    resume=True,
)
print(result.sentence)
print(result.report())
