"""Cursor's databases: `User/globalStorage/state.vscdb` with all talks, `User/workspaceStorage/HASH/state.vscdb` of each project.

    cursorDiskKV  composerData:COMPOSER         a talk: order of its messages, code blocks, texts of files at first
                  bubbleId:COMPOSER:BUBBLE      a message: type 1 developer, 2 assistant; text, thinking, toolFormerData
                  codeBlockDiff:..., codeBlockPartialInlineDiffFates:..., ofsContent:..., composer.content....    (cursor_changes)
    ItemTable     composer.composerData         of a project: which talks are its own; once also the talks themselves
                  workbench.panel.composerChatViewPane...        of a project: its talks again
                  composer.composerHeaders      of the global one: in which project each talk is, and whether it is a sub-agent's
    composerHeaders                             since 3.12 the same as a table
                  workbench.panel.aichat.view.aichat.chatdata    the oldest talks: tabs with their messages
                  aiService.prompts, aiService.generations       what was typed, without the answers

Each composer and each tab is a session, its messages in the order of the talk's own list (`fullConversationHeadersOnly`, before that
`conversation`); a sub-agent's is asked by the assistant. Messages that no list names were taken back or written anew: without
their place they are counted only. A message's number in its talk stands for its place in the file.

What Cursor or another agent writes in the developer's place (a plan that is carried out, a reminder) is the assistant's.

THERE IS NO SPECIFICATION, AND NO REAL DATABASE WAS AT HAND: this is written from what others found out about theirs (versions up
to 3.23, records 1 to 18) and tested on databases made from their descriptions. Unknown forms are passed over, counted, never guessed.
Sources: specstoryai/getspecstory, S2thend/cursor-history, thomas-pedersen/cursor-chat-browser, somogyijanos/cursor-chat-export,
pppp606/cursor-efficiency, michaeldhood/chatrxiv, JayantDevkar/claude-code-karma, MatijaMiki/ranwhat, Frankie-Xu/threadport,
theodo-group/coding-conversation-analyzer, maksy5310/cursor-helper.

Left out: context that was attached, checkpoints, request contexts, `agentKv` (the same talks as the model saw them), edits by Ctrl-K
(rows `inlineDiff...`) and suggestions of Tab. Databases of other editors have the same form and none of these keys.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from apprentice.sessions.conversation import Conversation, Sink, Use, folder_name
from apprentice.sessions.events import Provenance, Session
from apprentice.sessions.readers.cursor_changes import (
    Changes,
    Offer,
    Tool,
    decode,
    first_string,
    listing,
    local_path,
    mapping,
    printed,
    wanted,
)
from apprentice.sessions.readers.sqlite_files import MAGIC, Database, Rows
from apprentice.sessions.unusable import Unusable

SOURCE = "cursor"
AGENT = "cursor"
PLACES = ("~/.config/Cursor/User", "~/Library/Application Support/Cursor/User", "~/AppData/Roaming/Cursor/User")
"""Where such files lie."""
SUFFIX = ".vscdb"
MAX_TALK_BYTES = 256 << 20
MAX_MESSAGES = 100_000
"""Of a talk."""

_ITEMS, _KV = "ItemTable", "cursorDiskKV"
_LIST = "fullConversationHeadersOnly"
_CHATS = ("workbench.panel.aichat.view.aichat.chatdata", "workbench.panel.chat.view.chat.chatdata")
_COMPOSERS, _HEADERS, _PROMPTS, _GENERATIONS = (
    "composer.composerData", "composer.composerHeaders", "aiService.prompts", "aiService.generations",
)  # fmt: skip
_HEADERS_TABLE = {"composerHeaders": ("composerId", "isSubagent", "value")}
_PANES, _VIEW = "workbench.panel.composerChatViewPane", "workbench.panel.aichat.view."
_HAS_TALKS_ELSEWHERE = ("hasMigratedComposerData", "hasMigratedMultipleComposers", "selectedComposerIds")
_MARKED = "isSubagent"
_KEPT = ("workspaceIdentifier", "subagentInfo", "isBestOfNSubcomposer")
_SUB_AGENTS = ("subagentComposerIds", "supersededSubagentComposerIds", "subComposerIds")
_USER, _ASSISTANT = 1, 2
_TOOLS_OF_TALK = 15
"""The capability in which talks up to version 2 keep the tools of all their messages."""
_SHELLS = ("run_terminal_cmd", "run_terminal_command", "run_terminal_command_v2", "execute_command")
_QUESTION = "ask_question"
_READS = ("read_file", "read_file_v2")
_PLANS = ("create_plan", "todo_write", "TodoWrite")
_LINES = ("startLineOneIndexed", "start_line_one_indexed", "offset")
_DRIVE = re.compile(r"[A-Za-z]:(?:[/\\]|\Z)")
_MAX_FOLDER_FILE_BYTES = 1 << 20
_BLOCKS_OF_TEXT = ("paragraph", "heading", "code", "listitem", "linebreak", "hardBreak")


@dataclass(slots=True)
class _Index:
    """What a database holds besides the talks themselves."""

    items: dict[str, Any] = field(default_factory=dict)
    composers: list[tuple[float, str]] = field(default_factory=list)
    """(begun, id)"""
    sub_agents: set[str] = field(default_factory=set)
    headers: list[dict[str, Any]] = field(default_factory=list)
    """What is said of talks beside them."""
    panes: list[str] = field(default_factory=list)
    """Talks that are open in a project."""
    aside: list[tuple[str, str]] = field(default_factory=list)
    """(reason, detail) of what could not be read."""

    @property
    def tabs(self) -> list[dict[str, Any]]:
        """Of the oldest form of talks."""
        tabs = (tab for key in _CHATS for tab in listing(mapping(self.items.get(key)).get("tabs")))
        return [tab for tab in tabs if isinstance(tab, dict)]


@dataclass(slots=True)
class _Talk:
    """A composer with the rows that it needs."""

    header: dict[str, Any]
    messages: list[dict[str, Any]] = field(default_factory=list)
    rows: dict[str, bytes] = field(default_factory=dict)
    aside: list[tuple[str, str]] = field(default_factory=list)
    missing: int = 0
    unnamed: int = 0


class Cursor:
    """Reads files one after the other; knows the talks that it has read, and from the projects' databases whose they are."""

    source = SOURCE

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._folders: dict[str, str] = {}
        self._sub_agents: set[str] = set()

    def recognizes(self, path: Path, beginning: bytes) -> bool:
        """Whether a file that begins so is one of these."""
        return path.suffix == SUFFIX and beginning.startswith(MAGIC)

    def identity(self, beginning: bytes) -> str:
        """Its talks are told apart one by one."""
        return ""

    def started(self, path: Path, beginning: bytes) -> float:
        """Not known: a database is of all times."""
        return 0.0

    def read(self, path: Path, sink: Sink) -> Iterator[Session]:
        """The sessions of a database, tabs first, then composers by the time when they began."""
        database, file = Database(path, _ITEMS, _KV, records=_HEADERS_TABLE), f"{path.parent.name}/{path.name}"
        try:
            index = database.read(_index)
        except Unusable as unusable:
            sink.keep_aside(unusable.reason, Provenance(source=SOURCE, file=file), unusable.detail)
            return
        _say_aside(sink, file, index.aside)
        folder = _project_folder(path)
        inline = self._learn(index, folder, path.parent.name)
        yield from self._tabs(index, folder, file, sink)
        yield from self._inline(inline, folder, file, sink)
        yield from self._typed(index, f"{path.parent.name}/prompts", _has_talks(index, inline), folder, file, sink)
        for _, composer_id in sorted(index.composers):
            if self._is_new(composer_id, sink):
                try:
                    talk = database.read(partial(_talk, composer_id=composer_id))
                except Unusable as unusable:
                    sink.keep_aside(unusable.reason, Provenance(source=SOURCE, file=file), f"{composer_id}: {unusable.detail}")
                    continue
                yield from self._session(composer_id, talk, folder, file, sink)

    def _learn(self, index: _Index, folder: str, workspace: str) -> list[dict[str, Any]]:
        """Remembers which project talks belong to, and whose they are; the talks in the project's own list, with or without messages."""
        self._sub_agents |= index.sub_agents
        listed = [entry for entry in listing(mapping(index.items.get(_COMPOSERS)).get("allComposers")) if isinstance(entry, dict)]
        chosen = [one for one in listing(mapping(index.items.get(_COMPOSERS)).get("selectedComposerIds")) if isinstance(one, str)]
        for name in (workspace, *chosen, *index.panes, *(first_string(entry, "composerId") for entry in listed)):
            if folder and name:
                self._folders.setdefault(name, folder)
        for entry in index.headers:
            composer_id = first_string(entry, "composerId")
            if found := self._folder_of(entry):
                self._folders.setdefault(composer_id, found)
            if _is_sub_agent(entry):
                self._sub_agents.add(composer_id)
        return listed

    def _folder_of(self, header: Mapping[str, Any]) -> str:
        """Of the project that a talk says it is in."""
        identifier = mapping(header.get("workspaceIdentifier"))
        of_several = local_path(identifier.get("configPath")).removesuffix(".code-workspace")
        return local_path(identifier.get("uri")) or of_several or self._folders.get(first_string(identifier, "id"), "")

    def _is_new(self, session_id: str, sink: Sink) -> bool:
        if session_id in self._seen:
            sink.drop("talks that another database has")
        return session_id not in self._seen

    def _tabs(self, index: _Index, folder: str, file: str, sink: Sink) -> Iterator[Session]:
        for tab in index.tabs:
            messages = [bubble for bubble in listing(tab.get("bubbles"))[:MAX_MESSAGES] if isinstance(bubble, dict)]
            tab_id = first_string(tab, "tabId", "id")
            if messages and tab_id and self._is_new(tab_id, sink):
                kinds = {"user": _USER, "ai": _ASSISTANT}
                typed = [{**bubble, "type": kinds.get(str(bubble.get("type")), bubble.get("type"))} for bubble in messages]
                header = {"createdAt": tab.get("createdAt") or tab.get("lastSendTime") or tab.get("timestamp")}
                yield from self._session(tab_id, _Talk(header, typed), folder, file, sink)

    def _inline(self, listed: Sequence[dict[str, Any]], folder: str, file: str, sink: Sink) -> Iterator[Session]:
        for entry in listed:
            messages = [bubble for bubble in listing(entry.get("conversation"))[:MAX_MESSAGES] if isinstance(bubble, dict)]
            composer_id = first_string(entry, "composerId")
            if messages and composer_id and self._is_new(composer_id, sink):
                yield from self._session(composer_id, _Talk(entry, messages), folder, file, sink)

    def _typed(self, index: _Index, session_id: str, has_talks: bool, folder: str, file: str, sink: Sink) -> Iterator[Session]:
        """What was typed, as far as no talk says it too: with talks at hand, only what is known to have been typed elsewhere."""
        generations = {first_string(one, "textDescription"): one for one in map(mapping, listing(index.items.get(_GENERATIONS)))}
        typed = [first_string(mapping(one), "text") for one in listing(index.items.get(_PROMPTS))] or list(generations)
        if not any(text.strip() for text in typed) or not self._is_new(session_id, sink):
            return
        conversation = Conversation(sink, source=SOURCE, file=file, session_id=session_id, agent=AGENT, repository=folder_name(folder, sink))
        for number, text in enumerate(typed[:MAX_MESSAGES]):
            generation = generations.get(text) or dict[str, Any]()
            if has_talks and str(generation.get("type", "composer")) in ("composer", "chat"):
                sink.drop("prompts that a talk holds")
            elif text.strip():
                conversation.said(text, _seconds(generation.get("unixMs")), number)
        yield from self._made(conversation, session_id)

    def _session(self, session_id: str, talk: _Talk, folder: str, file: str, sink: Sink) -> Iterator[Session]:
        _say_aside(sink, file, talk.aside)
        for count, reason in ((talk.missing, "messages that are gone"), (talk.unnamed, "messages that their talk does not name")):
            if count:
                sink.drop(reason, count)
        tracked = mapping(next(iter(listing(talk.header.get("trackedGitRepos"))), None))
        folder = self._folder_of(talk.header) or self._folders.get(session_id, "") or folder or first_string(tracked, "repoPath")
        is_sub_agent = session_id in self._sub_agents or session_id.startswith("task-") or _is_sub_agent(talk.header)
        # Those that it called began later, and are told later.
        extras = (mapping(mapping(message.get("toolFormerData")).get("additionalData")) for message in talk.messages)
        self._sub_agents.update(filter(None, (first_string(extra, "subagentComposerId") for extra in extras)))
        conversation = Conversation(
            sink, source=SOURCE, file=file, session_id=session_id, agent=AGENT, repository=folder_name(folder, sink), by_assistant=is_sub_agent
        )
        _tell(conversation, session_id, talk, folder, sink)
        yield from self._made(conversation, session_id)

    def _made(self, conversation: Conversation, session_id: str) -> Iterator[Session]:
        session = conversation.session()
        if session is not None:
            self._seen.add(session_id)
            yield session


