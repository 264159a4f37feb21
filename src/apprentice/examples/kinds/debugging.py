"""A deed that followed a failing run -> the example that shows the output and the code, and asks for the change after which it
passed. What a person said of the failure stands in the question; what the change's author said of it stands in the answer."""

from __future__ import annotations

from apprentice.core.protocols import Tokenizer
from apprentice.examples.change import answer, excerpts, question
from apprentice.examples.conversation import DEBUGGING, Conversation, assistant, user
from apprentice.examples.deed import Deed
from apprentice.examples.kinds.refactoring import FORM
from apprentice.examples.shorten import shortened
from apprentice.text.blocks import fenced

MAX_WORDS_CHARS = 1_200


def debugging(deed: Deed, tokenizer: Tokenizer, *, output_tokens: int, around: int) -> Conversation | str:
    """The example, or why there is none. `output_tokens`: of the failing output, most; its end tells most;
    `around`: lines of code on each side of a place."""
    if deed.failed is None:
        return "no run that failed"
    edits = answer(deed.changes)
    if edits is None:
        return "edits that blocks cannot tell apart"
    output = shortened(deed.failed.output.strip("\n"), tokenizer, output_tokens, end=0.8)
    failure = f"`{deed.failed.command}` fails:\n\n{fenced(output)}"
    shown = tuple(excerpts(deed.changes, around))
    words = deed.words.strip() if len(deed.words) <= MAX_WORDS_CHARS else ""
    asked = "\n\n".join(filter(None, (failure, words, question(shown), FORM)))
    said = deed.said.strip() if len(deed.said) <= MAX_WORDS_CHARS else ""
    return Conversation(
        id=f"{deed.id}-{DEBUGGING}", kind=DEBUGGING, prompt=(user(asked),), target=(assistant("\n\n".join(filter(None, (said, edits)))),),
        check={"type": "blocks"}, shown=shown, source=deed.source, repository=deed.repository, commit=deed.commit,
        session=deed.session, time=deed.time, author=deed.author.kind, agent=deed.author.agent, person=deed.author.person,
    )  # fmt: skip
