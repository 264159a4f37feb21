"""Who wrote it: addresses, full names of a history's authors, phone numbers, user and host names. They are replaced, not counted on.

Known names come from the caller (the identities of a git history) and from the machine, so they are found exactly and
nothing is guessed from prose. Names of one word are left alone outside paths: half of them are words of programs. Phone
numbers are those of the international form, `+49 ...`; others are numbers like any.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from apprentice.text.anchors import Anchors

_LOCAL = re.compile(rb"(?:(?<![\w.+%/-])|(?<=\n[+-])|(?<=\A[+-]))[A-Za-z0-9][\w.+%-]{0,63}\Z")
_DOMAIN = re.compile(rb"@((?:[A-Za-z0-9-]{1,63}\.){1,6}([A-Za-z]{2,24}))(?![\w@-])")
_TOP_LEVEL = frozenset(
    b"com org net edu gov mil int info biz name dev app xyz online site tech cloud email systems software".split()
)
_NO_DOMAIN = frozenset(b"self cls np torch jnp tf math this super".split())
_NO_COUNTRY = frozenset(b"py js ts rs go md sh rb so cc hh jl ml vb kt pl pm hs ex cs fs pt".split())
"""Two letters that end file names more often than addresses (some are countries: addresses there are found if known)."""
_NO_PERSON = re.compile(
    rb"(?i)(?:[\w-]+\.)*(?:example|test|invalid|localhost)(?:\.\w+)?|(?:foo|bar|domain|company|host|server|email)\.(?:com|org|net)"
)
_LOGIN = rb"[A-Za-z0-9\x80-\xff][\w.\x80-\xff-]{0,63}"
_END = rb"(?=[/\\\s\"'`:;,)\]]|\Z)"
_HOMES = [
    *(re.compile(folder + rb"(" + _LOGIN + _END + rb")") for folder in (rb"/home/", rb"(?<!/[A-Za-z])/Users/")),
    # Names may have blanks on Windows: where a separator like the one in front follows, they belong to it.
    *(
        re.compile(folder + rb"(" + _LOGIN + rb"(?: [\w.\x80-\xff-]{1,32}){0,3}(?=" + end + rb")|" + _LOGIN + _END + rb")")
        for folder, end in (
            (rb"/[A-Za-z]/Users/", rb"/"), (rb":\\(?i:users)\\(?!\\)", rb"\\(?!\\)"), (rb":\\\\(?i:users)\\\\", rb"\\\\"),
        )
    ),
    # Claude Code calls the folder of a project by its whole way.
    re.compile(rb"projects[/\\]{1,2}(?:[A-Za-z]-)?-(?:home|Users)-([A-Za-z0-9\x80-\xff][\w.\x80-\xff]{0,63})(?:(?=-)|" + _END + rb")"),
]
_PHONE = re.compile(rb"\+[1-9][0-9]{0,14}+(?:(?:[ .-]|[ .-]?\(|(?<=\)))[0-9]{1,14}+\)?){0,6}(?![\w-]|\.[0-9])")
"""Each group of digits begins in one way only: a long row of digits must not be cut into groups in all ways there are."""
_COUNTRIES = re.compile(
    rb"1[2-9][0-9]{2}[2-9][0-9]{6}|(?:7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|2[1-69][0-9]|3[578][0-9]|42[0-9]"
    rb"|5[09][0-9]|6[7-9][0-9]|8[058][0-9]|9[679][0-9])[1-9][0-9]{7,11}"
)
_NO_PHONE = re.compile(rb"1[0-9]{3}555(?:01|1212)|123456|[0-9]*(?:00000|12345678)")
_CALLED = re.compile(rb"(?i)(?:phone|tel|mobile|cell|call|fax|pager|sms|whatsapp|signal|text|reach|ring|dial)[^\n]{0,24}\Z")
_NOBODY = frozenset(
    b"user username users runner ubuntu vagrant me you name shared public default root docker app vscode circleci travis "
    b"jovyan admin git guest test node build builder ci home runneradmin yourname foo bar alice bob someone".split()
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """Names that are certain."""

    names: frozenset[str] = frozenset()
    """Full names of people; those of one word are ignored."""
    emails: frozenset[str] = frozenset()
    logins: frozenset[str] = frozenset()
    """User names, replaced in paths of home folders."""
    hosts: frozenset[str] = frozenset()
    homes: frozenset[str] = frozenset()

    @classmethod
    def here(cls, identities: Iterable[tuple[str, str]] = ()) -> Known:
        """What this machine's user is called, and the (name, email) pairs of a history."""
        pairs = list(identities)
        return cls(
            names=frozenset(name for name, _ in pairs),
            emails=frozenset(email for _, email in pairs),
            logins=frozenset({_login()} - {""}),
            hosts=frozenset({socket.gethostname(), socket.gethostname().partition(".")[0]}),
            homes=frozenset({str(Path.home())}),
        )


