"""Claude Code's session files: `~/.claude/projects/PROJECT/SESSION.jsonl`, one record a line.

    {"type": "user" | "assistant" | "attachment" | ..., "uuid", "parentUuid", "isSidechain", "timestamp", "cwd", "message": {...}, ...}

Records form a tree by `parentUuid`; where the developer went back and asked differently, a prompt's parent already has others
behind it. The way from the last record to the root is what the developer ended with: one session. Each part that was left, and
each talk of a sub-agent (`isSidechain`), is a session of its own (`ID/branch-1`, `ID/agent-1`), so that nobody takes them for
what was kept. A compaction begins a new root and names the record before it (`logicalParentUuid`).

A message of the assistant comes as several records with one `message.id`; its tools' results come as records of the user, with
`toolUseResult` in the tool's own form. What the developer typed meanwhile comes as an attachment (`queued_command`). A file that
goes on from another one begins with copies of its records: those are counted and not read again.

A file is read twice: once for the tree, of which each record keeps its place and its links alone, then record by record as the
events are told. So memory grows with the number of records, not with what they say.

There is no specification. What is read here is what files of versions 1.0 to 2.1 have; other record types are counted.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from apprentice.core.errors import InputError
from apprentice.sessions.conversation import MAX_LINE, UNKNOWN_LINE, Change, Conversation, Sink, Use, folder_name
from apprentice.sessions.events import Provenance, Session
from apprentice.sessions.readers import claude_refusals
from apprentice.sessions.readers.claude_records import (
    MAX_ID,
    SOURCE,
    TALK,
    Lines,
    Record,
    decoded,
    fill,
    is_title,
    outline_of,
    result_text,
    seconds,
)
from apprentice.sessions.readers.lines import read_lines
from apprentice.sessions.readers.seen import Seen, short

AGENT = "claude"
PLACES = ("~/.claude/projects",)
"""Where such files lie."""
SUFFIX = ".jsonl"

_NO_RESULT: dict[str, Any] = {}
_EXIT_CODE = re.compile(r"\A(?:Error: )?(?:Command failed with )?[Ee]xit code:? (\d{1,3})\b")
_EDIT_TOOLS = ("Edit", "MultiEdit", "Write", "NotebookEdit")
_SESSION_ID = re.compile(rb'"sessionId":\s*"([^"\\]{1,200})"')
_OWN_NAME = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\Z|agent-")
_TIMESTAMP = re.compile(rb'"timestamp":\s*"([^"]{10,40})"')
_MORE_BYTES = 4 << 20
"""Of a file that begins with a long prompt, behind which its time stands: without one its sessions would all wait for their turn."""
MAX_FILE_BYTES = 512 << 20


class ClaudeCode:
    """Reads files one after the other; knows the records that it has read."""

    source = SOURCE

    def __init__(self) -> None:
        self.seen = Seen()
        self.latest: list[int] = []
        """Ids of the file that was read last."""
        self._session_id = ""
        """As its last record says."""

    def recognizes(self, path: Path, beginning: bytes) -> bool:
        """Whether a file that begins so is one of these."""
        return path.suffix == SUFFIX and (b'"sessionId"' in beginning or b'"leafUuid"' in beginning)

    def identity(self, beginning: bytes) -> str:
        """Its records are told apart one by one."""
        return ""

    def started(self, path: Path, beginning: bytes) -> float:
        """When the session began, as far as the beginning of its file says; 0 where it does not."""
        found = _TIMESTAMP.search(beginning) or _TIMESTAMP.search(_more(path, len(beginning)))
        first = _SESSION_ID.search(beginning)
        goes_on = first is not None and first[1] != path.stem.encode()
        return seconds(found[1].decode("ascii", "replace")) + goes_on * 1e-3 if found else 0.0

    def read(self, path: Path, sink: Sink) -> Iterator[Session]:
        """The sessions of a file: the one that was kept first, then parts that were left and talks of sub-agents."""
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"`{path}` is larger than {MAX_FILE_BYTES:,} bytes", hint="leave it out")
        own: set[int] = set()
        records = list(self._records(path, sink, own))
        # Under another name than the tool's own it is the session of its last records: those in front may be an earlier one's.
        name = path.stem if _OWN_NAME.match(path.stem) else self._session_id or path.stem
        self.seen.add(own)
        self.latest = list(own)
        cwd = next((record.cwd for record in records if record.cwd), "")
        results = {id: record for record in records for id in record.answers}
        with contextlib.closing(Lines(path)) as lines:
            for session_id, part, is_agent in _parts(name, records):
                conversation = Conversation(
                    sink, source=SOURCE, file=path.name, session_id=session_id, agent=AGENT, repository=folder_name(cwd, sink),
                    by_assistant=is_agent,
                )  # fmt: skip
                _tell(conversation, part, lines, results, cwd)
                session = conversation.session()
                if session is not None:
                    yield session

    def _records(self, path: Path, sink: Sink, own: set[int]) -> Iterator[Record]:
        """Outlines. `own`: short forms of the ids of this file, which are put in."""
        time, self._session_id = 0.0, ""
        copies: set[int] = set()
        names: dict[str, str] = {}
        for line in read_lines(path, SOURCE, sink):
            where = Provenance(source=SOURCE, file=path.name, offset=line.offset)
            try:
                data = decoded(line.data)
            except (ValueError, RecursionError) as error:
                sink.keep_aside("not JSON", where, str(error)[:200])
                continue
            if not isinstance(data, dict) or not isinstance(data.get("type"), str):
                sink.keep_aside("no record", where, f"{type(data).__name__} without a type")
                continue
            time = seconds(data.get("timestamp")) or time
            self._session_id = _string(data, "sessionId")[:MAX_ID] or self._session_id
            record = outline_of(data, time, line.offset, len(line.data))
            title = is_title(data)
            id = short(record.uuid) if record.uuid and not title else None
            if id is not None and (id in own or id in self.seen):
                sink.drop("records copied from an earlier file")
                continue
            if not fill(record, data, where, sink):
                continue
            if id is not None:
                own.add(id)
            said = "\n".join(record.texts)
            record.shorten()
            if record.is_prompt:
                # A compaction writes its last messages again, with ids of their own.
                copy = short(f"{record.parent} {record.time} {said}")
                if record.parent and copy in copies:
                    sink.drop("records written again by a compaction")
                    continue
                copies.add(copy)
            # One string for all records that name a record.
            record.uuid, record.parent, record.cwd = (names.setdefault(name, name) for name in (record.uuid, record.parent, record.cwd))
            yield record


def _more(path: Path, known: int) -> bytes:
    """What follows the beginning; nothing where it was all, or cannot be read any more."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        # A time that was cut in two.
        stream.seek(max(0, known - 64))
        return stream.read(_MORE_BYTES)
    return b""


