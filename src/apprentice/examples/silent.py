"""What is learned from anyway -> places where nothing was to be done there, to be learned from besides.

    commits that are learned from --near each edit, just before it was made--> a silent place (`kinds.silence`)
    recordings of the editor -------what was rejected or undone, and left----> another

So none is of a commit that is held out; of recordings those that are older than the first of these, as with recorded edits. Near a
recorded edit there is none: of the lines around it nobody knows what was made of them a minute later. What an assistant proposed
in a talk and was not allowed is none either, for it says little of the lines that it was about.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from apprentice.core.protocols import Tokenizer
from apprentice.examples.build import Built
from apprentice.examples.example import Example
from apprentice.examples.filters import file_reason
from apprentice.examples.kinds.silence import rejections, silence, silent_places
from apprentice.examples.split import SPLITS, TRAIN
from apprentice.examples.work import Player, Work, moments
from apprentice.repository.prompt import PromptConfig
from apprentice.sessions.conversation import DEVELOPER
from apprentice.sessions.events import Session
from apprentice.sessions.policy import Policy
from apprentice.sessions.readers.editor import SOURCE

MAX_CHARS = 1_000
"""Of a silent place: every token of it carries loss, and long ones would weigh more than edits do."""


def build(
    works: Iterable[Work], talks: Iterable[Session], tokenizer: Tokenizer, policy: Policy, *, learned: Collection[str],
    held_out: Collection[str], config: PromptConfig,
) -> Built:  # fmt: skip
    """All of them, in order of time. `learned`: moments of the edits that are learned from; `held_out`: commits that are not."""
    found: list[Example] = []
    dropped: Counter[str] = Counter()
    begins: dict[str, float] = {}
    for moment in moments(works, Player(leave_out=file_reason)):
        work = moment.work
        if work.commit in held_out:
            begins[work.repository] = min(work.time, begins.get(work.repository, math.inf))
        elif moment.key in learned:
            place = next(iter(silent_places(moment)), None)
            if place is None:
                dropped["edits without a silent place near them"] += 1
            elif _is_long(place.lines[place.start_line : place.end_line]):
                dropped["silent places that are long"] += 1
            else:
                found.append(silence(moment, place, tokenizer, config))
    first = min(begins.values(), default=math.inf)
    for session in talks:
        if session.source != SOURCE or not policy.may_learn(DEVELOPER):
            continue
        for example in rejections(session, tokenizer, config):
            # Where a tool calls the repository otherwise, before the first commit held out of any.
            if example.time >= begins.get(session.repository, first):
                dropped["rejections newer than the first commit held out"] += 1
            elif reason := file_reason(example.edit.path, (*example.edit.above, *example.edit.old)):
                dropped[f"rejections in {reason}"] += 1
            elif _is_long(example.edit.old):
                dropped["silent places that are long"] += 1
            else:
                found.append(example)
    found.sort(key=lambda example: example.time)
    rows = {split: found if split == TRAIN else [] for split in SPLITS}
    return Built(rows, {split: [] for split in SPLITS}, {reason: count for reason, count in sorted(dropped.items()) if count})


def _is_long(lines: Sequence[str]) -> bool:
    return sum(map(len, lines)) > MAX_CHARS
