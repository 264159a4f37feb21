"""SWE-agent's trajectories (`trajectories/**/*.traj`) and mini-swe-agent's (`*.traj.json`): one JSON document, one session.

    {"trajectory": [{"thought", "response", "action", "observation", "state"}, ...],     a step each
     "history": [{"role", "content", "action", ...}, ...],      what the model saw; demonstrations have only this
     "info": {"submission": "diff ...", ...}, "replay_config": {...}}

    {"messages": [{"role", "content", "extra": {"actions", "returncode", ...}}, ...], "info": {...}}     mini-swe-agent

The issue is taken out of the user's first message and is the developer's prompt; what a template put around it is not theirs.
Times are known of mini-swe-agent only; a position in the file is the number of its step. The patch that was submitted at the end
is what the edits have made; it is counted and left out.

An edit's lines are those of SWE-agent's editor, as far as it showed them before (`windows`); edits that it refused, and those
that a shell made, are no edits here.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from apprentice.core.errors import InputError
from apprentice.sessions.conversation import Conversation, Sink, Use
from apprentice.sessions.events import Provenance, Session
from apprentice.sessions.readers.windows import Windows

SOURCE = "swe_agent"
SUFFIX = ".traj"
SUFFIXES = (SUFFIX, ".traj.json")
MAX_BYTES = 256 << 20
"""Of a file. Most of a large one are queries, which are not kept."""
MAX_NAME = 200
"""Characters of the name of an issue."""

_CURRENT = re.compile(r"\n?\(Open file: [^\n]*\)\n\(Current directory: ([^\n]*)\)\nbash-\$\s*\Z")
_PLACEHOLDER = re.compile(r"\{{1,2}\s*(?:problem_statement|task)\s*\}{1,2}")
_AROUND = (
    ("ISSUE:", "INSTRUCTIONS:"), ("<pr_description>\nConsider the following PR description:", "</pr_description>"),
    ("<pr_description>", "</pr_description>"), ("Please solve this issue:", "You can execute bash commands"),
)  # fmt: skip
"""The task in SWE-agent's and mini-swe-agent's own templates."""
_FENCE = re.compile(r"```(?:bash|sh|mswea_bash_command)\s*")
_RETURNED = re.compile(r"<returncode>(-?\d{1,5})</returncode>")
_SUBMITS = re.compile(r"submit\b|.*\b(?:COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT|MINI_SWE_AGENT_FINAL_OUTPUT)\b", re.DOTALL)
_INSTANCE = re.compile(r"__((?:(?!__)[\w.-])+)-i?\d{1,7}\Z")
_STARTED = re.compile(rb'"(?:timestamp|created)":\s*(\d{9,11}(?:\.\d{1,9})?)')
_LATEST = 1e11
"""Seconds since 1970; what is later is no time."""
_FOLDERS = ("testbed", "repo", "app", "workspace")
"""Of images of containers, the same for every repository."""


class _Step(msgspec.Struct):
    """As it stands in the file; what was sent to the model is not read."""

    action: Any = None
    observation: Any = None
    thought: Any = None
    response: Any = None
    state: Any = None


class _Document(msgspec.Struct):
    trajectory: list[_Step] | None = None
    history: list[Any] | None = None
    messages: list[Any] | None = None
    info: Any = None
    replay_config: Any = None
    instance_id: Any = None


@dataclass(slots=True)
class _Action:
    """A command and what came of it."""

    command: str
    output: str = ""
    exit_code: int | None = None
    call: str = ""
    """Id that its result names."""
    is_answered: bool = False


@dataclass(slots=True)
class _Turn:
    """What the assistant said and did at once."""

    number: int
    text: str
    actions: list[_Action] = field(default_factory=list)
    folder: str = ""
    """That it worked in."""
    reasoning: str = ""
    time: float = 0.0


class SweAgent:
    """Reads files one after the other; tells apart several runs on one issue."""

    source = SOURCE

    def __init__(self) -> None:
        self._names: Counter[str] = Counter()

    def recognizes(self, path: Path, beginning: bytes) -> bool:
        """Whether a file that begins so is one of these."""
        return path.name.endswith(SUFFIXES) and beginning.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"{", b"["))

    def identity(self, beginning: bytes) -> str:
        """A file is a session."""
        return ""

    def started(self, path: Path, beginning: bytes) -> float:
        """When the session began, as far as the beginning of its file says; 0 where it does not."""
        found = _STARTED.search(beginning)
        return float(found[1]) if found else 0.0

    def read(self, path: Path, sink: Sink) -> Iterator[Session]:
        """The session of a file, if it is one."""
        document = _document(path, sink)
        if document is None:
            return
        is_mini = document.messages is not None
        history = _messages(document.messages or document.history or [], path, sink)
        turns = _mini_turns(history, sink) if is_mini else _steps(document.trajectory or []) or _history_turns(history)
        name = _text(document.instance_id)[:MAX_NAME] or _stem(path)
        self._names[name] += 1
        conversation = Conversation(
            sink, source=SOURCE, file=path.name, session_id=name if self._names[name] == 1 else f"{name}-{self._names[name]}",
            agent="mini-swe-agent" if is_mini else "swe-agent", repository=_repository(name, turns),
        )  # fmt: skip
        _ask(conversation, document, history, turns[0].time if turns else 0.0, sink)
        _tell(conversation, turns, sink)
        if _submitted(document, turns):
            sink.drop("submitted patches")
        session = conversation.session()
        if session is not None:
            yield session


def _document(path: Path, sink: Sink) -> _Document | None:
    where = Provenance(source=SOURCE, file=path.name)
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            sink.keep_aside("file too large", where, f"{size:,} bytes")
            return None
        decoded = msgspec.json.decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), type=_Document | list[Any])
    except msgspec.ValidationError as error:
        sink.keep_aside("no trajectory", where, str(error)[:200])
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        sink.keep_aside("not JSON", where, str(error)[:200])
        return None
    except OSError as error:
        raise InputError(f"`{path}` cannot be read: {error.strerror}", hint="check its permissions") from error
    # mini-swe-agent began with messages alone.
    document = _Document(messages=decoded) if isinstance(decoded, list) else decoded
    entries = document.messages or document.history or []
    if not document.trajectory and not any(isinstance(entry, dict) and "role" in entry for entry in entries):
        sink.keep_aside("no trajectory", where, "no `trajectory`, and no message in `history` or `messages`")
        return None
    return document


def _messages(entries: Sequence[Any], path: Path, sink: Sink) -> list[tuple[int, dict[str, Any]]]:
    """(number, message) of those that are no demonstration."""
    messages: list[tuple[int, dict[str, Any]]] = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("role"), str):
            sink.keep_aside("no message", Provenance(source=SOURCE, file=path.name, offset=number), type(entry).__name__)
        elif entry.get("is_demo") is True:
            sink.drop("messages of demonstrations")
        else:
            messages.append((number, entry))
    return messages


def _steps(steps: Sequence[_Step]) -> list[_Turn]:
    turns: list[_Turn] = []
    for number, step in enumerate(steps):
        command, response = _text(step.action).strip("\n"), _text(step.response)
        turn = _Turn(number, _text(step.thought).strip() or response, folder=_folder(step.state))
        if command.strip():
            turn.actions.append(_Action(command, _lines(_text(step.observation))))
        turns.append(turn)
    return turns


def _history_turns(history: Sequence[tuple[int, dict[str, Any]]]) -> list[_Turn]:
    turns: list[_Turn] = []
    for number, message in history:
        content = _content(message)
        if message["role"] == "assistant":
            command = _text(message.get("action")).strip("\n")
            turns.append(_Turn(number, _text(message.get("thought")).strip() or content))
            turns[-1].actions += [_Action(command)] if command.strip() else []
        elif turns:
            current = _CURRENT.search(content)
            turns[-1].folder = current[1] if current else ""
            for action in turns[-1].actions:
                action.output += _lines(content[: current.start()] if current else content)
    return turns


def _mini_turns(history: Sequence[tuple[int, dict[str, Any]]], sink: Sink) -> list[_Turn]:
    turns: list[_Turn] = []
    for number, message in history:
        content, extra = _content(message), message.get("extra")
        if message["role"] == "assistant":
            words, fenced = _fences(content)
            actions = _mini_actions(message) or [_Action(command) for command in fenced]
            is_fenced = {*fenced} <= {action.command.strip() for action in actions}
            turn = _Turn(number, words if is_fenced else content, actions, reasoning=_text(message.get("reasoning_content")))
            time = _value(extra, "timestamp")
            turn.time = float(time) if isinstance(time, int | float) and 0 <= time < _LATEST else 0.0
            turns.append(turn)
        elif turns and message["role"] in ("tool", "user"):
            waiting = [action for action in turns[-1].actions if not action.is_answered]
            call = _text(message.get("tool_call_id"))
            if not waiting:
                sink.drop("messages that answer no command")
                continue
            action = next((action for action in waiting if call and action.call == call), waiting[0])
            action.output, action.exit_code = _mini_result(content, extra)
            action.is_answered = True
    return turns


def _mini_actions(message: Mapping[str, Any]) -> list[_Action]:
    """As they were recorded, or else as the model called for them."""
    listed, calls = _value(message.get("extra"), "actions"), message.get("tool_calls")
    actions = [
        _Action(_text(_value(action, "command")), call=_text(_value(action, "tool_call_id")))
        for action in (listed if isinstance(listed, list) else [])
    ] or [
        _Action(_text(_value(_decoded(_value(_value(call, "function"), "arguments")), "command")), call=_text(_value(call, "id")))
        for call in (calls if isinstance(calls, list) else [])
    ]
    return [action for action in actions if action.command.strip()]


def _fences(content: str) -> tuple[str, list[str]]:
    """The words around the commands, and the commands in their fences."""
    words: list[str] = []
    commands: list[list[str]] = []
    inside = False
    for line in content.split("\n"):
        if inside and line.rstrip() == "```":
            inside = False
        elif inside:
            commands[-1].append(line)
        elif _FENCE.fullmatch(line):
            inside = True
            commands.append([])
        else:
            words.append(line)
    return "\n".join(words).strip(), ["\n".join(lines).strip() for lines in commands if any(line.strip() for line in lines)]


def _mini_result(content: str, extra: Any) -> tuple[str, int | None]:
    """(output, exit code); a negative one stands for none."""
    found = _RETURNED.search(content)
    raw, code = _value(extra, "raw_output"), _value(extra, "returncode")
    if found and not isinstance(code, int):
        code = int(found[1])
    printed, _, _ = content.partition("<output>")[2].rpartition("</output>")
    output = raw if isinstance(raw, str) else printed.removeprefix("\n") if found else content
    return _lines(output), code if isinstance(code, int) and not isinstance(code, bool) and 0 <= code < 1 << 15 else None


def _ask(
    conversation: Conversation, document: _Document, history: Sequence[tuple[int, dict[str, Any]]], time: float, sink: Sink
) -> None:
    """The issue, as the developer's prompt."""
    number, statement = next(((number, _content(message)) for number, message in history if message["role"] == "user"), (0, ""))
    replayed, config = _decoded(document.replay_config), _value(document.info, "config")
    holders = (_value(_value(replayed, "agent"), "templates"), _value(config, "agent"))
    issue = _issue(statement, [_text(_value(holder, "instance_template")) for holder in holders])
    if issue:
        conversation.said(issue, time, number)
    elif statement:
        sink.drop("tasks that do not stand apart from what the tool put around them")


