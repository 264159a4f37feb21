"""How good a generated replacement is: exact, well-formed, near, and not an undoing of what was just done.

*Delta chrF* compares two changes of the same text rather than two texts, which are mostly alike: for character n-grams
(n = 1..6, white space left out) the counts that an edit adds or takes away are matched with those that the developer's
edit adds or takes away; mean precision and recall over n, F-score with beta 2, 0 to 100.
*Reversal*: of the characters on lines that a suggestion adds or removes, the share on lines that one of the latest
edits of the same file removed or added. A suggestion that changes nothing undoes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from apprentice.text.edits import Edit, EditFormatError, parse_target

MAX_ORDER = 6
BETA = 2.0
JUST_TYPED = 8
"""How many of the latest edits of the file count as just typed."""


@dataclass(frozen=True, slots=True)
class EditScore:
    """One generated replacement. A replacement that is not in our form leaves the region as it was."""

    valid: bool
    exact: bool
    delta_chrf: float
    """0 to 100."""
    reversed_chars: int
    moved_chars: int
    """Characters on lines that the suggestion adds or removes."""


def score_edit(generated: str, edit: Edit, recent: Sequence[Edit] = ()) -> EditScore:
    """`generated` is what a model wrote behind the prompt, end mark and all."""
    try:
        new, valid = tuple(parse_target(generated)), True
    except EditFormatError:
        new, valid = edit.old, False
    reversed_chars, moved_chars = reversal(edit.path, edit.old, new, recent)
    return EditScore(valid, valid and new == edit.new, delta_chrf(edit.old, edit.new, new), reversed_chars, moved_chars)


def delta_chrf(old: Sequence[str], expected: Sequence[str], actual: Sequence[str]) -> float:
    """0 to 100, see the top of this file. Idea: Zed's evaluation of edit predictions; chrF: Popovic 2015, W15-3049."""
    texts = ["".join("".join(lines).split()) for lines in (old, expected, actual)]
    precision = recall = 0.0
    for order in range(1, MAX_ORDER + 1):
        before, wanted, got = (_ngrams(text, order) for text in texts)
        wanted, got = _delta(before, wanted), _delta(before, got)
        if not wanted and not got:
            precision, recall = precision + 1, recall + 1
            continue
        common = (wanted & got).total()
        precision += common / got.total() if got else 0.0
        recall += common / wanted.total() if wanted else 0.0
    precision, recall = precision / MAX_ORDER, recall / MAX_ORDER
    if precision + recall == 0:
        return 0.0
    return 100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)


def reversal(path: str, old: Sequence[str], new: Sequence[str], recent: Sequence[Edit]) -> tuple[int, int]:
    """(characters on undone lines, characters on all lines that the suggestion adds or removes), blank lines left out."""
    added, removed = _moved(old, new)
    was_added: Counter[str] = Counter()
    was_removed: Counter[str] = Counter()
    for edit in [edit for edit in recent if edit.path == path][-JUST_TYPED:]:
        now_added, now_removed = _moved(edit.old, edit.new)
        was_added += now_added
        was_removed += now_removed
    return _chars(removed & was_added) + _chars(added & was_removed), _chars(added) + _chars(removed)


def _moved(old: Sequence[str], new: Sequence[str]) -> tuple[Counter[str], Counter[str]]:
    before = Counter(line.strip() for line in old if line.strip())
    after = Counter(line.strip() for line in new if line.strip())
    return after - before, before - after


def _chars(lines: Counter[str]) -> int:
    return sum(len(line) * count for line, count in lines.items())


def _ngrams(text: str, order: int) -> Counter[str]:
    return Counter(text[i : i + order] for i in range(len(text) - order + 1))


def _delta(before: Counter[str], after: Counter[str]) -> Counter[tuple[bool, str]]:
    """(added or taken away, n-gram) -> how often."""
    delta = {(True, gram): count for gram, count in (after - before).items()}
    delta |= {(False, gram): count for gram, count in (before - after).items()}
    return Counter(delta)
