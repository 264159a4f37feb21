"""The pages: whole, linked, harmless whatever the samples say, and no longer than they may be."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.learn.browse.conftest import HOSTILE, Make, row, rows

from apprentice.core.errors import InputError
from apprentice.core.linked import MAX_ROWS
from apprentice.core.progress import Silent
from apprentice.eval.samples import EDIT, LIKELIHOOD, LINE
from apprentice.learn.browse import site

TAGS = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "dl", "dt", "dd", "div", "table", "thead", "tbody", "tr", "th", "td", "pre",
    "ins", "del", "a", "span",
}  # fmt: skip
ATTRIBUTES = {"lang", "charset", "http-equiv", "content", "name", "class", "href", "style", "title"}


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    return reader


def browse(folder: Path, to: Path, **more: Any) -> site.Browsed:
    return site.write(folder, to, examples=folder.parent / "examples", progress=Silent(), **more)


def check(folder: Path) -> dict[str, Reader]:
    """No page has what may run or what asks for something; every link leads to a page; every page can be reached."""
    pages = {path.name: read(path) for path in folder.iterdir()}
    reached, waiting = set[str](), ["index.html"]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += pages[name].links
    assert reached == set(pages)
    for name, page in pages.items():
        assert page.open == [], name
        assert set(page.tags) <= TAGS, name
        assert page.attributes <= ATTRIBUTES, name
        assert page.tags.count("tr") <= MAX_ROWS + 1, name
        text = (folder / name).read_text(encoding="utf-8")
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", text), name
        assert 'content="default-src \'none\'; style-src \'unsafe-inline\'; base-uri \'none\'; form-action \'none\'"' in text, name
        assert not re.search(r"url\(|@import|https?://", text), name
    return pages


def test_every_sample_is_on_a_page_that_can_be_reached(make: Make, tmp_path: Path) -> None:
    done = browse(make("run", rows(4), count=4), tmp_path / "out")
    pages = check(tmp_path / "out")
    assert (done.places, done.samples, done.without_example, done.pages) == (12, 24, 0, len(pages))
    assert sum(name.startswith("sample-") for name in pages) == 12
    assert {"index.html", "commits.html", "commit-1.html", "commit-2.html", "line-1-wrong.html", "line-2-right.html", "edit-1.html", "likelihood-2.html"} <= set(pages)
    index = "".join(pages["index.html"].texts)
    for said in ("base", "2.000 bits per changed character", "1.900 bits per changed character", "0.0% exact", "100.0% exact", "all: 4", "right: 4", "wrong: 0"):
        assert said in index


def test_a_page_shows_what_was_asked_what_was_done_and_what_each_arm_said(make: Make, tmp_path: Path) -> None:
    browse(make("run", rows(1), count=1), tmp_path / "out", log_probs=lambda example: [("tok", -1.0), ("en", -9.0)])
    likelihood, line, edit = ("".join(read(tmp_path / "out" / f"sample-0000{n}.html").texts) for n in (1, 2, 3))
    assert "- old value 0\n+ new value 0\n+ more" in edit
    assert "- more" not in edit.split("tuned")[-1]
    assert "# value\nabove\n" in edit
    assert "token, by token" not in likelihood
    assert "token by token" in likelihood
    assert "new wrong" in line
    assert "- new value 0\n+ new wrong" in line
    assert "(the replacement does not start on a new line)\nvalue" in edit
    text = (tmp_path / "out" / "sample-00001.html").read_text()
    assert re.findall(r'title="([0-9.]+) bits">(\w+)<', text) == [("1.44", "tok"), ("12.98", "en")]


def test_lists_are_sorted_worst_first_and_filtered(make: Make, tmp_path: Path) -> None:
    made = [row(LINE, "a", number, text=f"t{number}", exact=number == 1, confidence=-float(number)) for number in range(3)]
    browse(make("run", made), tmp_path / "out")

    def said(name: str) -> list[str]:
        return [text for text in read(tmp_path / "out" / name).texts if re.fullmatch(r"t\d", text)]

    assert said("line-1.html") == ["t0", "t2", "t1"]
    assert said("line-1-right.html") == ["t1"]
    assert said("line-1-wrong.html") == ["t0", "t2"]


def test_two_evaluations_are_compared_where_both_answered(make: Make, tmp_path: Path) -> None:
    there = [one for one in rows(5, gain=2.0) if one.measure != EDIT or one.order > 0]
    there += [row(LIKELIHOOD, "tuned", 0, changed_bits=1.0, changed_chars=99), row(LINE, "new arm", 0)]
    there = [one for one in there if not (one.measure == LIKELIHOOD and one.arm == "tuned" and one.order == 0 and one.changed_chars == 10)]
    done = browse(make("run", rows(3)), tmp_path / "out", other=make("other", there, count=5))
    pages = check(tmp_path / "out")
    # 5 likelihoods, 3 lines that base got wrong, 4 edits.
    assert done.compared == {"better": 12, "worse": 0, "equal": 3, "not_comparable": 1, "only_there": 13}
    compare = "".join(pages["compare.html"].texts)
    assert "13 samples there have no counterpart here" in compare
    assert pages["compare-line-1-better.html"].tags.count("tr") == 4
    assert pages["compare-line-1-worse.html"].tags.count("tr") == 1
    sample = "".join(pages["sample-00004.html"].texts)
    assert "base, there" in sample
    assert "new arm, there" in sample


def test_hostile_samples_are_shown_as_text(make: Make, tmp_path: Path) -> None:
    made = rows(2, arms=(f"base{HOSTILE}", "tuned"), text=HOSTILE)
    made = [row(one.measure, one.arm, one.order, **{name: getattr(one, name) for name in ("text", "path", "exact", "confidence", "tokens", "changed_bits", "changed_chars", "delta_chrf")},
                version=HOSTILE, commit=f"{HOSTILE}{one.order}", error=HOSTILE if one.order else "") for one in made]  # fmt: skip
    browse(make("run", made, count=2, text=HOSTILE), tmp_path / "out", other=make("other", made, count=2, text=HOSTILE), log_probs=lambda example: [(HOSTILE, -1.0)])
    pages = check(tmp_path / "out")
    assert any("<script>alert(1)</script>" in text for page in pages.values() for text in page.texts)
    assert all(re.fullmatch(r"[a-z0-9-]+\.html", name) for name in pages)


def test_lines_of_a_megabyte_make_small_pages(make: Make, tmp_path: Path) -> None:
    long = "x<" * 500_000
    made = [row(measure, arm, 0, text=long, path=long, error="" if arm == "a" else long, commit=long) for measure in (LINE, EDIT) for arm in ("a", "b" + long)]
    browse(make("run", made, count=1, text=long), tmp_path / "out")
    check(tmp_path / "out")
    assert max(path.stat().st_size for path in (tmp_path / "out").iterdir()) < 1_500_000
    assert "more characters)" in (tmp_path / "out" / "sample-00001.html").read_text()


def test_no_page_has_more_rows_than_it_may(make: Make, tmp_path: Path) -> None:
    made = [row(LINE, "a", number, commit=f"c{number}") for number in range(2 * MAX_ROWS + 1)]
    made += [row(LIKELIHOOD, f"arm{number}", 0) for number in range(MAX_ROWS + 50)]
    done = browse(make("run", made, count=1), tmp_path / "out")
    pages = check(tmp_path / "out")
    assert {"line-1-3.html", "line-1-wrong-3.html", "commits-3.html", "index-2.html"} <= set(pages)
    assert done.without_example == 2 * MAX_ROWS
    assert "The examples do not have this place" in "".join(pages["sample-00003.html"].texts)


def test_a_folder_that_is_taken_is_left_alone(make: Make, tmp_path: Path) -> None:
    folder = make("run", rows(1), count=1)
    browse(folder, tmp_path / "out")
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    with pytest.raises(InputError, match="is there already"):
        browse(folder, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before
