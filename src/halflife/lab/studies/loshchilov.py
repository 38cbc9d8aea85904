"""Studies of Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (001)."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from ..statistics.ridge import fit_ridge
from ..statistics.valley import FloatArray
from .bench_arms import Arm, measured_cells, tuned
from .bench_moving import moving, shifted
from .bench_runs import FRESH, OTHER, findings, jackknife
from .calls import Call, Curve, Findings, Values, study


@study("001/figure-2")
def figure_2(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """Slopes of the ridges, and errors at equal training loss."""
    wds, n = settings["weight_decay"], settings["seeds"]
    sgd, adam = settings["lr_sgd"], settings["lr_adam"]
    arms = {
        "sgd-l2": Arm("l2", sgd, wds["sgd_l2"], {"optimizer": "sgd"}),
        "sgdw": Arm("independent", sgd, wds["sgdw"], {"optimizer": "sgd"}),
        "adam-l2": Arm("l2", adam, wds["adam_l2"], {"optimizer": "adamw"}),
        "adamw": Arm("independent", adam, wds["adamw"], {"optimizer": "adamw"}),
        "torch-unit": Arm("decoupled", adam, wds["adamw_torch"], {"optimizer": "adamw"}),
    }
    shared = {"task": settings["task"], "schedule": settings["schedule"]}
    found = yield from measured_cells(arms, range(FRESH, FRESH + n), **shared)
    slope = {name: ridge_slopes(arm, found[name]["test"]) for name, arm in arms.items()}
    ours, theirs = found["adamw"], found["adam-l2"]
    values = {
        **{name: slope[name] for name in ("sgdw", "sgd-l2", "adamw", "adam-l2")},
        "torch-unit": slope["torch-unit"] + 1.0,
        "sgdw/null": slope["sgd-l2"],
        "sgdw/planted": slope["torch-unit"] + 1.0,
        "sgd-l2/null": slope["sgdw"],
        "sgd-l2/planted": slope["sgdw"] - 1.0,
        "adamw/null": slope["sgd-l2"],
        "adamw/planted": slope["torch-unit"] + 1.0,
        "adam-l2/null": slope["sgdw"],
        "adam-l2/planted": slope["sgdw"] - 1.0,
        "torch-unit/null": slope["sgdw"] + 1.0,
        "torch-unit/planted": slope["adamw"],
        "equal-training-loss": at_equal_loss(ours, theirs),
        "equal-training-loss/null": at_equal_loss(
            ours, {k: np.roll(v, 1, axis=0) for k, v in ours.items()}
        ),
        "equal-training-loss/planted": at_equal_loss(ours, {**ours, "test": ours["test"] + 1.0}),
    }
    figures = [
        Curve("Best weight decay by learning rate (in units of the middle one's)", "lr",
              "best weight decay", {
                  name: ridge_line(arm, found[name]["test"]) for name, arm in arms.items()
              }, log_x=True, log_y=True)
    ]  # fmt: skip
    return findings(values, figures)


def ridge_slopes(arm: Arm, errors: FloatArray) -> FloatArray:
    """Pseudo-values of the slope of an arm's ridge, one a seed; NaN where there is no ridge."""
    shape = len(arm.lrs), len(arm.weight_decays)
    lrs, wds = np.array(arm.lrs), np.array(arm.weight_decays)

    def slope(of: FloatArray) -> float:
        found = fit_ridge(lrs, wds, of.reshape(-1, *shape).transpose(1, 2, 0)).slope
        return float("nan") if found is None else found

    return jackknife(errors, slope)


