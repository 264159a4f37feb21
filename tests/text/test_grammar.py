"""Whatever the model would rather say, the reply has the form; and a form that cannot be is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apprentice.core.errors import InputError
from apprentice.core.protocols import Request
from apprentice.text import decoding, grammar
from apprentice.text.decoding import Feed, Output
from apprentice.text.grammar import Grammar
from apprentice.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.byte_level()
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "kind": {"enum": ["bug", "feature"]},
        "lines": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3},
        "sure": {"type": "boolean"},
    },
    "required": ["name", "kind", "lines", "sure"],
    "additionalProperties": False,
}


class Noise:
    """A model that says anything, the same behind the same tokens."""

    max_positions = 4096

    def __init__(self) -> None:
        self.steps = 0

    def new_cache(self, capacity: int) -> Any:
        return Tokens([])

    def forward(self, feeds: Sequence[Feed]) -> list[Output]:
        outputs = []
        for feed in feeds:
            self.steps += 1
            cache = feed.cache
            assert isinstance(cache, Tokens)
            rows = []
            for token_id in feed.token_ids:
                cache.ids.append(token_id)
                logits = 3 * np.random.default_rng(cache.ids).standard_normal(TOKENIZER.vocab_size + 7)
                rows.append(logits - np.log(np.exp(logits).sum()))
            outputs.append(Output(np.array(rows[-feed.num_outputs :], np.float32)))
        return outputs


class Tokens:
    """What it has seen."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    @property
    def length(self) -> int:
        return len(self.ids)

    def truncate(self, length: int) -> None:
        del self.ids[length:]


def reply(form: str, *, seed: int = 0, temperature: float = 1.0, use_draft: bool = True, model: Noise | None = None) -> Any:
    held = Grammar(TOKENIZER, form)
    request = Request(
        prompt_ids=[40, 41], max_tokens=400, temperature=temperature, seed=seed, mixture=held, use_draft=use_draft
    )
    return decoding.generate(model or Noise(), TOKENIZER, [request])[0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_noise_says_fits_the_schema(temperature: float) -> None:
    form = grammar.of_schema(SCHEMA)
    for seed in range(12):
        sample = reply(form, seed=seed, temperature=temperature)
        assert sample.finish_reason == "stop"
        found = json.loads(sample.text)
        assert list(found) == ["name", "kind", "lines", "sure"]
        assert len(found["name"]) <= 8
        assert found["kind"] in ("bug", "feature")
        assert len(found["lines"]) <= 3
        assert all(0 <= line <= 99 for line in found["lines"])
        assert isinstance(found["sure"], bool)
        assert "\n" not in sample.text


def test_any_object_regular_expressions_and_grammars() -> None:
    pattern = r"v[0-9]{1,2}\.[0-9]"
    assert isinstance(json.loads(reply(grammar.of_schema({"type": "object", "maxProperties": 2})).text), dict)
    assert re.fullmatch(pattern, reply(grammar.of_regex(pattern)).text)
    assert reply(grammar.of_lark('start: "yes" | "no"')).text in ("yes", "no")


def test_what_must_come_costs_no_step_of_its_own_and_changes_nothing() -> None:
    form = grammar.of_schema(SCHEMA)
    for temperature in (0.0, 1.0):
        drafting, plain = Noise(), Noise()
        with_draft = reply(form, temperature=temperature, seed=3, model=drafting)
        without = reply(form, temperature=temperature, seed=3, use_draft=False, model=plain)
        assert with_draft.token_ids == without.token_ids
        assert drafting.steps < 0.7 * plain.steps


def test_it_mixes_behind_another_mixture() -> None:
    class Loves:
        """Sure of one byte."""

        advanced = 0

        def mix(self, log_probs_V: np.ndarray) -> np.ndarray:
            mixed_V = log_probs_V.copy()
            mixed_V[TOKENIZER.encode("7")[0]] = 5.0
            return mixed_V

        def advance(self, token_id: int) -> None:
            self.advanced += 1

        def draft(self, max_tokens: int) -> list[int]:
            return []

    inner = Loves()
    held = Grammar(TOKENIZER, grammar.of_regex("[0-9]{4}"), inner)
    request = Request(prompt_ids=[40], max_tokens=9, mixture=held)
    assert decoding.generate(Noise(), TOKENIZER, [request])[0].text == "7777"
    assert inner.advanced == 4


def test_the_distribution_is_that_of_what_may_come() -> None:
    log_probs_V = np.full(TOKENIZER.vocab_size + 7, np.log(1 / (TOKENIZER.vocab_size + 7)), np.float32)
    a, b = (TOKENIZER.encode(text)[0] for text in "ab")
    log_probs_V[a] += 1
    found_V = np.exp(Grammar(TOKENIZER, grammar.of_regex("[ab]x")).mix(log_probs_V))
    assert found_V.sum() == pytest.approx(1, abs=1e-6)
    assert found_V[[a, b]].sum() == pytest.approx(1, abs=1e-6)
    assert found_V[a] / found_V[b] == pytest.approx(np.e, rel=1e-5)


@pytest.mark.parametrize(
    "form",
    [
        lambda: grammar.of_schema({"type": "nothing"}),
        lambda: grammar.of_schema({"type": "object", "properties": 5}),
        lambda: grammar.of_regex("(unclosed"),
        lambda: grammar.of_lark("start: missing"),
        lambda: grammar.of_schema({"$ref": "https://elsewhere.example/schema.json"}),
    ],
)
def test_a_form_that_cannot_be_is_refused(form: Any) -> None:
    with pytest.raises(InputError):
        Grammar(TOKENIZER, form())


def test_a_schema_that_is_too_long_or_too_deep_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"properties": {"a": deep}}
    for schema in (deep, {"enum": ["x" * grammar.MAX_FORM_CHARS]}):
        with pytest.raises(InputError):
            grammar.of_schema(schema)