def _index(rows: Rows) -> _Index:
    index = _Index()
    for key in (*_CHATS, _COMPOSERS, _HEADERS, _PROMPTS, _GENERATIONS):
        value = _value(rows, _ITEMS, key, index.aside)
        if value is not None:
            index.items[key] = _json(value, key, index.aside)
    for key in rows.keys(_KV, "composerData:"):
        header: dict[str, Any] = {}
        with suppress(Unusable):
            header = mapping(rows.value(_KV, key))
        index.composers.append((_seconds(header.get("createdAt")), key.partition(":")[2]))
        index.sub_agents.update(one for name in _SUB_AGENTS for one in listing(header.get(name)) if isinstance(one, str))
    index.headers = [entry for entry in listing(mapping(index.items.get(_HEADERS)).get("allComposers")) if isinstance(entry, dict)]
    for composer_id, is_sub_agent, value in rows.records("composerHeaders"):
        if isinstance(composer_id, bytes):
            kept = {name: found for name, found in mapping(value).items() if name in _KEPT}
            index.headers.append({**kept, "composerId": composer_id.decode("utf-8", "replace"), _MARKED: is_sub_agent == 1})
    for key in rows.keys(_ITEMS, _PANES):
        pane = mapping(_value(rows, _ITEMS, key, index.aside))
        index.panes += [name.removeprefix(_VIEW) for name in pane if name.startswith(_VIEW)]
    return index


