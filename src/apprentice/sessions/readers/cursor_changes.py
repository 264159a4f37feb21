"""What Cursor changed in files, out of the forms in which its versions keep that, and what the developer made of it.

    toolFormerData of an editing tool   result.beforeContentId, afterContentId -> composer.content.HASH   whole texts
                                        additionalData.precomputedDiff.lines, result.diff.chunks          lines and places
                                        rawArgs: old_string, new_string; edits; contents; patch           lines alone
    composerData.codeBlockData[uri]     status, bubbleId, diffId, partialInlineDiffFatesId of each block
      codeBlockDiff:COMPOSER:DIFF       the file before and after, each as lines put in place of lines of its text at first ("V0"):
                                        originalFileStates[uri], ofsContent:COMPOSER:uri or originalModelLines[uri]
      codeBlockPartialInlineDiffFates:COMPOSER:ID       parts with their lines, each accepted or rejected

Whole texts are taken before lines. What is known only in part (a sketch with `... existing code ...`, a block without the text at
first) becomes a change of which the path alone is known. `accepted` is kept, `rejected` is rejected, `completed` stands in the file
and nobody has looked at it yet; parts that differ in this are told apart. A tool's own `userDecision: accepted` is no verdict: Cursor
sets it also where it asks nobody.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

import msgspec

from apprentice.sessions.conversation import MAX_TEXT, UNKNOWN_LINE, Change, Outcome
from apprentice.sessions.readers.edit_blocks import PATCH_BEGINS, patched, without_root

Place = Callable[[Any], str]
"""Path or URI -> path within the folder that the developer worked in; empty where it is no file."""

MAX_BLOCKS = 20_000
"""Code blocks of a talk."""

_EDIT_TOOLS = (
    "edit_file", "edit_file_v2", "search_replace", "write", "write_file", "create_file", "MultiEdit", "apply_patch", "edit_notebook",
    "reapply", "delete_file",
)  # fmt: skip
_PATCHER = "apply_patch"
_WHOLE = {
    **dict.fromkeys(("write", "write_file", "create_file"), ("contents", "content", "file_text")), "edit_file_v2": ("streamingContent",),
}  # fmt: skip
"""Arguments that hold all of a file."""
_OUTCOMES: dict[str, Outcome | None] = {"accepted": "kept", "rejected": "rejected", "completed": None}
_NO_BLOCK: tuple[str, str, dict[str, Any]] = ("", "", {})
_CONTENT = "composer.content."
_EMPTY_CONTENT = f"{_CONTENT}e3b0c442"
"""Content is named by its hash: this is that of nothing."""
_SKIPPED = "rejected: user chose to skip"
_NOT_MADE = (("applyFailed", True), ("isApplied", False), ("fileNonExistent", True))
_TRACES = ("output", "exitCode", "exitCodeV2", "endedReason")
_PATHS = ("relativeWorkspacePath", "targetFile", "target_file", "file_path", "filePath", "path", "targetNotebook", "effectiveUri")


def decode(value: Any) -> Any:
    """JSON, also where it is kept as text within JSON; None where it is none."""
    if not isinstance(value, (str, bytes)):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object, or an empty one."""
    found = decode(value)
    return found if isinstance(found, dict) else {}


def listing(value: Any) -> list[Any]:
    """A JSON list, or an empty one."""
    found = decode(value)
    return found if isinstance(found, list) else []


def first_string(values: Mapping[str, Any], *names: str) -> str:
    """The first of these that holds words."""
    return next((found for name in names if isinstance(found := values.get(name), str) and found), "")


