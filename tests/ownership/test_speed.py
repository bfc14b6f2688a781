"""Verifying costs next to nothing."""

from __future__ import annotations

import time

import torch
from ownership_kit import trigger_key

from freehold.data import InputSpec
from freehold.keys import Key
from freehold.models.zoo import load_model
from freehold.ownership.base import verify
from freehold.ownership.suspect import suspect


def test_a_hundred_triggers_against_a_resnet20_take_less_than_a_second():
    known = trigger_key()
    facts = {**known.facts, "input": InputSpec(size=32).model_dump(mode="json")}
    key = Key(bytes(32), "ACME").bound(known.method, known.settings, facts)
    asked = suspect(load_model("resnet20", 10), input=InputSpec(size=32))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        verify(asked, key)
        began = time.process_time()
        verdict = verify(asked, key, commitment=key.commitment)
        assert time.process_time() - began < 1  # a sixth of it where nothing else runs
    finally:
        torch.set_num_threads(threads)
    assert verdict.queries == 100
