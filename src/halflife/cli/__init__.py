"""The command line: ``landscape`` maps, ``report`` writes its page again, ``describe`` converts.

Commands only read options, show progress and explain errors; what they do is in the library and in
`halflife.lab`, imported when a command runs, so that ``--help`` is quick.
"""

try:
    import optuna  # noqa: F401 - the lab's own needs, so that its absence is explained here
    import rich  # noqa: F401
    import sklearn  # noqa: F401
    import typer
except ImportError as error:
    raise ImportError(
        f"the halflife command needs the extra 'lab' ({error}): pip install torch-halflife[lab]"
    ) from error

from . import audit, convert, describe, landscape, probe, recommend, transfer

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Weight decay, measured: which learning rate and which decay, under which decay rule.",
)
for command in (
    landscape.landscape,
    landscape.report,
    describe.describe,
    convert.convert,
    transfer.transfer,
    recommend.recommend,
    audit.audit,
    probe.probe,
):
    app.command()(command)


def main() -> None:
    """Run the command line."""
    app()
