from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def test_examples_are_shown_with_what_carries_loss_marked(apprentice: Any, learned: Any, harmless: Any) -> None:
    done = apprentice("examples", "show", learned.run / "examples", "--kind", "next_edit", "--newest", 2)
    assert done.code == 0
    assert done.out.count("== next_edit of ") == 2
    assert "«" in done.out
    harmless(done.out)


def test_examples_as_json_are_the_rows_of_the_split(apprentice: Any, learned: Any) -> None:
    done = apprentice("examples", "show", learned.run / "examples", "--split", "test", "--newest", 1, "--json")
    (example,) = json.loads(done.out)["examples"]
    assert {"prompt", "completion", "spans", "kind"} <= set(example)


def test_an_unknown_kind_is_told_the_ones_that_are_there(apprentice: Any, learned: Any) -> None:
    done = apprentice("examples", "show", learned.run / "examples", "--kind", "nextedit")
    assert (done.code, done.out) == (2, "")
    assert "it has completion, next_edit\n" in done.err


@pytest.mark.parametrize("command", [("examples", "show", "examples"), ("sessions", "show", "sessions"), ("sessions", "export", "sessions", "--to", "x")])
def test_nothing_is_no_number_of_things(apprentice: Any, learned: Any, command: tuple[str, ...]) -> None:
    folder = learned.run / "examples" if command[0] == "examples" else learned.out / "sessions"
    done = apprentice(*command[:2], folder, *command[3:], "--newest", 0)
    assert (done.code, done.out) == (2, "")
    assert "`--newest 0` asks for nothing" in done.err


def test_an_unknown_split_is_told_the_known_ones(apprentice: Any, learned: Any) -> None:
    done = apprentice("examples", "show", learned.run / "examples", "--split", "trian")
    assert (done.code, done.out) == (2, "")
    assert "hint: one of train, valid, gate, test" in done.err


def test_conversations_without_room_are_an_error_with_a_remedy(apprentice: Any, tmp_path: Path) -> None:
    done = apprentice("examples", "make", tmp_path, "--out", tmp_path / "made", "--max-tokens", 10)
    assert (done.code, done.out) == (2, "")
    assert "hint: name 64 or more" in done.err


def test_examples_and_conversations_are_made_of_sessions(apprentice: Any, learned: Any, debug_base: Path, tmp_path: Path, harmless: Any) -> None:
    words = ["examples", "make", learned.out / "sessions", "--out", tmp_path / "made", "--base", debug_base, "--max-tokens", 4000]
    words.append("--silent-places")
    done = apprentice(*words, "--json")
    assert done.code == 0, done.err
    counts = json.loads(done.out)
    assert counts["examples"]["train_next_edit"] > 0
    assert counts["conversations"]["train_intent"] > 0
    assert 0 < counts["silent_places"]["train_silence"] <= counts["examples"]["train_next_edit"] + counts["examples"]["train_completion"]
    shown = apprentice("examples", "show", tmp_path / "made" / "silent_places", "--newest", 1)
    assert "== silence of " in shown.out
    assert ">>>>>>> after»" in shown.out
    assert json.loads(apprentice(*words, "--json").out) == counts
    shown = apprentice("examples", "show", tmp_path / "made" / "conversations", "--kind", "intent", "--newest", 1)
    assert "== intent of git, " in shown.out
    assert "[assistant]\n«" in shown.out
    harmless(shown.out)
