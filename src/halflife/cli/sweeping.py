"""What ``halflife landscape`` and ``halflife sweep`` share; and ``halflife report``."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..checks import in_short
from ..rules import rule_names
from .mistakes import extra, spoken
from .terminal import Mistake, errors, print_json, say, show
from .user_code import UserCodeError

if TYPE_CHECKING:
    from ..lab import Metric, Result
    from ..lab.statistics.analysis import RuleAnalysis

__all__ = ["OPTIONS", "SPOKEN", "answer", "command_of", "names_of", "report", "run"]

# How the library's names are written here.
SPOKEN = {
    "decay": "--rules {}",
    "rules": "--rules {}",
    "resume": "--resume",
    "retry_failed": "--retry-failed",
    "params": "--param {}",
}

WHAT, GRID, RUN = "What is trained", "The grid", "The run"


class OPTIONS:
    """Options that both commands have."""

    rules = typer.Option(
        help=f"Decay rules, by comma: {', '.join(rule_names())}. Trainings without decay are "
        "always added.",
        rich_help_panel=WHAT,
    )
    lr = typer.Option(
        help="Peak learning rates: [b]lo:hi:n[/b], log-spaced, or a list by comma.",
        rich_help_panel=GRID,
    )
    strength = typer.Option(
        help="Decay strengths, written like --lr. Unit: the fraction of each weight that one "
        "step removes at the central learning rate (1e-3 halves a weight in 693 steps). It "
        "means the same for every rule; each rule's own coefficient follows from it.",
        rich_help_panel=GRID,
    )
    seeds = typer.Option(
        min=1, help="Trainings of every cell, by which settings are chosen.", rich_help_panel=GRID
    )
    confirm = typer.Option(
        min=0,
        help="Fresh seeds on which the finalists are trained again: the best setting of each rule, "
        "no decay, torch's default. What is told is told of these. 0 for none.",
        rich_help_panel=GRID,
    )
    default = typer.Option(
        "--default/--no-default",
        help="Compare with torch's default decay (0.01 of AdamW), at every learning rate. Default: "
        "where the optimizer is known to be AdamW.",
        rich_help_panel=GRID,
    )
    sampler = typer.Option(
        help="[b]grid[/b] trains every cell; [b]two-stage[/b] one seed of each, then all seeds of "
        "the best; [b]halving[/b] 40 % of each, then the rest of the best third; [b]optuna[/b] "
        "what its TPE asks for.",
        rich_help_panel=GRID,
    )
    extend = typer.Option(
        "--extend/--no-extend",
        help="Let the grid grow where the best setting of a rule lies on its border.",
        rich_help_panel=GRID,
    )
    extension_limit = typer.Option(
        min=0, help="Rows and columns that each rule may add.", rich_help_panel=GRID
    )
    out = typer.Option(help="Directory of the ledger and the report.", rich_help_panel=RUN)
    resume = typer.Option(
        "--resume",
        help="Go on from the trained cells in --out, after Ctrl-C, a crash or a kill; or join a "
        "process that trains there.",
        rich_help_panel=RUN,
    )
    retry_failed = typer.Option(
        "--retry-failed", help="Train cells again that failed.", rich_help_panel=RUN
    )
    storage = typer.Option(
        help="Database URL for the ledger (sqlite:///..., postgresql://...) instead of a file in "
        "--out, as network file systems need. [b]halflife report[/b] is given the same.",
        rich_help_panel=RUN,
    )
    time_limit = typer.Option(
        help="Seconds after which no more is trained; --resume goes on.", rich_help_panel=RUN
    )
    as_json = typer.Option("--json", help="Print the numbers of the report.", rich_help_panel=RUN)


@spoken(out="DIRECTORY {}")
def report(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIRECTORY", help="The --out of a sweep, finished or not."),
    ],
    storage: Annotated[
        str | None, typer.Option(help="The database that holds its ledger, if one does.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the numbers of the report.")
    ] = False,
) -> None:
    """Write the report of a landscape or sweep again, from its ledger alone.

    [b]Examples[/b]

    After `halflife landscape --out out/digits`:

        halflife report out/digits

        halflife report out/digits --json
    """
    with extra("lab", "report"):
        from ..lab import Result

    answer(Result.read(directory, storage=storage), as_json)


def run(sweep: Callable[..., Result], what: str, train: Any, **options: Any) -> Result:
    """The sweep; one that ends early is said in a sentence, with the command that goes on.

    Args:
        sweep: runs it.
        what: the user's code, as it was asked for; empty if it is none.
        train: of the sweep.
        **options: of the sweep.

    Raises:
        Exit: after Ctrl-C or SIGTERM.
        Mistake: for a sweep that cannot go on.
        UserCodeError: if that is the user's code.
        ValueError: for options that cannot be used.
    """
    from ..lab import Interrupted, SweepError

    try:
        with _results_apart():
            return sweep(train, **options)
    except Interrupted as error:
        errors.print(f"\n{error}", soft_wrap=True, highlight=False, markup=False)
        raise typer.Exit(130) from None
    except SweepError as error:
        if not error.trace:
            raise Mistake(str(error)) from None
        said = f"{error.trace.splitlines()[-1]}\n{error.message}"
        raise UserCodeError(f"{what}: {said}" if what else said) from error
    except (ValueError, typer.Exit):
        raise
    except Exception as error:
        if not what:
            raise
        raise UserCodeError(f"{what}: {in_short(error)}") from error


def answer(result: Result, as_json: bool) -> None:
    """Print what a sweep says, and write its report."""
    from ..lab.statistics.sentence import differences

    page = result.report()
    if as_json:
        numbers = json.loads((page.parent / "summary.json").read_text("utf-8"))
        print_json({"report": str(page), **numbers})
        return
    _summary(result)
    say()
    say(result.sentence)
    for line in differences(result.analysis, result.meta):
        say(line)
    say()
    say(f"Report: {page.resolve().as_uri()}", wrap=False)


def names_of(text: str) -> tuple[str, ...]:
    """Names by comma, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",")))


