"""Prompts that editors build for other models, taken apart: a cursor between two texts, or a region to be rewritten.

    <|fim_prefix|>BEFORE<|fim_suffix|>AFTER<|fim_middle|>          Qwen, CodeGemma; so for StarCoder, DeepSeek, GLM, CodeLlama
    [SUFFIX]AFTER[PREFIX]BEFORE                                    Codestral
    <|file_sep|>PATH <|fim_prefix|>ABOVE <|fim_middle|>current REGION <|fim_suffix|>BELOW <|fim_middle|>updated     Zeta 2
    ```PATH ABOVE <|editable_region_start|> REGION <|editable_region_end|> BELOW ```                             Zeta 1
    <|file_sep|>current/PATH REGION <|file_sep|>updated/PATH                                                     Sweep

An editor that is set up for a local model sends such a text to `/v1/completions` and puts what comes back into the file. A model
that was tuned here knows other marks, and a memory knows the place and not the marks: so what the text says is asked in our own
form. A prompt with the mark of a cursor in a form that is not known here gets no answer: whatever a model said to it would stand in
place of a region. A prompt that is none of these goes to the model as it is.

Read in the sources of Zed (crates/edit_prediction/src: fim.rs, sweep_prompt.rs; crates/zeta_prompt: zeta1, 0112, 0113, 0120, 0131 and
0211, which is `zeta2` today), Continue (core/autocomplete/templating) and twinny (src/extension/fim-templates.ts); nothing was recorded from
running editors.
"""

from __future__ import annotations

