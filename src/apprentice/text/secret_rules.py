"""Our own rules for secrets: vendors' key forms, values behind telling names, keys in PEM, passwords in URLs, tokens.

    bytes --Rules.find()--> Hits (start, end, kind)

One pass of an Aho-Corasick automaton finds anchors (`ghp_`, `password`, `://`, `-----begin`, ...); each leads to a
check of the few bytes around it. One pass of a regular expression finds long tokens; each is judged by its characters
and, where it can be decoded to text, its content is read too. So the cost is that of two scans, whatever the number of
rules. All patterns are bounded and start at a known place: hostile text costs linear time.

Left out on purpose: hashes, UUIDs and embedded data without a telling name, and names of variables, which are no
secrets. Kingfisher's rules, which `text.redaction` runs besides, cover the long tail of vendors.
"""

from __future__ import annotations

import base64
import binascii
import functools
import importlib.resources
import itertools
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from apprentice.text import secret_commands, secret_views
from apprentice.text.anchors import Anchors
from apprentice.text.secret_names import value_behind
from apprentice.text.secret_values import is_mixed_case, is_placeholder, looks_chosen, looks_random, made_of_words


class Hit(NamedTuple):
    """Bytes [start, end) that must not be written."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class _KeyForm:
    name: str
    pattern: re.Pattern[bytes]
    back: int
    group: int


_TOKEN_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-")
_IN_TOKENS = bytes(1 if byte in _TOKEN_BYTES else 0 for byte in range(256))
_LONG = b"\1" * 20
"""As long as a token is at least."""
_SHORT_LINE = re.compile(rb"[A-Za-z0-9+/_-]{1,60}={0,2}(?![A-Za-z0-9+/_-])")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}){12,}")
_URL_LOGIN = re.compile(rb"://([^\s/@:\"'<>`?#\\]{0,256}):([^\s/@\"'<>`?#\\][^\s@/\"'<>`\\]{0,512})@(?=[A-Za-z0-9\[$%{<])")
_URL_CUT = re.compile(rb"://[^\s/@:\"'<>`?#\\]{0,256}:[^\s/@\"'<>`?#\\]{0,256}[\"'\\ +.&]{0,6}\r?\n")
_URL_TOKEN = re.compile(rb"://([A-Za-z0-9_.~-]{16,256})@")
_BEGIN = re.compile(rb"-----BEGIN[ ]?(?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----", re.IGNORECASE)
_PUBLIC = re.compile(rb"-----BEGIN[ ]?(?:[A-Z0-9]+ ){0,4}(?:CERTIFICATE|PUBLIC KEY|SIGNATURE|MESSAGE|REQUEST|CRL|PARAMETERS)")
_END = re.compile(rb"-----END[ A-Z0-9]{0,40}-----", re.IGNORECASE)
_KEY_LINE = re.compile(rb"[^\n]{0,40}?[A-Za-z0-9+/=]{16,}[^\n]{0,12}(?:\n|\Z)|[^\nA-Za-z]{0,40}\n|[^\n]{0,8}[A-Za-z-]+: [^\n]*\n")
_KEY_CHARS = re.compile(rb"[A-Za-z0-9._~+/=-]*")
_MAX_KEY_BYTES = 32_768
_PUTTY = re.compile(rb"private-lines: *(\d{1,3})[\r\n]", re.IGNORECASE)
_SCHEME = re.compile(rb"(?i:bearer|basic|token|digest|apikey|negotiate)[ \t]+(?:[A-Za-z]+[ \t]+)?([A-Za-z0-9._~+/=:-]{8,4096})")
_JWK_PART = re.compile(rb"\\?[\"'](?:d|p|q|dp|dq|qi|k)\\?[\"']\s*:\s*\\?[\"']([A-Za-z0-9_-]{16,})")
_PGPASS = re.compile(rb":(?:[0-9]{2,5}|\*):[^:\s\"']{1,64}:[^:\s\"']{1,64}:([^\s\"'\\]{3,256})")
_PGPASS_HOST = re.compile(rb"(?:^|[\s=+<>\"'-]|\\n)(?:[\w-]+(?:\.[\w-]+)*|\*)\Z")
_NO_SECRET_AHEAD = re.compile(
    rb"(?i)(?:(?:sha|md|blake|crc)[0-9][0-9a-z_]{0,6}[-:= ]\\?[\"']?|\bh1:|base64,|ssh-(?:rsa|dss|ed25519) |ecdsa-sha2-nistp[0-9]+ )\Z"
)
_DATA = (b"iVBORw0KGgo", b"R0lGOD", b"/9j/4", b"UklGR", b"d09GR", b"d09GMg", b"/nix/store/")
"""How images and fonts in base64 begin, and paths with a digest."""
_AGE_RECIPIENT = re.compile(rb"age1[a-z0-9]{58}")
_MAX_DATA_LINES = 8
_FILE_ENDING = re.compile(rb"\.[a-z][a-z0-9]{1,4}\b")
_ASSIGNED = re.compile(rb"[ \t]{0,8}[=:][ \t]{0,8}[^\s=]")
_DIGEST = re.compile(rb"(?i)sha[0-9]{1,3}-")
_GLANCE = 4096
"""Bytes that are unpacked to see whether there is text."""
MAX_BLOCK_BYTES = 1 << 20
"""Of wrapped base64 that is read as one."""
MAX_KEY_CHARS = 4096
"""Of a key that is looked at; what follows without a gap belongs to it."""
_SHORTEST_REST = 4
"""Of a key that goes on in the next line: fewer characters are worth nothing."""
MIN_URL_PASSWORD = 4
"""Shorter ones are examples of the syntax of URLs."""
_STRONG, _WEAK = 2, 1
_NAMES = {
    "password": _STRONG, "passwd": _STRONG, "passphrase": _STRONG, "passwort": _STRONG, "_pass": _STRONG, "-pass": _STRONG, "pwd": _STRONG,
    "secret": _STRONG, "api_key": _STRONG, "apikey": _STRONG, "api-key": _STRONG, "api key": _STRONG,
    "access_key": _STRONG, "accesskey": _STRONG, "access-key": _STRONG, "private_key": _STRONG, "privatekey": _STRONG,
    "private-key": _STRONG, "signing_key": _STRONG, "encryption_key": _STRONG, "master_key": _STRONG, "signingkey": _STRONG,
    "encryptionkey": _STRONG, "masterkey": _STRONG, "signing-key": _STRONG, "encryption-key": _STRONG, "master-key": _STRONG,
    "credential": _STRONG, "access_token": _STRONG, "accesstoken": _STRONG, "access-token": _STRONG,
    "auth_token": _STRONG, "authtoken": _STRONG, "auth-token": _STRONG, "refresh_token": _STRONG,
    "token": _WEAK, "_auth": _WEAK, "auth_": _WEAK, '"auth"': _WEAK, "_key": _WEAK, "-key": _WEAK, "authorization": _WEAK,
    "cookie": _WEAK, "session_id": _WEAK, "sessionid": _WEAK, "_pat": _WEAK, "_sid": _WEAK, "_dsn": _WEAK, "salt": _WEAK,
    "webhook": _WEAK, "_cred": _WEAK, "passcode": _STRONG, "jwt": _WEAK, "license_key": _STRONG, "otp": _WEAK,
}


_Check = Callable[[bytes, int, int], Iterator[Hit]]
"""(data, anchor's start, anchor's end) -> hits."""


class Rules:
    """Stateless once built; safe to share between threads."""

    def __init__(self) -> None:
        anchors: dict[str, list[_Check]] = {}
        for anchors_of_form, form in _key_forms():
            for anchor in anchors_of_form:
                anchors.setdefault(anchor, []).append(functools.partial(_key, form))
        for name, strength in _NAMES.items():
            anchors.setdefault(name, []).append(functools.partial(_named, strength == _STRONG, _kind_of(name)))
        anchors.setdefault("pass", []).append(_ends_in_pass)
        for anchor, find in secret_commands.ANCHORS.items():
            anchors.setdefault(anchor, []).append(functools.partial(_said, find))
        anchors.setdefault("://", []).append(_url)
        anchors.setdefault("-----begin", []).append(_pem)
        anchors.setdefault("private-lines:", []).append(_putty)
        anchors.setdefault('kty', []).append(_jwk)
        for scheme in ("bearer ", "basic ", "token "):
            anchors.setdefault(scheme, []).append(_scheme)
        self._anchors = Anchors({anchor.encode(): tuple(checks) for anchor, checks in anchors.items()})

    def find(self, data: bytes) -> list[Hit]:
        """Everything in `data` as it stands, in no order, overlaps included."""
        hits: list[Hit] = []
        covered: dict[_Check, int] = {}
        for start, end, checks in self._anchors.find(data):
            for check in checks:
                # Anchors inside what the same rule has found already: repeated ones must not cost a search each.
                if end > covered.get(check, 0):
                    found = list(check(data, start, end))
                    hits += found
                    covered[check] = max((hit.end for hit in found), default=0)
        hits.extend(Hit(*match.span(1), "password") for match in _PGPASS.finditer(data) if _is_pgpass(data, match))
        return hits

    def tokens(self, data: bytes) -> list[tuple[int, int]]:
        """Long stretches of the characters that keys are made of, with up to two `=` behind them."""
        # Five times as fast as a regular expression: `find` leaps.
        marks = data.translate(_IN_TOKENS)
        found: list[tuple[int, int]] = []
        start = marks.find(_LONG)
        while start >= 0:
            end = marks.find(0, start)
            end = len(data) if end < 0 else end
            start += data[start - 1 : start] == b"\\"  # the letter of an escape such as `\n`
            padding = data[end : end + 2]
            found.append((start, end + len(padding) - len(padding.lstrip(b"="))))
            start = marks.find(_LONG, end)
        return found

    def judge_tokens(self, data: bytes, tokens: list[tuple[int, int]]) -> list[Hit]:
        """The tokens that are random, outside embedded data, digests and public keys."""
        hits = []
        public: list[tuple[int, int]] | None = None
        for index, (start, end) in enumerate(tokens):
            token = data[start:end]
            if end - start > 200 or token.isalpha() or (token.islower() and end - start < 30) or not _is_random_token(token):
                continue
            if _NO_SECRET_AHEAD.search(data, max(0, start - 24), start) or _DIGEST.match(token):
                continue
            if token.startswith(_DATA) or _AGE_RECIPIENT.fullmatch(token) or _in_data_block(data, tokens, index):
                continue
            if _says_something(data, start, end) or (b"/" in token and _FILE_ENDING.match(data, end)):
                continue
            public = public if public is not None else _public_regions(data)
            if not any(low <= start < high for low, high in public):
                hits.append(Hit(start, end, "token"))
        return hits


def decoded_views(data: bytes, tokens: list[tuple[int, int]], room: secret_views.Room) -> Iterator[secret_views.View]:
    """What base64 and hexadecimal in these tokens says, lines of one block read together."""
    tokens = [(start + 2 * (data[start : start + 2] in (b"0x", b"0X")), end) for start, end in tokens]
    coded = [place for place in tokens if not data[slice(*place)].islower() or _HEX.fullmatch(data, *place)]
    for block in _blocks(data, coded):
        # The last line of a wrapped text may be too short for a token, or be something else.
        last = _last_line(data, block)
        views = list(_block_views(data, [*block, last], room)) if last is not None and _fits(data, block, last) else []
        yield from views or _block_views(data, block, room)


def _block_views(data: bytes, block: list[tuple[int, int]], room: secret_views.Room) -> Iterator[secret_views.View]:
    text = b"".join(data[start:end] for start, end in block)
    if len(text) >= 24 and _HEX.fullmatch(text.rstrip(b"=")[: len(text) // 2 * 2]):
        yield from secret_views.hex_views(data, block)
    elif len(text) >= 20 and not (text.islower() or text.isupper() or text.isdigit()):
        yield from secret_views.base64_views(data, block, room)


def _blocks(data: bytes, tokens: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    block: list[tuple[int, int]] = []
    size = 0
    for start, end in tokens:
        if block and (size > MAX_BLOCK_BYTES or not _is_joined(data, block[-1][1], start)):
            yield block
            block = []
            size = 0
        block.append((start, end))
        size += end - start
    if block:
        yield block


def _is_joined(data: bytes, end: int, start: int) -> bool:
    return start - end <= 48 and b"\n" in data[end:start] and secret_views.JOIN.fullmatch(data, end, start) is not None


def _fits(data: bytes, block: list[tuple[int, int]], last: tuple[int, int]) -> bool:
    """Digits of base64 come in fours, of hexadecimal in twos."""
    length = sum(end - start for start, end in (*block, last))
    return length % 4 == 0 or (length % 2 == 0 and _HEX.fullmatch(data, *block[-1]) is not None)


def _last_line(data: bytes, block: list[tuple[int, int]]) -> tuple[int, int] | None:
    start, end = block[-1]
    gap = secret_views.JOIN.match(data, end) if end - start >= 40 and data[end - 1 : end] != b"=" else None
    rest = _SHORT_LINE.match(data, gap.end()) if gap is not None else None
    return rest.span() if rest is not None else None


def _is_random_token(token: bytes) -> bool:
    if b"-" not in token and b"_" not in token and looks_random(token):
        return not made_of_words(token)
    # Names and paths have separators; a key among them, or one in URL-safe base64, has a long piece without any.
    parts = re.split(rb"[/_-]", token)
    return any(looks_random(part, shortest=16) and not made_of_words(part) for part in parts if len(parts) > 1)


def _in_data_block(data: bytes, tokens: list[tuple[int, int]], index: int) -> bool:
    """Whether it is a line of a wrapped file: three lines at least, all but the last of one length, or an image above."""
    first = last = index
    while first > max(0, index - 3) and _is_next_line(data, tokens[first - 1], tokens[first]):
        first -= 1
    while last + 1 < min(len(tokens), index + 4) and _is_next_line(data, tokens[last], tokens[last + 1]):
        last += 1
    above = index
    while above > max(0, index - _MAX_DATA_LINES):
        end, start = tokens[above - 1][1], tokens[above][0]
        if start != end and not _is_line_break(data, end, start):
            break
        above -= 1
        if data.startswith(_DATA, tokens[above][0]):
            return True
    lengths = {end - start for start, end in tokens[first:last]}
    return last - first >= 2 and len(lengths) == 1 and lengths.pop() >= 40


def _is_line_break(data: bytes, start: int, end: int) -> bool:
    """Whether one line ends between these places, or would in the text that a string says."""
    return end - start <= 80 and (data.count(b"\n", start, end) == 1 or (data.count(b"\\n", start, end) == 1 and b"\n" not in data[start:end]))


def _is_next_line(data: bytes, above: tuple[int, int], below: tuple[int, int]) -> bool:
    gap = below[0] - above[1]
    return 0 < gap <= 80 and _is_line_break(data, above[1], below[0]) and above[1] - above[0] >= below[1] - below[0]


def _says_something(data: bytes, start: int, end: int) -> bool:
    """Whether it is text in base64, which is searched on its own."""
    return any(True for _ in secret_views.base64_views(data, [(start, end)], secret_views.Room(_GLANCE)))


def _public_regions(data: bytes) -> list[tuple[int, int]]:
    regions = []
    for match in _PUBLIC.finditer(data):
        end = _END.search(data, match.end(), match.end() + _MAX_KEY_BYTES)
        regions.append((match.start(), end.end() if end else match.end()))
    return regions


def _key(form: _KeyForm, data: bytes, start: int, end: int) -> Iterator[Hit]:
    for at in range(max(0, start - form.back), start + 1):
        if at > 0 and data[at - 1 : at].isalnum() and form.group == 0:
            continue
        match = form.pattern.match(data, at, at + MAX_KEY_CHARS)
        if match is not None and match.end() < end:
            continue
        at_line_end = match is None or data[match.end() : match.end() + 24].lstrip(b" \t\r\"'`\\,+.&;)n")[:1] in (b"\n", b"")
        if at_line_end:
            yield from _key_over_lines(form, data, at, is_whole=match is not None)
        if match is not None and not is_placeholder(match[form.group]):
            high = match.end(form.group)
            if high - at >= MAX_KEY_CHARS:
                rest = _KEY_CHARS.match(data, high, high + _MAX_KEY_BYTES)
                high = rest.end() if rest else high
            yield Hit(match.start(form.group), high, form.name)
            return


def _key_over_lines(form: _KeyForm, data: bytes, start: int, *, is_whole: bool) -> Iterator[Hit]:
    """The key with its rest in the next lines. `is_whole`: its first line alone would do."""
    view = secret_views.joined(data, start)
    found: list[tuple[int, int]] = []
    if view is None:
        return
    for first, end in itertools.pairwise([*view.starts[1:], len(view.data)]):
        match = form.pattern.match(view.data, 0, end)
        if match is None or match.end(form.group) <= first:
            if found:
                break
            continue
        places = view.to_source(*match.span(form.group))
        # A pattern without a fixed length would run on into whatever word begins the next line.
        if (is_whole or found) and not _goes_on(data, *places[-1]):
            break
        found = places
    yield from (Hit(low, high, form.name) for low, high in found)


def _goes_on(data: bytes, low: int, high: int) -> bool:
    """Whether a piece at the beginning of a line looks like the rest of a key."""
    piece, behind = data[low:high], data[high : high + 1]
    if behind.isalnum() or behind in b"_.(=: " or len(piece) < _SHORTEST_REST or b"=" in piece.rstrip(b"="):
        return False
    return (piece.isupper() and len(piece) >= 8) or _has_digit_and_letter(piece) or is_mixed_case(piece)


def _kind_of(name: str) -> str:
    plain = re.sub("[^a-z]+", "-", name).strip("-")
    return "password" if plain.startswith(("pass", "pwd")) else plain


def _named(strong: bool, kind: str, data: bytes, start: int, end: int) -> Iterator[Hit]:
    for low, high in value_behind(data, start, end, strong=strong):
        yield Hit(low, high, kind)


def _ends_in_pass(data: bytes, start: int, end: int) -> Iterator[Hit]:
    """`dbpass`, `PostgresPass`; `_pass` has a rule of its own, and `pass`, `bypassed` are words."""
    if not data[start - 1 : start].isalnum() and _ASSIGNED.match(data, end):
        # `pass = ...` of a settings file: the word of programs has no value.
        yield from _named(True, "password", data, start, end)
    elif start > 0 and data[start - 1 : start].isalpha() and not (data[end : end + 1].isalnum() or data[end : end + 1] in (b"_", b"-")):
        yield from _named(data[start : start + 1] == b"P" and data[start - 1 : start].islower(), "password", data, start, end)


def _is_pgpass(data: bytes, match: re.Match[bytes]) -> bool:
    """`host:port:database:user:password`, which may stand in a string; addresses and places in files look like it, too."""
    value = match[1]
    host = _PGPASS_HOST.search(data, max(0, match.start() - 80), match.start())
    chosen = looks_chosen(value) or (len(value) >= 8 and b"/" not in value and _has_digit_and_letter(value))
    return host is not None and chosen and not re.fullmatch(rb"[0-9a-fA-F:./]+", value)


def _said(find: secret_commands.Find, data: bytes, start: int, end: int) -> Iterator[Hit]:
    for low, high, kind in find(data, start, end):
        yield Hit(low, high, kind)


def _url(data: bytes, start: int, end: int) -> Iterator[Hit]:
    match = _URL_LOGIN.match(data, start)
    if match is not None:
        value = match[2]
        if len(value) >= MIN_URL_PASSWORD and not is_placeholder(value) and not value.startswith((b"$", b"{", b"<", b"%(", b"%s", b"[", b"*")):
            yield Hit(*match.span(2), "password-in-url")
        return
    if _URL_CUT.match(data, start) and (view := secret_views.joined(data, start, max_lines=2)) is not None:
        for hit in _url(view.data.replace(b"\n", b" "), 0, 0):
            yield from (Hit(*place, hit.kind) for place in view.to_source(hit.start, hit.end))
        return
    match = _URL_TOKEN.match(data, start)
    if match is not None and (looks_random(match[1], shortest=16) or re.fullmatch(rb"[0-9a-f]{20,}", match[1])):
        yield Hit(*match.span(1), "token-in-url")


def _pem(data: bytes, start: int, end: int) -> Iterator[Hit]:
    begin = _BEGIN.match(data, start)
    if begin is None:
        return
    finish = _END.search(data, begin.end(), begin.end() + _MAX_KEY_BYTES)
    following = data.find(b"-----BEGIN", begin.end(), begin.end() + _MAX_KEY_BYTES)
    if finish is not None and (following < 0 or finish.start() < following):
        body = data[begin.end() : finish.start()]
        if len(re.sub(rb"[^A-Za-z0-9+/]", b"", body)) >= 16:
            yield Hit(begin.start(), finish.end(), "private-key")
        return
    at = data.find(b"\n", begin.end(), begin.end() + 200) + 1
    first = at
    while at and at - begin.end() < _MAX_KEY_BYTES and (line := _KEY_LINE.match(data, at)) and line.end() > at:
        at = line.end()
    if at > first:
        yield Hit(begin.start(), at - (data[at - 1 : at] == b"\n"), "private-key")
    elif (rest := re.compile(rb"[A-Za-z0-9+/=\\nr\s]{40,}").match(data, begin.end())) is not None:
        yield Hit(begin.start(), rest.end(), "private-key")


def _putty(data: bytes, start: int, end: int) -> Iterator[Hit]:
    match = _PUTTY.match(data, start)
    if match is None:
        return
    at = match.end()
    for _ in range(int(match[1])):
        at = data.find(b"\n", at) + 1 or len(data)
    yield Hit(match.end(), at - (data[at - 1 : at] == b"\n"), "private-key")


def _jwk(data: bytes, start: int, end: int) -> Iterator[Hit]:
    # A key has one such word: what stands behind another is not its part.
    low = max(data.rfind(b"{", max(0, start - 4096), start), data.rfind(b"kty", max(0, start - 4096), start), start - 4096, 0)
    ends = [at for at in (data.find(b"}", end, end + 4096), data.find(b"kty", end, end + 4096)) if at >= 0]
    for match in _JWK_PART.finditer(data, low, min([*ends, len(data), end + 4096])):
        yield Hit(*match.span(1), "private-key")


def _scheme(data: bytes, start: int, end: int) -> Iterator[Hit]:
    match = _SCHEME.match(data, start)
    if match is None or (data[start : start + 5].lower() == b"token" and b"uthorization" not in data[max(0, start - 24) : start]):
        return
    value = match[1].strip(b":=.") or match[1]
    if data[start : start + 5].lower() == b"basic":
        login = _decoded(match[1])
        if b":" in login:
            if not is_placeholder(login.partition(b":")[2]):
                yield Hit(*match.span(1), "authorization")
            return
    if looks_random(value, shortest=16) or (looks_chosen(value, shortest=12) and _has_digit_and_letter(value)):
        yield Hit(*match.span(1), "authorization")


def _decoded(value: bytes) -> bytes:
    try:
        return base64.b64decode(value.rstrip(b"=") + b"=" * (-len(value.rstrip(b"=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _has_digit_and_letter(value: bytes) -> bool:
    return bool(re.search(rb"\d", value) and re.search(rb"[A-Za-z]", value))


@functools.cache
def _key_forms() -> tuple[tuple[list[str], _KeyForm], ...]:
    text = importlib.resources.files("apprentice.text").joinpath("vendor_keys.toml").read_text(encoding="utf-8")
    forms = []
    for row in tomllib.loads(text)["key"]:
        pattern = re.compile(row["pattern"].encode())
        forms.append((row["anchors"], _KeyForm(row["name"], pattern, row.get("back", 0), int(row.get("group", False)))))
    return tuple(forms)
