"""The last sample as a table that stays in its place in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .quantities import PRESETS
from .sinks import Record
from .table import cells, notes_of

__all__ = ["LiveTable"]


class LiveTable:
    """A sink that shows the last sample; measured, and in parentheses predicted.

    Args:
        quantities: the columns. Default: those of the preset "economy".
        rows: at most so many records, global ones first.
        console: a ``rich.console.Console``.

    Raises:
        ImportError: without rich.
    """

    def __init__(
        self,
        quantities: Sequence[str] = PRESETS["economy"],
        rows: int = 20,
        console: Any = None,
    ) -> None:
        try:
            from rich.live import Live
        except ImportError as error:
            raise ImportError('LiveTable needs rich: pip install "torch-halflife[cli]"') from error
        self._quantities, self._rows = tuple(quantities), rows
        self._live = Live(console=console, refresh_per_second=4)

    def write(self, records: list[Record]) -> None:
        """Show the records in place of those before."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=f"step {records[0]['step']}: measured (predicted at equilibrium)")
        if notes := notes_of(records[: self._rows]):
            table.caption = Text("\n".join(notes))  # brackets in names are no markup
        head, *rows = cells(records[: self._rows], self._quantities)
        for column in head:
            table.add_column(column)
        for row in rows:
            table.add_row(*row)
        if not self._live.is_started:
            self._live.start()
        self._live.update(table)

    def close(self) -> None:
        """Leave the last table on the screen."""
        self._live.stop()
