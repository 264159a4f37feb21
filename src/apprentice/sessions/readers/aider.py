"""Aider's history: `.aider.chat.history.md` in a project, to which each start of Aider appends.

    # aider chat started at 2025-10-20 21:49:17     a session; in local time, the only time that is written
    #### /add a.py                                  what the developer typed, a line each: a command (`/`, `!`) or words
    > Added a.py to the chat                        what the tool says
    I change ...                                    the assistant: everything else, with its edits (`edit_blocks`)
    > Applied edit to a.py                          what became of them
    > Commit 0123abc fix: ...

Who wrote a line, `aider_blocks` finds out. The tool puts words of its own in the developer's place (a plan that goes from one
model to another, messages of a linter): those are no prompts. It does not write down what it was asked in a comment that it
watched for: that is taken from the lines that the reply replaced.

An edit is one only where the tool says that it was applied; others are counted. What `/undo` took back is a suggestion that was
undone, what the developer did not allow one that was rejected. Aider matches lines loosely and does not say where: places are
not known, and of a file that was written anew only that it was.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path

from apprentice.sessions.conversation import Change, Conversation, Sink, Use, folder_name
from apprentice.sessions.events import Provenance, Session
from apprentice.sessions.readers.aider_blocks import Block, blocks_of
from apprentice.sessions.readers.edit_blocks import diff_blocks, is_same_path, search_blocks, whole_files, with_slashes
from apprentice.sessions.readers.lines import BEHIND_MOST, MAX_LINES, read_lines

SOURCE = "aider"
AGENT = "aider"
NAME = ".aider.chat.history.md"
SUFFIX = ".md"
MAX_EDITS = 1000
"""Of a reply."""
MAX_NOTICE = 2000
"""Characters of a line of the tool that may say something of an edit."""

_HEADING = "# aider chat started at "
_START = re.compile(rf"{_HEADING}(\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d)\s*")
_QUESTION = re.compile(r"\(Y\)es/\(N\)o.{0,80}\]: ?\w{0,9}$")
_WATCHED = re.compile(r"I've written your instructions in comments|Find the \"AI\" comments")
_COMMENT = re.compile(r"^ *(?:\d+ *)?█(.*)$", re.MULTILINE)
_PROCESSING = "Processing your request..."
"""Of comments that the developer wrote into the code, for which the tool watches."""
_COMMENT_MARK = re.compile(r"(?:#|//|--|;)+\s*")
_ASKING = re.compile(r"AI!|.*\bAI!$", re.IGNORECASE)
_OF_THE_TOOL = ("# Fix any errors below, if possible", "# Question: ")
_SHELL = re.compile(r"(?:/(?:run|test)\s+|!\s*|/(?=git ))(?=\S)(.+)", re.DOTALL)
_MAY_SEE = re.compile(r"^Add the output to the chat\?\s\(y/n/instructions\):?(.*)$", re.MULTILINE)
_INTERRUPTED = ("^C again to exit", "^C KeyboardInterrupt")

_APPLIED = re.compile(r"Applied edit to (.+)")
_MADE = re.compile(r"Applied edit to .|The LLM did not conform to the edit format\.")
"""Behind it a commit holds the reply's edits (of those that do not conform, the others), in front of it what lay there before."""
_NOT_ALLOWED = re.compile(r"Skipping edits to (?!.* that matches )(.+)")
_CREATED = re.compile(
    r"(?:Allow creation of new file (.+)\?|Creating empty file (.+)|Create new file\?)(?: \(Y\)es.*\]: ?[ya]\w*)?"
)
_RUN = re.compile(r"Run shell commands?\?.*\]: ?([a-z])\w*")
_RUNNING = re.compile(r"Running (.+)")
_COMMIT = re.compile(r"Commit ([0-9a-f]{7,40}) (.+)")
_UNDONE = re.compile(r"(?:Removed: |The above commit |Commit `(?=[0-9a-f]{7,40}` was reset ))([0-9a-f]{7,40})\b")
_PARTLY = re.compile(r"# The other \d{1,7} SEARCH/REPLACE blocks? (?:was|were) applied successfully")
_THINK = re.compile(r"\s*<(think|thinking-content-[0-9a-f]{8,64})>(.*?)(?:</\1>|\Z)", re.DOTALL)


