"""A PostgreSQL server of our own on loopback, for as long as it is asked for."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support import needs

_DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
# A database of tests need not outlive the machine; it must outlive its own death, and does.
_SETTINGS = {"listen_addresses": "127.0.0.1", "synchronous_commit": "on", "fsync": "off", "max_connections": "60",
             "shared_buffers": "16MB", "log_statement": "none"}  # fmt: skip
PASSWORD = "of-the-tests"


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server. `directory` is its data, `log` what it says."""

    port: int
    directory: Path
    log: Path
    programs: Path

    def url(self, database: str) -> str:
        """Where a database of it is."""
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def new_database(self, like: str = "template0") -> str:
        """The URL of a new database, empty or a copy of another one, given by its URL."""
        name = f"relay_{uuid.uuid4().hex[:12]}"
        self.psql("postgres", f"CREATE DATABASE {name} TEMPLATE {like.rpartition('/')[2]}")
        return self.url(name)

    def psql(self, database: str, statement: str) -> str:
        """What a statement gives, as lines of text without a header."""
        words = [str(self.programs / "psql"), "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement]
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database]
        done = subprocess.run(
            [*words, *where], env={"PGPASSWORD": PASSWORD}, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.strip()

    def pid(self) -> int:
        """The process id of the server."""
        return int((self.directory / "postmaster.pid").read_text("ascii").splitlines()[0])


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server on a free port; skips the test where there is none on this machine, unless CI is true."""
    if not _DEBIAN:
        needs.lacking("PostgreSQL is not installed (apt-get install postgresql)")
    programs = _DEBIAN[0]
    root = Path(tempfile.mkdtemp(prefix="relay-postgres-"))
    data, log, secret = root / "data", root / "log", root / "password"
    secret.write_text(PASSWORD, "ascii")
    if os.geteuid() == 0:
        # It refuses to be root.
        for path in (root, secret):
            shutil.chown(path, "postgres", "postgres")
    port = _free_port()
    try:
        _as_postgres(
            [programs / "initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", secret, "-N"]
        )
        options = " ".join([f"-p {port} -k {root}", *(f"-c {name}={value}" for name, value in _SETTINGS.items())])
        _as_postgres([programs / "pg_ctl", "-D", data, "-l", log, "-w", "-t", "60", "-o", options, "start"])
        try:
            yield Postgres(port, data, log, programs)
        finally:
            _as_postgres([programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _as_postgres(words: list[str | Path]) -> None:
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    # Its output goes nowhere: the server would keep a pipe open.
    done = subprocess.run(
        [*user, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        cwd="/",
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{words[0]} ended with {done.returncode}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
