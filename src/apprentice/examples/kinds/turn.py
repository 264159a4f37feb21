"""A talk -> an example for each reply that may be learned from: the talk so far, as much as fits, and the reply with its calls.

What stays of a long talk is what was asked last and the messages just before the reply; outputs of tools lose their middle. What an
assistant said in several messages, one after the other, is one reply. Replies that the developer voted down, and those whose edits
did not stay, are nobody's example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from apprentice.core.protocols import Tokenizer
from apprentice.examples.conversation import TURN, Call, Conversation, Function, Message, assistant, user
from apprentice.examples.deed import GONE
from apprentice.examples.shorten import shortened
from apprentice.sessions.events import Author, Command, EditEvent, Feedback, Prompt, Reply, Session, Suggestion, TestRun
from apprentice.sessions.policy import Policy
from apprentice.sessions.writers.turns import Turn, turns
from apprentice.text.blocks import fenced

MESSAGE_TOKENS = 8
"""What a template adds to a message."""
CALLS_IN_PART = frozenset(("specstory",))
"""Sources that keep of a call what a reader wants to see, and not all that the tool was given: nobody should learn to call it so."""
ASK_SHARE, RESULT_SHARE = 0.3, 0.15
"""Of the tokens of an example, most for what was asked and for what one tool returned."""


@dataclass(frozen=True, slots=True)
class _Step:
    """What one side did before the other one's turn."""

    messages: tuple[Message, ...]
    """A reply, then what its tools returned; or what was asked."""
    size: int
    """In tokens."""
    is_prompt: bool
    replies: tuple[Turn, ...] = ()


def turn(
    session: Session, policy: Policy, tokenizer: Tokenizer, outcomes: Mapping[str, str], *, max_tokens: int, drop: Callable[[str], None]
) -> Iterator[Conversation]:
    """The examples of a talk, in order. `drop` is told the reason for each reply that is left out."""
    bad = _not_kept(session, outcomes)
    steps = list(_steps(turns(session, policy), tokenizer, max_tokens))
    ask = -1
    for number, step in enumerate(steps):
        ask = number if step.is_prompt else ask
        authors = [one.event.author for one in step.replies if not one.train]
        if authors:
            drop(f"turn: by an author not learned from ({_named(authors[0])})")
        elif any(one.event.id in bad for one in step.replies):
            drop("turn: replies that the developer did not keep")
        elif session.source in CALLS_IN_PART and any(one.calls for one in step.replies):
            drop("turn: calls whose arguments were not recorded")
        elif step.replies:
            prompt = _window(steps, number, ask, max_tokens - _size(step.messages[:1], tokenizer))
            last = step.replies[-1].event
            if isinstance(prompt, str):
                drop(prompt)
            else:
                yield Conversation(
                    id=f"{last.id}-{TURN}", kind=TURN, prompt=prompt, target=(step.messages[0],), check={"type": "reply"},
                    source=session.source, repository=session.repository, session=session.id, time=last.time, author=last.author.kind,
                    agent=last.author.agent, person=last.author.person,
                )  # fmt: skip


def _not_kept(session: Session, outcomes: Mapping[str, str]) -> set[str]:
    """Ids of replies. What a reply did stands behind it and was read at the same place."""
    bad: set[str] = set()
    reply: Reply | None = None
    for event in session.events:
        if isinstance(event, Reply):
            reply = event
        elif isinstance(event, Feedback) and event.vote == "down":
            bad.add(event.about)
        elif isinstance(event, EditEvent | Suggestion) and reply is not None and event.provenance == reply.provenance:
            refused = isinstance(event, Suggestion) and event.outcome in ("rejected", "undone")
            if refused or outcomes.get(event.id) in GONE:
                bad.add(reply.id)
    return bad


def _window(steps: Sequence[_Step], number: int, ask: int, left: int) -> tuple[Message, ...] | str:
    """What led to a step, or why there is nothing. What was asked last always stays, then the latest messages."""
    if ask < 0:
        return "turn: replies to nothing"
    left -= steps[ask].size
    if left < 0:
        return "turn: replies that are too long"
    chosen = [ask]
    for earlier in range(number - 1, -1, -1):
        if earlier != ask:
            left -= steps[earlier].size
            if left < 0:
                break
            chosen.append(earlier)
    first = min(one for one in chosen if steps[one].is_prompt)
    return tuple(message for one in sorted(chosen) if one >= first for message in steps[one].messages)


def _steps(told: Iterable[Turn], tokenizer: Tokenizer, max_tokens: int) -> Iterator[_Step]:
    said: list[Turn] = []
    for number, one in enumerate(told):
        if isinstance(one.event, Reply):
            said.append(one)
        if said and (one.calls or not isinstance(one.event, Reply)):
            yield _reply(said, number, tokenizer, max_tokens)
            said = []
        asked = _asked(one, tokenizer, max_tokens)
        if asked is not None:
            yield _Step((asked,), _size([asked], tokenizer), isinstance(one.event, Prompt))
    if said:
        yield _reply(said, 999_999, tokenizer, max_tokens)


def _asked(one: Turn, tokenizer: Tokenizer, max_tokens: int) -> Message | None:
    match one.event:
        case Prompt(text=text) | Feedback(text=text) if text.strip():
            return user(shortened(text, tokenizer, round(ASK_SHARE * max_tokens)))
        case Command(command=command, output=output) | TestRun(command=command, output=output):
            shown = shortened(output, tokenizer, round(RESULT_SHARE * max_tokens), end=0.8)
            return user(f"I ran `{command}`:\n\n{fenced(shown)}")
        case _:
            return None


def _reply(said: Sequence[Turn], number: int, tokenizer: Tokenizer, max_tokens: int) -> _Step:
    """Only the last of them has calls. `number` tells their ids apart from those of other steps."""
    texts = [one.event.text for one in said if isinstance(one.event, Reply) and one.event.text.strip()]
    calls = [Call(_id(number, n), Function(call.name, call.arguments)) for n, call in enumerate(said[-1].calls)]
    results = [
        Message(role="tool", content=shortened(call.result, tokenizer, round(RESULT_SHARE * max_tokens)), tool_call_id=made.id, name=call.name)
        for call, made in zip(said[-1].calls, calls, strict=True)
    ]
    messages = (assistant("\n\n".join(texts), calls), *results)
    return _Step(messages, _size(messages, tokenizer), False, tuple(said))


def _id(number: int, n: int) -> str:
    """Nine letters and digits, which the strictest templates ask for (Mistral's)."""
    return f"c{number % 1_000_000:06d}{n % 100:02d}"


def _size(messages: Sequence[Message], tokenizer: Tokenizer) -> int:
    texts = [text for one in messages for text in (one.content, *(call.function.name + call.function.arguments for call in one.tool_calls))]
    return sum(len(tokenizer.encode(text)) for text in texts if text) + MESSAGE_TOKENS * len(texts)


def _named(author: Author) -> str:
    return author.agent or author.kind
