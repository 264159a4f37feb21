"""Works -> examples of every kind, split by time, without duplicates, each drop with its reason.

    works --moments()--> filters --> split by commit --> deduplicate --> prompts (repository.prompt) --> Examples

The prompts come last, because they cost most and only what stays needs them. Edits that may not be learned from are
seen all the same: they stand in the latest edits that later prompts show, and in the files.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from apprentice.core.protocols import Tokenizer
from apprentice.examples.deduplicate import change_of, duplicates
from apprentice.examples.example import Example
from apprentice.examples.filters import edit_reason, file_reason, is_long
from apprentice.examples.kinds.completion import completion
from apprentice.examples.kinds.next_edit import next_edit
from apprentice.examples.split import SPLITS, TRAIN, Shares, split_commits
from apprentice.examples.work import Moment, Player, Work, moments
from apprentice.repository.prompt import PromptConfig
from apprentice.text.edits import Edit


@dataclass(frozen=True, kw_only=True, slots=True)
class ExamplesConfig:
    """What becomes an example."""

    prompt: PromptConfig = field(default_factory=PromptConfig)
    """Budgets of the prompts."""
    shares: Shares = field(default_factory=Shares)
    """Shares of the splits."""
    near_duplicate: float = 0.8
    """Similarity from which on two edits are near duplicates, 0 to 1 (1: exact ones only)."""
    max_target_tokens: int = 512
    """Longest replacement, and longest region replaced, in tokens, 1 or more. Longer ones give completions only."""

    def __post_init__(self) -> None:
        if not 0 < self.near_duplicate <= 1:
            raise ValueError("near_duplicate must be above 0, at most 1")
        if self.max_target_tokens < 1:
            raise ValueError("max_target_tokens must be 1 or more")


@dataclass(frozen=True, slots=True)
class Built:
    """Examples in order of time, and what became of the rest."""

    examples: dict[str, list[Example]]
    """Split -> its examples."""
    commits: dict[str, list[str]]
    """Split -> its commits, oldest first (those without examples too, as far as they had edits worth one)."""
    dropped: dict[str, int]
    """Reason -> edits left out; `places` in a reason: completions that have no place or next edits that are too long."""

    def counts(self) -> dict[str, int]:
        """For the manifest."""
        counts = {f"{split}_commits": len(commits) for split, commits in self.commits.items()}
        for split, examples in self.examples.items():
            for kind, count in sorted(Counter(example.kind for example in examples).items()):
                counts[f"{split}_{kind}"] = count
        return counts


def build(
    works: Iterable[Work], tokenizer: Tokenizer, config: ExamplesConfig = ExamplesConfig(), recorded: Sequence[Work] = ()
) -> Built:
    """All examples of the works, which are in order of time. They are gone through twice, so that no more than one
    work's files are held at a time: give a list or a `history.History`, not an iterator. `recorded`: works of
    `examples.recorded`; those older than what is held out are learned from."""
    dropped: Counter[str] = Counter()
    usable = _usable(works, dropped)
    split_of = _splits(usable, config.shares)
    typed = _older(_usable(recorded, dropped), usable, split_of, dropped)
    changes = [
        change_of(found.edit, split=split_of.get((found.repository, found.commit), TRAIN), commit=found.commit)
        for found in (*typed, *usable)
    ]
    twins = duplicates(changes, threshold=config.near_duplicate)
    dropped.update(twins.values())
    wanted = {found.key: changes[i].split for i, found in enumerate((*typed, *usable)) if i not in twins}
    examples: dict[str, list[Example]] = {split: [] for split in SPLITS}
    for played in (recorded, works):
        for moment in moments(played, Player(leave_out=file_reason)):
            if split := wanted.get(moment.key):
                examples[split] += _examples(moment, tokenizer, config, dropped)
    if typed:
        examples[TRAIN].sort(key=lambda example: example.time)
    commits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for (_, commit), split in split_of.items():
        commits[split].append(commit)
    return Built(examples, commits, dict(sorted(dropped.items())))


@dataclass(frozen=True, slots=True)
class _Usable:
    """What splitting and deduplication need of a moment."""

    key: str
    repository: str
    commit: str
    time: float
    edit: Edit


def _usable(works: Iterable[Work], dropped: Counter[str]) -> list[_Usable]:
    usable = []
    for moment in moments(works, Player(leave_out=file_reason, dropped=dropped)):
        if reason := edit_reason(moment):
            dropped[reason] += 1
        else:
            usable.append(_Usable(moment.key, moment.work.repository, moment.work.commit, moment.work.time, moment.edit))
    return usable


def _older(
    typed: Sequence[_Usable], usable: Sequence[_Usable], split_of: dict[tuple[str, str], str], dropped: Counter[str]
) -> list[_Usable]:
    """Recorded edits made before the first held-out commit of their repository: of later ones a model would know what it is
    tested on. Where a recording's repository is not among them (a tool calls it otherwise), before that of any."""
    begins: dict[str, float] = {}
    for found in usable:
        if split_of[found.repository, found.commit] != TRAIN:
            begins[found.repository] = min(found.time, begins.get(found.repository, found.time))
    first = min(begins.values(), default=math.inf)
    older = [found for found in typed if found.time < begins.get(found.repository, first)]
    if len(older) < len(typed):
        dropped["recorded edits newer than the first one held out"] += len(typed) - len(older)
    return older


def _splits(usable: Sequence[_Usable], shares: Shares) -> dict[tuple[str, str], str]:
    """(repository, commit) -> split."""
    commits: dict[str, dict[str, None]] = {}
    for found in usable:
        commits.setdefault(found.repository, {})[found.commit] = None
    return {
        (repository, commit): split
        for repository, seen in commits.items()
        for commit, split in split_commits(list(seen), shares).items()
    }


def _examples(
    moment: Moment, tokenizer: Tokenizer, config: ExamplesConfig, dropped: Counter[str]
) -> list[Example]:
    found = []
    if is_long(moment) or _exceeds(moment, config.max_target_tokens, tokenizer):
        dropped["places of next edits: too long"] += 1
    else:
        found.append(next_edit(moment, tokenizer, config.prompt))
    if example := completion(moment, tokenizer, config.prompt):
        found.append(example)
    else:
        dropped["places of completions: no new text in a line"] += 1
    return found


def _exceeds(moment: Moment, max_tokens: int, tokenizer: Tokenizer) -> bool:
    """Whether the region or its replacement has more tokens than that. A token has at least one byte."""
    texts = ("".join("\n" + line for line in lines) for lines in (moment.edit.old, moment.edit.new))
    return any(len(text.encode()) > max_tokens and len(tokenizer.encode(text)) > max_tokens for text in texts)
