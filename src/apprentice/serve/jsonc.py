"""Setting a key in a JSON file that people write by hand: comments, order, commas at the end and blanks stay as they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from apprentice.core.errors import InputError

INDENT = "  "


@dataclass(frozen=True, slots=True)
class _Member:
    """A key of an object and where its value stands."""

    key: str
    start: int
    end: int


def set_key(text: str, path: Sequence[str], value: Any) -> str:
    """The text with `value` at `path`, a key of an object inside objects; what is missing is made.

    Raises: InputError where the text is no JSON object with comments, or the path leads through something that is none."""
    start = _skip(text, 0)
    if start == len(text):
        # Nothing but comments.
        text = (text.rstrip() + "\n" if text.strip() else "") + "{\n}\n"
        start = _skip(text, 0)
    return _set(text, start, list(path), value, depth=1)


def _set(text: str, start: int, path: list[str], value: Any, *, depth: int) -> str:
    if start >= len(text) or text[start] != "{":
        raise InputError("the settings are no JSON object", hint="mend the file, or set it up by hand")
    members, end = _members(text, start)
    # The last of several is the one that counts.
    member = next((one for one in reversed(members) if one.key == path[0]), None)
    if member is not None and len(path) > 1:
        return _set(text, member.start, path[1:], value, depth=depth + 1)
    for key in reversed(path[1:]):
        value = {key: value}
    said = json.dumps(value, indent=len(INDENT), ensure_ascii=False).replace("\n", "\n" + INDENT * depth)
    if member is not None:
        return text[: member.start] + said + text[member.end :]
    line = f"\n{INDENT * depth}{json.dumps(path[0])}: {said}"
    # First, so that neither a comma at the end nor a comment in front of the brace matters.
    rest = text[start + 1 : end]
    comma = "," if members else "" if rest.strip() else "\n" + INDENT * (depth - 1)
    return text[: start + 1] + line + comma + (rest if rest.strip() else "") + text[end:]


def _members(text: str, start: int) -> tuple[list[_Member], int]:
    """Of the object that begins there, and the place of its closing brace."""
    members: list[_Member] = []
    at = _skip(text, start + 1)
    while at < len(text) and text[at] != "}":
        key_end = _value_end(text, at)
        try:
            key = json.loads(text[at:key_end])
        except ValueError:
            key = None
        colon = _skip(text, key_end)
        if not isinstance(key, str) or text[colon : colon + 1] != ":":
            raise InputError(f"the settings cannot be read at character {at:,}", hint="mend the file, or set it up by hand")
        value = _skip(text, colon + 1)
        end = _value_end(text, value)
        members.append(_Member(key, value, end))
        at = _skip(text, end)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "}":
            raise InputError(f"the settings cannot be read at character {at:,}", hint="mend the file, or set it up by hand")
    if at >= len(text):
        raise InputError("the settings end in the middle", hint="mend the file, or set it up by hand")
    return members, at


def _value_end(text: str, at: int) -> int:
    """Behind a value: a string, an object or list, or a word."""
    if text[at : at + 1] == '"':
        at += 1
        while at < len(text) and text[at] != '"':
            at += 2 if text[at] == "\\" else 1
        return min(at + 1, len(text))
    depth = 0
    while at < len(text):
        if text[at] == '"':
            at = _value_end(text, at)
            continue
        if text.startswith(("//", "/*"), at):
            at = _skip(text, at)
            continue
        if text[at] in "{[":
            depth += 1
        elif text[at] in "}]":
            if depth == 0:
                return at
            depth -= 1
            if depth == 0:
                return at + 1
        elif depth == 0 and (text[at] in ",:" or text[at].isspace()):
            return at
        at += 1
    return at


def _skip(text: str, at: int) -> int:
    """Over blanks and comments."""
    while at < len(text):
        if text[at].isspace() or text[at] == "\ufeff":
            at += 1
        elif text.startswith("//", at):
            at = text.find("\n", at)
            at = len(text) if at < 0 else at
        elif text.startswith("/*", at):
            at = text.find("*/", at)
            at = len(text) if at < 0 else at + 2
        else:
            break
    return at
