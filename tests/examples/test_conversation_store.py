from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import zstandard

from apprentice.core.errors import InputError
from apprentice.examples import conversation_store
from apprentice.examples.conversation import Call, Conversation, Excerpt, Function, Message, assistant, user
from apprentice.examples.conversations import Conversations, ConversationsConfig
from apprentice.examples.pair import Pair

CALL = Call("call1", Function("ls", '{"path":"."}'))
ROW = Conversation(
    id="t/1-turn", kind="turn", prompt=(user("what is here?"), assistant("", [CALL]), Message(role="tool", content="a.py", tool_call_id="call1", name="ls")),
    target=(assistant("A file."),), check={"type": "reply"}, shown=(Excerpt("a.py", 3, ("x",)),), source="claude_code", repository="r",
    session="t", time=1.0, author="assistant", agent="claude",
)  # fmt: skip
PAIR = Pair(
    id="t/2/0", prompt="p", chosen="c", rejected="r", outcome="undone", path="a.py", source="editor", repository="r", session="t",
    agent="apprentice", time=2.0, confidence=1.0, split="train",
)  # fmt: skip
BUILT = Conversations({"train": [ROW], "valid": [], "gate": [], "test": []}, [PAIR], {"a reason": 2})


@pytest.fixture
def written(tmp_path: Path) -> Path:
    conversation_store.write(tmp_path / "c", BUILT, ConversationsConfig(), parents={"sessions": "s"})
    return tmp_path / "c"


def test_what_is_written_is_read(written: Path) -> None:
    assert list(conversation_store.read(written, "train")) == [ROW]
    assert not list(conversation_store.read(written, "train", kind="intent"))
    assert list(conversation_store.read_pairs(written)) == [PAIR]


def test_rows_have_the_columns_that_trl_reads(written: Path) -> None:
    raw = zstandard.ZstdDecompressor().stream_reader((written / "train.jsonl.zst").open("rb"))
    (row,) = [json.loads(line) for line in io.TextIOWrapper(raw, encoding="utf-8")]
    assert row["completion"] == [{"role": "assistant", "content": "A file."}]
    assert [message["role"] for message in row["prompt"]] == ["user", "assistant", "tool"]
    assert row["prompt"][1]["tool_calls"] == [{"id": "call1", "function": {"name": "ls", "arguments": '{"path":"."}'}, "type": "function"}]


def test_counts_and_drops_are_in_the_manifest(written: Path) -> None:
    manifest = json.loads((written / "manifest.json").read_text())
    assert manifest["counts"] == {"train_turn": 1, "pairs": 1}
    assert manifest["dropped"] == {"a reason": 2}


def test_a_damaged_file_is_named(written: Path) -> None:
    (written / "train.jsonl.zst").write_bytes(b"no zstd")
    with pytest.raises(InputError, match=r"train\.jsonl\.zst"):
        list(conversation_store.read(written, "train"))
