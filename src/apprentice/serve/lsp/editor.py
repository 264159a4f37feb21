"""What the messages of an editor do: documents kept, suggestions made, and what becomes of them followed.

    inlineCompletion    cursor's line, the file around it, latest edits --Suggester.line--> the rest of the line
    copilotInlineEdit   the same, and the cursor's line as it stands    --Suggester.edit--> its replacement

    asked --Line (one thread)--> Suggester --> not stale, not rejected before, takes nothing back --> answered

A request is stale once the document has changed or the same is asked for it again: its job is cancelled, and it is answered with
nothing. A completion that is not worth showing (`silence`) is given only where the developer asked for one, an edit never. A document that
is too large or no text, and a line that is too long, get nothing. Nobody's text is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcInternalError, JsonRpcServerNotInitialized

from apprentice.core.errors import UserError
from apprentice.core.text_safety import terminal_safe
from apprentice.repository.prompt import Place
from apprentice.serve.errors import ApiError
from apprentice.serve.jobs import Job, Line
from apprentice.serve.lsp import protocol
from apprentice.serve.lsp.documents import MAX_LINE_CHARS, Change, Document, Point, column, name_of, path_of, units
from apprentice.serve.lsp.history import History, Stretch
from apprentice.serve.lsp.outcomes import Kind, Offer, Outcome, Outcomes, Proposal
from apprentice.serve.lsp.recording import Recorder
from apprentice.serve.suggestions import Suggester, Suggestion
from apprentice.text.edits import Edit

log = logging.getLogger("apprentice.serve")

MAX_WAITING = 64
"""Requests in line and in work, those that are stale included."""
NOTICE = "Apprentice records your edits in {folder}"
"""Short: an editor that shows messages in one line waits for a key at a longer one, at every start."""

Uncommitted = Callable[[Path, list[str]], Sequence[Edit]]
"""(file, its lines) -> what was changed in it since the last commit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assistant:
    """Who suggests."""

    name: str
    suggester: Suggester
    fingerprint: str | None = None
    remember: Callable[[Sequence[Edit]], None] | None = None
    """Tells the memory of edits that have ended."""


class AssistantSlot:
    """Who suggests now. A request ends with whom it began with."""

    def __init__(self, assistant: Assistant) -> None:
        self.assistant = assistant

    def replace(self, assistant: Assistant) -> None:
        self.assistant = assistant


