"""A PostgreSQL server and a Ray cluster of this machine, for tests; each ends with its block.

PostgreSQL is the system's own (Debian: apt-get install postgresql); its cluster is made in a
temporary folder and asks for a password. Ray comes with the extra ray.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PASSWORD = "pass-%41/word@?"  # as it should not be written, and as no message may show it


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def postgres_programs() -> Path | None:
    """Where initdb and postgres are; None if they are not installed."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    newest = max(
        found, key=lambda p: float(p.parts[-3]), default=on_path and Path(on_path).resolve()
    )
    return Path(newest).parent if newest else None


class Postgres:
    """A server that can be stopped and started again.

    Attributes:
        url: of its database, with the password.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._process = folder, None
        self._programs = postgres_programs()
        if self._programs is None:
            raise FileNotFoundError("PostgreSQL is not installed: apt-get install postgresql")
        self._user = {}
        if os.geteuid() == 0:  # whom it refuses to serve
            entry = pwd.getpwnam("postgres")
            os.chown(folder, entry.pw_uid, entry.pw_gid)
            self._user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run("initdb", "-D", str(folder / "data"), "-U", "halflife", "-A", "scram-sha-256",
                  "--pwfile", str(secret), "--no-sync", "-E", "UTF8", "--locale", "C")  # fmt: skip
        secret.unlink()
        self.port = free_port()
        quoted = "".join(c if c.isalnum() or c == "-" else f"%{ord(c):02X}" for c in PASSWORD)
        self.url = f"postgresql://halflife:{quoted}@127.0.0.1:{self.port}/postgres"
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), *arguments],
            check=True, cwd=self._folder, stdout=subprocess.DEVNULL, **self._user,
        )  # fmt: skip

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self._folder / "data"), "-p",
                 str(self.port), "-c", "listen_addresses=127.0.0.1", "-c",
                 f"unix_socket_directories={self._folder}", "-c", "fsync=off"],
                cwd=self._folder, stdout=log, stderr=log, **self._user,
            )  # fmt: skip
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(subprocess.CalledProcessError):
                self._run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port))
                return
            time.sleep(0.1)
        raise TimeoutError((self._folder / "log").read_text()[-2000:])

    def stop(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A server with an empty database."""
    folder = Path(tempfile.mkdtemp(prefix="halflife-pg-"))
    server = None
    try:
        server = Postgres(folder)
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


class Node(NamedTuple):
    """A node of Ray.

    Attributes:
        address: of its cluster.
        pid: of the process that all others of the node end with.
        environment: what whoever connects needs: the token of this cluster alone.
    """

    address: str
    pid: int
    environment: dict[str, str]


@contextlib.contextmanager
def ray_node(*arguments: str, joins: Node | None = None) -> Iterator[Node]:
    """A node of Ray with two cores: the head of a new cluster, or another one of `joins`'s."""
    folder, port = tempfile.mkdtemp(prefix="halflife-ray-"), free_port()
    if joins is None:
        # A token of its own: which one Ray would take depends on what is in the home folder, and
        # those who connect to an address send none unless they are told to.
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        where = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"]
        address = f"127.0.0.1:{port}"
    else:
        token, address, where = joins.environment, joins.address, [f"--address={joins.address}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", *where, "--block", "--num-cpus=2",
         "--object-store-memory=100000000", "--disable-usage-stats", *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, **token},
    )  # fmt: skip
    try:
        if joins is None:
            _wait_for(port, process)
        yield Node(address, process.pid, token)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as caller:
            caller.settimeout(1.0)
            if caller.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError(f"no Ray cluster listens at port {port}")
