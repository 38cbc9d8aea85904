"""A sweep: a training in, an honest answer out."""

from __future__ import annotations

import functools
import inspect
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import torch

from ... import __version__
from ...checks import near
from ..executors import Executor, ExecutorError, InProcess, Local
from ..executors.local import cores
from ..ledger import Ledger, LedgerError
from ..meta import Meta
from ..metric import Metric
from ..result import Result
from ..trials.fingerprint import mark, parts_of
from ..trials.job import Job, TrainingError, declared, takes_trial
from ..trials.values import content_of
from .arguments import (
    checked_base,
    checked_metrics,
    count_of,
    margin_of,
    require_others,
    rules_of,
    seeds_of,
    swept_params,
)
from .axes import Axis, axis_of
from .display import Bar, Display
from .driver import Driver, OutOfTime, SweepError
from .plan import SweepPlan, default_decay
from .samplers import Sampler, sampler_of
from .signals import Terminated, terminable

__all__ = ["Interrupted", "sweep"]


class Interrupted(KeyboardInterrupt):
    """A sweep that was ended by Ctrl-C or SIGTERM; the message says how to go on."""


def sweep(
    train: Callable[..., Any],
    *,
    lr: Axis | str | Sequence[float],
    weight_decay: Axis | str | Sequence[float] | None = None,
    strength: Axis | str | Sequence[float] | None = None,
    rules: Sequence[str] | str = ("decoupled",),
    seeds: int | Sequence[int] = 3,
    out: str | Path | None = None,
    choose: Metric | str | None = None,
    report: Metric | str | None = None,
    optimizer: Any = None,
    settings: Mapping[str, Any] | None = None,
    params: Mapping[str, Sequence[Any]] | None = None,
    sampler: Sampler | str | optuna.samplers.BaseSampler = "grid",
    executor: Executor | None = None,
    confirm: int = 8,
    default: bool | None = None,
    extend: bool = True,
    extension_limit: int = 4,
    equivalence: float | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    storage: str | None = None,
    time_limit: float | None = None,
    fabric: Mapping[str, Any] | None = None,
    name: str | None = None,
    command: str = "",
    progress: bool | Display = True,
) -> Result:
    """Map a training over learning rate and weight decay, and confirm what it says.

    Every setting is trained with all `seeds`, and so are trainings without decay and with torch's
    default at every learning rate. The best setting of each rule is chosen by `choose`, on
    validation data; the finalists are then trained again with `confirm` fresh seeds, and `report`
    is told of those alone.

    Args:
        train: a function of a `Trial`, or of ``lr``, ``weight_decay`` and ``seed``; it returns a
            number or a mapping of metrics.
        lr: peak learning rates: ``lab.log(1e-4, 1e-1, 9)``, its text ``"1e-4:1e-1:9"``, or a list.
        weight_decay: of the first of the rules, in its own unit; other rules are given what removes
            the same fraction at the central lr.
        strength: in place of `weight_decay`: the fraction of each weight that one step removes at
            the central lr, the same for every rule.
        rules: names of decay rules.
        seeds: how many, or which; by them settings are chosen.
        out: directory of the ledger and the report. None keeps all in memory.
        choose: the metric that settings are chosen by. Default: that of `report`, else the number
            that the training returns.
        report: the metric that is told. Default: that of `choose`.
        optimizer: base of `Trial.optimizer`, a name or class of halflife's. Default: AdamW. Name
            it where the training makes one by itself: only an optimizer that is stated here, or
            that the trial makes or watches, is told of, with the half-life.
        settings: of the optimizer, such as ``{"betas": (0.9, 0.95)}``.
        params: other parameters to sweep, by name: ``{"momentum": [0.8, 0.9]}``.
        sampler: ``"grid"``, ``"two-stage"``, ``"halving"``, ``"optuna"``, a sampler of Optuna, or
            one of `halflife.lab` with its settings.
        executor: who trains. Default: `Local`, with a process a core or accelerator.
        confirm: fresh seeds of the finalists; 0 for none.
        default: whether torch's default weight decay is compared with (AdamW's 0.01). Default:
            where the trainings' optimizer is known to be AdamW.
        extend: whether the grid grows where the best setting lies on its border.
        extension_limit: rows and columns that each rule may add.
        equivalence: margin, in the unit of `report`, within which two settings are called equal.
            Default: the noise between seeds.
        resume: go on with the ledger in `out`.
        retry_failed: train cells again that are recorded as failed.
        storage: database URL for the ledger, instead of a file in `out`.
        time_limit: seconds after which no more is trained.
        fabric: arguments of Lightning's Fabric, for `Trial.fabric`.
        name: of the training, for the report. Default: that of the function.
        command: what goes on with the sweep, for messages and the report. Default: this call.
        progress: whether a bar is shown.

    Returns:
        What is known; `Result.sentence` says it.

    Raises:
        ValueError: for an argument that cannot be used.
        LedgerError: for a ledger that cannot be used, or written any more.
        SweepError: if the training fails wherever it is tried.
        Interrupted: after Ctrl-C or SIGTERM; what is trained is safe.

    Example:
        >>> def train(lr, weight_decay, seed):
        ...     return (lr - 0.01) ** 2 + (weight_decay - 0.1) ** 2 + 1e-5 * (seed % 7)
        >>> result = sweep(train, lr=[0.005, 0.01, 0.02], weight_decay=[0.05, 0.1, 0.2],
        ...                executor=InProcess(), default=False, progress=False)
        >>> result.best.lr, result.best.weight_decay
        (0.01, 0.1)
    """
    chosen, reported = checked_metrics(choose, report)
    names = rules_of(rules)
    stated = optimizer is not None
    base = checked_base(optimizer if stated else "adamw", settings)
    swept = swept_params(params)
    require_others(name, command, time_limit, executor)
    decays, strengths = _decays(weight_decay, strength)
    chosen_sampler = sampler_of(sampler)
    title = name or _name_of(train)
    plan = SweepPlan(
        title,
        base,
        names,
        axis_of("lr", lr),
        decays,
        strengths,
        seeds_of(seeds),
        count_of("confirm", confirm, "pass 8, or 0 for none"),
        chosen,
        reported,
        params=swept,
        default=default_decay(base.name) if default else None,
        default_if_known=default is None,
        stated=stated,
        extend=bool(extend),
        extension_limit=count_of("extension_limit", extension_limit, "pass 4, or 0 for none"),
        equivalence=margin_of(equivalence),
        about=declared(train, "about", {}),
    )
    _check(train, names, swept)
    Meta.read(plan.meta().as_dict())  # what is written down can be read again
    display = progress if isinstance(progress, Display) else Bar() if progress else Display()
    # By what it is made of: a checkpoint of an edited training is none of this one.
    shared = {"optimizer": base.name, **base.settings, **declared(train, "configuration", {})}
    if fabric:
        shared["fabric"] = {k: content_of(v) or type(v).__name__ for k, v in fabric.items()}
    parts = parts_of(train)
    place = None if out is None else Path(out).absolute()
    folder = None if place is None else place / "checkpoints" / mark(parts, shared)
    job = Job(train, base, (chosen, reported), folder, fabric, stated)
    kept = f"out={None if out is None else str(out)!r}" + (", storage=..." if storage else "")
    goes_on = command or f"sweep(..., {kept}, resume=True)"
    if out is None and storage is None:
        goes_on = ""  # nobody can go on with what is in memory
    # By its name as it was given, which another machine may share.
    with Ledger(out, storage=storage, writing=True, goal=chosen.goal) as ledger:
        for note in ledger.notes:
            display.say(note)
        ledger.configure(shared, parts, resume=resume)
        _require_measured(plan, ledger)
        _keep_center(plan, ledger)
        driver = Driver(
            plan,
            ledger,
            executor or _usual(),
            job,
            chosen_sampler,
            display,
            None if time_limit is None else time.monotonic() + time_limit,
            retry_failed,
            {"command": command or None, "versions": _versions()},
        )
        try:
            with terminable(), display:
                driver.run()
        except OutOfTime:
            display.say(_early(f"Stopped after time_limit={time_limit:g} seconds", ledger, goes_on))
        except ExecutorError as error:
            raise SweepError(_early(str(error).rstrip("."), ledger, goes_on)) from error.__cause__
        except LedgerError as error:
            if not goes_on:
                raise
            raise LedgerError(f"{error} Go on with\n\n    {goes_on}\n") from error.__cause__
        except SweepError as error:
            raise SweepError(_early(error.message, ledger, goes_on), error.trace) from None
        except KeyboardInterrupt as error:
            why = "Terminated" if isinstance(error, Terminated) else "Interrupted"
            raise Interrupted(_early(why, ledger, goes_on)) from None
        return Result(ledger.records(), ledger.meta(), out=out, storage=storage)


