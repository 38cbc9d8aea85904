r"""Curvature in the optimizer's own metric, and how much of it an optimizer can stand.

On a quadratic of curvature s, gradient descent diverges along a direction where s exceeds 2 / lr.
Training with large batches is found at this "edge of stability": sharpness rises until it hovers
there (Cohen et al. 2021). With momentum, averaging and weight decay the limit moves; for a
preconditioned method it applies to ``D^-1/2 H D^-1/2`` (Cohen et al. 2022).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...checks import require, require_nonnegative, require_positive
from ...rules.facts import fact, preconditioner_column
from .loss_hessian import Hessian
from .operators import Operator

__all__ = ["PreconditionedHessian", "preconditioner", "stability_limit"]


class PreconditionedHessian(Operator):
    """``D^-1/2 H D^-1/2``: the Hessian in the metric in which an optimizer takes its steps.

    It has the eigenvalues of ``D^-1 H``, which decide about stability, and is symmetric. Its
    eigenvectors x belong to the directions ``D^-1/2 x`` of the weights.

    Args:
        hessian: the Hessian.
        metric: D by the parameters' names, positive; of Adam, `preconditioner`.

    Raises:
        ValueError: if names or shapes are not the parameters', or D is not positive.

    Example:
        >>> quadratic = Hessian(lambda p: 0.5 * (p["w"] ** 2).sum(), {"w": torch.zeros(2)})
        >>> operator = PreconditionedHessian(quadratic, {"w": torch.tensor([1.0, 4.0])})
        >>> (operator @ torch.ones(2)).tolist()
        [1.0, 0.25]
    """

    def __init__(self, hessian: Hessian, metric: Mapping[str, Tensor]) -> None:
        diagonal = hessian.flatten(metric)
        if not bool(((diagonal > 0) & diagonal.isfinite()).all()):
            raise ValueError(
                "metric holds entries that are not finite or not > 0; D must be positive."
            )
        self.hessian, self._scale = hessian, diagonal.rsqrt()
        self.dim, self.dtype, self.device = hessian.dim, hessian.dtype, hessian.device

    def matvec(self, vector: Tensor) -> Tensor:
        """The product with a vector ``[dim]``."""
        return self._scale * self.hessian.matvec(self._scale * vector)

    def matmat(self, vectors: Tensor) -> Tensor:
        """The products with the columns of ``[dim, n]``."""
        scale = self._scale[:, None]
        return scale * self.hessian.matmat(scale * vectors)


def preconditioner(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """D of each parameter by its name, as the optimizer is now: ``sqrt(v_hat) + eps`` for Adam.

    For every class that declares it (`halflife.rules.facts`): Adam and what derives from it.

    Args:
        optimizer: the optimizer, after at least one step.
        model: whose parameters it holds. Parameters without a gradient so far are left out.

    Raises:
        ValueError: if the optimizer's class declares no preconditioner, or it has no state.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> model(torch.ones(1, 2)).sum().backward(); optimizer.step()
        >>> preconditioner(optimizer, model)["weight"].round(decimals=3).tolist()
        [[1.0, 1.0]]
    """
    kind = type(optimizer)
    if fact("preconditioner", kind) is None:
        raise ValueError(
            f"{kind.__name__} declares no preconditioner; use the plain Hessian, or declare it "
            "with halflife.rules.facts.declare."
        )
    names = {parameter: name for name, parameter in model.named_parameters()}
    metric: dict[str, Tensor] = {}
    for group in optimizer.param_groups:
        params = [p for p in group["params"] if p in names and optimizer.state.get(p)]
        with torch.no_grad():
            columns = preconditioner_column(optimizer, group, params)
        metric |= {names[p]: d.clone() for p, d in zip(params, columns, strict=True)}
    if not metric:
        raise ValueError("optimizer has no state for the model's parameters; take a step first.")
    return metric


def stability_limit(
    lr: float,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    averaged: bool = False,
    fraction: float = 0.0,
) -> float:
    r"""The curvature above which an optimizer diverges on a quadratic: its edge of stability.

    With ``a = 1 - fraction``, the factor that decoupled decay puts on the weights,

        (1 + a) (1 + b) / lr                   heavy ball (torch's SGD), b = momentum
        (1 + a) (1 + b) / ((1 + 2 b) lr)       with Nesterov's momentum
        (1 + a) (1 + b) / ((1 - b) lr)         averaged gradients, as Adam's: 38 / lr at b = 0.9

    Without decay the first is 2 (1 + b) / lr and, without momentum, 2 / lr. Decay lowers the limit:
    it moves the weights too. (L2 regularization adds its coefficient to the curvature instead.) For
    Adam, compare with the eigenvalues of `PreconditionedHessian`.

    Source: Cohen et al., "Gradient descent on neural networks typically occurs at the edge of
    stability", ICLR 2021, and "Adaptive gradient methods at the edge of stability", 2022; with
    decay, from the step's characteristic polynomial at -1.

    Args:
        lr: step size.
        momentum: b; Adam's beta1 if `averaged`.
        nesterov: torch's Nesterov momentum.
        averaged: the momentum averages gradients, ``m <- b m + (1 - b) g``, in place of summing.
        fraction: fraction of each weight removed per step; ``lr * weight_decay`` for `Decoupled`.

    Raises:
        ValueError: if lr is not positive, momentum or fraction outside [0, 1), or `nesterov` is
            asked for with `averaged`.

    Example:
        >>> round(stability_limit(0.001, momentum=0.9, averaged=True))
        38000
    """
    require_positive("stability_limit: lr", lr, "pass a step size")
    for name, value in (("momentum", momentum), ("fraction", fraction)):
        require_nonnegative(f"stability_limit: {name}", value, "pass a number in [0, 1)")
        require(value < 1, f"stability_limit: {name}", "below 1", value, "pass a number in [0, 1)")
    require(
        not (nesterov and averaged),
        "stability_limit: nesterov",
        "False with averaged=True",
        nesterov,
        "choose one",
    )
    limit = (2.0 - fraction) * (1.0 + momentum) / lr
    if nesterov:
        return limit / (1.0 + 2.0 * momentum)
    return limit / (1.0 - momentum) if averaged else limit