class Editor:
    """What the messages of an editor do."""

    def __init__(
        self, server: protocol.Server, slot: AssistantSlot, *, recorder: Recorder | None = None, uncommitted: Uncommitted | None = None,
        rejected: Sequence[Sequence[Edit]] = (),
    ) -> None:  # fmt: skip
        self._server, self._slot, self._recorder, self._uncommitted = server, slot, recorder, uncommitted
        self._documents: dict[str, Document] = {}
        self._history = History(self._edited)
        self._outcomes = Outcomes(self._judged, rejected=rejected)
        self._line = Line(MAX_WAITING)
        self._jobs: dict[tuple[Kind, str], Job[Suggestion]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._seeded: set[str] = set()
        self._folders: list[Path] = []
        self._encoding = ""
        self._told = slot.assistant
        """Whose memory knows the edits of this session."""
        self._is_ended = False
        if recorder is not None:
            recorder.say = self._say

    def initialize(self, params: types.InitializeParams) -> None:
        """Before the server says what it can do."""
        self._encoding = str(getattr(self._server.workspace.position_encoding, "value", self._server.workspace.position_encoding))
        uris = [folder.uri for folder in params.workspace_folders or ()] or [params.root_uri]
        self._folders = [path for uri in uris if uri and (path := path_of(uri)) is not None]

    def initialized(self, _: Any) -> None:
        """The first moment at which anything may be said."""
        if self._recorder is not None:
            self._say(NOTICE.format(folder="/".join(self._recorder.folder.parts[-2:])))
        # What the memory needs for its first edit is made before there is one.
        self._remember([])

    def open(self, params: types.DidOpenTextDocumentParams) -> None:
        opened = params.text_document
        self._leave(opened.uri)
        path = path_of(opened.uri)
        document = Document(opened.uri, opened.text, version=opened.version, name=name_of(path, self._folders), path=path)
        self._documents[opened.uri] = document
        if self._uncommitted is not None and path is not None and document.is_readable and opened.uri not in self._seeded:
            # Once: what is done from now on is known.
            self._seeded.add(opened.uri)
            task = asyncio.get_running_loop().create_task(self._seed(self._uncommitted, path, document.whole_lines))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def change(self, params: types.DidChangeTextDocumentParams) -> None:
        document = self._documents.get(params.text_document.uri)
        if document is None:
            return
        if document.is_written_by_others() and self._is_read_again(document, params.content_changes):
            self._read_again(document, params.content_changes)
        else:
            for said in params.content_changes:
                if (change := self._planned(document, said)) is not None:
                    self._change(document, change)
        document.version = params.text_document.version

    def save(self, params: types.DidSaveTextDocumentParams) -> None:
        if (document := self._documents.get(params.text_document.uri)) is not None:
            document.saved()
            self._outcomes.saved(document)

    def close(self, params: types.DidCloseTextDocumentParams) -> None:
        self._leave(params.text_document.uri)

    def focus(self, _: Any) -> None:
        """Which document is looked at decides nothing."""

    def shut_down(self, *_: Any) -> None:
        self.finish()

    def show(self, params: Any) -> None:
        """A suggestion is on the screen."""
        self._outcomes.shown(protocol.read(params, protocol.ShownParams).item.id)

    def accept_partly(self, params: Any) -> None:
        told = protocol.read(params, protocol.PartlyAcceptedParams)
        self._claim(self._outcomes.accepted(told.item.id, told.accepted_length))

    def accept(self, *arguments: Any) -> bool:
        """The command of every suggestion."""
        self._claim(self._outcomes.accepted(str(arguments[0]) if arguments else ""))
        return True

    def reject(self, *arguments: Any) -> bool:
        self._outcomes.rejected(str(arguments[0]) if arguments else "")
        return True

    async def complete(self, params: types.InlineCompletionParams) -> types.InlineCompletionList | None:
        """None where the request is stale: the editor may keep what it shows."""
        nothing = types.InlineCompletionList([])
        document = self._readable(params.text_document.uri)
        at = document.point(params.position.line, params.position.character, self._encoding) if document else Point(0, 0)
        if document is None or len(document.lines[at.line]) > MAX_LINE_CHARS:
            return nothing
        line = document.lines[at.line]
        start, end, selected = self._selected(params, line, at)
        line_start, line_rest = line[:start] + selected, line[end:]
        place, recent = _place(document, at.line), self._history.recent(document, at.line)
        suggester = self._slot.assistant.suggester
        found, is_stale = await self._suggest(
            "completion", document, lambda is_wanted: suggester.line(place, line_start, line_rest, recent, is_wanted=is_wanted)
        )
        if is_stale:
            return None
        is_asked = params.context.trigger_kind == types.InlineCompletionTriggerKind.Invoked
        more = found.new[0][len(line_start) : len(found.new[0]) - len(line_rest)] if found is not None else ""
        more = more if line_rest.strip() else more.rstrip()
        if found is None or not more.strip() or not (found.is_shown or is_asked):
            return nothing
        proposal = Proposal(
            start_line=at.line, old=tuple(place.lines[at.line : at.line + 1]), new=(line_start + more + line_rest,), head=line[:start],
            replaced=line[start:end], inserted=selected + more, tail=line_rest, item=selected + more,
        )  # fmt: skip
        offer = self._offer(document, "completion", proposal)
        if offer is None:
            return nothing
        span = types.Range(self._position(document, Point(at.line, start)), self._position(document, Point(at.line, end)))
        return types.InlineCompletionList([types.InlineCompletionItem(insert_text=proposal.item, range=span, command=_command(offer))])

    async def edit(self, params: Any) -> dict[str, Any]:
        """The next edit, of the cursor's line."""
        asked = protocol.read(params, protocol.InlineEditParams)
        document = self._readable(asked.text_document.uri)
        nothing: dict[str, Any] = {"edits": []}
        if document is None or asked.text_document.version not in (None, document.version):
            return nothing
        line = document.point(asked.position.line, asked.position.character, self._encoding).line
        if len(document.lines[line]) > MAX_LINE_CHARS:
            return nothing
        place, recent = _place(document, line), self._history.recent()
        suggester = self._slot.assistant.suggester
        found, is_stale = await self._suggest("edit", document, lambda is_wanted: suggester.edit(place, recent, is_wanted=is_wanted))
        if is_stale or found is None or not found.is_shown:
            return nothing
        old = place.lines[place.start_line : place.end_line]
        proposal = Proposal.of_lines(line, old, found.new)
        offer = self._offer(document, "edit", proposal)
        if offer is None:
            return nothing
        start, end = _span(document, proposal)
        span = {"start": self._plain(document, start), "end": self._plain(document, end)}
        command = {"title": "Accept", "command": protocol.ACCEPT, "arguments": [offer.id]}
        told = {"uri": asked.text_document.uri, "version": document.version}
        return {"edits": [{"command": command, "range": span, "textDocument": told, "text": proposal.item}]}

    def finish(self) -> None:
        """The session ends: what is not known yet is judged as it stands."""
        if self._is_ended:
            return
        self._is_ended = True
        self._outcomes.end()
        self._history.close()
        if self._recorder is not None:
            self._recorder.close()
        self._line.close()

    def _planned(self, document: Document, said: types.TextDocumentContentChangeEvent) -> Change | None:
        """In the lines as they stand."""
        if not isinstance(said, types.TextDocumentContentChangePartial):
            return document.plan(said.text)
        start, end = (document.point(at.line, at.character, self._encoding) for at in (said.range.start, said.range.end))
        return document.plan(said.text, start, end)

    def _is_read_again(self, document: Document, changes: Sequence[types.TextDocumentContentChangeEvent]) -> bool:
        """Whether these changes bring what somebody else has written to the file: editors tell that like typing."""
        copy = document.copy()
        for said in changes:
            if (change := self._planned(copy, said)) is not None:
                copy.apply(change)
        return copy.is_saved()

    def _read_again(self, document: Document, changes: Sequence[types.TextDocumentContentChangeEvent]) -> None:
        """An assistant beside the editor, or git, has written the file: it is nobody's typing here, and nothing is known of it."""
        self._cancel(document.uri)
        self._history.close(document)
        self._outcomes.closed(document)
        for said in changes:
            if (change := self._planned(document, said)) is not None:
                document.apply(change)
        self._history.abandon(document)
        document.saved()

    def _change(self, document: Document, change: Change) -> None:
        self._cancel(document.uri)
        if document.is_readable:
            self._history.before(document, change, may_be_accepted=self._outcomes.awaits(document))
        document.apply(change)
        if not document.is_readable:
            self._history.abandon(document)
            self._outcomes.closed(document)
        elif self._outcomes.changed(document, change):
            self._history.claim(document)

    def _leave(self, uri: str) -> None:
        if (document := self._documents.pop(uri, None)) is None:
            return
        self._cancel(uri)
        self._outcomes.closed(document)
        self._history.forget(document)
        if self._recorder is not None:
            self._recorder.close(uri)

    def _cancel(self, uri: str) -> None:
        for key in [key for key in self._jobs if key[1] == uri]:
            self._jobs.pop(key).cancel()

    async def _suggest(
        self, kind: Kind, document: Document, ask: Callable[[Callable[[], bool]], Suggestion | None]
    ) -> tuple[Suggestion | None, bool]:
        """What comes of it, and whether nobody wants it any more."""

        def work(job: Job[Suggestion]) -> None:
            found = ask(lambda: job.is_wanted)
            if found is not None and job.is_wanted:
                job.give(found)

        if self._told is not self._slot.assistant:
            self._remember([])
        key = (kind, document.uri)
        if (earlier := self._jobs.pop(key, None)) is not None:
            earlier.cancel()
        try:
            job = self._jobs[key] = self._line.submit(work)
            given = [found async for found in job.items()]
        except (ApiError, UserError):
            # A full line, or a prompt that does not fit the model: there is nothing to say.
            return None, False
        except Exception as error:
            log.error("a suggestion failed", exc_info=error)
            raise JsonRpcInternalError("the server made a mistake; its log says which") from None
        return (given[0] if given else None), self._jobs.get(key) is not job

    def _offer(self, document: Document, kind: Kind, proposal: Proposal) -> Offer | None:
        if "\n".join(proposal.new) != terminal_safe("\n".join(proposal.new)) and not _has_unsafe(proposal.old):
            return None
        if self._outcomes.is_rejected(document, proposal):
            return None
        if self._history.undoes(document, proposal.start_line, proposal.old, proposal.new):
            return None
        return self._outcomes.offer(document, kind, proposal)

    def _claim(self, document: Document | None) -> None:
        if document is not None:
            self._history.claim(document)

    def _edited(self, stretch: Stretch) -> None:
        if self._recorder is not None:
            self._recorder.edited(stretch)
        self._remember(stretch.edits())

    def _remember(self, edits: Sequence[Edit]) -> None:
        """In the thread of the suggestions, which ask the memory. One that has just come gets all that was done before."""
        assistant = self._slot.assistant
        if self._told is not assistant:
            self._told, edits = assistant, self._history.ended()
        remember = assistant.remember
        if remember is not None and not self._is_ended:
            with contextlib.suppress(ApiError):
                self._line.submit(lambda _: remember(edits))

    def _judged(self, offer: Offer, outcome: Outcome) -> None:
        if self._recorder is not None:
            self._recorder.suggested(offer.stretch, outcome)

    async def _seed(self, uncommitted: Uncommitted, path: Path, lines: list[str]) -> None:
        try:
            self._history.seed(await asyncio.to_thread(uncommitted, path, lines))
        except Exception as error:  # noqa: BLE001 - a repository that cannot be read
            log.error("what is not committed cannot be read: %s", type(error).__name__)

    def _readable(self, uri: str) -> Document | None:
        """Raises: JsonRpcServerNotInitialized."""
        if not self._encoding:
            raise JsonRpcServerNotInitialized
        document = self._documents.get(uri)
        return document if document is not None and document.is_readable else None

    def _selected(self, params: types.InlineCompletionParams, line: str, at: Point) -> tuple[int, int, str]:
        """Columns between which the chosen entry of an open menu will stand, and its text; else the cursor."""
        chosen = params.context.selected_completion_info
        if chosen is None or "\n" in chosen.text or chosen.range.start.line != at.line or chosen.range.end.line != at.line:
            return at.column, at.column, ""
        start, end = (column(line, where.character, self._encoding) for where in (chosen.range.start, chosen.range.end))
        return min(start, end), max(start, end), chosen.text

    def _position(self, document: Document, at: Point) -> types.Position:
        return types.Position(at.line, units(document.lines[at.line][: at.column], self._encoding))

    def _plain(self, document: Document, at: Point) -> dict[str, int]:
        position = self._position(document, at)
        return {"line": position.line, "character": position.character}

    def _say(self, message: str) -> None:
        self._server.window_show_message(types.ShowMessageParams(types.MessageType.Info, terminal_safe(message, single_line=True)))


def _place(document: Document, line: int) -> Place:
    lines = document.whole_lines
    return Place(document.name, lines, line, min(line + 1, len(lines)))


def _span(document: Document, proposal: Proposal) -> tuple[Point, Point]:
    """What the new lines take the place of: the old ones' text, or where none are left, also the line break."""
    first, last = proposal.start_line, proposal.start_line + max(len(proposal.old), 1) - 1
    if proposal.new or not proposal.old:
        return Point(first, 0), Point(last, len(document.lines[last]))
    if last + 1 < len(document.lines):
        return Point(first, 0), Point(last + 1, 0)
    above = first - 1
    return (Point(above, len(document.lines[above])) if above >= 0 else Point(0, 0)), Point(last, len(document.lines[last]))


def _has_unsafe(lines: Sequence[str]) -> bool:
    return any(line != terminal_safe(line) for line in lines)


def _command(offer: Offer) -> types.Command:
    return types.Command(title="Accept", command=protocol.ACCEPT, arguments=[offer.id])