def _parts(name: str, records: Sequence[Record]) -> Iterator[tuple[str, list[Record], bool]]:
    """(id, records, whether it is a sub-agent's) of every session of a file."""
    talk = [record for record in records if not record.is_sidechain]
    known = {record.uuid for record in records}
    # At the beginning of a file stand titles of other sessions.
    talk = [record for record in talk if record.type != "summary" or not record.leaf or record.leaf in known]
    parents = _parents(talk)
    owners = _owners(talk, parents)
    kept = _way_back(talk, parents)
    tops: dict[int, int] = {}
    left: dict[int, list[Record]] = {}
    main: list[Record] = []
    for number, record in enumerate(talk):
        owner = owners[number]
        # A tool's result hangs beside the way to the next record: only the prompt says whether a part was left.
        if owner is None or owner in kept:
            main.append(record)
        else:
            tops[owner] = tops.get(owner) or _top(owner, owners, parents, kept, tops)
            left.setdefault(tops[owner], []).append(record)
    yield name, main, False
    for count, part in enumerate(left.values(), 1):
        yield f"{name}/branch-{count}", part, False
    for agent, part in _agents([record for record in records if record.is_sidechain]):
        yield f"{name}/agent-{agent}", part, True


def _top(
    prompt: int, owners: Sequence[int | None], parents: Sequence[int | None], kept: set[int], known: Mapping[int, int]
) -> int:
    """The first prompt of the part that was left."""
    while (parent := parents[prompt]) is not None and (above := owners[parent]) is not None and above not in kept:
        if above in known:
            return known[above]
        prompt = above
    return prompt


