"""What a sweep says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .ledger import Ledger
from .meta import Meta
from .recommendation import Transferred, recommended
from .statistics.analysis import Analysis, analyse
from .statistics.sentence import sentence

if TYPE_CHECKING:
    from .statistics.analysis import Confirmed
    from .statistics.surface import Setting

__all__ = ["Result"]


class Result:
    """What a sweep says, finished or not.

    Args:
        records: of its cells.
        meta: what is known of it.
        out: its directory; None if it was kept in memory.
        storage: the database that holds its ledger, if one does.
    """

    def __init__(
        self,
        records: Sequence[Mapping[str, Any]],
        meta: Meta,
        *,
        out: str | Path | None = None,
        storage: str | None = None,
    ) -> None:
        self.records, self.meta = meta.judged(records), meta
        self.out = None if out is None else Path(out)
        self._storage = storage

    @classmethod
    def read(cls, out: str | Path, *, storage: str | None = None) -> Result:
        """The result of the sweep in a directory.

        Raises:
            LedgerError: if there is none, or it is damaged.
        """
        with Ledger(out, storage=storage) as ledger:
            return cls(ledger.records(), ledger.meta(), out=out, storage=storage)

    def cells(self) -> list[dict[str, Any]]:
        """All trainings: rule, lr, weight_decay, seed, status, metrics, error, ..."""
        return [dict(r) for r in self.records]

    @cached_property
    def analysis(self) -> Analysis:
        """All that is told from the records."""
        return analyse(self.records, self.meta)

    @property
    def best(self) -> Setting | None:
        """The setting that is chosen, on validation data; None without a complete one."""
        return None if self.analysis.best is None else self.analysis.best.best

    @property
    def confirmed(self) -> Confirmed | None:
        """What it came to on fresh seeds; None if they are not trained."""
        return self.analysis.confirmed

    @property
    def verdict(self) -> str:
        """Whether decay helps: "helps", "hurts" or "no difference told"."""
        return self.analysis.verdict

    @cached_property
    def sentence(self) -> str:
        """What it all says, as the terminal, the page and ``summary.json`` do."""
        return sentence(self.analysis, self.meta)

    def __str__(self) -> str:
        return self.sentence

    def recommend(self, *, rule: str | None = None, **changes: Any) -> Transferred:
        """What to use in a larger run: the half-life found, by every published transfer rule.

        Args:
            rule: whose best setting to start from. Default: the one that leads.
            **changes: of the recipe, as `halflife.units.transfer.transfer` takes them: ``batch``,
                ``steps``, ``width``, ``data``, ``epochs``, ``parameters``, ``lr``; each a pair
                (old, new), or the new number where the sweep knows its own: ``lr``, ``steps`` and
                ``epochs`` that were counted, ``batch`` of a task. ``optimizer`` is a name, and
                needs the new ``lr``; ``lr_scaling``, ``momentum`` and ``dampening`` are as there.

        Returns:
            The answers of the rules that cover the whole change, their range and code; and what
            others say of a part of it. Print it.

        Raises:
            TypeError: for a change that has no such name, naming the nearest.
            ValueError: if the best setting has no half-life, or nothing changes.
        """
        return recommended(self.analysis, self.meta, self.records, rule, **changes)

    def report(self, out: str | Path | None = None) -> Path:
        """Write the report as one page.

        Args:
            out: directory. Default: that of the sweep.

        Returns:
            Path of ``report.html``.

        Raises:
            ValueError: if the sweep was kept in memory and no directory is given.
        """
        from .report import write_report

        folder = self.out if out is None else Path(out)
        if folder is None:
            raise ValueError(
                "out=None: the sweep was kept in memory; name a directory for the report."
            )
        return write_report(self.records, self.meta, folder)