def _early(why: str, ledger: Ledger, command: str) -> str:
    """The sentence that a run ends with that ends early."""
    cells = len(ledger.records())
    if not command:
        return f"{why}. {cells} trained cells were in memory; pass out= to keep them."
    return f"{why}. {cells} trained cells are safe in {ledger.place}; go on with\n\n    {command}\n"


def _check(train: Any, rules: Sequence[str], params: Mapping[str, Any]) -> None:
    if takes_trial(train, tuple(params)):
        return
    seen = "rule" in inspect.signature(train).parameters
    if len(rules) > 1 and not seen:
        raise TrainingError(
            f"rules={list(rules)}: the training takes numbers and does not see the rule; let it "
            "take the trial and make its optimizer by trial.optimizer(model), or sweep one rule."
        )


def _decays(weight_decay: Any, strength: Any) -> tuple[Axis, bool]:
    if (weight_decay is None) == (strength is None):
        raise ValueError(
            f"weight_decay={weight_decay!r}, strength={strength!r}: exactly one is needed, such as "
            "weight_decay=lab.log(1e-3, 1, 9)."
        )
    if strength is not None:
        return axis_of("strength", strength), True
    return axis_of("weight_decay", weight_decay), False


def _usual() -> Executor:
    """Who trains if nobody says."""
    return InProcess() if cores() == 1 and not torch.accelerator.is_available() else Local()


