"""Studies run: what their plans ask for is measured by worker processes and kept in ledgers."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import os
import platform
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

from ... import __version__
from ...checks import near
from ...units.writing import counted
from ..data import DataError, load
from ..executors import Executor
from ..sweeping.display import Display
from ..sweeping.signals import terminable, undisturbed
from ..trials.bases import OptimizerKind
from ..trials.cell import BASELINE, Cell, Outcome
from ..trials.job import Job, Portion
from .calls import Call, Findings, advance, studies
from .design import Design, designs
from .ledger import StudyError, StudyLedger

__all__ = ["code_of", "lacking", "measured", "require_study", "run_studies", "studies_named"]

_WAIT = 1.0
_TRIES = 2


def require_study(name: str) -> Design:
    """The registered design of a name.

    Raises:
        StudyError: for another, with those that there are.
    """
    known = designs()
    if name in known:
        return known[name]
    raise StudyError(
        f"study={name!r}: is no study, and none begins so; there are "
        f"{', '.join(known)}{near(name, known)}"
    )


def studies_named(words: Sequence[str]) -> list[Design]:
    """The registered designs that words mean: a name, what names begin with, or ``"all"``.

    Args:
        words: such as ``["000", "004/figure-2"]``. A whole name means that study alone.

    Raises:
        StudyError: for a word that means none, with those that there are.

    Example:
        >>> studies_named(["000/figure-1"])[0].paper
        '000'
    """
    known = designs()
    found: dict[str, Design] = {}
    for word in words:
        if word in known:
            found[word] = known[word]
            continue
        begun = {k: d for k, d in known.items() if word == "all" or k.startswith(word)}
        found |= begun or {word: require_study(word)}
    return [design for name, design in known.items() if name in found]


@functools.cache
def lacking(data: str) -> str:
    """Why a data set is not to be had here; empty if it is.

    Args:
        data: a name of `halflife.lab.data`, as a design has it; empty for none.
    """
    try:
        if data:
            load(data)
    except DataError as error:
        return f"{data}: {error}"
    return ""


def measured(trial: Any) -> Outcome:
    """Measure what a cell names: what a worker process is handed."""
    target, _, arguments = trial.params["call"].partition(" ")
    module, _, function = target.partition(".")
    found = importlib.import_module(f"{__package__}.{module}")
    return Outcome(metrics=getattr(found, function)(**json.loads(arguments)))


def code_of(name: str) -> str:
    """Digest of the code that a study's plan and measurements are in, and of what they share."""
    own = importlib.import_module(studies()[name].__module__).__file__
    files = {Path(str(own)), *Path(__file__).parent.glob("bench*.py")}
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@dataclass
class _Running:
    """A study that is being run."""

    design: Design
    ledger: StudyLedger
    settings: Mapping[str, Any]
    open: int = 0  # calls that are queued or in hand
    asked: int = 0  # calls that this run has to do or has done
    failed: dict[str, str] = field(default_factory=dict)

    def next(self) -> list[Call]:
        """What it asks for now; nothing if it has ended, or cannot go on."""
        if self.failed:
            return []
        wanted, _ = advance(studies()[self.design.name], self.settings, self.ledger.recorded.values)
        return wanted


