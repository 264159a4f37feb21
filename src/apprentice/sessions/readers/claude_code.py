"""Claude Code's session files: `~/.claude/projects/PROJECT/SESSION.jsonl`, one record a line.

    {"type": "user" | "assistant" | "summary" | ..., "uuid", "parentUuid", "isSidechain", "timestamp", "cwd", "message": {...}, ...}

Records form a tree by `parentUuid`; where the developer went back and asked differently, a prompt's parent already has others
behind it. The way from the last record to the root is what the developer ended with: one session. Each part that was left, and
each talk of a sub-agent (`isSidechain`), is a session of its own (`ID/branch-1`, `ID/sidechain-1`), so that nobody takes them for
what was kept. A compaction begins a new root and names the record before it (`logicalParentUuid`).

A message of the assistant comes as several records with one `message.id`; its tools' results come as records of the user, with
`toolUseResult` in the tool's own form. A file that goes on from another one begins with copies of its records: those are counted
and not read again.

There is no specification. What is read here is what files of versions 1.0 to 2.1 have; other record types are counted.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from apprentice.sessions.conversation import DEVELOPER, UNKNOWN_LINE, Change, Conversation, Sink, Use
from apprentice.sessions.events import Author, Provenance, Session
from apprentice.sessions.readers.lines import read_lines

SOURCE = "claude_code"
AGENT = "claude"
PLACES = ("~/.claude/projects",)
"""Where such files lie."""
SUFFIX = ".jsonl"

_TALK = ("user", "assistant")
_REJECTED = (
    "The user doesn't want to proceed with this tool use", "The user doesn't want to take this action right now",
    "User rejected tool use",
)  # fmt: skip
_USER_SAID = re.compile(r"To tell you how to proceed, the user said:\n(.*)", re.DOTALL)
_EXIT_CODE = re.compile(r"\A(?:Error: )?(?:Command failed with )?[Ee]xit code:? (\d{1,3})\b")
_NO_RESULT: dict[str, Any] = {}
_EDIT_TOOLS = ("Edit", "MultiEdit", "Write", "NotebookEdit")


@dataclass(slots=True)
class _Record:
    """What is kept of a line."""

    offset: int
    time: float
    type: str
    uuid: str
    parent: str
    is_sidechain: bool
    cwd: str
    message_id: str = ""
    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    uses: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    tool_result: Any = None
    is_summary: bool = False

    @property
    def is_prompt(self) -> bool:
        """Words in the developer's place."""
        return self.type == "user" and bool(self.texts) and not self.results


