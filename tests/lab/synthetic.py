"""Landscapes whose optimum, slope and noise we choose, as a ledger's records and meta data.

The error of a cell is a valley over log weight_decay (in the rule's own coefficient) whose bottom
moves along a line of the chosen slope, plus a bowl over log lr. Seeds add noise.
"""

from __future__ import annotations

import math

import numpy as np

from halflife.lab.meta import Meta

RATE = {  # fraction removed per step and unit of the coefficient
    "decoupled": lambda lr, center: lr,
    "independent": lambda lr, center: 1.0,
    "stable": lambda lr, center: lr * 30.0,
}
STEPS, STEPS_PER_EPOCH = 240, 7


def grid(low, high, n):
    return [float(f"{v:.6g}") for v in np.geomspace(low, high, n)]


def meta(rules=("decoupled", "independent"), *, lrs=None, strengths=None, seeds=3, **extra):
    lrs = lrs or grid(1e-4, 1e-1, 9)
    center = lrs[len(lrs) // 2]
    strengths = strengths or grid(3e-6, 3e-1, 11)
    coefficients = {
        rule: [s / RATE[rule](center, center) if rule in RATE else 0.01 * s for s in strengths]
        for rule in rules
    }
    return Meta(
        name="digits",
        description="a small network on 400 handwritten digits, a fifth mislabelled",
        optimizer="adamw",
        rules=list(rules),
        lrs=lrs,
        strengths={rule: list(strengths) for rule in rules},
        coefficients=coefficients,
        central_lr=center,
        seeds=list(range(seeds)),
        epochs=round(STEPS / STEPS_PER_EPOCH),
        steps=STEPS,
        steps_per_epoch=STEPS_PER_EPOCH,
        batch_size=64,
        schedule="cosine",
        extensions=[],
        extend=True,
        extension_limit=4,
        calibration={},
        prediction="updates are pure noise and training lasts long enough to forget its start",
        command="halflife landscape --task digits --optimizer adamw --out runs/demo",
        versions={"halflife": "0.1.0", "torch": "2.13.0"},
        report={"name": "test_error", "unit": "%"},
        **extra,
    )


def record(rule, lr, strength, coefficient, seed, error, *, fraction=None, predicted=None, **more):
    steps = [0, 40, 80, 120, 160, 200, STEPS]
    curve = [error + (90.0 - error) * math.exp(-t / 25.0) for t in steps]
    return {
        "rule": rule,
        "lr": lr,
        "strength": strength,
        "weight_decay": coefficient,
        "fraction": fraction,
        "seed": seed,
        "params": {},
        "status": "done",
        "metrics": {
            "test_error": error,
            "test_loss": error / 20.0,
            "train_loss": error / 40.0,
        },
        "error": None,
        "weight_rms": 0.12,
        "predicted_rms": predicted,
        "curve": {"step": steps, "train_loss": [c / 40.0 for c in curve], "test_error": curve},
        "diverged": False,
        "seconds": 0.1,
    } | more


def landscape(
    meta,
    *,
    slopes,
    noise=0.0,
    best=7.0,
    bottom=3e-3,
    baseline=1.6,
    seed=0,
    width=1.2,
    default=1.2,
):
    """Records of a landscape. Slopes are in each rule's own coefficient, noise in points.

    At the central lr the best strength is ``bottom``; without decay the error is ``baseline``
    higher than at the bottom of the valley, and with torch's default ``default`` higher. The
    confirmation seeds of ``meta`` have every setting: it is the analysis that must pass them over.
    """
    rng = np.random.default_rng(seed)
    center, seeds = meta.central_lr, [*meta.seeds, *meta.confirm_seeds]
    draw = lambda: noise * rng.standard_normal()  # noqa: E731
    shared = {s: draw() for s in seeds}
    bowl = lambda lr: 0.12 * math.log(lr / center) ** 2  # noqa: E731
    out = []
    for lr in meta.lrs:
        for s in seeds:
            error = best + baseline + bowl(lr) + shared[s] + draw()
            out.append(record("none", lr, 0.0, 0.0, s, error, fraction=0.0))
    for lr in meta.lrs if meta.default_decay is not None else ():
        for s in seeds:
            error = best + default + bowl(lr) + shared[s] + draw()
            fraction = lr * meta.default_decay
            out.append(
                record("decoupled", lr, None, meta.default_decay, s, error, fraction=fraction)
            )
    for rule in meta.rules:
        for lr in meta.lrs:
            columns = zip(meta.strengths[rule], meta.coefficients[rule], strict=True)
            for strength, coefficient in columns:
                z = math.log(strength / bottom) - slopes[rule] * math.log(lr / center)
                valley = baseline * (1.0 - math.exp(-((z / (2.0 * width)) ** 2)))
                if z > 0.0:  # too much decay costs more than too little, up to chance level
                    valley = min(0.4 * (z / width) ** 2, 80.0)
                fraction = predicted = None
                if rule in RATE:
                    fraction = min(RATE[rule](lr, center) * coefficient, 0.9)
                    predicted = math.sqrt(lr**2 / (2.0 * fraction))
                for s in seeds:
                    error = min(best + valley + bowl(lr) + shared[s] + draw(), 90.0)
                    rms = 0.12
                    if predicted is not None:
                        settled = 1.0 - math.exp(-2.0 * fraction * STEPS)
                        rms = predicted * settled + 0.12 * (1.0 - settled)
                    out.append(
                        record(
                            rule,
                            lr,
                            strength,
                            coefficient,
                            s,
                            error,
                            fraction=fraction,
                            predicted=predicted,
                            weight_rms=rms * math.exp(0.1 * rng.standard_normal()),
                        )
                    )
    return out