def _has_talks(index: _Index, inline: Sequence[dict[str, Any]]) -> bool:
    """Here or, as a project's database says, in the global one."""
    composers = mapping(index.items.get(_COMPOSERS))
    return bool(inline or index.composers or index.tabs or index.panes) or any(name in composers for name in _HAS_TALKS_ELSEWHERE)


def _is_sub_agent(header: Mapping[str, Any]) -> bool:
    """An assistant asks in it; of several that try the same, the developer's words stand in the first talk."""
    marks = (_MARKED, "isBestOfNSubcomposer")
    return any(header.get(mark) is True for mark in marks) or bool(mapping(header.get("subagentInfo")))


def _talk(rows: Rows, composer_id: str) -> _Talk:
    """Raises: Unusable where it cannot be read."""
    value = rows.value(_KV, f"composerData:{composer_id}")
    header = decode(value) if value is not None else {}
    if not isinstance(header, dict):
        raise Unusable("not JSON", aside=True, detail=f"composerData is {type(header).__name__}")
    talk, size = _Talk(header), len(value or b"")
    prefix = f"bubbleId:{composer_id}:"
    stored = [key[len(prefix) :] for key in rows.keys(_KV, prefix)]
    named = _named(header) or dict[str, dict[str, Any]].fromkeys(stored, {})
    named = _aligned(rows, prefix, named, stored)
    talk.unnamed = len(set(stored) - named.keys())
    within = mapping(header.get("conversationMap"))
    is_list_only = not listing(header.get("conversation")) or bool(listing(header.get(_LIST)))
    for bubble_id, known in list(named.items())[:MAX_MESSAGES]:
        row = _value(rows, _KV, prefix + bubble_id, talk.aside)
        size += len(row or b"")
        if size > MAX_TALK_BYTES:
            talk.aside.append(("talk too long", f"{composer_id}: from message {len(talk.messages)} on"))
            break
        bubble = within.get(bubble_id) if row is None else _json(row, prefix + bubble_id, talk.aside)
        if is_list_only and not mapping(bubble):
            talk.missing += 1
            continue
        # An empty text in the row is none.
        own = {name: value for name, value in mapping(bubble).items() if value not in ("", None) or not known.get(name)}
        talk.messages.append({**known, **own, "bubbleId": bubble_id})
    tools = (tool for message in talk.messages if (tool := Tool.of(message.get("toolFormerData"))) is not None)
    for key in dict.fromkeys(wanted(composer_id, header, tools)):
        row = _value(rows, _KV, key, talk.aside)
        if row is not None and (size := size + len(row)) <= MAX_TALK_BYTES:
            talk.rows[key] = row
    return talk


