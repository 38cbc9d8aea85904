"""Every scalar rule on optimizers of other packages, and what their own decay is.

    pip install -e .[third-party]        # none of them is needed to use halflife

The oracle is the package's own step without decay on weights that were multiplied first; the rules'
fractions are written out here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from halflife import attach, decayed
from halflife.bases.native_decay import check_base, native_decay
from halflife.testing import check_optimizer

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs, not ours
PEAK = 0.02
LRS = (0.02, 0.016, 0.009, 0.004, 0.001)
# fraction(lr, weight_decay) by the rules' definitions, with a coefficient that is easy to see.
RULES: dict[str, tuple[float, Callable[[float, float], float]]] = {
    "decoupled": (2.0, lambda lr, wd: lr * wd),
    "independent": (0.04, lambda lr, wd: lr / PEAK * wd),
    "constant": (0.04, lambda lr, wd: wd),
    "corrected": (2.0, lambda lr, wd: lr * lr / PEAK * wd),
    "proximal": (2.0, lambda lr, wd: lr * wd / (1 + lr * wd)),
    "l2": (0.3, lambda lr, wd: 0.0),
}
QUICK = {"independent", "l2"}  # under a changing lr no other rule is one of them


@dataclass(frozen=True)
class Package:
    """One optimizer of a package: its name there, its documented decay, its arguments."""

    module: str
    name: str
    kind: str
    arguments: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float64
    tolerance: float = 1e-10

    @property
    def id(self) -> str:
        flags = "".join(f"-{k}={v}" for k, v in self.arguments.items())
        return f"{self.module}.{self.name}{flags}"

    def load(self) -> Any:
        reason = f"{self.module} is not installed: pip install -e .[third-party]"
        module = pytest.importorskip(self.module, reason=reason)
        if not hasattr(module, self.name):
            pytest.skip(f"this version of {self.module} has no {self.name}")
        return getattr(module, self.name)


PACKAGES = [
    # pytorch-optimizer: "weight_decouple: decoupled weight decay as in AdamW; fixed_decay: fixes
    # weight decay to not depend on learning rate".
    Package("pytorch_optimizer", "AdaBelief", "decoupled"),
    Package("pytorch_optimizer", "AdaBelief", "l2", {"weight_decouple": False}),
    Package("pytorch_optimizer", "AdaBelief", "constant", {"fixed_decay": True}),
    Package("pytorch_optimizer", "Lion", "decoupled"),
    # optimi: "decoupled weight decay" in AdamW and Lion; "decouple_lr: fully decoupled weight
    # decay", lr / max_lr, max_lr the initial lr unless given; weight_decay of Adam is L2, and
    # SGD's too unless decouple_wd.
    Package("optimi", "AdamW", "decoupled"),
    Package("optimi", "AdamW", "independent", {"decouple_lr": True}),
    Package("optimi", "Adam", "l2"),
    Package("optimi", "Lion", "decoupled"),
    Package("optimi", "SGD", "l2", {"momentum": 0.9}),
    Package("optimi", "SGD", "decoupled", {"momentum": 0.9, "decouple_wd": True}),
    # Adan's paper and code: proximal, p <- (p - lr u) / (1 + lr weight_decay); for us "other".
    Package("optimi", "Adan", "other"),
    # lion-pytorch: p.mul_(1 - lr wd); decoupled_weight_decay divides wd by the initial lr.
    Package("lion_pytorch", "Lion", "decoupled"),
    Package("lion_pytorch", "Lion", "independent", {"decoupled_weight_decay": True}),
    # CAME: p.add_(p, alpha=-lr weight_decay), before its update.
    Package("came_pytorch", "CAME", "decoupled"),
    # heavyball: p.mul_(1 - lr weight_decay) with its update, in float32.
    Package("heavyball", "AdamW", "decoupled", dtype=torch.float32, tolerance=1e-5),
    Package("heavyball", "AdamC", "other", dtype=torch.float32, tolerance=1e-5),  # lr^2 / peak
    # torchao: p - lr weight_decay p in AdamW8bit, grad + weight_decay p in Adam8bit, in float32.
    Package("torchao.optim", "AdamW8bit", "decoupled", dtype=torch.float32, tolerance=1e-5),
    Package("torchao.optim", "Adam8bit", "l2", dtype=torch.float32, tolerance=1e-5),
]
every_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.id)


@pytest.fixture(autouse=True)
def eager() -> Any:
    """Some of them compile their step, which takes seconds and is not what is tested here."""
    with torch.compiler.set_stance("force_eager"):
        yield


def make_params(package: Package) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(s, generator=generator) for s in [(4, 3), (5,)]]
    return [torch.nn.Parameter(value.to(package.dtype)) for value in values]


def set_lr(optimizer: Any, lr: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"] = torch.full_like(group["lr"], lr)
        else:
            group["lr"] = lr


@every_package
def test_native_decay_is_as_documented(package: Package) -> None:
    cls = package.load()
    optimizer = cls(make_params(package), lr=PEAK, **package.arguments)
    assert native_decay(optimizer).kind == package.kind
    if not package.arguments:
        assert native_decay(cls).kind == package.kind


# The others are one more fraction of the lr before the same step.
@pytest.mark.parametrize("way", ["decayed", "attach"])
@pytest.mark.parametrize(
    "rule",
    [r if r in QUICK else pytest.param(r, marks=pytest.mark.slow) for r in RULES],
)
@every_package
def test_every_scalar_rule(package: Package, rule: str, way: str) -> None:
    """``(1 - d) w``, and from there the package's own step without decay, under a changing lr."""
    base, (weight_decay, fraction) = package.load(), RULES[rule]
    params, twins = make_params(package), make_params(package)
    native = base(twins, lr=PEAK, **{**package.arguments, "weight_decay": 0.0})
    if way == "decayed":
        ours: Any = decayed(base)(
            params, lr=PEAK, weight_decay=weight_decay, decay=rule, **package.arguments
        )
    else:
        theirs = base(params, lr=PEAK, weight_decay=weight_decay, **package.arguments)
        ours = attach(theirs, rule, peak_lr=PEAK)
    generator = torch.Generator().manual_seed(1)
    for lr in LRS:
        set_lr(ours, lr)
        set_lr(native, lr / (1 + lr * weight_decay) if rule == "proximal" else lr)
        for p, q in zip(params, twins, strict=True):
            p.grad = torch.randn(p.shape, generator=generator).to(package.dtype)
            q.grad = p.grad.clone()
            with torch.no_grad():
                if rule == "l2":
                    q.grad += weight_decay * q
                q.mul_(1.0 - fraction(lr, weight_decay))
        ours.step()
        native.step()
        for p, q in zip(params, twins, strict=True):
            torch.testing.assert_close(p, q, rtol=package.tolerance, atol=package.tolerance / 100)


SUITED = ["pytorch_optimizer.AdaBelief", "optimi.AdamW", "lion_pytorch.Lion", "came_pytorch.CAME"]


@pytest.mark.parametrize("name", SUITED)
def test_the_conformance_suite(name: str) -> None:
    module, _, cls = name.rpartition(".")
    check_optimizer(Package(module, cls, "").load())


@pytest.mark.parametrize("name", ["AdamWScheduleFree", "SGDScheduleFree", "RAdamScheduleFree"])
def test_schedule_free_is_refused(name: str) -> None:
    """Its parameters hold y in train mode and x in eval mode; z is what a rule would decay."""
    cls = Package("schedulefree", name, "").load()
    assert native_decay(cls).kind == "averaged"
    with pytest.raises(ValueError, match=f"{name}: its train.* would decay the wrong weights"):
        check_base(cls)