def ridge_line(arm: Arm, errors: FloatArray) -> list[tuple[float, float]]:
    """Learning rates and best weight decays of an arm's ridge, relative to the middle one."""
    shape = len(arm.lrs), len(arm.weight_decays)
    grid = errors.reshape(-1, *shape).transpose(1, 2, 0)
    found = fit_ridge(np.array(arm.lrs), np.array(arm.weight_decays), grid)
    middle = found.coefficients[len(found.coefficients) // 2] if found.coefficients else 1.0
    return [(lr, wd / middle) for lr, wd in zip(found.lrs, found.coefficients, strict=True)]


def at_equal_loss(ours: Mapping[str, FloatArray], theirs: Mapping[str, FloatArray]) -> FloatArray:
    """Difference of the test errors at three common quantiles of the training loss, by seed.

    Of each method the error at a loss is the mean of the five cells that are nearest to it in the
    log of the loss, among those that learnt: with an error of at most twice the lowest.
    """
    out = []
    for seed in range(len(ours["test"])):
        points = []
        for each in (ours, theirs):
            loss, error = np.log(each["train"][seed] + 1e-6), each["test"][seed]
            good = np.isfinite(loss) & (error <= 2.0 * error.min())
            points.append((loss[good], error[good]))
        low = max(loss.min() for loss, _ in points)
        high = min(loss.max() for loss, _ in points)
        levels = low + (high - low) * np.array([0.25, 0.5, 0.75])

        def mean_at(level: float, loss: FloatArray, error: FloatArray) -> float:
            return float(error[np.argsort(np.abs(loss - level))[:5]].mean())

        out.append(np.mean([mean_at(v, *points[0]) - mean_at(v, *points[1]) for v in levels]))
    return np.array(out)


@study("001/figure-1")
def figure_1(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """Three schedules by two methods, each at its best."""
    n, shared = settings["seeds"], {"task": settings["task"]}
    schedules = {"cosine": "cosine", "step": "multistep:0.4,0.8", "fixed": "constant"}
    arms = {
        f"{method} {name}": Arm(rule, settings["lr"], settings[rule], {"schedule": schedule})
        for name, schedule in schedules.items()
        for method, rule in (("adamw", "independent"), ("adam", "l2"))
    }
    best = yield from tuned(arms, range(settings["tuning"]), **shared)
    at = {name: arm.at(best[name]) for name, arm in arms.items()}
    at["far"] = arms["adamw cosine"].far(best["adamw cosine"])
    found = yield from measured_cells(at, range(FRESH, FRESH + n), **shared)
    others = yield from measured_cells(
        {"null": at["adamw cosine"]}, range(OTHER, OTHER + n), **shared
    )
    error = {name: each["test"] for name, each in found.items()}
    pairs = {
        "cosine-step": ("adamw cosine", "adamw step"),
        "cosine-fixed": ("adamw cosine", "adamw fixed"),
        "adamw-adam-cosine": ("adamw cosine", "adam cosine"),
        "adamw-adam-fixed": ("adamw fixed", "adam fixed"),
    }
    values: dict[str, Any] = {}
    for claim, (ours, theirs) in pairs.items():
        values[claim] = error[ours] - error[theirs]
        values[f"{claim}/null"] = others["null"]["test"] - error["adamw cosine"]
        values[f"{claim}/planted"] = error["adamw cosine"] - error["far"]
    notes = [f"{name}: chosen {choice}; test error {error[name].mean():.2f}"
             for name, choice in best.items()]  # fmt: skip
    return findings(values, (), notes)


@study("001/supplement-2")
def supplement_2(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """Adam at a fixed rate with many times the epochs, against AdamW with cosine."""
    n, shared = settings["seeds"], {"task": settings["task"]}
    long = settings["epochs"] * settings["factor"]
    arms = {
        "adamw": Arm("independent", settings["lr"], settings["independent"],
                     {"schedule": "cosine", "epochs": settings["epochs"]}),
        "adam": Arm("l2", settings["lr_fixed"], settings["l2"],
                    {"schedule": "constant", "epochs": long}),
    }  # fmt: skip
    best = yield from tuned(arms, range(settings["tuning"]), **shared)
    at = {name: arm.at(best[name]) for name, arm in arms.items()}
    at["far"] = arms["adamw"].far(best["adamw"])
    at["near"] = arms["adamw"].at(best["adamw"], 1.01)
    found = yield from measured_cells(at, range(FRESH, FRESH + n), **shared)
    others = yield from measured_cells({"null": at["adamw"]}, range(OTHER, OTHER + n), **shared)
    error = {name: each["test"] for name, each in found.items()}
    gap = error["adamw"] - error["adam"]
    values = {
        "not-better": gap - 0.5,
        "not-better/null": error["far"] - error["adamw"] - 0.5,
        "not-better/planted": error["near"] - error["adamw"] - 0.5,
        "worse": gap,
        "worse/null": others["null"]["test"] - error["adamw"],
        "worse/planted": error["adamw"] - error["far"],
    }
    notes = [f"{name}: chosen {choice}; test error {error[name].mean():.2f}"
             for name, choice in best.items()]  # fmt: skip
    return findings(values, (), notes)


@study("001/supplement-3")
def supplement_3(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """How the best weight decay moves with the number of epochs."""
    n, wds = settings["seeds"], settings["weight_decay"]
    tasks = {
        "memorising": ({"kind": "digits", "batch_norm": True}, settings["digits"]),
        "few-passes": ({"kind": "fashion", "batch_norm": True, "label_noise": 0.2,
                         "images": settings["images"]},
                       settings["fashion"]),
    }  # fmt: skip
    arms = {
        f"{claim} {epochs}": Arm("independent", [settings["lr"]], wds,
                                 {"task": task, "epochs": epochs, "schedule": "cosine"})
        for claim, (task, lengths) in tasks.items()
        for epochs in lengths
    }  # fmt: skip
    found = yield from measured_cells(arms, range(FRESH, FRESH + n))
    values: dict[str, Any] = {}
    figures = []
    for claim, (_, lengths) in tasks.items():
        errors = np.stack([found[f"{claim} {epochs}"]["test"] for epochs in lengths], axis=1)
        slope = moving(lengths, wds)
        own = jackknife(errors, slope)
        still, moved = (jackknife(shifted(errors, wds, lengths, s), slope) for s in (0.0, -0.5))
        values |= {
            claim: own + 0.5,
            f"{claim}/a fixed timescale": own,
            f"{claim}/a fixed share of the run": own + 1.0,
            f"{claim}/null": still + 0.5,
            f"{claim}/planted": moved + 0.5,
        }
        lines = {f"{epochs} epochs": list(zip(wds, errors[:, i].mean(0).tolist(), strict=True))
                 for i, epochs in enumerate(lengths)}  # fmt: skip
        figures.append(Curve(f"Test error by weight decay: {claim}", "weight decay (paper's unit)",
                             "test error, %", lines, log_x=True))  # fmt: skip
    return findings(values, figures)


@study("001/other-optimizers")
def other_optimizers(settings: Mapping[str, Any]) -> Generator[list[Call], list[Values], Findings]:
    """AMSGrad and AdaGrad, with L2 and decoupled."""
    n, shared = settings["seeds"], {"task": settings["task"], "schedule": "cosine"}
    arms = {
        f"{name} {rule}": Arm(rule, settings[lrs], settings[rule], {"optimizer": name})
        for name, lrs in (("amsgrad", "lr"), ("adagrad", "lr_adagrad"))
        for rule in ("independent", "l2")
    }
    best = yield from tuned(arms, range(settings["tuning"]), **shared)
    at = {name: arm.at(best[name]) for name, arm in arms.items()}
    ours = {name: f"{name} independent" for name in ("amsgrad", "adagrad")}
    at |= {f"far {name}": arms[own].far(best[own]) for name, own in ours.items()}
    found = yield from measured_cells(at, range(FRESH, FRESH + n), **shared)
    null = {name: at[own] for name, own in ours.items()}
    others = yield from measured_cells(null, range(OTHER, OTHER + n), **shared)
    error = {name: each["test"] for name, each in found.items()}
    values: dict[str, Any] = {}
    for name, own in ours.items():
        values[name] = error[own] - error[f"{name} l2"]
        values[f"{name}/null"] = others[name]["test"] - error[own]
        values[f"{name}/planted"] = error[own] - error[f"far {name}"]
    notes = [f"{name}: chosen {choice}; test error {error[name].mean():.2f}"
             for name, choice in best.items()]  # fmt: skip
    return findings(values, (), notes)
