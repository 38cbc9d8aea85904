"""Draw what the theory predicts beside what runs do: docs/images/theory_*.svg.

Takes about half a minute. Run from the repository's root: python scripts/theory_figures.py
With --numbers it prints the numbers of docs/theory.md and draws nothing.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path as File
from typing import Any

import torch
from torch import Tensor

import halflife
from halflife.schedules import constant, cosine, linear
from halflife.theory import equilibrium
from halflife.theory.averaging import Averaging
from halflife.theory.convergence import Problem
from halflife.theory.scale_invariance import norm_exponent
from halflife.theory.stagewise import Stage, stagewise_adamw, theorem_stages
from halflife.theory.transient import mean_square_path

STEPS, PEAK, TOTAL = 4000, 1e-3, 10.0
BETA1 = 0.9


def wsd(step: int) -> float:
    """Constant, then linear to 0 over the last fifth."""
    return min(1.0, (STEPS - step) / (0.2 * STEPS))


SCHEDULES = {
    "constant": constant(),
    "cosine": cosine(STEPS),
    "linear": linear(STEPS),
    "WSD, 20 %": wsd,
    "cosine to 10 %": cosine(STEPS, final=0.1),
}
RULES = ("decoupled", "corrected", "constant")


def averaged(schedule: str, rule: str) -> Averaging:
    """Under a schedule and a rule that would remove TOTAL if the lr stayed at its peak."""
    lrs = [PEAK * SCHEDULES[schedule](t) for t in range(STEPS)]
    return halflife.averaging_of(rule, lrs, TOTAL / STEPS / (1.0 if rule == "constant" else PEAK))


def averaging_table() -> list[str]:
    """The page's table, as Markdown."""
    lines = ["| schedule | rule | K | initial weights left | n_eff / T | mean position |"]
    lines += ["|---|---|---|---|---|---|"]
    for schedule in SCHEDULES:
        for rule in RULES[: 1 if schedule == "constant" else 3]:
            r = averaged(schedule, rule)
            name = "any" if schedule == "constant" else halflife.rules.contract.as_rule(rule)
            name = name if name == "any" else f"`{type(name).__name__}`"
            lines.append(
                f"| {schedule} | {name} | {r.total_decay:.2f} | {100 * r.survival:.2g} % "
                f"| {r.effective_share:.2f} | {r.mean_position:.2f} |"
            )
    return lines


