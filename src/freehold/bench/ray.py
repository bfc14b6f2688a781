"""The same suite on several processes or a cluster: cells as Ray tasks, results written by the driver alone.

Base models and protected models are tasks that the cells wait for, so that no worker makes what another is
making. They are kept in the cache folder, which the machines of a cluster share or each have; a worker
that does not find a model there makes it again, bit for bit. A task whose worker dies is run again.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from freehold.artifacts import fingerprint
from freehold.bench.cell import Cell
from freehold.bench.stages import Place
from freehold.bench.store import Outcome
from freehold.bench.suite import Needs
from freehold.errors import MissingDependencyError, UsageError

RETRIES = 3  # of a task whose worker dies
ANSWER = 20.0  # seconds that an address may take
Broken = tuple[str, str] | None  # state and error of a shared model that could not be made


class OnRay:
    """Cells as tasks of Ray.

    Args:
        needs: what a cell takes of a machine.
        address: of a running cluster, ``HOST:PORT`` or ``auto``; by default processes of this machine.
        workers: cores to use on this machine.
    """

    def __init__(self, needs: Needs, *, address: str | None = None, workers: int | None = None) -> None:
        if address is not None and workers is not None:
            raise UsageError("a cluster knows its cores", where="workers", fix="leave out one of the two")
        self.needs, self.address, self.workers = needs, address, workers
        self.running = 0

    def outcomes(self, cells: Sequence[Cell], place: Place) -> Iterator[Outcome]:
        """Every cell's outcome, once, as it comes.

        Raises:
            MissingDependencyError: ray is not installed.
            UsageError: the address does not answer, or no machine has what a cell needs.
        """
        if not cells:
            return
        ray = _library()
        with self._cluster(ray):
            self._check(ray)
            yield from self._all(ray, cells, place)

    def _all(self, ray: Any, cells: Sequence[Cell], place: Place) -> Iterator[Outcome]:
        resources = {"num_cpus": self.needs.cpus, "num_gpus": self.needs.gpus, "max_retries": RETRIES}
        stage, work = (ray.remote(**resources)(function) for function in (_stage, _work))
        where = (str(place.data), str(place.cache))
        bases: dict[str, Any] = {}
        stages: dict[str, Any] = {}
        for cell in cells:  # all base models first, so that no worker waits for another's
            config = _without_method(cell.config)
            if (text := fingerprint(config)) not in bases:
                bases[text] = stage.remote(config, where)
        for cell in cells:
            if (text := fingerprint(dict(cell.config))) not in stages:
                before = bases[fingerprint(_without_method(cell.config))]
                stages[text] = stage.remote(dict(cell.config), where, before)
        waiting = {
            work.remote(cell.to_json(), where, stages[fingerprint(dict(cell.config))]): cell for cell in cells
        }
        slots = max(1, int(ray.cluster_resources().get("CPU", 1) // self.needs.cpus))
        try:
            while waiting:
                self.running = min(slots, len(waiting))
                done, _ = ray.wait(list(waiting), timeout=1.0)
                for task in done:
                    yield _fetched(ray, task, waiting.pop(task))
        except KeyboardInterrupt:
            done, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
            for task in done:
                yield _fetched(ray, task, waiting.pop(task))
            raise

    @contextmanager
    def _cluster(self, ray: Any) -> Iterator[None]:
        """Joined, or started on this machine and reachable from nowhere else."""
        quiet = {"log_to_driver": False, "logging_level": "error"}
        if self.address is not None:
            _answers(self.address)
            try:
                ray.init(address=self.address, **quiet)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise UsageError(
                    f"no Ray cluster answers: {error}",
                    where=self.address,
                    fix="start it, or leave out --address",
                ) from None
        else:
            try:
                ray.init(
                    num_cpus=self.workers,
                    include_dashboard=False,
                    object_store_memory=100 * 2**20,
                    _node_ip_address="127.0.0.1",
                    **quiet,
                )
            except Exception as error:  # Ray raises nothing narrower
                ray.shutdown()
                raise UsageError(
                    f"Ray does not start on this machine: {error!s:.200}",
                    where="runner",
                    fix="try again when it is less busy, or run without Ray",
                ) from None
        try:
            yield
        finally:
            ray.shutdown()

    def _check(self, ray: Any) -> None:
        """A cell that needs more than any machine has would wait for ever."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        for name, wanted in (("CPU", self.needs.cpus), ("GPU", self.needs.gpus)):
            most = max((node.get(name, 0.0) for node in nodes), default=0.0)
            if wanted > most:
                raise UsageError(
                    f"a cell needs {wanted:g} {name}, and no machine has more than {most:g}",
                    where="needs",
                    fix="lower [needs] in the suite, or add a machine",
                )


def _stage(config: Mapping[str, Any], where: tuple[str, str], before: Broken = None) -> Broken:
    """Make a shared model; what went wrong is told to every cell that needs it."""
    from freehold.bench.measure import told, torch_threads
    from freehold.bench.stages import protected

    if before is None:
        try:
            with torch_threads(int(config["train"]["threads"])):
                protected(Cell(config, {}), Place(*map(Path, where)))
        except Exception as problem:
            return told(problem)
    return before


def _work(cell: Mapping[str, Any], where: tuple[str, str], broken: Broken) -> str:
    """A cell's outcome as JSON."""
    from freehold.bench.measure import attempt

    one = Cell(cell["config"], cell["trial"])
    found = Outcome(one, broken[0], None, broken[1]) if broken else attempt(one, Place(*map(Path, where)))
    return json.dumps(found.to_json())


def _without_method(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "method"}


def _fetched(ray: Any, task: Any, cell: Cell) -> Outcome:
    """The outcome of a task that has ended, however it did."""
    try:
        return Outcome.from_json(json.loads(ray.get(task)))
    except ray.exceptions.OutOfMemoryError:
        return Outcome(cell, "failed", None, "the worker ran out of memory, and so did its successors")
    except ray.exceptions.RayError as error:
        told = " ".join(str(error).split())
        return Outcome(cell, "failed", None, f"the worker died {RETRIES + 1} times: {told:.200}")


def _answers(address: str) -> None:
    """Refuse an address at which nothing, or no Ray, answers, within seconds.

    Raises:
        UsageError: which of the two.
    """
    if address == "auto":
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        raise UsageError("is no address", where=address, fix="HOST:PORT, or auto")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER / 4).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"nothing answers: {error}", where=address, fix="start the cluster, or leave out --address"
        ) from None
    if address.startswith("ray://"):
        return  # Ray's client gives up by itself
    asking = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        healthy = subprocess.run(asking, capture_output=True, timeout=ANSWER, env=os.environ).returncode == 0
    except subprocess.TimeoutExpired:
        healthy = False
    if not healthy:
        raise UsageError("is no Ray cluster, or not a healthy one", where=address, fix="check the port")


def _library() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingDependencyError(
            f"ray is needed for this runner and cannot be imported: {error}",
            where="runner",
            fix="pip install 'freehold[ray]'",
        ) from None
    return ray
