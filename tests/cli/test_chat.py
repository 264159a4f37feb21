from __future__ import annotations

import json
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
