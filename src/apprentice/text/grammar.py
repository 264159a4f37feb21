"""Answers held to a form: a JSON schema, a regular expression, a context-free grammar.

    form --compile--> what may come next --Grammar--> the distribution given that one of these comes next

A `Grammar` is a `Mixture`: it stands where the memory stands, may have the memory inside, and decoding knows nothing of it.
Where the form leaves no choice (a key of an object, a bracket) it proposes what must come as a draft, so that a step of the
model gives several tokens. At its end nothing may come but the end of the reply.

JSON is written on one line, with one blank behind commas and colons: a small model that may put white space anywhere is
found to do so for ever.

The work is done by llguidance, whose own limits stop forms that would take long.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import llguidance
import numpy as np

from apprentice.core.errors import InputError
from apprentice.core.protocols import Mixture
from apprentice.text.tokenizer import Tokenizer

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
MAX_FORM_CHARS = 1 << 18
MAX_DEPTH = 128
"""Levels of JSON in a schema, those behind local references counted in: the compiler goes down them on the stack."""
MAX_MULTIPLE = 10_000
"""Of `multipleOf`, as a fraction: its automaton has as many states."""
_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def of_schema(schema: Mapping[str, Any]) -> str:
    """A form for `Grammar`. What of the schema cannot be held to is refused there."""
    try:
        text = _checked(json.dumps(schema))
        _check_schema(schema)
        return _checked(llguidance.LLMatcher.grammar_from_json_schema(text, overrides=_SPACING))
    except (ValueError, RecursionError) as error:
        raise InputError(f"the schema cannot be used: {error}", hint="give a JSON schema, nested less deeply") from None


def of_schema_file(path: Path) -> str:
    """The same from a file. Raises: InputError naming it."""
    try:
        schema = json.loads(path.read_bytes()[: MAX_FORM_CHARS + 1])
    except OSError as error:
        raise InputError(f"`{path}` cannot be read: {error.strerror}", hint="name a file with a JSON schema") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"`{path}` is no JSON: {error}", hint="name a file with a JSON schema") from None
    if not isinstance(schema, dict):
        raise InputError(f"`{path}` holds no object", hint="name a file with a JSON schema")
    return of_schema(schema)


def of_regex(pattern: str) -> str:
    """A form for `Grammar`, in the syntax of Rust's `regex`."""
    return _checked(llguidance.LLMatcher.grammar_from_regex(pattern))


def of_lark(grammar: str) -> str:
    """A form for `Grammar`, in llguidance's kind of Lark."""
    return _checked(llguidance.LLMatcher.grammar_from_lark(grammar))


class Grammar:
    """Holds ONE reply to a form. Implements `core.protocols.Mixture`."""

    def __init__(self, tokenizer: Tokenizer, form: str, inner: Mixture | None = None) -> None:
        """`inner`: what mixes before. Raises: InputError saying what the form lacks."""
        self._matcher = llguidance.LLMatcher(_prepared(tokenizer), form, log_level=0)
        self._inner = inner
        self._check()

    def again(self) -> Grammar:
        """The same form from its start, for another reply: not compiled anew. Only before the first token."""
        other = copy.copy(self)
        other._matcher = self._matcher.deep_copy()
        return other

    def mix(self, log_probs_V: np.ndarray) -> np.ndarray:
        if self._inner is not None:
            log_probs_V = self._inner.mix(log_probs_V)
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        self._check()
        # The model may have more rows than there are tokens: no text reaches those.
        allowed = np.flatnonzero(bits[: len(log_probs_V)])
        kept = log_probs_V[allowed].astype(np.float64)
        top = kept.max(initial=-np.inf)
        if not np.isfinite(top):
            raise InputError("no token that fits the form has a probability", hint="the checkpoint is damaged or overflowed")
        held_V = np.full_like(log_probs_V, -np.inf)
        held_V[allowed] = kept - (top + np.log(np.exp(kept - top).sum()))
        return held_V

    def advance(self, token_id: int) -> None:
        self._matcher.consume_token(token_id)
        self._check()
        if self._inner is not None:
            self._inner.advance(token_id)

    def draft(self, max_tokens: int) -> list[int]:
        forced = self._matcher.compute_ff_tokens()[:max_tokens]
        if forced or self._inner is None:
            return forced
        return self._inner.draft(max_tokens)

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = self._matcher.get_error().partition("\n")[0].partition("<state>")[0].strip()
            raise InputError(f"the reply cannot be held to this form: {reason[:300]}", hint="simplify the schema or grammar")


class _Vocabulary:
    """What llguidance asks of a tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = tokenizer.eos_ids[0]
        self.bos_token_id: int | None = None
        self.tokens: Sequence[bytes] = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
        self.special_token_ids: Sequence[int] = [i for i in range(tokenizer.vocab_size) if tokenizer.is_special(i)]

    def __call__(self, text: bytes | str) -> list[int]:
        return self._tokenizer.encode(text.decode(errors="replace") if isinstance(text, bytes) else text)


@functools.lru_cache(maxsize=4)
def _prepared(tokenizer: Tokenizer) -> llguidance.LLTokenizer:
    if not tokenizer.eos_ids:
        raise InputError("the tokenizer has no token that ends a reply", hint="set `eos_token` in tokenizer_config.json")
    wrapper = llguidance.TokenizerWrapper(_Vocabulary(tokenizer))
    return llguidance.LLTokenizer(wrapper, eos_token=list(tokenizer.eos_ids))


def _checked(form: str) -> str:
    if len(form) > MAX_FORM_CHARS:
        raise InputError("the form is too long", hint=f"{MAX_FORM_CHARS:,} characters at most")
    return form


def _check_schema(schema: Mapping[str, Any]) -> None:
    """Raises: ValueError for what would take the compiler too deep or too long."""
    depths: dict[int, int] = {}
    # A node is looked at twice: when it is come to, and when all below it have a depth. A circle counts as its once-around.
    stack: list[tuple[Any, bool]] = [(schema, False)]
    while stack:
        node, is_done = stack.pop()
        below = list(_below(node, schema))
        if is_done:
            depths[id(node)] = 1 + max((depths.get(id(one), 0) for one in below), default=0)
            if depths[id(node)] > MAX_DEPTH:
                raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep, its references counted in")
        elif id(node) not in depths:
            depths[id(node)] = 0
            _check_multiple(node)
            stack.append((node, True))
            stack += [(one, False) for one in below]


def _below(node: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    """Objects and lists inside, and what a reference means."""
    inside = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    yield from (one for one in inside if isinstance(one, (dict, list)))
    reference = node.get("$ref") if isinstance(node, dict) else None
    if isinstance(reference, str) and reference.startswith("#/"):
        found: Any = schema
        for part in reference[2:].split("/"):
            found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        if isinstance(found, (dict, list)):
            yield found


def _check_multiple(node: Any) -> None:
    multiple = node.get("multipleOf") if isinstance(node, dict) else None
    if isinstance(multiple, int | float) and not isinstance(multiple, bool):
        fraction = Fraction(str(multiple)) if abs(multiple) <= MAX_MULTIPLE else None
        if fraction is None or fraction.numerator > MAX_MULTIPLE or fraction.denominator > MAX_MULTIPLE:
            raise ValueError(f"`multipleOf` {multiple} has more than {MAX_MULTIPLE:,} steps")