@dataclass(frozen=True, slots=True)
class Tool:
    """`toolFormerData`: a tool that was used and its result, in one record."""

    name: str
    text: str
    """Arguments as JSON text."""
    arguments: dict[str, Any]
    result: dict[str, Any]
    answer: str
    """The result in words."""
    extra: dict[str, Any]
    is_done: bool
    is_rejected: bool
    has_run: bool
    """Something shows that it began."""
    reason: str
    """Why it failed."""

    @classmethod
    def of(cls, data: Any) -> Tool | None:
        """None where nothing was used."""
        if not isinstance(data, dict):
            return None
        result, extra, error = mapping(data.get("result")), mapping(data.get("additionalData")), data.get("error")
        name = first_string(data, "name") or (f"tool {data['tool']}" if isinstance(data.get("tool"), int) and result else "")
        if not name:
            return None
        raw, params = (data.get(field) for field in ("rawArgs", "params"))
        decisions = (data.get("userDecision"), extra.get("userDecision"), data.get("status"), extra.get("status"))
        is_rejected = "rejected" in decisions or bool(result.get("rejected")) or _SKIPPED in _reason(error).lower()
        is_done = data.get("status") in ("completed", "success") or (not data.get("status") and bool(result))
        failed = extra.get("status") in ("error", "cancelled") or any(result.get(name) is value for name, value in _NOT_MADE)
        has_run = data.get("status") in ("completed", "success", "error") or bool(extra.get("startedAtMs")) or any(map(result.get, _TRACES))
        is_raw = isinstance(raw, str) and (mapping(raw) or (name == _PATCHER and PATCH_BEGINS in raw[:200]))
        return cls(
            name, raw if is_raw else _text(params), {**mapping(raw), **mapping(params)}, result,
            _answer(data.get("result"), result, error), extra,
            is_done and not is_rejected and not error and not failed, is_rejected, has_run, _reason(error),
        )  # fmt: skip

    @property
    def is_edit(self) -> bool:
        return self.name in _EDIT_TOOLS

    @property
    def path(self) -> Any:
        """Of the file that it is about: a path or a URI."""
        return next((found for name in _PATHS if (found := self.arguments.get(name))), "")


@dataclass(frozen=True, slots=True)
class Offer:
    """Changes, and what became of them."""

    changes: tuple[Change, ...]
    outcome: Outcome | None
    """None where they stand in the files and nobody said more."""


def wanted(composer_id: str, header: Mapping[str, Any], tools: Iterable[Tool]) -> Iterator[str]:
    """Keys of the rows that the changes of a talk need."""
    for uri, _, entry in _entries(header):
        if diff_id := first_string(entry, "diffId"):
            yield f"codeBlockDiff:{composer_id}:{diff_id}"
        if fates_id := first_string(entry, "partialInlineDiffFatesId"):
            yield f"codeBlockPartialInlineDiffFates:{composer_id}:{fates_id}"
        yield f"ofsContent:{composer_id}:{uri}"
    for tool in tools:
        for name in ("beforeContentId", "afterContentId"):
            if (key := first_string(tool.result, name)).startswith(_CONTENT):
                yield key


