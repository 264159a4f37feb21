"""Conversations as a checkpoint wants them: messages --render()--> text, token ids, and which tokens may carry loss.

The checkpoint's own template is run (minijinja, with fuel, so that an endless or swelling one stops), and the ids are
those of transformers' `apply_chat_template`, with one difference on purpose: what a message SAYS is never markup. A user
who types `<|im_end|>` has typed ten characters. For that, special tokens inside messages and tool definitions are broken
up by a character that occurs nowhere else before the template sees them, and put together again afterwards; between
template and content nothing else is changed, so that templates may strip, split and compare contents as they like.

The same function serves training, evaluation, server and terminal. A reply is learnable from behind the generation
prompt to its end token, inclusive; what the template adds behind that was never the model's to say.

Sources: `chat_template_utils.py` of transformers for the functions and the whitespace rules that templates rely on.
"""

from __future__ import annotations

import datetime
import functools
import itertools
import json
import math
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import minijinja

from apprentice.core.errors import InputError
from apprentice.text.tokenizer import Tokenizer

MAX_TEMPLATE_CHARS = 1 << 20
MAX_RENDERED_CHARS = 1 << 24
ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
"""A role becomes part of the markup in most templates, so it must be one of these."""
_FUEL_PER_CHAR, _FUEL = 200, 2_000_000
_GENERATION_TAG = re.compile(r"\{%(-?)\s*(end)?generation\s*(-?)%\}")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation ready for a model."""

    text: str
    token_ids: list[int]
    learnable: list[bool]
    """For each token: part of an assistant's reply or its end token."""
    last_reply: range = range(0)
    """Places of the last reply's tokens, its end token included; empty where there is none."""


def render(
    tokenizer: Tokenizer, template: str | None, messages: Sequence[Mapping[str, Any]], *,
    tools: Sequence[Mapping[str, Any]] | None = None, add_generation_prompt: bool = False,
    variables: Mapping[str, Any] | None = None, learnable: bool = True,
) -> Rendered:
    """`template` None: the tokenizer's own. `variables`: further names for the template (`enable_thinking`), chosen by
    us and never by whoever wrote the messages. `learnable`: whether it is said which tokens are replies, which takes a rendering for
    each. Raises: InputError for messages or templates that cannot be rendered."""
    conversation = _Conversation(tokenizer, template, messages, tools, variables or {})
    text = conversation.text(len(messages), add_generation_prompt=add_generation_prompt)
    pieces = list(conversation.pieces(text))
    token_ids, offsets = tokenizer.encode_pieces(pieces)
    starts = conversation.reply_starts(text) if learnable else []
    replies = _replies(token_ids, offsets, [len(conversation.restored(text[:at])) for at in starts], tokenizer.eos_ids)
    of_replies = [False] * len(token_ids)
    for reply in replies:
        of_replies[reply.start : reply.stop] = [True] * len(reply)
    return Rendered("".join(piece for piece, _ in pieces), token_ids, of_replies, replies[-1] if replies else range(0))


class _Conversation:
    """Messages with their special tokens broken up, and the renderings of their beginnings."""

    def __init__(
        self, tokenizer: Tokenizer, template: str | None, messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None, variables: Mapping[str, Any],
    ) -> None:
        chosen = template if template is not None else tokenizer.chat_template
        if chosen is None:
            raise InputError(
                "the checkpoint has no chat template", hint="use an instruction-tuned base for chat, or complete instead"
            )
        _check(messages)
        self._template, self._named, self._variables = chosen, tokenizer.named_tokens(), dict(variables)
        self._break = _unused(chosen, messages, tools)
        every = list(tokenizer.special_tokens)
        control = [content for content in every if tokenizer.is_control(content)]
        self._guards = {True: _Guard(control, self._break), False: _Guard(every, self._break)}
        # An assistant's text may hold the marks of its own reasoning and tool calls, which templates look for.
        self._messages = [
            {key: value if key == "role" else self._guards[message["role"] == "assistant"].broken(value)
             for key, value in message.items()}
            for message in messages
        ]
        self._tools = self._guards[False].broken(list(tools)) if tools else None
        self._broken_token = re.compile("|".join(
            re.escape(content[0]) + self._break + re.escape(content[1:]) for content in sorted(every, key=len, reverse=True)
        ) or "(?!)")

    def text(self, count: int, *, add_generation_prompt: bool) -> str:
        """The rendering of the first `count` messages, special tokens of contents still broken up."""
        names = {
            **self._named, **self._variables, "messages": self._messages[:count], "tools": self._tools,
            "documents": None, "add_generation_prompt": add_generation_prompt,
        }
        size = sum(len(str(message)) for message in self._messages[:count]) + len(str(self._tools))
        return _run(self._template, names, _FUEL + _FUEL_PER_CHAR * size)

    def pieces(self, text: str) -> Iterator[tuple[str, bool]]:
        """The rendering in pieces: (text, whether special tokens count in it)."""
        at = 0
        for match in self._broken_token.finditer(text):
            yield text[at : match.start()].replace(self._break, ""), True
            yield match[0].replace(self._break, ""), False
            at = match.end()
        yield text[at:].replace(self._break, ""), True

    def restored(self, text: str) -> str:
        return text.replace(self._break, "")

    def reply_starts(self, text: str) -> list[int]:
        """Where in a rendering each assistant message begins, behind its generation prompt."""
        starts: list[int] = []
        for index, message in enumerate(self._messages):
            if message["role"] != "assistant":
                continue
            before = self.text(index, add_generation_prompt=True) if index else ""
            if index and text.startswith(before):
                starts.append(len(before))
            else:
                starts.append(self._by_header(text, index, starts))
        return starts

    def _by_header(self, text: str, index: int, starts: Sequence[int]) -> int:
        """For templates that render a message differently once more follow: the next generation prompt's place."""
        whole = self.text(max(index, 1), add_generation_prompt=False)
        header = self.text(max(index, 1), add_generation_prompt=True).removeprefix(whole)
        at = text.find(header, starts[-1] if starts else 0)
        if not header or at < 0:
            raise InputError(
                f"the replies in message {index + 1} cannot be told from the rest of the chat template's output",
                hint="give a template that puts the same text in front of each reply",
            )
        return at + len(header)