def _issue(statement: str, templates: Sequence[str]) -> str:
    """What stands in the place that a template leaves for it."""
    around: list[tuple[str, str]] = []
    for template in templates:
        if (place := _PLACEHOLDER.search(template)) is not None:
            above, below = template[: place.start()].strip().split("\n"), template[place.end() :].strip().split("\n")
            around.append((above[-1].strip(), below[0].strip()))
    for head, tail in (*around, *_AROUND):
        start = statement.find(head) if head else -1
        end = statement.find(tail, start + len(head)) if tail and start >= 0 else -1
        if end >= 0:
            return _lines(statement[start + len(head) : end]).strip()
    return ""


def _tell(conversation: Conversation, turns: Sequence[_Turn], sink: Sink) -> None:
    """The turns as events."""
    windows = Windows(next((turn.folder for turn in turns if turn.folder), ""))
    for turn in turns:
        uses: list[Use] = []
        for action in turn.actions:
            arguments = json.dumps({"command": action.command}, ensure_ascii=False)
            if _SUBMITS.match(action.command):
                uses.append(Use(name="submit", arguments=arguments))
            elif (use := windows.use(action.command, arguments, action.output, turn.folder)) is not None:
                uses.append(use)
                if use.kind == "edit" and use.failed:
                    sink.drop("edits that were not applied")
            else:
                uses.append(Use(
                    name="bash", arguments=arguments, result=action.output, kind="shell", command=action.command,
                    exit_code=action.exit_code,
                ))  # fmt: skip
        conversation.replied(turn.text, turn.time, turn.number, reasoning=turn.reasoning, uses=uses)


