"""Run directories: whole or not there, verified to the last bit, never shared, never taken over."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from freehold.artifacts import RunFolder, as_json, fingerprint, finished, verify_run, write_file
from freehold.errors import ArtifactError, FreeholdError, MissingInputError, OutputError, UsageError

IDENTITY = {"job": "test", "train": {"lr": 0.1, "names": ("a", "b")}}


def make(path: Path, identity=IDENTITY, content: bytes = b"weights") -> Path:
    with RunFolder(path, identity, {"seed": 0}) as folder:
        folder.write("model.bin", content)
        folder.publish(seconds=1.5)
    return path


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_a_published_run_is_whole_and_leaves_nothing_beside_it(tmp_path):
    with RunFolder(tmp_path / "a", IDENTITY, {"seed": 3}) as folder:
        folder.write("model.bin", b"x")
        (folder.path / "train.state").write_bytes(b"resumable")
        (folder.path / "left.tmp").write_bytes(b"")
        (folder.path / ".model.bin.1234").write_bytes(b"")
        logging.getLogger("freehold.somewhere").info("hello %s", "<you>")
        assert not (tmp_path / "a").exists()
        folder.publish(extra=1)
    assert names(tmp_path) == {"a"}
    assert names(tmp_path / "a") == {"model.bin", "run.json", "log.jsonl", "MANIFEST.json"}
    run = verify_run(tmp_path / "a")
    assert (run["status"], run["seed"], run["extra"]) == ("finished", 3, 1)
    line = json.loads((tmp_path / "a" / "log.jsonl").read_text())
    assert (line["message"], line["level"], line["logger"]) == ("hello <you>", "INFO", "freehold.somewhere")


def test_logging_is_as_before_afterwards(tmp_path):
    logger = logging.getLogger("freehold")
    before = (list(logger.handlers), logger.level)
    make(tmp_path / "a")
    assert (list(logger.handlers), logger.level) == before


def test_a_flipped_bit_in_any_byte_of_any_file_is_found(tmp_path):
    run = make(tmp_path / "a")
    for path in sorted(run.iterdir()):
        original = path.read_bytes()
        for place in range(len(original)):
            data = bytearray(original)
            data[place] ^= 1 << place % 8
            path.write_bytes(data)
            with pytest.raises(ArtifactError, match=re.escape(path.name)):
                verify_run(run)
        path.write_bytes(original)
    verify_run(run)


def test_missing_added_and_linked_files_are_named(tmp_path):
    run = make(tmp_path / "a")
    (run / "sub").mkdir()
    (run / "sub" / "extra.txt").write_text("x")
    with pytest.raises(ArtifactError, match=r"sub/extra\.txt.*added"):
        verify_run(run)
    (run / "sub" / "extra.txt").unlink()
    (run / "model.bin").rename(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match=r"model\.bin.*missing"):
        verify_run(run)
    (run / "model.bin").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match=r"model\.bin.*altered"):
        verify_run(run)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"files": 3}', b'{"files": {"a": 1}}', b"[" * 100_000, b"\xff"]
)
def test_a_manifest_that_is_none_is_refused(tmp_path, text):
    run = make(tmp_path / "a")
    (run / "MANIFEST.json").write_bytes(text)
    with pytest.raises(ArtifactError, match="MANIFEST"):
        verify_run(run)


def test_a_folder_without_manifest_or_no_folder(tmp_path):
    (tmp_path / "b").mkdir()
    with pytest.raises(ArtifactError, match="manifest"):
        verify_run(tmp_path / "b")
    with pytest.raises(MissingInputError):
        verify_run(tmp_path / "c")


def test_finished_runs_are_recognised_and_foreign_ones_refused_with_the_difference(tmp_path):
    assert finished(tmp_path / "a", IDENTITY) is None
    make(tmp_path / "a")
    assert finished(tmp_path / "a", IDENTITY)["seed"] == 0
    with pytest.raises(OutputError, match=r"train\.lr is 0\.1 there and 0\.2 here"):
        finished(tmp_path / "a", {"job": "test", "train": {"lr": 0.2, "names": ["a", "b"]}})
    with pytest.raises(OutputError, match=r"model is None there and 'm' here"):
        finished(tmp_path / "a", {**IDENTITY, "model": "m"})
    (tmp_path / "a" / "model.bin").write_bytes(b"other")
    with pytest.raises(ArtifactError, match=r"model\.bin"):
        finished(tmp_path / "a", IDENTITY)


def test_folders_and_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    (tmp_path / "file").write_bytes(b"")
    for name in ("photos", "file"):
        with pytest.raises(OutputError, match=name):
            finished(tmp_path / name, IDENTITY)
    for bad in (Path(), Path("..")):
        with pytest.raises(UsageError):
            finished(bad, IDENTITY)
    (tmp_path / ".a.partial").mkdir()
    (tmp_path / ".a.partial" / "note.txt").write_text("mine")
    with pytest.raises(OutputError, match="someone else"), RunFolder(tmp_path / "a", IDENTITY, {}):
        pass
    assert (tmp_path / ".a.partial" / "note.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    verify_run(make(tmp_path / "empty"))


def test_an_unfinished_run_goes_on_and_a_foreign_one_is_refused(tmp_path):
    with pytest.raises(RuntimeError), RunFolder(tmp_path / "a", IDENTITY, {}) as folder:
        assert not folder.resumed
        (folder.path / "train.state").write_bytes(b"half way")
        raise RuntimeError
    assert names(tmp_path) == {".a.partial"}
    with pytest.raises(OutputError, match=r"train is .*delete .*\.a\.partial"):
        finished(tmp_path / "a", {"job": "test", "train": 1})
    with (
        pytest.raises(OutputError, match="another configuration"),
        RunFolder(tmp_path / "a", {"job": "x"}, {}),
    ):
        pass
    assert (tmp_path / ".a.partial" / "train.state").exists()
    with RunFolder(tmp_path / "a", IDENTITY, {}) as folder:
        assert folder.resumed
        folder.publish()
    verify_run(tmp_path / "a")


def test_an_unreadable_unfinished_run_is_refused(tmp_path):
    (tmp_path / ".a.partial").mkdir()
    for text in ("{", "[]", "{}", '{"identity": 1}'):
        (tmp_path / ".a.partial" / "run.json").write_text(text)
        with pytest.raises(OutputError, match=r"\.a\.partial"):
            finished(tmp_path / "a", IDENTITY)


def test_an_error_without_resumable_state_leaves_nothing(tmp_path):
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), RunFolder(tmp_path / "a", IDENTITY, {}):
            raise error
        assert names(tmp_path) == set()


def test_two_never_work_on_one_run(tmp_path):
    with RunFolder(tmp_path / "a", IDENTITY, {}) as folder:
        with pytest.raises(OutputError, match="another process"), RunFolder(tmp_path / "a", IDENTITY, {}):
            pass
        folder.publish()
    with pytest.raises(OutputError, match="just finished"), RunFolder(tmp_path / "a", IDENTITY, {}):
        pass
    assert names(tmp_path) == {"a"}


def test_processes_that_only_compute_write_nothing(tmp_path):
    with RunFolder(tmp_path / "a", IDENTITY, {}, writes=False) as folder:
        folder.write("x", b"x")
        folder.publish()
    assert names(tmp_path) == set()


def test_the_fingerprint_ignores_the_order_of_keys_only():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": [1, 2]}) != fingerprint({"a": [2, 1]})


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_file(path, as_json({"old": 1}))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"x\.json.*No space left.*free some space"):
        write_file(path, as_json({"new": 1}))
    assert names(tmp_path) == {"x.json"}
    assert json.loads(path.read_text()) == {"old": 1}


def test_a_parent_that_is_a_file_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        make(tmp_path / "file" / "a")
    with pytest.raises(OutputError, match="cannot write"):
        write_file(tmp_path / "file" / "x", b"")


SCRIPT = textwrap.dedent(
    """
    import os, pathlib, resource, signal, sys
    from freehold.artifacts import RunFolder
    from freehold.errors import OutputError

    def work(path):
        with RunFolder(path, {"job": "test"}, {"note": "x" * 200}) as folder:
            (folder.path / "train.state").write_bytes(b"s")
            folder.write("model.bin", b"w" * 2000)
            folder.publish()

    def killed_at(number):
        calls = 0
        def counted(call):
            def wrapped(*args, **kwargs):
                nonlocal calls
                calls += 1
                if calls == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)
            return wrapped
        for name in ("fsync", "replace", "rename", "unlink", "mkdir", "open"):
            setattr(os, name, counted(getattr(os, name)))

    def refused_beyond(size):  # the kernel itself lets no file grow further
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    root, prepare = pathlib.Path(sys.argv[1]), {"kill": killed_at, "full": refused_beyond}[sys.argv[2]]
    for number in map(int, sys.argv[3:]):
        if not (pid := os.fork()):
            prepare(number)
            try:
                work(root / str(number))
            except OutputError as error:
                os.write(1, f"{error}\\n".encode())
                os._exit(error.exit_code)
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(2, f"{ended} ".encode())
    """
)


def children(root: Path, how: str, numbers: Sequence[int]) -> tuple[list[int], list[str]]:
    """Exit codes and printed lines of one process a number, each working on the run of that name."""
    command = [sys.executable, "-c", SCRIPT, str(root), how, *map(str, numbers)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(code) for code in ran.stderr.split()], ran.stdout.splitlines()


def test_kill_at_any_point_leaves_all_or_nothing_readable_and_the_lock_free(tmp_path):
    numbers = range(1, 60)
    codes, _ = children(tmp_path, "kill", numbers)
    killed = codes.count(-signal.SIGKILL)
    assert killed > 10
    assert codes == [-signal.SIGKILL] * killed + [0] * (len(numbers) - killed)  # every point was tried
    for number in numbers:
        path = tmp_path / str(number)
        if path.exists():
            verify_run(path)
        else:
            assert finished(path, {"job": "test"}) is None
            verify_run(make(path, {"job": "test"}))  # and the next attempt succeeds


def test_a_disk_that_really_refuses(tmp_path):
    codes, lines = children(tmp_path, "full", [0, 100, 400, 1999])
    assert codes == [OutputError.exit_code] * 4
    assert all("cannot write" in line for line in lines)
    assert not any((tmp_path / str(limit)).exists() for limit in (0, 100, 400, 1999))
    assert not any(p.name.endswith(".tmp") for p in tmp_path.rglob("*"))


def test_only_our_errors_come_out_of_finished(tmp_path):
    for number, text in enumerate(
        (b"{}", b'{"identity": {"job": 1}, "started": 1}', b"\x00", b"null", b'"x"', b"[[]]")
    ):
        partial = tmp_path / f".{number}.partial"
        partial.mkdir()
        (partial / "run.json").write_bytes(text)
        with pytest.raises(FreeholdError):
            finished(tmp_path / str(number), IDENTITY)


def test_an_unfinished_run_is_its_owners_alone_and_a_finished_one_as_open_as_its_place(tmp_path):
    (place := tmp_path / "shared").mkdir(mode=0o775)
    place.chmod(0o775)
    with RunFolder(place / "a", IDENTITY, {"seed": 3}) as folder:
        assert folder.path.stat().st_mode & 0o777 == 0o700
        folder.publish()
    assert (place / "a").stat().st_mode & 0o777 == 0o755
