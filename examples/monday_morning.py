"""A training with AdamW and weight_decay=0.1: is it doing anything, and what is worth a try?

A network learns 500 of scikit-learn's digits for 60 epochs: as they are (`clean`), or with a fifth
of the labels wrong (`messy`), as labels collected in a hurry are.

    halflife audit monday_morning:build --steps-per-epoch 10
    halflife sweep monday_morning:messy --lr 1e-3 --weight-decay 0.1,1.667,5,16.67 \
        --choose val:% --report test:% --seeds 5 --confirm 12 --no-extend --no-default

In this folder; python monday_morning.py prints the three values of the second command.
"""

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

EPOCHS, STEPS_PER_EPOCH, BATCH, LR = 60, 10, 50, 1e-3


def network() -> nn.Module:
    return nn.Sequential(
        *(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    )


# --8<-- [start:build]
def build():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.1)
    schedule = CosineAnnealingLR(optimizer, EPOCHS * STEPS_PER_EPOCH)
    return model, optimizer, schedule


# --8<-- [end:build]


def parts(seed: int, wrong: float) -> list[tuple[Tensor, Tensor]]:
    """500 images to train on, 200 to choose by, 1,097 to test; only the test's labels are right."""
    from sklearn.datasets import load_digits

    images, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    random = torch.Generator().manual_seed(seed)
    noisy = labels.clone()
    changed = torch.rand(len(labels), generator=random) < wrong
    noisy[changed] = torch.randint(10, (int(changed.sum()),), generator=random)
    rows = torch.randperm(len(images), generator=random).split([500, 200, 1097])
    given = (noisy, noisy, labels)
    return [(images[r].float() / 16, y[r]) for r, y in zip(rows, given, strict=True)]


@torch.no_grad()
def error(model: nn.Module, part: tuple[Tensor, Tensor]) -> float:
    return 100 * (model(part[0]).argmax(1) != part[1]).float().mean().item()


# --8<-- [start:train]
def trained(trial, wrong):
    (images, labels), validation, test = parts(trial.seed, wrong)
    model = network()
    optimizer = trial.optimizer(model)  # lr, weight_decay and groups of this trial
    schedule = CosineAnnealingLR(optimizer, EPOCHS * STEPS_PER_EPOCH)
    trial.keep(schedule=schedule)
    for _ in trial.epochs(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return {"val": error(model, validation), "test": error(model, test)}


def messy(trial):
    return trained(trial, wrong=0.2)


def clean(trial):
    return trained(trial, wrong=0.0)


# --8<-- [end:train]


def three_values(lr: float = LR, steps: int = EPOCHS * STEPS_PER_EPOCH) -> list[float]:
    """Weight decays whose timescale 1 / (lr weight_decay) is the run, a third, a tenth of it."""
    return [times / (lr * steps) for times in (1, 3, 10)]


if __name__ == "__main__":
    print(", ".join(f"{value:.4g}" for value in three_values()))