def _submitted(document: _Document, turns: Sequence[_Turn]) -> bool:
    """Whether a patch was handed in: the last thing that a session prints."""
    printed = any(action.output.strip() for turn in turns for action in turn.actions if _SUBMITS.match(action.command))
    return printed or bool(_value(document.info, "submission"))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".json").removesuffix(SUFFIX)


def _repository(name: str, turns: Sequence[_Turn]) -> str:
    """Its name without the owner's, by the folder or else by the name of the issue: `OWNER__REPOSITORY-NUMBER`."""
    folder = next((Path(turn.folder).name for turn in turns if turn.folder), "").split("__")[-1]
    if folder and folder not in _FOLDERS:
        return folder
    found = _INSTANCE.search(name)
    return found[1] if found else ""


def _folder(state: Any) -> str:
    """That a step's state names."""
    folder = _text(_value(_decoded(state), "working_dir"))
    return folder if folder.startswith("/") else ""


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    return "\n".join(text for part in parts if (text := _text(_value(part, "text"))))


def _lines(output: str) -> str:
    """Without the line breaks of a terminal."""
    return output.replace("\r\n", "\n")


def _decoded(value: Any) -> Any:
    """What may be JSON text, as what it says."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _value(values: Any, name: str) -> Any:
    return values.get(name) if isinstance(values, dict) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
