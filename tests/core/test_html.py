import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from apprentice.core.html import Page, chart_svg

SPEC: dict[str, Any] = {
    "data": {"values": [{"step": i, "loss": 3 - i / 10} for i in range(10)]},
    "mark": "line",
    "encoding": {"x": {"field": "step", "type": "quantitative"}, "y": {"field": "loss", "type": "quantitative"}},
}
PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</pre></style><iframe src=javascript:alert(1)>",
    "' onmouseover='alert(1)",
    "\x1b[31mred\x1b[0m \u202egnp.exe \x00",
)


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(page: Page) -> Reader:
    reader = Reader()
    reader.feed(page.render())
    return reader


def full_page(text: str) -> Page:
    page = Page(text).heading(text, 3).paragraph(text).facts({text: text}).table([[text, 1]], [text, "n"])
    page.code(text).diff(text, text + "new").columns({text: text})
    return page.chart({**SPEC, "title": text}, caption=text)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_becomes_markup(payload: str) -> None:
    hostile, harmless = read(full_page(payload)), read(full_page("plain"))
    assert hostile.tags == harmless.tags
    assert hostile.attributes == harmless.attributes
    shown = "".join(hostile.texts)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", shown)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_chart_shows_hostile_text_as_text(payload: str) -> None:
    values = [{"step": payload, "loss": 1}]
    x = {"field": "step", "type": "nominal"}
    spec = {**SPEC, "data": {"values": values}, "encoding": {**SPEC["encoding"], "x": x}}
    svg = chart_svg(spec)
    assert not re.search("<script|<img|<iframe|<foreignObject|[\x00\x1b\u202e]", svg)


def test_the_page_forbids_scripts_and_requests_and_has_none(tmp_path: Path) -> None:
    page = full_page("plain")
    page.save(tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in text
    assert "script" not in read(page).tags
    assert re.findall(r"(?:src|href)=\"(?!data:image/svg)", text) == []


def test_a_chart_is_the_same_each_time_and_brings_its_data() -> None:
    assert chart_svg(SPEC) == chart_svg(SPEC)
    assert chart_svg(SPEC).startswith("<svg")
    with pytest.raises(ValueError, match="brings its data"):
        chart_svg({**SPEC, "data": {"url": "/etc/passwd"}})


def test_a_chart_is_an_image_with_words_for_those_who_do_not_see_it() -> None:
    text = Page("t").chart(SPEC, caption="loss falls").render()
    image = re.search(r'<img alt="loss falls" src="data:image/svg\+xml;base64,([^"]+)">', text)
    assert image
    assert base64.b64decode(image[1]).startswith(b"<svg")


def test_numbers_stand_to_the_right() -> None:
    text = Page("t").table([["base", "1.25", "[1.1, 1.4]"], ["tuned", "-0.5", ""]], ["arm", "bits", "interval"]).render()
    assert '<td>base</td><td class="number">1.25</td><td class="number">[1.1, 1.4]</td>' in text
    assert '<th>arm</th><th class="number">bits</th>' in text


def test_a_diff_marks_lines() -> None:
    text = Page("t").diff("a\nb", "a\nc").render()
    assert "  a\n<del>- b</del>\n<ins>+ c</ins>" in text
