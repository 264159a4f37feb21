"""Commits and talks -> conversations of every kind and pairs, split by time, without duplicates, each drop with its reason.

    History, Sessions.talks --deeds, turns--> conversations --budget--> split --duplicates of held-out work--> Conversations
    outcomes of edits ------------------------------------------------------------------------------------> Pairs

A commit is in the split that its edits are in (`examples.build`). A talk is in the split of the commits that were made when it
took place, so that nothing is learned that is newer than what is held out; without any commits the newest talks are held out. A pair
is in the split of the commit that tells its outcome, which may be much newer than the talk. What
a talk shares with a held-out commit, the same edit or nearly, is left out of what is learned from, pairs too.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from apprentice.core.protocols import TextSource, Tokenizer
from apprentice.examples.conversation import CONVERSATIONS, DEBUGGING, INTENT, REFACTORING, Conversation
from apprentice.examples.deduplicate import change_of, duplicates
from apprentice.examples.deed import Deed, of_commit, of_talk
from apprentice.examples.history import History
from apprentice.examples.kinds.debugging import debugging
from apprentice.examples.kinds.intent import MAX_CHARS, intent
from apprentice.examples.kinds.refactoring import refactoring
from apprentice.examples.kinds.turn import MESSAGE_TOKENS, turn
from apprentice.examples.pair import Pair, pairs
from apprentice.examples.split import SPLITS, TRAIN, Shares, split_commits
from apprentice.repository.prompt import PromptConfig
from apprentice.sessions.events import Author, Session
from apprentice.sessions.outcomes.judging import EditOutcome
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import Sessions
from apprentice.text.edits import Edit

AROUND = (6, 3, 1)
"""Lines of code on each side of a place: as many as fit."""
WORDS_TOKENS = 64
"""Of a question about a change, besides the change and the answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversationsConfig:
    """What becomes a conversation."""

    max_tokens: int = 704
    """Of all its messages, 64 or more: with what a template adds it must fit a training sequence."""
    output_tokens: int = 160
    """Of a failing run's output, 16 or more."""
    near_duplicate: float = 0.8
    """As in `ExamplesConfig`."""
    shares: Shares = field(default_factory=Shares)
    """Of talks, where there are no commits."""
    prompt: PromptConfig = field(default_factory=PromptConfig)
    """Of pairs."""
    commits: bool = True
    """Whether there are conversations of commits besides those of talks."""

    def __post_init__(self) -> None:
        if self.max_tokens < 64 or self.output_tokens < 16:
            raise ValueError("max_tokens must be 64 or more, output_tokens 16 or more")
        if not 0 < self.near_duplicate <= 1:
            raise ValueError("near_duplicate must be above 0, at most 1")


