"""kill -9 at random moments: what is published is whole or absent, and the same command completes it.

    python benchmarks/kill.py [POINTS] [CASE ...]

POINTS is 30 by default, and so many times each command is killed at a random moment of its run. The windows
between two changes of a folder (a new name, a file opened for writing, one removed) are short; so it is
killed as well before up to a third as many of them, drawn at random. Writes
benchmarks/results/evidence/kill.json. A new case is one entry of CASES: it prepares a folder and says which
command changes it, and how to tell that nothing was changed yet, or everything.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freehold.artifacts import verify_run
from freehold.cli.app import main as freehold
from freehold.errors import MissingInputError, SecretError
from freehold.evidence.registry import Registry
from freehold.keys import Key, Vault
from freehold.models.weights import read_safetensors

RESULTS = Path(__file__).parent.resolve() / "results" / "evidence" / "kill.json"
VECTORS = Path(__file__).resolve().parents[1] / "tests" / "vectors" / "valid"
OLD, NEW = "correct horse battery staple", "another one altogether"
DATA = ("data.authorized=digits-m", "data.image_size=16", "data.limit=100", "train.threads=1")
BOUND = ("data.unauthorized=digits", "method.name=map", "method.steps=10", "train.checkpoint_seconds=0")
MARK = ("method.name=trigger-set", "method.steps=4", "method.batch_size=8", "method.triggers=60")
CHANGES = ("os.rename", "os.mkdir", "os.link", "os.remove", "os.rmdir", "shutil.rmtree")
WRITES = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True)
class Case:
    """A command, and how far it came.

    Attributes:
        command: arguments of ``freehold``, run in the folder.
        state: None if nothing can be seen of it yet; what must be the same in every repeat if it is done.
            Raises if what can be seen is neither.
    """

    command: list[str]
    state: Callable[[], str | None]


def sets(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


def run_weights(path: Path) -> str | None:
    """Every byte of a run or release is checked; its weights are what a repeat must give again."""
    if not path.exists():
        return None
    verify_run(path)
    return read_safetensors(path / "model.safetensors")[1]["state"]


def source() -> Path:
    made(["train", *sets("model.uri=convnet", *DATA, "train.steps=10"), "--out", "source"])
    return Path("source")


def protect() -> Case:
    setting = sets(f"model.weights={source()}", *DATA, *BOUND)
    return Case(["protect", *setting, "--out", "bound"], lambda: run_weights(Path("bound")))


def watermark() -> Case:
    """The key is a secret that is drawn anew, and so the weights differ each time."""

    def state() -> str | None:
        key = Key.load("a.key", OLD) if Path("a.key").exists() else None
        if run_weights(Path("marked")) is None:
            return None
        assert key is not None and key.commitment == verify_run(Path("marked"))["commitment"]
        return key.method

    setting = sets(f"model.weights={source()}", *DATA, *MARK)
    return Case(["watermark", *setting, "--out", "marked", "--key", "a.key"], state)


def export() -> Case:
    made(["watermark", str(source()), *sets(*MARK[1:]), "--out", "marked", "--key", "a.key"])
    return Case(["export", "marked", "released", "--key", "a.key"], lambda: run_weights(Path("released")))


def vault() -> Case:
    def state() -> str | None:
        return Vault("vault", OLD).owner if Path("vault").exists() else None

    return Case(["key", "new", "vault", "--owner", "ACME"], state)


def rotation() -> Case:
    """Of a vault with a customer, whose key must be there whichever passphrase opens it."""
    kept = Vault.create("vault", OLD, "ACME")
    kept.add("one", kept.born("one").bound("m", {}, {"customer": "one"}))

    def state() -> str | None:
        try:
            opened = Vault("vault", OLD)
        except SecretError:
            return Vault("vault", NEW).key("one").commitment
        return opened.key("one").owner and None

    return Case(["key", "rotate", "vault"], state)


def customer() -> Case:
    """A copy for a second customer; the first one's key stays."""
    kept = Vault.create("vault", OLD, "ACME")
    kept.add("one", kept.born("one").bound("m", {}, {"customer": "one"}))

    def state() -> str | None:
        keys = Vault("vault", OLD).keys()
        assert keys["one"].owner == "ACME"
        if run_weights(Path("marked")) is None:
            return None
        commitment = verify_run(Path("marked"))["commitment"]
        assert keys["two"].commitment == commitment
        return str(commitment)

    setting = sets(f"model.weights={source()}", *DATA, *MARK)
    return Case(["watermark", *setting, "--out", "marked", "--key", "vault", "--customer", "two"], state)


def registry() -> Case:
    """An entry in a registry that has one."""
    made(["claims", "add", str(VECTORS / "claim.json"), "--registry", "r.db"])
    return Case(["claims", "add", str(VECTORS / "claim-stamped.json"), "--registry", "r.db"], entered(2))