class _Guard:
    """Breaks up special tokens inside strings, also one that only begins at a string's end."""

    def __init__(self, contents: Sequence[str], mark: str) -> None:
        self._mark = mark
        long = sorted((content for content in contents if len(content) > 1), key=len, reverse=True)
        self._whole = re.compile("|".join(map(re.escape, long))) if long else None
        self._beginnings = {content[:length] for content in long for length in range(1, len(content))}
        self._longest = max(map(len, long), default=0)

    def broken(self, value: Any) -> Any:
        """The same data with every string made harmless."""
        if isinstance(value, str):
            return self._broken_text(value)
        if isinstance(value, Mapping):
            return {self.broken(key): self.broken(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.broken(item) for item in value]
        return value

    def _broken_text(self, text: str) -> str:
        if self._whole is None:
            return text
        text = self._whole.sub(lambda match: match[0][0] + self._mark + match[0][1:], text)
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            if text[-length:] in self._beginnings:
                return text[: len(text) - length + 1] + self._mark + text[len(text) - length + 1 :]
        return text


def _replies(
    token_ids: Sequence[int], offsets: Sequence[tuple[int, int]], starts: Sequence[int], eos_ids: Sequence[int]
) -> list[range]:
    """Places of the tokens of each reply: up to its end token, and where a template has none up to the next reply."""
    ends, found = set(eos_ids), list[range]()
    for start, next_start in itertools.pairwise((*starts, math.inf)):
        first = last = bisect_left(offsets, (start, 0))
        while last < len(token_ids) and offsets[last][0] < next_start:
            last += 1
            if token_ids[last - 1] in ends:
                break
        found.append(range(first, last))
    return found


def _check(messages: Sequence[Mapping[str, Any]]) -> None:
    if not messages:
        raise InputError("a conversation needs at least one message", hint="give `messages` with a user's message")
    for number, message in enumerate(messages, 1):
        role = message.get("role")
        if role not in ROLES:
            raise InputError(f"message {number} has the unknown role `{str(role)[:40]}`", hint=f"roles are {', '.join(ROLES)}")
        if not isinstance(message.get("content"), (str, list, type(None))):
            kind = type(message["content"]).__name__
            raise InputError(f"message {number}: its `content` is of type {kind}", hint="give text or a list of parts")


def _unused(template: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None) -> str:
    """A character of the private use area that occurs nowhere."""
    try:
        seen = template + json.dumps([list(messages), list(tools or ())], ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the messages are no plain data: {error}", hint="give what JSON can hold") from error
    return next(chr(code) for code in range(0xE000, 0xF900) if chr(code) not in seen)


def _run(template: str, names: Mapping[str, Any], fuel: int) -> str:
    environment = _environment(template)
    environment.fuel = fuel
    try:
        text = environment.render_template("chat", **names)
    except minijinja.TemplateError as error:
        hint = "follow its rules (many want user and assistant in turn), or mend `chat_template` in the model's folder"
        raise InputError(f"the chat template refuses these messages: {_reason(error)}", hint=hint) from error
    if len(text) > MAX_RENDERED_CHARS:
        hint = f"leave out its oldest messages: {MAX_RENDERED_CHARS:,} characters at most"
        raise InputError("the conversation is too long for a chat template", hint=hint)
    return text


def _environment(template: str) -> minijinja.Environment:
    """A new one each time: fuel is a setting of the environment, and threads must not share it."""
    if len(template) > MAX_TEMPLATE_CHARS:
        hint = f"mend `chat_template` in the model's folder: {MAX_TEMPLATE_CHARS:,} characters at most"
        raise InputError("the chat template is too long to be one", hint=hint)
    environment = minijinja.Environment(
        templates={"chat": _plain_tags(template)}, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False
    )
    environment.auto_escape_callback = lambda name: False
    environment.add_global("raise_exception", _raise)
    environment.add_global("strftime_now", _now)
    environment.add_filter("tojson", _tojson)
    return environment


@functools.lru_cache(maxsize=8)
def _plain_tags(template: str) -> str:
    """transformers' `{% generation %}` marks replies for its own masks; here it is a block without a meaning."""
    return _GENERATION_TAG.sub(
        lambda tag: f"{{%{tag[1]} endif {tag[3]}%}}" if tag[2] else f"{{%{tag[1]} if true {tag[3]}%}}", template
    )


def _reason(error: minijinja.TemplateError) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return str(cause).partition("\n")[0][:300]


def _raise(message: str) -> str:
    raise InputError(str(message))


def _now(form: str) -> str:
    return datetime.datetime.now().strftime(str(form)[:200])


def _first_day(form: str) -> str:
    return datetime.datetime(2026, 1, 1).strftime(str(form)[:200])


UNDATED: Mapping[str, Any] = {"strftime_now": _first_day}
"""`variables` for what is trained on: a template that says the date says the same one however often a run is taken up again."""


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As in transformers: no HTML escapes, keys in their order."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
