"""Values behind telling names: `password = "..."`, `API_KEY=...`, `"token": "..."`, `--secret ...`, `<pwd>...</pwd>`.

A name alone is no proof, for programs are full of `token = tokens[i]` and `password: str`. So the value must be a
literal, and what a literal has to look like depends on how telling the name is (`secret` more than `key`), on what
follows it in the identifier (`token_type`, `password_field` tell nothing) and on where it stands: a line `NAME=value` of an
environment dump is believed sooner than an expression in code.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from apprentice.text.secret_values import changes_of_kind, is_mixed_case, is_placeholder, looks_chosen, looks_random

_MAX_NAME = 80
_MAX_BEFORE = 400
"""Of what stands in front of a name on its line."""
_NAME_TAIL = re.compile(rb"[\w-]{0,60}")
_TELLS_NOTHING = re.compile(
    rb"(?i)[_-]?(?:types?|names?|fields?|files?|filename|path|ur[il]s?|dir|id|ids|headers?|len|length|size|prefix|suffix|format|"
    rb"regex|pattern|hint|label|labels|policy|count|class|classes|hashers?|validators?|env|vars?|params?|arg|ttl|timeout|"
    rb"expir\w*|age|column|index|idx|endpoint|errors?|messages?|msg|text|help|title|description|required|input|prompt|"
    rb"ref|version|algorithm|alg|method|scope|scopes|status|state|kind|mode|strategy|provider|s?manager|service|store|"
    rb"storage|backend|handler|factory|generator|func|function|callback|view|form|page|route|template|"
    rb"izer|ize|izers|ization|ized|izing|s_per\w*|s)(?:_\w*)?"
)
_SEPARATOR = re.compile(
    rb"(?:\\*[\"'`]|&quot;)?[\])]?"
    rb"(?::?[ \t]{0,4}\r?\n(?:[ \t+>#|-]{0,40}Type: \w{1,20}\r?\n)?[ \t+>#|-]{0,40}(?:value|Default):|"
    rb"[ \t]{0,8}:[ \t]{0,4}(?:str|bytes|String|string|&str|&'static str|const char ?\*|Optional\[str\]|str ?\| ?None)?"
    rb"[ \t]{0,4}=(?!=)|[ \t]{0,8}(?:=>|:=|===?|!==?|=|:)|[ \t]{0,4}\\*[\"'`]?[ \t]{0,4},|\\*[\"'][ \t]+value[ \t]{0,4}=|>"
    # a list of pairs, of names and values; a default behind a variable
    rb"|\\*[\"'],?(?:[ \t]|\\n){0,8}(?:\r?\n[ \t+>#|-]{0,40})?\\*[\"']value\\*[\"'][ \t]{0,4}:"
    rb"|[)\]]{0,2}[ \t]{0,4}(?:\|\||\?\?|or\b)|:-)"
    rb"(?:[ \t]{0,8}\r?\n[+>#|-]{0,2})?[ \t]{0,40}(?:\([ \t]{0,8}(?:\r?\n[+>#|-]{0,2})?[ \t]{0,40})?"
)
_QUOTED = re.compile(rb"[rbfuRBFU@$]{0,2}(\\*(?:\"\"\"|'''|[\"'`])|&quot;)")
_MORE = re.compile(rb"[ \t]*+[+\\.&]?[ \t]*+(?:\r?\n(?=[ \t+\->|#])[ \t]*+(?:[+\-> |#]{1,3}[ \t]*+)?)?[+.&]?[ \t]*+[rbfuRBFU]?([\"'`])")
_BARE = re.compile(rb"[^\s\"'`<>,;(){}\[\]|\\]{4,512}")
_AFTER_BARE = re.compile(rb"[ \t]+[\w.-]{1,40}=\S|[ \t]*(?:$|[\r\n]|[,;#\"'`}\])<]|\\[nr\"]|//|&|\|)", re.MULTILINE)
_WRAPPED = re.compile(rb"\r?\n([A-Za-z0-9+/_-]{6,256}={0,2})[ \t]*(?=\r?\n|\Z)")
_FOLDED = re.compile(rb"[\"']?[ \t]*:[ \t]*[>|][+-]?[ \t]*\r?\n((?:[+ \t]++(?:(?i:basic|bearer)[ \t]+)?[^\s]{4,512}+[ \t]*(?:\r?\n|\Z)){1,16})")
_BLOCK_LINE = re.compile(rb"\S+")
_ENVIRONMENT = re.compile(rb"(?:^|[\s\"'\0;>$#|+-]|\\n|\$env:)\Z")
_PAIR = re.compile(rb"[ \t]+[\w.-]{1,40}=\S")
_PAIR_NAME = re.compile(rb"([;&?:\s\"'])_?[A-Za-z][\w ]{0,30}=\Z")
_FOLDER = re.compile(rb"[ \t]{0,8}[=:][ \t]{0,8}\\?[\"'`]?(?:[/~.$%]|[A-Za-z]:[\\/]|\\\\)")
_LOWER_NAME = re.compile(rb"[a-z]")
_OPTION = re.compile(rb"[= \t]{1,2}[\"']?([^\s\"'<>$\[\]{}()=-][^\s\"'<>\[\]{}()]{5,256})")
_NETRC_BYTES = 200
_LOGIN = re.compile(rb"\b(?:machine[ \t]+\S+|default)[\s+>|#-]+login[ \t]+\S+[\s+>|#-]+\Z")
_NETRC = re.compile(rb"[ \t]+(\S{4,256})")
_BESIDE = (
    (re.compile(rb"(?:\bENV|\bsetx|\bset[ \t]+-[a-zA-Z]+|\bsecret[ \t]+set)[ \t]+\Z"), re.compile(rb"[ \t]+(?:(?:--body|-b)[ \t=]+)?\\?[\"']?([^\s\"'\\]{6,512})")),
    (re.compile(rb"\|[ \t]*[`*]{0,2}\Z"), re.compile(rb"[`*]{0,2}[ \t]*\|[ \t]*`?([^\s|`]{6,512})`?[ \t]*\|")),
    (re.compile(rb"(?:\becho|\bprintenv)[ \t]+\\?[\"']?\$?\{?\Z"), re.compile(rb"\}?\\?[\"']?[ \t]*\r?\n([^\s]{6,512})[ \t]*(?=\r?\n|\Z)")),
)
"""What stands before the name -> where its value stands."""
_SCHEME = re.compile(rb"(?i)(?:basic|bearer|digest) ")
"""Judged by the rule for such headers."""
_SHORT_TOKEN = re.compile(rb"(?=.*[0-9])(?=.*[a-z])(?=.*[A-Z])[A-Za-z0-9_-]{10,}")
_INTERPOLATED = re.compile(rb"\{[A-Za-z_][\w.\[\]()!:'\"]*\}|\$\{|%s|%\(|\$\w+\(|#\{")


def value_behind(data: bytes, start: int, end: int, *, strong: bool) -> Iterator[tuple[int, int]]:
    """Ranges of the secret value that the name at [start, end) introduces; none where it introduces none."""
    far = max(0, start - _MAX_BEFORE)
    line_start = max(data.rfind(b"\n", far, start) + 1, far)
    name_start = start
    while name_start > max(0, start - _MAX_NAME) and (data[name_start - 1 : name_start].isalnum() or data[name_start - 1] in b"_-."):
        name_start -= 1
    if data[name_start:end] in (b"PWD", b"OLDPWD") and _FOLDER.match(data, end):
        # The one that the shell is in; `PWD=` of a connection string is a password.
        return
    tail = _NAME_TAIL.match(data, end)
    tail_end = tail.end() if tail else end
    if strong and tail_end > end and _TELLS_NOTHING.fullmatch(data, end, tail_end):
        strong = False
    elif not strong and tail_end > end and not data[end:tail_end].startswith((b"_", b"-")):
        return
    before = data[line_start:name_start]
    if name_start >= 2 and data[name_start : name_start + 2] == b"--":
        yield from _option(data, tail_end, strong)
    separator = _SEPARATOR.match(data, tail_end)
    if separator is None:
        # Of .netrc, whose words may stand on lines of their own.
        ahead = data[max(0, name_start - _NETRC_BYTES) : name_start]
        if b"login" in before or b"machine" in before or (b"login" in ahead and _LOGIN.search(ahead)):
            match = _NETRC.match(data, tail_end)
            is_line = b"login" in before or b"machine" in before
            if match and not is_placeholder(match[1]) and (is_line or _mixed(match[1])):
                yield match.span(1)
                return
        yield from _beside(data, before, tail_end, strong)
        return
    folded = _FOLDED.match(data, tail_end)
    if folded is not None:
        yield from _folded(data, folded, strong)
        return
    opening = _QUOTED.match(data, separator.end())
    if opening is not None:
        yield from _quoted(data, opening, strong, is_dump=_is_dump(data, before, name_start, tail_end, separator))
    elif separator[0].strip()[:1] != b",":
        is_dump = _is_dump(data, before, name_start, tail_end, separator)
        yield from _bare(data, separator.end(), strong, is_dump=is_dump, is_tag=separator[0].startswith(b">"))


def _beside(data: bytes, before: bytes, name_end: int, strong: bool) -> Iterator[tuple[int, int]]:
    """A value without a sign in front of it: `ENV NAME value`, a row of a table, what `echo $NAME` printed."""
    form = next((form for sign, form in _BESIDE if sign.search(before)), None)
    match = form.match(data, name_end) if form is not None else None
    if match is not None and _mixed(match[1]) and (looks_chosen(match[1], shortest=6) if strong else _is_token(match[1])):
        yield match.span(1)


def _is_dump(data: bytes, before: bytes, name_start: int, name_end: int, separator: re.Match[bytes]) -> bool:
    """`NAME=value` in capitals and without spaces: environment, dotenv, shell, Dockerfile. Or `NAME: value` of YAML."""
    return (
        (separator[0] == b"=" or (separator[0].strip() == b":" and not before.strip(b" \t#+->|")))
        and not _LOWER_NAME.search(data, name_start, name_end)
        and _ENVIRONMENT.search(before) is not None
    )


def _quoted(data: bytes, opening: re.Match[bytes], strong: bool, *, is_dump: bool) -> Iterator[tuple[int, int]]:
    quote = opening[1]
    ranges = []
    at, limit = opening.end(), min(len(data), opening.end() + 4096)
    while True:
        close = data.find(quote, at, limit)
        if close < 0 or (b"\n" in data[at:close] and len(quote) < 3):
            break
        ranges.append((at, close))
        more = _MORE.match(data, close + len(quote))
        if more is None or more[1] != quote[-1:] or len(ranges) >= 16:
            break
        at = more.end()
    value = b"".join(data[low:high] for low, high in ranges)
    scheme = _SCHEME.match(value)
    if (_INTERPOLATED.search(value) and not looks_random(value)) or (scheme and len(ranges) == 1):
        return
    if scheme:
        # The rule for headers has seen the first half only.
        if _is_credential(value[scheme.end() :].strip()):
            yield from ranges
        return
    shortest = 6 if strong else 16
    chosen = looks_chosen(value, shortest=shortest) if strong else _is_token(value)
    if chosen or (strong and _is_hex_key(value)) or (is_dump and _believed_in_dump(value, strong)):
        yield from ranges


def _bare(data: bytes, start: int, strong: bool, *, is_dump: bool, is_tag: bool) -> Iterator[tuple[int, int]]:
    match = _BARE.match(data, start)
    if match is None:
        return
    value = match[0]
    if is_tag and not data.startswith(b"<", match.end()):
        return
    if not (is_tag or is_dump or _AFTER_BARE.match(data, match.end())):
        return
    if value.startswith((b"$", b"%", b"/", b"./", b"~", b"@", b"!", b"&", b"*", b"-", b"=")) and not looks_random(value):
        return
    if is_dump:
        believed = _believed_in_dump(value, strong) and (_mixed(value) or data[start - 1 : start] == b"=")
    elif strong and data[start - 1 : start] == b"=" and _is_pair(data, start, match.end()):
        believed = _mixed(value) and len(value) >= 6 and not is_placeholder(value)
    elif strong:
        believed = (looks_chosen(value, shortest=8) and _mixed(value)) or _is_hex_key(value)
        believed = believed or (is_tag and looks_chosen(value, shortest=5))
    else:
        believed = looks_random(value, shortest=16) or _is_hex_key(value)
    if believed:
        yield match.span()
        wrapped = _WRAPPED.match(data, match.end())
        if wrapped and (_mixed(wrapped[1]) or is_mixed_case(wrapped[1])) and looks_random(value + wrapped[1], shortest=12):
            yield wrapped.span(1)


def _is_pair(data: bytes, start: int, end: int) -> bool:
    """`Password=...;` of a connection string, `&password=...` of a URL."""
    name = _PAIR_NAME.search(data, max(0, start - 40), start)
    return name is not None and (name[1] in (b";", b"&", b"?", b":") or data[end : end + 1] in (b";", b"&") or _PAIR.match(data, end) is not None)


def _folded(data: bytes, lines: re.Match[bytes], strong: bool) -> Iterator[tuple[int, int]]:
    """A block scalar of YAML: the value stands in the indented lines below."""
    places = [match.span() for match in _BLOCK_LINE.finditer(data, *lines.span(1))]
    if len(places) > 1 and _SCHEME.match(data[slice(*places[0])] + b" "):
        if _is_credential(b"".join(data[low:high] for low, high in places[1:])):
            yield from places[1:]
        return
    value = b"".join(data[low:high] for low, high in places)
    if looks_chosen(value, shortest=8) if strong else _is_token(value):
        yield from places


def _is_credential(value: bytes) -> bool:
    """What stands behind `Basic`, `Bearer`."""
    try:
        login = base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        login = b""
    return (b":" in login and login.isascii()) or looks_random(value, shortest=16) or _is_hex_key(value)


def _option(data: bytes, name_end: int, strong: bool) -> Iterator[tuple[int, int]]:
    match = _OPTION.match(data, name_end)
    if match and (looks_chosen(match[1]) if strong else looks_random(match[1], shortest=16)) and _mixed(match[1]):
        yield match.span(1)


def _believed_in_dump(value: bytes, strong: bool) -> bool:
    if is_placeholder(value) or re.fullmatch(rb"[\d.:]{1,10}|[a-z]{1,5}|/\S*|https?://\S*|[A-Z_]{1,24}|\S*\(\S*", value):
        return False
    return len(value) >= 6 if strong else len(value) >= 8 and _mixed(value)


def _is_token(value: bytes) -> bool:
    if looks_random(value, shortest=12) or _is_hex_key(value):
        return True
    return _SHORT_TOKEN.fullmatch(value) is not None and looks_chosen(value) and changes_of_kind(value) >= 0.3


def _is_hex_key(value: bytes) -> bool:
    return re.fullmatch(rb"[0-9a-fA-F]{24,128}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", value) is not None and len(set(value)) >= 8


def _mixed(value: bytes) -> bool:
    return re.search(rb"\d", value) is not None and re.search(rb"[A-Za-z]", value) is not None