def new_registry() -> Case:
    return Case(["claims", "add", str(VECTORS / "claim.json"), "--registry", "r.db"], entered(1))


def entered(number: int) -> Callable[[], str | None]:
    """The last entry's digest, in a registry that is whole and has all the entries before."""

    def state() -> str | None:
        kept = Registry("r.db")
        try:
            found = kept.verify().head.number
        except MissingInputError:  # made, or not even that, and nothing is in it
            found = 0
        assert number - found in (0, 1)
        return kept.entry(str(number)).record.digest if found == number else None

    return state


CASES: dict[str, Callable[[], Case]] = {
    "protect": protect,
    "export": export,
    "watermark with a key file": watermark,
    "new vault": vault,
    "new passphrase of a vault": rotation,
    "copy for a customer": customer,
    "new registry": new_registry,
    "entry in a registry": registry,
}


def started(command: list[str], die_at: int | None = None, count_to: int | None = None) -> int:
    """The process id of ``command`` under way in a child of this process, which computes nothing itself.

    Args:
        command: arguments of ``freehold``.
        die_at: it kills itself before this change of a folder.
        count_to: descriptor that it writes the number of changes to when it is done.
    """
    if child := os.fork():
        return child
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    changes = 0

    def watch(event: str, about: tuple[Any, ...]) -> None:
        nonlocal changes
        opened = event == "open" and isinstance(about[2], int) and about[2] & WRITES
        if opened or event in CHANGES or event == "sqlite3.connect":
            changes += 1
            if changes == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    code = freehold(command)
    if count_to is not None:
        os.write(count_to, str(changes).encode())
    os._exit(code)


def ended(child: int) -> int:
    """Its exit code; below zero if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def made(command: list[str]) -> tuple[float, int]:
    """Run ``command`` to its end; how long it took, and how many changes it made."""
    ours, theirs = os.pipe()
    began = time.monotonic()
    code = ended(started(command, count_to=theirs))
    took = time.monotonic() - began
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        changes = pipe.read()
    if code not in (0, 1):  # 1: a mark too short to show, which is no concern here
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    return took, int(changes)


def killed(case: Case, latest: float, draw: random.Random) -> tuple[float, float] | None:
    """Kill it at a random moment; which one, or None if it was faster."""
    moment = draw.uniform(0, latest)
    child = started(case.command)
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    return None if ended(child) >= 0 else (moment, latest)


def try_case(name: str, points: int) -> dict[str, Any]:
    draw = random.Random(0)
    place, before = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    os.chdir(place)
    case = CASES[name]()
    if case.state() is not None:
        raise SystemExit(f"{name}: done before it began")
    shutil.copytree(place, before, dirs_exist_ok=True)
    with redirect_stdout(sys.stderr):
        freehold(case.command)  # in this process: what it imports no child has to import again
    expected = case.state()
    if expected is None:
        raise SystemExit(f"{name}: nothing was done")
    told: dict[str, Any] = {"moments": 0, "changes": 0, "absent": 0, "whole": 0, "completed": 0, "same": 0}
    moments = []

    def cleared() -> None:
        for path in place.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(before, place, dirs_exist_ok=True)

    def look() -> None:
        """After a kill: whole or absent; the same command goes on, and does no harm to what is whole."""
        if case.state() is None:
            told["absent"] += 1
            made(case.command)
        else:
            told["whole"] += 1
            ended(started(case.command))  # it may say that there is one already
        told["completed"] += 1
        told["same"] += case.state() == expected

    cleared()
    latest, changes = made(case.command)
    while told["moments"] < points:
        cleared()
        if (found := killed(case, latest, draw)) is None:
            latest *= 0.95  # it was faster than the last one, and nothing was killed
            continue
        moments.append(round(found[0], 3))
        told["moments"] += 1
        look()
        print(f"{name}: moment {told['moments']} of {points}", file=sys.stderr)
    for change in chosen(range(1, changes + 1), points // 3, draw):
        cleared()
        if ended(started(case.command, die_at=change)) < 0:
            told["changes"] += 1
            look()
    os.chdir("/")
    for folder in (place, before):
        shutil.rmtree(folder)
    told["points"] = told["moments"] + told["changes"]
    return {**told, "changes of a whole run": changes, "killed_after_s": sorted(moments)}


def chosen(numbers: Iterable[int], most: int, draw: random.Random) -> list[int]:
    found = list(numbers)
    return sorted(draw.sample(found, min(most, len(found))))


def main() -> None:
    os.environ |= {"FREEHOLD_PASSPHRASE": OLD, "FREEHOLD_NEW_PASSPHRASE": NEW}
    os.environ["FREEHOLD_CACHE"] = tempfile.mkdtemp()
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in sys.argv[2:] or CASES:
        found[name] = try_case(name, points)
        print(name, json.dumps(found[name]))
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        if found[name]["same"] != found[name]["points"]:
            sys.exit(1)


if __name__ == "__main__":
    main()