class Changes:
    """Of one talk."""

    def __init__(self, composer_id: str, header: Mapping[str, Any], rows: Mapping[str, bytes], place: Place) -> None:
        """`rows`: those of `wanted`."""
        self._composer_id, self._header, self._rows, self._place = composer_id, header, rows, place
        self.not_applied = 0
        self._blocks: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
        for uri, block_id, entry in _entries(header):
            self._blocks.setdefault(str(entry.get("bubbleId")), []).append((uri, block_id, entry))

    @property
    def left(self) -> int:
        """Code blocks whose message nobody asked for."""
        return sum(map(len, self._blocks.values()))

    def offers(self, bubble_id: str, tool: Tool | None) -> Iterator[Offer]:
        """What one bubble changed. A code block that was never applied is no offer."""
        found = self._blocks.pop(bubble_id, [])
        if tool is None or not tool.is_edit:
            for uri, _, entry in found:
                is_applied = entry.get("isNotApplied") is not True and entry.get("isNoOp") is not True
                if is_applied and str(entry.get("status")) in _OUTCOMES:
                    yield from self._of_block(uri, entry, ())
                else:
                    self.not_applied += 1
            return
        own = tuple(_tool_changes(tool, self._rows, self._place))
        block_id = first_string(tool.extra, "codeblockId")
        uri, _, entry = next((block for block in found if block[1] == block_id or not block_id), _NO_BLOCK)
        if tool.is_rejected:
            yield Offer(own if _has_lines(own) or not entry else (self._change(uri, entry),), "rejected")
        elif tool.is_done and entry:
            yield from self._of_block(uri, entry, own)
        elif tool.is_done:
            yield Offer(own, None)

    def _of_block(self, uri: str, entry: Mapping[str, Any], own: tuple[Change, ...]) -> Iterator[Offer]:
        """`own`: what the tool says that it changed."""
        block = self._change(uri, entry)
        fates = mapping(self._rows.get(f"codeBlockPartialInlineDiffFates:{self._composer_id}:{entry.get('partialInlineDiffFatesId')}"))
        parts = list(_fates(block.path, listing(fates.get("fates"))))
        kept, refused = (tuple(change for fate, change in parts if fate == wish) for wish in ("accepted", "rejected"))
        if kept and refused:
            yield Offer(kept, "kept")
            yield Offer(refused, "rejected")
            return
        is_whole = (block.before is not None or block.creates) and not any(change.before is not None or change.creates for change in own)
        choices = ((block,), own) if is_whole else (own, (block,))
        changes = next((choice for choice in (*choices, kept, refused) if _has_lines(choice)), own or (block,))
        outcome = _OUTCOMES.get(str(entry.get("status")))
        yield Offer(changes, outcome or ("kept" if kept else "rejected" if refused else None))

    def _change(self, uri: str, entry: Mapping[str, Any]) -> Change:
        path = self._place(entry.get("uri")) or self._place(uri)
        diff = mapping(self._rows.get(f"codeBlockDiff:{self._composer_id}:{entry.get('diffId')}"))
        to_old, to_new = listing(diff.get("originalModelDiffWrtV0")), listing(diff.get("newModelDiffWrtV0"))
        is_new = mapping(mapping(self._header.get("originalFileStates")).get(uri)).get("isNewlyCreated") is True
        first = self._first_text(uri, is_new)
        if first is not None and to_new and (old := _replaced(first, to_old)) is not None and (new := _replaced(first, to_new)) is not None:
            creates, before = is_new and not any(old), "\n".join(old)
            return Change(path=path, old=before, new="\n".join(new), before=None if creates else before, creates=creates)
        if len(to_new) == 1 and (place := _range(to_new[0])) is not None:
            start, end, lines = place
            # Without the text at first, the lines that were replaced are known where none were, or where they were put there before.
            was = _range(to_old[0]) if len(to_old) == 1 else (start, end, []) if start == end and not to_old else None
            if was is not None and was[:2] == (start, end):
                return Change(path=path, old=_joined(was[2]), new=_joined(lines), line=start)
        return Change(path=path, old="", new="")

    def _first_text(self, uri: str, is_new: bool) -> list[str] | None:
        """Lines of the file when the talk first touched it."""
        content = mapping(mapping(self._header.get("originalFileStates")).get(uri)).get("content")
        if not isinstance(content, str):
            content = _content(f"ofsContent:{self._composer_id}:{uri}", self._rows)
        lines = mapping(self._header.get("originalModelLines")).get(uri)
        if content is None and isinstance(lines, list) and all(isinstance(line, str) for line in lines):
            content = "\n".join(lines)
        if content is None:
            return [""] if is_new else None
        # The lines that take the place of others have no carriage returns.
        return content.replace("\r\n", "\n").split("\n") if len(content) <= MAX_TEXT else None


