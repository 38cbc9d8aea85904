"""``halflife study``: list, show, run and report the papers' claims."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .mistakes import explained, extra, spoken
from .terminal import Mistake, errors, print_json, say, show

if TYPE_CHECKING:
    from ..lab.executors import Executor
    from ..lab.studies.design import Design
    from ..lab.studies.results import StudyResult

__all__ = ["study"]

OUT = Path("studies-run")  # where ledgers are, if nothing is said

study = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="The papers' claims: what is registered, what was found, and how to find it again.",
    epilog="Start with halflife study list, then halflife study run 000/figure-1.",
)


class Budget(str, Enum):
    """How much of a study is run."""

    minutes = "minutes"
    hours = "hours"
    paper = "paper"


NAMES = typer.Argument(
    metavar="NAME...",
    help="Studies, or what their names begin with: [b]000[/b] is all of that paper, [b]all[/b] "
    "everything.",
    show_default=False,
)
JSON = typer.Option("--json", help="Print JSON.")
LEDGERS = typer.Option("--out", help="Folder of the ledgers.")


def list_studies(
    names: Annotated[list[str] | None, NAMES] = None,
    out: Annotated[Path, LEDGERS] = OUT,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """List the studies: their claims, and the verdicts where they have been run.

    [b]Examples[/b]

        halflife study list

        halflife study list 000 --json
    """
    with extra("lab", "study list"):
        from ..lab.studies.record import seconds_text
        from ..lab.studies.words import lead

    found = _results(names or ["all"], out)
    if as_json:
        print_json([each.as_dict() for each in found])
        return
    rows: list[tuple[str, ...]] = [("study", "claims", "title")]
    rows += [(d.name, str(len(d.claims)), d.title) for d in (each.design for each in found)]
    if any(each.recorded for each in found):  # else the columns would only take room
        told = [("verdicts", "time")]
        told += [
            (_in_short(each), seconds_text(each.recorded.seconds) if each.recorded else "-")
            for each in found
        ]
        rows = [(*row, *more) for row, more in zip(rows, told, strict=True)]
    show(rows, title=f"{len(found)} studies", prose=(2, 3) if len(rows[0]) > 3 else (2,))
    say()
    say(f"{lead(found)} Ledgers: {out}." if out.is_dir() else f"None has been run (in {out}).")


def show_study(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A study, or what its name alone begins with.")
    ],
    out: Annotated[Path, LEDGERS] = OUT,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show all that is registered of a study, and its verdicts where it has been run.

    [b]Examples[/b]

        halflife study show 000/figure-1

        halflife study show 000/figure-1 --json
    """  # noqa: DOC501 - this text is the command's help
    found = _results([name], out)
    if len(found) > 1:
        several = ", ".join(each.design.name for each in found)
        raise Mistake(f"NAME {name}: must mean one study; it begins {several}.")
    if as_json:
        print_json(found[0].as_dict())
        return
    _one(found[0])


