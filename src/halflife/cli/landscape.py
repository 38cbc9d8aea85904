"""``halflife landscape``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .mistakes import extra, spoken
from .sweeping import OPTIONS, RUN, SPOKEN, WHAT, answer, command_of, names_of, run
from .terminal import Mistake
from .user_code import load

if TYPE_CHECKING:
    from ..lab.tasks import Task, Training

__all__ = ["landscape"]


@spoken(**SPOKEN)
def landscape(
    context: typer.Context,
    task: Annotated[
        str,
        typer.Option(
            help="[b]digits[/b], [b]digits-bn[/b] (with batch norm), or your own as "
            "[b]module:attribute[/b].",
            rich_help_panel=WHAT,
        ),
    ] = "digits",
    optimizer: Annotated[
        str,
        typer.Option(
            help="The base optimizer, such as adamw, sgd, amsgrad, adai, yogi, lion; the rules "
            "say how it decays. adamw and sgd are trained many models at once.",
            rich_help_panel=WHAT,
        ),
    ] = "adamw",
    rules: Annotated[str, OPTIONS.rules] = "l2,decoupled,independent,stable",
    lr: Annotated[str, OPTIONS.lr] = "1e-4:1e-1:9",
    strength: Annotated[str, OPTIONS.strength] = "1e-4:1e-1:9",
    seeds: Annotated[int, OPTIONS.seeds] = 3,
    confirm: Annotated[int, OPTIONS.confirm] = 8,
    default: Annotated[bool, OPTIONS.default] = True,
    sampler: Annotated[str, OPTIONS.sampler] = "grid",
    extend: Annotated[bool, OPTIONS.extend] = True,
    extension_limit: Annotated[int, OPTIONS.extension_limit] = 4,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the training set. Default: the task's.", rich_help_panel=RUN
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Default: the task's.", rich_help_panel=RUN)
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="Of the learning rate: constant, cosine, linear, warmup-cosine, wsd, "
            "multistep:0.4,0.8 (times 0.1 at these shares of the run; 8,16: at epochs), step:10, "
            "restarts:1*2 (cosines of 1, 2, 4 epochs). Default: the task's.",
            rich_help_panel=RUN,
        ),
    ] = None,
    out: Annotated[Path, OPTIONS.out] = Path("out/landscape"),
    resume: Annotated[bool, OPTIONS.resume] = False,
    retry_failed: Annotated[bool, OPTIONS.retry_failed] = False,
    workers: Annotated[
        int,
        typer.Option(
            min=0,
            help="Processes, of one thread each; 0 trains in this one.",
            rich_help_panel=RUN,
        ),
    ] = 2,
    storage: Annotated[str | None, OPTIONS.storage] = None,
    time_limit: Annotated[float | None, OPTIONS.time_limit] = None,
    as_json: Annotated[bool, OPTIONS.as_json] = False,
) -> None:
    """Map the error of a task of the lab over learning rate and decay strength.

    Rules are compared at equal strength, and the grid extends itself until each one's best setting
    is inside it. The finalists are trained again on fresh seeds. The report says which learning
    rate and half-life to use, what that gains over no decay, and whether the two can be tuned
    separately. For your own training: halflife sweep.

    [b]Examples[/b]

    Four rules, about two minutes on two cores:

        halflife landscape --out out/digits

    SGD, with batch norm in the network:

        halflife landscape --task digits-bn --optimizer sgd --lr 1e-3:1:9

    A look at one rule, some seconds:

        halflife landscape --rules decoupled --epochs 1 --confirm 0 --out out/a
    """
    with extra("lab", "landscape"):
        from ..lab.landscape import landscape as mapped

    training = _training(task, optimizer, epochs, batch_size, schedule)
    result = run(
        mapped,
        f"--task {task}" if ":" in task else "",
        training,
        workers=workers,
        rules=names_of(rules),
        lr=lr,
        strength=strength,
        seeds=seeds,
        confirm=confirm,
        default=default,
        sampler=sampler,
        extend=extend,
        extension_limit=extension_limit,
        out=out,
        resume=resume,
        retry_failed=retry_failed,
        storage=storage,
        time_limit=time_limit,
        command=command_of(context),
    )
    answer(result, as_json)


def _training(
    task: str, optimizer: str, epochs: int | None, batch_size: int | None, schedule: str | None
) -> Training:
    from ..lab.tasks import Training, find_task

    found = _own(task) if ":" in task else find_task(task)
    return Training(
        found,
        optimizer,
        epochs=found.epochs if epochs is None else epochs,
        batch_size=found.batch_size if batch_size is None else batch_size,
        schedule=schedule or found.schedule,
    )


def _own(target: str) -> Task:
    """The user's own task."""
    from ..lab.tasks import as_task

    try:
        return as_task(load(target, "task", "my_tasks:spirals"), f"--task {target}")
    except ValueError as error:
        raise Mistake(f"--task {error}" if isinstance(error, Mistake) else str(error)) from None
