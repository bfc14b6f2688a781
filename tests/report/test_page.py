from __future__ import annotations

import base64
import errno
import io
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sample_page import domain, learning, make_page

from freehold.errors import DataError, OutputError
from freehold.report import (
    Accuracy,
    Curve,
    DomainResult,
    Layer,
    PageData,
    Parameter,
    Sample,
    Transfer,
    curves,
    drawing,
    page,
    render_page,
    write_page,
)

EVIL = "<script>alert(1)</script>"
VOID = {"meta", "link", "img", "br"}
CSS = (Path(page.__file__).parent / "templates" / "page.css").read_text()


class Document(HTMLParser):
    """Elements, attributes and texts of a page; refuses tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open  # elsewhere HTML knows no such tags
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", " ".join(data.split())))

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]

    def tags(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(text for _, text in self.texts)


def hostile() -> PageData:
    """Every text of the page tries to be markup."""
    plain = make_page()
    image = np.zeros((2, 2), np.uint8)
    bad = DomainResult(
        EVIL,
        "unauthorized",
        9,
        Accuracy(1, 1, 1),
        Accuracy(0, 0, 0),
        0.1,
        0,
        samples=[Sample(image, EVIL, f'"{EVIL}', f"'{EVIL}")],
    )
    return make_page(
        title=EVIL,
        summary=[EVIL],
        method=EVIL,
        card=replace(
            plain.card,
            **dict.fromkeys(("title", "paper", "venue", "goal"), EVIL),
            **dict.fromkeys(("changed", "undisclosed", "needs", "breaks"), (EVIL, EVIL)),
            identifier='javascript:alert("1")',
        ),
        parameters={EVIL: Parameter(EVIL, [EVIL], EVIL, EVIL, EVIL)},
        domains=[plain.domains[1], bad],
        transfer=replace(plain.transfer, flags=[EVIL]),
        layers=[Layer(EVIL, 1, 2)],
        curves=[Curve(EVIL, EVIL, [0, 1], [1.0, 2.0])],
        configuration=f"</code></pre>{EVIL}",
        versions={EVIL: EVIL},
        record=[EVIL],
        notes=[EVIL],
    )


@pytest.fixture(scope="module")
def data() -> PageData:
    return make_page()


@pytest.fixture(scope="module")
def html(data: PageData) -> str:
    return render_page(data)


@pytest.fixture(scope="module")
def hostile_html() -> str:
    return render_page(hostile())


@pytest.fixture(scope="module", params=["plain", "hostile", "bare"])
def document(request: pytest.FixtureRequest, html: str, hostile_html: str) -> Document:
    bare = {"layers": (), "curves": (), "notes": (), "record": (), "configuration": "", "parameters": {}}
    texts = {
        "plain": lambda: html,
        "hostile": lambda: hostile_html,
        "bare": lambda: render_page(make_page(**bare)),
    }
    return Document(texts[request.param]())


def test_is_a_sound_document(document: Document) -> None:
    assert document.tags("html") == [{"lang": "en"}]
    ids = Counter(document.values("id"))
    assert max(ids.values()) == 1
    values = [value for name in ("href", "clip-path") for value in document.values(name)]
    targets = re.findall(r"(?:^|url\()#([\w-]+)", "\n".join(values), re.MULTILINE)
    assert targets and set(targets) <= set(ids)
    levels = [int(tag[1]) for tag, _ in document.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(image.get("alt") for image in document.tags("img"))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") == "true" for svg in document.tags("svg"))


def test_loads_nothing_and_runs_nothing(document: Document) -> None:
    assert not document.tags("script") and not document.tags("iframe") and not document.tags("object")
    assert not [name for _, attributes in document.elements for name in attributes if name.startswith("on")]
    assert all(source.startswith("data:image/png;base64,") for source in document.values("src"))
    assert [link["href"] for link in document.tags("link")] == ["data:,"]
    assert all(anchor["href"].startswith(("#", "https://")) for anchor in document.tags("a"))
    assert "url(" not in CSS and "@import" not in CSS
    policy = next(m["content"] for m in document.tags("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")


def test_a_hostile_name_is_text_everywhere(hostile_html: str) -> None:
    assert "<script" not in hostile_html
    found = Counter(tag for tag, text in Document(hostile_html).texts if EVIL in text)
    for tag in ("title", "h1", "p", "h3", "th", "li", "td", "dd", "code", "span", "text"):
        assert found[tag], tag
    assert found["text"] == 3  # the domain drawn wide and narrow, the layer wide; it is shortened when narrow
    assert any(EVIL in label for label in Document(hostile_html).values("aria-label"))
    assert 'href="javascript' not in hostile_html


def test_says_what_was_measured(data: PageData, html: str) -> None:
    text = Document(html).text.replace("\u00a0", " ")
    for sentence in (*data.summary, *data.card.breaks, *data.notes, *data.record):
        assert sentence in text
    for figure in (
        "95.4 %", "95.1 %", "94.8 %", "11.2 %", "83.6 points lost", "0.3 points lost", "−0.9 to 1.5",
        "0.0036", "88.2 %", "10.0 %", "1.3 %", "568,174", "574,816", "98.8 %", "1 min 23 s", "torch 2.11.0",
    ):  # fmt: skip
        assert figure in text, figure
    assert "https://doi.org/10.5555/12345678" in html
    assert 'uri = "convnet"' in text


def test_authorized_domains_come_first(html: str) -> None:
    assert [text for tag, text in Document(html).texts if tag == "th" and text.startswith("digits")] == [
        "digits-m",
        "digits",
    ]


def test_right_and_wrong_are_told_by_a_symbol(html: str) -> None:
    document = Document(html)
    marks = Counter(text for tag, text in document.texts if text in ("✓", "✗"))
    labels = Counter(label for label in document.values("aria-label") if label in ("right", "wrong"))
    # 48 predictions: one authorized and eleven unauthorized images are misread after protection
    assert marks == {"✓": 36, "✗": 12} and labels == {"right": 36, "wrong": 12}


def test_sample_images_are_shown_exactly(data: PageData, html: str) -> None:
    shown = [base64.b64decode(source.partition(",")[2]) for source in Document(html).values("src")]
    given = [sample.image for d in (data.domains[1], data.domains[0]) for sample in d.samples]
    given += [image for images in data.gallery.values() for image in images]
    for png, image in zip(shown, given, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), image)


def test_lists_and_single_channels_are_images_and_large_ones_are_shrunk() -> None:
    assert page._picture([[0, 255], [3, 4]])[1:] == (2, 2)
    assert page._picture(np.zeros((4, 6, 1), np.uint8))[1:] == (6, 4)
    assert page._picture(np.zeros((400, 800, 3), np.uint8))[1:] == (160, 80)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((2, 2)),
        np.full((2, 2), 256),
        np.full((2, 2), -1),
        np.zeros((2, 2, 4), np.uint8),
        np.zeros((0, 2), np.uint8),
        np.zeros(4, np.uint8),
        [[1, 2], [3]],
        "picture",
        None,
    ],
)
def test_what_is_no_image_is_refused(image: object) -> None:
    with pytest.raises(DataError, match="sample image"):
        page._picture(image)


def test_sections_without_content_are_left_out() -> None:
    bare = make_page(
        layers=(),
        curves=(),
        gallery={},
        learning=(),
        notes=(),
        record=(),
        configuration="",
        domains=[replace(make_page().domains[1], samples=())],
        card=replace(make_page().card, breaks=()),
        transfer=Transfer(0.3, math.nan, 0.0031, math.nan, math.nan, math.nan),
        duration=None,
    )
    document = Document(render_page(bare))
    headings = [text for tag, text in document.texts if tag == "h2"]
    assert headings == ["Accuracy by domain", "What breaks it", "Method"]
    assert "not that there is none" in document.text
    assert document.text.count("undefined") >= 4 and "nan" not in document.text


def test_several_domains_give_their_mean_and_their_worst() -> None:
    several = make_page(
        domains=[
            domain("a", "authorized", 0.9, 0.88),
            domain("b", "unauthorized", 0.8, 0.2, chance=0.1),
            domain("c", "unauthorized", 0.6, 0.1, chance=0.05),
        ],
        transfer=Transfer(2, 55, 0.022, 0.79, math.inf, 86.5, flags=["One sentence."]),
    )
    text = Document(render_page(several)).text.replace("\u00a0", " ")
    assert "mean accuracy on 2 domains, was 70.0 %: 55.0 points lost; highest is 20.0 %" in text
    assert "infinite" in text and "One sentence." in text
    assert "what guessing reaches ." in text or "what guessing reaches. " in text  # levels differ: no figure


def test_same_data_same_bytes(data: PageData, html: str) -> None:
    assert render_page(data) == html


def test_control_characters_and_lone_surrogates_do_not_break_the_file(tmp_path: Path) -> None:
    odd = "a\x00b\ud800c\nd"
    path = write_page(
        make_page(title=odd, domains=[domain(odd, "authorized", 0.9, 0.9)]), tmp_path / "p.html"
    )
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", text)


@pytest.mark.parametrize(
    ("identifier", "link"),
    [
        ("arXiv:1234.56789", "https://arxiv.org/abs/1234.56789"),
        ("doi:10.1007/s11263-025-02619-9", "https://doi.org/10.1007/s11263-025-02619-9"),
        ("10.1007/x", "https://doi.org/10.1007/x"),
        ("https://example.org/a", "https://example.org/a"),
        ("http://example.org", ""),
        ("javascript:alert(1)", ""),
        ("CVPR", ""),
    ],
)
def test_only_known_identifiers_become_links(identifier: str, link: str) -> None:
    assert page._link(identifier) == link


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def palettes() -> Iterator[dict[str, str]]:
    for block in re.findall(r":root \{(.*?)\}", CSS, re.S)[:2]:
        yield dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", block))


def test_text_has_contrast_in_light_and_dark() -> None:
    light, dark = palettes()
    assert light.keys() == dark.keys() and drawing.COLOURS.items() <= light.items()
    for palette in (light, dark):
        for name in ("ink", "muted", "authorized", "unauthorized"):
            for ground in ("paper", "raised"):
                pair = sorted((luminance(palette[name]), luminance(palette[ground])))
                assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (name, ground)


def test_written_whole_or_not_at_all(data: PageData, html: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(page, "render_page", lambda _: html)
    path = tmp_path / "page.html"
    assert write_page(data, str(path)) == path
    assert path.read_text(encoding="utf-8") == html
    path.write_text("older")

    for fault, expected in (
        (OSError(errno.ENOSPC, "No space left on device"), OutputError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ):

        def fail(_: int, fault: BaseException = fault) -> None:
            raise fault

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(expected):
            write_page(data, path)
        assert path.read_text() == "older"
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["absent/page.html", "folder", "x" * 300, "a\0b", "."])
def test_a_place_that_cannot_be_written(
    name: str, data: PageData, html: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(page, "render_page", lambda _: html)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="page cannot be written"):
        write_page(data, tmp_path / name)
    assert [p.name for p in tmp_path.rglob("*")] == ["folder"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda: Accuracy(0.5, 0.6, 0.7), "accuracy"),
        (lambda: Accuracy(95.0, 94.0, 96.0), "fractions"),
        (lambda: Accuracy(math.nan, 0.0, 1.0), "accuracy"),
        (lambda: domain("d", "source", 0.9, 0.9), "'authorized' or 'unauthorized'"),
        (lambda: replace(domain("d", "authorized", 0.9, 0.9), images=0), "domain 'd'"),
        (lambda: domain("d", "authorized", 0.9, 0.9, chance=10.0), "fraction"),
        (lambda: Layer("conv", 5, 4), "layer 'conv'"),
        (lambda: Layer("conv", 0, 0), "layer 'conv'"),
        (lambda: Curve("Loss", "train", [1, 2], [0.5]), "2 steps but 1 values"),
        (lambda: replace(learning(), attacked=()), "no attacker"),
        (lambda: replace(learning(), sizes=(10, 20)), "8 accuracies for 2 sizes"),
        (lambda: make_page(summary="One sentence."), "summary"),
    ],
)
def test_impossible_data_are_refused_by_name(fault, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fault()


def test_importing_is_light() -> None:
    code = "import sys, freehold.report; print([m for m in HEAVY if m in sys.modules])"
    heavy = "HEAVY = 'torch numpy matplotlib jinja2 PIL'.split(); "
    done = subprocess.run([sys.executable, "-c", heavy + code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_learning_curves_are_drawn_shaded_and_the_worst_stands_first() -> None:
    html = render_page(make_page())
    assert html.index("norms reset") < html.index("zeros kept")
    drawings = re.findall(r'aria-label="Accuracy on digits after fine-tuning[^"]*"', html)
    assert len(drawings) == 2 and "norms reset: from 48.0" in drawings[0]
    assert "\u22120.210" in html and "+0.300" in render_page(make_page(learning=[learning(0.3)]))
    svg = curves.learning(learning(), width=760, key="k")
    assert svg.count("var(--unauthorized") and svg.count("var(--authorized")  # both sides of the reference


def test_made_up_images_are_shown_and_sections_without_content_are_not() -> None:
    shown = render_page(make_page())
    assert 'id="gallery"' in shown and "Synthetic images in the place of the source, image 12" in shown
    bare = render_page(make_page(gallery={}, learning=(), domains=()))
    for section in ("gallery", "learning", "accuracy", "samples"):
        assert f'id="{section}"' not in bare
    Document(bare)
