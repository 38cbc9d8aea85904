"""Top eigenvalue and spectral density of a Hessian, against packages made for them.

    pip install curvlinops-for-pytorch hessian-eigenthings      # without them, their rows say so

Each candidate builds its operator anew and finds the largest eigenvalue to a relative error of 1e-4
(checked against float64), or makes the same number of Lanczos steps for a density. Where a package
wants the number of steps instead of a tolerance, it is given the smallest that reaches the error.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from halflife.diagnostics import curvature

from .timing import Measured, paired

ROUNDS = 7
ERROR = 1e-4
STEPS = 40  # Lanczos steps of a density
TARGET = 1.0  # our time over the other's

PEERS = {"curvlinops": "curvlinops", "hessian-eigenthings": "hessian_eigenthings"}


@dataclass(frozen=True)
class Problem:
    """A model in evaluation mode, its data in batches, and the largest eigenvalue."""

    name: str
    model: nn.Module
    data: list[tuple[Tensor, Tensor]]
    top: float

    @classmethod
    def of(cls, name: str, model: nn.Module, inputs: Tensor, batch_size: int) -> Problem:
        """Random inputs whose labels were fitted for some steps, so that the top stands out."""
        targets = (inputs.flatten(1)[:, :10] + 0.5 * torch.randn(len(inputs), 10)).argmax(1)
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
        for _ in range(60):
            optimizer.zero_grad()
            cross_entropy(model(inputs), targets).backward()
            optimizer.step()
        optimizer.zero_grad()
        batches = list(zip(inputs.split(batch_size), targets.split(batch_size), strict=True))
        exact = curvature.hessian(model, cross_entropy, batches, dtype=torch.float64)
        top = curvature.lanczos(exact, tol=1e-7, steps=300).value
        return cls(name, model.eval(), batches, top)


def problems() -> list[Problem]:
    """The sizes of the lab's MLP, and a small convolutional network with batch norm."""
    torch.manual_seed(0)
    mlp = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    conv = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 64, 10),
    )
    return [
        Problem.of("MLP 64-64-64-10, 400 rows", mlp, torch.randn(400, 64), 400),
        Problem.of("conv net, 128 rows in 2 batches", conv, torch.randn(128, 3, 16, 16), 64),
    ]


def candidates(problem: Problem) -> dict[str, dict[str, Callable[[], float]]]:
    """Task -> name -> a call that returns the largest eigenvalue that it found."""
    model, data = problem.model, problem.data

    def operator() -> curvature.Hessian:
        return curvature.hessian(model, cross_entropy, data)

    def recomputed() -> curvature.Hessian:
        return curvature.hessian(model, cross_entropy, data, memory=0)

    eigenvalue = {
        "halflife": lambda: curvature.lanczos(operator(), tol=5e-3).value,
        "halflife, memory=0": lambda: curvature.lanczos(recomputed(), tol=5e-3).value,
    }
    density = {
        "halflife": lambda: _top(curvature.spectral_density(operator(), steps=STEPS)),
        "halflife, memory=0": lambda: _top(curvature.spectral_density(recomputed(), steps=STEPS)),
    }
    if peer := _imported("curvlinops"):
        spectrum = importlib.import_module("curvlinops.papyan2020traces.spectrum")
        eigsh = importlib.import_module("scipy.sparse.linalg").eigsh
        params = list(model.parameters())

        def theirs() -> Any:
            return peer.HessianLinearOperator(
                model, nn.CrossEntropyLoss(), params, data, check_deterministic=False
            )

        eigenvalue["curvlinops"] = lambda: float(
            eigsh(theirs().to_scipy(), k=1, which="LA", tol=5e-3, return_eigenvectors=False)[0]
        )
        density["curvlinops"] = lambda: float(spectrum.fast_lanczos(theirs(), STEPS)[0].max())
    if other := _imported("hessian-eigenthings"):

        def loss(model: nn.Module, batch: Any) -> Tensor:
            return cross_entropy(model(batch[0]), batch[1])

        def things() -> Any:
            return other.HessianOperator(model, data, loss)

        def top(steps: int) -> float:
            found = other.lanczos(things(), k=1, max_iter=steps, which="LA", seed=0)
            return float(found.eigenvalues[0])

        enough = next(n for n in range(2, 200) if abs(top(n) / problem.top - 1.0) <= ERROR)
        eigenvalue["hessian-eigenthings"] = lambda: top(enough)
        density["hessian-eigenthings"] = lambda: float(
            other.spectral_density(things(), num_runs=1, lanczos_steps=STEPS, seed=0).grid.max()
        )
    return {"largest eigenvalue": eigenvalue, f"density, {STEPS} steps": density}


def main(rounds: int | None = None, show: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """Measure and show."""
    results = []
    for problem in problems():
        for task, calls in candidates(problem).items():
            times = paired({n: [c] for n, c in calls.items()}, rounds or ROUNDS, lambda: None)
            ours = times["halflife"][:, 0]
            show(f"{problem.name}: {task}")
            for name, call in calls.items():
                ratio, seconds = Measured(times[name][:, 0] / ours), Measured(times[name][:, 0])
                row = {
                    "problem": problem.name,
                    "task": task,
                    "name": name,
                    "seconds": seconds.as_dict(),
                    "over_halflife": ratio.as_dict(),
                }
                text = f"  {name:24}{1e3 * seconds.median:9.1f} ms"
                if task == "largest eigenvalue":
                    row["error"] = abs(call() / problem.top - 1.0)
                    text += f"   error {row['error']:.0e}"
                if name in PEERS:
                    row["verdict"] = ratio.verdict(at_least=1.0 / TARGET)
                    text += f"   {ratio.median:.1f}x ours ({ratio.low:.1f}-{ratio.high:.1f})"
                    text += f", faster: {row['verdict']}"
                show(text)
                results.append(row)
            for name in PEERS.keys() - calls.keys():
                show(f"  {name:24}not installed")
    return results


def _top(density: curvature.SpectralDensity) -> float:
    return float(density.nodes.max())


def _imported(name: str) -> Any:
    """A peer's module, or None. Importing one prints and warns."""
    with (
        contextlib.suppress(ImportError),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        return importlib.import_module(PEERS[name])
    return None
