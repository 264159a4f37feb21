"""`messages` against OpenAI's types, Axolotl's rule and transformers' masks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pydantic
import pytest
from openai.types.chat import ChatCompletionMessageParam
from tests.sessions.writers.conftest import talk

from apprentice.sessions.policy import Policy
from apprentice.sessions.writers import messages
from apprentice.sessions.writers.turns import turns

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "sessions.md"


def row(policy: Policy | None = None) -> dict[str, Any]:
    policy = policy or Policy()
    line = messages.document(talk(), [turn for turn in turns(talk(), policy) if isinstance(turn.event, messages.TOLD)], policy)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    return json.loads(line)


def test_a_conversation_is_a_line_of_messages_in_openai_s_form() -> None:
    written = row()
    said = pydantic.TypeAdapter(list[ChatCompletionMessageParam]).validate_python(written["messages"])
    assert [message["role"] for message in said] == ["user", "assistant", "tool", "tool", "tool", "assistant", "tool", "user", "assistant"]
    first = written["messages"][1]
    assert (first["content"], first["reasoning_content"]) == ("I look", "a test, surely")
    assert first["tool_calls"][0] == {"id": "call00000", "type": "function", "function": {"name": "Bash", "arguments": '{"command":  "pytest"}'}}
    assert written["messages"][2] == {
        "role": "tool", "tool_call_id": "call00000", "name": "Bash", "content": "1 failed, 2 passed in 0.1s",
    }  # fmt: skip
    assert {name: written[name] for name in ("id", "source", "agent", "repository", "time", "learn_from")} == {
        "id": "s-1", "source": "claude_code", "agent": "claude", "repository": "engine", "time": "2023-11-14T22:13:20.250000Z",
        "learn_from": ["developer"],
    }  # fmt: skip


def test_every_call_has_its_result_right_behind_it() -> None:
    said = row()["messages"]
    for number, message in enumerate(said):
        calls = [call["id"] for call in message.get("tool_calls", [])]
        assert [one["tool_call_id"] for one in said[number + 1 : number + 1 + len(calls)]] == calls


def test_the_mark_follows_the_policy() -> None:
    # Axolotl trains on a message where `train` is true, whatever its role.
    assert not any(message.get("train") for message in row()["messages"])
    marked = row(Policy(learn_from=("developer", "assistant:claude")))["messages"]
    assert [message.get("train") for message in marked] == [message["role"] == "assistant" or None for message in marked]


@pytest.mark.parametrize("learn_from", [(), ("assistant:claude",)])
def test_the_guide_s_template_gives_trl_the_same_mask(learn_from: tuple[str, ...]) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    template = re.search(r"```jinja\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert template
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    said = row(Policy(learn_from=("developer", *learn_from)))["messages"]
    # As TRL calls it for `assistant_only_loss` (`trl.data_utils._tokenize`).
    found: Any = fast.apply_chat_template(
        said, tokenize=True, return_dict=True, chat_template=template[1], return_assistant_tokens_mask=True
    )  # fmt: skip
    learned: Any = fast.decode([token for token, mark in zip(found["input_ids"], found["assistant_masks"], strict=True) if mark])
    assert "pytest" in str(fast.decode(found["input_ids"]))
    if not learn_from:
        assert learned == ""
        return
    assert learned.startswith('I look<tool_call>{"name": "Bash", "arguments": {"command":  "pytest"}}</tool_call>')
    assert learned.endswith("done <|im_end|> \U0001f916<|im_end|>")
    assert "why does it fail" not in learned
    assert "1 failed" not in learned
