"""A matplotlib figure as SVG that is at home in a page.

The page's style sheet, not the drawing, decides about colours and type: colours are written as CSS
variables, so that one drawing serves a light page, a dark page and paper, and texts stay texts in the
reader's own font. Ids carry the figure's key, so that several drawings can stand in one document.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Light values, also the fallbacks of a drawing taken out of its page; page.css has the dark ones.
COLOURS = {
    "ink": "#1d1c1a",
    "muted": "#615c54",
    "rule": "#dfd9ce",
    "track": "#ddd6c8",
    "paper": "#fbfaf6",
    "authorized": "#075f9b",
    "unauthorized": "#b0470a",
}
_NAMES = {colour: name for name, colour in COLOURS.items()}
_SETTINGS = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a domain named "$x$" is a name
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # only measures; the page's font is put in its place
    "font.size": 12,
    "path.simplify_threshold": 0.3,
    "text.color": COLOURS["ink"],
    "axes.unicode_minus": True,
}


@contextmanager
def style(key: str) -> Iterator[None]:
    """Draw and write figures inside: our settings whatever a matplotlibrc says, ids salted by ``key``."""
    import matplotlib.style

    settings = {**_SETTINGS, "svg.hashsalt": key}
    with matplotlib.style.context(settings, after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's fonts may have it
        yield


def canvas(width: int, height: int) -> Figure:
    """A transparent figure of that many CSS pixels; one typographic point is one pixel."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72, facecolor="none")
    FigureCanvasSVG(figure)
    return figure


def pixels(width: int, height: int) -> tuple[Figure, Axes]:
    """A canvas with one bare axes whose coordinates are pixels, the origin at the top left."""
    figure = canvas(width, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return figure, axes


def inline(figure: Figure, *, key: str, label: str) -> str:
    """The figure as an ``<svg>`` element for an HTML document.

    Args:
        figure: drawn on :func:`canvas`, inside :func:`style`.
        key: unique in the document; prefix of all ids.
        label: what the picture shows, for those who do not see it.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())
    width, height = (round(size * 72) for size in figure.get_size_inches())
    for parent in root.iter():
        for child in [c for c in parent if _local(c.tag) in ("metadata", "style")]:
            parent.remove(child)
    values = [value for element in root.iter() for value in element.attrib.values()]
    referenced = set(re.findall(r"#([\w-]+)", " ".join(values)))
    for element in root.iter():
        element.tag = _local(element.tag)
        element.tail = None  # indentation
        if element.text is not None and not element.text.strip():
            element.text = None
        element.attrib = dict(
            _attribute(key, referenced, name, value) for name, value in element.attrib.items()
        )
        element.attrib.pop("", None)
    root.attrib = {
        "viewBox": f"0 0 {width} {height}",
        "width": str(width),
        "height": str(height),
        "role": "img",
        "aria-label": clean(label),
    }
    return ElementTree.tostring(root, encoding="unicode")


def _attribute(key: str, referenced: set[str], name: str, value: str) -> tuple[str, str]:
    """One attribute as the page wants it; an empty name for one it does not want."""
    name = _local(name)
    if name == "id":
        return ("id", f"{key}-{value}") if value in referenced else ("", "")
    if name == "href" or value.startswith("url(#"):
        return name, value.replace("#", f"#{key}-")
    if name == "style":
        value = re.sub(r"'DejaVu Sans'[^;]*", "var(--sans, sans-serif)", value)
        value = re.sub(r"#[0-9a-f]{6}", lambda m: _variable(m[0]), value)
    return name, value


def _variable(colour: str) -> str:
    return f"var(--{_NAMES[colour]}, {colour})" if colour in _NAMES else colour


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def clean(text: str) -> str:
    """One line without control characters, which neither XML nor HTML may hold."""
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)
    return " ".join(kept.split())


def shorten(text: str, width: float, size: float) -> str:
    """``text`` on one line, cut in the middle to ``width`` pixels: both ends tell names apart."""
    text = clean(text)
    for room in range(min(len(text), round(width / (0.25 * size))), 1, -1):
        head = -(-(room - 1) * 3 // 5)
        cut = (
            text
            if room == len(text)
            else text[:head].rstrip() + "…" + text[len(text) - room + 1 + head :].lstrip()
        )
        if extent(cut, size) <= width:
            return cut
    return text[:1]


def extent(text: str, size: float) -> float:
    """Width in pixels, measured in a wide font so that few readers' fonts exceed it."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    known, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    unknown = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return float(known) + 0.4 * size * unknown
