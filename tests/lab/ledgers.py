"""Ledgers to test with."""

from __future__ import annotations

from halflife.lab.ledger import Ledger
from halflife.lab.trials.cell import Cell, Outcome

SETTINGS, PARTS = {"optimizer": "adamw"}, {"train": "0123"}
ERROR = "Traceback (most recent call last):\nValueError: no"


def cell(n, **changes):
    """A cell with numbers that only an exact round trip keeps."""
    numbers = {"lr": 1e-3 * (n + 1) / 3, "weight_decay": 0.1 / 3, "seed": 7, "strength": 0.1 / 3e3}
    return Cell("decoupled", **{**numbers, **changes})


def outcome(**changes):
    return Outcome(
        **{
            "metrics": {"val": 100 / 3, "test": 0.1 + 0.2},
            "curve": {"step": [1, 2], "val": [1 / 3, 0.1]},
            "seconds": 1 / 7,
            "steps": 12,
            **changes,
        }
    ).as_dict()


def train(ledger, *cells, **changes):
    """Claim and record; returns the records."""
    assert ledger.claim(cells) == list(cells)
    records = []
    for each in cells:
        record = outcome(**changes)
        assert ledger.finish(each, record, record["metrics"].get("val", 0.0))
        records.append({**each.as_dict(), **record})
    return records


def filled(directory, count=3, **options):
    """A ledger with some cells; returns their records."""
    with Ledger(directory, writing=True, **options) as ledger:
        ledger.configure(SETTINGS, PARTS, resume=True)
        return train(ledger, *map(cell, range(count)))
