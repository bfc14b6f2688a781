from __future__ import annotations

import pytest
from pydantic import Field

from freehold.errors import ConfigError
from freehold.settings import Settings, nearest


class Inner(Settings):
    rate: float = Field(0.1, gt=0)


class Outer(Settings):
    inner: Inner = Inner()
    steps: int


def test_the_outermost_model_reports_the_whole_path():
    with pytest.raises(ConfigError, match=r"Outer\.inner\.rate: .*greater than 0, got -1"):
        Outer(inner={"rate": -1}, steps=1)
    with pytest.raises(ConfigError, match=r"Outer\.inner\.rat: unknown key \(did you mean 'rate'\?\)"):
        Outer(inner={"rat": 1}, steps=1)
    with pytest.raises(ConfigError, match=r"Outer\.steps: field required"):
        Outer()


def test_settings_are_frozen_finite_and_hashable():
    assert hash(Inner()) == hash(Inner(rate=0.1))
    with pytest.raises(ConfigError, match="finite"):
        Inner(rate=float("inf"))
    with pytest.raises(ValueError, match="frozen"):
        Inner().rate = 2.0


def test_a_default_outside_its_own_range_is_refused():
    class Wrong(Settings):
        rate: float = Field(-1, gt=0)

    with pytest.raises(ConfigError, match=r"Wrong\.rate"):
        Wrong()


def test_nearest_names_one_or_lists_all():
    assert nearest("sted", ["seed", "steps"]) == "did you mean 'seed'?"
    assert nearest("zzz", ["b", "a"]) == "one of: a, b"
