"""What weight decay does to a LightningModule: a sweep over it, and its report.

The module makes its optimizer from the trial, and a schedule beside it. Run it again with a folder,
`python examples/sweep_lightning.py runs/lightning`, and it goes on where it was. Needs the extra
lightning.
"""

import sys
import tempfile

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from halflife import lab

images, labels = load_digits(return_X_y=True)
digits = TensorDataset(torch.tensor(images / 16).float(), torch.tensor(labels))
# Once: what is told is of images by which no seed has chosen a setting.
known, test_set = random_split(digits, [900, 897], torch.Generator().manual_seed(0))


class Classifier(lightning.LightningModule):
    def __init__(self, trial):
        super().__init__()
        self.trial = trial
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))

    def configure_optimizers(self):
        optimizer = self.trial.optimizer(self)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)]

    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, index, name="val"):
        self.log(name, 100 * (self.net(batch[0]).argmax(1) != batch[1]).float().mean())

    def test_step(self, batch, index):
        self.validation_step(batch, index, "test")


def loaders(trial):
    halves = torch.Generator().manual_seed(trial.seed)
    train, val = random_split(known, [400, 500], halves)
    return DataLoader(train, 50, shuffle=True), *(DataLoader(d, 1000) for d in (val, test_set))


result = lab.sweep(
    lab.lightning(Classifier, loaders, trainer={"max_epochs": 3}),
    out=sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(),
    lr=lab.log(1e-3, 1e-1, 3),
    weight_decay=lab.log(1e-2, 1, 2),
    rules=["decoupled", "independent"],
    seeds=2,
    confirm=4,
    choose=lab.Metric("val", "%", examples=500),
    report=lab.Metric("test", "%", examples=897),
    executor=lab.Local(2),
    resume=True,
)
print(result.sentence)
print(result.report())