def _aligned(rows: Rows, prefix: str, named: dict[str, dict[str, Any]], stored: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Where a talk was restored, its list has other ids than the messages: they are known by when they began."""
    gone, unnamed = named.keys() - set(stored), [one for one in stored if one not in named]
    if not gone or not unnamed:
        return named
    began: dict[tuple[str, float], deque[str]] = {}
    for one in unnamed:
        with suppress(Unusable):
            began.setdefault(_moment(mapping(rows.value(_KV, prefix + one))), deque()).append(one)
    found: dict[str, dict[str, Any]] = {}
    for one, known in named.items():
        same = began.get(_moment(known)) if one in gone and _moment(known)[1] else None
        found[same.popleft() if same else one] = known
    return found


def _moment(message: Mapping[str, Any]) -> tuple[str, float]:
    """Who wrote it, and when."""
    return str(message.get("type")), _seconds(message.get("startedAtMs")) or _time(message)


def _named(header: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Messages in the order of the talk: id -> what the talk itself says of it."""
    for name in (_LIST, "conversation"):
        entries = [entry for entry in listing(header.get(name)) if isinstance(entry, dict)]
        if entries:
            return {first_string(entry, "bubbleId") or f"#{number}": entry for number, entry in enumerate(entries)}
    return {}


def _value(rows: Rows, table: str, key: str, aside: list[tuple[str, str]]) -> bytes | None:
    try:
        return rows.value(table, key)
    except Unusable as unusable:
        aside.append((unusable.reason, unusable.detail))
        return None


def _json(value: bytes, key: str, aside: list[tuple[str, str]]) -> Any:
    found = decode(value)
    if found is None and value.strip() != b"null":
        aside.append(("not JSON", key))
    return found


def _say_aside(sink: Sink, file: str, aside: Sequence[tuple[str, str]]) -> None:
    for reason, detail in aside:
        sink.keep_aside(reason, Provenance(source=SOURCE, file=file), detail[:200])


def _tell(conversation: Conversation, session_id: str, talk: _Talk, folder: str, sink: Sink) -> None:
    """The messages as events. Reasoning that stands alone belongs to what follows it."""

    def place(path: Any) -> str:
        return _relative(local_path(path), folder)

    changes = Changes(session_id, talk.header, talk.rows, place)
    tools = _tools_of_talk(talk.header)
    time, reasoning, number = _seconds(talk.header.get("createdAt")), "", 0
    for number, message in enumerate(talk.messages):
        time = _time(message) or time
        if message.get("type") == _USER:
            if reasoning:
                conversation.replied("", time, number, reasoning=reasoning)
                reasoning = ""
            if (words := _words(message)) and _is_tools(message):
                conversation.asked(words, time, number, by_assistant=True)
            elif words:
                conversation.said(words, time, number)
            continue
        if message.get("type") != _ASSISTANT:
            sink.drop("messages of another kind")
            continue
        bubble_id = first_string(message, "bubbleId")
        tool = Tool.of(message.get("toolFormerData")) or Tool.of(tools.get(bubble_id))
        offers = [offer for offer in changes.offers(bubble_id, tool) if all(change.path for change in offer.changes)]
        text, reasoning = first_string(message, "text", "rawText"), "\n\n".join(part for part in (reasoning, _thoughts(message)) if part)
        if text.strip() or tool is not None:
            uses = [_use(tool, offers, place)] if tool is not None else []
            conversation.replied(text, time, number, reasoning=reasoning, uses=uses)
            reasoning = ""
        for offer in offers:
            conversation.offered(offer.changes, offer.outcome, time, number)
        if tool is not None and (words := _said_of(tool)):
            conversation.asked(words, time, number)
    if reasoning:
        conversation.replied("", time, number, reasoning=reasoning)
    for count, reason in ((changes.not_applied, "code blocks that were not applied"), (changes.left, "code blocks of no message")):
        if count:
            sink.drop(reason, count)


def _use(tool: Tool, offers: Sequence[Offer], place: Any) -> Use:
    """A tool in neutral terms; what it changed is told by `offers`."""
    common: dict[str, Any] = {
        "name": tool.name, "arguments": tool.text, "result": tool.answer, "failed": not tool.is_done, "rejected": tool.is_rejected,
    }  # fmt: skip
    if tool.name in _SHELLS:
        command = first_string(tool.result, "updatedCommand") or first_string(tool.arguments, "command")
        common["result"] = printed(tool)
        return Use(**common, kind="shell", command=command, exit_code=_exit_code(tool), refused=not tool.has_run)
    if tool.name in _READS:
        number = next((found for name in _LINES if isinstance(found := tool.arguments.get(name), int)), 0)
        return Use(**common, kind="read", path=place(tool.path), line=number - 1 if 0 < number < 1 << 31 else 0)
    if tool.name in _PLANS and tool.is_done:
        return Use(**common, kind="plan", plan=first_string(tool.arguments, "plan") or _todos(tool.result.get("finalTodos") or tool.arguments.get("todos")))
    # What was rejected without a word of what it was leaves at least that.
    is_told = tool.is_edit and any(change.old or change.new for offer in offers for change in offer.changes)
    return Use(**common | {"rejected": tool.is_rejected and not is_told})


def _exit_code(tool: Tool) -> int | None:
    """Zero is left out of results as a default value: then only a run that came to its end had it."""
    for name in ("exitCodeV2", "exitCode"):
        code = tool.result.get(name)
        if isinstance(code, int) and not isinstance(code, bool) and abs(code) < 1 << 31:
            return code
    came_to_end = str(tool.result.get("endedReason")).endswith("EXECUTION_COMPLETED")
    came_to_end = came_to_end or (tool.result.get("notInterrupted") is True and tool.extra.get("status") == "success")
    goes_on = any(map(tool.result.get, ("backgroundShellId", "isRunningInBackground", "poppedOutIntoBackground")))
    return 0 if tool.is_done and came_to_end and not goes_on else None


def _tools_of_talk(header: Mapping[str, Any]) -> dict[str, Any]:
    for capability in map(mapping, listing(header.get("capabilities"))):
        if capability.get("type") == _TOOLS_OF_TALK:
            return mapping(mapping(capability.get("data")).get("bubbleDataMap"))
    return {}


def _said_of(tool: Tool) -> str:
    """What the developer said in place of a yes or no, or answered to a question."""
    review = (mapping(tool.extra.get("reviewData")), mapping(tool.result.get("humanReviewV2")))
    words = [first_string(review[0], "finalFeedbackText"), first_string(review[1], "feedbackText")]
    questions = {str(mapping(one).get("id")): listing(mapping(one).get("options")) for one in listing(tool.arguments.get("questions"))}
    for answer in map(mapping, listing(tool.result.get("answers")) if tool.name == _QUESTION else []):
        options = map(mapping, questions.get(str(answer.get("questionId")), []))
        chosen = listing(answer.get("selectedOptionIds"))
        words += [first_string(option, "label") for option in options if option.get("id") in chosen]
        words.append(first_string(answer, "freeformText"))
    return "\n".join(dict.fromkeys(word.strip() for word in words if word.strip()))


def _is_tools(message: Mapping[str, Any]) -> bool:
    """Cursor, or another agent, wrote it in the developer's place."""
    marks = ("isSimulatedMsg", "isPlanExecution")
    return (
        any(message.get(mark) is True for mark in marks) or mapping(message.get("grouping")).get("isSimulatedMsg") is True
        or bool(first_string(message, "sentByAgentId", "subagentSpawnTaskToolCallId"))
    )


def _words(message: Mapping[str, Any]) -> str:
    """What the developer typed; of old forms the text of the input field."""
    written = first_string(message, "text", "rawText") or first_string(mapping(message.get("delegate")), "a")
    return written or _plain(message.get("richText")) or _plain(message.get("initText"))


def _plain(rich: Any) -> str:
    """Text of an input field, a tree of paragraphs."""
    parts: list[str] = []
    stack: list[Any] = [mapping(rich).get("root") or mapping(rich)]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            parts.append(node)
        elif isinstance(node, dict):
            if isinstance(node.get("text"), str):
                parts.append(node["text"])
            inner = node.get("children") or node.get("content")
            if node.get("type") in _BLOCKS_OF_TEXT:
                stack.append("\n")
            stack += reversed(inner) if isinstance(inner, list) else []
    return "".join(parts).strip()


def _thoughts(message: Mapping[str, Any]) -> str:
    thinking = message.get("thinking")
    own = thinking if isinstance(thinking, str) else first_string(mapping(thinking), "text")
    blocks = (first_string(mapping(block), "thinking", "text") for block in listing(message.get("allThinkingBlocks")))
    return (own or "\n\n".join(block for block in blocks if block)).strip()


def _todos(todos: Any) -> str:
    lines: list[str] = []
    for todo in listing(todos):
        content = first_string(mapping(todo), "content") or (todo if isinstance(todo, str) and not mapping(todo) else "")
        status = str(mapping(todo).get("status")).lower()
        lines += [f"[{'x' if status.endswith('completed') else '~' if status.endswith('progress') else ' '}] {content}"] if content else []
    return "\n".join(lines)


def _project_folder(path: Path) -> str:
    """Of the project whose database it is: `workspace.json` beside it says so."""
    try:
        with path.with_name("workspace.json").open("rb") as stream:
            project = mapping(stream.read(_MAX_FOLDER_FILE_BYTES))
    except OSError:
        return ""
    workspace = project.get("workspace")
    several = local_path(mapping(workspace).get("configPath") or workspace)
    return local_path(project.get("folder")) or several.removesuffix(".code-workspace")


def _relative(path: str, folder: str) -> str:
    """Within the folder that the developer worked in."""
    inside = folder.rstrip("/\\")
    if _DRIVE.match(inside):
        # One file is written in several ways there.
        path, inside = path.replace("\\", "/"), inside.replace("\\", "/")
        path = path[:1].lower() + path[1:] if _DRIVE.match(path) else path
        inside = inside[:1].lower() + inside[1:]
    if inside and path[: len(inside)] == inside and path[len(inside) :][:1] in ("/", "\\"):
        return path[len(inside) :].lstrip("/\\")
    return path.removeprefix("./")


def _time(message: Mapping[str, Any]) -> float:
    """When it was written; of old messages the clock of the request."""
    clocks = mapping(message.get("timingInfo"))
    moments = (
        message.get("createdAt"), message.get("startedAtMs"), message.get("timestamp"), clocks.get("clientStartTime"),
        clocks.get("clientRpcSendTime"), clocks.get("clientSettleTime"), clocks.get("clientEndTime"),
    )  # fmt: skip
    return next((found for moment in moments if (found := _seconds(moment))), 0.0)


def _seconds(moment: Any) -> float:
    """ISO 8601, or milliseconds since 1970, to seconds; 0 where it is none (a clock that counts from a program's start)."""
    try:
        seconds = datetime.fromisoformat(moment).timestamp() if isinstance(moment, str) else float(moment) / 1000
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return seconds if 946_684_800 <= seconds <= 32_503_680_000 else 0.0