class People:
    """Finds what names a person or a private machine."""

    def __init__(self, known: Known = Known()) -> None:
        words: dict[bytes, str] = {}
        for name in known.names:
            if len(name) >= 5 and " " in name.strip():
                words[_bytes(name)] = "person"
        for email in known.emails:
            if "@" in email.strip("@"):
                words[_bytes(email)] = "email"
        for host in known.hosts:
            if len(host) >= 6 and re.search(r"[\d.-]", host):
                words[_bytes(host)] = "host"
        for home in known.homes:
            if home.strip("/") not in ("", "root", "home", "tmp") and home.count("/") > 1:
                words[_bytes(home)] = "home"
        self._words = Anchors(words)
        self._nobody = _NOBODY - {login.encode() for login in known.logins if len(login) >= 3 and login != "root"}

    def find(self, data: bytes) -> Iterator[tuple[int, int, str]]:
        for start, end, kind in self._words.find(data):
            if not (_is_word(data[max(0, start - 1) : start]) or _is_word(data[end : end + 1])):
                yield start, end, kind
        if b"@" in data:
            for domain in _DOMAIN.finditer(data):
                local = _LOCAL.search(data, max(0, domain.start() - 65), domain.start())
                if local is not None and _is_address(local[0], domain[1], domain[2].lower()):
                    yield local.start(), domain.end(), "email"
        if b"+" in data:
            for match in _PHONE.finditer(data):
                if _is_phone(data, match):
                    yield *match.span(), "phone"
        for home in _HOMES:
            for match in home.finditer(data):
                if match[1].lower() not in self._nobody:
                    yield *match.span(1), "user"


def is_made_up(written: bytes, address: bytes) -> bool:
    """Whether what is an address only once it is decoded is a pattern for addresses, or a parser's test."""
    return b"\\." in written or address.partition(b"@")[0].lower() in _NOBODY


def _bytes(name: str) -> bytes:
    return name.strip().encode("utf-8", "replace")


def _is_word(byte: bytes) -> bool:
    return byte.isalnum() or byte >= b"\x80"


def _is_address(local: bytes, domain: bytes, top: bytes) -> bool:
    if top not in _TOP_LEVEL and (len(top) != 2 or (top in _NO_COUNTRY and domain.count(b".") < 2)):
        return False
    return not (local == b"git" or domain.split(b".")[0].lower() in _NO_DOMAIN or _NO_PERSON.fullmatch(domain))


def _is_phone(data: bytes, match: re.Match[bytes]) -> bool:
    """Digits in groups, or behind a word or a quote that makes them one: sums and marks of a diff look like it, too."""
    start = match.start()
    digits = re.sub(rb"[^0-9]", b"", match[0])
    if not _COUNTRIES.fullmatch(digits) or _NO_PHONE.match(digits):
        return False
    before = data[start - 1 : start]
    if start == 0 or before == b"\n" or before.isalnum() or before in (b"_", b"+", b"-", b".", b")", b"]"):
        return False
    if len(re.findall(rb"[ .()-]+", match[0])) >= 2:
        return True
    return before in (b'"', b"'", b":") or _CALLED.search(data, max(0, start - 32), start) is not None


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return os.environ.get("USER", "")
