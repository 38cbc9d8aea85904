"""``halflife landscape`` and ``halflife report``."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..checks import in_short
from ..rules import rule_names
from .mistakes import extra, spoken
from .terminal import Mistake, errors, print_json, progress, say, show
from .user_code import UserCodeError, load

if TYPE_CHECKING:
    from ..lab.landscape import Landscape
    from ..lab.ledger import Ledger
    from ..lab.meta import Meta
    from ..lab.statistics.analysis import RuleAnalysis
    from ..lab.tasks import Task

__all__ = ["landscape", "report"]

_WHAT, _GRID, _RUN = "What is trained", "The grid", "The run"


@spoken(decay="--rules {}")
def landscape(
    context: typer.Context,
    task: Annotated[
        str,
        typer.Option(
            help="[b]digits[/b], [b]digits-bn[/b] (with batch norm), or your own as "
            "[b]module:attribute[/b].",
            rich_help_panel=_WHAT,
        ),
    ] = "digits",
    optimizer: Annotated[
        str,
        typer.Option(
            help="The base optimizer, [b]adamw[/b] or [b]sgd[/b]; the rules say how it decays.",
            rich_help_panel=_WHAT,
        ),
    ] = "adamw",
    rules: Annotated[
        str,
        typer.Option(
            help=f"Decay rules, by comma: {', '.join(rule_names())}. Runs without decay are always "
            "added.",
            rich_help_panel=_WHAT,
        ),
    ] = "l2,decoupled,independent,stable",
    lr: Annotated[
        str,
        typer.Option(
            help="Peak learning rates: [b]lo:hi:n[/b], log-spaced, or a list by comma.",
            rich_help_panel=_GRID,
        ),
    ] = "1e-4:1e-1:9",
    strength: Annotated[
        str,
        typer.Option(
            help="Decay strengths, written like --lr. Unit: the fraction of each weight that one "
            "step removes at the central learning rate (1e-3 halves a weight in 693 steps). It "
            "means the same for every rule; each rule's own coefficient follows from it.",
            rich_help_panel=_GRID,
        ),
    ] = "1e-4:1e-1:9",
    seeds: Annotated[
        int,
        typer.Option(
            min=1,
            help="Runs of every cell, each with its own data, label noise, initial weights and "
            "order of batches. 3 or more give intervals.",
            rich_help_panel=_GRID,
        ),
    ] = 3,
    extend: Annotated[
        bool,
        typer.Option(
            "--extend/--no-extend",
            help="Let the grid grow where the best cell of a rule lies on its border.",
            rich_help_panel=_GRID,
        ),
    ] = True,
    extension_limit: Annotated[
        int,
        typer.Option(min=0, help="Rows and columns that each rule may add.", rich_help_panel=_GRID),
    ] = 4,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the training set. Default: the task's.", rich_help_panel=_RUN
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Default: the task's.", rich_help_panel=_RUN)
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="Of the learning rate: constant, cosine, linear, warmup-cosine. Default: the "
            "task's.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Directory of the ledger and the report.", rich_help_panel=_RUN)
    ] = Path("out/landscape"),
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the finished cells in --out, after Ctrl-C, a crash or a kill.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    workers: Annotated[
        int,
        typer.Option(
            min=0,
            help="Processes, of one thread each; 0 trains in this one.",
            rich_help_panel=_RUN,
        ),
    ] = 2,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Database URL for the ledger (sqlite:///..., postgresql://...) instead of a file "
            "in --out, as network file systems need.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the numbers of the report.", rich_help_panel=_RUN),
    ] = False,
) -> None:
    """Map test error over learning rate and decay strength, and write a report.

    Rules are compared at equal strength, and the grid extends itself until each one's best cell is
    inside it. The report says which learning rate and half-life to use, and whether the two can be
    tuned separately.

    [b]Examples[/b]

    The demonstration, about a minute on two cores:

        halflife landscape --out out/demo

    SGD, with batch norm in the network:

        halflife landscape --task digits-bn --optimizer sgd --lr 1e-3:1:9

    A look at one rule, some seconds:

        halflife landscape --rules decoupled --seeds 1 --epochs 1 --out out/a
    """
    with extra("lab", "landscape"):
        from ..lab.landscape import run_landscape
        from ..lab.ledger import Ledger
        from ..lab.report import write

    command = _command(context)
    plan = _plan(
        task=task, optimizer=optimizer, rules=rules, lr=lr, strength=strength, seeds=seeds,
        extend=extend, extension_limit=extension_limit, epochs=epochs, batch_size=batch_size,
        schedule=schedule,
    )  # fmt: skip
    with Ledger(out, storage=storage, writing=True) as ledger:
        for note in ledger.notes:
            errors.print(note, style="yellow", soft_wrap=True, highlight=False)
        ledger.configure(plan.configuration(), resume=resume)
        with _resumable(ledger, command), _own_task(task), progress() as display:
            run_landscape(plan, ledger, workers=workers, progress=display, command=command)
        if not as_json:
            _summary(ledger.records(), ledger.meta())
    _report(write(out), as_json)


@spoken(out="DIRECTORY {}")
def report(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIRECTORY", help="The --out of a landscape, finished or not."),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the numbers of the report.")
    ] = False,
) -> None:
    """Write the report of a landscape again, from its ledger alone.

    [b]Examples[/b]

    After the demonstration, `halflife landscape --out out/demo`:

        halflife report out/demo

        halflife report out/demo --json
    """
    with extra("lab", "report"):
        from ..lab.report import write

    _report(write(directory), as_json)


def _report(page: Path, as_json: bool) -> None:
    if as_json:
        numbers = json.loads((page.parent / "summary.json").read_text("utf-8"))
        print_json({"report": str(page), **numbers})
    else:
        say(f"Report: {page}", wrap=False)


def _plan(
    *, task: str, optimizer: str, rules: str, lr: str, strength: str, seeds: int, **options: Any
) -> Landscape:
    from ..lab.axes import parse_axis
    from ..lab.landscape import Landscape
    from ..lab.tasks import find_task
    from ..lab.training import Training

    found = _own(task) if ":" in task else find_task(task)
    training = Training(
        found,
        optimizer,
        epochs=found.epochs if options["epochs"] is None else options["epochs"],
        batch_size=found.batch_size if options["batch_size"] is None else options["batch_size"],
        schedule=options["schedule"] or found.schedule,
    )
    return Landscape(
        training,
        rules=tuple(dict.fromkeys(name.strip() for name in rules.split(","))),
        lrs=parse_axis("lr", lr),
        strengths=parse_axis("strength", strength),
        seeds=tuple(range(seeds)),
        extend=options["extend"],
        extension_limit=options["extension_limit"],
    )


def _own(target: str) -> Task:
    """The user's own task."""
    from ..lab.tasks import as_task

    try:
        return as_task(load(target, "task", "my_tasks:spirals"), f"--task {target}")
    except ValueError as error:
        raise Mistake(f"--task {error}" if isinstance(error, Mistake) else str(error)) from None


