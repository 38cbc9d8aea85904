"""Kill drivers and workers of a sweep at random, and see that its ledger is as if nobody had.

    python scripts/lab_kills.py --kills 100 --json docs/assets/lab_kills.json

A sweep of a training that only sleeps is run by one driver or two at once, under `Local` and `Ray`,
with the journal and PostgreSQL. At random moments, ``kill -9`` hits a driver or one of its workers,
and a driver that is gone is started again, until so many were killed. After every kill the ledger
is read: no record may be gone or changed. In the end each cell must be recorded once, and cells,
verdict and report must be those of the same sweep undisturbed.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

from services import postgres, ray_node

from halflife import lab
from halflife.lab.ledger import Ledger
from halflife.lab.sweeping.display import Display

_SWEEP: dict[str, Any] = {
    "lr": lab.log(1e-3, 1e-1, 5),
    "weight_decay": lab.log(1e-2, 1.0, 5),
    "seeds": 4,
    "confirm": 6,
}
_GAVE_UP = "times before it was ready"
_LIMIT = 2400.0  # seconds for one sweep, kills and all


def train(lr: float, weight_decay: float, seed: int) -> dict[str, float]:
    """A valley with noise that only the seed decides, after a moment that it decides too."""
    digest = hashlib.sha256(f"{lr:.9g} {weight_decay:.9g} {seed}".encode()).digest()
    if os.environ.get("HALFLIFE_KILLS"):
        time.sleep(0.03 + 0.25 * digest[4] / 255)
    noise = [int.from_bytes(digest[i : i + 4], "big") / 2**32 - 0.5 for i in (8, 12)]
    depth = math.log10(lr / 1e-2) ** 2 + (
        math.log10(weight_decay / 0.1) ** 2 if weight_decay else 4
    )
    return {"val": 5 + depth + 0.3 * noise[0], "test": 5.2 + depth + 0.3 * noise[1]}


class Spoken(Display):
    """A line for whoever started this driver, whenever something is done."""

    def progress(self, done: int, total: int, what: str) -> None:
        """So many of so many are done."""
        print(done, flush=True)


def sweep(out: Path | None, storage: str | None, executor: Any, **more: Any) -> lab.Result:
    """The sweep, whoever trains."""
    return lab.sweep(
        train, **_SWEEP, out=out, storage=storage, executor=executor, resume=out is not None,
        choose=lab.Metric("val", "points"), report=lab.Metric("test", "points"),
        name="kills", command="kills", retry_failed=True, **{"progress": False, **more},
    )  # fmt: skip


def drive(out: str, storage: str, executor: str) -> None:
    """A driver: a process of its own."""
    who = lab.Ray(executor) if ":" in executor else lab.Local(2)
    sweep(Path(out), storage or None, who, progress=Spoken())


class _Driver:
    def __init__(self, out: Path, storage: str | None, executor: str) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the driver
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--drive", str(out), storage or "", executor],
            stdout=subprocess.PIPE, stderr=self.log, env={**os.environ, "HALFLIFE_KILLS": "1"},
        )  # fmt: skip
        self.trains = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for _ in self.process.stdout:
            self.trains.set()

    def close(self) -> None:
        """End it, if it has not."""
        self.process.kill()
        self.process.wait()
        self._listener.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()

    def words(self) -> str:
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-3000:]


class Told(NamedTuple):
    """What one combination came to.

    Attributes:
        executor: that trained.
        ledger: that was written.
        sweeps: that were finished.
        drivers: that were killed.
        workers: that were killed.
        cells: of each sweep.
        lost: records that were gone, or changed, when the ledger was read again.
        doubled: cells that were recorded more than once.
        different: sweeps whose cells, verdict or report were not those of the undisturbed one.
        seconds: that it took.
    """

    executor: str
    ledger: str
    sweeps: int
    drivers: int
    workers: int
    cells: int
    lost: int
    doubled: int
    different: int
    seconds: float


def kills(
    executor: str, storage: str | None, count: int, *, seed: int, folder: Path, address: str = ""
) -> Told:
    """Kill so many, over as many sweeps as that takes."""
    dice, begin = random.Random(seed), time.monotonic()
    reference = sweep(None, None, lab.InProcess())
    expected = figures(reference, folder / "reference")
    killed = {"driver": 0, "worker": 0}
    told = {"lost": 0, "doubled": 0, "different": 0}
    sweeps = 0
    while sum(killed.values()) < count:
        out, known = folder / f"sweep-{seed}-{sweeps}", dict[str, Any]()
        left = count - sum(killed.values())
        for what in _disturbed(out, storage, address or executor, left, dice):
            killed[what] += 1
            told["lost"] += _compare(known, out, storage)
        sweeps += 1
        told["lost"] += _compare(known, out, storage)
        told["doubled"] += doubled(out, storage)
        result = lab.Result.read(out, storage=storage)
        told["different"] += figures(result, out) != expected
    return Told(
        executor, "PostgreSQL" if storage else "journal", sweeps, killed["driver"],
        killed["worker"], len(reference.cells()), **told, seconds=round(time.monotonic() - begin),
    )  # fmt: skip


def _disturbed(
    out: Path, storage: str | None, executor: str, most: int, dice: random.Random
) -> Iterator[str]:
    """Run one sweep to its end, and tell what was killed at each of at most so many moments."""
    limit, drivers, ended, done = time.monotonic() + _LIMIT, list[_Driver](), False, 0
    try:
        while True:
            for driver in [d for d in drivers if d.process.poll() is not None]:
                drivers.remove(driver)
                words = driver.words()
                driver.close()
                # Whose workers were all killed before they were ready gives up, and says so.
                gave_up = _GAVE_UP in words and "go on with" in words
                if driver.process.returncode not in (0, -signal.SIGKILL) and not gave_up:
                    raise RuntimeError(f"a driver ended by itself:\n{words}")
                ended |= driver.process.returncode == 0
            if ended and not drivers:
                return
            if not ended and not drivers:
                count = 2 if dice.random() < 0.3 else 1
                drivers += [_Driver(out, storage, executor) for _ in range(count)]
            if time.monotonic() > limit:
                raise TimeoutError(drivers[0].words())
            victim = dice.choice(drivers)
            if done >= most or not victim.trains.wait(timeout=1.0):
                time.sleep(0.2)
                continue
            time.sleep(dice.uniform(0.0, 1.5))
            if (what := _kill(victim, dice, ":" in executor)) is not None:
                done += 1
                yield what
    finally:
        for driver in drivers:
            driver.close()


def _kill(driver: _Driver, dice: random.Random, ray: bool) -> str | None:
    """End the driver or one of its workers; returns which, None if there was none."""
    if dice.random() < 0.5:
        driver.process.kill()
        driver.process.wait()
        return "driver"
    # Workers of a Ray cluster are no children of the driver, which has the cluster to itself.
    workers = _ray_workers() if ray else _children(driver.process.pid)
    if not workers:
        return None
    with contextlib.suppress(ProcessLookupError):
        os.kill(dice.choice(workers), signal.SIGKILL)
        return "worker"
    return None


def _processes() -> dict[int, tuple[int, str]]:
    """Parent and command line of every process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found[int(folder.name)] = (parent, words)
    return found


