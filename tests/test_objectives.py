"""Proximal steps minimise what their papers print: the gradient there is 0 at the library's answer.

Of Schaipp 2023, Decay no more:    (P1) ProxAdam, (P2) AdamP
Of Zhuang et al. 2022:             (3) with the squared norm, with the norm, with the L1 norm

Moments and metric are computed here, from the gradients. Where an objective has a kink, some
subgradient must be 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import cases
from cases import PEAK
from halflife.algorithms import create

B1, B2, EPS, LAM = 0.9, 0.99, 1e-3, 0.3
SMALL = 0.02  # of the norms without a square: at the strength of LAM they would leave no weight


class Seen(NamedTuple):
    """What an objective is made of at one step."""

    w: Tensor  # w_{t-1}
    m: Tensor  # m_hat
    d: Tensor  # the diagonal of D
    alpha: float  # the peak lr
    eta: float  # the schedule's multiplier

    def step(self, y: Tensor) -> Tensor:
        """``<y - w, m> + 1 / (2 eta alpha) ||y - w||_D^2``, which Adam minimises."""
        moved = y - self.w
        return moved @ self.m + (self.d * moved**2).sum() / (2 * self.eta * self.alpha)

    def plain_step(self, y: Tensor) -> Tensor:
        """``<y - w, p> + 1/2 (y - w)' M^-1 (y - w)`` with p = alpha m / D and M = eta I."""
        moved = y - self.w
        return moved @ (self.alpha * self.m / self.d) + moved.square().sum() / (2 * self.eta)


def p1(y: Tensor, s: Seen) -> Tensor:
    """(P1), as printed."""
    return s.step(y) + LAM / (2 * s.alpha) * (s.d * y**2).sum()


def p2(y: Tensor, s: Seen) -> Tensor:
    """(P2), as printed."""
    return s.step(y) + LAM / 2 * y.square().sum()


def squared_norm(y: Tensor, s: Seen) -> Tensor:
    """Eq. (3) of Zhuang et al., with M = eta I: AdamProx."""
    return s.plain_step(y) + LAM / 2 * y.square().sum()


def norm(y: Tensor, s: Seen) -> Tensor:
    """The same with the norm itself: AdamProxL2."""
    return s.plain_step(y) + SMALL * y.norm()


def run(name: str, steps: int = 6, lam: float = LAM) -> list[tuple[Tensor, Seen]]:
    """The answers of a run under a cosine, in float64, with what made each of them."""
    params = cases.make_params()
    groups = [{"params": params[:2]}, {"params": params[2:]}]
    optimizer = create(name, groups, lr=PEAK, betas=(B1, B2), eps=EPS, weight_decay=lam)
    found: list[tuple[Tensor, Seen]] = []
    m = v = torch.zeros_like(cases.weights(params))
    for t, row in enumerate(cases.make_gradients(steps, missing=False), 1):
        w, g = cases.weights(params).clone(), torch.cat([g.flatten() for g in row if g is not None])
        m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
        lr = cases.schedule("cosine", total=steps + 1)[t - 1]
        cases.set_gradients(params, row)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        metric = (v / (1 - B2**t)).sqrt() + EPS
        seen = Seen(w, m / (1 - B1**t), metric, PEAK, lr / PEAK)
        found.append((cases.weights(params).clone(), seen))
    return found


def slope(objective: Callable[[Tensor, Seen], Tensor], y: Tensor, seen: Seen) -> float:
    """The largest entry of the objective's gradient at y, over that at w_{t-1}."""
    sizes = []
    for point in (y, seen.w):
        point = point.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(point, seen), point)
        sizes.append(float(gradient.abs().max()))
    return sizes[0] / sizes[1]


SMOOTH: list[Any] = [
    ("proxadam", p1, LAM),
    ("adamp_blog", p2, LAM),
    ("adamprox", squared_norm, LAM),
    ("adamproxl2", norm, SMALL),
]


@pytest.mark.parametrize(
    ("name", "objective", "lam"), SMOOTH, ids=lambda x: getattr(x, "__name__", x)
)
def test_the_gradient_of_the_printed_objective_is_zero(
    name: str, objective: Callable[[Tensor, Seen], Tensor], lam: float
) -> None:
    for y, seen in run(name, lam=lam):
        assert slope(objective, y, seen) < 1e-12  # rounding, relative to the gradient at the start


@pytest.mark.parametrize(
    ("name", "objective", "lam"), SMOOTH, ids=lambda x: getattr(x, "__name__", x)
)
def test_adamw_minimises_none_of_them(
    name: str, objective: Callable[[Tensor, Seen], Tensor], lam: float
) -> None:
    """So the test above can fail: of AdamW the objectives are a Taylor expansion apart."""
    assert all(slope(objective, y, seen) > 1e-4 for y, seen in run("adamw_paper", lam=lam))


@pytest.mark.parametrize(("name", "lam"), [("adamproxl1", 0.1), ("adamproxl1_preconditioned", 3.0)])
def test_zero_is_a_subgradient_of_the_l1_objective(name: str, lam: float) -> None:
    """``1/2 (y - z)' M^-1 (y - z) + lambda |y|_1`` with z = w - M p: (z - y) / M is in lambda d|y|.

    In M = eta I with p = alpha m / D, and in M = alpha eta / D with p = m.
    """
    zeros = 0
    for y, seen in run(name, steps=12, lam=lam):
        if name == "adamproxl1":
            metric = torch.full_like(y, seen.eta)
            z = seen.w - metric * (seen.alpha * seen.m / seen.d)
        else:
            metric = seen.alpha * seen.eta / seen.d
            z = seen.w - metric * seen.m
        subgradient = (z - y) / metric
        at = y == 0
        zeros += int(at.sum())
        assert bool((subgradient[at].abs() <= lam * (1 + 1e-12)).all())
        torch.testing.assert_close(subgradient[~at], lam * y[~at].sign(), rtol=0, atol=1e-12)
    assert zeros > 5  # the kink was met


def test_the_norm_itself_leaves_nothing_where_it_outweighs_the_step() -> None:
    """0 is a subgradient at y = 0 where ||z|| <= lambda eta, of lambda times the unit ball."""
    (y, seen), *_ = run("adamproxl2", steps=1, lam=30.0)
    z = seen.w - seen.eta * seen.alpha * seen.m / seen.d
    assert z.norm() <= 30.0 * seen.eta
    assert bool((y == 0).all())