def _parents(records: Sequence[Record]) -> list[int | None]:
    """Number of the record behind which each stands: its parent, or the one before it where that is not in the file. A prompt
    without a parent begins anew, in a file whose records name each other at all."""
    numbers: dict[str, int] = {}
    parents: list[int | None] = []
    with_children: set[int] = set()
    known = {record.uuid for record in records}
    is_tree = any(record.parent in known for record in records if record.parent)
    for number, record in enumerate(records):
        before = number - 1 if number else None
        # A parent comes first; one that claims to come later would make a circle.
        if record.parent:
            at = numbers.get(record.parent, before)
            # Version 1.0 puts the developer's commands behind the notice in front of the first of them, whatever was said since.
            if record.is_command and at is not None and at in with_children and records[at].is_notice:
                at = before
            parents.append(at)
            if at is not None:
                with_children.add(at)
        else:
            parents.append(None if is_tree and record.is_root and record.is_prompt else before)
        if record.uuid:
            numbers[record.uuid] = number
    return parents


def _owners(records: Sequence[Record], parents: Sequence[int | None]) -> list[int | None]:
    """Number of the prompt that each record answers, a prompt's own."""
    owners: list[int | None] = []
    for number, record in enumerate(records):
        parent = parents[number]
        owners.append(number if record.is_prompt else None if parent is None else owners[parent])
    return owners


def _way_back(records: Sequence[Record], parents: Sequence[int | None]) -> set[int]:
    at = next((number for number in range(len(records) - 1, -1, -1) if records[number].type in TALK), None)
    kept: set[int] = set()
    while at is not None:
        kept.add(at)
        at = parents[at]
    return kept