import difflib
import re
import urllib.parse
from collections import deque
from collections.abc import Iterator, Sequence
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
_PLUS = re.compile(r"^\+{5} (\S[^\n]{0,300})\n", re.MULTILINE)
_COMMENT = re.compile(r"(#|//|--|;|%|<!--|/\*) ?(.{0,400})")
_FILE_NAME = re.compile(r"(?:(?:Path|path|File|file): ?)?([\w@.+-]{1,120}(?:/[\w@.+ -]{1,120}){0,20}\.\w{1,12})")
_FILE_ADDRESS = re.compile(r"File uri: file:///(\S{1,400})(?: \([^()]{1,40}\))?")
_HASHED = re.compile(r"\d{1,7}:[0-9a-f]{2}\|")
_CURRENT, _SEPARATOR = "<<<<<<< CURRENT\n", "=======\n"
_HERE, _START_OF_FILE = "<|user_cursor_is_here|>", "<|start_of_file|>"
_EDITABLE, _EDITABLE_END = "<|editable_region_start|>", "<|editable_region_end|>"
_EDITED = re.compile(r'^User edited "?([^"\n]{1,512}?)"?:\n```diff\n', re.MULTILINE)
_WINDOW = re.compile(r"(original|current|updated)/(.{1,512}?)(?::\d{1,7}:\d{1,7})?")
_SWEEP_LINES = 21
_MAX_SHOWN = 200
"""Lines of an edit as it was and as it is, most."""
_SEED_ABOVE, _SEED_BELOW, _SEED_MIDDLE, _SEED_FILE = "<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>", "<filename>"
_ENDS = ("", "\n", ")", "]", "}", ">", ",", ";", ":", '"', "'", "`")
"""In front of which a blank seldom stands."""
_BLANK = 8
"""Empty lines in front of the comments, most."""
MAX_COMMENTS = 2_000
"""Lines of comments in front of a file that are looked through."""
MAX_EDITS = 64
"""Latest ones that are kept."""
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
    answer_as: str = "{}"
    """What the editor looks for the region in."""
    last_break: bool = True
    """Whether the region ends with a line break where it is put back."""
    silence: str | None = None
    """The reply that changes nothing; None: the region as it is."""

    def answer(self, region: str) -> str:
        """The reply that puts `region` in its place."""
        if region == self.region and self.silence is not None:
            return self.silence
        return self.answer_as.replace("{}", region if self.last_break else region.removesuffix("\n"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Unknown:
    """Something is asked for at a cursor, in a form that is not known."""


def read(prompt: str) -> Cursor | Region | Unknown | None:
    """What a prompt asks for, or None where it is none of these forms. Line breaks of Windows become plain ones."""
    prompt = prompt.replace("\r\n", "\n")
    if CURSOR in prompt:
        return _zeta(prompt) or _seed(prompt) or Unknown()
    if _HERE in prompt:
        return _zeta1(prompt) or Unknown()
    return _sweep(prompt) or _fill_in(prompt) or _codestral(prompt)


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
        if middle.startswith(" ") and inside[1][:1] == " " and inside[1][1:2] in _ENDS:
            # Some put a blank behind the mark, too.
            inside = inside[0], inside[1][1:]
        return _named(head, *inside)
    return None


def _codestral(prompt: str) -> Cursor | None:
    # Other files may stand in front.
    head, found, said = prompt.partition("[SUFFIX]")
    after, also, before = said.partition("[PREFIX]")
    if not (found and also) or (head and (not head.endswith("\n\n") or "[SUFFIX]" in said)):
        return None
    # Other files come first, each behind a line with its name.
    files = [found for found in _PLUS.finditer(before)]
    if files:
        return Cursor(before=before[files[-1].end() :], after=after, path=files[-1][1])
    return _named("", before, after)


def _named(head: str, before: str, after: str) -> Cursor:
    """With the path that the prompt gives: behind a mark of files, or in comments that an editor put in front of the file."""
    for mark in _FILE_MARKS:
        if mark in head:
            name = head.rpartition(mark)[2].partition("\n")[0].strip()
            return Cursor(before=before, after=after, path=name if len(name) <= 512 else "")
    path, rest = _commented(before)
    return Cursor(before=rest, after=after, path=path)


def _commented(before: str) -> tuple[str, str]:
    """Continue shows other files in comments, and then the name of the file at hand in a comment of its own: (path, the rest)."""
    lines = before.split("\n")
    # With nothing to show besides there is an empty line in front.
    first = next((number for number, line in enumerate(lines[:_BLANK]) if line.strip()), 0)
    signs = {found[1] for line in lines[first : first + 1] if (found := _COMMENT.match(line))}
    if not signs:
        return "", before
    last, path = -1, ""
    for number, line in enumerate(lines[first : first + MAX_COMMENTS], start=first):
        found = _COMMENT.match(line)
        if found is None or found[1] not in signs:
            break
        if name := _file_name(found[2].strip()):
            last, path = number, name
    return path, "\n".join(lines[last + 1 :])


def _file_name(said: str) -> str:
    if (address := _FILE_ADDRESS.fullmatch(said)) is not None:
        return "/" + urllib.parse.unquote(address[1])
    found = _FILE_NAME.fullmatch(said)
    return found[1] if found is not None else ""


def _zeta1(prompt: str) -> Region | None:
    head, found, rest = prompt.partition(_EDITABLE + "\n")
    region, also, below = rest.partition("\n" + _EDITABLE_END)
    events, fence, excerpt = head.rpartition("### User Excerpt:\n\n```")
    path, _, above = excerpt.partition("\n")
    if not (found and also and fence) or _HERE not in region or not path.strip() or len(path) > 512:
        return None
    below = below.rpartition("\n```")[0].removeprefix("\n")
    region = region.replace(_HERE, "", 1)
    if _HERE in above + region + below:
        return None
    return Region(
        path=path.strip(), above=above.removeprefix(_START_OF_FILE + "\n"), region=region + "\n", below=below,
        recent=tuple(_told_edits(events))[-MAX_EDITS:], answer_as=f"{_EDITABLE}\n{{}}{_EDITABLE_END}",
    )  # fmt: skip


def _told_edits(events: str) -> Iterator[Edit]:
    """`User edited PATH:` with a diff each."""
    files = list(_EDITED.finditer(events))
    for number, file in enumerate(files):
        diff = events[file.end() : files[number + 1].start() if number + 1 < len(files) else len(events)]
        yield from _diff_edits(file[1], diff.partition("\n```")[0] + "\n")


def _sweep(prompt: str) -> Region | Unknown | None:
    """The lines around the cursor as they were, as they are, and to be said as they should be. A window of Zed's ends without a line break,
    and the prompt gives it one; where its last line is empty, it has one of its own. So of the 21 lines of a whole window 21 are told or 20.
    Near a file's ends it cannot be known, and what is wrong there would change the file's end: nothing is suggested."""
    *others, current, asked = prompt.split(_FILE)[1:] if prompt.count(_FILE) >= 2 else ("", "")
    now, wanted = (_WINDOW.fullmatch(part.partition("\n")[0].strip()) for part in (current, asked))
    if now is None or wanted is None or (now[1], wanted[1]) != ("current", "updated") or now[2] != wanted[2] or asked.partition("\n")[2].strip():
        return None
    region = current.partition("\n")[2]
    num_lines = len(split_lines(region))
    if not _SWEEP_LINES - 1 <= num_lines <= _SWEEP_LINES:
        return Unknown()
    recent: list[Edit] = []
    for part in reversed(others):
        recent[:0] = _shown_edits(part)
        if len(recent) >= MAX_EDITS:
            break
    return Region(
        path=now[2], above="", region=region, below="", recent=tuple(recent[-MAX_EDITS:]), last_break=num_lines < _SWEEP_LINES, silence="",
    )  # fmt: skip


def _shown_edits(block: str) -> Iterator[Edit]:
    """`PATH.diff` with lines as they were and as they are."""
    name, _, text = block.partition("\n")
    old, found, new = text.partition("\nupdated:\n")
    before, after = split_lines(old + "\n")[1:], split_lines(new)
    if not name.endswith(".diff") or not found or len(name) > 512 or len(before) + len(after) > _MAX_SHOWN:
        return
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, start, end, new_start, new_end in matcher.get_opcodes():
        if tag != "equal":
            above, below = after[max(new_start - CONTEXT_LINES, 0) : new_start], after[new_end : new_end + CONTEXT_LINES]
            yield Edit(name.removesuffix(".diff"), new_start, tuple(before[start:end]), tuple(after[new_start:new_end]), tuple(above), tuple(below))


def _zeta(prompt: str) -> Region | None:
    *others, place = prompt.split(_FILE)
    path, _, text = place.partition("\n")
    parts = _zeta_parts(text) if text.startswith(_ABOVE) and CURSOR in text else None
    if parts is None or not path.strip() or len(path) > 512:
        return None
    return _region(path, parts, others, _FILE)


def _seed(prompt: str) -> Region | None:
    """0211: what stands below comes first, and history and related files stand in front of the file at hand."""
    if not prompt.startswith(_SEED_BELOW) or not prompt.rstrip().endswith(_SEED_MIDDLE):
        return None
    below, found, rest = prompt[len(_SEED_BELOW) : prompt.rindex(_SEED_MIDDLE)].partition(_SEED_ABOVE)
    *others, place = rest.split(_SEED_FILE)
    path, _, text = place.partition("\n")
    parts = _between(text, _CURRENT, _SEPARATOR)
    if not found or parts is None or parts[2].strip() or not path.strip() or len(path) > 512:
        return None
    return _region(path, (parts[0], parts[1], below.removeprefix("\n")), others, _SEED_FILE)


def _region(path: str, parts: tuple[str, str, str], others: Sequence[str], mark: str) -> Region | None:
    above, region, below = parts
    region = region.replace(CURSOR, "", 1)
    if CURSOR in above + region + below or (region and all(_HASHED.match(line) for line in split_lines(region))):
        return None
    history = (part.partition("\n")[2] for part in others if part.partition("\n")[0].strip().replace("_", " ") == _HISTORY)
    recent = [edit for text in history for edit in _edits(text)]
    return Region(path=path.strip(), above=above, region=region, below=below, recent=tuple(recent[-MAX_EDITS:]))


def _zeta_parts(text: str) -> tuple[str, str, str] | None:
    """Above, region, below: the region stands in the middle, at the end, or between marks of a merge."""
    body = text.removeprefix(_ABOVE).rstrip()
    # (in front of the region, at the end, what stands behind the other marks)
    forms = ("<|fim_middle|>current\n", "<|fim_middle|>updated", "\n"), ("<|fim_middle|>" + _CURRENT, "\n" + _SEPARATOR.rstrip(), "")
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
    if body.endswith("<|fim_middle|>"):
        parts = _between(body.removesuffix("<|fim_middle|>"), _CURRENT, _SEPARATOR)
        if parts is not None and parts[2].startswith(_BELOW):
            return parts[0].removeprefix("\n"), parts[1], parts[2].removeprefix(_BELOW).removeprefix("\n")
    return None


def _between(text: str, start: str, end: str) -> tuple[str, str, str] | None:
    """What stands in front of two marks, between them, and behind; the second is the first one behind the cursor."""
    first, cursor = text.find(start), text.find(CURSOR)
    last = text.find(end, cursor) if cursor >= 0 else -1
    if first < 0 or not first < cursor < last:
        return None
    return text[:first], text[first + len(start) : last], text[last + len(end) :]


def _edits(history: str) -> Iterator[Edit]:
    """Unified diffs as edits."""
    files = list(_DIFF_FILE.finditer(history))
    for number, file in enumerate(files):
        diff = history[file.end() : files[number + 1].start() if number + 1 < len(files) else len(history)]
        yield from _diff_edits(file[1].strip(), diff)


def _diff_edits(path: str, diff: str) -> Iterator[Edit]:
    hunks = list(_HUNK.finditer(diff))
    starts = [(hunk.end(), int(hunk[1]) - 1) for hunk in hunks] or [(0, 0)]
    ends = [hunk.start() for hunk in hunks[1:]] + [len(diff)]
    for (start, line), end in zip(starts, ends, strict=True):
        yield from _hunk_edits(path, max(line, 0), split_lines(diff[start:end]))


def _hunk_edits(path: str, line: int, lines: list[str]) -> Iterator[Edit]:
    """Each run of changed lines, with the lines around it."""
    at = 0
    new_line = line
    above: deque[str] = deque(maxlen=CONTEXT_LINES)
    while at < len(lines):
        if lines[at][:1] not in ("-", "+"):
            above.append(lines[at][1:])
            at, new_line = at + 1, new_line + 1
            continue
        end = at
        while end < len(lines) and lines[end][:1] in ("-", "+"):
            end += 1
        old = tuple(one[1:] for one in lines[at:end] if one[0] == "-")
        new = tuple(one[1:] for one in lines[at:end] if one[0] == "+")
        near = lines[end : end + 4 * CONTEXT_LINES]
        below = [one[1:] for one in near if one[:1] in (" ", "-")][:CONTEXT_LINES]
        yield Edit(path, new_line, old, new, tuple(above), tuple(below))
        above.extend(new)
        at, new_line = end, new_line + len(new)
