"""A deed -> the example that asks why the change was made; the answer is its author's words."""

from __future__ import annotations

import re

from apprentice.core.protocols import Tokenizer
from apprentice.examples.change import diff
from apprentice.examples.conversation import INTENT, Conversation, assistant, user
from apprentice.examples.deed import Deed
from apprentice.examples.shorten import shortened
from apprentice.text.blocks import fenced

MIN_WORDS, MAX_CHARS = 3, 1_200
OF_COMMIT = "Write the commit message of this change."
OF_TALK = "What was asked for, that led to this change?"
_TRAILER = re.compile(r"^(?:[A-Z][a-z]+(?:-[A-Za-z]+){1,3}|Fixes|Closes|Refs|See): .*$|^\s*(?:🤖 Generated with|\(cherry picked from).*$")
_NUMBER = re.compile(r"\s*\(#\d{1,7}\)\s*$")
_EMPTY = re.compile(
    r"(?:wip|fix(?:e[sd]|ing)?|update[sd]?|updating|changes?|clean(?:ed)?[ -]?up|typos?|misc|lint(?:ing)?|merge[sd]?|bump(?:s|ed)?"
    r"|releases?|version|v?\d+(?:\.\d+)+|minor|tweaks?|more|stuff|continue|yes|ok(?:ay)?|go on|again|please|the|a|it|this|that|do|now)"
    r"(?:\W+|$)",
    re.I,
)


def telling(text: str) -> str:
    """What the words say of a purpose: without trailers and numbers of pull requests; empty where that is nothing."""
    lines = [line.rstrip() for line in text.strip().split("\n")]
    while lines and (not lines[-1] or _TRAILER.match(lines[-1])):
        lines.pop()
    if not lines:
        return ""
    lines[0] = _NUMBER.sub("", lines[0])
    words = re.sub(r"\n{3,}", "\n\n", "\n".join(lines))
    rest = words
    while found := _EMPTY.match(rest):
        rest = rest[found.end() :]
    return words if len(rest.split()) >= MIN_WORDS - 1 and len(words.split()) >= MIN_WORDS and len(words) <= MAX_CHARS else ""


def intent(deed: Deed, tokenizer: Tokenizer, *, diff_tokens: int) -> Conversation | str:
    """The example, or why there is none. `diff_tokens`: of the change, most; of a longer one the middle is left out."""
    words = telling(deed.words)
    if not words or deed.words_author is None:
        return "words that tell no purpose"
    shown = shortened(diff(deed.changes), tokenizer, diff_tokens, end=0.3)
    asked = f"{OF_COMMIT if deed.commit else OF_TALK}\n\n{fenced(shown, language='diff')}"
    return Conversation(
        id=f"{deed.id}-{INTENT}", kind=INTENT, prompt=(user(asked),), target=(assistant(words),), check={"type": "message"},
        source=deed.source, repository=deed.repository, commit=deed.commit, session=deed.session, time=deed.time,
        author=deed.words_author.kind, agent=deed.words_author.agent, person=deed.words_author.person,
    )  # fmt: skip