@spoken(study="NAME {}", budget="--budget {}", workers="--workers {}")
def run_study(
    names: Annotated[list[str], NAMES],
    budget: Annotated[
        Budget,
        typer.Option(
            help="[b]minutes[/b] is the registered size; [b]hours[/b] has more seeds; [b]paper[/b] "
            "trains nothing here and prints the halflife train commands of the paper's own "
            "configurations, which take days of a GPU."
        ),
    ] = Budget.minutes,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder of the ledgers. What is in it is not measured again: the same command "
            "goes on after Ctrl-C, a crash or a kill."
        ),
    ] = OUT,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="Processes that measure; 0: this one. Default: one for each core."
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(help="Minutes after which nothing new is begun; the same command goes on."),
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Run studies, or go on with them, and say what became of their claims.

    Settings are chosen on validation data by some seeds, and claims are judged on test data by
    fresh ones. Verdicts are corrected for all registered claims, so they hold for this folder.
    A study whose data is not here is refused by name; all and beginnings leave it out.

    [b]Examples[/b]

        halflife study run 000/figure-1

        halflife study run 000 --time-limit 30

        halflife study run all --budget hours --out studies-hours

        halflife study run 000/figure-1 --budget paper
    """  # noqa: DOC501 - this text is the command's help
    with extra("lab", "study run"):
        from ..lab.studies.ledger import StudyError
        from ..lab.studies.running import run_studies, studies_named
        from ..lab.sweeping.display import Bar
        from ..lab.sweeping.signals import Terminated

    wanted = studies_named(names)
    if budget is Budget.paper:
        _paper(wanted, as_json)
        return
    if time_limit is not None and time_limit <= 0:
        raise Mistake(f"--time-limit {time_limit:g}: must be a number of minutes > 0.")
    ready = [each.name for each in _with_data(wanted, names)]
    again = _command(names, budget, out, workers)
    seconds = None if time_limit is None else 60.0 * time_limit
    try:
        ended = run_studies(
            ready, out, _executor(workers), budget=budget.value, display=Bar(), time_limit=seconds
        )
    except KeyboardInterrupt as error:
        why = "Terminated" if isinstance(error, Terminated) else "Interrupted"
        _tell(f"\n{why}. What is measured is in {out}; {again} goes on.")
        raise typer.Exit(130) from None
    except StudyError as error:
        raise Mistake(str(error)) from error
    found = _results(ready, out)
    if as_json:
        print_json([each.as_dict() for each in found])
        return
    _verdicts(found)
    say()
    if open_ := [name for name, findings in ended.items() if findings is None]:
        many = f"{len(open_)} of {len(ended)} studies have" if open_[1:] else f"{open_[0]} has"
        say(f"{many} not ended: {again} goes on.", "yellow")
    say(f"The page of all this: halflife study report {shlex.quote(str(out))}")


def report_studies(
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="The --out of halflife study run.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The HTML file. Default: studies.html in DIRECTORY.", show_default=False),
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Write the page of all studies from their ledgers alone: one file that needs no network.

    [b]Examples[/b]

    After `halflife study run all`:

        halflife study report studies-run

        halflife study report studies-run --out claims.html
    """  # noqa: DOC501 - this text is the command's help
    with extra("lab", "study report"):
        from ..lab.studies.page import write_page
        from ..lab.studies.words import lead

    if not list(directory.glob("*.jsonl")):
        raise Mistake(
            f"DIRECTORY {directory}: must hold a ledger of a study (*.jsonl); halflife study run "
            "000/figure-1 writes one."
        )
    page = write_page(directory, directory / "studies.html" if out is None else out)
    found = _results(["all"], directory)
    if as_json:
        print_json({"report": str(page), "studies": [each.as_dict() for each in found]})
        return
    say(lead(found))
    say()
    say(f"Report: {page.resolve().as_uri()}", wrap=False)


study.command("list")(explained(list_studies))
study.command("show")(explained(show_study))
study.command("run")(explained(run_study))
study.command("report")(explained(report_studies))


def _results(words: Sequence[str], out: Path) -> list[StudyResult]:
    """Of the studies that words mean; those of the others correct their verdicts."""
    with extra("lab", "study"):
        from ..lab.studies.results import read_results
        from ..lab.studies.running import studies_named

    wanted = {design.name for design in studies_named(words)}
    return [each for each in read_results(out) if each.design.name in wanted]


def _with_data(wanted: Sequence[Design], names: Sequence[str]) -> list[Design]:
    """Those whose data is here; a study that is named must have it."""
    from ..lab.studies.running import lacking

    ready = []
    for each in wanted:
        if not (why := lacking(each.data)):
            ready.append(each)
        elif each.name in names:
            raise Mistake(f"NAME {each.name}: must have its data here; {why}")
        else:
            _tell(f"Left out: {each.name}, as its data is not here; {why}")
    if not ready:
        raise Mistake(f"NAME {' '.join(names)}: none of these studies has its data here.")
    return ready


def _executor(workers: int | None) -> Executor:
    from .. import lab

    return lab.InProcess("cpu") if workers == 0 else lab.Local(workers, devices=["cpu"])


def _command(names: Sequence[str], budget: Budget, out: Path, workers: int | None) -> str:
    words = ["halflife", "study", "run", *names]
    words += ["--budget", budget.value] if budget is not Budget.minutes else []
    words += ["--out", str(out)] if out != OUT else []
    words += ["--workers", str(workers)] if workers is not None else []
    return shlex.join(words)