def chain(length: int, key: str) -> dict[str, Any]:
    """Definitions that lead from one to the next."""
    def link(number: int) -> dict[str, Any]:
        reference = {"$ref": f"#/$defs/a{number + 1}"}
        return reference if key == "$ref" else {key: {"x": reference}} if key == "properties" else {key: [reference]}

    return {"$defs": {**{f"a{i}": link(i) for i in range(length)}, f"a{length}": {"type": "null"}}, "$ref": "#/$defs/a0"}


@pytest.mark.parametrize("key", ["$ref", "allOf", "anyOf", "properties"])
def test_long_chains_of_references_are_refused_before_they_are_followed(key: str) -> None:
    with pytest.raises(InputError, match="levels deep"):
        grammar.of_schema(chain(2000, key))
    Grammar(TOKENIZER, grammar.of_schema(chain(20, key)))


def test_a_schema_that_refers_to_itself_is_followed_once() -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#"}, "next": {"$ref": "#/$defs/list"}},
            "$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}}}, "additionalProperties": False}  # fmt: skip
    Grammar(TOKENIZER, grammar.of_schema(tree))


@pytest.mark.parametrize("multiple", [100_003, 1e300, 1.000003, 10**30])
def test_multiples_of_many_steps_are_refused(multiple: float) -> None:
    with pytest.raises(InputError, match="steps"):
        grammar.of_schema({"type": "integer", "multipleOf": multiple})
    Grammar(TOKENIZER, grammar.of_schema({"type": "number", "multipleOf": 0.01}))


def test_a_form_is_compiled_once_for_several_replies() -> None:
    first = Grammar(TOKENIZER, grammar.of_regex("[ab]{3}"))
    second = first.again()
    for token_id in TOKENIZER.encode("aba"):
        second.advance(token_id)
    log_probs_V = np.full(TOKENIZER.vocab_size, -5.0, np.float32)
    assert np.isfinite(first.mix(log_probs_V)).sum() == 2
    assert np.isfinite(second.mix(log_probs_V)).sum() == len(TOKENIZER.eos_ids)


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"\xff"])
def test_a_file_that_holds_no_schema_is_named(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "schema.json").write_bytes(content)
    with pytest.raises(InputError, match=r"schema\.json"):
        grammar.of_schema_file(tmp_path / "schema.json")
