"""``freehold protect``."""

from __future__ import annotations

from freehold.cli.common import ConfigFile, Debug, Json, Out, Overrides, print_measured, working


def protect(
    config: ConfigFile = None,
    set_: Overrides = None,
    out: Out = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Protect a trained model, measure it, write a page."""
    from freehold.config import load_config
    from freehold.jobs import protect as run
    from freehold.jobs.assembly import default_directory, is_first

    with working():
        loaded = load_config(config, set_ or [])
        report = run(loaded, out or default_directory(loaded, "protect"))
    return print_measured(report, as_json=json) if is_first() else 0
