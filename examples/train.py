"""A half-life beside torch's default: chosen on validation images, confirmed on fresh seeds.

A network learns 500 of scikit-learn's digits, a fifth of them wrongly labelled, and could learn the
wrong labels by heart. How long a weight may remember is chosen among fractions of the run, by the
error on 200 further images (their labels are as wrong); then both settings train from new seeds, on
new splits, and are tested on the 1,097 images that are left.

    halflife audit train:build      what torch's default does here; in this folder
    python train.py                 the numbers, two minutes; --choose 1 --fresh 2 is quick

The audit needs nothing but halflife[cli], the numbers scikit-learn too.
"""

import argparse

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

import halflife

EPOCHS, STEPS_PER_EPOCH, BATCH, LR = 60, 10, 50, 1e-3
CHOOSE, FRESH = 5, 20  # seeds for the choice, and to compare on
SPLIT = [500, 200, 1097]  # training, validation, test
HALF_LIVES = [60, 30, 20, 15, 10, 6]  # epochs: the run, and its half to its tenth


def network() -> nn.Module:
    return nn.Sequential(
        *(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    )


def usual(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=LR)


# --8<-- [start:chosen]
def chosen(model: nn.Module, epochs: float) -> torch.optim.Optimizer:
    return halflife.AdamW(
        halflife.param_groups(model),  # biases do not decay
        lr=LR,
        weight_decay=halflife.HalfLife(epochs=epochs, steps_per_epoch=STEPS_PER_EPOCH),
    )


# --8<-- [end:chosen]


def schedule(optimizer: torch.optim.Optimizer, length: int = EPOCHS) -> CosineAnnealingLR:
    return CosineAnnealingLR(optimizer, length * STEPS_PER_EPOCH)


def build() -> tuple[nn.Module, torch.optim.Optimizer, CosineAnnealingLR]:
    """The training with torch's default, for `halflife audit`."""
    model = network()
    optimizer = usual(model)
    return model, optimizer, schedule(optimizer)


def split(seed: int, wrong: float) -> list[tuple[Tensor, Tensor]]:
    """Training, validation and test images with their labels; only those of the test are right."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    labels = torch.tensor(digits.target)
    random = torch.Generator().manual_seed(seed)
    parts = torch.randperm(len(images), generator=random).split(SPLIT)
    noisy = labels.clone()
    changed = torch.rand(len(labels), generator=random) < wrong
    noisy[changed] = torch.randint(10, (int(changed.sum()),), generator=random)
    given = (noisy, noisy, labels)
    return [(images[part], of[part]) for part, of in zip(parts, given, strict=True)]


def error(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    with torch.no_grad():
        return 100 * (model(data[0]).argmax(1) != data[1]).float().mean().item()


def trained(
    seed: int, epochs: float | None, wrong: float = 0.2, length: int = EPOCHS, noise: bool = False
) -> tuple[nn.Module, list]:
    """The model after the run, with a half-life of so many epochs or torch's default, and data.

    With noise, the gradients are replaced by it: nothing is learned, and only the sizes mean much.
    """
    data = split(seed, wrong)
    images, labels = data[0]
    torch.manual_seed(seed)
    model = network()
    optimizer = usual(model) if epochs is None else chosen(model, epochs)
    scheduler = schedule(optimizer, length)
    for _ in range(length):
        for batch in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            for p in model.parameters() if noise else ():
                p.grad = torch.randn_like(p)
            optimizer.step()
            scheduler.step()
    return model, data


def rms(model: nn.Module) -> float:
    weights = torch.cat([p.detach().flatten() for p in model.parameters() if p.ndim > 1])
    return weights.square().mean().sqrt().item()


def shown(values: list[float]) -> str:
    """Mean and 95 % interval of the mean (Student's t)."""
    from scipy import stats

    values = torch.tensor(values)
    width = stats.t.ppf(0.975, len(values) - 1) * values.std() / len(values) ** 0.5
    return f"{values.mean():.1f} +- {width:.1f}"


def main(choose: int, fresh: int, length: int) -> None:
    best, lowest = None, float("inf")
    for epochs in [None, *HALF_LIVES]:
        found = [trained(seed, epochs, length=length) for seed in range(choose)]
        mean = sum(error(model, data[1]) for model, data in found) / choose
        name = "torch's default" if epochs is None else f"half-life {epochs} epochs"
        print(f"{name:<20}  validation error {mean:.1f} %", flush=True)
        if epochs is not None and mean < lowest:
            best, lowest = epochs, mean
    print(f"chosen: {best} epochs of {length}\n")

    seeds = range(1000, 1000 + fresh)
    for labels, wrong in (("a fifth of the labels wrong", 0.2), ("all labels right", 0.0)):
        default = [trained(seed, None, wrong, length) for seed in seeds]
        ours = [trained(seed, best, wrong, length) for seed in seeds]
        errors = [[error(model, data[2]) for model, data in runs] for runs in (default, ours)]
        difference = [b - a for a, b in zip(*errors, strict=True)]
        print(f"{labels}, {fresh} fresh seeds")
        print(f"  test error, torch's default     {shown(errors[0])} %")
        print(f"  test error, chosen half-life    {shown(errors[1])} %")
        print(f"  difference, seed by seed        {shown(difference)} %")
        predicted = halflife.describe(chosen(network(), best)).groups[0].rms
        sizes = [sum(rms(model) for model, _ in runs) / fresh for runs in (default, ours)]
        print(f"  weight RMS, torch's default     {sizes[0]:.4f}")
        print(f"  weight RMS, chosen half-life    {sizes[1]:.4f}")
    left = 0.5 ** (0.5 * length / best)  # the mean of the cosine is a half
    noise, _ = trained(1000, best, length=length, noise=True)
    print(
        f"weight RMS predicted at equilibrium {predicted:.4f}; the run is short of it: the cosine"
    )
    print(f"leaves {100 * left:.0f} % of the initial weights, noise for gradients {rms(noise):.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--choose", type=int, default=CHOOSE, help="seeds for the choice")
    parser.add_argument("--fresh", type=int, default=FRESH, help="fresh seeds for the comparison")
    parser.add_argument("--length", type=int, default=EPOCHS, help="epochs of each run")
    main(**vars(parser.parse_args()))
