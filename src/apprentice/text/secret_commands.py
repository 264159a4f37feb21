"""Secrets that no name introduces: in commands (`curl -u`, `mysql -p`), in SQL, in cookies, in plain words.

    (bytes, place of an anchor) --ANCHORS[anchor]--> ranges and kinds

An anchor is a word that leads to few places (`sshpass`, `sess`); the forms behind it are those that the programs document.
A value in plain words must look chosen (`the password is Xy7!...`), for people write much about passwords.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from apprentice.text.secret_values import is_placeholder, looks_chosen, looks_drawn, looks_random

Find = Callable[[bytes, int, int], Iterator[tuple[int, int, str]]]
"""(data, anchor's start, anchor's end) -> (start, end, kind)."""
_VALUE = rb"(?:'([^'\n]{3,256})'|\"([^\"\n]{3,256})\"|\\\"([^\"\\\n]{3,256})\\\"|([^\s'\"\\;|<>]{3,256}))"
_TO_OPTION = rb"(?:[^\n|;&]{0,300}?[ \t])??"
_LOGIN = re.compile(_TO_OPTION + rb"(?:-u|-U|--user|--proxy-user)[ \t=]{0,2}\\?['\"]?[\w.@+-]{1,64}:([^\s'\"\\`]{3,256})")
_MYSQL = re.compile(_TO_OPTION + rb"-p" + _VALUE)
_SSHPASS = re.compile(rb"[ \t]+-p[ \t]*" + _VALUE)
_SPACED = re.compile(_TO_OPTION + rb"(?:-p|-a|-w|--pass)[ \t]+" + _VALUE)
_PASS = re.compile(rb"([^\s'\"\\;|<>:`]{4,256})")
_SQL = re.compile(rb"(?i)[ \t]+(?:AS[ \t]+)?\\?'([^'\n]{3,256})'")
_PLAIN = re.compile(rb"(?i)(?:[ \t]+(?:for|of)[ \t]+[\w.@-]{1,40}){0,2}[ \t]+(?:is|was)(?:[ \t]+now)?:?[ \t]+[\"'`(]?([^\s\"'`<>()]{6,128})")
_WITH = re.compile(rb"[ \t]+[\"'`]?([^\s\"'`<>()]{6,128})")
_DSN = re.compile(rb"[\w.-]{1,64}:([^\s:\"'`\\]{4,128})\Z")
_SESSION = re.compile(
    rb"(?i)sess(?:ion)?(?:[_-]?id|[_-]?token|[_-]?key)?\\?[\"']?(?:[ \t]{0,4}[:=,]|\t)[ \t]{0,4}\\?[\"']?(?:s(?:%3A|:))?([A-Za-z0-9_-]{16,512})((?:\.[A-Za-z0-9%+/_-]{6,256}){1,3})?"
)
_PAIR = re.compile(rb"([\w.$-]{1,64})=(?:s(?:%3A|:))?\"?([A-Za-z0-9%+/._~=-]{16,4096})")
_COOKIE = re.compile(rb"(?i)cookie[: ]")
_TELLING = re.compile(rb"(?i)sess|sid\Z|auth|token|jwt|csrf|xsrf|remember|login|identity|\bid\Z")


def _chosen(value: bytes, shortest: int = 5) -> bool:
    return not value.startswith((b"$", b"%", b"<", b"{")) and looks_chosen(value, shortest=shortest)


def _option(pattern: re.Pattern[bytes]) -> Find:
    def find(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, str]]:
        match = pattern.match(data, end)
        if match is not None:
            group = match.lastindex or 0
            if _chosen(match[group]):
                yield *match.span(group), "password"

    return find


def _url_login(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    """`curl -u name:password`."""
    match = _LOGIN.match(data, end)
    if match is not None and not match[1].startswith((b"$", b"{", b"<")) and not is_placeholder(match[1]):
        yield *match.span(1), "password"


def _in_words(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    """`the password for x is ...`, `with password ...`; `PASSWORD '...'` of SQL."""
    if data[end : end + 1] not in (b" ", b"\t"):
        return
    yield from _sql(data, start, end)
    match = _PLAIN.match(data, end)
    if match is None and re.search(rb"(?i)\bwith(?: the| this| its| my| your)?[ \t]+\Z", data[max(0, start - 16) : start]):
        match = _WITH.match(data, end)
    if match is None:
        return
    value = match[1].rstrip(b".,;:!?") or match[1]
    if _chosen(value, 8) and re.search(rb"[0-9]", value) and re.search(rb"[A-Za-z]", value) and not re.fullmatch(rb"\w+\.\w+|v?[0-9]+(?:\.[0-9]+)+\w*", value):
        # A sign at the end may belong to it.
        yield match.start(1), match.end(1) - (data[match.end(1) - 1 : match.end(1)] in (b".", b",")), "password"


def _sql(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    """`ALTER USER x WITH PASSWORD '...'`."""
    match = _SQL.match(data, end)
    if match is not None and _chosen(match[1], 6):
        yield *match.span(1), "password"


def _dsn(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    """`name:password@tcp(host:3306)/database` of Go."""
    match = _DSN.search(data, max(0, start - 200), start)
    if match is not None and not is_placeholder(match[1]) and not match[1].startswith((b"%", b"$", b"{")):
        yield *match.span(1), "password"


def _session(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    match = _SESSION.match(data, start)
    # JSON in base64 that nobody signed is no id.
    if match is None or (match[1].startswith(b"eyJ") and not match[2]):
        return
    if looks_drawn(match[1]) or looks_random(match[1], shortest=16):
        yield match.start(1), match.end(), "session"


def _cookies(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    """Pairs behind `Cookie:`, `Set-Cookie:`, `curl -b`."""
    stop = data.find(b"\n", end, end + 8192)
    stop = stop if stop >= 0 else min(len(data), end + 8192)
    # What stands behind the next such word is read from there.
    following = _COOKIE.search(data, end, stop)
    for match in _PAIR.finditer(data, end, following.start() if following is not None else stop):
        value = match[2]
        if (_TELLING.search(match[1]) and looks_drawn(value)) or looks_random(value, shortest=20):
            yield *match.span(2), "cookie"


ANCHORS: dict[str, Find] = {
    "curl ": _url_login, "wget ": _url_login, "sshpass": _option(_SSHPASS), "mysql": _option(_MYSQL), "mariadb": _option(_MYSQL),
    "redis-cli": _option(_SPACED), "docker login": _option(_SPACED), "podman login": _option(_SPACED), "helm registry login": _option(_SPACED),
    "ldapsearch": _option(_SPACED), "ldapmodify": _option(_SPACED), "pass:": _option(_PASS), "identified by": _sql, "password": _in_words, "passwort": _in_words, "passphrase": _in_words,
    "@tcp(": _dsn, "@unix(": _dsn, "sess": _session, "cookie:": _cookies, "cookie ": _cookies,
}  # fmt: skip
"""Word -> what to look for behind it."""
