"""A planted secret, looked for in all that a run writes, logs, prints, returns and raises."""

from __future__ import annotations

import base64
import io
import logging
import traceback
from pathlib import Path

import pytest
import torch
from kit import Small, quiet

from freehold.config import from_json
from freehold.data import Domains, InputSpec
from freehold.data.sources import load_domain
from freehold.errors import ConfigError, FreeholdError
from freehold.jobs import protect
from freehold.keys import Key
from freehold.models.checkpoint import Recipe
from freehold.ownership.base import verify
from freehold.ownership.suspect import suspect
from freehold.ownership.trigger_set import TriggerSet

PLANTED = b"canary-canary-canary-canary-3141"
SHORT = TriggerSet(steps=2, triggers=60, batch_size=8, trigger_batch=8)


@pytest.fixture(scope="module")
def domains() -> Domains:
    return Domains(load_domain("digits", limit=60), [], InputSpec(size=32))


def forms() -> list[bytes]:
    """What the secret, and what is drawn from it, may look like in a file or a text."""
    key = Key(PLANTED, "ACME", method="trigger-set")
    labels = key.stream("labels").integers(10, 60)
    return [
        b"canary-canary",
        PLANTED.hex().encode(),
        PLANTED.hex().upper().encode(),
        base64.b64encode(PLANTED)[:-4],
        ", ".join(map(str, PLANTED[:8])).encode(),
        ",".join(map(str, labels[:20].tolist())).encode(),
        ", ".join(map(str, labels[:20].tolist())).encode(),
        labels[:8].numpy().tobytes(),
    ]


def assert_clean(data: bytes | str, where: str) -> None:
    data = data.encode() if isinstance(data, str) else data
    assert not [form for form in forms() if form in data], f"the secret is in {where}"


def test_the_search_finds_what_is_there():
    with pytest.raises(AssertionError):
        assert_clean(f"key {PLANTED!r}", "here")
    with pytest.raises(AssertionError):
        assert_clean(PLANTED.hex(), "here")


def test_no_trace_of_the_secret_leaves_a_run(domains, tmp_path, capfd, caplog):
    with caplog.at_level(logging.DEBUG):
        run = quiet(directory=tmp_path / "work", checkpoint_seconds=0, progress=True, trackers=())
        protected = SHORT.protect(Small(), domains, run=run, key=Key(PLANTED, "ACME"))
        recipe = Recipe(input=domains.input, classes=domains.authorized.classes)
        protected.save(tmp_path / "run", recipe)
        verdict = verify(suspect(protected.model, input=domains.input), protected.key)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 3
    for path in files:
        assert_clean(path.read_bytes(), path.name)
    buffer = io.BytesIO()
    torch.save(protected.model, buffer)
    printed = capfd.readouterr()
    for name, text in {
        "the pickled model": buffer.getvalue(),
        "standard output": printed.out,
        "standard error": printed.err,
        "the log": caplog.text,
        "the record": repr(protected.record),
        "the result": repr(protected),
        "the verdict": verdict.model_dump_json() + repr(verdict),
        "the state": repr(protected.model.state_dict()),
        "the shown images": protected.images["like the triggers"].numpy().tobytes(),
    }.items():
        assert_clean(text, name)


def test_what_is_shown_is_no_trigger(domains):
    protected = SHORT.protect(Small(), domains, run=quiet(), key=Key(PLANTED, "ACME"))
    shown = protected.images["like the triggers"].flatten(1)
    triggers = SHORT._images(protected.key).flatten(1)
    assert not (shown[:, None] == triggers[None]).all(2).any()


def test_nor_a_crash(domains, tmp_path, caplog):
    caught = []
    with caplog.at_level(logging.DEBUG):
        for attempt in (
            lambda: SHORT.protect(Small(crash_after=9), domains, run=quiet(), key=Key(PLANTED, "ACME")),
            lambda: SHORT.verify("no suspect", Key(PLANTED, "ACME")),
            lambda: verify(suspect(Small(), input=domains.input), Key(PLANTED, "ACME")),
            lambda: Key(PLANTED, "A\nB"),
            lambda: Key(PLANTED, "A").save(Path(tmp_path / "none" / "k"), "pw"),
        ):
            with pytest.raises((RuntimeError, FreeholdError)) as error:
                attempt()
            caught.append("".join(traceback.format_exception(error.value)))
    assert_clean("".join(caught) + caplog.text, "a traceback")


def test_a_run_directory_is_no_place_for_a_key(tmp_path):
    config = from_json(
        {
            "model": {"uri": "convnet", "weights": "none.safetensors"},
            "data": {"authorized": "digits", "unauthorized": []},
            "method": {"name": "trigger-set"},
        }
    )
    with pytest.raises(ConfigError, match="makes a key"):
        protect(config, tmp_path / "run")
    assert not list(tmp_path.iterdir())