def _children(pid: int) -> list[int]:
    return [p for p, (parent, words) in _processes().items() if parent == pid and "worker" in words]


def _ray_workers() -> list[int]:
    """Actors of clusters that this process started, directly or not."""
    known = _processes()
    own = []
    for pid, (parent, words) in known.items():
        if words.startswith("ray::Trainer"):
            while parent in known and parent != os.getpid():
                parent = known[parent][0]
            if parent == os.getpid():
                own.append(pid)
    return own


def _compare(known: dict[str, Any], out: Path, storage: str | None) -> int:
    """How many records that were known are gone or another; what is new becomes known."""
    if storage is None and not (out / "ledger.journal").exists():
        return 0
    try:
        result = lab.Result.read(out, storage=storage)
    except lab.LedgerError as error:
        if known or "holds no" not in str(error):
            raise
        return 0
    now = {json.dumps(_cell(r)): r for r in result.cells()}
    lost = sum(now.get(key) != record for key, record in known.items())
    known.update(now)
    return lost


def _cell(record: Any) -> list[Any]:
    return [record["rule"], record["lr"], record["weight_decay"], record["seed"]]


def doubled(out: Path, storage: str | None) -> int:
    """Cells with more than one record that is done, in Optuna's own view."""
    with Ledger(out, storage=storage) as ledger:
        trials = ledger._storage.get_all_trials(ledger._id)
        keys = [
            t.user_attrs["key"]
            for t in trials
            if t.user_attrs.get("cell", {}).get("record", {}).get("status") == "done"
        ]
        states = {t.state.name for t in trials if "cell" in t.user_attrs}
    assert states <= {"COMPLETE", "FAIL"}, states
    return len(keys) - len(set(keys))


def figures(result: lab.Result, folder: Path) -> list[Any]:
    """All that a reader is told, but for times and versions."""
    summary = json.loads((result.report(folder).parent / "summary.json").read_text())
    cells = [[*_cell(r), r["status"], r["metrics"]] for r in result.cells()]
    return [sorted(cells, key=json.dumps), result.sentence, _timeless(summary)]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if "seconds" not in k and k != "versions"}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def main() -> None:
    """Run all combinations, and write what they came to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drive", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--kills", type=int, default=100, help="over all combinations")
    parser.add_argument("--executors", default="local,ray")
    parser.add_argument("--ledgers", default="journal,postgres")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.drive:
        drive(*arguments.drive)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # and end what was started
    executors, ledgers = arguments.executors.split(","), arguments.ledgers.split(",")
    each = math.ceil(arguments.kills / len(executors) / len(ledgers))
    rows = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="halflife-kills-")))
        address = ""
        if "ray" in executors:
            node = stack.enter_context(ray_node())
            address = node.address
            os.environ.update(node.environment)  # of this process and the drivers that it starts
        url = stack.enter_context(postgres()).url if "postgres" in ledgers else None
        for executor in executors:
            for ledger in ledgers:
                row = kills(
                    executor, url if ledger == "postgres" else None, each,
                    seed=arguments.seed + len(rows), folder=folder / f"{executor}-{ledger}",
                    address=address if executor == "ray" else "",
                )  # fmt: skip
                rows.append(row._asdict())
                print(row, flush=True)
    if arguments.json:
        today = datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()
        content = {"date": today, "command": " ".join(["python", *sys.argv]), "rows": rows}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")
    if any(r["lost"] or r["doubled"] or r["different"] for r in rows):
        sys.exit("something was lost, doubled or different")


if __name__ == "__main__":
    main()
