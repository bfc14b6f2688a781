"""How figures are written, once for every table, chart and sentence.

Rounding never claims perfection: a share below one that would round to 100.0 % is written as >99.9 %,
a positive one that would round to 0.0 % as <0.1 %. A no-break space stands before the unit, a true minus
sign before negative numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

SPACE = "\u00a0"
MINUS = "\u2212"
UNDEFINED = "undefined"


def fixed(value: float, digits: int) -> str:
    """``value`` with that many decimals; a value that rounds to zero has no sign."""
    text = f"{abs(value):,.{digits}f}"
    return MINUS + text if value < 0 and float(text.replace(",", "")) else text


def percent(share: float) -> str:
    """A fraction in percent: 0.954 is ``95.4 %``."""
    if not math.isfinite(share):
        return UNDEFINED
    text = fixed(100 * share, 1)
    if text == "100.0" and share < 1:
        text = ">99.9"
    elif text == "0.0" and share > 0:
        text = "<0.1"
    return text + SPACE + "%"


def interval(low: float, high: float) -> str:
    """Bounds given as fractions: ``94.2–96.4 %``."""
    return f"{fixed(100 * low, 1)}–{fixed(100 * high, 1)}{SPACE}%"


def between(low: float, high: float) -> str:
    """Bounds of a difference in points: ``−0.4 to 1.0``."""
    return f"{fixed(low, 1)} to {fixed(high, 1)}"


def points(value: float) -> str:
    """A difference of two percentages: ``0.3 points``."""
    return f"{fixed(value, 1)}{SPACE}points" if math.isfinite(value) else UNDEFINED


def change(drop: float) -> str:
    """A drop in points in words: ``0.3 points lost``, ``0.1 points gained``, ``unchanged``."""
    if not math.isfinite(drop):
        return UNDEFINED
    text = points(abs(drop))
    return "unchanged" if fixed(drop, 1) == "0.0" else f"{text} {'lost' if drop > 0 else 'gained'}"


def signed(value: float) -> str:
    """A difference with its sign and three decimals: ``+0.452``, ``−0.310``."""
    text = fixed(value, 3)
    return text if text.startswith(MINUS) or not math.isfinite(value) else f"+{text}"


def st_d(value: float) -> str:
    """ST-D with four decimals; ``infinite`` without protection, ``undefined`` when no drop defines it."""
    if math.isnan(value):
        return UNDEFINED
    return "infinite" if math.isinf(value) else fixed(value, 4)


def count(number: int) -> str:
    """A whole number with separators: ``73,728``."""
    return f"{number:,}"


def short(value: float) -> str:
    """About three significant digits, for ends and ticks of curves: ``0.0678``, ``12,000``, ``1.5e−7``."""
    if not math.isfinite(value):
        return UNDEFINED
    text = f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else re.sub(r"e([+-])0*", r"e\1", f"{value:.3g}")
    return text.replace("e+", "e").replace("-", MINUS)


def duration(seconds: float) -> str:
    """Elapsed time to about two digits: ``8.3 s``, ``2 min 05 s``, ``1 h 12 min``."""
    if seconds < 10:
        return f"{seconds:.1f}{SPACE}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{SPACE}min {whole % 60:02d}{SPACE}s"
    return f"{whole // 3600}{SPACE}h {whole % 3600 // 60:02d}{SPACE}min"


def setting(value: Any) -> str:
    """The value of a hyper-parameter the way a configuration file writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(setting, value)) or "none"
    return str(value)


_HUGE = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))


def odds(probability: float) -> str:
    """How often something happens, in words, never rarer than it is: ``about once in 25 million cases``."""
    if not 0 < probability < 1:
        return "in all cases" if probability >= 1 else UNDEFINED
    if probability > 0.1:
        return f"in about {min(99, math.ceil(100 * probability - 1e-9))} of 100 cases"
    once = 1 / probability * (1 + 1e-9)
    exponent = math.floor(math.log10(once))
    if exponent >= 15:
        return f"less than once in 10{str(exponent).translate(_RAISED)} cases"
    once = math.floor(once / 10 ** (exponent - 1)) * 10 ** (exponent - 1) if exponent else math.floor(once)
    for size, word in _HUGE:
        if once >= size:
            return f"about once in {once / size:g} {word} cases"
    return f"about once in {count(round(once))} cases"


_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def small(probability: float) -> str:
    """A probability with two digits, however small, rounded up: ``0.42``, ``3.1 × 10⁻²³``."""
    if not 0 < probability < 1:
        return "1" if probability >= 1 else "0"
    exponent = max(-307, math.floor(math.log10(probability)))
    factor = math.ceil(probability / 10.0**exponent * 10 - 1e-9) / 10
    if factor >= 10:
        factor, exponent = 1.0, exponent + 1
    if exponent >= -3:
        return f"{factor * 10.0**exponent:.2g}"
    power = "10⁻" + str(-exponent).translate(_RAISED)
    return power if factor == 1 else f"{factor:.1f} × {power}".replace(" ", SPACE)
