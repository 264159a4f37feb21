from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_a_message_gets_a_reply_without_escapes(apprentice: Any, learned: Any, harmless: Any) -> None:
    words = ["chat", "Hello \x1b[31m", "--out", learned.out, "--max-tokens", 40, "--temperature", 1.5]
    done = apprentice(*words, "--seed", 3)
    assert done.code == 0, done.err
    assert done.out.strip()
    harmless(done.out)
    assert apprentice(*words, "--seed", 3).out == done.out


def test_a_reply_as_json(apprentice: Any, learned: Any) -> None:
    done = apprentice("chat", "Hello", "--out", learned.out, "--max-tokens", 4, "--json")
    assert set(json.loads(done.out)) == {"reply"}


def test_a_reply_is_held_to_a_schema(apprentice: Any, learned: Any, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], '
                                          '"additionalProperties": false}')  # fmt: skip
    done = apprentice("chat", "Hello", "--out", learned.out, "--schema", tmp_path / "schema.json", "--json")
    assert json.loads(json.loads(done.out)["reply"]) in ({"a": True}, {"a": False})
    refused = apprentice("chat", "Hello", "--out", learned.out, "--schema", tmp_path / "missing.json")
    assert refused.code == 2
    assert "missing.json" in refused.err
