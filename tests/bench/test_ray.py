"""The same suite on a real local Ray: equal bits, every cell once, also when a worker is killed."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time

import pytest
from bench_kit import digests, place, run_suite, tiny

from freehold.bench import plan
from freehold.bench.ray import OnRay
from freehold.bench.suite import Needs
from freehold.errors import UsageError

ray = pytest.importorskip("ray")


class Killer(threading.Thread):
    """Kills the first worker that is seen at work on a cell."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.killed, self.enough = 0, threading.Event()

    def run(self) -> None:
        psutil = pytest.importorskip("psutil")
        me = psutil.Process()
        while not self.killed and not self.enough.wait(0.02):
            for child in me.children(recursive=True):
                try:
                    if child.name().startswith("ray::_work") or "ray::_work" in " ".join(child.cmdline()):
                        os.kill(child.pid, signal.SIGKILL)
                        self.killed = child.pid
                        break
                except (psutil.Error, ProcessLookupError):
                    continue


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_with_a_worker_killed_every_cell_is_there_once_and_equal(ran, tmp_path):
    folder, _ = ran
    killer = Killer()
    killer.start()
    runner = OnRay(Needs(), workers=2)
    found = run_suite(tiny(), tmp_path / "results", place=place(tmp_path), runner=runner, show=False)
    killer.enough.set()
    assert killer.killed and not ray.is_initialized()
    assert found.computed == len(plan(tiny())) == len(list((tmp_path / "results" / "cells").iterdir()))
    assert not found.failures() and digests(tmp_path / "results") == digests(folder / "results")


@pytest.mark.slow
def test_a_need_that_no_machine_meets_is_an_error_and_no_endless_wait(ran, tmp_path):
    folder, _ = ran
    with pytest.raises(UsageError, match="a cell needs 1 GPU, and no machine has more than 0"):
        run_suite(
            tiny(), tmp_path, place=place(folder), runner=OnRay(Needs(gpus=1), workers=1), show=False
        )  # fmt: skip
    assert not ray.is_initialized()


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere.invalid:6379", "127.0.0.1", "here:there"])
def test_an_address_where_nothing_answers_is_one_error_soon(ran, tmp_path, address):
    folder, _ = ran
    began = time.monotonic()
    with pytest.raises(UsageError, match=address):
        run_suite(tiny(), tmp_path, place=place(folder), runner=OnRay(Needs(), address=address), show=False)
    assert time.monotonic() - began < 30 and not ray.is_initialized()


@pytest.mark.slow
def test_an_address_that_is_no_ray_is_one_error_soon(ran, tmp_path):
    folder, _ = ran
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UsageError, match="no Ray cluster"):
            run_suite(
                tiny(), tmp_path, place=place(folder), runner=OnRay(Needs(), address=address), show=False
            )


def test_a_cluster_knows_its_own_cores():
    with pytest.raises(UsageError, match="workers"):
        OnRay(Needs(), address="auto", workers=2)
