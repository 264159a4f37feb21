"""Prompts that editors build for other models, taken apart: a cursor between two texts, or a region to be rewritten.

    <|fim_prefix|>BEFORE<|fim_suffix|>AFTER<|fim_middle|>                        Qwen, CodeGemma; so for StarCoder, DeepSeek, GLM, CodeLlama
    [SUFFIX]AFTER[PREFIX]BEFORE                                                  Codestral
    <|file_sep|>PATH \\n <|fim_prefix|>ABOVE <|fim_middle|>current \\n REGION <|fim_suffix|>BELOW <|fim_middle|>updated \\n     Zeta

An editor that is set up for a local model sends such a text to `/v1/completions` and shows what comes back. A model that was
tuned here knows other marks, and a memory knows the place and not the marks: so what the text says is asked in our own form.
A prompt that is none of these goes to the model as it is.

Read in the sources of Zed (crates/edit_prediction/src/fim.rs, crates/zeta_prompt: 0112, 0113 and 0120, which Zeta 2 was
trained on) and Continue (core/autocomplete/templating/AutocompleteTemplate.ts); nothing was recorded from running editors. Zeta's
later forms, which number their regions, are not known and go to the model as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from apprentice.text.edits import CONTEXT_LINES, Edit, split_lines

CURSOR = "<|user_cursor|>"

_FILE = "<|file_sep|>"
_HISTORY = "edit history"
_ABOVE, _BELOW = "<|fim_prefix|>", "<|fim_suffix|>"
_FAMILIES = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
    ("<PRE> ", " <SUF>", " <MID>"),
)
"""(in front of what stands before the cursor, of what stands behind it, of what is asked for)."""
_FILE_MARKS = ("<|file_sep|>", "<file_sep>")
_REPOSITORY_MARKS = ("<|repo_name|>", "<repo_name>", "<reponame>")
_NAMED = re.compile(r"(?:\+\+\+\+\+ |(?:#|//|--|;|%|/\*) ?(?:Path|path|File|file|Filename|filename): ?)(\S[^\n]{0,300}?)(?: \*/)?\n")
_DIFF_FILE = re.compile(r"^--- a/[^\n]*\n\+\+\+ b/([^\n]{1,512})\n", re.MULTILINE)
_HUNK = re.compile(r"^@@ -\d{1,7}(?:,\d{1,7})? \+(\d{1,7})(?:,\d{1,7})? @@[^\n]*\n", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor:
    """Text is asked for between two texts."""

    before: str
    after: str
    path: str = ""
    """Where the prompt names it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """Lines are to be rewritten."""

    path: str
    above: str
    region: str
    """With its line breaks, without the mark of the cursor."""
    below: str
    recent: tuple[Edit, ...] = ()
    """The developer's latest edits, oldest first."""


def read(prompt: str) -> Cursor | Region | None:
    """What a prompt asks for, or None where it is in none of these forms."""
    return _zeta(prompt) or _codestral(prompt) or _fill_in(prompt)


def _fill_in(prompt: str) -> Cursor | None:
    for before, after, middle in _FAMILIES:
        if not prompt.rstrip().endswith(middle.strip()):
            continue
        end = prompt.rindex(middle.strip())
        first, second = prompt.find(before), prompt.find(after)
        if first < 0 or second < 0 or second > end:
            return None
        if first < second:
            head, inside = prompt[:first], (prompt[first + len(before) : second], prompt[second + len(after) : end])
        else:
            head, inside = prompt[:second], (prompt[first + len(before) : end], prompt[second + len(after) : first])
        if middle.startswith(" ") and inside[1].endswith(" "):
            inside = inside[0], inside[1][:-1]
        return _named(head, *inside)
    return None


