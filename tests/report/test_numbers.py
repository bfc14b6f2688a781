from __future__ import annotations

import math

import pytest

from freehold.report import numbers


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.9541, "95.4 %"),
        (0, "0.0 %"),
        (1, "100.0 %"),
        (0.99997, ">99.9 %"),
        (0.0002, "<0.1 %"),
        (-0.111, "−11.1 %"),
        (-0.0001, "0.0 %"),
        (math.nan, "undefined"),
        (math.inf, "undefined"),
    ],
)
def test_percent(share: float, text: str) -> None:
    assert numbers.percent(share) == text.replace(" ", numbers.SPACE)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00361, "0.0036"),
        (-0.004, "−0.0040"),
        (-0.00001, "0.0000"),
        (1234.5, "1,234.5000"),
        (math.inf, "infinite"),
        (math.nan, "undefined"),
    ],
)
def test_st_d(value: float, text: str) -> None:
    assert numbers.st_d(value) == text


@pytest.mark.parametrize(
    ("drop", "text"),
    [
        (0.31, "0.3 points lost"),
        (-0.14, "0.1 points gained"),
        (0.04, "unchanged"),
        (-0.04, "unchanged"),
        (math.nan, "undefined"),
    ],
)
def test_change(drop: float, text: str) -> None:
    assert numbers.change(drop).replace(numbers.SPACE, " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0678, "0.0678"),
        (12_000, "12,000"),
        (1.5e-7, "1.5e−7"),
        (3.3e6, "3.3e6"),
        (-0.05, "−0.05"),
        (0, "0"),
        (100, "100"),
        (math.nan, "undefined"),
    ],
)
def test_short(value: float, text: str) -> None:
    assert numbers.short(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (8.31, "8.3 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (83.4, "1 min 23 s"),
        (4320, "1 h 12 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert numbers.duration(seconds).replace(numbers.SPACE, " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (None, "none"),
        (3e-4, "0.0003"),
        (1e-8, "1e-08"),
        (0.0, "0"),
        ((0.9, 0.999), "0.9, 0.999"),
        ([], "none"),
        ("paper", "paper"),
        (150, "150"),
    ],
)
def test_setting(value: object, text: str) -> None:
    assert numbers.setting(value) == text


def test_bounds() -> None:
    assert numbers.interval(0.942, 0.9641) == "94.2–96.4" + numbers.SPACE + "%"
    assert numbers.between(-0.42, 1.04) == "−0.4 to 1.0"
    assert numbers.count(73_728) == "73,728"
