"""Places where no edit was the right answer: a moment, or a recorded rejection -> the example whose answer is the region as it is.

    moment --within NEAR_LINES of its edit, left alone by the whole rest of the commit--> Places --as it is--> Example
    session of an editor --rejected or undone, and nothing done there afterwards--> Example

Only hard ones: a line far from any work is silent for everybody. What the commit changes later, in the file as it stands now, is
no silent place, for somebody who looks there now has something to do; nor is a line beside it, where an insertion could as well be
said to belong. What earlier edits of the commit changed may be one: those lines are done.

In the edit language the answer of silence is the region repeated: there is no news in it, so nothing is shown. Its characters are of
a kind of their own, `unchanged`: what an edit copies is hardly worth learning, here it is the answer.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import msgspec

from apprentice.core.protocols import Tokenizer
from apprentice.examples.example import Example, from_moment, spans_of, text_id
from apprentice.examples.work import Moment
from apprentice.repository.prompt import Place, PromptConfig, next_edit_prompt
from apprentice.sessions.events import EditEvent, Session, Suggestion
from apprentice.text.edits import CONTEXT_LINES, Edit, Piece, contains_mark, render_target

SILENCE = "silence"
UNCHANGED = "unchanged"
NEAR_LINES = 20
"""Lines between a silent place and the edit, most."""
MAX_LINES = 8
"""Of a silent place, most."""
_INSERTED = -1


def silent_places(moment: Moment, count: int = 1, *, num_lines: int | None = None, seed: int = 0) -> list[Place]:
    """At most `count`, drawn without overlap, top to bottom; fewer where the file has no more. `num_lines`: of each, by default as many
    as the edit replaces."""
    size = num_lines if num_lines is not None else min(max(len(moment.edit.old), 1), MAX_LINES)
    lines, edit = moment.lines, moment.edit
    if size < 1 or contains_mark(lines):
        return []
    busy = _busy(moment)
    first, last = max(edit.start_line - NEAR_LINES - size, 0), edit.start_line + len(edit.old) + NEAR_LINES
    starts = [
        start
        for start in range(first, min(last, len(lines) - size) + 1)
        if not any(busy[start : start + size]) and any(line.strip() for line in lines[start : start + size])
    ]
    random.Random(f"{seed} {moment.key}").shuffle(starts)
    chosen: list[int] = []
    for start in starts:
        if len(chosen) < count and all(abs(start - other) >= size for other in chosen):
            chosen.append(start)
    return [Place(edit.path, lines, start, start + size) for start in sorted(chosen)]


def silence(moment: Moment, place: Place, tokenizer: Tokenizer, config: PromptConfig, number: int = 0) -> Example:
    """The example of one of the moment's silent places. `number`: tells several of a moment apart."""
    edit = _unchanged(place)
    prompt = next_edit_prompt(tokenizer, place, moment.recent, config)
    found = from_moment(replace(moment, edit=edit), SILENCE, "edit", prompt, _as_it_is(edit.old))
    return msgspec.structs.replace(found, id=f"{moment.key}-{number}-{SILENCE}") if number else found


def rejections(session: Session, tokenizer: Tokenizer, config: PromptConfig) -> Iterator[Example]:
    """What the developer did not want in a recorded session and left as it was. A recording holds the lines around a suggestion, no
    whole files: so much the prompt shows."""
    person = next((event.author.person for event in session.events if event.author.kind == "developer"), "")
    for number, event in enumerate(session.events):
        if not isinstance(event, Suggestion) or event.outcome not in ("rejected", "undone"):
            continue
        edit, later = event.edit, session.events[number + 1 :]
        if contains_mark((*edit.above, *edit.old, *edit.below)) or _is_done_there(edit, later):
            continue
        recent = [
            hunk for earlier in session.events[:number] if isinstance(earlier, EditEvent) for hunk in earlier.hunks
            if not contains_mark((*hunk.above, *hunk.old, *hunk.new, *hunk.below))
        ]  # fmt: skip
        start, end = len(edit.above), len(edit.above) + len(edit.old)
        if not edit.old:
            # Editors ask at a line. An empty answer for no line would look like one that takes a line out.
            start -= 1
        if start < 0:
            continue
        place = Place(edit.path, [*edit.above, *edit.old, *edit.below], start, end)
        prompt = next_edit_prompt(tokenizer, place, recent, config)
        old = tuple(place.lines[start:end])
        target = _as_it_is(old)
        yield Example(
            id=f"{event.id}-{SILENCE}", kind=SILENCE, prompt=prompt.text, target="".join(piece.text for piece in target),
            spans=spans_of(prompt.spans, target), check={"type": "edit"},
            edit=replace(edit, start_line=edit.start_line - len(old) + len(edit.old), old=old, new=old, above=edit.above[:start]),
            text_id=text_id(place.lines), repository=session.repository, commit=session.id, session=session.id, time=event.time,
            author="developer", person=person,
        )  # fmt: skip


def _busy(moment: Moment) -> list[bool]:
    """For each line as it stands: whether this edit or a later one of the commit touches it, or a line beside it."""
    # Lines are followed by number: where a later edit stands is said in the lines of its own moment.
    numbers = list(range(len(moment.lines)))
    busy = [False] * len(moment.lines)
    for edit in moment.file.edits[moment.hunk :]:
        end = edit.start_line + len(edit.old)
        beside = numbers[max(edit.start_line - 1, 0) : end + 1]
        for number in beside:
            if number != _INSERTED:
                busy[number] = True
        numbers[edit.start_line : end] = [_INSERTED] * len(edit.new)
    return busy


def _unchanged(place: Place) -> Edit:
    old = tuple(place.lines[place.start_line : place.end_line])
    above = tuple(place.lines[max(place.start_line - CONTEXT_LINES, 0) : place.start_line])
    return Edit(place.path, place.start_line, old, old, above, tuple(place.lines[place.end_line : place.end_line + CONTEXT_LINES]))


def _as_it_is(lines: Sequence[str]) -> list[Piece]:
    """The answer: lines repeated, and the end."""
    return [replace(piece, kind=UNCHANGED) if piece.kind == "copied" else piece for piece in render_target(lines, lines)]


def _is_done_there(edit: Edit, later: Sequence[object]) -> bool:
    """Whether something was changed at those lines afterwards, by whomever: then another edit was right, and not silence."""
    was = {line for line in edit.old if line.strip()}
    for event in later:
        for hunk in event.hunks if isinstance(event, EditEvent) and event.path == edit.path else ():
            if (hunk.old, hunk.new) in ((edit.old, edit.new), (edit.new, edit.old)):
                # The suggestion, put in and taken out again.
                continue
            if hunk.start_line < 0 or was & set(hunk.old):
                return True
            if hunk.start_line <= edit.start_line + len(edit.old) + 1 and edit.start_line <= hunk.start_line + len(hunk.old) + 1:
                return True
    return False
