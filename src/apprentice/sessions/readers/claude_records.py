"""The lines of Claude Code's files as records: an outline of each for the tree, and the whole of one when it is told."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from apprentice.sessions.conversation import MAX_PATH, Sink
from apprentice.sessions.events import Provenance
from apprentice.sessions.readers.lines import MAX_LINE_BYTES

SOURCE = "claude_code"
TALK = ("user", "assistant")
MAX_ID = 200
"""Characters that are kept of the name of a session or an agent."""
_KNOWN = ("attachment", "file-history-snapshot", "progress", "queue-operation", "summary", "system")
"""Other types of records that are counted by their name."""
_NOTHING: list[Any] = []
"""What an outline has in place of texts."""
_NOWHERE = Provenance(source=SOURCE, file="")
_REREAD, _LATEST = 4, 8
"""How many times the size of the file is read again at most; records that are kept whole besides."""
_DETAILS = (
    "type", "originalFile", "original_file", "updated_file", "content", "oldString", "newString", "structuredPatch", "userModified",
    "interrupted", "backgroundTaskId", "returnCodeInterpretation", "answers",
)  # fmt: skip
"""What is kept of `toolUseResult`: the rest may be large."""
_COMMANDS = ("<bash-input>", "<command-name>", "<command-message>")
_UNPAIRED = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}")


@dataclass(slots=True)
class Record:
    """A line. Of all but the one that is told just now, only the outline is kept."""

    offset: int
    length: int
    time: float
    type: str
    uuid: str
    parent: str
    is_root: bool
    """It says that it has no parent, and is no compaction."""
    is_sidechain: bool = False
    agent: str = ""
    """Of a sub-agent."""
    cwd: str = ""
    message_id: str = ""
    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    uses: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    details: Any = None
    leaf: str = ""
    """Of a summary: the record up to which it tells."""
    is_summary: bool = False
    is_prompt: bool = False
    """Words in the developer's place."""
    answers: tuple[str, ...] = ()
    """Ids of the tools' uses of which it has the results."""
    speaks: bool = False
    """It has texts."""
    is_command: bool = False
    """That the developer typed into the tool."""

    @property
    def is_notice(self) -> bool:
        """The tool's, in the developer's place."""
        return self.type == "user" and not self.speaks and not self.answers

    def shorten(self) -> None:
        """To the outline."""
        self.speaks = bool(self.texts)
        self.is_command = self.speaks and self.texts[0].startswith(_COMMANDS)
        self.is_prompt = self.type == "user" and self.speaks and not self.results
        self.answers = tuple(str(result.get("tool_use_id")) for result in self.results)
        self.texts = self.reasoning = self.uses = self.results = _NOTHING
        self.details = None


class Lines:
    """The file's records once more, each by its outline."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb")
        self._budget = _REREAD * (path.stat().st_size + MAX_LINE_BYTES)
        self._latest: OrderedDict[int, Record] = OrderedDict()

    def whole(self, outline: Record) -> Record:
        """Raises: ValueError where the file changed, or its records refer to each other so often that it would take long."""
        if (record := self._latest.get(outline.offset)) is not None:
            return record
        self._budget -= outline.length
        if self._budget < 0:
            raise ValueError("its records refer to each other too often")
        self._stream.seek(outline.offset)
        data = decoded(self._stream.read(outline.length))
        record = outline_of(data, outline.time, outline.offset, outline.length) if isinstance(data, dict) else None
        if record is None or record.uuid != outline.uuid or not fill(record, data, _NOWHERE, _Silent()):
            raise ValueError("it changed while it was read")
        self._latest[outline.offset] = record
        if len(self._latest) > _LATEST:
            self._latest.popitem(last=False)
        return record

    def close(self) -> None:
        self._stream.close()


class _Silent:
    """Implements `Sink`: what there is to count was counted when the file was read first."""

    def redact(self, text: str) -> str:
        return text

    def add_text(self, redacted: str, *, near: str = "") -> str:
        return ""

    def drop(self, reason: str, count: int = 1) -> None:
        pass

    def keep_aside(self, reason: str, where: Provenance, detail: str = "") -> None:
        pass


def outline_of(data: dict[str, Any], time: float, offset: int, length: int) -> Record:
    uuid, parent = _links(data)
    agent, cwd = (value[:most] if isinstance(value := data.get(name), str) else "" for name, most in (("agentId", MAX_ID), ("cwd", MAX_PATH)))
    return Record(
        offset, length, time, data["type"], uuid, parent, not parent and "parentUuid" in data and data.get("isCompactSummary") is not True,
        data.get("isSidechain") is True, agent, cwd,
    )  # fmt: skip


def is_title(data: dict[str, Any]) -> bool:
    return data["type"] == "summary" and isinstance(data.get("summary"), str)


def fill(record: Record, data: dict[str, Any], where: Provenance, sink: Sink) -> bool:
    """What it says; whether it is one to keep."""
    kind = data["type"]
    if is_title(data):
        record.texts, record.leaf = [data["summary"]], str(data.get("leafUuid") or "")
    elif kind in TALK:
        return _take_message(record, data, where, sink)
    elif kind == "attachment" and (typed := _queued(data.get("attachment"))):
        record.type, record.texts = "user", [typed]
    elif kind == "system" and data.get("subtype") == "local_command" and isinstance(data.get("content"), str):
        record.type, record.texts = "user", [data["content"]]
    else:
        sink.drop(f"records of type {kind}" if kind in _KNOWN else "records of other types")
        record.type = "link"
        return bool(record.uuid)
    return True


def _take_message(record: Record, data: dict[str, Any], where: Provenance, sink: Sink) -> bool:
    """Whether there was a message that is known."""
    message = data.get("message")
    if not isinstance(message, dict):
        sink.keep_aside("no message", where, f"`message` is {type(message).__name__}")
        return False
    # Without either it is a message of its own.
    record.message_id = str(message.get("id") or record.uuid or f"@{record.offset}")
    record.is_summary = data.get("isCompactSummary") is True
    details = data.get("toolUseResult")
    record.details = {key: details[key] for key in _DETAILS if key in details} if isinstance(details, dict) else str(details)[:200]
    if data.get("isMeta") is True or data.get("isApiErrorMessage") is True or message.get("model") == "<synthetic>":
        sink.drop("notices of the tool")
    elif not _take_content(record, message.get("content")):
        sink.keep_aside("no content", where, f"`message.content` is {type(message.get('content')).__name__}")
        return False
    return True


def decoded(line: bytes) -> Any:
    """Raises: ValueError where it is no JSON. Half a character, where a tool cut a text, becomes a mark."""
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        mended = _UNPAIRED.sub(rb"\\ufffd", line) if len(line) < 4 << 20 else line
        if mended == line:
            raise
        return msgspec.json.decode(mended)


def _queued(attachment: Any) -> str:
    """What the developer typed while the assistant worked."""
    if not isinstance(attachment, dict) or attachment.get("type") != "queued_command" or attachment.get("commandMode") not in (None, "prompt"):
        return ""
    prompt = attachment.get("prompt")
    return prompt if isinstance(prompt, str) else result_text(prompt)


def _links(data: Mapping[str, Any]) -> tuple[str, str]:
    """Its own id and its parent's."""
    parent = data.get("parentUuid") or data.get("logicalParentUuid")
    return (str(data.get("uuid") or ""), parent if isinstance(parent, str) else "")


def _take_content(record: Record, content: Any) -> bool:
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


def result_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return ""


def seconds(text: Any) -> float:
    """ISO 8601 to seconds since 1970; 0 where it is none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0.0
