"""``halflife sweep``."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .mistakes import extra, spoken
from .sweeping import GRID, OPTIONS, RUN, SPOKEN, WHAT, answer, command_of, names_of, run
from .terminal import Mistake
from .user_code import load

if TYPE_CHECKING:
    from ..lab import Metric
    from ..lab.executors import Executor

__all__ = ["sweep"]


@spoken(**SPOKEN, report="--report {}")
def sweep(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:TRAIN",
            help="Your training: a function of a trial, or of lr, weight_decay and seed, that "
            "returns a number or a dict of metrics.",
        ),
    ],
    choose: Annotated[
        str | None,
        typer.Option(
            help="Metric on validation data that settings are chosen by: [b]name[/b], "
            "[b]name:unit[/b], or [b]name:unit:max[/b] where higher is better. Default: that of "
            "--report; else the number that the training returns.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    reported: Annotated[
        str | None,
        typer.Option(
            "--report",
            help="Metric on test data that is told, written like --choose. Default: that of "
            "--choose.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help="Base of trial.optimizer, such as [b]adamw[/b], the default, [b]sgd[/b], "
            "[b]lion[/b]. Name it too where the training makes its own: what is not known is not "
            "told of.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    rules: Annotated[str, OPTIONS.rules] = "decoupled",
    lr: Annotated[str, OPTIONS.lr] = "1e-4:1e-1:7",
    weight_decay: Annotated[
        str | None,
        typer.Option(
            help="Weight decays of the first rule, written like --lr; other rules are given what "
            "removes the same fraction at the central learning rate. Default, without --strength: "
            "1e-3:1:7.",
            rich_help_panel=GRID,
        ),
    ] = None,
    strength: Annotated[str | None, OPTIONS.strength] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            help="Another parameter to sweep, as [b]name=v1,v2,...[/b]; the training finds it as "
            "trial['name'], or as an argument. Can be given several times.",
            rich_help_panel=GRID,
        ),
    ] = None,
    seeds: Annotated[int, OPTIONS.seeds] = 3,
    confirm: Annotated[int, OPTIONS.confirm] = 8,
    default: Annotated[bool | None, OPTIONS.default] = None,
    sampler: Annotated[str, OPTIONS.sampler] = "grid",
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Settings that [b]--sampler optuna[/b] may ask for. Default: 50.",
            rich_help_panel=GRID,
        ),
    ] = None,
    extend: Annotated[bool, OPTIONS.extend] = True,
    extension_limit: Annotated[int, OPTIONS.extension_limit] = 4,
    equivalence: Annotated[
        float | None,
        typer.Option(
            help="Margin, in the unit of --report, within which two settings are called equal. "
            "Default: the noise between seeds.",
            rich_help_panel=GRID,
        ),
    ] = None,
    executor: Annotated[
        str,
        typer.Option(
            help="Who trains: [b]local[/b] processes, [b]in-process[/b], or [b]ray[/b].",
            rich_help_panel=RUN,
        ),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Trainings at once. Default: one for each accelerator, else for each core.",
            rich_help_panel=RUN,
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            help="Seconds after which one training is ended as failed.", rich_help_panel=RUN
        ),
    ] = None,
    out: Annotated[Path, OPTIONS.out] = Path("out/sweep"),
    resume: Annotated[bool, OPTIONS.resume] = False,
    retry_failed: Annotated[bool, OPTIONS.retry_failed] = False,
    storage: Annotated[str | None, OPTIONS.storage] = None,
    time_limit: Annotated[float | None, OPTIONS.time_limit] = None,
    as_json: Annotated[bool, OPTIONS.as_json] = False,
) -> None:
    """Sweep your own training over learning rate and weight decay: what is decay worth?

    Settings are chosen on validation data. The finalists, no decay and torch's default are then
    trained again on fresh seeds, and one sentence says what that shows, with an interval.

    [b]Examples[/b]

    A file train.py with `def train(lr, weight_decay, seed): ... return error`:

        halflife sweep train:train --lr 1e-4:1e-1:7 --weight-decay 1e-3:1:7

    A function of the trial that returns {"val": ..., "test": ...}:

        halflife sweep train:train --choose val:% --report test:%
    """  # noqa: DOC501 - this text is the command's help
    with extra("lab", "sweep"):
        from .. import lab

    if trials is not None and sampler != "optuna":
        raise Mistake(
            f"--trials {trials}: counts what --sampler optuna asks for, and --sampler is "
            f"{sampler}; add --sampler optuna, or leave it out."
        )
    train = load(target, "training", "train:train")
    decays: dict[str, Any] = {"weight_decay": weight_decay, "strength": strength}
    if strength is None and weight_decay is None:
        decays["weight_decay"] = "1e-3:1:7"
    result = run(
        lab.sweep,
        target,
        train,
        **decays,
        lr=lr,
        rules=names_of(rules),
        params=_params(param or []),
        seeds=seeds,
        confirm=confirm,
        default=default,
        choose=_metric("--choose", choose),
        report=_metric("--report", reported),
        optimizer=optimizer,
        sampler=sampler if trials is None else lab.Optuna(trials=trials),
        extend=extend,
        extension_limit=extension_limit,
        equivalence=equivalence,
        executor=_executor(executor, workers, timeout),
        out=out,
        resume=resume,
        retry_failed=retry_failed,
        storage=storage,
        time_limit=time_limit,
        command=command_of(context),
        name=target,
    )
    answer(result, as_json)


def _metric(option: str, text: str | None) -> Metric | None:
    from ..lab import Metric

    if text is None:
        return None
    name, _, rest = text.partition(":")
    unit, _, goal = rest.partition(":")
    if goal not in ("", "min", "max") or not name:
        raise Mistake(f"{option} {text}: must be name, name:unit or name:unit:max, as val:% is.")
    return Metric(name, unit, goal=goal or "min")


def _params(texts: list[str]) -> Mapping[str, list[Any]]:
    params = {}
    for text in texts:
        name, _, values = text.partition("=")
        if not name.strip() or not values:
            raise Mistake(f"--param {text}: must be name=v1,v2,..., as momentum=0.8,0.9 is.")
        params[name.strip()] = [_value(v.strip()) for v in values.split(",")]
    return params


def _value(text: str) -> Any:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _executor(name: str, workers: int | None, timeout: float | None) -> Executor:
    from .. import lab

    if name == "local":
        return lab.Local(workers, timeout=timeout)
    if name == "ray":
        return lab.Ray(slots=workers, timeout=timeout)
    if name != "in-process":
        raise Mistake(f"--executor {name}: must be local, in-process or ray.")
    if workers not in (None, 1) or timeout is not None:
        raise Mistake("--executor in-process: trains one at a time, without --timeout.")
    return lab.InProcess()