def run_studies(
    names: Sequence[str],
    out: Path,
    executor: Executor,
    *,
    budget: str = "minutes",
    display: Display | None = None,
    time_limit: float | None = None,
) -> dict[str, Findings | None]:
    """Measure what is missing of some studies.

    Args:
        names: of the studies, in the order in which they are begun.
        out: folder of the ledgers, one a study. What they have is not measured again.
        executor: who measures.
        budget: ``"minutes"`` or ``"hours"``.
        display: what is shown.
        time_limit: seconds after which nothing new is begun; what is in hand is finished.

    Returns:
        Findings by name; None of a study that has not ended.

    Raises:
        StudyError: for an unknown study, a ledger that another design began, or calls that failed
            twice, after everything else has been measured.
    """
    display = display or Display()
    about = _about()
    waiting = deque(
        _Running(
            design,
            StudyLedger(out / f"{design.slug}.jsonl", design, budget, code_of(name), about),
            design.settings(budget),
        )
        for name in names
        for design in [require_study(name)]
    )
    every = list(waiting)
    for each in every:
        for note in each.ledger.notes:
            display.say(note)
        if there := len(each.ledger.recorded.values):
            done = counted(there, "measurement")
            display.say(f"{each.design.name}: goes on from {done} in {each.ledger.path}.")
    deadline = None if time_limit is None else time.monotonic() + time_limit
    job = Job(measured, OptimizerKind("adamw"), ())
    with terminable(), display, executor:
        executor.open(job)
        _measure(waiting, len(every), executor, display, deadline)
    failed = {key: why for each in every for key, why in each.failed.items()}
    if failed:
        key, why = next(iter(failed.items()))
        many = counted(len(failed), "measurement")
        raise StudyError(f"{many} failed twice; the first is {key}:\n{why}")
    found = {}
    for each in every:
        plan = studies()[each.design.name]
        found[each.design.name] = advance(plan, each.settings, each.ledger.recorded.values)[1]
    return found


def _measure(
    waiting: deque[_Running],
    total: int,
    executor: Executor,
    display: Display,
    deadline: float | None,
) -> None:
    queue: deque[tuple[_Running, Call]] = deque()
    hand: dict[int, tuple[_Running, Call]] = {}
    tries: dict[str, int] = {}
    begun: list[_Running] = []
    number = 0
    while True:
        late = deadline is not None and time.monotonic() > deadline
        if late:
            queue.clear()
        while not late and len(queue) + len(hand) < executor.slots and waiting:
            # Another study is begun where those that are running leave a worker without work.
            begun.append(waiting.popleft())
            _enqueue(begun[-1], queue)
        while queue and len(hand) < executor.slots:
            hand[number] = queue.popleft()
            call = hand[number][1]
            seed = int(call.arguments.get("seed", 0))
            cell = Cell(BASELINE, 1.0, 0.0, seed, (("call", call.key),))
            executor.submit(number, Portion((cell,)))
            number += 1
        parts = [each.open / each.asked for each in begun if each.open]
        done = total - len(waiting) - sum(parts)
        display.progress(done, total, "studies")
        if not hand:
            if late or not waiting:
                return
            continue
        for answer in executor.wait(_WAIT):
            each, call = hand.pop(answer.number)
            each.open -= 1
            outcome = answer.outcomes[0] if answer.outcomes else None
            if outcome is not None and outcome.status == "done":
                with undisturbed():
                    each.ledger.record(call.key, outcome.metrics, outcome.seconds)
            else:
                tries[call.key] = tries.get(call.key, 0) + 1
                why = answer.error if outcome is None else str(outcome.error)
                if tries[call.key] < _TRIES:
                    each.open += 1
                    queue.append((each, call))
                else:
                    display.say(f"{call.key} failed: {why.strip().splitlines()[-1]}")
                    each.failed[call.key] = why
            if not each.open and not late:
                _enqueue(each, queue)
            if not each.open and total > 1:
                display.say(f"{each.design.name}: {'failed' if each.failed else 'ended'}.")


def _enqueue(each: _Running, queue: deque[tuple[_Running, Call]]) -> None:
    wanted = each.next()
    each.open += len(wanted)
    each.asked += len(wanted)
    # First what was begun first.
    queue.extendleft((each, call) for call in reversed(wanted))


def _about() -> dict[str, Any]:
    return {
        "began": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {
            "halflife": __version__, "torch": torch.__version__, "numpy": np.__version__,
            "scipy": scipy.__version__, "python": platform.python_version(),
        },
        "machine": {"system": platform.system(), "processor": platform.machine(),
                    "cores": os.cpu_count()},
    }  # fmt: skip
