"""Pages that link to each other, and what hostile text may not do to them."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest

from apprentice.core.linked import MAX_CELL, MAX_CHARS, MAX_ROWS, Link, LinkedPage, paged

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=y>\"'\x1b[31m\u202e\x00"


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[tuple[str, str]] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {(tag, name) for name, _ in attrs}


def read(page: LinkedPage) -> Reader:
    reader = Reader()
    reader.feed(page.render())
    return reader


def full(text: str) -> LinkedPage:
    page = LinkedPage(text).links([Link(text, "index.html")]).rows([[text, Link(text, "a-1.html")]], [text])
    return page.text(text).changes(text, "new").shades([(text, -1.0), (text, float("-inf")), ("", 0.0)])


def test_no_text_becomes_markup() -> None:
    hostile, harmless = read(full(HOSTILE)), read(full("plain"))
    assert hostile.tags == harmless.tags
    assert hostile.attributes == harmless.attributes
    assert not {"script", "img", "iframe"} & set(hostile.tags)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", full(HOSTILE).render())


def test_the_policy_allows_no_script_request_base_or_form() -> None:
    text = full("default-src 'none'; style-src 'unsafe-inline'; img-src data:").render()
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    assert policy[1] == "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert text.count("base-uri") == 1


@pytest.mark.parametrize("address", ["javascript:alert(1)", "https://x.html", "../a.html", "a.html#x", "", "A.html", "a/b.html", 'x".html'])
def test_an_address_is_a_page_beside_this_one(address: str) -> None:
    with pytest.raises(ValueError, match="no page beside this one"):
        LinkedPage("t").links([Link("x", address)])


def test_a_long_table_is_spread_over_pages_that_lead_to_each_other() -> None:
    pages = dict(paged("list", "t", "i", [[str(number)] for number in range(2 * MAX_ROWS + 1)], ["n"], [Link("home", "index.html")]))
    assert list(pages) == ["list.html", "list-2.html", "list-3.html"]
    texts = [page.render() for page in pages.values()]
    assert [text.count("<td>") for text in texts] == [MAX_ROWS, MAX_ROWS, 1]
    assert re.findall('href="([^"]+)"', texts[1]) == ["index.html", "list.html", "list.html", "list-3.html", "list-3.html"]
    assert list(dict(paged("empty", "t", "i", [], ["n"], []))) == ["empty.html"]


def test_long_texts_are_cut_and_say_so() -> None:
    page = full("x" * 1_000_000).render()
    assert len(page) < 5 * MAX_CHARS
    assert f"({1_000_000 - MAX_CHARS:,} more characters)" in page
    assert "x" * (MAX_CELL + 1) not in LinkedPage("t").rows([["x" * 1_000_000]], ["n"]).render()
    assert LinkedPage("t").text("begin " + "x" * MAX_CHARS + " end", end=True).render().find("begin") < 0


@pytest.mark.parametrize("lines", [["a"] * 20_000, ["ab" * (i % 3) for i in range(9_000)], [str(i) for i in range(9_000)]])
def test_a_comparison_takes_no_time(lines: list[str]) -> None:
    start = time.process_time()
    LinkedPage("t").changes("\n".join(lines), "\n".join(lines[::-1]) + "x")
    assert time.process_time() - start < 2


def test_a_comparison_shows_what_went_and_came() -> None:
    assert "<pre>  a\n<del>- b</del>\n<ins>+ c</ins>\n  d</pre>" in LinkedPage("t").changes("a\nb\nd", "a\nc\nd").render()


def test_the_less_likely_the_darker() -> None:
    text = LinkedPage("t").shades([("sure", 0.0), ("half", -0.6931471805599453), ("never", -100.0)]).render()
    assert re.findall(r"rgba\(207,34,46,([0-9.]+)\)\" title=\"([0-9.-]+) bits\">(\w+)", text) == [
        ("0.00", "0.00", "sure"), ("0.05", "1.00", "half"), ("0.60", "144.27", "never"),
    ]  # fmt: skip
