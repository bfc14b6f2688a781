"""A real PostgreSQL server for as long as a test needs it, processes to be killed, records for nothing."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from freehold.evidence.entry import Record

PASSWORD = "s3cret-canary/p@ss"


def record(number: int, kind: str = "claim", **about: str) -> Record:
    body = f'{{"claim": {number}}}' if kind == "claim" else ""
    digest = hashlib.sha256(body.encode() or str(number).encode()).hexdigest()
    return Record(
        kind=kind, digest=digest, about={"owner": f"owner {number}", "method": "m", **about}, body=body
    )


def kill_after(work: Callable[[Callable[[], None]], None], seconds: float) -> None:
    """Do ``work`` in a process of its own, and kill -9 it so many seconds after it called its argument."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        with suppress(BaseException):
            work(lambda: os.write(theirs, b"!"))
        os._exit(0)
    os.close(theirs)
    try:
        assert os.read(ours, 1) == b"!", "it never began"
        time.sleep(seconds)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ours)


def _programs() -> Path:
    """The folder of the server's programs; packages put them out of the way."""
    found = shutil.which("postgres") or shutil.which("pg_ctl")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    pytest.skip("PostgreSQL is not installed: no initdb and postgres")


@contextmanager
def postgres() -> Iterator[Path]:
    """A server that listens on a Unix socket in the folder that is given; it never runs as root."""
    programs, folder = _programs(), Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    who = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    rights = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []} if who else {}
    server = None
    try:
        (folder / "pw").write_text(PASSWORD)
        if who:
            for path in (folder, folder / "pw"):
                os.chown(path, who.pw_uid, who.pw_gid)
        options = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, **rights}
        make = ["-D", "data", "-U", "team", "--pwfile=pw", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync"]
        made = subprocess.run([programs / "initdb", *make], timeout=120, check=False, **options)
        if made.returncode:
            pytest.skip(f"initdb fails here: {made.stderr.decode()[-200:]}")
        quick = ["-c", "fsync=off", "-c", "shared_buffers=1MB", "-c", "max_connections=20"]
        start = [programs / "postgres", "-D", "data", "-k", str(folder), "-c", "listen_addresses=", *quick]
        server = subprocess.Popen(start, **{**options, "stderr": subprocess.DEVNULL})
        until = time.monotonic() + 60
        while (
            not (folder / "data" / "postmaster.pid").exists()
            or "ready" not in (folder / "data" / "postmaster.pid").read_text()
        ):
            if server.poll() is not None or time.monotonic() > until:
                pytest.skip("the PostgreSQL server does not start here")
            time.sleep(0.05)
        yield folder
    finally:
        if server is not None:
            server.terminate()  # waits for clients
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
        shutil.rmtree(folder, ignore_errors=True)
