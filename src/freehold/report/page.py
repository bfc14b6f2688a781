"""One run as one HTML file: no script, nothing loaded from elsewhere, the same bytes for the same data."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from freehold.errors import DataError, OutputError
from freehold.report import chance, curves, figures, numbers
from freehold.report.contents import PageData, by_role
from freehold.report.parts import ROLES, DomainResult, Role

if TYPE_CHECKING:
    import jinja2

WIDE, NARROW, PANEL = 760, 350, 360  # widths of the drawings in CSS pixels
THUMBNAIL = 160  # larger sample images are shrunk to this many pixels


def write_page(data: PageData, path: str | os.PathLike[str]) -> Path:
    """Write the page to ``path`` whole or not at all.

    Returns:
        The path written.

    Raises:
        DataError: as :func:`render_page`; nothing is written.
        OutputError: the file cannot be written; what stood there before still stands.
    """
    return write_html(render_page(data), Path(path))


def write_html(html: str, path: Path) -> Path:
    """Write ``html`` to ``path`` whole or not at all.

    Raises:
        OutputError: it cannot be written; what stood there before still stands.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.part"
    try:
        with temporary.open("wb") as file:
            file.write(html.encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(
            f"the page cannot be written: {reason}",
            where=str(path),
            fix="name a file in a folder you may write to",
        ) from error
    finally:  # also after Ctrl-C
        with contextlib.suppress(OSError, ValueError):
            temporary.unlink()
    return path


def render_page(data: PageData) -> str:
    """The whole page as HTML text.

    Raises:
        DataError: a sample image that is none.
    """
    from markupsafe import Markup

    html = (
        environment()
        .get_template("page.html.j2")
        .render(
            data=data,
            domains=by_role(data.domains),
            headlines=[_Headline.of(role, found) for role in ROLES if (found := data.of_role(role))],
            figures={name: Markup(svg) for name, svg in _figures(data).items()},
        )
    )
    return without_controls(html)


def without_controls(html: str) -> str:
    """``html`` with what no HTML document may hold shown as such."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", html)


def environment() -> jinja2.Environment:
    """Where the templates are, and how they write figures."""
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.PackageLoader("freehold.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        percent=numbers.percent,
        points=numbers.points,
        change=numbers.change,
        count=numbers.count,
        duration=numbers.duration,
        setting=numbers.setting,
        short=numbers.short,
        st_d=numbers.st_d,
        link=_link,
        picture=_picture,
        signed=numbers.signed,
        odds=numbers.odds,
        small=numbers.small,
    )
    found.globals.update(
        interval=numbers.interval, between=numbers.between, line=curves.line, is_log=curves.is_log
    )
    return found


@dataclass(frozen=True)
class _Headline:
    """Mean over the domains of one role, and the domain on which the protection did worst."""

    role: Role
    domains: list[DomainResult]
    before: float
    after: float
    worst: DomainResult

    @classmethod
    def of(cls, role: Role, domains: list[DomainResult]) -> _Headline:
        pick = min if role == "authorized" else max
        return cls(
            role,
            domains,
            before=fmean(domain.before.value for domain in domains),
            after=fmean(domain.after.value for domain in domains),
            worst=pick(domains, key=lambda domain: domain.after.value),
        )


def _figures(data: PageData) -> dict[str, str]:
    """All drawings by key; those of a phone are drawn apart, so that their type is not shrunken."""
    drawn = {}
    for name, width in (("wide", WIDE), ("narrow", NARROW)):
        if data.domains:
            drawn[f"accuracy-{name}"] = figures.accuracy(
                by_role(data.domains), width=width, key=f"accuracy-{name}"
            )
        if data.layers:
            drawn[f"layers-{name}"] = figures.layers(data.layers, width=width, key=f"layers-{name}")
        for index, found in enumerate(data.learning):
            key = f"learning-{index}-{name}"
            drawn[key] = curves.learning(found, width=width, key=key)
        for index, evidence in enumerate(data.evidence):
            if evidence.trials:
                key = f"evidence-{index}-{name}"
                drawn[key] = chance.distribution(evidence, width=width, key=key)
            if evidence.parts:
                key = f"parts-{index}-{name}"
                drawn[key] = chance.parts(evidence.parts, evidence.rate, width=width, key=key)
    for index, (title, series) in enumerate(data.panels()):
        drawn[f"panel-{index}"] = curves.panel(title, series, width=PANEL, key=f"panel-{index}")
    return drawn


class _Picture(NamedTuple):
    uri: str
    width: int
    height: int


def _picture(image: Any) -> _Picture:
    """A sample as a PNG in a data URI; images larger than ``THUMBNAIL`` are shrunk."""
    import numpy as np
    from PIL import Image

    fix = "give integers 0..255 of shape (H, W), (H, W, 1) or (H, W, 3)"
    try:
        pixels = np.asarray(image)
    except ValueError:
        raise DataError("rows of unequal length", where="sample image", fix=fix) from None
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3) or pixels.size == 0 or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise DataError(f"shape {pixels.shape}", where="sample image", fix=fix)
    if not np.issubdtype(pixels.dtype, np.integer) or pixels.min() < 0 or pixels.max() > 255:
        raise DataError(
            f"values of {pixels.dtype} outside 0..255 or not whole", where="sample image", fix=fix
        )
    picture = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return _Picture(uri, *picture.size)


def _link(identifier: str) -> str:
    """Where a DOI, an arXiv number or an https address leads; empty for anything else."""
    if match := re.fullmatch(r"(?:arXiv:\s*)(\d{4}\.\d{4,5}(?:v\d+)?)", identifier, re.IGNORECASE):
        return f"https://arxiv.org/abs/{match[1]}"
    if match := re.fullmatch(r"(?:doi:\s*)?(10\.\d{4,9}/\S+)", identifier, re.IGNORECASE):
        return f"https://doi.org/{match[1]}"
    return identifier if re.fullmatch(r"https://\S+", identifier) else ""