def _agents(records: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    """The talk of each sub-agent, by its id or, in older files, by what hangs together."""
    chains: dict[str, list[Record]] = {}
    chain_of: dict[str, str] = {}
    for record in records:
        chain = record.agent or chain_of.get(record.parent, "") or str(len(chains) + 1)
        chains.setdefault(chain, []).append(record)
        if record.uuid:
            chain_of[record.uuid] = chain
    return list(chains.items())


def _tell(
    conversation: Conversation, records: Sequence[Record], lines: Lines, results: Mapping[str, Record], cwd: str
) -> None:
    """The records as events. Records of one message are one reply, where the first of them stands, up to what the developer says."""
    whole = Counter(record.message_id for record in records if record.type == "assistant")
    waiting: dict[str, list[Record]] = {}

    def tell(message_id: str) -> None:
        parts = waiting.pop(message_id)
        whole[message_id] -= len(parts)
        _reply(conversation, [lines.whole(part) for part in parts], lines, results, cwd)

    for record in records:
        if record.type == "summary":
            conversation.noted("summary", lines.whole(record).texts[0], record.time, record.offset)
        elif record.type == "user" and record.is_summary:
            conversation.noted("summary", "\n".join(lines.whole(record).texts), record.time, record.offset)
        elif record.type == "user":
            if record.speaks:
                for message_id in list(waiting):
                    tell(message_id)
            for text in lines.whole(record).texts if record.speaks else ():
                conversation.said(text, record.time, record.offset)
        elif record.type == "assistant":
            parts = waiting.setdefault(record.message_id, [])
            parts.append(record)
            if len(parts) == whole[record.message_id]:
                tell(record.message_id)


def _reply(
    conversation: Conversation, parts: Sequence[Record], lines: Lines, results: Mapping[str, Record], cwd: str
) -> None:
    uses: list[Use] = []
    words: list[tuple[str, float, int]] = []
    for block in (block for part in parts for block in part.uses):
        outline = results.get(id := str(block.get("id")))
        record = None if outline is None else lines.whole(outline)
        found = reversed(record.results if record is not None else ())
        result = next((one for one in found if str(one.get("tool_use_id")) == id), _NO_RESULT)
        use = _use(block, result, record, cwd)
        uses.append(use)
        if record is not None and (said := _words_of_developer(use, record)):
            words.append((said, record.time, record.offset))
    conversation.replied(
        "\n\n".join(text for part in parts for text in part.texts), parts[0].time, parts[0].offset,
        reasoning="\n\n".join(text for part in parts for text in part.reasoning), uses=uses,
    )  # fmt: skip
    for said, time, offset in words:
        conversation.said(said, time, offset, by_developer=True)


def _use(block: Mapping[str, Any], result: Mapping[str, Any], record: Record | None, cwd: str) -> Use:
    """A tool in neutral terms."""
    name, given = str(block["name"]), block.get("input")
    arguments: dict[str, Any] = given if isinstance(given, dict) else {}
    text = result_text(result.get("content"))
    # Several tools' results in one record share one `toolUseResult`: whose it is nobody can say.
    own = record.details if record is not None and len(record.results) == 1 else None
    details: dict[str, Any] = own if isinstance(own, dict) else {}
    failed = result.get("is_error") is True
    refused = failed and claude_refusals.is_refused(text)
    rejected = failed and not refused and (claude_refusals.is_rejected(text) or claude_refusals.is_rejected(str(own)))
    common: dict[str, Any] = {
        "name": name, "arguments": json.dumps(given, ensure_ascii=False, default=str), "result": text,
        "failed": failed, "rejected": rejected, "refused": refused,
    }  # fmt: skip
    if name == "Bash":
        return Use(**common, kind="shell", command=_string(arguments, "command"), exit_code=_exit_code(text, failed, record, own))
    if name in ("Read", "NotebookRead"):
        line = arguments.get("offset")
        return Use(**common, kind="read", path=_relative(_path_of(arguments), cwd), line=line - 1 if _is_line(line) else 0)
    if name in _EDIT_TOOLS:
        path = _relative(_path_of(arguments), cwd)
        offered = tuple(_offered(name, arguments, details, path))
        adjusted = details.get("userModified") is True and not failed
        written = tuple(_written(details, path)) if adjusted else ()
        # Without a result nobody knows whether it was done.
        return Use(**common | {"failed": failed or record is None}, kind="edit", changes=written or offered, offered=offered if adjusted else ())
    if name == "ExitPlanMode":
        return Use(**common, kind="plan", plan=_string(arguments, "plan"))
    if name == "TodoWrite":
        return Use(**common, kind="plan", plan=_todos(arguments.get("todos")))
    return Use(**common)


def _exit_code(text: str, failed: bool, record: Record | None, told: Any) -> int | None:
    """As far as it is known: a command may have been stopped, or still run. `told`: by the tool, if it is a mapping."""
    code = _EXIT_CODE.match(text) if failed else None
    if code is not None:
        return int(code[1])
    if isinstance(told, dict):
        # `grep` that found nothing, `diff` that found something: told in words.
        code = 1 if told.get("returnCodeInterpretation") else 0
        return None if failed or told.get("interrupted") or told.get("backgroundTaskId") else code
    return None if failed or record is None or claude_refusals.is_unended(text) else 0


def _offered(name: str, arguments: Mapping[str, Any], details: Mapping[str, Any], path: str) -> Iterator[Change]:
    """What the assistant wants to write, in the file as it was where the tool kept that."""
    original = details.get("originalFile")
    before = original if isinstance(original, str) and original else None
    if name == "Write":
        creates = details.get("type") == "create"
        content = _string(arguments, "content")
        yield Change(path=path, old=before or "", new=content, before=before, creates=creates, line=0 if creates else UNKNOWN_LINE)
        return
    if name == "NotebookEdit":
        whole, updated = details.get("original_file"), details.get("updated_file")
        if isinstance(whole, str) and isinstance(updated, str) and whole:
            yield Change(path=path, old=whole, new=updated, before=whole)
        else:
            yield Change(path=path, old="", new=_string(arguments, "new_source"))
        return
    lines = _places(details)
    edits = arguments.get("edits") if name == "MultiEdit" else [arguments]
    for edit in edits if isinstance(edits, list) else []:
        if isinstance(edit, dict):
            # Where quotes were mended, the tool says what it really looked for.
            old = _string(details, "oldString") if name == "Edit" and "oldString" in details else _string(edit, "old_string")
            new = _string(details, "newString") if name == "Edit" and "newString" in details else _string(edit, "new_string")
            if details.get("userModified") is True:
                old, new = _string(edit, "old_string"), _string(edit, "new_string")
            creates = not old and not before
            yield Change(
                path=path, old=old, new=new, before=before, creates=creates, everywhere=edit.get("replace_all") is True,
                line=0 if creates else _place_of(old, lines),
            )  # fmt: skip


def _written(details: Mapping[str, Any], path: str) -> Iterator[Change]:
    """What the developer made of it."""
    original, content = details.get("originalFile"), details.get("content")
    if isinstance(content, str):
        before = original if isinstance(original, str) and original else None
        yield Change(path=path, old=before or "", new=content, before=before, creates=before is None)
        return
    indented = _tabs(original) if isinstance(original, str) else {}
    for line, old, new in _hunks(details):
        width = next((len(_blanks(one)) // tabs for one in old if (tabs := indented.get(one.strip(), 0))), 0)
        old, new = ([_with_tabs(one, width) for one in lines] for lines in (old, new))
        yield Change(path=path, old="".join(one + "\n" for one in old), new="".join(one + "\n" for one in new), line=line)


def _tabs(original: str) -> dict[str, int]:
    """Line without what stands in front -> tabs that do."""
    return {line.strip(): len(line) - len(line.lstrip("\t")) for line in original.split("\n") if line.startswith("\t") and line.strip()}


def _with_tabs(line: str, width: int) -> str:
    """With the tabs for which the patch has so many blanks each; 0: none."""
    blanks = len(_blanks(line))
    return "\t" * (blanks // width) + " " * (blanks % width) + line[blanks:] if width else line


def _blanks(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" "))]


def _hunks(details: Mapping[str, Any]) -> Iterator[tuple[int, list[str], list[str]]]:
    """(0-based line, old, new) of `structuredPatch`, whose tabs in front of lines are blanks."""
    patch = details.get("structuredPatch")
    for hunk in patch if isinstance(patch, list) else []:
        lines = hunk.get("lines") if isinstance(hunk, dict) else None
        start = hunk.get("newStart") if isinstance(hunk, dict) else None
        if isinstance(lines, list) and all(isinstance(line, str) for line in lines) and _is_line(start):
            old = [line[1:] for line in lines if line[:1] in ("-", " ")]
            yield start - 1, old, [line[1:] for line in lines if line[:1] in ("+", " ")]


def _places(details: Mapping[str, Any]) -> dict[str, int]:
    """Line of each old line of the patch, without the blanks in front; of those that stand there once."""
    places: dict[str, int] = {}
    for start, old, _ in _hunks(details):
        for number, line in enumerate(old):
            places[line.strip()] = UNKNOWN_LINE if line.strip() in places else start + number
    return places


def _place_of(old: str, lines: Mapping[str, int]) -> int:
    return next((lines.get(line.strip(), UNKNOWN_LINE) for line in old.split("\n", 1)[:1]), UNKNOWN_LINE)


def _words_of_developer(use: Use, record: Record) -> str:
    """What the developer said in place of a result: why not, or an answer to a question."""
    if use.rejected:
        return claude_refusals.reason(use.result)
    if use.name == "AskUserQuestion" and not use.failed:
        answers = record.details.get("answers") if isinstance(record.details, dict) else None
        if isinstance(answers, dict):
            return "\n".join(str(answer) for answer in answers.values())
        return "\n".join(claude_refusals.answers(use.result))
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
    for separator in "/\\":
        if cwd and path.startswith(cwd.rstrip("/\\") + separator):
            return path[len(cwd.rstrip("/\\")) + 1 :].replace("\\", "/")
    return path


def _is_line(number: Any) -> TypeGuard[int]:
    """Whether it can be a line's number, from 1."""
    return isinstance(number, int) and 0 < number <= MAX_LINE


def _string(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""