def _tell(text: str) -> None:
    errors.print(text, soft_wrap=True, highlight=False, markup=False)


# --- what is printed ------------------------------------------------------------------------------


def _in_short(each: StudyResult) -> str:
    """How many claims came out how."""
    if each.findings is None:
        return "-" if each.recorded is None else "begun"
    outcomes = [claim.verdict.outcome for claim in each.claims]
    parts = [f"{outcomes.count(o)} {o}" for o in dict.fromkeys(outcomes)]
    lost = sum(not claim.trusted for claim in each.claims)
    return ", ".join(parts) + (f"; {lost} with a failed control" if lost else "")


def _verdicts(found: Sequence[StudyResult], titled: bool = True) -> None:
    from ..lab.studies.words import alarms, family_of, scope_text, verdict_text

    family = family_of()
    for each in found:
        if titled:
            say()
            say(f"{each.design.name}  {each.design.title}", "bold")
        for claim in each.claims:
            say()
            say(f"  {claim.claim.words}")
            said = verdict_text(each, claim, family)
            say(
                f"  {said} {scope_text(claim)}".rstrip(),
                first=2 + len(said.split(":")[0]),
                style="bold",
            )
            for alarm in alarms(claim) if each.findings is not None else []:
                say(f"  Not to be trusted. {alarm}", "red")


def _one(each: StudyResult) -> None:
    from ..lab.studies.record import facts_of

    design = each.design
    facts = facts_of(each)
    rows = [
        ("source", design.source),
        ("published", design.published),
        ("here", design.small),
        ("confounds", design.confounds),
        ("cannot say", design.cannot_say),
        ("data", design.data),
        ("rows", ", ".join(map(str, design.rows))),
        *facts["facts"],
    ]
    show([row for row in rows if row[1]], title=f"{design.name}  {design.title}", head=False,
         prose=(1,))  # fmt: skip
    say()
    show(facts["settings"], title="Settings", head=False, prose=(1,))
    for claim in each.claims:
        own = claim.claim
        about = [
            ("claim", own.words),
            ("must be measured", own.statement),
            ("kind", own.kind + (f", {own.label}" if own.label else "")),
            ("smallest effect", f"{own.effect:g} {own.unit}"),
            ("floor of the deviation", f"{own.floor:g} {own.unit}" if own.floor else ""),
            ("matched at", ", ".join(own.matched)),
            ("null", own.null),
            ("planted", own.planted),
            ("published", own.published),
        ]
        say()
        show([row for row in about if row[1]], title=f"Claim {own.name}", head=False, prose=(1,))
    _verdicts([each], titled=False)
    for note in each.findings.notes if each.findings else ():
        say(f"Note: {note}")
    say()
    say("Run it, or go on with it:")
    say(f"  {facts['command']}", wrap=False)
    for recipe in design.recipes:
        say(f"  halflife train {recipe}", wrap=False)


def _paper(wanted: Sequence[Design], as_json: bool) -> None:
    """Print the commands that train the papers' own configurations."""
    from ..lab.recipes import recipe
    from ..lab.recipes.cost import cost

    recipes = [recipe(name) for name in dict.fromkeys(n for d in wanted for n in d.recipes)]
    if as_json:
        print_json(
            [
                {"recipe": each.name, "command": f"halflife train {each.name}",
                 "petaflop": cost(each).petaflop, "published": each.published}
                for each in recipes
            ]
        )  # fmt: skip
        return
    if not recipes:
        raise Mistake(
            f"NAME {' '.join(d.name for d in wanted)}: has no recipe of the paper; --budget paper "
            "prints the commands of recipes. Use --budget minutes or hours."
        )
    total = sum(cost(each).petaflop for each in recipes)
    _tell(
        f"Nothing is trained here: these commands train the papers' own configurations, one run "
        f"each, {total:,.0f} petaFLOP in all. Run them where there is a GPU."
    )
    for each in recipes:
        say(f"halflife train {each.name}", wrap=False)
