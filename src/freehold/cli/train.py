"""``freehold train``."""

from __future__ import annotations

from freehold.cli.common import (
    ConfigFile,
    Debug,
    Json,
    Out,
    Overrides,
    console,
    print_json,
    print_place,
    working,
)


def train(
    config: ConfigFile = None,
    set_: Overrides = None,
    out: Out = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Train a source model on its authorized domain."""
    from freehold.config import load_config
    from freehold.jobs import train as run
    from freehold.jobs.assembly import default_directory, is_first
    from freehold.report.numbers import interval, percent

    with working():
        loaded = load_config(config, set_ or [])
        report = run(loaded, out or default_directory(loaded, "train"))
    if not is_first():
        return 0
    if json:
        print_json(report.to_json())
        return 0
    for name, accuracy in report.accuracies.items():
        bounds = interval(accuracy.low, accuracy.high)
        console().print(
            f"{name}: {percent(accuracy.value)} of {accuracy.n} test images right ({bounds})", soft_wrap=True
        )
    print_place("run", report.directory, already=report.already)
    return 0
