"""Other readings of a text know where their bytes stand."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, unquote

from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.text import secret_views

VISIBLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=24, max_size=200)


def covered(view: secret_views.View, data: bytes, start: int, end: int) -> bytes:
    return b"".join(data[low:high] for low, high in view.to_source(start, end))


@given(VISIBLE, st.data())
@settings(max_examples=100, deadline=None)
def test_base64_is_read_and_found_again(text: str, draw: st.DataObject) -> None:
    coded = base64.b64encode(text.encode())
    data = b"x = '" + coded + b"'"
    (view,) = secret_views.base64_views(data, [(5, 5 + len(coded.rstrip(b"=")))], secret_views.Room.of(0))
    assert view.data.decode() == text
    start = draw.draw(st.integers(0, len(text) - 1))
    end = draw.draw(st.integers(start + 1, len(text)))
    source = covered(view, data, start, end)
    low = coded.find(source)
    assert 0 <= low <= start * 4 // 3
    padded = source + b"=" * (-len(source) % 4)
    assert text[start:end] in base64.b64decode(padded).decode()


def test_base64_may_begin_behind_other_characters() -> None:
    coded = base64.b64encode(b"password=something-long").rstrip(b"=")
    data = b"ab/" + coded
    (view,) = secret_views.base64_views(data, [(0, len(data))], secret_views.Room.of(0))
    assert view.data == b"password=something-long"
    assert covered(view, data, 0, 3) == coded[:4]


def test_lines_of_base64_are_read_as_one() -> None:
    data = base64.encodebytes(b"0123456789" * 12)
    places, at = [], 0
    for line in data.splitlines():
        places.append((at, at + len(line.rstrip(b"="))))
        at += len(line) + 1
    (view,) = secret_views.base64_views(data, places, secret_views.Room.of(0))
    assert view.data == b"0123456789" * 12


def test_bytes_that_are_no_text_are_no_reading() -> None:
    coded = base64.b64encode(bytes(range(128, 200)))
    assert list(secret_views.base64_views(coded, [(0, len(coded))], secret_views.Room.of(0))) == []


@given(VISIBLE)
@settings(max_examples=100, deadline=None)
def test_hexadecimal_is_read_and_found_again(text: str) -> None:
    data = text.encode().hex().encode()
    (view,) = secret_views.hex_views(data, [(0, len(data))])
    assert view.data.decode() == text
    assert covered(view, data, 3, 7) == data[6:14]


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
def test_escapes_of_json_are_read(text: str) -> None:
    data = json.dumps(text)[1:-1].encode()
    view = next(iter(secret_views.rewritten(data)), None)
    if b"\\" in data and not any(0x10000 <= ord(c) for c in text):
        assert view is not None
        assert text in view.data.decode() or "\n" in text


@given(st.text(st.characters(min_codepoint=33, max_codepoint=0x7FF), min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_escapes_of_urls_are_read(text: str) -> None:
    data = quote(text, safe="").encode()
    view = next(iter(secret_views.rewritten(data)), None)
    if b"%" in data:
        assert view is not None
        assert view.data.decode() == unquote(data.decode())


def test_only_the_lines_with_escapes_are_read_again() -> None:
    data = b"plain\n" * 50 + b"a\\tb\n" + b"plain\n" * 50
    (view,) = secret_views.rewritten(data)
    assert view.data == b"a\tb"
    assert view.to_source(0, 1) == [(300, 301)]
    assert view.to_source(0, 3) == [(300, 304)]
    assert view.is_disguised(1, 2)
    assert not view.is_disguised(0, 1)


def test_a_string_over_lines_is_joined_with_its_places() -> None:
    data = b'x = ("abc"\n     "def")\n'
    view = secret_views.joined(data, data.index(b"abc"))
    assert view is not None
    assert view.data.startswith(b"abcdef")
    assert [data[low:high] for low, high in view.to_source(0, 6)] == [b"abc", b"def"]