@contextlib.contextmanager
def _own_task(task: str) -> Iterator[None]:
    """Name the task that raised, wherever it is caught: in a worker, say."""
    try:
        yield
    except Exception as error:
        if ":" not in task or isinstance(error, Mistake):
            raise
        raise UserCodeError(f"--task {task}: {in_short(error)}") from error


def _command(context: typer.Context) -> str:
    """The command line that maps the same: every option that is not at its default."""
    words = ["halflife", str(context.info_name)]
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if value is None or value == parameter.default or parameter.name == "resume":
            continue
        if isinstance(value, bool):
            names = parameter.opts if value else parameter.secondary_opts
            words.append(names[0])
        else:
            words += [parameter.opts[0], str(value)]
    return shlex.join(words)


@contextlib.contextmanager
def _resumable(ledger: Ledger, command: str) -> Iterator[None]:
    """Say after Ctrl-C what is safe and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        errors.print(
            f"\nInterrupted. {len(ledger.records())} finished cells are safe in "
            f"{ledger.directory}; go on with\n\n    {command} --resume\n",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
        raise typer.Exit(130) from None


def _summary(records: list[dict[str, Any]], meta: Meta) -> None:
    from ..lab.statistics.analysis import analyse
    from ..units.writing import counted

    analysis = analyse(records, meta)
    rows: list[tuple[str, ...]] = [
        ("rule", "lr", "decay", "half-life", meta.reported.title, "slope")
    ]
    rows += map(_summary_row, analysis.rules)
    show(
        rows,
        title=f"{meta.name}, {meta.optimizer}, {counted(meta.steps or 0, 'step')}",
    )
    say(analysis.sentence)
    say("Half-life in steps. Slope: of log best weight decay on log lr, with its 95 % interval.")
    for extension in meta.extensions:
        say(
            "Grid extended for {rule}: {axis} {value:.3g}, as its best cell lay on the {side} "
            "border.".format(**extension)
        )
    for open_end in meta.unresolved:
        say(
            "No optimum found for {rule}: its best cell lies on the {side} border of {axis} "
            "({reason}).".format(**open_end),
            "yellow",
        )


def _summary_row(rule: RuleAnalysis) -> tuple[str, ...]:
    from ..units.writing import quantity

    best, ridge = rule.best, rule.ridge
    if best is None or best.value is None:
        return (rule.rule, *["-"] * 5)
    half_life = best.half_life
    slope = ridge.verdict
    if ridge.slope is not None:
        slope = f"{ridge.slope:.2f}"
        if ridge.low is not None and ridge.high is not None:
            slope += f" [{ridge.low:.2f}, {ridge.high:.2f}]"
    spread = "" if best.standard_error is None else f" ± {best.standard_error:.1f}"
    return (
        rule.rule,
        f"{best.lr:.2g}",
        f"{best.weight_decay:.2g}",
        "-" if half_life is None or math.isinf(half_life) else quantity(half_life),
        f"{best.value:.1f}{spread}",
        slope,
    )