@dataclass(slots=True)
class _Talk:
    """From one start to the next."""

    started: str
    lines: list[tuple[int, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Outcome:
    """What the tool says behind a reply."""

    applied: list[str] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    not_allowed: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    failed: set[tuple[str, ...]] | None = None
    """Lines that were not found, where the edits that did not fail were made without being named."""
    others: int = 0


class Aider:
    """Reads files one after the other; tells apart talks that began in the same second."""

    source = SOURCE

    def __init__(self) -> None:
        self._names: Counter[str] = Counter()

    def recognizes(self, path: Path, beginning: bytes) -> bool:
        """Whether a file that begins so is one of these."""
        heading = _HEADING.encode()
        starts = beginning.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(heading)
        # The front of one may have been cut off.
        return path.suffix == SUFFIX and (starts or (path.name.endswith(NAME) and b"\n" + heading in beginning))

    def identity(self, beginning: bytes) -> str:
        """A file holds the sessions of one project."""
        return ""

    def started(self, path: Path, beginning: bytes) -> float:
        """When the first session began."""
        found = _START.search(beginning.decode("utf-8", "replace"))
        return _seconds(found[1]) if found else 0.0

    def read(self, path: Path, sink: Sink) -> Iterator[Session]:
        """The sessions of a file in the order in which they began."""
        project = _project(path, sink)
        for talk in _talks(path, sink):
            name = f"{project or path.stem}/{talk.started.replace(' ', 'T')}"
            begin = partial(self._begin, name, path.name, project, sink)
            for conversation in _tell(begin, blocks_of(talk.lines), _seconds(talk.started), sink):
                session = conversation.session()
                if session is not None:
                    yield session

    def _begin(self, name: str, file: str, project: str, sink: Sink) -> Conversation:
        self._names[name] += 1
        session_id = name if self._names[name] == 1 else f"{name}-{self._names[name]}"
        return Conversation(sink, source=SOURCE, file=file, session_id=session_id, agent=AGENT, repository=project)


def _talks(path: Path, sink: Sink) -> Iterator[_Talk]:
    talk: _Talk | None = None
    for line in read_lines(path, SOURCE, sink, blank=True):
        try:
            text = line.data.decode("utf-8").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            sink.keep_aside("not UTF-8", Provenance(source=SOURCE, file=path.name, offset=line.offset), str(error)[:200])
            continue
        if (start := _START.fullmatch(text)) is not None:
            if talk is not None:
                yield talk
            talk = _Talk(start[1])
        elif talk is not None and len(talk.lines) == MAX_LINES:
            sink.drop(BEHIND_MOST)
        elif talk is not None:
            talk.lines.append((line.offset, text))
        elif text.strip():
            sink.drop("lines in front of the first start")
    if talk is not None:
        yield talk


def _tell(begin: Callable[[], Conversation], blocks: Sequence[Block], time: float, sink: Sink) -> list[Conversation]:
    """The blocks as events. What the tool says is told with what it stands behind. Where the developer asked for a reply in words
    that are not known, a conversation begins: it answers nothing that was asked before."""
    conversations = [begin()]
    undone = _undone(blocks)
    reply_words: tuple[str, ...] = ()
    interrupted = False
    for number, block in enumerate(blocks):
        behind = blocks[number + 1] if number + 1 < len(blocks) else None
        notices = behind.lines if behind is not None and behind.kind == "notice" else []
        if block.kind == "typed":
            _typed(conversations[-1], block, notices, reply_words, time, sink)
            interrupted = bool(notices) and notices[-1].strip() in _INTERRUPTED
        elif block.kind == "words":
            reply, reasoning = _without_reasoning(block.text)
            reply_words = _words(reply)
            if number and _PROCESSING in (line.strip() for line in blocks[number - 1].lines):
                if asked := _asked(reply):
                    conversations[-1].said(asked, time, block.offset)
                else:
                    sink.drop("prompts that the history does not have")
                    conversations.append(begin())
            conversation = conversations[-1]
            outcome = _outcome(notices)
            uses = _uses(reply, outcome, number in undone, sink)
            conversation.replied(reply, time, block.offset, reasoning=reasoning, uses=uses)
            for message in outcome.commits:
                conversation.noted("commit_message", message, time, block.offset)
            if interrupted:
                # The tool writes first that it was interrupted, then what the assistant had said until then.
                conversation.voted(None, "interrupted", time, block.offset)
            _count(sink, "notices of the tool", outcome.others)
            interrupted = False
        elif number == 0:
            _count(sink, "notices of the tool", len(block.lines))
    return conversations


def _asked(reply: str) -> str:
    """The comments in the code for which the tool watched, as far as the edits of the reply take them away."""
    lines = [line.lstrip("█│").strip() for change in (*search_blocks(reply), *diff_blocks(reply)) for line in change.old.split("\n")]
    asking = (line for line in lines if (mark := _COMMENT_MARK.search(line)) and _ASKING.match(line, mark.end()))
    return "\n".join(dict.fromkeys(asking))


def _typed(conversation: Conversation, block: Block, notices: Sequence[str], reply: tuple[str, ...], time: float, sink: Sink) -> None:
    """`reply`: words of the last one."""
    text = block.text
    if text[:1] in ("/", "!"):
        shell = _SHELL.fullmatch(text)
        output, answer = _printed(notices)
        conversation.ran(shell[1] if shell else text, output, time, block.offset)
        if answer.lower() not in ("", "y", "yes", "n", "no"):
            conversation.said(answer, time, block.offset)
        return
    _count(sink, "notices of the tool", len(notices))
    if text in ("", "<blank>"):
        sink.drop("empty prompts")
    elif _WATCHED.match(text) and (comments := _COMMENT.findall(text)):
        conversation.said("\n".join(comment.strip() for comment in comments), time, block.offset)
    elif _WATCHED.match(text) or _QUESTION.search(text) or text.startswith(_OF_THE_TOOL) or _words(text) == reply:
        sink.drop("prompts that the tool wrote")
    else:
        conversation.said(text, time, block.offset)


def _printed(notices: Sequence[str]) -> tuple[str, str]:
    """What a command printed, and the answer to the question whether the assistant may see it: behind a yes it is told again."""
    output = "\n".join(line for line in notices if line.strip() not in ("", *_INTERRUPTED))
    if (asked := _MAY_SEE.search(output)) is None:
        return output, ""
    before, behind = output[: asked.start()], output[asked.end() :].lstrip("\n")
    # Marks of quotes are lost where the text runs on.
    is_again = _words(before.replace(">", "")) == _words(behind.replace(">", ""))
    return (before if is_again else before + behind).rstrip("\n"), asked[1].strip()


def _undone(blocks: Sequence[Block]) -> set[int]:
    """Numbers of the replies whose commits were taken back: the first of each, which has the edits. Behind it is the linter's."""
    replies: dict[str, int] = {}
    undone: set[int] = set()
    for number, (before, block) in enumerate(zip(blocks, blocks[1:], strict=False)):
        is_made = is_known = False
        for line in block.lines if block.kind == "notice" else []:
            is_made = is_made or _MADE.match(line.strip()) is not None
            if before.kind == "words" and is_made and not is_known and (commit := _COMMIT.match(line)) is not None:
                replies.setdefault(commit[1][:7], number)
                is_known = True
            elif before.kind == "typed" and (removed := _UNDONE.match(line)) is not None and removed[1][:7] in replies:
                undone.add(replies[removed[1][:7]])
    return undone


def _outcome(notices: Sequence[str]) -> _Outcome:
    outcome = _Outcome()
    may_run = is_made = False
    lines = [line.strip() for line in notices]
    for before, line in zip(["", *lines], lines, strict=False):
        is_made = is_made or _MADE.match(line) is not None
        if len(line) > MAX_NOTICE:
            outcome.others += 1
        elif (found := _RUN.fullmatch(line)) is not None:
            may_run = found[1] in "ya"
        elif may_run and (found := _RUNNING.fullmatch(line)) is not None:
            outcome.commands.append(found[1])
        elif (found := _APPLIED.fullmatch(line)) is not None:
            outcome.applied.append(found[1])
        elif (found := _NOT_ALLOWED.fullmatch(line)) is not None:
            outcome.not_allowed.append(found[1])
        elif (found := _CREATED.fullmatch(line)) is not None:
            outcome.created.append(found[1] or found[2] or before)
        elif is_made and (found := _COMMIT.fullmatch(line)) is not None:
            outcome.commits.append(found[2])
        elif outcome.failed is None and _PARTLY.match(line) is not None:
            outcome.failed = {_words(change.old) for change in search_blocks("\n".join(notices))}
        elif line:
            outcome.others += 1
    return outcome


def _uses(reply: str, outcome: _Outcome, is_undone: bool, sink: Sink) -> list[Use]:
    """What the assistant did, as far as the tool says that it was done."""
    proposed = [*search_blocks(reply), *diff_blocks(reply)]
    _count(sink, f"edits behind the first {MAX_EDITS:,} of a reply", len(proposed) - MAX_EDITS)
    proposed = proposed[:MAX_EDITS]
    whole = list(islice(whole_files(reply), MAX_EDITS)) if outcome.created else []
    applied = dict.fromkeys(outcome.applied[:MAX_EDITS], True)
    if outcome.failed is not None:
        applied |= {change.path: True for change in proposed if _words(change.old) not in outcome.failed}
    named = applied | dict.fromkeys(outcome.not_allowed[:MAX_EDITS], False)
    edits, files = _ByPath(proposed, named), _ByPath(whole, ())
    created = {with_slashes(path) for path in outcome.created}
    failed = {number for number, change in enumerate(proposed) if _failed(change, outcome)}
    uses: list[Use] = []
    for path, is_allowed in named.items():
        own = edits.of(path) - failed
        edits.left -= own
        is_new = with_slashes(path) in created
        if not own and is_new:
            changes = tuple(replace(whole[number], path=with_slashes(path), creates=True) for number in sorted(files.of(path))[:1])
        else:
            changes = _in_place([proposed[number] for number in sorted(own)], path, is_new=is_new)
        if changes or (is_allowed and not is_undone):
            uses.append(_edit(path, changes, is_allowed, is_undone))
        else:
            sink.drop("edits that were not kept and whose lines are not known")
    _count(sink, "edits that were not applied", len(edits.left))
    for command in outcome.commands:
        uses.append(Use(name="shell", arguments=_json(command=command), kind="shell", command=command))
    return uses


class _ByPath:
    """Changes by number. `named`: the paths that the tool names."""

    def __init__(self, changes: Sequence[Change], named: Iterable[str]) -> None:
        self.left = set(range(len(changes)))
        """Those that are nobody's yet."""
        names = {with_slashes(path) for path in named}
        self._paths = [with_slashes(change.path) for change in changes]
        self._exact: dict[str, list[int]] = {}
        self._by_end: dict[str, list[int]] = {}
        for number, path in enumerate(self._paths):
            self._exact.setdefault(path, []).append(number)
            if path not in names:
                self._by_end.setdefault(path.rpartition("/")[2], []).append(number)

    def of(self, path: str) -> set[int]:
        """Those of the file, or else those of a file that the assistant may have meant by another path."""
        name = with_slashes(path)
        exact = self.left.intersection(self._exact.get(name, ()))
        alike = self._by_end.get(name.rpartition("/")[2], ())
        return exact or {number for number in alike if number in self.left and is_same_path(self._paths[number], name)}


def _failed(change: Change, outcome: _Outcome) -> bool:
    return outcome.failed is not None and _words(change.old) in outcome.failed


def _edit(path: str, changes: tuple[Change, ...], is_allowed: bool, is_undone: bool) -> Use:
    said = "Applied edit" if is_allowed else "Skipping edits"
    return Use(
        name="edit", arguments=_json(path=path), result=f"{said} to {path}", kind="edit", failed=not is_allowed,
        rejected=not is_allowed, undone=is_undone, changes=changes or (Change(path=with_slashes(path), old="", new=""),),
    )  # fmt: skip


def _in_place(changes: Sequence[Change], path: str, *, is_new: bool) -> tuple[Change, ...]:
    """The changes under the path that the tool names."""
    return tuple(
        replace(change, path=with_slashes(path), creates=number == 0 and not change.old.strip() and (is_new or change.creates))
        for number, change in enumerate(changes)
    )


def _without_reasoning(text: str) -> tuple[str, str]:
    found = _THINK.match(text)
    return (text[found.end() :].strip(), found[2].strip()) if found else (text, "")


def _words(text: str) -> tuple[str, ...]:
    """To compare texts whose blanks may have been lost."""
    return tuple(line.strip() for line in text.split("\n") if line.strip())


def _json(**values: str) -> str:
    return json.dumps(values, ensure_ascii=False)


def _count(sink: Sink, reason: str, count: int) -> None:
    if count > 0:
        sink.drop(reason, count)


def _project(path: Path, sink: Sink) -> str:
    """Name of the folder whose history it is; a copy is named after it."""
    if not path.name.endswith(NAME):
        return ""
    return path.name.removesuffix(NAME) or folder_name(str(path.absolute().parent), sink)


def _seconds(text: str) -> float:
    """In this machine's time zone: the history does not name its own."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0