def _keep_center(plan: SweepPlan, ledger: Ledger) -> None:
    """Measure the strengths of a resumed sweep at the lr at which it began."""
    known = ledger.meta().central_lr
    if known is not None:
        plan.central = known


def _require_measured(plan: SweepPlan, ledger: Ledger) -> None:
    """Check that what was trained before can be judged by what is asked for now."""
    done = [r for r in ledger.records() if r["status"] == "done"]
    known = dict.fromkeys(name for r in done for name in r["metrics"])
    for option, metric in (("choose", plan.choose), ("report", plan.report)):
        if done and metric.name not in known:
            raise LedgerError(
                f"{option}={metric.name!r}: must be one that the {len(done)} trainings in "
                f"{ledger.place} have, {', '.join(map(repr, known)) or 'which is none'}"
                f"{near(metric.name, known)}"
            )


def _name_of(train: Any) -> str:
    while isinstance(train, functools.partial):
        train = train.func
    name = getattr(train, "name", None) or getattr(train, "__name__", None)
    module = getattr(train, "__module__", None)
    name = name or type(train).__name__
    return (
        str(name) if module in (None, "__main__") or hasattr(train, "name") else f"{module}:{name}"
    )


def _versions() -> Mapping[str, str]:
    return {
        "halflife": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "optuna": optuna.__version__,
    }