class ClaudeCode:
    """Reads files one after the other; knows the records that it has read."""

    source = SOURCE

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def recognizes(self, path: Path, beginning: bytes) -> bool:
        """Whether a file that begins so is one of these."""
        return path.suffix == SUFFIX and (b'"sessionId"' in beginning or b'"leafUuid"' in beginning)

    def identity(self, beginning: bytes) -> str:
        """Its records are told apart one by one."""
        return ""

    def started(self, beginning: bytes) -> float:
        """When the session began, as far as the beginning of its file says; 0 where it does not."""
        found = re.search(rb'"timestamp":\s*"([^"]{10,40})"', beginning)
        return _seconds(found[1].decode("ascii", "replace")) if found else 0.0

    def read(self, path: Path, sink: Sink) -> Iterator[Session]:
        """The sessions of a file: the one that was kept first, then parts that were left and talks of sub-agents."""
        records = list(self._records(path, sink))
        talk = [record for record in records if not record.is_sidechain]
        name = _name(records, path)
        cwd = next((record.cwd for record in records if record.cwd), "")
        results = {str(result.get("tool_use_id")): (result, record) for record in records for result in record.results}
        for session_id, part, developer in _parts(name, talk, [record for record in records if record.is_sidechain]):
            conversation = Conversation(
                sink, source=SOURCE, file=path.name, session_id=session_id, agent=AGENT, repository=Path(cwd).name, developer=developer,
            )  # fmt: skip
            _tell(conversation, part, results, cwd)
            session = conversation.session()
            if session is not None:
                yield session

    def _records(self, path: Path, sink: Sink) -> Iterator[_Record]:
        time = 0.0
        for line in read_lines(path, SOURCE, sink):
            where = Provenance(source=SOURCE, file=path.name, offset=line.offset)
            try:
                data = msgspec.json.decode(line.data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                sink.keep_aside("not JSON", where, str(error)[:200])
                continue
            if not isinstance(data, dict) or not isinstance(data.get("type"), str):
                sink.keep_aside("no record", where, f"{type(data).__name__} without a type")
                continue
            time = _seconds(data.get("timestamp")) or time
            record = self._record(data, time, line.offset, where, sink)
            if record is not None:
                yield record

    def _record(self, data: dict[str, Any], time: float, offset: int, where: Provenance, sink: Sink) -> _Record | None:
        kind = data["type"]
        if kind == "summary" and isinstance(data.get("summary"), str):
            return _Record(offset, time, kind, "", "", False, "", texts=[data["summary"]])
        if kind == "system" and data.get("subtype") == "compact_boundary":
            return _Record(offset, time, kind, *_links(data), False, "")
        if kind not in _TALK:
            sink.drop(f"records of type {kind[:40]}")
            return None
        uuid, parent = _links(data)
        if uuid and uuid in self._seen:
            sink.drop("records copied from an earlier file")
            return None
        self._seen.add(uuid)
        message = data.get("message")
        if not isinstance(message, dict):
            sink.keep_aside("no message", where, f"`message` is {type(message).__name__}")
            return None
        cwd = data["cwd"] if isinstance(data.get("cwd"), str) else ""
        record = _Record(offset, time, kind, uuid, parent, data.get("isSidechain") is True, cwd, tool_result=data.get("toolUseResult"))
        record.message_id = str(message.get("id") or uuid)
        record.is_summary = data.get("isCompactSummary") is True
        if data.get("isMeta") is True:
            sink.drop("notices of the tool")
        elif not _take_content(record, message.get("content")):
            sink.keep_aside("no content", where, f"`message.content` is {type(message.get('content')).__name__}")
            return None
        return record


def _links(data: Mapping[str, Any]) -> tuple[str, str]:
    """Its own id and its parent's."""
    parent = data.get("parentUuid") or data.get("logicalParentUuid")
    return (str(data.get("uuid") or ""), parent if isinstance(parent, str) else "")


def _take_content(record: _Record, content: Any) -> bool:
    """Texts and tools out of a message; whether there was anything that is known."""
    if isinstance(content, str):
        record.texts.append(content)
        return True
    if not isinstance(content, list):
        return False
    known = False
    for block in content:
        kind = block.get("type") if isinstance(block, dict) else None
        known = known or kind is not None
        if kind == "text" and isinstance(block.get("text"), str):
            record.texts.append(block["text"])
        elif kind == "thinking" and isinstance(block.get("thinking"), str):
            record.reasoning.append(block["thinking"])
        elif kind == "tool_use" and isinstance(block.get("name"), str):
            record.uses.append(block)
        elif kind == "tool_result":
            record.results.append(block)
    return known or not content


def _name(records: Sequence[_Record], path: Path) -> str:
    return path.stem if records else ""


def _parts(
    name: str, talk: Sequence[_Record], side: Sequence[_Record]
) -> Iterator[tuple[str, list[_Record], Author]]:
    """(id, records, who asks) of every session of a file."""
    parents = _parents(talk)
    owners = _owners(talk, parents)
    kept = _way_back(talk, parents)
    left: dict[int, list[_Record]] = {}
    main: list[_Record] = []
    for number, record in enumerate(talk):
        owner = owners[number]
        # A tool's result hangs beside the way to the next record: only the prompt says whether a part was left.
        if owner is None or owner in kept:
            main.append(record)
        else:
            left.setdefault(_top(owner, owners, parents, kept), []).append(record)
    yield name, main, DEVELOPER
    for count, part in enumerate(left.values(), 1):
        yield f"{name}/branch-{count}", part, DEVELOPER
    for count, part in enumerate(_sidechains(side), 1):
        # A sub-agent is asked by the assistant.
        yield f"{name}/sidechain-{count}", part, Author(kind="assistant", agent=AGENT)


def _top(prompt: int, owners: Sequence[int | None], parents: Sequence[int | None], kept: set[int]) -> int:
    """The first prompt of the part that was left."""
    while (parent := parents[prompt]) is not None and (above := owners[parent]) is not None and above not in kept:
        prompt = above
    return prompt


def _parents(records: Sequence[_Record]) -> list[int | None]:
    """Number of the record behind which each stands: its parent, or the one before it where that is not in the file."""
    numbers: dict[str, int] = {}
    parents: list[int | None] = []
    for number, record in enumerate(records):
        before = number - 1 if number else None
        # A parent comes first; one that claims to come later would make a circle.
        parents.append(numbers.get(record.parent, before) if record.parent else before)
        if record.uuid:
            numbers[record.uuid] = number
    return parents


def _owners(records: Sequence[_Record], parents: Sequence[int | None]) -> list[int | None]:
    """Number of the prompt that each record answers, a prompt's own."""
    owners: list[int | None] = []
    for number, record in enumerate(records):
        parent = parents[number]
        owners.append(number if record.is_prompt else None if parent is None else owners[parent])
    return owners


def _way_back(records: Sequence[_Record], parents: Sequence[int | None]) -> set[int]:
    at = next((number for number in range(len(records) - 1, -1, -1) if records[number].type in _TALK), None)
    kept: set[int] = set()
    while at is not None:
        kept.add(at)
        at = parents[at]
    return kept


def _sidechains(records: Sequence[_Record]) -> list[list[_Record]]:
    """Each talk of a sub-agent: records that hang together."""
    chains: list[list[_Record]] = []
    chain_of: dict[str, int] = {}
    for record in records:
        chain = chain_of.get(record.parent) if record.parent else None
        if chain is None:
            chain = len(chains)
            chains.append([])
        chains[chain].append(record)
        if record.uuid:
            chain_of[record.uuid] = chain
    return chains


def _tell(
    conversation: Conversation, records: Sequence[_Record], results: Mapping[str, tuple[dict[str, Any], _Record]], cwd: str
) -> None:
    """The records as events. Records of one message are one reply, where the first of them stands."""
    whole = Counter(record.message_id for record in records if record.type == "assistant")
    waiting: dict[str, list[_Record]] = {}
    for record in records:
        if record.type == "summary":
            conversation.noted("summary", record.texts[0], record.time, record.offset, by_developer=False)
        elif record.type == "user" and record.is_summary:
            conversation.noted("summary", "\n".join(record.texts), record.time, record.offset, by_developer=False)
        elif record.type == "user":
            for text in record.texts:
                conversation.said(text, record.time, record.offset)
        elif record.type == "assistant":
            parts = waiting.setdefault(record.message_id, [])
            parts.append(record)
            if len(parts) == whole[record.message_id]:
                _reply(conversation, parts, results, cwd)


def _reply(
    conversation: Conversation, parts: Sequence[_Record], results: Mapping[str, tuple[dict[str, Any], _Record]], cwd: str
) -> None:
    uses: list[Use] = []
    words: list[tuple[str, float, int]] = []
    for block in (block for part in parts for block in part.uses):
        result, record = results.get(str(block.get("id")), (_NO_RESULT, None))
        uses.append(_use(block, result, record, cwd))
        if record is not None and (said := _words_of_developer(block, result)):
            words.append((said, record.time, record.offset))
    conversation.replied(
        "\n\n".join(text for part in parts for text in part.texts), parts[0].time, parts[0].offset,
        reasoning="\n\n".join(text for part in parts for text in part.reasoning), uses=uses,
    )  # fmt: skip
    for said, time, offset in words:
        conversation.said(said, time, offset)


def _use(block: Mapping[str, Any], result: Mapping[str, Any], record: _Record | None, cwd: str) -> Use:
    """A tool in neutral terms."""
    name, given = str(block["name"]), block.get("input")
    arguments: dict[str, Any] = given if isinstance(given, dict) else {}
    text = _result_text(result.get("content"))
    # Several tools' results in one record share one `toolUseResult`: whose it is nobody can say.
    own = record.tool_result if record is not None and len(record.results) == 1 else None
    details: dict[str, Any] = own if isinstance(own, dict) else {}
    failed = result.get("is_error") is True
    rejected = failed and (text.startswith(_REJECTED) or str(own).startswith(_REJECTED))
    common: dict[str, Any] = {
        "name": name, "arguments": json.dumps(given, ensure_ascii=False, default=str), "result": text,
        "failed": failed or record is None, "rejected": rejected,
    }  # fmt: skip
    if name == "Bash":
        code = _EXIT_CODE.match(text)
        exit_code = int(code[1]) if code else None if failed or record is None or details.get("interrupted") else 0
        return Use(**common, kind="shell", command=_string(arguments, "command"), exit_code=exit_code)
    if name in ("Read", "NotebookRead"):
        line = arguments.get("offset")
        return Use(**common, kind="read", path=_relative(_path_of(arguments), cwd), line=line - 1 if isinstance(line, int) and line > 0 else 0)
    if name in _EDIT_TOOLS:
        changes = tuple(_changes(name, arguments, details, _relative(_path_of(arguments), cwd)))
        return Use(**common, kind="edit", changes=changes, adjusted=details.get("userModified") is True and not failed)
    if name == "ExitPlanMode":
        return Use(**common, kind="plan", plan=_string(arguments, "plan"))
    if name == "TodoWrite":
        return Use(**common, kind="plan", plan=_todos(arguments.get("todos")))
    return Use(**common)


def _changes(name: str, arguments: Mapping[str, Any], details: Mapping[str, Any], path: str) -> Iterator[Change]:
    """What an editing tool changes; where the tool kept the file as it was before, in place."""
    original = details.get("originalFile")
    before = original if isinstance(original, str) else None
    if name == "Write":
        creates = details.get("type") == "create" or (before is None and bool(details))
        yield Change(path=path, old="" if before is None else before, new=_string(arguments, "content"), before=before, creates=creates)
        return
    if details.get("userModified") is True and (patched := list(_patched(details, path))):
        yield from patched
        return
    edits = arguments.get("edits") if name == "MultiEdit" else [arguments]
    if before is None and (patched := list(_patched(details, path))):
        yield from patched
        return
    for edit in edits if isinstance(edits, list) else []:
        if isinstance(edit, dict):
            old, new = _string(edit, "old_string"), _string(edit, "new_string") or _string(edit, "new_source")
            creates = not old and before is None
            yield Change(path=path, old=old, new=new, before=before, creates=creates, everywhere=edit.get("replace_all") is True)


def _patched(details: Mapping[str, Any], path: str) -> Iterator[Change]:
    """Hunks of `structuredPatch`: what was really written."""
    patch = details.get("structuredPatch")
    for hunk in patch if isinstance(patch, list) else []:
        lines = hunk.get("lines") if isinstance(hunk, dict) else None
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            continue
        old = [line[1:] for line in lines if line[:1] in ("-", " ")]
        new = [line[1:] for line in lines if line[:1] in ("+", " ")]
        start = hunk.get("newStart")
        line = start - 1 if isinstance(start, int) and start > 0 else UNKNOWN_LINE
        yield Change(path=path, old="".join(one + "\n" for one in old), new="".join(one + "\n" for one in new), line=line)


def _words_of_developer(block: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """What the developer said in place of a result: why not, or an answer to a question."""
    text = _result_text(result.get("content"))
    if found := _USER_SAID.search(text):
        return found[1].split("\n\nNote: The user's next message", 1)[0].strip()
    if block.get("name") == "AskUserQuestion" and result.get("is_error") is not True:
        return text.strip()
    return ""


def _result_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return ""


def _todos(todos: Any) -> str:
    marks = {"completed": "x", "in_progress": "~"}
    lines = [
        f"[{marks.get(str(todo.get('status')), ' ')}] {todo.get('content')}" if isinstance(todo, dict) else f"[ ] {todo}"
        for todo in (todos if isinstance(todos, list) else [])
    ]
    return "\n".join(lines)


def _path_of(arguments: Mapping[str, Any]) -> str:
    return next((found for name in ("file_path", "notebook_path", "path") if (found := _string(arguments, name))), "")


def _relative(path: str, cwd: str) -> str:
    """Within the folder that the developer worked in."""
    return path[len(cwd) :].lstrip("/") if cwd and path.startswith(cwd.rstrip("/") + "/") else path


def _string(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""


def _seconds(text: Any) -> float:
    """ISO 8601 to seconds since 1970; 0 where it is none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0.0