def _codestral(prompt: str) -> Cursor | None:
    if not prompt.startswith("[SUFFIX]") or "[PREFIX]" not in prompt:
        return None
    after, _, before = prompt.removeprefix("[SUFFIX]").partition("[PREFIX]")
    # Other files come first, each behind a line with its name.
    files = list(_NAMED.finditer(before))
    if files and files[-1][0].startswith("+++++ "):
        return Cursor(before=before[files[-1].end() :], after=after, path=files[-1][1])
    return Cursor(before=before, after=after)


def _named(head: str, before: str, after: str) -> Cursor:
    """With the path that the prompt gives: behind a mark of files, or in a comment that is the first line."""
    for mark in _FILE_MARKS:
        if mark in head:
            name = head.rpartition(mark)[2].partition("\n")[0].strip()
            return Cursor(before=before, after=after, path=name if len(name) <= 512 else "")
    first = _NAMED.match(before)
    return Cursor(before=before, after=after, path=first[1] if first else "")


def _zeta(prompt: str) -> Region | None:
    *others, place = prompt.split(_FILE)
    path, _, text = place.partition("\n")
    parts = _zeta_parts(text) if text.startswith(_ABOVE) and CURSOR in text else None
    if parts is None or not path.strip() or len(path) > 512:
        return None
    above, region, below = parts
    recent = [edit for part in others if part.startswith(_HISTORY + "\n") for edit in _edits(part.partition("\n")[2])]
    return Region(path=path.strip(), above=above, region=region.replace(CURSOR, "", 1), below=below, recent=tuple(recent))


def _zeta_parts(text: str) -> tuple[str, str, str] | None:
    """Above, region, below: the region stands in the middle or at the end."""
    body = text.removeprefix(_ABOVE).rstrip()
    # (in front of the region, at the end, what stands behind the other marks)
    forms = ("<|fim_middle|>current\n", "<|fim_middle|>updated", "\n"), ("<|fim_middle|><<<<<<< CURRENT\n", "\n=======", "")
    for start, end, line in forms:
        if not body.endswith(end):
            continue
        body = body.removesuffix(end) + ("\n" if end.startswith("\n") else "")
        middle, suffix = body.find(start), body.find(_BELOW)
        if middle < 0 or suffix < 0:
            return None
        if middle < suffix:
            above, region, below = body[:middle], body[middle + len(start) : suffix], body[suffix + len(_BELOW) :]
        else:
            above, region, below = body[:suffix], body[middle + len(start) :], body[suffix + len(_BELOW) : middle]
        return above.removeprefix(line), region, below.removeprefix(line)
    return None


def _edits(history: str) -> Iterator[Edit]:
    """Unified diffs as edits."""
    files = list(_DIFF_FILE.finditer(history))
    for number, file in enumerate(files):
        diff = history[file.end() : files[number + 1].start() if number + 1 < len(files) else len(history)]
        hunks = list(_HUNK.finditer(diff))
        starts = [(hunk.end(), int(hunk[1]) - 1) for hunk in hunks] or [(0, 0)]
        ends = [hunk.start() for hunk in hunks[1:]] + [len(diff)]
        for (start, line), end in zip(starts, ends, strict=True):
            yield from _hunk_edits(file[1].strip(), max(line, 0), split_lines(diff[start:end]))


def _hunk_edits(path: str, line: int, lines: list[str]) -> Iterator[Edit]:
    """Each run of changed lines, with the lines around it."""
    at = 0
    new_line = line
    while at < len(lines):
        if lines[at][:1] not in ("-", "+"):
            at, new_line = at + 1, new_line + 1
            continue
        end = at
        while end < len(lines) and lines[end][:1] in ("-", "+"):
            end += 1
        old = tuple(one[1:] for one in lines[at:end] if one[0] == "-")
        new = tuple(one[1:] for one in lines[at:end] if one[0] == "+")
        above = [one[1:] for one in lines[:at] if one[:1] in (" ", "+")][-CONTEXT_LINES:]
        below = [one[1:] for one in lines[end:] if one[:1] in (" ", "-")][:CONTEXT_LINES]
        yield Edit(path, new_line, old, new, tuple(above), tuple(below))
        at, new_line = end, new_line + len(new)
