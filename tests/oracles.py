"""Training by the lists of `cases` and by their oracles, for the tests that compare the two.

Always two groups with their own lr and decay, and one parameter that misses every other gradient.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cases
import reference
from cases import PEAK, MapCase, OptimizerCase, RuleCase, Seen


def run_ours(
    optimizer: OptimizerCase,
    rule: RuleCase,
    lrs: list[list[float]],
    missing: bool = True,
    **arguments: Any,
) -> list[torch.Tensor]:
    """Two groups with their own lr and decay; one parameter misses every other gradient."""
    params = cases.make_params()
    groups = [
        {"params": params[:2]},
        {"params": params[2:], "lr": PEAK / 2, "weight_decay": rule.weight_decay / 3},
    ]
    ours = optimizer.make(groups, rule, **arguments)
    cases.train(ours, params, cases.make_gradients(missing=missing), lrs)
    return params


def run_reference(
    optimizer: OptimizerCase, rule: RuleCase, lrs: list[list[float]], missing: bool = True
) -> list[np.ndarray]:
    weights = [p.detach().numpy().copy() for p in cases.make_params()]
    groups = [
        reference.Group(weights[:2], lrs[0], rule.weight_decay, PEAK),
        reference.Group(weights[2:], lrs[1], rule.weight_decay / 3, PEAK / 2),
    ]
    gradients = [
        [[None if g is None else g.numpy() for g in part] for part in (row[:2], row[2:])]
        for row in cases.make_gradients(missing=missing)
    ]
    run = reference.Run(rule=rule.reference, **optimizer.arguments)
    reference.RUNNERS[str(optimizer.oracle)](run, groups, gradients)
    return [*groups[0].weights, *groups[1].weights]


def fraction_and_size(
    rule: str, lam: float, lr: float, peak: float, e: float
) -> tuple[float, float]:
    """What one step of a rule does: the fraction removed, and the size of the step (lr, or less).

    Read off `reference.update`: a weight of 1 without a direction, and one of 0 with one. ``e`` is
    what the rule measures, if it does.
    """
    group = reference.Group([np.ones(1), np.zeros(1)], [lr], lam, peak)
    reference.update(rule, group, 0, 0, np.zeros(1), e)
    reference.update(rule, group, 1, 0, np.ones(1), e)
    return 1.0 - float(group.weights[0][0]), -float(group.weights[1][0])


# --- maps ----------------------------------------------------------------------------------------

# The metric of the maps' oracle has this eps.
MAP_BASES: dict[str, OptimizerCase] = {
    o.name: o.given(eps=1e-3) if o.oracle == "adam" else o for o in cases.CORE if o.name != "Adam"
}


def map_weights(case: MapCase, base: str, lrs: list[float], gradients: Any) -> list[Tensor]:
    """torch's own optimizer without decay, and the formula before or after each of its steps."""
    native_class, arguments = MAP_BASES[base].native, MAP_BASES[base].arguments
    twins = cases.make_params()
    initial = [p.detach().clone() for p in twins]
    groups = [{"params": twins[:2]}, {"params": twins[2:], "lr": PEAK / 2}]
    native = native_class(groups, lr=PEAK, weight_decay=0.0, foreach=False, **arguments)
    factor = [1.0, 1.0, 0.5, 0.5]  # lr and weight decay of the second group, by parameter
    for t, row in enumerate(gradients):
        cases.set_gradients(twins, row)
        for group, scale in zip(native.param_groups, (1.0, 0.5), strict=True):
            group["lr"] = lrs[t] * scale
        start = [p.detach().clone() for p in twins]
        amounts = [
            case.weight_decay * f * (lrs[t] * f if case.amount == "decoupled" else lrs[t] / PEAK)
            for f in factor
        ]
        native.step()
        moved = [p.detach() - s for p, s in zip(twins, start, strict=True)]
        live = [i for i, g in enumerate(row) if g is not None]
        after = {i: start[i] + moved[i] for i in live}
        norm = math.sqrt(sum(float(after[i].square().sum()) for i in live))
        for i in live:
            state = native.state[twins[i]]
            metric = None
            if "exp_avg_sq" in state:
                second = state["max_exp_avg_sq" if arguments.get("amsgrad") else "exp_avg_sq"]
                beta2 = arguments.get("betas", (0, 0.999))[1]
                metric = (second / (1 - beta2 ** state["step"].double())).sqrt() + 1e-3
            u = -moved[i] / max(lrs[t] * factor[i], 1e-30)
            seen = Seen(start[i], u, metric, initial[i], norm)
            if case.rule.acts == "before":
                new = case.formula(start[i], amounts[i], seen) + moved[i]
            else:
                new = case.formula(after[i], amounts[i], seen)
            with torch.no_grad():
                twins[i].copy_(new)
    return [p.detach() for p in twins]


def map_optimizer(case: MapCase, base: str, **arguments: Any) -> tuple[Any, list[Tensor]]:
    """Ours, with the parameters that it steps."""
    params = cases.make_params()
    groups = [
        {"params": params[:2]},
        {"params": params[2:], "lr": PEAK / 2, "weight_decay": case.weight_decay / 2},
    ]
    return MAP_BASES[base].make(groups, case, **arguments), params
