r"""How AdamW and Adam with L2 fluctuate near a minimum: covariances for the PAC-Bayes account.

Around a minimum x* with Hessian H, with gradient noise of covariance H/b for batches of b samples
and the preconditioner held at ``Q = diag(H)^(-1/2)``, steps are

    w <- w - lr (A (w - mean) - Q noise)      A = Q H + wd I    AdamW
                                              A = Q (H + wd I)  Adam with L2

and to first order in lr the weights' covariance M solves ``A M + M A' = (lr/b) Q H Q``.

Source: Zhou et al., "Towards understanding convergence and generalization of AdamW", TPAMI 2024,
Lemma 5 and the proof of Theorem 7. Momentum, bias correction and the noise of Q are not in the
model. Where the paper differs from the solution:

- Its covariance of Adam with L2, ``(lr / 2b) (H + wd I)^(-1) H Q``, is not even symmetric unless H
  commutes with Q. AdamW's, ``(lr / 2b) (Q H + wd I)^(-1) Q H Q``, is right.
- It centres both on x*. Decay moves the mean: `mean_weights`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import require, require_count, require_nonnegative, require_positive

__all__ = [
    "adamw_covariance",
    "covariance_error_term",
    "diagonal_preconditioner",
    "l2_covariance",
    "mean_weights",
]


def diagonal_preconditioner(hessian: Tensor) -> Tensor:
    """The diagonal of ``Q = diag(H)^(-1/2)``. Shape ``[d]``.

    Raises:
        ValueError: if the Hessian is not symmetric and positive definite.
    """
    shape = tuple(hessian.shape)
    ok = len(shape) == 2 and shape[0] == shape[1] and torch.allclose(hessian, hessian.T)
    require(ok, "hessian", "a symmetric matrix", shape, "symmetrise it")
    smallest = float(torch.linalg.eigvalsh(hessian)[0])
    require(smallest > 0, "hessian: smallest eigenvalue", "> 0", smallest, "add a small diagonal")
    return hessian.diagonal().rsqrt()


def adamw_covariance(hessian: Tensor, weight_decay: float, *, lr: float, batch_size: int) -> Tensor:
    """Covariance of AdamW's weights about their mean: ``(lr / 2b) (QH + wd I)^(-1) Q H Q``.

    Lemma 5, which holds as printed: it solves ``A M + M A' = (lr / b) Q H Q``, ``A = Q H + wd I``.
    To first order in lr it is the stationary covariance of ``w <- w - lr (A w - Q noise)`` with
    noise of covariance H/b; momentum is not in the model.

    Args:
        hessian: H, symmetric and positive definite. Shape ``[d, d]``.
        weight_decay: wd, as in torch.
        lr: learning rate.
        batch_size: b.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> adamw_covariance(torch.tensor([[4.0]]), 2.0, lr=0.1, batch_size=1)  # .05 / (2 + 2)
        tensor([[0.0125]])
    """
    q, scale = _inputs("adamw_covariance", hessian, weight_decay, lr, batch_size)
    noise = q[:, None] * hessian * q
    identity = torch.eye(len(q), dtype=hessian.dtype, device=hessian.device)
    matrix = torch.linalg.solve(q[:, None] * hessian + weight_decay * identity, noise)
    return 0.5 * scale * (matrix + matrix.T) / 2.0


def l2_covariance(
    hessian: Tensor, weight_decay: float, *, lr: float, batch_size: int, printed: bool = False
) -> Tensor:
    """Covariance of the weights of Adam with L2: solves ``A M + M A' = (lr / b) Q H Q``.

    With ``A = Q (H + wd I)``. The paper's ``(lr / 2b) (H + wd I)^(-1) H Q`` solves it only if H
    commutes with Q.

    Args:
        hessian: as for `adamw_covariance`, as are the others.
        weight_decay: coefficient of the penalty ``wd/2 |w|^2``.
        lr: learning rate.
        batch_size: b.
        printed: the paper's formula in place of the solution; not symmetric.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> l2_covariance(torch.tensor([[4.0]]), 4.0, lr=0.1, batch_size=1)  # .05 (4/2) / (4 + 4)
        tensor([[0.0125]])
    """
    q, scale = _inputs("l2_covariance", hessian, weight_decay, lr, batch_size)
    identity = torch.eye(len(q), dtype=hessian.dtype, device=hessian.device)
    pulled = hessian + weight_decay * identity
    if printed:
        return 0.5 * scale * torch.linalg.solve(pulled, hessian * q)
    # With M = Q^(1/2) Y Q^(1/2) the equation is S Y + Y S = C, S symmetric: solved in its basis.
    root = q.sqrt()
    values, vectors = torch.linalg.eigh(root[:, None] * pulled * root)
    noise = vectors.T @ (scale * root[:, None] * hessian * root) @ vectors
    solved = vectors @ (noise / (values[:, None] + values)) @ vectors.T
    return root[:, None] * solved * root


def mean_weights(hessian: Tensor, minimum: Tensor, weight_decay: float) -> Tensor:
    """Where AdamW's weights fluctuate about: ``(Q H + wd I)^(-1) Q H x*``, and not x*.

    Args:
        hessian: as for `adamw_covariance`.
        minimum: x*. Shape ``[d]``.
        weight_decay: wd, as in torch.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> mean_weights(torch.tensor([[4.0]]), torch.tensor([1.0]), weight_decay=2.0)
        tensor([0.5000])
    """
    require_nonnegative("mean_weights: weight_decay", weight_decay, "pass torch's weight_decay")
    pull = diagonal_preconditioner(hessian)[:, None] * hessian
    identity = torch.eye(len(pull), dtype=hessian.dtype, device=hessian.device)
    return torch.linalg.solve(pull + weight_decay * identity, pull @ minimum)


def covariance_error_term(covariance: Tensor, prior_variance: float) -> float:
    """``err = -log det(M / rho) + tr(M) / rho``, without assuming H diagonal (Theorem 6, mended).

    It is twice the divergence of ``N(0, M)`` from the prior, plus d.

    Args:
        covariance: M. Shape ``[d, d]``.
        prior_variance: rho.

    Raises:
        ValueError: if prior_variance is not positive, or the covariance not positive definite.

    Example:
        >>> covariance_error_term(torch.eye(3), prior_variance=1.0)
        3.0
    """
    name, remedy = "covariance_error_term", "pass the prior's variance per weight"
    require_positive(f"{name}: prior_variance", prior_variance, remedy)
    scaled = covariance / prior_variance
    sign, logarithm = torch.linalg.slogdet(scaled)
    ok, remedy = float(sign) > 0, "pass a covariance"
    require(ok, f"{name}: covariance", "positive definite", "none such", remedy)
    return float(scaled.diagonal().sum() - logarithm)


def _inputs(
    name: str, hessian: Tensor, weight_decay: float, lr: float, batch_size: int
) -> tuple[Tensor, float]:
    require_nonnegative(f"{name}: weight_decay", weight_decay, "pass torch's weight_decay")
    require_positive(f"{name}: lr", lr, "pass the lr at the end of training")
    require_count(f"{name}: batch_size", batch_size, "pass the samples per step")
    return diagonal_preconditioner(hessian), lr / batch_size
