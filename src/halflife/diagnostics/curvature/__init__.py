"""Curvature of a loss: its Hessian, Gauss-Newton and Fisher matrices; eigenvalues, density, trace.

    >>> import torch
    >>> from torch import nn
    >>> from halflife.diagnostics import curvature
    >>> model, inputs = nn.Linear(2, 1, bias=False), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> operator = curvature.hessian(model, nn.functional.mse_loss, (inputs, torch.zeros(2, 1)))
    >>> round(curvature.lanczos(operator).value, 3)
    4.0

Nothing here changes the model, its gradients, statistics or modes, or any random state.
"""

from .density import SpectralDensity, spectral_density
from .eigenpairs import Eigenpairs, lanczos, power_iteration
from .loss_hessian import Hessian, hessian
from .operators import ConvergenceWarning, Matrix, Operator, dense
from .outer_products import Fisher, GaussNewton, fisher, gauss_newton
from .stability import PreconditionedHessian, preconditioner, stability_limit
from .trace import Estimate, hutch_pp, hutchinson

__all__ = [
    "ConvergenceWarning",
    "Eigenpairs",
    "Estimate",
    "Fisher",
    "GaussNewton",
    "Hessian",
    "Matrix",
    "Operator",
    "PreconditionedHessian",
    "SpectralDensity",
    "dense",
    "fisher",
    "gauss_newton",
    "hessian",
    "hutch_pp",
    "hutchinson",
    "lanczos",
    "power_iteration",
    "preconditioner",
    "spectral_density",
    "stability_limit",
]
