"""The step of every method against an ordinary supervised step on as many images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import freehold as fh
from benchmarks.speed.measures import Here, Subject
from benchmarks.speed.ratio import Ratio
from benchmarks.speed.stepper import Stepper, plain
from freehold.ownership.ptynet import PTYNet
from freehold.ownership.trigger_set import TriggerSet
from freehold.protection import Protection

# Fits before the one that is looked at have to end some time.
FEW = {"synthesis_steps": 2, "synthetic": 200}
NTP_FEW = {"outer": 1, "inner": 4, "steps": 20}
# name, method, name of its fit, network, bar
CASES: list[tuple[str, Callable[[], Protection], str, str, float | None]] = [
    ("map", fh.MAP, "map", "convnet", 1.05),
    ("map, source-free", partial(fh.MAP, variant="source-free", **FEW), "map", "convnet", None),
    ("map, data-free", partial(fh.MAP, variant="data-free", **FEW), "map", "convnet", None),
    ("ntl", fh.NTL, "ntl", "convnet", 1.15),
    ("cuti", fh.CUTI, "cuti", "convnet", 1.15),
    ("ntp, pruning", fh.NTP, "ntp-admm", "convnet", None),
    ("ntp, retraining", partial(fh.NTP, **NTP_FEW), "ntp", "convnet", None),
    ("trigger-set, plain", partial(TriggerSet, recipe="plain"), "trigger-set", "convnet", None),
    ("trigger-set, app", partial(TriggerSet, recipe="app"), "trigger-set", "convnet", None),
    ("ptynet", PTYNet, "ptynet", "convnet", None),
    ("passport", fh.Passport, "passport", "convnet", None),
    *(
        (
            f"passport, {what}{net}",
            partial(fh.Passport, layers=layers, start="untrained"),
            "passport",
            uri,
            bar,
        )
        for uri, net in (("convnet", ""), ("resnet20", ", resnet20"))
        for what, layers, bar in (("all layers", "all", 2.1), ("last three", "last-3", 1.5))
    ),
]


def pair(method: Callable[[], Protection], fit: str, uri: str) -> tuple[Subject, Subject]:
    stepper = Stepper(method(), fh.load_model(uri, 10), fit)
    return stepper, Here(plain(uri, stepper.images))


STEPS = [
    Ratio(f"{name}: step / plain step", partial(pair, method, fit, uri), bar, memory=float("inf"))
    for name, method, fit, uri, bar in CASES
]