@dataclass(frozen=True, slots=True)
class Conversations:
    """In order of time, and what became of the rest."""

    rows: dict[str, list[Conversation]]
    """Split -> its conversations."""
    pairs: list[Pair]
    dropped: dict[str, int]

    def counts(self) -> dict[str, int]:
        """For the manifest."""
        found = {
            f"{split}_{kind}": sum(row.kind == kind for row in rows)
            for split, rows in self.rows.items() for kind in CONVERSATIONS if any(row.kind == kind for row in rows)
        }  # fmt: skip
        return {**found, **({"pairs": len(self.pairs)} if self.pairs else {})}


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The edits that a model is tested on, and which commits are in which split."""

    commits: Mapping[str, Sequence[str]]
    """Split -> commits."""
    edits: Sequence[tuple[str, str, Edit]] = ()
    """(split, commit, edit) of all splits but the one for training."""


@dataclass(frozen=True, slots=True)
class _Made:
    row: Conversation
    split: str
    edits: tuple[Edit, ...]
    """Of a talk, to be compared with held-out work."""


def build(
    sessions: Sessions, tokenizer: Tokenizer, policy: Policy, held_out: HeldOut, outcomes: Sequence[EditOutcome] = (),
    config: ConversationsConfig = ConversationsConfig(),
) -> Conversations:  # fmt: skip
    """All of them. `outcomes`: of the edits in the talks (`sessions.outcomes.judging`)."""
    builder = _Builder(tokenizer, policy, config)
    by_event = {outcome.id: outcome for outcome in outcomes}
    names = {outcome.id: outcome.outcome for outcome in outcomes}
    made = list(builder.of_commits(sessions, held_out)) if config.commits else []
    when = _When(sessions, held_out, config.shares)
    found: list[tuple[Pair, tuple[Edit, ...]]] = []
    for session in sessions.talks():
        split = when.split(session)
        made += builder.of_talk(session, split, sessions, names)
        for pair, edits in pairs(session, by_event, policy, tokenizer, config.prompt, builder.drop):
            told_at = _told_at(by_event[pair.id.rpartition("/")[0]])
            found.append((msgspec.structs.replace(pair, split=when.split(session, told_at)), edits))
    made = _single(made, builder.dropped)
    talks = [(one.split, one.row.session, one.edits) for one in made] + [(pair.split, pair.session, edits) for pair, edits in found]
    left_out = showing_held_out(talks, held_out, config)
    rows: dict[str, list[Conversation]] = {split: [] for split in SPLITS}
    for number, one in enumerate(made):
        if number in left_out:
            builder.drop(f"{one.row.kind}: edits that are held out")
        else:
            rows[one.split].append(one.row)
    for split in rows:
        rows[split].sort(key=lambda row: row.time)
    kept = [pair for number, (pair, _) in enumerate(found, len(made)) if number not in left_out]
    if len(kept) < len(found):
        builder.dropped["pairs: edits that are held out"] += len(found) - len(kept)
    return Conversations(rows, kept, dict(sorted(builder.dropped.items())))


class _Builder:
    """Makes the rows, and counts why some are not made."""

    def __init__(self, tokenizer: Tokenizer, policy: Policy, config: ConversationsConfig) -> None:
        self.tokenizer, self.policy, self.config = tokenizer, policy, config
        self.dropped: Counter[str] = Counter()

    def drop(self, reason: str) -> None:
        """Of one row."""
        self.dropped[reason] += 1

    def of_commits(self, sessions: Sessions, held_out: HeldOut) -> Iterator[_Made]:
        """Of those whose split is known."""
        split_of = {commit: split for split, commits in held_out.commits.items() for commit in commits}
        for session, work in zip(sessions.sessions(), History(sessions, policy=self.policy), strict=True):
            if work.commit in split_of:
                deed = of_commit(session, work)
                if isinstance(deed, str):
                    self.drop(deed)
                    continue
                for row in self._of_deed(deed):
                    yield _Made(row, split_of[work.commit], deed.edits)

    def of_talk(self, session: Session, split: str, texts: TextSource, outcomes: Mapping[str, str]) -> Iterator[_Made]:
        """Deeds and turns."""
        for deed in of_talk(session, texts, outcomes, self.drop):
            for row in self._of_deed(deed):
                yield _Made(row, split, deed.edits)
        edits = tuple(edit for event in session.edits for edit in event.hunks)
        for row in turn(session, self.policy, self.tokenizer, outcomes, max_tokens=self.config.max_tokens, drop=self.drop):
            yield _Made(row, split, edits)

    def _of_deed(self, deed: Deed) -> Iterator[Conversation]:
        """A deed after a failing run is an example of that alone: what was asked for is one already."""
        if deed.failed is not None:
            yield from self._allowed(
                DEBUGGING, deed.author,
                lambda around: debugging(deed, self.tokenizer, output_tokens=self.config.output_tokens, around=around),
            )  # fmt: skip
            return
        yield from self._allowed(REFACTORING, deed.author, lambda around: refactoring(deed, around=around))
        room = self.config.max_tokens - len(self.tokenizer.encode(deed.words[: 2 * MAX_CHARS])) - WORDS_TOKENS
        if room > 0:
            yield from self._allowed(INTENT, deed.words_author, lambda _: intent(deed, self.tokenizer, diff_tokens=room))

    def _allowed(self, kind: str, author: Author | None, make: Callable[[int], Conversation | str]) -> list[Conversation]:
        """One row with as much code around its places as fits, or none."""
        if author is None or not self.policy.may_learn(author):
            self.drop(f"{kind}: by an author not learned from ({(author.agent or author.kind) if author else 'nobody'})")
            return []
        for around in AROUND:
            row = make(around)
            if isinstance(row, str):
                self.drop(f"{kind}: {row}")
                return []
            if self._fits(row):
                return [row]
        self.drop(f"{kind}: longer than {self.config.max_tokens:,} tokens")
        return []

    def _fits(self, row: Conversation) -> bool:
        limit = self.config.max_tokens
        texts = [message.content for message in (*row.prompt, *row.target)]
        # A token has 16 characters at most: a huge text is never tokenized.
        if sum(map(len, texts)) > 16 * limit:
            return False
        return sum(len(self.tokenizer.encode(text)) + MESSAGE_TOKENS for text in texts) <= limit


class _When:
    """Which split a time belongs to."""

    def __init__(self, sessions: Sessions, held_out: HeldOut, shares: Shares) -> None:
        split_of = {commit: split for split, commits in held_out.commits.items() for commit in commits}
        self._commits: dict[str, list[tuple[float, int]]] = {}
        for session in sessions.sessions():
            revision = session.commit.revision if session.commit else ""
            if revision in split_of:
                self._commits.setdefault(session.repository, []).append((session.time, SPLITS.index(split_of[revision])))
        for commits in self._commits.values():
            commits.sort()
        self._talks = split_commits([talk.id for talk in sessions.talks()], shares) if not self._commits else {}

    def split(self, talk: Session, until: float = 0.0) -> str:
        """`until`: when the last was known of what is told of it, where that is later than its end."""
        if not self._commits:
            return self._talks[talk.id]
        # Of a talk about an unknown repository nobody knows what it tells of the others.
        known = self._commits.get(talk.repository)
        end = max(talk.events[-1].time, until)
        return SPLITS[max(_latest(commits, end) for commits in ([known] if known else self._commits.values()))]


def _told_at(outcome: EditOutcome) -> float:
    """When it was known. That lines still stand at the end of the history tells nothing more."""
    return max((seen.time for seen in outcome.evidence if seen.what != "newest"), default=0.0)


def _latest(commits: Sequence[tuple[float, int]], time: float) -> int:
    """The newest split that had begun by then."""
    return max((split for _, split in commits[: bisect_right(commits, (time, len(SPLITS)))]), default=0)


def _single(made: Sequence[_Made], dropped: Counter[str]) -> list[_Made]:
    """Each once. The newest split keeps what others have too."""
    out: set[int] = set()
    seen: dict[str, int] = {}
    for number in sorted(range(len(made)), key=lambda number: -SPLITS.index(made[number].split)):
        row = made[number].row
        digest = hashlib.sha256(repr((row.kind, row.prompt, row.target)).encode(errors="surrogatepass")).hexdigest()
        if seen.setdefault(digest, number) != number:
            out.add(number)
            dropped[f"{row.kind}: duplicates"] += 1
    return [one for number, one in enumerate(made) if number not in out]


def showing_held_out(talks: Sequence[tuple[str, str, Sequence[Edit]]], held_out: HeldOut, config: ConversationsConfig) -> set[int]:
    """Numbers of those to learn from that show work that is held out. `talks`: (split, session, edits), talks' or commits'."""
    # All rows of a talk or a commit share its edits: each is compared once.
    edits_of = {id(edits): (session, edits) for split, session, edits in talks if split == TRAIN}
    owner_of = {id(edit): (session, edit) for session, edits in edits_of.values() for edit in edits}
    changes = [change_of(edit, split=split, commit=commit) for split, commit, edit in held_out.edits]
    changes += [change_of(edit, split=TRAIN, commit=session) for session, edit in owner_of.values()]
    twins, first = duplicates(changes, threshold=config.near_duplicate), len(held_out.edits)
    out = {one for place, one in enumerate(owner_of, first) if twins.get(place, "").endswith(" work")}
    shown = {key for key, (_, edits) in edits_of.items() if any(id(edit) in out for edit in edits)}
    return {number for number, (split, _, edits) in enumerate(talks) if split == TRAIN and id(edits) in shown}