def noise_run(
    rule: str, weight_decay: float, curve: Any, initial: float, *, invariant: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """AdamW on pure noise: mean square after every step, and the (d_t, s_t) of the steps.

    Invariant: the noise is what it is on scale-invariant weights, orthogonal and of size 1/|w|.
    """
    generator = torch.Generator().manual_seed(0)
    w = torch.nn.Parameter(initial * torch.randn(2000, generator=generator, dtype=torch.float64))
    optimizer = halflife.AdamW(
        [w], 0.05, (BETA1, 0.99), eps=0.0, weight_decay=weight_decay, decay=rule
    )
    squares, fractions, sizes = [w.detach().square().mean().item()], [], []
    for t in range(1500):
        lr = 0.05 * curve(t)
        optimizer.param_groups[0]["lr"] = lr
        noise = torch.randn(w.shape, generator=generator, dtype=torch.float64)
        x = w.detach()
        if invariant:
            noise = (noise - x * (x @ noise) / (x @ x)) / x.norm() * math.sqrt(x.numel())
        w.grad = noise
        optimizer.step()
        squares.append(w.detach().square().mean().item())
        rate = optimizer.last_effective_rate if rule == "stable" else None
        step = halflife.rules.step.Step(lr, 0.05, weight_decay, lambda rate=rate: rate)
        fractions.append(float(optimizer.param_groups[0]["decay"].fraction(step)))
        sizes.append(lr)
    columns = [torch.tensor(c, dtype=torch.float64) for c in (fractions, sizes)]
    return torch.tensor(squares, dtype=torch.float64), *columns


def network_run(curve: Any, lr: float, weight_decay: float) -> dict[str, dict[str, list[float]]]:
    """The digits network with batch norm, by AdamW: RMS and rotation of its matrices per step."""
    from halflife.lab.tasks import find_task, generator

    task = find_task("digits-bn")
    torch.manual_seed(0)
    model, data = task.model(), task.data(0)
    names = {"first": 0, "second": 3, "last, not normalised": 6}
    matrices = {name: model[i].weight for name, i in names.items()}
    optimizer = halflife.AdamW(model.parameters(), lr, (BETA1, 0.99), weight_decay=weight_decay)
    order = generator("order", 0)
    out = {
        name: {"rms": [m.detach().square().mean().sqrt().item()], "rotation": []}
        for name, m in matrices.items()
    }
    for t in range(1500):
        rows = torch.randint(len(data.train_targets), (task.batch_size,), generator=order)
        optimizer.zero_grad()
        task.loss(model(data.train_inputs[rows]), data.train_targets[rows]).backward()
        optimizer.param_groups[0]["lr"] = lr * curve(t)
        before = [m.detach().double() for m in matrices.values()]
        optimizer.step()
        for (name, m), old in zip(matrices.items(), before, strict=True):
            new = m.detach().double()
            out[name]["rms"].append(new.square().mean().sqrt().item())
            apart = (new / new.norm() - old / old.norm()).norm().item()
            out[name]["rotation"].append(2 * math.asin(min(1.0, apart / 2)))
    return out


def network_table() -> list[str]:
    """Measured over predicted equilibrium, at constant lr, as Markdown."""
    lr, weight_decay = 0.01, 0.5
    runs = network_run(constant(), lr, weight_decay)
    size = equilibrium.adam_update_rms(BETA1)
    rms = equilibrium.rms(lr * weight_decay, lr, BETA1, size)
    angle = equilibrium.rotation(lr * weight_decay, BETA1)
    lines = ["| matrix | RMS, measured / predicted | rotation, measured / predicted |"]
    lines += ["|---|---|---|"]
    for name, run in runs.items():
        measured = [sum(run[key][-500:]) / 500 for key in ("rms", "rotation")]
        lines.append(f"| {name} | {measured[0] / rms:.1f} | {measured[1] / angle:.1f} |")
    return lines


def thin(values: Tensor, every: int = 50) -> list[float]:
    """Points enough for a picture."""
    return values[::every].tolist()


def draw_equilibrium(target: File) -> None:
    """Pure noise at constant lr and under a cosine; scale-invariant weights; a network."""
    from halflife.theory.figures import Path, plot_paths

    steps = list(range(0, 1501, 50))
    cosine_curve = cosine(1500)

    def path(rule: str, wd: float, curve: Any, initial: float) -> Path:
        squares, fractions, sizes = noise_run(rule, wd, curve, initial)
        start = squares[:1]
        predicted = mean_square_path(fractions[:, None], sizes[:, None], BETA1, start)[:, 0]
        return Path(steps, thin(squares.sqrt()), thin(predicted.sqrt()))

    def quasi_static(rule: str, wd: float, label: str, **powers: float) -> tuple[str, Path]:
        root = noise_run(rule, wd, cosine_curve, 0.3, invariant=True)[0].sqrt()
        exponent = norm_exponent(**powers)
        line = [root[400] * (cosine_curve(t) / cosine_curve(400)) ** exponent for t in steps]
        shown = [
            float(v) if t >= 400 and cosine_curve(t) > 0.05 else math.nan
            for t, v in zip(steps, line, strict=True)
        ]
        return f"{label}: lr^{exponent:.2g}", Path(steps, thin(root), shown)

    lr, wd = 0.01, 0.5
    network = {}
    for name, run in network_run(cosine_curve, lr, wd).items():
        sizes = lr * torch.tensor([[cosine_curve(t)] for t in range(1500)], dtype=torch.float64)
        start = torch.tensor(run["rms"][:1], dtype=torch.float64).square()
        predicted = mean_square_path(wd * sizes, sizes, BETA1, start)[:, 0].sqrt()
        measured = torch.tensor(run["rms"])
        network[name] = Path(steps, thin(measured), thin(predicted))
    flat = "noise, constant lr"
    panels = {
        flat: {f"from {x:g}": path("decoupled", 0.1, constant(), x) for x in (2.0, 0.5, 0.05)},
        "noise, cosine": {
            "Decoupled": path("decoupled", 0.2, cosine_curve, 0.3),
            "Corrected": path("corrected", 0.2, cosine_curve, 0.3),
            "Constant": path("constant", 0.01, cosine_curve, 0.3),
        },
        "scale-invariant noise, cosine": dict(
            [
                quasi_static("decoupled", 0.4, "Decoupled"),
                quasi_static("stable", 1.3, "Stable", gradient_power=1),
                quasi_static("corrected", 0.4, "Corrected", lr_power=1),
            ]
        ),
        "a network that learns, cosine": network,
    }
    size = equilibrium.adam_update_rms(BETA1)
    level = {flat: equilibrium.rms(0.05 * 0.1, 0.05, BETA1, size)}
    save(plot_paths(panels, ylabel="RMS of the weights", levels=level), target)


def stages_table() -> list[str]:
    """E F / e_k of stage-wise AdamW on x^2 / 2 with uniform noise, moments carried or fresh."""
    noise, first, stages, draws = 0.3, 20, 9, 12
    problem = Problem(
        smoothness=1.0, gradient_bound=1.5, noise=noise / math.sqrt(3), gap=0.5, delta=1.0
    )
    theirs = theorem_stages(problem, pl=1.0, stages=stages)
    doubled = [Stage(s.lr, s.beta1, first * 2**k) for k, s in enumerate(theirs)]
    lines = []
    for moments in ("carried", "fresh"):
        torch.manual_seed(0)
        errors = torch.zeros(stages, dtype=torch.float64)
        for _ in range(draws):
            outputs = stagewise_adamw(
                lambda x: x + noise * (2 * torch.rand_like(x) - 1),
                torch.ones(50, dtype=torch.float64),
                doubled,
                beta2=0.001,
                delta=problem.delta,
                moments=moments,
            )
            errors += 0.5 * torch.stack(outputs).square().mean(1) / draws
        shares = [error * 2**k / problem.gap for k, error in enumerate(errors.tolist(), start=1)]
        lines.append(f"| {moments} | " + " | ".join(f"{x:.2g}" for x in shares[::2]) + " |")
    return lines


def draw_averaging(target: File) -> None:
    """Decoupled under the schedules; the rules under a cosine."""
    from halflife.theory.figures import plot_averaging

    names = {"decoupled": "Decoupled", "corrected": "Corrected", "constant": "Constant"}
    panels = {
        "Decoupled under schedules": {s: averaged(s, "decoupled") for s in SCHEDULES},
        "rules under a cosine": {names[rule]: averaged("cosine", rule) for rule in RULES},
    }
    save(plot_averaging(panels), target)


def draw_error_terms(target: File) -> None:
    """For eigenvalues spread evenly in their logarithm, nine tenths of them zero."""
    from halflife.theory.figures import plot_error_terms

    spread = torch.logspace(-6, 0, 100, dtype=torch.float64)
    setting = {"lr": 1e-3, "batch_size": 64, "prior_variance": 0.05, "floor": 1e-12}
    decays = torch.logspace(-6, 0, 25).tolist()
    save(plot_error_terms(torch.cat([spread, torch.zeros(900)]), decays, **setting), target)


def save(figure: Any, target: File) -> None:
    """As SVG whose bytes depend on the picture alone."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "halflife", "svg.fonttype": "none"}):
        figure.savefig(target, metadata={"Date": None})
    print(target)


def main() -> None:
    """Print the tables, or draw the pictures."""
    if "--numbers" in sys.argv[1:]:
        print("\n".join([*averaging_table(), "", *network_table(), "", *stages_table()]))
        return
    images = File("docs/images")
    draw_averaging(images / "theory_averaging.svg")
    draw_error_terms(images / "theory_pac_bayes.svg")
    draw_equilibrium(images / "theory_equilibrium.svg")


if __name__ == "__main__":
    main()
