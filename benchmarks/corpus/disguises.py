"""How values are dressed where they stand: plainly and in 11 disguises that occur in sessions.

    template, value --dress()--> text to plant, and the fragments of it that say the value

Fragments tell afterwards whether something that was replaced had been planted.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from benchmarks.corpus.places import SETS, Places
from benchmarks.corpus.values import PERSONAL, Value

from apprentice.text.planted import split_in_two

ORDINARY = ("plain", "json in json", "diff", "colours", "base64", "percent", "quoted-printable")
"""For everything. The others are nonsense for what is no secret."""
NAMES = (*ORDINARY, "base64 twice", "gzip in base64", "hexadecimal", "split over lines", "added strings")
NOT_SPLIT = frozenset({"private key", "login file", "cookie"})
"""Kinds that are no strings of a program."""


@dataclass(frozen=True, slots=True)
class Dressed:
    """A text and the strings in it that say the value."""

    text: str
    fragments: tuple[str, ...]


def makes_sense(kind: str, disguise: str) -> bool:
    """Whether it occurs in real life."""
    if kind in PERSONAL:
        return disguise in ORDINARY
    return kind not in NOT_SPLIT or disguise not in ("split over lines", "added strings")


def dress(kind: str, value: Value, disguise: str, part: int, r: random.Random) -> Dressed:
    """The value in one of the places of a set, in this disguise."""
    places = SETS[part]
    if disguise in ("split over lines", "added strings"):
        return _halves(value, places.split if disguise == "split over lines" else places.added, r)
    template = r.choice(_templates(kind, value, places))
    return _DRESS[disguise](_filled(template, value, r), value, r, part)


def _templates(kind: str, value: Value, places: Places) -> Sequence[str]:
    own = places.own.get(kind, ())
    if kind in PERSONAL or kind in ("private key", "cookie", "basic header", "bearer", "login file", "database url"):
        return own
    if kind == "password":
        return (*own, *places.named)
    return (*own, *places.named, *(places.bare if value.knows_itself else ()))


def _names(value: Value, r: random.Random) -> dict[str, str]:
    name = r.choice(value.names)
    words = name.split("_")
    camel = words[0] + "".join(word.capitalize() for word in words[1:])
    return {"n": name, "N": name.upper(), "c": camel, "C": camel[0].upper() + camel[1:], "k": name.replace("_", "-")}


def _filled(template: str, value: Value, r: random.Random) -> str:
    if "{v:" in template:
        indented = "\n".join("    " + line for line in value.text.splitlines())
        template = template.replace("{v:indent}", indented).replace("{v:escaped}", value.text.replace("\n", "\\n"))
    return template.format(v=value.text, L=value.literal.format(v=value.text), **_names(value, r))


def _halves(value: Value, templates: Sequence[str], r: random.Random) -> Dressed:
    one, two = split_in_two(value.text)
    before, after = value.literal.split("{v}")
    # Where a name is asked for, one with an underscore stands for what a program would call it.
    text = r.choice(templates).format(a=before + one, b=two + after, **_names(value, r))
    return Dressed(text, (one, two))


def _plain(text: str, value: Value, r: random.Random, part: int) -> Dressed:
    return Dressed(text, _fragments(value))


def _fragments(value: Value) -> tuple[str, ...]:
    return tuple(line for line in value.text.splitlines() if line)


def _wrapped(text: str, width: int) -> str:
    return "\n".join(text[at : at + width] for at in range(0, len(text), width))


_BLOBS = (
    ("$ base64 -w0 .env\n{b}\n", 'printf %s "{b}" | base64 --decode > .env\n', "$ base64 .env\n{w}\n", "  user_data: {b}\n"),
    ("apiVersion: v1\nkind: Secret\ndata:\n  config: {b}\n", 'const settings = load("{b}");\n', "$ base64 settings\n{w}\n", '{{"content": "{b}", "encoding": "base64"}}\n'),
    ("CONFIG_B64={b}\nTZ=UTC\n", '  "cloudInit": "{b}",\n', "--b1\n{w}\n--b1--\n", "fetch('data:text/plain;base64,{b}')\n", "$ aws ssm get-parameter --name shop --query Parameter.Value\n{b}\n"),
)
"""Of each set: where a blob stands, as one line or wrapped."""


def _coded(code: Callable[[bytes], str]) -> Callable[[str, Value, random.Random, int], Dressed]:
    """In a place where such a blob stands; the whole of it says the value."""

    def dressed(text: str, value: Value, r: random.Random, part: int) -> Dressed:
        blob = code(text.encode())
        places = _BLOBS[part]
        place = r.choice(places)
        wrapped = _wrapped(blob, 76)
        return Dressed(place.format(b=blob, w=wrapped), tuple(wrapped.split("\n")) if "{w}" in place else (blob,))

    return dressed


def _hexadecimal(text: str, value: Value, r: random.Random, part: int) -> Dressed:
    digits = text.encode().hex()
    if part == 0:
        lines = _wrapped(digits, 60)
        return Dressed(f"$ xxd -p .env\n{lines}\n", tuple(lines.split("\n")))
    if part == 2 and r.random() < 0.5:
        digits = "".join(f"\\x{byte:02x}" for byte in text.encode())
        return Dressed(f'blob = b"{digits}"\n', (digits,))
    places = ("INSERT INTO files VALUES (7, x'{}');\n", 'body = bytes.fromhex("{}")\n') if part == 1 else (">>> config.hex()\n'{}'\n", "UPDATE files SET body = 0x{} WHERE id = 7;\n")
    return Dressed(r.choice(places).format(digits), (digits,))


_QUERIES = (
    ("GET /callback?state=1&data={} 302\n",),
    ("curl --data-raw 'config={}&v=2' https://app.corp.example/import\n", "https://app.corp.example/#import={}\n"),
    ("Referer: https://app.corp.example/share?text={}\n", "mailto:ops@example.com?subject=config&body={}\n"),
)


def _percent(text: str, value: Value, r: random.Random, part: int) -> Dressed:
    coded = quote(text, safe="")
    return Dressed(r.choice(_QUERIES[part]).format(coded), (coded,))


def _json(text: str, value: Value, r: random.Random, part: int) -> Dressed:
    inner = json.dumps(({"stdout": text}, {"exit_code": 0, "body": text}, {"files": [{"path": "a.txt", "text": text}]})[part])
    outer = (json.dumps({"type": "result", "output": inner}), f'{{"level":"info","msg":{json.dumps(inner)}}}', json.dumps({"log": inner, "stream": "stdout"}, indent=2))[part]
    pieces = [json.dumps(json.dumps(line)[1:-1])[1:-1] for line in _fragments(value)]
    # A key in JSON was escaped before.
    return Dressed(outer + "\n", (*pieces, *(json.dumps(json.dumps(value.text.replace("\n", "\\n"))[1:-1])[1:-1] for _ in range("\n" in value.text))))


def _diff(text: str, value: Value, r: random.Random, part: int) -> Dressed:
    mark = r.choice((("+",), ("-", "> ", "++"), ("-", "< ", " +"))[part])
    lines = "".join(f"{mark}{line}\n" for line in text.splitlines())
    head = "diff --git a/settings b/settings\n--- a/settings\n+++ b/settings\n@@ -1,3 +1,9 @@\n" if mark not in ("> ", "< ") else ""
    return Dressed(f"{head}{lines}", _fragments(value))


_PART = re.compile(r"(\"[^\"\n]*\"|'[^'\n]*'|[A-Za-z_]\w*|[=:{}()\[\],])")


def _colours(text: str, value: Value, r: random.Random, part: int) -> Dressed:
    """Of `grep --color`, of `git diff`, of a highlighter."""
    lines = _fragments(value)
    form = r.randrange(2)
    if part == 2 and form == 0:
        return Dressed("".join(f"\x1b[36mworker-1  | \x1b[0m{line}\n" for line in text.splitlines()), lines)
    if part == 2:
        # Numbers are lit.
        lit = re.sub(r"[0-9]+", lambda match: f"\x1b[1;36m{match[0]}\x1b[0m", text)
        return Dressed(lit, tuple(sorted({*lines, *(piece for line in lines for piece in re.split(r"[0-9]+", line) if len(piece) > 2)})))
    if part and form == 0:
        return Dressed("".join(f"\x1b[32m+{line}\x1b[m\n" for line in text.splitlines()), lines)
    if part:
        # Every word in a colour of its own, strings in one.
        shades = ("\x1b[38;5;81m", "\x1b[38;5;197m", "\x1b[38;5;186m")
        parts = [part if not _PART.fullmatch(part) else f"{shades[len(part) % 3]}{part}\x1b[39m" for part in _PART.split(text)]
        pieces = [piece for line in lines for piece in _PART.split(line) if piece]
        return Dressed("".join(parts), tuple(sorted({*lines, *(piece for piece in pieces if len(piece) > 2)})))
    if form == 0:
        return Dressed("".join(f"\x1b[1;33m{line}\x1b[0m\n" for line in text.splitlines()), lines)
    one, two = split_in_two(lines[0])
    text = text.replace(lines[0], f"\x1b[01;31m\x1b[K{one}\x1b[m\x1b[K{two}", 1)
    return Dressed(text, (one, two, *lines))


def _quoted_printable(text: str, value: Value, r: random.Random, part: int) -> Dressed:
    """As in a patch that was mailed: `=` is `=3D`, lines are at most 76 long."""
    parts = [("", "Content-Transfer-Encoding: quoted-printable\n\n", "Content-Type: text/x-patch; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n")[part]]
    fragments: list[str] = []
    for line in text.splitlines():
        planted = [(at, at + len(piece)) for piece in (*_fragments(value), value.text.replace("\n", "\\n")) if (at := line.find(piece)) >= 0]
        out, piece = "", ""
        for index, character in enumerate(line):
            coded = "=3D" if character == "=" else "".join(f"={byte:02X}" for byte in character.encode()) if not " " <= character <= "~" else character
            if len(out) + len(coded) > 75:
                parts.append(out + "=\n")
                fragments.append(piece)
                out = piece = ""
            out += coded
            piece += coded if any(low <= index < high for low, high in planted) else ""
        parts.append(out + "\n")
        fragments.append(piece)
    return Dressed("".join(parts), tuple(fragment for fragment in fragments if fragment))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


_DRESS: dict[str, Callable[[str, Value, random.Random, int], Dressed]] = {
    "plain": _plain,
    "json in json": _json,
    "diff": _diff,
    "colours": _colours,
    "base64": _coded(_base64),
    "percent": _percent,
    "quoted-printable": _quoted_printable,
    "base64 twice": _coded(lambda data: _base64(_base64(data).encode())),
    "gzip in base64": _coded(lambda data: _base64(gzip.compress(data, mtime=0))),
    "hexadecimal": _hexadecimal,
}