def command_of(context: typer.Context) -> str:
    """The command line that goes on with the same: every option that is not at its default."""
    words = ["halflife", str(context.info_name)]
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        nothing = value is None or value in (parameter.default, [], ())
        if nothing or parameter.name in ("resume", "retry_failed"):
            continue
        if parameter.param_type_name == "argument":
            words.append(str(value))
        elif isinstance(value, bool):
            words.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            for part in value if isinstance(value, (list, tuple)) else [value]:
                words += [parameter.opts[0], _written(str(parameter.name), str(part))]
    return shlex.join([*words, "--resume"])


def _written(name: str, value: str) -> str:
    """A value as it may be written down: a database's password is not."""
    if name != "storage":
        return value
    from ..lab.ledger.stored import address, written

    with contextlib.suppress(Exception):
        return written(address(value))
    return "..."


@contextlib.contextmanager
def _results_apart() -> Iterator[None]:
    """Whatever a training prints goes to standard error, from a worker or not.

    What it runs and what prints by C writes to the same file, past Python's streams.
    """
    sys.stdout.flush()
    kept = None
    with contextlib.suppress(OSError):
        kept = os.dup(1)
        os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


# --- what is printed ------------------------------------------------------------------------------


def _summary(result: Result) -> None:
    from ..lab.report.summary import chosen_and_told
    from ..lab.statistics.sentence import titled
    from ..lab.wording import steps

    analysis, meta = result.analysis, result.meta
    metric = meta.reported
    rows: list[tuple[str, ...]] = [("rule", "lr", "decay", "half-life", metric.title, "slope")]
    rows += [_summary_row(rule, metric) for rule in analysis.rules]
    if analysis.baseline is not None:
        rows.append(("no decay", *_summary_row(analysis.baseline, metric)[1:-1], "-"))
    length = f", {steps(meta.steps)} steps" if meta.steps else ""
    by = f", {meta.optimizer}" if meta.optimizer else ""
    show(rows, title=f"{meta.name}{by}{length}")
    say(
        f"Half-life in steps. {metric.title}: over the fresh seeds, where they are trained. Slope: "
        "of log best weight decay on log lr. In brackets: 95 % intervals."
    )
    if note := chosen_and_told(result.records, meta):
        say(note, "yellow")
    failed = [r for r in result.records if r["status"] == "failed"]
    if failed:
        last = (failed[0].get("error") or "").strip().splitlines()
        say(
            f"{len(failed)} of {len(result.records)} trainings failed; the first said: "
            f"{last[-1] if last else 'nothing'}. --resume --retry-failed trains them again.",
            "yellow",
        )
    for grown in meta.extensions:
        say(
            f"Grid extended for {titled(grown['rule'])}: {grown['axis']} {grown['value']:.3g}, as "
            f"its best setting lay on the {grown['side']} border."
        )
    for end in meta.unresolved:
        say(
            f"No optimum found for {titled(end['rule'])}: its best setting lies on the "
            f"{end['side']} border of {end['axis']} ({end['reason']}).",
            "yellow",
        )


def _summary_row(rule: RuleAnalysis, metric: Metric) -> tuple[str, ...]:
    from ..lab.wording import spread, with_unit
    from ..units.writing import quantity

    best, ridge, fresh = rule.best, rule.ridge, rule.fresh
    if best is None:
        return (rule.rule, *["-"] * 5)
    half_life = best.half_life
    slope = ridge.verdict
    if ridge.slope is not None:
        slope = f"{ridge.slope:.2f}"
        if ridge.low is not None and ridge.high is not None:
            slope += f" [{ridge.low:.2f}, {ridge.high:.2f}]"
    value = "-" if best.value is None else with_unit(best.value, metric.unit, best.standard_error)
    if fresh is not None and fresh.value is not None:
        value = with_unit(fresh.value, metric.unit)
        if fresh.interval:
            value += f" {spread(*fresh.interval)}"
    return (
        rule.rule,
        f"{best.lr:.2g}",
        f"{best.weight_decay:.2g}",
        "-" if half_life is None or math.isinf(half_life) else quantity(half_life),
        value,
        slope,
    )