def _entries(header: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(URI, id, block): a list for each file, or since version 6 a table by id."""
    count = 0
    for uri, entries in mapping(header.get("codeBlockData")).items():
        pairs = entries.items() if isinstance(entries, dict) else enumerate(entries) if isinstance(entries, list) else ()
        for block_id, entry in pairs:
            count += 1
            if isinstance(entry, dict) and count <= MAX_BLOCKS:
                yield uri, str(entry.get("codeblockId") or block_id), entry


def _replaced(first: list[str], diff: list[Any]) -> list[str] | None:
    """None where the ranges do not fit the text or overlap."""
    places = sorted((place for entry in diff if (place := _range(entry)) is not None), key=lambda place: place[:2])
    if len(places) != len(diff):
        return None
    lines: list[str] = []
    at = 0
    for start, end, new in places:
        if start < at or end > len(first):
            return None
        lines += [*first[at:start], *new]
        at = end
    return [*lines, *first[at:]]


def _range(entry: Any) -> tuple[int, int, list[str]] | None:
    """(first line, line behind the last, new lines), 0-based."""
    place, lines = (mapping(entry).get(name) for name in ("original", "modified"))
    start, end = (mapping(place).get(name) for name in ("startLineNumber", "endLineNumberExclusive"))
    if not (isinstance(start, int) and isinstance(end, int) and 1 <= start <= end and isinstance(lines, list)):
        return None
    return (start - 1, end - 1, lines) if all(isinstance(line, str) for line in lines) else None


def _fates(path: str, fates: Iterable[Any]) -> Iterator[tuple[str, Change]]:
    for fate in map(mapping, fates):
        old, new = (listing(fate.get(name)) for name in ("removedLines", "addedLines"))
        if fate.get("fate") in ("accepted", "rejected") and all(isinstance(line, str) for line in (*old, *new)):
            yield str(fate["fate"]), Change(path=path, old=_joined(old), new=_joined(new))


def _tool_changes(tool: Tool, rows: Mapping[str, bytes], place: Place) -> Iterator[Change]:
    if tool.name == _PATCHER and (patch := _patch(tool)):
        yield from (replace(change, path=place(change.path)) for change in patched(patch.split("\n")))
        return
    if not (path := place(tool.path)):
        return
    shown = [line for line in map(mapping, listing(mapping(tool.extra.get("precomputedDiff")).get("lines"))) if isinstance(line.get("content"), str)]
    before, after = (_content(tool.result.get(name), rows) for name in ("beforeContentId", "afterContentId"))
    before, after = (
        found if found is not None else _text_of(named, *sources) for found, named, sources in (
            (before, "contentsBeforeEdit", (tool.result,)), (after, "contentsAfterEdit", (tool.result, tool.arguments)),
        )
    )  # fmt: skip
    was = first_string(tool.result, "beforeContentId")
    is_new = tool.result.get("fileWasCreated") is True or was.startswith(_EMPTY_CONTENT)
    creates = is_new or (not was and before is None and all(line.get("type") == "added" for line in shown))
    if after is not None and (before is not None or creates):
        yield Change(path=path, old=before or "", new=after, before=None if creates else before, creates=creates)
        return
    chunks = (_chunk(path, chunk) for chunk in listing(mapping(tool.result.get("diff")).get("chunks")))
    yield from list(_shown(path, shown)) or [chunk for chunk in chunks if chunk is not None] or _argued(tool, path)


def _patch(tool: Tool) -> str:
    """The patch that a call holds, or is."""
    return next((text for text in (first_string(tool.arguments, "patch", "input"), tool.text) if PATCH_BEGINS in text[:200]), "")


def _text_of(name: str, *sources: Mapping[str, Any]) -> str | None:
    return next((found for source in sources if isinstance(found := source.get(name), str)), None)


def _argued(tool: Tool, path: str) -> Iterator[Change]:
    """What the arguments say, where the result says nothing."""
    edits = listing(tool.arguments.get("edits")) or [tool.arguments]
    found = False
    for edit in map(mapping, edits):
        old, new = first_string(edit, "old_string", "oldString"), first_string(edit, "new_string", "newString")
        if old or new:
            found = True
            yield Change(path=path, old=old, new=new, everywhere=edit.get("replace_all") is True)
    names = _WHOLE.get(tool.name, ())
    contents = first_string(tool.arguments, *names) if names else ""
    if contents:
        yield Change(path=path, old="", new=contents, line=0)
    elif not found:
        yield Change(path=path, old="", new="")


def _chunk(path: str, chunk: Any) -> Change | None:
    """Lines of a diff. Cursor puts a blank behind the mark, others do not: it is a part of the mark where all lines have it."""
    lines = [line or " " for line in first_string(mapping(chunk), "diffString").removesuffix("\n").split("\n")]
    lines = [line for line in lines if line[0] in "+- "]
    mark = 2 if all(line[1:2] in ("", " ") for line in lines) else 1
    old, new = ([line[mark:] for line in lines if line[0] in (" ", sign)] for sign in "-+")
    start = mapping(chunk).get("newStart")
    line = start - 1 if isinstance(start, int) and 0 < start < 1 << 31 else UNKNOWN_LINE
    return Change(path=path, old=_joined(old), new=_joined(new), line=line) if old != new else None


def _shown(path: str, lines: Iterable[Mapping[str, Any]]) -> Iterator[Change]:
    """Runs of lines whose numbers follow each other."""
    run: list[Mapping[str, Any]] = []
    last: dict[str, int] = {}
    for line in lines:
        numbers = {name: line[name] for name in ("originalLineNumber", "modifiedLineNumber") if isinstance(line.get(name), int)}
        if any(name in last and number != last[name] + 1 for name, number in numbers.items()):
            yield _run(path, run)
            run = []
        run.append(line)
        last.update(numbers)
    if run:
        yield _run(path, run)


def _run(path: str, run: Iterable[Mapping[str, Any]]) -> Change:
    lines = [(line.get("type"), str(line["content"]), line.get("modifiedLineNumber")) for line in run]
    number = next((number for _, _, number in lines if isinstance(number, int) and 0 < number < 1 << 31), 0)
    old, new = ([text for kind, text, _ in lines if kind in ("unchanged", wish)] for wish in ("removed", "added"))
    return Change(path=path, old=_joined(old), new=_joined(new), line=number - 1 if number else UNKNOWN_LINE)


def _has_lines(changes: Iterable[Change]) -> bool:
    return any(change.old != change.new for change in changes)


def _content(key: Any, rows: Mapping[str, bytes]) -> str | None:
    value = rows.get(key) if isinstance(key, str) else None
    # Of longer ones only a beginning would be kept, and the change perhaps not be in it.
    return value.decode("utf-8", "replace") if value is not None and len(value) <= MAX_TEXT else None


def _joined(lines: Iterable[str]) -> str:
    return "".join(line + "\n" for line in lines)


def _answer(raw: Any, result: Mapping[str, Any], error: Any) -> str:
    words = first_string(result, "output", "contents") or (raw if isinstance(raw, str) else _text(raw))
    return "\n".join(part for part in (words, _reason(error)) if part)


def printed(tool: Tool) -> str:
    """By a command, and why it failed; nothing where the result has everything but words."""
    return "\n".join(part for part in (first_string(tool.result, "output"), tool.reason) if part) if tool.result else tool.answer


def _reason(error: Any) -> str:
    return first_string(mapping(error), "modelVisibleErrorMessage", "clientVisibleErrorMessage") or (error if isinstance(error, str) else "")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str) if value is not None else ""


def local_path(uri: Any) -> str:
    """Path of a file: given as one, as a URI, or as the parts of a URI."""
    if isinstance(uri, dict):
        uri = first_string(uri, "fsPath", "_fsPath", "path", "external")
    if not isinstance(uri, str):
        return ""
    scheme, is_uri, rest = uri.partition("://")
    if not is_uri:
        return "" if uri.startswith("vscode-notebook-cell:") else without_root(uri)
    path = unquote(rest[rest.find("/") :]) if "/" in rest else ""
    return without_root(path) if scheme == "file" else path
