"""A method's real ``protect``, held at a step of one of its fits, to be taken step by step."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

import freehold as fh
from benchmarks.speed.measures import Measure, T
from freehold.data import Augment
from freehold.protection import Protection
from freehold.training import Loop, Trainer
from freehold.training.classifier import cross_entropy
from freehold.training.loop import Fit

TOGETHER = 2  # steps: some methods do one thing in even and another in odd steps


def run() -> fh.Run:
    return fh.Run(precision="bf16", device="cpu", progress=False)


@cache
def digits() -> fh.Domains:
    """Two domains, and few images to validate on: that is no part of a step."""
    own, other = (_shortened(fh.load_domain(name)) for name in ("digits-m", "digits"))
    return fh.Domains(own, [other])


def _shortened(domain: fh.Domain) -> fh.Domain:
    splits = {"train": domain.train, "val": domain.val.take(torch.arange(100)), "test": domain.test}
    return domain.with_splits(splits)


def plain(uri: str, images: int) -> Callable[[], Any]:
    """Ordinary supervised steps, as many images each."""
    trainer, given = Trainer(run()), digits()
    stream = trainer.batches(given.authorized.train, given.input, images, "train", augment=Augment(shift=2))
    loop = Loop(steps=10**6, lr=1e-4)
    fit = Fit(trainer, fh.load_model(uri, 10), cross_entropy, {"train": stream}, loop, "plain", "train", None)
    fit.set_mode()
    return lambda: [fit.advance() for _ in range(TOGETHER)]


class Stepper(threading.Thread):
    """Runs ``protect`` up to the middle of a fit; measures then run in its thread.

    Args:
        method: with whatever settings.
        model: to be protected.
        fit: name of the fit; the fits before it run as they are.
    """

    def __init__(self, method: Protection, model: nn.Module, fit: str) -> None:
        super().__init__(daemon=True)
        self.method, self.model, self.wanted = method, model, fit
        self.asked, self.answered = queue.Queue[Any](), queue.Queue[Any]()
        self.trainer = Trainer(run())
        self.usual, self.trainer.fit = self.trainer.fit, self._serve  # type: ignore[method-assign]
        self.start()
        self.images: int = self._answer()  # a step, over all streams

    def ask(self, measure: Measure[T]) -> T:
        """What ``measure`` finds of two steps."""
        self.asked.put(measure)
        found: T = self._answer()
        return found

    def close(self) -> None:
        """End ``protect``."""
        self.asked.put(None)
        self.join()

    def run(self) -> None:
        """The thread."""
        given = digits()
        try:
            key = self.method._key(None, self.model, given)
            self.method._apply(self.model, self.method._seen(given), self.trainer, key)
            raise LookupError(f"{self.method.name} has no fit {self.wanted!r}")
        except Exception as error:  # for whoever waits
            self.answered.put(error)

    def _answer(self) -> Any:
        found = self.answered.get(timeout=300)
        if isinstance(found, Exception):
            raise found
        return found

    def _serve(self, model: Any, objective: Any, streams: Any, loop: Loop, **options: Any) -> Any:
        if options["name"] != self.wanted:
            return self.usual(model, objective, streams, loop, **options)
        name, mode, build = options["name"], options.get("mode", "train"), options.get("build")
        fit = Fit(self.trainer, model, objective, streams, loop, name, mode, None, build)
        fit.set_mode()
        fit.step = loop.steps // 2
        self.answered.put(sum(len(stream.batch(0)) for stream in streams.values()))
        while (measure := self.asked.get()) is not None:
            self.answered.put(measure(lambda: [fit.advance() for _ in range(TOGETHER)]))
        raise SystemExit
